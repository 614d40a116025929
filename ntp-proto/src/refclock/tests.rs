//! Reference clocks in virtual time: an engine, a clock that it steers, and devices that say what true time is.

use core::time::Duration;

use super::*;
use crate::{
    discipline::{CORRECTION_TIME_RATIO, LeapMode, LeapTable, MAX_UPDATE_SKEW, StepLimit},
    engine::{Engine, EngineConfig, KEY_AGE, Now, Output, SourceState},
    ids::SourceId,
    select::{SelectConfig, Verdict},
    steer::{Applied, Steer},
    time::{Monotonic, Rate, UnixTime},
};

/// 2026-10-03, a day without a leap second.
const ERA: UnixTime = UnixTime { seconds: 1_791_000_000, nanos: 0 };

/// What a device says at a second of true time, in seconds ahead of that.
type Says<'a> = &'a mut dyn FnMut(&mut World, u32);

/// An engine with a clock that is wrong.
struct World {
    engine: Engine,
    /// True time since the start.
    seconds: f64,
    /// How far the clock is ahead of it.
    wrong: f64,
    /// How fast the clock's oscillator is, and what it is made to run at.
    oscillator: f64,
    applied: f64,
    seed: u32,
    lost: usize,
}

impl World {
    fn new(wrong: f64, ppm: f64) -> Self {
        let config = EngineConfig {
            select: SelectConfig::default(),
            step_threshold: 0.1,
            step_limit: StepLimit::Updates(3),
            max_slew: Rate::from_ppm(80_000.0),
            max_frequency: Rate::from_ppm(500.0),
            max_update_skew: MAX_UPDATE_SKEW,
            change_limit: None,
            notable_offset: 1.0,
            leap_mode: LeapMode::System,
            correction_time_ratio: CORRECTION_TIME_RATIO,
            applied: Rate::ZERO,
            saved_frequency: None,
            precision: -24,
            era: ERA,
            key_age: KEY_AGE,
            seed: [1; 32],
        };
        let now = Now { monotonic: Monotonic::default(), clock: truth(wrong) };
        let engine = Engine::new(config, now);
        Self { engine, seconds: 0.0, wrong, oscillator: ppm * 1e-6, applied: 0.0, seed: 1, lost: 0 }
    }

    fn add(&mut self, config: &RefclockConfig) -> SourceId {
        self.engine.add_refclock(config, self.now().monotonic + config.poll.to_duration()).unwrap()
    }

    fn now(&self) -> Now {
        let monotonic = Monotonic::default() + Duration::from_secs_f64(self.seconds);
        Now { monotonic, clock: truth(self.seconds + self.wrong) }
    }

    fn drain(&mut self) -> Option<Monotonic> {
        loop {
            let clock = self.now().clock;
            match self.engine.poll_output() {
                Output::Steer(command) => {
                    match command {
                        Steer::Frequency(rate) => self.applied = rate.get(),
                        Steer::Step(by) => self.wrong += by.to_seconds(),
                        Steer::Status(_) => {}
                    }
                    self.engine.handle_steered(&Applied { command, at: clock });
                }
                Output::Lost(..) => self.lost += 1,
                Output::Timeout(at, _) => return at,
                Output::Transmit(..) | Output::NeedKeys(..) | Output::Notice(_) => {}
            }
        }
    }

    /// Goes on to a true time, and does all that is due meanwhile.
    fn go_to(&mut self, seconds: f64) {
        while let Some(at) = self.drain() {
            #[expect(clippy::cast_precision_loss, reason = "a few hours of nanoseconds")]
            let due = (at.to_nanos() as f64 / 1e9).max(self.seconds);
            let next = due.min(seconds);
            self.wrong += (next - self.seconds) * ((1.0 + self.oscillator) * (1.0 + self.applied) - 1.0);
            self.seconds = next;
            if due > seconds {
                break;
            }
            // A timer is never early.
            self.seconds += 1e-9;
            self.engine.handle_timeout(self.now());
        }
        self.drain();
    }

    /// Lets devices speak at every second until `end`.
    fn run(&mut self, end: u32, says: Says<'_>) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hours")]
        let start = self.seconds as u32 + 1;
        for second in start..=end {
            self.go_to(f64::from(second));
            says(self, second);
        }
    }

    /// A reading taken now that is wrong by `error`, with an error bound of `bound`.
    fn time(&mut self, id: SourceId, error: f64, bound: f64) {
        let now = self.now();
        let reference = truth(self.seconds + error);
        let reading = Reading { at: now.clock, reference, is_pulse: false, error: bound, leap: Leap::None };
        self.engine.handle_reading(now, id, &reading);
    }

