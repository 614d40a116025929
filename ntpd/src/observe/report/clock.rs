//! The clock as a whole.

use ntp_proto::{
    bootstrap::{Missing, Report, Standing, State},
    engine::{SourceReport, SourceState},
    select::Verdict,
    time::UnixTime,
};
use serde::{Deserialize, Serialize};

use super::{LeapWord, SourceName};
use crate::observe::{LeapFileInfo, View};

/// The state of the clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TrackingReport {
    /// Whether the clock counts as synchronized.
    pub synchronized: bool,
    /// Whom the clock follows, or followed last: eight hexadecimal digits.
    pub reference_id: String,
    /// The best source; none if no source is used now.
    pub reference: Option<SourceName>,
    /// Stratum of this machine; 16 if it was never synchronized.
    pub stratum: u8,
    /// When the clock was last corrected, in seconds since 1970; none if never.
    pub reference_time_unix_seconds: Option<f64>,
    /// How far the clock is behind the time believed in, in seconds: what is still to be slewed.
    pub pending_seconds: f64,
    /// The last correction, in seconds.
    pub last_offset_seconds: f64,
    /// Long-term root mean square of corrections, in seconds.
    pub rms_offset_seconds: f64,
    /// Rate at which the clock is corrected, in ppm; positive if the oscillator is slow.
    pub frequency_ppm: f64,
    /// How much faster the sources run than what was applied, in ppm.
    pub residual_frequency_ppm: f64,
    /// Error bound of the frequency, in ppm.
    pub skew_ppm: f64,
    /// Round trip to the primary source, in seconds.
    pub root_delay_seconds: f64,
    /// Error bound now, half the root delay not included, in seconds.
    pub root_dispersion_seconds: f64,
    /// Time between the last two corrections, in seconds.
    pub update_interval_seconds: f64,
    /// Corrections since the start.
    pub updates: u64,
    /// Leap seconds; `not-synchronized` if the clock does not count as synchronized.
    pub leap: LeapWord,
    /// Why no source is used, or why the clock does not count as synchronized; none if all is well.
    pub reason: Option<String>,
    /// What is known of the time; none where no authenticated source is expected to tell it.
    #[serde(default)]
    pub time: Option<TimeReport>,
    /// The stratum at which the local clock is served, while no source tells the time.
    #[serde(default)]
    pub local_stratum: Option<u8>,
    /// The file of leap seconds; none where none is configured.
    #[serde(default)]
    pub leap_file: Option<LeapFileReport>,
}

/// What is known of the file of leap seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct LeapFileReport {
    /// Where it is.
    pub path: String,
    /// Until when what it says is complete, in seconds since 1970; none if it was never read.
    pub expires_unix_seconds: Option<i64>,
    /// It no longer tells of all leap seconds, so that sources do.
    pub expired: bool,
    /// Why it could not be read, or not again.
    pub fault: Option<String>,
}

impl LeapFileReport {
    fn new(info: &LeapFileInfo, now: UnixTime) -> Self {
        Self {
            path: info.path.display().to_string(),
            expires_unix_seconds: info.expires.map(|expires| expires.seconds),
            expired: info.expires.is_none_or(|expires| now >= expires),
            fault: info.fault.clone(),
        }
    }
}

/// What is known of the time while authenticated sources are expected to tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TimeReport {
    /// How much.
    pub state: TimeState,
    /// Why this machine's clock was not believed when it was last judged; none if it was.
    pub distrust: Option<String>,
    /// Certificates are taken for valid until the time is known, if they were at any time that is possible.
    pub dates_deferred: bool,
    /// It is this late at least, in seconds since 1970.
    pub earliest_unix_seconds: i64,
    /// What the next state waits for; none if for nothing.
    pub missing: Option<String>,
}

/// How much is known of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum TimeState {
    /// Nothing.
    Unknown,
    /// A majority of operators told it, and has to confirm it.
    Provisional,
    /// It is confirmed.
    Verified,
}

impl TimeState {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => State::Unknown.name(),
            Self::Provisional => State::Provisional.name(),
            Self::Verified => State::Verified.name(),
        }
    }
}

impl TimeReport {
    /// Puts into words what the bootstrap knows.
    #[must_use]
    pub fn new(report: &Report) -> Self {
        Self {
            state: match report.state {
                State::Unknown => TimeState::Unknown,
                State::Provisional => TimeState::Provisional,
                State::Verified => TimeState::Verified,
            },
            distrust: match report.standing {
                Standing::Untrusted(why) => Some(why.to_string()),
                Standing::Trusted | Standing::Plausible => None,
            },
            dates_deferred: report.deferred,
            earliest_unix_seconds: report.earliest,
            missing: (report.missing != Missing::Nothing).then(|| report.missing.to_string()),
        }
    }

