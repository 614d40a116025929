//! A million machines that start without knowing whether their clock is right, with honest servers and with somebody in the
//! middle who blocks them and holds keys of certificates that have expired.
//!
//! Machines, clocks and attackers are those of a reference model: five of seven kinds of clock are bad, and the attacker has
//! none to all of the expired keys, stolen at different times or in one breach.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use ntp_proto::{
    bootstrap::{
        Alarm, Bootstrap, Chain, ClockFacts, Config, Expected, Floor, Identity, Judgement, Output, Policy, Present,
        Reading, SetBy, State, Window,
    },
    ids::SourceId,
    time::{Monotonic, UnixTime},
};
use ntpd_tests::sim::Random;

const BOOTS: u64 = 1_000_000;
const DAY: f64 = 86_400.0;
/// What time it is, in days.
const TRUE: f64 = 20_000.0;
/// Days for which certificates are valid.
const LIFE: f64 = 90.0;
/// A clock that is off by more days is wrong.
const WRONG: f64 = 1.0;
/// Rounds of exchanges: more than any boot needs that gets anywhere.
const ROUNDS: usize = 6;
/// What a round of exchanges and the first measurements take, in seconds.
const ROUND: i64 = 4;
const ROUND_TAKES: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hardware {
    None,
    Good,
    Reset,
    Past,
    Future,
}

#[derive(Debug)]
struct Scenario {
    build: f64,
    verified: Option<f64>,
    hardware: Hardware,
    clock: f64,
    /// Of each operator, when its certificate was issued.
    issued: Vec<f64>,
    /// When the expired certificate was issued of which the attacker has the key.
    stolen: Vec<Option<f64>>,
    /// Which of the honest servers the attacker lets through.
    let_through: Vec<bool>,
    /// How far from what certificates allow the attacker's time may be, in days.
    boldness: f64,
}

fn between(random: &mut Random, low: f64, high: f64) -> f64 {
    low + (high - low) * random.uniform()
}

fn pick<T: Copy>(random: &mut Random, all: &[T]) -> T {
    let count = f64::from(u32::try_from(all.len()).unwrap());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below the number of them")]
    let place = (random.uniform() * count) as usize;
    all[place.min(all.len() - 1)]
}

impl Scenario {
    fn new(random: &mut Random) -> Self {
        let build = TRUE - between(random, 5.0, 1500.0);
        let age = match pick(random, &[0, 1, 2, 3]) {
            0 => Some(between(random, 0.0, 2.0)),
            1 => Some(between(random, 0.0, 60.0)),
            2 => Some(between(random, 0.0, 900.0)),
            _ => None,
        };
        let kinds = [Hardware::None, Hardware::None, Hardware::Good, Hardware::Good, Hardware::Reset, Hardware::Past];
        let hardware = pick(random, &[&kinds[..], &[Hardware::Future]].concat());
        let clock = match hardware {
            Hardware::None => 0.0,
            Hardware::Good => TRUE + between(random, -0.01, 0.01),
            Hardware::Reset => 10_957.0,
            Hardware::Past => TRUE - between(random, 100.0, 3000.0),
            Hardware::Future => TRUE + between(random, 100.0, 9000.0),
        };
        let operators = pick(random, &[1, 3, 4, 4, 5, 7]);
        let mut stolen = vec![None; operators];
        let thefts = pick(random, &(0..=operators).collect::<Vec<_>>());
        let breach = TRUE - between(random, LIFE + 1.0, 2500.0);
        let at_once = random.uniform() < 0.5;
        for _ in 0..thefts {
            let free: Vec<usize> = (0..operators).filter(|&one| stolen[one].is_none()).collect();
            let victim = pick(random, &free);
            let issued = if at_once { breach } else { TRUE - between(random, LIFE + 1.0, 2500.0) };
            stolen[victim] = Some(issued);
        }
        let issued = (0..operators).map(|_| TRUE - between(random, 1.0, 60.0)).collect();
        let open = pick(random, &[0.0, 0.0, 0.3, 1.0]);
        let let_through = (0..operators).map(|_| random.uniform() < open).collect();
        let boldness = pick(random, &[0.0, 0.0, 120.0, 6000.0]);
        let verified = age.map(|age| TRUE - age).filter(|at| *at > build);
        Self { build, verified, hardware, clock, issued, stolen, let_through, boldness }
    }

    fn is_minority(&self) -> bool {
        2 * self.stolen.iter().flatten().count() <= self.stolen.len()
    }

    fn start(&self, policy: Policy) -> Machine {
        let set_by = match self.hardware {
            Hardware::None => SetBy::Nothing,
            Hardware::Good | Hardware::Reset | Hardware::Past | Hardware::Future => {
                SetBy::HardwareClock { voltage_low: false }
            }
        };
        let facts = ClockFacts { set_by, synchronized: false, verified: false, restored: false };
        let floor = Floor { build: seconds(self.build), distribution: None, verified: self.verified.map(seconds) };
        let config = Config { policy, floor, min_agreeing: None, single: false };
        let clock = UnixTime { seconds: seconds(self.clock), nanos: 0 };
        let at = Present { monotonic: Monotonic::from_nanos(1), clock };
        let mut boot = Bootstrap::new(config, &facts, at);
        let expected = |one| Expected { operator: Some(format!("operator{one}.example")), servers: 1, absent: false };
        boot.set_expected((0..self.issued.len()).map(expected).collect());
        let mut machine = Machine { boot, at, elapsed: 0, followed: 0.0, alarms: Vec::new() };
        machine.obey();
        machine
    }
}

