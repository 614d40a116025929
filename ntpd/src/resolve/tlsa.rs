//! What DNS says of the certificate of a server (RFC 6698).

use hickory_resolver::proto::{
    dnssec::Proof,
    rr::{RData, Record, RecordType},
};
use ntp_proto::{
    bootstrap::{Judgement, Signatures},
    pool::Name,
};
use nts_ke::dane::{self, MAX_RECORDS, Unusable};
use tokio::time::timeout;

use super::{
    TLSA_DEADLINE,
    name_servers::{Found, NameServers, worst},
};

/// What DNS says of the certificate of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsaAnswer {
    /// DNSSEC vouches for these records.
    Secure {
        /// Those that can be used.
        records: Vec<dane::Tlsa>,
        /// Why each of the others cannot.
        unusable: Vec<Unusable>,
        /// What the signatures say of the time, if they were validated here.
        signatures: Option<Signatures>,
    },
    /// DNSSEC vouches for the host's name, and there are no records.
    Absent,
    /// DNSSEC does not cover the host's name; records there are not used.
    Insecure,
    /// The host's zone is signed, and what it says of the certificate was forged or kept back: a server of that name is
    /// not to be trusted. The text says what happened.
    Bogus(String),
    /// Nothing could be learned, not even whether the zone is signed; as where a resolver drops signatures. The text says
    /// why.
    Unknown(String),
}

impl TlsaAnswer {
    /// The records that can be used, if DNSSEC vouches for any.
    #[must_use]
    pub fn records(&self) -> &[dane::Tlsa] {
        match self {
            Self::Secure { records, .. } => records,
            Self::Absent | Self::Insecure | Self::Bogus(_) | Self::Unknown(_) => &[],
        }
    }

    /// What the signatures of records that can be used say of the time: they vouch for a certificate only then.
    #[must_use]
    pub fn signatures(&self) -> Option<&Signatures> {
        match self {
            Self::Secure { records, signatures, .. } => signatures.as_ref().filter(|_| !records.is_empty()),
            Self::Absent | Self::Insecure | Self::Bogus(_) | Self::Unknown(_) => None,
        }
    }

    /// Whether DNSSEC vouches for the name of the host.
    #[must_use]
    pub const fn is_signed(&self) -> bool {
        match self {
            Self::Secure { .. } | Self::Absent => true,
            Self::Insecure | Self::Bogus(_) | Self::Unknown(_) => false,
        }
    }
}

/// Asks for the records of a TLS server.
pub(super) async fn tlsa(servers: &NameServers, host: &Name, port: u16, judgement: Judgement) -> TlsaAnswer {
    // RFC 6698 section 3.
    let Ok(owner) = Name::parse(&format!("_{port}._tcp.{host}")) else { return TlsaAnswer::Insecure };
    // Each has its own time: whoever only drops the first question must not keep the second from its answer.
    let asked = timeout(TLSA_DEADLINE, servers.ask(&owner, RecordType::TLSA, judgement));
    let (found, signed) = tokio::join!(asked, signed(servers, host, judgement));
    let late = || Found::Failed(format!("no answer in {} s", TLSA_DEADLINE.as_secs()));
    let why = match found.unwrap_or_else(|_| late()) {
        Found::Nowhere => return TlsaAnswer::Insecure,
        Found::Absent(Proof::Secure) => return TlsaAnswer::Absent,
        Found::Absent(Proof::Insecure) => return TlsaAnswer::Insecure,
        Found::Absent(Proof::Indeterminate) => String::new(),
        Found::Absent(Proof::Bogus) => "their absence is not proven".to_owned(),
        Found::Failed(why) => why,
        Found::Early(_) => "they are signed for a later time than our clock's".to_owned(),
        Found::Records(answers, signatures) => match worst(&answers) {
            Proof::Secure => return usable(&answers, signatures),
            Proof::Insecure => return TlsaAnswer::Insecure,
            Proof::Bogus | Proof::Indeterminate => "they are forged or broken".to_owned(),
        },
    };
    match (signed, why.is_empty()) {
        (Some(true), true) => TlsaAnswer::Absent,
        (Some(true), false) => TlsaAnswer::Bogus(why),
        (Some(false), _) => TlsaAnswer::Insecure,
        (None, true) => TlsaAnswer::Unknown("the resolver does not say whether the zone is signed".to_owned()),
        (None, false) => TlsaAnswer::Unknown(why),
    }
}

fn usable(answers: &[Record], signatures: Option<Signatures>) -> TlsaAnswer {
    let (mut records, mut unusable) = (Vec::new(), Vec::new());
    for answer in answers {
        let RData::TLSA(tlsa) = &answer.data else { continue };
        let (usage, selector, matching) = (tlsa.cert_usage.into(), tlsa.selector.into(), tlsa.matching.into());
        match dane::Tlsa::new(usage, selector, matching, tlsa.cert_data.clone()) {
            Ok(record) if records.len() < MAX_RECORDS => records.push(record),
            Ok(_) => {}
            Err(why) if unusable.len() < MAX_RECORDS => unusable.push(why),
            Err(_) => {}
        }
    }
    TlsaAnswer::Secure { records, unusable, signatures }
}

/// Whether the zone of a host is signed; `None` if that cannot be learned, not in [`TLSA_DEADLINE`] or not at all.
pub(super) async fn signed(servers: &NameServers, host: &Name, judgement: Judgement) -> Option<bool> {
    timeout(TLSA_DEADLINE, proof_of_addresses(servers, host, judgement)).await.unwrap_or(None)
}

/// Addresses are asked for, since every resolver passes those on.
async fn proof_of_addresses(servers: &NameServers, host: &Name, judgement: Judgement) -> Option<bool> {
    for kind in [RecordType::A, RecordType::AAAA] {
        let proof = match servers.ask(host, kind, judgement).await {
            Found::Records(answers, _) => worst(&answers),
            Found::Absent(proof) => proof,
            Found::Nowhere => return Some(false),
            Found::Early(_) => Proof::Bogus,
            Found::Failed(_) => Proof::Indeterminate,
        };
        match proof {
            Proof::Secure => return Some(true),
            Proof::Insecure => return Some(false),
            Proof::Bogus | Proof::Indeterminate => {}
        }
    }
    None
}
