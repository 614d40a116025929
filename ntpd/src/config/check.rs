//! From what the files say to a [`Config`].

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use ntp_proto::{
    discipline::LeapMode,
    server::{AccessTable, RateLimit},
    wire::mac::SymmetricKey,
};

use super::{
    AccessRules, Added, ClockSettings, Config, MAX_SOURCE_DIRECTORIES, Refclock, Serve, ServeNts, Server,
    TrustSettings, clock, control, files, hwtimestamp, keys, local, logging, observe,
    problem::{Place, Report, Wrong},
    raw::{Data, Table},
    refclock,
    section::{Found, Section},
    sources, trust, values,
};
use crate::serve::default_threads;

/// Shortest and longest life of a cookie key that servers share.
const COOKIE_PERIODS: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(30 * 86_400);

/// Most addresses to listen on.
const MAX_LISTEN: usize = 16;

/// Most prefixes of clients, those allowed and those denied together.
const MAX_PREFIXES: usize = AccessTable::CAPACITY;

/// Largest power of two in `leak`: one in so many refused requests is as good as none.
const MAX_LEAK: u8 = 8;

/// Most clients that are remembered, 56 bytes each.
const MAX_CLIENT_LOG: usize = 1 << 24;

/// Longest path of a socket (`sun_path` of unix(7), with its final zero).
const MAX_SOCKET_PATH: usize = 107;

const DEFAULT_STATE_DIRECTORY: &str = "/var/lib/ntpd";

/// Checks a whole configuration; where something is wrong, what is returned means nothing.
pub(super) fn check(
    table: Table,
    whole: &Place,
    default_directories: &[&str],
    report: &Report,
) -> (Config, Vec<SymmetricKey>) {
    let mut root = Section::new(String::new(), whole.clone(), table, report);
    let source_directories = source_directories(&mut root, default_directories);
    let pools = sources::pools(root.raw("pool"), report);
    let servers = sources::servers(root.raw("server"), report);
    let (key_file, keys) = root.section("keys").map_or((None, None), |section| key_file(section, report));
    check_keys_of(&servers, key_file.is_some(), keys.as_deref(), report);
    let (control_socket, chronyc) = control::control(root.section("control"));
    let clock = clock::clock(root.section("clock"));
    let serve = root.section("serve").map(|section| serve(section, &clock));
    let refclocks = refclock::refclocks(root.raw("refclock"), clock.leap_file.is_some(), report);
    let trust = trust::trust(root.section("trust"));
    let state_directory = single(root.section("state"), "directory", path_text, DEFAULT_STATE_DIRECTORY);
    let (log, log_files) = logging::log(root.section("log"));
    let config = Config {
        clock,
        serve,
        trust,
        key_file,
        state_directory,
        control_socket,
        chronyc,
        log,
        log_files,
        source_directories,
        observe: observe::observe(root.section("observe")),
        pools,
        refclocks,
        hwtimestamp: hwtimestamp::interfaces(root.raw("hwtimestamp"), report),
        servers: servers.into_iter().map(|found| found.value).collect(),
    };
    let directories_given = config.source_directories.iter().ne(default_directories.iter().map(Path::new));
    let is_alone = config.pools.is_empty() && config.servers.is_empty() && !directories_given;
    if is_alone && !config.refclocks.is_empty() && config.refclocks.iter().all(Refclock::needs_numbering) {
        let what = "pulses alone do not tell which second they begin, so the clock will not be set";
        report.warning(whole, "refclock", Wrong::new(what).accepted("beside a server, or another refclock"));
    }
    if is_alone && config.refclocks.is_empty() {
        let what = "no source of time, the clock will not be set";
        report.warning(whole, "", Wrong::new(what).accepted("for example `pool = \"time.example\"`"));
    }
    // A second `remove` belongs to the file it stands in; what is left here is none.
    root.finish();
    (config, keys.unwrap_or_default())
}

/// Checks `[trust]` alone.
pub(super) fn check_trust(table: Table, whole: &Place, report: &Report) -> TrustSettings {
    trust::trust(Section::new(String::new(), whole.clone(), table, report).section("trust"))
}

/// Checks a file that may hold nothing but sources. Whether there are the keys that they name is not known here.
pub(super) fn check_sources(table: Table, whole: &Place, report: &Report) -> Vec<Added> {
    let mut root = Section::new(String::new(), whole.clone(), table, report);
    let pools = sources::pools(root.raw("pool"), report);
    let servers = sources::servers(root.raw("server"), report);
    root.finish();
    let servers = servers.into_iter().map(|found| Added::Server(found.value));
    pools.into_iter().map(Added::Pool).chain(servers).collect()
}

