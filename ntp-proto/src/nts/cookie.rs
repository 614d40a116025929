//! Cookies as we make them (RFC 8915 section 6 suggests such a form; to clients they are opaque).
//!
//! | bytes | what |
//! |---|---|
//! | 4 | identifier of the master key |
//! | 16 | nonce |
//! | 16 | tag over identifier, nonce and keys |
//! | 2 × 16, 32 or 64 | C2S key and S2C key, encrypted with the master key; their length tells their algorithm |

use core::fmt;

use zeroize::Zeroizing;

use super::aead::{AeadAlgorithm, AeadKey, TAG_LEN};

/// Master key identifier, nonce and tag.
const OVERHEAD: usize = 4 + 16 + TAG_LEN;

/// Both keys of the longest kind.
const MAX_KEYS_LEN: usize = 2 * AeadAlgorithm::MAX_KEY_LEN;

/// The keys of one association (RFC 8915 section 5.1), both for one algorithm.
#[derive(Clone, Debug)]
pub struct SessionKeys {
    /// Seals requests.
    pub c2s: AeadKey,
    /// Seals replies.
    pub s2c: AeadKey,
}

/// Why no cookie was made: a fault of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssueError {
    /// The buffer is shorter than the cookie.
    NoSpace,
    /// The two keys are for different algorithms.
    MixedAlgorithms,
}

impl fmt::Display for IssueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSpace => "the buffer is too small for a cookie",
            Self::MixedAlgorithms => "the keys of an association are for different algorithms",
        })
    }
}

impl core::error::Error for IssueError {}

/// Why a cookie was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieError {
    /// No cookie of ours is this long.
    Length,
    /// Made with a master key that is gone, or was never ours.
    UnknownKey,
    /// Not made by us.
    Forged,
}

impl fmt::Display for CookieError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "no cookie of ours has this length",
            Self::UnknownKey => "made with an unknown master key",
            Self::Forged => "not made by us",
        })
    }
}

impl core::error::Error for CookieError {}

/// Bytes of a cookie that holds keys for `algorithm`.
pub(super) const fn len(algorithm: AeadAlgorithm) -> usize {
    OVERHEAD + 2 * algorithm.key_len()
}

/// The algorithm whose keys a cookie of `cookie_len` bytes holds.
fn algorithm_of(cookie_len: usize) -> Option<AeadAlgorithm> {
    AeadAlgorithm::ALL.into_iter().find(|algorithm| len(*algorithm) == cookie_len)
}

/// Identifier of the master key that made `cookie`.
pub(super) fn master_id(cookie: &[u8]) -> Result<[u8; 4], CookieError> {
    algorithm_of(cookie.len()).ok_or(CookieError::Length)?;
    cookie.first_chunk().copied().ok_or(CookieError::Length)
}

/// Writes a cookie to the start of `out` and returns its length.
pub(super) fn issue(
    master_id: [u8; 4],
    master: &AeadKey,
    keys: &SessionKeys,
    nonce: &[u8; 16],
    out: &mut [u8],
) -> Result<usize, IssueError> {
    let algorithm = keys.c2s.algorithm();
    if keys.s2c.algorithm() != algorithm {
        return Err(IssueError::MixedAlgorithms);
    }
    let cookie = out.get_mut(..len(algorithm)).ok_or(IssueError::NoSpace)?;
    let (front, sealed) = cookie.split_at_mut(OVERHEAD);
    let (c2s, s2c) = sealed.split_at_mut(algorithm.key_len());
    c2s.copy_from_slice(keys.c2s.as_bytes());
    s2c.copy_from_slice(keys.s2c.as_bytes());
    let tag = master.seal_in_place(nonce, &master_id, sealed);
    front[..4].copy_from_slice(&master_id);
    front[4..20].copy_from_slice(nonce);
    front[20..].copy_from_slice(&tag);
    Ok(len(algorithm))
}

/// Takes the keys out of a cookie.
pub(super) fn open(master: &AeadKey, cookie: &[u8]) -> Result<SessionKeys, CookieError> {
    let algorithm = algorithm_of(cookie.len()).ok_or(CookieError::Length)?;
    let (id, rest) = cookie.split_first_chunk::<4>().ok_or(CookieError::Length)?;
    let (nonce, rest) = rest.split_first_chunk::<16>().ok_or(CookieError::Length)?;
    let (tag, sealed) = rest.split_first_chunk::<TAG_LEN>().ok_or(CookieError::Length)?;
    let mut buffer = Zeroizing::new([0; MAX_KEYS_LEN]);
    let text = buffer.get_mut(..sealed.len()).ok_or(CookieError::Length)?;
    text.copy_from_slice(sealed);
    master.open_in_place(nonce, id, text, tag).map_err(|_| CookieError::Forged)?;
    let (c2s, s2c) = text.split_at(algorithm.key_len());
    let key = |bytes| AeadKey::new(algorithm, bytes).map_err(|_| CookieError::Length);
    Ok(SessionKeys { c2s: key(c2s)?, s2c: key(s2c)? })
}
