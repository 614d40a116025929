//! An answer in the making.

use super::{
    name::WireName,
    query::{Code, Edns, HEADER, Query, SentCookie, Subnet, option},
    record::kind,
    sign::Signer,
    targets::MAX_UDP,
    zone::{Node, RrSet},
};

/// A part of a message (RFC 1035 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Answer,
    Authority,
    Additional,
}

/// A message that is written into a buffer.
pub(super) struct Reply<'a> {
    out: &'a mut Vec<u8>,
    /// Records in each section.
    counts: [u16; 3],
    /// Where the zone's name begins in the question.
    zone_at: usize,
    dnssec: bool,
}

/// A pointer to a place in the message (RFC 1035 section 4.1.4); names stand within its first 300 octets.
fn pointer(at: usize) -> [u8; 2] {
    (0xc000 | u16::try_from(at).unwrap_or(0)).to_be_bytes()
}

impl<'a> Reply<'a> {
    /// Begins an answer to a query, with its question.
    pub(super) fn new(out: &'a mut Vec<u8>, query: &Query<'_>, dnssec: bool) -> Self {
        out.clear();
        out.extend([0; HEADER]);
        out.extend_from_slice(query.question);
        Self { out, counts: [0; 3], zone_at: HEADER, dnssec }
    }

    /// The zone's name begins with this octet of the name that was asked for; all owners lie within it.
    pub(super) fn set_zone(&mut self, start: usize) {
        self.zone_at = HEADER.saturating_add(start);
    }

    /// How long it is.
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    fn count(&mut self, section: Section) {
        let [answer, authority, additional] = &mut self.counts;
        let count = match section {
            Section::Answer => answer,
            Section::Authority => authority,
            Section::Additional => additional,
        };
        *count = count.saturating_add(1);
    }

    /// Writes one record; with a cap, it may not be remembered for longer.
    fn put(&mut self, section: Section, owner: &[u8], at: usize, record: &[u8], cap: Option<u32>) {
        self.out.extend_from_slice(owner);
        self.out.extend(pointer(at));
        let start = self.out.len();
        self.out.extend_from_slice(record);
        if let Some(cap) = cap
            && let Some(ttl) = self.out.get_mut(start.saturating_add(4)..).and_then(<[u8]>::first_chunk_mut::<4>)
        {
            *ttl = u32::from_be_bytes(*ttl).min(cap).to_be_bytes();
        }
        self.count(section);
    }

    /// Writes a set whose owner is the name that was asked for, spelled as it was there.
    pub(super) fn answer(&mut self, set: &RrSet, owner: &WireName, signer: &Signer, signatures_alone: bool) {
        if !signatures_alone {
            for record in &set.records {
                self.put(Section::Answer, &[], HEADER, record, None);
            }
        }
        if let Some(signature) = self.signature(set, owner, signer, signatures_alone) {
            self.put(Section::Answer, &[], HEADER, signature, None);
        }
    }

    /// Writes a set of a name of the zone.
    pub(super) fn set(
        &mut self,
        section: Section,
        set: &RrSet,
        owner: &WireName,
        zone: &WireName,
        signer: &Signer,
        cap: Option<u32>,
    ) {
        let front = owner.relative_to(zone).unwrap_or_default();
        let at = self.zone_at;
        for record in &set.records {
            self.put(section, front, at, record, cap);
        }
        if let Some(signature) = self.signature(set, owner, signer, false) {
            self.put(section, front, at, signature, cap);
        }
    }

    /// Writes the proof that a node is.
    pub(super) fn proof(&mut self, node: &Node, zone: &WireName, signer: &Signer) {
        if self.dnssec {
            self.set(Section::Authority, &node.nsec, &node.owner, zone, signer, None);
        }
    }

    fn signature<'s>(&self, set: &'s RrSet, owner: &WireName, signer: &Signer, wanted: bool) -> Option<&'s [u8]> {
        if self.dnssec || wanted { set.signature(owner, signer) } else { None }
    }

    /// Takes out all records again.
    pub(super) fn clear(&mut self, question: usize) {
        self.out.truncate(HEADER.saturating_add(question));
        self.counts = [0; 3];
    }

    /// Writes EDNS (RFC 6891): our size, and the options that are answered.
    pub(super) fn edns(&mut self, edns: &Edns<'_>, code: Code, scope: Option<(Subnet, u8)>, cookie: Option<[u8; 16]>) {
        let mut options = Vec::new();
        if let Some((Subnet { address, source }, scope)) = scope {
            let octets = match address {
                std::net::IpAddr::V4(address) => address.octets().to_vec(),
                std::net::IpAddr::V6(address) => address.octets().to_vec(),
            };
            let family = if address.is_ipv4() { 1 } else { 2 };
            let sent = octets.get(..usize::from(source.div_ceil(8))).unwrap_or_default();
            put_option(&mut options, option::SUBNET, &[&[0, family, source, scope], sent].concat());
        }
        if let (Some(SentCookie { client, .. }), Some(server)) = (edns.cookie, cookie) {
            put_option(&mut options, option::COOKIE, &[client.as_slice(), &server].concat());
        }
        let (_, upper) = code.bits();
        let flags = if edns.dnssec_ok { 0x80 } else { 0 };
        self.out.push(0);
        self.out.extend(kind::OPT.to_be_bytes());
        self.out.extend(u16::try_from(MAX_UDP).unwrap_or(u16::MAX).to_be_bytes());
        self.out.extend([upper, 0, flags, 0]);
        self.out.extend(u16::try_from(options.len()).unwrap_or(0).to_be_bytes());
        self.out.extend(options);
        self.count(Section::Additional);
    }

    /// Writes the header: an answer to this query, with authority unless somebody else has it.
    pub(super) fn finish(self, query: &[u8; HEADER], code: Code, authoritative: bool, truncated: bool) {
        let [id0, id1, flags, more, ..] = *query;
        let (lower, _) = code.bits();
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        // QR, the opcode and RD of the query; RA and AD are clear, CD is that of the query.
        let flags = 0x80 | flags & 0x79 | bit(authoritative, 4) | bit(truncated, 2);
        let header = [id0, id1, flags, more & 0x10 | lower, 0, 1];
        let counts = self.counts.map(u16::to_be_bytes);
        let header = header.into_iter().chain(counts.into_iter().flatten());
        self.out.iter_mut().zip(header).for_each(|(place, octet)| *place = octet);
    }
}

fn put_option(options: &mut Vec<u8>, code: u16, value: &[u8]) {
    options.extend(code.to_be_bytes());
    options.extend(u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
    options.extend_from_slice(value);
}

/// An answer that has a header and nothing else.
pub(super) fn bare(out: &mut Vec<u8>, message: &[u8], code: Code) {
    out.clear();
    let header = message.first_chunk::<HEADER>().copied().unwrap_or_default();
    let [id0, id1, flags, ..] = header;
    let (lower, _) = code.bits();
    out.extend([id0, id1, 0x80 | flags & 0x79, lower]);
    out.resize(HEADER, 0);
}
