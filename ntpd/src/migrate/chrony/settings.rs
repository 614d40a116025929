//! Directives about the clock, selection and the machine.

use ntp_proto::discipline::CORRECTION_TIME_RATIO;

use crate::migrate::{
    plan::{Directive, Plan, judge, quote},
    words::{duration, float, number, one},
};

/// The directives that are read here.
pub(super) const KNOWN: [&str; 16] = [
    "makestep",
    "initstepslew",
    "maxslewrate",
    "corrtimeratio",
    "maxdrift",
    "maxupdateskew",
    "maxchange",
    "logchange",
    "maxdistance",
    "maxjitter",
    "minsources",
    "leapsecmode",
    "authselectmode",
    "ntsaeads",
    "minsamples",
    "maxsamples",
];

/// What chronyd makes of `corrtimeratio` where it is not set.
const DEFAULT_CORRTIMERATIO: f64 = 3.0;

/// What is said when all has been read.
#[derive(Default)]
pub(super) struct Settings {
    makestep: bool,
    initstepslew: Option<(Directive, f64)>,
    /// Keys of all sources that do not say otherwise.
    samples: Vec<(Directive, &'static str, i64)>,
}

impl Settings {
    /// Reads a directive.
    ///
    /// # Errors
    ///
    /// What chronyd would not accept either.
    pub(super) fn read(
        &mut self,
        name: &str,
        words: &[&str],
        directive: &Directive,
        plan: &mut Plan,
    ) -> Result<(), String> {
        match name {
            "makestep" => return self.step(words, directive, plan),
            "initstepslew" => {
                let [threshold, ..] = words else { return Err("a number is missing".to_owned()) };
                self.initstepslew = Some((directive.clone(), number(threshold)?));
            }
            "maxslewrate" => plan.set(directive, "clock", "max-slew-rate", float(number(one(words)?)?)),
            // The default of each side stands for the other's.
            "corrtimeratio" => {
                let ratio = number(one(words)?)? / DEFAULT_CORRTIMERATIO * CORRECTION_TIME_RATIO;
                plan.set(directive, "clock", "correction-time-ratio", float(ratio.clamp(0.01, 100.0)));
            }
            "maxdrift" => plan.set(directive, "clock", "max-frequency", float(number(one(words)?)?)),
            "maxupdateskew" => plan.set(directive, "clock", "max-update-skew", float(number(one(words)?)?)),
            "maxchange" => max_change(words, directive, plan)?,
            "logchange" => seconds(plan, directive, "log-change", number(one(words)?)?),
            "maxdistance" => seconds(plan, directive, "max-distance", number(one(words)?)?),
            "maxjitter" => seconds(plan, directive, "max-jitter", number(one(words)?)?),
            "minsources" => {
                let count: i64 = one(words)?.parse().map_err(|_| "a whole number is needed")?;
                plan.set_min_sources(directive, count.to_string());
            }
            "leapsecmode" => match one(words)?.to_ascii_lowercase().as_str() {
                mode @ ("system" | "step" | "slew" | "ignore") => plan.set(directive, "clock", "leap", quote(mode)),
                mode => return Err(format!("unknown mode `{mode}`")),
            },
            "minsamples" | "maxsamples" => {
                let value: i64 = one(words)?.parse().map_err(|_| "a whole number is needed")?;
                let key = if name == "minsamples" { "min-samples" } else { "max-samples" };
                self.samples.retain(|(_, known, _)| *known != key);
                self.samples.push((directive.clone(), key, value));
            }
            "authselectmode" => match one(words)?.to_ascii_lowercase().as_str() {
                mode @ ("require" | "prefer" | "mix" | "ignore") => {
                    plan.set(directive, "clock", "auth-select-mode", quote(mode));
                }
                mode => return Err(format!("unknown mode `{mode}`")),
            },
            _ => aeads(words, directive, plan)?,
        }
        Ok(())
    }

