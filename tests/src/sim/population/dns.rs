//! Name servers, and resolvers with a cache between them and the clients.

use std::{collections::BTreeMap, time::Duration};

use ntp_proto::{
    pool::{Answer, Failure, Name, Service},
    time::Monotonic,
};

use super::{Counts, Offer, Scenario, pool::Pool, pool::address, pool::member_name};
use crate::sim::Random;

/// A round trip to the resolver, in seconds.
const ROUND_TRIP: f64 = 0.02;
/// Times that a query is sent, and the wait for each answer: the C library for addresses, the daemon's own for services.
const TRIES: u32 = 2;
const WAIT_ADDRESSES: f64 = 5.0;
const WAIT_SERVICES: f64 = 2.0;
/// A look-up takes no longer than this, as in the daemon.
const DEADLINE: f64 = 10.0;
/// The system's resolver does not tell lifetimes: the daemon takes this one for addresses.
const ADDRESS_LIFETIME: Duration = Duration::from_secs(60);
/// The daemon takes no service records for shorter or longer than this.
const SERVICE_LIFETIME: (u64, u64) = (60, 86_400);
/// Lifetime of everything that is not the pool's own: keys and delegations of the zones above it, members' addresses.
const OTHER_TTL: u64 = 86_400;

/// Whose addresses are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Host {
    /// The name of the pool itself.
    Balancer,
    /// A member.
    Member(usize),
}

/// What a resolver is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Query {
    Services,
    PoolKeys,
    /// Keys of the root and of the zone in which the pool's is, and the two delegations.
    Above(u8),
    /// Addresses of one family.
    Addresses(Host, u8),
}

/// Validating one answer takes these besides: DNSKEY of root, parent and pool, DS of parent and pool.
const CHAIN: [Query; 5] = [Query::PoolKeys, Query::Above(0), Query::Above(1), Query::Above(2), Query::Above(3)];

impl Query {
    /// Whether the pool's own name servers answer it. The names of members are in their operators' zones.
    const fn is_pools(self) -> bool {
        matches!(self, Self::Services | Self::PoolKeys | Self::Addresses(Host::Balancer, _))
    }
}

#[derive(Clone, Debug)]
struct Cached {
    until: Duration,
    members: Vec<usize>,
}

/// All caching resolvers.
pub(super) struct Resolvers {
    ttl: u64,
    listed: usize,
    loss: f64,
    offer: Offer,
    failing: bool,
    cache: BTreeMap<(usize, Query), Cached>,
}

impl Resolvers {
    pub(super) const fn new(scenario: &Scenario) -> Self {
        Self {
            ttl: scenario.ttl as u64,
            listed: scenario.listed,
            loss: scenario.loss,
            offer: scenario.mode.offer(),
            failing: false,
            cache: BTreeMap::new(),
        }
    }

    pub(super) const fn set_failing(&mut self, failing: bool) {
        self.failing = failing;
    }
}

/// A client at its resolver.
pub(super) struct Asking<'a> {
    pub(super) resolvers: &'a mut Resolvers,
    pub(super) pool: &'a Pool,
    pub(super) random: &'a mut Random,
    pub(super) counts: &'a mut Counts,
    /// Which resolver.
    pub(super) resolver: usize,
    pub(super) now: Duration,
    /// The client's own monotonic clock.
    pub(super) present: Monotonic,
}

impl Asking<'_> {
    /// Looks up both families of addresses of a host; adds the time it takes.
    pub(super) fn host(&mut self, host: Host, time: &mut f64) -> Result<Vec<usize>, Failure> {
        // Both at once: the later answer counts.
        let found = [4, 6].map(|family| self.ask(Query::Addresses(host, family), WAIT_ADDRESSES));
        let took = found.iter().map(|(took, _)| *took).fold(0.0, f64::max);
        *time += took.min(DEADLINE);
        let [(_, addresses), (_, others)] = found;
        addresses.and_then(|found| others.map(|_| found.members)).ok_or(Failure::Resolver)
    }

    /// Addresses of the pool as today's pools give them.
    pub(super) fn pool_addresses(&mut self) -> (f64, Answer) {
        let mut time = 0.0;
        let answer = match self.host(Host::Balancer, &mut time) {
            Ok(members) if members.is_empty() => Answer::NoRecord,
            Ok(members) => {
                let addresses = members.into_iter().map(address).collect();
                Answer::Addresses { addresses, until: self.present + ADDRESS_LIFETIME }
            }
            Err(failure) => Answer::Failed(failure),
        };
        (time, answer)
    }

    /// Service records, validated.
    pub(super) fn services(&mut self) -> (f64, Answer) {
        let mut time = 0.0;
        let mut found = None;
        for query in [Query::Services].iter().chain(&CHAIN) {
            let (took, answer) = self.ask(*query, WAIT_SERVICES);
            time += took;
            let Some(answer) = answer.filter(|_| time < DEADLINE) else {
                return (time.min(DEADLINE), Answer::Failed(Failure::Resolver));
            };
            found = found.or(Some(answer));
        }
        let Some(Cached { until, members }) = found.filter(|found| !found.members.is_empty()) else {
            return (time, Answer::NoRecord);
        };
        let service = |member: usize| {
            let target = Name::parse(&member_name(member)).ok()?;
            Some(Service { priority: 0, weight: 0, port: 4460, target })
        };
        let records = members.into_iter().filter_map(service).collect();
        let left = until.saturating_sub(self.now).as_secs().clamp(SERVICE_LIFETIME.0, SERVICE_LIFETIME.1);
        (time, Answer::Services { records, until: self.present + Duration::from_secs(left) })
    }

    /// One query, sent again if it or its answer is lost; the time that takes, and what is found.
    fn ask(&mut self, query: Query, wait: f64) -> (f64, Option<Cached>) {
        let loss = self.resolvers.loss;
        let mut time = 0.0;
        for _ in 0..TRIES {
            self.counts.dns += 1;
            let arrives = !self.random.chance(loss);
            let found = if arrives { self.resolve(query) } else { None };
            let returns = !self.random.chance(loss);
            if let Some(found) = found.filter(|_| returns) {
                return (time + ROUND_TRIP, Some(found));
            }
            time += wait;
        }
        (time, None)
    }

    /// What the resolver has in its cache, or finds out.
    fn resolve(&mut self, query: Query) -> Option<Cached> {
        let key = (self.resolver, query);
        if let Some(known) = self.resolvers.cache.get(&key).filter(|known| known.until > self.now) {
            return Some(known.clone());
        }
        if query.is_pools() {
            self.counts.add_pool_query(self.now);
        } else {
            self.counts.dns_other += 1;
        }
        if self.resolvers.failing {
            return None;
        }
        let listed = match (query, self.resolvers.offer) {
            (Query::Services, Offer::Srv) | (Query::Addresses(Host::Balancer, 4), Offer::Classic) => {
                self.resolvers.listed
            }
            (Query::Services | Query::PoolKeys | Query::Above(_) | Query::Addresses(..), _) => 0,
        };
        let ttl = if query.is_pools() { self.resolvers.ttl } else { OTHER_TTL };
        let members = self.pool.list(self.now, listed, self.random);
        let found = Cached { until: self.now + Duration::from_secs(ttl), members };
        self.resolvers.cache.insert(key, found.clone());
        Some(found)
    }
}
