//! Leap seconds as a list has them.

use core::fmt;

use super::leap::{DAY, month_and_day};
use crate::{ids::Leap, time::UnixTime};

/// Leap seconds, past and announced, and until when no others can have been announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeapTable {
    /// From when on, in Unix seconds, TAI is ahead of UTC by how much.
    steps: Vec<(i64, i16)>,
    expires: i64,
}

/// Why a list cannot be one of leap seconds; times are in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeapTableFault {
    /// It has no entry, or more than [`LeapTable::MAX_STEPS`].
    Length,
    /// An entry that does not begin with a month.
    NotAMonth(i64),
    /// An entry that is not after the one before.
    Order(i64),
    /// An entry that is not one second off the one before.
    Jump(i64),
}

impl fmt::Display for LeapTableFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => write!(f, "1 to {} entries are needed", LeapTable::MAX_STEPS),
            Self::NotAMonth(_) => f.write_str("a leap second comes at the end of a month"),
            Self::Order(_) => f.write_str("an entry is not later than the one before"),
            Self::Jump(_) => f.write_str("an entry is not one second off the one before"),
        }
    }
}

impl core::error::Error for LeapTableFault {}

impl LeapTable {
    /// Most entries.
    pub const MAX_STEPS: usize = 256;

    /// Takes what TAI is ahead of UTC by from some Unix times on, and until when this is all that was announced.
    ///
    /// ITU-R TF.460-6 section 2.1: a leap second is the last second of a UTC month. December and June come first, then March
    /// and September; a list may name any, since whoever made it knows.
    ///
    /// # Errors
    ///
    /// [`LeapTableFault`] with the entry that cannot be.
    pub fn new(steps: Vec<(i64, i16)>, expires: UnixTime) -> Result<Self, LeapTableFault> {
        if !(1..=Self::MAX_STEPS).contains(&steps.len()) {
            return Err(LeapTableFault::Length);
        }
        for &(at, _) in &steps {
            if at.rem_euclid(DAY) != 0 || month_and_day(at.div_euclid(DAY)).1 != 1 {
                return Err(LeapTableFault::NotAMonth(at));
            }
        }
        for pair in steps.windows(2) {
            let &[(before, old), (at, new)] = pair else { continue };
            if at <= before {
                return Err(LeapTableFault::Order(at));
            }
            if old.abs_diff(new) != 1 {
                return Err(LeapTableFault::Jump(at));
            }
        }
        Ok(Self { steps, expires: expires.seconds })
    }

    /// Until when this is all that was announced.
    #[must_use]
    pub const fn expires(&self) -> UnixTime {
        UnixTime { seconds: self.expires, nanos: 0 }
    }

    /// Whether others may have been announced since.
    #[must_use]
    pub const fn has_expired(&self, now: UnixTime) -> bool {
        now.seconds >= self.expires
    }

    /// What happens at the end of the day of `now`; `None` if this table is too old to tell.
    #[must_use]
    pub fn at_end_of_day(&self, now: UnixTime) -> Option<Leap> {
        let midnight = (now.seconds.div_euclid(DAY) + 1) * DAY;
        let listed = self.steps.windows(2).find_map(|pair| match *pair {
            [(_, old), (at, new)] if at == midnight => Some(if new > old { Leap::Insert } else { Leap::Delete }),
            _ => None,
        });
        listed.or_else(|| (!self.has_expired(now)).then_some(Leap::None))
    }

    /// How far TAI is ahead of UTC, in seconds; `None` before the first entry, and if this table is too old to tell.
    #[must_use]
    pub fn tai_offset(&self, now: UnixTime) -> Option<i16> {
        let known = !self.has_expired(now);
        self.steps.iter().rev().find(|(at, _)| known && *at <= now.seconds).map(|(_, offset)| *offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Beginnings of 2015-07, 2017-01 and 2017-07, and the end of 2017.
    const JULY_2015: i64 = 1_435_708_800;
    const JANUARY_2017: i64 = 1_483_228_800;
    const JULY_2017: i64 = 1_498_867_200;
    const EXPIRES: i64 = 1_514_764_800;

    fn at(seconds: i64) -> UnixTime {
        UnixTime { seconds, nanos: 0 }
    }

    fn table() -> LeapTable {
        LeapTable::new(vec![(JULY_2015, 36), (JANUARY_2017, 37), (JULY_2017, 36)], at(EXPIRES)).unwrap()
    }

    #[test]
    fn a_listed_second_comes_on_its_day_alone() {
        let table = table();
        for (seconds, expected) in [
            (JANUARY_2017 - 1, Some(Leap::Insert)),
            (JANUARY_2017 - DAY, Some(Leap::Insert)),
            (JANUARY_2017 - DAY - 1, Some(Leap::None)),
            (JANUARY_2017, Some(Leap::None)),
            (JULY_2017 - 1, Some(Leap::Delete)),
            (EXPIRES - 1, Some(Leap::None)),
            (EXPIRES, None),
            // The first entry is where the list begins, no leap second.
            (JULY_2015 - 1, Some(Leap::None)),
        ] {
            assert_eq!(table.at_end_of_day(at(seconds)), expected, "{seconds}");
        }
    }

    #[test]
    fn tai_is_known_from_the_first_entry_until_the_list_expires() {
        let table = table();
        for (seconds, expected) in [
            (JULY_2015 - 1, None),
            (JULY_2015, Some(36)),
            (JANUARY_2017 - 1, Some(36)),
            (JANUARY_2017, Some(37)),
            (JULY_2017, Some(36)),
            (EXPIRES - 1, Some(36)),
            (EXPIRES, None),
        ] {
            assert_eq!(table.tai_offset(at(seconds)), expected, "{seconds}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let fault = |steps: &[(i64, i16)]| LeapTable::new(steps.to_vec(), at(EXPIRES)).unwrap_err();
        assert_eq!(fault(&[]), LeapTableFault::Length);
        assert_eq!(fault(&vec![(JULY_2015, 36); LeapTable::MAX_STEPS + 1]), LeapTableFault::Length);
        assert_eq!(fault(&[(JULY_2015 + 1, 36)]), LeapTableFault::NotAMonth(JULY_2015 + 1));
        assert_eq!(fault(&[(JULY_2015 + DAY, 36)]), LeapTableFault::NotAMonth(JULY_2015 + DAY));
        assert_eq!(fault(&[(JANUARY_2017, 36), (JULY_2015, 37)]), LeapTableFault::Order(JULY_2015));
        assert_eq!(fault(&[(JULY_2015, 36), (JANUARY_2017, 38)]), LeapTableFault::Jump(JANUARY_2017));
        assert_eq!(fault(&[(JULY_2015, i16::MIN), (JANUARY_2017, i16::MAX)]), LeapTableFault::Jump(JANUARY_2017));
    }
}
