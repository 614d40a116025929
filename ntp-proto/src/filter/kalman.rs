//! A Kalman filter for a clock: its offset, its frequency, how much of a packet's delay lies on one way, and by how much the
//! two ways of the present route differ.

/// Quantities that are estimated together, by their places in [`Track`].
pub(super) const OFFSET: usize = 0;
pub(super) const FREQUENCY: usize = 1;
pub(super) const LEAN: usize = 2;
pub(super) const BIAS: usize = 3;
/// How many these are.
const COUNT: usize = 4;

/// What is believed of a clock at one moment. Variances are relative to a scale that the caller knows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Track {
    /// Offset in seconds, frequency in s/s, share of the excess delay that shows in a measured offset, and what the route adds to
    /// that in seconds.
    pub(super) mean: [f64; COUNT],
    /// Covariances of these.
    pub(super) covariance: [[f64; COUNT]; COUNT],
}

/// A measured offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Observation {
    /// The offset, in seconds.
    pub(super) offset: f64,
    /// What one unit of lean adds to it, in seconds.
    pub(super) slant: f64,
    /// Variance of the rest.
    pub(super) variance: f64,
}

/// What an observation was off by, and the variance that was expected of that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Innovation {
    pub(super) error: f64,
    pub(super) variance: f64,
}

/// What a route adds to measured offsets in seconds, and the variance of that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bias {
    pub(super) mean: f64,
    pub(super) variance: f64,
}

impl Track {
    /// Begins with the first observation, a frequency within `frequency`, a lean within `lean` (variances), and a `bias`.
    pub(super) const fn begin(first: Observation, frequency: f64, lean: f64, bias: Bias) -> Self {
        let (slant, own) = (first.slant, first.variance + first.slant * first.slant * lean + bias.variance);
        Self {
            mean: [first.offset - bias.mean, 0.0, 0.0, bias.mean],
            covariance: [
                [own, 0.0, -slant * lean, -bias.variance],
                [0.0, frequency, 0.0, 0.0],
                [-slant * lean, 0.0, lean, 0.0],
                [-bias.variance, 0.0, 0.0, bias.variance],
            ],
        }
    }

    /// Lets `dt` seconds pass, in which the frequency walks at random with a variance of `walk` each second.
    ///
    /// The covariance of a clock with white noise in the derivative of its frequency: Zucca and Tavella, "The clock model
    /// and its relationship with the Allan and related variances", IEEE UFFC 52(2), 2005.
    pub(super) fn predict(&mut self, dt: f64, walk: f64) {
        self.mean[OFFSET] += self.mean[FREQUENCY] * dt;
        let of = &mut self.covariance;
        for other in [LEAN, BIAS] {
            let gained = dt * of[FREQUENCY][other];
            of[OFFSET][other] += gained;
            of[other][OFFSET] += gained;
        }
        of[OFFSET][OFFSET] +=
            dt * (2.0 * of[OFFSET][FREQUENCY] + dt * of[FREQUENCY][FREQUENCY]) + walk * dt.powi(3) / 3.0;
        let gained = dt * of[FREQUENCY][FREQUENCY] + walk * dt.powi(2) / 2.0;
        of[OFFSET][FREQUENCY] += gained;
        of[FREQUENCY][OFFSET] += gained;
        of[FREQUENCY][FREQUENCY] += walk * dt;
    }

    /// Takes another route, whose ways differ by nobody knows how much; `variance` is that of what it adds to offsets.
    pub(super) fn reroute(&mut self, variance: f64) {
        self.mean[BIAS] = 0.0;
        for other in 0..COUNT {
            self.covariance[other][BIAS] = 0.0;
            self.covariance[BIAS][other] = 0.0;
        }
        self.covariance[BIAS][BIAS] = variance;
    }

    /// What is expected of an observation.
    pub(super) fn expect(&self, seen: &Observation) -> Innovation {
        self.compare(seen, &self.covariances(seen))
    }

    /// Covariances of what an observation shows, less its noise, with each quantity.
    fn covariances(&self, seen: &Observation) -> [f64; COUNT] {
        self.covariance.map(|row| row[OFFSET] + seen.slant * row[LEAN] + row[BIAS])
    }

    fn compare(&self, seen: &Observation, with: &[f64; COUNT]) -> Innovation {
        let (mean, slant) = (&self.mean, seen.slant);
        Innovation {
            error: seen.offset - mean[OFFSET] - slant * mean[LEAN] - mean[BIAS],
            variance: with[OFFSET] + slant * with[LEAN] + with[BIAS] + seen.variance,
        }
    }

