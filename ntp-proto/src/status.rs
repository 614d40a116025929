//! What a server says about its own clock.

use crate::{
    ids::{Leap, ReferenceId},
    smear::Smear,
    time::{ClockMap, NtpDuration, NtpTimestamp, Rate},
};

/// The state of the local clock as a server tells it, published once per change and used by every server thread
/// without a lock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Status {
    /// Leap warning; [`Leap::Unsynchronized`] while the clock follows nothing.
    pub leap: Leap,
    /// Our own stratum, 1 to 16 (16: unsynchronized).
    pub stratum: u8,
    /// Precision of the clock, log2 seconds.
    pub precision: i8,
    /// Round trip to the primary source.
    pub root_delay: NtpDuration,
    /// Error bound at `reference_time`, half the root delay not included.
    pub root_dispersion: NtpDuration,
    /// How fast that bound grows.
    pub dispersion_rate: Rate,
    /// Largest root distance at which we still claim to be synchronized.
    pub max_distance: NtpDuration,
    /// Whom we follow.
    pub reference_id: ReferenceId,
    /// When the clock was last corrected, on the served timescale.
    pub reference_time: NtpTimestamp,
    /// From the kernel's clock, in which packets are stamped, to the time we keep.
    pub from_kernel: ClockMap,
    /// The leap second that is kept from clients, if one is near.
    pub smear: Option<Smear>,
}

impl Status {
    /// A clock that follows nothing.
    pub const UNSYNCHRONIZED: Self = Self {
        leap: Leap::Unsynchronized,
        stratum: 16,
        precision: -20,
        root_delay: NtpDuration::ZERO,
        root_dispersion: NtpDuration::ZERO,
        dispersion_rate: Rate::ZERO,
        max_distance: NtpDuration::ZERO,
        reference_id: ReferenceId([0; 4]),
        reference_time: NtpTimestamp::ZERO,
        from_kernel: ClockMap::IDENTITY,
        smear: None,
    };

    /// The error bound at `now` on the served timescale (RFC 5905 section 11.2: it grows with the time since the last
    /// update).
    #[must_use]
    pub fn root_dispersion_at(&self, now: NtpTimestamp) -> NtpDuration {
        let age = now.since(self.reference_time).to_seconds().max(0.0);
        self.root_dispersion + NtpDuration::from_seconds(age * self.dispersion_rate.get())
    }

    /// What is served when the kernel's clock reads `kernel`; `None` where that cannot be told.
    #[must_use]
    pub fn served(&self, kernel: NtpTimestamp) -> Option<NtpTimestamp> {
        smeared(self.smear, self.from_kernel.apply(kernel))
    }

    /// Whether the clock may still be called synchronized at `now` on the served timescale.
    #[must_use]
    pub fn synchronized_at(&self, now: NtpTimestamp) -> bool {
        let distance = self.root_dispersion_at(now).to_seconds() + self.root_delay.to_seconds() / 2.0;
        self.leap != Leap::Unsynchronized && self.stratum < 16 && distance <= self.max_distance.to_seconds()
    }
}

/// What is served at `time`.
pub(crate) fn smeared(smear: Option<Smear>, time: NtpTimestamp) -> Option<NtpTimestamp> {
    smear.map_or(Some(time), |smear| smear.apply(time))
}