fn source_directories(root: &mut Section<'_>, default: &[&str]) -> Vec<PathBuf> {
    let Some(given) = root.list("source-directories", MAX_SOURCE_DIRECTORIES, path_text) else {
        return default.iter().map(PathBuf::from).collect();
    };
    given.into_iter().filter_map(|found| path(Some(found))).map(|found| found.value).collect()
}

/// Reads a section of a single path.
fn single(
    section: Option<Section<'_>>,
    key: &'static str,
    parse: fn(&Data) -> Result<String, Wrong>,
    default: &str,
) -> PathBuf {
    section.map_or_else(
        || default.into(),
        |mut section| {
            let path = path(section.field(key, parse));
            section.finish();
            path.map_or_else(|| default.into(), |path| path.value)
        },
    )
}

pub(super) fn path_text(data: &Data) -> Result<String, Wrong> {
    let text = values::text(data)?;
    if text.is_empty() || text.contains('\0') { Err(Wrong::new("not a path")) } else { Ok(text) }
}

pub(super) fn socket_path_text(data: &Data) -> Result<String, Wrong> {
    let text = path_text(data)?;
    if text.len() > MAX_SOCKET_PATH {
        return Err(Wrong::new(format!("longer than the {MAX_SOCKET_PATH} bytes that the path of a socket may have")));
    }
    Ok(text)
}

/// Paths are relative to the file that names them.
pub(super) fn path(text: Option<Found<String>>) -> Option<Found<PathBuf>> {
    let Found { value, place } = text?;
    let directory = place.file.parent().unwrap_or_else(|| Path::new(""));
    Some(Found { value: directory.join(value), place })
}

fn key_file(mut section: Section<'_>, report: &Report) -> (Option<PathBuf>, Option<Vec<SymmetricKey>>) {
    let file = path(section.required("file", path_text));
    let keys = file.as_ref().and_then(|Found { value, place }| match files::secret_text(value) {
        Ok((text, warning)) => {
            warning.into_iter().for_each(|wrong| section.warning(place, "file", wrong));
            Some(keys::parse(value, &text, report))
        }
        Err(wrong) => {
            section.error(place, "file", wrong);
            None
        }
    });
    section.finish();
    (file.map(|file| file.value), keys)
}

fn check_keys_of(servers: &[Found<Server>], file_given: bool, keys: Option<&[SymmetricKey]>, report: &Report) {
    for Found { value: server, place } in servers {
        let Some(id) = server.key else { continue };
        let wrong = match keys {
            Some(keys) if keys.iter().any(|key| key.id() == id) => continue,
            Some(_) => format!("no key {} in the file of keys", id.0),
            None if file_given => continue,
            None => "there is no file of keys: set `file` in `[keys]`".to_owned(),
        };
        report.error(place, "server.key", Wrong::new(wrong));
    }
}

fn serve(mut section: Section<'_>, clock: &ClockSettings) -> Serve {
    let listen = listen(&mut section, super::NTP_PORT);
    let allow = prefixes(&mut section, "allow");
    let deny = prefixes(&mut section, "deny");
    let rules = allow.len() + deny.len();
    if rules > MAX_PREFIXES {
        let what = format!("{rules} prefixes together with `deny`, at most {MAX_PREFIXES} are possible");
        section.error(&section.place().clone(), "allow", Wrong::new(what));
    }
    if allow.is_empty() {
        let what = "no client is allowed, so none will be answered";
        section.warning(&section.place().clone(), "allow", Wrong::new(what).accepted("prefixes, or \"all\""));
    }
    let local = local::local(&mut section);
    let smear = smear(&mut section, clock);
    let rate_limit = rate_limit(&mut section);
    let client_log = section.field("client-log", values::integer(0..=MAX_CLIENT_LOG)).map_or(0, |found| found.value);
    let threads = section
        .field("threads", values::integer(1..=64_u8))
        .map_or_else(default_threads, |threads| threads.value.into());
    let nts = section.section("nts").and_then(serve_nts);
    section.finish();
    Serve { listen, access: AccessRules { allow, deny }, local, smear, rate_limit, client_log, threads, nts }
}

/// Only a list says in time when a second comes, and says the same all day.
fn smear(section: &mut Section<'_>, clock: &ClockSettings) -> bool {
    let Some(Found { value: true, place }) = section.field("smear", values::boolean) else { return false };
    if clock.leap_file.is_none() || clock.leap == LeapMode::Ignore {
        let wrong = Wrong::new("leap seconds are spread by a list")
            .accepted("beside `leap-file` in [clock], where `leap` is not \"ignore\"");
        section.error(&place, "smear", wrong);
    }
    true
}

fn listen(section: &mut Section<'_>, default_port: u16) -> Vec<SocketAddr> {
    given_addresses(section)
        .unwrap_or_else(|| vec![([0, 0, 0, 0], default_port).into(), ([0_u16; 8], default_port).into()])
}

