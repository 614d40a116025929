//! From the time of a network interface's clock to that of the clock in which packets are stamped otherwise.

use arrayvec::ArrayVec;

use crate::time::{NtpDuration, NtpTimestamp, Rate};

/// Comparisons that are kept.
const MAX_COMPARISONS: usize = 16;
/// Fewest of them that tell how fast the clocks run against each other.
const MIN_FOR_RATE: usize = 4;
/// Stamps further away from the last comparison are not converted, in seconds.
const MAX_DISTANCE: f64 = 16.0;
/// How far a comparison may be from what those before predict, in units of their own errors; beyond that one of the clocks
/// was set.
const MAX_SURPRISE: f64 = 10.0;
/// What clocks differ by while they are compared at the least, in seconds.
const LEAST_ERROR: f64 = 1e-8;
/// What two clocks may differ by in their rates, at most, s/s: where none is known, a stamp is uncertain by as much.
const MAX_RATE: f64 = 1e-4;

/// A comparison of both clocks.
#[derive(Clone, Copy, Debug)]
struct Comparison {
    device: NtpTimestamp,
    system: NtpTimestamp,
    error: f64,
}

/// A stamp that was converted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Converted {
    /// When, by the system's clock.
    pub at: NtpTimestamp,
    /// How far that may be wrong, in seconds.
    pub error: f64,
}

/// What is known of an interface's clock.
///
/// Both clocks run on, the system's sometimes faster or slower by command. What was compared before is moved by what was
/// commanded, so that it counts as before.
#[derive(Clone, Debug, Default)]
pub struct InterfaceClock {
    comparisons: ArrayVec<Comparison, MAX_COMPARISONS>,
}

impl InterfaceClock {
    /// Takes a comparison of both clocks at one moment, with the largest error that it may have in seconds.
    pub fn handle_comparison(&mut self, device: NtpTimestamp, system: NtpTimestamp, error: f64) {
        let error = error.max(LEAST_ERROR);
        let is_strange = self.convert(device).is_none_or(|expected| {
            let distance = (system - expected.at).to_seconds().abs();
            distance > MAX_SURPRISE * (expected.error + error)
        });
        if is_strange {
            self.comparisons.clear();
        }
        if self.comparisons.is_full() {
            self.comparisons.remove(0);
        }
        self.comparisons.push(Comparison { device, system, error });
    }

    /// The system's clock was made to run at `after` instead of `before`, both relative to its oscillator, when it read `at`.
    pub fn handle_rate(&mut self, at: NtpTimestamp, before: Rate, after: Rate) {
        let ratio = (1.0 + after.get()) / (1.0 + before.get()) - 1.0;
        for comparison in &mut self.comparisons {
            let elapsed = (comparison.system - at).to_seconds();
            comparison.system = comparison.system + NtpDuration::from_seconds(elapsed * ratio);
        }
    }

    /// The system's clock was stepped.
    pub fn handle_step(&mut self, by: NtpDuration) {
        for comparison in &mut self.comparisons {
            comparison.system = comparison.system + by;
        }
    }

    /// Forgets everything: one of the clocks was set by somebody else.
    pub fn reset(&mut self) {
        self.comparisons.clear();
    }

    /// What the system's clock read when that of the interface read `device`; `None` while too little is known.
    #[must_use]
    pub fn convert(&self, device: NtpTimestamp) -> Option<Converted> {
        let newest = self.comparisons.last()?;
        let x = (device - newest.device).to_seconds();
        if x.abs() > MAX_DISTANCE {
            return None;
        }
        let ahead = newest.system - newest.device;
        let (correction, error) = match self.line(newest) {
            Some((at_newest, slope, deviation)) => (at_newest + slope * x, deviation + newest.error),
            None => (0.0, newest.error + MAX_RATE * x.abs()),
        };
        Some(Converted { at: device + ahead + NtpDuration::from_seconds(correction), error })
    }

