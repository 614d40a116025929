//! Whom a client gets: a weighted draw that both routes share.

use std::{net::IpAddr, sync::Arc};

use rand_core::Rng;

use super::{Directory, Health, Member, RegionId};

/// Most members of one draw.
pub const MAX_DRAW: usize = 16;

/// Fewest members a region must have to serve clients alone: one that had a single member would give that one power
/// over all its clients.
const MIN_REGION: usize = 3;

/// Fewest members of which a client is given others after its first: who knows where it is must not know what it gets.
const MIN_LATER: usize = 16;

/// Draws by chance alone before all members are looked at.
const TRIES: usize = 16;

/// The part of its weight that a suspect member keeps.
const SUSPECT_SHARE: u64 = 4;

/// Most priorities that are kept apart; what is beyond counts as the last.
const MAX_TIERS: usize = 8;

/// What a client wants.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Where it is, if that is known.
    pub client: Option<IpAddr>,
    /// Whether it has members already: the first is near, others come from further away.
    pub has_some: bool,
    /// Members it does not want, by place; in any order.
    pub excluded: &'a [usize],
}

/// The members that can be drawn now.
#[derive(Clone, Debug)]
pub struct Roster {
    directory: Arc<Directory>,
    /// By region; the last is the whole world.
    areas: Vec<Area>,
}

/// Members with their summed weights.
#[derive(Clone, Debug, Default)]
struct Area {
    members: Vec<usize>,
    /// Each member's weight and those before it.
    sums: Vec<u64>,
    /// The largest weights, the largest first: as many as a draw can have.
    heaviest: Vec<u64>,
}

impl Area {
    fn push(&mut self, member: usize, weight: u64) {
        let before = self.sums.last().copied().unwrap_or(0);
        self.members.push(member);
        self.sums.push(before.saturating_add(weight));
    }

    fn weights(&self) -> impl Iterator<Item = u64> {
        let before = core::iter::once(0).chain(self.sums.iter().copied());
        self.sums.iter().zip(before).map(|(sum, before)| sum.saturating_sub(before))
    }

    /// To be called when all members are there.
    fn finish(&mut self) {
        let mut weights: Vec<u64> = self.weights().collect();
        weights.sort_unstable_by(|a, b| b.cmp(a));
        weights.truncate(MAX_DRAW);
        self.heaviest = weights;
    }

    fn one(&self, random: &mut impl Rng) -> Option<usize> {
        let sum = *self.sums.last()?;
        let number = below(sum, random);
        self.members.get(self.sums.partition_point(|before| *before <= number)).copied()
    }

    /// One of those that are accepted, each with its weight.
    fn one_of(&self, accepted: impl Fn(usize) -> bool, random: &mut impl Rng) -> Option<usize> {
        for _ in 0..TRIES {
            if let Some(member) = self.one(random).filter(|member| accepted(*member)) {
                return Some(member);
            }
        }
        // Few are left: exactly those, so that no wish is forgotten by chance.
        let mut rest = Self::default();
        for (member, weight) in self.members.iter().zip(self.weights()) {
            if accepted(*member) {
                rest.push(*member, weight);
            }
        }
        rest.one(random)
    }
}

/// A number below `bound` (which is above 0), all with the same chance.
fn below(bound: u64, random: &mut impl Rng) -> u64 {
    // The high half of a product (Lemire 2019); the bias is below `bound / 2^64`.
    let product = u128::from(random.next_u64()) * u128::from(bound);
    u64::try_from(product >> 64).unwrap_or(0)
}

/// The weight of each member for the draw, in parts of [`SUSPECT_SHARE`]; 0 for those that are left out.
fn weights(directory: &Directory, health: impl Fn(&Member) -> Health) -> Vec<u64> {
    let weigh: [fn(Health, u64) -> u64; 3] = [
        |health, weight| match health {
            Health::Up => weight * SUSPECT_SHARE,
            Health::Suspect => weight,
            Health::Down | Health::Draining => 0,
        },
        |health, weight| if health == Health::Draining { 0 } else { weight * SUSPECT_SHARE },
        |_, weight| weight * SUSPECT_SHARE,
    ];
    let state = |member: &Member| if member.drain { Health::Draining } else { health(member) };
    let mut weights = Vec::new();
    for weigh in weigh {
        weights = directory.members.iter().map(|member| weigh(state(member), member.weight.into())).collect();
        if weights.iter().any(|weight| *weight > 0) {
            break;
        }
    }
    weights
}

impl Roster {
    /// Takes a directory and the health of its members. Those that are down or draining are left out; but if nobody
    /// were left, all but those that drain are in, and if all drain, everybody.
    #[must_use]
    pub fn new(directory: Arc<Directory>, health: impl Fn(&Member) -> Health) -> Self {
        let weights = weights(&directory, health);
        Self { areas: Self::areas(&directory, &weights), directory }
    }

