//! Time that is served although no source tells it.

use core::time::Duration;

use crate::{
    ids::{Leap, ReferenceId},
    status::Status,
    time::{Monotonic, NtpDuration, NtpTimestamp, Rate},
};

/// When the local clock is served, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalConfig {
    /// Stratum that clients are told, 1 to 15.
    pub stratum: u8,
    /// Root distance from which on it takes the place of what sources said last.
    pub distance: NtpDuration,
    /// Root distance that sources must have come to once before; zero asks for nothing.
    pub activate: NtpDuration,
    /// Of several servers with this stratum that ask each other, all follow one.
    pub orphan: bool,
    /// Shortest time after the last update of the clock.
    pub wait_synced: Duration,
    /// Shortest time after the start, while there was no update.
    pub wait_unsynced: Duration,
}

impl LocalConfig {
    /// What chrony's `local` means without options.
    pub const DEFAULT: Self = Self {
        stratum: 10,
        distance: NtpDuration::from_seconds(1.0),
        activate: NtpDuration::ZERO,
        orphan: false,
        wait_synced: Duration::ZERO,
        wait_unsynced: Duration::ZERO,
    };

    /// Time that others with the same stratum have to be found in.
    pub const ORPHAN_WAIT: Duration = Duration::from_secs(300);
}

/// How clients know a clock that follows nobody: the address that NTP has for it.
pub const LOCAL_REFERENCE: ReferenceId = ReferenceId([127, 127, 1, 1]);

/// A reference timestamp older than this is renewed.
const RENEWAL_SECONDS: f64 = 64.0;

/// Decides when the local clock is served.
#[derive(Clone, Copy, Debug)]
pub struct LocalReference {
    config: LocalConfig,
    started: Monotonic,
    was_near: bool,
    /// The reference timestamp of the last update, and when it was noticed.
    updated: Option<(NtpTimestamp, Monotonic)>,
    /// The reference timestamp that is told, while the local clock is served.
    told: Option<NtpTimestamp>,
}

impl LocalReference {
    /// Starts at `now`.
    #[must_use]
    pub const fn new(config: LocalConfig, now: Monotonic) -> Self {
        Self { config, started: now, was_near: false, updated: None, told: None }
    }

    /// What was configured.
    #[must_use]
    pub const fn config(&self) -> &LocalConfig {
        &self.config
    }

