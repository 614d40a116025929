//! NTS-KE records (RFC 8915 section 4) and the byte stream they come in.

use core::fmt;

use ntp_proto::nts::Cookie;

use crate::error::Fault;

/// Octets of a record before its body: type with critical bit, then body length.
const HEADER_LENGTH: usize = 4;

/// The critical bit in the first octet pair of a record.
const CRITICAL: u16 = 0x8000;

/// Longest server name we take (RFC 1035 section 3.1, textual form with final dot).
pub const MAX_NAME_LENGTH: usize = 254;

/// Longest cookie we take, in octets. RFC 8915 sets no bound.
pub const MAX_COOKIE_LENGTH: usize = Cookie::MAX_LEN;

/// Longest authentication token we take. Servers must accept 64
/// (draft-ietf-ntp-nts-keyexchange-pool-01).
pub const MAX_TOKEN_LENGTH: usize = 256;

/// Lengths in octets that one key of a Fixed Key Request may have.
pub const FIXED_KEY_LENGTHS: core::ops::RangeInclusive<usize> = 16..=128;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordType {
    /// Ends every message (RFC 8915 section 4.1.1).
    EndOfMessage,
    /// Next protocols (section 4.1.2).
    NextProtocol,
    /// An error (section 4.1.3).
    Error,
    /// A warning (section 4.1.4).
    Warning,
    /// AEAD algorithms (section 4.1.5).
    Aead,
    /// One cookie (section 4.1.6).
    NewCookie,
    /// The NTP server (section 4.1.7).
    Server,
    /// Its port (section 4.1.8).
    Port,
    /// Keeps the connection open (this and the next six: draft-ietf-ntp-nts-keyexchange-pool-01).
    KeepAlive,
    /// Which protocols a time source speaks.
    SupportedProtocols,
    /// Which algorithms a time source knows, and the length of their keys.
    SupportedAlgorithms,
    /// Which server names a time source may answer with.
    ServerNames,
    /// A pool hands over the keys of its client.
    FixedKeyRequest,
    /// A server the client does not want.
    ServerDeny,
    /// A pool shows who it is.
    Token,
    /// chrony's sign that AES-128-GCM-SIV keys are exported as RFC 8915 says.
    CompliantExport,
    /// Any other type, never one of the above.
    Unknown(u16),
}

impl RecordType {
    /// Takes the 15 bits below the critical bit.
    #[must_use]
    pub const fn from_number(number: u16) -> Self {
        match number & !CRITICAL {
            0 => Self::EndOfMessage,
            1 => Self::NextProtocol,
            2 => Self::Error,
            3 => Self::Warning,
            4 => Self::Aead,
            5 => Self::NewCookie,
            6 => Self::Server,
            7 => Self::Port,
            8 => Self::KeepAlive,
            9 => Self::SupportedProtocols,
            10 => Self::SupportedAlgorithms,
            11 => Self::ServerNames,
            12 => Self::FixedKeyRequest,
            13 => Self::ServerDeny,
            14 => Self::Token,
            1024 => Self::CompliantExport,
            other => Self::Unknown(other),
        }
    }

    /// The number on the wire, without the critical bit.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::EndOfMessage => 0,
            Self::NextProtocol => 1,
            Self::Error => 2,
            Self::Warning => 3,
            Self::Aead => 4,
            Self::NewCookie => 5,
            Self::Server => 6,
            Self::Port => 7,
            Self::KeepAlive => 8,
            Self::SupportedProtocols => 9,
            Self::SupportedAlgorithms => 10,
            Self::ServerNames => 11,
            Self::FixedKeyRequest => 12,
            Self::ServerDeny => 13,
            Self::Token => 14,
            Self::CompliantExport => 1024,
            Self::Unknown(number) => number & !CRITICAL,
        }
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::EndOfMessage => "End of Message",
            Self::NextProtocol => "NTS Next Protocol Negotiation",
            Self::Error => "Error",
            Self::Warning => "Warning",
            Self::Aead => "AEAD Algorithm Negotiation",
            Self::NewCookie => "New Cookie for NTPv4",
            Self::Server => "NTPv4 Server Negotiation",
            Self::Port => "NTPv4 Port Negotiation",
            Self::KeepAlive => "Keep Alive",
            Self::SupportedProtocols => "Supported Next Protocol List",
            Self::SupportedAlgorithms => "Supported Algorithm List",
            Self::ServerNames => "List Server Names",
            Self::FixedKeyRequest => "Fixed Key Request",
            Self::ServerDeny => "NTP Server Deny",
            Self::Token => "Authentication Token",
            Self::CompliantExport => "Compliant AES-128-GCM-SIV Exporter Context",
            Self::Unknown(number) => return write!(f, "unknown record type {number}"),
        };
        f.write_str(name)
    }
}

