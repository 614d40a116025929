//! Machines that start without knowing the time, in the virtual world: the real engine and the real bootstrap, with packets,
//! key exchanges and the network between them made up.

use std::{collections::BTreeMap, time::Duration};

use ntp_proto::{
    bootstrap::{
        Alarm, Bootstrap, Chain, ClockFacts, Config, Expected, Identity, Judgement, Output, Present, Reading, State,
        Window,
    },
    ids::SourceId,
    pool::Backoff,
    time::{Monotonic, NtpDuration, UnixTime},
};

use super::{ClientSpec, Path, Random, ServerId, ServerSpec, SourceSpec, World, world::START};

/// What it is at the beginning of a world, in Unix seconds.
pub const TRUE: i64 = START.seconds;
/// For how long certificates are valid, in seconds.
const LIFE: i64 = 90 * 86_400;
/// Round trips until there are keys: the name, and with TLS 1.3 connection, handshake and request.
const ROUND_TRIPS: usize = 4;
/// What it costs to compute besides, on a small machine, in seconds.
const COMPUTED: f64 = 0.1;
/// How long an exchange lasts that nobody answers, in seconds.
const UNANSWERED: f64 = 8.0;
/// Time between the first requests of two sources, as in the daemon.
const STAGGER: Duration = Duration::from_millis(20);

/// Longest wait for an operator that was not reached, as in the daemon.
const LONGEST_WAIT: Duration = Duration::from_secs(1_024);

/// What lies between a machine and everybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Nothing in the way.
    Open,
    /// Nothing gets through.
    Down,
    /// Somebody answers in the place of all, with a certificate of nobody's and no time.
    Portal,
}

/// An operator.
#[derive(Clone, Copy, Debug)]
pub struct Operator {
    /// When its certificate was issued, in Unix seconds.
    pub issued: i64,
    /// How far its clock is ahead of true time, in seconds.
    pub error: f64,
    /// Round trip to it, in seconds.
    pub round_trip: f64,
    /// Probability that a packet is lost, each way.
    pub loss: f64,
}

/// Something that a machine did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Deed {
    /// It exchanged keys with an operator, or tried to.
    Exchange(usize),
    /// It set its clock on behalf of the bootstrap, by so many seconds.
    Set(f64),
    /// What it knows of the time changed.
    Now(State),
    /// It raised an alarm.
    Alarm(Alarm),
}

/// A machine that starts, and the operators that it knows.
pub struct Machine {
    /// The world around it.
    pub world: World,
    /// Its number there.
    pub client: usize,
    /// What it knows of the time.
    pub boot: Bootstrap,
    /// What it did, and when, in seconds since the start.
    pub deeds: Vec<(f64, Deed)>,
    /// What is between it and the operators now.
    pub network: Network,
    operators: Vec<(ServerId, Operator)>,
    sources: BTreeMap<SourceId, usize>,
    /// When the next exchange with each begins or ends.
    exchanges: Vec<Exchange>,
    paces: Vec<Backoff>,
    wake: Option<Monotonic>,
    random: Random,
}

#[derive(Clone, Copy, Debug)]
enum Exchange {
    None,
    Begins(Duration),
    Ends { at: Duration, judgement: Judgement, succeeds: Network },
}

impl Machine {
    /// Starts a machine whose clock reads `clock`, in Unix seconds, in a world of its own.
    #[must_use]
    pub fn start(
        seed: u64,
        config: Config,
        facts: &ClockFacts,
        clock: i64,
        client: ClientSpec,
        all: &[Operator],
    ) -> Self {
        let mut world = World::new(seed).without_traces();
        let add = |operator: &Operator| {
            let server = ServerSpec { error: operator.error, bound: 1e-3, ..ServerSpec::default() };
            (world.add_server(server), *operator)
        };
        let operators: Vec<_> = all.iter().map(add).collect();
        #[expect(clippy::cast_precision_loss, reason = "some decades in seconds")]
        let offset = (clock - TRUE) as f64;
        let client = world.add_client(ClientSpec { offset, sources: Vec::new(), ..client });
        world.look_after(client);
        let present = Present { monotonic: world.monotonic_of(client), clock: UnixTime { seconds: clock, nanos: 0 } };
        let mut boot = Bootstrap::new(config, facts, present);
        let expected = |one| Expected { operator: Some(domain(one)), servers: 1, absent: false };
        boot.set_expected((0..all.len()).map(expected).collect());
        let count = u64::try_from(all.len()).unwrap_or(u64::MAX);
        let mut machine = Self {
            world,
            client,
            boot,
            deeds: Vec::new(),
            network: Network::Open,
            operators,
            sources: BTreeMap::new(),
            exchanges: vec![Exchange::Begins(Duration::ZERO); all.len()],
            paces: (0..count).map(|one| Backoff::new(seed.wrapping_mul(31).wrapping_add(one))).collect(),
            wake: None,
            random: Random::new(!seed),
        };
        machine.hold();
        machine.obey();
        machine
    }

