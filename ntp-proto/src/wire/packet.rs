//! A packet taken apart.

use super::{
    Fields, Header, Reader,
    extension::{self, MIN_FIELD},
};
use crate::{error::WireError, ids::KeyId};

/// Longest MAC of NTPv4, key identifier included (RFC 7822).
const MAX_MAC_V4: usize = 24;

/// Longest MAC of NTPv3, key identifier included: a digest of 512 bits. RFC 1305 has only shorter ones, but peers send
/// their longer digests in this version, which has no extension fields to be confused with.
const MAX_MAC_V3: usize = 68;

/// Shortest MAC: key identifier and a digest of 128 bits.
const MIN_MAC: usize = 20;

/// A message authentication code at the end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac<'a> {
    /// Which key made it.
    pub key_id: KeyId,
    /// The digest, perhaps shortened.
    pub digest: &'a [u8],
    /// How many bytes at the start of the packet it vouches for.
    pub covered: usize,
}

/// What stands behind header and extension fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail<'a> {
    Nothing,
    CryptoNak,
    Mac(Mac<'a>),
}

/// A packet every byte of which is accounted for.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Its header.
    pub header: Header,
    bytes: &'a [u8],
    fields: &'a [u8],
    tail: Tail<'a>,
}

impl<'a> Packet<'a> {
    /// Takes a packet apart.
    ///
    /// # Errors
    /// Those of [`Header::read`]; [`WireError::Length`] for a broken extension field, [`WireError::Value`] for too many
    /// of them or for a MAC with key 0, [`WireError::Trailing`] for bytes that are neither field nor MAC.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let header = Header::read(bytes)?;
        let mut reader = Reader::new(bytes);
        reader.bytes(Header::LEN)?;
        let (fields_len, max_mac) = if header.version == 4 {
            // RFC 7822: what is longer than any MAC starts with an extension field.
            (extension::check(reader.rest(), MAX_MAC_V4, MIN_FIELD)?, MAX_MAC_V4)
        } else {
            (0, MAX_MAC_V3)
        };
        let fields = reader.bytes(fields_len)?;
        let covered = bytes.len().saturating_sub(reader.rest().len());
        let tail = read_tail(reader, covered, max_mac)?;
        Ok(Self { header, bytes, fields, tail })
    }

    /// The extension fields.
    #[must_use]
    pub const fn extensions(&self) -> Fields<'a> {
        Fields::new(self.fields, self.fields_end())
    }

    /// The MAC, if there is one; a crypto-NAK is none.
    #[must_use]
    pub const fn mac(&self) -> Option<Mac<'a>> {
        match self.tail {
            Tail::Mac(mac) => Some(mac),
            Tail::Nothing | Tail::CryptoNak => None,
        }
    }

    /// Whether it ends in a crypto-NAK: the other side could not verify our MAC (RFC 5905 section 7.3).
    #[must_use]
    pub const fn is_crypto_nak(&self) -> bool {
        matches!(self.tail, Tail::CryptoNak)
    }

    /// The packet as it came.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Where the last extension field ends.
    #[must_use]
    pub const fn fields_end(&self) -> usize {
        Header::LEN.saturating_add(self.fields.len())
    }
}

