//! The 48 bytes that every NTP packet starts with.

use crate::{
    error::WireError,
    ids::{Leap, ReferenceId},
    time::{NtpShort, NtpTimestamp},
};

/// Association mode (RFC 5905 section 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// 0; in NTPv1 a request or a reply.
    Reserved,
    /// 1.
    SymmetricActive,
    /// 2.
    SymmetricPassive,
    /// 3, a request.
    Client,
    /// 4, a reply.
    Server,
    /// 5.
    Broadcast,
    /// 6, NTP control message (RFC 9327).
    Control,
    /// 7.
    Private,
}

impl Mode {
    /// From the lowest three bits of the first byte.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Self::Reserved,
            1 => Self::SymmetricActive,
            2 => Self::SymmetricPassive,
            3 => Self::Client,
            4 => Self::Server,
            5 => Self::Broadcast,
            6 => Self::Control,
            _ => Self::Private,
        }
    }

    /// The three bits.
    #[must_use]
    pub const fn to_bits(self) -> u8 {
        match self {
            Self::Reserved => 0,
            Self::SymmetricActive => 1,
            Self::SymmetricPassive => 2,
            Self::Client => 3,
            Self::Server => 4,
            Self::Broadcast => 5,
            Self::Control => 6,
            Self::Private => 7,
        }
    }
}

/// The packet header of RFC 5905 section 7.3, figure 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Leap warning.
    pub leap: Leap,
    /// NTP version, 1 to 4.
    pub version: u8,
    /// What kind of packet.
    pub mode: Mode,
    /// Distance from a primary source; 0 in a kiss-o'-death, 16 for unsynchronized.
    pub stratum: u8,
    /// Poll interval, log2 seconds.
    pub poll: i8,
    /// Precision of the sender's clock, log2 seconds.
    pub precision: i8,
    /// Round trip to the primary source.
    pub root_delay: NtpShort,
    /// Error bound relative to the primary source.
    pub root_dispersion: NtpShort,
    /// Whom the sender follows, or the kiss code.
    pub reference_id: ReferenceId,
    /// When the sender's clock was last corrected.
    pub reference: NtpTimestamp,
    /// Copied from the packet answered (T1).
    pub origin: NtpTimestamp,
    /// When that packet arrived (T2).
    pub receive: NtpTimestamp,
    /// When this packet left (T3).
    pub transmit: NtpTimestamp,
}

impl Header {
    /// Bytes on the wire.
    pub const LEN: usize = 48;

    /// Reads the first [`Self::LEN`] of `bytes`.
    ///
    /// # Errors
    /// [`WireError::Truncated`], or [`WireError::Version`] for a version outside 1 to 4.
    pub fn read(bytes: &[u8]) -> Result<Self, WireError> {
        let bytes = bytes.first_chunk::<{ Self::LEN }>().ok_or(WireError::Truncated)?;
        let ([start, root, reference, origin, receive, transmit], []) = bytes.as_chunks::<8>() else {
            return Err(WireError::Truncated);
        };
        let [first, stratum, poll, precision, d0, d1, d2, d3] = *start;
        let [e0, e1, e2, e3, r0, r1, r2, r3] = *root;
        let version = (first >> 3) & 7;
        if !(1..=4).contains(&version) {
            return Err(WireError::Version);
        }
        let timestamp = |bytes: &[u8; 8]| NtpTimestamp::from_bits(u64::from_be_bytes(*bytes));
        Ok(Self {
            leap: leap_from_bits(first >> 6),
            version,
            mode: Mode::from_bits(first),
            stratum,
            poll: poll.cast_signed(),
            precision: precision.cast_signed(),
            root_delay: NtpShort::from_bits(u32::from_be_bytes([d0, d1, d2, d3])),
            root_dispersion: NtpShort::from_bits(u32::from_be_bytes([e0, e1, e2, e3])),
            reference_id: ReferenceId([r0, r1, r2, r3]),
            reference: timestamp(reference),
            origin: timestamp(origin),
            receive: timestamp(receive),
            transmit: timestamp(transmit),
        })
    }

    /// The header as it stands on the wire; of the version only the lowest three bits are used.
    #[must_use]
    pub fn write(&self) -> [u8; Self::LEN] {
        let first = (leap_to_bits(self.leap) << 6) | ((self.version & 7) << 3) | self.mode.to_bits();
        let [d0, d1, d2, d3] = self.root_delay.to_bits().to_be_bytes();
        let [e0, e1, e2, e3] = self.root_dispersion.to_bits().to_be_bytes();
        let [r0, r1, r2, r3] = self.reference_id.0;
        let words = [
            [first, self.stratum, self.poll.cast_unsigned(), self.precision.cast_unsigned(), d0, d1, d2, d3],
            [e0, e1, e2, e3, r0, r1, r2, r3],
            self.reference.to_bits().to_be_bytes(),
            self.origin.to_bits().to_be_bytes(),
            self.receive.to_bits().to_be_bytes(),
            self.transmit.to_bits().to_be_bytes(),
        ];
        let mut bytes = [0; Self::LEN];
        for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *to = word;
        }
        bytes
    }
}

/// From the two bits of the leap indicator.
const fn leap_from_bits(bits: u8) -> Leap {
    match bits & 3 {
        0 => Leap::None,
        1 => Leap::Insert,
        2 => Leap::Delete,
        _ => Leap::Unsynchronized,
    }
}

/// The two bits of the leap indicator.
const fn leap_to_bits(leap: Leap) -> u8 {
    match leap {
        Leap::None => 0,
        Leap::Insert => 1,
        Leap::Delete => 2,
        Leap::Unsynchronized => 3,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_stand_where_figure_8_puts_them() {
        let bytes: [u8; 48] = core::array::from_fn(|n| u8::try_from(n).unwrap_or(0));
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = 0b01_100_011;
        }
        let header = Header::read(&bytes).unwrap();
        assert_eq!((header.leap, header.version, header.mode), (Leap::Insert, 4, Mode::Client));
        assert_eq!((header.stratum, header.poll, header.precision), (1, 2, 3));
        assert_eq!(header.root_delay.to_bits(), 0x0405_0607);
        assert_eq!(header.root_dispersion.to_bits(), 0x0809_0a0b);
        assert_eq!(header.reference_id, ReferenceId([12, 13, 14, 15]));
        assert_eq!(header.reference.to_bits(), 0x1011_1213_1415_1617);
        assert_eq!(header.origin.to_bits(), 0x1819_1a1b_1c1d_1e1f);
        assert_eq!(header.receive.to_bits(), 0x2021_2223_2425_2627);
        assert_eq!(header.transmit.to_bits(), 0x2829_2a2b_2c2d_2e2f);
    }

    proptest! {
        #[test]
        fn reading_and_writing_are_inverse(bytes in any::<[[u8; 24]; 2]>()) {
            let bytes = bytes.concat();
            match Header::read(&bytes) {
                Ok(header) => prop_assert_eq!(&header.write()[..], &bytes[..]),
                Err(error) => {
                    prop_assert_eq!(error, WireError::Version);
                    prop_assert!(matches!(bytes.first().map(|first| (first >> 3) & 7), Some(0 | 5..=7)));
                }
            }
        }
    }

    #[test]
    fn forty_seven_bytes_are_no_header() {
        assert_eq!(Header::read(&[0x23; 47]), Err(WireError::Truncated));
    }
}
