//! Who is served, and how that changes while the daemon runs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use ntp_proto::server::{AccessTable, TooManyRules};

use super::Serve;

/// A change of who is served, as chrony's `allow` and `deny` have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessChange {
    /// Whether the range is served from now on.
    pub allows: bool,
    /// Whether rules about parts of the range go.
    pub all: bool,
    /// The range; everything without.
    pub range: Option<IpNet>,
}

impl Serve {
    /// Whether a host with this address is answered: the longest prefix counts that contains it.
    #[must_use]
    pub fn serves(&self, address: IpAddr) -> bool {
        let longest =
            |ranges: &[IpNet]| ranges.iter().filter(|range| range.contains(&address)).map(IpNet::prefix_len).max();
        longest(&self.allow).is_some_and(|allowed| longest(&self.deny).is_none_or(|denied| allowed > denied))
    }

    /// Changes who is answered.
    ///
    /// # Errors
    ///
    /// [`TooManyRules`]; nothing has changed then.
    pub fn change_access(&mut self, change: &AccessChange) -> Result<(), TooManyRules> {
        let everything = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let everything = everything.map(|address| IpNet::new_assert(address, 0));
        let ranges = change.range.as_ref().map_or(&everything[..], std::slice::from_ref);
        let goes = |rule: &IpNet| {
            ranges.iter().any(|range| rule.trunc() == range.trunc() || change.all && range.contains(rule))
        };
        let (mut allow, mut deny) = (self.allow.clone(), self.deny.clone());
        allow.retain(|rule| !goes(rule));
        deny.retain(|rule| !goes(rule));
        if change.allows { &mut allow } else { &mut deny }.extend(ranges.iter().map(IpNet::trunc));
        if allow.len() + deny.len() > AccessTable::CAPACITY {
            return Err(TooManyRules);
        }
        (self.allow, self.deny) = (allow, deny);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::load;

    fn serve(rules: &str) -> Serve {
        load(&format!("[serve]\n{rules}\n")).unwrap().serve.unwrap()
    }

    fn served(serve: &Serve) -> [bool; 4] {
        ["192.0.2.1", "192.0.2.129", "203.0.113.1", "2001:db8::1"].map(|address| serve.serves(address.parse().unwrap()))
    }

    #[test]
    fn the_longest_range_counts_and_a_change_takes_the_place_of_its_own() {
        let mut serve = serve("allow = [\"192.0.2.0/24\"]\ndeny = [\"192.0.2.128/25\"]");
        assert_eq!(served(&serve), [true, false, false, false]);
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
            serve.change_access(&AccessChange { allows, all, range }).unwrap();
            assert_eq!(served(&serve), expected, "{allows} {all} {range:?}");
        }
        assert_eq!((serve.allow.len(), serve.deny.len()), (1, 2), "what was said before is gone");
    }

    #[test]
    fn there_are_no_more_rules_than_the_table_has_room_for() {
        let mut serve = serve("allow = \"all\"");
        let change = |third: u8| AccessChange {
            allows: false,
            all: false,
            range: Some(IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(192, 0, 2, third)), 32)),
        };
        let room = AccessTable::CAPACITY - serve.allow.len();
        for third in 0..u8::try_from(room).unwrap() {
            assert_eq!(serve.change_access(&change(third)), Ok(()));
        }
        let before = serve.clone();
        assert_eq!(serve.change_access(&change(200)), Err(TooManyRules));
        assert_eq!(serve, before);
        assert_eq!(serve.change_access(&change(1)), Ok(()), "that is said already");
    }
}