    fn step(&mut self, words: &[&str], directive: &Directive, plan: &mut Plan) -> Result<(), String> {
        let [threshold, limit] = words else { return Err("a threshold and a number of updates are needed".to_owned()) };
        let threshold = number(threshold)?;
        let limit: i64 = limit.parse().map_err(|_| format!("`{limit}` is not a whole number"))?;
        self.makestep = true;
        let updates = if limit < 0 { quote("always") } else { limit.to_string() };
        // A threshold of nothing steps always; nothing is shorter than what can be written.
        let threshold = if threshold <= 0.0 { 1e-6 } else { threshold };
        match duration(threshold) {
            Some(text) => plan.set(directive, "clock", "step", step(&text, &updates)),
            None => plan.drop(directive, "the threshold is out of range"),
        }
        Ok(())
    }

    /// Says what depends on the rest.
    pub(super) fn finish(self, plan: &mut Plan) {
        self.samples.iter().for_each(|(directive, key, value)| samples(plan, directive, key, *value));
        match self.initstepslew {
            Some((directive, _)) if self.makestep => plan.drop(&directive, "makestep says when the clock is stepped"),
            Some((directive, threshold)) => match duration(threshold) {
                Some(text) => plan.set(&directive, "clock", "step", step(&text, "1")),
                None => plan.drop(&directive, "the threshold is out of range"),
            },
            None if self.makestep => {}
            None => {
                let why = "chronyd without makestep never steps the clock. Without this line the daemon does at start.";
                plan.put("clock", "step", step("1s", "0"), vec![why.to_owned()]);
            }
        }
    }
}

/// How many samples each source uses that does not say otherwise; what chrony does without it is not carried over.
fn samples(plan: &mut Plan, directive: &Directive, key: &'static str, value: i64) {
    if value == if key == "min-samples" { 6 } else { 0 } {
        return plan.note(directive, "the default");
    }
    match judge(&format!("[[server]]\naddress = \"a.example\"\n{key} = {value}\n")) {
        Err(wrong) => plan.drop(directive, wrong),
        Ok(_) => {
            plan.sources_mut().iter_mut().for_each(|source| source.set_default(key, value));
            plan.note(directive, &format!("`{key}` of each source"));
        }
    }
}

fn step(threshold: &str, updates: &str) -> String {
    format!("{{ threshold = {}, updates = {updates} }}", quote(threshold))
}

fn max_change(words: &[&str], directive: &Directive, plan: &mut Plan) -> Result<(), String> {
    let [offset, start, ignore] = words else { return Err("an offset and two numbers are needed".to_owned()) };
    let whole = |word: &str| word.parse::<i64>().map_err(|_| format!("`{word}` is not a whole number"));
    let (offset, start, ignore) = (number(offset)?, whole(start)?, whole(ignore)?);
    let ignore = if ignore < 0 { quote("always") } else { ignore.to_string() };
    match duration(offset) {
        Some(offset) => {
            let limit = format!("{{ offset = {}, start = {start}, ignore = {ignore} }}", quote(&offset));
            plan.set(directive, "clock", "max-change", limit);
        }
        None => plan.drop(directive, "the offset is out of range"),
    }
    Ok(())
}

fn seconds(plan: &mut Plan, directive: &Directive, key: &'static str, value: f64) {
    match duration(value) {
        Some(text) => plan.set(directive, "clock", key, quote(&text)),
        None => plan.drop(directive, "out of range"),
    }
}

fn aeads(words: &[&str], directive: &Directive, plan: &mut Plan) -> Result<(), String> {
    if words.is_empty() {
        return Err("the number of an algorithm is missing".to_owned());
    }
    let mut known = Vec::new();
    for word in words {
        let id: u16 = word.parse().map_err(|_| format!("`{word}` is not the number of an algorithm"))?;
        if ntp_proto::nts::AeadAlgorithm::from_id(id).is_none() {
            plan.drop_part(directive, word, "the algorithm is not supported");
        } else if !known.contains(&id) {
            known.push(id);
        }
    }
    if known.is_empty() {
        plan.drop(directive, "none of the algorithms is supported");
    } else {
        plan.set(directive, "trust", "aeads", format!("{known:?}"));
    }
    Ok(())
}
