//! Message authentication codes with symmetric keys.
//!
//! A digest covers everything in front of the MAC. The AES-CMAC algorithms are those of RFC 8573; with the hash
//! functions the digest is the hash of key and packet one after the other (RFC 5905 appendix A), which is not HMAC.

use core::{fmt, str::FromStr};

use aes::{Aes128, Aes256};
use arrayvec::ArrayVec;
use cmac::{Cmac, KeyInit};
use md5::Md5;
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::{Mac, NoSpace, Writer};
use crate::{ids::KeyId, secret::Secret};

/// Longest digest of any algorithm here.
const MAX_DIGEST: usize = 32;

/// Longest digest that NTPv4 packets carry: with four bytes of key identifier, 192 bits
/// (RFC 7822).
const MAX_DIGEST_V4: usize = 20;

/// A digest, not yet shortened.
type Digest = ArrayVec<u8, MAX_DIGEST>;

/// How the digest of a MAC is computed. Names are those of chrony's key files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MacAlgorithm {
    /// AES-CMAC with a 128-bit key (RFC 8573).
    AesCmac128,
    /// AES-CMAC with a 256-bit key.
    AesCmac256,
    /// SHA-256 of key and packet.
    Sha256,
    /// SHA-1 of key and packet.
    Sha1,
    /// MD5 of key and packet.
    Md5,
}

impl MacAlgorithm {
    /// Every algorithm, best first.
    pub const ALL: [Self; 5] = [Self::AesCmac128, Self::AesCmac256, Self::Sha256, Self::Sha1, Self::Md5];

    /// The name in key files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesCmac128 => "AES128",
            Self::AesCmac256 => "AES256",
            Self::Sha256 => "SHA256",
            Self::Sha1 => "SHA1",
            Self::Md5 => "MD5",
        }
    }

    /// Whether it should no longer be used (RFC 8573 deprecates MD5; SHA-1 is broken in the same way).
    #[must_use]
    pub const fn is_legacy(self) -> bool {
        match self {
            Self::Md5 | Self::Sha1 => true,
            Self::AesCmac128 | Self::AesCmac256 | Self::Sha256 => false,
        }
    }

    /// Fewest and most bytes of a key.
    #[must_use]
    pub const fn key_len(self) -> (usize, usize) {
        match self {
            Self::AesCmac128 => (16, 16),
            Self::AesCmac256 => (32, 32),
            Self::Sha256 | Self::Sha1 | Self::Md5 => (1, SymmetricKey::MAX_LEN),
        }
    }

    /// Bytes of a whole digest.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::AesCmac128 | Self::AesCmac256 | Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

impl fmt::Display for MacAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no [`MacAlgorithm`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownMacAlgorithm;

impl fmt::Display for UnknownMacAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown key type, expected one of")?;
        for (n, algorithm) in MacAlgorithm::ALL.into_iter().enumerate() {
            write!(f, "{} {algorithm}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl core::error::Error for UnknownMacAlgorithm {}

impl FromStr for MacAlgorithm {
    type Err = UnknownMacAlgorithm;

    /// Reads a name as chrony does, without regard to case.
    fn from_str(name: &str) -> Result<Self, UnknownMacAlgorithm> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name)).ok_or(UnknownMacAlgorithm)
    }
}

/// A key whose length does not suit its algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLength {
    /// For which algorithm.
    pub algorithm: MacAlgorithm,
    /// How many bytes there were.
    pub len: usize,
}

impl fmt::Display for KeyLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (algorithm, len) = (self.algorithm, self.len);
        match algorithm.key_len() {
            (fewest, most) if fewest == most => {
                write!(f, "a key of type {algorithm} must have {fewest} bytes, not {len}")
            }
            (fewest, most) => write!(f, "a key of type {algorithm} must have {fewest} to {most} bytes, not {len}"),
        }
    }
}

impl core::error::Error for KeyLength {}

/// A key shared with a peer by hand. Its bytes are wiped when it is dropped, and never printed.
#[derive(Clone)]
pub struct SymmetricKey {
    id: KeyId,
    algorithm: MacAlgorithm,
    secret: Secret<{ Self::MAX_LEN }>,
}

impl SymmetricKey {
    /// Most bytes of any key.
    pub const MAX_LEN: usize = 128;

    /// Takes a key.
    ///
    /// # Errors
    /// [`KeyLength`] if the algorithm does not take a key this long.
    pub fn new(id: KeyId, algorithm: MacAlgorithm, secret: &[u8]) -> Result<Self, KeyLength> {
        let wrong = KeyLength { algorithm, len: secret.len() };
        let (fewest, most) = algorithm.key_len();
        if !(fewest..=most).contains(&secret.len()) {
            return Err(wrong);
        }
        Ok(Self { id, algorithm, secret: Secret::new(secret).ok_or(wrong)? })
    }

    /// Which key it is.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// What it is used with.
    #[must_use]
    pub const fn algorithm(&self) -> MacAlgorithm {
        self.algorithm
    }

