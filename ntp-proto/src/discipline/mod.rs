//! From what the sources say together to commands for the clock.
//!
//! Three things are kept apart: the [`Timeline`], which is the time we believe in and never jumps because a clock was
//! slow to follow; the [`Controller`], which decides how far to believe a new estimate and how fast the clock is to
//! follow; and the rules for [steps](StepPolicy) and [leap seconds](LeapRule).

mod controller;
mod holdover;
mod leap;
mod leap_table;
mod step;
mod timeline;

pub use controller::{CORRECTION_TIME_RATIO, Controller, Correction, Discipline, MAX_UPDATE_SKEW};
pub use holdover::FrequencyHistory;
pub use leap::{LeapMode, LeapRule, LeapVote, is_leap_second};
pub use leap_table::{LeapTable, LeapTableFault};
pub use step::{Change, ChangeLimit, StepLimit, StepPolicy};
pub use timeline::Timeline;
