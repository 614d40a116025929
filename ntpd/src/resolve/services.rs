//! Service records (RFC 2782).

use std::time::Duration;

use hickory_resolver::proto::{
    dnssec::Proof,
    rr::{self, RData, Record, RecordType},
};
use ntp_proto::{
    bootstrap::{Judgement, Signatures},
    pool::{Answer, Failure, Name, Service},
};

use super::{
    name_servers::{Found, NameServers, host, worst},
    tlsa,
};
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

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAnswer {
    /// The answer.
    pub answer: Answer,
    /// What went wrong, for people.
    pub problem: Option<String>,
    /// What the signatures of records that were validated here say of the time: servers that they name can be believed only
    /// then. All that one answer names share it.
    pub signatures: Option<Signatures>,
    /// The same of records that are signed, but only from a later time on: they are not used, and show that the clock is behind.
    pub later: Option<Signatures>,
}

impl From<(Answer, Option<String>)> for ServiceAnswer {
    fn from((answer, problem): (Answer, Option<String>)) -> Self {
        Self { answer, problem, signatures: None, later: None }
    }
}

/// Asks for service records.
pub(super) async fn services(
    servers: &NameServers,
    owner: &Name,
    wanted: Wanted,
    judgement: Judgement,
) -> ServiceAnswer {
    match servers.ask(owner, RecordType::SRV, judgement).await {
        Found::Records(records, signatures) => {
            let (answer, problem) = judge(owner, &records, wanted);
            let is_signed = worst(&records) == Proof::Secure;
            ServiceAnswer { answer, problem, signatures: signatures.filter(|_| is_signed), later: None }
        }
        Found::Early(signatures) => {
            let (answer, problem) = bogus(owner);
            ServiceAnswer { answer, problem, signatures: None, later: Some(signatures) }
        }
        // An absence without its proof was forged, if the rest of the zone comes with signatures: `auto` would go on to plain
        // NTP. Where nothing comes with any, a resolver that drops them all cannot be told from an unsigned zone, and a name
        // that had NTS before is kept from plain NTP by that alone.
        Found::Absent(Proof::Bogus) if wanted == Wanted::Secure && is_signed(servers, owner, judgement).await => {
            let text = format!("{owner}: service records are kept back: that there are none is not proven (DNSSEC)");
            (Answer::Bogus, Some(text)).into()
        }
        Found::Absent(_) | Found::Nowhere => (Answer::NoRecord, None).into(),
        Found::Failed(why) => failed(owner, &why).into(),
    }
}

/// Whether the zone of the host that has these records is known to be signed.
async fn is_signed(servers: &NameServers, owner: &Name, judgement: Judgement) -> bool {
    let Some(host) = host(owner) else { return false };
    tlsa::signed(servers, &host, judgement).await == Some(true)
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
