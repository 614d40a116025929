//! Reports: plain values made of a [`View`], the same in the daemon, on the control socket and in `ntpctl`.
//!
//! Offsets have the sign of NTP: positive if the source is ahead of this clock.

use std::net::SocketAddr;

use ntp_proto::{
    engine::{SourceReport, SourceState},
    ids::{Leap, SourceId, StampKind},
    select::Verdict,
    time::Monotonic,
};
use serde::{Deserialize, Serialize};

use super::View;

mod clients;
mod clock;
mod packets;
mod pools;
#[cfg(test)]
mod schema;
mod server;
mod sources;
mod status;
#[cfg(test)]
pub(crate) mod tests;

pub use clients::{ClientRequests, ClientsReport, ClientsRow};
pub use clock::{ActivityReport, LeapFileReport, TimeReport, TimeState, TrackingReport};
pub use packets::{AuthDataReport, AuthDataRow, AuthMode, Measurement, NtpDataReport, NtpDataRow, Reply};
pub use pools::{PoolMember, PoolRow, PoolsReport};
pub use server::{NtpServerCounters, ServerStatsReport};
pub use sources::{
    Judged, Options, SelectDataReport, SelectDataRow, SourceRow, SourceStatsReport, SourceStatsRow, SourcesReport,
};
pub use status::{DaemonReport, StatusReport};

/// Which source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SourceName {
    /// Its name as it was configured, or as its pool calls it.
    pub name: String,
    /// Where it is asked; none before its name is resolved.
    pub address: Option<SocketAddr>,
    /// The pool it belongs to.
    pub pool: Option<String>,
    /// What device or program it is, such as `pps /dev/pps0`, if it is no server.
    #[serde(default)]
    pub refclock: Option<String>,
}

/// What is said of leap seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum LeapWord {
    /// None is coming.
    Normal,
    /// One is inserted at the end of the month.
    InsertSecond,
    /// One is deleted at the end of the month.
    DeleteSecond,
    /// The clock is not synchronized.
    NotSynchronized,
}

impl From<Leap> for LeapWord {
    fn from(leap: Leap) -> Self {
        match leap {
            Leap::None => Self::Normal,
            Leap::Insert => Self::InsertSecond,
            Leap::Delete => Self::DeleteSecond,
            Leap::Unsynchronized => Self::NotSynchronized,
        }
    }
}

/// Whether and how a source is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Asked {
    /// Regularly.
    Online,
    /// Several times in a row.
    Burst,
    /// Not at all.
    Offline,
    /// Not before it has keys.
    NoKeys,
    /// Not before it has an address.
    Unresolved,
}

impl From<SourceState> for Asked {
    fn from(state: SourceState) -> Self {
        match state {
            SourceState::Online => Self::Online,
            SourceState::Burst => Self::Burst,
            SourceState::Offline => Self::Offline,
            SourceState::NoKeys => Self::NoKeys,
        }
    }
}

/// Who made a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum StampWord {
    /// This program.
    Daemon,
    /// The kernel.
    Kernel,
    /// The network interface.
    Hardware,
}

impl From<StampKind> for StampWord {
    fn from(kind: StampKind) -> Self {
        match kind {
            StampKind::Daemon => Self::Daemon,
            StampKind::Kernel => Self::Kernel,
            StampKind::Hardware => Self::Hardware,
        }
    }
}

impl View<'_> {
    /// How a source is named; by its number if the daemon does not know it.
    fn name(&self, id: SourceId) -> SourceName {
        self.sources.get(&id).map_or_else(
            || SourceName { name: format!("source {}", id.0), address: None, pool: None, refclock: None },
            |info| SourceName {
                name: info.name.clone(),
                address: info.address,
                pool: info.pool.clone(),
                refclock: info.refclock.clone(),
            },
        )
    }

    /// Seconds since `at`.
    fn age(&self, at: Monotonic) -> f64 {
        self.now.monotonic.since(at).as_secs_f64()
    }

    /// Why a source is used, or not.
    fn reason(&self, report: &SourceReport<'_>) -> String {
        let state = match report.state {
            SourceState::Offline => Some("not asked (offline)"),
            SourceState::NoKeys => Some("waits for keys"),
            SourceState::Online | SourceState::Burst => None,
        };
        let silent = matches!(report.verdict, Verdict::NoSamples | Verdict::Unreachable);
        let mut reason = match state {
            Some(state) if silent => state.to_owned(),
            Some(state) => format!("{}; {state}", report.verdict),
            None => report.verdict.to_string(),
        };
        if let Some(refusal) = report.source.last_refusal().filter(|_| silent) {
            let what = if report.source.refclock().is_some() { "reading" } else { "reply" };
            reason.push_str(&format!("; last {what} refused: {refusal}"));
        }
        let note = self.sources.get(&report.source.id()).and_then(|info| info.note.as_deref());
        if let Some(note) = note.filter(|note| !note.is_empty()) {
            reason.push_str(&format!("; {note}"));
        }
        reason
    }
}
