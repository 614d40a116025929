//! `pool` and `[[server]]`.

use std::{collections::BTreeMap, net::IpAddr};

use ntp_proto::{ids::KeyId, pool::MAX_MEMBERS};

use super::{
    Family, Host, MAX_POOLS, MAX_SERVERS, NTP_PORT, NTS_KE_PORT, NtsUse, Pool, PoolModeName, Require, Server,
    options::{options, own_roots},
    problem::{Place, Report, Wrong},
    raw::{Data, Entry, Table, Value},
    section::{Found, Section},
    values,
};

/// Words for [`PoolModeName`].
pub(super) const MODES: &[(&str, PoolModeName)] = &[
    ("auto", PoolModeName::Auto),
    ("srv", PoolModeName::Srv),
    ("lb", PoolModeName::Lb),
    ("shared-cert", PoolModeName::SharedCert),
    ("ip-cert", PoolModeName::IpCert),
    ("classic", PoolModeName::Classic),
];

/// Words for [`NtsUse`].
pub(super) const NTS: &[(&str, NtsUse)] = &[("auto", NtsUse::Auto), ("require", NtsUse::Require), ("off", NtsUse::Off)];

/// What `require` may say.
const REQUIRE: &[(&str, Require)] =
    &[("dnssec", Require { dnssec: true, dane: false }), ("dane", Require { dnssec: false, dane: true })];

/// Most hints of where a name leads.
const MAX_HINTS: usize = 8;

/// Members of a pool, unless the file says otherwise.
const DEFAULT_COUNT: usize = 4;

/// The words that make up these requirements.
pub(super) fn require_words(require: Require) -> Vec<&'static str> {
    let given = [require.dnssec, require.dane];
    REQUIRE.iter().zip(given).filter_map(|((word, _), given)| given.then_some(*word)).collect()
}

/// Reads `pool`: a name, a table, or a list of both.
pub(super) fn pools(value: Option<Value>, report: &Report) -> Vec<Pool> {
    let mut seen = BTreeMap::new();
    entries("pool", "name", value, MAX_POOLS, report)
        .into_iter()
        .filter_map(|section| {
            let (pool, place) = pool(section)?;
            let first = unique(&mut seen, pool.name.to_string(), &place, "pool.name", report);
            first.then_some(pool)
        })
        .collect()
}

/// Reads `server`: an address, a table, or a list of both.
pub(super) fn servers(value: Option<Value>, report: &Report) -> Vec<Found<Server>> {
    let mut seen = BTreeMap::new();
    entries("server", "address", value, MAX_SERVERS, report)
        .into_iter()
        .filter_map(|section| {
            let server = server(section)?;
            let who = format!("{} port {}", server.value.host, server.value.port);
            unique(&mut seen, who, &server.place, "server.address", report).then_some(server)
        })
        .collect()
}

/// Brings every form of one entry into that of a table.
pub(super) fn entries<'r>(
    key: &str,
    naming: &str,
    value: Option<Value>,
    most: usize,
    report: &'r Report,
) -> Vec<Section<'r>> {
    let Some(value) = value else { return Vec::new() };
    let place = value.place.clone();
    let items = value.into_items();
    if items.len() > most {
        report.error(&place, key, Wrong::new(format!("{} entries, at most {most} are possible", items.len())));
    }
    let section = |Value { place, data }| {
        let table = match data {
            Data::Table(table) => table,
            text @ Data::String(_) => {
                let value = Value { place: place.clone(), data: text };
                Table::from([(naming.to_owned(), Entry { key_place: place.clone(), value })])
            }
            other @ (Data::Integer(_) | Data::Float(_) | Data::Boolean(_) | Data::Datetime | Data::Array(_)) => {
                let what = format!("expected a string or a table, found {}", other.kind());
                let accepted = format!("\"{naming}\", a table with `{naming}`, or a list of them");
                report.error(&place, key, Wrong::new(what).accepted(accepted));
                return None;
            }
        };
        Some(Section::new(key.to_owned(), place, table, report))
    };
    items.into_iter().take(most).filter_map(section).collect()
}

