//! A clock that never existed.

use std::{f64::consts::TAU, time::Duration};

use ntp_proto::{
    steer::{Applied, ClockStatus, Steer},
    time::{ClockMap, Monotonic, NtpDuration, NtpTimestamp, Rate},
};

use crate::{Clock, ClockError, MAX_RATE};

/// The random walk of an oscillator's frequency has a node this often, in seconds; between two it is a straight line.
const NODE_SPACING_SECONDS: f64 = 1.0;

/// [`NODE_SPACING_SECONDS`] in nanoseconds.
const NODE_SPACING_NANOS: u64 = 1_000_000_000;

/// The frequency word of Linux counts 2^-16 ppm.
const KERNEL_RESOLUTION: f64 = 1e-6 / 65_536.0;

/// How an oscillator is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Oscillator {
    /// Constant error: positive gains.
    pub frequency: Rate,
    /// Random walk of the frequency: standard deviation of the change within one second.
    pub wander: Rate,
    /// Slow cycle around the constant error.
    pub temperature: Option<Temperature>,
    /// A faster cycle on top, as of a heater or a fan.
    pub draught: Option<Temperature>,
    /// The frequency changes once and stays so, as when a machine gets to work or is moved.
    pub jump: Option<FrequencyJump>,
}

/// A sudden change of frequency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrequencyJump {
    /// When, after the start.
    pub at: Duration,
    /// By how much.
    pub by: Rate,
}

impl FrequencyJump {
    fn rate(&self, seconds: f64) -> f64 {
        if seconds < self.at.as_secs_f64() { 0.0 } else { self.by.get() }
    }

    /// Seconds gained between two times.
    fn gained(&self, from: f64, to: f64) -> f64 {
        self.by.get() * (to.max(self.at.as_secs_f64()) - from.max(self.at.as_secs_f64()))
    }
}

impl Oscillator {
    fn cycles(&self) -> impl Iterator<Item = Temperature> {
        self.temperature.into_iter().chain(self.draught)
    }
}

/// A frequency error that follows a sine, as the temperature of a room does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// Largest deviation.
    pub amplitude: Rate,
    /// One whole cycle, longer than nothing.
    pub period: Duration,
    /// Where in the cycle the clock starts, in turns: 0 rising through the middle, 0.25 at the top.
    pub turns: f64,
}

impl Temperature {
    fn angle(&self, seconds: f64) -> f64 {
        TAU * (seconds / self.period.as_secs_f64() + self.turns)
    }

    fn rate(&self, seconds: f64) -> f64 {
        self.amplitude.get() * self.angle(seconds).sin()
    }

    /// Seconds gained between two times.
    fn gained(&self, from: f64, to: f64) -> f64 {
        let per_radian = self.amplitude.get() * self.period.as_secs_f64() / TAU;
        per_radian * (self.angle(from).cos() - self.angle(to).cos())
    }
}

/// A random walk that is the same for the same seed, however often it is looked at.
#[derive(Clone, Debug)]
struct Walk {
    seed: u64,
    step: f64,
    node: u64,
    /// Values at this node and the next.
    value: f64,
    next: f64,
}

impl Walk {
    fn new(seed: u64, step: f64) -> Self {
        let next = if step == 0.0 { 0.0 } else { step * gaussian(seed, 0) };
        Self { seed, step, node: 0, value: 0.0, next }
    }

    fn at(&self, seconds_into_node: f64) -> f64 {
        self.value + (self.next - self.value) * seconds_into_node / NODE_SPACING_SECONDS
    }

    /// Moves on to `to` and returns the integral of the walk since `from`, both in nanoseconds.
    fn advance(&mut self, from: u64, to: u64) -> f64 {
        if self.step == 0.0 {
            return 0.0;
        }
        let mut integral = 0.0;
        let mut now = from;
        while now < to {
            let node_end = (self.node + 1) * NODE_SPACING_NANOS;
            let until = to.min(node_end);
            let (a, b) = (self.past_node(now), self.past_node(until));
            integral += (self.at(a) + self.at(b)) / 2.0 * (b - a);
            now = until;
            if now == node_end {
                self.node += 1;
                self.value = self.next;
                self.next += self.step * gaussian(self.seed, self.node);
            }
        }
        integral
    }

