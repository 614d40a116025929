//! Interleaved mode in the virtual world, beside basic mode: as soon, and more exact where the server's replies wait.

use ntp_proto::{engine::SourceReport, filter::Filter as _, time::Rate};
use ntpd_tests::sim::{ClientSpec, Path, ServerId, ServerSpec, SourceSpec, World, run_seeds};

const HOUR: f64 = 3600.0;

/// A way and the poll intervals on it.
#[derive(Clone, Copy)]
struct Way {
    path: Path,
    polls: (i8, i8),
}

fn world(seed: u64, server: ServerSpec, way: Way, interleaved: bool) -> (World, ServerId, usize) {
    let mut world = World::new(seed);
    let server = world.add_server(server);
    let source = SourceSpec { interleaved, polls: way.polls, ..SourceSpec::new(server, way.path) };
    let client = world.add_client(ClientSpec::new(vec![source]));
    (world, server, client)
}

fn source<T>(world: &World, client: usize, of: impl FnOnce(&SourceReport<'_>) -> T) -> T {
    let (engine, now) = world.engine(client);
    of(&engine.sources(now).next().expect("one source"))
}

/// The median over seeds of the errors' root mean square, in seconds.
fn rms(name: &str, server: ServerSpec, way: Way, interleaved: bool) -> f64 {
    let mut all = Vec::new();
    run_seeds(12, |seed| {
        let (mut world, _, client) = world(seed, server, way, interleaved);
        world.run_until(16.0 * HOUR);
        let trace = world.trace(client);
        assert_eq!(trace.broken_bounds(60.0), 0, "{name}: the true error must never exceed the claimed one");
        all.push(trace.rms(4.0 * HOUR));
    });
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

#[test]
fn with_exact_stamps_it_is_as_good_as_basic_mode() {
    let lan = Path::symmetric(100e-6, 50e-6);
    let wan = Path::symmetric(0.012, 1e-3);
    for (path, polls) in [(lan, (6, 10)), (lan, (10, 10)), (wan, (6, 10)), (wan, (10, 10))] {
        let [basic, interleaved] =
            [false, true].map(|interleaved| rms("exact", ServerSpec::default(), Way { path, polls }, interleaved));
        eprintln!("  {polls:?}: basic {:.1} us, interleaved {:.1} us", basic * 1e6, interleaved * 1e6);
        assert!(interleaved < 1.05 * basic, "{polls:?}: {interleaved} {basic}");
    }
}

#[test]
fn where_replies_wait_after_they_were_stamped_it_is_better() {
    // The deviation of an exponential wait is its mean.
    let server = ServerSpec { queue: 50e-6, ..ServerSpec::default() };
    for (polls, share) in [((6, 10), 0.9), ((4, 4), 0.6)] {
        let way = Way { path: Path::lan(), polls };
        let [basic, interleaved] = [false, true].map(|interleaved| rms("early", server, way, interleaved));
        eprintln!("  {polls:?}: basic {:.1} us, interleaved {:.1} us", basic * 1e6, interleaved * 1e6);
        assert!(interleaved < share * basic, "{polls:?}: {interleaved} {basic}");
    }
}

#[test]
fn it_begins_as_soon_as_basic_mode() {
    let way = Way { path: Path::lan(), polls: (6, 10) };
    let good = |interleaved| {
        let (mut world, _, client) = world(1, ServerSpec::default(), way, interleaved);
        world.run_until(15.0);
        (world.traffic(client).requests, source(&world, client, |report| report.source.counts().good))
    };
    assert_eq!(good(true), good(false));
    assert_eq!(good(true), (4, 4), "the first measurements, and no request for the mode's sake");
}

#[test]
fn loss_doubles_disorder_and_restarts_do_no_harm() {
    let mut path = Path { loss: 0.1, doubled: 0.2, ..Path::lan() };
    // A packet that is held up comes after the next ones.
    (path.spike, path.spike_delay) = (0.1, 1.5);
    let server = ServerSpec { work: 30e-6, queue: 20e-6, ..ServerSpec::default() };
    let way = Way { path, polls: (0, 2) };
    run_seeds(6, |seed| {
        let [basic, interleaved] = [false, true].map(|interleaved| {
            let (mut world, server, client) = world(seed, server, way, interleaved);
            for step in 1..=16_u8 {
                world.run_until(900.0 * f64::from(step));
                if step % 4 == 0 {
                    world.forget_departures(server);
                }
            }
            let trace = world.trace(client);
            assert_eq!(trace.broken_bounds(60.0), 0);
            source(&world, client, |report| {
                let counts = report.source.counts();
                assert!(counts.good <= counts.valid && counts.valid <= counts.sent, "{counts:?}");
                assert!(counts.good * 10 > counts.valid * 9, "{counts:?}");
                assert!(!interleaved || counts.interleaved * 10 > counts.valid * 6, "{counts:?}");
                assert!(report.source.schedule().next().is_some());
            });
            trace.rms(HOUR)
        });
        eprintln!("  basic {:.2} us, interleaved {:.2} us", basic * 1e6, interleaved * 1e6);
        assert!(interleaved < 1.1 * basic, "{interleaved} {basic}");
    });
}

#[test]
fn a_server_that_gets_faster_or_slower_does_not_move_the_clock() {
    run_seeds(6, |seed| {
        let way = Way { path: Path::lan(), polls: (4, 4) };
        let (mut world, server, client) = world(seed, ServerSpec::default(), way, true);
        for (hour, work) in [(1.0, 5e-3), (2.0, 20e-6), (3.0, 1e-3), (4.0, 0.0)] {
            world.run_until(hour * HOUR);
            world.server_mut(server).work = work;
        }
        world.run_until(5.0 * HOUR);
        let trace = world.trace(client);
        assert_eq!(trace.broken_bounds(60.0), 0);
        assert!(trace.max(0.5 * HOUR) < 100e-6, "{}", trace.max(0.5 * HOUR));
        let (delay, frequency) = source(&world, client, |report| {
            (report.source.filter().latest().expect("a sample").delay, report.estimate.expect("samples").frequency)
        });
        assert!(delay >= 200e-6 - 1e-6, "{delay}");
        assert!(Rate::new(frequency).to_ppm().abs() < 1.0, "{frequency}");
    });
}
