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

#[cfg(test)]
mod tests {
    use super::*;

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