/// One record as it stands in a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Whether a receiver that does not know the type must refuse the message.
    pub critical: bool,
    /// The type.
    pub kind: RecordType,
    /// The body.
    pub body: &'a [u8],
}

impl fmt::Debug for Record<'_> {
    /// Without the body: it may be a cookie, a key or a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { critical, kind, body } = self;
        write!(f, "Record {{ critical: {critical}, kind: {kind:?}, body: {} octets }}", body.len())
    }
}

/// What a record says, its body checked by the rules of its type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// Record 0.
    EndOfMessage,
    /// Record 1: protocol ids.
    NextProtocol(Ids<'a>),
    /// Record 2: error code.
    Error(u16),
    /// Record 3: warning code.
    Warning(u16),
    /// Record 4: algorithm ids.
    Aead(Ids<'a>),
    /// Record 5: a cookie of 1 to [`MAX_COOKIE_LENGTH`] octets.
    NewCookie(&'a [u8]),
    /// Record 6: a host name or an address.
    Server(&'a str),
    /// Record 7: not zero.
    Port(u16),
    /// Record 8; "receivers MUST ignore any body".
    KeepAlive,
    /// Record 9: protocol ids, in an answer.
    SupportedProtocols(Ids<'a>),
    /// Record 10: pairs of algorithm id and key length, in an answer.
    SupportedAlgorithms(Ids<'a>),
    /// Record 11; the body is ignored.
    ServerNames,
    /// Record 12: two keys of equal length.
    FixedKeyRequest {
        /// Client to server.
        c2s: &'a [u8],
        /// Server to client.
        s2c: &'a [u8],
    },
    /// Record 13: a server name as an earlier record 6 gave it.
    ServerDeny(&'a str),
    /// Record 14: printable ASCII.
    Token(&'a str),
    /// Record 1024.
    CompliantExport,
    /// Anything else.
    Unknown,
}

impl<'a> Record<'a> {
    /// Reads the body by the rules of its type.
    ///
    /// # Errors
    ///
    /// [`Fault::Body`] if it breaks them.
    pub fn content(&self) -> Result<Content<'a>, Fault> {
        let Self { kind, body, .. } = *self;
        let content = match kind {
            RecordType::EndOfMessage => body.is_empty().then_some(Content::EndOfMessage),
            RecordType::NextProtocol => Ids::new(body, 1).map(Content::NextProtocol),
            RecordType::Error => number(body).map(Content::Error),
            RecordType::Warning => number(body).map(Content::Warning),
            RecordType::Aead => Ids::new(body, 1).map(Content::Aead),
            RecordType::NewCookie => (1..=MAX_COOKIE_LENGTH).contains(&body.len()).then_some(Content::NewCookie(body)),
            RecordType::Server => text(body, MAX_NAME_LENGTH).map(Content::Server),
            RecordType::Port => number(body).filter(|port| *port != 0).map(Content::Port),
            RecordType::KeepAlive => Some(Content::KeepAlive),
            RecordType::SupportedProtocols => Ids::new(body, 1).map(Content::SupportedProtocols),
            RecordType::SupportedAlgorithms => Ids::new(body, 2).map(Content::SupportedAlgorithms),
            RecordType::ServerNames => Some(Content::ServerNames),
            RecordType::FixedKeyRequest => fixed_keys(body),
            RecordType::ServerDeny => text(body, MAX_NAME_LENGTH).map(Content::ServerDeny),
            RecordType::Token => text(body, MAX_TOKEN_LENGTH).map(Content::Token),
            RecordType::CompliantExport => Some(Content::CompliantExport),
            RecordType::Unknown(_) => Some(Content::Unknown),
        };
        content.ok_or(Fault::Body(kind))
    }
}

/// A list of 16-bit numbers in network byte order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ids<'a>(&'a [u8]);

impl<'a> Ids<'a> {
    /// Takes a body that holds a whole number of groups of `group` numbers.
    fn new(body: &'a [u8], group: usize) -> Option<Self> {
        body.len().is_multiple_of(2 * group).then_some(Self(body))
    }

    /// The numbers in order.
    pub fn iter(self) -> impl Iterator<Item = u16> + 'a {
        self.0.chunks_exact(2).filter_map(number)
    }

    /// How many numbers there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.len() / 2
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

fn number(body: &[u8]) -> Option<u16> {
    body.try_into().ok().map(u16::from_be_bytes)
}

/// Visible ASCII: names, addresses and tokens hold nothing else, and none of it can spoil a log line.
fn text(body: &[u8], max: usize) -> Option<&str> {
    ((1..=max).contains(&body.len()) && body.iter().all(u8::is_ascii_graphic))
        .then(|| core::str::from_utf8(body).ok())
        .flatten()
}

fn fixed_keys(body: &[u8]) -> Option<Content<'_>> {
    let (c2s, s2c) = body.split_at_checked(body.len() / 2)?;
    (c2s.len() == s2c.len() && FIXED_KEY_LENGTHS.contains(&c2s.len())).then_some(Content::FixedKeyRequest { c2s, s2c })
}

/// Appends one record. Bodies longer than 65 535 octets do not exist in this crate; such a one would be cut.
pub(crate) fn write(out: &mut Vec<u8>, critical: bool, kind: RecordType, body: &[u8]) {
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let number = kind.number() | if critical { CRITICAL } else { 0 };
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend(body.iter().take(usize::from(length)));
}

/// Appends a record whose body is a list of numbers.
pub(crate) fn write_ids(out: &mut Vec<u8>, critical: bool, kind: RecordType, ids: impl IntoIterator<Item = u16>) {
    let body: Vec<u8> = ids.into_iter().flat_map(u16::to_be_bytes).collect();
    write(out, critical, kind, &body);
}

/// Appends the record that ends a message.
pub(crate) fn write_end(out: &mut Vec<u8>) {
    write(out, true, RecordType::EndOfMessage, &[]);
}

/// Octets set aside for a message at first.
const INITIAL_CAPACITY: usize = 4096;

/// How large a message may grow before it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets, headers included.
    pub octets: usize,
    /// Records, End of Message included.
    pub records: usize,
}

impl Limits {
    /// For a request. Ours is below 4096 octets even with sixteen servers denied.
    pub const REQUEST: Self = Self { octets: 4096, records: 128 };
    /// For a response. Eight cookies need less than 5000 octets.
    pub const RESPONSE: Self = Self { octets: 65_536, records: 1024 };
}

/// Collects one message from a byte stream that may be cut anywhere.
///
/// Call [`handle_input`](Self::handle_input) until it says that the message is complete, then
/// [`records`](Self::records).
#[derive(Clone)]
pub struct Incoming {
    limits: Limits,
    bytes: Vec<u8>,
    /// Where the first record begins that has not arrived whole.
    scanned: usize,
    records: usize,
    complete: bool,
}

impl fmt::Debug for Incoming {
    /// Without the bytes: they may hold cookies, keys or a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("octets", &self.bytes.len()).field("complete", &self.complete).finish()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.bytes);
    }
}

impl Incoming {
    /// Starts with nothing.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        // Room enough that octets, once taken, are not moved and left behind unerased in the usual case.
        let bytes = Vec::with_capacity(limits.octets.min(INITIAL_CAPACITY));
        Self { limits, bytes, scanned: 0, records: 0, complete: false }
    }

    /// Takes more of the stream; returns whether the message is complete.
    ///
    /// # Errors
    ///
    /// [`Fault::TooLong`] or [`Fault::TooManyRecords`] beyond the limits, [`Fault::AfterEnd`] if octets follow End of
    /// Message.
    pub fn handle_input(&mut self, bytes: &[u8]) -> Result<bool, Fault> {
        if self.bytes.len().saturating_add(bytes.len()) > self.limits.octets {
            return Err(Fault::TooLong { max: self.limits.octets });
        }
        self.bytes.extend_from_slice(bytes);
        while !self.complete {
            let rest = self.bytes.get(self.scanned..).unwrap_or_default();
            let Some((record, length)) = split_record(rest) else { return Ok(false) };
            self.records += 1;
            if self.records > self.limits.records {
                return Err(Fault::TooManyRecords { max: self.limits.records });
            }
            self.complete = record.kind == RecordType::EndOfMessage;
            self.scanned += length;
        }
        // RFC 8915 section 4.1.1: End of Message stands once, at the end.
        if self.scanned < self.bytes.len() { Err(Fault::AfterEnd) } else { Ok(true) }
    }

    /// Whether nothing has come yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The whole records that have come so far, at most [`Limits::records`] of them.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        records(self.bytes.get(..self.scanned).unwrap_or_default())
    }
}

/// The records in `bytes`, up to the first that is not whole.
pub(crate) fn records(mut bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    core::iter::from_fn(move || {
        let (record, length) = split_record(bytes)?;
        bytes = bytes.get(length..).unwrap_or_default();
        Some(record)
    })
}

/// The first record and its length with header; `None` if it is not whole.
fn split_record(bytes: &[u8]) -> Option<(Record<'_>, usize)> {
    let (&[a, b, c, d], rest) = bytes.split_first_chunk::<HEADER_LENGTH>()?;
    let number = u16::from_be_bytes([a, b]);
    let body = rest.get(..usize::from(u16::from_be_bytes([c, d])))?;
    let record = Record { critical: number & CRITICAL != 0, kind: RecordType::from_number(number), body };
    Some((record, HEADER_LENGTH + body.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_and_types_agree() {
        for number in 0..CRITICAL {
            assert_eq!(RecordType::from_number(number).number(), number);
            assert_eq!(RecordType::from_number(number | CRITICAL).number(), number);
        }
    }

    #[test]
    fn bodies_are_held_to_their_rules() {
        let cookie = vec![7; MAX_COOKIE_LENGTH];
        let long_cookie = vec![7; MAX_COOKIE_LENGTH + 1];
        let name = "a".repeat(MAX_NAME_LENGTH);
        let long_name = "a".repeat(MAX_NAME_LENGTH + 1);
        let token = "t".repeat(64);
        let cases: [(u16, &[u8], bool); 31] = [
            (0, b"", true),
            (0, b"x", false),
            (1, b"", true),
            (1, b"\0\0\x80\x01", true),
            (1, b"\0", false),
            (2, b"\0\x01", true),
            (2, b"\0\x01\0", false),
            (3, b"", false),
            (4, b"\0\x0f\0\x11", true),
            (4, b"\0\x0f\0", false),
            (5, b"", false),
            (5, &cookie, true),
            (5, &long_cookie, false),
            (6, b"ntp.example", true),
            (6, b"2001:db8::1", true),
            (6, b"", false),
            (6, b"a b", false),
            (6, b"a\n", false),
            (6, name.as_bytes(), true),
            (6, long_name.as_bytes(), false),
            (7, b"\0\x7b", true),
            (7, b"\0\0", false),
            (8, b"ignored", true),
            (9, b"\0\0", true),
            (10, b"\0\x0f\0\x20", true),
            (10, b"\0\x0f", false),
            (11, b"ignored", true),
            (12, &[1; 30], false),
            (12, &[1; 33], false),
            (14, token.as_bytes(), true),
            (14, "ü".as_bytes(), false),
        ];
        for (number, body, good) in cases {
            let record = Record { critical: true, kind: RecordType::from_number(number), body };
            assert_eq!(record.content().is_ok(), good, "{record:?}");
        }
        let keys: Vec<u8> = (0..64).collect();
        let record = Record { critical: true, kind: RecordType::FixedKeyRequest, body: &keys };
        let Ok(Content::FixedKeyRequest { c2s, s2c }) = record.content() else { panic!("refused") };
        assert_eq!((c2s.first(), s2c.first(), c2s.len(), s2c.len()), (Some(&0), Some(&32), 32, 32));
    }

    /// The worked example of the pool protocol: what a pool asks and what its member answers.
    #[test]
    fn records_between_pool_and_member_are_known() {
        let token = "0123456789abcdef0123456789abcdef";
        let mut asked = Vec::new();
        write(&mut asked, false, RecordType::Token, token.as_bytes());
        write(&mut asked, true, RecordType::SupportedAlgorithms, &[]);
        write(&mut asked, true, RecordType::SupportedProtocols, &[]);
        write(&mut asked, false, RecordType::KeepAlive, &[]);
        write_end(&mut asked);
        assert_eq!(asked.len(), 52);
        let mut read = records(&asked).map(|record| record.content().unwrap());
        assert!(read.next() == Some(Content::Token(token)));

        let answered = [0x80, 9, 0, 2, 0, 0, 0x80, 10, 0, 8, 0, 15, 0, 32, 0, 17, 0, 64, 0, 8, 0, 0, 0x80, 0, 0, 0];
        let mut read = records(&answered).map(|record| record.content().unwrap());
        let Some(Content::SupportedProtocols(protocols)) = read.next() else { panic!("no protocols") };
        let Some(Content::SupportedAlgorithms(algorithms)) = read.next() else { panic!("no algorithms") };
        assert_eq!(protocols.iter().collect::<Vec<_>>(), [0]);
        assert_eq!(algorithms.iter().collect::<Vec<_>>(), [15, 32, 17, 64]);
        assert!(read.eq([Content::KeepAlive, Content::EndOfMessage]));
    }

    #[test]
    fn limits_hold_at_their_edge() {
        let limits = Limits { octets: 16, records: 3 };
        let empty = |n: usize| [0x40, 0, 0, 0].repeat(n);
        let end = [0x80, 0, 0, 0];
        let run = |bytes: &[u8]| Incoming::new(limits).handle_input(bytes);
        assert_eq!(run(&[empty(2), end.to_vec()].concat()), Ok(true));
        assert_eq!(run(&[empty(3), end.to_vec()].concat()), Err(Fault::TooManyRecords { max: 3 }));
        assert_eq!(run(&[0x40, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0x80, 0, 0, 0]), Ok(true));
        assert_eq!(run(&[0x40; 17]), Err(Fault::TooLong { max: 16 }));
        assert_eq!(run(&[end, end].concat()), Err(Fault::AfterEnd));
        assert_eq!(run(&[end.to_vec(), vec![1]].concat()), Err(Fault::AfterEnd));
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_are_taken_calmly(
            bytes in proptest::collection::vec(any::<u8>(), 0..600), piece in 1_usize..40
        ) {
            let limits = Limits { octets: 512, records: 16 };
            let mut incoming = Incoming::new(limits);
            for part in bytes.chunks(piece) {
                match incoming.handle_input(part) {
                    Ok(false) => {}
                    Ok(true) | Err(_) => break,
                }
            }
            prop_assert!(incoming.bytes.len() <= limits.octets);
            prop_assert!(incoming.records().count() <= limits.records + 1);
            for record in incoming.records() {
                let _checked = record.content();
            }
        }

        #[test]
        fn what_is_written_is_read(
            list in proptest::collection::vec(
                (any::<bool>(), 1_u16..0x7fff, proptest::collection::vec(any::<u8>(), 0..40)), 0..20),
            piece in 1_usize..9
        ) {
            let mut bytes = Vec::new();
            for (critical, kind, body) in &list {
                write(&mut bytes, *critical, RecordType::from_number(*kind), body);
            }
            write_end(&mut bytes);
            let mut incoming = Incoming::new(Limits::REQUEST);
            let mut complete = false;
            for part in bytes.chunks(piece) {
                prop_assert!(!complete);
                complete = incoming.handle_input(part).unwrap();
            }
            prop_assert!(complete);
            let read: Vec<_> = incoming.records().map(|r| (r.critical, r.kind.number(), r.body.to_vec())).collect();
            prop_assert_eq!(read.split_last().unwrap().1, &list[..]);
        }
    }
}
