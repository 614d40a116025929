//! What came of it, and whether that is what was promised.

use std::{fmt::Write as _, time::Duration};

use ntp_proto::bootstrap::State;
use serde::Serialize;

use super::{
    stage::{OPERATORS, TRUE, is_impostor},
    story::Story,
    view::{Known, View},
};
use crate::{demo::outcome::GOAL, observe::table::date_of};

/// The result, as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Outcome {
    /// `unknown`, `provisional` or `verified`, at the end.
    state: &'static str,
    provisional_after_seconds: Option<f64>,
    verified_after_seconds: Option<f64>,
    clock_error_seconds: f64,
    /// How often the clock was set after the start.
    steps: u32,
    impostor_rejected: bool,
    pub(super) passed: bool,
    /// What does not hold of that which was promised.
    failures: Vec<String>,
    operators: Vec<Operator>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Operator {
    name: &'static str,
    impostor: bool,
    /// When its certificate is valid, in Unix seconds.
    valid_from: Option<i64>,
    valid_until: Option<i64>,
    used: bool,
    problem: Option<String>,
}

impl Outcome {
    pub(super) fn of(story: &Story, last: &View) -> Self {
        let seconds = |state| story.reached(state).map(|at: Duration| at.as_secs_f64());
        let state = last.report.map(|report| report.state);
        let operators: Vec<Operator> = OPERATORS.iter().enumerate().zip(&last.operators).map(Operator::of).collect();
        let mut failures = Vec::new();
        if state != Some(State::Verified) {
            failures.push("the time is not verified".to_owned());
        }
        if story.reached(State::Provisional).is_none() {
            failures.push("no majority was asked again before it was believed".to_owned());
        }
        if story.steps != 1 {
            failures.push(format!("the clock was set {} times, not once", story.steps));
        }
        let impostor_rejected = operators.iter().zip(&last.operators).any(|(operator, known)| {
            operator.impostor && !known.has_keys && known.window.is_some_and(|window| !window.contains(TRUE, 0))
        });
        if !impostor_rejected {
            failures.push("the impostor is not rejected".to_owned());
        }
        for operator in operators.iter().filter(|operator| operator.problem.is_some() && !operator.impostor) {
            failures.push(format!("{} is refused and is no impostor", operator.name));
        }
        // Not a number is no good either.
        if !matches!(last.error.abs().partial_cmp(&GOAL), Some(std::cmp::Ordering::Less)) {
            failures.push(format!("the clock is off by {:+.6} s, not less than {GOAL} s", last.error));
        }
        Self {
            state: state.map_or("none", State::name),
            provisional_after_seconds: seconds(State::Provisional),
            verified_after_seconds: seconds(State::Verified),
            clock_error_seconds: last.error,
            steps: story.steps,
            impostor_rejected,
            passed: failures.is_empty(),
            failures,
            operators,
        }
    }

    /// For people.
    pub(super) fn to_text(&self) -> String {
        let mut text = format!("\n{:<16} {:<25} what is made of it\n", "operator", "certificate until");
        for Operator { name, impostor, valid_until, used, problem, .. } in &self.operators {
            let until = valid_until.map_or_else(|| "-".to_owned(), date_of);
            let verdict = match problem {
                Some(problem) => format!("refused: {problem}"),
                None if *used => "used".to_owned(),
                None => "not used".to_owned(),
            };
            let mark = if *impostor { "  <- the impostor" } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<16} {until:<25} {verdict}{mark}");
        }
        let after = self.verified_after_seconds.map_or_else(|| "never".to_owned(), |at| format!("after {at:.1} s"));
        let _ = writeln!(
            text,
            "\nverified {after}; clock off by {:+.1} us (wanted: less than {} us)",
            self.clock_error_seconds * 1e6,
            GOAL * 1e6
        );
        for failure in &self.failures {
            let _ = writeln!(text, "wrong: {failure}");
        }
        text.push_str(if self.passed { "passed\n" } else { "FAILED\n" });
        text
    }
}

impl Operator {
    fn of(((place, name), known): ((usize, &&'static str), &Known)) -> Self {
        Self {
            name,
            impostor: is_impostor(place),
            valid_from: known.window.map(|window| window.not_before),
            valid_until: known.window.map(|window| window.not_after),
            used: known.used,
            problem: known.problem.clone(),
        }
    }
}
