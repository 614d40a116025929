//! What a client asks, read from its message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    name::{MAX_NAME, label_starts},
    record::kind,
};

/// Octets of a message's header (RFC 1035 section 4.1.1).
pub(super) const HEADER: usize = 12;

/// Most records behind the question that are looked at: a query needs two, EDNS and TSIG.
const MAX_RECORDS: u16 = 4;

/// The options of EDNS that matter here (IANA).
pub(super) mod option {
    /// RFC 7871.
    pub(crate) const SUBNET: u16 = 8;
    /// RFC 7873.
    pub(crate) const COOKIE: u16 = 10;
}

/// Response codes (IANA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    NoError,
    FormErr,
    ServFail,
    NxDomain,
    NotImp,
    Refused,
    /// RFC 6891 section 6.1.3; needs EDNS to be said.
    BadVers,
}

impl Code {
    /// The lower four bits, for the header, and the upper eight, for EDNS.
    pub(super) fn bits(self) -> (u8, u8) {
        match self {
            Self::NoError => (0, 0),
            Self::FormErr => (1, 0),
            Self::ServFail => (2, 0),
            Self::NxDomain => (3, 0),
            Self::NotImp => (4, 0),
            Self::Refused => (5, 0),
            Self::BadVers => (0, 1),
        }
    }
}

/// Why a message is no query that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It gets no answer: too short to have a header, or an answer itself.
    Silence,
    /// It gets this code, and nothing else.
    Says(Code),
}

/// The name that is asked for.
pub(super) struct Asked {
    lower: [u8; MAX_NAME],
    len: usize,
}

impl Asked {
    /// Its wire form in lower case.
    pub(super) fn wire(&self) -> &[u8] {
        self.lower.get(..self.len).unwrap_or_default()
    }

    /// Where each of its labels begins.
    pub(super) fn label_starts(&self) -> impl Iterator<Item = usize> + '_ {
        label_starts(self.wire())
    }
}

/// EDNS Client Subnet as it was sent (RFC 7871 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subnet {
    pub(super) address: IpAddr,
    pub(super) source: u8,
}

/// A cookie as it was sent (RFC 7873 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SentCookie<'a> {
    pub(super) client: [u8; 8],
    /// Empty if the client has none of ours.
    pub(super) server: &'a [u8],
}

/// EDNS of a query (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edns<'a> {
    pub(super) payload: u16,
    pub(super) version: u8,
    pub(super) dnssec_ok: bool,
    pub(super) subnet: Option<Subnet>,
    pub(super) cookie: Option<SentCookie<'a>>,
}

/// A query.
pub(super) struct Query<'a> {
    pub(super) header: [u8; HEADER],
    /// The question as it was sent, to be repeated.
    pub(super) question: &'a [u8],
    pub(super) name: Asked,
    pub(super) kind: u16,
    pub(super) class: u16,
    pub(super) edns: Option<Edns<'a>>,
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.message.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// The name of a question, which has nothing in front of it to point to.
    fn name(&mut self) -> Option<Asked> {
        let mut name = Asked { lower: [0; MAX_NAME], len: 0 };
        loop {
            let len = self.u8()?;
            if len > 63 {
                return None;
            }
            let label = self.take(len.into())?;
            let end = name.len.checked_add(1)?.checked_add(label.len())?;
            let room = name.lower.get_mut(name.len..end)?;
            let (first, rest) = room.split_first_mut()?;
            *first = len;
            rest.copy_from_slice(label);
            rest.make_ascii_lowercase();
            name.len = end;
            if len == 0 {
                return Some(name);
            }
        }
    }

    /// Passes a name that may end with a pointer; whether it is the root's.
    fn skip_name(&mut self) -> Option<bool> {
        let start = self.at;
        // Each turn takes an octet at least, and a message has few.
        loop {
            match self.u8()? {
                0 => return Some(self.at == start.saturating_add(1)),
                len if len < 64 => drop(self.take(len.into())?),
                len if len >= 192 => return self.u8().map(|_| false),
                _ => return None,
            }
        }
    }
}

