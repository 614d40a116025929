//! The parts replies are made of.

use chacha20::ChaCha12Rng;
use rand_core::Rng as _;

use super::{
    RxMeta,
    interleave::{InterleaveTable, TransmitToken, even, is_key},
};
use crate::{
    ids::{Leap, ReferenceId},
    nts::{AeadKey, Keyring, SessionKeys, authenticator},
    status::{Status, smeared},
    time::{NtpShort, NtpTimestamp},
    wire::{Header, Kiss, MIN_FIELD, MIN_LAST_FIELD, Mode, Writer, field},
};

/// Type and length in front of the body of an extension field.
const FIELD_HEADER_LEN: usize = 4;

/// Stratum of a clock that follows nothing (RFC 5905 section 7.3).
const STRATUM_UNSYNCHRONIZED: u8 = 16;

/// A request that will be answered, with what is known about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming<'a> {
    pub(super) header: Header,
    pub(super) meta: &'a RxMeta,
    pub(super) status: &'a Status,
}

/// The header of a reply, and what follows from its timestamps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamped {
    pub(super) header: Header,
    pub(super) interleaved: bool,
    pub(super) want_transmit_stamp: Option<TransmitToken>,
}

impl Incoming<'_> {
    /// The time, read from `now` as late as can be; `None` where it cannot be told.
    pub(super) fn time(
        &self,
        table: Option<&InterleaveTable<'_>>,
        now: impl FnOnce() -> NtpTimestamp,
    ) -> Option<Stamped> {
        let Self { header: request, meta, status } = self;
        let receive = status.served(meta.received)?;
        // RFC 9769 section 2: the origin timestamp is a receive timestamp of ours, and the request's own two differ.
        let asks_interleaved =
            request.version == 4 && is_key(request.origin.to_bits()) && request.receive != request.transmit;
        let previous = table.filter(|_| asks_interleaved).and_then(|table| table.take(request.origin, meta.peer));
        let kept_time = status.from_kernel.apply(now());
        let transmit = even(smeared(status.smear, kept_time)?);
        let kept = table.and_then(|table| table.put(receive, transmit, meta.peer));
        let header = Header {
            origin: if previous.is_some() { request.receive } else { request.transmit },
            receive: kept.unwrap_or_else(|| even(receive)),
            transmit: previous.unwrap_or(transmit),
            ..self.about_us(kept_time)
        };
        Some(Stamped {
            header,
            interleaved: previous.is_some(),
            want_transmit_stamp: kept
                .filter(|_| asks_interleaved)
                .map(|receive| InterleaveTable::token(receive, meta.peer, status.from_kernel, status.smear)),
        })
    }

    /// No time, but a kiss code (RFC 5905 section 7.4).
    pub(super) fn kiss(&self, kiss: Kiss) -> Stamped {
        let received = even(self.status.from_kernel.apply(self.meta.received));
        let header = Header {
            leap: Leap::Unsynchronized,
            version: self.header.version,
            mode: Mode::Server,
            stratum: 0,
            poll: self.header.poll,
            precision: self.status.precision,
            root_delay: NtpShort::default(),
            root_dispersion: NtpShort::default(),
            reference_id: kiss.reference_id(),
            reference: NtpTimestamp::ZERO,
            origin: self.header.transmit,
            receive: received,
            transmit: received,
        };
        Stamped { header, interleaved: false, want_transmit_stamp: None }
    }

    /// What we say about our clock when the time we keep is `now`; timestamps of the exchange are left out.
    fn about_us(&self, now: NtpTimestamp) -> Header {
        let status = self.status;
        let (leap, stratum, reference_id) = if status.synchronized_at(now) {
            // What is smeared is not to be applied once more.
            let leap = if status.smear.is_some() { Leap::None } else { status.leap };
            (leap, status.stratum, status.reference_id)
        } else {
            (Leap::Unsynchronized, STRATUM_UNSYNCHRONIZED, ReferenceId::default())
        };
        Header {
            leap,
            version: self.header.version,
            mode: Mode::Server,
            stratum,
            poll: self.header.poll,
            precision: status.precision,
            root_delay: NtpShort::at_least(status.root_delay),
            root_dispersion: NtpShort::at_least(status.root_dispersion_at(now)),
            reference_id,
            reference: smeared(status.smear, status.reference_time).unwrap_or(status.reference_time),
            origin: NtpTimestamp::ZERO,
            receive: NtpTimestamp::ZERO,
            transmit: NtpTimestamp::ZERO,
        }
    }
}

