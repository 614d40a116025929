//! Which kind of request a packet is.

use core::ops::Range;

use super::DropReason;
use crate::{
    ids::KeyId,
    nts::{CookieJar, UNIQUE_ID_LEN},
    wire::{Field, Header, Mode, Packet, field},
};

/// The port of NTP servers.
const NTP_PORT: u16 = 123;

/// Whether a packet may be answered at all: only client requests are, so that two servers can never answer each other.
pub(super) fn is_request(header: &Header, peer_port: u16) -> bool {
    match header.mode {
        Mode::Client => true,
        // NTPv1 has no modes. Its servers and peers use the NTP port, so what comes from another is a request.
        Mode::Reserved => header.version == 1 && peer_port != NTP_PORT,
        Mode::SymmetricActive
        | Mode::SymmetricPassive
        | Mode::Server
        | Mode::Broadcast
        | Mode::Control
        | Mode::Private => false,
    }
}

/// How a request is authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    None,
    Symmetric { key_id: KeyId, covered: usize },
    Nts(NtsFields),
}

/// Where the NTS fields of a request stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NtsFields {
    /// Body of the unique identifier.
    pub(super) unique_id: Range<usize>,
    /// Body of the cookie.
    pub(super) cookie: Range<usize>,
    /// How many cookies are asked for, at most [`CookieJar::CAPACITY`].
    pub(super) cookies: usize,
    /// Start of the authenticator field.
    pub(super) authenticator: usize,
    /// Bytes of its body.
    pub(super) authenticator_len: usize,
}

/// Takes a request apart. Where NTS is not served its fields are unknown ones, which are ignored.
pub(super) fn classify(request: &[u8], serves_nts: bool) -> Result<Protection, DropReason> {
    let packet = Packet::parse(request).map_err(|_| DropReason::Malformed)?;
    if packet.is_crypto_nak() {
        return Err(DropReason::Malformed);
    }
    if serves_nts && let Some(fields) = NtsFields::find(&packet)? {
        return Ok(Protection::Nts(fields));
    }
    Ok(match packet.mac() {
        Some(mac) => Protection::Symmetric { key_id: mac.key_id, covered: mac.covered },
        None => Protection::None,
    })
}

impl NtsFields {
    /// Finds the fields; `None` if the request is not protected with NTS.
    fn find(packet: &Packet<'_>) -> Result<Option<Self>, DropReason> {
        let mut unique_id = None;
        let mut cookie = None;
        let mut placeholders = 0;
        let mut placeholder_len = None;
        let mut authenticator = None;
        for Field { kind, body, offset } in packet.extensions() {
            let range = offset + 4..offset + 4 + body.len();
            match kind {
                field::UNIQUE_IDENTIFIER => once(&mut unique_id, range)?,
                field::COOKIE => once(&mut cookie, range)?,
                field::COOKIE_PLACEHOLDER => {
                    placeholders += 1;
                    let len = *placeholder_len.get_or_insert(body.len());
                    if len != body.len() {
                        return Err(DropReason::Nts);
                    }
                }
                field::AUTHENTICATOR => {
                    authenticator = Some((offset, body.len()));
                    // What follows is not authenticated and so not looked at (RFC 8915 section 5.6).
                    break;
                }
                _ => {}
            }
        }
        let Some((authenticator, authenticator_len)) = authenticator else {
            return if cookie.is_some() { Err(DropReason::Nts) } else { Ok(None) };
        };
        // RFC 8915 section 5.7: a request carries exactly one of either.
        let (Some(unique_id), Some(cookie)) = (unique_id, cookie) else {
            return Err(DropReason::Nts);
        };
        // RFC 8915 section 5.3: at least 32 bytes. Section 5.5: placeholders are as long as the cookie.
        if unique_id.len() < UNIQUE_ID_LEN
            || placeholder_len.is_some_and(|len| len != cookie.len())
            || packet.mac().is_some()
        {
            return Err(DropReason::Nts);
        }
        let cookies = (1 + placeholders).min(CookieJar::CAPACITY);
        Ok(Some(Self { unique_id, cookie, cookies, authenticator, authenticator_len }))
    }
}

/// Notes a field that may be there once.
fn once(place: &mut Option<Range<usize>>, range: Range<usize>) -> Result<(), DropReason> {
    match place.replace(range) {
        None => Ok(()),
        Some(_) => Err(DropReason::Nts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{MIN_LAST_FIELD, Writer};

    fn request(fields: &[(u16, usize)], tail: usize) -> Vec<u8> {
        let mut buffer = [0; 2048];
        buffer[0] = 0x23;
        let mut writer = Writer::after(&mut buffer, Header::LEN).unwrap();
        for (kind, len) in fields {
            writer.field(*kind, &[1; 200][..*len], MIN_LAST_FIELD).unwrap();
        }
        writer.bytes(&[1; 20][..tail]).unwrap();
        let len = writer.len();
        buffer[..len].to_vec()
    }

    const ID: (u16, usize) = (field::UNIQUE_IDENTIFIER, 32);
    const COOKIE: (u16, usize) = (field::COOKIE, 100);
    const HOLDER: (u16, usize) = (field::COOKIE_PLACEHOLDER, 100);
    const AUTH: (u16, usize) = (field::AUTHENTICATOR, 36);

    #[test]
    fn a_whole_set_of_fields_is_nts() {
        let expected =
            NtsFields { unique_id: 52..84, cookie: 88..188, cookies: 3, authenticator: 396, authenticator_len: 36 };
        let fields = request(&[ID, COOKIE, HOLDER, HOLDER, AUTH], 0);
        assert_eq!(classify(&fields, true), Ok(Protection::Nts(expected)));
        assert_eq!(classify(&fields, false), Ok(Protection::None));
        let many = request(&[&[ID, COOKIE][..], &[HOLDER; 12], &[AUTH]].concat(), 0);
        let Ok(Protection::Nts(many)) = classify(&many, true) else { panic!("not NTS") };
        assert_eq!(many.cookies, CookieJar::CAPACITY);
    }

    #[test]
    fn broken_sets_are_dropped() {
        for fields in [
            &[COOKIE, AUTH][..],
            &[ID, AUTH],
            &[ID, COOKIE],
            &[AUTH],
            &[ID, ID, COOKIE, AUTH],
            &[ID, COOKIE, COOKIE, AUTH],
            &[(field::UNIQUE_IDENTIFIER, 28), COOKIE, AUTH],
            &[ID, COOKIE, (field::COOKIE_PLACEHOLDER, 96), AUTH],
            &[ID, COOKIE, HOLDER, (field::COOKIE_PLACEHOLDER, 104), AUTH],
            &[AUTH, ID, COOKIE],
        ] {
            assert_eq!(classify(&request(fields, 0), true), Err(DropReason::Nts), "{fields:x?}");
        }
        assert_eq!(classify(&request(&[ID, COOKIE, AUTH], 20), true), Err(DropReason::Nts));
    }

    #[test]
    fn unknown_fields_are_ignored() {
        assert_eq!(classify(&request(&[(0x2002, 40), ID], 0), true), Ok(Protection::None));
        let symmetric = Protection::Symmetric { key_id: KeyId(0x0101_0101), covered: 92 };
        assert_eq!(classify(&request(&[(0x2002, 40)], 20), true), Ok(symmetric));
        assert!(matches!(classify(&request(&[ID, (0x2002, 8), COOKIE, AUTH], 0), true), Ok(Protection::Nts(_))));
    }
}
