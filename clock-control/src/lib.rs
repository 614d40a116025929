//! Clocks that can be read and steered.
//!
//! A clock does what it is told ([`Steer`]) and says what it did ([`Applied`]); it decides nothing.

use std::fmt;

use ntp_proto::{
    steer::{Applied, Steer},
    time::{ClockMap, NtpTimestamp, Rate},
};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod origin;
mod precision;
#[cfg(target_os = "linux")]
pub mod refclock;
#[cfg(target_os = "linux")]
mod rtc;
mod sim;
mod soft;
#[cfg(target_os = "linux")]
mod stamping;
mod sys;

#[cfg(target_os = "linux")]
pub use linux::{SystemClock, permitted};
#[cfg(target_os = "linux")]
pub use origin::{clock_facts, distribution_epoch, hardware_clock};
pub use precision::measure_precision;
pub use sim::{FrequencyJump, Oscillator, SimClock, Temperature};
pub use soft::SoftClock;
#[cfg(target_os = "linux")]
pub use stamping::{NoStamps, RxFilter, stamp_packets};

/// The fastest or slowest that any of these clocks is made to run against its oscillator: what Linux allows.
pub const MAX_RATE: Rate = Rate::new(0.1);

/// A clock that can be read and steered.
pub trait Clock {
    /// Reads the clock.
    ///
    /// # Errors
    ///
    /// [`ClockError`] if the clock cannot be read at all.
    fn now(&self) -> Result<NtpTimestamp, ClockError>;

    /// Carries out one command. What was done may be less than was asked (rates are limited and rounded), and
    /// [`Applied`] says so.
    ///
    /// # Errors
    ///
    /// [`ClockError`] if nothing was done.
    fn steer(&mut self, command: Steer) -> Result<Applied, ClockError>;

    /// How to get this clock's time from the kernel's (`CLOCK_REALTIME`), in which packets are stamped. It holds until
    /// the next [`steer`](Self::steer).
    #[expect(clippy::wrong_self_convention, reason = "the map leads from the kernel's clock")]
    fn from_kernel(&self) -> ClockMap;
}

/// Why a clock did not do as it was told.
#[derive(Debug)]
pub enum ClockError {
    /// The operating system forbids it.
    NotPermitted,
    /// The command makes no sense for this clock.
    Invalid,
    /// The operating system refused for another reason.
    System(std::io::Error),
}

impl fmt::Display for ClockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPermitted => f.write_str("no permission to set the clock (needs CAP_SYS_TIME)"),
            Self::Invalid => f.write_str("command not valid for this clock"),
            Self::System(error) => write!(f, "system call failed: {error}"),
        }
    }
}

impl std::error::Error for ClockError {}
