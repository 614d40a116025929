//! Counts that one thread writes and others may read at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ntp_proto::counters::ServerCounters;

/// What became of replies on their way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendCounters {
    /// Replies that the kernel did not take: no route, no buffer, or an address of ours that has gone.
    pub unsent: u64,
    /// Replies for which the kernel told when they left. It is asked only for clients in interleaved mode.
    pub stamped: u64,
}

/// The counts of one thread, on cache lines of their own. Read while the thread runs, they may be of moments one batch
/// apart.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Published {
    counters: [AtomicU64; ServerCounters::LEN],
    unsent: AtomicU64,
    stamped: AtomicU64,
}

impl Published {
    pub(super) fn store(&self, counters: &ServerCounters, sending: SendCounters) {
        for (published, count) in self.counters.iter().zip(counters.to_array()) {
            published.store(count, Relaxed);
        }
        self.unsent.store(sending.unsent, Relaxed);
        self.stamped.store(sending.stamped, Relaxed);
    }

    pub(super) fn counters(&self) -> ServerCounters {
        ServerCounters::from_array(self.counters.each_ref().map(|published| published.load(Relaxed)))
    }

    pub(super) fn sending(&self) -> SendCounters {
        SendCounters { unsent: self.unsent.load(Relaxed), stamped: self.stamped.load(Relaxed) }
    }
}
