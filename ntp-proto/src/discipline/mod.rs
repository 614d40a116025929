//! From what the sources say together to commands for the clock.
//!
//! Three things are kept apart: the [`Timeline`], which is the time we believe in and never jumps because a clock was
//! slow to follow; the [`Controller`], which decides how far to believe a new estimate and how fast the clock is to
//! follow; and the rules for [steps](StepPolicy) and [leap seconds](LeapVote).

mod controller;
mod leap;
mod step;
mod timeline;

pub use controller::{Controller, Correction, Discipline};
pub use leap::{LeapVote, is_inserted_second};
pub use step::{StepLimit, StepPolicy};
pub use timeline::Timeline;