    /// Lets time pass until `seconds` after the start, or until the time is verified; whether it is.
    pub fn run_until(&mut self, seconds: f64) -> bool {
        self.run(seconds, |machine| machine.boot.state() == State::Verified)
    }

    /// Lets time pass until `seconds` after the start, or until there is what is waited for; whether there is.
    pub fn run(&mut self, seconds: f64, mut is_there: impl FnMut(&Self) -> bool) -> bool {
        let end = Duration::from_secs_f64(seconds);
        while !is_there(self) {
            let own = self.exchanges.iter().filter_map(Exchange::at).min();
            let wake = self.wake.map(|at| self.world.world_time(self.client, at));
            let until = [own, wake].into_iter().flatten().min().unwrap_or(end).max(self.world.now()).min(end);
            let happened = self.world.advance(until);
            if !happened && until >= end {
                return false;
            }
            if !happened {
                self.exchange();
            }
            while self.world.take_want().is_some() {}
            self.update();
        }
        true
    }

    /// Seconds since the start.
    #[must_use]
    pub fn elapsed(&self) -> f64 {
        self.world.now().as_secs_f64()
    }

    /// How far its clock is ahead of the truth, in seconds.
    #[must_use]
    pub fn error(&self) -> f64 {
        let (_, now) = self.world.engine(self.client);
        let truth = ntp_proto::time::NtpTimestamp::from_unix(START)
            + NtpDuration::from_nanos(i64::try_from(self.world.now().as_nanos()).unwrap_or(i64::MAX));
        (now.clock - truth).to_seconds()
    }

    /// What the bootstrap is told of the present.
    #[must_use]
    pub fn present(&self) -> Present {
        let (engine, now) = self.world.engine(self.client);
        Present { monotonic: now.monotonic, clock: engine.map().apply(now.clock).to_unix(START) }
    }

    fn hold(&mut self) {
        let (held, trusted) = (self.boot.state() != State::Verified, self.boot.may_stand());
        self.world.command(self.client, |engine, now| {
            if held && trusted {
                engine.hold_over(now);
            } else {
                engine.set_hold(now, held);
            }
        });
    }

    fn note(&mut self, deed: Deed) {
        self.deeds.push((self.elapsed(), deed));
    }

    fn exchange(&mut self) {
        let now = self.world.now();
        for operator in 0..self.exchanges.len() {
            match self.exchanges[operator] {
                Exchange::Begins(at) if at <= now => self.begin(operator),
                Exchange::Ends { at, judgement, succeeds } if at <= now => self.end(operator, judgement, succeeds),
                Exchange::None | Exchange::Begins(_) | Exchange::Ends { .. } => {}
            }
        }
    }

    /// The name is looked up, and keys are asked for; certificates are judged by what is known when that begins.
    fn begin(&mut self, number: usize) {
        self.note(Deed::Exchange(number));
        let operator = self.operators[number].1;
        let mut takes = 0.0;
        for _ in 0..ROUND_TRIPS {
            takes += operator.round_trip;
            // TCP sends again (RFC 6298), and so do resolvers.
            while self.random.chance(operator.loss) || self.random.chance(operator.loss) {
                takes += 1.0;
            }
        }
        let takes = if self.network == Network::Down { UNANSWERED } else { takes + COMPUTED };
        let judgement = self.boot.judgement(self.present().clock);
        let at = self.world.now() + Duration::from_secs_f64(takes);
        self.exchanges[number] = Exchange::Ends { at, judgement, succeeds: self.network };
    }

