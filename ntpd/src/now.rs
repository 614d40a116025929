//! The only place where the daemon reads a clock.
//!
//! The calls go through the C library, so they cost no system call (vDSO), and a preloaded simulator sees them.

use nix::time::{ClockId, clock_gettime};
use ntp_proto::time::{Monotonic, NtpTimestamp, UnixTime};

/// Reads `CLOCK_REALTIME`, in which the kernel stamps packets.
#[must_use]
pub fn unix() -> UnixTime {
    // It fails only for clocks that do not exist.
    clock_gettime(ClockId::CLOCK_REALTIME).map_or_else(
        |_| UnixTime::default(),
        |time| UnixTime { seconds: widen(time.tv_sec()), nanos: u32::try_from(time.tv_nsec()).unwrap_or_default() },
    )
}

/// Converts from whatever width this platform's C type has.
fn widen(value: impl Into<i64>) -> i64 {
    value.into()
}

/// Reads `CLOCK_REALTIME`, in which the kernel stamps packets.
#[must_use]
pub fn realtime() -> NtpTimestamp {
    NtpTimestamp::from_unix(unix())
}

/// Reads `CLOCK_MONOTONIC`.
#[must_use]
pub fn monotonic() -> Monotonic {
    let nanos = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
        seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec()).unwrap_or_default())
    });
    Monotonic::from_nanos(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_advance() {
        let (real, mono) = (realtime(), monotonic());
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(monotonic().since(mono) >= std::time::Duration::from_millis(2));
        assert!((realtime() - real).to_seconds() > 0.0);
        let standard = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(unix().seconds.abs_diff(i64::try_from(standard).unwrap()) <= 1);
    }
}
