//! Network Time Security in NTP packets (RFC 8915 section 5): keys, cookies and the extension fields that use them.
//!
//! How keys and the first cookies are had is not known here; that is the key exchange's business.

mod aead;
pub(crate) mod authenticator;
mod cookie;
mod jar;
pub mod keyring;
mod open;
mod seal;

pub use aead::{AeadAlgorithm, AeadKey, AeadKeyLength, OpenError, TAG_LEN};
pub(crate) use authenticator::{AuthenticatorError, Sender as NtsSender};
pub use cookie::{CookieError, IssueError, SessionKeys};
pub use jar::{Cookie, CookieJar};
pub use keyring::Keyring;
pub use open::{Authentic, OpenReplyError, open_reply};
pub use seal::{MAX_REQUEST, SealError, SealRequest, seal_request};

/// Bytes of a unique identifier. RFC 8915 section 5.3 asks for 32 octets at least.
pub const UNIQUE_ID_LEN: usize = 32;
