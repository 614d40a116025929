//! What is asked of a clock, and what it did.
//!
//! [`Steer`] is the only message that crosses to whoever may set the clock; [`Applied`] comes back or that it was
//! refused, and [`Foreign`] if somebody else was found to steer, whose slews end with any command. A privileged helper needs no other.

use crate::{
    ids::Leap,
    time::{NtpDuration, NtpTimestamp, Rate},
};

/// A command to a clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Steer {
    /// From now on, gain this much on the undisciplined oscillator. Absolute, not relative to the last command.
    Frequency(Rate),
    /// Jump forward by this much (back, if negative).
    Step(NtpDuration),
    /// Tell the kernel's users how good the clock is.
    Status(ClockStatus),
}

/// What the kernel tells programs that ask about the clock (`ntp_adjtime`, `timedatectl`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockStatus {
    /// Whether the clock follows a source.
    pub synchronized: bool,
    /// Leap second to prepare for.
    pub leap: Leap,
    /// The largest error the clock can have: root dispersion and half the root delay.
    pub max_error: NtpDuration,
    /// The error it is expected to have.
    pub estimated_error: NtpDuration,
    /// TAI - UTC in seconds, where known.
    pub tai_offset: Option<i16>,
}

/// How another program was found to steer the clock. Its frequency lasts until the next of ours; whatever else it began is
/// ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Foreign {
    /// It had the clock run at this rate relative to its oscillator.
    Frequency(Rate),
    /// It called adjtime(3), of which so much was left.
    Slew(NtpDuration),
    /// It had the kernel's own loop on, which had so much left to make up for.
    Loop(NtpDuration),
}

/// A command that a clock carried out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Applied {
    /// What was done, which may be less than was asked: rates are limited and rounded.
    pub command: Steer,
    /// The clock's reading when it took effect, for a step the reading just before it.
    pub at: NtpTimestamp,
}
