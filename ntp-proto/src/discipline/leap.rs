//! Whether a leap second is coming.

use crate::{
    ids::Leap,
    time::{NtpDuration, UnixTime},
};

/// Counts what the sources say about a leap second.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeapVote {
    votes: usize,
    insert: usize,
}

/// Seconds in a day.
const DAY: i64 = 86_400;
/// An inserted second is a jump back by one second to within this, in seconds.
const TOLERANCE: f64 = 0.1;
/// Seconds after midnight in which the jump may be noticed at last.
const NOTICED_WITHIN: i64 = 64;

impl LeapVote {
    /// Takes the warning of one source that is used.
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

/// Whether a jump by `by`, noticed when the clock read `at` without it, is the second that is inserted at midnight.
#[must_use]
pub fn is_inserted_second(at: UnixTime, by: NtpDuration) -> bool {
    // A clock that is a little slow jumps a little early.
    let since_midnight = (at.seconds + 1).rem_euclid(DAY) - 1;
    (by.to_seconds() + 1.0).abs() < TOLERANCE && since_midnight <= NOTICED_WITHIN
}

/// Whether `now` lies in 30 June or 31 December (UTC).
fn is_leap_day(now: UnixTime) -> bool {
    let day = now.seconds.div_euclid(DAY);
    matches!(month_and_day(day + 1), (7, 1) | (1, 1))
}

/// Month (1 to 12) and day of the month of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
fn month_and_day(day: i64) -> (i64, i64) {
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
    fn only_a_second_at_midnight_is_inserted() {
        let back = |seconds: f64| NtpDuration::from_seconds(-seconds);
        for (after, by, expected) in
            [(0, 1.0, true), (-1, 1.0, true), (30, 1.01, true), (3600, 1.0, false), (-60, 1.0, false), (0, 2.0, false)]
        {
            assert_eq!(is_inserted_second(day(1_483_228_800 + after), back(by)), expected, "{after} s, {by} s");
        }
        assert!(!is_inserted_second(day(1_483_228_800), back(-1.0)));
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
