//! Whether a leap second is coming.

use super::LeapTable;
use crate::{
    ids::Leap,
    time::{NtpDuration, UnixTime},
};

/// What is done at a leap second, in the words of chrony's `leapsecmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeapMode {
    /// The kernel is told, and inserts or deletes the second.
    #[default]
    System,
    /// The clock is stepped by a second.
    Step,
    /// The clock is slewed by a second, from then on.
    Slew,
    /// Nothing, and it is not announced to clients either. The error is measured afterwards, as any other.
    Ignore,
}

/// Which leap seconds are passed on: those of a list, and where that is too old to tell, those that most sources announce.
#[derive(Clone, Debug, Default)]
pub struct LeapRule {
    mode: LeapMode,
    table: Option<LeapTable>,
    /// The midnight of the last one, in Unix seconds, and what it was: a clock that was set back by it does not come to another.
    last: Option<(i64, Leap)>,
}

/// Counts what the sources say about a leap second.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeapVote {
    votes: usize,
    insert: usize,
}

/// Seconds in a day.
pub(super) const DAY: i64 = 86_400;
/// A leap second is a jump by one second to within this, in seconds.
const TOLERANCE: f64 = 0.1;
/// Seconds after midnight in which the jump may be noticed at last.
const NOTICED_WITHIN: i64 = 64;

impl LeapRule {
    /// Starts without a list.
    #[must_use]
    pub const fn new(mode: LeapMode) -> Self {
        Self { mode, table: None, last: None }
    }

    /// What is done at a leap second.
    #[must_use]
    pub const fn mode(&self) -> LeapMode {
        self.mode
    }

    /// Whether leap seconds are passed on.
    const fn passes(&self) -> bool {
        !matches!(self.mode, LeapMode::Ignore)
    }

    /// Changes the list.
    pub fn set_table(&mut self, table: Option<LeapTable>) {
        self.table = table;
    }

    /// The list.
    #[must_use]
    pub const fn table(&self) -> Option<&LeapTable> {
        self.table.as_ref()
    }

    /// What comes at the end of the day of `now`, by the list, or by the sources where that cannot tell.
    #[must_use]
    pub fn outcome(&self, now: UnixTime, vote: &LeapVote) -> Leap {
        self.listed(now).unwrap_or_else(|| if self.is_open(now) { vote.outcome(now) } else { Leap::None })
    }

    /// What comes at the end of the day of `now`, if the list can tell.
    #[must_use]
    pub fn listed(&self, now: UnixTime) -> Option<Leap> {
        let listed = self.table.as_ref()?.at_end_of_day(now)?;
        Some(if self.is_open(now) { listed } else { Leap::None })
    }

    /// How far TAI is ahead of UTC, in seconds, if the list can tell.
    #[must_use]
    pub fn tai_offset(&self, now: UnixTime) -> Option<i16> {
        // In an inserted second the clock reads once more what it read before.
        let seconds = self.last.map_or(now.seconds, |(last, _)| now.seconds.max(last));
        self.table.as_ref()?.tai_offset(UnixTime { seconds, ..now })
    }

    /// Takes word of a leap second, noticed when the clock would have read `at` without it.
    pub const fn handle_leap(&mut self, at: UnixTime, leap: Leap) {
        self.last = Some(((at.seconds + DAY / 2).div_euclid(DAY) * DAY, leap));
    }

    /// The midnight of the listed leap second of the day of `now`, or of one that was less than half a day ago; and what it is.
    /// Sources do not count: their majority may change within the day, and a restart would not know of the night before.
    #[must_use]
    pub fn near(&self, now: UnixTime) -> Option<(UnixTime, Leap)> {
        let table = self.table.as_ref().filter(|_| self.passes())?;
        let this = now.seconds.div_euclid(DAY) * DAY;
        let is_near = |midnight: &i64| *midnight > this || now.seconds < midnight + DAY / 2;
        [this + DAY, this].into_iter().filter(is_near).find_map(|midnight| {
            let leap = table.at_end_of_day(UnixTime { seconds: midnight - 1, nanos: 0 })?;
            let at = UnixTime { seconds: midnight, nanos: 0 };
            matches!(leap, Leap::Insert | Leap::Delete).then_some((at, leap))
        })
    }

