//! Conversions between two clocks.

use super::{NtpDuration, NtpTimestamp, Rate};

/// The straight line from one clock's readings to another's:
/// `y(x) = x + offset + rate * (x - since)`.
///
/// It is `Copy` and has no interior, so that a server thread can take it whole and use it without a lock.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClockMap {
    /// Reading of the first clock at which `offset` holds.
    pub since: NtpTimestamp,
    /// How far the second clock is ahead at `since`.
    pub offset: NtpDuration,
    /// How much faster the second clock runs.
    pub rate: Rate,
}

impl ClockMap {
    /// The map of a clock to itself.
    pub const IDENTITY: Self = Self { since: NtpTimestamp::ZERO, offset: NtpDuration::ZERO, rate: Rate::ZERO };

    /// How far the second clock is ahead when the first reads `at`.
    #[must_use]
    pub fn ahead(&self, at: NtpTimestamp) -> NtpDuration {
        if self.rate == Rate::ZERO {
            return self.offset;
        }
        self.offset + NtpDuration::from_seconds(at.since(self.since).to_seconds() * self.rate.get())
    }

    /// The second clock's reading when the first reads `at`.
    #[must_use]
    pub fn apply(&self, at: NtpTimestamp) -> NtpTimestamp {
        at + self.ahead(at)
    }

    /// First this map, then `next`, as one line.
    #[must_use]
    pub fn then(&self, next: &Self) -> Self {
        let middle = self.apply(self.since);
        Self {
            since: self.since,
            offset: self.offset + next.ahead(middle),
            rate: Rate::new(self.rate.get() + next.rate.get() + self.rate.get() * next.rate.get()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_maps_is_one_map() {
        let at = |seconds: u64| NtpTimestamp::from_bits(seconds << 32);
        let first = ClockMap { since: at(1_000), offset: NtpDuration::from_seconds(2.5), rate: Rate::from_ppm(40.0) };
        let second =
            ClockMap { since: at(900), offset: NtpDuration::from_seconds(-0.125), rate: Rate::from_ppm(-15.0) };
        let both = first.then(&second);
        for seconds in [500, 1_000, 5_000, 90_000] {
            let apart = both.apply(at(seconds)) - second.apply(first.apply(at(seconds)));
            assert!(apart.to_seconds().abs() < 2e-9, "{apart:?} at {seconds}");
        }
    }
}
