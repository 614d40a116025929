//! Bringing the daemon up, keeping it, and taking it down.

use std::{fmt, path::Path, process::ExitCode, sync::Arc};

use clock_control::{
    SoftClock, SystemClock, clock_facts, distribution_epoch, hardware_clock, measure_precision, permitted,
};
use ntp_proto::{bootstrap::ClockFacts, wire::mac::SymmetricKey};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    cli::{FAILED, GIVEN_UP},
    client::{BUILT, Client, Counted, Hardware, Known, Opened, Parts},
    clock::LocalClock,
    config::{AccessRules, Amendments, Config, Loaded, Origin, load},
    ke::connect::KeyExchanger,
    log, now,
    observe::{
        Watched,
        chronyc::{self, ChronycCounts, ChronycRequest, ChronycServer},
        control::{
            Change, Command, ControlCounts, ControlError, ControlRequest, ControlServer, ErrorKind, QUEUE, Reply, Show,
        },
        web::WebRequest,
    },
    privilege::{self, Dropped},
    resolve::Resolver,
    serve::StatusCell,
    serving::Serving,
    source_files::SourceFiles,
    state::{Drift, LastTime, StateDirectory},
};

mod host;
mod reload;

use reload::read_source_files;

/// Precision of a clock that cannot be measured, log2 seconds: a microsecond, as with every system of today.
const UNKNOWN_PRECISION: i8 = -20;

/// Why the daemon does not run. The text tells an administrator what to do.
#[derive(Debug)]
pub struct StartError(String);

impl StartError {
    /// Takes what is told.
    pub fn new(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// 32 random bytes from the kernel.
///
/// # Errors
///
/// [`StartError`] if the kernel has none to give.
pub fn random_seed() -> Result<[u8; 32], StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| StartError(format!("no randomness from the kernel: {error}")))?;
    Ok(seed)
}

/// Opens the clock that is kept: the machine's own, or with `-x` one in this process alone.
///
/// # Errors
///
/// [`StartError`] if the machine's clock is wanted and may not be set.
pub fn open_clock(no_clock: bool) -> Result<LocalClock, StartError> {
    if no_clock {
        return Ok(LocalClock::Soft(SoftClock::new()));
    }
    permitted().map_err(|error| {
        StartError(format!("{error}; start as root or with that capability, or use -x to leave the clock alone"))
    })?;
    Ok(LocalClock::System(SystemClock::open(BUILT).map_err(StartError::new)?))
}

/// Reads the configuration, and starts to log as it says. What is wrong with it is told.
///
/// # Errors
///
/// The code to exit with, if it cannot be used.
pub fn read(origin: &Origin) -> Result<Loaded, ExitCode> {
    let loaded = load(origin).map_err(|problems| {
        eprintln!("{problems}");
        ExitCode::from(FAILED)
    })?;
    log::start(loaded.config.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded)
}

/// What is known of the time without asking anybody. To be read before privileges are dropped and the clock is steered.
#[must_use]
pub fn known(state: Option<&StateDirectory>) -> Known {
    let last = state.map(StateDirectory::load::<LastTime>);
    if let Some(complaint) = last.as_ref().and_then(|last| last.complaint.as_ref()) {
        tracing::warn!("{complaint}");
    }
    let last = last.and_then(|last| last.value);
    let verified = last.as_ref().is_some_and(|last| last.is_since(now::boot_id().as_deref()));
    Known {
        clock: ClockFacts { verified, ..clock_facts(now::unix().seconds) },
        distribution: distribution_epoch(),
        verified: last.map(|last| last.time().seconds),
        kept: state.and_then(StateDirectory::saved_at::<Drift>),
    }
}

/// What a client is made of that keeps nothing over a restart and serves nobody.
///
/// # Errors
///
/// [`StartError`] if the kernel has no randomness to give.
pub fn parts(
    clock: LocalClock,
    known: Known,
    resolver: Resolver,
    exchanger: KeyExchanger,
) -> Result<Parts, StartError> {
    Ok(Parts {
        clock,
        resolver,
        exchanger,
        status: Arc::new(StatusCell::default()),
        state: None,
        known,
        precision: measure_precision(|| Some(now::kernel())).unwrap_or(UNKNOWN_PRECISION),
        refclocks: Opened::default(),
        hardware: Hardware::default(),
        seed: random_seed()?,
    })
}

/// Runs the daemon until it is told to end.
#[must_use]
pub fn run(origin: &Origin, no_clock: bool) -> ExitCode {
    let loaded = match read(origin) {
        Ok(loaded) => loaded,
        Err(failed) => return failed,
    };
    match Daemon::start(origin, loaded, no_clock).and_then(|(runtime, mut daemon)| {
        let result = runtime.block_on(daemon.serve());
        // A look-up in progress may take longer than anybody wants to wait.
        runtime.shutdown_background();
        result.map(|()| daemon.client.has_given_up())
    }) {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => {
            tracing::error!(
                "an offset above clock.max-change came once too often; the clock is left to you, and the daemon ends"
            );
            ExitCode::from(GIVEN_UP)
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(FAILED)
        }
    }
}