    fn is_open(&self, now: UnixTime) -> bool {
        let is_over = |last: i64| !(last - DAY..last).contains(&now.seconds);
        self.passes() && self.last.is_none_or(|(last, _)| is_over(last))
    }
}

impl LeapVote {
    /// Takes the warning of one source that decides on the time.
    pub const fn add(&mut self, leap: Leap) {
        match leap {
            Leap::Insert => self.insert += 1,
            Leap::None | Leap::Delete => {}
            Leap::Unsynchronized => return,
        }
        self.votes += 1;
    }

    /// The outcome at `now`: an insertion if more than half of the sources say so, and only on the last day of June or
    /// December. Deletions have never happened and are not believed without a leap second list.
    #[must_use]
    pub fn outcome(&self, now: UnixTime) -> Leap {
        if 2 * self.insert > self.votes && is_leap_day(now) { Leap::Insert } else { Leap::None }
    }
}

/// Whether a jump by `by`, noticed when the clock would have read `at` without it, is the leap second that was to come at
/// midnight.
#[must_use]
pub fn is_leap_second(announced: Leap, at: UnixTime, by: NtpDuration) -> bool {
    let expected = match announced {
        Leap::Insert => -1.0,
        Leap::Delete => 1.0,
        Leap::None | Leap::Unsynchronized => return false,
    };
    // A clock that is a little slow jumps a little early, and a second is deleted before midnight.
    let since_midnight = (at.seconds + 2).rem_euclid(DAY) - 2;
    (by.to_seconds() - expected).abs() < TOLERANCE && since_midnight <= NOTICED_WITHIN
}

/// Whether `now` lies in 30 June or 31 December (UTC).
fn is_leap_day(now: UnixTime) -> bool {
    let day = now.seconds.div_euclid(DAY);
    matches!(month_and_day(day + 1), (7, 1) | (1, 1))
}

