//! A source of time, whatever file it comes from.

use std::fmt::Write as _;

use super::plan::{Directive, Plan, judge, quote};
use crate::config::Host;

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name for several servers.
    Pool,
    /// One server.
    Server,
}

/// How it is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// By NTS where it offers it.
    Plain,
    /// By NTS.
    Nts,
    /// By a symmetric key.
    Key(u32),
}

/// What the certificate of one source is judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judges {
    /// A set of roots that is said elsewhere.
    Set(u32),
    /// A file of roots; whether beside those of the system.
    File(String, bool),
}

/// A source of time.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) directive: Directive,
    pub(super) kind: Kind,
    /// Lower case, without a final dot.
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) protection: Protection,
    /// Keys of its table with their values.
    pub(super) settings: Vec<(&'static str, String)>,
    /// Words of `select`.
    pub(super) select: Vec<&'static str>,
    /// What its certificate is judged by, if not as those of all.
    pub(super) roots: Option<Judges>,
}

impl Source {
    pub(super) fn new(directive: &Directive, kind: Kind, host: &str) -> Self {
        Self {
            directive: directive.clone(),
            kind,
            host: canonical(host),
            port: None,
            protection: Protection::Plain,
            settings: Vec::new(),
            select: Vec::new(),
            roots: None,
        }
    }

    /// Whether it is plain and used with NTS where that is offered.
    pub(super) fn looks_for_nts(&self) -> bool {
        self.protection == Protection::Plain && !is_public_pool(&self.host)
    }

