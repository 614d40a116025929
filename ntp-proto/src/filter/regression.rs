//! Weighted linear regression with the memory that has predicted best.
//!
//! Samples with long delays count little instead of being thrown away. Lines are fitted to the newest samples in
//! several lengths, and before a new sample is added, each line has to predict it. The length with the least mean
//! squared error of prediction is used: a few samples while the clock bends, hours of them in a quiet room.

use arrayvec::ArrayVec;

use super::{
    Estimate, Filter, Surprise, UNKNOWN_SKEW,
    line::{Line, MIN_POINTS, Point, student_t},
};
use crate::{
    sample::{Sample, Shift},
    time::{NtpDuration, NtpTimestamp},
};

/// Most samples kept.
pub(crate) const MAX_SAMPLES: usize = 64;
/// Lengths of memory that compete, in samples.
const MEMORIES: [usize; 8] = [4, 6, 9, 13, 19, 28, 42, MAX_SAMPLES];
/// Weight of the newest error of prediction in a memory's mean.
const SCORE_WEIGHT: f64 = 0.1;
/// Least jitter believed, in seconds.
const MIN_JITTER: f64 = 1e-9;
/// Least skew believed, s/s.
const MIN_SKEW: f64 = 1e-12;
/// The delay at which a sample's weight has fallen to a quarter lies this share of the mean extra delay above the least.
const DELAY_SCALE: f64 = 0.7;

/// The regression filter; see the module.
#[derive(Clone, Debug)]
pub struct Regression {
    /// Shortest memory that competes, in samples.
    least: usize,
    /// Most samples that are kept.
    most: usize,
    samples: ArrayVec<Sample, MAX_SAMPLES>,
    /// Mean squared error of prediction of each memory, in s².
    scores: [Option<f64>; MEMORIES.len()],
    fit: Option<Fit>,
}

/// A fitted line; `x` is in seconds relative to `origin`.
#[derive(Clone, Copy, Debug)]
struct Fit {
    origin: NtpTimestamp,
    line: Line,
    count: usize,
    runs: usize,
}

impl Default for Regression {
    fn default() -> Self {
        Self::with_memory(0, MAX_SAMPLES)
    }
}

impl Regression {
    /// Goes by `least` samples or more, if there are so many, and keeps `most`, 1 to 64.
    #[must_use]
    pub fn with_memory(least: usize, most: usize) -> Self {
        let most = most.clamp(1, MAX_SAMPLES);
        Self { least: least.min(most), most, samples: ArrayVec::new(), scores: [None; MEMORIES.len()], fit: None }
    }

    fn least_delay(&self) -> f64 {
        self.samples.iter().map(|s| s.delay).fold(f64::INFINITY, f64::min)
    }

    /// Points relative to `origin`, weighted by delay.
    fn points(&self, origin: NtpTimestamp) -> ArrayVec<Point, MAX_SAMPLES> {
        let least = self.samples.iter().map(Sample::peer_distance).fold(f64::INFINITY, f64::min);
        let mut distances: ArrayVec<f64, MAX_SAMPLES> =
            self.samples.iter().map(|s| s.peer_distance() - least).collect();
        distances.sort_by(f64::total_cmp);
        let median = distances.get(distances.len() / 2).copied().unwrap_or(0.0);
        let scale = (median / DELAY_SCALE).clamp(MIN_JITTER, least.max(MIN_JITTER));
        self.samples
            .iter()
            .map(|s| {
                let excess = (s.peer_distance() - least) / scale;
                Point { x: (s.at - origin).to_seconds(), y: s.offset, weight: (1.0 + excess).powi(-2) }
            })
            .collect()
    }

    /// The newest `memory` of `points`, or as many as there are.
    fn newest(points: &[Point], memory: usize) -> &[Point] {
        &points[points.len().saturating_sub(memory)..]
    }

    /// Lets every memory predict `sample`, before that is added.
    fn score(&mut self, sample: &Sample) {
        let points = self.points(sample.at);
        let least = self.least_delay();
        // A late sample is a poor judge.
        let weight = (least / sample.delay.max(least)).powi(2) * SCORE_WEIGHT;
        for (memory, score) in MEMORIES.iter().zip(&mut self.scores) {
            let Some(line) = Line::fit(Self::newest(&points, *memory)) else { continue };
            let square = (sample.offset - line.at(0.0)).powi(2);
            *score = Some(score.map_or(square, |mean| mean + weight * (square - mean)));
        }
    }

    /// Fits again with the memory that has predicted best; of equals, the longest.
    fn refit(&mut self) {
        let competes = |(memory, _): &(&usize, _)| **memory >= self.least;
        let scored = MEMORIES.iter().zip(self.scores).filter(competes);
        let scored = scored.filter_map(|(memory, score)| Some((*memory, score?)));
        let best = scored.rev().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(MAX_SAMPLES, |(memory, _)| memory);
        self.fit = self.samples.last().and_then(|latest| {
            let points = self.points(latest.at);
            let used = Self::newest(&points, best);
            let line = Line::fit(used)?;
            Some(Fit { origin: latest.at, line, count: used.len(), runs: line.runs(used) })
        });
    }

