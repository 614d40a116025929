//! Who is answered, and how that changes while the daemon runs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use ntp_proto::server::{AccessTable, TooManyRules};

/// Rules about ranges of addresses: the longest prefix counts that contains an address, and without any it is not answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRules {
    /// Who is answered; with `deny` at most [`AccessTable::CAPACITY`].
    pub allow: Vec<IpNet>,
    /// Who is not, as an exception from `allow`; of one range this counts.
    pub deny: Vec<IpNet>,
}

/// A change of who is answered, as chrony's `allow` and `deny` have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessChange {
    /// Whether the range is answered from now on.
    pub allows: bool,
    /// Whether rules about parts of the range go.
    pub all: bool,
    /// The range; everything without.
    pub range: Option<IpNet>,
}

impl AccessRules {
    /// Whether a host with this address is answered.
    #[must_use]
    pub fn permit(&self, address: IpAddr) -> bool {
        let longest =
            |ranges: &[IpNet]| ranges.iter().filter(|range| range.contains(&address)).map(IpNet::prefix_len).max();
        longest(&self.allow).is_some_and(|allowed| longest(&self.deny).is_none_or(|denied| allowed > denied))
    }

    /// Changes who is answered.
    ///
    /// # Errors
    ///
    /// [`TooManyRules`]; nothing has changed then.
    pub fn change(&mut self, change: &AccessChange) -> Result<(), TooManyRules> {
        let everything = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let everything = everything.map(|address| IpNet::new_assert(address, 0));
        let ranges = change.range.as_ref().map_or(&everything[..], std::slice::from_ref);
        let goes = |rule: &IpNet| {
            ranges.iter().any(|range| rule.trunc() == range.trunc() || change.all && range.contains(rule))
        };
        let Self { mut allow, mut deny } = self.clone();
        allow.retain(|rule| !goes(rule));
        deny.retain(|rule| !goes(rule));
        if change.allows { &mut allow } else { &mut deny }.extend(ranges.iter().map(IpNet::trunc));
        if allow.len() + deny.len() > AccessTable::CAPACITY {
            return Err(TooManyRules);
        }
        *self = Self { allow, deny };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::load;

    fn rules(text: &str) -> AccessRules {
        load(&format!("[serve]\n{text}\n")).unwrap().serve.unwrap().access
    }

    fn answered(rules: &AccessRules) -> [bool; 4] {
        ["192.0.2.1", "192.0.2.129", "203.0.113.1", "2001:db8::1"].map(|address| rules.permit(address.parse().unwrap()))
    }

    #[test]
    fn the_longest_range_counts_and_a_change_takes_the_place_of_its_own() {
        let mut rules = rules("allow = [\"192.0.2.0/24\"]\ndeny = [\"192.0.2.128/25\"]");
        assert_eq!(answered(&rules), [true, false, false, false]);
        for (allows, all, range, expected) in [
            (true, false, None, [true, false, true, true]),
            (false, false, Some("192.0.2.0/24"), [false, false, true, true]),
            (true, false, Some("192.0.2.128/25"), [false, true, true, true]),
            (true, true, Some("192.0.2.77/24"), [true, true, true, true]),
            (false, false, Some("2001:db8::/32"), [true, true, true, false]),
            (false, true, None, [false, false, false, false]),
            (true, false, Some("203.0.113.1/32"), [false, false, true, false]),
        ] {
            let range = range.map(|range| range.parse().unwrap());
            rules.change(&AccessChange { allows, all, range }).unwrap();
            assert_eq!(answered(&rules), expected, "{allows} {all} {range:?}");
        }
        assert_eq!((rules.allow.len(), rules.deny.len()), (1, 2), "what was said before is gone");
    }

    #[test]
    fn there_are_no_more_rules_than_the_table_has_room_for() {
        let mut rules = rules("allow = \"all\"");
        let change = |third: u8| AccessChange {
            allows: false,
            all: false,
            range: Some(IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(192, 0, 2, third)), 32)),
        };
        let room = AccessTable::CAPACITY - rules.allow.len();
        for third in 0..u8::try_from(room).unwrap() {
            assert_eq!(rules.change(&change(third)), Ok(()));
        }
        let before = rules.clone();
        assert_eq!(rules.change(&change(200)), Err(TooManyRules));
        assert_eq!(rules, before);
        assert_eq!(rules.change(&change(1)), Ok(()), "that is said already");
    }
}
