//! The two messages of a key exchange (RFC 8915 section 4) and the rules that hold between them.

use core::fmt;

use ntp_proto::nts::{Cookie, CookieJar};
use zeroize::Zeroizing;

use crate::{
    error::{ErrorCode, Fault, KeError, NoOverlap},
    pool::Lists,
    record::{Content, Limits, Record, RecordType, write, write_end, write_ids},
};

/// The protocol id of NTPv4 (RFC 8915 section 7.7).
pub const NTPV4: u16 = 0;

/// Most cookies that are kept of a response, and that a server sends: RFC 8915 section 4 wants eight.
pub const MAX_COOKIES: usize = CookieJar::CAPACITY;

/// Most servers that a request denies, and that are kept of one.
pub const MAX_DENIED: usize = 16;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Next protocols, best first.
    pub protocols: Vec<u16>,
    /// AEAD algorithms, best first; not needed without [`NTPV4`].
    pub algorithms: Vec<u16>,
    /// Servers not wanted, as they were named in earlier responses.
    pub denied: Vec<String>,
    /// Whether the client knows that AES-128-GCM-SIV keys are exported under their own number.
    pub compliant_export: bool,
    /// The NTP server wished for (RFC 8915 section 4.1.7 lets a client say so).
    pub server: Option<String>,
    /// The port wished for.
    pub port: Option<u16>,
}

impl Request {
    /// The message. Denied servers beyond [`MAX_DENIED`], or for which [`Limits::REQUEST`] leaves no room, are left out:
    /// they are advice.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write_ids(&mut out, true, RecordType::NextProtocol, self.protocols.iter().copied());
        if !self.algorithms.is_empty() {
            write_ids(&mut out, true, RecordType::Aead, self.algorithms.iter().copied());
        }
        if self.compliant_export {
            write(&mut out, false, RecordType::CompliantExport, &[]);
        }
        if let Some(server) = &self.server {
            write(&mut out, false, RecordType::Server, server.as_bytes());
        }
        if let Some(port) = self.port {
            write(&mut out, false, RecordType::Port, &port.to_be_bytes());
        }
        for name in self.denied.iter().take(MAX_DENIED) {
            // Two record headers: its own and that of End of Message.
            if out.len() + name.len() + 8 <= Limits::REQUEST.octets {
                write(&mut out, false, RecordType::ServerDeny, name.as_bytes());
            }
        }
        write_end(&mut out);
        out
    }

    /// Reads a complete message of a client.
    ///
    /// Records by which a pool speaks to its members (types 9 to 12) count as unrecognized here; see
    /// [`crate::pool::Message`] for servers that belong to a pool.
    ///
    /// # Errors
    ///
    /// The first rule broken; [`Fault::error_code`] says how to answer.
    pub fn parse<'a>(records: impl Iterator<Item = Record<'a>>) -> Result<Self, Fault> {
        Collected::read(records, |_| false)?.into_request()
    }
}

/// Everything that stands in a message to a server.
#[derive(Default)]
pub(crate) struct Collected {
    pub(crate) protocols: Option<Vec<u16>>,
    pub(crate) algorithms: Option<Vec<u16>>,
    /// Client to server, server to client.
    pub(crate) fixed_keys: Option<[Zeroizing<Vec<u8>>; 2]>,
    pub(crate) lists: Lists,
    pub(crate) keep_alive: bool,
    rest: Request,
}

