//! The running server: sockets, signals, and files that change.

use core::time::Duration;
use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    net::{TcpListener, UdpSocket},
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{error, info, warn};

use super::{
    answer::{Responder, State},
    config::Config,
    cookie::{CookieSecret, CookieSecrets, SECRET},
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
    secrets: CookieSecrets,
    counters: Arc<Counters>,
    tables: usize,
}

impl Maker {
    fn responder(&self) -> Responder {
        let state = Arc::clone(&self.states.borrow());
        let counters = Arc::clone(&self.counters);
        Responder::new(state, self.config.limit, self.tables, self.secrets.clone(), counters)
    }
}

/// A name server whose sockets are open. Queries are answered for as long as the runtime lives in which it was started.
pub struct Server {
    maker: Maker,
    loader: Loader,
    sender: watch::Sender<Arc<State>>,
    file: PathBuf,
    addresses: Vec<SocketAddr>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Server {
    /// Reads the configuration and all files that it names, and answers queries from then on.
    ///
    /// # Errors
    ///
    /// What cannot be used of the configuration, and addresses that cannot be listened on.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with IO and time.
    pub async fn start(file: &Path) -> Result<Self, String> {
        let config = Config::load(file).map_err(|problem| problem.to_string())?;
        let loader = Loader::open(&config, now::unix()).map_err(|problem| problem.to_string())?;
        let (sender, states) = watch::channel(Arc::new(loader.state()));
        let told = |error: io::Error| error.to_string();
        let secrets = match &config.cookie_secrets {
            Some(secrets) => secrets.clone(),
            None => CookieSecret::new(random::<SECRET>().map_err(told)?).into(),
        };
        let counters = Arc::new(Counters::default());
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(MAX_THREADS));
        let maker = Maker { states, config, secrets, counters, tables: threads };
        let addresses = listen(&maker, threads).await?;
        for zone in loader.state().zones {
            let (names, members) = (zone.zone.len(), zone.candidates.len());
            info!("zone {}: {names} names, {members} members to draw", zone.zone.settings.name);
        }
        Ok(Self { maker, loader, sender, file: file.to_owned(), addresses })
    }

    /// The addresses answered at, with the ports that the system chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Follows files that change, and signals; ends with SIGTERM or SIGINT.
    ///
    /// # Errors
    ///
    /// Signals that cannot be waited for.
    ///
    /// # Panics
    ///
    /// In a runtime of one thread: reading files would keep it from answering.
    pub async fn follow(mut self) -> io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                _ = look.tick() => tokio::task::block_in_place(|| self.refresh()),
                _ = hangup.recv() => tokio::task::block_in_place(|| self.reload()),
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
            }
        }
    }

    /// Reads what changed.
    fn refresh(&mut self) {
        let (changed, problems) = self.loader.refresh(now::unix());
        for problem in &problems {
            self.complain(problem);
        }
        if changed {
            self.publish();
        }
    }

    /// Reads everything again.
    fn reload(&mut self) {
        match again(&self.file, &self.maker.config) {
            Ok(new) => {
                self.loader = new;
                self.publish();
                info!("all files are read again");
            }
            Err(problem) => self.complain(&problem),
        }
    }

    fn publish(&self) {
        self.maker.counters.add(Count::Reloads);
        self.sender.send_replace(Arc::new(self.loader.state()));
    }

    fn complain(&self, problem: &dyn fmt::Display) {
        self.maker.counters.add(Count::ReloadFailures);
        error!("{problem}; what was read before stays in force");
    }
}

/// Serves until it is told to stop.
///
/// # Errors
///
/// As [`Server::start`] and [`Server::follow`].
pub(super) async fn serve(file: &Path) -> Result<(), String> {
    let server = Server::start(file).await?;
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        warn!("systemd does not hear us: {error}");
    }
    server.follow().await.map_err(|error| error.to_string())
}

/// Listens everywhere, and starts what answers; the addresses with their ports.
async fn listen(maker: &Maker, threads: usize) -> Result<Vec<SocketAddr>, String> {
    let mut addresses = maker.config.listen.clone();
    let mut listeners = Vec::new();
    for address in &mut addresses {
        let told = |address: SocketAddr, what: &str, error: io::Error| format!("{address} ({what}): {error}");
        let listener = tcp::bind(*address).map_err(|error| told(*address, "TCP", error))?;
        // Where the system chooses the port, it chooses once for all sockets.
        *address = listener.local_addr().map_err(|error| told(*address, "TCP", error))?;
        for _ in 0..threads {
            let socket = udp::bind(*address).map_err(|error| told(*address, "UDP", error))?;
            let socket = UdpSocket::from_std(socket.into()).map_err(|error| told(*address, "UDP", error))?;
            tokio::spawn(udp::answer(socket, maker.responder(), maker.states.clone()));
        }
        listeners.push(listener);
        info!("answering at {address}");
    }
    let shared = Arc::new(tcp::Shared::new(maker.responder(), maker.states.clone(), maker.config.tcp, &maker.counters));
    let each = maker.config.tcp.connections.div_ceil(listeners.len().max(1));
    for listener in listeners {
        tokio::spawn(tcp::accept(listener, Arc::clone(&shared), each));
    }
    if let Some(address) = maker.config.observe {
        let listener = TcpListener::bind(address).await.map_err(|error| format!("{address} (metrics): {error}"))?;
        tokio::spawn(metrics::accept(listener, Arc::clone(&maker.counters), maker.states.clone()));
    }
    Ok(addresses)
}

/// Reads the configuration and all its files again; sockets stay as they are.
fn again(file: &Path, started: &Config) -> Result<Loader, String> {
    let config = Config::load(file).map_err(|problem| problem.to_string())?;
    for what in bound_to_start(started, &config) {
        warn!("{}: another {what} needs a restart", file.display());
    }
    Loader::open(&config, now::unix()).map_err(|problem| problem.to_string())
}

/// Settings in which two configurations differ and that only a start takes.
fn bound_to_start(started: &Config, config: &Config) -> Vec<&'static str> {
    let differ = [
        ("listen", config.listen != started.listen),
        ("[tcp]", config.tcp != started.tcp),
        ("[observe]", config.observe != started.observe),
        ("[log]", config.log_level != started.log_level),
    ];
    differ.into_iter().filter(|(_, differ)| *differ).map(|(what, _)| what).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reload_does_not_take_is_named() {
        let parsed = |more: &str| {
            let text = format!("{more}[[zone]]\nname = \"time.example\"\nmembers = \"m\"\n");
            Config::parse(Path::new("c"), &text).unwrap()
        };
        let started = parsed("listen = [\"127.0.0.1\"]\n");
        let same = parsed("limit = { slip = 7 }\nlisten = [\"127.0.0.1\"]\n");
        assert_eq!(bound_to_start(&started, &same), [""; 0]);
        let other = "tcp = { idle = \"7s\" }\nobserve = { listen = \"127.0.0.1\" }\nlog = { level = \"debug\" }\n";
        assert_eq!(bound_to_start(&started, &parsed(other)), ["listen", "[tcp]", "[observe]", "[log]"]);
    }
}
