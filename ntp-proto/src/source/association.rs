//! Authentication of one source's packets.

use core::{fmt, time::Duration};

use chacha20::ChaCha12Rng;
use rand_core::Rng;

use super::{Authentication, response::Refusal};
use crate::{
    nts::{AeadAlgorithm, AeadKey, CookieJar, OpenReplyError, SealRequest, SessionKeys, open_reply, seal_request},
    time::Monotonic,
    wire::{Header, Kiss, Packet, SymmetricKey},
};

/// Keys and cookies from one NTS key exchange.
#[derive(Debug)]
pub struct NtsKeys {
    /// The keys.
    pub keys: SessionKeys,
    /// Keys exported in another way, to be tried after a NAK: some servers derive those for AES-128-GCM-SIV with the
    /// identifier of AES-SIV-CMAC-256.
    pub fallback: Option<SessionKeys>,
    /// The cookies.
    pub cookies: CookieJar,
}

/// Why keys are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysReason {
    /// There are none yet.
    None,
    /// All cookies were used and none came back.
    NoCookies,
    /// The server does not accept them (NTS NAK).
    Refused,
    /// They are old: what vouched for the server is to be judged again.
    Age,
}

impl fmt::Display for KeysReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no keys yet",
            Self::NoCookies => "out of cookies",
            Self::Refused => "keys refused by the server",
            Self::Age => "keys are old",
        })
    }
}

/// Shortest time between two wishes for keys.
const FIRST_BACKOFF: Duration = Duration::from_secs(16);
/// Longest time between two wishes for keys: 2^17 s.
const LAST_BACKOFF: Duration = Duration::from_secs(1 << 17);

/// How one source's packets are authenticated, and with what.
#[derive(Debug)]
pub struct Association {
    state: State,
    /// NTS NAKs that were believed.
    naks: u64,
    /// When keys last came.
    keyed: u64,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one per source, and most sources use the largest")]
enum State {
    None,
    Symmetric(SymmetricKey),
    Nts {
        keys: Option<NtsKeys>,
        /// The fallback keys are being tried.
        swapped: bool,
        refused: bool,
        wish: Wish,
        /// When the keys count as old.
        renew_at: Option<Monotonic>,
        /// Wishes for younger ones: a reply under the old ones does not fulfil them.
        renewal: Wish,
    },
}

/// Wishes for keys back off: a server that refuses every key it hands out must not be asked for keys at every poll.
#[derive(Clone, Copy, Debug, Default)]
struct Wish {
    not_before: Option<Monotonic>,
    backoff: Option<Duration>,
}

impl Wish {
    fn make(&mut self, now: Monotonic) -> bool {
        if self.not_before.is_some_and(|time| now < time) {
            return false;
        }
        let backoff = self.backoff.map_or(FIRST_BACKOFF, |last| last.saturating_mul(2).min(LAST_BACKOFF));
        *self = Self { not_before: Some(now + backoff), backoff: Some(backoff) };
        true
    }
}

impl Association {
    pub(super) fn new(authentication: Authentication) -> Self {
        let state = match authentication {
            Authentication::None => State::None,
            Authentication::Symmetric(key) => State::Symmetric(key),
            Authentication::Nts => State::Nts {
                keys: None,
                swapped: false,
                refused: false,
                wish: Wish::default(),
                renew_at: None,
                renewal: Wish::default(),
            },
        };
        Self { state, naks: 0, keyed: 0 }
    }

    /// Takes fresh keys, which count as old at `old_at`.
    pub(super) fn set_keys(&mut self, fresh: NtsKeys, old_at: Monotonic) {
        if let State::Nts { keys, swapped, refused, renew_at, renewal, .. } = &mut self.state {
            *keys = Some(fresh);
            (*swapped, *refused) = (false, false);
            (*renew_at, *renewal) = (Some(old_at), Wish::default());
            self.keyed += 1;
        }
    }

    /// Forgets how long to wait before keys are wanted again: somebody asked, or the network is another one.
    pub(super) fn forget_backoff(&mut self) {
        if let State::Nts { wish, renewal, .. } = &mut self.state {
            (*wish, *renewal) = (Wish::default(), Wish::default());
        }
    }

    /// Whether a request can be made now.
    pub(super) fn is_ready(&self) -> bool {
        match &self.state {
            State::None | State::Symmetric(_) => true,
            State::Nts { keys, .. } => keys.as_ref().is_some_and(|keys| !keys.cookies.is_empty()),
        }
    }

    /// Why keys are wanted at `now`, not more often than the back-off allows.
    pub(super) fn keys_wanted(&mut self, now: Monotonic) -> Option<KeysReason> {
        let State::Nts { keys, refused, wish, renew_at, renewal, .. } = &mut self.state else { return None };
        let reason = match keys {
            None => KeysReason::None,
            Some(_) if *refused => KeysReason::Refused,
            Some(keys) if keys.cookies.is_empty() => KeysReason::NoCookies,
            // Cookies would last for ever; the certificates and records that led to them do not.
            Some(_) if renew_at.is_some_and(|at| at <= now) => {
                return renewal.make(now).then_some(KeysReason::Age);
            }
            Some(_) => return None,
        };
        wish.make(now).then_some(reason)
    }

