//! What is open, counted by host and network, and in the order in which it would have to go: a server under attack has no
//! time to look at all of it for each newcomer.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{ConnectionId, Range};
use crate::server::Stage;

/// One connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) host: Range,
    pub(super) network: Range,
    pub(super) stage: Stage,
    /// Whether it is a pool's that showed a token of ours.
    pub(super) pool: bool,
}

impl Open {
    /// Whether it has not completed the handshake.
    fn is_early(&self) -> bool {
        self.stage < Stage::Request
    }
}

/// The first to go of a network: how many the network has, how far this one has come, its name, and the network.
type Rank = (Reverse<usize>, Stage, ConnectionId, Range);

/// The connections of one network.
#[derive(Debug, Default)]
struct Network {
    all: usize,
    /// Those that count for its limit.
    limited: usize,
    /// In the order in which they would have to go: those before the end of the handshake, and those kept for a pool.
    early: BTreeSet<(Stage, ConnectionId)>,
    kept: BTreeSet<(Stage, ConnectionId)>,
}

impl Network {
    fn rank(&self, of: &BTreeSet<(Stage, ConnectionId)>, range: Range) -> Option<Rank> {
        of.first().map(|(stage, id)| (Reverse(self.all), *stage, *id, range))
    }
}

/// All connections.
#[derive(Debug)]
pub(super) struct Crowd {
    open: BTreeMap<ConnectionId, Open>,
    /// How many each host has that count for its limit.
    hosts: BTreeMap<Range, usize>,
    networks: BTreeMap<Range, Network>,
    /// The first to go of each network.
    early: BTreeSet<Rank>,
    kept: BTreeSet<Rank>,
    pools: usize,
}

impl Crowd {
    pub(super) const fn new() -> Self {
        Self {
            open: BTreeMap::new(),
            hosts: BTreeMap::new(),
            networks: BTreeMap::new(),
            early: BTreeSet::new(),
            kept: BTreeSet::new(),
            pools: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// How many are a pool's.
    pub(super) const fn pools(&self) -> usize {
        self.pools
    }

    /// How many a host has that count for its limit.
    pub(super) fn of_host(&self, host: Range) -> usize {
        self.hosts.get(&host).copied().unwrap_or(0)
    }

    /// How many a network has that count for its limit.
    pub(super) fn of_network(&self, network: Range) -> usize {
        self.networks.get(&network).map_or(0, |network| network.limited)
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<Open> {
        self.open.get(&id).copied()
    }

    #[cfg(test)]
    pub(super) fn values(&self) -> impl Iterator<Item = &Open> {
        self.open.values()
    }

    /// Takes a connection, or what has become of it.
    pub(super) fn insert(&mut self, id: ConnectionId, open: Open) {
        self.remove(id);
        self.open.insert(id, open);
        self.pools += usize::from(open.pool);
        if !open.pool {
            *self.hosts.entry(open.host).or_default() += 1;
        }
        self.change(open.network, |network| {
            network.all += 1;
            network.limited += usize::from(!open.pool);
            if open.is_early() {
                network.early.insert((open.stage, id));
            } else if open.stage == Stage::Kept {
                network.kept.insert((open.stage, id));
            }
        });
    }

    pub(super) fn remove(&mut self, id: ConnectionId) {
        let Some(open) = self.open.remove(&id) else { return };
        self.pools -= usize::from(open.pool);
        if !open.pool
            && let Some(count) = self.hosts.get_mut(&open.host)
        {
            *count -= 1;
            if *count == 0 {
                self.hosts.remove(&open.host);
            }
        }
        self.change(open.network, |network| {
            network.all -= 1;
            network.limited -= usize::from(!open.pool);
            network.early.remove(&(open.stage, id));
            network.kept.remove(&(open.stage, id));
        });
    }

    /// Changes a network, and its place in the order.
    fn change(&mut self, range: Range, change: impl FnOnce(&mut Network)) {
        let network = self.networks.entry(range).or_default();
        if let Some(rank) = network.rank(&network.early, range) {
            self.early.remove(&rank);
        }
        if let Some(rank) = network.rank(&network.kept, range) {
            self.kept.remove(&rank);
        }
        change(network);
        self.early.extend(network.rank(&network.early, range));
        self.kept.extend(network.rank(&network.kept, range));
        if network.all == 0 {
            self.networks.remove(&range);
        }
    }

    /// Of the network with most connections the one that has come least far, and of those the oldest. Whoever has
    /// completed the handshake is left alone, for that was the dear part; but where nobody else is left, a pool loses a
    /// connection that waits for its next request, and makes another when it needs one.
    pub(super) fn least_worthy(&self) -> Option<ConnectionId> {
        self.early.first().or_else(|| self.kept.first()).map(|(_, _, id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by looking at all of them.
    fn looked_for(open: &BTreeMap<ConnectionId, Open>) -> Option<ConnectionId> {
        let crowd = |of: &Open| open.values().filter(|open| open.network == of.network).count();
        let worst = |wanted: fn(Stage) -> bool| {
            let candidates = open.iter().filter(|(_, open)| wanted(open.stage));
            candidates.min_by_key(|(id, open)| (Reverse(crowd(open)), open.stage, **id)).map(|(id, _)| *id)
        };
        worst(|stage| stage < Stage::Request).or_else(|| worst(|stage| stage == Stage::Kept))
    }

    proptest! {
        #[test]
        fn counts_and_order_are_those_of_the_connections(
            steps in prop::collection::vec((0_u64..24, 0_u8..8, 0_u8..7, any::<bool>()), 1..120)
        ) {
            let mut crowd = Crowd::new();
            let mut model = BTreeMap::new();
            for (number, host, what, pool) in steps {
                let id = ConnectionId(number);
                let address = std::net::IpAddr::from([192, 0, host % 3, host]);
                let stages =
                    [Stage::Hello, Stage::Handshake, Stage::Request, Stage::Asked, Stage::Kept, Stage::Over];
                if let Some(stage) = stages.get(usize::from(what)) {
                    let (host, network) = (Range::host(address), Range::network(address));
                    let open = Open { host, network, stage: *stage, pool };
                    crowd.insert(id, open);
                    model.insert(id, open);
                } else {
                    crowd.remove(id);
                    model.remove(&id);
                }
                let count = |wanted: &dyn Fn(&Open) -> bool| model.values().filter(|open| wanted(open)).count();
                for open in model.values() {
                    prop_assert_eq!(crowd.of_host(open.host), count(&|other| !other.pool && other.host == open.host));
                    let limited = count(&|other| !other.pool && other.network == open.network);
                    prop_assert_eq!(crowd.of_network(open.network), limited);
                }
                prop_assert_eq!((crowd.len(), crowd.pools()), (model.len(), count(&|open| open.pool)));
                prop_assert_eq!(crowd.least_worthy(), looked_for(&model));
            }
            let ids: Vec<_> = model.keys().copied().collect();
            ids.into_iter().for_each(|id| crowd.remove(id));
            prop_assert!(crowd.hosts.is_empty() && crowd.networks.is_empty(), "nothing is remembered of who is gone");
        }
    }
}
