//! Clocks that are left alone until it is known whom to believe, in the virtual world.

use std::net::{IpAddr, Ipv4Addr};

use ntp_proto::{
    engine::Engine,
    ids::StampKind,
    server::{Access, AccessTable, Prefix, Responder, RxMeta, Verdict},
    time::{Monotonic, NtpDuration, NtpTimestamp},
};
use ntpd_tests::sim::{ClientSpec, Path, ServerSpec, SourceSpec, World};

/// From 1970 to the beginning of the world, in seconds.
const SINCE_1970: f64 = 1_795_478_400.0;

/// A world in which a client's clock is this much ahead and is held from the start.
fn held(seed: u64, ahead: f64, servers: usize) -> (World, usize) {
    let mut world = World::new(seed);
    let add = |world: &mut World| SourceSpec::new(world.add_server(ServerSpec::default()), Path::lan());
    let sources = (0..servers).map(|_| add(&mut world)).collect();
    let client = world.add_client(ClientSpec { offset: ahead, ..ClientSpec::new(sources) });
    world.command(client, |engine, now| engine.set_hold(now, true));
    (world, client)
}

/// What sources say the clock is behind, in seconds.
fn offsets(world: &World, client: usize) -> Vec<f64> {
    let (engine, now) = world.engine(client);
    engine.sources(now).filter_map(|report| report.estimate).map(|estimate| estimate.offset).collect()
}

/// The error of the clock now, in seconds.
fn error(world: &World, client: usize) -> f64 {
    world.trace(client).points.last().expect("a point each second").error
}

/// Leap indicator and stratum of the reply to a client of this machine.
fn served(engine: &Engine, at: NtpTimestamp) -> (u8, u8) {
    let mut access = AccessTable::new();
    access.add(Prefix::ALL_V4, Access::Allow).expect("an empty table has room");
    let mut responder = Responder::new(access, [1; 32]);
    let meta = RxMeta {
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        peer_port: 40_000,
        received: at,
        kind: StampKind::Kernel,
        monotonic: Monotonic::default(),
    };
    let (mut request, mut reply) = ([0; 48], [0; 48]);
    request[0] = 0x23;
    request[40] = 1;
    let verdict = responder.respond(&mut request, &meta, &engine.status(), || at, &mut reply);
    assert!(matches!(verdict, Verdict::Reply { len: 48, .. }), "{verdict:?}");
    (reply[0] >> 6, reply[1])
}

#[test]
fn a_held_clock_is_measured_and_left_alone() {
    for ahead in [-SINCE_1970, -172_800.0, 0.3, 172_800.0, 315_000_000.0] {
        let (mut world, client) = held(1, ahead, 3);
        world.run_until(300.0);
        let (engine, now) = world.engine(client);
        let tracking = engine.tracking(now);
        assert!(tracking.selected.is_some(), "selection goes on");
        assert_eq!((tracking.updates, tracking.synchronized, world.steps(client)), (0, false, 0));
        assert!(world.kernel_history(client).iter().all(|(_, told)| !told.synchronized));
        assert_eq!(served(engine, now.clock).0, 3, "clients are told that it is not synchronized");
        // Its oscillator alone moved it, by 20 ppm.
        assert!((error(&world, client) - ahead).abs() < 0.01, "{ahead}");
        let offsets = offsets(&world, client);
        assert!(offsets.len() == 3 && offsets.iter().all(|offset| (offset + ahead).abs() < 0.01), "{offsets:?}");
    }
}

#[test]
fn a_step_moves_what_was_measured_and_the_hold_stays() {
    let (mut world, client) = held(2, -SINCE_1970, 3);
    world.run_until(10.0);
    // To the floor first, and then to what servers say.
    world.command(client, |engine, now| engine.set_clock(now, NtpDuration::from_seconds(SINCE_1970 - 1e7)));
    world.run_until(20.0);
    let left = offsets(&world, client);
    assert!(left.iter().all(|offset| (offset - 1e7).abs() < 0.01), "{left:?}");
    world.command(client, |engine, now| engine.set_clock(now, NtpDuration::from_seconds(left[0])));
    world.run_until(21.0);
    assert!(offsets(&world, client).iter().all(|offset| offset.abs() < 0.01));
    assert!(error(&world, client).abs() < 0.01);
    let (engine, now) = world.engine(client);
    assert_eq!((world.steps(client), engine.tracking(now).synchronized), (2, false));
    assert_eq!(served(engine, now.clock).0, 3);
}

