//! The state of the daemon for Prometheus, in its text format 0.0.4.
//!
//! Every family stands in one of the tables here, with the function that makes its samples. Values are in base units
//! (seconds, ratios). Labels have values of this program or names and addresses of configured sources; the number of series
//! is bounded by the number of sources.

mod clock;
mod server;
mod sources;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use super::report::StatusReport;

/// The type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It goes up and down.
    Gauge,
    /// It goes up until the daemon ends.
    Counter,
}

/// Series of one name.
struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    /// Makes them of the reports.
    samples: fn(&StatusReport, &mut Samples),
}

const fn gauge(name: &'static str, help: &'static str, samples: fn(&StatusReport, &mut Samples)) -> Family {
    Family { name, kind: Kind::Gauge, help, samples }
}

const fn counter(name: &'static str, help: &'static str, samples: fn(&StatusReport, &mut Samples)) -> Family {
    Family { name, kind: Kind::Counter, help, samples }
}

/// Labels of a series.
type Labels<'l> = &'l [(&'static str, &'l str)];

/// Collects the samples of one family.
#[derive(Default)]
struct Samples {
    name: &'static str,
    text: String,
}

impl Samples {
    /// Adds one without labels.
    fn one(&mut self, value: f64) {
        self.add(&[], value);
    }

    /// Adds one without labels, if there is one.
    fn some(&mut self, value: Option<f64>) {
        value.into_iter().for_each(|value| self.one(value));
    }

    fn add(&mut self, labels: Labels<'_>, value: f64) {
        self.text.push_str(self.name);
        for (place, (label, text)) in labels.iter().enumerate() {
            self.text.push(if place == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(text, &mut self.text);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        // Writing to a string does not fail.
        let _ = match value {
            infinite if infinite == f64::INFINITY => writeln!(self.text, " +Inf"),
            infinite if infinite == f64::NEG_INFINITY => writeln!(self.text, " -Inf"),
            value => writeln!(self.text, " {value}"),
        };
    }
}

/// A label's value as the format wants it.
fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

/// A count as the format has it; exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "a count above 2^53 is not told to the last unit")]
const fn count(value: u64) -> f64 {
    value as f64
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn families() -> impl Iterator<Item = &'static Family> {
    clock::FAMILIES.iter().chain(sources::FAMILIES).chain(server::FAMILIES)
}

/// The names of all families; what is drawn or alerted on is one of them.
pub fn names() -> impl Iterator<Item = &'static str> {
    families().map(|family| family.name)
}

/// The text. A family without samples is left out.
#[must_use]
pub fn text(report: &StatusReport) -> String {
    let mut out = String::new();
    for family in families() {
        let mut samples = Samples { name: family.name, text: String::new() };
        (family.samples)(report, &mut samples);
        if samples.text.is_empty() {
            continue;
        }
        let (name, help) = (family.name, family.help);
        let kind = match family.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{}", samples.text);
    }
    out
}
