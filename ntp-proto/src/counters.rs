//! What is counted.

/// Makes the counts from one table, so that whoever passes all of them on need not name them again.
macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// What became of the packets one server thread received. Every packet is in exactly one of the drop or reply
        /// counts.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct ServerCounters {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl ServerCounters {
            /// The names of all counts.
            pub const NAMES: [&'static str; Self::LEN] = [$(stringify!($field)),*];

            /// How many counts there are.
            pub const LEN: usize = [$(stringify!($field)),*].len();

            /// All counts, in the order of [`NAMES`](Self::NAMES).
            #[must_use]
            pub const fn to_array(&self) -> [u64; Self::LEN] {
                [$(self.$field),*]
            }

            /// The counts of [`to_array`](Self::to_array).
            #[must_use]
            pub const fn from_array(counts: [u64; Self::LEN]) -> Self {
                let [$($field),*] = counts;
                Self { $($field),* }
            }

            /// Adds the counts of another thread.
            pub const fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

counters! {
    /// Packets received.
    received,
    /// Of these, stamped by this program rather than the kernel or the interface.
    stamped_by_daemon,
    /// Of these, stamped by the kernel.
    stamped_by_kernel,
    /// Of these, stamped by the interface.
    stamped_by_hardware,

    /// Dropped: not a packet of NTP version 1 to 4.
    dropped_malformed,
    /// Dropped: not a request.
    dropped_mode,
    /// Dropped: from an address that is not served.
    dropped_access,
    /// Dropped: made with an unknown symmetric key, or not with the key it names.
    dropped_key,
    /// Dropped: NTS fields incomplete or contradictory.
    dropped_nts,
    /// Dropped: more requests than the rate limit lets through.
    dropped_rate,
    /// Dropped: the reply did not fit into the caller's buffer.
    dropped_no_space,
    /// Dropped: in a leap second that is smeared, when the clock reads the same twice.
    dropped_leap,

    /// Replies without authentication.
    replies_plain,
    /// Replies with a symmetric key.
    replies_symmetric,
    /// Replies with NTS.
    replies_nts,
    /// NTS negative acknowledgments.
    replies_nts_nak,
    /// Kiss-o'-death packets that ask to slow down.
    replies_kiss,
    /// Of all replies, those in interleaved mode.
    interleaved,
    /// NTS cookies issued.
    cookies,
}

impl ServerCounters {
    /// Packets that got no reply.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped_malformed
            + self.dropped_mode
            + self.dropped_access
            + self.dropped_key
            + self.dropped_nts
            + self.dropped_rate
            + self.dropped_no_space
            + self.dropped_leap
    }

    /// Packets that got one.
    #[must_use]
    pub const fn replied(&self) -> u64 {
        self.replies_plain + self.replies_symmetric + self.replies_nts + self.replies_nts_nak + self.replies_kiss
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_counts_are_in_one_order() {
        let counts: [u64; ServerCounters::LEN] = core::array::from_fn(|place| place as u64);
        let counters = ServerCounters::from_array(counts);
        assert_eq!(counters.to_array(), counts);
        assert_eq!(ServerCounters::NAMES[usize::try_from(counters.cookies).unwrap()], "cookies");
        assert_eq!(ServerCounters::NAMES[usize::try_from(counters.dropped_key).unwrap()], "dropped_key");
    }
}
