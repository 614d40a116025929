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

    /// Largest error from `from` on, in seconds.
    #[must_use]
    pub fn max(&self, from: f64) -> f64 {
        self.after(from).map(|p| p.error.abs()).fold(0.0, f64::max)
    }

    /// Points from `from` on at which the error is larger than claimed.
    #[must_use]
    pub fn broken_bounds(&self, from: f64) -> usize {
        self.after(from).filter(|p| p.error.abs() > p.bound).count()
    }
}
