//! Which connections a key-exchange server takes.
//!
//! A connection costs its server far more than its client, so nobody may hold many or open them fast, and when places
//! become scarce the one that has brought its holder least has to go.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ntp_proto::time::Monotonic;

use crate::server::Stage;

mod crowd;

use crowd::{Crowd, Open};

/// Most hosts whose rate is remembered.
const MAX_HOSTS: usize = 4096;

/// The part of all places that connections kept for pools may have beside the limits of their hosts: one over this.
const POOL_PART: usize = 2;

/// The part of all places, in fifths, from which on newcomers push others out.
const CROWDED_FIFTHS: usize = 4;

/// For how long a shortage is remembered.
const SHORTAGE: Duration = Duration::from_secs(60);

/// Places that a shortage leaves: somebody else may be who holds what the system has run out of.
const LEFT_BY_SHORTAGE: usize = 16;

/// What one host or network may have. A host is an IPv4 address or an IPv6 /64, a network is an IPv4 /24 or an IPv6
/// /48.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most connections of all together.
    pub total: usize,
    /// Most connections of a host.
    pub host: usize,
    /// Most connections of a network.
    pub network: usize,
    /// A host may open one connection in this time in the long run.
    pub interval: Duration,
    /// And as many at once.
    pub burst: u32,
    /// Whether limits other than the total apply to this machine itself too: a whole pool may run on it.
    pub limit_loopback: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { total: 256, host: 4, network: 32, interval: Duration::from_secs(4), burst: 8, limit_loopback: false }
    }
}

impl Limits {
    /// Those of a member of a pool. The balancers of a pool open many connections at once from one host, and count as any
    /// host until each connection has shown its token.
    #[must_use]
    pub fn for_members() -> Self {
        Self { host: 32, network: 64, burst: 64, ..Self::default() }
    }
}

/// Names a connection that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// What is to become of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Take it.
    Admit(ConnectionId),
    /// Take it, and close another one for it.
    Replace {
        /// The one to take.
        admitted: ConnectionId,
        /// The one to close.
        evicted: ConnectionId,
    },
    /// Close it.
    Refuse(Refusal),
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its host has as many as it may.
    Host,
    /// Its host opens them too fast.
    Rate,
    /// Its network has as many as it may.
    Network,
    /// There is no place, and all places are held by those who have come far.
    Full,
}

/// A host or a network: the leading bits, the rest zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    v4: bool,
    bits: u128,
}

impl Range {
    fn host(address: IpAddr) -> Self {
        Self::leading(address, 32, 64)
    }

    fn network(address: IpAddr) -> Self {
        Self::leading(address, 24, 48)
    }

    fn leading(address: IpAddr, v4: u32, v6: u32) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self { v4: true, bits: u128::from(address.to_bits() >> (32 - v4)) },
            IpAddr::V6(address) => Self { v4: false, bits: address.to_bits() >> (128 - v6) },
        }
    }
}

/// Counts connections and decides about new ones. How long a method takes grows with the logarithm of the places.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    next: u64,
    /// At most as many as `limits.total`.
    open: Crowd,
    /// When each host may open as many as `limits.burst` again; hosts that may now are left out.
    rates: BTreeMap<Range, Monotonic>,
    /// How many the system can bear, and until when that is believed.
    bearable: Option<(usize, Monotonic)>,
}

impl Admission {
    /// Nothing is open.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits, next: 0, open: Crowd::new(), rates: BTreeMap::new(), bearable: None }
    }

    /// Sets other limits. What is open stays, and counts.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// How many connections are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Decides about a new connection. A refused one costs its host nothing.
    pub fn handle_connection(&mut self, now: Monotonic, peer: IpAddr) -> Decision {
        let (host, network) = (Range::host(peer), Range::network(peer));
        let limited = self.limits.limit_loopback || !peer.to_canonical().is_loopback();
        if limited && let Err(refusal) = self.check(now, host, network) {
            return Decision::Refuse(refusal);
        }
        let total = self.places(now);
        let crowded = self.open.len() >= total * CROWDED_FIFTHS / 5;
        let evicted = if crowded { self.open.least_worthy() } else { None };
        if evicted.is_none() && self.open.len() >= total {
            return Decision::Refuse(Refusal::Full);
        }
        if limited {
            self.charge(now, host);
        }
        let admitted = ConnectionId(self.next);
        self.next += 1;
        self.open.insert(admitted, Open { host, network, stage: Stage::Hello, pool: false });
        match evicted {
            None => Decision::Admit(admitted),
            Some(evicted) => {
                self.open.remove(evicted);
                Decision::Replace { admitted, evicted }
            }
        }
    }

    /// Takes word of how far a connection has come. Those that are kept for a pool of ours no longer count as its host's,
    /// nor did opening them: a pool keeps many.
    pub fn handle_progress(&mut self, id: ConnectionId, stage: Stage) {
        let Some(mut open) = self.open.get(id) else { return };
        open.stage = stage;
        if stage == Stage::Kept && !open.pool && self.open.pools() < self.limits.total / POOL_PART {
            open.pool = true;
            self.rates.remove(&open.host);
        }
        self.open.insert(id, open);
    }

    /// Takes word that a connection is closed; again does no harm.
    pub fn handle_closed(&mut self, id: ConnectionId) {
        self.open.remove(id);
    }

    /// Takes word that the system has run out of what connections need, such as files. Returns those to close: a quarter, if
    /// so many may be closed. There are no more places than are left then for a while, so that those who have come far find
    /// what they need although others keep coming.
    pub fn handle_shortage(&mut self, now: Monotonic) -> Vec<ConnectionId> {
        let bearable = (self.open.len() - self.open.len().div_ceil(4)).max(LEFT_BY_SHORTAGE);
        self.bearable = Some((bearable, now + SHORTAGE));
        let mut evicted = Vec::new();
        // Ends: each round takes one away.
        while self.open.len() > bearable
            && let Some(id) = self.open.least_worthy()
        {
            self.open.remove(id);
            evicted.push(id);
        }
        evicted
    }

    /// How many connections there may be.
    fn places(&self, now: Monotonic) -> usize {
        let bearable = self.bearable.filter(|(_, until)| now < *until).map(|(count, _)| count);
        bearable.map_or(self.limits.total, |count| count.min(self.limits.total))
    }

    fn check(&self, now: Monotonic, host: Range, network: Range) -> Result<(), Refusal> {
        if self.open.of_host(host) >= self.limits.host {
            return Err(Refusal::Host);
        }
        if self.open.of_network(network) >= self.limits.network {
            return Err(Refusal::Network);
        }
        let ahead = self.rates.get(&host).map_or(Duration::ZERO, |free_at| free_at.since(now));
        if ahead > self.limits.interval * self.limits.burst.saturating_sub(1) {
            return Err(Refusal::Rate);
        }
        Ok(())
    }

    fn charge(&mut self, now: Monotonic, host: Range) {
        if self.rates.len() >= MAX_HOSTS && !self.rates.contains_key(&host) {
            self.rates.retain(|_, free_at| *free_at > now);
            if self.rates.len() >= MAX_HOSTS {
                let soonest = self.rates.iter().min_by_key(|(_, free_at)| **free_at).map(|(host, _)| *host);
                soonest.and_then(|host| self.rates.remove(&host));
            }
        }
        let free_at = self.rates.get(&host).map_or(now, |free_at| (*free_at).max(now));
        self.rates.insert(host, free_at + self.limits.interval);
    }
}

#[cfg(test)]
mod tests;
