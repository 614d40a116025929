//! What a zone holds, and the proofs of what it does not hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::Bound,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use ntp_proto::pool::Name;

use super::{
    name::{WireName, sort_key},
    record::{Data, FIXED, kind},
    sign::{Signer, ZoneKey},
};
use crate::{
    LIST, SERVICE,
    directory::{Directory, Member, Problem, listed_weight},
    tsig::TsigKey,
};

/// Most octets of a set of records with its signature: far below what a message over TCP may hold.
const MAX_SET: usize = 16_384;

/// How long keys and the zone's own records may be remembered.
const APEX_TTL: u32 = 3_600;

/// What an operator says of a zone.
#[derive(Clone, Debug)]
pub struct ZoneSettings {
    /// Its name, which is the pool's.
    pub name: Name,
    /// Its name servers, with addresses for those that lie within it.
    pub name_servers: Vec<(Name, Vec<IpAddr>)>,
    /// Addresses of the name itself: those of the balancer.
    pub addresses: Vec<IpAddr>,
    /// The mailbox of its keeper, as a name.
    pub contact: Name,
    /// Targets in one answer.
    pub targets: usize,
    /// Seconds that targets may be remembered.
    pub ttl: u32,
    /// Seconds that absence may be remembered.
    pub negative_ttl: u32,
    /// Whether CDS and CDNSKEY records tell the parent what its DS record should be.
    pub cds: bool,
    /// Whether all members are listed in it, for balancers that transfer it.
    pub list: bool,
    /// Who may transfer it from this server: whoever has one of these.
    pub transfer_keys: Vec<TsigKey>,
    /// The file that lists the members, for messages.
    pub members: PathBuf,
}

impl ZoneSettings {
    /// The zone's name in wire form.
    #[must_use]
    pub fn origin(&self) -> WireName {
        WireName::of(&self.name)
    }

    /// The owner of the service records; `None` if the zone's name is too long to have any.
    #[must_use]
    pub fn service(&self) -> Option<WireName> {
        self.origin().below(SERVICE)
    }
}

/// A record with its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose record it is.
    pub owner: WireName,
    /// Seconds that it may be remembered.
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

fn addresses(owner: &WireName, ttl: u32, addresses: &[IpAddr], records: &mut Vec<Record>) {
    for address in addresses {
        let data = match address {
            IpAddr::V4(address) => Data::A(*address),
            IpAddr::V6(address) => Data::Aaaa(*address),
        };
        records.push(Record { owner: owner.clone(), ttl, data });
    }
}

/// The records of the members that lie within the zone (addresses, and what their certificates are pinned to), and the list
/// of all with its mark, if there is to be one.
///
/// # Errors
///
/// [`Problem`] if a member cannot be a target, or lies within the zone and has no address there.
pub fn member_records(settings: &ZoneSettings, directory: &Directory) -> Result<Vec<Record>, Problem> {
    let origin = settings.origin();
    let mut records = Vec::new();
    if let Some(owner) = origin.below(LIST).filter(|_| settings.list) {
        let data = Data::Txt(directory.mark().to_string().into());
        records.push(Record { owner, ttl: settings.ttl, data });
    }
    for member in directory.members() {
        let wrong = |what: String| Problem::in_line(&settings.members, member.line, what);
        if member.name.address().is_some() {
            return Err(wrong(format!("member {} is an address; accepted for SRV records: host names", member.name)));
        }
        let name = WireName::of(&member.name);
        if settings.list {
            records.extend(listed(settings, member, &name)?);
        }
        let Some(front) = name.relative_to(&origin) else { continue };
        let mut own = [settings.service(), origin.below(LIST)].into_iter().flatten();
        if front.is_empty() || own.any(|own| name.relative_to(&own).is_some()) {
            return Err(wrong(format!(
                "member {} has a name that the zone {} needs itself",
                member.name, settings.name
            )));
        }
        if member.addresses.is_empty() {
            let what = format!("member {} lies in the zone {} and has no addresses", member.name, settings.name);
            return Err(wrong(format!("{what}; accepted: such as addresses = [\"192.0.2.1\"]")));
        }
        addresses(&name, settings.ttl, &member.addresses, &mut records);
        // RFC 6698 section 3.
        let owner = name.below(&format!("_{}._tcp", member.port)).filter(|_| !member.tlsa.is_empty());
        if let Some(owner) = owner {
            let record = |tlsa| Record { owner: owner.clone(), ttl: settings.ttl, data: Data::Tlsa(tlsa) };
            records.extend(member.tlsa.iter().cloned().map(record));
        }
    }
    Ok(records)
}

