//! What became of a request.

use core::fmt;

use super::TransmitToken;

/// Why nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// Not a packet of NTP version 1 to 4.
    Malformed,
    /// Not a request.
    Mode,
    /// The address is not served.
    Access,
    /// The MAC is made with a key we do not have, or is wrong. No crypto-NAK is sent: it would answer forgeries, and
    /// tells a client nothing that silence does not.
    Key,
    /// NTS fields are incomplete or contradict each other.
    Nts,
    /// The rate limit.
    Rate,
    /// The caller's buffer is too small for the reply.
    NoSpace,
    /// The time cannot be told: in a leap second that is smeared the clock reads the same twice.
    Leap,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed",
            Self::Mode => "not a request",
            Self::Access => "address not served",
            Self::Key => "unknown or wrong key",
            Self::Nts => "malformed NTS fields",
            Self::Rate => "rate limit",
            Self::NoSpace => "no space for the reply",
            Self::Leap => "leap second",
        })
    }
}

/// What kind of reply is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplyClass {
    /// The time, without authentication.
    Plain,
    /// The time, with a symmetric key.
    Symmetric,
    /// The time, with NTS.
    Nts,
    /// An NTS negative acknowledgment (RFC 8915 section 5.7).
    NtsNak,
    /// A kiss-o'-death with code RATE, authenticated as the request was.
    Kiss,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub enum Verdict {
    /// Nothing is sent.
    Drop(DropReason),
    /// A reply is sent.
    Reply {
        /// Its bytes are the first `len` of the output; never more than the request had.
        len: usize,
        /// What kind of reply.
        class: ReplyClass,
        /// Whether it carries the transmit timestamp of the reply before it (RFC 9769).
        interleaved: bool,
        /// If the kernel or the interface can tell when it left, that is wanted by
        /// [`Responder::transmitted`](super::Responder::transmitted).
        want_transmit_stamp: Option<TransmitToken>,
    },
}