/// Folders that the daemon's user has to write to.
fn folders(config: &Config) -> impl Iterator<Item = &Path> {
    let control = config.control_socket.parent();
    let logs = config.log_files.as_ref().map(|files| files.directory.as_path());
    let chronyc = config.chronyc.as_ref().and_then(|chronyc| chronyc.socket.as_ref()?.parent());
    [control, logs, chronyc].into_iter().flatten()
}

/// Everything that was opened while there were still privileges.
struct Daemon {
    origin: Origin,
    config: Config,
    client: Client,
    serving: Serving,
    control: JoinHandle<std::io::Result<()>>,
    control_counts: Arc<ControlCounts>,
    requests: mpsc::Receiver<ControlRequest>,
    /// Symmetric keys.
    keys: Vec<SymmetricKey>,
    /// Sources of the directories that the configuration names.
    source_files: SourceFiles,
    /// Sources that came and went since the start.
    amendments: Amendments,
    chronyc: Option<JoinHandle<()>>,
    chronyc_access: watch::Sender<AccessRules>,
    chronyc_counts: Arc<ChronycCounts>,
    chronyc_requests: mpsc::Receiver<ChronycRequest>,
    watched: Watched,
    /// Somebody told the daemon to end.
    ending: bool,
}

impl Daemon {
    fn start(origin: &Origin, loaded: Loaded, no_clock: bool) -> Result<(Runtime, Self), StartError> {
        let Loaded { config, keys, .. } = loaded;
        let clock = open_clock(no_clock)?;
        let state = StateDirectory::open(&config.state_directory)
            .inspect_err(|error| tracing::warn!("nothing will be kept over a restart: {error}"))
            .ok()
            .map(Arc::new);
        let known = known(state.as_deref());
        if let Some(reading) = hardware_clock() {
            tracing::info!(seconds = reading - now::unix().seconds, "the hardware clock is ahead of the clock");
        }
        // Devices that only root may open stay open, and interfaces that only root may set up go on.
        let (refclocks, hardware) = (Opened::open(&config.refclocks), Hardware::open(&config.hwtimestamp));
        // Everything else is opened by the user that will have to open it again at a reload.
        let dropped = privilege::drop(!no_clock, |uid, gid| {
            state.iter().for_each(|state| state.give_to(uid, gid));
            folders(&config).for_each(|folder| privilege::make_directory(folder, uid, gid));
        });
        match dropped.map_err(StartError::new)? {
            Dropped::ToUser | Dropped::NothingToDrop => {}
            Dropped::NoSuchUser => tracing::warn!(
                "there is no user `{}`, so root's rights are kept; make one (sysusers.d/ntpd.conf)",
                privilege::USER
            ),
        }
        let runtime = Builder::new_current_thread().enable_all().build().map_err(StartError::new)?;
        let guard = runtime.enter();
        let status = Arc::new(StatusCell::default());
        let serving = Serving::start(&config, &keys, state.clone(), Arc::clone(&status))?;
        let (sender, requests) = mpsc::channel(QUEUE);
        let control = ControlServer::bind(&config.control_socket).map_err(StartError::new)?;
        let control_counts = control.counts();
        let (chronyc_sender, chronyc_requests) = mpsc::channel(chronyc::QUEUE);
        let mut chronyc_counts = Arc::default();
        let allow = config.chronyc.as_ref().map(|settings| settings.allow.clone()).unwrap_or_default();
        let (chronyc_access, access) = watch::channel(AccessRules { allow, deny: Vec::new() });
        let chronyc = config.chronyc.as_ref().map(|settings| {
            let server = ChronycServer::bind(settings);
            chronyc_counts = server.counts();
            tokio::spawn(server.run(access, settings.open.clone(), chronyc_sender))
        });
        let watched = Watched::start(&config.observe).map_err(StartError::new)?;
        let resolver = Resolver::new(&config.trust).map_err(StartError::new)?;
        let exchanger = KeyExchanger::new(&config.trust, resolver.clone()).map_err(StartError::new)?;
        let parts = Parts { status, state, refclocks, hardware, ..parts(clock, known, resolver, exchanger)? };
        let mut source_files = SourceFiles::default();
        read_source_files(&mut source_files, &config, &keys);
        let client = Client::new(&source_files.add_to(&config, &keys).0, &keys, parts);
        let control = tokio::spawn(control.run(sender));
        drop(guard);
        let origin = origin.clone();
        let daemon = Self {
            origin,
            config,
            client,
            serving,
            control,
            control_counts,
            requests,
            keys,
            source_files,
            amendments: Amendments::default(),
            chronyc,
            chronyc_access,
            chronyc_counts,
            chronyc_requests,
            watched,
            ending: false,
        };
        Ok((runtime, daemon))
    }

