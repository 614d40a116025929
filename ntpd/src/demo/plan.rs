//! What each mode needs around it, and what it promises.

use std::net::Ipv4Addr;

use ntp_proto::ids::Trust;

use crate::config::PoolModeName;

/// The name that everything is reached by.
pub(super) const POOL: &str = "pool.demo";
/// How many servers there are; the last one lies.
pub(super) const SERVERS: u8 = 4;
/// How far the liar's clock is off, in seconds.
pub(super) const LIE: f64 = 0.5;
/// Where the balancer takes users.
pub(super) const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);
/// Where the pool's DNS answers.
pub(super) const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);

/// The name of one of the servers, counted from 1.
pub(super) fn host(number: u8) -> String {
    format!("ntp{number}.{POOL}")
}

/// Where it serves.
pub(super) const fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, number)
}

/// What the certificates of the servers are for, besides their own names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certified {
    /// Nothing else.
    Host,
    /// The name of the pool; it is one certificate with one key for all.
    Pool,
    /// Each one's address.
    Address,
}

/// What one mode needs around it, and what it promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) mode: PoolModeName,
    pub(super) certified: Certified,
    /// Whether the pool's name leads to a balancer; elsewhere it has the addresses of the servers.
    pub(super) balanced: bool,
    /// The mode that must come out, as it is shown.
    pub(super) outcome: &'static str,
    /// What must vouch for every server.
    pub(super) trust: Trust,
}

impl Plan {
    pub(super) const fn of(mode: PoolModeName) -> Self {
        let (certified, balanced, outcome, trust) = match mode {
            PoolModeName::Auto => (Certified::Host, true, "auto (srv)", Trust::Dane),
            PoolModeName::Srv => (Certified::Host, true, "srv", Trust::Dane),
            // The balancer's name is signed; a zone pins members only.
            PoolModeName::Lb => (Certified::Host, true, "lb", Trust::Dnssec),
            PoolModeName::SharedCert => (Certified::Pool, false, "shared-cert", Trust::Dnssec),
            PoolModeName::IpCert => (Certified::Address, false, "ip-cert", Trust::Pki),
            PoolModeName::Classic => (Certified::Host, false, "classic", Trust::None),
        };
        Self { mode, certified, balanced, outcome, trust }
    }
}
