//! The NTS Authenticator and Encrypted Extension Fields extension field (RFC 8915 section 5.6).
//!
//! Its body is the length of the nonce, the length of the ciphertext, the nonce, the ciphertext and additional padding;
//! nonce and ciphertext are each padded with zeros to whole words. With AES-SIV the ciphertext starts with the tag,
//! with AES-GCM-SIV it ends with it.

use core::ops::Range;

use super::aead::{AeadAlgorithm, AeadKey, TAG_LEN};
use crate::wire::{MIN_LAST_FIELD, NoSpace, field};

/// Type and length of the field, lengths of nonce and ciphertext.
const PREFIX_LEN: usize = 8;

/// Room for a nonce that a request must leave (N_REQ of RFC 8915 section 5.6: 16, or N_MAX if that is less), where N_MAX
/// is unlimited for AES-SIV and 12 for AES-GCM-SIV.
const fn required_nonce_room(algorithm: AeadAlgorithm) -> usize {
    match algorithm {
        AeadAlgorithm::AesSivCmac256 | AeadAlgorithm::AesSivCmac512 => 16,
        AeadAlgorithm::AesGcmSiv128 => 12,
    }
}

/// Additional padding that we send. Servers exist that ask for room for 16 bytes whatever the algorithm, and RFC 8915
/// section 5.6 lets senders add more than they must.
pub(crate) const fn request_padding(algorithm: AeadAlgorithm) -> usize {
    16_usize.saturating_sub(algorithm.nonce_len())
}

/// How far into an authenticator field that we write the text starts.
pub(crate) const fn text_offset(algorithm: AeadAlgorithm) -> usize {
    let nonce_end = PREFIX_LEN + algorithm.nonce_len().next_multiple_of(4);
    if algorithm.tag_first() { nonce_end + TAG_LEN } else { nonce_end }
}

/// Bytes of an authenticator field around `text_len` bytes of text and with this much additional padding.
pub(crate) const fn sealed_len(algorithm: AeadAlgorithm, text_len: usize, padding: usize) -> usize {
    let nonce_len = algorithm.nonce_len().next_multiple_of(4);
    let len = PREFIX_LEN + nonce_len + (TAG_LEN + text_len).next_multiple_of(4) + padding.next_multiple_of(4);
    if len < MIN_LAST_FIELD { MIN_LAST_FIELD } else { len }
}

/// Seals the packet that ends at `start` with an authenticator field; the text to encrypt stands already
/// [`text_offset`] bytes behind `start`. Returns the length of the packet with the field.
///
/// # Errors
/// [`NoSpace`] if the field does not fit behind `start`.
pub(crate) fn seal(
    packet: &mut [u8],
    start: usize,
    text_len: usize,
    key: &AeadKey,
    nonce: &[u8; 16],
    padding: usize,
) -> Result<usize, NoSpace> {
    let algorithm = key.algorithm();
    let field_len = sealed_len(algorithm, text_len, padding);
    let wire_len = u16::try_from(field_len).map_err(|_| NoSpace)?;
    let cipher_len = u16::try_from(TAG_LEN + text_len).map_err(|_| NoSpace)?;
    let nonce = &nonce[..algorithm.nonce_len()];
    let nonce_len = u16::try_from(nonce.len()).map_err(|_| NoSpace)?;

    let (aad, rest) = packet.split_at_mut_checked(start).ok_or(NoSpace)?;
    let field = rest.get_mut(..field_len).ok_or(NoSpace)?;
    let (prefix, body) = field.split_at_mut(PREFIX_LEN);
    let words = [field::AUTHENTICATOR, wire_len, nonce_len, cipher_len];
    for (to, word) in prefix.as_chunks_mut::<2>().0.iter_mut().zip(words) {
        *to = word.to_be_bytes();
    }
    let (nonce_field, rest) = body.split_at_mut(nonce.len().next_multiple_of(4));
    nonce_field.fill(0);
    nonce_field[..nonce.len()].copy_from_slice(nonce);
    let (cipher, padding) = rest.split_at_mut(TAG_LEN + text_len);
    padding.fill(0);
    if algorithm.tag_first() {
        let (tag, text) = cipher.split_at_mut(TAG_LEN);
        tag.copy_from_slice(&key.seal_in_place(nonce, aad, text));
    } else {
        let (text, tag) = cipher.split_at_mut(text_len);
        tag.copy_from_slice(&key.seal_in_place(nonce, aad, text));
    }
    Ok(start + field_len)
}

