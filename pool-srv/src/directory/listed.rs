//! The list of members as a zone has it, and as a file.
//!
//! ```text
//! _members.time.example.               300 IN TXT "generation=5 members=1"
//! ntp1.example._members.time.example.  300 IN SRV 0 20 4460 ntp1.example.
//! ```
//!
//! A [mark](Mark), and a name below `_members` for each member, with a service record: priority, weight, port and host. The
//! weight 0 stands for a member that drains. Addresses and TLSA records of hosts in the same zone belong to them. What labels are
//! in front of `_members` says nothing. The file is a directory with the mark in its last line.

use core::{fmt::Write as _, time::Duration};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    sync::Arc,
};

use data_encoding::HEXLOWER;
use hickory_proto::rr::{
    Name, RData, Record,
    rdata::{SRV, TLSA, TXT},
};
use ntp_proto::pool;

use super::{
    Directory, Mark, Problem, Tlsa,
    file::{MAX_TLSA, read},
    parse_foreign,
};
use crate::LIST;

/// Bounds of the time after which a zone is looked at again.
const LOOK: core::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(3_600);

/// Begins the last line of a file, which has the mark: a file that was not written to its end has none.
const END: &str = "# end: ";

/// A list that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// As a file: what [`load_list`] takes.
    pub text: String,
    /// What it is called by, with the hash.
    pub mark: Mark,
    /// When the zone should be looked at again.
    pub look_after: Duration,
    /// What of it is of no effect.
    pub remarks: Vec<String>,
}

/// The name of a list in its zone.
pub(super) fn list_name(zone: &pool::Name) -> Result<Name, String> {
    Name::from_ascii(format!("{LIST}.{zone}.")).map_err(|error| error.to_string())
}

/// The mark among these records, and when it should be looked at again: after its time to live.
///
/// # Errors
///
/// If there is none, or more than one, or it is none.
pub(super) fn mark_of(list: &Name, records: &[Record]) -> Result<(Mark, Duration), String> {
    let text = |record: &Record| {
        let RData::TXT(TXT { txt_data, .. }) = &record.data else { return None };
        let text = String::from_utf8_lossy(&txt_data.concat()).into_owned();
        (record.name == *list && text.contains("generation=")).then_some((text, record.ttl))
    };
    let mut marks = records.iter().filter_map(text);
    match (marks.next(), marks.next()) {
        (Some((text, ttl)), None) => {
            let look_after = Duration::from_secs(ttl.into()).clamp(*LOOK.start(), *LOOK.end());
            Ok((Mark::parse(&text).map_err(|what| format!("{list}: {what}"))?, look_after))
        }
        (None, _) => Err(format!(
            "the zone lists no members: it has no mark of a list at {list}; accepted: such as nts-pool-srv publishes with list = \
             true"
        )),
        (Some(_), Some(_)) => Err(format!("{list} has more than one mark of a list")),
    }
}

/// Reads a file with a list.
///
/// # Errors
///
/// [`Problem`] if there is anything wrong with it: it is had from the zone again then.
pub fn load_list(path: &Path) -> Result<(Arc<Directory>, Mark), Problem> {
    let text = read(path).map_err(|fault| Problem::unreadable(path, &fault))?;
    let wrong = |what: String| Problem::whole(path, what);
    let end = text.strip_suffix('\n').and_then(|text| text.lines().next_back()?.strip_prefix(END));
    let mark = Mark::parse(end.ok_or_else(|| wrong("no list of members: it does not end as one".to_owned()))?);
    let mark = mark.map_err(wrong)?;
    let directory = parse_foreign(path, &text)?;
    if !mark.fits(&directory.mark()) {
        return Err(wrong(format!("its members are not those of \"{mark}\" in its last line")));
    }
    Ok((directory, mark))
}

/// What a zone says of one host.
#[derive(Default)]
struct Host {
    addresses: BTreeSet<IpAddr>,
    /// By owner.
    tlsa: BTreeMap<Name, BTreeSet<String>>,
}

