#![expect(clippy::wildcard_enum_match_arm, reason = "any other output fails the test")]

use core::time::Duration;
use std::net::SocketAddr;

use ntp_proto::pool::{Failure, Leave, Member, Output, PoolMode, QuestionId};

use super::*;

const START: Monotonic = Monotonic::from_nanos(1);

fn at(seconds: u64) -> Monotonic {
    START + Duration::from_secs(seconds)
}

fn pool(target: usize) -> SrvPool {
    let mut pool = srv_pool(&Name::parse("time.example").unwrap(), 1).unwrap();
    pool.set_target(target);
    pool
}

fn services(hosts: &[&str]) -> Answer {
    let record = |(place, host): (usize, &&str)| Service {
        priority: u16::try_from(place).unwrap(),
        weight: 1,
        port: 4460 + u16::try_from(place).unwrap(),
        target: Name::parse(host).unwrap(),
    };
    Answer::Services { records: hosts.iter().enumerate().map(record).collect(), until: at(300) }
}

fn server(name: &str, ip: u8, trust: Trust) -> Answer {
    let addresses = vec![SocketAddr::from(([192, 0, 2, ip], 123))];
    Answer::KeyExchange(Negotiated { ntp_server: name.into(), addresses, trust })
}

fn asked_services(pool: &mut SrvPool) -> QuestionId {
    match pool.poll_output() {
        Output::Ask(id, Question::Services { owner, validated: true }) => {
            assert_eq!(owner.as_str(), "_ntske._tcp.time.example");
            id
        }
        other => panic!("{other:?}"),
    }
}

fn asked_keys(pool: &mut SrvPool, host: &str, port: u16) -> QuestionId {
    match pool.poll_output() {
        Output::Ask(id, Question::KeyExchange(exchange)) => {
            assert_eq!((exchange.server.as_str(), exchange.port), (host, port));
            assert!(exchange.denied.is_empty() && exchange.addresses.is_none());
            id
        }
        other => panic!("{other:?}"),
    }
}

fn joined(pool: &mut SrvPool) -> Member {
    match pool.poll_output() {
        Output::Join(member) => member,
        other => panic!("{other:?}"),
    }
}

fn waits(pool: &mut SrvPool) -> (Monotonic, &'static str) {
    match pool.poll_output() {
        Output::Timeout(Some(at), why) => (at, why),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_target_is_exchanged_with_under_its_own_name_and_port() {
    let mut pool = pool(2);
    let id = asked_services(&mut pool);
    pool.handle_answer(START, id, services(&["a.example", "b.example", "c.example"]));
    let id = asked_keys(&mut pool, "a.example", 4460);
    pool.handle_answer(START, id, server("a.example", 1, Trust::Pki));
    let member = joined(&mut pool);
    assert_eq!((member.keys, member.trust, member.replaces), (Some(id), Trust::Dnssec, None));
    // A target that is a server held already, by another name, counts once; so the third is tried.
    let id = asked_keys(&mut pool, "b.example", 4461);
    pool.handle_answer(START, id, server("b.example", 1, Trust::Pki));
    let id = asked_keys(&mut pool, "c.example", 4462);
    pool.handle_answer(START, id, server("c.example", 3, Trust::Dane));
    assert_eq!(joined(&mut pool).trust, Trust::Dane);
    assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));
}

#[test]
fn targets_of_an_earlier_run_come_before_any_question_and_records_when_they_do_not_do() {
    let Answer::Services { records, .. } = services(&["a.example", "b.example"]) else { panic!() };
    let mut pool = srv_pool(&Name::parse("time.example").unwrap(), 1).unwrap();
    pool.resume(records);
    pool.set_target(2);
    let id = asked_keys(&mut pool, "a.example", 4460);
    pool.handle_answer(START, id, server("a.example", 1, Trust::Pki));
    assert_eq!(joined(&mut pool).trust, Trust::Dnssec);
    let id = asked_keys(&mut pool, "b.example", 4461);
    pool.handle_answer(START, id, Answer::Failed(Failure::Connect));
    let id = asked_services(&mut pool);
    pool.handle_answer(START, id, services(&["b.example", "c.example", "a.example"]));
    let id = asked_keys(&mut pool, "c.example", 4461);
    pool.handle_answer(START, id, server("c.example", 3, Trust::Pki));
    joined(&mut pool);
    assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));
}