/// Whether `who` was not seen before.
pub(super) fn unique(
    seen: &mut BTreeMap<String, Place>,
    who: String,
    place: &Place,
    key: &str,
    report: &Report,
) -> bool {
    let wrong = seen.get(&who).map(|first| Wrong::new(format!("`{who}` was given before, at {first}")));
    match wrong {
        Some(wrong) => {
            report.error(place, key, wrong);
            false
        }
        None => seen.insert(who, place.clone()).is_none(),
    }
}

fn pool(mut section: Section<'_>) -> Option<(Pool, Place)> {
    let name = section.required("name", values::name);
    let mode = section.field("mode", values::word(MODES)).map_or(PoolModeName::Auto, |mode| mode.value);
    let count = section.field("count", values::integer(1..=i64::try_from(MAX_MEMBERS).unwrap_or(i64::MAX)));
    let nts = section.field("nts", values::word(NTS));
    let port = section.field("port", values::integer(1..=u16::MAX));
    let ke_port = section.field("ke-port", values::integer(1..=u16::MAX));
    let mut options = options(&mut section, true);
    let is_plain = match (mode, &nts) {
        (PoolModeName::Classic, _) => Some("mode \"classic\" is plain NTP"),
        (_, Some(Found { value: NtsUse::Off, .. })) => Some("nts = \"off\" is plain NTP"),
        (_, _) => None,
    };
    options.roots = own_roots(&mut section, is_plain);

    let lacks = match (mode, &nts) {
        (PoolModeName::Classic, _) => Some("plain NTP, which mode \"classic\" is,".to_owned()),
        (PoolModeName::IpCert, _) => Some("an address, of which mode \"ip-cert\" asks a certificate,".to_owned()),
        (_, Some(Found { value: NtsUse::Off, .. })) => Some("plain NTP, which nts = \"off\" means,".to_owned()),
        (PoolModeName::Auto | PoolModeName::Srv | PoolModeName::Lb | PoolModeName::SharedCert, _) => None,
    };
    let require = require(&mut section, lacks);
    let (address_hints, _) = address_hints(&mut section);
    let nts = nts_of_mode(mode, nts, &section);
    let nts = if require.is_empty() && options.roots.is_none() { nts } else { NtsUse::Require };
    if let Some(name) = name.as_ref().filter(|_| mode == PoolModeName::Srv)
        && pool_srv::service_owner(&name.value).is_err()
    {
        let wrong = Wrong::new("the name is too long to have service records").accepted("lb, shared-cert, classic");
        section.error(&name.place, "mode", wrong);
    }
    section.finish();

    let name = name?;
    let pool = Pool {
        name: name.value,
        mode,
        count: count.and_then(|count| usize::try_from(count.value).ok()).unwrap_or(DEFAULT_COUNT),
        nts,
        require,
        port: port.map_or(NTP_PORT, |port| port.value),
        ke_port: ke_port.map_or(NTS_KE_PORT, |port| port.value),
        address_hints,
        options,
    };
    Some((pool, name.place))
}

/// What `nts` comes to in a mode.
fn nts_of_mode(mode: PoolModeName, given: Option<Found<NtsUse>>, section: &Section<'_>) -> NtsUse {
    match (mode, given) {
        (PoolModeName::Classic, Some(Found { value: NtsUse::Require, place })) => {
            let wrong = Wrong::new("mode \"classic\" is plain NTP").accepted("off, or another mode");
            section.error(&place, "nts", wrong);
            NtsUse::Off
        }
        (
            PoolModeName::Srv | PoolModeName::Lb | PoolModeName::SharedCert | PoolModeName::IpCert,
            Some(Found { value: NtsUse::Off, place }),
        ) => {
            let what = format!("mode \"{}\" needs NTS", values::word_for(MODES, &mode));
            section.error(&place, "nts", Wrong::new(what).accepted("auto, require, or mode \"classic\""));
            NtsUse::Auto
        }
        (PoolModeName::Classic, _) => NtsUse::Off,
        (
            PoolModeName::Auto | PoolModeName::Srv | PoolModeName::Lb | PoolModeName::SharedCert | PoolModeName::IpCert,
            given,
        ) => given.map_or(NtsUse::Auto, |nts| nts.value),
    }
}

