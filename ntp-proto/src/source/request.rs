//! Requests.

use chacha20::ChaCha12Rng;
use rand_core::Rng;

use super::{Source, exchange::InFlight};
use crate::{
    ids::{Leap, ReferenceId, SourceId},
    time::{NtpShort, NtpTimestamp},
    wire::{Header, Mode},
};

/// Most bytes of a request: what every IPv6 path carries (RFC 8200 section 5) less the IPv6 and UDP headers.
const MAX_REQUEST: usize = 1280 - 48;

/// A request as it goes out.
pub type Datagram = Vec<u8>;

/// Names a request, so that the time at which it left can be told later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxToken {
    /// Whose request.
    pub source: SourceId,
    /// Which of its requests.
    pub sequence: u32,
}

/// Precision that every client claims, so that requests tell nothing of the machine
/// (draft-ietf-ntp-data-minimization).
const REQUEST_PRECISION: i8 = 32;

impl Source {
    /// Makes a request; `None` without keys or cookies.
    ///
    /// RFC 9109 section 3 asks for a random source port (the socket is the daemon's); the transmit timestamp is random
    /// too, which makes a second secret that a blind attacker would have to guess, and tells no one our time.
    pub(super) fn request(&mut self, rng: &mut ChaCha12Rng) -> Option<(InFlight, Datagram)> {
        if !self.association.is_ready() {
            return None;
        }
        self.sequence = self.sequence.wrapping_add(1);
        let token = TxToken { source: self.id, sequence: self.sequence };
        let nonce = nonzero(rng);
        let previous = self.previous.filter(|_| self.interleaves());
        let interleaved_nonce = previous.map(|_| nonzero(rng));
        let header = Header {
            leap: Leap::None,
            version: self.config.version,
            mode: Mode::Client,
            stratum: 0,
            poll: 0,
            precision: REQUEST_PRECISION,
            root_delay: NtpShort::default(),
            root_dispersion: NtpShort::default(),
            reference_id: ReferenceId::default(),
            reference: NtpTimestamp::ZERO,
            // RFC 9769 section 2: the server finds its last reply by the receive timestamp in it, sent back as origin.
            origin: previous.map_or(NtpTimestamp::ZERO, |previous| previous.server_received),
            receive: interleaved_nonce.unwrap_or(NtpTimestamp::ZERO),
            transmit: nonce,
        };
        let mut buffer = [0; MAX_REQUEST];
        let (head, _) = buffer.split_first_chunk_mut::<{ Header::LEN }>()?;
        *head = header.write();
        let mut unique_id = [0; 32];
        rng.fill_bytes(&mut unique_id);
        let len = self.association.protect(&mut buffer, Header::LEN, &unique_id, rng)?;
        let datagram = buffer.get(..len)?.to_vec();
        let flight = InFlight { token, nonce, interleaved_nonce, unique_id, sent: None, nak: false };
        Some((flight, datagram))
    }
}

/// A random timestamp other than zero, which would mean "unknown".
fn nonzero(rng: &mut ChaCha12Rng) -> NtpTimestamp {
    NtpTimestamp::from_bits(rng.next_u64().max(1))
}