#[test]
fn answers_without_vouched_records_choose_no_name_and_are_told_apart() {
    for (answer, why) in [
        (Answer::NoRecord, "service records: there are none"),
        (Answer::Insecure, "service records: they are not signed"),
        (Answer::Bogus, "service records: they are forged or broken"),
        (Answer::Failed(Failure::Resolver), "service records: no answer"),
    ] {
        let mut pool = pool(1);
        let mut now = START;
        for wait in [16, 32, 64] {
            let id = asked_services(&mut pool);
            pool.handle_answer(now, id, answer.clone());
            let (next, said) = waits(&mut pool);
            assert!(said == why && (wait..=wait + wait / 8).contains(&next.since(now).as_secs()), "{said}");
            now = next;
            pool.handle_timeout(now);
        }
    }
}

#[test]
fn records_of_the_last_good_answer_outlive_a_bad_one() {
    let mut pool = pool(1);
    let id = asked_services(&mut pool);
    pool.handle_answer(START, id, services(&["a.example", "b.example"]));
    let id = asked_keys(&mut pool, "a.example", 4460);
    pool.handle_answer(START, id, server("a.example", 1, Trust::Pki));
    let a = joined(&mut pool);
    pool.handle_leave(at(10), a.id, Leave::Unreachable);
    let (next, _) = waits(&mut pool);
    pool.handle_timeout(next);
    let id = asked_keys(&mut pool, "b.example", 4461);
    pool.handle_answer(next, id, Answer::Failed(Failure::Connect));
    // All targets are used up. One that was no good is better than none, and the records are not out of date.
    let (next, _) = waits(&mut pool);
    assert!(next < at(300));
    pool.handle_timeout(next);
    let id = asked_keys(&mut pool, "a.example", 4460);
    pool.handle_answer(next, id, Answer::Failed(Failure::Connect));
    let id = asked_keys(&mut pool, "b.example", 4461);
    pool.handle_answer(at(290), id, Answer::Failed(Failure::Connect));
    let (next, _) = waits(&mut pool);
    pool.handle_timeout(next);
    assert!(next > at(300));
    let id = asked_services(&mut pool);
    pool.handle_answer(next, id, Answer::Bogus);
    let id = asked_keys(&mut pool, "a.example", 4460);
    pool.handle_answer(next, id, server("a.example", 1, Trust::Pki));
    joined(&mut pool);
}

#[test]
fn a_member_that_gets_no_keys_does_not_keep_others_away() {
    let mut pool = pool(2);
    let id = asked_services(&mut pool);
    pool.handle_answer(START, id, services(&["a.example"]));
    let id = asked_keys(&mut pool, "a.example", 4460);
    pool.handle_answer(START, id, server("a.example", 1, Trust::Pki));
    let a = joined(&mut pool);
    assert_eq!(waits(&mut pool), (at(300), "next look for members"));
    pool.handle_leave(at(10), a.id, Leave::KeysLost);
    pool.handle_timeout(at(300));
    let id = asked_services(&mut pool);
    pool.handle_answer(at(300), id, services(&["a.example", "b.example"]));
    let id = asked_keys(&mut pool, "b.example", 4461);
    pool.handle_answer(at(300), id, Answer::Failed(Failure::Connect));
    let id = asked_keys(&mut pool, "a.example", 4460);
    pool.handle_answer(at(300), id, server("a.example", 1, Trust::Pki));
    assert_eq!(joined(&mut pool).replaces, Some(a.id));
}

#[test]
fn a_member_without_keys_gets_them_from_its_own_target() {
    let mut pool = pool(1);
    let id = asked_services(&mut pool);
    pool.handle_answer(START, id, services(&["a.example", "b.example"]));
    let id = asked_keys(&mut pool, "a.example", 4460);
    pool.handle_answer(START, id, server("a.example", 1, Trust::Pki));
    let a = joined(&mut pool);
    pool.handle_leave(at(500), a.id, Leave::KeysLost);
    let mut next = waits(&mut pool).0;
    for _ in 0..3 {
        pool.handle_timeout(next);
        let id = asked_keys(&mut pool, "a.example", 4460);
        pool.handle_answer(next, id, Answer::Failed(Failure::Protocol));
        next = waits(&mut pool).0;
    }
    pool.handle_timeout(next);
    let id = asked_keys(&mut pool, "a.example", 4460);
    pool.handle_answer(next, id, server("a.example", 1, Trust::Pki));
    let member = joined(&mut pool);
    assert_eq!((member.replaces, member.keys, member.label), (Some(a.id), Some(id), a.label));
    assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));
}

#[test]
fn a_name_too_long_for_service_records_is_refused() {
    let long = Name::parse(&("a.".repeat(125) + "aa")).unwrap();
    assert_eq!(srv_pool(&long, 1).map(|_| ()), Err(InvalidName));
}

