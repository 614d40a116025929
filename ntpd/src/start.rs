//! Bringing the daemon up, keeping it, and taking it down.

use std::{fmt, net::IpAddr, process::ExitCode, sync::Arc};

use clock_control::{SoftClock, SystemClock, clock_facts, distribution_epoch, measure_precision, permitted};
use ntp_proto::{bootstrap::ClockFacts, wire::mac::SymmetricKey};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
    time::Instant,
};

use crate::{
    cli::FAILED,
    client::{BUILT, Client, Counted, Known, Parts},
    clock::LocalClock,
    config::{AddFault, Added, Amendments, Config, Loaded, Origin, Problems, Server, TrustSettings, load},
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
    state::{LastTime, StateDirectory},
};

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
        result
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(FAILED)
        }
    }
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
    /// Sources that came and went since the start.
    amendments: Amendments,
    chronyc: Option<JoinHandle<()>>,
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
        // Everything else is opened by the user that will have to open it again at a reload.
        let dropped = privilege::drop(!no_clock, |uid, gid| {
            state.iter().for_each(|state| state.give_to(uid, gid));
            if let Some(folder) = config.control_socket.parent() {
                privilege::make_directory(folder, uid, gid);
            }
            let chronyc = config.chronyc.as_ref().and_then(|chronyc| chronyc.socket.as_ref()?.parent());
            if let Some(folder) = chronyc {
                privilege::make_directory(folder, uid, gid);
            }
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
        let chronyc = config.chronyc.clone().map(|settings| {
            let server = ChronycServer::bind(&settings);
            chronyc_counts = server.counts();
            tokio::spawn(server.run(settings, chronyc_sender))
        });
        let watched = Watched::start(&config.observe).map_err(StartError::new)?;
        let resolver = Resolver::new(&config.trust).map_err(StartError::new)?;
        let exchanger = KeyExchanger::new(&config.trust, resolver.clone()).map_err(StartError::new)?;
        let parts = Parts { status, state, ..parts(clock, known, resolver, exchanger)? };
        let client = Client::new(&config, &keys, parts);
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
            amendments: Amendments::default(),
            chronyc,
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
        while !self.ending {
            tokio::select! {
                () = self.client.step() => self.client.record(self.watched.history_mut()),
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
        let counted = self.counted();
        let about = self.watched.about(self.serving.certificate_expires());
        let observed = self.watched.observed(self.client.status(&counted, about));
        // Whoever asked may be gone.
        let _ = request.send(observed);
    }

    fn counted(&self) -> Counted {
        Counted {
            server: self.serving.counters(),
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
            Change::Rekey if self.serving.rekey() => done("cookies are made with a new key"),
            Change::Rekey => failed("NTS is not served, or with shared cookie keys, which follow the time".into()),
            Change::Shutdown => {
                self.ending = true;
                done("ending")
            }
            Change::MakeStep
            | Change::Burst { .. }
            | Change::Online { .. }
            | Change::Offline { .. }
            | Change::Refresh { .. }
            | Change::Reselect
            | Change::OnOffline
            | Change::ResetFloor
            | Change::PoolsForget { .. } => self.client.change(change).and_then(|()| done("done")),
        }
    }

    /// Reads the configuration again and applies all of it, or nothing. The text says so, and what has to wait for a
    /// restart.
    fn reload(&mut self) -> Result<String, StartError> {
        notify(&[
            sd_notify::NotifyState::Reloading,
            sd_notify::NotifyState::monotonic_usec_now().map_err(StartError::new)?,
        ]);
        let result = self.apply();
        notify(&[sd_notify::NotifyState::Ready]);
        result
    }

    fn apply(&mut self) -> Result<String, StartError> {
        let Loaded { config, keys, warnings } =
            load(&self.origin).map_err(|problems: Problems| StartError(problems.to_string()))?;
        if config.control_socket != self.config.control_socket || config.state_directory != self.config.state_directory
        {
            return Err(StartError("`control.socket` and `state.directory` only change with a restart".into()));
        }
        // What can fail comes first and replaces nothing yet.
        let resolver = Resolver::new(&config.trust).map_err(StartError::new)?;
        let exchanger = KeyExchanger::new(&config.trust, resolver).map_err(StartError::new)?;
        let watched = self.watched.prepare(&config.observe).map_err(StartError::new)?;
        let serving = self.serving.prepare(&config, &keys)?;
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        self.serving.commit(serving);
        self.watched.commit(&config.observe, watched);
        // The files that are trusted may have changed under the same names, which is a reason to read them, not to begin
        // anew.
        let first_boot = self.config.trust.first_boot;
        let other_trust = TrustSettings { first_boot, ..config.trust.clone() } != self.config.trust;
        self.client.reconfigure(&self.amendments.apply(&config), &keys, exchanger, other_trust);
        self.keys = keys;
        let later = changed_with_restart(&self.config, &config);
        // What waits stays as it is, so that the next reload tells it again.
        let trust = TrustSettings { first_boot, ..config.trust };
        let (log, clock, chronyc) = (self.config.log, self.config.clock.clone(), self.config.chronyc.clone());
        self.config = Config { log, clock, chronyc, trust, ..config };
        Ok(if later.is_empty() {
            "configuration applied".to_owned()
        } else {
            format!("configuration applied; what changes with a restart only: {}", later.join(", "))
        })
    }
}

impl chronyc::Host for Daemon {
    fn show(&mut self, show: &Show) -> Result<Reply, ControlError> {
        self.report(show)
    }

    fn change(&mut self, change: &Change) -> Result<(), ControlError> {
        self.carry_out(change).map(|_| ())
    }

    fn add(&mut self, source: Added) -> Result<(), AddFault> {
        if let Added::Server(Server { key: Some(key), .. }) = &source
            && self.keys.iter().all(|known| known.id() != *key)
        {
            return Err(AddFault::UnknownKey);
        }
        self.amendments.add(&self.config, source)?;
        self.client.set_sources(&self.amendments.apply(&self.config), &self.keys);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> bool {
        let is_removed = self.amendments.remove(&self.config, name);
        if is_removed {
            self.client.set_sources(&self.amendments.apply(&self.config), &self.keys);
        }
        is_removed
    }

    fn is_served(&self, address: IpAddr) -> bool {
        self.config.serve.as_ref().is_some_and(|serve| serve.serves(address))
    }

    fn commands(&self) -> (u64, u64) {
        self.chronyc_counts.get()
    }
}

/// Keys that differ, and that a running daemon does not take up.
fn changed_with_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (was, is) = (&old.clock, &new.clock);
    let step = (was.step_threshold, was.step_limit) != (is.step_threshold, is.step_limit);
    [
        ("clock.step", step),
        ("clock.max-slew-rate", was.max_slew_rate != is.max_slew_rate),
        ("clock.max-frequency", was.max_frequency != is.max_frequency),
        ("clock.leap", was.leap != is.leap),
        ("control", old.chronyc != new.chronyc),
        ("trust.bootstrap", old.trust.first_boot != new.trust.first_boot),
        ("log", old.log != new.log),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
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
