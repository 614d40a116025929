//! The master keys that cookies are made with.

use arrayvec::ArrayVec;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    aead::{AeadAlgorithm, AeadKey},
    cookie::{self, CookieError, IssueError, SessionKeys},
};
use crate::error::WireError;

/// First byte of a saved keyring.
const STATE_VERSION: u8 = 1;

/// What keys of a [shared](Keyring::shared) ring are derived for.
const PURPOSE: &[u8] = b"NTS cookie master key of an epoch";

/// Version and count in front of the keys of a saved keyring.
const STATE_HEADER: usize = 2;

/// The current master key, which makes new cookies, and the ones before it, whose cookies are still accepted.
///
/// Each key's identifier is derived from the key, so that servers that share keys agree about it.
#[derive(Clone, Debug)]
pub struct Keyring {
    /// Newest first, never empty.
    keys: ArrayVec<MasterKey, { Self::CAPACITY }>,
}

#[derive(Clone, Debug)]
struct MasterKey {
    id: [u8; 4],
    key: AeadKey,
}

impl MasterKey {
    fn new(fresh: &[u8; Keyring::KEY_LEN]) -> Self {
        let digest = Sha256::new().chain_update(b"NTS cookie master key").chain_update(fresh).finalize();
        let [a, b, c, d, ..] = digest.0;
        Self { id: [a, b, c, d], key: AeadKey::siv_cmac_256(fresh) }
    }

    /// AES-SIV is a pseudorandom function of what is sealed and what goes with it (RFC 5297 section 1.3.1): the key of one
    /// epoch tells nothing of the others.
    fn derive(secret: &[u8; Keyring::KEY_LEN], epoch: u64) -> Self {
        let mut derived = Zeroizing::new([0; Keyring::KEY_LEN]);
        let _tag = AeadKey::siv_cmac_256(secret).seal_in_place(&epoch.to_be_bytes(), PURPOSE, derived.as_mut_slice());
        Self::new(&derived)
    }
}

impl Keyring {
    /// Most keys: the current one and seven before it.
    pub const CAPACITY: usize = 8;

    /// Most secrets of a [shared](Self::shared) ring: the one in use, and one that comes or goes.
    pub const MAX_SECRETS: usize = 2;

    /// Bytes of a master key.
    pub const KEY_LEN: usize = 32;

    /// Bytes of a saved keyring.
    pub const STATE_LEN: usize = STATE_HEADER + Self::CAPACITY * Self::KEY_LEN;

    /// Starts with one key of fresh random bytes.
    #[must_use]
    pub fn new(fresh: &[u8; Self::KEY_LEN]) -> Self {
        let mut keys = ArrayVec::new();
        keys.push(MasterKey::new(fresh));
        Self { keys }
    }

    /// The ring of all servers that share secrets, in this epoch. Each derives the same keys for itself, so that nothing but
    /// the number of the epoch, which is the time divided by the life of a key, has to be agreed upon.
    ///
    /// New cookies are made with the first secret; those of each secret are accepted if they are of this epoch, of the next
    /// one, since not all clocks are equally right, and of the epochs before: six with one secret, two with two. A secret is
    /// 32 bytes that cannot be guessed. Secrets beyond [`Self::MAX_SECRETS`] are left out; without any there is no ring.
    #[must_use]
    pub fn shared(secrets: &[[u8; Self::KEY_LEN]], epoch: u64) -> Option<Self> {
        let secrets = secrets.get(..Self::MAX_SECRETS).unwrap_or(secrets);
        let of_each = Self::CAPACITY.checked_div(secrets.len())?;
        let mut keys = ArrayVec::new();
        for secret in secrets {
            let past = (1..).map(|back| epoch.wrapping_sub(back));
            let epochs = [epoch, epoch.wrapping_add(1)].into_iter().chain(past);
            keys.extend(epochs.take(of_each).map(|epoch| MasterKey::derive(secret, epoch)));
        }
        Some(Self { keys })
    }

    /// Makes new cookies with a key of fresh random bytes from now on, and forgets the oldest key if there are
    /// [`Self::CAPACITY`].
    pub fn rotate(&mut self, fresh: &[u8; Self::KEY_LEN]) {
        if self.keys.is_full() {
            self.keys.pop();
        }
        self.keys.insert(0, MasterKey::new(fresh));
    }