#[expect(clippy::cast_possible_truncation, reason = "some ten thousand days")]
fn seconds(days: f64) -> i64 {
    (days * DAY) as i64
}

/// Who answers in a round.
struct Answering {
    operator: usize,
    /// When its certificate was issued, in days.
    issued: f64,
    /// What time it says, in days.
    says: f64,
}

struct Machine {
    boot: Bootstrap,
    at: Present,
    /// Seconds since the start.
    elapsed: i64,
    /// How far the source that is followed is ahead of the clock, in days.
    followed: f64,
    alarms: Vec<Alarm>,
}

impl Machine {
    fn obey(&mut self) {
        loop {
            match self.boot.poll_output() {
                Output::SetClock(by) => {
                    self.at.clock.seconds += seconds(by.to_seconds() / DAY);
                    self.followed -= by.to_seconds() / DAY;
                }
                Output::Alarm(alarm) => self.alarms.push(alarm),
                Output::ExchangeAgain | Output::Refuse(_) | Output::Now(_) => {}
                Output::Timeout(_) => return,
            }
        }
    }

    /// What the clock says, in days.
    #[expect(clippy::cast_precision_loss, reason = "some billions of seconds")]
    fn clock(&self) -> f64 {
        self.at.clock.seconds as f64 / DAY
    }

    /// Exchanges with those who answer, and what they then say.
    fn round(&mut self, answering: &[Answering]) {
        let mut readings = Vec::new();
        for &Answering { operator, issued, says } in answering {
            let window = Window { not_before: seconds(issued), not_after: seconds(issued + LIFE) };
            let good = match self.boot.judgement(self.at.clock) {
                Judgement::At(at) => window.contains(at.seconds, 0),
                Judgement::Deferred { floor, .. } => window.not_after >= floor,
            };
            let source = good.then_some(SourceId(u32::try_from(operator).unwrap()));
            let key = [u8::try_from(operator).unwrap(); 32];
            let domain = format!("operator{operator}.example");
            let identity = Identity { domain: domain.clone(), key: Some(key) };
            let chain = Chain {
                window,
                signed: vec![window.not_before],
                records: Vec::new(),
                life: seconds(LIFE),
                key,
                pinned: false,
            };
            self.boot.handle_chain(self.at, operator, &domain, identity, chain, source);
            #[expect(clippy::cast_precision_loss, reason = "some billions of seconds")]
            let offset = (seconds(says) + self.elapsed - self.at.clock.seconds) as f64;
            readings.extend(source.map(|source| Reading { source, offset, distance: 0.02, samples: 4 }));
        }
        // Of those who agree with most others, the first is followed.
        let agree = |one: &Reading| readings.iter().filter(|other| (one.offset - other.offset).abs() < 1.0).count();
        let most = readings.iter().map(agree).max().unwrap_or(0);
        let followed = readings.iter().find(|reading| agree(reading) == most).copied();
        self.followed = followed.map_or(0.0, |reading| reading.offset / DAY);
        self.boot.update(self.at, &readings, followed.map(|reading| reading.source));
        self.obey();
        self.at.monotonic = self.at.monotonic + ROUND_TAKES;
        self.at.clock.seconds += ROUND;
        self.elapsed += ROUND;
    }

    /// The time that was verified, in days: what the clock says once it follows its source.
    fn verified(&self) -> Option<f64> {
        (self.boot.state() == State::Verified).then(|| self.clock() + self.followed)
    }
}

/// What comes of a boot with honest servers alone, and how many rounds of exchanges it took.
fn honest(scenario: &Scenario, policy: Policy) -> (Option<f64>, usize) {
    let mut machine = scenario.start(policy);
    let honest = |(operator, &issued)| Answering { operator, issued, says: TRUE };
    let answering: Vec<Answering> = scenario.issued.iter().enumerate().map(honest).collect();
    let mut outcome = (None, ROUNDS);
    for round in 1..=ROUNDS {
        machine.round(&answering);
        if let (Some(at), (None, _)) = (machine.verified(), outcome) {
            outcome = (Some(at), round);
        }
    }
    assert_eq!(machine.alarms, [], "{scenario:?}");
    outcome
}

