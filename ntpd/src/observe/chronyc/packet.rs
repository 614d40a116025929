//! Requests and replies as a whole: headers, lengths, and what is answered to what makes no sense.

use super::{
    codec::Field as _,
    table::{self, Access, Entry},
};

/// The version of the protocol; every chrony since 4.0 has it.
pub(crate) const VERSION: u8 = 6;
/// The oldest version whose clients understand that theirs is wrong.
const OLDEST_TOLD: u8 = 5;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
/// Octets before the body of a request.
pub(crate) const REQUEST_HEADER: usize = 20;
/// Octets before the body of a reply; the shortest datagram that is looked at.
pub(crate) const REPLY_HEADER: usize = 28;
/// Octets of the longest request that there can be.
pub(crate) const MAX_REQUEST: usize = 860;
/// A reply without a body.
pub(crate) const NULL_REPLY: u16 = 1;

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Status {
    Success = 0,
    Failed = 1,
    Unauthorized = 2,
    Invalid = 3,
    NoSuchSource = 4,
    StaleLogon = 5,
    NotEnabled = 6,
    BadSubnet = 7,
    AccessAllowed = 8,
    AccessDenied = 9,
    NoHostAccess = 10,
    SourceAlreadyKnown = 11,
    TooManySources = 12,
    NoRtc = 13,
    BadRtcFile = 14,
    Inactive = 15,
    BadSample = 16,
    InvalidFamily = 17,
    BadVersion = 18,
    BadLength = 19,
    Unexpected = 20,
    InvalidName = 21,
}

/// Each status and what chronyc prints for it, by its number.
const TEXTS: [(Status, &str); 22] = [
    (Status::Success, "200 OK"),
    (Status::Failed, "500 Failure"),
    (Status::Unauthorized, "501 Not authorised"),
    (Status::Invalid, "502 Invalid command"),
    (Status::NoSuchSource, "503 No such source"),
    (Status::StaleLogon, "504 Duplicate or stale logon detected"),
    (Status::NotEnabled, "505 Facility not enabled in daemon"),
    (Status::BadSubnet, "507 Bad subnet"),
    (Status::AccessAllowed, "208 Access allowed"),
    (Status::AccessDenied, "209 Access denied"),
    (Status::NoHostAccess, "510 No command access from this host"),
    (Status::SourceAlreadyKnown, "511 Source already present"),
    (Status::TooManySources, "512 Too many sources present"),
    (Status::NoRtc, "513 RTC driver not running"),
    (Status::BadRtcFile, "514 Can't write RTC parameters"),
    (Status::Inactive, "519 Client logging is not active in the daemon"),
    (Status::BadSample, "516 Sample index out of range"),
    (Status::InvalidFamily, "515 Invalid address family"),
    (Status::BadVersion, "517 Protocol version mismatch"),
    (Status::BadLength, "518 Packet length mismatch"),
    (Status::Unexpected, "520 Got unexpected error from daemon"),
    (Status::InvalidName, "521 Invalid name"),
];

impl Status {
    /// The status with this number; numbers that there are not are unexpected.
    #[must_use]
    pub(crate) fn from_number(number: u16) -> Self {
        TEXTS.get(usize::from(number)).map_or(Self::Unexpected, |(status, _)| *status)
    }

    /// What chronyc prints.
    #[must_use]
    pub(crate) fn text(self) -> &'static str {
        TEXTS[self as usize].1
    }
}

/// What is the same in a request and its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestHeader {
    version: u8,
    command: u16,
    /// A number chosen by the client.
    sequence: u32,
    /// Length of the datagram, which no reply exceeds.
    len: usize,
}

/// What is made of a datagram before anybody looks at its body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Incoming<'d> {
    /// No answer.
    Silence,
    /// An answer that is an error.
    Error(RequestHeader, Status),
    /// A request.
    Ask(RequestHeader, &'static Entry, &'d [u8]),
}

/// Reads a datagram. `opened` are the commands that may be used by everybody; on the Unix socket that is `None`, all are.
#[must_use]
pub(crate) fn read_request<'d>(datagram: &'d [u8], opened: Option<&[Access]>) -> Incoming<'d> {
    if !(REPLY_HEADER..=MAX_REQUEST).contains(&datagram.len()) {
        return Incoming::Silence;
    }
    let mut input = datagram;
    let Some([version, kind, reserved1, reserved2]) = <[u8; 4]>::get(&mut input) else { return Incoming::Silence };
    let Some([command, _attempt]) = <[u16; 2]>::get(&mut input) else { return Incoming::Silence };
    let Some(sequence) = u32::get(&mut input) else { return Incoming::Silence };
    if kind != REQUEST || reserved1 != 0 || reserved2 != 0 || version < OLDEST_TOLD {
        return Incoming::Silence;
    }
    let header = RequestHeader { version, command, sequence, len: datagram.len() };
    if version != VERSION {
        return Incoming::Error(header, Status::BadVersion);
    }
    let entry = match table::find(command, datagram.len()) {
        Ok(entry) => entry,
        Err(status) => return Incoming::Error(header, status),
    };
    if opened.is_some_and(|opened| !entry.access.is_among(opened)) {
        return Incoming::Error(header, Status::Unauthorized);
    }
    Incoming::Ask(header, entry, datagram.get(REQUEST_HEADER..).unwrap_or_default())
}

/// Writes a reply: an error, or a success with `body`, whose number is `code`. Never longer than the request: what does not
/// fit is an error of length, and if that does not fit either, nothing.
#[must_use]
pub(crate) fn write_reply(header: &RequestHeader, status: Status, code: u16, body: &[u8]) -> Vec<u8> {
    if REPLY_HEADER + body.len() > header.len {
        return if body.is_empty() { Vec::new() } else { write_reply(header, Status::BadLength, NULL_REPLY, &[]) };
    }
    let mut out = Vec::with_capacity(REPLY_HEADER + body.len());
    [VERSION, REPLY, 0, 0].put(&mut out);
    [header.command, code, status as u16, 0, 0, 0].put(&mut out);
    [header.sequence, 0, 0].put(&mut out);
    out.extend_from_slice(body);
    out
}

/// Writes a request, padded to the length of its longest reply.
#[must_use]
pub(crate) fn write_request(entry: &Entry, sequence: u32, attempt: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entry.request_len());
    [VERSION, REQUEST, 0, 0].put(&mut out);
    [entry.command, attempt].put(&mut out);
    [sequence, 0, 0].put(&mut out);
    out.extend_from_slice(body);
    out.resize(entry.request_len().max(out.len()), 0);
    out
}

/// Reads a reply: its status, and what it carries if it is the reply that belongs to the request. `None` if it answers
/// something else.
#[must_use]
pub(crate) fn read_reply<'d>(datagram: &'d [u8], entry: &Entry, sequence: u32) -> Option<(Status, u16, &'d [u8])> {
    let mut input = datagram;
    let [version, kind, reserved1, reserved2] = <[u8; 4]>::get(&mut input)?;
    let [command, code, status, ..] = <[u16; 6]>::get(&mut input)?;
    let [echoed, ..] = <[u32; 3]>::get(&mut input)?;
    let status = Status::from_number(status);
    let known = version == VERSION || (status == Status::BadVersion && version >= OLDEST_TOLD - 1);
    let ours = kind == REPLY && reserved1 == 0 && reserved2 == 0 && command == entry.command && echoed == sequence;
    (known && ours).then_some((status, code, input))
}