    /// The last request was answered by nothing but an NTS NAK.
    pub(super) fn handle_nak(&mut self) {
        self.naks += 1;
        if let State::Nts { keys: Some(keys), swapped, refused, .. } = &mut self.state {
            // A NAK proves nothing of who sent it: neither set of keys is given up for one.
            if let Some(fallback) = &mut keys.fallback {
                core::mem::swap(&mut keys.keys, fallback);
                *swapped = !*swapped;
            }
            // RFC 8915 section 5.7: the client initiates a new key exchange, and until that succeeds may go on with the
            // cookies it has.
            *refused |= !*swapped;
        }
    }

    /// Authenticates the request of `len` bytes in `buffer` and returns its new length; `None` without keys.
    pub(super) fn protect(
        &mut self,
        buffer: &mut [u8],
        len: usize,
        unique_id: &[u8; 32],
        rng: &mut ChaCha12Rng,
    ) -> Option<usize> {
        match &mut self.state {
            State::None => Some(len),
            State::Symmetric(key) => key.append(buffer, len).ok(),
            State::Nts { keys, .. } => {
                let keys = keys.as_mut()?;
                let cookie = keys.cookies.take()?;
                // RFC 8915 section 5.7: one placeholder for each cookie missing, so that the jar is full after one reply.
                let placeholders = (CookieJar::CAPACITY - 1).saturating_sub(keys.cookies.len());
                let mut nonce = [0; 16];
                rng.fill_bytes(&mut nonce);
                let key = &keys.keys.c2s;
                let request = SealRequest { unique_id, cookie: cookie.as_bytes(), placeholders, key, nonce: &nonce };
                seal_request(buffer, len, &request).ok()
            }
        }
    }

    /// Checks a reply's authentication and returns its header.
    pub(super) fn check(&mut self, payload: &mut [u8], unique_id: &[u8; 32]) -> Result<Header, Refusal> {
        match &mut self.state {
            State::None => Packet::parse(payload).map(|packet| packet.header).map_err(|_| Refusal::Malformed),
            State::Symmetric(key) => {
                let packet = Packet::parse(payload).map_err(|_| Refusal::Malformed)?;
                let mac = packet.mac().ok_or(Refusal::Unauthenticated)?;
                let covered = packet.bytes().get(..mac.covered).ok_or(Refusal::Malformed)?;
                if key.verify(covered, &mac) { Ok(packet.header) } else { Err(Refusal::Forged) }
            }
            State::Nts { keys, swapped, refused, wish, .. } => {
                let keys = keys.as_mut().ok_or(Refusal::Unauthenticated)?;
                let authentic = open_reply(payload, unique_id, &keys.keys.s2c).map_err(Refusal::from)?;
                for cookie in authentic.cookies() {
                    keys.cookies.put(cookie);
                }
                keys.fallback = None;
                (*swapped, *refused) = (false, false);
                *wish = Wish::default();
                Ok(*authentic.header())
            }
        }
    }
}

impl From<OpenReplyError> for Refusal {
    fn from(error: OpenReplyError) -> Self {
        match error {
            OpenReplyError::Wire(_) => Self::Malformed,
            OpenReplyError::UniqueId => Self::Origin,
            OpenReplyError::NoAuthenticator => Self::Unauthenticated,
            OpenReplyError::Forged => Self::Forged,
            OpenReplyError::NtsNak => Self::NtsNak,
        }
    }
}

/// What may be asked of an association, for display and saving.
impl Association {
    /// The symmetric key in use.
    #[must_use]
    pub const fn symmetric_key(&self) -> Option<&SymmetricKey> {
        match &self.state {
            State::Symmetric(key) => Some(key),
            State::None | State::Nts { .. } => None,
        }
    }

    /// Whether packets are authenticated by NTS.
    #[must_use]
    pub const fn is_nts(&self) -> bool {
        matches!(self.state, State::Nts { .. })
    }

    /// The NTS keys and cookies held.
    #[must_use]
    pub const fn nts_keys(&self) -> Option<&NtsKeys> {
        match &self.state {
            State::Nts { keys, .. } => keys.as_ref(),
            State::None | State::Symmetric(_) => None,
        }
    }

    /// The AEAD algorithm negotiated.
    #[must_use]
    pub fn algorithm(&self) -> Option<AeadAlgorithm> {
        self.nts_keys().map(|keys| AeadKey::algorithm(&keys.keys.c2s))
    }

    /// NTS NAKs that were believed.
    #[must_use]
    pub const fn naks(&self) -> u64 {
        self.naks
    }

    /// Key exchanges that gave keys.
    #[must_use]
    pub const fn key_exchanges(&self) -> u64 {
        self.keyed
    }
}

/// Whether an unauthenticated packet claims to be an NTS NAK.
pub(super) fn is_nak(header: &Header) -> bool {
    Kiss::of(header) == Some(Kiss::NtsNak)
}