impl Collected {
    /// Reads the records; `admits` says whether a token is that of a pool of ours.
    pub(crate) fn read<'a>(
        records: impl Iterator<Item = Record<'a>>,
        mut admits: impl FnMut(&str) -> bool,
    ) -> Result<Self, Fault> {
        let mut all = Self::default();
        let mut admitted = None;
        for record in records {
            let kind = record.kind;
            match kind {
                // The body is ignored.
                RecordType::SupportedProtocols if admitted == Some(true) => all.lists.protocols = true,
                RecordType::SupportedAlgorithms if admitted == Some(true) => all.lists.algorithms = true,
                RecordType::ServerNames if admitted == Some(true) => all.lists.servers = true,
                RecordType::FixedKeyRequest if admitted == Some(true) => {
                    if let Content::FixedKeyRequest { c2s, s2c } = record.content()? {
                        let keys = [c2s, s2c].map(|key| Zeroizing::new(key.to_vec()));
                        once(&mut all.fixed_keys, keys, kind)?;
                    }
                }
                RecordType::SupportedProtocols
                | RecordType::SupportedAlgorithms
                | RecordType::ServerNames
                | RecordType::FixedKeyRequest
                | RecordType::Unknown(_) => {
                    // RFC 8915 section 4: an unrecognized record is an error if critical, otherwise ignored.
                    if record.critical {
                        return Err(Fault::UnrecognizedCritical(kind));
                    }
                }
                RecordType::Token => {
                    if let Content::Token(token) = record.content()? {
                        once(&mut admitted, admits(token), kind)?;
                    }
                }
                RecordType::KeepAlive => all.keep_alive = true,
                RecordType::EndOfMessage
                | RecordType::NextProtocol
                | RecordType::Error
                | RecordType::Warning
                | RecordType::Aead
                | RecordType::NewCookie
                | RecordType::Server
                | RecordType::Port
                | RecordType::ServerDeny
                | RecordType::CompliantExport => all.take(kind, record.content()?)?,
            }
        }
        Ok(all)
    }

    /// Takes what a client may send.
    fn take(&mut self, kind: RecordType, content: Content<'_>) -> Result<(), Fault> {
        let request = &mut self.rest;
        match content {
            Content::NextProtocol(ids) => once(&mut self.protocols, ids.iter().collect(), kind),
            Content::Aead(ids) => once(&mut self.algorithms, ids.iter().collect(), kind),
            Content::Server(name) => once(&mut request.server, name.to_owned(), kind),
            Content::Port(port) => once(&mut request.port, port, kind),
            Content::ServerDeny(name) => {
                if request.denied.len() < MAX_DENIED {
                    request.denied.push(name.to_owned());
                }
                Ok(())
            }
            Content::CompliantExport => {
                request.compliant_export = true;
                Ok(())
            }
            // No request may hold these (RFC 8915 sections 4.1.3, 4.1.4 and 4.1.6).
            Content::Error(_) | Content::Warning(_) | Content::NewCookie(_) => Err(Fault::Unexpected(kind)),
            Content::EndOfMessage
            | Content::KeepAlive
            | Content::SupportedProtocols(_)
            | Content::SupportedAlgorithms(_)
            | Content::ServerNames
            | Content::FixedKeyRequest { .. }
            | Content::Token(_)
            | Content::Unknown => Ok(()),
        }
    }

    /// The request of a client.
    pub(crate) fn into_request(self) -> Result<Request, Fault> {
        // RFC 8915 section 4.1.2: exactly once in every request and response.
        let protocols = self.protocols.ok_or(Fault::Missing(RecordType::NextProtocol))?;
        // RFC 8915 section 4.1.5: exactly once, if NTPv4 is offered.
        if self.algorithms.is_none() && protocols.contains(&NTPV4) {
            return Err(Fault::Missing(RecordType::Aead));
        }
        Ok(Request { protocols, algorithms: self.algorithms.unwrap_or_default(), ..self.rest })
    }
}

pub(crate) fn once<T>(slot: &mut Option<T>, value: T, kind: RecordType) -> Result<(), Fault> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::Duplicate(kind)),
    }
}

/// What a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// The request cannot be served.
    Error(ErrorCode),
    /// No common next protocol.
    NoProtocol,
    /// No common AEAD algorithm.
    NoAlgorithm,
    /// Keys are set.
    Established(Grant<'a>),
}

/// The contents of a positive answer, for NTPv4.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Grant<'a> {
    /// The AEAD algorithm chosen.
    pub algorithm: u16,
    /// Cookies; those beyond [`MAX_COOKIES`] are not sent.
    pub cookies: &'a [Cookie],
    /// The NTP server, if it is not this one.
    pub server: Option<&'a str>,
    /// Its port, if it is not 123.
    pub port: Option<u16>,
    /// Whether to confirm that the keys were exported under the number of the algorithm.
    pub compliant_export: bool,
}

