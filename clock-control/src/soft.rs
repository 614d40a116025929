//! A clock that exists only in this process.

use ntp_proto::{
    steer::{Applied, Steer},
    time::{ClockMap, NtpDuration, NtpTimestamp},
};

use crate::{Clock, ClockError, MAX_RATE, sys};

/// A timescale kept over the kernel's clock, for running without touching that (`ntpd -x`).
///
/// The kernel's clock is its oscillator: a change that somebody else makes to the kernel's clock appears here as an
/// error of that oscillator, and is corrected like one.
#[derive(Clone, Debug, Default)]
pub struct SoftClock {
    from_kernel: ClockMap,
}

impl SoftClock {
    /// Starts as a copy of the kernel's clock.
    #[must_use]
    pub const fn new() -> Self {
        Self { from_kernel: ClockMap::IDENTITY }
    }

    /// Carries out a command at the moment when the kernel's clock reads `kernel`.
    ///
    /// # Errors
    ///
    /// [`ClockError::Invalid`] for a rate that is not a number.
    pub fn steer_at(&mut self, kernel: NtpTimestamp, command: Steer) -> Result<Applied, ClockError> {
        let at = self.from_kernel.apply(kernel);
        let ahead = self.from_kernel.ahead(kernel);
        let (jump, rate, command) = match command {
            Steer::Frequency(rate) if !rate.get().is_finite() => return Err(ClockError::Invalid),
            Steer::Frequency(rate) => {
                let rate = rate.clamp(MAX_RATE);
                (NtpDuration::ZERO, rate, Steer::Frequency(rate))
            }
            Steer::Step(step) => (step, self.from_kernel.rate, command),
            // There are no other programs to tell.
            Steer::Status(_) => return Ok(Applied { command, at }),
        };
        self.from_kernel = ClockMap { since: kernel, offset: ahead + jump, rate };
        Ok(Applied { command, at })
    }
}

impl Clock for SoftClock {
    fn now(&self) -> Result<NtpTimestamp, ClockError> {
        Ok(self.from_kernel.apply(sys::realtime().map_err(ClockError::System)?))
    }

    fn steer(&mut self, command: Steer) -> Result<Applied, ClockError> {
        let kernel = sys::realtime().map_err(ClockError::System)?;
        self.steer_at(kernel, command)
    }

    fn from_kernel(&self) -> ClockMap {
        self.from_kernel
    }
}

#[cfg(test)]
mod tests {
    use ntp_proto::time::Rate;
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: f64) -> NtpTimestamp {
        NtpTimestamp::from_bits(0xffff_fff0_0000_0000) + NtpDuration::from_seconds(seconds)
    }

    #[test]
    fn a_new_clock_is_the_kernels() {
        assert_eq!(SoftClock::new().from_kernel(), ClockMap::IDENTITY);
        let clock = SoftClock::new();
        let kernel = sys::realtime().unwrap();
        assert!((clock.now().unwrap() - kernel).to_seconds().abs() < 60.0);
    }

    #[test]
    fn a_frequency_bends_the_line_and_a_step_breaks_it() {
        let mut clock = SoftClock::new();
        let applied = clock.steer_at(at(0.0), Steer::Frequency(Rate::from_ppm(100.0))).unwrap();
        assert_eq!(applied.at, at(0.0));
        let ahead = |clock: &SoftClock, seconds| clock.from_kernel().ahead(at(seconds)).to_seconds();
        // Across the end of an era as well (16 s on).
        assert!((ahead(&clock, 1_000.0) - 0.1).abs() < 1e-9);
        let applied = clock.steer_at(at(1_000.0), Steer::Step(NtpDuration::from_seconds(-2.0))).unwrap();
        assert!(((applied.at - at(1_000.0)).to_seconds() - 0.1).abs() < 1e-9, "just before the step");
        assert!((ahead(&clock, 1_000.0) + 1.9).abs() < 1e-9);
        assert!((ahead(&clock, 2_000.0) + 1.8).abs() < 1e-9, "the rate outlives the step");
    }

    #[test]
    fn impossible_rates_are_limited_or_refused() {
        let mut clock = SoftClock::new();
        let applied = clock.steer_at(at(0.0), Steer::Frequency(Rate::new(3.0))).unwrap();
        assert_eq!(applied.command, Steer::Frequency(MAX_RATE));
        let nonsense = clock.steer_at(at(0.0), Steer::Frequency(Rate::new(f64::NAN)));
        assert!(matches!(nonsense, Err(ClockError::Invalid)));
        assert_eq!(clock.from_kernel().rate, MAX_RATE, "nothing was done");
    }

    proptest! {
        #[test]
        fn no_sequence_of_rates_makes_a_jump(rates in prop::collection::vec(-1e5..1e5_f64, 1..20), gap in 1.0..5_000.0_f64) {
            let mut clock = SoftClock::new();
            let mut now = 0.0;
            for ppm in rates {
                let before = clock.from_kernel().apply(at(now));
                clock.steer_at(at(now), Steer::Frequency(Rate::from_ppm(ppm))).unwrap();
                prop_assert_eq!(clock.from_kernel().apply(at(now)), before);
                now += gap;
            }
        }
    }
}
