//! The error of a clock over time.

/// The error of a clock at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Seconds since the world began.
    pub at: f64,
    /// How far the clock is ahead of true time, in seconds.
    pub error: f64,
    /// The error bound that the client claims, in seconds; infinite while it is not synchronized.
    pub bound: f64,
}

impl Point {
    /// Whether the error is larger than claimed. What is no number is never within a bound.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        !self.error.is_finite() || self.bound.is_nan() || self.error.abs() > self.bound
    }
}

/// The error of a clock over time, once a second.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// In order of time.
    pub points: Vec<Point>,
}

impl Trace {
    fn after(&self, from: f64) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(move |p| p.at >= from)
    }

    /// Root mean square of the error from `from` on, in seconds.
    #[must_use]
    pub fn rms(&self, from: f64) -> f64 {
        let (sum, count) = self.after(from).fold((0.0, 0.0), |(sum, count), p| (sum + p.error * p.error, count + 1.0));
        if count > 0.0 { f64::sqrt(sum / count) } else { f64::NAN }
    }

    /// Largest error from `from` on, in seconds; infinite if one is no number.
    #[must_use]
    pub fn max(&self, from: f64) -> f64 {
        self.after(from).map(|p| if p.error.is_nan() { f64::INFINITY } else { p.error.abs() }).fold(0.0, f64::max)
    }

    /// Points from `from` on at which the error is larger than claimed.
    #[must_use]
    pub fn broken_bounds(&self, from: f64) -> usize {
        self.after(from).filter(|p| p.is_broken()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_worse_than_claimed() {
        for (error, bound, is_broken) in [
            (0.5, 1.0, false),
            (-1.0, 1.0, false),
            (1.5, 1.0, true),
            (0.5, f64::INFINITY, false),
            (f64::NAN, 1.0, true),
            (f64::NAN, f64::INFINITY, true),
            (f64::INFINITY, f64::INFINITY, true),
            (0.5, f64::NAN, true),
        ] {
            let trace = Trace { points: vec![Point { at: 0.0, error, bound }] };
            assert_eq!(trace.broken_bounds(0.0) == 1, is_broken, "{error} {bound}");
            assert!(!trace.max(0.0).is_nan() && (trace.max(0.0) > 2.0) != error.is_finite(), "{error}");
        }
    }
}
