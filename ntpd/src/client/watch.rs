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
/// Clocks that were read within this were read at once, in nanoseconds: a tenth of the least jump.
const AT_ONCE: i64 = 100_000;
/// Most attempts to read them at once: a processor that is taken away between two of them may be so again.
const ATTEMPTS: usize = 8;
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
    /// What both may be wrong by, in nanoseconds.
    error: i64,
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
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reading {
    kernel: NtpTimestamp,
    boot_nanos: i64,
    monotonic_nanos: i64,
    /// What lies between these, at most.
    error: i64,
}

impl Reading {
    /// Of several readings the first that was made at once, or else the one that took the shortest.
    fn take(mut read: impl FnMut() -> Self) -> Self {
        let mut best = read();
        for _ in 1..ATTEMPTS {
            if best.is_at_once() {
                break;
            }
            let next = read();
            if next.error < best.error {
                best = next;
            }
        }
        best
    }

    fn of_machine() -> Self {
        let before = now::boot_nanos();
        let monotonic = i64::try_from(now::monotonic().to_nanos()).unwrap_or(i64::MAX);
        let kernel = now::kernel();
        Self::between(before, monotonic, kernel, now::boot_nanos())
    }

    /// The others were read between two readings of the time since boot.
    fn between(before: i64, monotonic_nanos: i64, kernel: NtpTimestamp, after: i64) -> Self {
        let error = after.saturating_sub(before) / 2;
        Self { kernel, boot_nanos: before.saturating_add(error), monotonic_nanos, error }
    }

    const fn is_at_once(&self) -> bool {
        self.error <= AT_ONCE / 2
    }

    fn offset(&self) -> NtpDuration {
        self.kernel.since(NtpTimestamp::ZERO) - NtpDuration::from_nanos(self.boot_nanos)
    }

    fn asleep(&self) -> i64 {
        self.boot_nanos.saturating_sub(self.monotonic_nanos)
    }
}

impl ClockWatch {
    pub(super) fn start() -> Self {
        Self::from(&Reading::take(Reading::of_machine))
    }

    /// We stepped the kernel's clock ourselves.
    pub(super) fn handle_own_step(&mut self, by: NtpDuration) {
        self.offset = NtpDuration::from_bits(self.offset.to_bits().wrapping_add(by.to_bits()));
    }

    /// Looks for disturbances since the last call.
    pub(super) fn check(&mut self) -> Vec<Disturbance> {
        self.compare(&Reading::take(Reading::of_machine))
    }

    fn compare(&mut self, reading: &Reading) -> Vec<Disturbance> {
        let error = self.error.saturating_add(reading.error);
        let slept = reading.asleep().saturating_sub(self.asleep);
        let jump = NtpDuration::from_bits(reading.offset().to_bits().wrapping_sub(self.offset.to_bits()));
        let has_jumped = jump.to_seconds().abs() >= LEAST_JUMP + NtpDuration::from_nanos(error).to_seconds();
        let slept = Duration::from_nanos(slept.max(0).unsigned_abs());
        let has_slept = slept >= LEAST_SLEEP + Duration::from_nanos(error.max(0).unsigned_abs());
        // What a reading that took long hides, the next one shows, unless this one were believed.
        if has_jumped || has_slept || reading.is_at_once() || reading.error <= self.error {
            *self = Self::from(reading);
        }
        // A clock is often set while the machine wakes up, or is moved to another host.
        let jump = has_jumped.then_some(Disturbance::Jump(reading.kernel - jump, jump));
        let sleep = has_slept.then_some(Disturbance::Sleep(slept));
        jump.into_iter().chain(sleep).collect()
    }
}

