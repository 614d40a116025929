//! A source that is a device of this machine.

use super::{Action, LastReply, Refusal, Source};
use crate::{
    filter::Filter as _,
    ids::{SourceId, StampKind},
    refclock::{Arrived, Polled, Reading, Refclock, RefclockConfig},
    sample::ServerState,
    time::Monotonic,
};

impl Source {
    /// A reference clock that is polled for the first time at `first`; `clock_precision` is that of the clock that is
    /// steered, in seconds.
    pub(crate) fn refclock_of(id: SourceId, config: &RefclockConfig, clock_precision: f64, first: Monotonic) -> Self {
        let refclock = Some(Refclock::new(*config, clock_precision));
        Self { refclock, ..Self::new(id, config.source(), first) }
    }

    /// Takes a reading of its device.
    pub(crate) fn handle_reading(&mut self, reading: &Reading, arrived: &Arrived) {
        let Some(refclock) = &mut self.refclock else { return };
        self.counts.received += 1;
        match refclock.handle_reading(reading, arrived) {
            Ok(()) => self.counts.valid += 1,
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// A reading that says nothing of the time.
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.refusals.add(refusal);
        self.last_refusal = Some(refusal);
        self.unsynchronized = refusal == Refusal::Unsynchronized;
    }

    /// Makes a sample of what was read since the last poll.
    pub(super) fn poll_refclock(&mut self, now: Monotonic) -> Vec<Action> {
        self.reach.handle_request();
        self.schedule.handle_tick(now);
        match self.refclock.as_mut().and_then(Refclock::poll) {
            Some(Ok(polled)) => {
                self.handle_polled(now, &polled);
                vec![Action::Sampled]
            }
            Some(Err(refusal)) => {
                self.refuse(refusal);
                Vec::new()
            }
            None => {
                self.unanswered = self.unanswered.saturating_add(1);
                Vec::new()
            }
        }
    }

    fn handle_polled(&mut self, now: Monotonic, polled: &Polled) {
        self.reach.handle_reply();
        (self.unanswered, self.unsynchronized) = (0, false);
        self.counts.good += 1;
        self.filter.handle_sample(polled.sample);
        let precision = self.refclock.as_ref().map_or(1.0, Refclock::precision);
        #[expect(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
        let precision = precision.log2().ceil() as i8;
        self.last = Some(LastReply {
            at: now,
            leap: polled.leap,
            reference_id: self.config.reference_id,
            reference_time: polled.sample.at,
            poll: self.schedule.poll().log2_seconds(),
            server: ServerState { precision, stratum: polled.sample.stratum, ..ServerState::default() },
            exchange: None,
            refined: None,
            interleaved: false,
            sent_stamp: StampKind::Daemon,
            received_stamp: StampKind::Daemon,
        });
    }
}
