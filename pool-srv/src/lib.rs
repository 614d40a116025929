//! Pools by DNS SRV records.
//!
//! [`SrvPool`] asks for the service records of a name, which DNSSEC must vouch for, and exchanges keys with each target
//! under the target's own name. Records that are unsigned or forged never choose a name: only the records of the last
//! good answer are used.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use ntp_proto::{
    ids::Trust,
    pool::{
        Answer, InvalidName, KeyExchange, Name, Negotiated, Question, Service,
        listed::{List, ListedPool},
    },
    time::Monotonic,
};

#[cfg(feature = "operator")]
pub mod directory;
#[cfg(feature = "files")]
pub mod files;
#[cfg(feature = "operator")]
pub mod publish;
#[cfg(feature = "operator")]
pub mod tsig;

pub use ntp_proto::pool::order::{MAX_TARGETS, order};

/// The service that is asked for, in front of the name (RFC 8915 section 7.2 registers `ntske`).
const SERVICE: &str = "_ntske._tcp";

/// Below it a zone lists all members, one name for each, for balancers that transfer it. What is at [`SERVICE`] is for
/// clients: a draw.
#[cfg(feature = "operator")]
const LIST: &str = "_members";

/// The owner of a pool's service records.
///
/// # Errors
///
/// [`InvalidName`] if the name is too long to have any.
pub fn service_owner(name: &Name) -> Result<Name, InvalidName> {
    Name::parse(&format!("{SERVICE}.{name}"))
}

/// Members from the targets of service records.
pub type SrvPool = ListedPool<Services>;

/// A pool of the targets of the service records of `name`. `seed` decides the order among records of one priority, and
/// the jitter of waits.
///
/// # Errors
///
/// [`InvalidName`] if the name is too long to have service records.
pub fn srv_pool(name: &Name, seed: u64) -> Result<SrvPool, InvalidName> {
    Ok(SrvPool::new(Services { owner: service_owner(name)?, random: seed | 1 }, seed))
}

/// The service records of a name.
#[derive(Clone, Debug)]
pub struct Services {
    owner: Name,
    random: u64,
}

impl List for Services {
    type Place = Service;
    type Key = Name;

    const WHAT: &'static str = "service records";

    /// Most pools that answer with a draw give eight records if they have as many; of shorter answers it is found out.
    const WHOLE: usize = 7;

    fn question(&self) -> Question {
        Question::Services { owner: self.owner.clone(), validated: true }
    }

    fn read(&mut self, answer: Answer) -> Result<(Vec<Service>, Monotonic), &'static str> {
        match answer {
            Answer::Services { records, until } => {
                let random = &mut self.random;
                let records = order(records, |below| {
                    // The high bits of a linear congruence are good enough to share load.
                    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (*random >> 33) % below
                });
                Ok((records, until))
            }
            Answer::NoRecord => Err("service records: there are none"),
            Answer::Insecure => Err("service records: they are not signed"),
            Answer::Bogus => Err("service records: they are forged or broken"),
            Answer::Failed(_) | Answer::Addresses { .. } | Answer::KeyExchange(_) => Err("service records: no answer"),
        }
    }

    fn key(service: &Service) -> Name {
        service.target.clone()
    }

    /// A target is a server, whatever addresses it has.
    fn address(_: &Service) -> Option<IpAddr> {
        None
    }

    fn exchange(&self, Service { target, port, .. }: &Service) -> KeyExchange {
        let (server, port) = (target.clone(), *port);
        KeyExchange { server, port, addresses: None, validated: true, denied: Vec::new() }
    }

    /// The record that named the target was validated.
    fn interpret(&self, _: &Service, mut server: Negotiated) -> Negotiated {
        if server.trust == Trust::Pki {
            server.trust = Trust::Dnssec;
        }
        server
    }
}

#[cfg(test)]
mod tests;