    fn past_node(&self, nanos: u64) -> f64 {
        seconds(nanos - self.node * NODE_SPACING_NANOS)
    }
}

/// A simulated clock: an imperfect oscillator behind the same controls as a real clock.
///
/// True time is the caller's: first [`advance_to`](Self::advance_to), then read or steer. The error does not depend
/// on how many such calls there are, so two runs with one seed agree however they are observed. A call costs one step
/// per simulated second if the oscillator wanders, and nothing otherwise.
///
/// For [`from_kernel`](Clock::from_kernel), true time stands in for the kernel's clock. The oscillator goes on changing
/// its frequency between commands, so fetch the map again after advancing.
#[derive(Clone, Debug)]
pub struct SimClock {
    oscillator: Oscillator,
    walk: Walk,
    origin: NtpTimestamp,
    now: Monotonic,
    /// What was wrong at the start, and all steps.
    stepped: NtpDuration,
    /// What the oscillator and its steering have gained since, in seconds.
    gained: f64,
    rate: Rate,
    kernel_resolution: bool,
    status: Option<ClockStatus>,
}

impl SimClock {
    /// Makes a clock that is ahead by `offset` at true time zero, when a true clock would read `origin`.
    #[must_use]
    pub fn new(oscillator: Oscillator, seed: u64, origin: NtpTimestamp, offset: NtpDuration) -> Self {
        Self {
            oscillator,
            walk: Walk::new(seed, oscillator.wander.get()),
            origin,
            now: Monotonic::default(),
            stepped: offset,
            gained: 0.0,
            rate: Rate::ZERO,
            kernel_resolution: false,
            status: None,
        }
    }

    /// Rounds rates as Linux does, to 2^-16 ppm.
    #[must_use]
    pub const fn with_kernel_resolution(mut self) -> Self {
        self.kernel_resolution = true;
        self
    }

    /// Lets true time, counted from zero, pass; an earlier time than the last is ignored.
    pub fn advance_to(&mut self, now: Monotonic) {
        let (from, to) = (self.now.to_nanos(), now.to_nanos());
        if to <= from {
            return;
        }
        let span = seconds(to - from);
        let (start, end) = (seconds(from), seconds(to));
        let cycles: f64 = self.oscillator.cycles().map(|cycle| cycle.gained(start, end)).sum();
        let jump = self.oscillator.jump.map_or(0.0, |jump| jump.gained(start, end));
        let own = self.oscillator.frequency.get() * span + self.walk.advance(from, to) + cycles + jump;
        let steering = self.rate.get();
        // Steering multiplies what the oscillator delivers.
        self.gained += own * (1.0 + steering) + steering * span;
        self.now = now;
    }

    /// The oscillator runs faster by this much from now on.
    pub fn bend(&mut self, by: Rate) {
        self.oscillator.frequency = Rate::new(self.oscillator.frequency.get() + by.get());
    }

    /// What a true clock reads now.
    #[must_use]
    pub fn true_time(&self) -> NtpTimestamp {
        self.origin + NtpDuration::from_nanos(i64::try_from(self.now.to_nanos()).unwrap_or(i64::MAX))
    }

    /// How far this clock is ahead of true time now.
    #[must_use]
    pub fn true_error(&self) -> NtpDuration {
        self.stepped + NtpDuration::from_seconds(self.gained)
    }

    /// How fast this clock gains on true time now, steering included.
    #[must_use]
    pub fn true_rate(&self) -> Rate {
        let own = self.oscillator_rate().get();
        Rate::new(own + self.rate.get() * (1.0 + own))
    }

    /// How fast the oscillator alone gains on true time now.
    #[must_use]
    pub fn oscillator_rate(&self) -> Rate {
        let nanos = self.now.to_nanos();
        let walk = self.walk.at(self.walk.past_node(nanos).min(NODE_SPACING_SECONDS));
        let cycles: f64 = self.oscillator.cycles().map(|cycle| cycle.rate(seconds(nanos))).sum();
        let jump = self.oscillator.jump.map_or(0.0, |jump| jump.rate(seconds(nanos)));
        Rate::new(self.oscillator.frequency.get() + walk + cycles + jump)
    }

