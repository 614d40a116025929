//! `ntpd.toml`: what it may say, as plain typed data.
//!
//! A file goes through three steps: `raw` reads it into a tree that knows the place of every value, and merges the
//! trees of several files; `check` turns the tree into a [`Config`], or into a complete list of [`Problem`]s;
//! `explain` writes a [`Config`] back as a file in which nothing is left to defaults.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clock_control::{RxFilter, refclock::Driver};
use ipnet::IpNet;
use ntp_proto::{
    bootstrap::Policy,
    discipline::{ChangeLimit, LeapMode, StepLimit},
    ids::{KeyId, Trust},
    nts::AeadAlgorithm,
    pool::Name,
    refclock::RefclockConfig,
    select::{SelectConfig, SelectOptions},
    server::{LocalConfig, RateLimit},
    source::SampleRules,
    time::{PollInterval, Rate},
    wire::mac::SymmetricKey,
};

mod access;
mod amend;
mod check;
mod clock;
mod control;
mod explain;
mod files;
mod hwtimestamp;
mod keys;
mod local;
mod logging;
mod observe;
mod options;
mod problem;
mod raw;
mod refclock;
mod section;
mod sources;
mod suggest;
#[cfg(test)]
mod tests;
mod trust;
mod values;

use crate::{log_files::LogFiles, observe::chronyc::Access};

pub(crate) use local::{STRATA, local_time};
pub(crate) use options::{DELAYS, DEVIATIONS, MAX_CORRECTION, RATIOS};

pub use access::{AccessChange, AccessRules};
pub use amend::{AddFault, Added, Amendments};
pub use files::{Origin, load, load_trust, parse_sources, standard_exists};
pub(crate) use files::{SOURCE_DIRECTORIES, certificates, cookie_secrets, list, read_text};
pub use problem::{Place, Problem, Problems, Wrong};
pub(crate) use values::{show_duration, show_signed_seconds};

/// The port of NTP (RFC 5905).
pub const NTP_PORT: u16 = 123;

/// The port of NTS key exchange (RFC 8915 section 7.1).
pub const NTS_KE_PORT: u16 = 4460;

/// Most `[[pool]]` entries.
pub const MAX_POOLS: usize = 16;

/// Most `[[server]]` entries.
pub const MAX_SERVERS: usize = 64;

/// Most `[[refclock]]` entries.
pub const MAX_REFCLOCKS: usize = 10;

/// Most entries of `hwtimestamp`.
pub const MAX_INTERFACES: usize = 64;

/// Most directories of files with sources, as in chrony.
pub const MAX_SOURCE_DIRECTORIES: usize = 10;

/// What NTS may use unless the file says otherwise. AES-SIV-CMAC-256 leads because every server has it and all derive its
/// keys alike; AES-128-GCM-SIV saves octets, but many servers derive its keys in a way of their own, which costs a refused
/// request; AES-SIV-CMAC-512 costs longer cookies for a strength that nobody needs of a timestamp.
pub const DEFAULT_AEADS: [AeadAlgorithm; 3] =
    [AeadAlgorithm::AesSivCmac256, AeadAlgorithm::AesGcmSiv128, AeadAlgorithm::AesSivCmac512];

/// Most name servers of `[trust]`.
pub const MAX_RESOLVERS: usize = 3;

