//! The leap second, inserted by the kernel or by ourselves.

use core::time::Duration;

use super::{Engine, Notice, Now, Output};
use crate::{
    discipline::{LeapMode, is_leap_second},
    ids::Leap,
    steer::Steer,
    time::{Monotonic, NtpDuration, NtpTimestamp, UnixTime},
};

/// Seconds in a day.
const DAY: i64 = 86_400;
/// Seconds after it was due in which a leap second is still made; who sleeps longer measures anew.
const LATEST: f64 = 64.0;

/// Shortest time between two looks at whether it is due: what is left may be less than the monotonic clock can tell.
const SHORTEST: Duration = Duration::from_micros(1);

/// A leap second that is ours to make.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Due {
    /// What the time believed in reads when it begins.
    begins: NtpTimestamp,
    /// When that is, as far as can be told now.
    pub(super) at: Monotonic,
    /// By how much clocks go on.
    by: NtpDuration,
}

impl Engine {
    /// Takes note of a leap second that is announced for the end of the day of `now`, and is ours to make.
    pub(super) fn look_for_leap(&mut self, now: Now) {
        let at = self.timeline.at(now.clock);
        let is_ours = matches!(self.leaps.mode(), LeapMode::Step | LeapMode::Slew);
        let by = match self.status.leap {
            Leap::Insert => -1,
            Leap::Delete => 1,
            Leap::None | Leap::Unsynchronized => 0,
        };
        self.leap_due = (is_ours && by != 0).then(|| {
            // The last second of the day is read twice, or not at all.
            let midnight = (at.to_unix(self.era).seconds.div_euclid(DAY) + 1) * DAY;
            let seconds = if by > 0 { midnight - 1 } else { midnight };
            let begins = NtpTimestamp::from_unix(UnixTime { seconds, nanos: 0 });
            let wait = Duration::try_from_secs_f64(begins.since(at).to_seconds()).unwrap_or_default().max(SHORTEST);
            Due { begins, at: now.monotonic + wait, by: NtpDuration::from_seconds(f64::from(by)) }
        });
    }

    /// Makes the leap second that is due, if it is: the time believed in goes with the world's, and the clock steps along or
    /// follows by slewing.
    pub(super) fn make_leap(&mut self, now: Now) {
        let at = self.timeline.at(now.clock);
        let Some(Due { begins, by, .. }) = self.leap_due.filter(|due| at.since(due.begins).to_seconds() >= 0.0) else {
            return;
        };
        self.leap_due = None;
        if at.since(begins).to_seconds() > LATEST || !self.status.synchronized_at(at) {
            return;
        }
        self.outputs.push_back(Output::Notice(Notice::LeapSecond(by)));
        self.timeline.correct(now.clock, by.to_seconds(), 0.0);
        self.pass_leap(at, by);
        match self.leaps.mode() {
            LeapMode::Slew => self.slew(now),
            // What is behind for other reasons goes on to be slewed.
            LeapMode::Step | LeapMode::System | LeapMode::Ignore => {
                self.outputs.push_back(Output::Steer(Steer::Step(by)));
            }
        }
        self.publish(now);
    }

    /// The world's time went on by `by` when the time believed in read `at`, and so has that.
    pub(super) fn pass_leap(&mut self, at: NtpTimestamp, by: NtpDuration) {
        self.leaps.handle_leap(at.to_unix(self.era), self.status.leap);
        self.status.leap = Leap::None;
        self.status.reference_time = self.status.reference_time + by;
        // Everybody's clock does this at the same moment: sources are asked in their turn, and not by all of them now.
        for source in self.sources.values_mut() {
            source.handle_leap(by);
            source.forget_stamps();
        }
    }

    /// Whether a jump by `by`, noticed when the clock read `at`, is the leap second that was announced: the kernel inserts
    /// it, and so does everybody else.
    pub(super) fn is_leap(&self, at: NtpTimestamp, by: NtpDuration) -> bool {
        is_leap_second(self.status.leap, at.to_unix(self.era), by)
    }
}
