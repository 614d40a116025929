//! Kiss-o'-death codes.

use core::fmt;

use super::Header;
use crate::ids::ReferenceId;

/// Why a server sent a packet with stratum 0 instead of the time (RFC 5905 section 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kiss {
    /// DENY: access denied; stop.
    Deny,
    /// RSTR: access denied by policy; stop.
    Restrict,
    /// RATE: ask less often.
    Rate,
    /// NTSN: the cookie or the authenticator was not accepted (RFC 8915 section 5.7).
    NtsNak,
    /// Any other code; RFC 5905 section 7.4 lists more, none of which asks anything of a client.
    Other([u8; 4]),
}

impl Kiss {
    /// The code in `header`, if that is a kiss-o'-death.
    #[must_use]
    pub const fn of(header: &Header) -> Option<Self> {
        if header.stratum != 0 {
            return None;
        }
        Some(match &header.reference_id.0 {
            b"DENY" => Self::Deny,
            b"RSTR" => Self::Restrict,
            b"RATE" => Self::Rate,
            b"NTSN" => Self::NtsNak,
            other => Self::Other(*other),
        })
    }

    /// The code as it stands in the reference identifier.
    #[must_use]
    pub const fn reference_id(self) -> ReferenceId {
        ReferenceId(match self {
            Self::Deny => *b"DENY",
            Self::Restrict => *b"RSTR",
            Self::Rate => *b"RATE",
            Self::NtsNak => *b"NTSN",
            Self::Other(code) => code,
        })
    }
}

impl fmt::Display for Kiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reference_id().0.escape_ascii())
    }
}
