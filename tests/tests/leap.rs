//! Leap seconds in the virtual world: what is spoken of, how it is announced, and what is done at it, each with each.

use std::net::{IpAddr, Ipv4Addr};

use ntp_proto::{
    discipline::{LeapMode, LeapTable, StepLimit},
    engine::Engine,
    ids::{Leap, StampKind},
    select::SelectOptions,
    server::{Access, AccessTable, Prefix, Responder, RxMeta, Verdict},
    time::{Monotonic, NtpTimestamp, UnixTime},
};
use ntpd_tests::sim::{ClientSpec, Path, ServerSpec, SourceSpec, World};

/// The end of 2026, in Unix seconds.
const NEW_YEAR: i64 = 1_798_761_600;
const DAY: i64 = 86_400;
const HOUR: f64 = 3_600.0;
/// When midnight is, in seconds after the beginning of the world.
const MIDNIGHT: f64 = 2.0 * HOUR;

const SPOKEN: [Leap; 3] = [Leap::Insert, Leap::Delete, Leap::None];
const MODES: [LeapMode; 4] = [LeapMode::System, LeapMode::Step, LeapMode::Slew, LeapMode::Ignore];

/// How a leap second is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announced {
    /// In a list that has not expired. Sources say nothing.
    ByFile,
    /// By two sources of three.
    ByMajority,
    /// By one of three, and it is not true.
    ByOneLiar,
    /// By two of three, and it is not true: the third is trusted, and only confirms their time.
    ByPlainLiars,
    /// By all, a day early.
    OnAWrongDate,
}

const ANNOUNCED: [Announced; 5] =
    [Announced::ByFile, Announced::ByMajority, Announced::ByOneLiar, Announced::ByPlainLiars, Announced::OnAWrongDate];

#[derive(Clone, Copy, Debug)]
struct Case {
    spoken: Leap,
    mode: LeapMode,
    smears: bool,
    announced: Announced,
}

/// What must come of it.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// What the kernel is told before midnight.
    kernel: Leap,
    /// What clients are told before midnight.
    told: Leap,
    /// By how much what they are served is ahead of UTC an hour before and an hour after midnight, in milliseconds.
    served_ms: [i64; 2],
    /// By how much the clock is ahead of UTC two seconds after midnight, in whole seconds.
    clock: i64,
    /// The same of the time that is believed in.
    believed: i64,
    steps: u32,
}

/// What UTC does at midnight, in seconds by which it goes on.
fn utc_jump(case: &Case) -> i64 {
    let is_true = matches!(case.announced, Announced::ByFile | Announced::ByMajority);
    match case.spoken {
        Leap::Insert if is_true => -1,
        Leap::Delete if is_true => 1,
        Leap::Insert | Leap::Delete | Leap::None | Leap::Unsynchronized => 0,
    }
}

/// Derived from the documentation alone: a list counts in any case, a majority for insertions at the end of June or
/// December; who ignores leap seconds announces none; a smear goes from noon to noon, by a list.
fn expected(case: &Case) -> Outcome {
    let is_known = match case.announced {
        Announced::ByFile => case.spoken != Leap::None,
        Announced::ByMajority => case.spoken == Leap::Insert,
        Announced::ByOneLiar | Announced::ByPlainLiars | Announced::OnAWrongDate => false,
    };
    let is_made = is_known && case.mode != LeapMode::Ignore;
    let leap = if is_made { case.spoken } else { Leap::None };
    let jump = utc_jump(case);
    let is_smeared = is_made && case.smears && case.announced == Announced::ByFile;
    // What nobody knows of is measured within an hour.
    let smeared = if jump < 0 { [-11.0 / 24.0, 11.0 / 24.0] } else { [11.0 / 24.0, -11.0 / 24.0] };
    #[expect(clippy::cast_possible_truncation, reason = "half a second at most")]
    let served_ms = if is_smeared { smeared.map(|of_second: f64| (of_second * 1e3).round() as i64) } else { [0, 0] };
    Outcome {
        kernel: if case.mode == LeapMode::System { leap } else { Leap::None },
        told: if is_smeared { Leap::None } else { leap },
        served_ms,
        // A clock that does not go along with UTC is wrong by what UTC went on, less.
        clock: if is_made && matches!(case.mode, LeapMode::System | LeapMode::Step) { 0 } else { -jump },
        believed: if is_made { 0 } else { -jump },
        steps: u32::from(is_made && case.mode == LeapMode::Step),
    }
}

fn seconds(unix: i64) -> UnixTime {
    UnixTime { seconds: unix, nanos: 0 }
}

fn table(spoken: Leap) -> LeapTable {
    let mut steps = vec![(NEW_YEAR - 184 * DAY, 37)];
    match spoken {
        Leap::Insert => steps.push((NEW_YEAR, 38)),
        Leap::Delete => steps.push((NEW_YEAR, 36)),
        Leap::None | Leap::Unsynchronized => {}
    }
    LeapTable::new(steps, seconds(NEW_YEAR + 100 * DAY)).expect("a list that can be")
}

