//! How long a server keeps requests, learnt from replies of which it is known when they left.
//!
//! In interleaved mode the server tells with its next reply when the last one left (RFC 9769 section 2), which is a poll
//! interval later. Until then its usual time stands in for that.

use arrayvec::ArrayVec;

/// Replies that are remembered.
const MEMORY: usize = 8;
/// Replies that say how much the time varies.
const MIN_KNOWN: usize = 4;
/// A server is hardly faster than usual by more than this many times what its fastest reply was.
const MARGIN: f64 = 2.0;

/// The last times that one server took, in seconds, the oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Residence(ArrayVec<f64, MEMORY>);

/// What stands in for a time that is not known yet, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usual {
    pub(super) seconds: f64,
    /// By how much it may be too long. What it is too short by shows in the delay, half of which bounds the error as it
    /// does for all else that makes a round trip longer.
    pub(super) error: f64,
}

impl Residence {
    /// Takes a time that is known.
    pub(super) fn learn(&mut self, seconds: f64) {
        if self.0.is_full() {
            self.0.remove(0);
        }
        self.0.push(seconds.max(0.0));
    }

    /// The usual time, never more than `most`; `None` before any is known.
    pub(super) fn usual(&self, most: f64) -> Option<Usual> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let fastest = sorted.first()?;
        let median = sorted.get((sorted.len() - 1) / 2)?;
        // One slow reply must not spoil the next eight, so that only the faster half counts.
        let varies = if sorted.len() < MIN_KNOWN { f64::INFINITY } else { MARGIN * (median - fastest) };
        let seconds = median.min(most).max(0.0);
        // If it cannot be as much as usual it may as well be less still by as much.
        Some(Usual { seconds, error: varies.max(median - seconds).min(seconds) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(times: &[f64]) -> Residence {
        let mut residence = Residence::default();
        times.iter().for_each(|seconds| residence.learn(*seconds));
        residence
    }

    fn assert_usual(times: &[f64], most: f64, expected: (f64, f64)) {
        let usual = after(times).usual(most).unwrap();
        let (seconds, error) = expected;
        assert!((usual.seconds - seconds).abs() < 1e-12, "{times:?} {usual:?}");
        assert!((usual.error - error).abs() < 1e-12, "{times:?} {usual:?}");
    }

    #[test]
    fn the_middle_of_the_last_is_usual_and_the_faster_ones_say_how_sure_that_is() {
        assert_eq!(after(&[]).usual(1.0), None);
        // Too few to say how they vary: the next may take no time at all.
        assert_usual(&[50e-6], 1.0, (50e-6, 50e-6));
        assert_usual(&[50e-6, 52e-6, 50e-6], 1.0, (50e-6, 50e-6));
        assert_usual(&[50e-6, 49e-6, 51e-6, 52e-6], 1.0, (50e-6, 2e-6));
        assert_usual(&[50e-6, 10e-6, 90e-6, 60e-6], 1.0, (50e-6, 50e-6));
        assert_usual(&[0.0; 8], 1.0, (0.0, 0.0));
    }

    #[test]
    fn a_slow_reply_spoils_nothing_and_old_ones_are_forgotten() {
        assert_usual(&[50e-6, 50e-6, 3.0, 50e-6, 50e-6], 1.0, (50e-6, 0.0));
        let mut changed = vec![1e-3; 8];
        changed.extend([20e-6; 8]);
        assert_usual(&changed, 1.0, (20e-6, 0.0));
        // Half way the fast ones say that it may take no time.
        assert_usual(&changed[..12], 1.0, (20e-6, 0.0));
        assert_usual(&changed[..9], 1.0, (1e-3, 1e-3));
    }

    #[test]
    fn it_is_never_more_than_it_can_be() {
        assert_usual(&[50e-6, 49e-6, 50e-6, 50e-6], 45e-6, (45e-6, 5e-6));
        assert_usual(&[50e-6, 49e-6, 50e-6, 50e-6], 20e-6, (20e-6, 20e-6));
        assert_usual(&[50e-6, 30e-6, 50e-6, 50e-6], 45e-6, (45e-6, 40e-6));
        assert_usual(&[50e-6, 30e-6], 20e-6, (20e-6, 20e-6));
        assert_usual(&[50e-6; 8], -1.0, (0.0, 0.0));
        assert_usual(&[-1e-7; 8], 1.0, (0.0, 0.0));
    }
}
