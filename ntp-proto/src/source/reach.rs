//! The reachability register.

/// Which of the last eight requests were answered (RFC 5905 section 9.2); the newest is the lowest bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    bits: u8,
    /// Requests in a row without an answer.
    missed: u32,
}

impl Reach {
    /// A request goes out.
    pub(super) const fn handle_request(&mut self) {
        self.bits <<= 1;
        self.missed = self.missed.saturating_add(1);
    }

    /// The last request was answered.
    pub(super) const fn handle_reply(&mut self) {
        self.bits |= 1;
        self.missed = 0;
    }

    /// The register, shown in octal by tradition.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// Whether any of the last eight requests was answered.
    #[must_use]
    pub const fn is_reachable(self) -> bool {
        self.bits != 0
    }

    /// Requests in a row without an answer, the one under way included.
    #[must_use]
    pub const fn missed(self) -> u32 {
        self.missed
    }
}