/// Leap indicator of a reply to a client of this machine, and by how much its time is ahead of what the world's clock would
/// say that the machine is asked at, in seconds.
fn reply(engine: &Engine, smears: bool, now: ntp_proto::engine::Now, utc: NtpTimestamp) -> (Leap, f64) {
    let mut access = AccessTable::new();
    access.add(Prefix::ALL_V4, Access::Allow).expect("an empty table has room");
    let mut responder = Responder::new(access, [7; 32]);
    let mut status = engine.status();
    status.smear = if smears { engine.smear(now) } else { None };
    let mut request = [0_u8; 48];
    request[0] = 0x23;
    request[40] = 1;
    let mut out = [0; 48];
    let meta = RxMeta {
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        peer_port: 40_000,
        received: now.clock,
        kind: StampKind::Kernel,
        monotonic: Monotonic::default(),
    };
    let verdict = responder.respond(&mut request, &meta, &status, || now.clock, &mut out);
    assert!(matches!(verdict, Verdict::Reply { .. }), "{verdict:?}");
    let leap = [Leap::None, Leap::Insert, Leap::Delete, Leap::Unsynchronized][usize::from(out[0] >> 6)];
    let sent = NtpTimestamp::from_bits(u64::from_be_bytes(out[40..48].try_into().expect("eight octets")));
    (leap, sent.since(utc).to_seconds())
}

struct Run {
    world: World,
    sources: Vec<SourceSpec>,
    client: usize,
    start: i64,
    smears: bool,
}

impl Run {
    fn new(case: &Case) -> Self {
        let start = match case.announced {
            Announced::OnAWrongDate => NEW_YEAR - DAY - 2 * 3_600,
            Announced::ByFile | Announced::ByMajority | Announced::ByOneLiar | Announced::ByPlainLiars => {
                NEW_YEAR - 2 * 3_600
            }
        };
        Self::starting_at(case, start)
    }

    /// In a world that begins then, in Unix seconds.
    fn starting_at(case: &Case, start: i64) -> Self {
        let mut world = World::starting_at(1, seconds(start));
        let announcing = match case.announced {
            Announced::ByFile => 0,
            Announced::ByOneLiar => 1,
            Announced::ByMajority | Announced::ByPlainLiars => 2,
            Announced::OnAWrongDate => 3,
        };
        let source = |world: &mut World, index: usize| {
            let leap = if index < announcing { case.spoken } else { Leap::None };
            let server = world.add_server(ServerSpec { leap, ..ServerSpec::default() });
            let trust = case.announced == Announced::ByPlainLiars && index >= announcing;
            let options = SelectOptions { trust, ..SelectOptions::default() };
            SourceSpec { polls: (4, 6), options, ..SourceSpec::new(server, Path::lan()) }
        };
        let sources: Vec<SourceSpec> = (0..3).map(|index| source(&mut world, index)).collect();
        let leap_table = (case.announced == Announced::ByFile).then(|| table(case.spoken));
        let spec = ClientSpec { leap_table, leap_mode: case.mode, ..ClientSpec::new(sources.clone()) };
        let client = world.add_client(ClientSpec { steps: StepLimit::Updates(3), ..spec });
        Self { world, sources, client, start, smears: case.smears }
    }

    /// UTC at this many seconds after the beginning, where it has gone on by `jump`.
    fn utc(&self, at: f64, jump: i64) -> NtpTimestamp {
        NtpTimestamp::from_unix(seconds(self.start + jump)) + ntp_proto::time::NtpDuration::from_seconds(at)
    }

    /// Goes on to then; what the clock and the time believed in are ahead of UTC, in seconds.
    fn errors(&mut self, at: f64, jump: i64) -> (f64, f64) {
        self.world.run_until(at);
        let utc = self.utc(at, jump);
        let (engine, now) = self.world.engine(self.client);
        (now.clock.since(utc).to_seconds(), engine.map().apply(now.clock).since(utc).to_seconds())
    }

    fn reply(&mut self, at: f64, jump: i64) -> (Leap, f64) {
        self.world.run_until(at);
        let (engine, now) = self.world.engine(self.client);
        reply(engine, self.smears, now, self.utc(at, jump))
    }

    /// UTC goes on by `jump`, and the kernel with it where it was told.
    fn pass_midnight(&mut self, jump: i64) {
        self.pass_midnight_at(MIDNIGHT, jump);
    }

    fn pass_midnight_at(&mut self, midnight: f64, jump: i64) {
        // A deleted second is the one before midnight.
        self.world.run_until(if jump > 0 { midnight - 1.0 } else { midnight });
        for source in &self.sources {
            let server = self.world.server_mut(source.server);
            #[expect(clippy::cast_precision_loss, reason = "a second")]
            let error = jump as f64;
            (server.error, server.leap) = (error, Leap::None);
        }
        match self.world.kernel_status(self.client).expect("the kernel was told").leap {
            Leap::Insert => self.world.jump(self.client, -1.0, true),
            Leap::Delete => self.world.jump(self.client, 1.0, true),
            Leap::None | Leap::Unsynchronized => {}
        }
    }
}

