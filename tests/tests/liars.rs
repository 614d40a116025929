//! Servers that lie, in the virtual world: with fewer liars than half of the servers, whatever they do, the clock is never
//! stepped wrongly and stays where honest servers allow it to be.
//!
//! A single server has no one to contradict it: what it says is followed. Where honest servers fall silent and two liars are left
//! that agree, nobody can know either; one that is left of three or more is not followed.
//!
//! `NTPD_SEEDS=5` runs all combinations with so many seeds; one `NTPD_SEED=N` is replayed.

use std::{env, sync::Mutex, thread};

use ntp_proto::{discipline::StepLimit, engine::Notice, filter::Estimate, select::Verdict};
use ntpd_tests::sim::{ClientSpec, Lie, Path, ServerSpec, SourceSpec, World, run_seeds};

const HOUR: f64 = 3600.0;
/// When those begin that are honest at first.
const BEGIN: f64 = 0.5 * HOUR;
/// How long a run is.
const END: f64 = 4.0 * HOUR;
/// From when on the clock must be right, in seconds: first measurements take some.
const SETTLED: f64 = 120.0;
/// How fast those creep that do, s/s, and for how long they may unseen, in seconds: the longest poll interval.
const CREEP: f64 = 2e-6;
const UNSEEN: f64 = 1024.0;
/// Most that the clock may be beside honest servers' bounds: what it drifts until the next sample, in seconds.
const DRIFT: f64 = 1e-3;

/// Offsets that are stepped, in seconds. Honest servers do not differ by so much, though each way may be a few milliseconds longer
/// there than back.
const STEP: f64 = 0.01;

/// What liars do.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Behaviour {
    Constant,
    Ramp,
    Oscillation,
    OnceAlone,
    ShortDelay,
    Jumps,
    WrongFrequency,
    Creep,
    Nudge,
}

use Behaviour::{Constant, Creep, Jumps, Nudge, OnceAlone, Oscillation, Ramp, ShortDelay, WrongFrequency};

const BEHAVIOURS: [Behaviour; 9] =
    [Constant, Ramp, Oscillation, OnceAlone, ShortDelay, Jumps, WrongFrequency, Creep, Nudge];

/// The ways to servers.
#[derive(Clone, Copy, Debug)]
enum Network {
    Lan,
    Wan,
    Mixed,
}

const NETWORKS: [Network; 3] = [Network::Lan, Network::Wan, Network::Mixed];

impl Network {
    fn path(self, index: usize) -> Path {
        match (self, index % 2) {
            (Self::Lan, _) | (Self::Mixed, 0) => Path::lan(),
            (Self::Wan, _) | (Self::Mixed, _) => Path::wan(),
        }
    }
}

/// A client whose clock is right, and that may step it at any time: a lie that gets through is a step.
fn stepping(sources: Vec<SourceSpec>, step_threshold: f64) -> ClientSpec {
    ClientSpec { offset: 0.0, steps: StepLimit::Always, step_threshold, ..ClientSpec::new(sources) }
}

/// One run.
#[derive(Clone, Copy, Debug)]
struct Case {
    servers: usize,
    liars: usize,
    behaviour: Behaviour,
    network: Network,
    /// All liars say the same.
    together: bool,
    seed: u64,
}

/// Half of the shortest round trip.
fn half_delay(path: &Path) -> f64 {
    0.5 * (path.there + path.back)
}

impl Case {
    /// How far a liar goes.
    #[expect(clippy::cast_precision_loss, reason = "at most four liars")]
    fn share(&self, index: usize) -> f64 {
        if self.together { 1.0 } else { (1.0 + index as f64) * if index.is_multiple_of(2) { 1.0 } else { -1.0 } }
    }

