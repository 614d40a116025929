//! What goes on beside the users: files, the verdict on members, and whoever asks.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use pool_srv::directory::{Directory, Health, HealthReport, Member, Problem, Roster, TransferWish, Watched};
use pool_srv::files::{Look, look};
use socket2::SockRef;
use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot, watch},
    task::{LocalSet, spawn_local},
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::{
    Core, Event, MAX_EVENTS, Shared,
    assign::{Aliases, Assignments},
    config::Config,
    control::{self, Command, Reply},
    dials::Dials,
    health::Judge,
    identity::{self, FileError},
    membership::Membership,
    metrics::Metrics,
    now, probe,
    round::Round,
    serve, zone,
};
use crate::acceptor::{Complaint, bind};

/// How often the verdict is worked out, at most.
const JUDGING: Duration = Duration::from_millis(200);

/// How often files are looked at, and how often the verdict is published even if nothing changed.
const LOOKING: Duration = Duration::from_secs(1);
const PUBLISHING: Duration = Duration::from_secs(10);

/// Commands that wait.
const MAX_COMMANDS: usize = 16;

/// Why the balancer does not start.
#[derive(Debug)]
pub enum StartError {
    /// The member directory.
    Directory(Problem),
    /// Another file.
    File(FileError),
    /// An address cannot be served.
    Listen(SocketAddr, io::Error),
    /// A socket for control or metrics cannot be opened; which.
    Socket(String, io::Error),
    /// The system gives no thread.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(problem) => problem.fmt(f),
            Self::File(error) => error.fmt(f),
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::Socket(name, error) => write!(f, "{name}: {error}"),
            Self::Thread(error) => write!(f, "no thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running balancer; [`stop`](Self::stop) ends it.
pub struct Balancer {
    addresses: Vec<SocketAddr>,
    metrics: Option<SocketAddr>,
    shared: Shared,
    commands: mpsc::Sender<Command>,
    stop: watch::Sender<bool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl fmt::Debug for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Balancer {
    /// Reads all files, opens all sockets, and starts to serve.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is served then.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_on(config, Vec::new())
    }

    /// As [`start`](Self::start), but users are taken from these listeners, if there are any, and not from those of the
    /// file. Somebody else may keep them open while one balancer follows another.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is served then.
    pub fn start_on(config: Config, held: Vec<TcpListener>) -> Result<Self, StartError> {
        Self::launch(config, Some(held))
    }

    /// Probes members and publishes the verdict, and serves no users.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing runs then.
    pub fn monitor(config: Config) -> Result<Self, StartError> {
        Self::launch(config, None)
    }

    fn launch(config: Config, held: Option<Vec<TcpListener>>) -> Result<Self, StartError> {
        let watched = zone::open(&config).map_err(StartError::Directory)?;
        let serves = held.is_some();
        let server = serves.then(|| identity::server_config(&config)).transpose().map_err(StartError::File)?;
        let client = identity::client_config(&config).map_err(StartError::File)?;
        let (events, heard) = mpsc::channel(MAX_EVENTS);
        let judge = Judge::new(config.probing.max_offset);
        let roster = Roster::new(Arc::clone(watched.current()), |_| Health::Up);
        let core = Core {
            server: ArcSwapOption::from_pointee(server),
            client: ArcSwap::from_pointee(client),
            assignments: ArcSwap::from_pointee(Assignments::new(roster)),
            aliases: ArcSwap::from_pointee(Aliases::default()),
            metrics: Metrics::default(),
            complaint: Complaint::default(),
            dials: Dials::default(),
            events,
            config,
        };
        let shared = Shared(Arc::new(core));
        let (commands, commanded) = mpsc::channel(MAX_COMMANDS);
        let (stop, stopped) = watch::channel(false);
        let mut balancer = Self { addresses: Vec::new(), metrics: None, shared, commands, stop, threads: Vec::new() };
        let mut keeper = Keeper::new(balancer.shared.clone(), watched, judge);
        keeper.take_directory();
        keeper.rejudge(true);
        let sockets = control::Sockets::open(&balancer.shared.config)?;
        balancer.metrics = sockets.metrics_address();
        let for_sockets = balancer.commands.clone();
        balancer.run("keeper", {
            let stopped = stopped.clone();
            async move || {
                sockets.serve(&for_sockets);
                keeper.run(heard, commanded, stopped).await;
                Ok(())
            }
        })?;
        if let Some(held) = held {
            balancer.serve(&held, &stopped)?;
        }
        Ok(balancer)
    }

    fn serve(&mut self, held: &[TcpListener], stopped: &watch::Receiver<bool>) -> Result<(), StartError> {
        let unusable = |error| StartError::Socket("a listener that was passed on".to_owned(), error);
        let addresses = held.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>().map_err(unusable)?;
        let mut asked = if held.is_empty() { self.shared.config.listen.clone() } else { addresses };
        for number in 0..self.shared.config.workers {
            let mut listeners = Vec::with_capacity(asked.len());
            for (place, address) in asked.iter_mut().enumerate() {
                let failed = |error| StartError::Listen(*address, error);
                let listener = match held.get(place) {
                    Some(held) => take_over(held),
                    None => bind(*address, serve::BACKLOG, true),
                };
                let listener = listener.map_err(failed)?;
                // All workers share the port that the system chose for the first.
                *address = listener.local_addr().map_err(failed)?;
                listeners.push(listener);
            }
            let (shared, stopped) = (self.shared.clone(), stopped.clone());
            self.run(&format!("worker-{number}"), async move || serve::work(shared, listeners, stopped).await)?;
        }
        self.addresses = asked;
        Ok(())
    }

    fn run<F: AsyncFnOnce() -> io::Result<()> + Send + 'static>(
        &mut self,
        name: &str,
        work: F,
    ) -> Result<(), StartError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let told = name.to_owned();
        let thread = thread::Builder::new().name(told.clone()).spawn(move || {
            if let Err(error) = LocalSet::new().block_on(&runtime, work()) {
                warn!("{told}: {error}");
            }
        });
        self.threads.push(thread.map_err(StartError::Thread)?);
        Ok(())
    }

