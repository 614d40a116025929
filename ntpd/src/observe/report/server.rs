//! What was served.

use std::collections::BTreeMap;

use ntp_proto::counters::ServerCounters;
use serde::{Deserialize, Serialize};

use crate::observe::{ControlCounters, KeCounters, View};

/// Everything that was served, since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServerStatsReport {
    /// NTP; none if it is not served.
    pub ntp: Option<NtpServerCounters>,
    /// NTS key exchange; none if it is not served.
    pub key_exchange: Option<KeCounters>,
    /// The control socket.
    pub control: ControlCounters,
}

impl ServerStatsReport {
    /// Reports on what was served.
    #[must_use]
    pub fn new(view: &View<'_>) -> Self {
        Self { ntp: view.server.map(NtpServerCounters), key_exchange: view.key_exchange, control: view.control }
    }
}

/// [`ServerCounters`] for reports: a table of them by name, with the sums `dropped` and `replied`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "BTreeMap<String, u64>", from = "BTreeMap<String, u64>")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NtpServerCounters(pub ServerCounters);

/// A count's name as it is written in reports.
fn written(name: &str) -> String {
    name.replace('_', "-")
}

impl From<NtpServerCounters> for BTreeMap<String, u64> {
    fn from(NtpServerCounters(counters): NtpServerCounters) -> Self {
        let sums = [("dropped", counters.dropped()), ("replied", counters.replied())];
        let all = ServerCounters::NAMES.into_iter().zip(counters.to_array()).chain(sums);
        all.map(|(name, count)| (written(name), count)).collect()
    }
}

impl From<BTreeMap<String, u64>> for NtpServerCounters {
    /// A count that is not there is zero.
    fn from(table: BTreeMap<String, u64>) -> Self {
        let count = |name: &str| table.get(&written(name)).copied().unwrap_or_default();
        Self(ServerCounters::from_array(ServerCounters::NAMES.map(count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_by_name_with_their_sums_and_read_back() {
        let counters = ServerCounters {
            received: 9,
            dropped_no_space: 2,
            replies_nts: 3,
            replies_kiss: 4,
            ..ServerCounters::default()
        };
        let text = serde_json::to_string(&NtpServerCounters(counters)).unwrap();
        for part in ["\"dropped\":2", "\"replied\":7", "\"dropped-no-space\":2", "\"received\":9", "\"cookies\":0"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(serde_json::from_str::<NtpServerCounters>(&text).unwrap().0, counters);
        assert_eq!(serde_json::from_str::<NtpServerCounters>("{}").unwrap(), NtpServerCounters::default());
    }
}