impl From<&Reading> for ClockWatch {
    fn from(reading: &Reading) -> Self {
        Self { offset: reading.offset(), asleep: reading.asleep(), error: reading.error }
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
            error: 0,
        }
    }

    /// A reading for which the processor was away for so long: between the first reading of the time since boot and the
    /// others, or between these and the last.
    fn interrupted(seconds: f64, jump: f64, [before, after]: [f64; 2]) -> Reading {
        let Reading { kernel, boot_nanos, monotonic_nanos, .. } = reading(seconds, jump, 0.0);
        let nanos = |s: f64| NtpDuration::from_seconds(s).to_nanos();
        Reading::between(boot_nanos - nanos(before), monotonic_nanos, kernel, boot_nanos + nanos(after))
    }

    #[test]
    fn clocks_that_were_not_read_at_once_are_read_again() {
        // Pauses before and after the other readings, in seconds, and the attempt that counts.
        let stories: [(&[[f64; 2]], usize); 4] = [
            (&[[20e-6, 30e-6]], 0),
            (&[[0.004, 0.0], [0.0, 2.5], [60e-6, 30e-6]], 2),
            (&[[0.0, 110e-6], [99e-6, 0.0]], 1),
            (
                &[[0.3, 0.0], [0.0, 0.2], [0.002, 0.001], [0.0, 0.004], [0.1, 0.1], [0.2, 0.0], [0.3, 0.0], [0.4, 0.0]],
                2,
            ),
        ];
        for (pauses, counts) in stories {
            let mut left = pauses.iter().map(|&pauses| interrupted(100.0, 0.0, pauses));
            let taken = Reading::take(|| left.next().expect("no more attempts than that"));
            assert_eq!(taken, interrupted(100.0, 0.0, pauses[counts]), "{pauses:?}");
        }
    }

    #[test]
    fn a_pause_between_readings_is_no_jump_and_hides_none_for_long() {
        for pauses in [[0.004, 0.0], [0.0, 0.004], [3.0, 0.0], [0.0, 30.0]] {
            let mut watch = ClockWatch::from(&reading(100.0, 0.0, 0.0));
            assert_eq!(watch.compare(&interrupted(110.0, 0.0, pauses)), [], "{pauses:?}");
            assert_eq!(watch.compare(&reading(200.0, 0.0, 0.0)), [], "{pauses:?}: and is not undone");
            let by = if pauses[0] > 0.0 { -0.002 } else { 0.002 };
            assert_eq!(watch.compare(&interrupted(210.0, by, pauses)), [], "{pauses:?}: nobody could tell");
            let has_jumped = |found: &[Disturbance], by: f64, error: f64| {
                let wrong = |jump: &NtpDuration| (jump.to_seconds() - by).abs() > error + 1e-6;
                assert!(matches!(found, [Disturbance::Jump(_, jump)] if !wrong(jump)), "{pauses:?}: {found:?}");
            };
            has_jumped(&watch.compare(&reading(300.0, by, 0.0)), by, 0.0);
            has_jumped(&watch.compare(&interrupted(310.0, 60.0, pauses)), 60.0 - by, (pauses[0] + pauses[1]) / 2.0);
            assert_eq!(watch.compare(&reading(400.0, 60.0, 0.0)), [], "{pauses:?}: told once");
        }
    }

    #[test]
    fn a_watch_that_began_with_a_pause_takes_it_for_no_jump() {
        let mut watch = ClockWatch::from(&interrupted(100.0, 0.0, [0.05, 0.0]));
        assert_eq!(watch.compare(&interrupted(110.0, 0.0, [0.0, 0.06])), []);
        assert_eq!(watch.compare(&interrupted(120.0, 0.0, [0.01, 0.0])), []);
        assert_eq!(watch.compare(&reading(130.0, 0.0, 0.0)), []);
        let found = watch.compare(&reading(140.0, 0.002, 0.0));
        assert!(matches!(found[..], [Disturbance::Jump(..)]), "{found:?}");
    }

    #[test]
    fn jumps_and_sleeps_are_told_apart() {
        let first = reading(100.0, 0.0, 0.0);
        let mut watch = ClockWatch::from(&first);
        assert_eq!(watch.compare(&reading(200.0, 0.0, 0.0)), []);
        let [Disturbance::Jump(at, by)] = watch.compare(&reading(210.0, -5.0, 0.0))[..] else { panic!("no jump seen") };
        assert!((by.to_seconds() + 5.0).abs() < 1e-6);
        assert!((at - reading(210.0, 0.0, 0.0).kernel).to_seconds().abs() < 1e-6);
        assert_eq!(watch.compare(&reading(220.0, -5.0, 0.0)), [], "told once");
        assert_eq!(watch.compare(&reading(900.0, -5.0, 600.0)), [Disturbance::Sleep(Duration::from_secs(600))]);
        let both = watch.compare(&reading(2000.0, -4.0, 1600.0));
        let [Disturbance::Jump(..), Disturbance::Sleep(slept)] = both[..] else { panic!("{both:?}") };
        assert_eq!(slept, Duration::from_secs(1000), "neither hides the other");
    }

    #[test]
    fn our_own_steps_are_no_disturbance() {
        let mut watch = ClockWatch::from(&reading(0.0, 0.0, 0.0));
        watch.handle_own_step(NtpDuration::from_seconds(2.5));
        assert_eq!(watch.compare(&reading(10.0, 2.5, 0.0)), []);
    }

    #[tokio::test]
    async fn nothing_wakes_while_nobody_sets_the_clock() {
        let mut alarm = Alarm::default();
        let woken = tokio::time::timeout(Duration::from_millis(100), alarm.set_off()).await;
        assert!(woken.is_err(), "the timer has expired, or cannot be read");
        assert!(alarm.timer.is_some() && !alarm.given_up);
    }
}