    /// The last status told to this clock.
    #[must_use]
    pub const fn status(&self) -> Option<ClockStatus> {
        self.status
    }

    fn read(&self) -> NtpTimestamp {
        self.true_time() + self.true_error()
    }
}

impl Clock for SimClock {
    fn now(&self) -> Result<NtpTimestamp, ClockError> {
        Ok(self.read())
    }

    fn steer(&mut self, command: Steer) -> Result<Applied, ClockError> {
        let at = self.read();
        let command = match command {
            Steer::Frequency(rate) if !rate.get().is_finite() => return Err(ClockError::Invalid),
            Steer::Frequency(rate) => {
                let limited = rate.clamp(MAX_RATE).get();
                let step = KERNEL_RESOLUTION;
                self.rate = Rate::new(if self.kernel_resolution { (limited / step).round() * step } else { limited });
                Steer::Frequency(self.rate)
            }
            Steer::Step(step) => {
                self.stepped = self.stepped + step;
                command
            }
            Steer::Status(status) => {
                self.status = Some(status);
                command
            }
        };
        Ok(Applied { command, at })
    }

    fn from_kernel(&self) -> ClockMap {
        ClockMap { since: self.true_time(), offset: self.true_error(), rate: self.true_rate() }
    }
}

fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

/// A number with the standard normal distribution that belongs to `index` (Box and Muller's transform).
fn gaussian(seed: u64, index: u64) -> f64 {
    let stream = mix(seed) ^ mix(index.wrapping_mul(2));
    let (u, v) = (unit(mix(stream)), unit(mix(stream ^ mix(index.wrapping_mul(2).wrapping_add(1)))));
    (-2.0 * u.ln()).sqrt() * (TAU * v).cos()
}