    /// A pulse now, as if a second began `late` seconds ago.
    fn pulse(&mut self, id: SourceId, late: f64) {
        let now = self.now();
        let at = now.clock;
        let reference = truth(late - late.floor());
        let reading = Reading { at, reference, is_pulse: true, error: 0.0, leap: Leap::None };
        self.engine.handle_reading(now, id, &reading);
    }

    /// Deterministic noise in -1..1.
    fn noise(&mut self) -> f64 {
        self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(self.seed >> 8) / f64::from(1 << 23) - 1.0
    }

    fn refused(&self, id: SourceId, refusal: Refusal) -> u64 {
        self.engine.source(self.now(), id).unwrap().source.refusals().get(refusal)
    }

    fn verdict(&self, id: SourceId) -> Verdict {
        self.engine.source(self.now(), id).unwrap().verdict
    }
}

fn truth(seconds: f64) -> NtpTimestamp {
    NtpTimestamp::from_unix(ERA) + NtpDuration::from_seconds(seconds)
}

fn named(name: &[u8; 4]) -> RefclockConfig {
    RefclockConfig { reference_id: ReferenceId(*name), poll: poll(4), ..RefclockConfig::default() }
}

fn poll(log2: i8) -> PollInterval {
    PollInterval::new(log2).unwrap()
}

fn pulses(lock: Option<&[u8; 4]>) -> RefclockConfig {
    RefclockConfig { pulses: true, lock: lock.map(|name| ReferenceId(*name)), ..named(b"PPS0") }
}

fn unselected(name: &[u8; 4]) -> RefclockConfig {
    RefclockConfig { options: SelectOptions { noselect: true, ..SelectOptions::default() }, ..named(name) }
}

#[test]
fn a_time_that_is_read_sets_the_clock_and_its_rate() {
    let mut world = World::new(-3.2, 30.0);
    let clock = world.add(&named(b"SHM0"));
    world.run(1_200, &mut |world, _| {
        let error = 1e-5 * world.noise();
        world.time(clock, error, 1e-6);
    });
    assert!(world.wrong.abs() < 1e-5, "{}", world.wrong);
    let tracking = world.engine.tracking(world.now());
    assert!((tracking.frequency.to_ppm() + 30.0).abs() < 0.1, "{tracking:?}");
    assert_eq!((tracking.status.stratum, tracking.status.reference_id), (1, ReferenceId(*b"SHM0")));
    assert!(tracking.synchronized && world.verdict(clock) == Verdict::Selected);
    let bound = tracking.root_dispersion.to_seconds() + 0.5 * tracking.root_delay.to_seconds();
    assert!(world.wrong.abs() <= bound && bound < 1e-3, "{} {bound}", world.wrong);
}

#[test]
fn a_pulse_takes_its_second_from_the_clock_that_it_is_locked_to() {
    let mut world = World::new(-0.7, -40.0);
    let (serial, pps) = (world.add(&unselected(b"NMEA")), world.add(&pulses(Some(b"NMEA"))));
    world.run(900, &mut |world, _| {
        world.pulse(pps, 2e-7);
        // What comes over the line says which second it was, and not well.
        let error = 0.08 + 0.05 * world.noise();
        world.time(serial, error, 0.0);
    });
    assert!(world.wrong.abs() < 2e-6, "{}", world.wrong);
    assert_eq!((world.verdict(pps), world.verdict(serial)), (Verdict::Selected, Verdict::NotSelectable));
    assert_eq!(world.refused(pps, Refusal::Unnumbered), 1, "the first came before anything was known");
}

#[test]
fn a_pulse_that_nothing_numbers_moves_nothing() {
    let mut world = World::new(0.3, 0.0);
    let pps = world.add(&pulses(None));
    world.run(200, &mut |world, _| world.pulse(pps, 0.0));
    assert!((world.wrong - 0.3).abs() < 1e-9, "{}", world.wrong);
    assert_eq!(world.refused(pps, Refusal::Unnumbered), 200);
    assert_eq!(world.verdict(pps), Verdict::Unreachable);
    assert_eq!(world.lost, 0, "there is no other device to be found");
}

