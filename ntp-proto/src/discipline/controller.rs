//! How far to believe a new estimate, and how fast the clock is to follow.

use core::time::Duration;

use crate::{filter::UNKNOWN_SKEW, select::Combined, time::Rate};

/// A correction of the timeline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Correction {
    /// Seconds to move it by.
    pub offset: f64,
    /// Rate to change it by, s/s.
    pub frequency: f64,
    /// How much of the estimated rate that is.
    pub gain: f64,
}

/// The seam of the discipline: estimates go in, corrections come out. The engine uses [`Controller`].
pub trait Discipline {
    /// Takes what the sources say together, relative to the timeline, and how long ago (in seconds) they were last heard.
    fn handle_combined(&mut self, combined: &Combined, interval: f64) -> Correction;

    /// Takes word that the frequency was changed by `change` s/s, which nobody measured.
    fn handle_guess(&mut self, change: f64);

    /// How the clock is to make up for `pending` seconds: at which rate on top of its natural one, and for how long.
    fn slew(&self, pending: f64) -> Option<(Rate, Duration)>;

    /// Bound on the error of the timeline's frequency, s/s.
    fn skew(&self) -> f64;

    /// The part of the last estimate of the frequency that was not believed, s/s.
    fn residual_frequency(&self) -> f64;
}

/// A discipline that takes offsets as they are (the filter has smoothed them already) and weighs frequencies by how
/// well they are known.
#[derive(Clone, Copy, Debug)]
pub struct Controller {
    max_slew: Rate,
    max_update_skew: f64,
    correction_time_ratio: f64,
    skew: f64,
    residual: f64,
    deviation: f64,
    interval: f64,
}

/// Weight of the frequency we have against a new one: how many times its squared skew counts.
const MEMORY: f64 = 3.0;
/// A new frequency with a skew above this is not used, unless another limit is set.
pub const MAX_UPDATE_SKEW: Rate = Rate::new(1e-3);
/// An offset as large as its own deviation is made up for in this many update intervals, unless another number is set: faster
/// makes the clock's rate uneven for little, slower makes it late.
pub const CORRECTION_TIME_RATIO: f64 = 0.5;
/// Shortest slew, in seconds.
const MIN_SLEW_SECONDS: f64 = 1.0;
/// Longest slew, in seconds.
const MAX_SLEW_SECONDS: f64 = 1e4;
/// Less than this is not worth a slew, in seconds: the resolution of kernel timestamps.
const NEGLIGIBLE: f64 = 1e-9;
/// No frequency from an earlier run is known better than this, s/s: one that was known exactly would never be corrected.
const LEAST_SKEW: f64 = 1e-9;

impl Controller {
    /// Starts with a frequency known to within `skew` s/s (`None`: not at all), but not better than any oscillator keeps it; slews
    /// are limited to `max_slew`.
    #[must_use]
    pub fn new(skew: Option<f64>, max_slew: Rate) -> Self {
        Self {
            max_slew,
            max_update_skew: MAX_UPDATE_SKEW.get(),
            correction_time_ratio: CORRECTION_TIME_RATIO,
            skew: skew.map_or(UNKNOWN_SKEW, |skew| skew.clamp(LEAST_SKEW, UNKNOWN_SKEW)),
            residual: 0.0,
            deviation: 0.0,
            interval: 1.0,
        }
    }

    /// Makes up for an offset as large as its own deviation in so many update intervals.
    pub const fn set_correction_time_ratio(&mut self, ratio: f64) {
        self.correction_time_ratio = ratio;
    }

    /// Uses no new frequency whose own error bound is larger than this.
    pub const fn set_max_update_skew(&mut self, limit: Rate) {
        self.max_update_skew = limit.get();
    }
}

impl Discipline for Controller {
    fn handle_combined(&mut self, combined: &Combined, interval: f64) -> Correction {
        let (old, new) = (self.skew, combined.skew);
        let known = MEMORY * old.powi(2);
        let gain = if new > self.max_update_skew { 0.0 } else { known / (known + new.powi(2)) };
        let frequency = gain * combined.frequency;
        self.residual = combined.frequency - frequency;
        if gain > 0.0 {
            // Each of the two counts with its weight, and with the distance it lies from what they agree on.
            self.skew = gain * (new + self.residual.abs()) + (1.0 - gain) * (old + frequency.abs());
        }
        self.deviation = combined.offset_deviation;
        self.interval = interval;
        Correction { offset: combined.offset, frequency, gain }
    }

