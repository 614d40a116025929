//! What was served.

use ntp_proto::counters::ServerCounters;
use serde::{Deserialize, Serialize};

use crate::observe::{ControlCounters, KeCounters, View};

/// Everything that was served, since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
        Self {
            ntp: view.server.as_ref().map(NtpServerCounters::from),
            key_exchange: view.key_exchange,
            control: view.control,
        }
    }
}

/// [`ServerCounters`], with sums, for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[expect(missing_docs, reason = "the fields are those of `ServerCounters`; `dropped` and `replied` are their sums")]
pub struct NtpServerCounters {
    pub received: u64,
    pub replied: u64,
    pub dropped: u64,
    pub dropped_malformed: u64,
    pub dropped_mode: u64,
    pub dropped_access: u64,
    pub dropped_key: u64,
    pub dropped_nts: u64,
    pub dropped_rate: u64,
    pub dropped_no_space: u64,
    pub replies_plain: u64,
    pub replies_symmetric: u64,
    pub replies_nts: u64,
    pub replies_nts_nak: u64,
    pub replies_kiss: u64,
    pub interleaved: u64,
    pub cookies: u64,
    pub stamped_by_daemon: u64,
    pub stamped_by_kernel: u64,
    pub stamped_by_hardware: u64,
}

impl From<&ServerCounters> for NtpServerCounters {
    fn from(counters: &ServerCounters) -> Self {
        Self {
            received: counters.received,
            replied: counters.replied(),
            dropped: counters.dropped(),
            dropped_malformed: counters.dropped_malformed,
            dropped_mode: counters.dropped_mode,
            dropped_access: counters.dropped_access,
            dropped_key: counters.dropped_key,
            dropped_nts: counters.dropped_nts,
            dropped_rate: counters.dropped_rate,
            dropped_no_space: counters.dropped_no_space,
            replies_plain: counters.replies_plain,
            replies_symmetric: counters.replies_symmetric,
            replies_nts: counters.replies_nts,
            replies_nts_nak: counters.replies_nts_nak,
            replies_kiss: counters.replies_kiss,
            interleaved: counters.interleaved,
            cookies: counters.cookies,
            stamped_by_daemon: counters.stamped_by_daemon,
            stamped_by_kernel: counters.stamped_by_kernel,
            stamped_by_hardware: counters.stamped_by_hardware,
        }
    }
}
