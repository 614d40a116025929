//! What the engine waits for.

use super::Engine;
use crate::time::Monotonic;

impl Engine {
    /// The earliest deadline, and what it is for.
    pub(super) fn next_timeout(&self) -> (Option<Monotonic>, &'static str) {
        let compared = self.sources.values().filter_map(|source| source.compared_until()).max();
        // Those who were asked may have answered with nothing of use, or be removed: then there is no more to wait for.
        let answers = self.comparing.then(|| compared.unwrap_or_default());
        let poll = self.sources.values().filter_map(|source| source.schedule().next()).min();
        [
            (self.slew_end, "end of slew"),
            (self.refresh, "refresh of the clock's status"),
            (self.leap_due.map(|due| due.at), "leap second"),
            (answers, "answers of other sources"),
            (poll, "next request"),
        ]
        .into_iter()
        .filter_map(|(at, why)| at.map(|at| (at, why)))
        .min()
        .map_or((None, "nothing"), |(at, why)| (Some(at), why))
    }
}
