//! Why a key exchange failed, by fault.

use core::fmt;

use ntp_proto::{pool::Failure, time::UnixTime};
use rustls::AlertDescription;

use crate::record::RecordType;

/// A rule of RFC 8915 section 4 that the peer broke in its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The message does not end in time.
    TooLong {
        /// Most octets we take.
        max: usize,
    },
    /// The message has too many records.
    TooManyRecords {
        /// Most records we take.
        max: usize,
    },
    /// Octets follow End of Message.
    AfterEnd,
    /// The stream ended before End of Message.
    Incomplete,
    /// The body of this record is not what its type asks for.
    Body(RecordType),
    /// This record may stand in a message once only.
    Duplicate(RecordType),
    /// This record must stand in the message.
    Missing(RecordType),
    /// This record may not stand in a message of this direction, or answers nothing we sent.
    Unexpected(RecordType),
    /// A record with critical bit whose type we do not serve.
    UnrecognizedCritical(RecordType),
    /// A response names more than one protocol or algorithm.
    Several(RecordType),
    /// A response names a protocol or algorithm that we did not offer.
    NotOffered(RecordType, u16),
    /// A response brings no cookie.
    NoCookies,
}

impl Fault {
    /// The error code by which a server reports this fault in a request (RFC 8915 section 4.1.3).
    #[must_use]
    pub const fn error_code(self) -> ErrorCode {
        match self {
            // RFC 8915 section 4.1.3: code 0 answers a critical record that is not recognized.
            Self::UnrecognizedCritical(_) => ErrorCode::UnrecognizedCritical,
            Self::TooLong { .. }
            | Self::TooManyRecords { .. }
            | Self::AfterEnd
            | Self::Incomplete
            | Self::Body(_)
            | Self::Duplicate(_)
            | Self::Missing(_)
            | Self::Unexpected(_)
            | Self::Several(_)
            | Self::NotOffered(..)
            | Self::NoCookies => ErrorCode::BadRequest,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { max } => write!(f, "message longer than {max} octets"),
            Self::TooManyRecords { max } => write!(f, "message of more than {max} records"),
            Self::AfterEnd => f.write_str("data after End of Message"),
            Self::Incomplete => f.write_str("message ends before End of Message"),
            Self::Body(kind) => write!(f, "malformed {kind} record"),
            Self::Duplicate(kind) => write!(f, "more than one {kind} record"),
            Self::Missing(kind) => write!(f, "no {kind} record"),
            Self::Unexpected(kind) => write!(f, "unexpected {kind} record"),
            Self::UnrecognizedCritical(kind) => {
                write!(f, "critical record of type {} that is not served", kind.number())
            }
            Self::Several(kind) => write!(f, "{kind} record names more than one choice"),
            Self::NotOffered(kind, id) => write!(f, "{kind} record names {id}, which was not offered"),
            Self::NoCookies => f.write_str("response without cookies"),
        }
    }
}

impl core::error::Error for Fault {}

/// The code of an Error record (RFC 8915 section 4.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// 0: a critical record was not understood.
    UnrecognizedCritical,
    /// 1: the request was incomplete or malformed.
    BadRequest,
    /// 2: the server failed.
    Internal,
    /// Any other number, never one of the above.
    Other(u16),
}

impl ErrorCode {
    /// Takes the number on the wire.
    #[must_use]
    pub const fn from_number(number: u16) -> Self {
        match number {
            0 => Self::UnrecognizedCritical,
            1 => Self::BadRequest,
            2 => Self::Internal,
            other => Self::Other(other),
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::UnrecognizedCritical => 0,
            Self::BadRequest => 1,
            Self::Internal => 2,
            Self::Other(number) => number,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnrecognizedCritical => f.write_str("error 0 (unrecognized critical record)"),
            Self::BadRequest => f.write_str("error 1 (bad request)"),
            Self::Internal => f.write_str("error 2 (internal server error)"),
            Self::Other(number) => write!(f, "error {number}"),
        }
    }
}

/// What two sides that understand each other have not in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoOverlap {
    /// The server does not speak NTPv4 under NTS.
    Protocol,
    /// The server knows none of our AEAD algorithms.
    Algorithm,
}

impl fmt::Display for NoOverlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol => "no common next protocol",
            Self::Algorithm => "no common AEAD algorithm",
        })
    }
}