/// What comes of it with an attacker who blocks some or all of the honest servers, and says in each
/// round what most of the certificates allow whose keys he has, or some time near that.
fn attacked(scenario: &Scenario, policy: Policy) -> Option<f64> {
    let mut machine = scenario.start(policy);
    let stolen: Vec<(usize, f64)> =
        scenario.stolen.iter().enumerate().filter_map(|(operator, issued)| Some((operator, (*issued)?))).collect();
    for round in 0..ROUNDS {
        #[expect(clippy::cast_precision_loss, reason = "some billions of seconds")]
        let (earliest, now) = (machine.boot.earliest() as f64 / DAY, machine.clock());
        let in_force = |at: f64| stolen.iter().filter(|(_, issued)| (*issued..=issued + LIFE).contains(&at)).count();
        let lies = stolen.iter().map(|(_, issued)| earliest.max(*issued) + 0.5).chain([now]);
        let lie = lies.max_by_key(|at| in_force(*at))? + if round % 2 == 1 { scenario.boldness } else { 0.0 };
        let mut answering: Vec<Answering> = Vec::new();
        for &(operator, issued) in &stolen {
            answering.push(Answering { operator, issued, says: lie });
        }
        for (operator, (&issued, open)) in scenario.issued.iter().zip(&scenario.let_through).enumerate() {
            if *open && scenario.stolen.get(operator).is_some_and(Option::is_none) {
                answering.push(Answering { operator, issued, says: TRUE });
            }
        }
        machine.round(&answering);
        if let Some(at) = machine.verified() {
            return Some(at);
        }
    }
    None
}

#[derive(Default)]
struct Tally {
    boots: u64,
    synchronized: u64,
    rounds: Vec<u64>,
    without_clock: u64,
    without_clock_synchronized: u64,
    minorities: u64,
    wrong: u64,
    wrong_by_minority: u64,
    good_clocks: u64,
    wrong_with_good_clock_and_one_key: u64,
}

fn tally(policy: Policy, boots: u64, seed: u64) -> Tally {
    let mut random = Random::new(seed);
    let mut tally = Tally { rounds: vec![0; ROUNDS + 1], ..Tally::default() };
    for _ in 0..boots {
        let scenario = Scenario::new(&mut random);
        let is_wrong = |at: f64| (at - TRUE).abs() > WRONG;
        if scenario.issued.len() > 1 {
            let (outcome, rounds) = honest(&scenario, policy);
            assert!(!outcome.is_some_and(is_wrong), "{scenario:?}");
            tally.boots += 1;
            tally.synchronized += u64::from(outcome.is_some());
            tally.rounds[rounds] += u64::from(outcome.is_some());
            if scenario.hardware == Hardware::None {
                tally.without_clock += 1;
                tally.without_clock_synchronized += u64::from(outcome.is_some());
            }
        }
        let wrong = attacked(&scenario, policy).is_some_and(is_wrong);
        tally.wrong += u64::from(wrong);
        tally.minorities += u64::from(scenario.is_minority());
        tally.wrong_by_minority += u64::from(wrong && scenario.is_minority());
        if scenario.hardware == Hardware::Good {
            tally.good_clocks += 1;
            let one = scenario.stolen.iter().flatten().count() == 1;
            tally.wrong_with_good_clock_and_one_key += u64::from(wrong && one && scenario.issued.len() > 1);
        }
    }
    tally
}

#[expect(clippy::cast_precision_loss, reason = "some millions")]
fn share(part: u64, all: u64) -> f64 {
    part as f64 / all as f64
}

#[test]
fn no_minority_with_expired_keys_sets_any_of_a_million_clocks() {
    let halves: Vec<Tally> = std::thread::scope(|scope| {
        let halves = [1, 2].map(|seed| scope.spawn(move || tally(Policy::Quorum, BOOTS / 2, seed)));
        halves.into_iter().map(|half| half.join().unwrap()).collect()
    });
    for (half, seed) in halves.iter().zip(1..) {
        println!(
            "seed {seed}: {:.2} % of honest boots verified, {:.2} % of those without a clock; wrong {:.2} % by all attackers",
            100.0 * share(half.synchronized, half.boots),
            100.0 * share(half.without_clock_synchronized, half.without_clock),
            100.0 * share(half.wrong, BOOTS / 2),
        );
        assert!(half.minorities > BOOTS / 10 && half.good_clocks > BOOTS / 10);
        assert_eq!(half.wrong_by_minority, 0, "seed {seed}");
        assert_eq!(half.wrong_with_good_clock_and_one_key, 0, "seed {seed}");
        assert!(share(half.without_clock_synchronized, half.without_clock) >= 0.99, "seed {seed}");
        assert!(share(half.synchronized, half.boots) >= 0.98, "seed {seed}");
        // Two rounds of exchanges at four seconds each.
        let quick: u64 = half.rounds.iter().take(3).sum();
        assert!(share(quick, half.synchronized) >= 0.5, "{:?}", half.rounds);
    }
}

#[test]
fn strict_is_as_safe_and_starts_where_operators_have_signed_what_has_passed() {
    let tally = tally(Policy::Strict, 50_000, 3);
    assert_eq!(tally.wrong_by_minority, 0);
    let (all, without_clock) =
        (share(tally.synchronized, tally.boots), share(tally.without_clock_synchronized, tally.without_clock));
    println!("{:.1} % of honest boots verified, {:.1} % of those without a clock", 100.0 * all, 100.0 * without_clock);
    // By the second latest date that was signed, all certificates are valid but the latest; a clock that is ahead of them is
    // judged by as it is.
    assert!((0.8..0.95).contains(&all) && without_clock >= 0.99, "{all} {without_clock}");
}
