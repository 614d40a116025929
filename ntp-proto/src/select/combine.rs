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
    /// The same if the sources that are used are of those that are wrong, in s/s.
    pub doubted_skew: f64,
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

    /// Widens the bound to where true time may be if the sources that are used are of those that are wrong, in `offsets`, and how fast it
    /// may run then, in `frequencies`, as far as there are such.
    pub(super) fn at_least(self, offsets: Option<Interval>, frequencies: Option<Interval>) -> Self {
        let farthest = offsets.map_or(0.0, |offsets| offsets.farthest(self.offset));
        let fastest = frequencies.map_or(0.0, |frequencies| frequencies.farthest(self.frequency));
        Self {
            root_dispersion: self.root_dispersion.max(farthest - 0.5 * self.root_delay),
            doubted_skew: self.skew.max(fastest),
            ..self
        }
    }
}

/// Weighs `best` and `others` together: offsets by the inverse of their variance, to which the variance of their ways is
/// added, and less the farther they lie from what all say; frequencies by the inverse of the squared skew, and less where the offset
/// is far. The error bound is that of the best source, and what lies between its offset and that of all.
pub(super) fn combine(best: &Candidate, others: &[&Candidate]) -> Combined {
    let all: Vec<&Estimate> = core::iter::once(best).chain(others.iter().copied()).map(|c| &c.estimate).collect();
    let mut offset = median(all.iter().map(|estimate| estimate.offset).collect());
    let (mut belongs, mut variances, mut weight) = (vec![1.0; all.len()], vec![0.0; all.len()], 0.0);
    for _ in 0..ROUNDS {
        let between = between(&all, offset);
        for ((estimate, variance), belongs) in all.iter().zip(&mut variances).zip(&mut belongs) {
            *variance = estimate.offset_deviation.powi(2) + between;
            *belongs = FREEDOM / (FREEDOM + (estimate.offset - offset).powi(2) / *variance);
        }
        let weights = || belongs.iter().zip(&variances).map(|(belongs, variance)| belongs / variance);
        weight = weights().sum();
        offset = mean(all.iter().map(|estimate| estimate.offset), weights());
    }
    let skews =
        belongs.iter().zip(&all).map(|(belongs, estimate)| belongs * estimate.skew.max(f64::MIN_POSITIVE).powi(-2));
    let frequency = mean(all.iter().map(|estimate| estimate.frequency), skews);
    // However many there are, each of them is seen by the same clock, whose wander they share.
    let skew = all.iter().map(|estimate| estimate.skew).fold(f64::INFINITY, f64::min);
    Combined {
        offset,
        offset_deviation: weight.sqrt().recip(),
        frequency,
        skew,
        doubted_skew: skew,
        root_delay: best.estimate.root_delay,
        root_dispersion: best.estimate.root_dispersion + (offset - best.estimate.offset).abs(),
    }
}

/// The mean of values by their weights.
fn mean(values: impl Iterator<Item = f64>, weights: impl Iterator<Item = f64>) -> f64 {
    let (sum, weight) =
        values.zip(weights).fold((0.0, 0.0), |(sum, total), (value, weight)| (sum + weight * value, total + weight));
    sum / weight
}

/// Degrees of freedom of Student's distribution, by which the offsets of sources are taken to differ: one that contradicts the
/// others counts little. Lange, Little, Taylor, "Robust Statistical Modeling Using the t Distribution", JASA 84, 1989.
const FREEDOM: f64 = 4.0;
/// Rounds in which the weights settle.
const ROUNDS: usize = 5;
/// Variance between the sources, in s²: by how much more most of them lie from `offset` than each by itself is uncertain, since
/// no way is exactly as long there as back. With it those that seem surest do not decide alone where all contradict each
/// other.
fn between(all: &[&Estimate], offset: f64) -> f64 {
    let excess = |estimate: &&Estimate| (estimate.offset - offset).powi(2) - estimate.offset_deviation.powi(2);
    median(all.iter().map(excess).collect()).max(0.0)
}

/// The middle of some values; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    match (values.get(low), values.get(high)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{SourceId, Trust},
        select::SelectOptions,
        time::NtpTimestamp,
    };

    fn candidate(offset: f64, deviation: f64) -> Candidate {
        let estimate = Estimate {
            at: NtpTimestamp::ZERO,
            offset,
            offset_deviation: deviation,
            frequency: 0.0,
            skew: 1e-6,
            jitter: deviation,
            peer_distance: 0.05,
            root_distance: 0.0,
            root_delay: 0.1,
            root_dispersion: 0.0,
            stratum: 2,
            samples: 8,
            runs: 4,
            span: 100.0,
            age: 1.0,
        };
        Candidate { id: SourceId(1), estimate, trust: Trust::None, options: SelectOptions::default() }
    }

    fn offset_of(sources: &[(f64, f64)]) -> f64 {
        let all: Vec<Candidate> = sources.iter().map(|&(offset, deviation)| candidate(offset, deviation)).collect();
        let (best, others) = all.split_first().unwrap();
        combine(best, &others.iter().collect::<Vec<_>>()).offset
    }

    #[test]
    fn who_is_surer_counts_more_where_all_agree() {
        let offset = offset_of(&[(0.0, 2e-5), (3e-4, 3e-4), (-4e-4, 3e-4), (2e-4, 3e-4)]);
        assert!(offset.abs() < 2e-5, "{offset}");
    }

    #[test]
    fn a_way_that_is_crooked_does_not_count_against_those_that_agree() {
        for crooked in [-4e-3, 4e-3, 0.04] {
            let offset = offset_of(&[(crooked, 5e-5), (3e-5, 6e-5), (-4e-5, 5e-5), (1e-5, 7e-5)]);
            assert!(offset.abs() < 1e-4, "{crooked}: {offset}");
        }
    }

    #[test]
    fn where_all_contradict_each_other_nobody_decides_alone() {
        // One of them happens to be very sure.
        for sure in 0..4 {
            let deviation = |index| if index == sure { 1e-5 } else { 2e-4 };
            let ways = [3e-3, -2e-3, 1e-3, -4e-3];
            let sources: Vec<_> = ways.iter().enumerate().map(|(index, &way)| (way, deviation(index))).collect();
            let offset = offset_of(&sources);
            assert!((offset + 5e-4).abs() < 1e-3, "{sure}: {offset}");
        }
    }

    #[test]
    fn one_alone_is_taken_at_its_word_and_two_meet_in_the_middle() {
        assert!((offset_of(&[(0.25, 1e-3)]) - 0.25).abs() < 1e-12);
        assert!(offset_of(&[(1e-3, 1e-5), (-1e-3, 1e-5)]).abs() < 1e-9);
    }
}
