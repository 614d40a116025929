//! What was published, kept in a file: only that is taken away again, by this process or a later one.
//!
//! The other server's zone may hold much that is not the pool's, so what is in it does not tell.

use core::fmt::Write as _;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use ntp_proto::pool::Name;

use super::{name::WireName, record::kind, update::SetKey};
use crate::directory::{Problem, read, replace};

/// Types that are published, and their words.
const KINDS: [(u16, &str); 5] =
    [(kind::A, "A"), (kind::AAAA, "AAAA"), (kind::SRV, "SRV"), (kind::TLSA, "TLSA"), (kind::TXT, "TXT")];

/// Owners and types of all sets that may be at the server because of us.
#[derive(Debug)]
pub(super) struct Published {
    file: PathBuf,
    zone: WireName,
    sets: BTreeSet<SetKey>,
}

impl Published {
    /// Reads the file; where there is none, nothing was published.
    ///
    /// # Errors
    ///
    /// [`Problem`] with the line that is none: to take it for nothing would leave records for ever.
    pub(super) fn open(file: &Path, zone: &WireName) -> Result<Self, Problem> {
        let text = match file.try_exists() {
            Ok(false) => String::new(),
            Ok(true) => read(file).map_err(|error| Problem::whole(file, error))?,
            Err(error) => return Err(Problem::whole(file, error)),
        };
        let mut sets = BTreeSet::new();
        let mut octet = 0_usize;
        for line in text.split_inclusive('\n') {
            let here = octet;
            octet = octet.saturating_add(line.len());
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let set = parse(line).filter(|(owner, _)| owner.relative_to(zone).is_some());
            let wrong = || {
                let accepted = "accepted: a name in it and one of A, AAAA, SRV, TLSA, TXT";
                Problem::at(file, &text, here, format!("not a set of the zone {zone}; {accepted}"))
            };
            sets.insert(set.ok_or_else(wrong)?);
        }
        Ok(Self { file: file.to_owned(), zone: zone.clone(), sets })
    }

    /// The sets.
    pub(super) const fn sets(&self) -> &BTreeSet<SetKey> {
        &self.sets
    }

    /// Makes these the sets, in the file first.
    ///
    /// # Errors
    ///
    /// [`Problem`] if the file cannot be written; the sets are as they were then.
    pub(super) fn set(&mut self, sets: BTreeSet<SetKey>) -> Result<(), Problem> {
        if sets == self.sets {
            return Ok(());
        }
        let mut text = format!("# What nts-pool-srv published in the zone {}: it takes these away again.\n", self.zone);
        for (owner, kind) in &sets {
            let word = KINDS.iter().find(|(known, _)| known == kind).map_or("", |(_, word)| word);
            // Writing to a string does not fail.
            let _: Result<(), _> = writeln!(text, "{owner} {word}");
        }
        replace(&self.file, &text).map_err(|error| {
            let what = "it must be writable, so that records can be taken away later; accepted: state = \"FILE\"";
            Problem::whole(&self.file, format!("{error}; {what}"))
        })?;
        self.sets = sets;
        Ok(())
    }
}

fn parse(line: &str) -> Option<SetKey> {
    let mut words = line.split_ascii_whitespace();
    let (owner, word) = (words.next()?, words.next()?);
    let (kind, _) = KINDS.iter().find(|(_, known)| *known == word)?;
    let owner = WireName::of(&Name::parse(owner).ok()?);
    words.next().is_none().then_some((owner, *kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(text: &str) -> WireName {
        WireName::of(&Name::parse(text).unwrap())
    }

    #[test]
    fn sets_outlive_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("time.example.published");
        let zone = wire("time.example");
        let mut first = Published::open(&file, &zone).unwrap();
        assert!(first.sets().is_empty() && !file.exists());
        let owner = wire("_4460._tcp.ke1.time.example");
        let sets: BTreeSet<_> = KINDS.iter().map(|(kind, _)| (owner.clone(), *kind)).collect();
        first.set(sets.clone()).unwrap();
        assert_eq!(*Published::open(&file, &zone).unwrap().sets(), sets);
        first.set(BTreeSet::new()).unwrap();
        assert!(Published::open(&file, &zone).unwrap().sets().is_empty());
    }

    #[test]
    fn a_file_that_is_none_is_told_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        for line in
            ["ke1.time.example.", "ke1.time.example. MX", "ke1.other.example. A", "a..b A", "ke1.time.example A A"]
        {
            std::fs::write(&file, format!("# ours\nke0.time.example. A\n\n{line}\n")).unwrap();
            let problem = Published::open(&file, &wire("time.example")).unwrap_err().to_string();
            assert!(
                problem.starts_with(&format!("{}:4:1: not a set of the zone time.example.", file.display())),
                "{problem}"
            );
        }
        let mut nowhere = Published::open(&folder.path().join("none/f"), &wire("time.example")).unwrap();
        let set = BTreeSet::from([(wire("time.example"), kind::A)]);
        assert!(nowhere.set(set).unwrap_err().to_string().contains("accepted: state = "));
        assert!(nowhere.sets().is_empty());
    }
}
