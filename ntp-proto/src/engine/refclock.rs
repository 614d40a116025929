//! Reference clocks among the sources.

use super::{Engine, MAX_SOURCES, Now};
use crate::{
    ids::{Leap, ReferenceId, SourceId},
    refclock::{Arrived, Numbering, Reading, Refclock, RefclockConfig},
    source::{Refusal, Source},
    time::{Monotonic, NtpDuration, NtpTimestamp},
};

impl Engine {
    /// Adds a reference clock, of which samples are made from `first` on; `None` if there are [`MAX_SOURCES`] sources
    /// already.
    pub fn add_refclock(&mut self, config: &RefclockConfig, first: Monotonic) -> Option<SourceId> {
        if self.sources.len() >= MAX_SOURCES {
            return None;
        }
        let id = SourceId(self.next_id);
        self.next_id = self.next_id.checked_add(1)?;
        let precision = f64::from(self.status.precision).exp2();
        self.sources.insert(id, Source::refclock_of(id, config, precision, first));
        Some(id)
    }

    /// Takes a reading of a reference clock. It counts with the next sample that is made of them.
    pub fn handle_reading(&mut self, now: Now, id: SourceId, reading: &Reading) {
        let (at, present) = (self.timeline.at(reading.at), self.timeline.at(now.clock));
        let Some(config) = self.sources.get(&id).and_then(Source::refclock).map(Refclock::config) else { return };
        let reference = if config.tai { self.utc(reading.reference) } else { Some(reading.reference) };
        let numbering = self.numbering(config.lock, at);
        let Some(source) = self.sources.get_mut(&id) else { return };
        match reference {
            Some(reference) => source.handle_reading(reading, &Arrived { now: present, at, reference, numbering }),
            None => source.refuse(Refusal::NoTaiOffset),
        }
    }

    /// Takes word that a reference clock said something that makes no sense.
    pub fn handle_malformed_reading(&mut self, id: SourceId) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.refuse(Refusal::Malformed);
        }
    }

    /// What tells which second a pulse begins that came at `at`.
    fn numbering(&self, lock: Option<ReferenceId>, at: NtpTimestamp) -> Numbering {
        if let Some(lock) = lock {
            let mut refclocks = self.sources.values().filter_map(Source::refclock);
            let locked = refclocks.find(|refclock| refclock.config().reference_id == lock);
            return locked.and_then(Refclock::latest).map_or(Numbering::Unknown, Numbering::Lock);
        }
        if self.held || !self.status.synchronized_at(at) {
            return Numbering::Unknown;
        }
        let error = self.status.root_dispersion_at(at).to_seconds() + 0.5 * self.status.root_delay.to_seconds();
        let leap = match self.status.leap {
            Leap::Unsynchronized => Leap::None,
            known @ (Leap::None | Leap::Insert | Leap::Delete) => known,
        };
        Numbering::Clock { error, leap }
    }

    /// Converts a reading of TAI.
    fn utc(&self, tai: NtpTimestamp) -> Option<NtpTimestamp> {
        let behind = |time: NtpTimestamp| self.leaps.tai_offset(time.to_unix(self.era));
        let less = |seconds: i16| tai - NtpDuration::from_seconds(seconds.into());
        // The list is of UTC, which the first look only guesses.
        behind(less(behind(tai)?)).map(less)
    }
}