/// Reads a query.
pub(super) fn read(message: &[u8]) -> Result<Query<'_>, Fault> {
    let header: [u8; HEADER] = message.get(..HEADER).and_then(|header| header.try_into().ok()).ok_or(Fault::Silence)?;
    let [_, _, flags, _, counts @ ..] = header;
    // Nobody gets an answer to an answer: two servers would never stop.
    if flags & 0x80 != 0 {
        return Err(Fault::Silence);
    }
    if flags >> 3 & 15 != 0 {
        return Err(Fault::Says(Code::NotImp));
    }
    let wrong = || Fault::Says(Code::FormErr);
    let [q0, q1, a0, a1, n0, n1, r0, r1] = counts;
    // RFC 9619: a query has one question.
    if [q0, q1] != [0, 1] {
        return Err(wrong());
    }
    let mut reader = Reader { message, at: HEADER };
    let name = reader.name().ok_or_else(wrong)?;
    let kind = reader.u16().ok_or_else(wrong)?;
    let class = reader.u16().ok_or_else(wrong)?;
    let question = message.get(HEADER..reader.at).unwrap_or_default();
    let answers = [[a0, a1], [n0, n1]].map(u16::from_be_bytes).into_iter().fold(0, u16::saturating_add);
    let records = answers.saturating_add(u16::from_be_bytes([r0, r1]));
    // A transfer may come with a start of authority; nothing else comes with an answer.
    if records > MAX_RECORDS {
        return Err(wrong());
    }
    let edns = records_behind(&mut reader, answers, records).ok_or_else(wrong)?;
    Ok(Query { header, question, name, kind, class, edns })
}

/// Looks for EDNS behind the question; `None` if the rest is not well formed.
fn records_behind<'a>(reader: &mut Reader<'a>, answers: u16, records: u16) -> Option<Option<Edns<'a>>> {
    let mut edns = None;
    for number in 0..records {
        let is_root = reader.skip_name()?;
        let record = reader.u16()?;
        let class = reader.u16()?;
        let ttl: [u8; 4] = reader.take(4)?.try_into().ok()?;
        let len = reader.u16()?;
        let data = reader.take(len.into())?;
        if record == kind::OPT {
            // RFC 6891 section 6.1.1: one at most, of the root, in the additional section.
            if edns.is_some() || !is_root || number < answers {
                return None;
            }
            edns = Some(read_edns(class, ttl, data)?);
        }
    }
    Some(edns)
}

fn read_edns(payload: u16, [_, version, flags, _]: [u8; 4], data: &[u8]) -> Option<Edns<'_>> {
    let mut edns = Edns { payload, version, dnssec_ok: flags & 0x80 != 0, subnet: None, cookie: None };
    if version != 0 {
        // Its options may look different.
        return Some(edns);
    }
    let mut reader = Reader { message: data, at: 0 };
    while reader.at < data.len() {
        let (code, len) = (reader.u16()?, reader.u16()?);
        let value = reader.take(len.into())?;
        match code {
            option::SUBNET => edns.subnet = Some(read_subnet(value)?),
            option::COOKIE => edns.cookie = Some(read_cookie(value)?),
            _ => {}
        }
    }
    Some(edns)
}

fn read_subnet(value: &[u8]) -> Option<Subnet> {
    let (fixed, sent) = value.split_at_checked(4)?;
    let &[0, family, source, scope] = fixed else { return None };
    let bits = match family {
        1 => 32,
        2 => 128,
        _ => return None,
    };
    // RFC 7871 section 6: as many octets as the prefix needs, the bits behind it 0, and no scope in a query.
    if source > bits || scope != 0 || sent.len() != usize::from(source.div_ceil(8)) {
        return None;
    }
    let beyond = u8::try_from(sent.len().saturating_mul(8).saturating_sub(source.into())).ok()?;
    if sent.last().is_some_and(|last| last.trailing_zeros() < u32::from(beyond)) {
        return None;
    }
    let mut octets = [0; 16];
    octets.get_mut(..sent.len())?.copy_from_slice(sent);
    let [a, b, c, d, ..] = octets;
    let address = if family == 1 { Ipv4Addr::new(a, b, c, d).into() } else { Ipv6Addr::from(octets).into() };
    Some(Subnet { address, source })
}

