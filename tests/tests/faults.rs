//! Clocks that do not obey, that others set or steer, that sleep, and that are left alone for days, in the virtual world: nothing
//! is stepped against the rules, the claimed error bound holds where anybody can know it, and time is kept again after.

use std::time::Duration;

use clock_control::{FrequencyJump, Oscillator};
use ntp_proto::{discipline::StepLimit, engine::Notice, steer::Foreign, time::Rate};
use ntpd_tests::sim::{ClientSpec, KernelFaults, Path, Point, ServerSpec, SourceSpec, World, run_seeds};

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;
/// Fastest slew of the world's clients, s/s.
const FASTEST: f64 = 0.08;
/// From when on first measurements are made, in seconds.
const SETTLED: f64 = 60.0;
/// Seconds after which a clock that was disturbed is right again.
const RECOVERY: f64 = 0.5 * HOUR;
/// The same, if sources were asked at once.
const SOON: f64 = 30.0;

/// A client of three servers on a local network, whose clock is this much ahead.
fn kept(seed: u64, ahead: f64) -> (World, usize) {
    kept_by(seed, ClientSpec { offset: ahead, ..ClientSpec::new(Vec::new()) })
}

/// The same for a client like this one.
fn kept_by(seed: u64, spec: ClientSpec) -> (World, usize) {
    let mut world = World::new(seed);
    let add = |world: &mut World| SourceSpec::new(world.add_server(ServerSpec::default()), Path::lan());
    let sources = (0..3).map(|_| add(&mut world)).collect();
    let client = world.add_client(ClientSpec { sources, ..spec });
    (world, client)
}

fn points(world: &World, client: usize, from: f64, to: f64) -> Vec<Point> {
    world.trace(client).points.iter().copied().filter(|p| p.at >= from && p.at < to).collect()
}

/// Asserts that the clock is finite, and not worse than claimed, between two times.
fn assert_true(what: &str, points: &[Point]) {
    assert!(!points.is_empty() && points.iter().all(|p| p.error.is_finite()), "{what}");
    let wrong = points.iter().find(|p| p.is_broken());
    assert!(wrong.is_none(), "{what}: {wrong:?}");
}

/// Asserts that the clock is right from `from` on.
fn assert_right(what: &str, world: &World, client: usize, from: f64) {
    let worst = world.trace(client).max(from);
    assert!(worst < 1e-3, "{what}: {worst} s off");
}

#[test]
fn a_kernel_that_refuses_its_frequency_is_known_to_drift() {
    run_seeds(3, |seed| {
        let (mut world, client) = kept(seed, 0.01);
        world.set_faults(client, KernelFaults { no_frequency: true, ..KernelFaults::default() });
        world.run_until(4.0 * HOUR);
        let trace = world.trace(client);
        assert!((0.2..0.4).contains(&trace.max(0.0)), "20 ppm for 4 h, and 10 ms: {}", trace.max(0.0));
        assert_true("refused", &points(&world, client, 0.0, f64::INFINITY));
        let (engine, now) = world.engine(client);
        assert!((engine.tracking(now).frequency.to_ppm() + 20.0).abs() < 0.5, "its frequency is known nevertheless");
        world.set_faults(client, KernelFaults::default());
        world.run_until(8.0 * HOUR);
        assert_true("obeyed again", &points(&world, client, 0.0, f64::INFINITY));
        assert_right("obeyed again", &world, client, 5.0 * HOUR);
        assert_eq!(world.steps(client), 0);
    });
}

#[test]
fn a_kernel_that_refuses_steps_is_slewed() {
    run_seeds(3, |seed| {
        for steps in [StepLimit::Updates(3), StepLimit::Always] {
            let (mut world, client) = kept_by(seed, ClientSpec { offset: -30.0, steps, ..ClientSpec::new(Vec::new()) });
            world.set_faults(client, KernelFaults { no_steps: true, ..KernelFaults::default() });
            world.run_until(2.0 * HOUR);
            assert_true("refused", &points(&world, client, 0.0, f64::INFINITY));
            assert_eq!(world.steps(client), 0);
            assert_right("slewed", &world, client, HOUR);
            let said = |world: &World| {
                world.notices(client).iter().filter(|(_, notice)| matches!(notice, Notice::Step(_))).count()
            };
            assert_eq!(said(&world), 1, "{steps:?}: it is not said to be stepped again and again");
            // Obeyed again, it is stepped where that is still allowed.
            world.set_faults(client, KernelFaults::default());
            world.jump(client, 40.0, true);
            world.run_until(4.0 * HOUR);
            let stepped = u32::from(steps == StepLimit::Always);
            assert_eq!((world.steps(client), said(&world)), (stepped, 1 + stepped as usize), "{steps:?}");
            assert_right("obeyed again", &world, client, 3.0 * HOUR);
        }
    });
}

