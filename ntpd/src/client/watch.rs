//! Noticing what others do to the clock.

use std::{future, io, os::fd::OwnedFd, time::Duration};

use nix::{
    errno::Errno,
    sys::{
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
    unistd::read,
};
use ntp_proto::time::{NtpDuration, NtpTimestamp};
use tokio::io::unix::AsyncFd;

use crate::{net::watch_descriptor, now};

/// A jump below this is not told from the time between two readings of clocks.
const LEAST_JUMP: f64 = 1e-3;
/// A sleep below this does not count.
const LEAST_SLEEP: Duration = Duration::from_secs(2);
/// A Unix time that no clock reaches: the kernel's end in the year 2262.
const NEVER: TimeSpec = TimeSpec::new(i64::MAX / 1_000_000_000, 0);

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
    pub(super) fn check(&mut self) -> Vec<Disturbance> {
        self.compare(Reading::take())
    }

    fn compare(&mut self, reading: Reading) -> Vec<Disturbance> {
        let asleep = reading.boot_nanos - reading.monotonic_nanos;
        let slept = Duration::from_nanos(asleep.saturating_sub(self.asleep).max(0).unsigned_abs());
        let jump = NtpDuration::from_bits(reading.offset().to_bits().wrapping_sub(self.offset.to_bits()));
        self.asleep = asleep;
        self.offset = reading.offset();
        // A clock is often set while the machine wakes up, or is moved to another host.
        let jump = (jump.to_seconds().abs() >= LEAST_JUMP).then_some(Disturbance::Jump(reading.kernel - jump, jump));
        let sleep = (slept >= LEAST_SLEEP).then_some(Disturbance::Sleep(slept));
        jump.into_iter().chain(sleep).collect()
    }
}

/// Wakes when somebody sets the time of day, a leap second is inserted, or the machine wakes up. How far it jumped only a
/// [`ClockWatch`] can say.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    timer: Option<AsyncFd<OwnedFd>>,
    given_up: bool,
}

impl Alarm {
    /// Waits for the clock to be set. Where the kernel has no means to tell, waits for ever.
    pub(super) async fn set_off(&mut self) {
        if self.timer.is_none() && !self.given_up {
            match arm() {
                Ok(timer) => self.timer = Some(timer),
                Err(error) => {
                    self.given_up = true;
                    tracing::debug!(%error, "the kernel does not tell when the clock is set; looking now and then");
                }
            }
        }
        let Some(timer) = &self.timer else { return future::pending().await };
        let outcome = timer.readable().await.map(|mut ready| {
            ready.clear_ready();
            // Reading arms it again, and says ECANCELED (timerfd_create(2)).
            read(ready.get_inner(), &mut [0; 8])
        });
        if !matches!(outcome, Ok(Ok(_) | Err(Errno::ECANCELED | Errno::EAGAIN | Errno::EINTR))) {
            (self.timer, self.given_up) = (None, true);
        }
    }
}

/// A timer that never expires, but is cancelled when the clock is set.
fn arm() -> io::Result<AsyncFd<OwnedFd>> {
    let timer = TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
    let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
    timer.set(Expiration::OneShot(NEVER), flags)?;
    watch_descriptor(timer.into())
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
        assert_eq!(watch.compare(reading(200.0, 0.0, 0.0)), []);
        let [Disturbance::Jump(at, by)] = watch.compare(reading(210.0, -5.0, 0.0))[..] else { panic!("no jump seen") };
        assert!((by.to_seconds() + 5.0).abs() < 1e-6);
        assert!((at - reading(210.0, 0.0, 0.0).kernel).to_seconds().abs() < 1e-6);
        assert_eq!(watch.compare(reading(220.0, -5.0, 0.0)), [], "told once");
        assert_eq!(watch.compare(reading(900.0, -5.0, 600.0)), [Disturbance::Sleep(Duration::from_secs(600))]);
        let both = watch.compare(reading(2000.0, -4.0, 1600.0));
        let [Disturbance::Jump(..), Disturbance::Sleep(slept)] = both[..] else { panic!("{both:?}") };
        assert_eq!(slept, Duration::from_secs(1000), "neither hides the other");
    }

    #[test]
    fn our_own_steps_are_no_disturbance() {
        let mut watch = ClockWatch { offset: reading(0.0, 0.0, 0.0).offset(), asleep: 0 };
        watch.handle_own_step(NtpDuration::from_seconds(2.5));
        assert_eq!(watch.compare(reading(10.0, 2.5, 0.0)), []);
    }

    #[tokio::test]
    async fn nothing_wakes_while_nobody_sets_the_clock() {
        let mut alarm = Alarm::default();
        let woken = tokio::time::timeout(Duration::from_millis(100), alarm.set_off()).await;
        assert!(woken.is_err(), "the timer has expired, or cannot be read");
        assert!(alarm.timer.is_some() && !alarm.given_up);
    }
}