fn read_cookie(value: &[u8]) -> Option<SentCookie<'_>> {
    let (client, server) = value.split_at_checked(8)?;
    // RFC 7873 section 5.2.2.
    let fits = server.is_empty() || (8..=32).contains(&server.len());
    fits.then_some(SentCookie { client: client.try_into().ok()?, server })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(counts: [u8; 8], rest: &[u8]) -> Vec<u8> {
        [&[1, 2, 1, 0], counts.as_slice(), rest].concat()
    }

    const QUESTION: &[u8] = b"\x04TIME\x07example\0\0\x21\0\x01";
    const ONE: [u8; 8] = [0, 1, 0, 0, 0, 0, 0, 0];
    const WITH_EDNS: [u8; 8] = [0, 1, 0, 0, 0, 0, 0, 1];

    fn with_option(code: u8, value: &[u8]) -> Vec<u8> {
        let len = u8::try_from(value.len()).unwrap();
        let opt = [&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, len + 4, 0, code, 0, len], value].concat();
        message(WITH_EDNS, &[QUESTION, &opt].concat())
    }

    #[test]
    fn queries_are_read() {
        let plain = message(ONE, QUESTION);
        let query = read(&plain).ok().unwrap();
        assert_eq!((query.name.wire(), query.kind, query.class), (&b"\x04time\x07example\0"[..], 33, 1));
        assert_eq!((query.question, query.edns), (QUESTION, None));
        let subnet = with_option(8, &[0, 1, 20, 0, 192, 0, 0x20]);
        let edns = read(&subnet).ok().unwrap().edns.unwrap();
        assert_eq!((edns.payload, edns.version, edns.dnssec_ok), (1232, 0, true));
        assert_eq!(edns.subnet, Some(Subnet { address: "192.0.32.0".parse().unwrap(), source: 20 }));
        let cookie = with_option(10, b"12345678abcdefgh");
        let edns = read(&cookie).ok().unwrap().edns.unwrap();
        assert_eq!(edns.cookie, Some(SentCookie { client: *b"12345678", server: b"abcdefgh" }));
    }

    #[test]
    fn what_is_no_query_is_named() {
        let fault = |message: &[u8]| read(message).err();
        let wrong = Some(Fault::Says(Code::FormErr));
        assert_eq!(fault(&[0; 11]), Some(Fault::Silence));
        let mut answer = message(ONE, QUESTION);
        answer[2] |= 0x80;
        assert_eq!(fault(&answer), Some(Fault::Silence));
        let mut update = message(ONE, QUESTION);
        update[2] = 5 << 3;
        assert_eq!(fault(&update), Some(Fault::Says(Code::NotImp)));
        assert_eq!(fault(&message([0; 8], b"")), wrong);
        assert_eq!(fault(&message([0, 2, 0, 0, 0, 0, 0, 0], &[QUESTION, QUESTION].concat())), wrong);
        assert_eq!(fault(&message(ONE, b"\x04time\xc0\x0c\0\x21\0\x01")), wrong); // points at itself
        assert_eq!(fault(&message(ONE, &[&[1, b'a'].repeat(130), QUESTION].concat())), wrong);
        assert_eq!(fault(&message(WITH_EDNS, QUESTION)), wrong);
        let twice = [QUESTION, &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0].repeat(2)].concat();
        assert_eq!(fault(&message([0, 1, 0, 0, 0, 0, 0, 2], &twice)), wrong);
        for (code, value) in [
            (8, &[0, 3, 0, 0][..]),             // an unknown family
            (8, &[0, 1, 24, 24, 192, 0, 2]),    // with a scope
            (8, &[0, 1, 24, 0, 192, 0, 2, 0]),  // an octet too many
            (8, &[0, 1, 20, 0, 192, 0, 0x21]),  // a bit beyond the prefix
            (8, &[0, 1, 33, 0, 1, 1, 1, 1, 1]), // longer than an address
            (10, b"1234567"),
            (10, b"12345678abc"),
        ] {
            assert_eq!(fault(&with_option(code, value)), wrong, "{code} {value:?}");
        }
    }
}
