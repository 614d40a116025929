//! The clock that the daemon keeps.

use clock_control::{Clock, ClockError, SimClock, SoftClock, SystemClock};
use ntp_proto::{
    engine::Now,
    steer::{Applied, Foreign, Steer},
    time::{ClockMap, Monotonic, NtpDuration, NtpTimestamp, Rate},
};

use crate::now;

/// One of the clocks that can be kept.
#[derive(Debug)]
pub enum LocalClock {
    /// The machine's own.
    System(SystemClock),
    /// A timescale in this process alone (`-x`).
    Soft(SoftClock),
    /// A made-up clock, for demonstrations.
    Simulated(Box<Simulated>),
}

/// A simulated clock that runs along with the machine's: that one stands for true time.
#[derive(Debug)]
pub struct Simulated {
    clock: SimClock,
    started: Monotonic,
}

impl Simulated {
    /// Starts a clock now; `make` gets the true time.
    #[must_use]
    pub fn start(make: impl FnOnce(NtpTimestamp) -> SimClock) -> Self {
        Self { clock: make(now::kernel()), started: now::monotonic() }
    }

    fn advance(&mut self) {
        let elapsed = now::monotonic().since(self.started);
        self.clock.advance_to(Monotonic::default() + elapsed);
    }

    /// How far the clock is ahead of true time now.
    pub fn true_error(&mut self) -> NtpDuration {
        self.advance();
        self.clock.true_error()
    }
}

impl LocalClock {
    /// The present by this clock.
    pub fn now(&mut self) -> Now {
        let map = self.from_kernel();
        Now { monotonic: now::monotonic(), clock: map.apply(now::kernel()) }
    }

    /// From the kernel's clock, in which packets are stamped, to this one.
    pub fn from_kernel(&mut self) -> ClockMap {
        match self {
            Self::System(clock) => clock.from_kernel(),
            Self::Soft(clock) => clock.from_kernel(),
            Self::Simulated(simulated) => {
                simulated.advance();
                simulated.clock.from_kernel()
            }
        }
    }

    /// Carries out one command.
    ///
    /// # Errors
    ///
    /// [`ClockError`] if nothing was done.
    pub fn steer(&mut self, command: Steer) -> Result<Applied, ClockError> {
        match self {
            Self::System(clock) => clock.steer(command),
            Self::Soft(clock) => clock.steer(command),
            Self::Simulated(simulated) => {
                simulated.advance();
                simulated.clock.steer(command)
            }
        }
    }

    /// The rate the clock runs at now, relative to its oscillator.
    #[must_use]
    pub fn rate(&self) -> Rate {
        match self {
            Self::System(clock) => clock.frequency().unwrap_or(Rate::ZERO),
            Self::Soft(_) | Self::Simulated(_) => Rate::ZERO,
        }
    }

    /// How other programs were found to steer the clock by the last command.
    pub fn take_foreign(&mut self) -> Vec<Foreign> {
        match self {
            Self::System(clock) => clock.take_foreign(),
            Self::Soft(_) | Self::Simulated(_) => Vec::new(),
        }
    }

    /// Whether steps of the kernel's clock are steps of this one.
    #[must_use]
    pub const fn follows_kernel(&self) -> bool {
        match self {
            Self::System(_) | Self::Soft(_) => true,
            Self::Simulated(_) => false,
        }
    }

    /// Whether it is the machine's own clock.
    #[must_use]
    pub const fn is_machines(&self) -> bool {
        match self {
            Self::System(_) => true,
            Self::Soft(_) | Self::Simulated(_) => false,
        }
    }

    /// How far the clock is from true time, which only a simulated one can know.
    pub fn true_error(&mut self) -> Option<NtpDuration> {
        match self {
            Self::System(_) | Self::Soft(_) => None,
            Self::Simulated(simulated) => Some(simulated.true_error()),
        }
    }
}