/// Why an authenticator field was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthenticatorError {
    /// Its lengths contradict each other, or a request leaves too little room for the nonce of the reply.
    Malformed,
    /// The packet was not sealed with this key.
    Forged,
}

/// Who sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    Server,
}

/// Lengths in the body of an authenticator field.
struct Layout {
    nonce_len: usize,
    cipher_start: usize,
    cipher_len: usize,
}

impl Layout {
    fn read(body: &[u8], algorithm: AeadAlgorithm, sender: Sender) -> Option<Self> {
        let ([nonce_len, cipher_len], _) = body.get(..4)?.as_chunks::<2>() else {
            return None;
        };
        let nonce_len = usize::from(u16::from_be_bytes(*nonce_len));
        let cipher_len = usize::from(u16::from_be_bytes(*cipher_len));
        let nonce_room = nonce_len.next_multiple_of(4);
        let cipher_start = 4 + nonce_room;
        let used = cipher_start + cipher_len.next_multiple_of(4);
        let padding = body.len().checked_sub(used)?;
        if cipher_len < TAG_LEN {
            return None;
        }
        // RFC 8915 section 5.6 has servers discard packets that leave too little room.
        if sender == Sender::Client && nonce_room + padding < required_nonce_room(algorithm) {
            return None;
        }
        Some(Self { nonce_len, cipher_start, cipher_len })
    }
}