/// Everything a configuration says, with defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Names that stand for several servers.
    pub pools: Vec<Pool>,
    /// Single servers.
    pub servers: Vec<Server>,
    /// Devices of this machine that have the time.
    pub refclocks: Vec<Refclock>,
    /// Interfaces that stamp packets.
    pub hwtimestamp: Vec<HwTimestamp>,
    /// Directories of files with more pools and servers, which come and go; at most [`MAX_SOURCE_DIRECTORIES`].
    pub source_directories: Vec<PathBuf>,
    /// How the clock is set.
    pub clock: ClockSettings,
    /// What is served, if anything.
    pub serve: Option<Serve>,
    /// What certificates are judged by.
    pub trust: TrustSettings,
    /// File with symmetric keys.
    pub key_file: Option<PathBuf>,
    /// Where state is kept over a restart.
    pub state_directory: PathBuf,
    /// Where `ntpctl` finds the daemon.
    pub control_socket: PathBuf,
    /// Where chronyc does; `None` if it is not answered.
    pub chronyc: Option<ChronycSettings>,
    /// Where metrics and the page are served; nowhere if there is none.
    pub observe: Vec<SocketAddr>,
    /// What is logged, and how.
    pub log: LogSettings,
    /// What measurements are written to files, if any are.
    pub log_files: Option<LogFiles>,
}

/// A valid configuration and what came with it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The keys of [`Config::key_file`].
    pub keys: Vec<SymmetricKey>,
    /// What is allowed, but probably not meant.
    pub warnings: Vec<Problem>,
}

/// A name that stands for several servers.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// The name.
    pub name: Name,
    /// How the name is turned into servers.
    pub mode: PoolModeName,
    /// How many servers are wanted, 1 to [`ntp_proto::pool::MAX_MEMBERS`].
    pub count: usize,
    /// Whether NTS is used.
    pub nts: NtsUse,
    /// Port for plain NTP.
    pub port: u16,
    /// Port for key exchange.
    pub ke_port: u16,
    /// Where the name leads, for when DNS does not tell.
    pub address_hints: Vec<IpAddr>,
    /// What must vouch for each of the servers.
    pub require: Require,
    /// How each of the servers is asked.
    pub options: SourceOptions,
}

/// A device of this machine that has the time, or a program that reads one.
#[derive(Clone, Debug, PartialEq)]
pub struct Refclock {
    /// What it is and where.
    pub driver: Driver,
    /// What is made of what it says.
    pub config: RefclockConfig,
}

/// An interface that is to stamp packets.
#[derive(Clone, Debug, PartialEq)]
pub struct HwTimestamp {
    /// Its name, or `*` for all that can.
    pub interface: String,
    /// Which received packets it stamps; those that suit NTP best, if `None`.
    pub rx_filter: Option<RxFilter>,
    /// Time between two comparisons of its clock with the system's.
    pub min_poll: PollInterval,
    /// Added to stamps of what is sent, in seconds.
    pub tx_comp: f64,
    /// Taken from stamps of what is received, in seconds.
    pub rx_comp: f64,
    /// Whether the hardware may compare the clocks itself, where it can.
    pub cross_timestamp: bool,
}

/// What must vouch for a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Require {
    /// DNSSEC must vouch for its name.
    pub dnssec: bool,
    /// DNSSEC must vouch for its certificate (RFC 6698).
    pub dane: bool,
}

impl Require {
    /// Whether nothing is required.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !self.dnssec && !self.dane
    }

    /// The word for the first requirement that `trust` does not meet.
    #[must_use]
    pub fn missing(self, trust: Trust) -> Option<&'static str> {
        if self.dnssec && trust < Trust::Dnssec {
            return Some("dnssec");
        }
        (self.dane && trust < Trust::Dane).then_some("dane")
    }
}

/// One server.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// The server's name or address.
    pub host: Host,
    /// Port for plain NTP.
    pub port: u16,
    /// Port for key exchange.
    pub ke_port: u16,
    /// Whether NTS is used.
    pub nts: NtsUse,
    /// The symmetric key used instead.
    pub key: Option<KeyId>,
    /// Where the server is, for when DNS does not tell; none if it has an address and no name.
    pub address_hints: Vec<IpAddr>,
    /// What must vouch for it.
    pub require: Require,
    /// How the server is asked.
    pub options: SourceOptions,
}

/// A name, or the address itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// To be resolved.
    Name(Name),
    /// As it is.
    Address(IpAddr),
}

