//! The one place that reads the machine's clocks.

use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_gettime},
};
use ntp_proto::time::{Monotonic, NtpTimestamp, UnixTime};

fn read(clock: ClockId) -> TimeSpec {
    // These clocks exist on every Linux, so reading them cannot fail.
    clock_gettime(clock).unwrap_or_else(|_| TimeSpec::new(0, 0))
}

/// Time since the machine started, sleep not included.
#[must_use]
pub fn monotonic() -> Monotonic {
    let now = read(ClockId::CLOCK_MONOTONIC);
    let (seconds, nanos) = (now.tv_sec().unsigned_abs(), now.tv_nsec().unsigned_abs());
    Monotonic::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Time since the machine started, sleep included, in nanoseconds.
#[must_use]
pub fn boot_nanos() -> i64 {
    let now = read(ClockId::CLOCK_BOOTTIME);
    now.tv_sec().saturating_mul(1_000_000_000).saturating_add(now.tv_nsec())
}

/// What tells this start of the machine from others (random(4)); `None` where it may not be read.
#[must_use]
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// The kernel's time of day.
#[must_use]
pub fn unix() -> UnixTime {
    let now = read(ClockId::CLOCK_REALTIME);
    UnixTime { seconds: now.tv_sec(), nanos: u32::try_from(now.tv_nsec()).unwrap_or(0) }
}

/// The kernel's time of day as NTP writes it.
#[must_use]
pub fn kernel() -> NtpTimestamp {
    NtpTimestamp::from_unix(unix())
}
