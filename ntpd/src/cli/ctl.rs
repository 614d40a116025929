//! The command line of `ntpctl`.

use std::{
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};

use ntp_proto::pool::Name;

use super::{
    FAILED,
    watch::{self, WatchArgs},
};
use crate::{
    lookup,
    observe::{
        control::{AskError, Change, Command, Reply, Show, ask, setting},
        report::{TimeState, TrackingReport},
        table,
    },
};

/// Exit code of a command line that makes no sense.
const USAGE: u8 = 2;

/// What `ntpctl` is asked to do.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(name = "ntpctl", version, about = "Watches and controls a running ntpd", disable_help_subcommand = true)]
pub struct Ctl {
    /// Print the report as JSON
    #[arg(long, global = true)]
    pub json: bool,

    /// Show sources by address rather than by name
    #[arg(short, long, global = true)]
    pub numeric: bool,

    /// Talk to the daemon that listens here
    #[arg(long, value_name = "PATH", global = true, default_value = "/run/ntpd/control.sock")]
    pub socket: PathBuf,

    /// What to show or change
    #[command(subcommand)]
    pub command: CtlCommand,
}

/// The commands.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum CtlCommand {
    /// Show the state of the clock
    Tracking,
    /// Show the sources, and why each is used or not
    Sources,
    /// Show what the measurements of each source say together
    Sourcestats,
    /// Show what selection went by
    Selectdata,
    /// Show how each source is authenticated
    Authdata,
    /// Show the last reply of each source
    Ntpdata(OneSource),
    /// Show what was served
    Serverstats,
    /// Count the sources that are asked
    Activity,
    /// Show who was served, where `client-log` has note taken of that
    Clients,
    /// Show the pools and their members
    Pools(PoolsArgs),
    /// Show the clock and the sources again and again, until q or Ctrl-C
    Watch(WatchArgs),
    /// Find out what a name offers; needs no daemon
    Lookup(LookupArgs),
    /// Wait until the clock is synchronized, by verified time where sources are authenticated
    Waitsync(WaitArgs),
    /// Step the clock now instead of slewing it, or say when it is stepped from now on
    Makestep(Setting),
    /// Use no new frequency whose error bound is larger than this many ppm
    Maxupdateskew(Setting),
    /// Serve the local clock where sources do not tell the time: `local stratum 10 orphan`, `local off`
    Local(Setting),
    /// Read the configuration again and apply it, all or nothing
    Reload(ReloadArgs),
    /// Ask several times in a row
    Burst(OneSource),
    /// Ask again after `offline`
    Online(OneSource),
    /// Ask no more
    Offline(OneSource),
    /// Ask those to which there is a route, and no others
    Onoffline,
    /// Look names up again
    Refresh(OneSource),
    /// Make a new key for the cookies of the NTS server
    Rekey,
    /// Open files of measurements anew, after they were moved away
    Cyclelogs,
    /// Change what is believed of the time before it is verified
    Bootstrap(BootstrapArgs),
}

/// What is read again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct ReloadArgs {
    /// What; the configuration as a whole without it
    #[command(subcommand)]
    pub what: Option<ReloadWhat>,
}

/// A part of what is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum ReloadWhat {
    /// Read the directories of sources again, and nothing else
    Sources,
}

/// A choice of sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct OneSource {
    /// Name, address or pool; all sources without it
    #[arg(value_name = "SOURCE")]
    pub source: Option<String>,
}

/// Words as chrony has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Setting {
    /// In the words of chrony
    #[arg(value_name = "WORD", allow_hyphen_values = true)]
    pub words: Vec<String>,
}

/// Arguments of `lookup`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct LookupArgs {
    /// Pool or server, with a port if its key exchange is not at 4460
    #[arg(value_name = "NAME[:PORT]")]
    pub name: String,
    /// Print a configuration for chrony
    #[arg(long)]
    pub chrony: bool,
    /// Take `[trust]` of this file instead of that in /etc/ntpd
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Arguments of `pools`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct PoolsArgs {
    /// Show the pools without it
    #[command(subcommand)]
    pub change: Option<PoolsChange>,
}

