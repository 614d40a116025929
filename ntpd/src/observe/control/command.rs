//! What can be asked for.

use ntp_proto::{discipline::StepLimit, server::LocalConfig, source::Tune, time::Rate};
use serde::{Deserialize, Serialize};

use super::{ControlError, ErrorKind, setting, tune};
use crate::config::AccessChange;

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Show something; anybody who can open the socket may.
    Show(Show),
    /// Change something; only the superuser and the daemon's own user may.
    Change(Change),
}

/// Something to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the report of the same name")]
pub enum Show {
    Tracking,
    Sources,
    SourceStats,
    SelectData,
    AuthData,
    /// Of one source, by name, address or pool, or of all.
    NtpData {
        source: Option<String>,
    },
    ServerStats,
    Activity,
    Pools,
    /// Only for those who may change something: it tells of others.
    Clients,
}

/// Something to be changed. A `source` is a name, an address or a pool; `None` means all sources.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Make up for what the clock is behind by one step.
    MakeStep,
    /// Step the clock from now on where it is wrong by `threshold` seconds, in the next updates that `limit` allows.
    Steps {
        /// In seconds.
        threshold: f64,
        /// Which updates.
        limit: StepLimit,
    },
    /// Use no frequency with a larger error bound.
    MaxUpdateSkew(Rate),
    /// Serve the local clock where sources do not tell the time, or no more.
    Local(Option<LocalConfig>),
    /// Change a setting of one source, for as long as that is asked.
    Tune {
        /// Which source.
        source: String,
        /// What is changed.
        tune: Tune,
    },
    /// Change who is served, until the configuration is read again.
    Access(AccessChange),
    /// Change from where, beside this machine, chronyc is answered over UDP, until the daemon ends.
    ChronycAccess(AccessChange),
    /// Read the configuration again and apply it, all or nothing.
    Reload,
    /// Read the directories of sources again, and nothing else.
    ReloadSources,
    /// Ask several times in a row.
    Burst {
        /// Which sources.
        source: Option<String>,
    },
    /// Ask again regularly.
    Online {
        /// Which sources.
        source: Option<String>,
    },
    /// Ask no more.
    Offline {
        /// Which sources.
        source: Option<String>,
    },
    /// Look names up again.
    Refresh {
        /// Which sources.
        source: Option<String>,
    },
    /// Choose among the sources anew.
    Reselect,
    /// Forget all measurements, and measure anew.
    ResetSources,
    /// Open files of measurements anew, since they were moved away.
    CycleLogs,
    /// Ask those sources to which there is a route, and no others.
    OnOffline,
    /// End the daemon.
    Shutdown,
    /// Make a new key for the cookies of the NTS server.
    Rekey,
    /// Forget the last verified time.
    ResetFloor,
    /// Forget that a pool's name ever offered NTS.
    PoolsForget {
        /// The pool.
        name: String,
    },
}

/// Every command, and the parameter it takes.
const WORDS: [(&str, Parameter); 33] = [
    ("tracking", Parameter::None),
    ("sources", Parameter::None),
    ("sourcestats", Parameter::None),
    ("selectdata", Parameter::None),
    ("authdata", Parameter::None),
    ("ntpdata", Parameter::Source),
    ("serverstats", Parameter::None),
    ("activity", Parameter::None),
    ("pools", Parameter::None),
    ("clients", Parameter::None),
    ("makestep", Parameter::None),
    ("makestep-config", Parameter::Setting),
    ("maxupdateskew", Parameter::Setting),
    ("local", Parameter::Setting),
    ("tune", Parameter::SourceSetting),
    ("allow", Parameter::Setting),
    ("deny", Parameter::Setting),
    ("chronyc-allow", Parameter::Setting),
    ("chronyc-deny", Parameter::Setting),
    ("reload", Parameter::None),
    ("reload-sources", Parameter::None),
    ("burst", Parameter::Source),
    ("online", Parameter::Source),
    ("offline", Parameter::Source),
    ("refresh", Parameter::Source),
    ("reselect", Parameter::None),
    ("reset-sources", Parameter::None),
    ("onoffline", Parameter::None),
    ("cyclelogs", Parameter::None),
    ("shutdown", Parameter::None),
    ("rekey", Parameter::None),
    ("bootstrap-reset-floor", Parameter::None),
    ("pools-forget", Parameter::Name),
];

/// What stands beside a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameter {
    None,
    /// `source`, or nothing.
    Source,
    /// `name`.
    Name,
    /// `setting`.
    Setting,
    /// `source` and `setting`.
    SourceSetting,
}

/// A line, as it is read and written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    command: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    setting: Option<String>,
}

