//! Machines that do not know the time, with real key exchanges, certificates and NTP servers.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::thread;

use ntp_proto::{bootstrap::State, ids::Leap};
use ntpd::{
    client::BUILT,
    observe::control::Change,
    state::{LastTime, Sources},
};

mod world;

use world::{DAY, HARDWARE, Machine, NOTHING, Operator, Portal, TRUE, World, block_on};

/// Operators of every test; three of them are a majority.
const OPERATORS: usize = 5;
/// When certificates of impostors were issued: they were all valid at one time, long after this program was built.
const STOLEN: i64 = TRUE - 200 * DAY;
/// Further from the truth than that a clock is wrong, in seconds.
const WRONG: f64 = 1.0;

const fn machine(facts: ntp_proto::bootstrap::ClockFacts, clock: i64) -> Machine {
    Machine { facts, clock, verified: None }
}

/// Machines whose clock is no good, for reasons that they know.
const UNTRUSTED: [(&str, Machine); 2] =
    [("in 1970", machine(NOTHING, 0)), ("ten years ahead", machine(HARDWARE, TRUE + 3_652 * DAY))];
/// Machines whose clock there is no reason to distrust, right or not.
const PLAUSIBLE: [(&str, Machine); 3] = [
    ("right", machine(HARDWARE, TRUE)),
    ("two days behind", machine(HARDWARE, TRUE - 2 * DAY)),
    ("two days ahead", machine(HARDWARE, TRUE + 2 * DAY)),
];

/// Impostors, who could all say the same, and others.
fn operators(impostors: usize, others: Operator) -> Vec<Operator> {
    let operator = |number| if number < impostors { Operator::Impostor { issued: STOLEN } } else { others };
    (0..OPERATORS).map(operator).collect()
}

/// A boot; whether the time was verified. Nowhere on the way is a wrong time taken.
fn boot(what: &str, machine: Machine, operators: &[Operator]) -> bool {
    block_on(async {
        let mut world = World::new(machine, operators, "");
        let verified = world
            .run(|world| {
                let (state, error) = (world.state(), world.error());
                assert!(state == State::Unknown || error.abs() < WRONG, "{what}, {operators:?}: {state:?}, {error} s");
            })
            .await;
        if verified {
            let saved = world.saved::<LastTime>().map(|last| last.time().seconds);
            assert!(world.error().abs() < WRONG, "{what}: {}", world.error());
            assert_eq!(world.status.get().leap, Leap::None, "{what}");
            assert!(saved.is_some_and(|last| (TRUE - 2..TRUE + 200).contains(&last)), "{what}: {saved:?}");
        } else {
            world.client.shut_down();
            assert_eq!(world.saved::<LastTime>(), None, "{what}");
            assert!(world.saved::<Sources>().is_none_or(|saved| saved.sources.is_empty()), "{what}");
        }
        verified
    })
}

/// Runs many boots a few at a time.
fn boots(cases: Vec<(String, Machine, Vec<Operator>, bool)>) {
    for some in cases.chunks(4) {
        thread::scope(|scope| {
            for (what, machine, operators, expected) in some {
                scope.spawn(move || {
                    let verified = boot(what, *machine, operators);
                    assert_eq!(verified, *expected, "{what}: {operators:?}");
                });
            }
        });
    }
}

#[test]
fn machines_with_honest_servers_get_to_know_the_time() {
    let all = UNTRUSTED.iter().chain(&PLAUSIBLE);
    boots(all.map(|(what, machine)| ((*what).to_owned(), *machine, operators(0, Operator::Honest), true)).collect());
}

#[test]
fn a_minority_with_expired_keys_sets_no_clock() {
    let mut cases = Vec::new();
    for (what, machine) in UNTRUSTED.iter().chain(&PLAUSIBLE) {
        for impostors in 1..=2 {
            cases.push((format!("{what}, others reached"), *machine, operators(impostors, Operator::Honest), true));
            cases.push((format!("{what}, others blocked"), *machine, operators(impostors, Operator::Blocked), false));
        }
    }
    boots(cases);
}

#[test]
fn expired_keys_of_a_majority_are_worth_nothing_where_the_clock_is_good() {
    let mut cases = Vec::new();
    for (what, machine) in &PLAUSIBLE {
        for impostors in 3..=4 {
            cases.push(((*what).to_owned(), *machine, operators(impostors, Operator::Blocked), false));
        }
    }
    boots(cases);
}

