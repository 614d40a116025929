//! From measurements of one source to an estimate of its clock.
//!
//! [`Filter`] is the seam: the engine knows no more of a filter than this trait, and uses [`SourceFilter`].

use crate::{
    sample::{Sample, Shift},
    time::{NtpDuration, NtpTimestamp},
};

mod bank;
mod kalman;
mod routes;
mod tracker;
mod view;

pub(crate) use tracker::MAX_SAMPLES;
pub use tracker::Tracker;

/// Frequency error of a clock nothing is known about, s/s.
pub(crate) const UNKNOWN_SKEW: f64 = 2e-3;

/// The filter every source uses.
pub type SourceFilter = Tracker;

/// What the measurements of one source say about its clock, at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The moment, on the engine's timescale.
    pub at: NtpTimestamp,
    /// How far the source is ahead of the engine's timescale, in seconds.
    pub offset: f64,
    /// Standard deviation of that, in seconds.
    pub offset_deviation: f64,
    /// How much faster it runs, in s/s; 0 while unknown.
    pub frequency: f64,
    /// Bound on the error of that, in s/s (99.95 % if the measurements are as good as they look).
    pub skew: f64,
    /// Standard deviation of single measurements around the fit, in seconds.
    pub jitter: f64,
    /// Largest error of `offset` against the source's clock, in seconds.
    pub peer_distance: f64,
    /// The source's own distance from true time, in seconds: half its root delay, and its root dispersion.
    pub root_distance: f64,
    /// Root delay through this source, in seconds.
    pub root_delay: f64,
    /// Root dispersion through this source, in seconds.
    pub root_dispersion: f64,
    /// Stratum of the source.
    pub stratum: u8,
    /// Measurements the fit rests on.
    pub samples: usize,
    /// Changes of sign among the residuals, plus one.
    pub runs: usize,
    /// Time from the oldest of them to the newest, in seconds.
    pub span: f64,
    /// Time from the newest of them to `at`, in seconds.
    pub age: f64,
}

impl Estimate {
    /// Largest error against true time, in seconds, if the clock goes on as it is seen to.
    #[must_use]
    pub fn distance(&self) -> f64 {
        self.peer_distance + self.root_distance
    }

    /// Largest error against true time, in seconds, whatever the clock did since it could be seen last.
    #[must_use]
    pub fn bound(&self) -> f64 {
        0.5 * self.root_delay + self.root_dispersion
    }
}

/// What was known of the next measurement before it came: the poll interval and the delay test live on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Surprise {
    /// The measured offset less the predicted one, in seconds.
    pub error: f64,
    /// Standard deviation that was predicted for it, in seconds.
    pub deviation: f64,
    /// Standard deviation of a usual measurement, in seconds.
    pub jitter: f64,
    /// The delay less the smallest one in memory, in seconds.
    pub extra_delay: f64,
    /// Whether the packet alone may be the reason: none is off by more than half of what it took longer than its route takes at least,
    /// wherever it is usually held up.
    pub explained: bool,
    /// Samples in memory.
    pub samples: usize,
}

/// Deviations by which a measurement is off that nothing explains.
const SURPRISE: f64 = 3.5;

impl Surprise {
    /// Whether it was hardly the packet, so that the clock may have changed.
    #[must_use]
    pub fn is_great(&self) -> bool {
        self.error.abs() > SURPRISE * self.deviation && !self.explained
    }
}

/// Turns a stream of samples into estimates.
pub trait Filter: Default {
    /// Compares a sample to what was expected; `None` while nothing is expected.
    fn surprise(&self, sample: &Sample) -> Option<Surprise>;

    /// Seconds after which another measurement tells more than is believed without it, where this source and the others tell
    /// `redundancy` times as much together as this one alone (1 or more; the more, the longer); `None` without samples.
    fn worth_waiting(&self, redundancy: f64) -> Option<f64>;

    /// Takes one sample, newer than all before.
    fn handle_sample(&mut self, sample: Sample);

    /// Takes the newest sample in its exact version, or takes it back if there is none; then one that is newer than all
    /// before, if there is one. A filter without samples takes only the latter.
    fn refine_latest(&mut self, exact: Option<Sample>, next: Option<Sample>);

    /// Takes word that the engine's timescale changed: nothing is forgotten, everything stored is moved.
    fn handle_shift(&mut self, shift: &Shift);

    /// Takes word of a leap second: the engine's timescale and the source's went `by` ahead together.
    fn handle_leap(&mut self, by: NtpDuration);

    /// Forgets everything.
    fn reset(&mut self);

    /// Estimates the source's clock at `now`; `None` without samples.
    fn estimate(&self, now: NtpTimestamp) -> Option<Estimate>;

    /// The newest sample.
    fn latest(&self) -> Option<&Sample>;
}