#[test]
fn a_clock_that_is_right_numbers_pulses_and_goes_on_with_them_alone() {
    let mut world = World::new(-0.25, 20.0);
    let coarse = world.add(&RefclockConfig { delay: 0.02, ..named(b"RAD\0") });
    let options = SelectOptions { prefer: true, ..SelectOptions::default() };
    let pps = world.add(&RefclockConfig { options, ..pulses(None) });
    world.run(1_800, &mut |world, second| {
        world.pulse(pps, 1e-7);
        if second < 900 {
            let error = 5e-3 * world.noise();
            world.time(coarse, error, 5e-3);
        }
    });
    assert!(world.wrong.abs() < 2e-6, "{}", world.wrong);
    assert_eq!((world.verdict(pps), world.verdict(coarse)), (Verdict::Selected, Verdict::Unreachable));
}

#[test]
fn pulses_that_are_none_weigh_nothing() {
    let mut world = World::new(0.0, 10.0);
    let (serial, pps) = (world.add(&unselected(b"NMEA")), world.add(&pulses(Some(b"NMEA"))));
    world.run(1_200, &mut |world, second| {
        // One in six comes from somewhere else.
        let is_false = second % 6 == 0;
        let late = if is_false { 0.3 * world.noise().abs() } else { 0.0 };
        world.pulse(pps, late);
        world.time(serial, 0.0, 0.0);
    });
    assert!(world.wrong.abs() < 2e-6, "{}", world.wrong);
}

#[test]
fn a_pulse_between_two_seconds_begins_none() {
    let mut world = World::new(0.0, 0.0);
    let (serial, pps) = (world.add(&unselected(b"NMEA")), world.add(&pulses(Some(b"NMEA"))));
    world.run(100, &mut |world, _| {
        world.time(serial, 0.45, 0.0);
        world.seconds += 1e-3;
        world.pulse(pps, 1e-3);
    });
    assert_eq!(world.refused(pps, Refusal::Ambiguous), 100);
    // The administrator knows what the line costs.
    let mut world = World::new(0.0, 0.0);
    let serial = world.add(&RefclockConfig { correction: -0.45, ..unselected(b"NMEA") });
    let pps = world.add(&pulses(Some(b"NMEA")));
    world.run(100, &mut |world, _| {
        world.time(serial, 0.45, 0.0);
        world.seconds += 1e-3;
        world.pulse(pps, 1e-3);
    });
    assert_eq!(world.refused(pps, Refusal::Ambiguous), 0);
}

#[test]
fn a_lock_that_falls_silent_numbers_no_more() {
    let mut world = World::new(0.0, 0.0);
    let (serial, pps) = (world.add(&unselected(b"NMEA")), world.add(&pulses(Some(b"NMEA"))));
    world.run(100, &mut |world, second| {
        if second <= 50 {
            world.time(serial, 0.0, 0.0);
        }
        world.seconds += 1e-3;
        world.pulse(pps, 1e-3);
    });
    assert_eq!(world.refused(pps, Refusal::Unnumbered), 100 - 51, "it may be two pulses old, and no more");
}

#[test]
fn ten_pulses_in_a_second_are_told_apart() {
    let mut world = World::new(0.02, 0.0);
    let serial = world.add(&unselected(b"NMEA"));
    let pps = world.add(&RefclockConfig { rate: 10.0, max_lock_age: 20.0, ..pulses(Some(b"NMEA")) });
    world.run(400, &mut |world, second| {
        world.time(serial, 0.0, 0.0);
        for tenth in 1..=9 {
            world.go_to(f64::from(second) + f64::from(tenth) * 0.1);
            world.pulse(pps, 0.0);
        }
    });
    assert!(world.wrong.abs() < 2e-6, "{}", world.wrong);
}

#[test]
fn readings_that_are_old_or_repeated_or_from_the_future_do_not_count() {
    let mut world = World::new(0.0, 0.0);
    let clock = world.add(&named(b"SHM0"));
    world.run(20, &mut |world, _| {
        world.time(clock, 0.0, 0.0);
        // The same segment is read again.
        world.time(clock, 0.0, 0.0);
        for ago in [30.0, -2.0] {
            let now = world.now();
            let at = now.clock - NtpDuration::from_seconds(ago);
            let reading = Reading { at, reference: at, is_pulse: false, error: 0.0, leap: Leap::None };
            world.engine.handle_reading(now, clock, &reading);
        }
    });
    assert_eq!(world.refused(clock, Refusal::Stale), 3 * 20);
}