/// The output function of SplitMix64 (Steele, Lea, Flood 2014).
const fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number above 0 and up to 1.
fn unit(bits: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double")]
    let numerator = ((bits >> 11) + 1) as f64;
    numerator / 9_007_199_254_740_992.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORIGIN: NtpTimestamp = NtpTimestamp::from_bits(0xee00_0000_0000_0000);

    const REAL: Oscillator = Oscillator {
        frequency: Rate::from_ppm(40.0),
        wander: Rate::from_ppm(0.001),
        temperature: Some(Temperature { amplitude: Rate::from_ppm(0.2), period: Duration::from_secs(600), turns: 0.1 }),
        draught: Some(Temperature { amplitude: Rate::from_ppm(0.1), period: Duration::from_secs(70), turns: 0.6 }),
        jump: Some(FrequencyJump { at: Duration::from_secs(100), by: Rate::from_ppm(-3.0) }),
    };

    fn at(seconds: f64) -> Monotonic {
        Monotonic::from_nanos(NtpDuration::from_seconds(seconds).to_nanos().unsigned_abs())
    }

    fn clock(oscillator: Oscillator, offset: f64) -> SimClock {
        SimClock::new(oscillator, 7, ORIGIN, NtpDuration::from_seconds(offset))
    }

    #[test]
    fn a_fast_clock_gains_and_steering_stops_it() {
        let mut clock = clock(Oscillator { frequency: Rate::from_ppm(40.0), ..Oscillator::default() }, 2.5);
        clock.advance_to(at(1_000.0));
        assert!((clock.true_error().to_seconds() - 2.54).abs() < 1e-9);
        // The rate that cancels a factor of 1 + y is 1 / (1 + y) - 1.
        clock.steer(Steer::Frequency(Rate::new(1.0 / (1.0 + 40e-6) - 1.0))).unwrap();
        clock.steer(Steer::Step(NtpDuration::from_seconds(-2.54))).unwrap();
        clock.advance_to(at(100_000.0));
        assert!(clock.true_error().to_seconds().abs() < 1e-8, "{:?}", clock.true_error());
        assert!(clock.true_rate().get().abs() < 1e-15);
        assert_eq!(clock.now().unwrap() - clock.true_time(), clock.true_error());
    }

    #[test]
    fn the_sine_sums_to_nothing_over_a_whole_cycle() {
        let temperature = Temperature { amplitude: Rate::from_ppm(1.0), period: Duration::from_secs(400), turns: 0.0 };
        let mut clock = clock(Oscillator { temperature: Some(temperature), ..Oscillator::default() }, 0.0);
        clock.advance_to(at(100.0));
        assert!((clock.true_rate().to_ppm() - 1.0).abs() < 1e-9, "a quarter in, at the top");
        clock.advance_to(at(200.0));
        // Half a sine of 1 ppm over 200 s: 2 / pi of the maximum on average.
        assert!((clock.true_error().to_seconds() - 200e-6 * 2.0 / std::f64::consts::PI).abs() < 1e-9);
        clock.advance_to(at(400.0));
        assert!(clock.true_error().to_seconds().abs() < 1e-9);
    }

    #[test]
    fn the_walk_spreads_as_a_random_walk_does() {
        let spread = |seconds: f64| {
            let squares: f64 = (0..400)
                .map(|seed| {
                    let wander = Oscillator { wander: Rate::new(1e-9), ..Oscillator::default() };
                    let mut clock = SimClock::new(wander, seed, ORIGIN, NtpDuration::ZERO);
                    clock.advance_to(at(seconds));
                    clock.oscillator_rate().get().powi(2)
                })
                .sum();
            (squares / 400.0).sqrt()
        };
        let (short, long) = (spread(25.0), spread(400.0));
        assert!((4e-9..6e-9).contains(&short), "{short}");
        assert!((16e-9..24e-9).contains(&long), "{long}");
    }

    #[test]
    fn kernel_resolution_is_reported() {
        let mut clock = clock(REAL, 0.0).with_kernel_resolution();
        let Steer::Frequency(rate) = clock.steer(Steer::Frequency(Rate::from_ppm(1e-5))).unwrap().command else {
            panic!("another command")
        };
        assert!((rate.to_ppm() - 1.0 / 65_536.0).abs() < 1e-12);
        let Steer::Frequency(rate) = clock.steer(Steer::Frequency(Rate::new(-1.0))).unwrap().command else {
            panic!("another command")
        };
        assert!((rate + MAX_RATE).get().abs() < KERNEL_RESOLUTION / 2.0, "{rate:?}");
        assert!(matches!(clock.steer(Steer::Frequency(Rate::new(f64::NAN))), Err(ClockError::Invalid)));
    }

    #[test]
    fn the_map_from_true_time_follows_the_clock_closely() {
        let mut clock = clock(REAL, -1.0);
        clock.advance_to(at(1_234.5));
        clock.steer(Steer::Frequency(Rate::from_ppm(-300.0))).unwrap();
        let map = clock.from_kernel();
        assert_eq!(map.apply(clock.true_time()), clock.now().unwrap());
        clock.advance_to(at(1_244.5));
        let apart = map.apply(clock.true_time()) - clock.now().unwrap();
        assert!(apart.to_seconds().abs() < 1e-7, "{apart:?}");
    }

    #[test]
    fn time_does_not_run_backwards() {
        let mut clock = clock(REAL, 0.0);
        clock.advance_to(at(10.0));
        let before = clock.now().unwrap();
        clock.advance_to(at(9.0));
        assert_eq!(clock.now().unwrap(), before);
    }

    proptest! {
        #[test]
        fn the_error_does_not_depend_on_how_often_it_is_looked_at(
            seed: u64,
            mut looks in prop::collection::vec(0.0..300.0_f64, 0..40),
        ) {
            let mut once = SimClock::new(REAL, seed, ORIGIN, NtpDuration::ZERO);
            let mut often = once.clone();
            looks.sort_by(f64::total_cmp);
            for look in looks {
                often.advance_to(at(look));
            }
            once.advance_to(at(300.0));
            often.advance_to(at(300.0));
            let apart = once.true_error() - often.true_error();
            prop_assert!(apart.to_seconds().abs() < 1e-9, "{:?}", apart);
            prop_assert_eq!(once.oscillator_rate(), often.oscillator_rate());
        }
    }
}
