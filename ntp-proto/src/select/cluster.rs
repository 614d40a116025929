//! The best of the sources that agree, and those near enough to help it.

use super::{Candidate, Interval, covered};
use crate::{ids::SourceId, sample::MAX_CLOCK_ERROR};

/// Error bound that one step of stratum is worth, in seconds.
const STRATUM_WEIGHT: f64 = 1e-3;
/// A new best source of the same trust must beat the old one by this factor ...
const RESELECT_RATIO: f64 = 2.0;
/// ... and by this much, in seconds, so that equals do not take turns.
const RESELECT_DISTANCE: f64 = 1e-4;
/// Sources within this factor of the best one are as good: then what vouches for them decides. Less than
/// [`RESELECT_RATIO`], or one at the edge would come and go.
const EQUAL_RATIO: f64 = 1.25;
/// Sources farther than this multiple of the best one's error bound do not improve it.
const COMBINE_LIMIT: f64 = 3.0;
/// By how many times its bound the frequency of a source may be beside true time's.
const FREQUENCY_LIMIT: f64 = 3.0;

/// How good a source is, in seconds of error bound; lower is better.
fn score(candidate: &Candidate, least_stratum: u8) -> f64 {
    candidate.estimate.distance() + STRATUM_WEIGHT * f64::from(candidate.estimate.stratum.saturating_sub(least_stratum))
}

/// The position of the best candidate: of equals the one better vouched for, else the previous one, which is kept unless
/// another is clearly better.
pub(super) fn best(candidates: &[&Candidate], previous: Option<SourceId>) -> Option<usize> {
    let least = candidates.iter().map(|c| c.estimate.stratum).min()?;
    let scored = |index: usize| candidates.get(index).map_or(f64::INFINITY, |c| score(c, least));
    let best = (0..candidates.len()).min_by(|&a, &b| scored(a).total_cmp(&scored(b)))?;
    let equals = |index: &usize| {
        let is_previous = previous.is_some() && candidates.get(*index).map(|c| c.id) == previous;
        let ratio = if is_previous { RESELECT_RATIO } else { EQUAL_RATIO };
        scored(*index) <= ratio * scored(best) || scored(*index) <= scored(best) + RESELECT_DISTANCE
    };
    let trust = |index: usize| candidates.get(index).map(|c| c.trust);
    let most = (0..candidates.len()).filter(equals).filter_map(trust).max();
    let trusted = |index: &usize| trust(*index) == most;
    let kept = candidates.iter().position(|c| Some(c.id) == previous).filter(equals).filter(trusted);
    let first =
        || (0..candidates.len()).filter(equals).filter(trusted).min_by(|&a, &b| scored(a).total_cmp(&scored(b)));
    kept.or_else(first).or(Some(best))
}

/// From the first frequency to the last on which more than half of `judges` agree, if there are any. Who drifts away inside of what the
/// others know of the time must not be taken for the best. Where liars are sure of their frequency and some of the others are not of
/// theirs, most may agree with the liars too, so that the frequency on which the most agree says nothing.
pub(super) fn common_frequency(judges: &[&Candidate]) -> Option<Interval> {
    let intervals: Vec<Interval> = judges.iter().map(|candidate| frequency(candidate)).collect();
    covered(&intervals, judges.len() / 2 + 1)
}

/// Whether a candidate may run at one of these frequencies.
pub(super) fn runs_at(candidate: &Candidate, common: &Interval) -> bool {
    let own = frequency(candidate);
    own.low <= common.high && common.low <= own.high
}

/// What a candidate's frequency may be.
fn frequency(candidate: &Candidate) -> Interval {
    let width = FREQUENCY_LIMIT * (candidate.estimate.skew + 0.5 * MAX_CLOCK_ERROR);
    Interval::around(candidate.estimate.frequency, width)
}

/// Whether `other` improves `best`. Its rate is for [most of all](common_frequency) to judge: the best may be a liar.
pub(super) fn combines(best: &Candidate, other: &Candidate) -> bool {
    other.estimate.distance() <= COMBINE_LIMIT * best.estimate.distance()
}
