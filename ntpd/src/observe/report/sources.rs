//! The sources: what they say, how well, and what is made of it.

use ntp_proto::{
    engine::SourceReport,
    filter::Filter as _,
    ids::Trust,
    sample::Exchange,
    select::{SelectOptions, Verdict},
    source::LastReply,
};
use serde::{Deserialize, Serialize};

use super::{Asked, LeapWord, SourceName};
use crate::observe::View;

/// All sources in one glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SourcesReport {
    /// In the order in which they were added; those without an address last.
    pub sources: Vec<SourceRow>,
}

/// A source, and what is made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Judged {
    /// Which source.
    #[serde(flatten)]
    pub source: SourceName,
    /// The state letter that chronyc has for it.
    pub state: char,
    /// What selection made of it: the name of a [`Verdict`].
    pub verdict: String,
    /// What vouches for it: `dane`, `dnssec`, `pki`, `key` or `none`.
    pub trust: String,
    /// Why it is used, or not.
    pub reason: String,
}

impl Judged {
    fn new(view: &View<'_>, report: &SourceReport<'_>, state: char) -> Self {
        Self {
            source: view.name(report.source.id()),
            state,
            verdict: report.verdict.name().to_owned(),
            trust: report.source.config().trust.name().to_owned(),
            reason: view.reason(report),
        }
    }
}

/// One source in one glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SourceRow {
    /// Which, and what is made of it, with the letter of chronyc's `sources`.
    #[serde(flatten)]
    pub judged: Judged,
    /// Whether and how it is asked.
    pub asked: Asked,
    /// The test that the last refused reply failed, whenever that was: the name of a
    /// [`Refusal`](ntp_proto::source::Refusal).
    pub last_refusal: Option<String>,
    /// Its stratum.
    pub stratum: Option<u8>,
    /// Time between requests, log2 seconds.
    pub poll_log2_seconds: i8,
    /// Which of the last eight requests were answered; the newest is the lowest bit.
    pub reach: u8,
    /// Time since its last good reply, in seconds.
    pub last_reply_age_seconds: Option<f64>,
    /// Its last offset, corrected for what was done to the clock since, in seconds.
    pub offset_seconds: Option<f64>,
    /// The offset as it was measured, in seconds.
    pub measured_offset_seconds: Option<f64>,
    /// Largest error of that against true time, in seconds.
    pub error_seconds: Option<f64>,
}

impl SourcesReport {
    /// Reports on all sources.
    #[must_use]
    pub fn new(view: &View<'_>) -> Self {
        let mut sources: Vec<SourceRow> = view.engine.sources(view.now).map(|source| row(view, &source)).collect();
        sources.extend(view.unresolved.iter().map(|missing| SourceRow {
            judged: Judged {
                source: SourceName { name: missing.name.clone(), address: None, pool: None, refclock: None },
                state: Verdict::NoSamples.short_letter(),
                verdict: Verdict::NoSamples.name().to_owned(),
                trust: Trust::None.name().to_owned(),
                reason: missing.reason.clone(),
            },
            asked: Asked::Unresolved,
            last_refusal: None,
            stratum: None,
            poll_log2_seconds: 0,
            reach: 0,
            last_reply_age_seconds: None,
            offset_seconds: None,
            measured_offset_seconds: None,
            error_seconds: None,
        }));
        Self { sources }
    }
}

fn row(view: &View<'_>, report: &SourceReport<'_>) -> SourceRow {
    let source = report.source;
    let (latest, last) = (source.filter().latest(), source.last_reply());
    let measured = last.and_then(|reply| reply.exchange.as_ref()).map(Exchange::sample);
    SourceRow {
        judged: Judged::new(view, report, report.verdict.short_letter()),
        asked: report.state.into(),
        last_refusal: source.last_refusal().map(|refusal| refusal.name().to_owned()),
        stratum: last.map(|reply| reply.server.stratum),
        poll_log2_seconds: source.schedule().poll().log2_seconds(),
        reach: source.reach().bits(),
        last_reply_age_seconds: last.map(|reply| view.age(reply.at)),
        offset_seconds: latest.map(|sample| sample.offset),
        measured_offset_seconds: latest.map(|sample| measured.map_or(sample.offset, |raw| raw.offset)),
        error_seconds: latest.map(ntp_proto::sample::Sample::root_distance),
    }
}

