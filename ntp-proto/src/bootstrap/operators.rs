//! Who is one and the same: a vote is worth nothing if one operator has several.

use std::net::IpAddr;

/// What tells operators apart. Servers that share any of it count as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The registrable domain of the name that the certificate is for, or the address in its place; lower case.
    pub domain: String,
    /// SHA-256 of the public key of the key-exchange server; `None` where it is not known any more.
    pub key: Option<[u8; 32]>,
    /// Where it answers NTP.
    pub addresses: Vec<IpAddr>,
}

/// Bits of an address that one operator is taken to have.
const V4_BITS: u32 = 24;
const V6_BITS: u32 = 48;

fn network(address: IpAddr) -> (bool, u128) {
    match address.to_canonical() {
        IpAddr::V4(address) => (true, u128::from(address.to_bits() >> (32 - V4_BITS))),
        IpAddr::V6(address) => (false, address.to_bits() >> (128 - V6_BITS)),
    }
}

impl Identity {
    fn has_owner_of(&self, other: &Self) -> bool {
        self.domain == other.domain || (self.key.is_some() && self.key == other.key)
    }

    fn is_near(&self, other: &Self) -> bool {
        self.addresses.iter().any(|a| other.addresses.iter().any(|b| network(*a) == network(*b)))
    }
}

/// The operator of each of these who vote, as the position of the first of that operator. Addresses count: whoever has
/// several servers in one place has one voice.
pub(super) fn operators(identities: &[&Identity]) -> Vec<usize> {
    merge(identities, |one, other| one.has_owner_of(other) || one.is_near(other))
}

/// The same by names and keys alone, of which a server has proven that they are its own. Where it is, nobody has proven;
/// whoever forges addresses must not make fewer of those whose majority is needed.
pub(super) fn owners(identities: &[&Identity]) -> Vec<usize> {
    merge(identities, Identity::has_owner_of)
}

fn merge(identities: &[&Identity], are_one: impl Fn(&Identity, &Identity) -> bool) -> Vec<usize> {
    let mut operator: Vec<usize> = (0..identities.len()).collect();
    for (at, identity) in identities.iter().enumerate() {
        for earlier in 0..at {
            let (Some(other), Some(&of_other), Some(&own)) =
                (identities.get(earlier), operator.get(earlier), operator.get(at))
            else {
                continue;
            };
            if own != of_other && are_one(identity, other) {
                let (first, gone) = (own.min(of_other), own.max(of_other));
                operator.iter_mut().filter(|one| **one == gone).for_each(|one| *one = first);
            }
        }
    }
    operator
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(domain: &str, key: u8, address: &str) -> Identity {
        let addresses = vec![address.parse().unwrap()];
        Identity { domain: domain.into(), key: (key > 0).then_some([key; 32]), addresses }
    }

    #[test]
    fn what_shares_anything_is_one() {
        let all = [
            identity("a.example", 1, "192.0.2.1"),
            identity("b.example", 2, "198.51.100.1"),
            identity("c.example", 1, "203.0.113.1"),
            identity("d.example", 0, "203.0.113.200"),
            identity("b.example", 0, "2001:db8::1"),
            identity("e.example", 0, "2001:db8:1::1"),
            identity("f.example", 6, "::ffff:192.0.2.77"),
        ];
        let all: Vec<&Identity> = all.iter().collect();
        assert_eq!(operators(&all), [0, 1, 0, 0, 1, 5, 0]);
        assert_eq!(owners(&all), [0, 1, 0, 3, 1, 5, 6]);
        assert!(operators(&[]).is_empty());
    }
}
