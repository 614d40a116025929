//! Addresses, asked for at the name servers.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::proto::{
    dnssec::Proof,
    rr::{RData, RecordType},
};
use ntp_proto::{
    bootstrap::Judgement,
    pool::{Answer, Name},
};

use super::{
    answer,
    name_servers::{Found, NameServers, worst},
    no_address, unresolved,
};

/// Asks for the addresses of a host. They need no proof, since a server has to prove who it is; those that DNSSEC refutes
/// are not used all the same. The text says for people what went wrong.
pub(super) async fn addresses(
    servers: &NameServers,
    name: &Name,
    port: u16,
    judgement: Judgement,
) -> (Answer, Option<String>) {
    let ask = |kind| servers.ask_unproven(name, kind, judgement);
    let (v4, v6) = tokio::join!(ask(RecordType::A), ask(RecordType::AAAA));
    let mut found = Vec::new();
    let mut trouble = None;
    for outcome in [v4, v6] {
        match outcome {
            Found::Records(records, _) if worst(&records) == Proof::Bogus => {
                trouble = Some("its addresses are not those that DNSSEC vouches for".to_owned());
            }
            Found::Early(_) => trouble = Some("its addresses are signed for a later time than our clock's".to_owned()),
            Found::Records(records, _) => found.extend(records.iter().filter_map(|record| address(&record.data))),
            Found::Absent(_) | Found::Nowhere => {}
            Found::Failed(why) => trouble = Some(why),
        }
    }
    match trouble {
        // One family is enough.
        _ if !found.is_empty() => {
            answer(name, found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
        }
        Some(why) => unresolved(name, &why),
        None => no_address(name),
    }
}

fn address(data: &RData) -> Option<IpAddr> {
    if let RData::A(address) = data {
        Some(address.0.into())
    } else if let RData::AAAA(address) = data {
        Some(address.0.into())
    } else {
        None
    }
}