/// Verifies the packet up to the authenticator field at `start`, a field whose length the parser has checked, and
/// decrypts the field in place. Returns where the text stands in `packet`.
pub(crate) fn open(
    packet: &mut [u8],
    start: usize,
    body_len: usize,
    key: &AeadKey,
    sender: Sender,
) -> Result<Range<usize>, AuthenticatorError> {
    let (aad, field) = packet.split_at_mut_checked(start).ok_or(AuthenticatorError::Malformed)?;
    let body = field.get_mut(4..4 + body_len).ok_or(AuthenticatorError::Malformed)?;
    let layout = Layout::read(body, key.algorithm(), sender).ok_or(AuthenticatorError::Malformed)?;
    let (front, rest) = body.split_at_mut(layout.cipher_start);
    let nonce = &front[4..4 + layout.nonce_len];
    let cipher = &mut rest[..layout.cipher_len];
    let (tag, text, text_start) = if key.algorithm().tag_first() {
        let (tag, text) = cipher.split_first_chunk_mut().ok_or(AuthenticatorError::Malformed)?;
        (tag, text, TAG_LEN)
    } else {
        let (text, tag) = cipher.split_last_chunk_mut().ok_or(AuthenticatorError::Malformed)?;
        (tag, text, 0)
    };
    key.open_in_place(nonce, aad, text, tag).map_err(|_| AuthenticatorError::Forged)?;
    let text_start = start + 4 + layout.cipher_start + text_start;
    Ok(text_start..text_start + text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(algorithm: AeadAlgorithm, text: &[u8], padding: usize) -> (AeadKey, Vec<u8>) {
        let key = AeadKey::new(algorithm, &[7; 64][..algorithm.key_len()]).unwrap();
        let mut packet = [0xee; 400];
        packet[48 + text_offset(algorithm)..][..text.len()].copy_from_slice(text);
        let len = seal(&mut packet, 48, text.len(), &key, &[9; 16], padding).unwrap();
        (key, packet[..len].to_vec())
    }

    #[test]
    fn the_layout_is_that_of_rfc_8915() {
        let text = [1; 20];
        let (_, packet) = sealed(AeadAlgorithm::AesSivCmac256, &text, 0);
        assert_eq!(packet.len(), 48 + 8 + 16 + 36);
        assert_eq!(packet[48..56], [4, 4, 0, 60, 0, 16, 0, 36]);
        assert_eq!(packet[56..72], [9; 16]);
        // Twelve bytes of nonce, text before tag, and room for a nonce of 16 in the reply.
        let (_, packet) = sealed(AeadAlgorithm::AesGcmSiv128, &text, request_padding(AeadAlgorithm::AesGcmSiv128));
        assert_eq!(packet.len(), 48 + 8 + 12 + 36 + 4);
        assert_eq!(packet[48..56], [4, 4, 0, 60, 0, 12, 0, 36]);
        assert_eq!(packet[56..68], [9; 12]);
        assert_eq!(packet[104..], [0; 4]);
    }

    #[test]
    fn what_was_sealed_opens_for_both_senders() {
        for algorithm in AeadAlgorithm::ALL {
            for text in [&[][..], &[1; 4], &[2; 104], &[3; 17]] {
                let (key, packet) = sealed(algorithm, text, 0);
                for sender in [Sender::Client, Sender::Server] {
                    let mut packet = packet.clone();
                    let body_len = packet.len() - 52;
                    let range = open(&mut packet, 48, body_len, &key, sender).unwrap();
                    assert_eq!(&packet[range], text, "{algorithm}");
                }
            }
        }
    }

    #[test]
    fn no_changed_byte_of_packet_or_field_is_accepted() {
        for algorithm in AeadAlgorithm::ALL {
            let (key, packet) = sealed(algorithm, &[1; 20], 0);
            for at in (0..48).chain(52..packet.len()) {
                for bit in 0..8 {
                    let mut packet = packet.clone();
                    packet[at] ^= 1 << bit;
                    let body_len = packet.len() - 52;
                    assert!(open(&mut packet, 48, body_len, &key, Sender::Server).is_err(), "{algorithm} byte {at}");
                }
            }
        }
    }

    #[test]
    fn a_short_nonce_needs_padding_in_requests_only() {
        let key = AeadKey::new(AeadAlgorithm::AesSivCmac256, &[7; 32]).unwrap();
        let with_padding = |padding: usize| {
            let mut packet = vec![0x23; 48];
            let tag = key.seal_in_place(&[9; 8], &packet, &mut []);
            packet.extend([4, 4, 0, u8::try_from(32 + padding).unwrap(), 0, 8, 0, 16]);
            packet.extend([9; 8]);
            packet.extend(tag);
            packet.extend(vec![0; padding]);
            packet
        };
        for (padding, sender, accepted) in [
            (4, Sender::Client, false),
            (8, Sender::Client, true),
            (12, Sender::Client, true),
            (0, Sender::Server, true),
        ] {
            let mut packet = with_padding(padding);
            let body_len = packet.len() - 52;
            let opened = open(&mut packet, 48, body_len, &key, sender);
            assert_eq!(opened.is_ok(), accepted, "{padding} bytes from {sender:?}: {opened:?}");
        }
    }

    #[test]
    fn contradicting_lengths_are_malformed() {
        let (key, packet) = sealed(AeadAlgorithm::AesSivCmac256, &[1; 20], 0);
        for (nonce_len, cipher_len) in [(16, 37), (17, 36), (0xffff, 36), (16, 0xffff), (16, 15), (16, 0), (56, 0)] {
            let mut packet = packet.clone();
            packet[52..54].copy_from_slice(&u16::to_be_bytes(nonce_len));
            packet[54..56].copy_from_slice(&u16::to_be_bytes(cipher_len));
            let body_len = packet.len() - 52;
            let opened = open(&mut packet, 48, body_len, &key, Sender::Server);
            assert_eq!(opened, Err(AuthenticatorError::Malformed), "{nonce_len} and {cipher_len}");
        }
        for body_len in [0, 3, 7] {
            let opened = open(&mut packet.clone(), 48, body_len, &key, Sender::Server);
            assert_eq!(opened, Err(AuthenticatorError::Malformed));
        }
    }

    #[test]
    fn a_field_that_does_not_fit_is_refused() {
        let key = AeadKey::new(AeadAlgorithm::AesSivCmac256, &[7; 32]).unwrap();
        assert_eq!(seal(&mut [0; 87], 48, 0, &key, &[9; 16], 0), Err(NoSpace));
        assert_eq!(seal(&mut [0; 88], 48, 0, &key, &[9; 16], 0), Ok(88));
        assert_eq!(seal(&mut [0; 40], 48, 0, &key, &[9; 16], 0), Err(NoSpace));
    }
}
