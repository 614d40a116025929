//! Another program that steers the clock too.

use super::{Engine, Notice, Now, Output, chance};
use crate::steer::{Applied, Foreign, Steer};

impl Engine {
    /// Takes word that another program steered the clock, since nobody knows when. If a frequency of its own is `still` in force,
    /// ours is set again. What the clock gained meanwhile only sources can tell: they are soon asked, though not each time if
    /// this goes on.
    pub fn handle_foreign(&mut self, now: Now, foreign: Foreign, still: bool) {
        self.outputs.push_back(Output::Notice(Notice::Foreign(foreign)));
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
