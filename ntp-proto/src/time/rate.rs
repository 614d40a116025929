//! Rates of clocks.

use core::ops::{Add, Neg, Sub};

/// How much faster one clock runs than another, in seconds per second: `1e-6` gains a microsecond a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Rate(f64);

impl Rate {
    /// Neither fast nor slow.
    pub const ZERO: Self = Self(0.0);

    /// Takes seconds per second.
    #[must_use]
    pub const fn new(seconds_per_second: f64) -> Self {
        Self(seconds_per_second)
    }

    /// Takes parts per million.
    #[must_use]
    pub const fn from_ppm(ppm: f64) -> Self {
        Self(ppm * 1e-6)
    }

    /// Seconds per second.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }

    /// Parts per million.
    #[must_use]
    pub const fn to_ppm(self) -> f64 {
        self.0 * 1e6
    }

    /// Limited to `±limit`.
    #[must_use]
    pub const fn clamp(self, limit: Self) -> Self {
        Self(self.0.clamp(-limit.0.abs(), limit.0.abs()))
    }
}

impl Add for Rate {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Rate {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Neg for Rate {
    type Output = Self;

    fn neg(self) -> Self {
        Self(-self.0)
    }
}