#[test]
fn what_was_measured_under_a_hold_is_followed_at_its_end() {
    let (mut world, client) = held(3, -172_800.0, 3);
    world.run_until(30.0);
    world.command(client, |engine, now| engine.set_hold(now, false));
    let (engine, now) = world.engine(client);
    let tracking = engine.tracking(now);
    assert_eq!((tracking.updates, tracking.synchronized), (1, true), "at once");
    assert_eq!(served(engine, now.clock), (0, 2));
    world.run_until(31.0);
    assert!(error(&world, client).abs() < 0.01);
    assert_eq!(world.steps(client), 1, "by the usual rule for steps");
    assert!(world.kernel_status(client).expect("the kernel was told").synchronized);
}

#[test]
fn a_hold_later_takes_back_what_was_said_of_the_clock() {
    let (mut world, client) = held(4, 0.4, 3);
    world.command(client, |engine, now| engine.set_hold(now, false));
    world.run_until(8.0);
    world.command(client, |engine, now| engine.set_hold(now, true));
    let (engine, now) = world.engine(client);
    assert_eq!(served(engine, now.clock).0, 3);
    let (held_at, updates) = (error(&world, client), engine.tracking(now).updates);
    world.run_until(900.0);
    let (engine, now) = world.engine(client);
    assert_eq!(engine.tracking(now).updates, updates);
    assert!(!world.kernel_status(client).expect("the kernel was told").synchronized);
    // Neither an end of the slew nor an administrator moves it.
    world.command(client, |engine, now| engine.step_now(now));
    assert!((error(&world, client) - held_at).abs() < 0.1 && world.steps(client) == 0);
    world.command(client, |engine, now| engine.set_hold(now, false));
    world.run_until(1_200.0);
    assert!(error(&world, client).abs() < 1e-3, "{}", error(&world, client));
}

#[test]
fn there_is_no_time_to_return_to_when_somebody_sets_a_held_clock() {
    let (mut world, client) = held(5, -SINCE_1970, 3);
    world.run_until(60.0);
    world.jump(client, SINCE_1970 - 100.0, true);
    let offsets = offsets(&world, client);
    assert!(offsets.len() == 3 && offsets.iter().all(|offset| (offset - 100.0).abs() < 0.01), "{offsets:?}");
    let (engine, now) = world.engine(client);
    assert!(engine.tracking(now).pending.to_seconds().abs() < 1e-3);
    world.run_until(80.0);
    world.command(client, |engine, now| engine.set_hold(now, false));
    world.run_until(90.0);
    assert!(error(&world, client).abs() < 0.01, "{}", error(&world, client));
}

#[test]
fn a_clock_that_was_right_is_served_on_until_its_error_bound_is_too_large() {
    let (mut world, client) = held(6, 0.2, 3);
    world.command(client, |engine, now| engine.set_hold(now, false));
    world.run_until(400.0);
    world.command(client, |engine, now| engine.hold_over(now));
    let (engine, now) = world.engine(client);
    assert!(engine.is_held());
    assert_eq!(served(engine, now.clock), (0, 2), "nothing was found to speak against it");
    let updates = engine.tracking(now).updates;
    let mut bound = engine.status().root_dispersion_at(now.clock);
    for hour in 1..4 {
        world.run_until(400.0 + 3_600.0 * f64::from(hour));
        let (engine, now) = world.engine(client);
        let later = engine.status().root_dispersion_at(now.clock);
        assert!(later > bound && engine.tracking(now).updates == updates, "{later:?} {bound:?}");
        assert!(error(&world, client).abs() < later.to_seconds() + 0.001);
        bound = later;
    }
    assert!(world.kernel_status(client).expect("the kernel was told").synchronized);
    // A source that is not followed keeps nobody from noticing that this was too long ago.
    world.run_until(500_000.0);
    let (engine, now) = world.engine(client);
    assert_eq!((served(engine, now.clock).0, engine.tracking(now).synchronized), (3, false));
}

#[test]
fn what_speaks_against_a_clock_ends_what_was_said_of_it() {
    let (mut world, client) = held(7, 0.2, 3);
    world.command(client, |engine, now| engine.set_hold(now, false));
    world.run_until(100.0);
    world.command(client, |engine, now| engine.hold_over(now));
    world.command(client, |engine, now| engine.set_hold(now, true));
    let (engine, now) = world.engine(client);
    assert_eq!((served(engine, now.clock).0, engine.is_held()), (3, true));
    assert!(!world.kernel_status(client).expect("the kernel was told").synchronized);
    // That it was held over before does not bring it back.
    world.command(client, |engine, now| engine.hold_over(now));
    let (engine, now) = world.engine(client);
    assert_eq!(served(engine, now.clock).0, 3);
}
