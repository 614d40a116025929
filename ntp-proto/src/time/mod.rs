//! Time types. None of them can read a clock.
#![deny(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]

mod duration;
mod map;
mod monotonic;
mod poll;
mod rate;
mod timestamp;

pub use duration::{NtpDuration, NtpShort};
pub use map::ClockMap;
pub use monotonic::Monotonic;
pub use poll::PollInterval;
pub use rate::Rate;
pub use timestamp::{NtpTimestamp, UnixTime};
