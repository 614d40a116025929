//! All reports of one moment.

use ntp_proto::ids::SourceId;
use serde::{Deserialize, Serialize};

use super::{
    ActivityReport, AuthDataReport, NtpDataReport, PoolsReport, SelectDataReport, ServerStatsReport, SourceStatsReport,
    SourcesReport, TrackingReport,
};
use crate::observe::View;

/// Everything that is shown of a daemon. Each report has the name of the command of `ntpctl` that shows it alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StatusReport {
    /// The program itself.
    pub daemon: DaemonReport,
    /// The state of the clock.
    pub tracking: TrackingReport,
    /// The sources, and why each is used or not.
    pub sources: SourcesReport,
    /// What the measurements of each source say together.
    pub sourcestats: SourceStatsReport,
    /// What selection went by.
    pub selectdata: SelectDataReport,
    /// How each source is authenticated.
    pub authdata: AuthDataReport,
    /// The last reply of each source.
    pub ntpdata: NtpDataReport,
    /// What was served.
    pub serverstats: ServerStatsReport,
    /// How many sources are asked.
    pub activity: ActivityReport,
    /// The pools and their members.
    pub pools: PoolsReport,
}

/// The program itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DaemonReport {
    /// Its version.
    pub version: String,
    /// When these reports were made, in seconds since 1970 by this machine's clock.
    pub now_unix_seconds: f64,
    /// When it was started, in seconds since 1970. Where the clock has been stepped since, this has moved with it.
    pub started_unix_seconds: i64,
    /// When the certificate of the NTS-KE server expires, in seconds since 1970; none if there is no such server.
    pub certificate_expires_unix_seconds: Option<i64>,
}

impl StatusReport {
    /// Makes all reports.
    #[must_use]
    pub fn new(view: &View<'_>, daemon: DaemonReport) -> Self {
        let all: Vec<SourceId> = view.sources.keys().copied().collect();
        Self {
            daemon,
            tracking: TrackingReport::new(view),
            sources: SourcesReport::new(view),
            sourcestats: SourceStatsReport::new(view),
            selectdata: SelectDataReport::new(view),
            authdata: AuthDataReport::new(view),
            ntpdata: NtpDataReport::new(view, &all),
            serverstats: ServerStatsReport::new(view),
            activity: ActivityReport::new(view),
            pools: PoolsReport::new(view),
        }
    }
}
