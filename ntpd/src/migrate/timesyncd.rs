//! timesyncd.conf of systemd-timesyncd, with drop-ins given as further files.
//!
//! What systemd would not understand, it ignores with a message; so it is dropped here, not an error.

use super::{
    Parts,
    input::{Comments, Fault, Line, lines},
    plan::{Directive, Plan, quote},
    serving::Serving,
    settle::Roots,
    source::{Kind, Source},
    words::duration,
};

/// Most faults that are told.
const MAX_FAULTS: usize = 64;

/// The section that counts.
const SECTION: &str = "[Time]";

/// What the files say.
#[derive(Default)]
struct Timesyncd {
    plan: Plan,
    faults: Vec<Fault>,
    servers: Vec<(Directive, String)>,
    fallback: Vec<(Directive, String)>,
    /// The servers that systemd was built with, as its own file shows them in a comment.
    built_in: Vec<(Directive, String)>,
    min_poll: Option<i64>,
    max_poll: Option<i64>,
}

/// Reads files, of which later ones add to earlier ones.
///
/// # Errors
///
/// What is no text.
pub(super) fn read(files: &[(String, String)]) -> Result<Parts, Vec<Fault>> {
    let mut timesyncd = Timesyncd::default();
    for (name, text) in files {
        timesyncd.text(name, text);
    }
    if !timesyncd.faults.is_empty() {
        return Err(timesyncd.faults);
    }
    let plan = timesyncd.finish();
    Ok(Parts {
        plan,
        serving: Serving::default(),
        roots: Roots::default(),
        keys: None,
        drift: None,
        protected: Vec::new(),
    })
}

impl Timesyncd {
    fn text(&mut self, name: &str, text: &str) {
        let mut comments = Comments::default();
        let mut is_time = false;
        let mut all = lines(name, text).into_iter().peekable();
        while let Some(mut line) = all.next() {
            if line.text.chars().any(|c| c.is_control() && c != '\t') {
                if self.faults.len() < MAX_FAULTS {
                    self.faults.push(Fault::new(&line.place, "this is not text"));
                }
                continue;
            }
            // A line goes on behind a backslash.
            while line.text.ends_with('\\') && !line.text.trim_start().starts_with(['#', ';']) {
                line.text.pop();
                let Some(next) = all.next() else { break };
                line.text.push(' ');
                line.text.push_str(&next.text);
            }
            let trimmed = line.text.trim();
            if trimmed.is_empty() {
                self.plan.block(comments.take());
            } else if let Some(comment) = trimmed.strip_prefix(['#', ';']) {
                match comment.strip_prefix("FallbackNTP=") {
                    Some(names) => self.built_in = list(&directive(&line, comments.take()), names),
                    None => comments.add(comment),
                }
            } else if trimmed.starts_with('[') {
                is_time = trimmed == SECTION;
                self.plan.block(comments.take());
            } else {
                self.line(&directive(&line, comments.take()), is_time);
            }
        }
        self.plan.block(comments.take());
    }

    fn line(&mut self, directive: &Directive, is_time: bool) {
        let Some((key, value)) = directive.text.split_once('=') else {
            return self.plan.drop(directive, "neither a section nor a setting; systemd ignores it too");
        };
        if !is_time {
            return self.plan.drop(directive, "it stands outside of [Time]; systemd ignores it too");
        }
        let (key, value) = (key.trim_end(), value.trim_start());
        match key {
            // An empty value takes back what was said before.
            "NTP" | "Servers" if value.is_empty() => self.servers.clear(),
            "NTP" | "Servers" => self.servers.extend(list(directive, value)),
            "FallbackNTP" if value.is_empty() => {
                self.fallback.clear();
                self.built_in.clear();
            }
            "FallbackNTP" => self.fallback.extend(list(directive, value)),
            "RootDistanceMaxSec" => match span(value).and_then(duration) {
                Some(text) => self.plan.set(directive, "clock", "max-distance", quote(&text)),
                None => self.plan.drop(directive, "not a time span"),
            },
            "PollIntervalMinSec" => self.min_poll = self.poll(directive, value).or(self.min_poll),
            "PollIntervalMaxSec" => self.max_poll = self.poll(directive, value).or(self.max_poll),
            "ConnectionRetrySec" => {
                self.plan.note(directive, "a server that does not answer is asked again, less and less often");
            }
            "SaveIntervalSec" => self.plan.note(directive, "the time is saved in state.directory"),
            _ => self.plan.drop(directive, "there is no such setting; systemd ignores it too"),
        }
    }

