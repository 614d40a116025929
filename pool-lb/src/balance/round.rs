//! How all members are probed within an interval, and what that says of the age of samples.

use core::time::Duration;

/// How long a probe takes at most, on both ways. Events in which all fail are told by that: all take so long then.
pub(super) const PROBE: Duration = Duration::from_secs(15);

/// Probes under way at a time, at least and at most.
const PARALLEL: (usize, usize) = (16, 256);

/// Seconds within which failures of many members count as one event, at least.
const EVENT: u64 = 60;

/// Seconds after which a sample says nothing any more, at least.
const FRESH: u64 = 600;

/// One probe of each member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Probes under way at a time.
    pub parallel: usize,
    /// How long it takes if every probe takes as long as it may; zero if nobody is probed.
    pub length: Duration,
}

impl Round {
    /// Plans to probe each of `members` once in `interval`, which may be too short for that.
    #[must_use]
    pub fn plan(interval: Duration, members: usize) -> Self {
        if interval.is_zero() {
            return Self { parallel: PARALLEL.0, length: interval };
        }
        let work = PROBE.saturating_mul(u32::try_from(members).unwrap_or(u32::MAX));
        let wanted = work.as_nanos().div_ceil(interval.as_nanos());
        let parallel = usize::try_from(wanted).unwrap_or(PARALLEL.1).clamp(PARALLEL.0, PARALLEL.1);
        let least = work / u32::try_from(parallel).unwrap_or(1);
        Self { parallel, length: interval.max(least) }
    }

    /// What the judge is to know of it.
    #[must_use]
    pub fn horizon(&self) -> Horizon {
        let length = self.length.as_secs_f64().ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of seconds; saturates")]
        let times = |factor: f64| (length * factor).ceil() as u64;
        Horizon { event: EVENT.max(times(1.5)), fresh: FRESH.max(times(3.0)) }
    }
}

/// How far back samples count, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// Within this time, failures of many members are one event: a fault of ours shows with each member once in a round.
    pub event: u64,
    /// After this time a sample says nothing any more; two of a member's probes lie within it.
    pub fresh: u64,
}

impl Default for Horizon {
    /// Where nobody is probed.
    fn default() -> Self {
        Self { event: EVENT, fresh: FRESH }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_probed_at_a_time_as_the_interval_asks_for_within_bounds() {
        for (interval, members, parallel, length) in [
            (60, 8, 16, 60),
            (60, 64, 16, 60),
            (60, 300, 75, 60),
            (60, 1_024, 256, 60),
            (60, 5_000, 256, 292),
            (60, 20_000, 256, 1_171),
            (1, 8, 120, 1),
            (86_400, 20_000, 16, 86_400),
            (0, 20_000, 16, 0),
        ] {
            let round = Round::plan(Duration::from_secs(interval), members);
            assert_eq!((round.parallel, round.length.as_secs()), (parallel, length), "{interval} {members}");
        }
    }

    #[test]
    fn samples_count_for_longer_if_they_come_seldom() {
        for (interval, event, fresh) in
            [(0, 60, 600), (60, 90, 600), (300, 450, 900), (600, 900, 1800), (86_400, 129_600, 259_200)]
        {
            let horizon = Round::plan(Duration::from_secs(interval), 8).horizon();
            assert_eq!(horizon, Horizon { event, fresh }, "{interval}");
        }
    }
}
