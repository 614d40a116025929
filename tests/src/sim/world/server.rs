//! Servers, and how they lie.

use ntp_proto::{
    ids::{Leap, ReferenceId},
    status::Status,
    time::{ClockMap, NtpDuration, NtpTimestamp, Rate},
};

use super::super::Random;

/// How finely servers read their clocks, log2 seconds.
const PRECISION: i8 = -23;

/// A server.
#[derive(Clone, Copy, Debug)]
pub struct ServerSpec {
    /// How far its clock is from true time, in seconds; it does not know.
    pub error: f64,
    /// How fast that error grows, s/s.
    pub drift: f64,
    /// The error bound it claims, in seconds.
    pub bound: f64,
    /// How fast that grows, s/s.
    pub bound_rate: f64,
    /// Its stratum.
    pub stratum: u8,
    /// What it says of leap seconds.
    pub leap: Leap,
    /// It answers no one before this time, in seconds.
    pub silent_until: f64,
    /// It answers no one after this time.
    pub silent_from: f64,
    /// It throws its cookie keys away before every answer, so that each NTS request gets a NAK.
    pub forgets_keys: bool,
    /// It sends this kiss code instead of every answer.
    pub kiss: Option<[u8; 4]>,
    /// Whoever asks sooner than so many seconds after the last answer is told to slow down (kiss code RATE).
    pub patience: f64,
    /// It gives no keys after this time, in seconds.
    pub keyless_from: f64,
    /// Mean time that it works on a request before it reads its clock for the transmit timestamp, in seconds.
    pub work: f64,
    /// Mean time that a reply waits after that until it leaves, which only interleaved replies tell, in seconds.
    pub queue: f64,
    /// What it adds to its error.
    pub lie: Lie,
    /// Its timestamps say that the ways there and back take no time.
    pub hides_delay: bool,
}

impl Default for ServerSpec {
    fn default() -> Self {
        Self {
            error: 0.0,
            drift: 0.0,
            bound: 1e-6,
            bound_rate: 0.0,
            stratum: 1,
            leap: Leap::None,
            silent_until: 0.0,
            silent_from: f64::INFINITY,
            forgets_keys: false,
            kiss: None,
            patience: 0.0,
            keyless_from: f64::INFINITY,
            work: 0.0,
            queue: 0.0,
            lie: Lie::None,
            hides_delay: false,
        }
    }
}

/// What a server adds to its error over time. All times in seconds since the world began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Lie {
    /// Nothing.
    #[default]
    None,
    /// So many seconds from a time on.
    From {
        /// When it begins.
        at: f64,
        /// Seconds.
        by: f64,
    },
    /// More with every second from a time on, up to a limit.
    Ramp {
        /// When it begins.
        from: f64,
        /// How fast it grows, s/s.
        rate: f64,
        /// Its largest value, in seconds.
        most: f64,
    },
    /// Back and forth.
    Swing {
        /// Largest value, in seconds.
        amplitude: f64,
        /// Seconds from one to the next.
        period: f64,
    },
    /// Anything up to so many seconds, into the future or the past, and something else every second.
    Anything {
        /// Largest value, in seconds.
        most: f64,
    },
}

impl Lie {
    fn at(&self, seconds: f64) -> f64 {
        match *self {
            Self::None => 0.0,
            Self::From { at, by } => {
                if seconds < at {
                    0.0
                } else {
                    by
                }
            }
            Self::Ramp { from, rate, most } => (rate * (seconds - from).max(0.0)).clamp(-most, most),
            Self::Swing { amplitude, period } => amplitude * (std::f64::consts::TAU * seconds / period).sin(),
            Self::Anything { most } => most * (2.0 * Random::new(seconds.to_bits() >> 20).uniform() - 1.0),
        }
    }
}

impl ServerSpec {
    /// How far its clock is ahead of true time, in seconds.
    #[must_use]
    pub fn error_at(&self, seconds: f64) -> f64 {
        self.error + self.drift * seconds + self.lie.at(seconds)
    }

    /// By how much a timestamp is moved to hide a way that takes so many seconds.
    pub(super) fn ahead_of_time(&self, way: f64) -> NtpDuration {
        NtpDuration::from_seconds(if self.hides_delay { way } else { 0.0 })
    }
}

/// A timestamp as servers write it: what is below their precision is filled by chance, of which `random` has the bits (RFC 5905
/// section 6).
pub(super) const fn blur(time: NtpTimestamp, random: u64) -> NtpTimestamp {
    let chance = (1 << (32 - PRECISION.unsigned_abs())) - 1;
    NtpTimestamp::from_bits(time.to_bits() & !chance | random & chance)
}

pub(super) fn server_status(spec: &ServerSpec, true_time: NtpTimestamp, seconds: f64) -> Status {
    let error = spec.error_at(seconds);
    Status {
        leap: spec.leap,
        stratum: spec.stratum,
        precision: PRECISION,
        root_dispersion: NtpDuration::from_seconds(spec.bound + spec.bound_rate * seconds),
        max_distance: NtpDuration::from_seconds(3.0),
        reference_id: ReferenceId(*b"SIM\0"),
        // Never later than it answers, by its own clock.
        reference_time: true_time + NtpDuration::from_seconds(error.min(0.0)),
        from_kernel: ClockMap { since: true_time, offset: NtpDuration::from_seconds(error), rate: Rate::ZERO },
        ..Status::UNSYNCHRONIZED
    }
}
