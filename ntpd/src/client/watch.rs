//! Noticing what others do to the clock.

use std::time::Duration;

use ntp_proto::time::{NtpDuration, NtpTimestamp};

use crate::now;

/// A jump below this is not told from the time between two readings of clocks.
const LEAST_JUMP: f64 = 1e-3;
/// A sleep below this does not count.
const LEAST_SLEEP: Duration = Duration::from_secs(2);

/// Compares the machine's clocks with each other: the time of day against the time since boot, which nobody can set, and
/// that against the monotonic time, which stands still while the machine sleeps.
#[derive(Debug)]
pub(super) struct ClockWatch {
    offset: NtpDuration,
    asleep: i64,
}

/// What was noticed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Disturbance {
    /// The time of day jumped by this much, when it read this.
    Jump(NtpTimestamp, NtpDuration),
    /// The machine slept for so long.
    Sleep(Duration),
}

/// One reading of all three clocks.
#[derive(Clone, Copy, Debug)]
struct Reading {
    kernel: NtpTimestamp,
    boot_nanos: i64,
    monotonic_nanos: i64,
}

impl Reading {
    fn take() -> Self {
        let monotonic = i64::try_from(now::monotonic().to_nanos()).unwrap_or(i64::MAX);
        Self { kernel: now::kernel(), boot_nanos: now::boot_nanos(), monotonic_nanos: monotonic }
    }

    fn offset(&self) -> NtpDuration {
        self.kernel.since(NtpTimestamp::ZERO) - NtpDuration::from_nanos(self.boot_nanos)
    }
}

impl ClockWatch {
    pub(super) fn start() -> Self {
        let reading = Reading::take();
        Self { offset: reading.offset(), asleep: reading.boot_nanos - reading.monotonic_nanos }
    }

    /// We stepped the kernel's clock ourselves.
    pub(super) fn handle_own_step(&mut self, by: NtpDuration) {
        self.offset = NtpDuration::from_bits(self.offset.to_bits().wrapping_add(by.to_bits()));
    }

    /// Looks for disturbances since the last call.
    pub(super) fn check(&mut self) -> Option<Disturbance> {
        self.compare(Reading::take())
    }

    fn compare(&mut self, reading: Reading) -> Option<Disturbance> {
        let asleep = reading.boot_nanos - reading.monotonic_nanos;
        let slept = Duration::from_nanos(asleep.saturating_sub(self.asleep).max(0).unsigned_abs());
        let jump = NtpDuration::from_bits(reading.offset().to_bits().wrapping_sub(self.offset.to_bits()));
        self.asleep = asleep;
        self.offset = reading.offset();
        if jump.to_seconds().abs() >= LEAST_JUMP {
            return Some(Disturbance::Jump(reading.kernel - jump, jump));
        }
        (slept >= LEAST_SLEEP).then_some(Disturbance::Sleep(slept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(seconds: f64, jump: f64, slept: f64) -> Reading {
        let nanos = |s: f64| NtpDuration::from_seconds(s).to_nanos();
        Reading {
            kernel: NtpTimestamp::from_bits(4_000_000_000 << 32) + NtpDuration::from_seconds(seconds + jump),
            boot_nanos: nanos(seconds),
            monotonic_nanos: nanos(seconds - slept),
        }
    }

    #[test]
    fn jumps_and_sleeps_are_told_apart() {
        let first = reading(100.0, 0.0, 0.0);
        let mut watch = ClockWatch { offset: first.offset(), asleep: 0 };
        assert_eq!(watch.compare(reading(200.0, 0.0, 0.0)), None);
        let Some(Disturbance::Jump(at, by)) = watch.compare(reading(210.0, -5.0, 0.0)) else { panic!("no jump seen") };
        assert!((by.to_seconds() + 5.0).abs() < 1e-6);
        assert!((at - reading(210.0, 0.0, 0.0).kernel).to_seconds().abs() < 1e-6);
        assert_eq!(watch.compare(reading(220.0, -5.0, 0.0)), None, "told once");
        assert_eq!(watch.compare(reading(900.0, -5.0, 600.0)), Some(Disturbance::Sleep(Duration::from_secs(600))));
    }

    #[test]
    fn our_own_steps_are_no_disturbance() {
        let mut watch = ClockWatch { offset: reading(0.0, 0.0, 0.0).offset(), asleep: 0 };
        watch.handle_own_step(NtpDuration::from_seconds(2.5));
        assert_eq!(watch.compare(reading(10.0, 2.5, 0.0)), None);
    }
}