    /// The same for each priority, the lowest first (RFC 2782: all of a lower one come before those of a higher one).
    #[must_use]
    pub fn by_priority(directory: &Arc<Directory>, health: impl Fn(&Member) -> Health) -> Vec<Self> {
        let weights = weights(directory, health);
        let members = || directory.members.iter().zip(&weights);
        let mut tiers: Vec<u16> = members().filter(|(_, w)| **w > 0).map(|(m, _)| m.priority).collect();
        tiers.sort_unstable();
        tiers.dedup();
        tiers.truncate(MAX_TIERS);
        let tier = |priority: u16| tiers.partition_point(|least| *least <= priority);
        let of_tier = |number| {
            let weights: Vec<u64> = members().map(|(m, w)| if tier(m.priority) == number { *w } else { 0 }).collect();
            Self { areas: Self::areas(directory, &weights), directory: Arc::clone(directory) }
        };
        (1..=tiers.len()).map(of_tier).collect()
    }

    fn areas(directory: &Directory, weights: &[u64]) -> Vec<Area> {
        let mut areas = vec![Area::default(); directory.regions.len().saturating_add(1)];
        let world = directory.regions.len();
        for (place, (member, weight)) in directory.members.iter().zip(weights.iter().copied()).enumerate() {
            if weight == 0 {
                continue;
            }
            let mut within: Vec<usize> = vec![world];
            for region in &member.regions {
                within.extend(directory.with_parents(Some(*region)).into_iter().map(|RegionId(id)| usize::from(id)));
            }
            within.sort_unstable();
            within.dedup();
            for area in within {
                if let Some(area) = areas.get_mut(area) {
                    area.push(place, weight);
                }
            }
        }
        areas.iter_mut().for_each(Area::finish);
        areas
    }

    /// The directory it was made from.
    #[must_use]
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// How many members can be drawn.
    #[must_use]
    pub fn len(&self) -> usize {
        self.areas.last().map_or(0, |world| world.members.len())
    }

    /// Whether there is nobody to draw.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The regions that serve a client, from near to wide, and the world as `None`.
    #[must_use]
    pub fn regions(&self, wish: &Wish<'_>) -> Vec<Option<RegionId>> {
        let least = if wish.has_some { MIN_LATER } else { MIN_REGION };
        let large =
            |RegionId(id): &RegionId| self.areas.get(usize::from(*id)).is_some_and(|a| a.members.len() >= least);
        let near = wish.client.map(|client| self.directory.regions_of(client)).unwrap_or_default();
        near.into_iter().filter(large).map(Some).chain([None]).collect()
    }

    /// The weight that a drawn member should be given among the others of draws of `count` from a region, so that its
    /// share of all clients follows its weight in the directory: being drawn has counted already. In small regions that
    /// is the weight itself; 0 only for a place that there is none of.
    #[must_use]
    pub fn weight_in_draw(&self, region: Option<RegionId>, count: usize, place: usize) -> u16 {
        let weight = self.directory.members.get(place).map_or(0, |member| member.weight);
        weight.max(u16::try_from(self.fair_weight(region, count)).unwrap_or(u16::MAX))
    }

    /// Members above this weight are in nearly each draw of `count`; those below, in proportion to their weight.
    fn fair_weight(&self, region: Option<RegionId>, count: usize) -> u64 {
        let Some(area) = self.area(region) else { return 0 };
        let mut rest = area.sums.last().copied().unwrap_or(0);
        for (index, weight) in area.heaviest.iter().enumerate().take(count) {
            let seats = u64::try_from(count.saturating_sub(index)).unwrap_or(u64::MAX);
            // The heaviest that are left do not fill a seat each: the seats are shared by weight.
            if weight.saturating_mul(seats) < rest {
                return rest / seats / SUSPECT_SHARE;
            }
            rest = rest.saturating_sub(*weight);
        }
        0
    }

    fn area(&self, region: Option<RegionId>) -> Option<&Area> {
        region.map_or_else(|| self.areas.last(), |RegionId(id)| self.areas.get(usize::from(id)))
    }

    /// Draws up to `count` distinct members that are not excluded; their places in the directory. No two share an
    /// operator, nor does one share it with an excluded member, while there are others; near ones come first. Empty
    /// only if nobody is left.
    #[must_use]
    pub fn draw(&self, wish: &Wish<'_>, count: usize, random: &mut impl Rng) -> Vec<usize> {
        let count = count.min(MAX_DRAW);
        let regions = self.regions(wish);
        let mut drawn: Vec<usize> = Vec::with_capacity(count);
        for other_operators in [true, false] {
            for region in &regions {
                while drawn.len() < count
                    && let Some(member) = self.one(*region, wish, &drawn, other_operators, random)
                {
                    drawn.push(member);
                }
            }
        }
        drawn
    }

    fn one(
        &self,
        region: Option<RegionId>,
        wish: &Wish<'_>,
        drawn: &[usize],
        other_operators: bool,
        random: &mut impl Rng,
    ) -> Option<usize> {
        let area = self.area(region)?;
        let member = |place: usize| self.directory.members.get(place);
        let taken = || drawn.iter().chain(wish.excluded);
        let accepted = |place: usize| {
            let Some(candidate) = member(place) else { return false };
            let rival = |other: &usize| member(*other).is_some_and(|other| other.operator == candidate.operator);
            !taken().any(|other| *other == place)
                && wish.client.is_none_or(|client| candidate.takes(client))
                && !(other_operators && taken().any(rival))
        };
        area.one_of(accepted, random)
    }
}

#[cfg(test)]
mod tests;