/// The record that lists a member, whether it can be drawn or not; none for those that are for some clients only.
fn listed(settings: &ZoneSettings, member: &Member, name: &WireName) -> Result<Option<Record>, Problem> {
    let owner = settings.origin().below(&format!("{}.{LIST}", member.name)).ok_or_else(|| {
        let what = format!("the name of member {} is too long for the list in the zone {}", member.name, settings.name);
        Problem::in_line(&settings.members, member.line, what)
    })?;
    let weight = listed_weight(member);
    let data = Data::Srv { priority: member.priority, weight, port: member.port, target: name.clone() };
    Ok(member.prefixes.is_empty().then_some(Record { owner, ttl: settings.ttl, data }))
}

/// What members say of their certificates and the zone cannot: their names lie in others.
pub(super) fn unpublished(settings: &ZoneSettings, directory: &Directory) -> Vec<Problem> {
    let origin = settings.origin();
    let lies_outside = |name: &Name| name.address().is_none() && WireName::of(name).relative_to(&origin).is_none();
    let pinned = directory.members().iter().filter(|member| !member.tlsa.is_empty() && lies_outside(&member.name));
    let remark = |member: &Member| {
        let what =
            format!("tlsa of member {} is not published: it does not lie in the zone {}", member.name, settings.name);
        Problem::in_line(
            &settings.members,
            member.line,
            format!("{what}; the zone of that name has to have the records"),
        )
    };
    pinned.map(remark).collect()
}

/// All records of a zone but the service records and those of DNSSEC.
///
/// # Errors
///
/// [`Problem`] as for [`member_records`].
pub fn plain_records(settings: &ZoneSettings, directory: &Directory, serial: u32) -> Result<Vec<Record>, Problem> {
    let origin = settings.origin();
    let primary = settings.name_servers.first().map_or_else(|| origin.clone(), |(name, _)| WireName::of(name));
    let contact = WireName::of(&settings.contact);
    let soa = Data::Soa { primary, contact, serial, negative: settings.negative_ttl };
    let mut records = vec![Record { owner: origin.clone(), ttl: APEX_TTL, data: soa }];
    for (name, glue) in &settings.name_servers {
        let name = WireName::of(name);
        records.push(Record { owner: origin.clone(), ttl: APEX_TTL, data: Data::Ns(name.clone()) });
        addresses(&name, APEX_TTL, glue, &mut records);
    }
    addresses(&origin, settings.ttl, &settings.addresses, &mut records);
    records.extend(member_records(settings, directory)?);
    Ok(records)
}

/// Records of one owner and type, with their signature once somebody asked for it.
#[derive(Debug)]
pub(super) struct RrSet {
    pub(super) kind: u16,
    /// Without their owner, in canonical order.
    pub(super) records: Vec<Box<[u8]>>,
    signature: OnceLock<Option<Box<[u8]>>>,
}

impl RrSet {
    /// Takes records of one type.
    pub(super) fn new(ttl: u32, data: &[Data]) -> Self {
        let mut records: Vec<_> = data.iter().map(|data| data.to_record(ttl)).collect();
        // RFC 4034 section 6.3: by data alone, not by its length.
        records.sort_by(|a, b| a.get(FIXED..).cmp(&b.get(FIXED..)));
        records.dedup();
        let kind = data.first().map_or(0, Data::kind);
        Self { kind, records, signature: OnceLock::new() }
    }

