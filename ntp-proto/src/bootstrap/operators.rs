//! Who is one and the same: a vote is worth nothing if one operator has several.

/// What tells operators apart. Servers that share any of it count as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The registrable domain of the name that the certificate is for, or the address in its place; lower case.
    pub domain: String,
    /// SHA-256 of the public key of the key-exchange server; `None` where it is not known any more.
    pub key: Option<[u8; 32]>,
}

impl Identity {
    fn is_one_with(&self, other: &Self) -> bool {
        self.domain == other.domain || (self.key.is_some() && self.key == other.key)
    }
}

/// The operator of each of these, as the position of the first of that operator. Where servers are does not count: nobody has
/// proven that, so it stops no thief of keys, and honest neighbours would have one voice between them.
pub(super) fn operators(identities: &[&Identity]) -> Vec<usize> {
    let mut operator: Vec<usize> = (0..identities.len()).collect();
    for (at, identity) in identities.iter().enumerate() {
        for earlier in 0..at {
            let (Some(other), Some(&of_other), Some(&own)) =
                (identities.get(earlier), operator.get(earlier), operator.get(at))
            else {
                continue;
            };
            if own != of_other && identity.is_one_with(other) {
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

    fn identity(domain: &str, key: u8) -> Identity {
        Identity { domain: domain.into(), key: (key > 0).then_some([key; 32]) }
    }

    #[test]
    fn what_shares_a_name_or_a_key_is_one() {
        let all = [
            identity("a.example", 1),
            identity("b.example", 2),
            identity("c.example", 1),
            identity("d.example", 0),
            identity("b.example", 0),
            identity("e.example", 0),
            identity("c.example", 2),
        ];
        let all: Vec<&Identity> = all.iter().collect();
        // The last has the name of the third and the key of the second.
        assert_eq!(operators(&all), [0, 0, 0, 3, 0, 5, 0]);
        assert!(operators(&[]).is_empty());
    }
}