    /// The sample that bounds the error against the source best, aged to `now` by `skew`.
    fn nearest(&self, now: NtpTimestamp, skew: f64) -> Option<(f64, &Sample)> {
        self.samples
            .iter()
            .map(|s| (s.peer_distance() + skew * (now - s.at).to_seconds().abs(), s))
            .min_by(|a, b| a.0.total_cmp(&b.0))
    }
}

impl Filter for Regression {
    fn surprise(&self, sample: &Sample) -> Option<Surprise> {
        let fit = self.fit?;
        let x = (sample.at - fit.origin).to_seconds();
        let variance = fit.line.variance_at(x, fit.count) + fit.line.variance;
        Some(Surprise {
            error: sample.offset - fit.line.at(x),
            deviation: variance.sqrt().max(MIN_JITTER),
            extra_delay: sample.delay - self.least_delay(),
            samples: self.samples.len(),
        })
    }

    fn handle_sample(&mut self, sample: Sample) {
        self.score(&sample);
        if self.samples.len() >= self.most {
            self.samples.remove(0);
        }
        self.samples.push(sample);
        self.refit();
    }

    fn handle_shift(&mut self, shift: &Shift) {
        for sample in &mut self.samples {
            *sample = sample.shifted(shift);
        }
        self.refit();
    }

    fn handle_leap(&mut self, by: NtpDuration) {
        for sample in &mut self.samples {
            sample.at = sample.at + by;
        }
        self.refit();
    }

    fn reset(&mut self) {
        *self = Self::with_memory(self.least, self.most);
    }

    fn estimate(&self, now: NtpTimestamp) -> Option<Estimate> {
        let (first, latest) = (self.samples.first()?, self.samples.last()?);
        let known = self.fit.map(|fit| {
            let x = (now - fit.origin).to_seconds();
            let spread = student_t(fit.count - MIN_POINTS + 1) * fit.line.slope_variance(fit.count).sqrt();
            (fit, fit.line.at(x), fit.line.variance_at(x, fit.count), spread.clamp(MIN_SKEW, UNKNOWN_SKEW))
        });
        let skew = known.map_or(UNKNOWN_SKEW, |(_, _, _, skew)| skew);
        let (peer_distance, nearest) = self.nearest(now, skew)?;
        let age = (now - latest.at).to_seconds().max(0.0);
        let best = self.samples.iter().min_by(|a, b| a.delay.total_cmp(&b.delay))?;
        let (offset, deviation, frequency, jitter, runs) = match known {
            Some((fit, offset, variance, _)) => {
                (offset, variance.sqrt(), fit.line.slope, fit.line.variance.sqrt(), fit.runs)
            }
            // Too few for a line: the sample with the least delay speaks for all.
            None => (best.offset, best.peer_distance() + skew * age, 0.0, best.peer_distance(), self.samples.len()),
        };
        // What bounds the error is one measurement; what is told is a line, which may pass beside it.
        let beside = (offset - nearest.offset - frequency * (now - nearest.at).to_seconds()).abs();
        let ageing = peer_distance - nearest.peer_distance();
        // The source may have lost its own source since: of its distance only the newest word counts.
        Some(Estimate {
            at: now,
            offset,
            offset_deviation: deviation.max(MIN_JITTER),
            frequency,
            skew,
            jitter: jitter.max(MIN_JITTER),
            peer_distance: (peer_distance + beside).max(deviation),
            root_distance: 0.5 * latest.root_delay + latest.root_dispersion,
            root_delay: latest.root_delay + nearest.delay,
            root_dispersion: latest.root_dispersion + nearest.dispersion + ageing + beside,
            stratum: latest.stratum,
            samples: self.fit.map_or(self.samples.len(), |fit| fit.count),
            runs,
            span: (latest.at - first.at).to_seconds(),
            age,
        })
    }

