//! What an administrator knows of the way to one server, and asks of the measurements made on it.

use super::{Refusal, response::MAX_DELAY};
use crate::{
    filter::{MAX_SAMPLES, Surprise},
    sample::Sample,
};

/// Samples that say enough of the usual delay for a new one to be judged by them.
const MIN_KNOWN: usize = 6;
/// Samples in a row that are refused for their delay alone after which the way itself counts as longer.
pub(super) const LONGER_AFTER: u8 = 16;

/// What is asked of measurements of one source, and what is made of them. The default asks for what every source has to
/// keep; all else is for the filter, which weighs samples by their delay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleRules {
    /// Added to every measured offset, in seconds. Half of what a packet takes longer from the server than to it makes up for
    /// a way that is known to be asymmetric.
    pub correction: f64,
    /// The stratum that the server counts as having at least, 0 to 15.
    pub min_stratum: u8,
    /// Longest round trip, in seconds.
    pub max_delay: f64,
    /// Longest round trip as a multiple of the shortest in memory, if there is to be such a limit.
    pub max_delay_ratio: Option<f64>,
    /// By how many standard deviations of the offset a round trip may be longer than the shortest in memory. One whose offset is
    /// off by more than the delay explains is taken anyway: then it is the clock that has moved.
    pub max_delay_deviations: Option<f64>,
    /// Fewest samples that the filter goes by, once there are so many.
    pub min_samples: usize,
    /// Most samples that are kept, 1 to 256. With one there is no frequency.
    pub max_samples: usize,
    /// How often is asked: the interval is what is worth waiting for, times 8 and divided by this.
    pub poll_target: u8,
}

impl Default for SampleRules {
    fn default() -> Self {
        Self {
            correction: 0.0,
            min_stratum: 0,
            max_delay: MAX_DELAY,
            max_delay_ratio: None,
            max_delay_deviations: None,
            min_samples: 1,
            max_samples: MAX_SAMPLES,
            poll_target: 8,
        }
    }
}

impl SampleRules {
    /// The sample as it counts.
    pub(super) fn correct(&self, sample: Sample) -> Sample {
        Sample { offset: sample.offset + self.correction, stratum: sample.stratum.max(self.min_stratum), ..sample }
    }

    /// Whether the delay of a sample is what those before let expect.
    pub(super) fn check(&self, sample: &Sample, expected: Option<&Surprise>) -> Result<(), Refusal> {
        let Some(expected) = expected.filter(|expected| expected.samples >= MIN_KNOWN) else { return Ok(()) };
        let least = sample.delay - expected.extra_delay;
        if self.max_delay_ratio.is_some_and(|ratio| sample.delay > ratio * least) {
            return Err(Refusal::DelayRatio);
        }
        let is_late = |most| expected.extra_delay > most * expected.jitter;
        if expected.explained && self.max_delay_deviations.is_some_and(is_late) {
            return Err(Refusal::DelayDeviations);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::NtpTimestamp;

    fn sample(offset: f64, delay: f64) -> Sample {
        Sample {
            at: NtpTimestamp::ZERO,
            offset,
            delay,
            dispersion: 0.0,
            root_delay: 0.0,
            root_dispersion: 0.0,
            stratum: 2,
        }
    }

    fn expected(error: f64, extra_delay: f64) -> Surprise {
        let explained = error <= 0.5 * extra_delay;
        Surprise { error, deviation: 1e-4, jitter: 1e-4, extra_delay, explained, samples: MIN_KNOWN }
    }

    #[test]
    fn a_sample_counts_as_the_administrator_knows_better() {
        let rules = SampleRules { correction: -0.25, min_stratum: 5, ..SampleRules::default() };
        let corrected = rules.correct(sample(1.0, 0.01));
        assert!((corrected.offset - 0.75).abs() < 1e-12);
        assert_eq!(corrected.stratum, 5);
        assert_eq!(SampleRules::default().correct(sample(1.0, 0.01)), sample(1.0, 0.01));
    }

    #[test]
    fn delays_are_held_against_the_shortest() {
        let rules = SampleRules { max_delay_ratio: Some(2.0), ..SampleRules::default() };
        assert_eq!(rules.check(&sample(0.0, 0.020), Some(&expected(0.0, 0.0099))), Ok(()));
        assert_eq!(rules.check(&sample(0.0, 0.020), Some(&expected(0.0, 0.0101))), Err(Refusal::DelayRatio));
        let few = Surprise { samples: MIN_KNOWN - 1, ..expected(0.0, 0.019) };
        assert_eq!(rules.check(&sample(0.0, 0.020), Some(&few)), Ok(()));
        assert_eq!(rules.check(&sample(0.0, 0.020), None), Ok(()));
        assert_eq!(SampleRules::default().check(&sample(0.0, 1.0), Some(&expected(0.0, 0.99))), Ok(()));
    }

    #[test]
    fn delays_are_held_against_the_spread_unless_the_clock_moved() {
        let rules = SampleRules { max_delay_deviations: Some(10.0), ..SampleRules::default() };
        let check = |error, extra| rules.check(&sample(0.0, 0.010), Some(&expected(error, extra)));
        assert_eq!(check(0.0, 0.9e-3), Ok(()));
        assert_eq!(check(0.5e-3, 1.1e-3), Err(Refusal::DelayDeviations));
        assert_eq!(check(0.6e-3, 1.1e-3), Ok(()), "more than the delay explains");
    }
}