/// Month (1 to 12) and day of the month of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
pub(super) fn month_and_day(day: i64) -> (i64, i64) {
    // Years are counted from March, so that the leap day comes last; 719 468 days lie between 0000-03-01 and 1970-01-01.
    let from_march_0000 = day + 719_468;
    let day_of_era = from_march_0000.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    (if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 }, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After the last leap second so far: 2017-01-01.
    const MIDNIGHT: i64 = 1_483_228_800;

    fn day(seconds: i64) -> UnixTime {
        UnixTime { seconds, nanos: 0 }
    }

    #[test]
    fn a_majority_on_the_right_day_counts() {
        // 2016-12-31T12:00:00Z, the last leap second so far, and the day before.
        let (eve, early) = (day(1_483_185_600), day(1_483_185_600 - DAY));
        let mut vote = LeapVote::default();
        vote.add(Leap::Insert);
        vote.add(Leap::Insert);
        vote.add(Leap::None);
        assert_eq!(vote.outcome(eve), Leap::Insert);
        assert_eq!(vote.outcome(early), Leap::None);
        vote.add(Leap::None);
        assert_eq!(vote.outcome(eve), Leap::None, "half is no majority");
    }

    #[test]
    fn deletions_and_silence_do_not_count() {
        let mut vote = LeapVote::default();
        vote.add(Leap::Delete);
        vote.add(Leap::Unsynchronized);
        assert_eq!(vote.outcome(day(1_483_185_600)), Leap::None);
    }

    #[test]
    fn only_a_second_at_midnight_is_a_leap_second() {
        let by = |seconds: f64| NtpDuration::from_seconds(seconds);
        for (after, jump, inserted, deleted) in [
            (0, -1.0, true, false),
            (-1, -1.0, true, false),
            (30, -1.01, true, false),
            (3600, -1.0, false, false),
            (-60, -1.0, false, false),
            (0, -2.0, false, false),
            (-1, 1.0, false, true),
            (-2, 1.0, false, true),
            (30, 0.99, false, true),
            (-60, 1.0, false, false),
        ] {
            let at = day(MIDNIGHT + after);
            assert_eq!(is_leap_second(Leap::Insert, at, by(jump)), inserted, "{after} s, {jump} s");
            assert_eq!(is_leap_second(Leap::Delete, at, by(jump)), deleted, "{after} s, {jump} s");
            assert!(!is_leap_second(Leap::None, at, by(jump)) && !is_leap_second(Leap::Unsynchronized, at, by(jump)));
        }
    }

    fn list(expires: i64) -> LeapTable {
        LeapTable::new(vec![(MIDNIGHT - 184 * DAY, 36), (MIDNIGHT, 37)], day(expires)).unwrap()
    }

    #[test]
    fn the_list_comes_before_the_sources() {
        let (eve, other) = (day(MIDNIGHT - DAY / 2), day(MIDNIGHT + 181 * DAY - DAY / 2));
        let (mut for_it, mut against) = (LeapVote::default(), LeapVote::default());
        for_it.add(Leap::Insert);
        against.add(Leap::None);
        let mut rule = LeapRule::new(LeapMode::System);
        assert_eq!((rule.outcome(eve, &for_it), rule.outcome(eve, &against)), (Leap::Insert, Leap::None));
        rule.set_table(Some(list(MIDNIGHT + 365 * DAY)));
        assert_eq!(rule.outcome(eve, &against), Leap::Insert);
        assert_eq!(rule.outcome(other, &for_it), Leap::None, "the list is newer than that day and does not have it");
        rule.set_table(Some(list(MIDNIGHT + 100 * DAY)));
        assert_eq!(rule.outcome(other, &for_it), Leap::Insert, "it is too old to tell");
        let mut none = LeapRule::new(LeapMode::Ignore);
        none.set_table(Some(list(MIDNIGHT + 365 * DAY)));
        assert_eq!(none.outcome(eve, &for_it), Leap::None);
    }

    #[test]
    fn a_leap_second_is_near_on_its_day_and_for_half_a_day_after() {
        let mut listed = LeapRule::new(LeapMode::System);
        listed.set_table(Some(list(MIDNIGHT + 365 * DAY)));
        for (after, is_near) in [
            (-DAY - 1, false),
            (-DAY, true),
            (-DAY / 2, true),
            (-1, true),
            (0, true),
            (DAY / 2 - 1, true),
            (DAY / 2, false),
        ] {
            let near = |rule: &LeapRule| rule.near(day(MIDNIGHT + after)).map(|(at, _)| at.seconds);
            assert_eq!(near(&listed), is_near.then_some(MIDNIGHT), "{after}");
            // What sources said, and what happened, makes no difference.
            let mut told = LeapRule::new(LeapMode::System);
            told.handle_leap(day(MIDNIGHT), Leap::Insert);
            assert_eq!(near(&told), None, "{after}");
            let mut ignored = LeapRule::new(LeapMode::Ignore);
            ignored.set_table(Some(list(MIDNIGHT + 365 * DAY)));
            assert_eq!(near(&ignored), None, "{after}");
        }
    }

    #[test]
    fn an_inserted_second_is_not_inserted_again() {
        let mut rule = LeapRule::new(LeapMode::System);
        rule.set_table(Some(list(MIDNIGHT + 365 * DAY)));
        let mut vote = LeapVote::default();
        vote.add(Leap::Insert);
        assert_eq!(rule.tai_offset(day(MIDNIGHT - 1)), Some(36));
        for noticed in [-1, 0, 30] {
            rule.handle_leap(day(MIDNIGHT + noticed), Leap::Insert);
            assert_eq!(rule.outcome(day(MIDNIGHT - 1), &vote), Leap::None);
            assert_eq!(rule.tai_offset(day(MIDNIGHT - 1)), Some(37), "the kernel has counted it already");
            assert_eq!(rule.outcome(day(MIDNIGHT), &vote), Leap::None);
        }
        rule.set_table(None);
        let other = day(MIDNIGHT + 181 * DAY - DAY / 2);
        assert_eq!(rule.outcome(other, &vote), Leap::Insert, "the next one is another");
    }

    #[test]
    fn the_calendar_is_right() {
        for (seconds, expected) in [
            (0, (1, 1)),
            (951_782_400, (2, 29)),    // 2000-02-29
            (1_341_014_400, (6, 30)),  // 2012-06-30
            (1_483_142_400, (12, 31)), // 2016-12-31
            (2_087_942_400, (3, 1)),   // 2036-03-01
            (4_107_542_400, (3, 1)),   // 2100-03-01, no leap year
        ] {
            assert_eq!(month_and_day(seconds / DAY), expected, "{seconds}");
        }
    }
}