    /// What keeps the time from being known, for people.
    #[must_use]
    pub fn obstacles(&self) -> String {
        let missing = self.missing.as_ref().map(|missing| format!("missing: {missing}"));
        [self.distrust.clone(), missing].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

impl TrackingReport {
    /// Reports on the clock.
    #[must_use]
    pub fn new(view: &View<'_>) -> Self {
        let tracking = view.engine.tracking(view.now);
        let status = tracking.status;
        let corrected = !status.reference_time.is_zero();
        let time = view.bootstrap.as_ref().map(TimeReport::new);
        Self {
            synchronized: tracking.synchronized,
            reference_id: status.reference_id.to_string(),
            reference: tracking.selected.map(|id| view.name(id)),
            stratum: status.stratum,
            reference_time_unix_seconds: corrected.then(|| {
                let unix = status.reference_time.to_unix(view.engine.era());
                #[expect(clippy::cast_precision_loss, reason = "exact to a microsecond for thousands of years")]
                let seconds = unix.seconds as f64;
                seconds + f64::from(unix.nanos) / 1e9
            }),
            pending_seconds: tracking.pending.to_seconds(),
            last_offset_seconds: tracking.last_offset,
            rms_offset_seconds: tracking.rms_offset,
            frequency_ppm: tracking.frequency.to_ppm(),
            residual_frequency_ppm: tracking.residual_frequency * 1e6,
            skew_ppm: tracking.skew * 1e6,
            root_delay_seconds: tracking.root_delay.to_seconds(),
            root_dispersion_seconds: tracking.root_dispersion.to_seconds(),
            update_interval_seconds: tracking.update_interval,
            updates: tracking.updates,
            leap: if tracking.synchronized { status.leap.into() } else { LeapWord::NotSynchronized },
            reason: match tracking.selected {
                None => Some(why_nothing(view) + &without_a_server(view)),
                Some(_) if tracking.synchronized => None,
                Some(_) if view.engine.is_held() => Some(time.as_ref().map_or_else(
                    || "a configured name may yet turn out to offer NTS".to_owned(),
                    |time| format!("the time is not verified: {}", time.obstacles()),
                )),
                Some(_) => Some("the error bound is too large to call the clock synchronized".to_owned()),
            },
            time,
            local_stratum: view.local_stratum,
            leap_file: view.leap_file.map(|info| {
                LeapFileReport::new(info, view.engine.map().apply(view.now.clock).to_unix(view.engine.era()))
            }),
        }
    }
}

/// Why no source is used, in one sentence.
fn why_nothing(view: &View<'_>) -> String {
    let sources: Vec<SourceReport<'_>> = view.engine.sources(view.now).collect();
    match sources.as_slice() {
        [] => match (view.unresolved, view.pools) {
            ([], []) => "no source of time is configured".to_owned(),
            ([first, ..], _) => format!("no server is known yet; {}: {}", first.name, first.reason),
            ([], [first, ..]) => match &first.note {
                Some(note) => format!("no server is known yet; {}: {note}", first.name),
                None => format!("no server is known yet; {} is being looked up", first.name),
            },
        },
        [only] => {
            format!("the only source, {}, cannot be used: {}", view.name(only.source.id()).name, view.reason(only))
        }
        many => {
            let mut groups: Vec<(String, usize)> = Vec::new();
            for reason in many.iter().map(group) {
                match groups.iter_mut().find(|(known, _)| *known == reason) {
                    Some((_, count)) => *count += 1,
                    None => groups.push((reason, 1)),
                }
            }
            let list: Vec<String> = groups.iter().map(|(reason, count)| format!("{count}: {reason}")).collect();
            format!("none of {} sources can be used ({})", many.len(), list.join("; "))
        }
    }
}

/// The names that no server is known of beside those that are, which count among those that must agree.
fn without_a_server(view: &View<'_>) -> String {
    let is_alone = view.engine.sources(view.now).next().is_none();
    let names = view.unresolved.iter().filter(|_| !is_alone);
    names.map(|missing| format!("; no server for {}: {}", missing.name, missing.reason)).collect()
}

/// The reason without what differs from source to source.
fn group(report: &SourceReport<'_>) -> String {
    match (report.verdict, report.state) {
        (Verdict::NoSamples | Verdict::Unreachable, SourceState::NoKeys) => "waits for keys".to_owned(),
        (Verdict::NoSamples | Verdict::Unreachable, SourceState::Offline) => "not asked (offline)".to_owned(),
        (verdict, _) => verdict.to_string(),
    }
}

/// How many sources are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ActivityReport {
    /// Asked regularly.
    pub online: usize,
    /// Not asked.
    pub offline: usize,
    /// Asked several times in a row, then regularly.
    pub burst: usize,
    /// Waiting for keys.
    pub no_keys: usize,
    /// Without an address.
    pub unresolved: usize,
}

impl ActivityReport {
    /// Counts the sources.
    #[must_use]
    pub fn new(view: &View<'_>) -> Self {
        let mut report = Self { unresolved: view.unresolved.len(), ..Self::default() };
        // Reference clocks are not asked by anybody.
        for source in view.engine.sources(view.now).filter(|report| report.source.refclock().is_none()) {
            *match source.state {
                SourceState::Online => &mut report.online,
                SourceState::Burst => &mut report.burst,
                SourceState::Offline => &mut report.offline,
                SourceState::NoKeys => &mut report.no_keys,
            } += 1;
        }
        report
    }
}
