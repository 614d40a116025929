//! The engine in the virtual world. Accuracy figures are of simulated clocks, so they do not depend on this machine.

use std::{collections::BTreeSet, time::Duration};

use clock_control::{Oscillator, Temperature};
use ntp_proto::{
    discipline::{ChangeLimit, LeapTable},
    engine::SourceState,
    ids::Leap,
    select::Verdict,
    source::Loss,
    time::{Rate, UnixTime},
};
use ntpd_tests::sim::{ClientSpec, Path, Plot, ServerId, ServerSpec, SourceSpec, World, run_seeds};

/// Where plots of failed or requested runs go.
fn plot_dir() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("plots")
}

/// Plots a run if `NTPD_PLOT` is set or `failed`.
fn plot(name: &str, seed: u64, world: &World, client: usize, failed: bool) {
    if failed || std::env::var_os("NTPD_PLOT").is_some() {
        let file = plot_dir().join(format!("{name}-{seed}.svg"));
        let title = format!("{name}, seed {seed}");
        Plot::new(&title).with("clock error", world.trace(client)).save(&file).expect("plot can be written");
        eprintln!("plot: {}", file.display());
    }
}

#[test]
fn a_lan_clock_is_held_within_100_us_rms() {
    run_seeds(10, |seed| {
        let mut world = World::new(seed);
        let server = world.add_server(ServerSpec::default());
        let client = world.add_client(ClientSpec::new(vec![SourceSpec::new(server, Path::lan())]));
        world.run_until(12.0 * 3600.0);
        let trace = world.trace(client);
        let (rms, max, broken) = (trace.rms(3600.0), trace.max(3600.0), trace.broken_bounds(60.0));
        eprintln!(
            "  rms {:.1} us, max {:.1} us, {} answers, {broken} broken",
            rms * 1e6,
            max * 1e6,
            world.answers(server)
        );
        plot("lan", seed, &world, client, rms > 100e-6 || broken > 0);
        assert!(rms < 100e-6, "rms {rms}");
        assert_eq!(broken, 0, "the true error must never exceed the claimed one");
    });
}

#[test]
fn several_servers_that_say_the_same_are_each_asked_less_often() {
    run_seeds(3, |seed| {
        let [(alone, error_alone), (four, error_of_four)] = [1, 4].map(|count| {
            let mut world = World::new(seed);
            let sources = lan_sources(&mut world, &vec![0.0; count]);
            let spec = ClientSpec::new(sources);
            let client = world.add_client(ClientSpec {
                oscillator: Oscillator { wander: Rate::new(2e-8), ..spec.oscillator },
                ..spec
            });
            world.run_until(12.0 * 3600.0);
            ((0..count).map(|server| world.answers(ServerId(server))).sum::<u64>(), world.trace(client).rms(3600.0))
        });
        eprintln!("  one: {alone} answers, {error_alone:.1e} s; four: {four}, {error_of_four:.1e} s");
        assert!(four < 3 * alone && error_of_four < 1.1 * error_alone, "{four} {alone} {error_of_four} {error_alone}");
    });
}

fn lan_sources(world: &mut World, errors: &[f64]) -> Vec<SourceSpec> {
    let add = |error: &f64| {
        let server = world.add_server(ServerSpec { error: *error, ..ServerSpec::default() });
        SourceSpec::new(server, Path::lan())
    };
    errors.iter().map(add).collect()
}

fn verdicts(world: &World, client: usize) -> Vec<Verdict> {
    let (engine, now) = world.engine(client);
    engine.sources(now).map(|report| report.verdict).collect()
}

#[test]
fn a_run_can_be_drawn() {
    let mut world = World::new(1);
    let server = world.add_server(ServerSpec::default());
    let client = world.add_client(ClientSpec::new(vec![SourceSpec::new(server, Path::lan())]));
    world.run_until(600.0);
    plot("drawn", 1, &world, client, true);
    let svg = std::fs::read_to_string(plot_dir().join("drawn-1.svg")).expect("the plot was written");
    let points =
        svg.split("points=\"").nth(1).expect("a line").split_whitespace().take_while(|p| p.contains(',')).count();
    assert!(svg.starts_with("<svg") && points > 590, "{points} points");
}

