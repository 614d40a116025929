//! Replies protected with NTS.

use core::fmt;

use subtle::ConstantTimeEq as _;

use super::{UNIQUE_ID_LEN, aead::AeadKey, authenticator};
use crate::{
    error::WireError,
    wire::{Field, Fields, Header, Kiss, Packet, field, fields_fill},
};

/// Why a reply was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenReplyError {
    /// It, or what it encrypts, does not follow the format.
    Wire(WireError),
    /// It does not repeat our unique identifier exactly once, so it answers another request or none.
    UniqueId,
    /// The server could not use our cookie or key (RFC 8915 section 5.7). The unique identifier is ours, but anybody who
    /// saw the request can have sent this.
    NtsNak,
    /// It carries no authenticator.
    NoAuthenticator,
    /// The authenticator does not vouch for it.
    Forged,
}

impl fmt::Display for OpenReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(error) => write!(f, "malformed: {error}"),
            Self::UniqueId => f.write_str("no or another unique identifier"),
            Self::NtsNak => f.write_str("NTS negative acknowledgment"),
            Self::NoAuthenticator => f.write_str("no authenticator"),
            Self::Forged => f.write_str("authentication failed"),
        }
    }
}

impl core::error::Error for OpenReplyError {}

impl From<WireError> for OpenReplyError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// A reply that its server vouches for. Only [`open_reply`] makes one.
#[derive(Clone, Debug)]
pub struct Authentic<'a> {
    header: Header,
    encrypted: &'a [u8],
}

impl<'a> Authentic<'a> {
    /// Its header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The cookies it brings. RFC 8915 section 5.7 has them encrypted; any outside the encrypted part were ignored.
    pub fn cookies(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        Fields::new(self.encrypted, self.encrypted.len())
            .filter(|field| field.kind == field::COOKIE)
            .map(|field| field.body)
    }
}

/// Verifies a reply to the request with this unique identifier, with the S2C key, and decrypts it in place.
///
/// Nothing behind the authenticator is looked at: it is not authenticated (RFC 8915 section 5.7).
///
/// # Errors
/// [`OpenReplyError`]; the packet is then of no use any more.
pub fn open_reply<'a>(
    packet: &'a mut [u8],
    unique_id: &[u8; UNIQUE_ID_LEN],
    key: &AeadKey,
) -> Result<Authentic<'a>, OpenReplyError> {
    let parsed = Packet::parse(packet)?;
    let header = parsed.header;
    let authenticator = parsed.extensions().find(|field| field.kind == field::AUTHENTICATOR);
    let end = authenticator.map_or(packet.len(), |field| field.offset);
    if !repeats(parsed.extensions().take_while(|field| field.offset < end), unique_id) {
        return Err(OpenReplyError::UniqueId);
    }
    let Some(Field { body, offset, .. }) = authenticator else {
        return Err(match Kiss::of(&header) {
            Some(Kiss::NtsNak) => OpenReplyError::NtsNak,
            _ => OpenReplyError::NoAuthenticator,
        });
    };
    let body_len = body.len();
    let text = authenticator::open(packet, offset, body_len, key, authenticator::Sender::Server)
        .map_err(|_| OpenReplyError::Forged)?;
    let encrypted = packet.get(text).unwrap_or_default();
    fields_fill(encrypted)?;
    Ok(Authentic { header, encrypted })
}