    fn handle_guess(&mut self, change: f64) {
        self.skew = (self.skew + change.abs()).min(UNKNOWN_SKEW);
    }

    fn slew(&self, pending: f64) -> Option<(Rate, Duration)> {
        if pending.abs() < NEGLIGIBLE {
            return None;
        }
        // The larger an offset against its deviation, the surer it is, and the faster it goes.
        let wanted = self.correction_time_ratio * self.interval * self.deviation / pending.abs();
        let seconds = wanted.clamp(MIN_SLEW_SECONDS, MAX_SLEW_SECONDS).max(pending.abs() / self.max_slew.get());
        Some((Rate::new(pending / seconds), Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))
    }

    fn skew(&self) -> f64 {
        self.skew
    }

    fn residual_frequency(&self) -> f64 {
        self.residual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn combined(offset: f64, frequency: f64, skew: f64) -> Combined {
        Combined {
            offset,
            offset_deviation: 1e-5,
            frequency,
            skew,
            doubted_skew: skew,
            root_delay: 0.0,
            root_dispersion: 0.0,
        }
    }

    #[test]
    fn a_poor_frequency_moves_a_known_one_little() {
        let mut controller = Controller::new(Some(1e-8), Rate::from_ppm(500.0));
        let correction = controller.handle_combined(&combined(0.0, 1e-6, 1e-6), 64.0);
        assert!(correction.frequency.abs() < 1e-9);
        assert!((controller.residual_frequency() - 1e-6).abs() < 1e-9);
    }

    #[test]
    fn a_good_frequency_replaces_an_unknown_one() {
        let mut controller = Controller::new(None, Rate::from_ppm(500.0));
        let correction = controller.handle_combined(&combined(0.0, 40e-6, 1e-7), 64.0);
        assert!((correction.frequency - 40e-6).abs() < 1e-9);
        assert!(controller.skew() < 2e-7);
    }

    #[test]
    fn whatever_was_saved_is_corrected_by_what_is_measured() {
        for saved in [0.0, 1e-30, 1e-12, 1e-6, 1e300, f64::INFINITY] {
            let mut controller = Controller::new(Some(saved), Rate::from_ppm(500.0));
            let mut off = 40e-6;
            for _ in 0..100 {
                off -= controller.handle_combined(&combined(0.0, off, 1e-8), 64.0).frequency;
            }
            assert!(off.abs() < 1e-9 && controller.skew() < 2e-8, "{saved}: {off} {}", controller.skew());
        }
    }

    #[test]
    fn a_frequency_that_is_too_uncertain_is_not_used_at_all() {
        let mut controller = Controller::new(None, Rate::from_ppm(500.0));
        controller.set_max_update_skew(Rate::from_ppm(100.0));
        let before = controller.skew();
        let correction = controller.handle_combined(&combined(1e-3, 40e-6, 101e-6), 64.0);
        assert_eq!((correction.frequency, correction.offset), (0.0, 1e-3), "the offset counts nevertheless");
        assert_eq!((controller.residual_frequency(), controller.skew()), (40e-6, before));
        assert!(controller.handle_combined(&combined(0.0, 40e-6, 99e-6), 64.0).frequency > 39e-6);
    }

    #[test]
    fn slews_take_the_time_that_is_asked_for() {
        let mut controller = Controller::new(None, Rate::from_ppm(500.0));
        controller.handle_combined(&combined(0.0, 0.0, 1e-6), 100.0);
        // As large as its deviation of 10 us.
        assert_eq!(controller.slew(1e-5).unwrap().1, Duration::from_secs(50));
        controller.set_correction_time_ratio(3.0);
        assert_eq!(controller.slew(1e-5).unwrap().1, Duration::from_secs(300));
    }

    #[test]
    fn slews_end_and_keep_their_limit() {
        let mut controller = Controller::new(None, Rate::from_ppm(500.0));
        controller.handle_combined(&combined(0.0, 0.0, 1e-6), 64.0);
        for pending in [1e-8, 1e-5, -1e-3, 0.5, -100.0] {
            let (rate, time) = controller.slew(pending).unwrap();
            assert!(rate.get().abs() <= 500.001e-6);
            assert!((rate.get() * time.as_secs_f64() - pending).abs() < 1e-9 + pending.abs() * 1e-6);
        }
        assert_eq!(controller.slew(0.0), None);
    }
}
