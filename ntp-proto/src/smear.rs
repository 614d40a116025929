//! A leap second that clients are not told of: served time runs a little slower, or faster, for a day around it.
//!
//! From noon to noon, as large operators do who have said so in public: the 86 401 seconds of that day, or 86 399, are served
//! as 86 400 of equal length.

use crate::time::{NtpDuration, NtpTimestamp};

/// Seconds from noon to midnight.
const HALF_DAY: f64 = 43_200.0;

/// Seconds that are served from noon to noon.
const DAY: f64 = 86_400.0;

/// A leap second that is smeared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smear {
    /// The midnight (UTC) before which it is.
    pub midnight: NtpTimestamp,
    /// Whether a second is inserted rather than deleted.
    pub inserts: bool,
}

impl Smear {
    /// What is served at `time` (UTC). `None` in an inserted second and the one before it: the clock reads the same in both,
    /// so nobody knows which of them it is.
    #[must_use]
    pub fn apply(&self, time: NtpTimestamp) -> Option<NtpTimestamp> {
        let since_midnight = time.since(self.midnight).to_seconds();
        if !(-HALF_DAY..HALF_DAY).contains(&since_midnight) {
            return Some(time);
        }
        if self.inserts && (-1.0..0.0).contains(&since_midnight) {
            return None;
        }
        let leap = if self.inserts { 1.0 } else { -1.0 };
        let passed = if since_midnight < 0.0 { 0.0 } else { leap };
        // Of the seconds since noon each is served as a little less than one, and UTC has not counted the leap second.
        let since_noon = since_midnight + HALF_DAY + passed;
        Some(time + NtpDuration::from_seconds(passed - since_noon * leap / (DAY + leap)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIDNIGHT: NtpTimestamp = NtpTimestamp::from_bits(4_000_000_000 << 32);

    /// What UTC reads `elapsed` seconds after noon, counted with the leap second.
    fn utc(smear: &Smear, elapsed: f64) -> NtpTimestamp {
        let leap = if smear.inserts { 1.0 } else { -1.0 };
        let before = if smear.inserts { HALF_DAY + 1.0 } else { HALF_DAY - 1.0 };
        // The inserted second is read as the one before it once more.
        let read = if elapsed < before { elapsed } else { elapsed - leap };
        let read = if smear.inserts && (HALF_DAY..before).contains(&elapsed) { elapsed - 1.0 } else { read };
        MIDNIGHT + NtpDuration::from_seconds(read - HALF_DAY)
    }

    fn served(smear: &Smear, elapsed: f64) -> Option<f64> {
        Some((smear.apply(utc(smear, elapsed))? - MIDNIGHT).to_seconds() + HALF_DAY)
    }

    #[test]
    fn a_day_begins_and_ends_with_noon_and_half_of_it_is_served_in_the_middle() {
        for inserts in [true, false] {
            let smear = Smear { midnight: MIDNIGHT, inserts };
            let whole = if inserts { DAY + 1.0 } else { DAY - 1.0 };
            for (elapsed, expected) in [(-1.0, -1.0), (0.0, 0.0), (whole, DAY), (whole + 1.0, DAY + 1.0)] {
                let found = served(&smear, elapsed).unwrap();
                assert!((found - expected).abs() < 1e-8, "{inserts} {elapsed}: {found}");
            }
        }
        let smear = Smear { midnight: MIDNIGHT, inserts: true };
        let before = (smear.apply(MIDNIGHT - NtpDuration::from_seconds(1.0 + 1e-6)).unwrap() - MIDNIGHT).to_seconds();
        let after = (smear.apply(MIDNIGHT).unwrap() - MIDNIGHT).to_seconds();
        assert!((before + 1.5).abs() < 1e-4 && (after - 0.5).abs() < 1e-4, "{before} {after}");
        assert!((after - before - 2.0).abs() < 1e-4, "two seconds later");
    }

    #[test]
    fn nothing_is_said_while_the_clock_reads_one_second_twice() {
        let smear = Smear { midnight: MIDNIGHT, inserts: true };
        for (elapsed, is_said) in [
            (HALF_DAY - 1.0 - 1e-6, true),
            (HALF_DAY - 1.0, false),
            (HALF_DAY - 1e-6, false),
            (HALF_DAY + 1e-6, false),
            (HALF_DAY + 1.0 - 1e-6, false),
            (HALF_DAY + 1.0, true),
        ] {
            assert_eq!(served(&smear, elapsed).is_some(), is_said, "{elapsed}");
        }
        let deleted = Smear { midnight: MIDNIGHT, inserts: false };
        assert!((-20..20).all(|tenth| served(&deleted, HALF_DAY + f64::from(tenth) / 10.0).is_some()));
    }

    proptest! {
        #[test]
        fn served_time_neither_jumps_nor_goes_back(inserts: bool, from in -1e4..1e5_f64, after in 1e-6..3e4_f64) {
            let smear = Smear { midnight: MIDNIGHT, inserts };
            if let (Some(first), Some(second)) = (served(&smear, from), served(&smear, from + after)) {
                let rate = (second - first) / after;
                // 11.6 ppm, and what rounding to 0.2 ns makes of a microsecond.
                let most = 1.0 / (DAY - 1.0) + 2e-9 / after;
                prop_assert!((rate - 1.0).abs() <= most, "{} after {} and {}", rate, from, after);
            }
        }
    }
}
