//! The server: one request in, at most one reply out, without allocation, lock or state per client.
//!
//! Each server thread owns a [`Responder`]; what threads share are the slots under [`RateTable`] and
//! [`InterleaveTable`].

use core::{fmt, net::IpAddr};

use arrayvec::ArrayVec;
use chacha20::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::{
    counters::ServerCounters,
    ids::{KeyId, StampKind},
    nts::{AuthenticatorError, CookieError, Keyring, NtsSender, authenticator},
    status::Status,
    time::{Monotonic, NtpTimestamp},
    wire::{Header, Kiss, Mac, SymmetricKey},
};

mod access;
mod clients;
mod interleave;
mod local;
mod rate;
mod reply;
mod request;
mod verdict;

use rate::Subject;
use reply::{Incoming, NtsDraft, Stamped};
use request::{NtsFields, Protection};

pub use access::{Access, AccessTable, Prefix, TooManyRules};
pub use clients::{Asked, ClientRow, ClientSlot, ClientTable, Requests};
pub use interleave::{InterleaveSlot, InterleaveTable, TransmitToken};
pub use local::{LOCAL_REFERENCE, LocalConfig, LocalReference};
pub use rate::{RateLimit, RateTable};
pub use verdict::{DropReason, ReplyClass, Verdict};

/// What is known about a received packet besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RxMeta {
    /// Who sent it.
    pub peer: IpAddr,
    /// From which port.
    pub peer_port: u16,
    /// When it arrived, on the kernel's clock.
    pub received: NtpTimestamp,
    /// What made that timestamp.
    pub kind: StampKind,
    /// When it arrived, on the monotonic clock.
    pub monotonic: Monotonic,
}

/// More symmetric keys than [`Responder::MAX_KEYS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyKeys;

impl fmt::Display for TooManyKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {} symmetric keys", Responder::MAX_KEYS)
    }
}

impl core::error::Error for TooManyKeys {}

/// One of how many refused requests is told so with a kiss-o'-death, where that is wanted.
const REFUSED_PER_KISS: u32 = 16;

/// Answers requests. The order of its work is from cheap to dear, so that a packet that will not be answered costs
/// little: mode and version, address, parsing, key identifiers, cryptography, rate limit, reply.
pub struct Responder<'t> {
    access: AccessTable,
    keys: ArrayVec<SymmetricKey, { Responder::MAX_KEYS }>,
    keyring: Option<Keyring>,
    rate: Option<RateTable<'t>>,
    interleave: Option<InterleaveTable<'t>>,
    clients: Option<ClientTable<'t>>,
    rng: ChaCha12Rng,
    counters: ServerCounters,
}

/// A reply in the output buffer.
#[derive(Clone, Copy, Debug)]
struct Reply {
    len: usize,
    class: ReplyClass,
    stamped: Stamped,
}

/// What the rate limit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Permit {
    Answer,
    Kiss,
}

impl Responder<'_> {
    /// Most symmetric keys.
    pub const MAX_KEYS: usize = 64;
}

impl<'t> Responder<'t> {
    /// Serves whom `access` allows, with plain NTP in basic mode; the rest is added with the `set_` methods. `seed` must
    /// be fresh random bytes, for each thread others.
    #[must_use]
    pub fn new(access: AccessTable, seed: [u8; 32]) -> Self {
        Self {
            access,
            keys: ArrayVec::new(),
            keyring: None,
            rate: None,
            interleave: None,
            clients: None,
            rng: ChaCha12Rng::from_seed(seed),
            counters: ServerCounters::default(),
        }
    }

    /// Changes who is served.
    pub fn set_access(&mut self, access: AccessTable) {
        self.access = access;
    }

    /// Serves NTS with cookies under these master keys. Without a keyring NTS fields are unknown ones and ignored.
    pub fn set_keyring(&mut self, keyring: Option<Keyring>) {
        self.keyring = keyring;
    }

