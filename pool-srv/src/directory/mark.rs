//! What a list of members says of itself, so that half of one, or an old one, is not taken for the list.
//!
//! ```text
//! _members.time.example.  300 IN TXT "generation=1800000000 members=2 sha256=0123…"
//! ```

use core::fmt;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::Member;

/// Generation, length and content of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Grows with each change; of ours, the time in seconds since 1970 at which the directory's file was put in its place.
    pub generation: u64,
    /// How many members there are.
    pub members: usize,
    /// SHA-256 of a line for each, in their order: name, port, priority and weight, which is 0 for those that drain. A list
    /// that somebody wrote by hand may be without.
    pub sha256: Option<[u8; 32]>,
}

impl Mark {
    /// The mark of these members.
    #[must_use]
    pub fn of<'a>(generation: u64, members: impl Iterator<Item = &'a Member>) -> Self {
        let line = |member: &Member| {
            let Member { name, port, priority, .. } = member;
            format!("{name} {port} {priority} {}\n", listed_weight(member))
        };
        let mut lines: Vec<String> = members.map(line).collect();
        lines.sort_unstable();
        let sha256 = lines.iter().fold(Sha256::new(), |hash, line| hash.chain_update(line)).finalize();
        Self { generation, members: lines.len(), sha256: Some(sha256.into()) }
    }

    /// Takes it from its text.
    ///
    /// # Errors
    ///
    /// What is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value =
            |key: &str| text.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let read = || {
            let sha256 = match value("sha256") {
                Some(hex) => Some(HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()?),
                None => None,
            };
            let (generation, members) = (value("generation")?.parse().ok()?, value("members")?.parse().ok()?);
            Some(Self { generation, members, sha256 })
        };
        read().ok_or_else(|| {
            let shown: String = text.escape_default().take(100).collect();
            format!("\"{shown}\" is no mark of a list; accepted: such as \"generation=1 members=2\"")
        })
    }

    /// Whether it can be that of a list whose own mark is `found`, whatever their generations.
    #[must_use]
    pub fn fits(&self, found: &Self) -> bool {
        self.members == found.members && self.sha256.is_none_or(|hash| Some(hash) == found.sha256)
    }

    /// The first digits of the hash, by which machines compare what they have.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.sha256.map_or_else(String::new, |hash| HEXLOWER.encode(hash.get(..8).unwrap_or_default()))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation={} members={}", self.generation, self.members)?;
        self.sha256.map_or(Ok(()), |hash| write!(f, " sha256={}", HEXLOWER.encode(&hash)))
    }
}

/// The weight that a list gives a member. None has 0 itself, so that it says who drains.
pub(crate) fn listed_weight(member: &Member) -> u16 {
    if member.drain { 0 } else { member.weight }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::directory::parse;

    fn mark(members: &str) -> Mark {
        Mark::of(7, parse(Path::new("m"), members).unwrap().members().iter())
    }

    #[test]
    fn a_mark_is_that_of_its_members_and_of_no_others() {
        let member = |name: &str, more: &str| format!("[[member]]\nname = \"{name}\"\n{more}");
        let (a, b) = (member("a.example", ""), member("b.example", "weight = 3\n"));
        let ours = mark(&(a.clone() + &b));
        assert_eq!(ours, mark(&(b.clone() + &a)), "whatever their order");
        assert_eq!(Mark::parse(&ours.to_string()), Ok(ours.clone()));
        assert!(ours.fits(&ours) && ours.fingerprint().len() == 16);
        for other in [
            a.clone(),
            a.clone() + &member("c.example", "weight = 3\n"),
            a.clone() + &member("b.example", "weight = 4\n"),
            a.clone() + &member("b.example", "weight = 3\nport = 1\n"),
            a.clone() + &member("b.example", "weight = 3\npriority = 1\n"),
            a + &member("b.example", "weight = 3\ndrain = true\n"),
        ] {
            assert!(!ours.fits(&mark(&other)), "{other}");
        }
        // Written by hand.
        let by_hand = Mark::parse("members=2 generation=5").unwrap();
        assert!(by_hand.fits(&ours) && by_hand.generation == 5 && by_hand.sha256.is_none());
    }

    #[test]
    fn what_is_no_mark_is_told() {
        let short = "generation=1 members=2 sha256=00";
        for text in ["", "generation=1", "members=1", "generation=-1 members=1", "generation=1 members=x", short] {
            assert!(Mark::parse(text).unwrap_err().contains("is no mark of a list; accepted: "), "{text}");
        }
    }
}
