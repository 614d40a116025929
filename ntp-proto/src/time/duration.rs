//! Spans of time.

use core::{
    iter::Sum,
    ops::{Add, Neg, Sub},
};

/// 2^32: fractions in a second.
const PER_SECOND: f64 = 4_294_967_296.0;

/// A signed span of time in units of 2^-32 s, up to 68 years either way; sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NtpDuration(i64);

impl NtpDuration {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The longest span.
    pub const MAX: Self = Self(i64::MAX);

    /// Takes a count of 2^-32 s.
    #[must_use]
    pub const fn from_bits(bits: i64) -> Self {
        Self(bits)
    }

    /// The count of 2^-32 s.
    #[must_use]
    pub const fn to_bits(self) -> i64 {
        self.0
    }

    /// Converts from seconds; saturates at the ends, and NaN becomes zero.
    #[must_use]
    pub const fn from_seconds(seconds: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
        Self((seconds * PER_SECOND) as i64)
    }

    /// Converts from whole nanoseconds, rounding towards zero.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a 64-bit count of nanoseconds is 292 years; beyond 68 it saturates below"
        )]
        let wide = {
            let bits = ((nanos as i128) << 32) / 1_000_000_000;
            if bits > i64::MAX as i128 {
                i64::MAX
            } else if bits < i64::MIN as i128 {
                i64::MIN
            } else {
                bits as i64
            }
        };
        Self(wide)
    }

    /// Seconds, to the 53 bits of a double.
    #[must_use]
    pub const fn to_seconds(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a span of 2^21 s still resolves 2^-32 s")]
        let bits = self.0 as f64;
        bits / PER_SECOND
    }

    /// Whole nanoseconds, rounded to the nearest.
    #[must_use]
    pub const fn to_nanos(self) -> i64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::arithmetic_side_effects,
            reason = "2^63 / 2^32 * 10^9 fits 63 bits"
        )]
        let nanos = ((self.0 as i128 * 1_000_000_000 + (1 << 31)) >> 32) as i64;
        nanos
    }

    /// Size without sign; the most negative span becomes the longest.
    #[must_use]
    pub const fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }
}

impl Add for NtpDuration {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for NtpDuration {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for NtpDuration {
    type Output = Self;

    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl Sum for NtpDuration {
    fn sum<I: Iterator<Item = Self>>(spans: I) -> Self {
        spans.fold(Self::ZERO, Add::add)
    }
}

/// The NTP short format of RFC 5905 section 6: unsigned, 16 bits of seconds and 16 of fraction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NtpShort(u32);

impl NtpShort {
    /// Takes the 32 bits as they stand on the wire.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The 32 bits as they stand on the wire.
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// Rounds `span` up, so that a bound stays a bound; negative spans become zero, long ones the largest value.
    #[must_use]
    pub const fn at_least(span: NtpDuration) -> Self {
        let bits = span.to_bits();
        if bits <= 0 {
            return Self(0);
        }
        let rounded = bits.cast_unsigned().saturating_add(0xffff) >> 16;
        if rounded > u32::MAX as u64 {
            Self(u32::MAX)
        } else {
            #[expect(clippy::cast_possible_truncation, reason = "compared on the line above")]
            Self(rounded as u32)
        }
    }

    /// The same span in the longer format.
    #[must_use]
    pub const fn to_duration(self) -> NtpDuration {
        NtpDuration::from_bits((self.0 as i64) << 16)
    }

    /// Seconds, exactly.
    #[must_use]
    pub const fn to_seconds(self) -> f64 {
        self.0 as f64 / 65_536.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_saturate_instead_of_wrapping() {
        assert_eq!(NtpDuration::MAX + NtpDuration::from_bits(1), NtpDuration::MAX);
        assert_eq!(NtpDuration::from_seconds(1e300), NtpDuration::MAX);
        assert_eq!(NtpDuration::from_seconds(f64::NAN), NtpDuration::ZERO);
        assert_eq!(NtpDuration::from_nanos(i64::MAX), NtpDuration::MAX);
    }

    #[test]
    fn the_short_format_never_understates() {
        assert_eq!(NtpShort::at_least(NtpDuration::from_bits(1)).to_bits(), 1);
        assert_eq!(NtpShort::at_least(NtpDuration::from_bits(-1)).to_bits(), 0);
        assert_eq!(NtpShort::at_least(NtpDuration::MAX).to_bits(), u32::MAX);
        assert!(NtpShort::from_bits(0x0001_8000).to_seconds().eq(&1.5));
    }

    #[test]
    fn nanoseconds_round_trip() {
        for nanos in [0, 1, -1, 999_999_999, -1_500_000_000, 86_400_000_000_000] {
            assert_eq!(NtpDuration::from_nanos(nanos).to_nanos(), nanos);
        }
    }
}
