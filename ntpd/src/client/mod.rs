//! The daemon's loop: carries packets, answers and commands between the engine and pools, which decide, and the
//! machine, which does.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chacha20::ChaCha12Rng;
use ntp_proto::{
    engine::{Engine, EngineConfig, KEY_AGE, Output, RxInfo, SourceReport, SourceState},
    ids::{ReferenceId, SourceId, StampKind},
    server::LocalReference,
    source::TxToken,
    time::{Monotonic, NtpTimestamp, UnixTime},
    wire::SymmetricKey,
};
use rand_core::{Rng as _, SeedableRng as _};
use tokio::{sync::mpsc, time::Instant};

mod absent;
mod awaited;
mod boot;
mod command;
mod hardware;
mod join;
mod leaps;
mod local;
mod losses;
mod members;
mod netlink;
mod network;
mod record;
mod refclocks;
mod refused;
mod renew;
mod request;
mod restore;
mod resume;
mod saved;
mod steering;
mod steps;
mod tell;
#[cfg(test)]
mod tests;
mod watch;

use absent::Roll;
use boot::Boot;
pub use boot::Known;
pub use command::Counted;
pub use hardware::Hardware;
use leaps::LeapFile;
use members::{Answered, Group};
use network::Addresses;
use record::Recorder;
use refclocks::Feed;
pub use refclocks::Opened;
use request::{Received, Waiting};
use restore::Restores;
use steering::Refusing;
use steps::OwnSteps;
use watch::{Alarm, ClockWatch, Disturbance};

use crate::{
    clock::LocalClock, config::Config, ke::connect::KeyExchanger, net::SentStamps, now, observe::SourceInfo,
    resolve::Resolver, serve::StatusCell, state::StateDirectory,
};
use tell::Told;

/// Events that may wait for the loop; senders wait when it is full.
const EVENTS: usize = 256;
/// Longest time between two looks at the machine's clocks.
const LONGEST_WAIT: Duration = Duration::from_secs(16);

/// Something that happened while the loop waited.
#[derive(Debug)]
pub enum Event {
    /// The kernel or the interface says when a request left.
    Stamped {
        /// Which request.
        token: TxToken,
        /// When.
        stamps: SentStamps,
    },
    /// A datagram came in.
    #[expect(private_interfaces, reason = "made and taken in this module alone")]
    Received(Received),
    /// A question of a pool was answered.
    #[expect(private_interfaces, reason = "made and taken in this module alone")]
    Answered {
        /// Which group of sources asked.
        group: usize,
        /// The answer.
        answered: Answered,
    },
}

/// What the loop is made of.
#[derive(Debug)]
pub struct Parts {
    /// The clock that is kept.
    pub clock: LocalClock,
    /// Finds addresses and service records.
    pub resolver: Resolver,
    /// Exchanges keys.
    pub exchanger: KeyExchanger,
    /// Where the state of the clock is published for the server threads.
    pub status: Arc<StatusCell>,
    /// Where state is kept over a restart, if that is possible.
    pub state: Option<Arc<StateDirectory>>,
    /// What is known of the time without asking anybody.
    pub known: Known,
    /// Precision of the clock, log2 seconds.
    pub precision: i8,
    /// Reference clocks that are open already.
    pub refclocks: Opened,
    /// Interfaces that stamp packets.
    pub hardware: Hardware,
    /// Seed of everything random.
    pub seed: [u8; 32],
}

/// The daemon's client side; see the module.
#[derive(Debug)]
pub struct Client {
    engine: Engine,
    clock: LocalClock,
    resolver: Resolver,
    exchanger: KeyExchanger,
    status: Arc<StatusCell>,
    store: saved::Store,
    leap_file: Option<LeapFile>,
    recorder: Option<Recorder>,
    local: Option<LocalReference>,
    /// Leap seconds are kept from clients.
    smears: bool,
    boot: Boot,
    /// Who answers, and who has not for how long.
    roll: Roll,
    groups: BTreeMap<usize, Group>,
    next_group: usize,
    info: BTreeMap<SourceId, SourceInfo>,
    waiting: BTreeMap<SourceId, Waiting>,
    feeds: Vec<Feed>,
    hardware: Hardware,
    watch: ClockWatch,
    alarm: Alarm,
    restores: Restores,
    addresses: Addresses,
    /// When those are asked again who could not be reached, if the time is not known then.
    ask_again_at: Option<Monotonic>,
    steps: OwnSteps,
    wake: Option<Monotonic>,
    random: ChaCha12Rng,
    events: mpsc::Sender<Event>,
    inbox: mpsc::Receiver<Event>,
    refusing: Refusing,
    gave_up: bool,
    told: Told,
}

