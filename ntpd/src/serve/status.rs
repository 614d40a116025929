//! The state of the clock as all server threads see it.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use ntp_proto::status::Status;

/// Holds the [`Status`] that is served. Readers never wait for the writer, nor it for them.
#[derive(Debug)]
pub struct StatusCell(ArcSwap<Status>);

impl StatusCell {
    /// Starts with `status`.
    #[must_use]
    pub fn new(status: Status) -> Self {
        Self(ArcSwap::from_pointee(status))
    }

    /// Serves `status` from now on.
    pub fn publish(&self, status: Status) {
        self.0.store(Arc::new(status));
    }

    /// What is served now.
    #[must_use]
    pub fn get(&self) -> Status {
        **self.0.load()
    }

    /// One thread's view, which allocates nothing.
    pub(super) fn view(&self) -> Cache<&ArcSwap<Status>, Arc<Status>> {
        Cache::new(&self.0)
    }
}

impl Default for StatusCell {
    /// A clock that follows nothing.
    fn default() -> Self {
        Self::new(Status::UNSYNCHRONIZED)
    }
}