    /// The power of two that is not shorter.
    fn poll(&mut self, directive: &Directive, value: &str) -> Option<i64> {
        let Some(seconds) = span(value).filter(|seconds| (1.0 / 16.0..=131_072.0).contains(seconds)) else {
            self.plan.drop(directive, "accepted: time spans of 1/16 s to 131072 s");
            return None;
        };
        self.plan.block(directive.comments.clone());
        (-4..=17).find(|&log2| f64::exp2(f64::from(log2)) >= seconds).map(i64::from)
    }

    fn finish(mut self) -> Plan {
        let mut fallback = std::mem::take(&mut self.fallback);
        let chosen = if !self.servers.is_empty() {
            for (directive, name) in fallback {
                self.plan.drop_part(&directive, &name, "all servers are asked at once, so none is kept for later");
            }
            self.servers
        } else if fallback.is_empty() {
            let what = "These are the servers that systemd-timesyncd was built with:";
            if let Some((directive, _)) = self.built_in.first_mut() {
                directive.comments.push(what.to_owned());
            }
            self.built_in
        } else {
            if let Some((directive, _)) = fallback.first_mut() {
                directive.comments.push("The servers of FallbackNTP:".to_owned());
            }
            fallback
        };
        for (directive, name) in chosen {
            let mut source = Source::new(&directive, Kind::Server, &name);
            source.set_poll(&mut self.plan, self.min_poll, self.max_poll);
            source.finish(&mut self.plan);
        }
        self.plan
    }
}

fn directive(line: &Line, comments: Vec<String>) -> Directive {
    Directive { place: line.place.clone(), text: line.text.trim().to_owned(), comments }
}

/// The names of a list; the comment goes to the first.
fn list(directive: &Directive, names: &str) -> Vec<(Directive, String)> {
    let mut comments = Some(directive.comments.clone());
    let one = |name: &str| {
        let comments = comments.take().unwrap_or_default();
        (Directive { comments, ..directive.clone() }, name.to_owned())
    };
    names.split_ascii_whitespace().map(one).collect()
}

/// A time span of systemd.time(7), in seconds.
fn span(text: &str) -> Option<f64> {
    const UNITS: [(&[&str], f64); 7] = [
        (&["us", "usec", "µs", "μs"], 1e-6),
        (&["ms", "msec"], 1e-3),
        (&["", "s", "sec", "second", "seconds"], 1.0),
        (&["m", "min", "minute", "minutes"], 60.0),
        (&["h", "hr", "hour", "hours"], 3_600.0),
        (&["d", "day", "days"], 86_400.0),
        (&["w", "week", "weeks"], 604_800.0),
    ];
    let mut rest = text.trim();
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at_checked(end)?;
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let (_, seconds) = UNITS.iter().find(|(names, _)| names.contains(&unit))?;
        total += number.parse::<f64>().ok()? * seconds;
        rest = after.trim_start();
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_those_of_systemd() {
        for (text, seconds) in
            [("5", 5.0), ("1min 30s", 90.0), ("34min8s", 2_048.0), ("2.5 h", 9_000.0), ("100ms", 0.1)]
        {
            assert_eq!(span(text), Some(seconds), "{text}");
        }
        for bad in ["", "x", "5 parsecs", "-5", "1..2", "infinity"] {
            assert_eq!(span(bad), None, "{bad}");
        }
    }
}
