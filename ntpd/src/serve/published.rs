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

/// Makes one atomic of each count. The pattern in `store` names every field, so a new one cannot be forgotten.
macro_rules! published {
    ($($field:ident),*) => {
        /// The counts of one thread, on cache lines of their own. Read while the thread runs, they may be of moments
        /// one batch apart.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(super) struct Published {
            $($field: AtomicU64,)*
            unsent: AtomicU64,
            stamped: AtomicU64,
        }

        impl Published {
            pub(super) fn store(&self, counters: &ServerCounters, sending: SendCounters) {
                let ServerCounters { $($field),* } = counters;
                $(self.$field.store(*$field, Relaxed);)*
                self.unsent.store(sending.unsent, Relaxed);
                self.stamped.store(sending.stamped, Relaxed);
            }

            pub(super) fn counters(&self) -> ServerCounters {
                ServerCounters { $($field: self.$field.load(Relaxed)),* }
            }

            pub(super) fn sending(&self) -> SendCounters {
                SendCounters { unsent: self.unsent.load(Relaxed), stamped: self.stamped.load(Relaxed) }
            }
        }
    };
}

published!(
    received,
    stamped_by_daemon,
    stamped_by_kernel,
    stamped_by_hardware,
    dropped_malformed,
    dropped_mode,
    dropped_access,
    dropped_key,
    dropped_nts,
    dropped_rate,
    dropped_no_space,
    replies_plain,
    replies_symmetric,
    replies_nts,
    replies_nts_nak,
    replies_kiss,
    interleaved,
    cookies
);
