//! Which connections a key-exchange server takes.
//!
//! A connection costs its server far more than its client, so nobody may hold many or open them fast, and when places
//! become scarce the one that has brought its holder least has to go.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ntp_proto::time::Monotonic;

use crate::server::Stage;

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

#[derive(Clone, Copy, Debug)]
struct Open {
    host: Range,
    network: Range,
    stage: Stage,
    /// Whether it is a pool's that showed a token of ours.
    pool: bool,
}

/// Counts connections and decides about new ones. Every method takes time in proportion to the places at most.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    next: u64,
    /// At most as many as `limits.total`.
    open: BTreeMap<ConnectionId, Open>,
    /// When each host may open as many as `limits.burst` again; hosts that may now are left out.
    rates: BTreeMap<Range, Monotonic>,
    /// How many the system can bear, and until when that is believed.
    bearable: Option<(usize, Monotonic)>,
}

impl Admission {
    /// Nothing is open.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits, next: 0, open: BTreeMap::new(), rates: BTreeMap::new(), bearable: None }
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
        let evicted = if crowded { self.least_worthy() } else { None };
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
                self.open.remove(&evicted);
                Decision::Replace { admitted, evicted }
            }
        }
    }

    /// Takes word of how far a connection has come. Those that are kept for a pool of ours no longer count as its host's,
    /// nor did opening them: a pool keeps many.
    pub fn handle_progress(&mut self, id: ConnectionId, stage: Stage) {
        let Some(open) = self.open.get_mut(&id) else { return };
        open.stage = stage;
        if stage != Stage::Kept || open.pool {
            return;
        }
        let pools = self.open.values().filter(|open| open.pool).count();
        if pools < self.limits.total / POOL_PART
            && let Some(open) = self.open.get_mut(&id)
        {
            open.pool = true;
            self.rates.remove(&open.host);
        }
    }

    /// Takes word that a connection is closed; again does no harm.
    pub fn handle_closed(&mut self, id: ConnectionId) {
        self.open.remove(&id);
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
            && let Some(id) = self.least_worthy()
        {
            self.open.remove(&id);
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
        let all = || self.open.values().filter(|open| !open.pool);
        let count = |wanted: &dyn Fn(&Open) -> bool| all().filter(|open| wanted(open)).count();
        if count(&|open| open.host == host) >= self.limits.host {
            return Err(Refusal::Host);
        }
        if count(&|open| open.network == network) >= self.limits.network {
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

    /// Of the network with most connections the one that has come least far, and of those the oldest. Whoever has
    /// completed the handshake is left alone, for that was the dear part; but where nobody else is left, a pool loses a
    /// connection that waits for its next request, and makes another when it needs one.
    fn least_worthy(&self) -> Option<ConnectionId> {
        let mut crowds: BTreeMap<Range, usize> = BTreeMap::new();
        for open in self.open.values() {
            *crowds.entry(open.network).or_default() += 1;
        }
        let crowd = |open: &Open| crowds.get(&open.network).copied().unwrap_or_default();
        let worst = |wanted: fn(Stage) -> bool| {
            let candidates = self.open.iter().filter(|(_, open)| wanted(open.stage));
            let worst = candidates.min_by_key(|(id, open)| (std::cmp::Reverse(crowd(open)), open.stage, **id));
            worst.map(|(id, _)| *id)
        };
        worst(|stage| stage < Stage::Request).or_else(|| worst(|stage| stage == Stage::Kept))
    }
}

#[cfg(test)]
mod tests {
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
            let (Decision::Admit(id) | Decision::Replace { admitted: id, .. }) =
                admission.handle_connection(at(0), client)
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
        let ids: Vec<_> =
            (0..40).map(|host| admitted(admission.handle_connection(at(0), in_network(1, host)))).collect();
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
}
