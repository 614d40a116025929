//! A world in which modes find servers.

use std::{net::SocketAddr, time::Duration};

use ntp_proto::{
    ids::Trust,
    pool::{Answer, Name, Negotiated, Question, Service},
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