    /// Takes an observation into account.
    pub(super) fn observe(&mut self, seen: &Observation) {
        let with = self.covariances(seen);
        let Innovation { error, variance } = self.compare(seen, &with);
        let gain = with.map(|covariance| covariance / variance);
        for (row, gained) in gain.iter().enumerate() {
            self.mean[row] += gained * error;
            for (column, covariance) in with.iter().enumerate() {
                self.covariance[row][column] -= gained * covariance;
            }
            // Where the observation is far surer than what was believed, the difference above is lost in rounding. By Joseph's form of it
            // no less than this is left (Bucy, Joseph, "Filtering for Stochastic Processes", 1968).
            self.covariance[row][row] = self.covariance[row][row].max(gained.powi(2) * seen.variance);
        }
    }

    /// Variance of what the next measurement of the shortest delay would show, and its covariance with the frequency.
    pub(super) fn shown(&self) -> (f64, f64) {
        let of = &self.covariance;
        (of[OFFSET][OFFSET] + 2.0 * of[OFFSET][BIAS] + of[BIAS][BIAS], of[OFFSET][FREQUENCY] + of[BIAS][FREQUENCY])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRAIGHT: Bias = Bias { mean: 0.0, variance: 0.0 };

    fn seen(offset: f64, slant: f64) -> Observation {
        Observation { offset, slant, variance: 1.0 }
    }

    /// A clock that is `1 + 0.1 t` ahead, and 0.3 for each unit of slant.
    fn run(walk: f64, lean: f64) -> Track {
        let slant = |n: u8| f64::from(n * 7 % 5);
        let offset = |n: u8| 1.0 + 0.1 * f64::from(n) + if lean > 0.0 { 0.3 * slant(n) } else { 0.0 };
        let mut track = Track::begin(seen(offset(0), slant(0)), 1e6, lean, STRAIGHT);
        for n in 1..30 {
            track.predict(1.0, walk);
            track.observe(&seen(offset(n), slant(n)));
        }
        track
    }

    #[test]
    fn without_wander_it_is_least_squares() {
        let track = run(0.0, 0.0);
        let ([offset, frequency, ..], of) = (track.mean, track.covariance);
        assert!((offset - 3.9).abs() < 1e-5 && (frequency - 0.1).abs() < 1e-6, "{track:?}");
        // Of 30 points of unit variance, a second apart: n (n² - 1) / 12 is the spread of their times.
        let spread = 30.0 * 899.0 / 12.0;
        assert!((of[FREQUENCY][FREQUENCY] - 1.0 / spread).abs() < 1e-6, "{track:?}");
        assert!((of[OFFSET][OFFSET] - (1.0 / 30.0 + 14.5_f64.powi(2) / spread)).abs() < 1e-6, "{track:?}");
    }

    #[test]
    fn a_lean_is_found_and_costs_certainty() {
        let (leaning, upright) = (run(0.0, 100.0), run(0.0, 0.0));
        let [offset, _, lean, _] = leaning.mean;
        assert!((lean - 0.3).abs() < 1e-3 && (offset - 3.9).abs() < 1e-2, "{leaning:?}");
        assert!(leaning.covariance[OFFSET][OFFSET] > upright.covariance[OFFSET][OFFSET]);
    }

    #[test]
    fn wander_keeps_it_uncertain() {
        let (calm, restless) = (run(1e-6, 0.0), run(1e-2, 0.0));
        for (place, factor) in [(OFFSET, 2.0), (FREQUENCY, 10.0)] {
            assert!(restless.covariance[place][place] > factor * calm.covariance[place][place]);
        }
        // What is expected of the next observation says so.
        assert!(restless.expect(&seen(0.0, 0.0)).variance > calm.expect(&seen(0.0, 0.0)).variance);
    }

    #[test]
    fn what_another_route_adds_is_told_from_the_clock() {
        let mut track = run(1e-6, 0.0);
        track.reroute(100.0);
        for n in 30..90_u8 {
            track.predict(1.0, 1e-6);
            track.observe(&seen(1.0 + 0.1 * f64::from(n) + 8.0, 0.0));
        }
        let [offset, _, _, bias] = track.mean;
        assert!((offset - 9.9).abs() < 0.2 && (bias - 8.0).abs() < 0.2, "{track:?}");
        let (shown, _) = track.shown();
        assert!(shown < track.covariance[OFFSET][OFFSET], "the sum is known better than its parts: {track:?}");
    }

    #[test]
    fn no_observation_makes_it_surer_than_itself() {
        // Nothing is known, and then something to the nanosecond.
        let sharp = |offset| Observation { offset, slant: 0.0, variance: 1e-18 };
        let mut track = Track::begin(sharp(0.0), 1e4, 0.0, STRAIGHT);
        for n in 1..50 {
            track.predict(1024.0, 1e-30);
            track.observe(&sharp(1e-4 * f64::from(n)));
            let of = track.covariance;
            assert!(of[OFFSET][OFFSET] > 1e-20 && of[FREQUENCY][FREQUENCY] > 1e-30, "{track:?}");
        }
    }
}
