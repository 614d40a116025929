//! `[control]`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use super::{
    ChronycSettings,
    check::{path, socket_path_text},
    problem::Wrong,
    section::Section,
    values,
};
use crate::observe::chronyc::{Access, OPEN};

const DEFAULT_SOCKET: &str = "/run/ntpd/control.sock";
const DEFAULT_CHRONYC_SOCKET: &str = "/run/chrony/chronyd.sock";
/// The port of chronyd's commands.
const CHRONYC_PORT: u16 = 323;
/// Most addresses to listen on, and most prefixes.
const MAX_LISTEN: usize = 16;
const MAX_PREFIXES: usize = 64;

/// Words of `chronyc-open`, those of chrony's `opencommands`.
pub(super) const OPENED: &[(&str, Access)] = &[
    ("activity", Access::Activity),
    ("authdata", Access::AuthData),
    ("clients", Access::Clients),
    ("manual", Access::Manual),
    ("ntpdata", Access::NtpData),
    ("rtcdata", Access::RtcData),
    ("selectdata", Access::SelectData),
    ("serverstats", Access::ServerStats),
    ("smoothing", Access::Smoothing),
    ("sourcename", Access::SourceName),
    ("sources", Access::Sources),
    ("sourcestats", Access::SourceStats),
    ("tracking", Access::Tracking),
];

/// The words for these.
pub(super) fn opened(open: &[Access]) -> Vec<&'static str> {
    OPENED.iter().filter(|(_, access)| open.contains(access)).map(|(word, _)| *word).collect()
}

/// Where the daemon is asked and told: its own socket, and those of chronyd.
pub(super) fn control(section: Option<Section<'_>>) -> (PathBuf, Option<ChronycSettings>) {
    let Some(mut section) = section else { return (DEFAULT_SOCKET.into(), Some(ChronycSettings::default())) };
    let socket = path(section.field("socket", socket_path_text)).map(|path| path.value);
    let wanted = section.field("chronyc", values::boolean);
    let listen = section.list("chronyc-listen", MAX_LISTEN, values::listen_address);
    let at = path(section.field("chronyc-socket", socket_path_text)).map(|path| path.value);
    let allow = section.list("chronyc-allow", MAX_PREFIXES, values::prefixes);
    let open = section.list("chronyc-open", OPENED.len(), values::word(OPENED));
    let is_given = listen.is_some() || at.is_some() || allow.is_some() || open.is_some();
    // A daemon beside the machine's own does not take its place there.
    let is_machines = socket.as_ref().is_none_or(|socket| socket.as_os_str() == DEFAULT_SOCKET);
    let on = wanted.as_ref().map_or(is_machines || is_given, |wanted| wanted.value);
    if let Some(wanted) = wanted.filter(|wanted| !wanted.value && is_given) {
        let what = "`chronyc-listen`, `chronyc-socket`, `chronyc-allow` and `chronyc-open` are not used without it";
        section.warning(&wanted.place, "chronyc", Wrong::new(what));
    }
    section.finish();
    let default = ChronycSettings::default();
    let values = |list: Vec<super::section::Found<SocketAddr>>| list.into_iter().map(|found| found.value).collect();
    let settings = ChronycSettings {
        listen: listen.map_or(default.listen, values),
        socket: at.or(default.socket),
        allow: allow.map_or(default.allow, |list| list.into_iter().flat_map(|found| found.value).collect()),
        open: open.map_or(default.open, |list| list.into_iter().map(|found| found.value).collect()),
    };
    (socket.unwrap_or_else(|| DEFAULT_SOCKET.into()), on.then_some(settings))
}

impl Default for ChronycSettings {
    /// What chronyd does.
    fn default() -> Self {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        Self {
            listen: loopback.map(|address| SocketAddr::new(address, CHRONYC_PORT)).into(),
            socket: Some(DEFAULT_CHRONYC_SOCKET.into()),
            allow: Vec::new(),
            open: OPEN.to_vec(),
        }
    }
}
