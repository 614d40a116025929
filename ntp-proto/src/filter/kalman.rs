//! A Kalman filter for a clock: its offset, its frequency, and how much of a packet's delay lies on one way.

/// What is believed of a clock at one moment. Variances are relative to a scale that the caller knows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Track {
    /// Offset, in seconds.
    pub(super) offset: f64,
    /// Frequency, s/s.
    pub(super) frequency: f64,
    /// Share of the excess delay that shows in the offset.
    pub(super) lean: f64,
    /// Covariances, of offset (`x`), frequency (`f`) and lean (`l`).
    pub(super) xx: f64,
    pub(super) xf: f64,
    pub(super) ff: f64,
    xl: f64,
    fl: f64,
    ll: f64,
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

impl Track {
    /// Begins with the first observation, a frequency within `frequency` and a lean within `lean` (variances).
    pub(super) const fn begin(first: Observation, frequency: f64, lean: f64) -> Self {
        Self {
            offset: first.offset,
            frequency: 0.0,
            lean: 0.0,
            xx: first.variance + first.slant * first.slant * lean,
            xf: 0.0,
            ff: frequency,
            xl: -first.slant * lean,
            fl: 0.0,
            ll: lean,
        }
    }

    /// Lets `dt` seconds pass, in which the frequency walks at random with a variance of `walk` each second.
    ///
    /// The covariance of a clock with white noise in the derivative of its frequency: Zucca and Tavella, "The clock model
    /// and its relationship with the Allan and related variances", IEEE UFFC 52(2), 2005.
    pub(super) fn predict(&mut self, dt: f64, walk: f64) {
        self.offset += self.frequency * dt;
        self.xx += dt * (2.0 * self.xf + dt * self.ff) + walk * dt.powi(3) / 3.0;
        self.xf += dt * self.ff + walk * dt.powi(2) / 2.0;
        self.ff += walk * dt;
        self.xl += dt * self.fl;
    }

    /// What is expected of an observation.
    pub(super) fn expect(&self, seen: &Observation) -> Innovation {
        let slant = seen.slant;
        Innovation {
            error: seen.offset - self.offset - slant * self.lean,
            variance: self.xx + slant * (2.0 * self.xl + slant * self.ll) + seen.variance,
        }
    }

    /// Takes an observation into account.
    pub(super) fn observe(&mut self, seen: &Observation) {
        let Innovation { error, variance } = self.expect(seen);
        let slant = seen.slant;
        let x = self.xx + slant * self.xl;
        let f = self.xf + slant * self.fl;
        let l = self.xl + slant * self.ll;
        let (gain_x, gain_f, gain_l) = (x / variance, f / variance, l / variance);
        self.offset += gain_x * error;
        self.frequency += gain_f * error;
        self.lean += gain_l * error;
        self.xx -= gain_x * x;
        self.xf -= gain_x * f;
        self.xl -= gain_x * l;
        self.ff -= gain_f * f;
        self.fl -= gain_f * l;
        self.ll -= gain_l * l;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(offset: f64, slant: f64) -> Observation {
        Observation { offset, slant, variance: 1.0 }
    }

    /// A clock that is `1 + 0.1 t` ahead, and 0.3 for each unit of slant.
    fn run(walk: f64, lean: f64) -> Track {
        let slant = |n: u8| f64::from(n * 7 % 5);
        let offset = |n: u8| 1.0 + 0.1 * f64::from(n) + if lean > 0.0 { 0.3 * slant(n) } else { 0.0 };
        let mut track = Track::begin(seen(offset(0), slant(0)), 1e6, lean);
        for n in 1..30 {
            track.predict(1.0, walk);
            track.observe(&seen(offset(n), slant(n)));
        }
        track
    }

    #[test]
    fn without_wander_it_is_least_squares() {
        let track = run(0.0, 0.0);
        assert!((track.offset - 3.9).abs() < 1e-5 && (track.frequency - 0.1).abs() < 1e-6, "{track:?}");
        // Of 30 points of unit variance, a second apart: n (n² - 1) / 12 is the spread of their times.
        let spread = 30.0 * 899.0 / 12.0;
        assert!((track.ff - 1.0 / spread).abs() < 1e-6, "{track:?}");
        assert!((track.xx - (1.0 / 30.0 + 14.5_f64.powi(2) / spread)).abs() < 1e-6, "{track:?}");
    }

    #[test]
    fn a_lean_is_found_and_costs_certainty() {
        let (leaning, upright) = (run(0.0, 100.0), run(0.0, 0.0));
        assert!((leaning.lean - 0.3).abs() < 1e-3 && (leaning.offset - 3.9).abs() < 1e-2, "{leaning:?}");
        assert!(leaning.xx > upright.xx);
    }

    #[test]
    fn wander_keeps_it_uncertain() {
        let (calm, restless) = (run(1e-6, 0.0), run(1e-2, 0.0));
        assert!(restless.xx > 2.0 * calm.xx && restless.ff > 10.0 * calm.ff);
        // What is expected of the next observation says so.
        assert!(restless.expect(&seen(0.0, 0.0)).variance > calm.expect(&seen(0.0, 0.0)).variance);
    }
}