    fn server(&self, index: usize) -> ServerSpec {
        let honest = ServerSpec::default();
        if index >= self.liars {
            return honest;
        }
        let share = self.share(index);
        match self.behaviour {
            Constant => ServerSpec { error: 0.5 * share, ..honest },
            Ramp => ServerSpec { lie: Lie::Ramp { from: BEGIN, rate: 50e-6 * share, most: 10.0 }, ..honest },
            Oscillation => ServerSpec { lie: Lie::Swing { amplitude: 0.2 * share, period: 1000.0 }, ..honest },
            OnceAlone => ServerSpec { lie: Lie::From { at: BEGIN, by: 0.3 * share }, ..honest },
            ShortDelay => ServerSpec { error: 0.03 * share, hides_delay: true, ..honest },
            Jumps => ServerSpec { lie: Lie::Anything { most: 1e6 * share.abs() }, ..honest },
            WrongFrequency => ServerSpec { drift: 100e-6 * share, ..honest },
            Creep => {
                let lie = Lie::Ramp { from: BEGIN, rate: CREEP * share, most: 1.0 };
                ServerSpec { lie, hides_delay: true, ..honest }
            }
            // Less than what those may be doubted by who were asked long before.
            Nudge => ServerSpec { lie: Lie::From { at: BEGIN, by: 0.004 * share }, hides_delay: true, ..honest },
        }
    }

    /// Whether it stays inside of what honest servers allow for long, and hides that.
    fn stays_inside(&self) -> bool {
        matches!(self.behaviour, Creep | Nudge)
    }

    /// Most that the clock may be wrong by: what the honest server that knows least allows, since those that creep may be
    /// anywhere inside of all honest bounds but one's; others are found out.
    fn allowed(&self) -> f64 {
        let worst = (self.liars..self.servers).map(|index| half_delay(&self.network.path(index))).fold(0.0, f64::max);
        // They are believed until the honest ones are asked.
        let crept =
            if self.behaviour == Creep { CREEP * UNSEEN * self.share(self.liars.saturating_sub(1)).abs() } else { 0.0 };
        // Queues make a round trip longer; what is measured is some deviations more than the least.
        1.5 * worst + crept + DRIFT
    }

    /// Who creeps may lead the clock as far as honest bounds go, and where ways differ so may all whom a far server does not contradict; when
    /// that is found out, what the clock is led astray by is no lie.
    fn step_threshold(&self) -> f64 {
        let is_led = self.stays_inside() || matches!(self.network, Network::Mixed);
        if is_led { STEP.max(2.0 * self.allowed()) } else { STEP }
    }

    fn run(&self) -> Result<(), String> {
        let mut world = World::new(self.seed);
        let add = |index| {
            let server = world.add_server(self.server(index));
            SourceSpec::new(server, self.network.path(index))
        };
        let sources: Vec<SourceSpec> = (0..self.servers).map(add).collect();
        let client = world.add_client(stepping(sources.clone(), self.step_threshold()));
        world.run_until(BEGIN);
        if self.behaviour == OnceAlone {
            // As many fall silent as leaves the liars a minority.
            for source in sources.iter().skip(2 * self.liars.max(1) + 1) {
                world.server_mut(source.server).silent_from = BEGIN;
            }
        }
        world.run_until(END);
        let (worst, steps) = (world.trace(client).max(SETTLED), world.steps(client));
        let (engine, now) = world.engine(client);
        let verdicts: Vec<Verdict> = engine.sources(now).map(|report| report.verdict).collect();
        let estimates: Vec<Option<Estimate>> = engine.sources(now).map(|report| report.estimate).collect();
        let notices = world.notices(client).iter();
        let stepped: Vec<String> =
            notices
                .filter_map(|(at, notice)| {
                    if let Notice::Step(by) = notice { Some(format!("{} at {at}", by.to_seconds())) } else { None }
                })
                .collect();
        let tell =
            |what: &str| Err(format!("{self:?}: {what}; worst {worst} s, {steps} steps {stepped:?}, {verdicts:?}"));
        if steps > 0 {
            return tell("stepped");
        }
        if worst > self.allowed() {
            return tell("too far off");
        }
        // Where ways differ, one who lies within what a far server allows may be followed for a while, and its bound with it.
        let is_alike = !matches!(self.network, Network::Mixed);
        let broken = world.trace(client).broken_bounds(0.0);
        if !self.stays_inside() && is_alike && broken > 0 {
            return tell(&format!("worse than claimed for {broken} s"));
        }
        // A source that has not been heard for long may be right as far as anybody can tell.
        let is_caught = |index: &usize| {
            let lie = world.server_mut(sources[*index].server).error_at(END).abs();
            estimates[*index].is_some_and(|estimate| estimate.distance() < 0.5 * lie)
        };
        let mut caught = (0..self.liars).filter(is_caught);
        if !self.stays_inside() && caught.any(|index| verdicts[index].is_used()) {
            return tell("a liar is used");
        }
        if !self.stays_inside() && !verdicts.iter().any(|verdict| verdict.is_used()) {
            return tell("nobody is followed");
        }
        Ok(())
    }
}

