//! What is counted.

/// What became of the packets one server thread received. Every packet is in exactly one of the drop or reply counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCounters {
    /// Packets received.
    pub received: u64,
    /// Of these, stamped by this program rather than the kernel or the interface.
    pub stamped_by_daemon: u64,
    /// Of these, stamped by the kernel.
    pub stamped_by_kernel: u64,
    /// Of these, stamped by the interface.
    pub stamped_by_hardware: u64,

    /// Dropped: not a packet of NTP version 1 to 4.
    pub dropped_malformed: u64,
    /// Dropped: not a request.
    pub dropped_mode: u64,
    /// Dropped: from an address that is not served.
    pub dropped_access: u64,
    /// Dropped: made with an unknown symmetric key, or not with the key it names.
    pub dropped_key: u64,
    /// Dropped: NTS fields incomplete or contradictory.
    pub dropped_nts: u64,
    /// Dropped: more requests than the rate limit lets through.
    pub dropped_rate: u64,
    /// Dropped: the reply did not fit into the caller's buffer.
    pub dropped_no_space: u64,

    /// Replies without authentication.
    pub replies_plain: u64,
    /// Replies with a symmetric key.
    pub replies_symmetric: u64,
    /// Replies with NTS.
    pub replies_nts: u64,
    /// NTS negative acknowledgments.
    pub replies_nts_nak: u64,
    /// Kiss-o'-death packets that ask to slow down.
    pub replies_kiss: u64,
    /// Of all replies, those in interleaved mode.
    pub interleaved: u64,
    /// NTS cookies issued.
    pub cookies: u64,
}

impl ServerCounters {
    /// Adds the counts of another thread.
    pub const fn add(&mut self, other: &Self) {
        let Self {
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
            cookies,
        } = other;
        self.received += *received;
        self.stamped_by_daemon += *stamped_by_daemon;
        self.stamped_by_kernel += *stamped_by_kernel;
        self.stamped_by_hardware += *stamped_by_hardware;
        self.dropped_malformed += *dropped_malformed;
        self.dropped_mode += *dropped_mode;
        self.dropped_access += *dropped_access;
        self.dropped_key += *dropped_key;
        self.dropped_nts += *dropped_nts;
        self.dropped_rate += *dropped_rate;
        self.dropped_no_space += *dropped_no_space;
        self.replies_plain += *replies_plain;
        self.replies_symmetric += *replies_symmetric;
        self.replies_nts += *replies_nts;
        self.replies_nts_nak += *replies_nts_nak;
        self.replies_kiss += *replies_kiss;
        self.interleaved += *interleaved;
        self.cookies += *cookies;
    }

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
    }

    /// Packets that got one.
    #[must_use]
    pub const fn replied(&self) -> u64 {
        self.replies_plain + self.replies_symmetric + self.replies_nts + self.replies_nts_nak + self.replies_kiss
    }
}
