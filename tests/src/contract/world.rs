//! A world in which modes find servers.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use ntp_proto::{
    ids::Trust,
    pool::{Answer, Failure, Member, Name, Negotiated, Question, Service},
    time::Monotonic,
};

/// Distinct servers that the good world has.
const SERVERS: u8 = 40;

pub(super) fn server_name(number: u8) -> String {
    format!("s{number}.example")
}

fn named(name: &str) -> Option<u8> {
    (0..=u8::MAX).find(|number| server_name(*number) == name)
}

fn itself(name: &str) -> Option<u8> {
    named(name).filter(|number| *number < SERVERS)
}

/// Two addresses a server, each server in a network of its own.
pub(super) fn server_addresses(number: u8) -> Vec<SocketAddr> {
    [1, 2].map(|host| SocketAddr::from(([10, 0, number, host], 123))).to_vec()
}

/// A world in which everything is found and all servers answer.
#[must_use]
pub fn good(now: Monotonic, question: &Question) -> Answer {
    let until = now + Duration::from_secs(300);
    match question {
        // Of any server its own, even of those that nothing leads to here.
        Question::Addresses { name, .. } if named(name.as_str()).is_some() => {
            Answer::Addresses { addresses: named(name.as_str()).map(server_addresses).unwrap_or_default(), until }
        }
        Question::Addresses { .. } => {
            let addresses = (0..SERVERS).filter_map(|number| server_addresses(number).first().copied()).collect();
            Answer::Addresses { addresses, until }
        }
        Question::Services { .. } => {
            let target = |number| Name::parse(&server_name(number)).ok();
            let records =
                (0..SERVERS).filter_map(target).map(|target| Service { priority: 1, weight: 1, port: 4460, target });
            Answer::Services { records: records.collect(), until }
        }
        Question::KeyExchange(exchange) => {
            // A server under its own name or at its own address gives itself, a balancer the first that is not denied.
            let own = |address: &SocketAddr| (0..SERVERS).find(|number| server_addresses(*number).contains(address));
            let there = exchange.addresses.as_ref().and_then(|addresses| addresses.iter().find_map(own));
            let free = || (0..SERVERS).find(|number| !exchange.denied.contains(&server_name(*number)));
            let number = itself(exchange.server.as_str()).or(there).or_else(free).unwrap_or(0);
            Answer::KeyExchange(Negotiated {
                ntp_server: server_name(number),
                addresses: server_addresses(number),
                trust: Trust::Pki,
            })
        }
    }
}

/// A world of hosts that have an address of either family each, and no name but the pool's.
pub(super) fn dual_stack(hosts: u8, v6_first: bool, now: Monotonic, question: &Question) -> Answer {
    let until = now + Duration::from_secs(300);
    match question {
        Question::Addresses { port, .. } => {
            let v4 = (0..hosts).map(|host| SocketAddr::from(([10, 0, host, 1], *port)));
            let v6 = (0..hosts).map(|host| SocketAddr::from(([0x2001, 0xdb8, host.into(), 0, 0, 0, 0, 1], *port)));
            let addresses = if v6_first { v6.chain(v4).collect() } else { v4.chain(v6).collect() };
            Answer::Addresses { addresses, until }
        }
        Question::Services { .. } => Answer::NoRecord,
        Question::KeyExchange(exchange) => {
            let addresses = exchange.addresses.clone().unwrap_or_default();
            let ntp_server = exchange.server.to_string();
            Answer::KeyExchange(Negotiated { ntp_server, addresses, trust: Trust::Pki })
        }
    }
}

/// The same, but a host gives no keys.
pub(super) fn dual_stack_without(dead: u8, hosts: u8, v6_first: bool, now: Monotonic, question: &Question) -> Answer {
    let is_dead = |address: &SocketAddr| host_at(address.ip()) == dead;
    lacking(is_dead, question).unwrap_or_else(|| dual_stack(hosts, v6_first, now, question))
}

/// The same, but nobody can be reached by a family.
pub(super) fn without_family(v4: bool, hosts: u8, v6_first: bool, now: Monotonic, question: &Question) -> Answer {
    let is_cut = |address: &SocketAddr| address.is_ipv4() == v4;
    lacking(is_cut, question).unwrap_or_else(|| dual_stack(hosts, v6_first, now, question))
}

fn lacking(is_lost: impl Fn(&SocketAddr) -> bool, question: &Question) -> Option<Answer> {
    let Question::KeyExchange(exchange) = question else { return None };
    let addresses = exchange.addresses.as_ref()?;
    addresses.iter().any(is_lost).then_some(Answer::Failed(Failure::Connect))
}

fn host_at(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(address) => address.octets()[2],
        IpAddr::V6(address) => low_octet(address),
    }
}

fn low_octet(address: Ipv6Addr) -> u8 {
    let [.., low] = address.segments()[2].to_be_bytes();
    low
}

/// Which of the hosts with two families a member is.
pub(super) fn host_of(member: &Member) -> u8 {
    member.addresses.first().map_or(u8::MAX, |address| host_at(address.ip()))
}