/// When this version was last worked on, in Unix seconds.
const RELEASED: i64 = 1_795_478_400;

/// When this program was built, which puts every later time in the right era. A build that is to be reproduced says so
/// itself (<https://reproducible-builds.org/specs/source-date-epoch/>).
pub const BUILT: UnixTime = UnixTime { seconds: built(option_env!("SOURCE_DATE_EPOCH")), nanos: 0 };

/// A build later than this, fifty years on, gives milliseconds for seconds, and would take no time for true.
const LAST_BUILD: i64 = RELEASED + 50 * 365 * 86_400;

/// No build is older than its source, whatever it says.
const fn built(epoch: Option<&str>) -> i64 {
    let Some(text) = epoch else { return RELEASED };
    match i64::from_str_radix(text, 10) {
        Ok(seconds) if seconds > LAST_BUILD => panic!("SOURCE_DATE_EPOCH is too late to be a number of seconds"),
        Ok(seconds) if seconds > RELEASED => seconds,
        Ok(_) => RELEASED,
        Err(_) => panic!("SOURCE_DATE_EPOCH is not a number of seconds"),
    }
}

impl Client {
    /// Starts the engine and the pools of a configuration.
    #[must_use]
    pub fn new(config: &Config, keys: &[SymmetricKey], mut parts: Parts) -> Self {
        let present = parts.clock.now();
        let store = saved::Store::open(parts.state.take(), &parts.clock);
        let mut random = ChaCha12Rng::from_seed(parts.seed);
        let mut seed = [0; 32];
        random.fill_bytes(&mut seed);
        let engine_config = EngineConfig {
            select: config.clock.select,
            step_threshold: config.clock.step_threshold.as_secs_f64(),
            step_limit: config.clock.step_limit,
            max_slew: config.clock.max_slew_rate,
            correction_time_ratio: config.clock.correction_time_ratio,
            max_frequency: config.clock.max_frequency,
            max_update_skew: config.clock.max_update_skew,
            change_limit: config.clock.max_change,
            notable_offset: config.clock.log_change.as_secs_f64(),
            leap_mode: config.clock.leap,
            applied: parts.clock.rate(),
            saved_frequency: store.drift(),
            precision: parts.precision,
            era: BUILT,
            key_age: KEY_AGE,
            seed,
        };
        let (events, inbox) = mpsc::channel(EVENTS);
        let mut client = Self {
            engine: Engine::new(engine_config, present),
            clock: parts.clock,
            resolver: parts.resolver,
            exchanger: parts.exchanger,
            status: parts.status,
            roll: store.absences(),
            store,
            leap_file: None,
            recorder: None,
            local: None,
            smears: config.serve.as_ref().is_some_and(|serve| serve.smear),
            boot: Boot::new(parts.known, config.trust.first_boot),
            groups: BTreeMap::new(),
            next_group: 0,
            info: BTreeMap::new(),
            waiting: BTreeMap::new(),
            feeds: Vec::new(),
            hardware: parts.hardware,
            watch: ClockWatch::start(),
            alarm: Alarm::default(),
            restores: Restores::default(),
            addresses: Addresses::default(),
            ask_again_at: None,
            steps: OwnSteps::default(),
            wake: None,
            random,
            events,
            inbox,
            refusing: Refusing::default(),
            gave_up: false,
            told: Told::default(),
        };
        client.set_leap_file(config.clock.leap_file.as_ref());
        client.set_log_files(config.log_files.as_ref());
        client.set_local(config.serve.as_ref().and_then(|serve| serve.local));
        client.add_groups(config, keys);
        client.set_refclocks(&config.refclocks, parts.refclocks);
        client.hardware.set_rate(client.clock.rate());
        client.hardware.configure(&config.hwtimestamp);
        client.drain();
        client
    }