    /// The table of the new file.
    pub(super) fn table(&self) -> String {
        let mut text = self.head();
        match self.protection {
            Protection::Nts => text.push_str("nts = \"require\"\n"),
            // Nobody there has NTS, and its servers are not to be troubled by those who look for it.
            Protection::Plain if is_public_pool(&self.host) => text.push_str("nts = \"off\"\n"),
            Protection::Plain | Protection::Key(_) => {}
        }
        if let Some(Judges::File(file, beside)) = &self.roots {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "certificate-file = {}", quote(file));
            if *beside {
                text.push_str("certificates = \"both\"\n");
            }
        }
        if let Protection::Key(id) = self.protection {
            let _ = writeln!(text, "key = {id}");
        }
        for (key, value) in &self.settings {
            let _ = writeln!(text, "{key} = {value}");
        }
        if !self.select.is_empty() {
            let _ = writeln!(text, "select = {}", super::plan::list(&self.select));
        }
        text
    }

    fn head(&self) -> String {
        match (self.kind, self.port.filter(|&port| port != 123)) {
            (Kind::Pool, None) => format!("[[pool]]\nname = {}\n", quote(&self.host)),
            (Kind::Pool, Some(port)) => format!("[[pool]]\nname = {}\nport = {port}\n", quote(&self.host)),
            (Kind::Server, None) => format!("[[server]]\naddress = {}\n", quote(&self.host)),
            (Kind::Server, Some(port)) if self.host.contains(':') => {
                format!("[[server]]\naddress = {}\n", quote(&format!("[{}]:{port}", self.host)))
            }
            (Kind::Server, Some(port)) => {
                format!("[[server]]\naddress = {}\n", quote(&format!("{}:{port}", self.host)))
            }
        }
    }

    /// Whether the configuration would call it the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let port = |source: &Self| source.port.unwrap_or(123);
        self.kind == other.kind && self.host == other.host && (self.kind == Kind::Pool || port(self) == port(other))
    }

    /// What tells it from all others that are left.
    pub(super) fn id(&self) -> (bool, String, Option<u16>) {
        (self.kind == Kind::Pool, self.host.clone(), self.port)
    }

    /// Sets a key, if the table takes the value; otherwise that is said.
    pub(super) fn set(&mut self, plan: &mut Plan, part: &str, key: &'static str, value: &str) {
        match judge(&format!("{}{key} = {value}\n", self.bare())) {
            Ok(_) => {
                self.settings.retain(|(known, _)| *known != key);
                self.settings.push((key, value.to_owned()));
            }
            Err(wrong) => plan.drop_part(&self.directive, part, wrong),
        }
    }

    /// Sets what counts for all sources, unless this one says otherwise, or what it says does not allow it.
    pub(super) fn set_default(&mut self, key: &'static str, value: i64) {
        if self.settings.iter().any(|(known, _)| *known == key) {
            return;
        }
        let before = self.settings.clone();
        self.settings.push((key, value.to_string()));
        self.settings.sort_by_key(|(key, _)| ORDER.iter().position(|known| known == key));
        if judge(&self.table_without_files()).is_err() {
            self.settings = before;
        }
    }

    fn bare(&self) -> &'static str {
        match self.kind {
            Kind::Pool => "[[pool]]\nname = \"a.example\"\n",
            Kind::Server => "[[server]]\naddress = \"a.example\"\n",
        }
    }

    /// The shortest and the longest interval, as they were given; the longer one gives way, as in chrony.
    pub(super) fn set_poll(&mut self, plan: &mut Plan, min: Option<i64>, max: Option<i64>) {
        if let Some(min) = min {
            self.set(plan, &format!("minpoll {min}"), "min-poll", &min.to_string());
        }
        let Some(mut most) = max else { return };
        if let Some(min) = min.filter(|min| *min > most) {
            let why = format!("less than minpoll, so it is {min} too");
            plan.drop_part(&self.directive, &format!("maxpoll {most}"), why);
            most = min;
        }
        self.set(plan, &format!("maxpoll {most}"), "max-poll", &most.to_string());
    }

    /// Hands it over; what is no server's name is said.
    pub(super) fn finish(mut self, plan: &mut Plan) {
        match (Host::parse(&self.host), self.kind) {
            (None, _) => {
                let directive = self.directive.clone();
                return plan.drop(&directive, format!("`{}` is not a server's name or address", self.host));
            }
            // A pool of one address is a server.
            (Some(Host::Address(_)), Kind::Pool) => {
                self.kind = Kind::Server;
                self.settings.retain(|(key, _)| !["count", "mode"].contains(key));
            }
            (Some(_), _) => {}
        }
        if let (Kind::Pool, Protection::Key(id)) = (self.kind, self.protection) {
            let directive = self.directive.clone();
            let why = format!("a pool has no key here; name its servers, each with key = {id}");
            return plan.drop(&directive, why);
        }
        if self.protection == Protection::Nts {
            // NTS is a part of version 4 (RFC 8915 section 5).
            self.settings.retain(|(key, _)| *key != "version");
        } else {
            self.roots = None;
        }
        if self.select.contains(&"noselect") {
            self.select = vec!["noselect"];
        }
        self.settings.sort_by_key(|(key, _)| ORDER.iter().position(|known| known == key));
        match judge(&self.table_without_files()) {
            Ok(_) => plan.add_source(self),
            Err(wrong) => plan.drop(&self.directive.clone(), wrong),
        }
    }

    /// Where the file of keys is, is not known yet, and files of roots need not be here.
    fn table_without_files(&self) -> String {
        let mut source = Self { roots: None, ..self.clone() };
        if let Protection::Key(_) = source.protection {
            source.protection = Protection::Plain;
        }
        source.table()
    }
}

/// Keys in the order they are written.
const ORDER: [&str; 19] = [
    "mode",
    "count",
    "ke-port",
    "family",
    "min-poll",
    "max-poll",
    "iburst",
    "burst",
    "interleaved",
    "version",
    "offline",
    "offset",
    "min-stratum",
    "max-delay",
    "max-delay-ratio",
    "max-delay-dev-ratio",
    "min-samples",
    "max-samples",
    "poll-target",
];

/// Whether a name is of the NTP pool or one of its vendors', such as `2.debian.pool.ntp.org`, whose servers are volunteers'
/// and have no certificates for it.
fn is_public_pool(host: &str) -> bool {
    host.strip_suffix("pool.ntp.org").is_some_and(|zone| zone.is_empty() || zone.ends_with('.'))
}

/// A name as it is compared.
pub(super) fn canonical(host: &str) -> String {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    // Addresses can be written in several ways.
    host.parse::<std::net::IpAddr>().map_or(host, |address| address.to_string())
}

/// A port stands behind a name or an IPv4 address, or behind an address in brackets.
pub(super) fn split_port(name: &str) -> (&str, Option<&str>) {
    if let Some((address, port)) = name.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (address, port.strip_prefix(':'));
    }
    match name.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (name, None),
    }
}
