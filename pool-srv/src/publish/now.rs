//! What time it is: the one place where the server asks.

use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_gettime},
};
use ntp_proto::time::Monotonic;

use super::answer::Moment;

fn read(clock: ClockId) -> (u64, u64) {
    // These clocks are always there.
    let time = clock_gettime(clock).unwrap_or_else(|_| TimeSpec::new(0, 0));
    (time.tv_sec().unsigned_abs(), time.tv_nsec().unsigned_abs())
}

/// Seconds since 1970.
pub(super) fn unix() -> u64 {
    read(ClockId::CLOCK_REALTIME).0
}

/// Now, on both clocks.
pub(super) fn moment() -> Moment {
    let (seconds, nanos) = read(ClockId::CLOCK_MONOTONIC);
    let monotonic = Monotonic::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos));
    Moment { monotonic, unix: unix() }
}