/// What the measurements of each source say together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SourceStatsReport {
    /// In the order in which they were added.
    pub sources: Vec<SourceStatsRow>,
}

/// What the measurements of one source say together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SourceStatsRow {
    /// Which source.
    #[serde(flatten)]
    pub source: SourceName,
    /// Measurements in use.
    pub samples: usize,
    /// Runs of residuals with the same sign.
    pub runs: usize,
    /// Time from the oldest of the measurements to the newest, in seconds.
    pub span_seconds: f64,
    /// How much faster it runs than this clock, in ppm.
    pub frequency_ppm: Option<f64>,
    /// Error bound of that, in ppm.
    pub skew_ppm: Option<f64>,
    /// Its offset now, in seconds.
    pub offset_seconds: Option<f64>,
    /// Standard deviation of single measurements, in seconds.
    pub deviation_seconds: Option<f64>,
}

impl SourceStatsReport {
    /// Reports on all sources.
    #[must_use]
    pub fn new(view: &View<'_>) -> Self {
        let row = |report: SourceReport<'_>| {
            let estimate = report.estimate;
            SourceStatsRow {
                source: view.name(report.source.id()),
                samples: estimate.map_or(0, |e| e.samples),
                runs: estimate.map_or(0, |e| e.runs),
                span_seconds: estimate.map_or(0.0, |e| e.span),
                frequency_ppm: estimate.map(|e| e.frequency * 1e6),
                skew_ppm: estimate.map(|e| e.skew * 1e6),
                offset_seconds: estimate.map(|e| e.offset),
                deviation_seconds: estimate.map(|e| e.jitter),
            }
        };
        Self { sources: view.engine.sources(view.now).map(row).collect() }
    }
}

/// What selection went by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SelectDataReport {
    /// In the order in which they were added.
    pub sources: Vec<SelectDataRow>,
}

/// What selection went by with one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SelectDataRow {
    /// Which, and what is made of it, with the letter of chronyc's `selectdata`.
    #[serde(flatten)]
    pub judged: Judged,
    /// Whether its packets are authenticated.
    pub authenticated: bool,
    /// How the administrator wants it to be used.
    pub configured: Options,
    /// How it is used, after what authentication counts for.
    pub effective: Options,
    /// Time since its last measurement, in seconds.
    pub last_sample_age_seconds: Option<f64>,
    /// True time is at least this far ahead of this clock, by what this source says, in seconds.
    pub low_seconds: Option<f64>,
    /// And at most this far.
    pub high_seconds: Option<f64>,
    /// What it says of leap seconds.
    pub leap: LeapWord,
}

/// How a source may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Options {
    /// It is only measured.
    pub noselect: bool,
    /// It is used rather than others that agree with it.
    pub prefer: bool,
    /// It votes on the time, whatever vouches for it.
    pub trust: bool,
    /// No source is followed unless this one agrees.
    pub require: bool,
}

impl From<SelectOptions> for Options {
    fn from(options: SelectOptions) -> Self {
        let SelectOptions { noselect, prefer, trust, require } = options;
        Self { noselect, prefer, trust, require }
    }
}

impl SelectDataReport {
    /// Reports on all sources.
    #[must_use]
    pub fn new(view: &View<'_>) -> Self {
        let row = |report: SourceReport<'_>| {
            let (config, estimate) = (report.source.config(), report.estimate);
            let authenticated = config.trust > Trust::Local;
            SelectDataRow {
                judged: Judged::new(view, &report, report.verdict.letter()),
                authenticated,
                configured: config.options.into(),
                effective: report.effective.into(),
                last_sample_age_seconds: estimate.map(|e| e.age),
                low_seconds: estimate.map(|e| e.offset - e.distance()),
                high_seconds: estimate.map(|e| e.offset + e.distance()),
                leap: report.source.last_reply().map_or(LeapWord::NotSynchronized, leap_of),
            }
        };
        Self { sources: view.engine.sources(view.now).map(row).collect() }
    }
}

fn leap_of(reply: &LastReply) -> LeapWord {
    reply.leap.into()
}