/// What is wrong with the peer's TLS or its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// A certificate of the chain had expired at the time it was judged at.
    Expired {
        /// Last second of its life.
        not_after: UnixTime,
        /// The time it was judged at.
        judged_at: UnixTime,
    },
    /// A certificate of the chain was not valid yet at the time it was judged at.
    NotYetValid {
        /// First second of its life.
        not_before: UnixTime,
        /// The time it was judged at.
        judged_at: UnixTime,
    },
    /// A certificate of the chain had expired before a time that is past for certain, while nobody knows how late it is.
    ExpiredAtFloor {
        /// Last second of its life.
        not_after: UnixTime,
        /// It is this late at least.
        floor: UnixTime,
    },
    /// A certificate of the chain ends before it begins: it is malformed, and valid at no time.
    NeverValid,
    /// The certificate is for other names.
    WrongName {
        /// The name it should be for.
        expected: String,
        /// The names it is for, at most [`MAX_SHOWN_NAMES`].
        presented: Vec<String>,
    },
    /// The chain does not end at a trusted root.
    UnknownIssuer,
    /// The chain is longer than we check.
    ChainTooLong,
    /// The server has TLSA records, and none of them is for its certificate (RFC 6698).
    NotInDns {
        /// How many records there are.
        records: usize,
    },
    /// The certificate was revoked.
    Revoked,
    /// The certificate may not be used for a TLS server.
    WrongPurpose,
    /// The certificate is broken in another way.
    Certificate(String),
    /// The peer does not speak NTS key establishment (ALPN `ntske/1`).
    NoAlpn,
    /// The peer does not speak TLS at all.
    NoTls,
    /// The peer does not speak TLS 1.3.
    Version,
    /// The peer ended the handshake.
    Alert(AlertDescription),
    /// More octets came than any honest exchange needs.
    TooMuchData,
    /// Any other failure of TLS.
    Other(String),
}

/// Most names of a certificate that an error shows.
pub const MAX_SHOWN_NAMES: usize = 8;

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { not_after, judged_at } => {
                write!(f, "certificate expired on {} (judged at {})", Utc(*not_after), Utc(*judged_at))
            }
            Self::NotYetValid { not_before, judged_at } => {
                write!(f, "certificate not valid before {} (judged at {})", Utc(*not_before), Utc(*judged_at))
            }
            Self::ExpiredAtFloor { not_after, floor } => {
                write!(f, "certificate expired on {}, and it is {} at least", Utc(*not_after), Utc(*floor))
            }
            Self::NeverValid => f.write_str("certificate ends before it begins, so it is malformed and never valid"),
            Self::WrongName { expected, presented } => {
                write!(f, "certificate is not for {expected} but for {}", presented.join(", "))
            }
            Self::UnknownIssuer => f.write_str("certificate signed by an unknown issuer"),
            Self::ChainTooLong => f.write_str("certificate chain too long"),
            Self::NotInDns { records } => {
                write!(f, "certificate is not the one that DNS vouches for: none of {records} TLSA records matches")
            }
            Self::Revoked => f.write_str("certificate revoked"),
            Self::WrongPurpose => f.write_str("certificate not meant for a TLS server"),
            Self::Certificate(why) => write!(f, "bad certificate: {why}"),
            Self::NoAlpn => f.write_str("peer does not offer NTS key establishment (ALPN ntske/1)"),
            Self::NoTls => f.write_str("peer does not speak TLS"),
            Self::Version => f.write_str("peer does not speak TLS 1.3"),
            Self::Alert(alert) => write!(f, "peer ended TLS with alert {alert:?}"),
            Self::TooMuchData => f.write_str("too much data"),
            Self::Other(why) => write!(f, "TLS failed: {why}"),
        }
    }
}

/// Shows a time as `2030-01-31T23:59:59Z`.
struct Utc(UnixTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = crate::cert_time::civil_from_days(self.0.seconds.div_euclid(86_400));
        let second = self.0.seconds.rem_euclid(86_400);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
    }
}

/// Why a key exchange came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeError {
    /// TLS or the certificate is not acceptable.
    Tls(TlsFault),
    /// The peer broke a rule of the key exchange.
    Protocol(Fault),
    /// The server answered with an Error record.
    Refused(ErrorCode),
    /// The server answered with a Warning record of this code.
    Warned(u16),
    /// Nothing in common.
    NoOverlap(NoOverlap),
    /// A deadline passed; the text says what was waited for.
    Timeout(&'static str),
    /// The peer closed the connection; the text says what was waited for.
    Eof(&'static str),
}

impl KeError {
    /// What a pool mode is told.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        match self {
            Self::Tls(_) => Failure::Tls,
            Self::Protocol(_) | Self::Refused(_) | Self::Warned(_) | Self::Timeout(_) | Self::Eof(_) => {
                Failure::Protocol
            }
            Self::NoOverlap(_) => Failure::Unsupported,
        }
    }
}

impl fmt::Display for KeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(fault) => fault.fmt(f),
            Self::Protocol(fault) => write!(f, "protocol violated: {fault}"),
            Self::Refused(code) => write!(f, "refused with {code}"),
            Self::Warned(code) => write!(f, "refused with unknown warning {code}"),
            Self::NoOverlap(what) => what.fmt(f),
            Self::Timeout(what) => write!(f, "timed out waiting for the {what}"),
            Self::Eof(what) => write!(f, "connection closed while waiting for the {what}"),
        }
    }
}

impl core::error::Error for KeError {}

impl From<Fault> for KeError {
    fn from(fault: Fault) -> Self {
        Self::Protocol(fault)
    }
}

impl From<TlsFault> for KeError {
    fn from(fault: TlsFault) -> Self {
        Self::Tls(fault)
    }
}
