//! When the clock may jump.

/// How many updates of the clock may step it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepLimit {
    /// The first few after start.
    Updates(u32),
    /// All of them.
    Always,
}

/// The rule for steps: only offsets above a threshold, and only in the first updates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepPolicy {
    threshold: f64,
    left: StepLimit,
    forced: bool,
}

impl StepPolicy {
    /// Steps offsets of at least `threshold` seconds during the updates that `limit` allows.
    #[must_use]
    pub const fn new(threshold: f64, limit: StepLimit) -> Self {
        Self { threshold, left: limit, forced: false }
    }

    /// Offsets of at least so many seconds may be stepped.
    #[must_use]
    pub const fn threshold(&self) -> f64 {
        self.threshold
    }

    /// Steps at the next occasion, whatever the offset: an administrator said so.
    pub const fn force(&mut self) {
        self.forced = true;
    }

    /// Whether an offset of `pending` seconds is to be stepped; counts one update.
    pub fn decide(&mut self, pending: f64) -> bool {
        let allowed = match &mut self.left {
            StepLimit::Always => true,
            StepLimit::Updates(0) => false,
            StepLimit::Updates(left) => {
                *left -= 1;
                true
            }
        };
        core::mem::take(&mut self.forced) || (allowed && pending.abs() >= self.threshold)
    }
}

/// The rule for offsets that are too large to be true: after the first updates they are ignored, and in the end given up on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChangeLimit {
    /// Largest offset, in seconds.
    pub offset: f64,
    /// Updates that may be larger.
    pub start: u64,
    /// How many are ignored before it is given up; `None` ignores all.
    pub ignore: Option<u32>,
}

/// What becomes of an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is corrected.
    Correct,
    /// It is ignored.
    Ignore,
    /// There were too many of these.
    GiveUp,
}

impl ChangeLimit {
    /// Judges an offset, in seconds, after so many updates; counts those that are ignored.
    pub fn judge(&mut self, offset: f64, updates: u64) -> Change {
        if updates < self.start || offset.abs() <= self.offset {
            return Change::Correct;
        }
        match &mut self.ignore {
            None => Change::Ignore,
            Some(0) => Change::GiveUp,
            Some(left) => {
                *left -= 1;
                Change::Ignore
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_offsets_are_ignored_and_then_given_up_on() {
        let mut limit = ChangeLimit { offset: 1000.0, start: 1, ignore: Some(2) };
        assert_eq!(limit.judge(1e6, 0), Change::Correct, "the first may be");
        assert_eq!(limit.judge(-1000.0, 1), Change::Correct);
        assert_eq!(limit.judge(-1000.1, 1), Change::Ignore);
        assert_eq!(limit.judge(0.1, 1), Change::Correct);
        assert_eq!(limit.judge(1e6, 2), Change::Ignore);
        assert_eq!((limit.judge(1e6, 2), limit.judge(1e6, 2)), (Change::GiveUp, Change::GiveUp));
        let mut limit = ChangeLimit { ignore: None, ..limit };
        assert!((0..100).all(|updates| limit.judge(1e6, 1 + updates) == Change::Ignore));
    }

    #[test]
    fn only_the_first_updates_step() {
        let mut policy = StepPolicy::new(1.0, StepLimit::Updates(2));
        assert!(!policy.decide(0.5));
        assert!(policy.decide(-1.5));
        assert!(!policy.decide(100.0));
        policy.force();
        assert!(policy.decide(1e-3));
        assert!(!policy.decide(100.0));
    }
}
