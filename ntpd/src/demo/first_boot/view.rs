//! What can be seen of the machine at one moment.

use std::time::Duration;

use ntp_proto::bootstrap::{Report, Window};

use super::stage::{OPERATORS, Stage};
use crate::{client::Client, now};

/// What is known of one operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// When its certificate is valid, once that was seen.
    pub(super) window: Option<Window>,
    /// Whether there are keys to measure it with.
    pub(super) has_keys: bool,
    /// What it says that it is, in Unix seconds.
    pub(super) says: Option<i64>,
    /// Whether selection counts it among those who tell the truth.
    pub(super) used: bool,
    /// What keeps it from being used.
    pub(super) problem: Option<String>,
}

/// The machine at one moment.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Time since the start.
    pub(super) elapsed: Duration,
    /// What is known of the time; `None` if that is nobody's question, which would be wrong here.
    pub(super) report: Option<Report>,
    /// How far the clock is ahead of the truth, in seconds.
    pub(super) error: f64,
    /// What the clock says, in Unix seconds.
    pub(super) clock: i64,
    /// As in [`OPERATORS`].
    pub(super) operators: Vec<Known>,
}

impl View {
    pub(super) fn of(stage: &Stage, client: &mut Client, elapsed: Duration) -> Self {
        let ahead = client.clock_mut().true_error();
        let clock = now::unix().seconds.saturating_add(whole(ahead.map_or(0.0, |ahead| ahead.to_seconds())));
        let mut operators: Vec<Known> = vec![Known::default(); OPERATORS.len()];
        let place = |name: &str| OPERATORS.iter().position(|operator| *operator == name);
        client.for_each_source(|report, info| {
            let Some(known) = place(&info.name).and_then(|place| operators.get_mut(place)) else { return };
            known.has_keys = true;
            known.says = report.estimate.as_ref().map(|estimate| clock.saturating_add(whole(estimate.offset)));
            known.used = report.verdict.is_used();
        });
        for seen in client.seen_servers() {
            if let Some(known) = place(seen.server).and_then(|place| operators.get_mut(place)) {
                known.window = Some(seen.window);
            }
        }
        for problem in client.problems() {
            let (name, why) = problem.split_once(": ").unwrap_or((&problem, ""));
            if let Some(known) = place(name).and_then(|place| operators.get_mut(place)) {
                known.problem = Some(why.to_owned());
            }
        }
        let error = ahead.map_or(f64::NAN, |ahead| (ahead - stage.truth).to_seconds());
        Self { elapsed, report: client.bootstrap_report(), error, clock, operators }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "some decades in seconds")]
fn whole(seconds: f64) -> i64 {
    seconds.round() as i64
}
