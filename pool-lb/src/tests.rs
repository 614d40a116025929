#![expect(clippy::wildcard_enum_match_arm, reason = "any other output fails the test")]

use core::time::Duration;
use std::net::SocketAddr;

use ntp_proto::{ids::Trust, pool::Failure};

use super::*;

const START: Monotonic = Monotonic::from_nanos(1);

fn at(seconds: u64) -> Monotonic {
    START + Duration::from_secs(seconds)
}

fn pool(target: usize) -> LbPool {
    let mut pool = LbPool::new(Name::parse("time.example").unwrap(), 4460, 1);
    pool.set_target(target);
    pool
}

/// A server `name` at addresses ending in `ips`.
fn server(name: &str, ips: &[u8]) -> Answer {
    let addresses = ips.iter().map(|ip| SocketAddr::from(([192, 0, 2, *ip], 123))).collect();
    Answer::KeyExchange(Negotiated { ntp_server: name.into(), addresses, trust: Trust::Pki })
}

/// The exchange asked for, and whom it denies.
fn asked(pool: &mut LbPool) -> (QuestionId, Vec<String>) {
    match pool.poll_output() {
        Output::Ask(id, Question::KeyExchange(exchange)) => {
            assert_eq!((exchange.server.as_str(), exchange.port, exchange.addresses), ("time.example", 4460, None));
            assert!(matches!(pool.poll_output(), Output::Timeout(None, "key exchange")));
            (id, exchange.denied)
        }
        other => panic!("{other:?}"),
    }
}

fn joined(pool: &mut LbPool) -> Member {
    match pool.poll_output() {
        Output::Join(member) => member,
        other => panic!("{other:?}"),
    }
}

fn waits(pool: &mut LbPool) -> Monotonic {
    match pool.poll_output() {
        Output::Timeout(Some(at), _) => at,
        other => panic!("{other:?}"),
    }
}

/// Asks and joins one member.
fn gain(pool: &mut LbPool, now: Monotonic, name: &str, ips: &[u8]) -> Member {
    let (id, _) = asked(pool);
    pool.handle_answer(now, id, server(name, ips));
    let member = joined(pool);
    assert_eq!((member.label.as_str(), member.keys), (name, Some(id)));
    member
}

#[test]
fn a_plain_server_is_a_balancer_of_one() {
    let mut pool = pool(1);
    let member = gain(&mut pool, START, "time.example", &[1, 2]);
    assert_eq!((member.addresses.len(), member.replaces), (2, None));
    assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));
    pool.handle_timeout(at(1_000_000));
    assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));
}

#[test]
fn exchanges_deny_those_held_until_there_are_enough() {
    let mut pool = pool(3);
    gain(&mut pool, START, "a.example", &[1]);
    let (id, denied) = asked(&mut pool);
    assert_eq!(denied, ["a.example"]);
    pool.handle_answer(START, id, server("b.example", &[2]));
    joined(&mut pool);
    let (id, denied) = asked(&mut pool);
    assert_eq!(denied, ["a.example", "b.example"]);
    pool.handle_answer(START, id, server("c.example", &[3]));
    joined(&mut pool);
    assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));
}

#[test]
fn a_server_held_already_by_name_or_address_means_that_there_are_no_more() {
    for (name, ip) in [("A.example.", 9), ("other.example", 1)] {
        let mut pool = pool(2);
        gain(&mut pool, START, "a.example", &[1, 7]);
        let mut now = START;
        for wait in [16, 32, 64] {
            let (id, denied) = asked(&mut pool);
            assert_eq!(denied, ["a.example"]);
            pool.handle_answer(now, id, server(name, &[ip]));
            let next = waits(&mut pool);
            assert!((wait..=wait + wait / 8).contains(&next.since(now).as_secs()));
            pool.handle_timeout(Monotonic::from_nanos(next.to_nanos() - 1));
            assert_eq!(waits(&mut pool), next);
            now = next;
            pool.handle_timeout(now);
        }
        gain(&mut pool, now, "b.example", &[2]);
    }
}

