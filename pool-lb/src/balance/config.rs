//! The balancer's own file.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use ntp_proto::pool::Name;
use ntp_proto::time::UnixTime;
use nts_ke::admission::Limits;
use pool_srv::{
    directory::{MAX_SERVERS, Problem, ZoneSource, read_toml},
    tsig::TsigKey,
};
use serde::Deserialize;
use toml::Spanned;

use super::now;

/// Most threads that serve users.
pub const MAX_WORKERS: usize = 64;

/// Most connections of users at a time that can be asked for.
const MAX_CONNECTIONS: usize = 1 << 20;

/// Where the last list of a zone is kept, unless the configuration says so: the unit may write nothing else that stays.
const STATE_FOLDER: &str = "/var/lib/nts-pool-lb";

/// Where roots of trust for members come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// The system's store.
    #[default]
    System,
    /// The file alone.
    File,
    /// Both.
    Both,
}

/// What users are told of where their member serves time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandOut {
    /// Its name, which they look up.
    #[default]
    Name,
    /// An address of the family by which they came, if the directory has one.
    Address,
}

/// How members are probed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probing {
    /// How often each is; never if zero.
    pub interval: Duration,
    /// How far its clock may be from ours, in seconds.
    pub max_offset: f64,
}

/// A zone that says who belongs to the pool.
#[derive(Clone, Debug)]
pub struct ZoneMembers {
    /// The zone.
    pub name: Name,
    /// Its name servers.
    pub servers: Vec<SocketAddr>,
    /// The key that it is transferred with.
    pub tsig_key: PathBuf,
    /// The file that keeps the last list.
    pub list: PathBuf,
}

impl ZoneMembers {
    /// Where it is had from, with the key as it is now.
    ///
    /// # Errors
    ///
    /// [`Problem`] of the key's file.
    pub fn source(&self) -> Result<ZoneSource, Problem> {
        let key = TsigKey::load(&self.tsig_key)?;
        Ok(ZoneSource { name: self.name.clone(), servers: self.servers.clone(), key })
    }
}

/// What the balancer is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where users connect.
    pub listen: Vec<SocketAddr>,
    /// The pool's certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub private_key: PathBuf,
    /// The member directory.
    pub members: PathBuf,
    /// Who says which of them belong to the pool, if that is not the file itself.
    pub zone: Option<ZoneMembers>,
    /// Who vouches for members.
    pub trust: Trust,
    /// Certificates of that.
    pub trust_file: Option<PathBuf>,
    /// Threads that serve users.
    pub workers: usize,
    /// Who may have how many connections; `total` is for each worker.
    pub limits: Limits,
    /// Whose connections begin with a PROXY header.
    pub proxies: Vec<IpNet>,
    /// What users are told of members that name no server themselves.
    pub hand_out: HandOut,
    /// Whether users may be sent to internal addresses, and members may have some.
    pub allow_private: bool,
    /// A file whose secret all nodes of the balancer share, for TLS tickets.
    pub ticket_secret: Option<PathBuf>,
    /// Where the verdict on members is published.
    pub health_file: Option<PathBuf>,
    /// Verdicts of others that count too.
    pub health_from: Vec<PathBuf>,
    /// Probes.
    pub probing: Probing,
    /// Where `list`, `why` and `drain` connect.
    pub control_socket: PathBuf,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// The time of day at which certificates, tickets and members are judged: the kernel's. No file sets it.
    pub time_of_day: fn() -> UnixTime,
}

