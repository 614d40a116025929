//! The control socket: a Unix stream socket that takes one JSON object a line and answers each with one.
//!
//! ```text
//! {"command":"ntpdata","source":"192.0.2.1"}
//! {"ok":{"ntpdata":{"sources":[...]}}}
//! {"command":"makestep"}
//! {"error":{"kind":"not-permitted","message":"..."}}
//! ```
//!
//! Requests reach the daemon's loop as [`ControlRequest`]s over a bounded queue. Whatever a client does, the worst that
//! happens is that it is disconnected.

use std::fmt;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{View, find, report};

mod client;
mod command;
mod server;
pub mod setting;
mod socket;
pub mod tune;

pub use client::{AskError, ask};
pub use command::{Change, Command, Show};
pub use server::{ControlCounts, ControlServer, MAX_CONNECTIONS, MAX_REQUEST, QUEUE};
pub use socket::{BindError, BindFault};

/// A request on its way to the daemon's loop. If the sender is dropped unused, the client is told that the daemon stops.
#[derive(Debug)]
pub struct ControlRequest {
    /// What is wanted.
    pub command: Command,
    /// Where the answer goes; it may be sent later, within ten seconds.
    pub reply: oneshot::Sender<Result<Reply, ControlError>>,
}

/// What a command gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "each is the report of the same name")]
pub enum Reply {
    Tracking(report::TrackingReport),
    Sources(report::SourcesReport),
    SourceStats(report::SourceStatsReport),
    SelectData(report::SelectDataReport),
    AuthData(report::AuthDataReport),
    NtpData(report::NtpDataReport),
    ServerStats(report::ServerStatsReport),
    Activity(report::ActivityReport),
    Pools(report::PoolsReport),
    Clients(report::ClientsReport),
    /// A change was made; the sentence says which.
    Done(String),
}

/// Why there is no table of clients.
const NO_CLIENTS: &str = "no note is taken of clients: `client-log` of [serve] says of how many it is";

impl Reply {
    /// Makes a report.
    ///
    /// # Errors
    ///
    /// [`ControlError`] of kind [`NotFound`](ErrorKind::NotFound) if a source is named that does not exist.
    pub fn show(show: &Show, view: &View<'_>) -> Result<Self, ControlError> {
        Ok(match show {
            Show::Tracking => Self::Tracking(report::TrackingReport::new(view)),
            Show::Sources => Self::Sources(report::SourcesReport::new(view)),
            Show::SourceStats => Self::SourceStats(report::SourceStatsReport::new(view)),
            Show::SelectData => Self::SelectData(report::SelectDataReport::new(view)),
            Show::AuthData => Self::AuthData(report::AuthDataReport::new(view)),
            Show::NtpData { source } => {
                let wanted = find(view.sources, source.as_deref());
                if let Some(name) = source.as_ref().filter(|_| wanted.is_empty()) {
                    return Err(ControlError::no_source(name));
                }
                Self::NtpData(report::NtpDataReport::new(view, &wanted))
            }
            Show::ServerStats => Self::ServerStats(report::ServerStatsReport::new(view)),
            Show::Activity => Self::Activity(report::ActivityReport::new(view)),
            Show::Pools => Self::Pools(report::PoolsReport::new(view)),
            Show::Clients => match view.clients {
                Some(clients) => {
                    Self::Clients(report::ClientsReport::new(clients.rows(0..usize::MAX).map(|(_, row)| row)))
                }
                None => return Err(ControlError::new(ErrorKind::Failed, NO_CLIENTS)),
            },
        })
    }

    /// The report alone, for people and scripts.
    ///
    /// # Errors
    ///
    /// None: reports are made of strings and numbers.
    pub fn to_json(&self) -> serde_json::Result<String> {
        use serde_json::to_string_pretty as json;
        match self {
            Self::Tracking(report) => json(report),
            Self::Sources(report) => json(report),
            Self::SourceStats(report) => json(report),
            Self::SelectData(report) => json(report),
            Self::AuthData(report) => json(report),
            Self::NtpData(report) => json(report),
            Self::ServerStats(report) => json(report),
            Self::Activity(report) => json(report),
            Self::Pools(report) => json(report),
            Self::Clients(report) => json(report),
            Self::Done(_) => json(self),
        }
    }
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlError {
    /// What kind of fault.
    pub kind: ErrorKind,
    /// What happened, and what would be right: one line.
    pub message: String,
}

impl ControlError {
    /// An error with its message.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// There is no source of this name.
    #[must_use]
    pub fn no_source(name: &str) -> Self {
        Self::new(ErrorKind::NotFound, format!("no source has the name, address or pool \"{}\"", name.escape_debug()))
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ControlError {}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The request is no request.
    BadRequest,
    /// The daemon has no such command.
    UnknownCommand,
    /// Not everybody may do that.
    NotPermitted,
    /// There is no such source or pool.
    NotFound,
    /// Too much is asked at once.
    Busy,
    /// It was tried.
    Failed,
    /// Something that a newer daemon knows.
    #[serde(other)]
    Other,
}

/// One line from the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    /// The command was carried out.
    Ok(Box<Reply>),
    /// It was not.
    Error(ControlError),
}

impl From<Result<Reply, ControlError>> for Answer {
    fn from(result: Result<Reply, ControlError>) -> Self {
        match result {
            Ok(reply) => Self::Ok(Box::new(reply)),
            Err(error) => Self::Error(error),
        }
    }
}
