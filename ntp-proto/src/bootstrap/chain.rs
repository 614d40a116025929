//! What signatures say of the time, whatever the time is.

use crate::time::UnixTime;

/// The times between which a statement is valid, in Unix seconds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First second.
    pub not_before: i64,
    /// Last second.
    pub not_after: i64,
}

impl Window {
    /// Valid at all times.
    pub const ALWAYS: Self = Self { not_before: i64::MIN, not_after: i64::MAX };

    /// Whether `at` is in it, or less than `slack` seconds outside.
    #[must_use]
    pub const fn contains(&self, at: i64, slack: i64) -> bool {
        at >= self.not_before.saturating_sub(slack) && at <= self.not_after.saturating_add(slack)
    }

    /// The time in it that is nearest to `at`.
    #[must_use]
    pub fn nearest(&self, at: i64) -> i64 {
        at.max(self.not_before).min(self.not_after)
    }

    /// The times that both contain.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self { not_before: self.not_before.max(other.not_before), not_after: self.not_after.min(other.not_after) }
    }

    /// Whether it contains no time at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.not_before > self.not_after
    }
}

/// Most times of one [`Chain`].
pub const MAX_SIGNED: usize = 16;

/// What signatures of DNS records say of the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signatures {
    /// When all of them are valid, those of the keys above included (RFC 4034 section 3.1.5).
    pub window: Window,
    /// When the records themselves were signed, in Unix seconds. At most [`MAX_SIGNED`].
    pub signed: Vec<i64>,
}

/// What a verified chain of certificates, and the DNS records that led to it, say of the time.
///
/// Everything but dates has been verified: names, signatures and purposes; and that the server holds the key, if keys were
/// exchanged. To judge it again at another time it is enough to ask whether [`window`](Self::window) contains that: nothing
/// else depends on the time, so that neither the certificates nor the network are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// When all of it is valid: from the last `notBefore` to the first `notAfter` (RFC 5280 section 4.1.2.5), and within the
    /// signatures of records that chose the name (RFC 4034 section 3.1.5). For a certificate that a DANE-EE record vouches
    /// for, its dates do not count (RFC 7671 section 5.1), and those of the record's signatures alone do.
    pub window: Window,
    /// When parts of it were signed, in Unix seconds: it was that late at least. `notBefore` of each certificate, times of
    /// certificate transparency (RFC 6962 section 3.2). At most [`MAX_SIGNED`].
    pub signed: Vec<i64>,
    /// When the records that led to it or vouch for it were signed, in Unix seconds: as the owner of the name that is configured
    /// would have it. At most [`MAX_SIGNED`].
    pub records: Vec<i64>,
    /// For how many seconds the server's own certificate is valid; 0 if its dates do not count.
    pub life: i64,
    /// SHA-256 of the public key (SubjectPublicKeyInfo) of the server's own certificate.
    pub key: [u8; 32],
    /// It leads to a certificate that the administrator named, not one of the system's.
    pub pinned: bool,
}

impl Chain {
    /// The latest time that is signed in it.
    #[must_use]
    pub fn evidence(&self) -> i64 {
        self.signed.iter().chain(&self.records).copied().max().unwrap_or(i64::MIN)
    }

    /// Whether nothing of it depends on the time, as with a key that an administrator gave to both sides.
    #[must_use]
    pub fn is_timeless(&self) -> bool {
        self.window == Window::ALWAYS
    }

    /// The same for a server that signed records led to. The latest times are kept.
    #[must_use]
    pub fn found_by(mut self, records: &Signatures) -> Self {
        self.window = self.window.and(&records.window);
        self.records.extend(&records.signed);
        keep_latest(&mut self.records);
        self
    }
}

/// Leaves the latest [`MAX_SIGNED`] times, the latest first.
pub fn keep_latest(signed: &mut Vec<i64>) {
    signed.sort_unstable_by(|one, other| other.cmp(one));
    signed.dedup();
    signed.truncate(MAX_SIGNED);
}

/// At which time the dates of signatures are to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// At this one.
    At(UnixTime),
    /// Later, when the time is known: now at the time nearest to `now` at which they are valid, if they are at any time from
    /// `floor` on, in Unix seconds. What is expired at `floor` is refused: it was that late at least.
    Deferred {
        /// What the clock says.
        now: i64,
        /// It is this late at least.
        floor: i64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_meet_and_may_be_empty() {
        let (a, b) = (Window { not_before: 10, not_after: 20 }, Window { not_before: 15, not_after: 30 });
        let both = a.and(&b);
        assert_eq!(both, Window { not_before: 15, not_after: 20 });
        assert!(!both.is_empty() && a.and(&Window { not_before: 21, not_after: 30 }).is_empty());
        assert_eq!(a.and(&Window::ALWAYS), a);
        assert!(both.contains(15, 0) && both.contains(20, 0) && !both.contains(21, 0) && both.contains(21, 1));
        assert_eq!([0, 17, 99].map(|at| both.nearest(at)), [15, 17, 20]);
    }

    #[test]
    fn records_that_led_to_a_server_count_like_its_certificates() {
        let window = Window { not_before: 10, not_after: 20 };
        let chain = Chain { window, signed: vec![10, 12], records: Vec::new(), life: 11, key: [1; 32], pinned: false };
        let records = Signatures { window: Window { not_before: 5, not_after: 15 }, signed: (0..20).collect() };
        let found = chain.clone().found_by(&records);
        assert_eq!(found.window, Window { not_before: 10, not_after: 15 });
        assert_eq!(found.records, (4..20).rev().collect::<Vec<i64>>());
        assert_eq!(found.evidence(), 19);
        assert_eq!(Chain { window, records: Vec::new(), ..found }, chain);
    }
}