/// Whole seconds, of an error that is to be one; a slew that is under way leaves a part of it.
fn whole(error: f64, case: &Case) -> i64 {
    let slack = if case.mode == LeapMode::Slew { 0.5 } else { 2e-3 };
    #[expect(clippy::cast_possible_truncation, reason = "a second")]
    let nearest = error.round() as i64;
    #[expect(clippy::cast_precision_loss, reason = "a second")]
    let rest = (error - nearest as f64).abs();
    assert!(rest < slack, "{error} in {case:?}");
    nearest
}

fn run(case: &Case) -> Outcome {
    let (mut run, jump) = (Run::new(case), utc_jump(case));
    let (told, before) = run.reply(MIDNIGHT - HOUR, 0);
    let kernel = run.world.kernel_status(run.client).expect("the kernel was told").leap;
    run.pass_midnight(jump);
    let (clock, believed) = run.errors(MIDNIGHT + 2.0, jump);
    let (clock, believed) = (whole(clock, case), whole(believed, &Case { mode: LeapMode::Step, ..*case }));
    let (after_told, after) = run.reply(MIDNIGHT + HOUR, jump);
    assert_eq!(after_told, Leap::None, "it is over: {case:?}");
    // However it is made, an hour later nothing is left of it.
    let left = run.errors(MIDNIGHT + HOUR, jump);
    assert!(left.0.abs() < 1e-3 && left.1.abs() < 1e-3, "{left:?} in {case:?}");
    #[expect(clippy::cast_possible_truncation, reason = "half a second")]
    let served_ms = [before, after].map(|ahead| (ahead * 1e3).round() as i64);
    Outcome { kernel, told, served_ms, clock, believed, steps: run.world.steps(run.client) }
}

#[test]
fn each_leap_second_is_made_as_it_is_to_be_and_no_other() {
    let mut cases = 0;
    for spoken in SPOKEN {
        for mode in MODES {
            for smears in [false, true] {
                for announced in ANNOUNCED {
                    let case = Case { spoken, mode, smears, announced };
                    assert_eq!(run(&case), expected(&case), "{case:?}");
                    cases += 1;
                }
            }
        }
    }
    assert_eq!(cases, 120);
}

/// A client that is asked every ten minutes hears of no leap second, and of no jump: from noon to noon the time that it is told
/// goes on evenly, through a leap second that the server's own clock makes.
#[test]
fn who_is_served_smeared_time_notices_no_leap_second() {
    const HALF_DAY: f64 = 43_200.0;
    for (spoken, mode) in [
        (Leap::Insert, LeapMode::System),
        (Leap::Insert, LeapMode::Step),
        (Leap::Insert, LeapMode::Slew),
        (Leap::Delete, LeapMode::System),
        (Leap::Delete, LeapMode::Step),
    ] {
        let case = Case { spoken, mode, smears: true, announced: Announced::ByFile };
        let jump = utc_jump(&case);
        let start = NEW_YEAR - 13 * 3_600;
        let mut run = Run::starting_at(&case, start);
        let midnight = 13.0 * HOUR;
        let mut heard: Vec<(f64, f64)> = Vec::new();
        // Never at midnight itself.
        let mut at = HOUR / 2.0 + 300.0;
        while at < midnight + HALF_DAY + HOUR {
            let is_over = at > midnight;
            if is_over && heard.last().is_some_and(|(last, _)| *last < midnight) {
                run.pass_midnight_at(midnight, jump);
            }
            // What the time is ahead of an even count of seconds, which UTC is not.
            let (leap, ahead) = run.reply(at, 0);
            assert_eq!(leap, Leap::None, "{case:?}");
            heard.push((at, ahead));
            at += 600.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "a second")]
        let jump = jump as f64;
        let (first, last) = (heard[0].1, heard[heard.len() - 1].1);
        assert!(first.abs() < 1e-3 && (last - jump).abs() < 1e-3, "{first} {last} {case:?}");
        for pair in heard.windows(2) {
            let rate = (pair[1].1 - pair[0].1) / (pair[1].0 - pair[0].0);
            // 11.6 ppm, and what the clock itself wanders.
            assert!(rate.abs() < 13e-6 && rate * jump > -1.5e-6, "{rate} at {} in {case:?}", pair[1].0);
        }
    }
}

#[test]
fn a_machine_that_sleeps_through_it_makes_none_of_its_own() {
    for mode in [LeapMode::Step, LeapMode::Slew] {
        let case = Case { spoken: Leap::Insert, mode, smears: false, announced: Announced::ByFile };
        let mut run = Run::new(&case);
        run.world.run_until(MIDNIGHT - HOUR);
        run.world.command(run.client, |engine, now| engine.handle_interruption(now));
        for source in &run.sources {
            run.world.server_mut(source.server).silent_from = MIDNIGHT - HOUR;
        }
        run.world.run_until(MIDNIGHT + HOUR);
        assert_eq!(run.world.steps(run.client), 0, "{mode:?}: nobody knows whether the clock is right");
        let (clock, _) = run.errors(MIDNIGHT + HOUR, -1);
        assert!((clock - 1.0).abs() < 0.1, "{clock}");
    }
}