    /// Answers requests that are authenticated with one of these keys; the keys set before are forgotten.
    ///
    /// # Errors
    /// [`TooManyKeys`]; nothing is changed then.
    pub fn set_keys(&mut self, keys: &[SymmetricKey]) -> Result<(), TooManyKeys> {
        if keys.len() > Self::MAX_KEYS {
            return Err(TooManyKeys);
        }
        self.keys = keys.iter().cloned().collect();
        Ok(())
    }

    /// Limits rates, or does not.
    pub fn set_rate_table(&mut self, table: Option<RateTable<'t>>) {
        self.rate = table;
    }

    /// Serves interleaved mode (RFC 9769), or does not.
    pub const fn set_interleave_table(&mut self, table: Option<InterleaveTable<'t>>) {
        self.interleave = table;
    }

    /// Takes note of who asks, or does not.
    pub fn set_client_table(&mut self, table: Option<ClientTable<'t>>) {
        self.clients = table;
    }

    /// What was counted since the start.
    #[must_use]
    pub const fn counters(&self) -> &ServerCounters {
        &self.counters
    }

    /// Tells when a reply left, on the kernel's clock. Of use until the client's next request.
    pub fn transmitted(&self, token: &TransmitToken, transmitted: NtpTimestamp) {
        if let Some(table) = &self.interleave {
            table.amend(token, transmitted);
        }
    }

    /// Answers one request.
    ///
    /// `request` is changed. `now` reads the kernel's clock; it is called at most once, after all else but the seal is
    /// done. The reply stands in `out`, which should be as long as the request and may be longer; a reply is never
    /// longer than its request.
    pub fn respond(
        &mut self,
        request: &mut [u8],
        meta: &RxMeta,
        status: &Status,
        now: impl FnOnce() -> NtpTimestamp,
        out: &mut [u8],
    ) -> Verdict {
        // Whatever is built below is built in this slice, so it cannot outgrow the request.
        let room = out.len().min(request.len());
        let outcome = self.decide(request, meta, status, now, &mut out[..room]);
        self.count(meta, &outcome);
        self.note(meta, &outcome);
        match outcome {
            Ok(Reply { len, class, stamped }) => Verdict::Reply {
                len,
                class,
                interleaved: stamped.interleaved,
                want_transmit_stamp: stamped.want_transmit_stamp,
            },
            Err(reason) => Verdict::Drop(reason),
        }
    }

    fn decide(
        &mut self,
        request: &mut [u8],
        meta: &RxMeta,
        status: &Status,
        now: impl FnOnce() -> NtpTimestamp,
        out: &mut [u8],
    ) -> Result<Reply, DropReason> {
        let header = Header::read(request).map_err(|_| DropReason::Malformed)?;
        // Before anything else, so that no other mode is ever answered, not even with an error.
        if !request::is_request(&header, meta.peer_port) {
            return Err(DropReason::Mode);
        }
        if !self.access.allows(meta.peer) {
            return Err(DropReason::Access);
        }
        let incoming = Incoming { header, meta, status };
        match request::classify(request, self.keyring.is_some())? {
            Protection::None => self.answer_plain(&incoming, now, out),
            Protection::Symmetric { key_id, covered } => {
                self.answer_symmetric(request, key_id, covered, &incoming, now, out)
            }
            Protection::Nts(fields) => self.answer_nts(request, &fields, &incoming, now, out),
        }
    }

    fn answer_plain(
        &mut self,
        incoming: &Incoming<'_>,
        now: impl FnOnce() -> NtpTimestamp,
        out: &mut [u8],
    ) -> Result<Reply, DropReason> {
        let permit = self.permit(Subject::Address(incoming.meta.peer), incoming.meta.monotonic)?;
        let stamped = self.stamp(permit, incoming, now)?;
        reply::put_header(out, &stamped.header).ok_or(DropReason::NoSpace)?;
        Ok(Reply { len: Header::LEN, class: class(permit, ReplyClass::Plain), stamped })
    }