    /// Waits for the next event or deadline and handles it. Cancelling the wait loses nothing.
    pub async fn step(&mut self) {
        let wait = self.wake.map_or(LONGEST_WAIT, |wake| wake.since(now::monotonic()).min(LONGEST_WAIT));
        tokio::select! {
            Some(event) = self.inbox.recv() => {
                // A clock that somebody set since the request left must not look like an error of the server.
                self.look_at_clocks();
                self.handle(event);
            }
            () = self.alarm.set_off() => self.look_at_clocks(),
            () = self.restores.next() => self.handle_restored(),
            () = self.addresses.appears() => self.handle_address(),
            () = tokio::time::sleep_until(Instant::now() + wait) => {
                self.look_at_clocks();
                // What is read now counts with a sample that is made now.
                self.read_refclocks();
                self.hardware.compare();
                let present = self.clock.now();
                let before = self.before(present, None);
                self.engine.handle_timeout(present);
                self.record(present, before);
                self.handle_pool_timeouts();
                self.look_for_network();
            }
        }
        self.update_boot();
        self.ask_again_if_due();
        self.call_roll();
        self.look_at_leap_file();
        self.drain();
        self.save_if_due();
    }

    /// Takes a new configuration. What it names and what runs already goes on undisturbed, except that sources with NTS
    /// begin anew if `other_trust`: who vouched for them may not be trusted any more.
    pub fn reconfigure(&mut self, config: &Config, keys: &[SymmetricKey], exchanger: KeyExchanger, other_trust: bool) {
        self.resolver = exchanger.resolver().clone();
        self.exchanger = exchanger;
        self.renew_exchangers();
        if other_trust {
            self.store.distrust();
            self.restart_authenticated();
        }
        let present = self.clock.now();
        self.engine.set_select(present, config.clock.select);
        self.set_leap_file(config.clock.leap_file.as_ref());
        self.set_log_files(config.log_files.as_ref());
        self.hardware.configure(&config.hwtimestamp);
        self.smears = config.serve.as_ref().is_some_and(|serve| serve.smear);
        let local = config.serve.as_ref().and_then(|serve| serve.local);
        if self.local.as_ref().map(LocalReference::config) != local.as_ref() {
            self.set_local(local);
        }
        self.set_sources(config, keys);
    }

    /// Takes other sources, and nothing else of a configuration.
    pub fn set_sources(&mut self, config: &Config, keys: &[SymmetricKey]) {
        self.replace_groups(config, keys);
        self.set_refclocks(&config.refclocks, Opened::default());
        self.drain();
    }

    /// Leaves the clock at its natural frequency and saves what a restart can use.
    pub fn shut_down(&mut self) {
        self.save_all();
        self.engine.handle_shutdown();
        self.drain();
    }

    /// Whether sources said too often what cannot be true, so that the clock is to be left to an administrator.
    #[must_use]
    pub const fn has_given_up(&self) -> bool {
        self.gave_up
    }

    /// Whether sources agree on a time, whoever vouches for them.
    #[must_use]
    pub fn has_selected(&mut self) -> bool {
        let present = self.clock.now();
        self.engine.tracking(present).selected.is_some()
    }

    /// Whether the clock has been corrected at least once. It is not before the time is verified, where authenticated sources
    /// are configured.
    #[must_use]
    pub fn has_updated(&mut self) -> bool {
        let present = self.clock.now();
        self.engine.tracking(present).updates > 0
    }

    /// The last correction in seconds; positive if the clock was slow.
    #[must_use]
    pub fn last_offset(&mut self) -> f64 {
        let present = self.clock.now();
        self.engine.tracking(present).last_offset
    }

    /// Whether every name has sources, and none of them is still in its first measurements.
    #[must_use]
    pub fn has_measured_all(&mut self) -> bool {
        let present = self.clock.now();
        let measured = self.engine.sources(present).all(|report| report.state == SourceState::Online);
        measured && self.groups.values().all(|group| group.offline || !group.members.is_empty())
    }