impl fmt::Debug for Grant<'_> {
    /// Without the cookies.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("algorithm", &self.algorithm)
            .field("cookies", &self.cookies.len())
            .field("server", &self.server)
            .field("port", &self.port)
            .finish()
    }
}

impl Response<'_> {
    /// The message, in one piece: there are clients that read no more than the first one.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Error(code) => write(&mut out, true, RecordType::Error, &code.number().to_be_bytes()),
            // RFC 8915 section 4.1.2: the list is empty if the server supports none of the protocols.
            Self::NoProtocol => write_ids(&mut out, true, RecordType::NextProtocol, []),
            // RFC 8915 section 4.1.5: the same for algorithms.
            Self::NoAlgorithm => {
                write_ids(&mut out, true, RecordType::NextProtocol, [NTPV4]);
                write_ids(&mut out, true, RecordType::Aead, []);
            }
            Self::Established(grant) => grant.write(&mut out),
        }
        write_end(&mut out);
        out
    }
}

impl Grant<'_> {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        write_ids(out, true, RecordType::NextProtocol, [NTPV4]);
        write_ids(out, true, RecordType::Aead, [self.algorithm]);
        for cookie in self.cookies.iter().take(MAX_COOKIES) {
            write(out, false, RecordType::NewCookie, cookie.as_bytes());
        }
        if self.compliant_export {
            write(out, false, RecordType::CompliantExport, &[]);
        }
        if let Some(server) = self.server {
            write(out, true, RecordType::Server, server.as_bytes());
        }
        if let Some(port) = self.port {
            write(out, true, RecordType::Port, &port.to_be_bytes());
        }
    }
}

/// What a client took from a positive answer, for NTPv4.
#[derive(Clone, PartialEq, Eq)]
pub struct Accepted {
    /// One of the algorithms offered.
    pub algorithm: u16,
    /// 1 to [`MAX_COOKIES`] cookies; more are dropped.
    pub cookies: Vec<Cookie>,
    /// The NTP server, if not the one asked.
    pub server: Option<String>,
    /// Its port, if not 123.
    pub port: Option<u16>,
    /// Whether the server confirmed how AES-128-GCM-SIV keys are exported.
    pub compliant_export: bool,
    /// Whether the server keeps the connection open; it does so for pools only.
    pub keep_alive: bool,
}

impl fmt::Debug for Accepted {
    /// Without the cookies.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted")
            .field("algorithm", &self.algorithm)
            .field("cookies", &self.cookies.len())
            .field("server", &self.server)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Accepted {
    /// Reads a complete answer to `request`.
    ///
    /// A Keep Alive record is no fault: it is not critical, and there are pools that forward it to their clients.
    ///
    /// # Errors
    ///
    /// [`KeError::Refused`] for an Error record, [`KeError::Warned`] for a Warning record, [`KeError::NoOverlap`] for an empty list, and
    /// [`KeError::Protocol`] with the first rule broken.
    pub fn parse<'a>(records: impl Iterator<Item = Record<'a>>, request: &Request) -> Result<Self, KeError> {
        let mut protocols = None;
        let mut algorithms = None;
        let mut accepted = Self {
            algorithm: 0,
            cookies: vec![],
            server: None,
            port: None,
            compliant_export: false,
            keep_alive: false,
        };
        for record in records {
            match record.content()? {
                // RFC 8915 section 4.1.3: the client must not go on to the next protocol.
                Content::Error(code) => return Err(KeError::Refused(ErrorCode::from_number(code))),
                // RFC 8915 section 4.1.4 treats warning codes that are not recognized as errors, and defines none.
                Content::Warning(code) => return Err(KeError::Warned(code)),
                Content::NextProtocol(ids) => once(&mut protocols, ids, record.kind)?,
                Content::Aead(ids) => once(&mut algorithms, ids, record.kind)?,
                Content::NewCookie(cookie) if accepted.cookies.len() < MAX_COOKIES => {
                    accepted.cookies.extend(Cookie::new(cookie));
                }
                Content::Server(name) => once(&mut accepted.server, name.to_owned(), record.kind)?,
                Content::Port(port) => once(&mut accepted.port, port, record.kind)?,
                Content::CompliantExport if request.compliant_export => accepted.compliant_export = true,
                Content::Unknown if record.critical => return Err(Fault::UnrecognizedCritical(record.kind).into()),
                Content::CompliantExport
                | Content::SupportedProtocols(_)
                | Content::SupportedAlgorithms(_)
                | Content::ServerNames
                | Content::FixedKeyRequest { .. }
                | Content::ServerDeny(_)
                | Content::Token(_) => return Err(Fault::Unexpected(record.kind).into()),
                Content::KeepAlive => accepted.keep_alive = true,
                Content::EndOfMessage | Content::NewCookie(_) | Content::Unknown => {}
            }
        }
        let protocols = protocols.ok_or(Fault::Missing(RecordType::NextProtocol))?;
        choice(protocols.iter(), &request.protocols, RecordType::NextProtocol)?
            .ok_or(KeError::NoOverlap(NoOverlap::Protocol))?;
        let algorithms = algorithms.ok_or(Fault::Missing(RecordType::Aead))?;
        accepted.algorithm = choice(algorithms.iter(), &request.algorithms, RecordType::Aead)?
            .ok_or(KeError::NoOverlap(NoOverlap::Algorithm))?;
        if accepted.cookies.is_empty() {
            return Err(Fault::NoCookies.into());
        }
        Ok(accepted)
    }
}