    fn latest(&self) -> Option<&Sample> {
        self.samples.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> NtpTimestamp {
        NtpTimestamp::from_bits(4_000_000_000 << 32)
    }

    fn sample(seconds: f64, offset: f64, delay: f64) -> Sample {
        Sample {
            at: start() + NtpDuration::from_seconds(seconds),
            offset,
            delay,
            dispersion: 1e-7,
            root_delay: 0.0,
            root_dispersion: 0.0,
            stratum: 1,
        }
    }

    /// Deterministic noise in -1..1.
    fn noise(n: i32) -> f64 {
        (f64::from(n) * 12.9898).sin() * 43_758.547 % 1.0
    }

    #[test]
    fn a_straight_clock_is_followed() {
        let mut filter = Regression::default();
        for n in 0..40 {
            let t = f64::from(n) * 16.0;
            filter.handle_sample(sample(t, 0.1 + 25e-6 * t + 1e-5 * noise(n), 1e-3));
        }
        let now = start() + NtpDuration::from_seconds(640.0);
        let estimate = filter.estimate(now).unwrap();
        assert!((estimate.offset - (0.1 + 25e-6 * 640.0)).abs() < 1e-5, "{estimate:?}");
        assert!((estimate.frequency - 25e-6).abs() < estimate.skew);
    }

    #[test]
    fn a_bend_shortens_the_memory() {
        let mut filter = Regression::default();
        for n in 0..30 {
            filter.handle_sample(sample(f64::from(n) * 16.0, 1e-7 * noise(n), 1e-3));
        }
        for n in 30..50 {
            filter.handle_sample(sample(f64::from(n) * 16.0, 1e-6 * f64::from(n - 30) + 1e-7 * noise(n), 1e-3));
        }
        let estimate = filter.estimate(start() + NtpDuration::from_seconds(800.0)).unwrap();
        assert!(estimate.samples < 20, "{estimate:?}");
        assert!((estimate.frequency - 1e-6 / 16.0).abs() < 2e-8, "{estimate:?}");
    }

    #[test]
    fn long_delays_count_little() {
        let mut filter = Regression::default();
        for n in 0..20 {
            let late = if n % 4 == 0 { 0.02 } else { 0.0 };
            filter.handle_sample(sample(f64::from(n) * 16.0, late / 2.0 + 1e-6 * noise(n), 1e-3 + late));
        }
        let estimate = filter.estimate(start() + NtpDuration::from_seconds(320.0)).unwrap();
        assert!(estimate.offset.abs() < 3e-4, "{estimate:?}");
    }

    #[test]
    fn a_shift_moves_what_is_stored() {
        let mut filter = Regression::default();
        for n in 0..10 {
            let t = f64::from(n) * 16.0;
            filter.handle_sample(sample(t, 0.5 + 1e-5 * t, 1e-3));
        }
        let now = start() + NtpDuration::from_seconds(160.0);
        let before = filter.estimate(now).unwrap();
        let shift = Shift { from: now, offset: before.offset, rate: before.frequency };
        filter.handle_shift(&shift);
        let after = filter.estimate(shift.apply(now)).unwrap();
        assert!(after.offset.abs() < 1e-9 && after.frequency.abs() < 1e-12, "{after:?}");
        assert_eq!(after.samples, before.samples);
    }

    #[test]
    fn the_newest_word_of_the_server_on_itself_counts() {
        let mut filter = Regression::default();
        for n in 0..20 {
            let root_dispersion = 1e-4 * f64::from(n);
            // The first has the least delay and bounds the error against the server best.
            let delay = if n == 0 { 1e-5 } else { 1e-3 };
            filter.handle_sample(Sample {
                root_dispersion,
                root_delay: 0.01,
                ..sample(f64::from(n) * 16.0, 0.0, delay)
            });
        }
        let estimate = filter.estimate(start() + NtpDuration::from_seconds(304.0)).unwrap();
        assert!(estimate.root_dispersion >= 1.9e-3 && estimate.root_distance >= 1.9e-3 + 0.005, "{estimate:?}");
    }

    #[test]
    fn a_line_beside_the_best_measurement_is_not_trusted_more_than_that() {
        let mut filter = Regression::default();
        for n in 0..30 {
            // Nineteen of twenty came a longer way.
            let far = n != 10;
            let (offset, delay) = if far { (5e-3, 12e-3) } else { (0.0, 1e-3) };
            filter.handle_sample(sample(f64::from(n) * 16.0, offset, delay));
        }
        let estimate = filter.estimate(start() + NtpDuration::from_seconds(480.0)).unwrap();
        assert!(estimate.peer_distance >= estimate.offset.abs(), "the true offset is 0: {estimate:?}");
    }

    #[test]
    fn a_bend_shortens_the_memory_no_further_than_was_asked_for() {
        for (least, most, expected) in [(19, MAX_SAMPLES, 19..=MAX_SAMPLES), (0, 6, 1..=6), (30, 20, 20..=20)] {
            let mut filter = Regression::with_memory(least, most);
            for n in 0..50 {
                let bend = 1e-6 * f64::from((n - 30).max(0));
                filter.handle_sample(sample(f64::from(n) * 16.0, bend + 1e-7 * noise(n), 1e-3));
            }
            let used = filter.estimate(start() + NtpDuration::from_seconds(800.0)).unwrap().samples;
            assert!(expected.contains(&used), "{least} to {most}: {used}");
            filter.reset();
            assert_eq!((filter.least, filter.most), (least.min(most), most), "it is told once");
        }
    }

    #[test]
    fn one_sample_is_an_estimate_with_a_wide_margin() {
        let mut filter = Regression::default();
        assert_eq!(filter.estimate(start()), None);
        filter.handle_sample(sample(0.0, 2.5, 0.04));
        let estimate = filter.estimate(start()).unwrap();
        assert!(estimate.offset.eq(&2.5) && estimate.peer_distance >= 0.02);
    }
}
