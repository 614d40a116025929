//! The list of members as a zone has it, and as a file.
//!
//! ```text
//! ntp1.example._members.time.example.  300 IN SRV 0 20 4460 ntp1.example.
//! ```
//!
//! A name below `_members` for each member, with a service record: priority, weight, port and host. The weight 0 stands for a
//! member that drains. Addresses and TLSA records of hosts in the same zone belong to them. What labels are in front of
//! `_members` says nothing.

use core::{fmt::Write as _, time::Duration};
use std::{collections::BTreeMap, net::IpAddr, path::Path};

use hickory_proto::rr::{Name, RData, Record};
use ntp_proto::pool;

use super::parse_foreign;
use crate::LIST;

/// Bounds of the time after which a zone is looked at again.
const LOOK: core::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(3_600);

/// A list that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// As a directory file: what [`parse_foreign`] takes.
    pub text: String,
    /// How many members it has.
    pub members: usize,
    /// When the zone should be looked at again: clients of the list's records would do so after their time to live, other
    /// servers after the refresh time of the zone.
    pub look_after: Duration,
}

/// What a zone says of one host.
#[derive(Default)]
struct Host {
    addresses: Vec<IpAddr>,
    /// By owner.
    tlsa: BTreeMap<Name, Vec<String>>,
}

impl Listed {
    /// Takes the list from all records of a zone.
    ///
    /// # Errors
    ///
    /// What cannot be used, with its name in the zone; a list without members too: nobody means to have no pool.
    pub(super) fn read(zone: &pool::Name, records: &[Record]) -> Result<Self, String> {
        let list = Name::from_ascii(format!("{LIST}.{zone}.")).map_err(|error| error.to_string())?;
        let mut hosts: BTreeMap<Name, Host> = BTreeMap::new();
        let mut members = Vec::new();
        let mut look_after = *LOOK.end();
        let mut sooner = |seconds: u32| look_after = look_after.min(Duration::from_secs(seconds.into()));
        for Record { name, ttl, data, .. } in records {
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "a zone has other records, which say nothing of members"
            )]
            match data {
                RData::SRV(srv) if list.zone_of(name) && *name != list => {
                    sooner(*ttl);
                    members.push((name, srv));
                }
                RData::SOA(soa) => sooner(u32::try_from(soa.refresh).unwrap_or(0)),
                RData::A(address) => hosts.entry(name.clone()).or_default().addresses.push(IpAddr::V4(address.0)),
                RData::AAAA(address) => hosts.entry(name.clone()).or_default().addresses.push(IpAddr::V6(address.0)),
                RData::TLSA(tlsa) => {
                    // `_4460._tcp` in front of the host (RFC 6698 section 3).
                    let host = name.base_name().base_name();
                    let text = tlsa_text(tlsa);
                    hosts.entry(host).or_default().tlsa.entry(name.clone()).or_default().push(text);
                }
                _ => {}
            }
        }
        if members.is_empty() {
            return Err(format!(
                "the zone lists no members: it has no SRV records below {list}; accepted: such as nts-pool-srv publishes with \
                 list = true"
            ));
        }
        // The order of records in a zone means nothing.
        members.sort_by(|a, b| (&a.1.target, a.0).cmp(&(&b.1.target, b.0)));
        let mut text = String::new();
        for (owner, srv) in &members {
            let name = pool::Name::parse(srv.target.to_ascii().trim_end_matches('.'));
            let name = name.map_err(|error| format!("{owner}: target {}: {error}", srv.target))?;
            let host = hosts.get(&srv.target);
            write_member(&mut text, owner, &name, srv, host).map_err(|error| error.to_string())?;
        }
        let path = Path::new(LIST).join(zone.as_str());
        let directory = parse_foreign(&path, &text).map_err(|problem| format!("its list cannot be used: {problem}"))?;
        let look_after = look_after.clamp(*LOOK.start(), *LOOK.end());
        Ok(Self { text, members: directory.members().len(), look_after })
    }
}

fn tlsa_text(tlsa: &hickory_proto::rr::rdata::TLSA) -> String {
    let numbers = [u8::from(tlsa.cert_usage), u8::from(tlsa.selector), u8::from(tlsa.matching)];
    let data: String = tlsa.cert_data.iter().map(|octet| format!("{octet:02x}")).collect();
    let [usage, selector, matching] = numbers;
    format!("{usage} {selector} {matching} {data}")
}

fn write_member(
    text: &mut String,
    owner: &Name,
    name: &pool::Name,
    srv: &hickory_proto::rr::rdata::SRV,
    host: Option<&Host>,
) -> core::fmt::Result {
    let quoted = |texts: &mut dyn Iterator<Item = String>| {
        let texts: std::collections::BTreeSet<String> = texts.map(|text| format!("\"{text}\"")).collect();
        texts.into_iter().collect::<Vec<_>>().join(", ")
    };
    // Whatever a label holds, the comment has no line end.
    let owner: String = owner.to_ascii().chars().filter(char::is_ascii_graphic).collect();
    write!(text, "# {owner}\n[[member]]\nname = \"{name}\"\nport = {}\npriority = {}\n", srv.port, srv.priority)?;
    match srv.weight {
        0 => writeln!(text, "drain = true")?,
        weight => writeln!(text, "weight = {weight}")?,
    }
    let Some(host) = host else { return Ok(()) };
    if !host.addresses.is_empty() {
        writeln!(text, "addresses = [{}]", quoted(&mut host.addresses.iter().map(IpAddr::to_string)))?;
    }
    let port = format!("_{}", srv.port);
    let of_port = |owner: &Name| {
        let mut labels = owner.iter();
        labels.next() == Some(port.as_bytes()) && labels.next().is_some_and(|label| label.eq_ignore_ascii_case(b"_tcp"))
    };
    let mut tlsa = host.tlsa.iter().filter(|(owner, _)| of_port(owner)).flat_map(|(_, texts)| texts.iter().cloned());
    let tlsa = quoted(&mut tlsa);
    if !tlsa.is_empty() {
        writeln!(text, "tlsa = [{tlsa}]")?;
    }
    Ok(())
}
