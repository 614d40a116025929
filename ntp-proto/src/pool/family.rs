//! Members by one address family.
//!
//! A host that has an address of either family looks like two servers: nothing in NTP (RFC 5905) or in a key exchange
//! (RFC 8915) tells that they are one, if all share a name, or have none. It would have two votes, and where it is wrong,
//! fewer right ones would not outvote it. Each family by itself shows a host once. So members come from one family as long
//! as it has enough for a majority; only below that are servers worth more than the certainty that they are different ones.

use std::net::IpAddr;

/// Members of which most are right if one is wrong.
const MAJORITY: usize = 3;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4, also in the form of IPv6.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    pub(super) fn of(address: IpAddr) -> Self {
        if address.to_canonical().is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// How many addresses there are of each family: those held, and those that are free.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    v4: Count,
    v6: Count,
    first: Option<Family>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    held: usize,
    usable: usize,
}

impl Tally {
    /// Takes an address. Of those that are free the first to be tried comes first.
    pub(super) fn add(&mut self, address: IpAddr, is_held: bool) {
        let family = Family::of(address);
        let count = match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        count.usable = count.usable.saturating_add(1);
        if is_held {
            count.held = count.held.saturating_add(1);
        } else {
            self.first = self.first.or(Some(family));
        }
    }

    /// The family that members should have if `target` of them are wanted: the one with a majority, then the one of more
    /// members, then the one that comes nearer to the target, then that of the first address.
    fn best(&self, target: usize) -> (Family, Count) {
        let rank = |(family, count): (Family, Count)| {
            let enough = count.usable.min(target.min(MAJORITY));
            (enough, count.held, count.usable.min(target), self.first == Some(family))
        };
        let (v4, v6) = ((Family::V4, self.v4), (Family::V6, self.v6));
        if rank(v6) > rank(v4) { v6 } else { v4 }
    }

    /// The family to take a member from first, and whether from no other.
    pub(super) fn choose(&self, target: usize) -> (Family, bool) {
        let (family, count) = self.best(target);
        (family, count.usable >= target.min(MAJORITY))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn one_family_is_enough_if_it_makes_a_majority() {
        let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
        // Held and free of each family, which comes first, how many are wanted; what is chosen, and whether alone.
        for (held4, free4, held6, free6, first, target, chosen, alone) in [
            (0, 4, 0, 4, v6, 4, Family::V6, true),
            (0, 4, 0, 4, v4, 4, Family::V4, true),
            (0, 4, 0, 3, v6, 4, Family::V4, true),
            (0, 4, 0, 1, v6, 4, Family::V4, true),
            (0, 1, 0, 4, v4, 4, Family::V6, true),
            // Those that are held decide, as long as they make a majority.
            (0, 4, 3, 0, v4, 4, Family::V6, true),
            (0, 4, 2, 1, v4, 4, Family::V6, true),
            (0, 4, 2, 0, v4, 4, Family::V4, true),
            (1, 3, 3, 1, v4, 4, Family::V6, true),
            // Neither has enough.
            (0, 2, 0, 2, v6, 4, Family::V6, false),
            (2, 0, 0, 1, v6, 4, Family::V4, false),
            (0, 1, 0, 1, v4, 1, Family::V4, true),
            (0, 0, 0, 1, v6, 4, Family::V6, false),
        ] {
            let mut tally = Tally::default();
            (0..held4).for_each(|_| tally.add(v4, true));
            (0..held6).for_each(|_| tally.add(v6, true));
            let mut free = [(v4, free4), (v6, free6)];
            free.sort_by_key(|(address, _)| *address != first);
            free.iter().for_each(|(address, count)| (0..*count).for_each(|_| tally.add(*address, false)));
            assert_eq!(tally.choose(target), (chosen, alone), "{held4} {free4} {held6} {free6} {first} {target}");
        }
        assert_eq!(Family::of("::ffff:192.0.2.1".parse().unwrap()), Family::V4);
    }
}