/// Reads `require`, which something may make impossible: that is said of `lacks`.
fn require(section: &mut Section<'_>, lacks: Option<String>) -> Require {
    let mut all = Require::default();
    for Found { value, place } in section.list("require", REQUIRE.len(), values::word(REQUIRE)).unwrap_or_default() {
        if let Some(lacks) = &lacks {
            let what = format!("{lacks} has nothing that DNSSEC could vouch for");
            section.error(&place, "require", Wrong::new(what));
        } else {
            all = Require { dnssec: all.dnssec || value.dnssec, dane: all.dane || value.dane };
        }
    }
    all
}

/// Reads `address-hints`, and where the first of them stands.
fn address_hints(section: &mut Section<'_>) -> (Vec<IpAddr>, Option<Place>) {
    let found = section.list("address-hints", MAX_HINTS, values::address).unwrap_or_default();
    let place = found.first().map(|hint| hint.place.clone());
    (found.into_iter().map(|hint| hint.value).collect(), place)
}

fn server(mut section: Section<'_>) -> Option<Found<Server>> {
    let address = section.required("address", values::host_and_port);
    let nts = section.field("nts", values::word(NTS));
    let ke_port = section.field("ke-port", values::integer(1..=u16::MAX));
    let key = section.field("key", values::integer(1..=u32::MAX));
    let separate_port = section.field("port", values::integer(1..=u16::MAX));
    if let (Some(Found { value: (_, Some(port)), .. }), Some(Found { place, .. })) = (&address, &separate_port) {
        section.error(place, "port", Wrong::new(format!("`address` names a port already, {port}")));
    }
    let mut options = options(&mut section, false);
    let is_plain = match (&key, &nts) {
        (Some(_), _) => Some("a server with a symmetric key has none"),
        (None, Some(Found { value: NtsUse::Off, .. })) => Some("nts = \"off\" is plain NTP"),
        (None, _) => None,
    };
    options.roots = own_roots(&mut section, is_plain);
    let contradicts = |family: Family| {
        address.as_ref().is_some_and(|found| matches!(found.value.0, Host::Address(ip) if !family.has(ip)))
    };
    if options.family.is_some_and(contradicts) {
        section.error(&section.place().clone(), "family", Wrong::new("`address` is an address of the other family"));
    }

    let is_address = address.as_ref().is_some_and(|found| matches!(found.value.0, Host::Address(_)));
    let lacks = match (&key, &nts) {
        (Some(_), _) => Some("a server with a symmetric key"),
        (None, Some(Found { value: NtsUse::Off, .. })) => Some("plain NTP, which nts = \"off\" means,"),
        (None, _) => is_address.then_some("an address"),
    };
    let require = require(&mut section, lacks.map(ToOwned::to_owned));
    let (address_hints, place) = address_hints(&mut section);
    if let Some(place) = place.filter(|_| is_address) {
        let wrong = Wrong::new("`address` is an address itself").accepted("hints for a server that has a name");
        section.error(&place, "address-hints", wrong);
    }
    let nts = match (&key, nts) {
        (Some(_), Some(Found { value: NtsUse::Require, place })) => {
            section.error(&place, "nts", Wrong::new("a server has a symmetric key or NTS, not both").accepted("off"));
            NtsUse::Off
        }
        (Some(_), _) => NtsUse::Off,
        (None, _) if !require.is_empty() || options.roots.is_some() => NtsUse::Require,
        (None, given) => given.map_or(NtsUse::Auto, |nts| nts.value),
    };
    section.finish();

    let Found { value: (host, port), place } = address?;
    let server = Server {
        host,
        port: port.or_else(|| separate_port.map(|port| port.value)).unwrap_or(NTP_PORT),
        ke_port: ke_port.map_or(NTS_KE_PORT, |port| port.value),
        nts,
        key: key.map(|key| KeyId(key.value)),
        address_hints,
        require,
        options,
    };
    Some(Found { value: server, place })
}