    /// Bytes of a cookie for an association with this algorithm, a multiple of four.
    #[must_use]
    pub const fn cookie_len(algorithm: AeadAlgorithm) -> usize {
        cookie::len(algorithm)
    }

    /// Writes a cookie to the start of `out` and returns its length. `nonce` must be fresh random bytes.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue(&self, keys: &SessionKeys, nonce: &[u8; 16], out: &mut [u8]) -> Result<usize, IssueError> {
        let MasterKey { id, key } = &self.keys[0];
        cookie::issue(*id, key, keys, nonce, out)
    }

    /// Takes the keys out of a cookie. One of a length or with an identifier that is not ours costs no cryptography.
    ///
    /// # Errors
    /// [`CookieError`].
    pub fn open(&self, cookie: &[u8]) -> Result<SessionKeys, CookieError> {
        let id = cookie::master_id(cookie)?;
        let mut outcome = Err(CookieError::UnknownKey);
        // Two keys share an identifier once in a hundred million keyrings, and then both are tried.
        for master in self.keys.iter().filter(|master| master.id == id) {
            outcome = cookie::open(&master.key, cookie);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// The keyring as bytes to save, with no protection of their own: a version, the number of keys, the keys from the
    /// newest to the oldest, zeros.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; Self::STATE_LEN]> {
        let mut bytes = Zeroizing::new([0; Self::STATE_LEN]);
        let (header, body) = bytes.split_at_mut(STATE_HEADER);
        #[expect(clippy::cast_possible_truncation, reason = "at most CAPACITY")]
        header.copy_from_slice(&[STATE_VERSION, self.keys.len() as u8]);
        for (to, from) in body.chunks_exact_mut(Self::KEY_LEN).zip(&self.keys) {
            to.copy_from_slice(from.key.as_bytes());
        }
        bytes
    }

    /// Takes a keyring from saved bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`] or [`WireError::Trailing`] for a wrong length, [`WireError::Version`] for another
    /// version's format, [`WireError::Value`] for a count of keys that cannot be.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let Some(([version, count], body)) = bytes.split_first_chunk::<STATE_HEADER>() else {
            return Err(WireError::Truncated);
        };
        if *version != STATE_VERSION {
            return Err(WireError::Version);
        }
        let (stored, rest) = body.as_chunks::<{ Self::KEY_LEN }>();
        if stored.len() < Self::CAPACITY {
            return Err(WireError::Truncated);
        }
        if stored.len() > Self::CAPACITY || !rest.is_empty() {
            return Err(WireError::Trailing);
        }
        let count = usize::from(*count);
        if count == 0 || count > Self::CAPACITY {
            return Err(WireError::Value);
        }
        Ok(Self { keys: stored.iter().take(count).map(MasterKey::new).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(algorithm: AeadAlgorithm) -> SessionKeys {
        let key = |byte| AeadKey::new(algorithm, &[byte; 64][..algorithm.key_len()]).unwrap();
        SessionKeys { c2s: key(1), s2c: key(2) }
    }

    fn issue(ring: &Keyring, algorithm: AeadAlgorithm) -> Vec<u8> {
        let mut out = [0; 200];
        let len = ring.issue(&session(algorithm), &[5; 16], &mut out).unwrap();
        out[..len].to_vec()
    }

    #[test]
    fn a_cookie_holds_the_keys_of_every_algorithm() {
        let ring = Keyring::new(&[3; 32]);
        for (algorithm, len) in AeadAlgorithm::ALL.into_iter().zip([100, 164, 68]) {
            let cookie = issue(&ring, algorithm);
            assert_eq!((cookie.len(), Keyring::cookie_len(algorithm)), (len, len));
            let keys = ring.open(&cookie).unwrap();
            let expected = session(algorithm);
            assert_eq!((keys.c2s.algorithm(), keys.s2c.algorithm()), (algorithm, algorithm));
            assert_eq!(keys.c2s.as_bytes(), expected.c2s.as_bytes());
            assert_eq!(keys.s2c.as_bytes(), expected.s2c.as_bytes());
        }
    }

    #[test]
    fn every_changed_byte_spoils_a_cookie() {
        let ring = Keyring::new(&[3; 32]);
        let cookie = issue(&ring, AeadAlgorithm::AesSivCmac256);
        for at in 0..cookie.len() {
            let mut cookie = cookie.clone();
            cookie[at] ^= 1;
            let expected = if at < 4 { CookieError::UnknownKey } else { CookieError::Forged };
            assert_eq!(ring.open(&cookie).err(), Some(expected), "byte {at}");
        }
        for len in [0, 3, 68, 99] {
            let expected = if len == 68 { CookieError::Forged } else { CookieError::Length };
            assert_eq!(ring.open(&cookie[..len]).err(), Some(expected));
        }
    }

    #[test]
    fn seven_rotations_are_survived_and_no_eighth() {
        let mut ring = Keyring::new(&[0; 32]);
        let cookie = issue(&ring, AeadAlgorithm::AesSivCmac256);
        for rotation in 1..=7 {
            ring.rotate(&[rotation; 32]);
            assert!(ring.open(&cookie).is_ok(), "rotation {rotation}");
        }
        ring.rotate(&[8; 32]);
        assert_eq!(ring.open(&cookie).err(), Some(CookieError::UnknownKey));
    }

    #[test]
    fn servers_that_share_a_secret_take_each_other_s_cookies() {
        let ring = |secrets: &[[u8; 32]], epoch| Keyring::shared(secrets, epoch).unwrap();
        let cookie = |secrets: &[[u8; 32]], epoch| issue(&ring(secrets, epoch), AeadAlgorithm::AesSivCmac256);
        let made = cookie(&[[1; 32]], 100);
        for (epoch, good) in [(98, false), (99, true), (100, true), (101, true), (106, true), (107, false)] {
            assert_eq!(ring(&[[1; 32]], epoch).open(&made).is_ok(), good, "{epoch}");
        }
        assert!(ring(&[[2; 32]], 100).open(&made).is_err());
        // A secret is replaced: known everywhere first, then used, then the old one is taken out.
        let steps: [&[[u8; 32]]; 4] = [&[[1; 32]], &[[1; 32], [2; 32]], &[[2; 32], [1; 32]], &[[2; 32]]];
        for neighbours in steps.windows(2) {
            for (here, there) in [(neighbours[0], neighbours[1]), (neighbours[1], neighbours[0])] {
                for behind in [100, 101] {
                    assert!(ring(here, 101).open(&cookie(there, behind)).is_ok());
                }
            }
        }
        assert!(ring(steps[1], 103).open(&made).is_err(), "with two secrets cookies live for two epochs more");
        assert!(Keyring::shared(&[], 1).is_none());
    }

    #[test]
    fn a_saved_keyring_opens_the_same_cookies() {
        let mut ring = Keyring::new(&[1; 32]);
        let old = issue(&ring, AeadAlgorithm::AesSivCmac256);
        ring.rotate(&[2; 32]);
        let saved = ring.to_bytes();
        let read = Keyring::from_bytes(&saved[..]).unwrap();
        assert!(read.open(&old).is_ok());
        assert_eq!(issue(&read, AeadAlgorithm::AesSivCmac512), issue(&ring, AeadAlgorithm::AesSivCmac512));

        let err = |bytes: &[u8]| Keyring::from_bytes(bytes).err();
        assert_eq!(err(&saved[..Keyring::STATE_LEN - 1]), Some(WireError::Truncated));
        assert_eq!(err(&[]), Some(WireError::Truncated));
        assert_eq!(err(&[&saved[..], &[0]].concat()), Some(WireError::Trailing));
        for (at, value, expected) in [(0, 2, WireError::Version), (1, 0, WireError::Value), (1, 9, WireError::Value)] {
            let mut saved = saved.to_vec();
            saved[at] = value;
            assert_eq!(err(&saved), Some(expected));
        }
    }

    #[test]
    fn our_caller_s_faults_are_told() {
        let ring = Keyring::new(&[3; 32]);
        let keys = session(AeadAlgorithm::AesSivCmac256);
        assert_eq!(ring.issue(&keys, &[0; 16], &mut [0; 99]), Err(IssueError::NoSpace));
        let mixed = SessionKeys { s2c: session(AeadAlgorithm::AesGcmSiv128).s2c, ..keys };
        assert_eq!(ring.issue(&mixed, &[0; 16], &mut [0; 200]), Err(IssueError::MixedAlgorithms));
    }
}
