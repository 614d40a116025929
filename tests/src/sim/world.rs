//! Events in simulated time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use clock_control::{Clock as _, Oscillator, SimClock};
use ntp_proto::{
    discipline::{CORRECTION_TIME_RATIO, ChangeLimit, LeapMode, LeapTable, MAX_UPDATE_SKEW, StepLimit},
    engine::{Engine, EngineConfig, KEY_AGE, Notice, Now, Output, RxInfo},
    ids::{ReferenceId, SourceId, StampKind, Trust},
    nts::{AeadAlgorithm, AeadKey, CookieJar, Keyring, SessionKeys},
    select::{SelectConfig, SelectOptions},
    server::{Access, AccessTable, InterleaveSlot, InterleaveTable, Prefix, Responder, RxMeta, Verdict},
    source::{Authentication, Bursts, Loss, NtsKeys, SampleRules, SourceConfig, TxToken},
    steer::{ClockStatus, Steer},
    time::{Monotonic, NtpDuration, NtpTimestamp, PollInterval, Rate, UnixTime},
};

use super::{Path, Random};

mod faults;
mod managed;
mod server;
mod trace;

pub use faults::KernelFaults;
pub use managed::{Traffic, Want};
pub use server::{Lie, ServerSpec};
use server::{blur, server_status};
pub use trace::{Point, Trace};

/// Where the world begins, on the Unix timescale: 2026-11-24.
pub(super) const START: UnixTime = UnixTime { seconds: 1_795_478_400, nanos: 0 };

/// Names a server of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerId(pub usize);

/// A source of a client.
#[derive(Clone, Copy, Debug)]
pub struct SourceSpec {
    /// Whom to ask.
    pub server: ServerId,
    /// The way there.
    pub path: Path,
    /// Shortest and longest poll interval, log2 seconds.
    pub polls: (i8, i8),
    /// Interleaved mode.
    pub interleaved: bool,
    /// Use NTS.
    pub nts: bool,
    /// How it may be used.
    pub options: SelectOptions,
}

impl SourceSpec {
    /// A plain source with the usual poll intervals.
    #[must_use]
    pub fn new(server: ServerId, path: Path) -> Self {
        Self { server, path, polls: (6, 10), interleaved: false, nts: false, options: SelectOptions::default() }
    }
}

/// A client.
#[derive(Clone, Debug)]
pub struct ClientSpec {
    /// Its oscillator.
    pub oscillator: Oscillator,
    /// How far its clock is ahead at the start, in seconds.
    pub offset: f64,
    /// Whom it asks.
    pub sources: Vec<SourceSpec>,
    /// Updates that may step the clock.
    pub steps: StepLimit,
    /// Offsets from which on it steps, in seconds.
    pub step_threshold: f64,
    /// Frequency and its error bound from an earlier run.
    pub saved_frequency: Option<(Rate, f64)>,
    /// By how much its timer is late, in seconds.
    pub late: f64,
    /// Its key exchanges give another set of keys to be tried after a NAK, which the server does not accept.
    pub fallback_keys: bool,
    /// Offsets that it does not believe.
    pub change_limit: Option<ChangeLimit>,
    /// Its list of leap seconds.
    pub leap_table: Option<LeapTable>,
    /// What it does at a leap second.
    pub leap_mode: LeapMode,
}

impl ClientSpec {
    /// A client whose clock is 10 ms and 20 ppm wrong and wanders as a good quartz does.
    #[must_use]
    pub fn new(sources: Vec<SourceSpec>) -> Self {
        let oscillator =
            Oscillator { frequency: Rate::from_ppm(20.0), wander: Rate::new(1e-9), ..Oscillator::default() };
        Self {
            oscillator,
            offset: 0.01,
            sources,
            steps: StepLimit::Updates(3),
            step_threshold: 1.0,
            saved_frequency: None,
            late: 0.0,
            fallback_keys: false,
            change_limit: None,
            leap_table: None,
            leap_mode: LeapMode::System,
        }
    }
}