    /// The addresses served, with the ports that the system chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where metrics are served.
    #[must_use]
    pub const fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// What was counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Carries out a command as the control socket does.
    ///
    /// # Errors
    ///
    /// What is wrong with the command.
    pub fn command(&self, line: &str) -> Reply {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.blocking_send(Command { line: line.to_owned(), reply });
        let answer = sent.ok().and_then(|()| answer.blocking_recv().ok());
        answer.unwrap_or_else(|| Err("the balancer is stopping".to_owned()))
    }

    /// Takes no more users, serves those that are there, and ends.
    pub fn stop(self) {
        // Nobody listens any more if all threads have ended.
        let _ = self.stop.send(true);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// A listener that somebody else keeps open too, with the options of our own.
fn take_over(held: &TcpListener) -> io::Result<TcpListener> {
    let listener = held.try_clone()?;
    listener.set_nonblocking(true)?;
    SockRef::from(&listener).set_tcp_nodelay(true)?;
    Ok(listener)
}

/// Owner of the verdict.
pub(super) struct Keeper {
    pub(super) shared: Shared,
    pub(super) members: Membership,
    pub(super) judge: Judge,
    /// Members taken out by command.
    drained: BTreeSet<String>,
    others: Vec<(PathBuf, Option<HealthReport>)>,
    looks: Vec<Look>,
    epoch: u64,
    published: Option<Instant>,
    dirty: bool,
}

impl Keeper {
    fn new(shared: Shared, watched: Watched, judge: Judge) -> Self {
        let others = shared.config.health_from.iter().map(|path| (path.clone(), None)).collect();
        let looks = looks(&shared.config);
        let epoch = identity::ticket_epoch(&shared.config);
        let members = Membership::new(&shared.config, watched);
        let drained = BTreeSet::new();
        Self { shared, members, judge, drained, others, looks, epoch, published: None, dirty: false }
    }

    async fn run(
        mut self,
        mut heard: mpsc::Receiver<Event>,
        mut commanded: mpsc::Receiver<Command>,
        mut stopped: watch::Receiver<bool>,
    ) {
        spawn_local(probe::probe_forever(self.shared.clone()));
        self.members.follow_zone(&self.shared);
        let mut judging = interval(JUDGING);
        let mut looking = interval(LOOKING);
        judging.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => break,
                Some(Event { member, sample }) = heard.recv() => {
                    self.judge.handle_sample(now::seconds(), member.as_str(), sample);
                    self.dirty = true;
                }
                Some(Command { line, reply }) = commanded.recv() => {
                    match (control::carry_out(&mut self, &line), self.members.awaited.take()) {
                        (Ok(done), Some(attempt)) => drop(spawn_local(zone::tell(done, attempt, reply))),
                        // Whoever asked may be gone.
                        (done, _) => drop(reply.send(done)),
                    }
                }
                _ = judging.tick() => if self.dirty { self.rejudge(false) },
                _ = looking.tick() => {
                    self.look();
                    self.rejudge(false);
                }
            }
        }
    }

    /// Reads files that have changed.
    fn look(&mut self) {
        if self.members.look() {
            info!("the members are read again");
            self.take_directory();
            self.rejudge(true);
        }
        let config = &self.shared.config;
        let is_new = looks(config) != self.looks || identity::ticket_epoch(config) != self.epoch;
        if is_new && let Err(error) = self.reload_identity() {
            warn!("{error}; what was read before stays in use");
        }
        let mut changed = false;
        for (path, report) in &mut self.others {
            // One that cannot be read leaves the last one in force, until that is too old to say anything.
            let Some(new) = HealthReport::load(path) else { continue };
            changed |= report.as_ref() != Some(&new);
            *report = Some(new);
        }
        if changed {
            self.rejudge(true);
        }
    }

