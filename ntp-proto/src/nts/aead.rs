//! Authenticated encryption with associated data, in place and without allocation.

use core::fmt;

use aes_gcm_siv::{Aes128GcmSiv, aead::AeadInOut as _};
use aes_siv::{
    KeyInit as _,
    siv::{Aes128Siv, Aes256Siv},
};

use crate::secret::Secret;

/// Bytes of the tag of every algorithm here.
pub const TAG_LEN: usize = 16;

/// An algorithm of the AEAD registry that NTS can negotiate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AeadAlgorithm {
    /// AES-SIV with AES-128 (RFC 5297), which every NTS implementation has (RFC 8915 section 5.1).
    AesSivCmac256,
    /// AES-SIV with AES-256 (RFC 5297).
    AesSivCmac512,
    /// AES-GCM-SIV with AES-128 (RFC 8452): shorter keys, and so shorter cookies.
    AesGcmSiv128,
}

impl AeadAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::AesSivCmac256, Self::AesSivCmac512, Self::AesGcmSiv128];

    /// Bytes of the longest key.
    pub const MAX_KEY_LEN: usize = 64;

    /// Its number in the registry.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::AesSivCmac256 => 15,
            Self::AesSivCmac512 => 17,
            Self::AesGcmSiv128 => 30,
        }
    }

    /// The algorithm with this number, if it is here.
    #[must_use]
    pub const fn from_id(id: u16) -> Option<Self> {
        match id {
            15 => Some(Self::AesSivCmac256),
            17 => Some(Self::AesSivCmac512),
            30 => Some(Self::AesGcmSiv128),
            _ => None,
        }
    }

    /// Bytes of a key.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::AesSivCmac256 => 32,
            Self::AesSivCmac512 => 64,
            Self::AesGcmSiv128 => 16,
        }
    }

    /// Bytes of the nonces we send. AES-SIV takes any length, AES-GCM-SIV no other.
    #[must_use]
    pub const fn nonce_len(self) -> usize {
        match self {
            Self::AesSivCmac256 | Self::AesSivCmac512 => 16,
            Self::AesGcmSiv128 => 12,
        }
    }

    /// Whether the tag stands in front of the ciphertext (RFC 5297 section 2.6) or behind it (RFC 8452 section 4).
    pub(crate) const fn tag_first(self) -> bool {
        match self {
            Self::AesSivCmac256 | Self::AesSivCmac512 => true,
            Self::AesGcmSiv128 => false,
        }
    }

    /// Whether a nonce of `len` bytes may be used.
    const fn takes_nonce(self, len: usize) -> bool {
        match self {
            Self::AesSivCmac256 | Self::AesSivCmac512 => len > 0,
            Self::AesGcmSiv128 => len == self.nonce_len(),
        }
    }
}

impl fmt::Display for AeadAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AesSivCmac256 => "AEAD_AES_SIV_CMAC_256",
            Self::AesSivCmac512 => "AEAD_AES_SIV_CMAC_512",
            Self::AesGcmSiv128 => "AEAD_AES_128_GCM_SIV",
        })
    }
}

/// A key whose length is not its algorithm's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AeadKeyLength {
    /// For which algorithm.
    pub algorithm: AeadAlgorithm,
    /// How many bytes there were.
    pub len: usize,
}

impl fmt::Display for AeadKeyLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key of {} must have {} bytes, not {}", self.algorithm, self.algorithm.key_len(), self.len)
    }
}

impl core::error::Error for AeadKeyLength {}

/// The text was not sealed with this key, nonce and associated data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenError;

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("authentication failed")
    }
}

impl core::error::Error for OpenError {}

/// A key and the algorithm it is for. Its bytes are wiped when it is dropped, and never printed.
#[derive(Clone)]
pub struct AeadKey {
    algorithm: AeadAlgorithm,
    secret: Secret<{ AeadAlgorithm::MAX_KEY_LEN }>,
}