/// Whether exactly one of `fields` is a unique identifier, and ours.
fn repeats<'a>(fields: impl Iterator<Item = Field<'a>>, unique_id: &[u8; UNIQUE_ID_LEN]) -> bool {
    let mut ids = fields.filter(|field| field.kind == field::UNIQUE_IDENTIFIER);
    let (Some(id), None) = (ids.next(), ids.next()) else {
        return false;
    };
    id.body.ct_eq(unique_id).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        nts::AeadAlgorithm,
        wire::{MIN_FIELD, Writer},
    };

    const ID: [u8; 32] = [1; 32];

    fn key(algorithm: AeadAlgorithm) -> AeadKey {
        AeadKey::new(algorithm, &[7; 64][..algorithm.key_len()]).unwrap()
    }

    /// A reply with these fields in clear and these bytes encrypted.
    fn reply(algorithm: AeadAlgorithm, clear: &[(u16, &[u8])], encrypted: &[u8]) -> Vec<u8> {
        let mut buffer = [0; 2000];
        buffer[..4].copy_from_slice(&[0x24, 1, 6, 0xe9]);
        let mut writer = Writer::after(&mut buffer, Header::LEN).unwrap();
        for (kind, body) in clear {
            writer.field(*kind, body, MIN_FIELD).unwrap();
        }
        let start = writer.len();
        buffer[start + authenticator::text_offset(algorithm)..][..encrypted.len()].copy_from_slice(encrypted);
        let len = authenticator::seal(&mut buffer, start, encrypted.len(), &key(algorithm), &[2; 16], 0).unwrap();
        buffer[..len].to_vec()
    }

    fn fields(fields: &[(u16, &[u8])]) -> Vec<u8> {
        let mut buffer = [0; 2000];
        let mut writer = Writer::after(&mut buffer, 0).unwrap();
        for (kind, body) in fields {
            writer.field(*kind, body, 0).unwrap();
        }
        let len = writer.len();
        buffer[..len].to_vec()
    }

    fn open(packet: &[u8], algorithm: AeadAlgorithm) -> Result<Vec<Vec<u8>>, OpenReplyError> {
        let mut packet = packet.to_vec();
        open_reply(&mut packet, &ID, &key(algorithm)).map(|reply| {
            assert_eq!((reply.header().version, reply.header().stratum), (4, 1));
            reply.cookies().map(<[u8]>::to_vec).collect()
        })
    }

    const SIV: AeadAlgorithm = AeadAlgorithm::AesSivCmac256;

    #[test]
    fn encrypted_cookies_are_taken_and_others_ignored() {
        let inner = fields(&[(field::COOKIE, &[4; 100]), (0x2002, &[0; 8]), (field::COOKIE, &[5; 100])]);
        for algorithm in AeadAlgorithm::ALL {
            let clear: [(u16, &[u8]); 2] = [(field::UNIQUE_IDENTIFIER, &ID), (field::COOKIE, &[6; 100])];
            let packet = reply(algorithm, &clear, &inner);
            assert_eq!(open(&packet, algorithm), Ok(vec![vec![4; 100], vec![5; 100]]));
            let trailing = [&packet[..], &fields(&[(field::COOKIE, &[8; 100])])].concat();
            assert_eq!(open(&trailing, algorithm), Ok(vec![vec![4; 100], vec![5; 100]]));
        }
        assert_eq!(open(&reply(SIV, &[(field::UNIQUE_IDENTIFIER, &ID)], &[]), SIV), Ok(vec![]));
    }

    #[test]
    fn the_unique_identifier_must_be_ours_and_alone() {
        let other = [9; 32];
        let ours: (u16, &[u8]) = (field::UNIQUE_IDENTIFIER, &ID);
        for clear in [&[][..], &[(field::UNIQUE_IDENTIFIER, &other[..])], &[ours, ours], &[(0x0105, &ID)]] {
            assert_eq!(open(&reply(SIV, clear, &[]), SIV), Err(OpenReplyError::UniqueId));
        }
        let longer: (u16, &[u8]) = (field::UNIQUE_IDENTIFIER, &[1; 36]);
        assert_eq!(open(&reply(SIV, &[longer], &[]), SIV), Err(OpenReplyError::UniqueId));
        // Behind the authenticator it proves nothing.
        let packet = [&reply(SIV, &[], &[])[..], &fields(&[ours])].concat();
        assert_eq!(open(&packet, SIV), Err(OpenReplyError::UniqueId));
    }

    #[test]
    fn a_reply_without_authenticator_is_a_nak_or_nothing() {
        let clear = |first: [u8; 4], reference_id: &[u8; 4], id: &[u8]| {
            let mut packet = [&first[..], &[0; 44], &fields(&[(field::UNIQUE_IDENTIFIER, id)])].concat();
            packet[12..16].copy_from_slice(reference_id);
            open(&packet, SIV)
        };
        assert_eq!(clear([0xe4, 0, 6, 0], b"NTSN", &ID), Err(OpenReplyError::NtsNak));
        assert_eq!(clear([0xe4, 0, 6, 0], b"NTSN", &[9; 32]), Err(OpenReplyError::UniqueId));
        assert_eq!(clear([0xe4, 0, 6, 0], b"DENY", &ID), Err(OpenReplyError::NoAuthenticator));
        assert_eq!(clear([0xe4, 1, 6, 0], b"NTSN", &ID), Err(OpenReplyError::NoAuthenticator));
    }

    #[test]
    fn no_changed_bit_is_accepted() {
        let inner = fields(&[(field::COOKIE, &[4; 100])]);
        let packet = reply(SIV, &[(field::UNIQUE_IDENTIFIER, &ID)], &inner);
        for bit in 0..packet.len() * 8 {
            let mut packet = packet.clone();
            packet[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&packet, SIV).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn broken_fields_inside_are_told() {
        for (inner, expected) in [
            (&[2, 4, 0, 3][..], WireError::Length),
            (&[2, 4, 0, 8], WireError::Length),
            (&[2, 4, 0, 4].repeat(17), WireError::Value),
        ] {
            let packet = reply(SIV, &[(field::UNIQUE_IDENTIFIER, &ID)], inner);
            assert_eq!(open(&packet, SIV), Err(OpenReplyError::Wire(expected)));
        }
        assert_eq!(open(&[0x24; 47], SIV), Err(OpenReplyError::Wire(WireError::Truncated)));
    }
}