/// How a source is asked and used.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceOptions {
    /// Shortest interval between requests.
    pub min_poll: PollInterval,
    /// Longest interval between requests, no shorter than `min_poll`.
    pub max_poll: PollInterval,
    /// Start with a burst of requests.
    pub iburst: bool,
    /// Send a burst at every poll.
    pub burst: bool,
    /// Interleaved mode (RFC 9769), where the server can.
    pub interleaved: bool,
    /// NTP version of requests, 3 or 4.
    pub version: u8,
    /// Ask nobody, not even where it is, before `ntpctl online`.
    pub offline: bool,
    /// Addresses of this family alone.
    pub family: Option<Family>,
    /// What is asked of its measurements.
    pub rules: SampleRules,
    /// The roots that its certificates are judged by, if not those of all.
    pub roots: Option<SourceRoots>,
    /// How the source is used in selection.
    pub select: SelectOptions,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// Whether an address is of it.
    #[must_use]
    pub const fn has(self, address: IpAddr) -> bool {
        match self {
            Self::Ipv4 => address.is_ipv4(),
            Self::Ipv6 => address.is_ipv6(),
        }
    }
}

/// The roots that the certificates of one source are judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRoots {
    /// Which.
    pub which: TrustRoots,
    /// Roots of its own, PEM; there is one unless those of the system count alone.
    pub file: Option<PathBuf>,
}

/// How a pool name is turned into servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PoolModeName {
    /// Find out.
    Auto,
    /// Service records of the name, key exchange with each target.
    Srv,
    /// Repeated key exchange with the name.
    Lb,
    /// The addresses of the name, key exchange with each under the one name.
    SharedCert,
    /// The addresses of the name, key exchange with each under its address.
    IpCert,
    /// The addresses of the name, plain NTP.
    Classic,
}

impl PoolModeName {
    /// The word for it in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Srv => "srv",
            Self::Lb => "lb",
            Self::SharedCert => "shared-cert",
            Self::IpCert => "ip-cert",
            Self::Classic => "classic",
        }
    }
}

/// Whether NTS is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NtsUse {
    /// Where it is offered, and always where it was offered once.
    Auto,
    /// Always.
    Require,
    /// Never.
    Off,
}

/// How the clock is set.
#[derive(Clone, Debug, PartialEq)]
pub struct ClockSettings {
    /// Offset from which on the clock is stepped rather than slewed.
    pub step_threshold: Duration,
    /// How many updates after start may step.
    pub step_limit: StepLimit,
    /// Fastest slew.
    pub max_slew_rate: Rate,
    /// In how many update intervals an offset as large as its own deviation is made up for.
    pub correction_time_ratio: f64,
    /// Largest frequency error believed of this machine's oscillator.
    pub max_frequency: Rate,
    /// Largest error bound of a new frequency that is used.
    pub max_update_skew: Rate,
    /// Offsets that are too large to be true, if there are any.
    pub max_change: Option<ChangeLimit>,
    /// Offset from which on a correction is logged.
    pub log_change: Duration,
    /// Limits of selection.
    pub select: SelectConfig,
    /// What is done at a leap second.
    pub leap: LeapMode,
    /// The file that says when they come; sources do without it, and where it has expired.
    pub leap_file: Option<PathBuf>,
}

/// What is served to whom.
#[derive(Clone, Debug, PartialEq)]
pub struct Serve {
    /// Where requests are taken.
    pub listen: Vec<SocketAddr>,
    /// Who is answered.
    pub access: AccessRules,
    /// When the local clock is served because no source tells the time; `None`: never.
    pub local: Option<LocalConfig>,
    /// Whether leap seconds are kept from clients, and spread over a day.
    pub smear: bool,
    /// Limit on each client.
    pub rate_limit: Option<RateLimit>,
    /// How many clients are remembered, with how often they ask; 0 is none.
    pub client_log: usize,
    /// Server threads, 1 to 64; [`default_threads`](crate::serve::default_threads) unless the file says otherwise.
    pub threads: usize,
    /// The NTS server, if there is to be one.
    pub nts: Option<ServeNts>,
}

