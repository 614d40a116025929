//! A clock whose sources are lost.

use super::{Engine, Now};
use crate::{discipline::Discipline, sample::FREQUENCY_TOLERANCE, time::Rate};

/// A frequency with a larger error bound is not known well enough to be remembered, s/s.
const UNKNOWN: f64 = 0.1 * FREQUENCY_TOLERANCE;
/// Less than this is no change of a frequency, s/s.
const NEGLIGIBLE_CHANGE: f64 = 1e-11;

impl Engine {
    /// Remembers at which frequency the clock was seen to run.
    pub(super) fn remember_frequency(&mut self, now: Now) {
        if self.discipline.skew() < UNKNOWN {
            self.frequencies.note(now.monotonic, self.timeline.natural());
        }
    }

    /// While no source that is used answers: gives the timeline the frequency that is to be expected by now. A clock that is
    /// held is left alone.
    pub(super) fn coast(&mut self, now: Now) {
        let Some(lost) = self.history.last.map(|last| now.monotonic.since(last)) else { return };
        if self.held || self.is_any_heard() {
            return;
        }
        let Some(expected) = self.frequencies.expect(lost) else { return };
        let change = (1.0 + expected.get()) / (1.0 + self.timeline.natural().get()) - 1.0;
        if change.abs() < NEGLIGIBLE_CHANGE {
            return;
        }
        let shift = self.timeline.correct(now.clock, 0.0, change);
        self.sources.values_mut().for_each(|source| source.handle_shift(&shift));
        self.discipline.handle_guess(shift.rate);
        // What was claimed is of a frequency that stays as it was.
        self.status.dispersion_rate = Rate::new(self.status.dispersion_rate.get() + shift.rate.abs());
        self.slew(now);
    }

    /// Whether a source that is used answers, and with something of use.
    fn is_any_heard(&self) -> bool {
        self.sources
            .values()
            .any(|source| self.is_used(source.id()) && source.is_answering() && !source.is_unsynchronized())
    }
}