/// All cases, or with one seed those of one network each.
fn cases() -> Vec<Case> {
    let asked: Option<u64> = env::var("NTPD_SEEDS").ok().and_then(|count| count.parse().ok());
    let mut cases = Vec::new();
    run_seeds(asked.unwrap_or(1), |seed| {
        for servers in 1..=9_usize {
            for liars in 0..servers.div_ceil(2) {
                for (number, behaviour) in BEHAVIOURS.into_iter().enumerate() {
                    for together in [false, true] {
                        for (index, network) in NETWORKS.into_iter().enumerate() {
                            let chosen = (servers + liars + number) % NETWORKS.len() == index;
                            if asked.is_some() || chosen {
                                cases.push(Case { servers, liars, behaviour, network, together, seed });
                            }
                        }
                    }
                }
            }
        }
    });
    cases
}

#[test]
fn a_minority_of_liars_is_not_followed_whatever_they_do() {
    let (cases, wrong) = (Mutex::new(cases()), Mutex::new(Vec::new()));
    let next = || cases.lock().expect("no run panicked").pop();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = next() {
                    wrong.lock().expect("no run panicked").extend(case.run().err());
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no run panicked");
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// Servers on a local network, of which `liars` begin to lie later, and a client that asks them.
fn later(servers: usize, liars: usize, by: f64) -> (World, usize, Vec<SourceSpec>) {
    let mut world = World::new(1);
    let add = |index| {
        let lie = if index < liars { Lie::From { at: BEGIN, by } } else { Lie::None };
        SourceSpec::new(world.add_server(ServerSpec { lie, ..ServerSpec::default() }), Path::lan())
    };
    let sources: Vec<SourceSpec> = (0..servers).map(add).collect();
    let client = world.add_client(stepping(sources.clone(), STEP));
    (world, client, sources)
}

/// Asserts that nobody is followed at the end, that this was told, and that the clock only drifted.
fn assert_on_its_own(world: &World, client: usize) {
    let (engine, now) = world.engine(client);
    assert!(engine.tracking(now).selected.is_none());
    assert!(engine.sources(now).all(|report| !report.verdict.is_used()));
    let told =
        world.notices(client).iter().filter(|(at, notice)| *at >= BEGIN && *notice == Notice::NoSelection).count();
    assert!(told > 0, "{:?}", world.notices(client));
    assert_eq!(world.steps(client), 0);
    assert!(world.trace(client).max(SETTLED) < 3e-3, "{}", world.trace(client).max(SETTLED));
    assert_eq!(world.trace(client).broken_bounds(0.0), 0);
    let bound = |at: f64| world.trace(client).points.iter().find(|p| p.at >= at).expect("a point each second").bound;
    assert!(bound(END - 1.0) > bound(BEGIN) + 15e-6 * (END - BEGIN - 2500.0), "the bound grows");
}

#[test]
fn two_against_two_are_neither_followed_nor_kept() {
    for by in [0.05, 5.0] {
        let (mut world, client, _) = later(4, 2, by);
        world.run_until(END);
        assert_on_its_own(&world, client);
        let (engine, now) = world.engine(client);
        assert!(engine.sources(now).all(|report| report.verdict == Verdict::NoMajority));
    }
}

#[test]
fn a_liar_that_is_left_alone_is_not_followed() {
    for servers in 3..=9 {
        let (mut world, client, sources) = later(servers, 1, 0.4);
        world.run_until(BEGIN - 1.0);
        for source in &sources[1..] {
            world.server_mut(source.server).silent_from = BEGIN;
        }
        world.run_until(END);
        assert_on_its_own(&world, client);
    }
}

#[test]
fn a_single_server_is_followed_whatever_it_says() {
    let (mut world, client, _) = later(1, 1, 0.4);
    world.run_until(END);
    let error = world.trace(client).points.last().expect("a point each second").error;
    assert!((error - 0.4).abs() < 1e-3, "nobody contradicts it: {error}");
    assert_eq!(world.steps(client), 1);
}