struct Server {
    spec: ServerSpec,
    responder: Responder<'static>,
    keyring: Keyring,
    answers: u64,
    /// When it last answered without a kiss, in seconds.
    served: f64,
    kisses: u64,
}

struct Client {
    spec: ClientSpec,
    engine: Engine,
    clock: SimClock,
    sources: BTreeMap<SourceId, SourceSpec>,
    trace: Trace,
    kernel: Option<ClockStatus>,
    steps: u32,
    key_exchanges: u64,
    cookies: Vec<Vec<u8>>,
    late: Duration,
    fallback_keys: bool,
    /// The wake-up that counts; a new deadline takes the place of the last.
    wake: Option<u64>,
    lost: Vec<(SourceId, Loss)>,
    kernel_history: Vec<(f64, ClockStatus)>,
    notices: Vec<(f64, Notice)>,
    faults: KernelFaults,
    meddled: Option<Rate>,
    slewed: Option<Rate>,
    /// Somebody outside the world looks after its sources.
    managed: bool,
    traffic: Traffic,
    /// Since when it sleeps or is off.
    away: Option<Duration>,
    /// By how much its monotonic clock is behind the world for that.
    slept: Duration,
}

enum Event {
    Wake(usize),
    AtServer { client: usize, token: TxToken, bytes: Vec<u8> },
    AtClient { client: usize, source: SourceId, bytes: Vec<u8> },
    Keys { client: usize, source: SourceId },
    Sample,
}

/// The virtual world.
pub struct World {
    random: Random,
    now: Duration,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, Event>,
    sequence: u64,
    servers: Vec<Server>,
    clients: Vec<Client>,
    start: UnixTime,
    traced: bool,
    /// What managed clients want.
    wants: VecDeque<(usize, Want)>,
}

