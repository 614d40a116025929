//! The time we believe in, and how the clock lies to it.

use crate::{
    sample::Shift,
    steer::{Applied, Steer},
    time::{ClockMap, NtpDuration, NtpTimestamp, Rate},
};

/// The engine's own timescale, carried as a straight line over the clock.
///
/// A correction moves the timescale at once; the clock follows later, by slewing or stepping. What the clock is told
/// moves only the line between the two, by exactly what was applied, so that a slew in progress, a rounded rate or a
/// refused command never look like an error of the sources. All samples and timestamps the engine keeps are readings
/// of this timescale.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    /// From the clock to the timescale.
    map: ClockMap,
    /// The rate the clock runs at now, relative to its oscillator.
    applied: Rate,
    /// Largest rate the oscillator may need.
    max_frequency: Rate,
}

impl Timeline {
    /// Starts at the clock's reading `clock`. The clock runs at `applied` relative to its oscillator, and is believed to
    /// need `natural`, now and later at most `max_frequency` either way.
    #[must_use]
    pub fn new(clock: NtpTimestamp, applied: Rate, natural: Rate, max_frequency: Rate) -> Self {
        let rate = relative(natural.clamp(max_frequency), applied);
        Self { map: ClockMap { since: clock, offset: NtpDuration::ZERO, rate }, applied, max_frequency }
    }

    /// The line from the clock to the timescale.
    #[must_use]
    pub const fn map(&self) -> ClockMap {
        self.map
    }

    /// The rate the clock runs at now, relative to its oscillator.
    #[must_use]
    pub const fn applied(&self) -> Rate {
        self.applied
    }

    /// The timescale's reading when the clock reads `clock`.
    #[must_use]
    pub fn at(&self, clock: NtpTimestamp) -> NtpTimestamp {
        self.map.apply(clock)
    }

    /// How far the clock is behind the timescale when it reads `clock`.
    #[must_use]
    pub fn pending(&self, clock: NtpTimestamp) -> NtpDuration {
        self.map.ahead(clock)
    }

    /// The rate relative to its oscillator at which the clock would keep up with the timescale.
    #[must_use]
    pub fn natural(&self) -> Rate {
        Rate::new((1.0 + self.map.rate.get()) * (1.0 + self.applied.get()) - 1.0)
    }

    /// Believes from now on in a time `offset` seconds ahead that gains `frequency` s/s more; `clock` is the clock's
    /// reading now. No oscillator is so bad as to need more than the largest frequency: what is above is left out. Returns
    /// what stored readings must be shifted by.
    pub fn correct(&mut self, clock: NtpTimestamp, offset: f64, frequency: f64) -> Shift {
        let natural = self.natural();
        let wanted = Rate::new((1.0 + natural.get()) * (1.0 + frequency) - 1.0).clamp(self.max_frequency);
        let shift = Shift { from: self.at(clock), offset, rate: relative(wanted, natural).get() };
        self.map = ClockMap {
            since: clock,
            offset: self.map.ahead(clock) + NtpDuration::from_seconds(offset),
            rate: relative(wanted, self.applied),
        };
        shift
    }

    /// Takes word of what the clock did; the timescale itself goes on as if nothing had happened.
    pub fn handle_applied(&mut self, applied: &Applied) {
        let offset = self.map.ahead(applied.at);
        match applied.command {
            Steer::Frequency(rate) => {
                let natural = self.natural();
                self.applied = rate;
                self.map = ClockMap { since: applied.at, offset, rate: relative(natural, rate) };
            }
            Steer::Step(by) => self.handle_jump(applied.at, by),
            Steer::Status(_) => {}
        }
    }

    /// Takes word of a leap second, in which the clock went by `by` when it read `at`: the timescale goes with it.
    pub fn handle_leap(&mut self, at: NtpTimestamp, by: NtpDuration) {
        self.map = ClockMap { since: at + by, offset: self.map.ahead(at), rate: self.map.rate };
    }

    /// Takes word that the clock jumped by `by` when it read `at`.
    pub fn handle_jump(&mut self, at: NtpTimestamp, by: NtpDuration) {
        self.map = ClockMap { since: at + by, offset: self.map.ahead(at) - by, rate: self.map.rate };
    }
}

/// How much faster a clock at `rate` runs than one at `base`, both relative to the same oscillator.
fn relative(rate: Rate, base: Rate) -> Rate {
    Rate::new((1.0 + rate.get()) / (1.0 + base.get()) - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Rate = Rate::from_ppm(500.0);

    fn at(seconds: f64) -> NtpTimestamp {
        NtpTimestamp::from_bits(4_000_000_000 << 32) + NtpDuration::from_seconds(seconds)
    }

    fn near(a: NtpTimestamp, b: NtpTimestamp) -> bool {
        (a - b).to_seconds().abs() < 2e-9
    }

    #[test]
    fn steering_the_clock_does_not_move_the_timescale() {
        let mut timeline = Timeline::new(at(0.0), Rate::from_ppm(10.0), Rate::from_ppm(10.0), MAX);
        timeline.correct(at(0.0), 0.5, 20e-6);
        assert!(near(timeline.at(at(0.0)), at(0.5)));
        let natural = timeline.natural();
        assert!((natural.to_ppm() - 30.0).abs() < 1e-3);

        timeline.handle_applied(&Applied { command: Steer::Frequency(natural), at: at(0.0) });
        assert!(near(timeline.at(at(1000.0)), at(1000.5)), "rate was taken over");

        let slewing = Rate::new(natural.get() + 500e-6);
        timeline.handle_applied(&Applied { command: Steer::Frequency(slewing), at: at(1000.0) });
        // The clock gains 500 ppm on the timescale: after 1000 s of the timescale it reads 0.5 s more than it would.
        assert!((timeline.at(at(2000.5)) - at(2000.5)).to_seconds().abs() < 1e-4);
        assert!(timeline.pending(at(2000.5)).to_seconds().abs() < 1e-4);

        timeline.handle_applied(&Applied { command: Steer::Frequency(natural), at: at(2000.5) });
        timeline.handle_applied(&Applied { command: Steer::Step(NtpDuration::from_seconds(-3.0)), at: at(2100.0) });
        assert!((timeline.at(at(2097.0)) - at(2100.0)).to_seconds().abs() < 1e-4);
    }

    #[test]
    fn no_oscillator_needs_more_than_the_largest_frequency() {
        let mut timeline = Timeline::new(at(0.0), Rate::ZERO, Rate::from_ppm(-9000.0), MAX);
        assert!((timeline.natural().to_ppm() + 500.0).abs() < 1e-6);
        let shift = timeline.correct(at(0.0), 0.0, 0.09);
        assert!((timeline.natural().to_ppm() - 500.0).abs() < 1e-6);
        assert!((shift.rate - 1000e-6).abs() < 1e-6, "readings move with the timescale, not with the wish");
    }

    #[test]
    fn a_refused_command_changes_nothing() {
        let mut timeline = Timeline::new(at(0.0), Rate::ZERO, Rate::ZERO, MAX);
        timeline.correct(at(0.0), 2.0, 5e-6);
        assert!(near(timeline.at(at(1e6)), at(1e6 + 7.0)));
    }
}
