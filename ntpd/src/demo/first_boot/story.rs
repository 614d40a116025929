//! What happens, in words, as it happens.

use std::time::Duration;

use ntp_proto::bootstrap::{Missing, Report, State};

use super::{
    stage::{CLOCK, OPERATORS, TRUE, address, is_impostor, life, said},
    view::{Known, View},
};
use crate::observe::{report::TimeReport, table::date_of};

/// A clock that moved by more than this between two looks was set, in seconds.
const SET: f64 = 1.0;

/// What is there at the beginning.
pub(super) fn setting() -> Vec<String> {
    let mut lines = vec![
        "All of this runs in one process, on loopback, with keys made just now.".to_owned(),
        format!("It is {}, UTC. There are {} operators, each with a key exchange:", date_of(TRUE), OPERATORS.len()),
    ];
    for (operator, name) in OPERATORS.iter().enumerate() {
        let life = life(operator);
        let (from, until) = (date_of(life.not_before), date_of(life.not_after));
        lines.push(format!("  {name:<16} {:<10} certificate from {from} to {until}", address(operator).to_string()));
        if is_impostor(operator) {
            let lie = date_of(said(operator));
            lines.push(format!("  {:<27} an impostor: its key was stolen, has expired, and says that it is {lie}", ""));
        }
    }
    lines.push(format!(
        "The machine has no hardware clock and has saved nothing: its clock starts at {}.",
        date_of(CLOCK)
    ));
    lines.push(String::new());
    lines
}

/// How near the clock is.
pub(super) fn progress(view: &View) -> String {
    let used = view.operators.iter().filter(|known| known.used).count();
    at(view, &format!("sources used: {used}; clock off by {:+.6} s", view.error))
}

fn at(view: &View, text: &str) -> String {
    format!("{:>5.1} s  {text}", view.elapsed.as_secs_f64())
}

/// Remembers what was told.
#[derive(Debug, Default)]
pub(super) struct Story {
    state: Option<State>,
    missing: Option<Missing>,
    error: Option<f64>,
    /// What was told of each operator since keys were last exchanged with all.
    told: Vec<Known>,
    /// When each state was reached first.
    reached: Vec<(State, Duration)>,
    /// How often the clock was set while the time was not known.
    pub(super) steps: u32,
}

impl Story {
    /// When a state was reached first.
    pub(super) fn reached(&self, state: State) -> Option<Duration> {
        self.reached.iter().find(|(reached, _)| *reached == state).map(|(_, at)| *at)
    }

    /// What is new.
    pub(super) fn tell(&mut self, view: &View) -> Vec<String> {
        let Some(report) = view.report else { return Vec::new() };
        let mut lines = Vec::new();
        self.told.resize(view.operators.len(), Known::default());
        // What operators said last belongs before the state that it led to.
        if self.state == Some(report.state) {
            self.tell_operators(view, report.state, &mut lines);
        }
        let set = self.error.map(|before| view.error - before).filter(|by| by.abs() > SET);
        self.steps += u32::from(set.is_some());
        self.error = Some(view.error);
        if self.state != Some(report.state) {
            self.reached.push((report.state, view.elapsed));
            self.state = Some(report.state);
            if report.state != State::Verified {
                self.told = vec![Known::default(); view.operators.len()];
            }
            lines.extend(entering(view, &report, set));
        }
        if self.missing != Some(report.missing) {
            self.missing = Some(report.missing);
            if report.missing != Missing::Nothing {
                lines.push(at(view, &format!("missing: {}", report.missing)));
            }
        }
        lines
    }

    fn tell_operators(&mut self, view: &View, state: State, lines: &mut Vec<String>) {
        for (operator, (told, known)) in self.told.iter_mut().zip(&view.operators).enumerate() {
            let name = OPERATORS.get(operator).copied().unwrap_or_default();
            if known.has_keys && !told.has_keys {
                let judged = match (state, known.window) {
                    (State::Unknown, Some(window)) => {
                        let (from, until) = (date_of(window.not_before), date_of(window.not_after));
                        format!("it may be any time from {from} to {until}, says its certificate")
                    }
                    _ => "its certificate is valid at the time that was agreed on".to_owned(),
                };
                lines.push(at(view, &format!("{name} has given keys; {judged}")));
            }
            if let (Some(says), None) = (known.says, told.says) {
                let (who, but) = match is_impostor(operator) {
                    true => (", the impostor,", ": its certificate allows that, and only the others speak against it"),
                    false => ("", ""),
                };
                lines.push(at(view, &format!("{name}{who} says that it is {}{but}", date_of(says))));
            }
            if let (Some(problem), None) = (&known.problem, &told.problem) {
                let who = if is_impostor(operator) { ", the impostor," } else { "" };
                lines.push(at(view, &format!("{name}{who} is refused: {problem}")));
            }
            let Known { window, has_keys, says, used, problem } = known.clone();
            *told = Known {
                window: window.or(told.window),
                has_keys: has_keys || told.has_keys,
                says: says.or(told.says),
                used,
                problem: problem.or_else(|| told.problem.take()),
            };
        }
    }
}

/// A state, and what brought it.
fn entering(view: &View, report: &Report, set: Option<f64>) -> Vec<String> {
    let clock = date_of(view.clock);
    let lines = match report.state {
        State::Unknown => vec![
            format!("UNKNOWN: {}", TimeReport::new(report).distrust.unwrap_or_default()),
            format!("This program was built later than that, so the clock is set to then: {clock}. Dates of"),
            "certificates are judged later, and clients of this machine are told that it is not synchronized."
                .to_owned(),
        ],
        State::Provisional => {
            let set = match set {
                Some(by) => format!("The clock is set, once, by {by:+.1} s, to {clock}."),
                None => "The clock is right already and is not set.".to_owned(),
            };
            vec![
                "PROVISIONAL: more than half of the operators agree on one time, at which their certificates are valid."
                    .to_owned(),
                set,
                "All keys are thrown away and exchanged again; certificates are judged strictly at that time now.".to_owned(),
            ]
        }
        State::Verified => vec![
            "VERIFIED: more than half of the operators have confirmed it. The clock is steered as usual from here on,"
                .to_owned(),
            "and once it follows servers again, it is saved, and clients are told that it is synchronized.".to_owned(),
        ],
    };
    let indented =
        |(index, line): (usize, &String)| if index == 0 { at(view, line) } else { format!("{:>9}{line}", "") };
    lines.iter().enumerate().map(indented).collect()
}

#[cfg(test)]
mod tests;
