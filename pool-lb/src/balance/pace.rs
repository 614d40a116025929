//! How long a member is waited for, and when it is not even tried.

use core::time::Duration;

use ntp_proto::time::Monotonic;

/// Answers that are remembered.
const REMEMBERED: usize = 32;

/// Answers before they say anything about the next.
const ENOUGH: usize = 4;

/// The wait as long as nothing is known, and its bounds.
const FIRST_WAIT: Duration = Duration::from_millis(1500);
const WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_millis(2500));

/// Bounds of the time after which a member that has not answered somebody gets nobody else for now.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(60), Duration::from_secs(1));

/// How long the last answers of a member took.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    last: [Duration; REMEMBERED],
    count: usize,
}

impl Timings {
    /// Takes the duration of one more.
    pub fn push(&mut self, took: Duration) {
        if let Some(slot) = self.last.get_mut(self.count % REMEMBERED) {
            *slot = took;
        }
        self.count = self.count.saturating_add(1);
    }

    /// The duration that 95 of 100 did not exceed.
    fn usual(&self) -> Option<Duration> {
        let known = self.count.min(REMEMBERED);
        let mut sorted: Vec<_> = self.last.iter().take(known).copied().collect();
        sorted.sort_unstable();
        (known >= ENOUGH).then(|| sorted.get((known * 95).div_ceil(100).saturating_sub(1)).copied())?
    }

    /// How long to wait for the next one.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.usual().map_or(FIRST_WAIT, |usual| usual.saturating_mul(4).clamp(WAITS.0, WAITS.1))
    }

    /// After which time without an answer others go elsewhere.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.usual().map_or(PATIENCE.1, |usual| usual.saturating_mul(2).clamp(PATIENCE.0, PATIENCE.1))
    }
}

/// Failures in a row that open a breaker.
const OPENS_AFTER: u32 = 3;

/// How long it stays open at first, and at most.
const OPEN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A circuit breaker: who fails again and again is left alone for a while, and then tried by one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breaker {
    failures: u32,
    /// Closed again at this time for one attempt.
    open_until: Option<Monotonic>,
}

impl Breaker {
    /// Whether an attempt may be made. Of an open breaker whose time is over one attempt is let through; the next after
    /// the same time, unless it succeeds.
    pub fn admits(&mut self, now: Monotonic) -> bool {
        match self.open_until {
            None => true,
            Some(until) if until <= now => {
                self.open_until = Some(now + self.pause());
                true
            }
            Some(_) => false,
        }
    }

    /// Whether it is closed.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.open_until.is_none()
    }

    /// Takes word of a success.
    pub const fn succeed(&mut self) {
        *self = Self { failures: 0, open_until: None };
    }

    /// Takes word of a failure.
    pub fn fail(&mut self, now: Monotonic) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= OPENS_AFTER {
            self.open_until = Some(now + self.pause());
        }
    }

    fn pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(OPENS_AFTER).min(8);
        OPEN.0.saturating_mul(1 << doublings).min(OPEN.1)
    }
}

/// Lets one through in a second: where everybody is left alone because of failures, somebody has to find out whether they
/// are back, whatever the breakers say.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastResort {
    next: Option<Monotonic>,
}

impl LastResort {
    /// Whether an attempt may be made, which is counted then.
    pub fn take(&mut self, now: Monotonic) -> bool {
        let due = self.next.is_none_or(|next| next <= now);
        if due {
            self.next = Some(now + OPEN.0);
        }
        due
    }
}

/// A bucket that lets so many through in a second, and as many at once.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    interval: Duration,
    burst: u32,
    free_at: Option<Monotonic>,
}

impl Capacity {
    /// `per_second` must be above 0.
    #[must_use]
    pub fn new(per_second: f64) -> Self {
        let interval = Duration::try_from_secs_f64(1.0 / per_second).unwrap_or(Duration::MAX);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded; saturates")]
        let burst = per_second.ceil().clamp(1.0, 1e9) as u32;
        Self { interval, burst, free_at: None }
    }

    /// Whether one more is let through, which is counted then.
    pub fn take(&mut self, now: Monotonic) -> bool {
        let free_at = self.free_at.map_or(now, |at| at.max(now));
        if free_at.since(now) > self.interval.saturating_mul(self.burst.saturating_sub(1)) {
            return false;
        }
        self.free_at = Some(free_at + self.interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_nanos(1_000_000 * (1_000_000 + millis))
    }

    #[test]
    fn waits_follow_the_slowest_usual_answer_within_bounds() {
        let mut timings = Timings::default();
        assert_eq!((timings.wait(), timings.patience()), (FIRST_WAIT, PATIENCE.1));
        for _ in 0..ENOUGH {
            timings.push(Duration::from_millis(1));
        }
        assert_eq!((timings.wait(), timings.patience()), (WAITS.0, PATIENCE.0));
        for _ in 0..4 * REMEMBERED {
            timings.push(Duration::from_millis(200));
        }
        assert_eq!((timings.wait(), timings.patience()), (Duration::from_millis(800), Duration::from_millis(400)));
        timings.push(Duration::from_secs(9));
        assert_eq!(timings.wait(), Duration::from_millis(800), "one slow answer of many says little");
        for _ in 0..REMEMBERED {
            timings.push(Duration::from_secs(9));
        }
        assert_eq!((timings.wait(), timings.patience()), (WAITS.1, PATIENCE.1));
    }

    #[test]
    fn a_breaker_opens_after_three_failures_and_lets_one_try() {
        let mut breaker = Breaker::default();
        for _ in 0..2 {
            breaker.fail(at(0));
            assert!(breaker.admits(at(0)));
        }
        breaker.fail(at(0));
        assert!(!breaker.admits(at(999)) && !breaker.is_closed());
        assert!(breaker.admits(at(1000)));
        assert!(!breaker.admits(at(1000)), "one at a time");
        breaker.fail(at(1100));
        assert!(!breaker.admits(at(3099)) && breaker.admits(at(3100)));
        for _ in 0..100 {
            breaker.fail(at(4000));
        }
        assert!(!breaker.admits(at(33_999)) && breaker.admits(at(34_000)));
        breaker.succeed();
        assert!(breaker.is_closed() && breaker.admits(at(34_000)) && breaker.admits(at(34_000)));
    }

    #[test]
    fn the_last_resort_is_one_attempt_in_a_second_however_long_breakers_stay_open() {
        let mut resort = LastResort::default();
        let let_through: Vec<_> = (0..4000).step_by(10).filter(|millis| resort.take(at(*millis))).collect();
        assert_eq!(let_through, [0, 1000, 2000, 3000]);
    }

    #[test]
    fn capacity_is_kept_in_the_long_run() {
        let mut capacity = Capacity::new(10.0);
        let passed = (0..10_000).filter(|millis| capacity.take(at(*millis))).count();
        assert!((100..=110).contains(&passed), "{passed}");
        let mut slow = Capacity::new(0.5);
        assert!(slow.take(at(0)) && !slow.take(at(1999)) && slow.take(at(2000)));
    }
}