#[test]
fn what_two_others_have_signed_defeats_expired_keys_of_a_majority() {
    let cases = UNTRUSTED.iter().chain(&PLAUSIBLE).map(|(what, machine)| {
        // Two are no majority either.
        ((*what).to_owned(), *machine, operators(3, Operator::Honest), false)
    });
    boots(cases.collect());
}

#[test]
fn a_time_from_a_majority_is_confirmed_with_keys_that_are_exchanged_again() {
    block_on(async {
        let mut world = World::new(UNTRUSTED[0].1, &operators(0, Operator::Honest), "");
        let mut provisional = false;
        let verified = world
            .run(|world| {
                if world.state() == State::Provisional && !provisional {
                    provisional = true;
                    let mut sources = 0;
                    world.client.for_each_source(|_, _| sources += 1);
                    assert_eq!(sources, 0, "nothing that was had before counts");
                }
            })
            .await;
        assert!(verified && provisional);
        let again = (0..OPERATORS).filter(|number| world.exchanges(*number) >= 2).count();
        assert!(again >= 3, "{again}");
    });
}

#[test]
fn strict_machines_wait_for_certificates_that_are_valid_by_their_clock() {
    block_on(async {
        let operators = operators(0, Operator::Honest);
        let mut world = World::new(UNTRUSTED[0].1, &operators, "bootstrap = \"strict\"");
        assert!(!world.run(|_| {}).await);
        let mut world = World::new(machine(NOTHING, TRUE - DAY), &operators, "bootstrap = \"strict\"");
        assert!(world.run(|_| {}).await);
    });
}

#[test]
fn a_single_operator_is_believed_without_a_clock_only_where_that_is_asked_for() {
    block_on(async {
        let one = [Operator::Honest];
        let mut world = World::new(UNTRUSTED[0].1, &one, "");
        assert!(!world.run(|_| {}).await);
        let mut world = World::new(UNTRUSTED[0].1, &one, "first-boot-quorum = 1");
        assert!(world.run(|_| {}).await);
        assert!(world.error().abs() < WRONG);
        // A last verified time at which its certificate is valid is as good as a clock.
        let saved = Machine { verified: Some(TRUE - DAY), ..UNTRUSTED[0].1 };
        let mut world = World::new(saved, &one, "");
        assert!(world.run(|_| {}).await);
        assert!(world.error().abs() < WRONG);
    });
}

#[test]
fn a_floor_that_is_too_late_is_reset_by_an_administrator() {
    block_on(async {
        let poisoned = Machine { verified: Some(TRUE + 900 * DAY), ..PLAUSIBLE[0].1 };
        let mut world = World::new(poisoned, &operators(0, Operator::Honest), "");
        assert!(!world.run(|_| {}).await);
        world.client.change(&Change::ResetFloor).unwrap();
        assert!(world.run(|_| {}).await);
        assert!(world.error().abs() < WRONG);
    });
}

#[test]
fn a_portal_gives_no_time_and_is_told_and_left_behind() {
    for (portal, words) in [
        (Portal::Foreign, "certificate signed by an unknown issuer"),
        (Portal::Page, "peer does not speak TLS"),
        (Portal::OneAddress, "certificate signed by an unknown issuer"),
    ] {
        block_on(async {
            let mut world = World::new(UNTRUSTED[0].1, &[Operator::Portal(portal); OPERATORS], "");
            assert!(!world.run(|_| {}).await);
            let report = world.client.bootstrap_report().unwrap();
            assert_eq!((report.state, report.earliest), (State::Unknown, BUILT.seconds), "{portal:?}");
            let missing = report.missing.to_string();
            assert_eq!(missing, "operators that agree on the time: 0 of 3 needed, 5 are configured");
            let problems: Vec<String> = world.client.problems().collect();
            assert!(problems.len() == OPERATORS && problems.iter().all(|why| why.contains(words)), "{problems:?}");
            #[expect(clippy::cast_precision_loss, reason = "some months in seconds")]
            let behind = (TRUE - BUILT.seconds) as f64;
            assert!((world.error() + behind).abs() < 100.0, "{portal:?}: {}", world.error());
            assert_eq!(world.saved::<LastTime>(), None);
            // Operators cannot be where only a portal said that they are.
            if portal != Portal::OneAddress {
                world.log_in().await;
                world.client.change(&Change::Refresh { source: None }).unwrap();
                world.verify().await;
                assert!(world.error().abs() < WRONG, "{portal:?}: {}", world.error());
            }
        });
    }
}
