//! Requests protected with NTS.

use core::fmt;

use super::{
    UNIQUE_ID_LEN,
    aead::AeadKey,
    authenticator,
    jar::{Cookie, CookieJar},
};
use crate::wire::{MIN_FIELD, NoSpace, Writer, field};

/// Longest request we make: what an IPv6 packet of the smallest MTU carries (1280 bytes less 40 of IPv6 header and 8 of
/// UDP header), so that neither request nor reply is ever fragmented.
pub const MAX_REQUEST: usize = 1280 - 40 - 8;

/// Most placeholders: with the cookie itself they bring a full jar.
const MAX_PLACEHOLDERS: usize = CookieJar::CAPACITY - 1;

/// What is needed to protect one request.
#[derive(Clone, Copy, Debug)]
pub struct SealRequest<'a> {
    /// Fresh random bytes, which the reply has to repeat.
    pub unique_id: &'a [u8; UNIQUE_ID_LEN],
    /// A cookie that was never used before.
    pub cookie: &'a [u8],
    /// How many more cookies we would like than the one that replaces this one. Fewer are asked for if they do not fit.
    pub placeholders: usize,
    /// The C2S key.
    pub key: &'a AeadKey,
    /// Fresh random bytes.
    pub nonce: &'a [u8; 16],
}

/// Why a request was not sealed: a fault of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// The buffer is too small, or the request would exceed [`MAX_REQUEST`].
    NoSpace,
    /// The cookie is empty or longer than [`Cookie::MAX_LEN`].
    CookieLength,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSpace => "no room for the NTS fields",
            Self::CookieLength => "the cookie is empty or too long",
        })
    }
}

impl core::error::Error for SealError {}

impl From<NoSpace> for SealError {
    fn from(_: NoSpace) -> Self {
        Self::NoSpace
    }
}

/// Protects the request in the first `len` bytes of `buffer`, whose header must be complete, and returns its new length.
///
/// # Errors
/// [`SealError`].
pub fn seal_request(buffer: &mut [u8], len: usize, request: &SealRequest<'_>) -> Result<usize, SealError> {
    if request.cookie.is_empty() || request.cookie.len() > Cookie::MAX_LEN {
        return Err(SealError::CookieLength);
    }
    let room = buffer.len().min(MAX_REQUEST);
    let buffer = &mut buffer[..room];
    let algorithm = request.key.algorithm();
    let padding = authenticator::request_padding(algorithm);

    let mut writer = Writer::after(buffer, len)?;
    writer.field(field::UNIQUE_IDENTIFIER, request.unique_id, MIN_FIELD)?;
    let cookie_start = writer.len();
    writer.field(field::COOKIE, request.cookie, MIN_FIELD)?;
    let cookie_field_len = writer.len() - cookie_start;

    let spare = room.saturating_sub(writer.len() + authenticator::sealed_len(algorithm, 0, padding));
    let placeholders = request.placeholders.min(MAX_PLACEHOLDERS).min(spare / cookie_field_len);
    // RFC 8915 section 5.5: the body of a placeholder is as long as the cookie's.
    let placeholder = [0; Cookie::MAX_LEN];
    for _ in 0..placeholders {
        writer.field(field::COOKIE_PLACEHOLDER, &placeholder[..request.cookie.len()], MIN_FIELD)?;
    }
    let start = writer.len();
    Ok(authenticator::seal(buffer, start, 0, request.key, request.nonce, padding)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        nts::{AeadAlgorithm, authenticator::Sender},
        wire::{Header, Packet},
    };

    fn seal(algorithm: AeadAlgorithm, cookie: &[u8], placeholders: usize, room: usize) -> Result<Vec<u8>, SealError> {
        let key = AeadKey::new(algorithm, &[7; 64][..algorithm.key_len()]).unwrap();
        let request = SealRequest { unique_id: &[1; 32], cookie, placeholders, key: &key, nonce: &[2; 16] };
        let mut buffer = vec![0; room];
        buffer[0] = 0x23;
        let len = seal_request(&mut buffer, Header::LEN, &request)?;
        buffer.truncate(len);
        Ok(buffer)
    }

    #[test]
    fn fields_come_in_order_and_the_authenticator_covers_them() {
        for algorithm in AeadAlgorithm::ALL {
            let mut packet = seal(algorithm, &[3; 100], 2, 2048).unwrap();
            let parsed = Packet::parse(&packet).unwrap();
            let fields: Vec<_> = parsed.extensions().map(|field| (field.kind, field.body.len())).collect();
            assert_eq!(fields[..4], [(0x0104, 32), (0x0204, 100), (0x0304, 100), (0x0304, 100)]);
            assert_eq!((fields[4], fields.len()), ((0x0404, 4 + 16 + 16), 5), "{algorithm}");
            let last = parsed.extensions().last().unwrap();
            let (start, body_len) = (last.offset, last.body.len());
            let key = AeadKey::new(algorithm, &[7; 64][..algorithm.key_len()]).unwrap();
            assert_eq!(authenticator::open(&mut packet, start, body_len, &key, Sender::Client).unwrap().len(), 0);
        }
    }

    #[test]
    fn lengths_are_those_of_other_implementations() {
        assert_eq!(seal(AeadAlgorithm::AesSivCmac256, &[3; 100], 0, 2048).unwrap().len(), 228);
        assert_eq!(seal(AeadAlgorithm::AesSivCmac256, &[3; 100], 7, 2048).unwrap().len(), 228 + 7 * 104);
    }

    #[test]
    fn placeholders_that_do_not_fit_are_left_out() {
        for (cookie_len, placeholders, expected) in [(100, 7, 7), (100, 40, 7), (180, 7, 5), (512, 7, 1), (3, 7, 7)] {
            let packet = seal(AeadAlgorithm::AesSivCmac256, &[3; 512][..cookie_len], placeholders, 2048).unwrap();
            assert!(packet.len() <= MAX_REQUEST);
            let parsed = Packet::parse(&packet).unwrap();
            let count = parsed.extensions().filter(|field| field.kind == field::COOKIE_PLACEHOLDER).count();
            assert_eq!(count, expected, "cookies of {cookie_len} bytes");
            let lens: Vec<_> = parsed.extensions().skip(1).take(count + 1).map(|field| field.body.len()).collect();
            assert!(lens.iter().all(|len| *len == lens[0]), "{lens:?}");
        }
        assert_eq!(seal(AeadAlgorithm::AesSivCmac256, &[3; 100], 7, 228 + 104).unwrap().len(), 228 + 104);
    }

    #[test]
    fn our_caller_s_faults_are_told() {
        assert_eq!(seal(AeadAlgorithm::AesSivCmac256, &[3; 100], 0, 227), Err(SealError::NoSpace));
        assert_eq!(seal(AeadAlgorithm::AesSivCmac256, &[], 0, 2048), Err(SealError::CookieLength));
        assert_eq!(seal(AeadAlgorithm::AesSivCmac256, &[3; 513], 0, 2048), Err(SealError::CookieLength));
    }
}