/// A pool of two with members `a` and `b`, of records `a`, `b` and `c`.
fn with_two() -> (SrvPool, [Member; 2]) {
    let mut pool = pool(2);
    let id = asked_services(&mut pool);
    pool.handle_answer(START, id, services(&["a.example", "b.example", "c.example"]));
    let members = [("a.example", 4460, 1), ("b.example", 4461, 2)].map(|(host, port, ip)| {
        let id = asked_keys(&mut pool, host, port);
        pool.handle_answer(START, id, server(host, ip, Trust::Pki));
        joined(&mut pool)
    });
    (pool, members)
}

/// Keys of a member are lost at `time`; returns when an exchange may be made.
fn lose_keys(pool: &mut SrvPool, member: &Member, time: u64) -> Monotonic {
    pool.handle_leave(at(time), member.id, Leave::KeysLost);
    let (next, _) = waits(pool);
    pool.handle_timeout(next);
    next
}

#[test]
fn before_keys_are_had_anew_old_records_are_asked_for_again() {
    let (mut pool, [a, _]) = with_two();
    let now = lose_keys(&mut pool, &a, 86_000);
    let id = asked_keys(&mut pool, "a.example", 4460);
    pool.handle_answer(now, id, server("a.example", 1, Trust::Pki));
    let a = joined(&mut pool);
    // They are a day old now. If there is no answer, the exchange is made all the same.
    let now = lose_keys(&mut pool, &a, 90_000);
    let id = asked_services(&mut pool);
    pool.handle_answer(now, id, Answer::Failed(Failure::Resolver));
    let id = asked_keys(&mut pool, "a.example", 4460);
    pool.handle_answer(now, id, server("a.example", 1, Trust::Pki));
    let a = joined(&mut pool);
    let now = lose_keys(&mut pool, &a, 100_000);
    let id = asked_services(&mut pool);
    pool.handle_answer(now, id, services(&["a.example", "b.example"]));
    let id = asked_keys(&mut pool, "a.example", 4460);
    pool.handle_answer(now, id, server("a.example", 1, Trust::Pki));
    assert_eq!(joined(&mut pool).replaces, Some(a.id));
    assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));
}

/// The records are asked for again to find out whether they are all there are; returns when that is.
fn doubts(pool: &mut SrvPool, listed: &[&str]) -> Monotonic {
    let (next, why) = waits(pool);
    assert_eq!(why, "enough members");
    pool.handle_timeout(next);
    let id = asked_services(pool);
    pool.handle_answer(next, id, services(listed));
    next
}

#[test]
fn a_member_that_the_whole_list_does_not_name_is_replaced_once_another_gives_keys() {
    let (mut pool, [a, b]) = with_two();
    let listed = ["b.example", "d.example", "c.example"];
    let now = lose_keys(&mut pool, &a, 90_000);
    let id = asked_services(&mut pool);
    pool.handle_answer(now, id, services(&listed));
    // As long as nobody knows, its own key exchange decides.
    let id = asked_keys(&mut pool, "a.example", 4460);
    pool.handle_answer(now, id, server("a.example", 1, Trust::Pki));
    let a = joined(&mut pool);
    doubts(&mut pool, &listed);
    // In another order it is the same list.
    doubts(&mut pool, &["c.example", "d.example", "b.example"]);
    let known = doubts(&mut pool, &listed);
    assert!((24 * 3600..25 * 3600).contains(&known.since(now).as_secs()));
    let id = asked_keys(&mut pool, "d.example", 4461);
    pool.handle_answer(known, id, Answer::Failed(Failure::Connect));
    let id = asked_keys(&mut pool, "c.example", 4462);
    pool.handle_answer(known, id, server("c.example", 3, Trust::Pki));
    let c = joined(&mut pool);
    assert_eq!((c.replaces, pool.members()), (Some(a.id), 2));
    assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));

    // With no other place it serves on, but gets no keys, and the records are looked at again.
    let now = lose_keys(&mut pool, &b, 300_000);
    let id = asked_services(&mut pool);
    pool.handle_answer(now, id, services(&["c.example"]));
    let id = asked_keys(&mut pool, "b.example", 4461);
    pool.handle_answer(now, id, server("b.example", 2, Trust::Pki));
    let b = joined(&mut pool);
    for _ in 0..3 {
        doubts(&mut pool, &["c.example"]);
    }
    pool.handle_leave(at(400_000), b.id, Leave::KeysLost);
    let (next, _) = waits(&mut pool);
    assert_eq!(pool.members(), 2);
    pool.handle_timeout(next);
    let id = asked_services(&mut pool);
    pool.handle_answer(next, id, services(&["c.example", "b.example"]));
    let id = asked_keys(&mut pool, "b.example", 4461);
    pool.handle_answer(next, id, server("b.example", 2, Trust::Pki));
    assert_eq!(joined(&mut pool).replaces, Some(b.id));
}