    /// Reads all files again, and has the zone transferred.
    pub(super) fn reload(&mut self, wish: TransferWish) -> Reply {
        self.members.reload(wish)?;
        self.take_directory();
        self.rejudge(true);
        self.reload_identity().map_err(|error| error.to_string())?;
        Ok("members, certificates and keys are read again\n".to_owned())
    }

    fn reload_identity(&mut self) -> Result<(), FileError> {
        let (looks, epoch) = (looks(&self.shared.config), identity::ticket_epoch(&self.shared.config));
        let outcome = self.read_identity();
        // A mistake is told once; what the system could not read is tried again.
        if outcome.as_ref().err().is_none_or(|error| !error.is_passing) {
            (self.looks, self.epoch) = (looks, epoch);
        }
        outcome
    }

    fn read_identity(&self) -> Result<(), FileError> {
        let client = identity::client_config(&self.shared.config)?;
        if self.shared.server.load().is_some() {
            let server = identity::server_config(&self.shared.config)?;
            self.shared.server.store(Some(Arc::new(server)));
        }
        self.shared.client.store(Arc::new(client));
        info!("certificates and keys are read again");
        Ok(())
    }

    pub(super) fn directory(&self) -> &Arc<Directory> {
        self.members.directory()
    }

    fn take_directory(&mut self) {
        let directory = Arc::clone(self.members.directory());
        let names = directory.members().iter().map(|member| member.name.as_str());
        let round = Round::plan(self.shared.config.probing.interval, directory.members().len());
        self.judge.set_horizon(round.horizon());
        self.judge.set_members(now::seconds(), names);
        self.shared.dials.set_members(directory.members().iter().map(|member| &member.name));
        for member in directory.members() {
            let drains = member.drain || self.drained.contains(member.name.as_str());
            self.judge.set_draining(member.name.as_str(), drains);
        }
    }

    /// Takes a member out, or in again; `false` if there is none of this name.
    pub(super) fn set_draining(&mut self, member: &str, draining: bool) -> bool {
        let by_file = self.directory().members().iter().any(|known| known.name.as_str() == member && known.drain);
        if !self.judge.set_draining(member, draining || by_file) {
            return false;
        }
        if draining {
            self.drained.insert(member.to_owned());
        } else {
            self.drained.remove(member);
        }
        self.rejudge(true);
        true
    }

    /// Works out the verdict, and publishes it if it changed, is `wanted`, or is due.
    pub(super) fn rejudge(&mut self, wanted: bool) {
        self.dirty = false;
        let common = self.judge.is_common_mode();
        let changed = self.judge.judge(now::seconds());
        for (member, down, reason) in self.judge.turns() {
            if down {
                warn!("member {member} is down: {reason}");
            } else {
                info!("member {member} is up again");
            }
        }
        if self.judge.is_common_mode() != common {
            let what = if common {
                "members fail one by one again"
            } else {
                "most members fail at once: the fault is taken for ours"
            };
            warn!("{what}");
        }
        if changed || wanted {
            let roster = Roster::new(Arc::clone(self.directory()), |member| self.usable(member));
            self.shared.assignments.store(Arc::new(Assignments::new(roster)));
        }
        let due = self.published.is_none_or(|at| at.elapsed() >= PUBLISHING);
        if changed || wanted || due {
            self.published = Some(Instant::now());
            self.publish();
        }
    }

    /// How a member is for users of the balancer.
    fn usable(&self, member: &Member) -> Health {
        // Such a member is for DNS clients alone.
        if member.token.is_none() { Health::Draining } else { self.state(member) }
    }

    /// The worse of our verdict and those of others.
    pub(super) fn state(&self, member: &Member) -> Health {
        let name = member.name.as_str();
        let now = self.shared.config.unix_seconds();
        let others = self.others.iter().filter_map(|(_, report)| report.as_ref()).map(|report| report.state(name, now));
        let rank = |health: &Health| match health {
            Health::Up => 0,
            Health::Suspect => 1,
            Health::Down => 2,
            Health::Draining => 3,
        };
        let own = if member.drain { Health::Draining } else { self.judge.state(name) };
        others.chain([own]).max_by_key(rank).unwrap_or_default()
    }

    fn publish(&self) {
        let Some(path) = &self.shared.config.health_file else { return };
        let text = self.judge.report(now::seconds(), self.shared.config.unix_seconds()).to_json();
        let mut beside = path.clone().into_os_string();
        beside.push(".new");
        if let Err(error) = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path)) {
            warn!("{}: {error}", path.display());
        }
    }
}

fn looks(config: &Config) -> Vec<Look> {
    let files = [
        Some(&config.certificate),
        Some(&config.private_key),
        config.trust_file.as_ref(),
        config.ticket_secret.as_ref(),
    ];
    files.into_iter().flatten().map(|file| look(file)).collect()
}

#[cfg(test)]
mod tests;
