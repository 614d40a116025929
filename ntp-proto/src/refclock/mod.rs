//! Reference clocks: from what a device says to samples.
//!
//! A device is read by somebody else, who hands in [`Reading`]s. Here it is decided which of them count, which second a
//! pulse begins, and what a poll interval full of them says together.

use arrayvec::ArrayVec;

use crate::{
    ids::{Leap, ReferenceId, Trust},
    sample::{Sample, Shift},
    select::SelectOptions,
    source::{Authentication, Bursts, Refusal, SampleRules, SourceConfig},
    time::{NtpDuration, NtpTimestamp, PollInterval},
};

mod condense;
#[cfg(test)]
mod tests;

use condense::condense;

/// Most readings that are kept for one sample.
pub const MAX_READINGS: usize = 64;

/// Share of the time between two pulses that a pulse may be away from where it is expected. Beyond it the second that it
/// begins may be another one.
const AMBIGUOUS: f64 = 0.4;

/// Readings may come late by so many seconds, beside twice the time between two looks at the device.
const MAX_LATENESS: f64 = 1.5;

/// Least delay, in seconds: none is ever nothing.
const MIN_DELAY: f64 = 1e-9;

/// A reading from the future is wrong, but for what clocks differ by while one of them is read, in seconds.
const MAX_EARLINESS: f64 = 0.1;

/// One reading of a reference clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// What the clock that is steered read at that moment.
    pub at: NtpTimestamp,
    /// What the reference clock said. Of a pulse only the part below the time between two pulses counts.
    pub reference: NtpTimestamp,
    /// Whether it says no more than that a second began: which one has to be known from elsewhere.
    pub is_pulse: bool,
    /// Largest error of the comparison, in seconds, 0 if it is not known to be any.
    pub error: f64,
    /// What the reference clock says of leap seconds; [`Leap::Unsynchronized`] if it has no time.
    pub leap: Leap,
}

/// What is known of a reference clock beforehand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RefclockConfig {
    /// Up to four letters, zero-padded (RFC 5905 section 7.3).
    pub reference_id: ReferenceId,
    /// Time between two samples.
    pub poll: PollInterval,
    /// Time between two looks at the device.
    pub driver_poll: PollInterval,
    /// Its stratum, 0 to 15; a machine that follows it has one more.
    pub stratum: u8,
    /// Added to all that it says, in seconds.
    pub correction: f64,
    /// Time from true time to it and back, in seconds: its error bound, twice.
    pub delay: f64,
    /// How finely readings can be compared with this machine's clock, in seconds; the precision of that if `None`.
    pub precision: Option<f64>,
    /// Samples with a larger dispersion are refused, in seconds.
    pub max_dispersion: f64,
    /// Newest readings that make up a sample, 1 to [`MAX_READINGS`].
    pub readings: usize,
    /// All its readings are pulses, whatever they claim to be.
    pub pulses: bool,
    /// Pulses in a second.
    pub rate: f64,
    /// The reference clock that says which second a pulse begins; the clock that is steered does, if `None`.
    pub lock: Option<ReferenceId>,
    /// Pulses ago that this may have been, at most.
    pub max_lock_age: f64,
    /// Its time is TAI, which knows no leap seconds.
    pub tai: bool,
    /// How it may be used.
    pub options: SelectOptions,
    /// Fewest samples that its filter goes by, and most that are kept.
    pub samples: (usize, usize),
}

impl Default for RefclockConfig {
    /// The defaults of chronyd.
    fn default() -> Self {
        let poll = |log2| PollInterval::new(log2).unwrap_or(PollInterval::MIN);
        let rules = SampleRules::default();
        Self {
            reference_id: ReferenceId::default(),
            poll: poll(4),
            driver_poll: poll(0),
            stratum: 0,
            correction: 0.0,
            delay: 1e-9,
            precision: None,
            max_dispersion: f64::INFINITY,
            readings: MAX_READINGS,
            pulses: false,
            rate: 1.0,
            lock: None,
            max_lock_age: 2.0,
            tai: false,
            options: SelectOptions::default(),
            samples: (rules.min_samples, rules.max_samples),
        }
    }
}

impl RefclockConfig {
    /// The source that it is among the others. Nobody on a network can speak in its name.
    pub(crate) fn source(&self) -> SourceConfig {
        let (min_samples, max_samples) = self.samples;
        SourceConfig {
            reference_id: self.reference_id,
            min_poll: self.poll,
            max_poll: self.poll,
            bursts: Bursts::Never,
            interleaved: false,
            version: 4,
            authentication: Authentication::None,
            trust: Trust::Local,
            options: self.options,
            rules: SampleRules { min_samples, max_samples, ..SampleRules::default() },
        }
    }
}

/// What tells which second a pulse begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Numbering {
    /// Nothing does.
    Unknown,
    /// The clock that is steered, which may be wrong by `error` seconds.
    Clock { error: f64, leap: Leap },
    /// A reading of the reference clock that the pulses are locked to.
    Lock(Comparison),
}

/// A reading that counts, as it compares with the engine's timescale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Comparison {
    /// When, on that timescale.
    pub(crate) at: NtpTimestamp,
    /// How far the reference clock was ahead, in seconds.
    pub(crate) offset: f64,
    /// Largest error of the comparison, in seconds.
    pub(crate) error: f64,
    /// What was said of leap seconds.
    pub(crate) leap: Leap,
}