/// A publisher may be set to answer with few of many.
#[test]
fn a_member_that_short_draws_do_not_name_is_kept() {
    let (mut pool, [mut a, _]) = with_two();
    // The first two hardly say anything, and the second look settles that they are draws.
    for (day, first, second) in [
        (2, &["b.example", "d.example"][..], &["e.example", "f.example"][..]),
        (9, &["b.example", "g.example"], &["c.example", "h.example"]),
    ] {
        let now = lose_keys(&mut pool, &a, day * 86_400);
        let id = asked_services(&mut pool);
        pool.handle_answer(now, id, services(first));
        let id = asked_keys(&mut pool, "a.example", 4460);
        pool.handle_answer(now, id, server("a.example", 1, Trust::Pki));
        let replaces = Some(a.id);
        a = joined(&mut pool);
        assert_eq!(a.replaces, replaces);
        if day == 2 {
            doubts(&mut pool, second);
        }
        assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"), "no more questions");
    }
    // Once one came back that had been left out, agreement says nothing either.
    for day in [20, 22, 24, 26, 28, 30] {
        let now = lose_keys(&mut pool, &a, day * 86_400);
        let id = asked_services(&mut pool);
        pool.handle_answer(now, id, services(&["b.example", "g.example"]));
        let id = asked_keys(&mut pool, "a.example", 4460);
        pool.handle_answer(now, id, server("a.example", 1, Trust::Pki));
        a = joined(&mut pool);
    }
    assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));
}

#[test]
fn a_look_for_who_is_listed_that_gets_no_answer_costs_nothing() {
    let (mut pool, [a, _]) = with_two();
    let now = lose_keys(&mut pool, &a, 90_000);
    let id = asked_services(&mut pool);
    pool.handle_answer(now, id, services(&["b.example", "c.example"]));
    let id = asked_keys(&mut pool, "a.example", 4460);
    pool.handle_answer(now, id, server("a.example", 1, Trust::Pki));
    joined(&mut pool);
    let (next, _) = waits(&mut pool);
    pool.handle_timeout(next);
    let id = asked_services(&mut pool);
    pool.handle_answer(next, id, Answer::Failed(Failure::Resolver));
    assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));
}

#[test]
fn a_member_that_a_draw_does_not_name_is_kept() {
    let (mut pool, [a, _]) = with_two();
    let now = lose_keys(&mut pool, &a, 90_000);
    let id = asked_services(&mut pool);
    let draw: Vec<String> = (0..8).map(|number| format!("d{number}.example")).collect();
    pool.handle_answer(now, id, services(&draw.iter().map(String::as_str).collect::<Vec<_>>()));
    let id = asked_keys(&mut pool, "a.example", 4460);
    pool.handle_answer(now, id, server("a.example", 1, Trust::Pki));
    assert_eq!(joined(&mut pool).replaces, Some(a.id));
    assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));
}

/// One that cannot renew its keys serves on with the old ones, for long perhaps.
#[test]
fn a_member_whose_keys_cannot_be_renewed_does_not_hold_up_the_look_for_others() {
    let (mut pool, [a, b]) = with_two();
    let mut now = lose_keys(&mut pool, &a, 100);
    let mut waited = 0;
    for _ in 0..14 {
        let id = match pool.poll_output() {
            Output::Ask(id, Question::Services { .. }) => {
                pool.handle_answer(now, id, Answer::Failed(Failure::Resolver));
                asked_keys(&mut pool, "a.example", 4460)
            }
            Output::Ask(id, _) => id,
            other => panic!("{other:?}"),
        };
        pool.handle_answer(now, id, Answer::Failed(Failure::Tls));
        let (next, _) = waits(&mut pool);
        waited = next.since(now).as_secs();
        if waited < 1 << 17 {
            now = next;
            pool.handle_timeout(now);
        }
    }
    assert!(waited >= 1 << 17, "it is tried ever less");
    pool.handle_leave(now, b.id, Leave::Unreachable);
    let (next, _) = waits(&mut pool);
    assert!(next.since(now).as_secs() < 60, "{next:?}");
    pool.handle_timeout(next);
    let id = asked_services(&mut pool);
    pool.handle_answer(next, id, services(&["a.example", "b.example", "c.example"]));
    let id = asked_keys(&mut pool, "c.example", 4462);
    pool.handle_answer(next, id, server("c.example", 3, Trust::Pki));
    assert_eq!(joined(&mut pool).label, "c.example");
}