impl AeadKey {
    /// Takes a key.
    ///
    /// # Errors
    /// [`AeadKeyLength`] if it has not [`AeadAlgorithm::key_len`] bytes.
    pub fn new(algorithm: AeadAlgorithm, secret: &[u8]) -> Result<Self, AeadKeyLength> {
        let wrong = AeadKeyLength { algorithm, len: secret.len() };
        if secret.len() != algorithm.key_len() {
            return Err(wrong);
        }
        Ok(Self { algorithm, secret: Secret::new(secret).ok_or(wrong)? })
    }

    /// A key of [`AeadAlgorithm::AesSivCmac256`].
    pub(crate) fn siv_cmac_256(secret: &[u8; 32]) -> Self {
        Self { algorithm: AeadAlgorithm::AesSivCmac256, secret: Secret::from_array(secret) }
    }

    /// What it is used with.
    #[must_use]
    pub const fn algorithm(&self) -> AeadAlgorithm {
        self.algorithm
    }

    /// The key itself: for whoever stores it or seals it into a cookie.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    /// Encrypts `text`, and returns the tag that vouches for it and for `aad`.
    ///
    /// # Panics
    /// If `nonce` has a length that the algorithm does not take: a fault of the caller, see
    /// [`AeadAlgorithm::nonce_len`].
    #[must_use]
    pub fn seal_in_place(&self, nonce: &[u8], aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
        assert!(self.algorithm.takes_nonce(nonce.len()), "a nonce of {} bytes", nonce.len());
        let secret = self.secret.as_bytes();
        // RFC 5297 section 3: the nonce is the last associated datum.
        let headers = [aad, nonce];
        let tag = match self.algorithm {
            AeadAlgorithm::AesSivCmac256 => Aes128Siv::new_from_slice(secret)
                .ok()
                .and_then(|mut siv| siv.encrypt_inout_detached(headers, text.into()).ok()),
            AeadAlgorithm::AesSivCmac512 => Aes256Siv::new_from_slice(secret)
                .ok()
                .and_then(|mut siv| siv.encrypt_inout_detached(headers, text.into()).ok()),
            AeadAlgorithm::AesGcmSiv128 => Aes128GcmSiv::new_from_slice(secret)
                .ok()
                .zip(nonce.try_into().ok())
                .and_then(|(gcm, nonce)| gcm.encrypt_inout_detached(nonce, aad, text.into()).ok()),
        };
        tag.expect("key and nonce have the algorithm's lengths").into()
    }

