//! Another program that steers the clock too.

use super::{Engine, Notice, Now, Output, chance, update::STATUS_INTERVAL};
use crate::{
    steer::{Applied, Foreign, Steer},
    time::NtpDuration,
};

/// How fast the kernel moves the clock for adjtime(3), s/s, and the largest frequency that its own loop takes (adjtimex(2)).
const FASTEST: f64 = 5e-4;
/// Largest offset that this loop takes, in seconds (adjtimex(2)). It may have made up for all of it within a few.
const LARGEST_OFFSET: f64 = 0.5;

impl Engine {
    /// Takes word that another program steered the clock, since nobody knows when. If a frequency of its own is `still` in force,
    /// ours is set again. What the clock gained since our last command only sources can tell: they are soon asked, though not each
    /// time if this goes on, and until then it may be off by that.
    pub fn handle_foreign(&mut self, now: Now, foreign: Foreign, still: bool) {
        self.outputs.push_back(Output::Notice(Notice::Foreign(foreign)));
        let (rate, offset) = match foreign {
            Foreign::Frequency(rate) => (self.timeline.applied().get() - rate.get(), 0.0),
            Foreign::Slew(_) => (FASTEST, 0.0),
            Foreign::Loop(_) => (FASTEST, LARGEST_OFFSET),
        };
        let unseen = offset + rate.abs() * STATUS_INTERVAL.as_secs_f64();
        self.status.root_dispersion = self.status.root_dispersion + NtpDuration::from_seconds(unseen);
        if let (Foreign::Frequency(rate), true) = (foreign, still) {
            self.timeline.handle_applied(&Applied { command: Steer::Frequency(rate), at: now.clock });
            if self.held {
                self.outputs.push_back(Output::Steer(Steer::Frequency(self.timeline.natural())));
            } else {
                self.slew(now);
            }
        }
        for source in self.sources.values_mut() {
            source.recheck(now.monotonic, chance(&mut self.rng));
        }
    }
}