/// The one number of an answer, which must have been offered; `None` for an empty list.
fn choice(mut ids: impl Iterator<Item = u16>, offered: &[u16], kind: RecordType) -> Result<Option<u16>, Fault> {
    let Some(id) = ids.next() else { return Ok(None) };
    if !offered.contains(&id) {
        return Err(Fault::NotOffered(kind, id));
    }
    if ids.next().is_some() {
        return Err(Fault::Several(kind));
    }
    Ok(Some(id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::records;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn request(offer: &[u16]) -> Request {
        Request { protocols: vec![NTPV4], algorithms: offer.to_vec(), ..Request::default() }
    }

    fn parse(text: &str) -> Result<Request, Fault> {
        Request::parse(records(&hex(text)))
    }

    fn accept(text: &str) -> Result<Accepted, KeError> {
        Accepted::parse(records(&hex(text)), &request(&[17, 15]))
    }

    /// The worked example of the pool protocol: what its client sends.
    #[test]
    fn a_request_with_a_denied_server_has_the_known_bytes() {
        let wanted = Request { denied: vec!["a.test".into()], ..request(&[17, 15]) };
        let bytes = hex("80010002 0000 80040004 0011000f 000d0006 612e74657374 80000000");
        assert_eq!(wanted.encode(), bytes);
        assert_eq!(bytes.len(), 28);
        assert_eq!(Request::parse(records(&bytes)), Ok(wanted));
    }

    /// The worked example of the pool protocol: what the pool answers its client.
    #[test]
    fn an_answer_with_a_server_name_has_the_known_bytes() {
        let bytes = hex("80010002 0000 80040002 000f 00050008 c0c0c0c0c0c0c0c0 00050008 c1c1c1c1c1c1c1c1
            80060006 622e74657374 80000000");
        let cookies = [0xc0, 0xc1].map(|octet| Cookie::new(&[octet; 8]).unwrap());
        let grant =
            Grant { algorithm: 15, cookies: &cookies, server: Some("b.test"), port: None, compliant_export: false };
        assert_eq!(Response::Established(grant).encode(), bytes);
        let accepted = Accepted::parse(records(&bytes), &request(&[17, 15])).unwrap();
        assert_eq!((accepted.algorithm, accepted.server.as_deref(), accepted.port), (15, Some("b.test"), None));
        assert_eq!(accepted.cookies, cookies);
    }

    #[test]
    fn refusals_have_the_known_bytes() {
        assert_eq!(Response::Error(ErrorCode::BadRequest).encode(), hex("80020002 0001 80000000"));
        assert_eq!(Response::Error(ErrorCode::UnrecognizedCritical).encode(), hex("80020002 0000 80000000"));
        assert_eq!(Response::NoProtocol.encode(), hex("80010000 80000000"));
        assert_eq!(Response::NoAlgorithm.encode(), hex("80010002 0000 80040000 80000000"));
    }

    #[test]
    fn requests_that_break_a_rule_are_refused_by_name() {
        let ok = "80010002 0000 80040002 000f";
        for (text, fault) in [
            ("80040002 000f", Fault::Missing(RecordType::NextProtocol)),
            ("80010002 0000", Fault::Missing(RecordType::Aead)),
            (&format!("{ok} 80010002 0000"), Fault::Duplicate(RecordType::NextProtocol)),
            (&format!("{ok} 80040002 000f"), Fault::Duplicate(RecordType::Aead)),
            (&format!("{ok} 00060001 61 00060001 61"), Fault::Duplicate(RecordType::Server)),
            (&format!("{ok} 00070002 007b 00070002 007b"), Fault::Duplicate(RecordType::Port)),
            (&format!("{ok} 80020002 0000"), Fault::Unexpected(RecordType::Error)),
            (&format!("{ok} 80030002 0000"), Fault::Unexpected(RecordType::Warning)),
            (&format!("{ok} 00050001 00"), Fault::Unexpected(RecordType::NewCookie)),
            (&format!("{ok} 000d0000"), Fault::Body(RecordType::ServerDeny)),
            (&format!("{ok} c0010000"), Fault::UnrecognizedCritical(RecordType::Unknown(0x4001))),
            (&format!("{ok} 80090000"), Fault::UnrecognizedCritical(RecordType::SupportedProtocols)),
            (&format!("{ok} 800a0000"), Fault::UnrecognizedCritical(RecordType::SupportedAlgorithms)),
            (&format!("{ok} 800b0000"), Fault::UnrecognizedCritical(RecordType::ServerNames)),
            (&format!("{ok} 800c0000"), Fault::UnrecognizedCritical(RecordType::FixedKeyRequest)),
        ] {
            assert_eq!(parse(&format!("{text} 80000000")), Err(fault), "{text}");
            let unknown = matches!(fault, Fault::UnrecognizedCritical(_));
            assert_eq!(fault.error_code().number(), u16::from(!unknown));
        }
    }

    #[test]
    fn requests_may_hold_what_a_server_can_pass_over() {
        let text = "80010004 8001 0000 80040006 ffff 001e 000f 04000000 40010003 616263 00080000 000e0001 74
            00060003 612e62 00070002 007b 80000000";
        let request = parse(text).unwrap();
        assert_eq!(request.protocols, [0x8001, 0]);
        assert_eq!(request.algorithms, [0xffff, 30, 15]);
        assert!(request.compliant_export);
        assert_eq!((request.server.as_deref(), request.port), (Some("a.b"), Some(123)));
        assert_eq!(parse("80010002 8001 80000000").unwrap().algorithms, []);
    }

    #[test]
    fn answers_that_break_a_rule_are_refused_by_name() {
        let ok = "80010002 0000 80040002 000f 00050001 aa";
        for (text, fault) in [
            ("80040002 000f 00050001 aa", Fault::Missing(RecordType::NextProtocol)),
            ("80010002 0000 00050001 aa", Fault::Missing(RecordType::Aead)),
            ("80010002 0000 80040002 000f", Fault::NoCookies),
            ("80010002 0001 80040002 000f 00050001 aa", Fault::NotOffered(RecordType::NextProtocol, 1)),
            ("80010002 0000 80040002 001e 00050001 aa", Fault::NotOffered(RecordType::Aead, 30)),
            ("80010002 0000 80040004 000f0011 00050001 aa", Fault::Several(RecordType::Aead)),
            ("80010004 00000000 80040002 000f 00050001 aa", Fault::Several(RecordType::NextProtocol)),
            (&format!("{ok} 80010002 0000"), Fault::Duplicate(RecordType::NextProtocol)),
            (&format!("{ok} 80040002 000f"), Fault::Duplicate(RecordType::Aead)),
            (&format!("{ok} 00060001 61 00060001 61"), Fault::Duplicate(RecordType::Server)),
            (&format!("{ok} 00070002 007b 00070002 007b"), Fault::Duplicate(RecordType::Port)),
            (&format!("{ok} 00070002 0000"), Fault::Body(RecordType::Port)),
            (&format!("{ok} 00050000"), Fault::Body(RecordType::NewCookie)),
            (&format!("{ok} c0010000"), Fault::UnrecognizedCritical(RecordType::Unknown(0x4001))),
            (&format!("{ok} 04000000"), Fault::Unexpected(RecordType::CompliantExport)),
            (&format!("{ok} 80090000"), Fault::Unexpected(RecordType::SupportedProtocols)),
            (&format!("{ok} 800a0000"), Fault::Unexpected(RecordType::SupportedAlgorithms)),
            (&format!("{ok} 800b0000"), Fault::Unexpected(RecordType::ServerNames)),
            (&format!("{ok} 000d0001 61"), Fault::Unexpected(RecordType::ServerDeny)),
            (&format!("{ok} 000e0001 61"), Fault::Unexpected(RecordType::Token)),
        ] {
            assert_eq!(accept(&format!("{text} 80000000")), Err(KeError::Protocol(fault)), "{text}");
        }
        assert_eq!(accept("80010000 80000000"), Err(KeError::NoOverlap(NoOverlap::Protocol)));
        assert_eq!(accept("80010002 0000 80040000 80000000"), Err(KeError::NoOverlap(NoOverlap::Algorithm)));
        for (code, text) in [(0, "0000"), (1, "0001"), (2, "0002"), (0xf001, "f001")] {
            let error = accept(&format!("{ok} 80020002 {text} 80000000"));
            assert_eq!(error, Err(KeError::Refused(ErrorCode::from_number(code))));
        }
    }

    #[test]
    fn answers_are_kept_within_bounds() {
        let many = format!("80010002 0000 80040002 000f {}", "00050001 aa".repeat(400));
        let accepted = accept(&format!("{many} 00080000 40010000 80000000")).unwrap();
        assert_eq!(accepted.cookies.len(), MAX_COOKIES);
    }

    #[test]
    fn a_warning_nobody_defined_is_an_error() {
        let error = accept("80010002 0000 80040002 000f 00050001 aa 80030002 0007 80000000");
        assert_eq!(error, Err(KeError::Warned(7)));
    }

    #[test]
    fn a_request_stays_within_the_limit_whatever_is_denied() {
        let request = Request { denied: vec!["a".repeat(254); 40], ..request(&[15]) };
        let bytes = request.encode();
        assert!(bytes.len() <= Limits::REQUEST.octets);
        assert_eq!(Request::parse(records(&bytes)).unwrap().denied.len(), 15);
        let request = Request { denied: vec!["a.test".into(); 40], ..request };
        assert_eq!(Request::parse(records(&request.encode())).unwrap().denied.len(), MAX_DENIED);
    }

    proptest! {
        #[test]
        fn requests_survive_the_round_trip(
            protocols in proptest::collection::vec(any::<u16>(), 0..8),
            algorithms in proptest::collection::vec(any::<u16>(), 1..40),
            denied in proptest::collection::vec("[a-z0-9.:-]{1,30}", 0..MAX_DENIED),
            compliant_export: bool,
            server in proptest::option::of("[a-z0-9.:-]{1,30}"),
            port in proptest::option::of(1_u16..),
        ) {
            let request = Request { protocols, algorithms, denied, compliant_export, server, port };
            prop_assert_eq!(Request::parse(records(&request.encode())), Ok(request));
        }

        #[test]
        fn any_records_are_taken_calmly(
            list in proptest::collection::vec(
                (any::<bool>(), prop_oneof![0_u16..16, Just(1024), any::<u16>()],
                    proptest::collection::vec(any::<u8>(), 0..70)), 0..40)
        ) {
            let mut bytes = Vec::new();
            for (critical, kind, body) in list {
                write(&mut bytes, critical, RecordType::from_number(kind), &body);
            }
            if let Ok(request) = Request::parse(records(&bytes)) {
                prop_assert!(request.denied.len() <= MAX_DENIED);
            }
            if let Ok(accepted) = Accepted::parse(records(&bytes), &request(&[15])) {
                prop_assert!(accepted.algorithm == 15 && (1..=MAX_COOKIES).contains(&accepted.cookies.len()));
            }
        }
    }
}
