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
    discipline::StepLimit,
    select::SelectConfig,
    server::{AccessTable, RateLimit},
    time::Rate,
    wire::mac::SymmetricKey,
};

use super::{
    ClockSettings, Config, LeapUse, LogFormat, LogLevel, LogSettings, Serve, ServeNts, Server, control, files, keys,
    observe,
    problem::{Place, Report, Wrong},
    raw::{Data, Table},
    section::{Found, Section},
    sources, trust, values,
};
use crate::serve::default_threads;

const MICROSECOND: Duration = Duration::from_micros(1);
const MILLISECOND: Duration = Duration::from_millis(1);
/// Shortest and longest life of a cookie key that servers share.
const COOKIE_PERIODS: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(30 * 86_400);
const HOUR: Duration = Duration::from_secs(3_600);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Most addresses to listen on.
const MAX_LISTEN: usize = 16;

/// Most prefixes of clients, those allowed and those denied together.
const MAX_PREFIXES: usize = AccessTable::CAPACITY;

/// Largest power of two in `leak`: one in so many refused requests is as good as none.
const MAX_LEAK: u8 = 8;

/// Longest path of a socket (`sun_path` of unix(7), with its final zero).
const MAX_SOCKET_PATH: usize = 107;

/// Most updates after start that may step.
const MAX_STEPS: i64 = 1_000_000;

const DEFAULT_STEP_THRESHOLD: Duration = Duration::from_secs(1);
const DEFAULT_STEPS: StepLimit = StepLimit::Updates(3);

/// Fastest slew, as in chrony: a twelfth of a second a second.
const DEFAULT_MAX_SLEW: Rate = Rate::from_ppm(83_333.333);

/// Largest frequency error of an oscillator (MAXFREQ of RFC 5905).
const DEFAULT_MAX_FREQUENCY: Rate = Rate::from_ppm(500.0);

const DEFAULT_STATE_DIRECTORY: &str = "/var/lib/ntpd";

/// Words for [`LeapUse`].
pub(super) const LEAP: &[(&str, LeapUse)] = &[("system", LeapUse::System), ("ignore", LeapUse::Ignore)];

/// Words for [`LogLevel`].
pub(super) const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// Words for [`LogFormat`].
pub(super) const FORMATS: &[(&str, LogFormat)] = &[
    ("auto", LogFormat::Auto),
    ("text", LogFormat::Text),
    ("json", LogFormat::Json),
    ("journald", LogFormat::Journald),
];

/// Checks a whole configuration; where something is wrong, what is returned means nothing.
pub(super) fn check(table: Table, whole: &Place, report: &Report) -> (Config, Vec<SymmetricKey>) {
    let mut root = Section::new(String::new(), whole.clone(), table, report);
    let pools = sources::pools(root.raw("pool"), report);
    let servers = sources::servers(root.raw("server"), report);
    let (key_file, keys) = root.section("keys").map_or((None, None), |section| key_file(section, report));
    check_keys_of(&servers, key_file.is_some(), keys.as_deref(), report);
    let (control_socket, chronyc) = control::control(root.section("control"));
    let config = Config {
        clock: clock(root.section("clock")),
        serve: root.section("serve").map(serve),
        trust: trust::trust(root.section("trust")),
        key_file,
        state_directory: single(root.section("state"), "directory", path_text, DEFAULT_STATE_DIRECTORY),
        control_socket,
        chronyc,
        observe: observe::observe(root.section("observe")),
        log: log(root.section("log")),
        pools,
        servers: servers.into_iter().map(|found| found.value).collect(),
    };
    if config.pools.is_empty() && config.servers.is_empty() {
        let what = "no source of time, the clock will not be set";
        report.warning(whole, "", Wrong::new(what).accepted("for example `pool = \"time.example\"`"));
    }
    // A second `remove` belongs to the file it stands in; what is left here is none.
    root.finish();
    (config, keys.unwrap_or_default())
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

fn clock(section: Option<Section<'_>>) -> ClockSettings {
    let limits = SelectConfig::default();
    let mut settings = ClockSettings {
        step_threshold: DEFAULT_STEP_THRESHOLD,
        step_limit: DEFAULT_STEPS,
        max_slew_rate: DEFAULT_MAX_SLEW,
        max_frequency: DEFAULT_MAX_FREQUENCY,
        select: limits,
        leap: LeapUse::System,
    };
    let Some(mut section) = section else { return settings };
    if let Some(mut step) = section.section("step") {
        let threshold = step.field("threshold", values::duration(MICROSECOND..=YEAR));
        settings.step_threshold = threshold.map_or(DEFAULT_STEP_THRESHOLD, |found| found.value);
        settings.step_limit = step.field("updates", step_limit).map_or(DEFAULT_STEPS, |found| found.value);
        step.finish();
    }
    let mut rate = |key, default| section.field(key, values::ppm(1.0..=100_000.0)).map_or(default, |rate| rate.value);
    settings.max_slew_rate = rate("max-slew-rate", DEFAULT_MAX_SLEW);
    settings.max_frequency = rate("max-frequency", DEFAULT_MAX_FREQUENCY);
    let mut seconds = |key, default| {
        let found = section.field(key, values::duration(MILLISECOND..=HOUR));
        found.map_or(default, |found: Found<Duration>| found.value.as_secs_f64())
    };
    settings.select.max_distance = seconds("max-distance", limits.max_distance);
    settings.select.max_jitter = seconds("max-jitter", limits.max_jitter);
    let min_sources = section.field("min-sources", values::integer(1..=16_u8));
    settings.select.min_sources = min_sources.map_or(limits.min_sources, |found| found.value.into());
    settings.leap = section.field("leap", values::word(LEAP)).map_or(LeapUse::System, |found| found.value);
    section.finish();
    settings
}

fn step_limit(data: &Data) -> Result<StepLimit, Wrong> {
    let accepted = |wrong: Wrong| wrong.accepted(format!("0 to {MAX_STEPS}, or \"always\""));
    match data {
        Data::String(word) if word == "always" => Ok(StepLimit::Always),
        Data::Integer(updates) if (0..=MAX_STEPS).contains(updates) => {
            Ok(StepLimit::Updates(u32::try_from(*updates).unwrap_or_default()))
        }
        Data::Integer(updates) => Err(accepted(Wrong::new(format!("{updates} is out of range")))),
        Data::String(word) => Err(accepted(Wrong::new(format!("unknown value `{word}`")))),
        Data::Float(_) | Data::Boolean(_) | Data::Datetime | Data::Array(_) | Data::Table(_) => {
            Err(accepted(Wrong::new(format!("expected an integer, found {}", data.kind()))))
        }
    }
}

fn serve(mut section: Section<'_>) -> Serve {
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
    let rate_limit = rate_limit(&mut section);
    let threads = section
        .field("threads", values::integer(1..=64_u8))
        .map_or_else(default_threads, |threads| threads.value.into());
    let nts = section.section("nts").and_then(serve_nts);
    section.finish();
    Serve { listen, allow, deny, rate_limit, threads, nts }
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

fn log(section: Option<Section<'_>>) -> LogSettings {
    let mut settings = LogSettings { level: LogLevel::Info, format: LogFormat::Auto };
    let Some(mut section) = section else { return settings };
    settings.level = section.field("level", values::word(LEVELS)).map_or(settings.level, |found| found.value);
    settings.format = section.field("format", values::word(FORMATS)).map_or(settings.format, |found| found.value);
    section.finish();
    settings
}
