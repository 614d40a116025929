//! The configuration file.

use core::time::Duration;
use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use ntp_proto::pool::Name;
use serde::Deserialize;
use toml::Spanned;

use super::{
    answer::MAX_ZONES, cookie::CookieSecrets, limit::LimitSettings, name::WireName, targets::TARGETS,
    zone::ZoneSettings,
};
use crate::{
    directory::{Problem, from_toml, read, read_secret},
    tsig::TsigKey,
};

/// The file that is read if none is named.
pub const DEFAULT_FILE: &str = "/etc/nts-pool/nts-pool-srv.toml";

/// Where it is kept what was published, unless the configuration says so: the unit of `publish` may write nothing else.
const STATE_FOLDER: &str = "/var/lib/nts-pool";

/// Most name servers of a zone, and most addresses of one name.
const MAX_HOSTS: usize = 16;

/// Most keys of a zone: that which signs, and those that will or did.
const MAX_KEYS: usize = 4;

/// Most keys by which a zone is handed over.
const MAX_TRANSFER_KEYS: usize = 64;

/// Most addresses to listen on.
const MAX_LISTEN: usize = 32;

/// Most connections by TCP that can be asked for.
const MAX_CONNECTIONS: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawConfig {
    listen: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    zone: Vec<Spanned<RawZone>>,
    #[serde(default)]
    limit: RawLimit,
    #[serde(default)]
    cookies: RawCookies,
    #[serde(default)]
    tcp: RawTcp,
    #[serde(default)]
    observe: RawObserve,
    #[serde(default)]
    log: RawLog,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawZone {
    name: Spanned<String>,
    members: PathBuf,
    key: Option<PathBuf>,
    #[serde(default)]
    standby_keys: Vec<Spanned<PathBuf>>,
    health: Option<PathBuf>,
    #[serde(default)]
    name_servers: Vec<Spanned<RawHost>>,
    #[serde(default)]
    addresses: Vec<Spanned<String>>,
    contact: Option<Spanned<String>>,
    targets: Option<Spanned<usize>>,
    ttl: Option<Spanned<String>>,
    negative_ttl: Option<Spanned<String>>,
    cds: Option<bool>,
    #[serde(default)]
    list: bool,
    #[serde(default)]
    transfer_keys: Vec<Spanned<PathBuf>>,
    #[serde(default)]
    signatures: RawSignatures,
    publish: Option<RawPublish>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawHost {
    name: Spanned<String>,
    #[serde(default)]
    addresses: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawSignatures {
    valid: Option<Spanned<String>>,
    backdated: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawPublish {
    server: Spanned<String>,
    tsig_key: Spanned<PathBuf>,
    state: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawLimit {
    responses_per_second: Option<Spanned<u32>>,
    slip: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawCookies {
    secret_file: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawTcp {
    connections: Option<Spanned<usize>>,
    idle: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawObserve {
    listen: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawLog {
    level: Option<Spanned<String>>,
}

/// How queries by TCP are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSettings {
    /// Most connections at a time.
    pub connections: usize,
    /// How long a connection may say nothing.
    pub idle: Duration,
}

/// Where a zone of somebody else's server is updated.
#[derive(Clone, Debug)]
pub struct PublishSettings {
    /// The server.
    pub server: SocketAddr,
    /// What shows it who we are.
    pub key: TsigKey,
    /// The file that says what was published.
    pub state: PathBuf,
}

/// One zone.
#[derive(Clone, Debug)]
pub struct ZoneConfig {
    /// What it holds.
    pub settings: ZoneSettings,
    /// The file of the key that signs it; `None` for a zone that is not served here.
    pub key: Option<PathBuf>,
    /// Files of keys that are announced only.
    pub standby: Vec<PathBuf>,
    /// Where the balancer's report on members is.
    pub health: Option<PathBuf>,
    /// How long signatures are good.
    pub valid: Duration,
    /// How far before they are made they begin, for clients whose clocks are slow.
    pub backdated: Duration,
    /// Where it is published.
    pub publish: Option<PublishSettings>,
}

/// All settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file they are from.
    pub file: PathBuf,
    /// Addresses to answer at.
    pub listen: Vec<SocketAddr>,
    /// Answers that a prefix gets by UDP.
    pub limit: LimitSettings,
    /// The secrets behind cookies, if servers share them.
    pub cookie_secrets: Option<CookieSecrets>,
    /// Queries by TCP.
    pub tcp: TcpSettings,
    /// Where counters can be read.
    pub observe: Option<SocketAddr>,
    /// What is logged: error, warn, info, debug or trace.
    pub log_level: String,
    /// The zones.
    pub zones: Vec<ZoneConfig>,
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Config {
    /// Reads the file, and the secrets that it names. Files are meant relative to its own folder.
    ///
    /// # Errors
    ///
    /// [`Problem`] with the line of the first mistake.
    pub fn load(path: &Path) -> Result<Self, Problem> {
        let text = read(path).map_err(|error| Problem::unreadable(path, &error))?;
        Self::parse(path, &text)
    }

    /// Takes the settings from the file's text.
    ///
    /// # Errors
    ///
    /// [`Problem`] with the line of the first mistake.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Problem> {
        let raw: RawConfig = from_toml(path, text)?;
        let reader = Reader { path, text };
        if raw.zone.is_empty() || raw.zone.len() > MAX_ZONES {
            let what = format!("{} zones; accepted: 1 to {MAX_ZONES} [[zone]] tables", raw.zone.len());
            return Err(Problem::whole(path, what));
        }
        let mut zones: Vec<ZoneConfig> = Vec::new();
        for zone in raw.zone {
            let name = zone.get_ref().name.clone();
            let zone = reader.zone(zone.into_inner())?;
            if zones.iter().any(|other| other.settings.name == zone.settings.name) {
                return Err(reader.wrong(&name, format!("zone {} is there already", zone.settings.name)));
            }
            // The upper one would prove that the lower one does not exist.
            let lies_in =
                |a: &ZoneConfig, b: &ZoneConfig| a.settings.origin().relative_to(&b.settings.origin()).is_some();
            let nested = |other: &&ZoneConfig| lies_in(&zone, other) || lies_in(other, &zone);
            if let Some(other) = zones.iter().find(nested) {
                let what = format!("zones {} and {} lie in each other", zone.settings.name, other.settings.name);
                return Err(reader.wrong(&name, format!("{what}; accepted: names beside each other")));
            }
            zones.push(zone);
        }
        let socket = |text: &Spanned<String>| reader.socket(text, 53);
        let listen = match &raw.listen {
            None => vec![SocketAddr::from(([0, 0, 0, 0], 53)), SocketAddr::from(([0_u16; 8], 53))],
            Some(listen) => listen.iter().take(MAX_LISTEN).map(socket).collect::<Result<_, _>>()?,
        };
        if listen.is_empty() {
            return Err(Problem::whole(path, "listen is empty; accepted: such as [\"192.0.2.53:53\"]"));
        }
        Ok(Self {
            file: path.to_owned(),
            listen,
            limit: reader.limit(&raw.limit)?,
            cookie_secrets: raw.cookies.secret_file.as_ref().map(|file| reader.cookie_secrets(file)).transpose()?,
            tcp: reader.tcp(&raw.tcp)?,
            observe: raw.observe.listen.as_ref().map(|text| reader.socket(text, 9_976)).transpose()?,
            log_level: reader.log_level(raw.log.level.as_ref())?,
            zones,
        })
    }
}

impl Reader<'_> {
    fn wrong<T>(&self, value: &Spanned<T>, what: String) -> Problem {
        Problem::at(self.path, self.text, value.span().start, what)
    }

    fn file(&self, name: &Path) -> PathBuf {
        self.path.parent().unwrap_or_else(|| Path::new("")).join(name)
    }

    fn name(&self, text: &Spanned<String>) -> Result<Name, Problem> {
        Name::parse(text.get_ref()).ok().filter(|name| name.address().is_none()).ok_or_else(|| {
            self.wrong(text, format!("{:?} is not a name; accepted: such as \"time.example\"", text.get_ref()))
        })
    }

    fn address(&self, text: &Spanned<String>) -> Result<IpAddr, Problem> {
        let what = || format!("{:?} is not an address; accepted: such as \"192.0.2.1\"", text.get_ref());
        text.get_ref().parse().map_err(|_| self.wrong(text, what()))
    }

    fn addresses(&self, texts: &[Spanned<String>]) -> Result<Vec<IpAddr>, Problem> {
        if let Some(beyond) = texts.get(MAX_HOSTS) {
            return Err(self.wrong(beyond, format!("more than {MAX_HOSTS} addresses of one name")));
        }
        texts.iter().map(|text| self.address(text)).collect()
    }

    fn socket(&self, text: &Spanned<String>, port: u16) -> Result<SocketAddr, Problem> {
        let given = text.get_ref();
        let alone = || given.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|address| (address, port).into());
        given.parse().ok().or_else(alone).ok_or_else(|| {
            self.wrong(
                text,
                format!(
                    "{given:?} is not an address and port; accepted: such as \"192.0.2.53:53\" or \"[2001:db8::53]:53\""
                ),
            )
        })
    }

    /// A length of time between two bounds, in seconds.
    fn span(
        &self,
        text: Option<&Spanned<String>>,
        default: u64,
        (least, most): (u64, u64),
    ) -> Result<Duration, Problem> {
        let Some(text) = text else { return Ok(Duration::from_secs(default)) };
        let accepted = format!("accepted: \"{least}s\" to \"{most}s\", with the unit s, m, h or d");
        let span = duration(text.get_ref()).filter(|span| (least..=most).contains(&span.as_secs()));
        span.ok_or_else(|| self.wrong(text, format!("{:?} does not do; {accepted}", text.get_ref())))
    }

    fn zone(&self, raw: RawZone) -> Result<ZoneConfig, Problem> {
        let name = self.name(&raw.name)?;
        let origin = WireName::of(&name);
        let servers = raw.name_servers.iter().take(MAX_HOSTS);
        let name_servers = servers.map(|host| self.host(&origin, host)).collect::<Result<Vec<_>, _>>()?;
        if raw.key.is_some() && name_servers.is_empty() {
            let accepted = "accepted: such as name-servers = [{ name = \"ns1.example\" }]";
            return Err(self.wrong(&raw.name, format!("zone {name} is served and has no name-servers; {accepted}")));
        }
        if let Some(beyond) = raw.standby_keys.get(MAX_KEYS - 1) {
            return Err(self.wrong(beyond, format!("more than {} standby-keys", MAX_KEYS - 1)));
        }
        if let (None, Some(file)) = (&raw.key, raw.transfer_keys.first()) {
            let accepted = "accepted: together with key";
            return Err(self.wrong(file, format!("transfer-keys: zone {name} is not served here; {accepted}")));
        }
        let targets = match &raw.targets {
            None => 6,
            Some(targets) if TARGETS.contains(targets.get_ref()) => *targets.get_ref(),
            Some(targets) => {
                let what = format!("targets must be {} to {}", TARGETS.start(), TARGETS.end());
                return Err(self.wrong(targets, what));
            }
        };
        let day = 86_400;
        let seconds = |span: Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
        let settings = ZoneSettings {
            contact: self.contact(&name, raw.contact.as_ref())?,
            name,
            name_servers,
            addresses: self.addresses(&raw.addresses)?,
            targets,
            ttl: seconds(self.span(raw.ttl.as_ref(), 300, (30, day))?),
            negative_ttl: seconds(self.span(raw.negative_ttl.as_ref(), 60, (10, 3_600))?),
            cds: raw.cds.unwrap_or(true),
            // Without the list there is nothing to transfer it for.
            list: raw.list || !raw.transfer_keys.is_empty(),
            transfer_keys: self.transfer_keys(&raw.transfer_keys)?,
            members: self.file(&raw.members),
        };
        let publish = match &raw.publish {
            None => None,
            Some(publish) => Some(PublishSettings {
                state: match &publish.state {
                    Some(file) => self.file(file),
                    None => Path::new(STATE_FOLDER).join(format!("{}.published", settings.name)),
                },
                server: self.socket(&publish.server, 53)?,
                key: self.tsig_key(&publish.tsig_key)?,
            }),
        };
        Ok(ZoneConfig {
            settings,
            key: raw.key.map(|key| self.file(&key)),
            standby: raw.standby_keys.iter().map(|key| self.file(key.get_ref())).collect(),
            health: raw.health.map(|health| self.file(&health)),
            valid: self.span(raw.signatures.valid.as_ref(), 12 * day, (2 * day, 60 * day))?,
            backdated: self.span(raw.signatures.backdated.as_ref(), 2 * day, (3_600, 30 * day))?,
            publish,
        })
    }

    fn transfer_keys(&self, files: &[Spanned<PathBuf>]) -> Result<Vec<TsigKey>, Problem> {
        let mut keys: Vec<TsigKey> = Vec::new();
        for (file, place) in files.iter().zip(0..) {
            let key = self.tsig_key(file)?;
            if place == MAX_TRANSFER_KEYS {
                return Err(self.wrong(file, format!("more than {MAX_TRANSFER_KEYS} transfer-keys")));
            }
            if keys.iter().any(|other| other.name == key.name) {
                return Err(self.wrong(file, format!("key {} is there already; accepted: a name for each", key.name)));
            }
            keys.push(key);
        }
        Ok(keys)
    }

    fn tsig_key(&self, file: &Spanned<PathBuf>) -> Result<TsigKey, Problem> {
        TsigKey::load(&self.file(file.get_ref())).map_err(|problem| self.wrong(file, problem.to_string()))
    }

    fn host(&self, zone: &WireName, host: &Spanned<RawHost>) -> Result<(Name, Vec<IpAddr>), Problem> {
        let host = host.get_ref();
        let name = self.name(&host.name)?;
        let addresses = self.addresses(&host.addresses)?;
        if WireName::of(&name) == *zone {
            let what = format!("name server {name} is the zone itself, whose addresses are the balancer's");
            return Err(self.wrong(&host.name, format!("{what}; accepted: another name, such as \"ns1.{name}\"")));
        }
        let within = WireName::of(&name).relative_to(zone).is_some();
        let what = match (within, addresses.is_empty()) {
            (true, true) => "lies in the zone and needs addresses; accepted: such as addresses = [\"192.0.2.53\"]",
            (false, false) => "does not lie in the zone; its addresses belong into the zone that it lies in",
            _ => return Ok((name, addresses)),
        };
        Err(self.wrong(&host.name, format!("name server {name} {what}")))
    }

    /// The mailbox: as a name, or as a mail address without dots in front of the `@`.
    fn contact(&self, zone: &Name, text: Option<&Spanned<String>>) -> Result<Name, Problem> {
        let default = || Name::parse(&format!("hostmaster.{zone}")).unwrap_or_else(|_| zone.clone());
        let Some(text) = text else { return Ok(default()) };
        let given = text.get_ref();
        let dotted = given.split_once('@').is_some_and(|(local, _)| local.contains('.'));
        let name = Name::parse(&given.replacen('@', ".", 1)).ok().filter(|_| !dotted);
        let accepted = "accepted: such as \"hostmaster@example\", without dots in front of the @";
        name.ok_or_else(|| self.wrong(text, format!("{given:?} does not do as contact; {accepted}")))
    }

    fn limit(&self, raw: &RawLimit) -> Result<LimitSettings, Problem> {
        let rate = match &raw.responses_per_second {
            None => 200,
            Some(rate) if *rate.get_ref() <= 1_000_000 => *rate.get_ref(),
            Some(rate) => {
                let what = "responses-per-second must be 1 to 1000000, or 0 for no limit".to_owned();
                return Err(self.wrong(rate, what));
            }
        };
        Ok(LimitSettings { rate, slip: raw.slip.unwrap_or(2) })
    }

    fn cookie_secrets(&self, file: &Spanned<PathBuf>) -> Result<CookieSecrets, Problem> {
        let path = self.file(file.get_ref());
        let text = read_secret(&path).map_err(|problem| self.wrong(file, problem.to_string()))?;
        CookieSecrets::parse(&text).map_err(|what| self.wrong(file, format!("{}: {what}", path.display())))
    }

    fn tcp(&self, raw: &RawTcp) -> Result<TcpSettings, Problem> {
        let connections = match &raw.connections {
            None => 256,
            Some(count) if (8..=MAX_CONNECTIONS).contains(count.get_ref()) => *count.get_ref(),
            Some(count) => return Err(self.wrong(count, format!("connections must be 8 to {MAX_CONNECTIONS}"))),
        };
        Ok(TcpSettings { connections, idle: self.span(raw.idle.as_ref(), 10, (1, 120))? })
    }

    fn log_level(&self, level: Option<&Spanned<String>>) -> Result<String, Problem> {
        let Some(level) = level else { return Ok("info".to_owned()) };
        let known = ["error", "warn", "info", "debug", "trace"].contains(&level.get_ref().as_str());
        let what = || format!("unknown level {:?}; accepted: error, warn, info, debug, trace", level.get_ref());
        if known { Ok(level.get_ref().clone()) } else { Err(self.wrong(level, what())) }
    }
}

/// Takes a length of time such as `90s`, `5m`, `1h` or `2d`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(unit)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests;