/// An NTS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeNts {
    /// Where key exchanges are taken.
    pub listen: Vec<SocketAddr>,
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub private_key: PathBuf,
    /// NTP server to announce, if it is not the one the client connected to.
    pub ntp_server: Option<Host>,
    /// NTP port to announce, if it is not 123.
    pub ntp_port: Option<u16>,
    /// Tokens of the pools that this server is a member of, if it is of any.
    pub pool_tokens: Option<PathBuf>,
    /// Secrets that this server shares with others, so that each takes the cookies of all.
    pub cookie_secret: Option<PathBuf>,
    /// How long cookies are made with one key that is derived from them.
    pub cookie_period: Duration,
}

/// Where chronyc, and programs that watch chronyd, are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChronycSettings {
    /// Over UDP.
    pub listen: Vec<SocketAddr>,
    /// In the file system, where everything can be asked and changed.
    pub socket: Option<PathBuf>,
    /// From where, beside this machine, requests over UDP are taken.
    pub allow: Vec<IpNet>,
    /// What may be asked over UDP.
    pub open: Vec<Access>,
}

/// What certificates are judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustSettings {
    /// Which roots count.
    pub certificates: TrustRoots,
    /// Roots of our own, PEM.
    pub certificate_file: Option<PathBuf>,
    /// Who validates DNSSEC.
    pub dnssec: DnssecUse,
    /// The keys it is validated by, DNSKEY records; those of the root of DNS as this version knows them without it.
    pub dnssec_anchor: Option<PathBuf>,
    /// Who is asked for service and TLSA records, at most [`MAX_RESOLVERS`]; whom the system names, if empty.
    pub resolvers: Vec<SocketAddr>,
    /// The AEAD algorithms that NTS may use, as client best first, none twice.
    pub aeads: Vec<AeadAlgorithm>,
    /// What to do where this machine does not know the time.
    pub first_boot: FirstBoot,
}

/// What to do where this machine does not know the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirstBoot {
    /// Whom to believe.
    pub policy: Policy,
    /// Believe a single operator, if no more are configured.
    pub single: bool,
    /// Fewest servers that confirm a clock which there is no reason to distrust, if not the default.
    pub min_agreeing: Option<usize>,
}

impl Default for TrustSettings {
    fn default() -> Self {
        Self {
            certificates: TrustRoots::System,
            certificate_file: None,
            dnssec: DnssecUse::Validate,
            dnssec_anchor: None,
            resolvers: Vec::new(),
            aeads: DEFAULT_AEADS.to_vec(),
            first_boot: FirstBoot::default(),
        }
    }
}

/// Which roots count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustRoots {
    /// Those of the operating system.
    System,
    /// Those of the file.
    File,
    /// Both.
    Both,
}

/// Who validates DNSSEC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnssecUse {
    /// This program.
    Validate,
    /// The resolver: its AD bit is believed, if it runs on this machine or is named in the configuration.
    TrustResolver,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Least severe messages that are logged.
    pub level: LogLevel,
    /// Form of the messages.
    pub format: LogFormat,
}

/// How severe a message must be to be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what needs attention now.
    Error,
    /// And what may need it.
    Warn,
    /// And what changes.
    Info,
    /// And what happens.
    Debug,
    /// And every packet.
    Trace,
}

/// Form of log messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// To the journal under systemd, as text otherwise.
    Auto,
    /// Lines of text.
    Text,
    /// Lines of JSON.
    Json,
    /// The journal's own protocol.
    Journald,
}

impl Config {
    /// This configuration as a file in which nothing is left to defaults.
    #[must_use]
    pub fn explain(&self) -> String {
        explain::explain(self)
    }
}

impl Host {
    /// Reads a name or an address; `None` for what can be neither, and for addresses that no server has.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        values::parse_host(text)
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}