    async fn serve(&mut self) -> Result<(), StartError> {
        let on = |kind| signal(kind).map_err(StartError::new);
        let (mut hangup, mut terminate) = (on(SignalKind::hangup())?, on(SignalKind::terminate())?);
        let mut interrupt = on(SignalKind::interrupt())?;
        notify(&[sd_notify::NotifyState::Ready]);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "running");
        while !self.ending && !self.client.has_given_up() {
            tokio::select! {
                () = self.client.step() => self.client.remember(self.watched.history_mut()),
                () = tokio::time::sleep_until(Instant::now() + self.serving.next_tending().since(now::monotonic())) => {
                    self.serving.tend();
                }
                Some(request) = self.requests.recv() => self.handle_control(request),
                Some(request) = self.chronyc_requests.recv() => request.answer(self),
                request = self.watched.requested() => self.handle_watcher(request),
                _ = received(&mut hangup) => {
                    match self.reload() {
                        Ok(what) => tracing::info!("{what}"),
                        Err(error) => tracing::error!("configuration not changed: {error}"),
                    }
                }
                _ = received(&mut terminate) => break,
                _ = received(&mut interrupt) => break,
            }
        }
        notify(&[sd_notify::NotifyState::Stopping]);
        tracing::info!("ending");
        self.client.shut_down();
        self.serving.stop();
        // Dropping the sockets removes their files.
        if let Some(mut chronyc) = self.chronyc.take() {
            // What was answered last is on its way still.
            tokio::task::yield_now().await;
            chronyc.abort();
            let _ = (&mut chronyc).await;
        }
        self.control.abort();
        let _ = (&mut self.control).await;
        Ok(())
    }

    fn handle_control(&mut self, request: ControlRequest) {
        let result = match &request.command {
            Command::Show(show) => self.report(show),
            Command::Change(change) => self.carry_out(change),
        };
        // Whoever asked may be gone.
        let _ = request.reply.send(result);
    }

    fn handle_watcher(&mut self, request: WebRequest) {
        let status = self.watched.recent().unwrap_or_else(|| {
            let counted = self.counted();
            let about = self.watched.about(self.serving.certificate_expires());
            self.watched.keep(self.client.status(&counted, about))
        });
        self.watched.show(request, status);
    }

    fn counted(&self) -> Counted {
        Counted {
            server: self.serving.counters(),
            clients: self.serving.clients().cloned(),
            key_exchange: self.serving.key_exchange_counters(),
            control: self.control_counts.get(),
        }
    }

    fn report(&mut self, show: &Show) -> Result<Reply, ControlError> {
        let counted = self.counted();
        self.client.show(show, &counted)
    }

    fn carry_out(&mut self, change: &Change) -> Result<Reply, ControlError> {
        let done = |what: &str| Ok(Reply::Done(what.to_owned()));
        let failed = |what: String| Err(ControlError::new(ErrorKind::Failed, what));
        match change {
            Change::Reload => match self.reload() {
                Ok(what) => {
                    tracing::info!("{what}");
                    done(&what)
                }
                Err(error) => failed(format!("configuration not changed: {error}")),
            },
            Change::ReloadSources => {
                let what = self.reload_sources();
                tracing::info!("{what}");
                done(&what)
            }
            Change::Rekey if self.serving.rekey() => done("cookies are made with a new key"),
            Change::Rekey => failed("NTS is not served, or with shared cookie keys, which follow the time".into()),
            Change::Access(access) => match self.change_access(access) {
                Ok(()) => done("done"),
                Err(error) => failed(error.to_string()),
            },
            Change::ChronycAccess(access) => match self.change_chronyc_access(access) {
                Ok(()) => done("done"),
                Err(error) => failed(error.to_string()),
            },
            Change::Shutdown => {
                self.ending = true;
                done("ending")
            }
            Change::MakeStep
            | Change::Steps { .. }
            | Change::MaxUpdateSkew(_)
            | Change::Local(_)
            | Change::Tune { .. }
            | Change::CycleLogs
            | Change::Burst { .. }
            | Change::Online { .. }
            | Change::Offline { .. }
            | Change::Refresh { .. }
            | Change::Reselect
            | Change::ResetSources
            | Change::OnOffline
            | Change::ResetFloor
            | Change::PoolsForget { .. } => self.client.change(change).and_then(|()| done("done")),
        }
    }
}

async fn received(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        // The runtime is going away: nothing will ever come.
        std::future::pending::<()>().await;
    }
}

/// Tells the service manager, where there is one.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "service manager not told");
    }
}