    fn answer_symmetric(
        &mut self,
        request: &[u8],
        key_id: KeyId,
        covered: usize,
        incoming: &Incoming<'_>,
        now: impl FnOnce() -> NtpTimestamp,
        out: &mut [u8],
    ) -> Result<Reply, DropReason> {
        let at = self.keys.iter().position(|key| key.id() == key_id).ok_or(DropReason::Key)?;
        let (covered_bytes, mac) = request.split_at_checked(covered).ok_or(DropReason::Malformed)?;
        let digest = mac.get(4..).ok_or(DropReason::Malformed)?;
        if !self.keys[at].verify(covered_bytes, &Mac { key_id, digest, covered }) {
            return Err(DropReason::Key);
        }
        let permit = self.permit(Subject::Key(incoming.meta.peer, key_id), incoming.meta.monotonic)?;
        let stamped = self.stamp(permit, incoming, now)?;
        reply::put_header(out, &stamped.header).ok_or(DropReason::NoSpace)?;
        let len = self.keys[at].append_cut(out, Header::LEN, digest.len()).map_err(|_| DropReason::NoSpace)?;
        Ok(Reply { len, class: class(permit, ReplyClass::Symmetric), stamped })
    }

    fn answer_nts(
        &mut self,
        request: &mut [u8],
        fields: &NtsFields,
        incoming: &Incoming<'_>,
        now: impl FnOnce() -> NtpTimestamp,
        out: &mut [u8],
    ) -> Result<Reply, DropReason> {
        let keyring = self.keyring.as_ref().ok_or(DropReason::Nts)?;
        let cookie = request.get(fields.cookie.clone()).ok_or(DropReason::Nts)?;
        let keys = match keyring.open(cookie) {
            Ok(keys) => keys,
            Err(CookieError::Length | CookieError::UnknownKey | CookieError::Forged) => {
                return self.answer_nak(request, fields, incoming, out);
            }
        };
        match authenticator::open(request, fields.authenticator, fields.authenticator_len, &keys.c2s, NtsSender::Client)
        {
            Ok(_) => {}
            Err(AuthenticatorError::Malformed) => return Err(DropReason::Nts),
            Err(AuthenticatorError::Forged) => return self.answer_nak(request, fields, incoming, out),
        }
        let permit = self.permit(Subject::Association(&keys.c2s), incoming.meta.monotonic)?;
        let unique_id = request.get(fields.unique_id.clone()).ok_or(DropReason::Nts)?;
        let keyring = self.keyring.as_ref().ok_or(DropReason::Nts)?;
        let draft =
            NtsDraft::new(out, unique_id, keyring, &keys, fields.cookies, &mut self.rng).ok_or(DropReason::NoSpace)?;
        let stamped = self.stamp(permit, incoming, now)?;
        reply::put_header(out, &stamped.header).ok_or(DropReason::NoSpace)?;
        let len = draft.seal(out, &keys.s2c, &mut self.rng).ok_or(DropReason::NoSpace)?;
        self.counters.cookies += draft.cookies as u64;
        Ok(Reply { len, class: class(permit, ReplyClass::Nts), stamped })
    }

    /// Says that cookie or authenticator were not accepted (RFC 8915 section 5.7). Charged to the address, since nobody
    /// is known to have sent this.
    fn answer_nak(
        &mut self,
        request: &[u8],
        fields: &NtsFields,
        incoming: &Incoming<'_>,
        out: &mut [u8],
    ) -> Result<Reply, DropReason> {
        if self.permit(Subject::Address(incoming.meta.peer), incoming.meta.monotonic)? != Permit::Answer {
            return Err(DropReason::Rate);
        }
        let unique_id = request.get(fields.unique_id.clone()).ok_or(DropReason::Nts)?;
        let stamped = incoming.kiss(Kiss::NtsNak);
        reply::put_header(out, &stamped.header).ok_or(DropReason::NoSpace)?;
        let len = reply::put_nak_fields(out, unique_id).ok_or(DropReason::NoSpace)?;
        Ok(Reply { len, class: ReplyClass::NtsNak, stamped })
    }