    /// Whether the other is the same key with the same number. Takes the same time whichever bytes differ.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let same: bool = self.secret.as_bytes().ct_eq(other.secret.as_bytes()).into();
        self.id == other.id && self.algorithm == other.algorithm && same
    }

    /// Bits of the key itself.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.secret.as_bytes().len().saturating_mul(8)
    }

    /// Appends a MAC over the first `len` bytes of `packet` and returns the new length. In NTPv4 a longer digest is cut
    /// to 160 bits, as RFC 7822 requires of every MAC; NTPv3 and older carry it whole.
    ///
    /// # Errors
    /// [`NoSpace`] if the MAC does not fit behind `len`.
    pub fn append(&self, packet: &mut [u8], len: usize) -> Result<usize, NoSpace> {
        let covered = packet.get(..len).ok_or(NoSpace)?;
        self.append_cut(packet, len, self.digest_len_in(covered))
    }

    /// As [`Self::append`], with a digest of `digest_len` bytes at most: a reply must not outgrow its request.
    ///
    /// # Errors
    /// [`NoSpace`] if the MAC does not fit behind `len`.
    pub fn append_cut(&self, packet: &mut [u8], len: usize, digest_len: usize) -> Result<usize, NoSpace> {
        let digest = self.digest(packet.get(..len).ok_or(NoSpace)?);
        let mut writer = Writer::after(packet, len)?;
        writer.u32(self.id.0)?;
        writer.bytes(digest.get(..digest_len).unwrap_or(&digest))?;
        Ok(writer.len())
    }

    /// Whether `mac` is this key's over `covered`. Takes the same time whichever bytes are wrong.
    #[must_use]
    pub fn verify(&self, covered: &[u8], mac: &Mac<'_>) -> bool {
        let whole = self.digest(covered);
        let longest = self.digest_len_in(covered);
        // A peer may cut the digest in old versions also, but never below what NTPv4 keeps of it.
        let shortest = longest.min(MAX_DIGEST_V4);
        let len = mac.digest.len();
        let right = whole.get(..len).unwrap_or_default();
        mac.key_id == self.id && (len == longest || len == shortest) && right.ct_eq(mac.digest).into()
    }

    /// Bytes of digest that a packet of this version carries.
    fn digest_len_in(&self, covered: &[u8]) -> usize {
        let whole = self.algorithm.digest_len();
        match covered.first().map(|first| (first >> 3) & 7) {
            Some(1..=3) => whole,
            _ => whole.min(MAX_DIGEST_V4),
        }
    }

    fn digest(&self, covered: &[u8]) -> Digest {
        let key = self.secret.as_bytes();
        match self.algorithm {
            MacAlgorithm::AesCmac128 => cmac_digest::<Cmac<Aes128>>(key, covered),
            MacAlgorithm::AesCmac256 => cmac_digest::<Cmac<Aes256>>(key, covered),
            MacAlgorithm::Sha256 => hash_digest::<Sha256>(key, covered),
            MacAlgorithm::Sha1 => hash_digest::<Sha1>(key, covered),
            MacAlgorithm::Md5 => hash_digest::<Md5>(key, covered),
        }
    }
}

impl fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SymmetricKey").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// The CMAC of `covered`. An empty digest, which verifies nothing, stands for a key length that
/// [`SymmetricKey::new`] does not let through.
fn cmac_digest<M: cmac::Mac + KeyInit>(key: &[u8], covered: &[u8]) -> Digest {
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else {
        return Digest::new();
    };
    mac.update(covered);
    mac.finalize().into_bytes().iter().copied().collect()
}

