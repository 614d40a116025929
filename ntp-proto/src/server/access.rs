//! Who is served.

use core::{fmt, net::IpAddr};

use arrayvec::ArrayVec;

/// A range of addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The leading bits, the rest zero; an IPv4 address stands in the lowest 32.
    bits: u128,
    len: u8,
    v4: bool,
}

impl Prefix {
    /// The addresses that agree with `address` in the first `len` bits; `None` if the family has fewer bits. Bits of
    /// `address` behind those do not matter. An IPv4-mapped IPv6 range becomes the IPv4 range it means.
    #[must_use]
    pub const fn new(address: IpAddr, len: u8) -> Option<Self> {
        let (bits, len, v4) = match address {
            IpAddr::V4(address) => (address.to_bits() as u128, len, true),
            IpAddr::V6(address) => match address.to_ipv4_mapped() {
                Some(mapped) if len >= 96 && len <= 128 => (mapped.to_bits() as u128, len - 96, true),
                _ => (address.to_bits(), len, false),
            },
        };
        let width = if v4 { 32 } else { 128 };
        if len > width { None } else { Some(Self { bits: leading(bits, len, width), len, v4 }) }
    }

    /// Every address of IPv4.
    pub const ALL_V4: Self = Self { bits: 0, len: 0, v4: true };

    /// Every address of IPv6.
    pub const ALL_V6: Self = Self { bits: 0, len: 0, v4: false };

    /// Whether `address` is in the range; an IPv4-mapped address counts as IPv4.
    #[must_use]
    pub const fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4 && leading(address.to_bits() as u128, self.len, 32) == self.bits,
            IpAddr::V6(address) => !self.v4 && leading(address.to_bits(), self.len, 128) == self.bits,
        }
    }
}

/// The first `len` of the lowest `width` bits, at most `width`, the rest zero.
const fn leading(bits: u128, len: u8, width: u8) -> u128 {
    if len == 0 { 0 } else { bits >> (width - len) << (width - len) }
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Answer.
    Allow,
    /// Do not answer.
    Deny,
}

/// More rules than [`AccessTable::CAPACITY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRules;

impl fmt::Display for TooManyRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {} access rules", AccessTable::CAPACITY)
    }
}

impl core::error::Error for TooManyRules {}

/// Rules about ranges of addresses, of which the longest that contains an address decides. Without any, nobody is
/// served.
#[derive(Clone, Debug, Default)]
pub struct AccessTable {
    /// Longest first.
    rules: ArrayVec<(Prefix, Access), { Self::CAPACITY }>,
}

impl AccessTable {
    /// Most rules.
    pub const CAPACITY: usize = 128;

    /// A table that serves nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule; one about the same range takes the place of an earlier one.
    ///
    /// # Errors
    /// [`TooManyRules`].
    pub fn add(&mut self, prefix: Prefix, access: Access) -> Result<(), TooManyRules> {
        if let Some(rule) = self.rules.iter_mut().find(|(known, _)| *known == prefix) {
            rule.1 = access;
            return Ok(());
        }
        let at = self.rules.partition_point(|(known, _)| known.len >= prefix.len);
        self.rules.try_insert(at, (prefix, access)).map_err(|_| TooManyRules)
    }

    /// Whether `address` is served.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        self.rules
            .iter()
            .find(|(prefix, _)| prefix.contains(address))
            .is_some_and(|(_, access)| *access == Access::Allow)
    }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, len) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), len.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_longest_prefix_decides() {
        let mut table = AccessTable::new();
        for (text, access) in [
            ("192.0.2.0/24", Access::Allow),
            ("0.0.0.0/0", Access::Deny),
            ("192.0.2.128/25", Access::Deny),
            ("192.0.2.200/32", Access::Allow),
            ("2001:db8::/32", Access::Allow),
            ("::ffff:198.51.100.0/120", Access::Allow),
        ] {
            table.add(prefix(text), access).unwrap();
        }
        for (address, allowed) in [
            ("192.0.2.1", true),
            ("192.0.2.129", false),
            ("192.0.2.200", true),
            ("::ffff:192.0.2.200", true),
            ("203.0.113.1", false),
            ("198.51.100.7", true),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(table.allows(address.parse().unwrap()), allowed, "{address}");
        }
    }

    #[test]
    fn no_rule_serves_nobody_and_families_are_apart() {
        let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let mut table = AccessTable::new();
        assert!(!table.allows(v4) && !table.allows(v6));
        table.add(Prefix::ALL_V6, Access::Allow).unwrap();
        assert!(!table.allows(v4) && table.allows(v6));
        assert!(!table.allows(IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped())));
        table.add(Prefix::ALL_V4, Access::Allow).unwrap();
        table.add(Prefix::ALL_V6, Access::Deny).unwrap();
        assert!(table.allows(v4) && !table.allows(v6));
    }

    #[test]
    fn the_table_is_full_at_its_capacity() {
        let mut table = AccessTable::new();
        let nth = |n: usize| Prefix::new(Ipv4Addr::from(u32::try_from(n).unwrap()).into(), 32).unwrap();
        for n in 0..AccessTable::CAPACITY {
            table.add(nth(n), Access::Allow).unwrap();
        }
        assert_eq!(table.add(nth(AccessTable::CAPACITY), Access::Allow), Err(TooManyRules));
        assert_eq!(table.add(nth(5), Access::Deny), Ok(()));
        assert!(!table.allows("0.0.0.5".parse().unwrap()));
    }

    #[test]
    fn lengths_end_with_the_family() {
        assert!(Prefix::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 33).is_none());
        assert!(Prefix::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 129).is_none());
        assert!(Prefix::new("::ffff:1.2.3.4".parse().unwrap(), 129).is_none());
    }

    proptest! {
        #[test]
        fn containment_is_bit_by_bit(a: u32, b: u32, len in 0..=32_u8, a6: u128, b6: u128, len6 in 0..=128_u8, near: bool) {
            let b = if near { a ^ (b & 0xff) } else { b };
            let b6 = if near { a6 ^ (b6 & 0xff) } else { b6 };
            let same = (0..len).all(|bit| (a ^ b) & (1 << (31 - bit)) == 0);
            let prefix = Prefix::new(Ipv4Addr::from(a).into(), len).unwrap();
            prop_assert_eq!(prefix.contains(Ipv4Addr::from(b).into()), same);
            // Keep clear of the mapped range, which counts as IPv4.
            let (a6, b6) = (a6 | 1 << 100, b6 | 1 << 100);
            let same = (0..len6).all(|bit| (a6 ^ b6) & (1 << (127 - bit)) == 0);
            let prefix = Prefix::new(Ipv6Addr::from(a6).into(), len6).unwrap();
            prop_assert_eq!(prefix.contains(Ipv6Addr::from(b6).into()), same);
        }
    }
}
