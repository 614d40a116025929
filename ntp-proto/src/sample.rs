//! From four timestamps to one measurement.

use crate::time::{NtpDuration, NtpShort, NtpTimestamp};

/// The four timestamps of one request and its reply (RFC 5905 section 8), the local ones on the engine's timescale.
///
/// All four belong to the same exchange; in interleaved mode they may have arrived in two replies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exchange {
    /// T1: the request left here.
    pub sent: NtpTimestamp,
    /// T2: it reached the server.
    pub server_received: NtpTimestamp,
    /// T3: the reply left the server.
    pub server_sent: NtpTimestamp,
    /// T4: it reached us.
    pub received: NtpTimestamp,
    /// What the server says of itself.
    pub server: ServerState,
    /// Error of the local timestamps, in seconds.
    pub local_error: f64,
    /// By how much T3 may be too late, in seconds, where it is what the server usually takes because the server has not told
    /// it yet.
    pub residence_error: f64,
}

/// What a reply says about the server's own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ServerState {
    /// Precision, log2 seconds.
    pub precision: i8,
    /// Stratum, 1 to 15.
    pub stratum: u8,
    /// Round trip to its primary source.
    pub root_delay: NtpShort,
    /// Its error bound.
    pub root_dispersion: NtpShort,
}

/// One measurement of a server's clock against ours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When, on the engine's timescale: midway between T1 and T4.
    pub at: NtpTimestamp,
    /// How far the server is ahead of us, in seconds.
    pub offset: f64,
    /// Round trip less the server's share, in seconds, never below the precision.
    pub delay: f64,
    /// Error of the reading of both clocks, in seconds, half the delay not included.
    pub dispersion: f64,
    /// The server's own root delay, in seconds.
    pub root_delay: f64,
    /// The server's own root dispersion, in seconds.
    pub root_dispersion: f64,
    /// The server's stratum.
    pub stratum: u8,
}

/// Frequency error that any clock may have or develop unseen: PHI of RFC 5905 section 7.2, in s/s. A quartz in a machine that
/// gets to work or is moved jumps by up to some ppm.
pub(crate) const FREQUENCY_TOLERANCE: f64 = 15e-6;
/// Frequency by which two good clocks may differ, s/s.
pub(crate) const MAX_CLOCK_ERROR: f64 = 1e-6;

impl Exchange {
    /// Time from request to reply as we see it.
    #[must_use]
    pub fn local_interval(&self) -> NtpDuration {
        self.received - self.sent
    }

    /// Time the server took.
    #[must_use]
    pub fn server_interval(&self) -> NtpDuration {
        self.server_sent - self.server_received
    }

    /// Error of the reading of both clocks, in seconds.
    #[must_use]
    pub fn precision(&self) -> f64 {
        f64::from(self.server.precision.clamp(-30, 0)).exp2() + self.local_error
    }

    /// Computes offset, delay and dispersion by RFC 5905 section 8, on differences so that eras do not matter:
    /// `offset = ((T2 - T1) + (T3 - T4)) / 2`, `delay = (T4 - T1) - (T3 - T2)`.
    #[must_use]
    pub fn sample(&self) -> Sample {
        let there = (self.server_received - self.sent).to_seconds();
        let back = (self.server_sent - self.received).to_seconds();
        let precision = self.precision();
        let raw_delay = (self.local_interval() - self.server_interval()).to_seconds();
        let half_way = NtpDuration::from_bits(self.local_interval().to_bits() / 2);
        Sample {
            at: self.sent + half_way,
            offset: 0.5 * (there + back),
            // RFC 5905 section 8: the delay is never taken to be less than the precision.
            delay: raw_delay.max(precision),
            // What lacks to a delay of nothing is an error of the timestamps.
            dispersion: precision
                // T3 counts by half in the offset and whole in the delay, so that both are off. Twice, because an error of the offset
                // is as much as half of a longer way, by which the filter weighs samples.
                + 2.0 * self.residence_error
                + FREQUENCY_TOLERANCE * self.local_interval().to_seconds().max(0.0)
                + (-raw_delay).max(0.0),
            root_delay: self.server.root_delay.to_seconds(),
            root_dispersion: self.server.root_dispersion.to_seconds(),
            stratum: self.server.stratum,
        }
    }
}

impl Sample {
    /// Largest error this sample can have against its server's clock, in seconds.
    #[must_use]
    pub fn peer_distance(&self) -> f64 {
        0.5 * self.delay + self.dispersion
    }

    /// Largest error it can have against true time, in seconds, if the server keeps its promise (RFC 5905 section 11.1).
    #[must_use]
    pub fn root_distance(&self) -> f64 {
        self.peer_distance() + 0.5 * self.root_delay + self.root_dispersion
    }
}

/// A change of the engine's timescale: from `from` on it reads `offset` more and gains `rate` more, and so does every
/// stored reading before it, by the same line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// The reading of the old timescale at which `offset` holds.
    pub from: NtpTimestamp,
    /// How far ahead the new timescale is there, in seconds.
    pub offset: f64,
    /// How much faster it runs, in s/s.
    pub rate: f64,
}

impl Shift {
    /// How far the new timescale is ahead of the old where that reads `at`, in seconds.
    #[must_use]
    pub fn ahead(&self, at: NtpTimestamp) -> f64 {
        self.offset + self.rate * (at - self.from).to_seconds()
    }

    /// Moves a stored reading to the new timescale.
    #[must_use]
    pub fn apply(&self, at: NtpTimestamp) -> NtpTimestamp {
        at + NtpDuration::from_seconds(self.ahead(at))
    }
}

impl Sample {
    /// The same measurement seen from the new timescale.
    #[must_use]
    pub fn shifted(self, shift: &Shift) -> Self {
        Self { at: shift.apply(self.at), offset: self.offset - shift.ahead(self.at), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> NtpTimestamp {
        NtpTimestamp::from_bits(4_000_000_000 << 32) + NtpDuration::from_seconds(seconds)
    }

    fn exchange(offset: f64, there: f64, back: f64) -> Exchange {
        let (t1, t2) = (0.0, there + offset);
        let t3 = t2 + 0.001;
        Exchange {
            sent: at(t1),
            server_received: at(t2),
            server_sent: at(t3),
            received: at(t3 - offset + back),
            server: ServerState { precision: -25, stratum: 1, ..ServerState::default() },
            local_error: 0.0,
            residence_error: 0.0,
        }
    }

    #[test]
    fn offset_and_delay_follow_rfc_5905() {
        for offset in [0.0, 0.25, -3.0, 500_000.0] {
            let sample = exchange(offset, 0.010, 0.010).sample();
            assert!((sample.offset - offset).abs() < 2e-9);
            assert!((sample.delay - 0.020).abs() < 2e-9);
        }
    }

    #[test]
    fn asymmetry_costs_at_most_half_the_delay() {
        let sample = exchange(0.0, 0.030, 0.002).sample();
        assert!(sample.offset.abs() <= sample.peer_distance());
    }

    #[test]
    fn a_negative_delay_becomes_the_precision() {
        let sample = exchange(0.0, -0.010, 0.001).sample();
        assert!(sample.delay > 0.0 && sample.delay < 1e-6);
    }

    #[test]
    fn a_shift_by_the_measured_offset_leaves_none() {
        let sample = exchange(0.25, 0.010, 0.010).sample();
        let shift = Shift { from: sample.at, offset: 0.25, rate: 0.0 };
        let after = sample.shifted(&shift);
        assert!(after.offset.abs() < 2e-9);
        assert!(((after.at - sample.at).to_seconds() - 0.25).abs() < 2e-9);
    }
}