/// Writes a header to the start of `out`; `None` if it does not fit.
pub(super) fn put_header(out: &mut [u8], header: &Header) -> Option<()> {
    *out.first_chunk_mut()? = header.write();
    Some(())
}

/// Repeats the unique identifier behind the header, and returns the length so far.
pub(super) fn put_unique_id(out: &mut [u8], unique_id: &[u8], minimum: usize) -> Option<usize> {
    let mut writer = Writer::after(out, Header::LEN).ok()?;
    writer.field(field::UNIQUE_IDENTIFIER, unique_id, minimum).ok()?;
    Some(writer.len())
}

/// The fields behind the header of an NTS negative acknowledgment. RFC 8915 section 5.7: it carries the unique
/// identifier, and neither cookie nor authenticator.
pub(super) fn put_nak_fields(out: &mut [u8], unique_id: &[u8]) -> Option<usize> {
    put_unique_id(out, unique_id, MIN_LAST_FIELD)
}

/// A reply with NTS, complete but for its header and its seal.
#[derive(Clone, Copy, Debug)]
pub(super) struct NtsDraft {
    /// Where the authenticator field will start.
    start: usize,
    /// Bytes to encrypt: new cookies, each in its field.
    text_len: usize,
    /// How many cookies that are.
    pub(super) cookies: usize,
}

impl NtsDraft {
    /// Writes the fields: the unique identifier and as many new cookies of `wanted` as fit.
    pub(super) fn new(
        out: &mut [u8],
        unique_id: &[u8],
        keyring: &Keyring,
        keys: &SessionKeys,
        wanted: usize,
        rng: &mut ChaCha12Rng,
    ) -> Option<Self> {
        let start = put_unique_id(out, unique_id, MIN_FIELD)?;
        let algorithm = keys.s2c.algorithm();
        let cookie_len = Keyring::cookie_len(algorithm);
        let field_len = FIELD_HEADER_LEN + cookie_len;
        let spare = out.len().checked_sub(start + authenticator::sealed_len(algorithm, 0, 0))?;
        let cookies = wanted.min(spare / field_len);
        let text_len = cookies * field_len;
        let text_start = start + authenticator::text_offset(algorithm);
        let text = out.get_mut(text_start..text_start + text_len)?;
        for field in text.chunks_exact_mut(field_len) {
            let (header, cookie) = field.split_first_chunk_mut::<FIELD_HEADER_LEN>()?;
            let [kind_high, kind_low] = field::COOKIE.to_be_bytes();
            let [len_high, len_low] = u16::try_from(field_len).ok()?.to_be_bytes();
            *header = [kind_high, kind_low, len_high, len_low];
            let mut nonce = [0; 16];
            rng.fill_bytes(&mut nonce);
            keyring.issue(keys, &nonce, cookie).ok()?;
        }
        Some(Self { start, text_len, cookies })
    }

    /// Encrypts the cookies and vouches for all that is in front, the header included. Returns the reply's length.
    pub(super) fn seal(self, out: &mut [u8], key: &AeadKey, rng: &mut ChaCha12Rng) -> Option<usize> {
        let mut nonce = [0; 16];
        rng.fill_bytes(&mut nonce);
        authenticator::seal(out, self.start, self.text_len, key, &nonce, 0).ok()
    }
}