impl World {
    /// An empty world; its clients' clocks count from 2026-11-24.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::starting_at(seed, START)
    }

    /// An empty world that begins at another time.
    #[must_use]
    pub fn starting_at(seed: u64, start: UnixTime) -> Self {
        let mut world = Self {
            random: Random::new(seed),
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            servers: Vec::new(),
            clients: Vec::new(),
            start,
            traced: true,
            wants: VecDeque::new(),
        };
        world.schedule(Duration::ZERO, Event::Sample);
        world
    }

    /// Adds a server.
    ///
    /// # Panics
    ///
    /// Never: an empty access table has room.
    pub fn add_server(&mut self, spec: ServerSpec) -> ServerId {
        let keyring = Keyring::new(&self.random.seed());
        let mut access = AccessTable::new();
        access.add(Prefix::ALL_V4, Access::Allow).expect("an empty table has room");
        let mut responder = Responder::new(access, self.random.seed());
        responder.set_interleave_table(Some(interleave_table()));
        responder.set_keyring(Some(keyring.clone()));
        self.servers.push(Server { spec, responder, keyring, answers: 0, served: f64::NEG_INFINITY, kisses: 0 });
        ServerId(self.servers.len() - 1)
    }

    /// Adds a client and returns its number.
    ///
    /// # Panics
    ///
    /// If a poll interval of the specification is out of range.
    pub fn add_client(&mut self, spec: ClientSpec) -> usize {
        let mut clock = SimClock::new(
            spec.oscillator,
            self.random.bits(),
            NtpTimestamp::from_unix(self.start),
            NtpDuration::from_seconds(spec.offset),
        )
        .with_kernel_resolution();
        clock.advance_to(self.monotonic());
        let now = now_of(&clock, self.monotonic());
        let mut engine = Engine::new(engine_config(&spec, self.start, self.random.seed()), now);
        engine.set_leap_table(now, spec.leap_table.clone());
        engine.expect_sources(now, spec.sources.len(), Vec::new());
        let mut sources = BTreeMap::new();
        for (index, source) in spec.sources.iter().enumerate() {
            let config = source_config(source);
            let first = now.monotonic + Duration::from_millis(200 + 50 * index as u64);
            sources.extend(engine.add_source(config, first).map(|id| (id, *source)));
        }
        let (late, fallback_keys) = (Duration::from_secs_f64(spec.late), spec.fallback_keys);
        self.clients.push(Client {
            spec: ClientSpec { sources: Vec::new(), ..spec },
            engine,
            clock,
            sources,
            trace: Trace::default(),
            kernel: None,
            steps: 0,
            key_exchanges: 0,
            cookies: Vec::new(),
            late,
            fallback_keys,
            wake: None,
            lost: Vec::new(),
            kernel_history: Vec::new(),
            notices: Vec::new(),
            faults: KernelFaults::default(),
            meddled: None,
            slewed: None,
            managed: false,
            traffic: Traffic::default(),
            away: None,
            slept: Duration::ZERO,
        });
        let number = self.clients.len() - 1;
        self.drain(number);
        number
    }

    /// Lets time pass until `seconds` after the beginning.
    pub fn run_until(&mut self, seconds: f64) {
        let end = Duration::from_secs_f64(seconds);
        while self.next_event().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// When something happens next.
    fn next_event(&self) -> Option<Duration> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    fn step(&mut self) {
        let Some(Reverse((at, sequence))) = self.queue.pop() else { return };
        self.now = at;
        if let Some(event) = self.events.remove(&sequence) {
            self.handle(event);
        }
    }

    /// The trace of a client's clock.
    #[must_use]
    pub fn trace(&self, client: usize) -> &Trace {
        &self.clients[client].trace
    }

    /// The engine of a client, and its present.
    #[must_use]
    pub fn engine(&self, client: usize) -> (&Engine, Now) {
        let client = &self.clients[client];
        let mut clock = client.clock.clone();
        clock.advance_to(self.monotonic());
        (&client.engine, now_of(&clock, client.monotonic(self.now)))
    }

    /// What a client last told its kernel.
    #[must_use]
    pub fn kernel_status(&self, client: usize) -> Option<ClockStatus> {
        self.clients[client].kernel
    }

    /// How often a client's clock was stepped.
    #[must_use]
    pub fn steps(&self, client: usize) -> u32 {
        self.clients[client].steps
    }

    /// Key exchanges a client asked for.
    #[must_use]
    pub fn key_exchanges(&self, client: usize) -> u64 {
        self.clients[client].key_exchanges
    }

    /// Cookies a client has put on the wire.
    #[must_use]
    pub fn cookies_sent(&self, client: usize) -> &[Vec<u8>] {
        &self.clients[client].cookies
    }

    /// Answers a server has given.
    #[must_use]
    pub fn answers(&self, server: ServerId) -> u64 {
        self.servers[server.0].answers
    }

    /// How many of them were kisses.
    #[must_use]
    pub fn kisses(&self, server: ServerId) -> u64 {
        self.servers[server.0].kisses
    }

    /// What a client told its kernel, and when.
    #[must_use]
    pub fn kernel_history(&self, client: usize) -> &[(f64, ClockStatus)] {
        &self.clients[client].kernel_history
    }

    /// The sources a client gave up, and why.
    #[must_use]
    pub fn lost(&self, client: usize) -> &[(SourceId, Loss)] {
        &self.clients[client].lost
    }

    /// Events that are still to come.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.events.len()
    }

    /// Lets a client's engine be told something.
    pub fn command(&mut self, client: usize, tell: impl FnOnce(&mut Engine, Now)) {
        let now = self.present(client);
        tell(&mut self.clients[client].engine, now);
        self.drain(client);
    }

    /// Makes a client's clock jump by `by` seconds; the client notices if it is `seen`.
    pub fn jump(&mut self, client: usize, by: f64, seen: bool) {
        let before = self.present(client);
        let by = NtpDuration::from_seconds(by);
        if self.clients[client].clock.steer(Steer::Step(by)).is_ok() && seen {
            self.command(client, |engine, now| engine.handle_jump(now, before.clock, by));
        }
    }

    /// The way from a client to its source number `index`, counted from 0; `None` if there is none.
    pub fn path_mut(&mut self, client: usize, index: usize) -> Option<&mut Path> {
        self.clients[client].sources.values_mut().nth(index).map(|source| &mut source.path)
    }

    /// Throws a server's cookie keys away once.
    pub fn forget_keys(&mut self, server: ServerId) {
        let server = &mut self.servers[server.0];
        server.keyring = Keyring::new(&self.random.seed());
        server.responder.set_keyring(Some(server.keyring.clone()));
    }

    /// Lets a server forget when its replies left, as a restart does.
    pub fn forget_departures(&mut self, server: ServerId) {
        self.servers[server.0].responder.set_interleave_table(Some(interleave_table()));
    }

    /// Changes a server.
    pub fn server_mut(&mut self, server: ServerId) -> &mut ServerSpec {
        &mut self.servers[server.0].spec
    }

    fn monotonic(&self) -> Monotonic {
        monotonic_at(self.now)
    }

    fn schedule(&mut self, at: Duration, event: Event) -> u64 {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence)));
        self.events.insert(self.sequence, event);
        self.sequence
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Wake(number) => {
                let now = self.present(number);
                self.clients[number].engine.handle_timeout(now);
                self.drain(number);
            }
            Event::AtServer { client, token, bytes } => self.serve(client, token, bytes),
            Event::AtClient { client, .. } if self.clients[client].away.is_some() => {}
            Event::AtClient { client, source, mut bytes } => {
                let now = self.present(client);
                let info = RxInfo {
                    received: now.clock,
                    stamp: StampKind::Kernel,
                    interface: None,
                    own_reference: ReferenceId([10, 0, 0, 1]),
                };
                self.clients[client].engine.handle_datagram(now, source, &info, &mut bytes);
                self.drain(client);
            }
            Event::Keys { client, source } => self.give_keys(client, source),
            Event::Sample => self.sample(),
        }
    }

    /// Brings a client's clock up to date.
    fn present(&mut self, number: usize) -> Now {
        let monotonic = self.monotonic();
        let client = &mut self.clients[number];
        client.clock.advance_to(monotonic);
        now_of(&client.clock, client.monotonic(self.now))
    }

    fn sample(&mut self) {
        for number in 0..self.clients.len() {
            let now = self.present(number);
            let client = &mut self.clients[number];
            let tracking = client.engine.tracking(now);
            let bound = tracking.root_dispersion.to_seconds()
                + tracking.root_delay.to_seconds() / 2.0
                + tracking.pending.to_seconds().abs();
            client.trace.points.push(Point {
                at: self.now.as_secs_f64(),
                error: client.clock.true_error().to_seconds(),
                bound: if tracking.synchronized { bound } else { f64::INFINITY },
            });
        }
        if self.traced {
            self.schedule(self.now + Duration::from_secs(1), Event::Sample);
        }
    }

    /// Obeys a client until it waits.
    fn drain(&mut self, number: usize) {
        loop {
            let now = self.present(number);
            match self.clients[number].engine.poll_output() {
                Output::Transmit(token, bytes) => self.send(number, now, token, bytes),
                Output::Steer(command) => self.steer(number, command),
                Output::NeedKeys(source, reason) => {
                    if self.tell(number, Want::Keys(source, reason)) {
                        continue;
                    }
                    self.clients[number].key_exchanges += 1;
                    let at = self.now + Duration::from_millis(60);
                    self.schedule(at, Event::Keys { client: number, source });
                }
                Output::Lost(source, loss) => {
                    if !self.tell(number, Want::Another(source, loss)) {
                        self.clients[number].lost.push((source, loss));
                    }
                }
                Output::Notice(notice) => self.clients[number].notices.push((self.now.as_secs_f64(), notice)),
                Output::Timeout(at, _) => {
                    if let Some(last) = self.clients[number].wake.take() {
                        self.events.remove(&last);
                    }
                    if let Some(at) = at {
                        let at = self.clients[number].world_time(at).max(self.now) + self.clients[number].late;
                        self.clients[number].wake = Some(self.schedule(at, Event::Wake(number)));
                    }
                    return;
                }
            }
        }
    }

    fn send(&mut self, number: usize, now: Now, token: TxToken, bytes: Vec<u8>) {
        let client = &mut self.clients[number];
        client.traffic.add_request(bytes.len());
        client.engine.handle_transmitted(token, now.clock, StampKind::Kernel, 0.0);
        if let Some(cookie) = bytes.get(88..188).filter(|_| bytes.len() > 200) {
            client.cookies.push(cookie.to_vec());
        }
        let Some(path) = client.sources.get(&token.source).map(|source| source.path) else { return };
        for time in path.send(&mut self.random) {
            self.schedule(self.now + time, Event::AtServer { client: number, token, bytes: bytes.clone() });
        }
    }

    fn serve(&mut self, number: usize, token: TxToken, mut bytes: Vec<u8>) {
        let Some(source) = self.clients[number].sources.get(&token.source).copied() else { return };
        let true_time = NtpTimestamp::from_unix(self.start)
            + NtpDuration::from_nanos(i64::try_from(self.now.as_nanos()).unwrap_or(i64::MAX));
        let monotonic = self.monotonic();
        let fresh = self.random.seed();
        let spec = self.servers[source.server.0].spec;
        let mut passed = |mean: f64| if mean > 0.0 { self.random.exponential(mean) } else { 0.0 };
        let (worked, queued) = (passed(spec.work), passed(spec.queue));
        let seconds = self.now.as_secs_f64();
        let server = &mut self.servers[source.server.0];
        if seconds < spec.silent_until || seconds >= spec.silent_from {
            return;
        }
        if spec.forgets_keys {
            server.keyring = Keyring::new(&fresh);
            server.responder.set_keyring(Some(server.keyring.clone()));
        }
        let [received, written, left] =
            [0, 8, 16].map(|at| u64::from_le_bytes(fresh[at..at + 8].try_into().expect("eight")));
        let meta = RxMeta {
            peer: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            peer_port: 40_000,
            received: blur(true_time, received) - spec.ahead_of_time(source.path.there + source.path.jitter),
            kind: StampKind::Kernel,
            monotonic,
        };
        let mut reply = vec![0; 2048];
        let verdict = server.responder.respond(
            &mut bytes,
            &meta,
            &server_status(&spec, true_time, seconds),
            || {
                let ahead = spec.ahead_of_time(source.path.back + source.path.jitter_back);
                blur(true_time + NtpDuration::from_seconds(worked), written) + ahead
            },
            &mut reply,
        );
        let Verdict::Reply { len, want_transmit_stamp, .. } = verdict else { return };
        server.answers += 1;
        if let Some(token) = want_transmit_stamp {
            let true_time = true_time + NtpDuration::from_seconds(worked + queued);
            server.responder.transmitted(&token, blur(true_time, left));
        }
        reply.truncate(len);
        self.clients[number].traffic.add_reply(len);
        let is_hasty = seconds < server.served + spec.patience;
        if let Some(kiss) = spec.kiss.or_else(|| is_hasty.then_some(*b"RATE")) {
            reply[1] = 0;
            reply[12..16].copy_from_slice(&kiss);
            server.kisses += 1;
        } else {
            server.served = seconds;
        }
        let left = self.now + Duration::from_secs_f64(worked + queued);
        for time in source.path.receive(&mut self.random) {
            let event = Event::AtClient { client: number, source: token.source, bytes: reply.clone() };
            self.schedule(left + time, event);
        }
    }

    /// Stands in for a key exchange: keys and cookies come from the server's own keyring.
    fn give_keys(&mut self, number: usize, id: SourceId) {
        let Some(source) = self.clients[number].sources.get(&id).copied() else { return };
        if self.now.as_secs_f64() >= self.servers[source.server.0].spec.keyless_from {
            return;
        }
        let mut keys = self.issue(source.server);
        if self.clients[number].fallback_keys {
            keys.fallback = Some(self.session());
        }
        let monotonic = self.monotonic();
        self.clients[number].engine.set_keys(monotonic, id, keys, Trust::Pki);
        self.drain(number);
    }

    fn session(&mut self) -> SessionKeys {
        let key = |secret: [u8; 32]| AeadKey::new(AeadAlgorithm::AesSivCmac256, &secret).expect("32 bytes are a key");
        SessionKeys { c2s: key(self.random.seed()), s2c: key(self.random.seed()) }
    }

    /// Keys and a full set of cookies, as a server's key exchange gives them.
    fn issue(&mut self, server: ServerId) -> NtsKeys {
        let keys = self.session();
        let mut cookies = CookieJar::new();
        for _ in 0..CookieJar::CAPACITY {
            let mut nonce = [0; 16];
            nonce.copy_from_slice(&self.random.seed()[..16]);
            let mut cookie = [0; 256];
            if let Ok(len) = self.servers[server.0].keyring.issue(&keys, &nonce, &mut cookie) {
                cookies.put(&cookie[..len]);
            }
        }
        NtsKeys { keys, fallback: None, cookies }
    }
}