/// Tells the MAC behind the first `covered` bytes of a packet.
fn read_tail(mut reader: Reader<'_>, covered: usize, max_mac: usize) -> Result<Tail<'_>, WireError> {
    let len = reader.rest().len();
    match len {
        0 => Ok(Tail::Nothing),
        // RFC 5905 section 7.3: a MAC of nothing but a zero key identifier.
        4 if reader.u32()? == 0 => Ok(Tail::CryptoNak),
        _ if (MIN_MAC..=max_mac).contains(&len) && len.is_multiple_of(4) => match reader.u32()? {
            0 => Err(WireError::Value),
            id => Ok(Tail::Mac(Mac { key_id: KeyId(id), digest: reader.rest(), covered })),
        },
        _ => Err(WireError::Trailing),
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests are of our own making")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{MIN_LAST_FIELD, Writer};

    fn packet(version: u8, build: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut buffer = [0; 1024];
        buffer[0] = (version << 3) | 3;
        let mut writer = Writer::after(&mut buffer, Header::LEN).unwrap();
        build(&mut writer);
        let len = writer.len();
        buffer[..len].to_vec()
    }

    #[test]
    fn the_tail_is_told_by_its_length() {
        for (version, len, expected) in [
            (4, 0, Ok(None)),
            (4, 8, Err(WireError::Trailing)),
            (4, 16, Err(WireError::Trailing)),
            (4, 20, Ok(Some(16))),
            (4, 24, Ok(Some(20))),
            (4, 28, Err(WireError::Length)),
            (3, 16, Err(WireError::Trailing)),
            (3, 20, Ok(Some(16))),
            (3, 22, Err(WireError::Trailing)),
            (3, 36, Ok(Some(32))),
            (2, 68, Ok(Some(64))),
            (1, 72, Err(WireError::Trailing)),
        ] {
            let bytes = packet(version, |writer| writer.bytes(&[1; 100][..len]).unwrap());
            let digest = Packet::parse(&bytes).map(|packet| {
                assert!(!packet.is_crypto_nak());
                packet.mac().map(|mac| mac.digest.len())
            });
            assert_eq!(digest, expected, "version {version}, {len} bytes");
        }
    }

    #[test]
    fn four_zero_bytes_are_a_crypto_nak_and_no_other_four() {
        for version in 1..=4 {
            let nak = packet(version, |writer| writer.zeros(4).unwrap());
            let nak = Packet::parse(&nak).unwrap();
            assert!(nak.is_crypto_nak() && nak.mac().is_none());
            let other = packet(version, |writer| writer.u32(1).unwrap());
            assert_eq!(Packet::parse(&other).err(), Some(WireError::Trailing));
            let key_zero = packet(version, |writer| writer.zeros(20).unwrap());
            assert_eq!(Packet::parse(&key_zero).err(), Some(WireError::Value));
        }
    }

    #[test]
    fn fields_come_before_the_mac() {
        let bytes = packet(4, |writer| {
            writer.field(0x0104, &[1; 32], MIN_FIELD).unwrap();
            writer.field(0x2002, &[2; 5], MIN_FIELD).unwrap();
            writer.u32(77).unwrap();
            writer.bytes(&[3; 16]).unwrap();
        });
        let packet = Packet::parse(&bytes).unwrap();
        let fields: Vec<_> = packet.extensions().map(|field| (field.kind, field.body.len(), field.offset)).collect();
        assert_eq!(fields, [(0x0104, 32, 48), (0x2002, 12, 84)]);
        assert_eq!(packet.mac(), Some(Mac { key_id: KeyId(77), digest: &[3; 16], covered: 100 }));
        assert_eq!(packet.fields_end(), 100);
    }

    #[test]
    fn fields_are_counted_to_the_bound() {
        let with = |count| {
            packet(4, |writer| {
                for _ in 0..count {
                    writer.field(0x2002, &[], MIN_LAST_FIELD).unwrap();
                }
            })
        };
        assert_eq!(Packet::parse(&with(extension::MAX_FIELDS)).unwrap().extensions().count(), extension::MAX_FIELDS);
        let too_many = with(extension::MAX_FIELDS + 1);
        assert_eq!(Packet::parse(&too_many).err(), Some(WireError::Value));
    }

    #[test]
    fn wrong_lengths_are_refused() {
        for len in [0, 3, 12, 30, 32, 0xffff_u16] {
            let bytes = packet(4, |writer| {
                writer.u16(0x0104).unwrap();
                writer.u16(len).unwrap();
                writer.zeros(24).unwrap();
            });
            assert_eq!(Packet::parse(&bytes).err(), Some(WireError::Length), "length {len}");
        }
    }

    proptest! {
        #[test]
        fn whatever_parses_is_accounted_for(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), v4: bool) {
            if let Some(first) = bytes.first_mut() {
                *first = if v4 { 0x23 } else { 0x1b };
            }
            if let Ok(packet) = Packet::parse(&bytes) {
                let fields: usize = packet.extensions().map(|field| field.body.len().saturating_add(4)).sum();
                let tail = match packet.mac() {
                    Some(mac) => mac.digest.len().saturating_add(4),
                    None if packet.is_crypto_nak() => 4,
                    None => 0,
                };
                prop_assert_eq!(Header::LEN.saturating_add(fields).saturating_add(tail), bytes.len());
            }
        }

        #[test]
        fn fields_survive_the_round_trip(
            fields in proptest::collection::vec((any::<u16>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..8)
        ) {
            let bytes = packet(4, |writer| {
                for (kind, body) in &fields {
                    writer.field(*kind, body, MIN_LAST_FIELD).unwrap();
                }
            });
            let packet = Packet::parse(&bytes).unwrap();
            prop_assert_eq!(packet.extensions().count(), fields.len());
            for (read, (kind, body)) in packet.extensions().zip(&fields) {
                prop_assert_eq!(read.kind, *kind);
                prop_assert!(read.body.starts_with(body));
                prop_assert_eq!(&bytes[read.offset..][..2], &kind.to_be_bytes()[..]);
            }
        }
    }
}
