//! Poll intervals.

use core::time::Duration;

/// A poll interval as a power of two in seconds (RFC 5905 section 7.3), from 1/16 s to 36 h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PollInterval(i8);

impl PollInterval {
    /// 1/16 s, the shortest.
    pub const MIN: Self = Self(-4);
    /// 2^17 s, the longest (MAXPOLL of RFC 5905).
    pub const MAX: Self = Self(17);

    /// Takes a power of two; `None` outside [`Self::MIN`]..=[`Self::MAX`].
    #[must_use]
    pub const fn new(log2_seconds: i8) -> Option<Self> {
        if log2_seconds < Self::MIN.0 || log2_seconds > Self::MAX.0 { None } else { Some(Self(log2_seconds)) }
    }

    /// The power of two.
    #[must_use]
    pub const fn log2_seconds(self) -> i8 {
        self.0
    }

    /// The interval itself.
    #[must_use]
    pub const fn to_duration(self) -> Duration {
        if self.0 >= 0 {
            Duration::from_secs(1 << self.0.cast_unsigned())
        } else {
            Duration::from_nanos(1_000_000_000 >> self.0.unsigned_abs())
        }
    }

    /// The interval in seconds.
    #[must_use]
    pub const fn to_seconds(self) -> f64 {
        self.to_duration().as_secs_f64()
    }

    /// Moved by `steps` powers of two and kept within `min..=max`.
    #[must_use]
    pub fn step(self, steps: i8, min: Self, max: Self) -> Self {
        Self(self.0.saturating_add(steps)).max(min).min(max)
    }
}
