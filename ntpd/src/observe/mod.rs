//! What is shown of a running daemon, and how it is told what to do.
//!
//! The daemon's loop lends a [`View`] of its state; [`report`] makes reports of it, [`table`] puts reports into words and
//! columns, [`metrics`] into series and [`page`] into HTML. [`control`] and [`web`] carry them to whoever asks. No report holds a key, a cookie or anything else that a reply
//! must return to be believed.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use ntp_proto::{
    bootstrap::Report,
    counters::ServerCounters,
    engine::{Engine, Now},
    ids::SourceId,
    time::{Monotonic, UnixTime},
};
use serde::{Deserialize, Serialize};

use crate::serve::ClientLog;

pub mod chronyc;
pub mod control;
pub mod history;
pub mod metrics;
pub mod page;
pub mod report;
pub mod table;
mod watched;
pub mod web;

pub use watched::Watched;

/// What the daemon knows of a source and the engine does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceInfo {
    /// The server's name as it was configured, or as its pool calls it; of a reference clock its reference identifier.
    pub name: String,
    /// Where it is asked for the time; a reference clock is nowhere.
    pub address: Option<SocketAddr>,
    /// What device or program it is, if it is no server.
    pub refclock: Option<String>,
    /// The pool it belongs to.
    pub pool: Option<String>,
    /// The address of this machine that the last request left from.
    pub local: Option<IpAddr>,
    /// The interface that it left by, if that stamps packets.
    pub interface: Option<String>,
    /// When keys were last exchanged with it.
    pub keys_at: Option<Monotonic>,
    /// Key exchanges tried since then.
    pub key_attempts: u32,
    /// What else keeps it from being used, such as why the last key exchange failed. No secrets.
    pub note: Option<String>,
}

impl SourceInfo {
    /// A source of which nothing more is known.
    #[must_use]
    pub const fn new(name: String, address: SocketAddr) -> Self {
        Self::bare(name, Some(address), None)
    }

    /// A reference clock.
    #[must_use]
    pub const fn refclock(name: String, device: String) -> Self {
        Self::bare(name, None, Some(device))
    }

    const fn bare(name: String, address: Option<SocketAddr>, refclock: Option<String>) -> Self {
        Self {
            name,
            address,
            refclock,
            pool: None,
            local: None,
            interface: None,
            keys_at: None,
            key_attempts: 0,
            note: None,
        }
    }

    /// Its address, or what device it is.
    #[must_use]
    pub fn place(&self) -> String {
        self.address.map(|address| address.to_string()).or_else(|| self.refclock.clone()).unwrap_or_default()
    }

    /// Whether `wanted` means this source: by its name, its address with or without the port, or its pool.
    #[must_use]
    pub fn answers_to(&self, wanted: &str) -> bool {
        let is = |name: &str| name.eq_ignore_ascii_case(wanted);
        is(&self.name)
            || self.pool.as_deref().is_some_and(is)
            || self.address.is_some_and(|own| wanted.parse() == Ok(own.ip()) || wanted.parse() == Ok(own))
    }
}

impl fmt::Display for SourceInfo {
    /// Name and place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, &self.refclock) {
            (Some(address), _) => write!(f, "{} ({})", self.name, address.ip()),
            (None, Some(device)) => write!(f, "{} ({device})", self.name),
            (None, None) => f.write_str(&self.name),
        }
    }
}

/// The sources that `wanted` means; all servers if it is `None`.
#[must_use]
pub fn find(sources: &BTreeMap<SourceId, SourceInfo>, wanted: Option<&str>) -> Vec<SourceId> {
    let is_meant = |info: &SourceInfo| wanted.map_or_else(|| info.refclock.is_none(), |name| info.answers_to(name));
    sources.iter().filter(|(_, info)| is_meant(info)).map(|(id, _)| *id).collect()
}

/// A configured server that is no source yet, for want of an address or of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// Its name as it was configured.
    pub name: String,
    /// What is missing, such as "the name does not exist".
    pub reason: String,
}

/// What the daemon knows of a pool; its members are the sources whose `pool` is its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolInfo {
    /// Its name.
    pub name: String,
    /// The mode that was configured.
    pub mode: String,
    /// The mode that `auto` has settled on.
    pub settled: Option<String>,
    /// How many members are wanted.
    pub wanted: usize,
    /// The name is remembered to offer NTS, so that plain NTP is not used with it.
    pub nts_remembered: bool,
    /// Why there are not as many members as wanted, as far as that is known.
    pub note: Option<String>,
}

/// Key exchanges that the NTS-KE server took part in, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct KeCounters {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections closed at once: too many at a time, or from an address that is not served.
    pub refused: u64,
    /// Sessions that ended in an error or took too long.
    pub failed: u64,
    /// Sessions that gave keys and cookies.
    pub completed: u64,
    /// Requests answered to pools that this server is a member of.
    #[serde(default)]
    pub pool_requests: u64,
}

/// Requests on the control socket, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ControlCounters {
    /// Requests read.
    pub received: u64,
    /// Of these, requests that were not understood, not permitted, or not carried out; and connections turned away.
    pub refused: u64,
}

/// What the daemon knows of its file of leap seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeapFileInfo {
    /// Where it is.
    pub path: PathBuf,
    /// Until when what it says is complete; none if it was never read.
    pub expires: Option<UnixTime>,
    /// Why it could not be read, or not again.
    pub fault: Option<String>,
}

/// The state of the daemon, lent for one report.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The present.
    pub now: Now,
    /// What is known of the time, where authenticated sources are expected to tell it.
    pub bootstrap: Option<Report>,
    /// The stratum of the local clock, while that is served.
    pub local_stratum: Option<u8>,
    /// The file of leap seconds, if one is configured.
    pub leap_file: Option<&'a LeapFileInfo>,
    /// The engine's sources by another name.
    pub sources: &'a BTreeMap<SourceId, SourceInfo>,
    /// Servers that are no sources yet.
    pub unresolved: &'a [Unresolved],
    /// The pools.
    pub pools: &'a [PoolInfo],
    /// What the server threads have counted together; `None` if nothing is served.
    pub server: Option<ServerCounters>,
    /// Who was served, if note is taken of that.
    pub clients: Option<&'a ClientLog>,
    /// What the NTS-KE server has counted; `None` if there is none.
    pub key_exchange: Option<KeCounters>,
    /// What the control socket has counted.
    pub control: ControlCounters,
}