impl Listed {
    /// Takes the list from all records of a zone.
    ///
    /// # Errors
    ///
    /// What cannot be used, with its name in the zone; a list without members too: nobody means to have no pool.
    pub(super) fn read(zone: &pool::Name, records: &[Record]) -> Result<Self, String> {
        let list = list_name(zone)?;
        let origin = list.base_name();
        let (mark, look_after) = mark_of(&list, records)?;
        let mut hosts: BTreeMap<Name, Host> = BTreeMap::new();
        let mut members = Vec::new();
        let mut remarks = Vec::new();
        // What a zone says of names outside of it is not its to say.
        for Record { name, data, .. } in records.iter().filter(|record| origin.zone_of(&record.name)) {
            let mut address = |address| hosts.entry(name.clone()).or_default().addresses.insert(address);
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "a zone has other records, which say nothing of members"
            )]
            match data {
                RData::SRV(srv) if list.zone_of(name) && *name != list => members.push((name, srv)),
                RData::A(v4) => drop(address(IpAddr::V4(v4.0))),
                RData::AAAA(v6) => drop(address(IpAddr::V6(v6.0))),
                RData::TLSA(tlsa) => match tlsa_text(tlsa) {
                    Ok(text) => {
                        // `_4460._tcp` in front of the host (RFC 6698 section 3).
                        let host = hosts.entry(name.base_name().base_name()).or_default();
                        host.tlsa.entry(name.clone()).or_default().insert(text);
                    }
                    Err(what) => remarks.push(format!("{name}: {what}; the record is left out")),
                },
                _ => {}
            }
        }
        // The order of records in a zone means nothing.
        members.sort_by(|a, b| (&a.1.target, a.0).cmp(&(&b.1.target, b.0)));
        let mut text = String::new();
        for (owner, srv) in &members {
            let name = pool::Name::parse(srv.target.to_ascii().trim_end_matches('.'));
            let name = name.map_err(|error| format!("{owner}: target {}: {error}", srv.target))?;
            let host = hosts.get(&srv.target);
            write_member(&mut text, owner, &name, srv, host, &mut remarks).map_err(|error| error.to_string())?;
        }
        let path = Path::new(LIST).join(zone.as_str());
        let directory = parse_foreign(&path, &text).map_err(|problem| format!("its list cannot be used: {problem}"))?;
        let found = Mark { generation: mark.generation, ..directory.mark() };
        if !mark.fits(&found) {
            let what = format!("its list is not whole, or is being changed: {list} says \"{mark}\"");
            return Err(format!("{what}, and the members make \"{found}\""));
        }
        writeln!(text, "{END}{found}").map_err(|error| error.to_string())?;
        Ok(Self { text, mark: found, look_after, remarks })
    }
}

/// A record as the directory has it.
fn tlsa_text(tlsa: &TLSA) -> Result<String, String> {
    let [usage, selector, matching] = [u8::from(tlsa.cert_usage), u8::from(tlsa.selector), u8::from(tlsa.matching)];
    Tlsa::parse(&format!("{usage} {selector} {matching} {}", HEXLOWER.encode(&tlsa.cert_data)))
        .map(|tlsa| tlsa.to_string())
}

fn write_member(
    text: &mut String,
    owner: &Name,
    name: &pool::Name,
    srv: &SRV,
    host: Option<&Host>,
    remarks: &mut Vec<String>,
) -> core::fmt::Result {
    let quoted = |texts: &mut dyn Iterator<Item = String>| {
        texts.map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", ")
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
    let tlsa = host.tlsa.iter().filter(|(owner, _)| of_port(owner)).flat_map(|(_, texts)| texts.iter().cloned());
    let tlsa: Vec<_> = tlsa.collect();
    if tlsa.len() > MAX_TLSA {
        remarks.push(format!("{name} has {} TLSA records; accepted: {MAX_TLSA}, the others are left out", tlsa.len()));
    }
    if !tlsa.is_empty() {
        writeln!(text, "tlsa = [{}]", quoted(&mut tlsa.into_iter().take(MAX_TLSA)))?;
    }
    Ok(())
}