/// A reading on its way to a comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    /// The present, on the engine's timescale.
    pub(crate) now: NtpTimestamp,
    /// When it was taken, on that timescale.
    pub(crate) at: NtpTimestamp,
    /// What it says, as UTC.
    pub(crate) reference: NtpTimestamp,
    /// What tells which second a pulse begins.
    pub(crate) numbering: Numbering,
}

/// What a poll interval full of readings comes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Polled {
    pub(crate) sample: Sample,
    pub(crate) leap: Leap,
}

/// A reference clock among the sources.
#[derive(Debug)]
pub struct Refclock {
    config: RefclockConfig,
    /// Resolution of a comparison, in seconds.
    precision: f64,
    comparisons: ArrayVec<Comparison, MAX_READINGS>,
    /// The newest that counted, for pulses that are locked to it.
    latest: Option<Comparison>,
}

impl Refclock {
    /// Starts without readings; `clock_precision` is that of the clock that is steered, in seconds.
    pub(crate) fn new(config: RefclockConfig, clock_precision: f64) -> Self {
        let precision = config.precision.unwrap_or(clock_precision);
        Self { config, precision, comparisons: ArrayVec::new(), latest: None }
    }

    /// What is known of it beforehand.
    #[must_use]
    pub const fn config(&self) -> &RefclockConfig {
        &self.config
    }

    /// Resolution of its readings, in seconds.
    #[must_use]
    pub const fn precision(&self) -> f64 {
        self.precision
    }

    /// The newest reading that counted.
    pub(crate) const fn latest(&self) -> Option<Comparison> {
        self.latest
    }

    /// Takes a reading.
    pub(crate) fn handle_reading(&mut self, reading: &Reading, arrived: &Arrived) -> Result<(), Refusal> {
        if reading.leap == Leap::Unsynchronized {
            return Err(Refusal::Unsynchronized);
        }
        let age = (arrived.now - arrived.at).to_seconds();
        let oldest = MAX_LATENESS + 2.0 * self.config.driver_poll.to_seconds();
        let is_newer = self.latest.is_none_or(|latest| (arrived.at - latest.at).to_bits() > 0);
        if !is_newer || !(-MAX_EARLINESS..=oldest).contains(&age) {
            return Err(Refusal::Stale);
        }
        let offset = (arrived.reference - arrived.at).to_seconds() + self.config.correction;
        let (offset, leap) = if reading.is_pulse || self.config.pulses {
            self.number(arrived.at, offset, &arrived.numbering)?
        } else {
            (offset, reading.leap)
        };
        let error = reading.error.max(0.0) + self.precision;
        let comparison = Comparison { at: arrived.at, offset, error, leap };
        self.latest = Some(comparison);
        while self.comparisons.len() >= self.config.readings.clamp(1, MAX_READINGS) {
            self.comparisons.remove(0);
        }
        self.comparisons.push(comparison);
        Ok(())
    }

    /// Finds out which second a pulse begins: of those that it may begin, the one that is nearest to what is expected.
    fn number(&self, at: NtpTimestamp, offset: f64, numbering: &Numbering) -> Result<(f64, Leap), Refusal> {
        let period = 1.0 / self.config.rate;
        let (expected, leap) = match *numbering {
            Numbering::Unknown => return Err(Refusal::Unnumbered),
            // A clock that may be wrong by half of the time between two pulses cannot tell them apart.
            Numbering::Clock { error, .. } if error >= 0.5 * period => return Err(Refusal::Unnumbered),
            Numbering::Clock { leap, .. } => (0.0, leap),
            Numbering::Lock(other) => {
                let age = (at - other.at).to_seconds().abs();
                if age > self.config.max_lock_age * period {
                    return Err(Refusal::Unnumbered);
                }
                (other.offset, other.leap)
            }
        };
        let offset = offset + ((expected - offset) / period).round() * period;
        if (offset - expected).abs() > AMBIGUOUS * period {
            return Err(Refusal::Ambiguous);
        }
        Ok((offset, leap))
    }

    /// Makes a sample of the readings since the last one.
    pub(crate) fn poll(&mut self) -> Option<Result<Polled, Refusal>> {
        let found = condense(&mut self.comparisons)?;
        let leap = self.comparisons.last().map_or(Leap::None, |last| last.leap);
        self.comparisons.clear();
        let sample = Sample {
            at: found.at,
            offset: found.offset,
            delay: self.config.delay.max(MIN_DELAY),
            dispersion: found.dispersion,
            root_delay: 0.0,
            root_dispersion: 0.0,
            stratum: self.config.stratum,
        };
        Some(if sample.dispersion > self.config.max_dispersion {
            Err(Refusal::Dispersion)
        } else {
            Ok(Polled { sample, leap })
        })
    }

    /// Forgets all readings.
    pub(crate) fn reset(&mut self) {
        self.comparisons.clear();
        self.latest = None;
    }

    /// Moves everything stored to the changed timescale.
    pub(crate) fn handle_shift(&mut self, shift: &Shift) {
        for comparison in self.comparisons.iter_mut().chain(&mut self.latest) {
            comparison.offset -= shift.ahead(comparison.at);
            comparison.at = shift.apply(comparison.at);
        }
    }

    /// Takes word of a leap second: the engine's timescale and the reference clock went `by` ahead together.
    pub(crate) fn handle_leap(&mut self, by: NtpDuration) {
        for comparison in self.comparisons.iter_mut().chain(&mut self.latest) {
            comparison.at = comparison.at + by;
        }
    }
}