    fn end(&mut self, number: usize, judgement: Judgement, network: Network) {
        let (server, operator) = self.operators[number];
        let window = Window { not_before: operator.issued, not_after: operator.issued + LIFE };
        let good = match judgement {
            Judgement::At(at) => window.contains(at.seconds, 0),
            Judgement::Deferred { floor, .. } => window.not_after >= floor,
        };
        let reached = network == Network::Open && self.network == Network::Open;
        let present = self.present();
        if reached && good {
            self.paces[number].reset();
            self.exchanges[number] = Exchange::None;
            let path = Path { loss: operator.loss, ..Path::symmetric(operator.round_trip / 2.0, 300e-6) };
            let spec = SourceSpec { nts: true, interleaved: true, ..SourceSpec::new(server, path) };
            let Some(source) = self.world.add_source(self.client, spec, STAGGER) else { return };
            if let Some(keys) = self.world.exchange_keys(server) {
                self.world.set_keys(self.client, source, keys);
            }
            self.sources.insert(source, number);
            self.show(present, number, window, Some(source));
            return;
        }
        if reached {
            self.show(present, number, window, None);
        }
        // As long as the time is not known, the daemon waits for nobody longer than this.
        let again = self.paces[number].trouble(present.monotonic).min(present.monotonic + LONGEST_WAIT);
        self.exchanges[number] = Exchange::Begins(self.world.world_time(self.client, again));
    }

    fn show(&mut self, present: Present, number: usize, window: Window, source: Option<SourceId>) {
        let octet = u8::try_from(number).unwrap_or(u8::MAX);
        let identity = Identity { domain: domain(number), key: Some([octet; 32]) };
        let signed = vec![window.not_before];
        let chain = Chain { window, signed, records: Vec::new(), life: LIFE, key: [octet; 32], pinned: false };
        self.boot.handle_chain(present, number, &domain(number), identity, chain, source);
    }

    fn update(&mut self) {
        let present = self.present();
        self.boot.handle_timeout(present.monotonic);
        if self.boot.state() != State::Verified {
            let (engine, now) = self.world.engine(self.client);
            let reading = |report: ntp_proto::engine::SourceReport<'_>| {
                let (source, estimate) = (report.source.id(), report.estimate?);
                let (offset, distance, samples) = (estimate.offset, estimate.distance(), estimate.samples);
                Some(Reading { source, offset, distance, samples })
            };
            let readings: Vec<Reading> = engine.sources(now).filter_map(reading).collect();
            let followed = engine.tracking(now).selected;
            self.boot.update(present, &readings, followed);
        }
        self.obey();
    }

    fn obey(&mut self) {
        loop {
            match self.boot.poll_output() {
                Output::SetClock(by) => {
                    self.note(Deed::Set(by.to_seconds()));
                    self.world.command(self.client, |engine, now| engine.set_clock(now, by));
                }
                Output::ExchangeAgain => {
                    for operator in 0..self.operators.len() {
                        self.leave(operator);
                    }
                }
                Output::Refuse(source) => {
                    let Some(operator) = self.sources.get(&source).copied() else { continue };
                    self.leave(operator);
                    let present = self.present().monotonic;
                    let again = self.paces[operator].trouble(present);
                    self.exchanges[operator] = Exchange::Begins(self.world.world_time(self.client, again));
                }
                Output::Now(state) => {
                    self.note(Deed::Now(state));
                    self.hold();
                }
                Output::Alarm(alarm) => self.note(Deed::Alarm(alarm)),
                Output::Timeout(at) => {
                    self.wake = at;
                    return;
                }
            }
        }
    }

    /// Forgets the keys of an operator, and asks for others at once.
    fn leave(&mut self, operator: usize) {
        let sources: Vec<SourceId> =
            self.sources.iter().filter(|(_, of)| **of == operator).map(|(source, _)| *source).collect();
        for source in sources {
            self.sources.remove(&source);
            self.boot.handle_gone(source);
            self.world.remove_source(self.client, source);
        }
        self.exchanges[operator] = Exchange::Begins(self.world.now());
    }
}

impl Exchange {
    const fn at(&self) -> Option<Duration> {
        match self {
            Self::None => None,
            Self::Begins(at) | Self::Ends { at, .. } => Some(*at),
        }
    }
}

fn domain(operator: usize) -> String {
    format!("operator{operator}.example")
}