    /// Decrypts `text` if `tag` vouches for it and for `aad`.
    ///
    /// # Errors
    /// [`OpenError`] if it does not, or if the algorithm takes no such nonce; then `text` holds nothing of use.
    pub fn open_in_place(
        &self,
        nonce: &[u8],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), OpenError> {
        if !self.algorithm.takes_nonce(nonce.len()) {
            return Err(OpenError);
        }
        let secret = self.secret.as_bytes();
        let headers = [aad, nonce];
        let opened = match self.algorithm {
            AeadAlgorithm::AesSivCmac256 => Aes128Siv::new_from_slice(secret)
                .ok()
                .and_then(|mut siv| siv.decrypt_inout_detached(headers, text.into(), tag.into()).ok()),
            AeadAlgorithm::AesSivCmac512 => Aes256Siv::new_from_slice(secret)
                .ok()
                .and_then(|mut siv| siv.decrypt_inout_detached(headers, text.into(), tag.into()).ok()),
            AeadAlgorithm::AesGcmSiv128 => Aes128GcmSiv::new_from_slice(secret)
                .ok()
                .zip(nonce.try_into().ok())
                .and_then(|(gcm, nonce)| gcm.decrypt_inout_detached(nonce, aad, text.into(), tag.into()).ok()),
        };
        opened.ok_or(OpenError)
    }
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AeadKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|n| u8::from_str_radix(&text[n..n + 2], 16).unwrap()).collect()
    }

    fn check(key: &AeadKey, nonce: &[u8], aad: &[u8], text: &[u8], tag: &str, cipher: &str) {
        let mut buffer = text.to_vec();
        let sealed = key.seal_in_place(nonce, aad, &mut buffer);
        assert_eq!((sealed.to_vec(), &buffer), (hex(tag), &hex(cipher)));
        key.open_in_place(nonce, aad, &mut buffer, &sealed).unwrap();
        assert_eq!(buffer, text);
    }

    /// Made with OpenSSL's AES-SIV: associated data first, nonce last.
    #[test]
    fn aes_siv_agrees_with_another_implementation() {
        let bytes: Vec<u8> = (0..64).collect();
        let (aad, nonce, text) = ([0; 48], &bytes[16..32], b"cookies to be sealed");
        let key = AeadKey::new(AeadAlgorithm::AesSivCmac256, &bytes[..32]).unwrap();
        let tag = "ea9a39910d14e7990fa27081174e99a0";
        check(&key, nonce, &aad, text, tag, "c026e610b16b6498c6721a6e01900b8e0fa6c81a");
        check(&key, nonce, &aad, b"x", "f3abde295b1bb8b9c494049099bf4f04", "cf");
        let key = AeadKey::new(AeadAlgorithm::AesSivCmac512, &bytes).unwrap();
        let tag = "00619db4483d56759ef920d1ae9200ef";
        check(&key, nonce, &aad, text, tag, "7bdc58cb1122c6dba24ef4198304426d8c386f3d");
    }

    #[test]
    fn aes_gcm_siv_agrees_with_rfc_8452_appendix_c_1() {
        let key = AeadKey::new(AeadAlgorithm::AesGcmSiv128, &hex("01000000000000000000000000000000")).unwrap();
        let nonce = hex("030000000000000000000000");
        check(&key, &nonce, &[], &[], "dc20e2d83f25705bb49e439eca56de25", "");
        let text = hex("0100000000000000");
        check(&key, &nonce, &[], &text, "578782fff6013b815b287c22493a364c", "b5d839330ac7b786");
        let text = hex("0200000000000000");
        check(&key, &nonce, &[1], &text, "3b0a1a2560969cdf790d99759abd1508", "1e6daba35669f427");
    }

    #[test]
    fn one_wrong_bit_anywhere_is_refused() {
        for algorithm in AeadAlgorithm::ALL {
            let key = AeadKey::new(algorithm, &[7; 64][..algorithm.key_len()]).unwrap();
            let (nonce, aad) = ([3; 16], [4; 20]);
            let nonce = &nonce[..algorithm.nonce_len()];
            let mut sealed = [5; 33];
            let tag = key.seal_in_place(nonce, &aad, &mut sealed);
            for (part, len) in [(0, nonce.len()), (1, aad.len()), (2, sealed.len()), (3, tag.len())] {
                for at in 0..len {
                    let (mut nonce, mut aad, mut text, mut tag) = (nonce.to_vec(), aad, sealed, tag);
                    let bytes: [&mut [u8]; 4] = [&mut nonce, &mut aad, &mut text, &mut tag];
                    bytes.into_iter().nth(part).unwrap()[at] ^= 0x10;
                    assert_eq!(key.open_in_place(&nonce, &aad, &mut text, &tag), Err(OpenError));
                }
            }
            for nonce in [&[][..], &[3; 11], &[3; 13]] {
                let mut text = sealed;
                assert_eq!(key.open_in_place(nonce, &aad, &mut text, &tag), Err(OpenError));
            }
        }
    }

    #[test]
    fn numbers_and_lengths_belong_together() {
        for (id, key_len, nonce_len) in [(15, 32, 16), (17, 64, 16), (30, 16, 12)] {
            let algorithm = AeadAlgorithm::from_id(id).unwrap();
            assert_eq!((algorithm.id(), algorithm.key_len(), algorithm.nonce_len()), (id, key_len, nonce_len));
            for len in [key_len - 1, key_len + 1] {
                let error = AeadKey::new(algorithm, &[0; 65][..len]).err().unwrap();
                assert_eq!(error, AeadKeyLength { algorithm, len });
            }
        }
        assert_eq!(AeadAlgorithm::from_id(16), None);
    }

    #[test]
    fn debug_output_holds_no_key_byte() {
        let key = AeadKey::new(AeadAlgorithm::AesSivCmac256, &[0xab; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "AeadKey { algorithm: AesSivCmac256, .. }");
    }
}