impl Command {
    /// Reads a line without its end.
    ///
    /// # Errors
    ///
    /// [`ControlError`] of kind [`BadRequest`](ErrorKind::BadRequest) or [`UnknownCommand`](ErrorKind::UnknownCommand),
    /// which says what is accepted.
    pub fn parse(line: &[u8]) -> Result<Self, ControlError> {
        let line: Line = serde_json::from_slice(line).map_err(|error| {
            let what = format!("not a request ({error}); accepted: one JSON object on each line, {}", examples());
            ControlError::new(ErrorKind::BadRequest, what)
        })?;
        let Some((_, parameter)) = WORDS.iter().find(|(word, _)| *word == line.command) else {
            let word: String = line.command.chars().take(64).flat_map(char::escape_debug).collect();
            let what = format!("unknown command \"{word}\"; accepted: {}", words());
            return Err(ControlError::new(ErrorKind::UnknownCommand, what));
        };
        let right = match parameter {
            Parameter::None => line.source.is_none() && line.name.is_none() && line.setting.is_none(),
            Parameter::Source => line.name.is_none() && line.setting.is_none(),
            Parameter::Name => line.source.is_none() && line.name.is_some() && line.setting.is_none(),
            Parameter::Setting => line.source.is_none() && line.name.is_none() && line.setting.is_some(),
            Parameter::SourceSetting => line.source.is_some() && line.name.is_none() && line.setting.is_some(),
        };
        if !right {
            let accepted = match parameter {
                Parameter::None => "nothing else",
                Parameter::Source => "\"source\" or nothing else",
                Parameter::Name => "\"name\" and nothing else",
                Parameter::Setting => "\"setting\" and nothing else",
                Parameter::SourceSetting => "\"source\" and \"setting\"",
            };
            let what = format!("wrong parameters; accepted beside \"{}\": {accepted}", line.command);
            return Err(ControlError::new(ErrorKind::BadRequest, what));
        }
        let word = line.command.clone();
        Self::of(line).map_err(|wrong| ControlError::new(ErrorKind::BadRequest, format!("{word}: {wrong}")))
    }

    /// Takes a line that has what stands beside its command.
    fn of(line: Line) -> Result<Self, String> {
        let Line { command, source, name, setting } = line;
        let setting = setting.unwrap_or_default();
        Ok(match command.as_str() {
            "tracking" => Self::Show(Show::Tracking),
            "sources" => Self::Show(Show::Sources),
            "sourcestats" => Self::Show(Show::SourceStats),
            "selectdata" => Self::Show(Show::SelectData),
            "authdata" => Self::Show(Show::AuthData),
            "ntpdata" => Self::Show(Show::NtpData { source }),
            "serverstats" => Self::Show(Show::ServerStats),
            "activity" => Self::Show(Show::Activity),
            "pools" => Self::Show(Show::Pools),
            "clients" => Self::Show(Show::Clients),
            "makestep" => Self::Change(Change::MakeStep),
            "makestep-config" => {
                let (threshold, limit) = setting::parse_steps(&setting)?;
                Self::Change(Change::Steps { threshold, limit })
            }
            "maxupdateskew" => Self::Change(Change::MaxUpdateSkew(setting::parse_skew(&setting)?)),
            "local" => Self::Change(Change::Local(setting::parse_local(&setting)?)),
            "tune" => {
                let tune = tune::parse_tune(&setting)?;
                Self::Change(Change::Tune { source: source.unwrap_or_default(), tune })
            }
            word @ ("allow" | "deny") => Self::Change(Change::Access(tune::parse_access(word == "allow", &setting)?)),
            word @ ("chronyc-allow" | "chronyc-deny") => {
                Self::Change(Change::ChronycAccess(tune::parse_access(word == "chronyc-allow", &setting)?))
            }
            "reload" => Self::Change(Change::Reload),
            "reload-sources" => Self::Change(Change::ReloadSources),
            "burst" => Self::Change(Change::Burst { source }),
            "online" => Self::Change(Change::Online { source }),
            "offline" => Self::Change(Change::Offline { source }),
            "refresh" => Self::Change(Change::Refresh { source }),
            "reselect" => Self::Change(Change::Reselect),
            "reset-sources" => Self::Change(Change::ResetSources),
            "onoffline" => Self::Change(Change::OnOffline),
            "cyclelogs" => Self::Change(Change::CycleLogs),
            "shutdown" => Self::Change(Change::Shutdown),
            "rekey" => Self::Change(Change::Rekey),
            "bootstrap-reset-floor" => Self::Change(Change::ResetFloor),
            _ => Self::Change(Change::PoolsForget { name: name.unwrap_or_default() }),
        })
    }