    /// Asks the rate limit.
    fn permit(&mut self, subject: Subject<'_>, now: Monotonic) -> Result<Permit, DropReason> {
        let Some(table) = &self.rate else {
            return Ok(Permit::Answer);
        };
        if table.charge(subject, now) {
            return Ok(Permit::Answer);
        }
        let limit = table.limit();
        if let (Subject::Address(_), Some(log2)) = (subject, limit.leak_log2)
            && self.rng.next_u32().checked_shr(32_u32.saturating_sub(u32::from(log2))).unwrap_or(0) == 0
        {
            return Ok(Permit::Answer);
        }
        if limit.kiss && self.rng.next_u32().is_multiple_of(REFUSED_PER_KISS) {
            return Ok(Permit::Kiss);
        }
        Err(DropReason::Rate)
    }

    fn stamp(
        &self,
        permit: Permit,
        incoming: &Incoming<'_>,
        now: impl FnOnce() -> NtpTimestamp,
    ) -> Result<Stamped, DropReason> {
        match permit {
            Permit::Answer => incoming.time(self.interleave.as_ref(), now).ok_or(DropReason::Leap),
            Permit::Kiss => Ok(incoming.kiss(Kiss::Rate)),
        }
    }

    /// Takes note of whoever is served at all.
    fn note(&self, meta: &RxMeta, outcome: &Result<Reply, DropReason>) {
        let Some(table) = &self.clients else { return };
        let is_answered = match outcome {
            Err(DropReason::Malformed | DropReason::Mode | DropReason::Access) => return,
            Err(DropReason::Key | DropReason::Nts | DropReason::Rate | DropReason::NoSpace | DropReason::Leap) => false,
            Ok(_) => true,
        };
        table.note(meta.peer, meta.monotonic, Asked::Ntp, is_answered);
    }

    fn count(&mut self, meta: &RxMeta, outcome: &Result<Reply, DropReason>) {
        let counters = &mut self.counters;
        counters.received += 1;
        *match meta.kind {
            StampKind::Daemon => &mut counters.stamped_by_daemon,
            StampKind::Kernel => &mut counters.stamped_by_kernel,
            StampKind::Hardware => &mut counters.stamped_by_hardware,
        } += 1;
        *match outcome {
            Err(DropReason::Malformed) => &mut counters.dropped_malformed,
            Err(DropReason::Mode) => &mut counters.dropped_mode,
            Err(DropReason::Access) => &mut counters.dropped_access,
            Err(DropReason::Key) => &mut counters.dropped_key,
            Err(DropReason::Nts) => &mut counters.dropped_nts,
            Err(DropReason::Rate) => &mut counters.dropped_rate,
            Err(DropReason::NoSpace) => &mut counters.dropped_no_space,
            Err(DropReason::Leap) => &mut counters.dropped_leap,
            Ok(reply) => {
                counters.interleaved += u64::from(reply.stamped.interleaved);
                match reply.class {
                    ReplyClass::Plain => &mut counters.replies_plain,
                    ReplyClass::Symmetric => &mut counters.replies_symmetric,
                    ReplyClass::Nts => &mut counters.replies_nts,
                    ReplyClass::NtsNak => &mut counters.replies_nts_nak,
                    ReplyClass::Kiss => &mut counters.replies_kiss,
                }
            }
        } += 1;
    }
}

impl fmt::Debug for Responder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("access", &self.access)
            .field("keys", &self.keys)
            .field("keyring", &self.keyring)
            .field("rate", &self.rate)
            .field("interleave", &self.interleave)
            .field("clients", &self.clients)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// The class to report for a reply of this class.
const fn class(permit: Permit, class: ReplyClass) -> ReplyClass {
    match permit {
        Permit::Answer => class,
        Permit::Kiss => ReplyClass::Kiss,
    }
}

#[cfg(test)]
mod tests;
