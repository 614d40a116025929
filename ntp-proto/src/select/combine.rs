//! One time from several sources that agree.

use super::{Candidate, Interval};
use crate::filter::Estimate;

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

/// Weighs `best` and `others` together: offsets by the inverse of their variance, to which the variance of their ways is
/// added, frequencies by the inverse of the squared skew. The error bound is that of the best source, and what lies
/// between its offset and that of all.
pub(super) fn combine(best: &Candidate, others: &[&Candidate]) -> Combined {
    let all = || core::iter::once(best).chain(others.iter().copied()).map(|candidate| &candidate.estimate);
    let between = between(all());
    let (mut weight, mut offset) = (0.0, 0.0);
    let (mut frequency_weight, mut frequency) = (0.0, 0.0);
    for estimate in all() {
        let w = 1.0 / (estimate.offset_deviation.powi(2) + between);
        weight += w;
        offset += w * estimate.offset;
        let w = estimate.skew.max(f64::MIN_POSITIVE).powi(-2);
        frequency_weight += w;
        frequency += w * estimate.frequency;
    }
    Combined {
        offset: offset / weight,
        offset_deviation: weight.sqrt().recip(),
        frequency: frequency / frequency_weight,
        skew: frequency_weight.sqrt().recip(),
        root_delay: best.estimate.root_delay,
        root_dispersion: best.estimate.root_dispersion + (offset / weight - best.estimate.offset).abs(),
    }
}

/// Variance between the sources, in s²: by how much more they differ than each by itself is uncertain, since no way is
/// exactly as long there as back. With it those that seem surest do not decide alone where they contradict each other.
///
/// DerSimonian and Laird, "Meta-analysis in clinical trials", Controlled Clinical Trials 7, 1986.
fn between<'a>(all: impl Iterator<Item = &'a Estimate> + Clone) -> f64 {
    let weight = |estimate: &Estimate| estimate.offset_deviation.powi(-2);
    let total: f64 = all.clone().map(weight).sum();
    let mean = all.clone().map(|e| weight(e) * e.offset).sum::<f64>() / total;
    let squares: f64 = all.clone().map(|e| weight(e) * (e.offset - mean).powi(2)).sum();
    let (mut count, mut second) = (0.0, 0.0);
    for estimate in all {
        count += 1.0;
        second += weight(estimate).powi(2);
    }
    let left = total - second / total;
    if left > 0.0 { ((squares - (count - 1.0)) / left).max(0.0) } else { 0.0 }
}
