//! What can be seen of the engine.

use super::{Engine, Now};
use crate::{
    discipline::{Discipline, LeapTable},
    filter::{Estimate, Filter},
    ids::{Leap, SourceId},
    select::{SelectOptions, Verdict, effective},
    smear::Smear,
    source::{Source, SourceConfig},
    status::Status,
    time::{ClockMap, NtpDuration, NtpTimestamp, Rate, UnixTime},
};

/// The state of the clock; the terms are those of chronyc's `tracking`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tracking {
    /// What we tell clients. Its map leads from the clock that is steered to the time believed in.
    pub status: Status,
    /// Whether that still counts as synchronized.
    pub synchronized: bool,
    /// The best source.
    pub selected: Option<SourceId>,
    /// How far the clock is behind the time believed in.
    pub pending: NtpDuration,
    /// The last correction, in seconds.
    pub last_offset: f64,
    /// How well that was known: its standard deviation, in seconds.
    pub offset_deviation: f64,
    /// Long-term root mean square of corrections, in seconds.
    pub rms_offset: f64,
    /// Rate at which the clock is corrected; positive if the oscillator is slow.
    pub frequency: Rate,
    /// The part of the last frequency estimate that was not applied, s/s.
    pub residual_frequency: f64,
    /// Error bound of the frequency, s/s.
    pub skew: f64,
    /// Round trip to the primary source.
    pub root_delay: NtpDuration,
    /// Error bound now, half the root delay not included.
    pub root_dispersion: NtpDuration,
    /// Time between the last two updates, in seconds.
    pub update_interval: f64,
    /// Updates since the start.
    pub updates: u64,
}

/// The state of a source in one glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// It is asked regularly.
    Online,
    /// It is asked several times in a row.
    Burst,
    /// It is not asked.
    Offline,
    /// It waits for keys.
    NoKeys,
}

/// One source, seen from outside.
#[derive(Clone, Copy, Debug)]
pub struct SourceReport<'a> {
    /// The source itself.
    pub source: &'a Source,
    /// What selection made of it.
    pub verdict: Verdict,
    /// Whether and how it is asked.
    pub state: SourceState,
    /// What its measurements say now.
    pub estimate: Option<Estimate>,
    /// How it is used: what was configured, after what authentication counts for. Where plain sources vote beside
    /// authenticated ones only if these confirm them, those are trusted.
    pub effective: SelectOptions,
}

impl Engine {
    /// The state of the clock.
    #[must_use]
    pub fn tracking(&self, now: Now) -> Tracking {
        let at = self.timeline.at(now.clock);
        let status = self.status();
        Tracking {
            status,
            synchronized: status.synchronized_at(at),
            selected: self.selected,
            pending: self.timeline.pending(now.clock),
            last_offset: self.history.last_offset,
            offset_deviation: self.history.deviation,
            rms_offset: self.history.mean_square.unwrap_or(0.0).sqrt(),
            frequency: self.timeline.natural(),
            residual_frequency: self.discipline.residual_frequency(),
            skew: self.discipline.skew(),
            root_delay: status.root_delay,
            root_dispersion: status.root_dispersion_at(at),
            update_interval: self.history.interval,
            updates: self.history.updates,
        }
    }

    /// What a server may say about this clock now; the map leads from the clock that is steered to the time believed in.
    #[must_use]
    pub const fn status(&self) -> Status {
        let mut status = self.status;
        status.from_kernel = self.map();
        status
    }

    /// From the clock that is steered to the time believed in.
    #[must_use]
    pub const fn map(&self) -> ClockMap {
        self.timeline.map()
    }

    /// A time known to be in the right era, to read reference timestamps by.
    #[must_use]
    pub const fn era(&self) -> UnixTime {
        self.era
    }

    /// The listed leap second of today, or one that was less than half a day ago, as servers spread it from noon to noon. They have it
    /// before that begins, so that it begins in time, and so that they announce nothing.
    #[must_use]
    pub fn smear(&self, now: Now) -> Option<Smear> {
        let unix = self.timeline.at(now.clock).to_unix(self.era);
        let (midnight, leap) = self.leaps.near(unix)?;
        Some(Smear { midnight: NtpTimestamp::from_unix(midnight), inserts: leap == Leap::Insert })
    }

    /// The list of leap seconds.
    #[must_use]
    pub const fn leap_table(&self) -> Option<&LeapTable> {
        self.leaps.table()
    }

    /// One source.
    #[must_use]
    pub fn source(&self, now: Now, id: SourceId) -> Option<SourceReport<'_>> {
        self.sources.get(&id).map(|source| self.report(now, source))
    }

    /// Whether a source is authenticated by NTS; `None` if there is no such source.
    #[must_use]
    pub fn uses_nts(&self, id: SourceId) -> Option<bool> {
        self.sources.get(&id).map(|source| source.association().is_nts())
    }

    /// All sources, in the order in which they were added.
    pub fn sources(&self, now: Now) -> impl Iterator<Item = SourceReport<'_>> {
        self.sources.values().map(move |source| self.report(now, source))
    }

    fn report<'a>(&self, now: Now, source: &'a Source) -> SourceReport<'a> {
        let state = if source.schedule().next().is_none() {
            SourceState::Offline
        } else if source.lacks_keys() {
            SourceState::NoKeys
        } else if source.schedule().in_burst() {
            SourceState::Burst
        } else {
            SourceState::Online
        };
        let SourceConfig { trust, options, .. } = source.config();
        SourceReport {
            source,
            verdict: self.verdicts.get(&source.id()).map_or(Verdict::NoSamples, |standing| standing.verdict),
            state,
            estimate: source.filter().estimate(self.timeline.at(now.clock)),
            effective: effective(*trust, *options, self.is_authenticated(), self.select.auth),
        }
    }
}