#[test]
fn a_kernel_that_does_less_than_asked_is_believed_to() {
    run_seeds(3, |seed| {
        for (ppm, ahead) in [(500.0, 0.5), (10.0, 0.01)] {
            let (mut world, client) = kept(seed, ahead);
            let largest_frequency = Some(Rate::from_ppm(ppm));
            world.set_faults(client, KernelFaults { largest_frequency, ..KernelFaults::default() });
            world.run_until(6.0 * HOUR);
            assert_true(&format!("{ppm} ppm"), &points(&world, client, 0.0, f64::INFINITY));
            assert_eq!(world.steps(client), 0);
            let last = world.trace(client).points.last().expect("a point each second").error;
            // An oscillator of 20 ppm that can be slowed down by 10 gains the other 10.
            let expected = if ppm < 20.0 { 0.01 + 10e-6 * 6.0 * HOUR } else { 0.0 };
            assert!((last - expected).abs() < 2e-3, "{ppm} ppm: {last} s, {expected} s expected");
        }
    });
}

#[test]
fn a_clock_that_somebody_sets_is_set_right_again() {
    run_seeds(3, |seed| {
        for seen in [true, false] {
            for by in [0.002, -0.3, 0.9, 7.0, -40.0] {
                let (mut world, client) = kept(seed, 0.0);
                world.run_until(HOUR);
                world.jump(client, by, seen);
                world.run_until(4.0 * HOUR);
                let what = format!("{by} s, seen: {seen}");
                assert_eq!(world.steps(client), 0, "{what}: the time of steps is over");
                // Nobody can know of a jump that was not seen before the next answers.
                let blind = if seen { 0.0 } else { 2.0 * 1024.0 };
                assert_true(&what, &points(&world, client, 0.0, HOUR));
                assert_true(&what, &points(&world, client, HOUR + blind, f64::INFINITY));
                assert_right(&what, &world, client, HOUR + blind + RECOVERY);
                let told = world.notices(client).iter().any(|(_, notice)| matches!(notice, Notice::Jump(_)));
                assert_eq!(told, seen, "{what}");
            }
        }
    });
}

#[test]
fn another_program_that_steers_is_told_of_and_outlived() {
    run_seeds(3, |seed| {
        let (mut world, client) = kept(seed, 0.0);
        world.run_until(HOUR);
        for turn in 0..72 {
            let ppm = if turn % 2 == 0 { 60.0 } else { -90.0 };
            world.meddle(client, Rate::from_ppm(ppm));
            world.run_until(HOUR + 100.0 * f64::from(turn + 1));
        }
        let foreign = |(_, notice): &&(f64, Notice)| matches!(notice, Notice::Foreign(Foreign::Frequency(_)));
        assert_eq!(world.notices(client).iter().filter(foreign).count(), 72);
        // 80 ppm for a minute until it is noticed, each time, and until sources say what came of it.
        let worst = world.trace(client).max(60.0);
        assert!(worst < 0.05, "{worst}");
        assert_eq!(world.steps(client), 0);
        world.run_until(6.0 * HOUR);
        assert_right("left alone", &world, client, 4.0 * HOUR);
        assert_true("left alone", &points(&world, client, 4.0 * HOUR, f64::INFINITY));
    });
}

#[test]
fn a_slew_that_another_program_began_is_told_of_and_made_up_for() {
    run_seeds(3, |seed| {
        for ppm in [500.0, -500.0, 8_000.0] {
            let (mut world, client) = kept(seed, 0.0);
            let begun = [2.0, 3.0, 4.0].map(|hours| hours * HOUR);
            for began in begun {
                world.run_until(began);
                world.slew_behind(client, Rate::from_ppm(ppm));
            }
            world.run_until(begun[2] + HOUR);
            let told = |(_, notice): &&(f64, Notice)| matches!(notice, Notice::Foreign(Foreign::Slew(_)));
            let told: Vec<f64> = world.notices(client).iter().filter(told).map(|(at, _)| *at).collect();
            assert_eq!(told.len(), begun.len(), "{ppm}");
            for (began, noticed) in begun.into_iter().zip(told) {
                let what = format!("{ppm} ppm, told {} s later", noticed - began);
                // The kernel is told something that often.
                assert!((0.0..=64.0).contains(&(noticed - began)), "{what}");
                // Sources are asked at once, within some seconds.
                let known = if ppm.abs() > 500.0 { SOON } else { 1.0 };
                assert_true(&what, &points(&world, client, noticed + known, began + HOUR));
                let after = points(&world, client, noticed + SOON, began + HOUR);
                let worst = after.iter().map(|point| point.error.abs()).fold(0.0, f64::max);
                assert!(worst < 1e-3, "{what}: {worst} s off");
            }
            assert_eq!(world.steps(client), 0);
        }
    });
}

