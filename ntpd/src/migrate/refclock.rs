//! Reference clocks of another daemon's configuration.

use super::plan::{Directive, Plan, judge, list, quote};
use crate::config::MAX_REFCLOCKS;

/// A reference clock.
#[derive(Clone, Debug)]
pub(super) struct Refclock {
    pub(super) directive: Directive,
    /// Where it is: keys of its table with their values, that of `driver` first.
    place: Vec<(&'static str, String)>,
    settings: Vec<(&'static str, String)>,
    pub(super) select: Vec<&'static str>,
    /// Its reference identifier, given or not.
    pub(super) refid: String,
    /// That of the one that says which second its pulses begin.
    pub(super) lock: Option<String>,
    pub(super) tai: bool,
}

/// Keys in the order they are written.
const ORDER: [&str; 19] = [
    "permissions",
    "edge",
    "cross-timestamp",
    "refid",
    "poll",
    "dpoll",
    "stratum",
    "offset",
    "delay",
    "precision",
    "max-dispersion",
    "filter",
    "pps",
    "rate",
    "lock",
    "max-lock-age",
    "tai",
    "min-samples",
    "max-samples",
];

impl Refclock {
    pub(super) fn new(directive: &Directive, place: Vec<(&'static str, String)>, refid: String) -> Self {
        let (settings, select) = (Vec::new(), Vec::new());
        Self { directive: directive.clone(), place, settings, select, refid, lock: None, tai: false }
    }

    /// Whether all that it has are pulses.
    pub(super) fn is_pps(&self) -> bool {
        self.place.contains(&("driver", quote("pps")))
    }

    fn head(&self) -> String {
        let lines: Vec<_> = self.place.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        format!("[[refclock]]\n{}", lines.concat())
    }

    fn lines(&self) -> String {
        let mut settings: Vec<_> = self.settings.iter().collect();
        settings.sort_by_key(|(key, _)| ORDER.iter().position(|known| known == key));
        settings.into_iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
    }

    /// The table of the new file.
    pub(super) fn table(&self) -> String {
        let select = if self.select.is_empty() { String::new() } else { format!("select = {}\n", list(&self.select)) };
        format!("{}{}{select}", self.head(), self.lines())
    }

    /// Sets a key, if the table takes the value; otherwise that is said.
    pub(super) fn set(&mut self, plan: &mut Plan, part: &str, key: &'static str, value: &str) {
        self.settings.retain(|(known, _)| *known != key);
        match judge(&format!("{}{}{key} = {value}\n", self.head(), self.lines())) {
            Ok(_) => self.settings.push((key, value.to_owned())),
            Err(wrong) => plan.drop_part(&self.directive, part, wrong),
        }
    }

    /// Sets a key that depends on what stands elsewhere.
    pub(super) fn put(&mut self, key: &'static str, value: String) {
        self.settings.retain(|(known, _)| *known != key);
        self.settings.push((key, value));
    }
}

/// Decides what can only be said when all are known. A pulse is not numbered in another way than before, and TAI is not taken
/// for UTC: what needs something that is not there is dropped whole.
pub(super) fn settle(plan: &mut Plan) {
    let has_list = plan.has("clock", "leap-file");
    let mut kept: Vec<Refclock> = Vec::new();
    for mut refclock in plan.take_refclocks() {
        let why = if refclock.tai && !has_list {
            Some("it tells TAI, and no list of leap seconds is carried over".to_owned())
        } else if kept.len() >= MAX_REFCLOCKS {
            Some(format!("at most {MAX_REFCLOCKS} of these are possible"))
        } else {
            kept.iter().find_map(|known| {
                let is_same = known.place == refclock.place || known.refid == refclock.refid;
                is_same.then(|| format!("its device or refid was given before, at {}", known.directive.place))
            })
        };
        if let Some(why) = why {
            plan.drop(&refclock.directive, why);
            continue;
        }
        if refclock.tai {
            refclock.put("tai", "true".to_owned());
        }
        kept.push(refclock);
    }
    // Where the one that it is locked to is dropped, so is the next that is locked to that one.
    while let Some(at) = kept.iter().position(|refclock| lacks_lock(refclock, &kept)) {
        let refclock = kept.remove(at);
        let lock = refclock.lock.unwrap_or_default();
        plan.drop(&refclock.directive, format!("it is locked to `{lock}`, which is not carried over"));
    }
    for (index, refclock) in kept.iter_mut().enumerate() {
        // One without a name is called by its number, which may have been another.
        let letters: String = refclock.refid.chars().take(3).collect();
        if !refclock.settings.iter().any(|(key, _)| *key == "refid") && refclock.refid != format!("{letters}{index}") {
            refclock.put("refid", quote(&refclock.refid.clone()));
        }
        if let Some(lock) = refclock.lock.clone() {
            refclock.put("lock", quote(&lock));
        }
    }
    plan.set_refclocks(kept);
}

fn lacks_lock(refclock: &Refclock, all: &[Refclock]) -> bool {
    let is_other = |other: &&Refclock| other.refid != refclock.refid;
    refclock.lock.as_ref().is_some_and(|lock| !all.iter().filter(is_other).any(|other| other.refid == *lock))
}
