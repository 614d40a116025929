//! The running server: sockets, signals, and files that change.

use core::time::Duration;
use std::{io, net::SocketAddr, path::Path, sync::Arc};

use chacha20::ChaCha12Rng;
use rand_core::SeedableRng as _;
use tokio::{
    net::{TcpListener, UdpSocket},
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{error, info, warn};

use super::{
    answer::{Responder, State},
    config::Config,
    cookie::{CookieSecret, SECRET},
    counters::{Count, Counters},
    loader::Loader,
    now,
};

mod metrics;
mod tcp;
mod udp;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Most threads that answer at one address.
const MAX_THREADS: usize = 64;

/// Where the state of the zones is read from.
pub(super) type States = watch::Receiver<Arc<State>>;

/// Octets that nobody can foresee.
///
/// # Errors
///
/// If the system has none.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(octets)
}

/// What makes responders that are alike.
struct Maker {
    states: States,
    config: Config,
    secret: CookieSecret,
    counters: Arc<Counters>,
    tables: usize,
}

impl Maker {
    fn responder(&self) -> io::Result<Responder> {
        let state = Arc::clone(&self.states.borrow());
        let random = ChaCha12Rng::from_seed(random()?);
        let counters = Arc::clone(&self.counters);
        Ok(Responder::new(state, self.config.limit, self.tables, self.secret.clone(), counters, random))
    }
}

/// Serves until it is told to stop.
///
/// # Errors
///
/// What cannot be used of the configuration, and addresses that cannot be listened on.
pub async fn serve(file: &Path) -> Result<(), String> {
    let config = Config::load(file).map_err(|problem| problem.to_string())?;
    let mut loader = Loader::open(&config, now::unix()).map_err(|problem| problem.to_string())?;
    let (sender, states) = watch::channel(Arc::new(loader.state()));
    let told = |error: io::Error| error.to_string();
    let secret = match &config.cookie_secret {
        Some(secret) => secret.clone(),
        None => CookieSecret::new(random::<SECRET>().map_err(told)?),
    };
    let counters = Arc::new(Counters::default());
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(MAX_THREADS));
    let maker = Maker { states, config, secret, counters, tables: threads };
    listen(&maker, threads).await?;
    for zone in loader.state().zones {
        info!("zone {}: {} names, {} members to draw", zone.zone.settings.name, zone.zone.len(), zone.candidates.len());
    }
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        warn!("systemd does not hear us: {error}");
    }
    keep(&maker, &mut loader, &sender, file).await.map_err(told)
}

/// Listens everywhere, and starts what answers.
async fn listen(maker: &Maker, threads: usize) -> Result<(), String> {
    let mut listeners = Vec::new();
    for address in &maker.config.listen {
        let told = |what: &str, error: io::Error| format!("{address} ({what}): {error}");
        for _ in 0..threads {
            let socket = udp::bind(*address).map_err(|error| told("UDP", error))?;
            let socket = UdpSocket::from_std(socket.into()).map_err(|error| told("UDP", error))?;
            let responder = maker.responder().map_err(|error| told("UDP", error))?;
            tokio::spawn(udp::answer(socket, responder, maker.states.clone()));
        }
        listeners.push(tcp::bind(*address).map_err(|error| told("TCP", error))?);
        info!("answering at {address}");
    }
    let responder = maker.responder().map_err(|error| error.to_string())?;
    let shared = Arc::new(tcp::Shared::new(responder, maker.states.clone(), maker.config.tcp, &maker.counters));
    let each = maker.config.tcp.connections.div_ceil(listeners.len().max(1));
    for listener in listeners {
        tokio::spawn(tcp::accept(listener, Arc::clone(&shared), each));
    }
    if let Some(address) = maker.config.observe {
        let listener = TcpListener::bind(address).await.map_err(|error| format!("{address} (metrics): {error}"))?;
        tokio::spawn(metrics::accept(listener, Arc::clone(&maker.counters), maker.states.clone()));
    }
    Ok(())
}

/// Follows files and signals.
async fn keep(maker: &Maker, loader: &mut Loader, sender: &watch::Sender<Arc<State>>, file: &Path) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut look = tokio::time::interval(LOOK);
    let counters = &maker.counters;
    loop {
        tokio::select! {
            _ = look.tick() => {
                let (changed, problems) = tokio::task::block_in_place(|| loader.refresh(now::unix()));
                for problem in &problems {
                    error!("{problem}; what was read before stays in force");
                    counters.add(Count::ReloadFailures);
                }
                if changed {
                    counters.add(Count::Reloads);
                    sender.send_replace(Arc::new(loader.state()));
                }
            }
            _ = hangup.recv() => match tokio::task::block_in_place(|| again(file, &maker.config.listen)) {
                Ok(new) => {
                    *loader = new;
                    counters.add(Count::Reloads);
                    sender.send_replace(Arc::new(loader.state()));
                    info!("all files are read again");
                }
                Err(problem) => {
                    counters.add(Count::ReloadFailures);
                    error!("{problem}; what was read before stays in force");
                }
            },
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

/// Reads the configuration and all its files again; sockets stay as they are.
fn again(file: &Path, listen: &[SocketAddr]) -> Result<Loader, String> {
    let config = Config::load(file).map_err(|problem| problem.to_string())?;
    if config.listen != listen {
        warn!("{}: another listen needs a restart", file.display());
    }
    Loader::open(&config, now::unix()).map_err(|problem| problem.to_string())
}
