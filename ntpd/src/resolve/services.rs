//! Service records (RFC 2782).

use std::time::Duration;

use hickory_resolver::proto::{
    dnssec::Proof,
    rr::{self, RData, Record, RecordType},
};
use ntp_proto::{
    pool::{Answer, Failure, Name, Service},
    time::UnixTime,
};

use super::name_servers::{Found, NameServers, worst};
use crate::now;

/// Answers are used for this long at least and at most.
const LIFETIMES: (u32, u32) = (60, 86_400);

/// What is asked of records before they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// That DNSSEC vouches for them.
    Secure,
    /// Nothing: they lead to plain NTP. Those that DNSSEC refutes are not used all the same.
    Any,
}

/// Asks for service records. The text says for people what went wrong.
pub(super) async fn services(
    servers: &NameServers,
    owner: &Name,
    wanted: Wanted,
    judged_at: UnixTime,
) -> (Answer, Option<String>) {
    match servers.ask(owner, RecordType::SRV, judged_at).await {
        Found::Records(records) => judge(owner, &records, wanted),
        // Of an absence no proof is asked: whoever can forge it gains nothing, for the certificate must then be for the
        // name itself, and a name that had NTS before stays with NTS. Many resolvers drop such proofs.
        Found::Absent(_) | Found::Nowhere => (Answer::NoRecord, None),
        Found::Failed(why) => failed(owner, &why),
    }
}

fn judge(owner: &Name, records: &[Record], wanted: Wanted) -> (Answer, Option<String>) {
    match (worst(records), wanted) {
        (Proof::Secure, _) | (Proof::Insecure | Proof::Indeterminate, Wanted::Any) => usable(owner, records),
        (Proof::Bogus, _) => bogus(owner),
        (Proof::Insecure | Proof::Indeterminate, Wanted::Secure) => {
            let text =
                format!("{owner}: service records are not signed, so they are not used (sign the zone with DNSSEC)");
            (Answer::Insecure, Some(text))
        }
    }
}

fn usable(owner: &Name, way: &[Record]) -> (Answer, Option<String>) {
    let (mut records, mut unusable) = (Vec::new(), 0_usize);
    for record in way {
        let RData::SRV(srv) = &record.data else { continue };
        // RFC 2782: "A Target of "." means that the service is decidedly not available at this domain."
        if srv.target.is_root() {
            continue;
        }
        match Name::parse(&rr::Name::to_ascii(&srv.target)) {
            Ok(target) if srv.port != 0 => {
                records.push(Service { priority: srv.priority, weight: srv.weight, port: srv.port, target });
            }
            Ok(_) | Err(_) => unusable = unusable.saturating_add(1),
        }
    }
    match (records.is_empty(), unusable) {
        (false, _) => {
            let seconds = way.iter().map(|record| record.ttl).min().unwrap_or(0).clamp(LIFETIMES.0, LIFETIMES.1);
            let until = now::monotonic() + Duration::from_secs(seconds.into());
            (Answer::Services { records, until }, None)
        }
        (true, 0) => (Answer::NoRecord, None),
        (true, _) => failed(owner, "no service record names a host and a port"),
    }
}

fn bogus(owner: &Name) -> (Answer, Option<String>) {
    let text = format!(
        "{owner}: service records are not those that DNSSEC vouches for (is the clock right, or does a resolver on the way \
         drop signatures?)"
    );
    (Answer::Bogus, Some(text))
}

fn failed(owner: &Name, why: &str) -> (Answer, Option<String>) {
    let text = format!("{owner}: no service records could be had: {why} (is there a network, and a resolver?)");
    (Answer::Failed(Failure::Resolver), Some(text))
}
