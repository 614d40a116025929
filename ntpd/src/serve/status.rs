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

    /// Serves `status` from now on. What is served already costs the readers nothing.
    pub fn publish(&self, status: Status) {
        if self.get() != status {
            self.0.store(Arc::new(status));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_are_published() {
        let cell = StatusCell::default();
        let first = cell.0.load_full();
        cell.publish(Status::UNSYNCHRONIZED);
        assert!(Arc::ptr_eq(&first, &cell.0.load_full()));
        let news = Status { stratum: 3, ..Status::UNSYNCHRONIZED };
        cell.publish(news);
        assert_eq!(cell.get(), news);
    }
}