impl Config {
    /// That time in whole seconds since 1970.
    pub(super) fn unix_seconds(&self) -> u64 {
        u64::try_from((self.time_of_day)().seconds).unwrap_or(0)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Raw {
    listen: Option<Vec<Spanned<String>>>,
    certificate: PathBuf,
    private_key: PathBuf,
    members: PathBuf,
    zone: Option<RawZone>,
    #[serde(default)]
    trust: Trust,
    trust_file: Option<Spanned<PathBuf>>,
    workers: Option<Spanned<usize>>,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    proxies: Vec<Spanned<String>>,
    #[serde(default)]
    hand_out: HandOut,
    #[serde(default)]
    allow_private: bool,
    ticket_secret: Option<PathBuf>,
    health_file: Option<PathBuf>,
    #[serde(default)]
    health_from: Vec<PathBuf>,
    #[serde(default)]
    probe: RawProbe,
    control_socket: Option<PathBuf>,
    metrics: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawZone {
    name: Spanned<String>,
    servers: Spanned<Vec<Spanned<String>>>,
    tsig_key: PathBuf,
    list: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawLimits {
    connections: Option<Spanned<usize>>,
    per_host: Option<Spanned<usize>>,
    per_network: Option<Spanned<usize>>,
    burst: Option<Spanned<u32>>,
    interval: Option<Spanned<f64>>,
    #[serde(default)]
    loopback: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawProbe {
    interval: Option<Spanned<f64>>,
    max_offset: Option<Spanned<f64>>,
}

/// Reads the file. Files that it names are meant relative to its own folder.
///
/// # Errors
///
/// [`Problem`] with the line of the first mistake.
pub fn load(path: &Path) -> Result<Config, Problem> {
    let (raw, text) = read_toml::<Raw>(path)?;
    Reader { path, text: &text }.config(raw)
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn wrong<T>(&self, value: &Spanned<T>, what: String) -> Problem {
        Problem::at(self.path, self.text, value.span().start, what)
    }

    fn file(&self, named: &Path) -> PathBuf {
        self.path.parent().unwrap_or_else(|| Path::new("")).join(named)
    }

    fn address(&self, text: &Spanned<String>, key: &str) -> Result<SocketAddr, Problem> {
        text.get_ref().parse().map_err(|_| {
            let given = text.get_ref();
            self.wrong(
                text,
                format!(
                    "{key}: {given:?} is no address with port; accepted: such as \"192.0.2.1:4460\" or \"[::]:4460\""
                ),
            )
        })
    }

    fn number<T: Copy + PartialOrd + std::fmt::Display>(
        &self,
        value: Option<&Spanned<T>>,
        key: &str,
        (least, most): (T, T),
        default: T,
    ) -> Result<T, Problem> {
        let Some(value) = value else { return Ok(default) };
        let given = *value.get_ref();
        if given >= least && given <= most {
            return Ok(given);
        }
        Err(self.wrong(value, format!("{key} = {given} is out of range; accepted: {least} to {most}")))
    }

    fn config(&self, raw: Raw) -> Result<Config, Problem> {
        let listen = match &raw.listen {
            None => vec![SocketAddr::from(([0; 4], 4460)), SocketAddr::from(([0_u16; 8], 4460))],
            Some(texts) => texts.iter().map(|text| self.address(text, "listen")).collect::<Result<_, _>>()?,
        };
        if listen.is_empty() {
            return Err(Problem::whole(self.path, "listen is empty; accepted: one address with port at least"));
        }
        match (raw.trust, &raw.trust_file) {
            (Trust::System, Some(file)) => {
                return Err(self.wrong(file, "trust-file is not used; accepted: trust = \"file\" or \"both\"".into()));
            }
            (Trust::File | Trust::Both, None) => {
                return Err(Problem::whole(self.path, "trust = \"file\" and \"both\" need trust-file"));
            }
            (Trust::System, None) | (Trust::File | Trust::Both, Some(_)) => {}
        }
        let proxies = raw.proxies.iter().map(|text| {
            text.get_ref().parse::<IpNet>().map_err(|_| {
                let given = text.get_ref();
                self.wrong(text, format!("proxies: {given:?} is no prefix; accepted: such as \"192.0.2.0/24\""))
            })
        });
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
        let workers = self.number(raw.workers.as_ref(), "workers", (1, MAX_WORKERS), cores)?;
        let metrics = raw.metrics.as_ref().map(|text| self.address(text, "metrics")).transpose()?;
        Ok(Config {
            listen,
            certificate: self.file(&raw.certificate),
            private_key: self.file(&raw.private_key),
            members: self.file(&raw.members),
            zone: raw.zone.as_ref().map(|zone| self.zone(zone)).transpose()?,
            trust: raw.trust,
            trust_file: raw.trust_file.as_ref().map(|file| self.file(file.get_ref())),
            workers,
            limits: self.limits(&raw.limits, workers)?,
            proxies: proxies.collect::<Result<_, _>>()?,
            hand_out: raw.hand_out,
            allow_private: raw.allow_private,
            ticket_secret: raw.ticket_secret.as_deref().map(|file| self.file(file)),
            health_file: raw.health_file.as_deref().map(|file| self.file(file)),
            health_from: raw.health_from.iter().map(|file| self.file(file)).collect(),
            probing: self.probing(&raw.probe)?,
            control_socket: self
                .file(raw.control_socket.as_deref().unwrap_or_else(|| Path::new("/run/nts-pool-lb/control.sock"))),
            metrics,
            time_of_day: now::unix,
        })
    }

    fn zone(&self, raw: &RawZone) -> Result<ZoneMembers, Problem> {
        let name = Name::parse(raw.name.get_ref()).ok().filter(|name| name.address().is_none()).ok_or_else(|| {
            let what = format!("name: {:?} is not a name; accepted: such as \"time.example\"", raw.name.get_ref());
            self.wrong(&raw.name, what)
        })?;
        let server = |text: &Spanned<String>| {
            let given = text.get_ref();
            let alone = given.parse::<IpAddr>().ok().map(|address| (address, 53).into());
            let accepted = "accepted: such as \"192.0.2.53\" or \"[2001:db8::53]:5300\"";
            let what = || format!("servers: {given:?} is no address; {accepted}");
            given.parse().ok().or(alone).ok_or_else(|| self.wrong(text, what()))
        };
        let servers = raw.servers.get_ref();
        if servers.is_empty() || servers.len() > MAX_SERVERS {
            let what = format!("servers: {} addresses; accepted: 1 to {MAX_SERVERS}", servers.len());
            return Err(self.wrong(&raw.servers, what));
        }
        let servers = servers.iter().map(server).collect::<Result<_, _>>()?;
        let kept = || Path::new(STATE_FOLDER).join(format!("{name}.members"));
        let list = raw.list.as_ref().map_or_else(kept, |list| self.file(list));
        Ok(ZoneMembers { name, servers, tsig_key: self.file(&raw.tsig_key), list })
    }

    fn limits(&self, raw: &RawLimits, workers: usize) -> Result<Limits, Problem> {
        let many = (1, MAX_CONNECTIONS);
        let connections = self.number(raw.connections.as_ref(), "connections", many, 4096)?;
        let interval = self.number(raw.interval.as_ref(), "interval", (0.0, 3600.0), 1.0)?;
        Ok(Limits {
            total: connections.div_ceil(workers),
            // Many users may share one address behind a translator.
            host: self.number(raw.per_host.as_ref(), "per-host", many, 16)?,
            network: self.number(raw.per_network.as_ref(), "per-network", many, 256)?,
            interval: Duration::from_secs_f64(interval),
            burst: self.number(raw.burst.as_ref(), "burst", (1, 1_000_000), 32)?,
            limit_loopback: raw.loopback,
        })
    }

    fn probing(&self, raw: &RawProbe) -> Result<Probing, Problem> {
        let interval = self.number(raw.interval.as_ref(), "interval", (0.0, 86_400.0), 60.0)?;
        let max_offset = self.number(raw.max_offset.as_ref(), "max-offset", (0.001, 10.0), 0.1)?;
        Ok(Probing { interval: Duration::from_secs_f64(interval), max_offset })
    }
}

#[cfg(test)]
mod tests;
