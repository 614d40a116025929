//! A clock that is left alone until it is known whom to believe.

use super::{Engine, Notice, Now, Output};
use crate::{
    ids::Leap,
    sample::Shift,
    steer::Steer,
    time::{NtpDuration, NtpTimestamp},
};

impl Engine {
    /// Whether the clock is left alone.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.held
    }

    /// Leaves the clock alone from now on, or no more. Meanwhile sources are measured and chosen among, but nothing follows
    /// from that: the clock keeps its natural frequency and counts as unsynchronized. When the hold ends, what was measured
    /// is followed at once.
    pub fn set_hold(&mut self, now: Now, held: bool) {
        let is_denied = self.status.leap == Leap::Unsynchronized;
        if self.held == held && (is_denied || !held) {
            return;
        }
        self.held = held;
        if !held {
            self.follow_sources(now);
            return;
        }
        self.status.leap = Leap::Unsynchronized;
        self.let_run(now);
    }

    /// Leaves the clock alone as [`set_hold`](Self::set_hold) does, but what was said of it stands: it was right so far. Its
    /// error bound grows as it does without sources (RFC 5905 section 11.2), until it is too large.
    pub fn hold_over(&mut self, now: Now) {
        if !self.held {
            self.held = true;
            self.let_run(now);
        }
    }

    /// Gives the clock its natural frequency.
    fn let_run(&mut self, now: Now) {
        if self.slew_end.take().is_some() {
            self.outputs.push_back(Output::Steer(Steer::Frequency(self.timeline.natural())));
        }
        self.publish(now);
    }

    /// Steps the clock by `by`, held or not: it is known to be behind by that much. What was measured moves with it, and
    /// whether the clock counts as synchronized does not change.
    pub fn set_clock(&mut self, now: Now, by: NtpDuration) {
        let shift = self.timeline.correct(now.clock, by.to_seconds(), 0.0);
        self.sources.values_mut().for_each(|source| source.handle_shift(&shift));
        self.step(self.timeline.pending(now.clock));
    }

    /// Makes the clock jump.
    pub(super) fn step(&mut self, by: NtpDuration) {
        self.slew_end = None;
        // A kernel that refused the last one is tried, and said to have obeyed when it has.
        if !self.steps_refused {
            self.outputs.push_back(Output::Notice(Notice::Step(by)));
        }
        self.outputs.push_back(Output::Steer(Steer::Step(by)));
        self.outputs.push_back(Output::Steer(Steer::Frequency(self.timeline.natural())));
    }

    /// Takes word that the clock did not do what it was told. One that does not jump is slewed, unless it is held.
    pub fn handle_refused(&mut self, now: Now, command: Steer) {
        if let (Steer::Step(by), false) = (command, self.held) {
            self.steps_refused = true;
            self.outputs.push_back(Output::Notice(Notice::StepRefused(by)));
            self.slew(now);
        }
    }

    /// Somebody else made a held clock jump by `by` when it read `at`. There is no time that we believe in more.
    pub(super) fn handle_jump_while_held(&mut self, at: NtpTimestamp, by: NtpDuration) {
        let shift = Shift { from: self.timeline.at(at), offset: by.to_seconds(), rate: 0.0 };
        self.timeline.handle_leap(at, by);
        self.sources.values_mut().for_each(|source| source.handle_shift(&shift));
    }
}
