//! Points on the NTP and Unix timescales.

use core::ops::{Add, Sub};

use super::NtpDuration;

/// Seconds from the NTP prime epoch (1900-01-01) to the Unix epoch (1970-01-01).
const UNIX_EPOCH_IN_NTP_SECONDS: i64 = 2_208_988_800;

/// Nanoseconds in a second.
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The NTP timestamp format of RFC 5905 section 6: 32 bits of seconds and 32 of fraction, wrapping with the era
/// (next on 2036-02-07).
///
/// Two timestamps can be subtracted across an era boundary as long as they lie within 68 years of each other;
/// they have no order of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NtpTimestamp(u64);

impl NtpTimestamp {
    /// "Unknown or unsynchronized time" (RFC 5905 section 6).
    pub const ZERO: Self = Self(0);

    /// Takes the 64 bits as they stand on the wire.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The 64 bits as they stand on the wire.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Whether this is the special value for an unknown time.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Signed distance from `earlier` to `self`, right whenever the two are within 68 years of each other.
    #[must_use]
    pub const fn since(self, earlier: Self) -> NtpDuration {
        NtpDuration::from_bits(self.0.wrapping_sub(earlier.0).cast_signed())
    }

    /// Converts from the Unix timescale; the era is dropped.
    #[must_use]
    pub const fn from_unix(unix: UnixTime) -> Self {
        let seconds = unix.seconds.wrapping_add(UNIX_EPOCH_IN_NTP_SECONDS).cast_unsigned();
        // Below one second in 2^-32 s, so the sum stays inside its 32 bits.
        let fraction = ((unix.nanos as u64) << 32) / NANOS_PER_SECOND;
        Self((seconds << 32) | fraction)
    }

    /// Converts to the Unix timescale, in the era that puts the result nearest to `pivot`.
    ///
    /// Nanoseconds are rounded to the nearest.
    #[must_use]
    pub const fn to_unix(self, pivot: UnixTime) -> UnixTime {
        let pivot_ntp = Self::from_unix(pivot);
        // Whole seconds between the two as a signed 32-bit number: the era nearest to the pivot.
        let ahead = ((self.0 >> 32) as u32).wrapping_sub((pivot_ntp.0 >> 32) as u32).cast_signed();
        let mut seconds = pivot.seconds.wrapping_add(ahead as i64);
        let fraction = self.0 & 0xffff_ffff;
        let mut nanos = (fraction.wrapping_mul(NANOS_PER_SECOND).wrapping_add(1 << 31)) >> 32;
        if nanos >= NANOS_PER_SECOND {
            nanos = 0;
            seconds = seconds.wrapping_add(1);
        }
        #[expect(clippy::cast_possible_truncation, reason = "below 10^9 by the lines above")]
        let nanos = nanos as u32;
        UnixTime { seconds, nanos }
    }
}

impl Add<NtpDuration> for NtpTimestamp {
    type Output = Self;

    fn add(self, span: NtpDuration) -> Self {
        Self(self.0.wrapping_add(span.to_bits().cast_unsigned()))
    }
}

impl Sub<NtpDuration> for NtpTimestamp {
    type Output = Self;

    fn sub(self, span: NtpDuration) -> Self {
        Self(self.0.wrapping_sub(span.to_bits().cast_unsigned()))
    }
}

impl Sub for NtpTimestamp {
    type Output = NtpDuration;

    fn sub(self, earlier: Self) -> NtpDuration {
        self.since(earlier)
    }
}

/// A point on the Unix timescale, 64-bit seconds, so neither 2036 nor 2038 is special.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime {
    /// Seconds since 1970-01-01T00:00:00Z, leap seconds not counted.
    pub seconds: i64,
    /// Nanoseconds into that second, below 1 000 000 000.
    pub nanos: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_epoch_is_where_rfc_5905_figure_4_puts_it() {
        let epoch = NtpTimestamp::from_unix(UnixTime::default());
        assert_eq!(epoch.to_bits() >> 32, 2_208_988_800);
    }

    #[test]
    fn the_era_rolls_over_in_2036() {
        // 2036-02-07T06:28:16Z is second 0 of era 1.
        let rollover = UnixTime { seconds: 2_085_978_496, nanos: 0 };
        let before = UnixTime { seconds: rollover.seconds - 1, nanos: 500_000_000 };
        let (a, b) = (NtpTimestamp::from_unix(before), NtpTimestamp::from_unix(rollover));
        assert_eq!(b.to_bits() >> 32, 0);
        assert!((b - a).to_seconds().eq(&0.5));
        assert_eq!(b.to_unix(before), rollover);
        assert_eq!(a.to_unix(rollover), before);
    }

    #[test]
    fn nanoseconds_survive_the_round_trip() {
        for seconds in [-5, 0, 1_790_000_000, 2_085_978_495, 2_085_978_496, 4_102_444_800] {
            for nanos in [0, 1, 499_999_999, 500_000_000, 999_999_999] {
                let unix = UnixTime { seconds, nanos };
                assert_eq!(NtpTimestamp::from_unix(unix).to_unix(unix), unix);
            }
        }
    }
}
