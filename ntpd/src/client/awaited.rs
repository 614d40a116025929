//! Sources that there will be once names are resolved.
//!
//! Where many servers are configured, one alone is not followed, also not because its name is resolved first. So a name counts for
//! as many sources as are wanted from it until it was found out how many it has, or that it cannot be resolved. Then it counts no
//! more: a machine that has its own server and no way to a pool keeps that server's time.

use std::collections::BTreeSet;

use ntp_proto::{
    engine::Awaited,
    ids::Trust,
    pool::{Answer, QuestionId},
};

use super::{Client, Group, boot::Nts};

/// The first search for the servers of a name.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// What was asked and is not answered yet.
    pub(super) open: BTreeSet<QuestionId>,
    /// Something could not be found.
    failed: bool,
    /// It has found all that there was, or failed.
    is_over: bool,
}

impl Search {
    pub(super) fn begin(&mut self, question: QuestionId) {
        self.open.insert(question);
    }

    pub(super) fn end(&mut self, question: QuestionId, answer: &Answer) {
        self.open.remove(&question);
        self.failed |= matches!(answer, Answer::Failed(_));
    }
}

impl Group {
    /// Nothing is to be asked now. Where there are servers or something failed, and no other answer is waited for that could bring more,
    /// the name has no more than these.
    pub(super) fn note_idle(&mut self) {
        let is_waiting = self.search.open.iter().any(|question| !self.mode.is_look(*question));
        let is_known = self.search.failed || self.problem.is_some() || !self.members.is_empty();
        self.search.is_over |= is_known && !is_waiting;
    }

    /// How many sources it is to have and has not yet.
    pub(super) fn missing(&self) -> usize {
        let is_searching = !self.offline && !self.search.is_over;
        if is_searching { self.configured.count().saturating_sub(self.sources().len()) } else { 0 }
    }
}

impl Client {
    /// Says how many sources there will be, and which of them are not found yet.
    pub(super) fn expect_sources(&mut self) {
        let awaited = |group: &Group| Awaited {
            count: group.missing(),
            trust: match &group.key {
                Some(_) => Trust::Key,
                None if self.nts_of(group) == Nts::Expected => Trust::Pki,
                None => Trust::None,
            },
            options: group.configured.options().select,
        };
        let awaited = self.groups.values().map(awaited).filter(|awaited| awaited.count > 0).collect();
        let count = self.groups.values().map(|group| group.configured.count()).sum();
        let present = self.clock.now();
        self.engine.expect_sources(present, count, awaited);
    }
}