    /// Whether the local clock is served.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.told.is_some()
    }

    /// What is served where `status` is what sources say, and the served timescale reads `clock`.
    pub fn serve(&mut self, now: Monotonic, clock: NtpTimestamp, status: &Status) -> Status {
        let distance = (status.leap != Leap::Unsynchronized && status.stratum < 16).then(|| {
            let half_delay = NtpDuration::from_bits(status.root_delay.to_bits() / 2);
            half_delay + status.root_dispersion_at(clock)
        });
        if distance.is_some() && self.updated.is_none_or(|(at, _)| at != status.reference_time) {
            self.updated = Some((status.reference_time, now));
        }
        self.was_near |= distance.is_some_and(|distance| distance <= self.config.activate);
        let is_time = match self.updated {
            Some((_, at)) => now.since(at) >= self.config.wait_synced,
            None => now.since(self.started) >= self.config.wait_unsynced,
        };
        let is_permitted = self.config.activate == NtpDuration::ZERO || self.was_near;
        let is_far = distance.is_none_or(|distance| distance >= self.config.distance);
        if !(is_time && is_permitted && is_far) {
            self.told = None;
            return *status;
        }
        let is_fresh = |told: &NtpTimestamp| (0.0..RENEWAL_SECONDS).contains(&clock.since(*told).to_seconds());
        let told = self.told.filter(is_fresh).unwrap_or(clock);
        self.told = Some(told);
        Status {
            leap: Leap::None,
            stratum: self.config.stratum,
            root_delay: NtpDuration::ZERO,
            root_dispersion: NtpDuration::ZERO,
            dispersion_rate: Rate::ZERO,
            max_distance: NtpDuration::MAX,
            reference_id: LOCAL_REFERENCE,
            reference_time: told,
            ..*status
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> (Monotonic, NtpTimestamp) {
        let clock = NtpTimestamp::from_bits(4_000_000_000 << 32) + NtpDuration::from_seconds(seconds);
        (Monotonic::default() + Duration::from_secs_f64(seconds), clock)
    }

    /// Set at `seconds`, and growing worse by a millisecond a second.
    fn synchronized(seconds: f64) -> Status {
        Status {
            leap: Leap::None,
            stratum: 3,
            root_dispersion: NtpDuration::from_seconds(0.01),
            dispersion_rate: Rate::new(1e-3),
            max_distance: NtpDuration::from_seconds(3.0),
            reference_id: ReferenceId([192, 0, 2, 1]),
            reference_time: at(seconds).1,
            ..Status::UNSYNCHRONIZED
        }
    }

    fn serve(local: &mut LocalReference, seconds: f64, status: &Status) -> (u8, Leap, ReferenceId) {
        let (now, clock) = at(seconds);
        let served = local.serve(now, clock, status);
        assert_eq!(served.synchronized_at(clock), served.leap != Leap::Unsynchronized);
        assert_eq!(local.is_active(), served.reference_id == LOCAL_REFERENCE);
        (served.stratum, served.leap, served.reference_id)
    }

    const LOCAL: (u8, Leap, ReferenceId) = (10, Leap::None, LOCAL_REFERENCE);

    #[test]
    fn what_was_never_synchronized_is_served_at_once() {
        let mut local = LocalReference::new(LocalConfig::DEFAULT, at(0.0).0);
        assert_eq!(serve(&mut local, 0.0, &Status::UNSYNCHRONIZED), LOCAL);
        let told = |local: &mut LocalReference, seconds| {
            let (now, clock) = at(seconds);
            local.serve(now, clock, &Status::UNSYNCHRONIZED).reference_time
        };
        assert_eq!(told(&mut local, 63.0), at(0.0).1, "nothing new is published for nothing");
        assert_eq!(told(&mut local, 65.0), at(65.0).1);
        assert_eq!(told(&mut local, 1.0), at(1.0).1, "a clock that was set back has not been set in the future");
    }

    #[test]
    fn sources_count_until_they_are_too_far() {
        let mut local = LocalReference::new(LocalConfig::DEFAULT, at(0.0).0);
        let status = synchronized(100.0);
        assert_eq!(serve(&mut local, 100.0, &status).0, 3);
        assert_eq!(serve(&mut local, 1_089.0, &status).0, 3);
        assert_eq!(serve(&mut local, 1_091.0, &status), LOCAL);
        assert_eq!(serve(&mut local, 1_100.0, &synchronized(1_100.0)).0, 3);
    }

    #[test]
    fn it_waits_for_others_and_for_sources() {
        let config = LocalConfig {
            orphan: true,
            wait_unsynced: Duration::from_secs(300),
            wait_synced: Duration::from_secs(2_000),
            ..LocalConfig::DEFAULT
        };
        let mut local = LocalReference::new(config, at(0.0).0);
        assert_eq!(serve(&mut local, 299.0, &Status::UNSYNCHRONIZED).1, Leap::Unsynchronized);
        assert_eq!(serve(&mut local, 300.0, &Status::UNSYNCHRONIZED), LOCAL);
        assert_eq!(serve(&mut local, 400.0, &synchronized(400.0)).0, 3);
        assert_eq!(serve(&mut local, 2_399.0, &synchronized(400.0)).0, 3, "the update is less than 2000 s ago");
        assert_eq!(serve(&mut local, 2_400.0, &synchronized(400.0)), LOCAL);
    }

    #[test]
    fn where_it_must_have_been_synchronized_it_is_not_served_before() {
        let config = LocalConfig { activate: NtpDuration::from_seconds(0.1), ..LocalConfig::DEFAULT };
        let mut local = LocalReference::new(config, at(0.0).0);
        assert_eq!(serve(&mut local, 1e6, &Status::UNSYNCHRONIZED).1, Leap::Unsynchronized);
        serve(&mut local, 1e6, &synchronized(1e6 - 10.0));
        assert_eq!(serve(&mut local, 1e6 + 1.0, &Status::UNSYNCHRONIZED), LOCAL);
    }
}
