//! From many readings to one sample.

use arrayvec::ArrayVec;

use super::{Comparison, MAX_READINGS};
use crate::time::{NtpDuration, NtpTimestamp};

/// Readings whose error bound is larger than the smallest by this factor do not count: whoever took them was interrupted.
const MAX_ERROR_RATIO: f64 = 1.5;

/// Of ten readings in the order of their offsets, so many do not count at either end.
const CUT_OF_TEN: usize = 2;

/// What readings say together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condensed {
    pub(super) at: NtpTimestamp,
    pub(super) offset: f64,
    pub(super) dispersion: f64,
}

/// The mean of the middle of the readings with small errors, so that neither a reading that was held up nor a pulse that is
/// none weighs anything. The moment is the mean of theirs: then a clock that runs fast or slow meanwhile does not matter.
/// `None` without readings.
pub(super) fn condense(comparisons: &mut ArrayVec<Comparison, MAX_READINGS>) -> Option<Condensed> {
    let first = comparisons.first()?.at;
    let least = comparisons.iter().map(|comparison| comparison.error).fold(f64::INFINITY, f64::min);
    let mut kept: ArrayVec<Comparison, MAX_READINGS> =
        comparisons.iter().filter(|comparison| comparison.error <= MAX_ERROR_RATIO * least).copied().collect();
    kept.sort_by(|a, b| a.offset.total_cmp(&b.offset));
    let cut = kept.len() * CUT_OF_TEN / 10;
    let middle = kept.get(cut..kept.len() - cut)?;
    #[expect(clippy::cast_precision_loss, reason = "at most a few dozen readings")]
    let count = middle.len() as f64;
    let mean = |of: &dyn Fn(&Comparison) -> f64| middle.iter().map(of).sum::<f64>() / count;
    let offset = mean(&|comparison| comparison.offset);
    let deviation = mean(&|comparison| (comparison.offset - offset).powi(2)).sqrt();
    let elapsed = mean(&|comparison| (comparison.at - first).to_seconds());
    Some(Condensed {
        at: first + NtpDuration::from_seconds(elapsed),
        offset,
        dispersion: mean(&|comparison| comparison.error) + deviation,
    })
}