    /// How many octets it has without owners and signature.
    pub(super) fn len(&self) -> usize {
        self.records.iter().map(|record| record.len()).sum()
    }

    /// Its RRSIG record without owner.
    pub(super) fn signature(&self, owner: &WireName, signer: &Signer) -> Option<&[u8]> {
        self.signature.get_or_init(|| signer.sign(owner, &self.records)).as_deref()
    }
}

/// All records of one name.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) owner: WireName,
    pub(super) sets: Vec<RrSet>,
    /// Whether it has service records, which are drawn.
    pub(super) is_service: bool,
    /// Proves which types it has, and that there is nothing between it and the next name.
    pub(super) nsec: RrSet,
}

impl Node {
    pub(super) fn set(&self, kind: u16) -> Option<&RrSet> {
        if kind == kind::NSEC { Some(&self.nsec) } else { self.sets.iter().find(|set| set.kind == kind) }
    }
}

/// The time and the data of each type of one name.
type Sets = BTreeMap<u16, (u32, Vec<Data>)>;

/// What a zone knows of a name.
pub(super) enum Found<'a> {
    /// It has records.
    Node(&'a Node),
    /// It has none itself, but names below it do; the proof.
    Empty(&'a Node),
    /// It does not exist: the proof of that, and that no wildcard stands for it.
    Absent(&'a Node, &'a Node),
}

/// A zone, ready to be served. Signatures are made when they are asked for, and kept: proofs of absence are those of a
/// chain, so that there is an end to what strangers can have signed.
#[derive(Debug)]
pub struct Zone {
    pub(super) settings: ZoneSettings,
    pub(super) origin: WireName,
    /// The owner of the service records.
    pub(super) service: WireName,
    pub(super) signer: Signer,
    nodes: BTreeMap<Box<[u8]>, Node>,
}

impl Zone {
    /// Builds a zone. `keys` are those in its DNSKEY set; the signer's own is the first.
    ///
    /// # Errors
    ///
    /// [`Problem`] if something in it cannot be signed or would not fit into a message.
    pub fn build(
        settings: &ZoneSettings,
        directory: &Directory,
        keys: &[Arc<ZoneKey>],
        signer: Signer,
        serial: u32,
    ) -> Result<Self, Problem> {
        let origin = settings.origin();
        let too_long = || Problem::whole(&settings.members, format!("zone {}: its name is too long", settings.name));
        let service = settings.service().ok_or_else(too_long)?;
        let mut records = plain_records(settings, directory, serial)?;
        let mut own = |data| records.push(Record { owner: origin.clone(), ttl: APEX_TTL, data });
        for key in keys {
            own(key.dnskey(kind::DNSKEY));
            if settings.cds {
                own(key.dnskey(kind::CDNSKEY));
                own(key.cds(&origin));
            }
        }
        let mut names: BTreeMap<Box<[u8]>, (WireName, Sets)> = BTreeMap::new();
        let mut key = Vec::new();
        let mut key_of = |owner: &WireName| -> Box<[u8]> {
            sort_key(owner.relative_to(&origin).unwrap_or_default(), &mut key);
            key.as_slice().into()
        };
        names.insert(key_of(&service), (service.clone(), BTreeMap::new()));
        for Record { owner, ttl, data } in records {
            let (_, sets) = names.entry(key_of(&owner)).or_insert_with(|| (owner, BTreeMap::new()));
            let (set_ttl, set) = sets.entry(data.kind()).or_insert_with(|| (ttl, Vec::new()));
            *set_ttl = (*set_ttl).min(ttl);
            set.push(data);
        }
        let next: Vec<WireName> = names.values().skip(1).chain(names.values().take(1)).map(|n| n.0.clone()).collect();
        let mut nodes = BTreeMap::new();
        for ((key, (owner, sets)), next) in names.into_iter().zip(next) {
            let node = Self::node(settings, owner, sets, &next, &service);
            for set in &node.sets {
                let len = set.len().saturating_add(signer.rrsig_len());
                if len > MAX_SET {
                    let what = format!("records of type {} of {} need {len} octets", set.kind, node.owner);
                    return Err(Problem::whole(&settings.members, format!("{what}; accepted: {MAX_SET} at most")));
                }
            }
            nodes.insert(key, node);
        }
        let zone = Self { settings: settings.clone(), origin, service, signer, nodes };
        let signed = zone.apex().sets.iter().all(|set| set.signature(&zone.origin, &zone.signer).is_some());
        let unsigned = || Problem::whole(&settings.members, format!("zone {} cannot be signed", settings.name));
        if signed { Ok(zone) } else { Err(unsigned()) }
    }

    fn node(settings: &ZoneSettings, owner: WireName, sets: Sets, next: &WireName, service: &WireName) -> Node {
        let is_service = owner == *service;
        let kinds = sets.keys().copied().chain(is_service.then_some(kind::SRV)).chain([kind::RRSIG, kind::NSEC]);
        let data = [next.as_wire(), &bitmap(kinds.collect())].concat();
        // RFC 9077: no longer than absence may be remembered.
        let nsec = RrSet::new(settings.negative_ttl, &[Data::Wire(kind::NSEC, data.into())]);
        let sets = sets.into_values().map(|(ttl, data)| RrSet::new(ttl, &data)).collect();
        Node { owner, sets, is_service, nsec }
    }

    /// All names that have something, in canonical order.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// The node of the zone's own name.
    pub(super) fn apex(&self) -> &Node {
        // Its key is empty, the first of all; the SOA record is always there.
        self.nodes.values().next().unwrap_or_else(|| unreachable!("a zone has a start of authority"))
    }

    /// Looks up a name by its key; `parents` are the keys of the names above it, the nearest first.
    pub(super) fn find<'k>(&self, key: &[u8], parents: impl Iterator<Item = &'k [u8]>) -> Found<'_> {
        if let Some(node) = self.nodes.get(key) {
            return Found::Node(node);
        }
        if self.has_below(key) {
            return Found::Empty(self.before(key));
        }
        let closest = parents.into_iter().find(|parent| self.nodes.contains_key(*parent) || self.has_below(parent));
        let wildcard = [closest.unwrap_or_default(), b"*\0"].concat();
        Found::Absent(self.before(key), self.before(&wildcard))
    }

    fn has_below(&self, key: &[u8]) -> bool {
        let after = (Bound::Excluded(key), Bound::Unbounded);
        self.nodes.range::<[u8], _>(after).next().is_some_and(|(next, _)| next.starts_with(key))
    }

    fn before(&self, key: &[u8]) -> &Node {
        let until = (Bound::Unbounded, Bound::Excluded(key));
        self.nodes.range::<[u8], _>(until).next_back().map_or_else(|| self.apex(), |(_, node)| node)
    }

    /// The addresses of a name, if it lies in the zone.
    pub(super) fn host(&self, name: &WireName, key: &mut Vec<u8>) -> Option<&Node> {
        sort_key(name.relative_to(&self.origin)?, key);
        self.nodes.get(key.as_slice())
    }

    #[cfg(test)]
    pub(super) fn signer_key(&self) -> Data {
        self.signer.dnskey()
    }

    /// How many names it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it has no names; it always has its own.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// The types that a name has, as NSEC records tell them (RFC 4034 section 4.1.2); all are below 256 here.
fn bitmap(kinds: BTreeSet<u16>) -> Vec<u8> {
    let mut bits = [0_u8; 32];
    for kind in kinds {
        if let Some(octet) = bits.get_mut(usize::from(kind / 8)) {
            *octet |= 0x80 >> (kind % 8);
        }
    }
    let len = bits.iter().rposition(|octet| *octet != 0).map_or(0, |last| last.saturating_add(1));
    let mut map = vec![0, u8::try_from(len).unwrap_or(0)];
    map.extend(bits.iter().take(len));
    map
}