#[test]
fn a_member_without_keys_gets_them_from_the_same_server_or_is_replaced() {
    for (name, ip) in [("a.example", 1), ("c.example", 3)] {
        let mut pool = pool(2);
        let a = gain(&mut pool, START, "a.example", &[1]);
        gain(&mut pool, START, "b.example", &[2]);
        assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));
        pool.handle_leave(at(1000), a.id, Leave::KeysLost);
        let next = waits(&mut pool);
        assert!((16..=18).contains(&next.since(at(1000)).as_secs()));
        // Saying it again does not put it off.
        pool.handle_leave(at(1001), a.id, Leave::KeysLost);
        assert_eq!(waits(&mut pool), next);
        pool.handle_timeout(next);
        let (id, denied) = asked(&mut pool);
        assert_eq!(denied, ["b.example"]);
        pool.handle_answer(next, id, server(name, &[ip]));
        let member = joined(&mut pool);
        assert_eq!((member.label.as_str(), member.keys, member.replaces), (name, Some(id), Some(a.id)));
        assert_ne!(member.id, a.id);
        assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));
        // The old id is no longer a member.
        pool.handle_leave(next, a.id, Leave::KeysLost);
        assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));
    }
}

#[test]
fn keys_lost_with_every_poll_cost_ever_fewer_exchanges() {
    let mut pool = pool(1);
    let mut member = gain(&mut pool, START, "a.example", &[1]);
    let mut now = at(64);
    let mut exchanges = 0;
    while now < at(86_400) {
        pool.handle_leave(now, member.id, Leave::KeysLost);
        now = waits(&mut pool);
        pool.handle_timeout(now);
        member = gain(&mut pool, now, "a.example", &[1]);
        exchanges += 1;
        now = now + Duration::from_secs(64);
    }
    assert!(exchanges <= 14, "{exchanges}");
}

#[test]
fn one_that_left_is_denied_and_refused_for_a_while() {
    let mut pool = pool(2);
    let a = gain(&mut pool, START, "a.example", &[1]);
    gain(&mut pool, START, "b.example", &[2]);
    pool.handle_leave(START, a.id, Leave::Unreachable);
    let next = waits(&mut pool);
    pool.handle_timeout(next);
    let (id, denied) = asked(&mut pool);
    assert_eq!(denied, ["b.example", "a.example"]);
    pool.handle_answer(at(20), id, server("a.example", &[1]));
    let next = waits(&mut pool);
    pool.handle_timeout(next);
    let (id, denied) = asked(&mut pool);
    assert_eq!(denied, ["b.example", "a.example"]);
    pool.handle_answer(at(3 * 3600), id, server("a.example", &[1]));
    assert_eq!(joined(&mut pool).replaces, None);
}

#[test]
fn the_only_server_is_taken_again_unless_it_denied_us() {
    for (reason, taken) in [(Leave::Unreachable, true), (Leave::Unusable, true), (Leave::Denied, false)] {
        let mut pool = pool(1);
        let a = gain(&mut pool, START, "a.example", &[1]);
        pool.handle_leave(START, a.id, reason);
        let next = waits(&mut pool);
        pool.handle_timeout(next);
        let (id, _) = asked(&mut pool);
        pool.handle_answer(next, id, server("a.example", &[1]));
        assert_eq!(matches!(pool.poll_output(), Output::Join(_)), taken, "{reason:?}");
    }
}

#[test]
fn failures_and_wrong_answers_are_waited_out() {
    for answer in [
        Answer::Failed(Failure::Tls),
        Answer::NoRecord,
        Answer::Insecure,
        Answer::Bogus,
        Answer::Addresses { addresses: vec![], until: START },
        Answer::Services { records: vec![], until: START },
    ] {
        let mut pool = pool(1);
        let (id, _) = asked(&mut pool);
        pool.handle_answer(START, QuestionId(id.0 + 1), server("a.example", &[1]));
        assert_eq!(pool.poll_output(), Output::Timeout(None, "key exchange"));
        pool.handle_answer(START, id, answer);
        let next = waits(&mut pool);
        pool.handle_answer(START, id, server("a.example", &[1]));
        assert_eq!(waits(&mut pool), next);
        pool.handle_timeout(next);
        gain(&mut pool, next, "a.example", &[1]);
    }
}

#[test]
fn a_request_denies_no_more_than_a_request_holds() {
    let mut pool = pool(MAX_MEMBERS);
    for ip in 0..15 {
        gain(&mut pool, START, &format!("s{ip}.example"), &[ip]);
    }
    for round in 0..5_u64 {
        let ip = 100 + u8::try_from(round).unwrap();
        let now = at(round * 10);
        let extra = gain(&mut pool, now, &format!("s{ip}.example"), &[ip]);
        pool.handle_leave(now, extra.id, Leave::Unusable);
        let next = waits(&mut pool);
        pool.handle_timeout(next);
    }
    assert_eq!(asked(&mut pool).1.len(), deny::MAX_DENIED);
}