fn hash_digest<H: sha2::Digest>(key: &[u8], covered: &[u8]) -> Digest {
    H::new().chain_update(key).chain_update(covered).finalize().iter().copied().collect()
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests are of our own making")]
mod tests {
    use super::*;
    use crate::wire::{Header, Packet};

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|n| u8::from_str_radix(&text[n..n + 2], 16).unwrap()).collect()
    }

    fn digest(algorithm: MacAlgorithm, key: &str, message: &[u8]) -> Vec<u8> {
        SymmetricKey::new(KeyId(1), algorithm, &hex(key)).unwrap().digest(message).to_vec()
    }

    const RFC_4493_KEY: &str = "2b7e151628aed2a6abf7158809cf4f3c";
    const SP_800_38B_KEY: &str = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
    const MESSAGE: &str = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
                           30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";

    #[test]
    fn cmac_agrees_with_rfc_4493_and_sp_800_38b() {
        let message = hex(MESSAGE);
        for (algorithm, key, len, expected) in [
            (MacAlgorithm::AesCmac128, RFC_4493_KEY, 0, "bb1d6929e95937287fa37d129b756746"),
            (MacAlgorithm::AesCmac128, RFC_4493_KEY, 16, "070a16b46b4d4144f79bdd9dd04a287c"),
            (MacAlgorithm::AesCmac128, RFC_4493_KEY, 40, "dfa66747de9ae63030ca32611497c827"),
            (MacAlgorithm::AesCmac128, RFC_4493_KEY, 64, "51f0bebf7e3b9d92fc49741779363cfe"),
            (MacAlgorithm::AesCmac256, SP_800_38B_KEY, 0, "028962f61b7bf89efc6b551f4667d983"),
            (MacAlgorithm::AesCmac256, SP_800_38B_KEY, 16, "28a7023f452e8f82bd4bf28d8c37c35c"),
        ] {
            assert_eq!(digest(algorithm, key, &message[..len]), hex(expected), "{algorithm} over {len} bytes");
        }
    }

    #[test]
    fn hashes_cover_the_key_and_then_the_packet() {
        let key = "000102030405060708090a0b0c0d0e0f10111213";
        let mut packet = [0; 48];
        packet[0] = 0x23;
        for (algorithm, expected) in [
            (MacAlgorithm::Md5, "15c2c77674d2ba33c7ead0c7c488ec62"),
            (MacAlgorithm::Sha1, "287b8e48d2401f5315d4794425b377aafaf217a4"),
            (MacAlgorithm::Sha256, "033aa824181b540875cca75887ba82735800da9620fb3cb9523e1e6774fdbaa1"),
        ] {
            assert_eq!(digest(algorithm, key, &packet), hex(expected), "{algorithm}");
        }
    }

    #[test]
    fn what_was_appended_verifies_and_nothing_else_does() {
        for algorithm in MacAlgorithm::ALL {
            for version in 1..=4_u8 {
                let secret = [0x5a; 32];
                let secret = &secret[..algorithm.key_len().1.min(32)];
                let key = SymmetricKey::new(KeyId(9), algorithm, secret).unwrap();
                let mut buffer = [0; 100];
                buffer[0] = (version << 3) | 3;
                let len = key.append(&mut buffer, Header::LEN).unwrap();
                let digest_len = if version == 4 { algorithm.digest_len().min(20) } else { algorithm.digest_len() };
                assert_eq!(len, 52 + digest_len);
                let packet = Packet::parse(&buffer[..len]).unwrap();
                let mac = packet.mac().unwrap();
                assert!(key.verify(&buffer[..mac.covered], &mac), "{algorithm} in version {version}");

                let shorter = Mac { digest: &mac.digest[..15], ..mac };
                assert!(!key.verify(&buffer[..48], &shorter));
                assert!(!key.verify(&buffer[..48], &Mac { digest: &[], ..mac }));
                assert!(!key.verify(&buffer[..48], &Mac { key_id: KeyId(8), ..mac }));
                assert!(!key.verify(&buffer[..47], &mac));
                for bit in 0..digest_len * 8 {
                    let mut wrong = mac.digest.to_vec();
                    wrong[bit / 8] ^= 1 << (bit % 8);
                    assert!(!key.verify(&buffer[..48], &Mac { digest: &wrong, ..mac }));
                }
            }
        }
    }

    #[test]
    fn a_mac_that_does_not_fit_is_refused() {
        let key = SymmetricKey::new(KeyId(9), MacAlgorithm::AesCmac128, &[1; 16]).unwrap();
        assert_eq!(key.append(&mut [0; 67], 48), Err(NoSpace));
        assert_eq!(key.append(&mut [0; 67], 68), Err(NoSpace));
        assert_eq!(key.append(&mut [0; 68], 48), Ok(68));
    }

    #[test]
    fn key_lengths_are_checked_at_their_bounds() {
        for (algorithm, len, fits) in [
            (MacAlgorithm::AesCmac128, 15, false),
            (MacAlgorithm::AesCmac128, 16, true),
            (MacAlgorithm::AesCmac128, 17, false),
            (MacAlgorithm::AesCmac256, 31, false),
            (MacAlgorithm::AesCmac256, 32, true),
            (MacAlgorithm::Sha1, 0, false),
            (MacAlgorithm::Sha1, 1, true),
            (MacAlgorithm::Sha256, SymmetricKey::MAX_LEN, true),
            (MacAlgorithm::Md5, SymmetricKey::MAX_LEN + 1, false),
        ] {
            assert_eq!(SymmetricKey::new(KeyId(1), algorithm, &[1; 200][..len]).is_ok(), fits, "{algorithm}: {len}");
        }
    }

    #[test]
    fn names_are_chrony_s() {
        for algorithm in MacAlgorithm::ALL {
            assert_eq!(algorithm.name().to_lowercase().parse(), Ok(algorithm));
        }
        assert_eq!("SHA512".parse::<MacAlgorithm>(), Err(UnknownMacAlgorithm));
        assert_eq!(
            UnknownMacAlgorithm.to_string(),
            "unknown key type, expected one of AES128, AES256, SHA256, SHA1, MD5"
        );
    }

    #[test]
    fn debug_output_holds_no_key_byte() {
        let key = SymmetricKey::new(KeyId(3), MacAlgorithm::Sha256, &[0xab; 20]).unwrap();
        let text = format!("{key:?}");
        assert!(text.contains("KeyId(3)") && !text.contains("171") && !text.contains("ab, ab"), "{text}");
    }
}