    /// Shows every source with its estimate.
    pub fn for_each_source(&mut self, mut show: impl FnMut(&SourceReport<'_>, &SourceInfo)) {
        let present = self.clock.now();
        for report in self.engine.sources(present) {
            if let Some(info) = self.info.get(&report.source.id()) {
                show(&report, info);
            }
        }
    }

    /// What keeps configured names from having sources.
    pub fn problems(&self) -> impl Iterator<Item = String> {
        let named = |group: &Group| Some(format!("{}: {}", group.configured.name(), group.problem.as_ref()?));
        self.groups.values().filter_map(named)
    }

    /// The pool modes in force.
    #[must_use]
    pub fn modes(&self) -> Vec<&'static str> {
        self.groups.values().map(|group| group.mode.label()).collect()
    }

    /// The clock that is kept.
    pub const fn clock_mut(&mut self) -> &mut LocalClock {
        &mut self.clock
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Stamped { token, stamps } => {
                if let Some(at) = stamps.kernel {
                    let at = self.clock_at(at);
                    self.engine.handle_transmitted(token, at, StampKind::Kernel, 0.0);
                }
                if let Some(sent) = self.sent_by_interface(token.source, stamps.hardware) {
                    self.engine.handle_transmitted(token, sent.at, StampKind::Hardware, sent.error);
                }
            }
            Event::Received(mut received) => {
                let info = RxInfo {
                    received: self.clock_at(received.at),
                    stamp: received.stamp,
                    interface: self.received_by_interface(&received),
                    own_reference: ReferenceId::of_address(received.local),
                };
                let present = self.clock.now();
                let before = self.before(present, Some(received.source));
                self.engine.handle_datagram(present, received.source, &info, &mut received.bytes);
                self.record(present, before);
                self.handle_heard(received.source);
            }
            Event::Answered { group, answered } => self.handle_answered(group, answered),
        }
    }

    /// What our clock read, or would have read, when the kernel stamped a packet.
    fn clock_at(&mut self, stamp: NtpTimestamp) -> NtpTimestamp {
        let stamp = self.steps.correct(now::monotonic(), stamp, now::kernel());
        self.clock.from_kernel().apply(stamp)
    }

    /// Obeys the pools, the engine and the bootstrap until all of them wait.
    fn drain(&mut self) {
        loop {
            self.drain_pools();
            let engine = self.drain_engine();
            if !self.obey_boot() {
                let due =
                    [engine, self.next_pool_timeout(), self.boot.wake(), self.next_reading(), self.hardware.next()];
                self.wake = due.into_iter().flatten().min();
                break;
            }
        }
        self.publish();
    }

    /// Obeys the engine until it waits; until when.
    fn drain_engine(&mut self) -> Option<Monotonic> {
        loop {
            match self.engine.poll_output() {
                Output::Transmit(token, bytes) => self.transmit(token, &bytes),
                Output::Steer(command) => self.steer(command),
                Output::NeedKeys(source, reason) => self.handle_keys_needed(source, reason),
                Output::Lost(source, loss) => self.handle_lost(source, loss),
                Output::Notice(notice) => self.tell(notice),
                Output::Timeout(at, _) => return at,
            }
        }
    }

    fn transmit(&mut self, token: TxToken, bytes: &[u8]) {
        let Some(peer) = self.info.get(&token.source).and_then(|info| info.address) else { return };
        let mut interface = None;
        let is_stamped = |local| {
            interface = self.hardware.interface_of(local).map(ToOwned::to_owned);
            interface.is_some()
        };
        match request::send(peer, token, bytes, self.events.clone(), is_stamped) {
            Ok(sent) => {
                let at = self.clock.from_kernel().apply(sent.at);
                self.engine.handle_transmitted(token, at, StampKind::Daemon, 0.0);
                self.waiting.insert(token.source, sent.task);
                if let Some(info) = self.info.get_mut(&token.source) {
                    info.local = Some(sent.local);
                    info.interface = interface;
                }
            }
            // A packet that cannot be sent is a packet lost: the engine notices when no reply comes.
            Err(error) => tracing::debug!(%peer, %error, "request not sent"),
        }
    }
}
