//! A zone handed over to whoever has its key, by TCP: what balancers read the list of members from. It holds the zone's records
//! as they are, without draws and without signatures and proofs, which nobody could serve from it.

use hickory_proto::{
    op::{Message, MessageType, OpCode},
    rr::{DNSClass, RecordType},
};

use super::{
    answer::{Served, State},
    name::WireName,
    query::HEADER,
    record::kind,
    zone::{Node, RrSet},
};
use crate::{LIST, tsig::Responder};

/// Octets after which the next message is begun; with the largest set and a signature it stays below what TCP takes.
const MESSAGE: usize = 32_768;

/// Header bits: a response, authoritative (RFC 1035 section 4.1.1).
const RESPONSE: u8 = 0x80;
const AUTHORITATIVE: u8 = 0x04;

/// NOTAUTH and REFUSED (RFC 2136 section 2.2).
const NOT_AUTH: u8 = 9;
const REFUSED: u8 = 5;

/// What the holder of a key may ask for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// All of the zone.
    Zone,
    /// Its start of authority.
    Start,
    /// The mark of its list.
    Mark,
}

/// What is answered to a signed query.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A zone, or a part of it, goes to the holder of its key.
    Handed,
    /// Nothing does.
    Refused,
}

/// The messages that answer a query with a transaction signature, at a time in seconds since 1970; nothing for other queries.
pub(super) fn answer(state: &State, bytes: &[u8], now: u64) -> Option<(Outcome, Vec<Vec<u8>>)> {
    // Most queries have no additional record but EDNS: they are not read twice.
    let query = is_signed(bytes).then(|| Message::from_vec(bytes).ok())??;
    let (shown, [question]) = (query.signature()?, query.queries.as_slice()) else { return None };
    let is_query = (query.op_code, query.message_type) == (OpCode::Query, MessageType::Query);
    if !is_query || question.query_class() != DNSClass::IN {
        return None;
    }
    let name = question.name().to_ascii().to_ascii_lowercase();
    let (name, wanted) = match (name.strip_prefix(&format!("{LIST}.")), question.query_type()) {
        (Some(zone), RecordType::TXT) => (zone, Some(Wanted::Mark)),
        (None, RecordType::SOA) => (name.as_str(), Some(Wanted::Start)),
        (None, RecordType::AXFR) => (name.as_str(), Some(Wanted::Zone)),
        (Some(zone), _) => (zone, None),
        (None, _) => (name.as_str(), None),
    };
    let served = state.zones.iter().find(|served| served.zone.origin.to_string() == name);
    let keys = served.map(|served| served.zone.settings.transfer_keys.as_slice()).unwrap_or_default();
    let mut responder = Responder::new(bytes, shown, keys, now);
    let (true, Some(served), Some(wanted)) = (responder.is_good(), served, wanted) else {
        let code = if responder.is_good() { REFUSED } else { NOT_AUTH };
        let mut message = head(bytes, code);
        responder.sign(&mut message);
        return Some((Outcome::Refused, vec![message]));
    };
    let mut messages = handed(served, bytes, wanted);
    messages.iter_mut().for_each(|message| responder.sign(message));
    Some((Outcome::Handed, messages))
}

/// Whether a query has additional records, the last of which is a transaction signature as far as can be told without reading
/// it: this type stands nowhere else.
fn is_signed(bytes: &[u8]) -> bool {
    let has_more = bytes.get(10..12).is_some_and(|count| count != [0, 0]);
    has_more && bytes.windows(4).any(|window| window == [0, 250, 0, 255])
}

/// The header of an answer, and the question as it was sent.
fn head(query: &[u8], code: u8) -> Vec<u8> {
    let question = query.get(HEADER..).unwrap_or_default();
    // It could be read: a name without pointers, since nothing stands in front of it.
    let mut end = 0;
    while let Some(length) = question.get(end).filter(|length| **length != 0) {
        end = end.saturating_add(usize::from(*length)).saturating_add(1);
    }
    let question = question.get(..end.saturating_add(5)).unwrap_or_default();
    let flags = query.get(2).map_or(0, |flags| flags & 0x79) | RESPONSE;
    let mut message = query.get(..2).unwrap_or_default().to_vec();
    message.extend([flags, code, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend(question);
    message
}

/// A zone in messages, or a part of it in one.
fn handed(served: &Served, query: &[u8], wanted: Wanted) -> Vec<Vec<u8>> {
    let zone = &served.zone;
    let start = zone.apex().set(kind::SOA);
    let start = |whose: &WireName| start.into_iter().flat_map(|set| owned(whose, set)).collect::<Vec<_>>();
    let own = |node: &Node| {
        let sets = node.sets.iter().filter(|set| set.kind != kind::SOA);
        sets.flat_map(|set| owned(&node.owner, set)).collect::<Vec<_>>()
    };
    let is_mark = |node: &&Node| zone.origin.below(LIST).is_some_and(|list| node.owner == list);
    let records: Vec<_> = match wanted {
        Wanted::Start => start(&zone.origin),
        Wanted::Mark => zone.nodes().filter(is_mark).flat_map(own).collect(),
        // RFC 5936 section 2.2: it ends as it began.
        Wanted::Zone => {
            start(&zone.origin).into_iter().chain(zone.nodes().flat_map(own)).chain(start(&zone.origin)).collect()
        }
    };
    let begin = || {
        let mut message = head(query, 0);
        if let Some(flags) = message.get_mut(2) {
            *flags |= AUTHORITATIVE;
        }
        message
    };
    let mut messages: Vec<(u16, Vec<u8>)> = vec![(0, begin())];
    for record in records {
        if messages.last().is_some_and(|(_, message)| message.len() >= MESSAGE) {
            messages.push((0, begin()));
        }
        let Some((count, message)) = messages.last_mut() else { continue };
        message.extend(record);
        *count = count.saturating_add(1);
    }
    let counted = |(count, mut message): (u16, Vec<u8>)| {
        message.iter_mut().skip(6).zip(count.to_be_bytes()).for_each(|(place, octet)| *place = octet);
        message
    };
    messages.into_iter().map(counted).collect()
}

/// The records of a set with their owner.
fn owned<'a>(owner: &'a WireName, set: &'a RrSet) -> impl Iterator<Item = Vec<u8>> {
    set.records.iter().map(|record| [owner.as_wire(), record].concat())
}

#[cfg(test)]
mod tests;
