//! One time from several sources that agree.

use super::{Candidate, Interval};

/// What the sources that are used say together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Combined {
    /// How far true time is ahead of the engine's timescale, in seconds.
    pub offset: f64,
    /// Standard deviation of that, in seconds.
    pub offset_deviation: f64,
    /// How much faster true time runs, in s/s.
    pub frequency: f64,
    /// Bound on the error of that, in s/s.
    pub skew: f64,
    /// Root delay through the best source, in seconds.
    pub root_delay: f64,
    /// Root dispersion through the best source, in seconds.
    pub root_dispersion: f64,
}

impl Combined {
    /// Largest error of `offset`, in seconds.
    #[must_use]
    pub fn bound(&self) -> f64 {
        0.5 * self.root_delay + self.root_dispersion
    }

    /// Widens the bound if the best source, of interval `best`, claims to know better than the majority that confirmed it.
    pub(super) fn at_least(self, majority: Interval, best: Interval) -> Self {
        if !best.is_inside(&majority) {
            return self;
        }
        let farthest = (majority.high - self.offset).max(self.offset - majority.low).max(majority.half_width());
        Self { root_dispersion: self.root_dispersion.max(farthest - 0.5 * self.root_delay), ..self }
    }
}

/// Weighs `best` and `others` together: offsets by the inverse of the error bound, frequencies by the inverse of the
/// squared skew. The error bound is that of the best source, and what lies between its offset and that of all.
pub(super) fn combine(best: &Candidate, others: &[&Candidate]) -> Combined {
    let all = || core::iter::once(best).chain(others.iter().copied());
    let (mut weight, mut offset, mut variance) = (0.0, 0.0, 0.0);
    let (mut frequency_weight, mut frequency) = (0.0, 0.0);
    for candidate in all() {
        let estimate = &candidate.estimate;
        let w = 1.0 / estimate.distance().max(f64::MIN_POSITIVE);
        weight += w;
        offset += w * estimate.offset;
        variance += (w * estimate.offset_deviation).powi(2);
        let w = estimate.skew.max(f64::MIN_POSITIVE).powi(-2);
        frequency_weight += w;
        frequency += w * estimate.frequency;
    }
    Combined {
        offset: offset / weight,
        offset_deviation: variance.sqrt() / weight,
        frequency: frequency / frequency_weight,
        skew: frequency_weight.sqrt().recip(),
        root_delay: best.estimate.root_delay,
        root_dispersion: best.estimate.root_dispersion + (offset / weight - best.estimate.offset).abs(),
    }
}
