//! Packets that arrived before we stepped the machine's clock, and are looked at after.

use std::{collections::VecDeque, time::Duration};

use ntp_proto::time::{Monotonic, NtpDuration, NtpTimestamp};

/// Most steps that are remembered.
const MAX_STEPS: usize = 8;
/// How long: no reply is waited for as long as that.
const MEMORY: Duration = Duration::from_secs(16);
/// Twice the resolution of a time that an old kernel tells.
const RESOLUTION: NtpDuration = NtpDuration::from_nanos(2_000);

/// Our own recent steps of the clock in which packets are stamped.
///
/// The kernel stamps a packet when it arrives; after a step that stamp is a reading of a clock that is no more. A step
/// ahead leaves a gap in the readings, so that stamps from before are told with certainty. After a step back they lie in
/// the future, unless they waited for longer than the step is wide; then the round trip is longer by as much, and so is
/// the error bound of its sample.
#[derive(Debug, Default)]
pub(super) struct OwnSteps {
    /// Oldest first.
    steps: VecDeque<Step>,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    done: Monotonic,
    /// What the clock read just before.
    at: NtpTimestamp,
    by: NtpDuration,
}

impl OwnSteps {
    /// The clock was stepped by `by` when it read `at`.
    pub(super) fn add(&mut self, now: Monotonic, at: NtpTimestamp, by: NtpDuration) {
        self.forget(now);
        if self.steps.len() >= MAX_STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back(Step { done: now, at, by });
    }

    fn forget(&mut self, now: Monotonic) {
        self.steps.retain(|step| now.since(step.done) < MEMORY);
    }

    /// What the clock would have read at `stamp` with all steps made; it reads `present` now.
    pub(super) fn correct(&mut self, now: Monotonic, stamp: NtpTimestamp, present: NtpTimestamp) -> NtpTimestamp {
        self.forget(now);
        let (mut corrected, mut last) = (stamp, present);
        for step in self.steps.iter().rev() {
            // The kernel tells what it read a moment after the step itself, in microseconds perhaps: half of a gap is room
            // enough.
            let gap = NtpDuration::from_bits(step.by.to_bits().max(RESOLUTION.to_bits()) / 2);
            let first = step.at + step.by - gap;
            if (stamp - first).to_bits() >= 0 && (last - stamp).to_bits() >= 0 {
                break;
            }
            corrected = corrected + step.by;
            last = step.at;
        }
        corrected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(seconds: f64) -> NtpTimestamp {
        NtpTimestamp::from_bits(4_000_000_000 << 32) + NtpDuration::from_seconds(seconds)
    }

    fn after(seconds: u64) -> Monotonic {
        Monotonic::from_nanos(0) + Duration::from_secs(seconds)
    }

    fn check(steps: &mut OwnSteps, stamp: f64, present: f64, expected: f64) {
        let corrected = steps.correct(after(2), clock(stamp), clock(present));
        assert!((corrected - clock(expected)).to_seconds().abs() < 1e-6, "{stamp} at {present}");
    }

    #[test]
    fn stamps_from_before_a_step_move_with_it_and_others_stay() {
        for by in [2.5, 0.01, -0.01, -2.5, 1e6, -1e6] {
            let mut steps = OwnSteps::default();
            check(&mut steps, 99.9, 100.0, 99.9);
            steps.add(after(1), clock(100.0), NtpDuration::from_seconds(by));
            let present = 100.0 + by + 0.004;
            check(&mut steps, 99.999, present, 99.999 + by);
            check(&mut steps, 100.0, present, 100.0 + by);
            check(&mut steps, 100.0 + by, present, 100.0 + by);
            check(&mut steps, present, present, present);
        }
    }

    #[test]
    fn several_steps_add_up() {
        let mut steps = OwnSteps::default();
        steps.add(after(1), clock(100.0), NtpDuration::from_seconds(50.0));
        steps.add(after(2), clock(150.5), NtpDuration::from_seconds(-3.0));
        check(&mut steps, 99.9, 147.6, 146.9);
        check(&mut steps, 150.4, 147.6, 147.4);
        check(&mut steps, 147.55, 147.6, 147.55);
    }

    #[test]
    fn steps_are_forgotten_and_bounded() {
        let mut steps = OwnSteps::default();
        for _ in 0..20 {
            steps.add(after(1), clock(100.0), NtpDuration::from_seconds(1.0));
        }
        assert_eq!(steps.steps.len(), MAX_STEPS);
        let late = steps.correct(after(17), clock(99.0), clock(120.0));
        assert_eq!(late, clock(99.0));
    }
}
