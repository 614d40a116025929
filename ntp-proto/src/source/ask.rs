//! What may be asked of a source.

use super::{
    Association, DENIALS_BELIEVED, LastReply, PacketCounts, Reach, Refusal, RefusalCounts, Schedule, Source,
    SourceConfig,
};
use crate::{
    filter::SourceFilter,
    ids::{ReferenceId, SourceId},
    refclock::Refclock,
};

impl Source {
    /// Its identifier.
    #[must_use]
    pub const fn id(&self) -> SourceId {
        self.id
    }

    /// Its configuration; the secret part of it is elsewhere.
    #[must_use]
    pub const fn config(&self) -> &SourceConfig {
        &self.config
    }

    /// Its schedule.
    #[must_use]
    pub const fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Its reachability.
    #[must_use]
    pub const fn reach(&self) -> Reach {
        self.reach
    }

    /// Its filter.
    #[must_use]
    pub const fn filter(&self) -> &SourceFilter {
        &self.filter
    }

    /// Its packets, counted.
    #[must_use]
    pub const fn counts(&self) -> PacketCounts {
        self.counts
    }

    /// Its refused packets, counted by reason.
    #[must_use]
    pub const fn refusals(&self) -> &RefusalCounts {
        &self.refusals
    }

    /// Why its last refused packet was refused.
    #[must_use]
    pub const fn last_refusal(&self) -> Option<Refusal> {
        self.last_refusal
    }

    /// What its last good reply said.
    #[must_use]
    pub const fn last_reply(&self) -> Option<&LastReply> {
        self.last.as_ref()
    }

    /// Whether it answered the last request that it had time for, be it of no use.
    #[must_use]
    pub const fn is_answering(&self) -> bool {
        self.unanswered == 0
    }

    /// Whether it cannot be asked for want of keys or cookies.
    #[must_use]
    pub fn lacks_keys(&self) -> bool {
        self.in_flight.is_none() && !self.association.is_ready()
    }

    /// Whether it says that it is not synchronized.
    #[must_use]
    pub const fn is_unsynchronized(&self) -> bool {
        self.unsynchronized
    }

    /// Whether it follows us.
    #[must_use]
    pub const fn is_looping(&self) -> bool {
        self.looping
    }

    /// How this machine would be named by whoever follows it, on the way that the last good reply came.
    #[must_use]
    pub(crate) const fn own_reference(&self) -> Option<ReferenceId> {
        self.own_reference
    }

    /// Whether it told us to stay away.
    #[must_use]
    pub const fn is_denied(&self) -> bool {
        self.denials >= DENIALS_BELIEVED
    }

    /// The device that it is; `None` if it is a server.
    #[must_use]
    pub const fn refclock(&self) -> Option<&Refclock> {
        self.refclock.as_ref()
    }

    /// Its authentication, for display and saving.
    #[must_use]
    pub const fn association(&self) -> &Association {
        &self.association
    }
}