    /// The word for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Show(show) => match show {
                Show::Tracking => "tracking",
                Show::Sources => "sources",
                Show::SourceStats => "sourcestats",
                Show::SelectData => "selectdata",
                Show::AuthData => "authdata",
                Show::NtpData { .. } => "ntpdata",
                Show::ServerStats => "serverstats",
                Show::Activity => "activity",
                Show::Pools => "pools",
                Show::Clients => "clients",
            },
            Self::Change(change) => match change {
                Change::MakeStep => "makestep",
                Change::Steps { .. } => "makestep-config",
                Change::MaxUpdateSkew(_) => "maxupdateskew",
                Change::Local(_) => "local",
                Change::Tune { .. } => "tune",
                Change::Access(AccessChange { allows: true, .. }) => "allow",
                Change::Access(AccessChange { allows: false, .. }) => "deny",
                Change::ChronycAccess(AccessChange { allows: true, .. }) => "chronyc-allow",
                Change::ChronycAccess(AccessChange { allows: false, .. }) => "chronyc-deny",
                Change::Reload => "reload",
                Change::ReloadSources => "reload-sources",
                Change::Burst { .. } => "burst",
                Change::Online { .. } => "online",
                Change::Offline { .. } => "offline",
                Change::Refresh { .. } => "refresh",
                Change::Reselect => "reselect",
                Change::ResetSources => "reset-sources",
                Change::OnOffline => "onoffline",
                Change::CycleLogs => "cyclelogs",
                Change::Shutdown => "shutdown",
                Change::Rekey => "rekey",
                Change::ResetFloor => "bootstrap-reset-floor",
                Change::PoolsForget { .. } => "pools-forget",
            },
        }
    }

    /// The line that asks for it, with its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        let setting = match self {
            Self::Change(Change::Steps { threshold, limit }) => Some(setting::show_steps(*threshold, *limit)),
            Self::Change(Change::MaxUpdateSkew(skew)) => Some(((skew.to_ppm() * 1e6).round() / 1e6).to_string()),
            Self::Change(Change::Local(local)) => Some(setting::show_local(local.as_ref())),
            Self::Change(Change::Tune { tune, .. }) => Some(tune::show_tune(tune)),
            Self::Change(Change::Access(change) | Change::ChronycAccess(change)) => Some(tune::show_access(change)),
            Self::Show(_) | Self::Change(_) => None,
        };
        let (source, name) = match self {
            Self::Show(Show::NtpData { source })
            | Self::Change(
                Change::Burst { source }
                | Change::Online { source }
                | Change::Offline { source }
                | Change::Refresh { source },
            ) => (source.clone(), None),
            Self::Change(Change::Tune { source, .. }) => (Some(source.clone()), None),
            Self::Change(Change::PoolsForget { name }) => (None, Some(name.clone())),
            Self::Show(_)
            | Self::Change(
                Change::MakeStep
                | Change::Steps { .. }
                | Change::MaxUpdateSkew(_)
                | Change::Local(_)
                | Change::Access(_)
                | Change::ChronycAccess(_)
                | Change::Reload
                | Change::ReloadSources
                | Change::Reselect
                | Change::ResetSources
                | Change::OnOffline
                | Change::CycleLogs
                | Change::Shutdown
                | Change::Rekey
                | Change::ResetFloor,
            ) => (None, None),
        };
        // Strings always make an object.
        let line = Line { command: self.word().to_owned(), source, name, setting };
        serde_json::to_string(&line).unwrap_or_default() + "\n"
    }

    /// Whether this user may have it. Showing is for everybody whom the socket's own permissions let in, save what tells of
    /// others.
    #[must_use]
    pub const fn is_permitted(&self, uid: u32, own_uid: u32) -> bool {
        match self {
            Self::Show(
                Show::Tracking
                | Show::Sources
                | Show::SourceStats
                | Show::SelectData
                | Show::AuthData
                | Show::NtpData { .. }
                | Show::ServerStats
                | Show::Activity
                | Show::Pools,
            ) => true,
            Self::Show(Show::Clients) | Self::Change(_) => uid == 0 || uid == own_uid,
        }
    }
}

fn words() -> String {
    WORDS.map(|(word, _)| word).join(", ")
}