    /// The line through the comparisons, relative to the newest: where it passes that, its slope, and how far comparisons are
    /// from it. The middle one of slopes is taken, which comparisons that were held up do not move.
    fn line(&self, newest: &Comparison) -> Option<(f64, f64, f64)> {
        if self.comparisons.len() < MIN_FOR_RATE {
            return None;
        }
        let points: ArrayVec<(f64, f64), MAX_COMPARISONS> = self
            .comparisons
            .iter()
            .map(|comparison| {
                let x = (comparison.device - newest.device).to_seconds();
                let ahead = (comparison.system - comparison.device) - (newest.system - newest.device);
                (x, ahead.to_seconds())
            })
            .collect();
        let half = points.len() / 2;
        // Slopes over half of the time: each point counts once (Theil's method, incomplete).
        let mut slopes: ArrayVec<f64, MAX_COMPARISONS> = points
            .iter()
            .zip(points.get(half..)?)
            .filter(|(early, late)| late.0 > early.0)
            .map(|(early, late)| (late.1 - early.1) / (late.0 - early.0))
            .collect();
        let slope = median(&mut slopes)?;
        let mut rests: ArrayVec<f64, MAX_COMPARISONS> = points.iter().map(|(x, y)| y - slope * x).collect();
        let at_newest = median(&mut rests)?;
        let mut distances: ArrayVec<f64, MAX_COMPARISONS> = rests.iter().map(|rest| (rest - at_newest).abs()).collect();
        Some((at_newest, slope, median(&mut distances)?))
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the system's clock is `rate` slow against a device that is `AHEAD` of it, with noise of a microsecond.
    const AHEAD: f64 = -1234.5;

    fn at(seconds: f64) -> NtpTimestamp {
        NtpTimestamp::from_bits(4_000_000_000 << 32) + NtpDuration::from_seconds(seconds)
    }

    fn noise(n: i32) -> f64 {
        (f64::from(n) * 12.9898).sin() * 43_758.547 % 1.0
    }

    fn error(clock: &InterfaceClock, device: f64, system: f64) -> f64 {
        (clock.convert(at(device)).unwrap().at - at(system)).to_seconds()
    }

    #[test]
    fn stamps_between_and_after_comparisons_are_converted() {
        let mut clock = InterfaceClock::default();
        assert_eq!(clock.convert(at(0.0)), None);
        let device = |t: f64| t * (1.0 + 35e-6) + AHEAD;
        for second in 0..40 {
            let t = f64::from(second);
            // One in eight is held up, and its bound says so.
            let late = if second % 8 == 3 { 2e-5 } else { 0.0 };
            clock.handle_comparison(at(device(t)), at(t + late + 2e-7 * noise(second)), 3e-7 + late);
        }
        for t in [38.2, 39.0, 39.9, 41.0] {
            assert!(error(&clock, device(t), t).abs() < 5e-7, "{t}: {}", error(&clock, device(t), t));
        }
        let converted = clock.convert(at(device(39.5))).unwrap();
        assert!(converted.error < 1e-6 && converted.error >= 3e-7, "{converted:?}");
        assert_eq!(clock.convert(at(device(100.0))), None, "nobody has looked for a minute");
    }

    #[test]
    fn a_slew_that_is_known_moves_nothing() {
        let mut clock = InterfaceClock::default();
        for second in 0..10 {
            let t = f64::from(second);
            clock.handle_comparison(at(t + AHEAD), at(t), 1e-7);
        }
        // From here on the system's clock gains 500 ppm on the device.
        clock.handle_rate(at(9.0), Rate::ZERO, Rate::from_ppm(500.0));
        assert!(error(&clock, 11.0 + AHEAD, 9.0 + 2.0 * 1.0005).abs() < 1e-7);
        clock.handle_comparison(at(10.0 + AHEAD), at(9.0 + 1.0005), 1e-7);
        assert_eq!(clock.comparisons.len(), 11, "it was expected");
        clock.handle_step(NtpDuration::from_seconds(-3.0));
        assert!(error(&clock, 11.0 + AHEAD, 9.0 + 2.0 * 1.0005 - 3.0).abs() < 1e-7);
    }

    #[test]
    fn a_clock_that_somebody_sets_is_compared_anew() {
        let mut clock = InterfaceClock::default();
        for second in 0..10 {
            let t = f64::from(second);
            clock.handle_comparison(at(t + AHEAD), at(t), 1e-7);
        }
        clock.handle_comparison(at(10.0), at(10.0), 1e-7);
        assert_eq!(clock.comparisons.len(), 1);
        assert!(error(&clock, 10.5, 10.5).abs() < 1e-9);
        let unknown = clock.convert(at(10.5)).unwrap();
        assert!(unknown.error >= 0.5 * MAX_RATE, "the rate is not known yet: {unknown:?}");
        clock.reset();
        assert_eq!(clock.convert(at(10.5)), None);
    }
}
