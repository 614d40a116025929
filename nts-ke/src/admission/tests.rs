use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> Monotonic {
    Monotonic::from_nanos(1_000_000_000 * (1_000 + seconds))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn pools_keep_many_connections_and_never_keep_a_client_out() {
    let limits = Limits { total: 64, interval: Duration::ZERO, ..Limits::default() };
    let mut admission = Admission::new(limits);
    let pool = address("192.0.2.1");
    let mut kept = 0;
    while let Decision::Admit(id) = admission.handle_connection(at(0), pool) {
        admission.handle_progress(id, Stage::Kept);
        kept += 1;
    }
    assert_eq!(kept, 32 + limits.host, "half of the places, and what any host may have");
    for host in 0..64 {
        let client = address(&format!("198.51.{host}.1"));
        let (Decision::Admit(id) | Decision::Replace { admitted: id, .. }) = admission.handle_connection(at(0), client)
        else {
            panic!("client {host} is refused");
        };
        admission.handle_progress(id, Stage::Request);
    }
    assert_eq!(admission.open(), 64, "the clients have all places, the pool none");
}

#[test]
fn members_take_a_pool_that_connects_with_many_threads_at_once() {
    let mut admission = Admission::new(Limits::default());
    let pool = address("192.0.2.1");
    for _ in 0..4 {
        admitted(admission.handle_connection(at(0), pool));
    }
    assert_eq!(admission.handle_connection(at(0), pool), Decision::Refuse(Refusal::Host));
    admission.set_limits(Limits::for_members());
    let ids: Vec<_> = (4..32).map(|_| admitted(admission.handle_connection(at(0), pool))).collect();
    assert_eq!(admission.handle_connection(at(0), pool), Decision::Refuse(Refusal::Host), "a host has an end too");
    ids.iter().for_each(|id| admission.handle_closed(*id));
    for _ in 0..28 {
        admitted(admission.handle_connection(at(0), pool));
    }
}

fn admitted(decision: Decision) -> ConnectionId {
    match decision {
        Decision::Admit(id) => id,
        Decision::Replace { .. } | Decision::Refuse(_) => panic!("{decision:?}"),
    }
}

/// An address in the network numbered `n`.
fn in_network(n: u32, host: u32) -> IpAddr {
    Ipv4Addr::from((10 << 24) + (n << 8) + host).into()
}

#[test]
fn a_host_has_four_connections_and_one_more_for_each_closed() {
    let mut admission = Admission::new(Limits::default());
    // All of a /64 is one host.
    let hosts =
        [["192.0.2.1"; 5], ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:0:0:3", "2001:db8::4", "2001:db8::5"]];
    for peers in hosts {
        let peers = peers.map(address);
        let first = admitted(admission.handle_connection(at(0), peers[0]));
        for peer in &peers[1..4] {
            admitted(admission.handle_connection(at(0), *peer));
        }
        assert_eq!(admission.handle_connection(at(0), peers[4]), Decision::Refuse(Refusal::Host));
        admission.handle_closed(first);
        admission.handle_closed(first);
        admitted(admission.handle_connection(at(0), peers[4]));
    }
    admitted(admission.handle_connection(at(0), address("192.0.2.2")));
    admitted(admission.handle_connection(at(0), address("2001:db8:0:1::1")));
    assert_eq!(admission.open(), 10);
}

#[test]
fn a_host_opens_eight_at_once_and_then_one_in_four_seconds() {
    let mut admission = Admission::new(Limits::default());
    let peer = address("::ffff:192.0.2.1");
    let mut open = |seconds| {
        let decision = admission.handle_connection(at(seconds), peer);
        if let Decision::Admit(id) = decision {
            admission.handle_closed(id);
        }
        decision
    };
    for _ in 0..8 {
        admitted(open(0));
    }
    for (seconds, admit) in [(0, false), (3, false), (4, true), (4, false), (7, false), (12, true), (12, true)] {
        assert_eq!(matches!(open(seconds), Decision::Admit(_)), admit, "{seconds} s");
    }
    assert_eq!(open(12), Decision::Refuse(Refusal::Rate));
    assert!((0..8).all(|_| matches!(open(100), Decision::Admit(_))), "rest is saved up");
    assert_eq!(open(100), Decision::Refuse(Refusal::Rate));
}

#[test]
fn a_shortage_costs_those_who_came_least_far_and_is_forgotten() {
    let limits = Limits { total: 64, host: 64, network: 64, burst: 99, ..Limits::default() };
    let mut admission = Admission::new(limits);
    let ids: Vec<_> = (0..40).map(|host| admitted(admission.handle_connection(at(0), in_network(1, host)))).collect();
    for id in &ids[..35] {
        admission.handle_progress(*id, Stage::Request);
    }
    assert_eq!(admission.handle_shortage(at(1)), ids[35..], "ten are too many, and five may go");
    assert_eq!(admission.open(), 35);
    assert_eq!(admission.handle_connection(at(1), in_network(2, 0)), Decision::Refuse(Refusal::Full));
    ids[..10].iter().for_each(|id| admission.handle_closed(*id));
    let last = admitted(admission.handle_connection(at(60), in_network(2, 1)));
    for _ in 0..2 {
        let decision = admission.handle_connection(at(60), in_network(2, 2));
        assert!(
            matches!(decision, Decision::Replace { .. }),
            "30 places, of which four fifths are taken: {decision:?}"
        );
    }
    admission.handle_closed(last);
    admitted(admission.handle_connection(at(61), in_network(2, 3)));
    admitted(admission.handle_connection(at(61), in_network(2, 4)));
    let mut few = Admission::new(limits);
    admitted(few.handle_connection(at(0), in_network(1, 1)));
    assert!(few.handle_shortage(at(0)).is_empty(), "others hold what is missing");
    for host in 2..12 {
        admitted(few.handle_connection(at(0), in_network(1, host)));
    }
}

#[test]
fn a_network_has_thirty_two() {
    let mut admission = Admission::new(Limits::default());
    for host in 0..32 {
        admitted(admission.handle_connection(at(0), in_network(7, host)));
    }
    assert_eq!(admission.handle_connection(at(0), in_network(7, 99)), Decision::Refuse(Refusal::Network));
    admitted(admission.handle_connection(at(0), in_network(8, 99)));
}

#[test]
fn this_machine_may_do_as_it_likes_unless_it_is_limited_too() {
    for (limit_loopback, expected) in [(false, 100), (true, 4)] {
        let mut admission = Admission::new(Limits { limit_loopback, ..Limits::default() });
        for n in 0..100 {
            let peer = if n % 2 == 0 { Ipv4Addr::LOCALHOST.to_ipv6_mapped() } else { Ipv6Addr::LOCALHOST };
            let peer = if limit_loopback { Ipv6Addr::LOCALHOST } else { peer };
            let _ = admission.handle_connection(at(0), peer.into());
        }
        assert_eq!(admission.open(), expected);
    }
}

#[test]
fn in_a_crowd_the_least_advanced_of_the_busiest_network_goes() {
    let limits = Limits { total: 10, ..Limits::default() };
    let mut admission = Admission::new(limits);
    let honest = admitted(admission.handle_connection(at(0), in_network(1, 1)));
    let busy: Vec<ConnectionId> =
        (0..7).map(|host| admitted(admission.handle_connection(at(0), in_network(2, host)))).collect();
    admission.handle_progress(busy[0], Stage::Handshake);
    let mut replace = |n| match admission.handle_connection(at(0), in_network(3, n)) {
        Decision::Replace { evicted, .. } => evicted,
        decision @ (Decision::Admit(_) | Decision::Refuse(_)) => panic!("{decision:?}"),
    };
    // Those in the first stage from the oldest, until the other network is the busier one.
    let evicted: Vec<ConnectionId> = (0..4).map(&mut replace).collect();
    assert_eq!(evicted, busy[1..5]);
    assert_ne!(replace(4), honest);
    assert_eq!(admission.open(), 8);
}

#[test]
fn who_has_come_far_stays_and_the_last_fifth_fills_up() {
    let mut admission = Admission::new(Limits { total: 10, ..Limits::default() });
    for n in 0..10 {
        let id = admitted(admission.handle_connection(at(0), in_network(n, 1)));
        admission.handle_progress(id, Stage::Request);
    }
    assert_eq!(admission.handle_connection(at(0), in_network(99, 1)), Decision::Refuse(Refusal::Full));
    assert_eq!(admission.open(), 10);
}

#[test]
fn rates_of_many_hosts_take_bounded_memory() {
    let mut admission = Admission::new(Limits::default());
    for n in 0..4_600 {
        let id = admitted(admission.handle_connection(at(0), in_network(n, 1)));
        admission.handle_closed(id);
        assert!(admission.rates.len() <= MAX_HOSTS);
    }
    let id = admitted(admission.handle_connection(at(5), in_network(0, 1)));
    admission.handle_closed(id);
    assert_eq!(admission.rates.len(), 1, "hosts that may open connections again are forgotten");
}

proptest! {
    #[test]
    fn no_limit_is_ever_exceeded(events in prop::collection::vec((any::<u8>(), any::<u8>(), 0..4_u8), 0..400)) {
        let limits = Limits { total: 20, host: 2, network: 6, ..Limits::default() };
        let mut admission = Admission::new(limits);
        let mut ids = Vec::new();
        for (step, (network, host, what)) in (0..).zip(events) {
            match admission.handle_connection(at(step), in_network(u32::from(network % 8), u32::from(host % 8))) {
                Decision::Admit(id) => ids.push(id),
                Decision::Replace { admitted, evicted } => {
                    ids.retain(|id| *id != evicted);
                    ids.push(admitted);
                }
                Decision::Refuse(_) => {}
            }
            if let Some(id) = ids.get(usize::from(host) % ids.len().max(1)).copied() {
                match what {
                    0 => {
                        admission.handle_closed(id);
                        ids.retain(|other| *other != id);
                    }
                    1 => admission.handle_progress(id, Stage::Handshake),
                    2 => admission.handle_progress(id, Stage::Request),
                    _ => {}
                }
            }
            prop_assert_eq!(admission.open(), ids.len());
            prop_assert!(ids.len() <= limits.total);
            for open in admission.open.values() {
                let hosts = admission.open.values().filter(|other| other.host == open.host).count();
                let networks = admission.open.values().filter(|other| other.network == open.network).count();
                prop_assert!(hosts <= limits.host && networks <= limits.network);
            }
        }
    }
}