/// What can be changed about pools.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum PoolsChange {
    /// Forget that this name ever offered NTS, so that plain NTP may be used with it
    Forget {
        /// Name of the pool
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Arguments of `bootstrap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub struct BootstrapArgs {
    /// What to change
    #[command(subcommand)]
    pub change: BootstrapChange,
}

/// What can be changed about the bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum BootstrapChange {
    /// Forget the last verified time, and find out the time anew; for a machine that once verified a time too late
    ResetFloor,
}

/// Arguments of `waitsync`; 0 means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Args)]
pub struct WaitArgs {
    /// Give up after this many tries
    #[arg(value_name = "MAX-TRIES", default_value_t = 0)]
    pub max_tries: u32,
    /// Largest remaining correction, in seconds
    #[arg(value_name = "MAX-CORRECTION", default_value_t = 0.0, value_parser = limit)]
    pub max_correction: f64,
    /// Largest skew, in ppm
    #[arg(value_name = "MAX-SKEW", default_value_t = 0.0, value_parser = limit)]
    pub max_skew: f64,
    /// Time between tries, in seconds, at least 0.1
    #[arg(value_name = "INTERVAL", default_value_t = 10.0, value_parser = limit)]
    pub interval: f64,
}

/// A number that can be a limit.
pub(super) fn limit(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1e9).contains(&number) => Ok(number),
        _ => Err("accepted: a number from 0 to 1000000000".to_owned()),
    }
}

impl CtlCommand {
    /// What to ask the daemon; `None` for what takes more than one question, `Err` for what makes no sense.
    fn request(&self) -> Result<Option<Command>, String> {
        let source = |one: &OneSource| one.source.clone();
        Ok(Some(match self {
            Self::Tracking => Command::Show(Show::Tracking),
            Self::Sources => Command::Show(Show::Sources),
            Self::Sourcestats => Command::Show(Show::SourceStats),
            Self::Selectdata => Command::Show(Show::SelectData),
            Self::Authdata => Command::Show(Show::AuthData),
            Self::Ntpdata(one) => Command::Show(Show::NtpData { source: source(one) }),
            Self::Serverstats => Command::Show(Show::ServerStats),
            Self::Activity => Command::Show(Show::Activity),
            Self::Clients => Command::Show(Show::Clients),
            Self::Pools(PoolsArgs { change: None }) => Command::Show(Show::Pools),
            Self::Pools(PoolsArgs { change: Some(PoolsChange::Forget { name }) }) => {
                Command::Change(Change::PoolsForget { name: name.clone() })
            }
            Self::Makestep(Setting { words }) if words.is_empty() => Command::Change(Change::MakeStep),
            Self::Makestep(Setting { words }) => {
                let (threshold, limit) = setting::parse_steps(&words.join(" "))?;
                Command::Change(Change::Steps { threshold, limit })
            }
            Self::Maxupdateskew(Setting { words }) => {
                Command::Change(Change::MaxUpdateSkew(setting::parse_skew(&words.join(" "))?))
            }
            Self::Local(Setting { words }) => Command::Change(Change::Local(setting::parse_local(&words.join(" "))?)),
            Self::Reload(ReloadArgs { what: None }) => Command::Change(Change::Reload),
            Self::Reload(ReloadArgs { what: Some(ReloadWhat::Sources) }) => Command::Change(Change::ReloadSources),
            Self::Burst(one) => Command::Change(Change::Burst { source: source(one) }),
            Self::Online(one) => Command::Change(Change::Online { source: source(one) }),
            Self::Offline(one) => Command::Change(Change::Offline { source: source(one) }),
            Self::Refresh(one) => Command::Change(Change::Refresh { source: source(one) }),
            Self::Cyclelogs => Command::Change(Change::CycleLogs),
            Self::Onoffline => Command::Change(Change::OnOffline),
            Self::Rekey => Command::Change(Change::Rekey),
            Self::Bootstrap(BootstrapArgs { change: BootstrapChange::ResetFloor }) => {
                Command::Change(Change::ResetFloor)
            }
            Self::Lookup(_) | Self::Waitsync(_) | Self::Watch(_) => return Ok(None),
        }))
    }
}

/// Does what the command line asks for.
#[must_use]
pub fn run(ctl: &Ctl) -> ExitCode {
    let request = match ctl.command.request() {
        Ok(request) => request,
        Err(wrong) => {
            eprintln!("ntpctl: {}", table::printable(&wrong));
            return ExitCode::from(USAGE);
        }
    };
    let result = match (&ctl.command, request) {
        (CtlCommand::Waitsync(wait), _) => return wait_for_sync(ctl, wait),
        (CtlCommand::Lookup(args), _) => return look_up(ctl, args),
        (CtlCommand::Watch(args), _) => return watch::run(&ctl.socket, ctl.numeric, ctl.json, *args),
        (_, Some(command)) => ask(&ctl.socket, &command),
        (_, None) => return ExitCode::from(FAILED),
    };
    match result {
        Ok(reply) => print(&show(ctl, &reply, || table::render(&reply, ctl.numeric))),
        Err(error) => fail(&error),
    }
}

/// Finds out what a name offers, without the daemon.
fn look_up(ctl: &Ctl, args: &LookupArgs) -> ExitCode {
    let complain = |code: u8, text: &str| {
        eprintln!("ntpctl: {}", table::printable(text));
        ExitCode::from(code)
    };
    let (name, port) = match split_port(&args.name) {
        Ok(parts) => parts,
        Err(wrong) => return complain(USAGE, &wrong),
    };
    if ctl.json && args.chrony {
        return complain(USAGE, "either --json or --chrony");
    }
    let found = match lookup::settings(args.config.as_deref()) {
        Ok((settings, note)) => {
            if let Some(note) = note {
                eprintln!("ntpctl: {}", table::printable(&note));
            }
            lookup::run(&settings, &name, port)
        }
        Err(problems) => return complain(FAILED, &problems.to_string()),
    };
    let found = match found {
        Ok(found) => found,
        Err(why) => return complain(FAILED, &why),
    };
    let text = match (ctl.json, args.chrony) {
        (true, _) => serde_json::to_string(&found).unwrap_or_default() + "\n",
        (false, true) => found.to_chrony(),
        (false, false) => found.to_text(),
    };
    let printed = print(&text);
    if found.is_usable() { printed } else { ExitCode::from(FAILED) }
}

/// A name or an address, and the port after it.
fn split_port(text: &str) -> Result<(Name, Option<u16>), String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((address.into(), None));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok((address.ip().into(), Some(address.port())));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => {
            let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| format!("`{port}` is not a port"))?;
            (name, Some(port))
        }
        None => (text, None),
    };
    Ok((Name::parse(name).map_err(|wrong| format!("`{name}` is {wrong}"))?, port))
}

/// As JSON or in words, as it was asked for.
fn show(ctl: &Ctl, reply: &Reply, words: impl FnOnce() -> String) -> String {
    if ctl.json { reply.to_json().unwrap_or_default() + "\n" } else { words() }
}

fn fail(error: &AskError) -> ExitCode {
    eprintln!("ntpctl: {}", table::printable(&error.to_string()));
    ExitCode::from(FAILED)
}

/// Asks until the clock is synchronized well enough.
fn wait_for_sync(ctl: &Ctl, wait: &WaitArgs) -> ExitCode {
    let mut attempt = 0_u32;
    loop {
        attempt = attempt.saturating_add(1);
        match ask(&ctl.socket, &Command::Show(Show::Tracking)) {
            Ok(Reply::Tracking(report)) => {
                let line = table::wait_line(attempt, &report) + "\n";
                let met = wait.is_met(&report);
                let printed = print(&show(ctl, &Reply::Tracking(report), || line));
                if met || printed != ExitCode::SUCCESS {
                    return printed;
                }
            }
            Ok(_) => return fail(&AskError::NotUnderstood),
            // A daemon that is about to start is waited for like one that is about to be synchronized.
            Err(error @ (AskError::NotRunning(_) | AskError::Io(..))) => drop(fail(&error)),
            Err(error) => return fail(&error),
        }
        if wait.max_tries > 0 && attempt >= wait.max_tries {
            return ExitCode::from(FAILED);
        }
        thread::sleep(Duration::from_secs_f64(wait.interval.max(0.1)));
    }
}

impl WaitArgs {
    /// Whether the clock is good enough.
    fn is_met(&self, report: &TrackingReport) -> bool {
        let within = |value: f64, limit: f64| limit <= 0.0 || value.abs() <= limit;
        // A clock that plain sources kept counts as synchronized still while those with NTS are asked.
        report.synchronized
            && report.time.as_ref().is_none_or(|time| time.state == TimeState::Verified)
            && within(report.pending_seconds, self.max_correction)
            && within(report.skew_ppm, self.max_skew)
    }
}

/// A reader that went away, as `head` does, is no failure.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::observe::report::{LeapWord, TimeReport};

    fn parse(line: &str) -> Ctl {
        Ctl::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn the_definitions_are_consistent() {
        Ctl::command().debug_assert();
    }

    #[test]
    fn words_on_the_command_line_are_those_on_the_socket() {
        for word in [
            "tracking",
            "sources",
            "sourcestats",
            "selectdata",
            "authdata",
            "ntpdata",
            "serverstats",
            "activity",
            "pools",
            "makestep",
            "reload",
            "burst",
            "online",
            "offline",
            "onoffline",
            "refresh",
            "rekey",
            "cyclelogs",
            "local",
        ] {
            let ctl = parse(&format!("ntpctl --json {word}"));
            assert_eq!(ctl.command.request().unwrap().unwrap().word(), word);
            assert!(ctl.json && ctl.socket.ends_with("control.sock"));
        }
        let forget = parse("ntpctl pools forget time.example --socket /a").command.request().unwrap();
        assert_eq!(forget, Some(Command::Change(Change::PoolsForget { name: "time.example".to_owned() })));
        let sources = parse("ntpctl reload sources").command.request().unwrap();
        assert_eq!(sources, Some(Command::Change(Change::ReloadSources)));
        let steps = parse("ntpctl makestep 0.5 -1").command.request().unwrap();
        assert_eq!(steps.map(|command| command.word()), Some("makestep-config"));
        let off = parse("ntpctl local off").command.request().unwrap();
        assert_eq!(off, Some(Command::Change(Change::Local(None))));
        assert!(parse("ntpctl local stratum 16").command.request().unwrap_err().contains("stratum 1 to 15"));
        let reset = parse("ntpctl bootstrap reset-floor").command.request().unwrap();
        assert_eq!(reset.map(|command| command.word()), Some("bootstrap-reset-floor"));
        let one = parse("ntpctl ntpdata 192.0.2.1 -n").command.request().unwrap();
        assert_eq!(one, Some(Command::Show(Show::NtpData { source: Some("192.0.2.1".to_owned()) })));
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for line in [
            "ntpctl",
            "ntpctl trakcing",
            "ntpctl tracking x",
            "ntpctl pools forget",
            "ntpctl bootstrap",
            "ntpctl waitsync -1",
            "ntpctl waitsync 1 inf",
            "ntpctl waitsync 1 0 0 NaN",
            "ntpctl --socket",
            "ntpctl lookup",
        ] {
            assert_eq!(Ctl::try_parse_from(line.split(' ')).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_name_is_looked_up_at_its_port() {
        for (text, name, port) in [
            ("time.example", "time.example", None),
            ("Time.Example.:4446", "time.example", Some(4446)),
            ("192.0.2.1", "192.0.2.1", None),
            ("192.0.2.1:4446", "192.0.2.1", Some(4446)),
            ("2001:db8::1", "2001:db8::1", None),
            ("[2001:db8::1]:4446", "2001:db8::1", Some(4446)),
        ] {
            let (found, found_port) = split_port(text).unwrap();
            assert_eq!((found.as_str(), found_port), (name, port), "{text}");
        }
        for text in ["", "a b", "a:0", "a:65536", "a:b", ":4460"] {
            assert!(split_port(text).is_err(), "{text}");
        }
        let CtlCommand::Lookup(args) = parse("ntpctl lookup time.example --chrony -c a.toml").command else {
            panic!("not read")
        };
        assert_eq!(args, LookupArgs { name: "time.example".into(), chrony: true, config: Some("a.toml".into()) });
    }

    #[test]
    fn waiting_ends_when_all_limits_are_kept() {
        let wait = |line: &str| {
            let CtlCommand::Waitsync(wait) = parse(line).command else { panic!("{line}") };
            wait
        };
        let mut report = TrackingReport {
            local_stratum: None,
            leap_file: None,
            synchronized: true,
            reference_id: "7F7F0101".to_owned(),
            reference: None,
            stratum: 3,
            reference_time_unix_seconds: None,
            pending_seconds: -0.01,
            last_offset_seconds: 0.0,
            rms_offset_seconds: 0.0,
            frequency_ppm: 0.0,
            residual_frequency_ppm: 0.0,
            skew_ppm: 5.0,
            root_delay_seconds: 0.0,
            root_dispersion_seconds: 0.0,
            update_interval_seconds: 0.0,
            updates: 1,
            leap: LeapWord::Normal,
            reason: None,
            time: None,
        };
        assert_eq!(
            wait("ntpctl waitsync"),
            WaitArgs { max_tries: 0, max_correction: 0.0, max_skew: 0.0, interval: 10.0 }
        );
        for (line, met) in [
            ("ntpctl waitsync", true),
            ("ntpctl waitsync 5 0.01", true),
            ("ntpctl waitsync 5 0.009", false),
            ("ntpctl waitsync 5 0 5 1", true),
            ("ntpctl waitsync 5 0 4.9 1", false),
        ] {
            assert_eq!(wait(line).is_met(&report), met, "{line}");
        }
        report.synchronized = false;
        assert!(!wait("ntpctl waitsync").is_met(&report));
        report.synchronized = true;
        for (state, met) in [(TimeState::Unknown, false), (TimeState::Provisional, false), (TimeState::Verified, true)]
        {
            let (distrust, missing) = (None, None);
            report.time =
                Some(TimeReport { state, distrust, dates_deferred: false, earliest_unix_seconds: 0, missing });
            assert_eq!(wait("ntpctl waitsync").is_met(&report), met, "{state:?}");
        }
    }
}