#[test]
fn a_machine_that_slept_measures_anew() {
    run_seeds(3, |seed| {
        for (by, bend) in [(0.0, 0.0), (-0.7, 3e-6), (25.0, -3e-6)] {
            let (mut world, client) = kept(seed, 0.0);
            world.run_until(2.0 * HOUR);
            world.suspend(client);
            world.run_until(9.0 * HOUR);
            // The hardware clock kept time less well, or the machine went on elsewhere.
            world.jump(client, by, false);
            world.bend(client, Rate::new(bend));
            world.resume(client);
            let slept = 9.0 * HOUR;
            let (engine, now) = world.engine(client);
            assert!(!engine.tracking(now).synchronized, "nothing is known until it was measured");
            world.run_until(14.0 * HOUR);
            let what = format!("{by} s, {bend}");
            assert_true(&what, &points(&world, client, slept + 1.0, f64::INFINITY));
            assert_right(&what, &world, client, slept + RECOVERY);
            assert_eq!(world.steps(client), 0, "{what}");
            // No sample spans the sleep.
            let (engine, now) = world.engine(client);
            let spans = engine.sources(now).filter_map(|report| report.estimate).map(|estimate| estimate.span);
            assert!(spans.into_iter().all(|span| span <= 5.0 * HOUR), "{what}");
        }
    });
}

#[test]
fn a_clock_without_sources_keeps_its_frequency_and_comes_back_without_a_jump() {
    run_seeds(5, |seed| {
        for away in [6.0 * HOUR, 3.0 * DAY] {
            let mut world = World::new(seed);
            let server = world.add_server(ServerSpec::default());
            let client = world.add_client(ClientSpec::new(vec![SourceSpec::new(server, Path::wan())]));
            let (lost, back) = (DAY / 2.0, DAY / 2.0 + away);
            world.run_until(lost);
            let frequency = |world: &World| {
                let (engine, now) = world.engine(client);
                engine.tracking(now).frequency.get()
            };
            let before = frequency(&world);
            world.server_mut(server).silent_from = lost;
            world.run_until(back - 1.0);
            // It may come back to its mean, which this oscillator, that nobody heats, does not leave far behind.
            let changed = frequency(&world) - before;
            assert!(changed.abs() < 5e-8, "the frequency is held: {changed}");
            let alone = points(&world, client, lost, back);
            let claimed: Vec<&Point> = alone.iter().filter(|p| p.bound.is_finite()).collect();
            let grown = claimed[claimed.len() - 1].bound - claimed[0].bound;
            let time = claimed[claimed.len() - 1].at - claimed[0].at;
            assert!((15e-6..25e-6).contains(&(grown / (time - 1024.0))), "{grown} s in {time} s");
            world.server_mut(server).silent_from = f64::INFINITY;
            world.run_until(back + 6.0 * HOUR);
            assert_true(&format!("{away} s alone"), &world.trace(client).points);
            assert_eq!(world.steps(client), 0);
            let after = points(&world, client, back, f64::INFINITY);
            let fastest = after.windows(2).map(|p| (p[1].error - p[0].error).abs()).fold(0.0, f64::max);
            assert!(fastest <= 1.001 * FASTEST, "{fastest} s in a second");
            let settled = world.trace(client).max(back + 4.0 * HOUR);
            assert!(settled < 5e-3, "{away} s alone: {settled} s");
        }
    });
}

#[test]
fn a_clock_that_changes_its_rate_makes_no_liars_of_those_who_were_asked_before() {
    let mut liars = 0;
    run_seeds(6, |seed| {
        let at = 8.0 * HOUR;
        for servers in 2..=4 {
            for ppm in [2.0, -10.0] {
                let jump = FrequencyJump { at: Duration::from_secs_f64(at), by: Rate::from_ppm(ppm) };
                let oscillator = Oscillator { wander: Rate::new(1e-10), jump: Some(jump), ..Oscillator::default() };
                let mut world = World::new(seed);
                let add = |world: &mut World| SourceSpec::new(world.add_server(ServerSpec::default()), Path::lan());
                let sources = (0..servers).map(|_| add(&mut world)).collect();
                let client = world.add_client(ClientSpec { oscillator, ..ClientSpec::new(sources) });
                world.run_until(at + 2.0 * HOUR);
                let what = format!("{servers} servers, {ppm} ppm");
                let told = || world.notices(client).iter().filter(|(at, _)| *at > SETTLED).map(|(_, notice)| notice);
                liars += told().filter(|notice| matches!(notice, Notice::Falseticker(_))).count();
                assert!(told().all(|notice| *notice != Notice::NoSelection), "{what}");
                assert_true(&what, &points(&world, client, 0.0, f64::INFINITY));
                // It shows at the next poll, which is 1024 s later at most; the others are asked at once.
                assert_right(&what, &world, client, at + 1100.0);
            }
        }
    });
    // Where others are not asked at once it is one or two in each of the 36 runs.
    assert!(liars <= 2, "{liars} who were right were taken for liars");
}