/// Room for the departures of a server's replies.
fn interleave_table() -> InterleaveTable<'static> {
    // A world is small and lives as long as its test: its tables may stay.
    let slots: &'static [InterleaveSlot] = Box::leak((0..1024).map(|_| InterleaveSlot::default()).collect());
    InterleaveTable::new(slots)
}

/// Runs `run` for a few seeds, each of which is printed, so that a failure can be replayed: with `NTPD_SEED` set, only
/// that seed is run.
pub fn run_seeds(count: u64, mut run: impl FnMut(u64)) {
    let chosen = std::env::var("NTPD_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in chosen.map_or(0..count, |seed: u64| seed..seed + 1) {
        eprintln!("seed {seed} (replay with NTPD_SEED={seed})");
        run(seed);
    }
}

fn monotonic_at(time: Duration) -> Monotonic {
    Monotonic::from_nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

fn now_of(clock: &SimClock, monotonic: Monotonic) -> Now {
    Now { monotonic, clock: clock.now().unwrap_or(NtpTimestamp::ZERO) }
}

fn source_config(source: &SourceSpec) -> SourceConfig {
    let poll = |log2| PollInterval::new(log2).expect("poll interval in range");
    SourceConfig {
        reference_id: reference_id(source.server),
        min_poll: poll(source.polls.0),
        max_poll: poll(source.polls.1),
        bursts: Bursts::AtStart,
        interleaved: source.interleaved,
        version: 4,
        authentication: if source.nts { Authentication::Nts } else { Authentication::None },
        trust: if source.nts { Trust::Pki } else { Trust::None },
        options: source.options,
        rules: SampleRules::default(),
    }
}

fn reference_id(server: ServerId) -> ReferenceId {
    ReferenceId([192, 0, 2, u8::try_from(server.0).unwrap_or(u8::MAX)])
}

fn engine_config(spec: &ClientSpec, start: UnixTime, seed: [u8; 32]) -> EngineConfig {
    EngineConfig {
        select: SelectConfig::default(),
        step_threshold: spec.step_threshold,
        step_limit: spec.steps,
        max_slew: Rate::from_ppm(80_000.0),
        max_frequency: Rate::from_ppm(500.0),
        max_update_skew: MAX_UPDATE_SKEW,
        correction_time_ratio: CORRECTION_TIME_RATIO,
        change_limit: spec.change_limit,
        notable_offset: 1.0,
        leap_mode: spec.leap_mode,
        applied: Rate::ZERO,
        saved_frequency: spec.saved_frequency,
        precision: -24,
        era: start,
        key_age: KEY_AGE,
        seed,
    }
}
