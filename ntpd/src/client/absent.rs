//! Servers that have not answered for so long that a good clock is confirmed without them.
//!
//! Whoever configures two servers, one of which is switched off for good, must not be without the time from the next restart
//! on. So a `[[server]]` that was dead for a day in which others verified the time is not among those whose majority is needed,
//! where the clock will do. The servers of a pool are replaced, and so none of them is ever missed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ntp_proto::time::Monotonic;

use super::{Client, Group, members::Configured};
use crate::{now, state::Absences};

/// After this long, in seconds, a server counts as absent.
const ABSENT: u64 = 86_400;
/// Time between two looks.
const SPACING: Duration = Duration::from_secs(16);

/// For how long servers have not answered while the time was verified.
#[derive(Debug, Default)]
pub(super) struct Roll {
    missed: BTreeMap<String, Duration>,
    /// When it was looked last, in one stretch of verified time.
    last: Option<Monotonic>,
}

/// What a look at a server shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Gone,
    Back,
}

impl Roll {
    pub(super) fn of_record(Absences(seconds): Absences) -> Self {
        let missed = seconds.into_iter().map(|(name, seconds)| (name, Duration::from_secs(seconds))).collect();
        Self { missed, last: None }
    }

    pub(super) fn to_record(&self) -> Absences {
        Absences(self.missed.iter().map(|(name, missed)| (name.clone(), missed.as_secs())).collect())
    }

    pub(super) fn is_absent(&self, name: &str) -> bool {
        self.missed.get(name).is_some_and(|missed| missed.as_secs() >= ABSENT)
    }

    /// How much time has passed since the last look, if it is time for another; none is counted in which the time was not
    /// verified.
    fn passed(&mut self, verified: bool, present: Monotonic) -> Option<Duration> {
        if !verified {
            self.last = None;
            return None;
        }
        let passed = present.since(*self.last.get_or_insert(present));
        (passed >= SPACING).then(|| {
            self.last = Some(present);
            passed
        })
    }

    /// Takes which servers answer now. Where none does, it is rather this machine that is cut off.
    fn call(&mut self, answers: &BTreeMap<String, bool>, passed: Duration) -> Vec<(String, News)> {
        self.missed.retain(|name, _| answers.contains_key(name));
        if !answers.values().any(|answers| *answers) {
            return Vec::new();
        }
        let mut news = Vec::new();
        for (name, answers) in answers {
            let was_absent = self.is_absent(name);
            if *answers {
                self.missed.remove(name);
            } else {
                let missed = self.missed.entry(name.clone()).or_default();
                *missed = missed.saturating_add(passed);
            }
            match (was_absent, self.is_absent(name)) {
                (false, true) => news.push((name.clone(), News::Gone)),
                (true, false) => news.push((name.clone(), News::Back)),
                (true, true) | (false, false) => {}
            }
        }
        news
    }
}

impl Client {
    /// Whether nobody waits for this server any more.
    pub(super) fn is_absent(&self, group: &Group) -> bool {
        matches!(group.configured, Configured::Server(_)) && self.roll.is_absent(&group.configured.name())
    }

    /// Looks who answers, now and then.
    pub(super) fn call_roll(&mut self) {
        let Some(passed) = self.roll.passed(self.boot.is_verified(), now::monotonic()) else { return };
        let present = self.clock.now();
        let heard: BTreeSet<_> = self
            .engine
            .sources(present)
            .filter(|report| report.source.reach().is_reachable())
            .map(|report| report.source.id())
            .collect();
        let mut answers = BTreeMap::new();
        // A pool can tell that this machine is not cut off.
        for group in self.groups.values().filter(|group| self.expects_authentication(group)) {
            let answer = group.members.values().any(|active| heard.contains(&active.source));
            if answer || matches!(group.configured, Configured::Server(_)) {
                *answers.entry(group.configured.name()).or_insert(false) |= answer;
            }
        }
        for (name, news) in self.roll.call(&answers, passed) {
            match news {
                News::Gone => tracing::error!(
                    "{name} has not answered for a day; a restart with a good clock does not wait for it any more"
                ),
                News::Back => tracing::info!("{name} answers again, and counts again"),
            }
            self.store.save_absences(&self.roll);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn answers(all: &[(&str, bool)]) -> BTreeMap<String, bool> {
        all.iter().map(|(name, answers)| ((*name).to_owned(), *answers)).collect()
    }

    #[test]
    fn a_day_of_silence_while_others_answer_is_absence_until_an_answer_comes() {
        let mut roll = Roll::default();
        let one_dead = answers(&[("a", true), ("b", false)]);
        (0..23).for_each(|hour| assert_eq!(roll.call(&one_dead, HOUR), [], "{hour}"));
        assert!(!roll.is_absent("b"));
        // Nobody answers: that says nothing of anybody.
        (0..48).for_each(|_| assert_eq!(roll.call(&answers(&[("a", false), ("b", false)]), HOUR), []));
        assert!(!roll.is_absent("a") && !roll.is_absent("b"));
        assert_eq!(roll.call(&one_dead, HOUR), [("b".to_owned(), News::Gone)]);
        assert_eq!(roll.call(&one_dead, HOUR), [], "it is told once");
        // That is kept over a restart, in which it is not told again.
        let mut roll = Roll::of_record(roll.to_record());
        assert!(roll.is_absent("b") && !roll.is_absent("a"));
        assert_eq!(roll.call(&one_dead, HOUR), []);
        assert_eq!(roll.call(&answers(&[("a", true), ("b", true)]), HOUR), [("b".to_owned(), News::Back)]);
        assert!(!roll.is_absent("b"));
        (0..23).for_each(|_| assert_eq!(roll.call(&one_dead, HOUR), [], "from the beginning"));
    }

    #[test]
    fn who_is_not_configured_any_more_is_forgotten() {
        let mut roll = Roll::default();
        roll.call(&answers(&[("a", true), ("b", false)]), 24 * HOUR);
        roll.call(&answers(&[("a", true)]), HOUR);
        assert_eq!(roll.to_record(), Absences::default());
    }

    #[test]
    fn only_time_that_was_verified_counts() {
        let at = |seconds: u64| Monotonic::from_nanos(seconds * 1_000_000_000);
        let mut roll = Roll::default();
        assert_eq!(roll.passed(true, at(100)), None, "a stretch begins");
        assert_eq!(roll.passed(true, at(110)), None);
        assert_eq!(roll.passed(true, at(120)), Some(Duration::from_secs(20)));
        assert_eq!(roll.passed(false, at(140)), None);
        assert_eq!(roll.passed(true, at(9_000)), None, "another begins");
        assert_eq!(roll.passed(true, at(9_016)), Some(Duration::from_secs(16)));
    }
}