#[test]
fn one_seed_is_one_run() {
    let run = |seed| {
        let mut world = World::new(seed);
        let server = world.add_server(ServerSpec::default());
        let client = world.add_client(ClientSpec::new(vec![SourceSpec::new(server, Path::wan())]));
        world.run_until(7200.0);
        world.trace(client).points.iter().map(|p| p.error.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_liar_among_four_is_found_and_moves_nothing() {
    run_seeds(5, |seed| {
        let mut world = World::new(seed);
        let sources = lan_sources(&mut world, &[0.0, 0.0, 0.0, 0.5]);
        let client = world.add_client(ClientSpec { offset: 2.5, ..ClientSpec::new(sources) });
        world.run_until(3600.0);
        plot("liar", seed, &world, client, world.trace(client).max(60.0) > 1e-3);
        assert!(world.trace(client).max(60.0) < 1e-3);
        assert_eq!(world.steps(client), 1, "the 2.5 s at the start");
        assert_eq!(verdicts(&world, client)[3], Verdict::Falseticker);
    });
}

#[test]
fn two_against_two_is_nobody_s_time() {
    let mut world = World::new(1);
    let sources = lan_sources(&mut world, &[0.0, 0.0, 1.5, 1.5]);
    let client = world.add_client(ClientSpec { offset: 0.0, ..ClientSpec::new(sources) });
    world.run_until(3600.0);
    assert_eq!(world.steps(client), 0);
    // Only the oscillator's own 20 ppm.
    assert!(world.trace(client).max(0.0) < 0.1);
    assert!(verdicts(&world, client).iter().all(|verdict| *verdict == Verdict::NoMajority));
    assert!(!world.kernel_status(client).expect("the kernel was told").synchronized);
}

#[test]
fn plain_liars_cannot_outvote_an_authenticated_server() {
    let mut world = World::new(1);
    let mut sources = lan_sources(&mut world, &[0.0, 0.7, 0.7, 0.7, 0.7, 0.7]);
    sources[0].nts = true;
    let client = world.add_client(ClientSpec::new(sources));
    world.run_until(3600.0);
    assert!(world.trace(client).max(60.0) < 1e-3);
    assert!(verdicts(&world, client)[1..].iter().all(|verdict| *verdict == Verdict::Untrusted));

    // And not by keeping it silent either.
    let mut world = World::new(1);
    let mut sources = lan_sources(&mut world, &[0.0, 0.7, 0.7]);
    sources[0].nts = true;
    world.server_mut(sources[0].server).silent_until = 1e9;
    let client = world.add_client(ClientSpec::new(sources));
    world.run_until(3600.0);
    assert_eq!(world.steps(client), 0);
    assert!(!world.kernel_status(client).expect("the kernel was told").synchronized);
}

#[test]
fn time_goes_on_through_2036_and_2038() {
    // Half an hour before the NTP era ends, and before signed 32-bit Unix seconds do.
    for end in [2_085_978_496, 2_147_483_648] {
        let mut world = World::starting_at(3, UnixTime { seconds: end - 1800, nanos: 0 });
        let server = world.add_server(ServerSpec::default());
        let client = world.add_client(ClientSpec::new(vec![SourceSpec::new(server, Path::lan())]));
        world.run_until(3.0 * 3600.0);
        assert!(world.trace(client).max(120.0) < 1e-3, "around {end}");
        assert_eq!(world.steps(client), 0);
        assert!(world.kernel_status(client).expect("the kernel was told").synchronized);
    }
}

#[test]
fn offsets_are_stepped_at_the_start_and_slewed_later() {
    let mut world = World::new(1);
    let server = world.add_server(ServerSpec::default());
    let client =
        world.add_client(ClientSpec { offset: -300.0, ..ClientSpec::new(vec![SourceSpec::new(server, Path::lan())]) });
    world.run_until(3600.0);
    assert_eq!(world.steps(client), 1);
    // The only server is 2 s off from now on: nobody else says so, but the clock may not jump any more.
    world.server_mut(server).error = 2.0;
    world.run_until(4.0 * 3600.0);
    assert_eq!(world.steps(client), 1);
    assert!((world.trace(client).points.last().expect("a trace").error - 2.0).abs() < 1e-3);
}

#[test]
fn interleaved_mode_is_used_and_keeps_time() {
    run_seeds(3, |seed| {
        let mut world = World::new(seed);
        let server = world.add_server(ServerSpec::default());
        let source = SourceSpec { interleaved: true, polls: (4, 6), ..SourceSpec::new(server, Path::lan()) };
        let client = world.add_client(ClientSpec::new(vec![source]));
        world.run_until(2.0 * 3600.0);
        let (engine, now) = world.engine(client);
        let counts = engine.sources(now).next().expect("one source").source.counts();
        assert!(counts.interleaved * 10 > counts.valid * 8, "{counts:?}");
        assert!(world.trace(client).rms(1800.0) < 100e-6);
    });
}

#[test]
fn a_server_that_refuses_its_own_cookies_is_not_asked_for_keys_all_day() {
    let mut world = World::new(1);
    let server = world.add_server(ServerSpec { forgets_keys: true, ..ServerSpec::default() });
    let source = SourceSpec { nts: true, ..SourceSpec::new(server, Path::lan()) };
    let client = world.add_client(ClientSpec::new(vec![source]));
    world.run_until(86_400.0);
    // 16 s, 32 s, ... 2^15 s: a dozen exchanges fill a day.
    assert!((2..=14).contains(&world.key_exchanges(client)), "{}", world.key_exchanges(client));
}

#[test]
fn no_cookie_is_sent_twice_and_loss_costs_few_key_exchanges() {
    let mut world = World::new(1);
    let server = world.add_server(ServerSpec::default());
    let path = Path { loss: 0.3, ..Path::lan() };
    let source = SourceSpec { nts: true, polls: (4, 6), ..SourceSpec::new(server, path) };
    let client = world.add_client(ClientSpec::new(vec![source]));
    world.run_until(86_400.0);
    let sent = world.cookies_sent(client);
    let distinct: BTreeSet<_> = sent.iter().collect();
    assert!(sent.len() > 1000, "{}", sent.len());
    assert_eq!(sent.len(), distinct.len());
    // Half of the exchanges are lost: only eight losses in a row use up the jar.
    assert!(world.key_exchanges(client) <= 20, "{}", world.key_exchanges(client));
}

#[test]
fn without_sources_the_bound_grows_and_stays_true() {
    run_seeds(5, |seed| {
        let mut world = World::new(seed);
        let server = world.add_server(ServerSpec { silent_from: 6.0 * 3600.0, ..ServerSpec::default() });
        let client = world.add_client(ClientSpec::new(vec![SourceSpec::new(server, Path::wan())]));
        world.run_until(48.0 * 3600.0);
        let trace = world.trace(client);
        plot("holdover", seed, &world, client, trace.broken_bounds(60.0) > 0);
        assert_eq!(trace.broken_bounds(60.0), 0);
        // 42 h of a wandering oscillator.
        assert!(trace.max(6.0 * 3600.0) < 0.5);
        assert_eq!(verdicts(&world, client), [Verdict::Unreachable]);
    });
}

#[test]
fn a_wan_with_four_servers_keeps_its_promises() {
    run_seeds(5, |seed| {
        let mut world = World::new(seed);
        let sources: Vec<_> =
            (0..4).map(|_| SourceSpec::new(world.add_server(ServerSpec::default()), Path::wan())).collect();
        let client = world.add_client(ClientSpec::new(sources));
        world.run_until(12.0 * 3600.0);
        let trace = world.trace(client);
        plot("wan", seed, &world, client, trace.rms(3600.0) > 2e-3);
        // 1 ms is the asymmetry of the path, which no client can see.
        assert!(trace.rms(3600.0) < 1.5e-3, "{}", trace.rms(3600.0));
        assert_eq!(trace.broken_bounds(60.0), 0);
    });
}

const HOUR: f64 = 3600.0;

/// The error bound must hold in every second from `from` on.
fn assert_bounded(name: &str, world: &World, client: usize, from: f64) {
    let trace = world.trace(client);
    let after = || trace.points.iter().filter(|point| point.at >= from);
    let worst = after().max_by(|a, b| (a.error.abs() / a.bound).total_cmp(&(b.error.abs() / b.bound)));
    assert_eq!(trace.broken_bounds(from), 0, "{name}: of {}, worst {worst:?}", after().count());
}

#[test]
fn one_that_is_left_of_five_does_not_move_the_clock() {
    let mut world = World::new(1);
    let sources = lan_sources(&mut world, &[0.0, 0.0, 0.0, 0.0, 0.5]);
    let client = world.add_client(ClientSpec::new(sources.clone()));
    world.run_until(HOUR);
    for honest in &sources[..4] {
        world.server_mut(honest.server).silent_from = HOUR;
    }
    world.run_until(8.0 * HOUR);
    assert!(world.trace(client).max(HOUR) < 0.05, "{}", world.trace(client).max(HOUR));
    assert_eq!(verdicts(&world, client)[4], Verdict::TooFew);
    assert_bounded("one left", &world, client, 60.0);
}

#[test]
fn a_liar_beside_a_wide_honest_server_moves_nothing() {
    let mut world = World::new(1);
    let sources = lan_sources(&mut world, &[0.0, 0.0, 0.06]);
    world.server_mut(sources[0].server).bound = 0.1;
    let client = world.add_client(ClientSpec { offset: 0.0, ..ClientSpec::new(sources) });
    world.run_until(2.0 * HOUR);
    assert!(world.trace(client).max(60.0) < 0.5, "only the oscillator moves it");
    assert!(!world.kernel_status(client).expect("the kernel was told").synchronized);
}

#[test]
fn the_bound_holds_while_temperature_goes_up_and_down() {
    for (ppm, period) in [(0.2, HOUR), (1.0, HOUR), (1.0, 2.0 * HOUR), (3.0, 24.0 * HOUR), (0.3, 1000.0)] {
        let mut world = World::new(1);
        let server = world.add_server(ServerSpec::default());
        let mut spec = ClientSpec::new(vec![SourceSpec::new(server, Path::lan())]);
        spec.oscillator.temperature = Some(temperature(ppm, period));
        let client = world.add_client(spec);
        world.run_until(24.0 * HOUR);
        assert_bounded(&format!("{ppm} ppm in {period} s"), &world, client, 60.0);
    }
}

fn temperature(ppm: f64, period: f64) -> Temperature {
    Temperature { amplitude: Rate::from_ppm(ppm), period: Duration::from_secs_f64(period), turns: 0.0 }
}

#[test]
fn without_sources_a_machine_that_is_heated_and_cooled_is_known_to_come_back_to_its_mean() {
    run_seeds(5, |seed| {
        let mut world = World::new(seed);
        let server = world.add_server(ServerSpec { silent_from: 12.0 * HOUR, ..ServerSpec::default() });
        let mut spec = ClientSpec::new(vec![SourceSpec::new(server, Path::lan())]);
        spec.oscillator.temperature = Some(Temperature { turns: 0.25, ..temperature(1.0, 80.0 * 60.0) });
        let client = world.add_client(spec);
        world.run_until(18.0 * HOUR);
        // It runs 1 ppm fast when the server falls silent, which would be 21 ms if it went on.
        let error = world.trace(client).max(12.0 * HOUR);
        assert!(error < 8e-3, "{error}");
        assert_bounded("heated and cooled", &world, client, 12.0 * HOUR);
    });
}

#[test]
fn the_bound_holds_when_sources_are_lost_and_temperature_changes() {
    for ppm in [2.0, 5.0] {
        let mut world = World::new(1);
        let server = world.add_server(ServerSpec { silent_from: 6.0 * HOUR, ..ServerSpec::default() });
        let mut spec = ClientSpec::new(vec![SourceSpec::new(server, Path::lan())]);
        spec.oscillator.temperature = Some(temperature(ppm, 24.0 * HOUR));
        let client = world.add_client(spec);
        world.run_until(48.0 * HOUR);
        assert_bounded(&format!("{ppm} ppm"), &world, client, 6.0 * HOUR);
    }
}

#[test]
fn the_bound_holds_when_the_path_gets_longer_one_way() {
    for (sources, changed) in [(1, 1), (4, 1), (4, 4)] {
        for seconds in [0.001, 0.01, 0.1] {
            let mut world = World::new(1);
            let specs: Vec<_> =
                (0..sources).map(|_| SourceSpec::new(world.add_server(ServerSpec::default()), Path::wan())).collect();
            let client = world.add_client(ClientSpec::new(specs));
            world.run_until(4.0 * HOUR);
            for index in 0..changed {
                world.path_mut(client, index).expect("a path").there += seconds;
            }
            world.run_until(16.0 * HOUR);
            assert_bounded(&format!("{changed} of {sources} by {seconds} s"), &world, client, 60.0);
        }
    }
}

#[test]
fn the_bound_holds_when_a_server_loses_its_own_source() {
    for drift in [2e-7, 1e-6, 5e-6] {
        let mut world = World::new(1);
        let server = world.add_server(ServerSpec::default());
        let client = world.add_client(ClientSpec::new(vec![SourceSpec::new(server, Path::lan())]));
        let from = 4.0 * HOUR;
        world.run_until(from);
        // It says that its error may grow twice as fast as it does.
        let spec = world.server_mut(server);
        (spec.error, spec.drift) = (-drift * from, drift);
        (spec.bound, spec.bound_rate) = (1e-6 - 2.0 * drift * from, 2.0 * drift);
        world.run_until(48.0 * HOUR);
        assert_bounded(&format!("drift {drift}"), &world, client, 60.0);
    }
}

#[test]
fn the_bound_holds_when_the_saved_frequency_was_wrong() {
    for ppm in [2.0, 10.0] {
        let mut world = World::new(1);
        let server = world.add_server(ServerSpec::default());
        let saved_frequency = Some((Rate::from_ppm(-20.0 + ppm), 1e-8));
        let spec = ClientSpec::new(vec![SourceSpec::new(server, Path::lan())]);
        let client = world.add_client(ClientSpec { saved_frequency, offset: 1e-3, ..spec });
        world.run_until(HOUR);
        assert_bounded(&format!("{ppm} ppm"), &world, client, 5.0);
    }
}

#[test]
fn the_bound_holds_where_paths_pull_apart() {
    let mut world = World::new(1);
    let straight = world.add_server(ServerSpec::default());
    let mut sources = vec![SourceSpec::new(straight, Path::symmetric(0.010, 1e-5))];
    for _ in 0..3 {
        let crooked = Path { there: 0.0555, back: 0.001, ..Path::symmetric(0.0, 1e-5) };
        sources.push(SourceSpec::new(world.add_server(ServerSpec::default()), crooked));
    }
    let client = world.add_client(ClientSpec { offset: 0.0, ..ClientSpec::new(sources) });
    world.run_until(2.0 * HOUR);
    assert_bounded("crooked paths", &world, client, 60.0);
}

#[test]
fn no_server_bends_the_frequency_beyond_the_limit() {
    for drift in [1e-3, 9e-2] {
        let mut world = World::new(1);
        let server = world.add_server(ServerSpec { drift, ..ServerSpec::default() });
        let source = SourceSpec { polls: (4, 6), ..SourceSpec::new(server, Path::lan()) };
        let client = world.add_client(ClientSpec::new(vec![source]));
        world.run_until(HOUR);
        let (engine, now) = world.engine(client);
        let frequency = engine.tracking(now).frequency;
        assert!(frequency.to_ppm().abs() <= 500.000_001, "{frequency:?}");
    }
}

#[test]
fn a_server_restart_costs_an_nts_client_one_key_exchange() {
    for fallback_keys in [false, true] {
        let mut world = World::new(1);
        let server = world.add_server(ServerSpec::default());
        let source = SourceSpec { nts: true, polls: (4, 6), ..SourceSpec::new(server, Path::lan()) };
        let client = world.add_client(ClientSpec { fallback_keys, ..ClientSpec::new(vec![source]) });
        world.run_until(HOUR);
        let before = world.key_exchanges(client);
        world.forget_keys(server);
        world.run_until(HOUR + 300.0);
        assert_eq!(world.key_exchanges(client), before + 1, "fallback {fallback_keys}");
        let (engine, now) = world.engine(client);
        let report = engine.sources(now).next().expect("one source");
        assert!(report.estimate.expect("measurements").age < 128.0, "fallback {fallback_keys}");
    }
}

#[test]
fn a_late_timer_does_not_carry_a_slew_too_far() {
    for late in [0.0, 0.001, 0.02, 0.1] {
        let mut world = World::new(1);
        let server = world.add_server(ServerSpec::default());
        let spec = ClientSpec::new(vec![SourceSpec::new(server, Path::lan())]);
        let client = world.add_client(ClientSpec { offset: 0.5, late, ..spec });
        world.run_until(120.0);
        assert!(world.trace(client).max(40.0) < 1e-3, "{late} s late: {} s", world.trace(client).max(40.0));
    }
}

#[test]
fn the_kernel_is_told_right_after_a_step() {
    let mut world = World::new(1);
    let server = world.add_server(ServerSpec::default());
    let spec = ClientSpec::new(vec![SourceSpec::new(server, Path::lan())]);
    let client = world.add_client(ClientSpec { offset: -300.0, ..spec });
    world.run_until(60.0);
    assert_eq!(world.steps(client), 1);
    for (at, told) in world.kernel_history(client) {
        assert!(!told.synchronized || told.max_error.to_seconds() < 1.0, "at {at} s: {told:?}");
    }
    let first = world.kernel_history(client).iter().find(|(_, told)| told.synchronized).expect("synchronized at last");
    assert!(first.0 < 10.0, "{first:?}");
}

#[test]
fn servers_that_answer_nothing_of_use_are_lost() {
    for kiss in [*b"INIT", *b"RATE"] {
        let mut world = World::new(1);
        let server = world.add_server(ServerSpec { kiss: Some(kiss), ..ServerSpec::default() });
        let client = world.add_client(ClientSpec::new(vec![SourceSpec::new(server, Path::lan())]));
        world.run_until(24.0 * HOUR);
        assert!(world.lost(client).iter().any(|(_, loss)| *loss == Loss::Unusable), "{:?}", world.lost(client));
    }
}

#[test]
fn an_nts_source_without_keys_does_not_stay_selected() {
    let mut world = World::new(1);
    let server = world.add_server(ServerSpec { keyless_from: 0.8 * HOUR, ..ServerSpec::default() });
    let source = SourceSpec { nts: true, ..SourceSpec::new(server, Path::lan()) };
    let client = world.add_client(ClientSpec::new(vec![source]));
    world.run_until(HOUR);
    assert_eq!(verdicts(&world, client), [Verdict::Selected]);
    world.server_mut(server).silent_from = HOUR;
    world.run_until(48.0 * HOUR);
    assert_eq!(verdicts(&world, client), [Verdict::Unreachable]);
    let (engine, now) = world.engine(client);
    assert_eq!(engine.sources(now).next().expect("one source").state, SourceState::NoKeys);
    assert!(world.lost(client).iter().any(|(_, loss)| *loss == Loss::Unreachable));
}

#[test]
fn an_nts_source_that_is_only_measured_keeps_no_other_from_voting() {
    let mut world = World::new(1);
    let mut sources = lan_sources(&mut world, &[0.0, 0.0]);
    sources[0].nts = true;
    sources[0].options.noselect = true;
    let client = world.add_client(ClientSpec::new(sources));
    world.run_until(HOUR);
    assert_eq!(verdicts(&world, client), [Verdict::NotSelectable, Verdict::Selected]);
}

#[test]
fn an_inserted_second_is_one_jump_and_nothing_else() {
    // Six hours before the end of 2026, as if a leap second were announced for then.
    let start = UnixTime { seconds: 1_798_761_600 - 6 * 3600, nanos: 0 };
    let mut world = World::starting_at(1, start);
    let mut sources = lan_sources(&mut world, &[0.0, 0.0, 0.0]);
    for source in &mut sources {
        world.server_mut(source.server).leap = Leap::Insert;
    }
    let client = world.add_client(ClientSpec::new(sources.clone()));
    world.run_until(6.0 * HOUR);
    assert_eq!(world.kernel_status(client).expect("the kernel was told").leap, Leap::Insert);
    for source in &sources {
        let server = world.server_mut(source.server);
        (server.error, server.leap) = (-1.0, Leap::None);
    }
    world.jump(client, -1.0, true);
    world.run_until(10.0 * HOUR);
    let trace = world.trace(client);
    let worst = trace.points.iter().filter(|p| p.at > 6.0 * HOUR).map(|p| (p.error + 1.0).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-3, "{worst}");
    assert_eq!(world.steps(client), 0);
    assert_eq!(world.kernel_status(client).expect("the kernel was told").leap, Leap::None);
}

#[test]
fn a_list_of_leap_seconds_counts_before_what_servers_say() {
    // Six hours before the end of 2026.
    const MIDNIGHT: i64 = 1_798_761_600;
    let table = |steps, days: i64| {
        let expires = UnixTime { seconds: MIDNIGHT + days * 86_400, nanos: 0 };
        Some(LeapTable::new(steps, expires).expect("a list that can be"))
    };
    let (with, without) = (vec![(MIDNIGHT - 184 * 86_400, 37), (MIDNIGHT, 38)], vec![(MIDNIGHT - 184 * 86_400, 37)]);
    for (leap_table, announced, expected, tai) in [
        (table(with.clone(), 100), Leap::None, Leap::Insert, [Some(37), Some(38)]),
        (table(without.clone(), 100), Leap::Insert, Leap::None, [Some(37), Some(37)]),
        // Too old to tell, but what it lists it lists.
        (table(without, -100), Leap::Insert, Leap::Insert, [None, None]),
        (table(with, -100), Leap::None, Leap::Insert, [None, None]),
    ] {
        let mut world = World::starting_at(1, UnixTime { seconds: MIDNIGHT - 6 * 3600, nanos: 0 });
        let sources = lan_sources(&mut world, &[0.0, 0.0, 0.0]);
        for source in &sources {
            world.server_mut(source.server).leap = announced;
        }
        let client = world.add_client(ClientSpec { leap_table, ..ClientSpec::new(sources.clone()) });
        world.run_until(6.0 * HOUR);
        let told = world.kernel_status(client).expect("the kernel was told");
        assert_eq!((told.leap, told.tai_offset), (expected, tai[0]));
        if expected == Leap::Insert {
            for source in &sources {
                // They go on to announce it while it lasts.
                world.server_mut(source.server).error = -1.0;
            }
            world.jump(client, -1.0, true);
            world.run_until(6.0 * HOUR + 0.9);
            let told = world.kernel_status(client).expect("the kernel was told");
            assert_eq!((told.leap, told.tai_offset), (Leap::None, tai[1]), "it is not inserted again");
        }
        world.run_until(7.0 * HOUR);
        assert_eq!(world.steps(client), 0);
        assert_eq!(world.kernel_status(client).expect("the kernel was told").tai_offset, tai[1]);
    }
}

#[test]
fn what_cannot_be_true_is_ignored_after_the_first_updates() {
    for (start, moves) in [(1, false), (1_000_000, true)] {
        let mut world = World::new(1);
        let server = world.add_server(ServerSpec::default());
        let change_limit = Some(ChangeLimit { offset: 1.0, start, ignore: None });
        let source = SourceSpec::new(server, Path::lan());
        let client = world.add_client(ClientSpec { change_limit, offset: 100.0, ..ClientSpec::new(vec![source]) });
        world.run_until(HOUR);
        assert!(world.trace(client).max(60.0) < 1e-3, "the first update may correct anything");
        world.server_mut(server).error = 5.0;
        world.run_until(2.0 * HOUR);
        let moved = world.trace(client).max(1.5 * HOUR) > 1.0;
        assert_eq!(moved, moves);
    }
}

#[test]
fn a_minority_of_constant_liars_moves_nothing() {
    for count in 1..=9_usize {
        for liars in 0..count.div_ceil(2) {
            let mut world = World::new(count as u64);
            let errors: Vec<_> = (0..count).map(|index| if index < liars { 0.5 } else { 0.0 }).collect();
            let sources = lan_sources(&mut world, &errors);
            let client = world.add_client(ClientSpec::new(sources));
            world.run_until(HOUR);
            assert!(world.trace(client).max(60.0) < 1e-3, "{liars} of {count}");
            assert_eq!(world.steps(client), 0, "{liars} of {count}");
            assert_bounded(&format!("{liars} of {count}"), &world, client, 60.0);
        }
    }
}

#[test]
fn what_waits_does_not_pile_up() {
    let mut world = World::new(1);
    let server = world.add_server(ServerSpec::default());
    let source = SourceSpec { polls: (4, 4), ..SourceSpec::new(server, Path::lan()) };
    world.add_client(ClientSpec::new(vec![source]));
    world.run_until(8.0 * HOUR);
    assert!(world.waiting() < 10, "{}", world.waiting());
}

#[test]
fn the_bound_holds_when_a_path_is_drawn_out_slowly() {
    let mut world = World::new(1);
    let server = world.add_server(ServerSpec::default());
    let source = SourceSpec { polls: (6, 6), ..SourceSpec::new(server, Path::lan()) };
    let client = world.add_client(ClientSpec::new(vec![source]));
    let from = 4.0 * HOUR;
    world.run_until(from);
    // One way gets 0.1 ms longer with each poll, which looks like a clock that gains; then the server is gone.
    for poll in 1..=56_u8 {
        world.path_mut(client, 0).expect("a path").there += 100e-6;
        world.run_until(from + 64.0 * f64::from(poll));
    }
    world.server_mut(server).silent_from = 0.0;
    world.run_until(30.0 * HOUR);
    assert_bounded("drawn out", &world, client, 60.0);
}