/// The addresses of `listen`, each of them once; `None` if it is not given.
pub(super) fn given_addresses(section: &mut Section<'_>) -> Option<Vec<SocketAddr>> {
    let given = section.list("listen", MAX_LISTEN, values::listen_address)?;
    let mut seen = BTreeSet::new();
    for Found { value, place } in &given {
        if !seen.insert(*value) {
            section.error(place, "listen", Wrong::new(format!("`{value}` was given before")));
        }
    }
    Some(given.into_iter().map(|found| found.value).collect())
}

fn prefixes(section: &mut Section<'_>, key: &'static str) -> Vec<IpNet> {
    let given = section.list(key, MAX_PREFIXES, values::prefixes).unwrap_or_default();
    given.into_iter().flat_map(|found| found.value).collect()
}

/// `false` is no limit; a table changes the default one.
fn rate_limit(section: &mut Section<'_>) -> Option<RateLimit> {
    let default = RateLimit::DEFAULT;
    let Some(value) = section.raw("rate-limit") else { return Some(default) };
    let table = match value.data {
        Data::Boolean(false) => return None,
        Data::Boolean(true) => return Some(default),
        Data::Table(table) => table,
        other @ (Data::String(_) | Data::Integer(_) | Data::Float(_) | Data::Datetime | Data::Array(_)) => {
            let what = format!("expected a table, found {}", other.kind());
            let accepted = "{ interval = 0, burst = 32, leak = 1, kiss = false }, or false";
            section.error(&value.place, "rate-limit", Wrong::new(what).accepted(accepted));
            return None;
        }
    };
    let mut limit = section.subsection("rate-limit", value.place, table);
    let interval = limit.field("interval", values::poll).map_or(default.interval, |found| found.value);
    let burst = limit.field("burst", values::integer(1..=u8::MAX)).map_or(default.burst, |found| found.value);
    let leak_log2 = limit.field("leak", leak).map_or(default.leak_log2, |found| found.value);
    let kiss = limit.field("kiss", values::boolean).map_or(default.kiss, |found| found.value);
    limit.finish();
    Some(RateLimit { interval, burst, leak_log2, kiss })
}

/// As in chrony, a power of two; `false` answers none.
fn leak(data: &Data) -> Result<Option<u8>, Wrong> {
    if let Data::Boolean(false) = data {
        return Ok(None);
    }
    values::integer(1..=MAX_LEAK)(data).map(Some).map_err(|wrong| wrong.accepted(format!("1 to {MAX_LEAK}, or false")))
}

fn serve_nts(mut section: Section<'_>) -> Option<ServeNts> {
    let listen = listen(&mut section, super::NTS_KE_PORT);
    let certificate = path(section.required("certificate", path_text));
    let private_key = path(section.required("private-key", path_text));
    let ntp_server = section.field("ntp-server", values::host).map(|found| found.value);
    let ntp_port = section.field("ntp-port", values::integer(1..=u16::MAX)).map(|found| found.value);
    let chain = certificate.as_ref().and_then(|Found { value, place }| {
        files::certificates(value).map_err(|wrong| section.error(place, "certificate", wrong)).ok()
    });
    if let (Some(Found { value, place }), Some(chain)) = (&private_key, chain)
        && let Err(wrong) = files::private_key(value, chain)
    {
        section.error(place, "private-key", wrong);
    }
    let pool_tokens = path(section.field("pool-tokens", path_text));
    if let Some(Found { value, place }) = &pool_tokens
        && let Err(wrong) = files::pool_tokens(value)
    {
        section.error(place, "pool-tokens", wrong);
    }
    let cookie_secret = path(section.field("cookie-secret", path_text));
    let period = section.field("cookie-period", values::duration(COOKIE_PERIODS));
    let cookie_period = period.as_ref().map_or(crate::serve::keys::PERIOD, |found| found.value);
    if let Some(Found { value, place }) = &cookie_secret
        && let Err(wrong) = files::cookie_secrets(value, cookie_period)
    {
        section.error(place, "cookie-secret", wrong);
    }
    if let (Some(Found { place, .. }), None) = (&period, &cookie_secret) {
        let wrong = Wrong::new("only keys that are shared follow the time").accepted("beside cookie-secret");
        section.error(place, "cookie-period", wrong);
    }
    let cookie_secret = cookie_secret.map(|file| file.value);
    section.finish();
    let (certificate, private_key) = (certificate?.value, private_key?.value);
    let pool_tokens = pool_tokens.map(|file| file.value);
    Some(ServeNts { listen, certificate, private_key, ntp_server, ntp_port, pool_tokens, cookie_secret, cookie_period })
}