#[test]
fn a_device_without_time_says_so_and_is_not_used() {
    let mut world = World::new(0.0, 0.0);
    let clock = world.add(&named(b"SHM0"));
    world.run(100, &mut |world, _| {
        let now = world.now();
        let reading =
            Reading { at: now.clock, reference: now.clock, is_pulse: false, error: 0.0, leap: Leap::Unsynchronized };
        world.engine.handle_reading(now, clock, &reading);
    });
    assert_eq!(world.refused(clock, Refusal::Unsynchronized), 100);
    assert_eq!(world.verdict(clock), Verdict::Unsynchronized);
    world.run(200, &mut |world, _| world.time(clock, 0.0, 0.0));
    assert_eq!(world.verdict(clock), Verdict::Selected);
}

#[test]
fn a_reading_that_was_held_up_weighs_little() {
    for (poll_log2, bound) in [(4, 1e-7), (0, 1e-6)] {
        let mut world = World::new(0.0, 5.0);
        let clock = world.add(&RefclockConfig { delay: 1e-5, poll: poll(poll_log2), ..named(b"PHC0") });
        world.run(600, &mut |world, second| {
            // A machine that is paused while it reads: late by half of what that took.
            let spike = if second % 9 == 4 { 1e-3 } else { 0.0 };
            let error = spike / 2.0 + 5e-8 * world.noise();
            world.time(clock, error, 1e-7 + spike / 2.0);
        });
        assert!(world.wrong.abs() < bound, "{poll_log2}: {}", world.wrong);
    }
}

#[test]
fn samples_that_spread_too_far_are_refused() {
    let mut world = World::new(0.0, 0.0);
    let clock = world.add(&RefclockConfig { max_dispersion: 1e-4, ..named(b"SHM0") });
    world.run(200, &mut |world, _| {
        let error = 0.1 * world.noise();
        world.time(clock, error, 0.0);
    });
    assert!(world.refused(clock, Refusal::Dispersion) >= 11);
    assert!(world.wrong.abs() < 1e-12);
}

#[test]
fn tai_needs_a_list_of_leap_seconds() {
    let mut world = World::new(0.0, 0.0);
    let clock = world.add(&RefclockConfig { tai: true, ..named(b"PHC0") });
    world.run(100, &mut |world, _| world.time(clock, 37.0, 0.0));
    assert_eq!(world.refused(clock, Refusal::NoTaiOffset), 100);
    let list = LeapTable::new(vec![(1_483_228_800, 37)], UnixTime { seconds: 4_000_000_000, nanos: 0 }).unwrap();
    let now = world.now();
    world.engine.set_leap_table(now, Some(list));
    world.run(300, &mut |world, _| world.time(clock, 37.0, 0.0));
    assert!(world.wrong.abs() < 1e-6 && world.verdict(clock) == Verdict::Selected, "{}", world.wrong);
}

#[test]
fn silence_is_noticed_and_a_jump_of_the_clock_survived() {
    let mut world = World::new(0.0, 10.0);
    let clock = world.add(&named(b"SHM0"));
    let mut speak = |world: &mut World, _| world.time(clock, 0.0, 1e-7);
    world.run(400, &mut speak);
    let jump = NtpDuration::from_seconds(5.0);
    let before = world.now().clock;
    world.wrong += 5.0;
    let now = world.now();
    world.engine.handle_jump(now, before, jump);
    world.run(800, &mut speak);
    assert!(world.wrong.abs() < 1e-4, "{}", world.wrong);
    world.run(1_000, &mut |_, _| {});
    assert_eq!(world.verdict(clock), Verdict::Unreachable);
    let now = world.now();
    let report = world.engine.source(now, clock).unwrap();
    assert_eq!((report.source.reach().bits(), report.state), (0, SourceState::Online));
    world.run(1_100, &mut |world, _| world.time(clock, 0.0, 1e-7));
    assert_eq!(world.verdict(clock), Verdict::Selected);
    assert_eq!(world.lost, 0);
}

#[test]
fn one_reference_clock_does_not_outvote_others() {
    let mut world = World::new(0.0, 0.0);
    let liar = world.add(&named(b"GPS\0"));
    let others = [*b"SHM1", *b"SHM2"].map(|name| world.add(&named(&name)));
    world.run(200, &mut |world, _| {
        // Its count of weeks has rolled over.
        world.time(liar, -1024.0 * 7.0 * 86_400.0, 1e-7);
        others.iter().for_each(|other| world.time(*other, 0.0, 1e-7));
    });
    assert_eq!(world.verdict(liar), Verdict::Falseticker);
    assert!(world.wrong.abs() < 1e-6);
}