fn examples() -> String {
    format!(r#"such as {{"command":"tracking"}}; commands: {}"#, words())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all() -> Vec<Command> {
        let mut all = Vec::new();
        for (word, parameter) in WORDS {
            let sources = match parameter {
                Parameter::Source => vec![None, Some("a\"b\n".to_owned())],
                Parameter::SourceSetting => vec![Some("a\"b\n".to_owned())],
                Parameter::None | Parameter::Name | Parameter::Setting => vec![None],
            };
            let name = (parameter == Parameter::Name).then(|| "time.example".to_owned());
            let has_setting = matches!(parameter, Parameter::Setting | Parameter::SourceSetting);
            let setting = has_setting.then(|| match word {
                "tune" => "select +prefer".to_owned(),
                "allow" | "deny" | "chronyc-allow" | "chronyc-deny" => "all 192.0.2.0/24".to_owned(),
                "local" => "stratum 3 distance 1 activate 0 orphan waitsynced 0 waitunsynced 300".to_owned(),
                "maxupdateskew" => "100".to_owned(),
                _ => "0.5 -1".to_owned(),
            });
            all.extend(
                sources
                    .into_iter()
                    .map(|source| Line {
                        command: word.to_owned(),
                        source,
                        name: name.clone(),
                        setting: setting.clone(),
                    })
                    .map(|line| Command::of(line).unwrap()),
            );
        }
        all
    }

    #[test]
    fn every_command_is_read_as_it_is_written() {
        for command in all() {
            let line = command.to_line();
            assert_eq!(line.matches('\n').count(), 1);
            assert_eq!(Command::parse(line.trim_end().as_bytes()), Ok(command));
        }
        let words: Vec<&str> = all().iter().map(Command::word).collect();
        assert!(WORDS.iter().all(|(word, _)| words.contains(word)));
    }

    #[test]
    fn errors_say_what_is_accepted() {
        let error = |line: &str| {
            let error = Command::parse(line.as_bytes()).unwrap_err();
            (error.kind, error.message)
        };
        let (kind, message) = error(r#"{"command":"trakcing"}"#);
        assert_eq!(kind, ErrorKind::UnknownCommand);
        assert!(message.starts_with("unknown command \"trakcing\"; accepted: tracking, sources, "), "{message}");
        assert!(message.ends_with(", rekey, bootstrap-reset-floor, pools-forget"), "{message}");

        for (line, end) in [
            (r#"{"command":"tracking","source":"a"}"#, "accepted beside \"tracking\": nothing else"),
            (r#"{"command":"burst","name":"a"}"#, "accepted beside \"burst\": \"source\" or nothing else"),
            (r#"{"command":"local"}"#, "accepted beside \"local\": \"setting\" and nothing else"),
            (r#"{"command":"tune","setting":"a"}"#, "accepted beside \"tune\": \"source\" and \"setting\""),
            (r#"{"command":"tracking","setting":"a"}"#, "accepted beside \"tracking\": nothing else"),
            (r#"{"command":"maxupdateskew","setting":"a"}"#, "accepted: parts per million, above 0 and up to 1000000"),
            (r#"{"command":"pools-forget"}"#, "accepted beside \"pools-forget\": \"name\" and nothing else"),
        ] {
            let (kind, message) = error(line);
            assert_eq!(kind, ErrorKind::BadRequest);
            assert!(message.ends_with(end), "{message}");
        }
        for line in ["", "tracking", "[]", "{}", "null", r#"{"command":"tracking","x":1}"#, r#"{"command":1}"#] {
            let (kind, message) = error(line);
            assert_eq!(kind, ErrorKind::BadRequest, "{line}");
            assert!(
                message.starts_with("not a request (") && message.contains("\"command\":\"tracking\""),
                "{message}"
            );
        }
    }

    #[test]
    fn a_long_wrong_word_is_not_repeated() {
        let line = format!(r#"{{"command":"{}"}}"#, "x".repeat(4000));
        assert!(Command::parse(line.as_bytes()).unwrap_err().message.len() < 450);
    }

    #[test]
    fn only_root_and_the_daemon_may_change() {
        for command in all() {
            let may = |uid, own| command.is_permitted(uid, own);
            let shows = matches!(&command, Command::Show(show) if *show != Show::Clients);
            assert!(may(0, 990) && may(990, 990));
            assert_eq!((may(1000, 990), may(u32::MAX, 990), may(1000, 0)), (shows, shows, shows));
        }
    }

    proptest! {
        #[test]
        fn rubbish_is_refused_in_one_line(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            if let Err(error) = Command::parse(&bytes) {
                prop_assert!(!error.message.contains('\n') && error.message.len() < 1024, "{}", error.message);
            }
        }

        #[test]
        fn objects_are_refused_or_mean_something(
            word in prop_oneof![Just("tracking".to_owned()), Just("burst".to_owned()), ".*"],
            source in prop::option::of(".*"),
            name in prop::option::of(".*"),
        ) {
            let line = serde_json::to_vec(&Line { command: word.clone(), source, name, setting: None }).unwrap();
            match Command::parse(&line) {
                Ok(command) => prop_assert_eq!(command.word(), word),
                Err(error) => prop_assert!(!error.message.contains('\n')),
            }
        }
    }
}
