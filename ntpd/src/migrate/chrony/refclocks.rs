//! `refclock`.

use crate::migrate::{
    plan::{Directive, Plan, quote},
    refclock::Refclock,
    words::{duration, float, number, signed_duration},
};

/// What the value of an option is.
#[derive(Clone, Copy)]
enum Value {
    Whole,
    Number,
    Seconds,
    Signed,
    /// There is none.
    Flag,
}

/// Options with keys of their own.
const OPTIONS: &[(&str, &str, Value)] = &[
    ("poll", "poll", Value::Whole),
    ("dpoll", "dpoll", Value::Whole),
    ("stratum", "stratum", Value::Whole),
    ("offset", "offset", Value::Signed),
    ("delay", "delay", Value::Seconds),
    ("precision", "precision", Value::Seconds),
    ("maxdispersion", "max-dispersion", Value::Seconds),
    ("filter", "filter", Value::Whole),
    ("pps", "pps", Value::Flag),
    ("rate", "rate", Value::Number),
    ("maxlockage", "max-lock-age", Value::Number),
    ("minsamples", "min-samples", Value::Whole),
    ("maxsamples", "max-samples", Value::Whole),
];

/// Options that are not carried over, while the rest of the line is; whether they have a value, and why.
const DROPPED: &[(&str, bool, &str)] = &[
    ("width", true, "the edge is chosen by `edge`, and pulses far from the others do not count"),
    ("maxunreach", true, "a source that is unreachable is not used"),
];

/// Where it is, as far as it is carried over, or why it is not.
struct Place {
    keys: Vec<(&'static str, String)>,
    /// Further keys of the driver.
    more: Vec<(&'static str, String)>,
    letters: &'static str,
}

/// Reads a line; `index` is the number of reference clocks before it.
///
/// # Errors
///
/// What chronyd would not accept either.
pub(super) fn read(plan: &mut Plan, directive: &Directive, words: &[&str], index: usize) -> Result<(), String> {
    let [driver, parameter, rest @ ..] = words else { return Err("too few arguments".to_owned()) };
    let place = place(driver, parameter)?;
    let letters = place.as_ref().map_or("", |place| place.letters);
    let keys = place.as_ref().map(|place| place.keys.clone()).unwrap_or_default();
    let mut refclock = Refclock::new(directive, keys, format!("{letters}{}", index % 10));
    let mut scratch = Plan::default();
    let dropped = options(&mut scratch, &mut refclock, rest)?;
    if let Some(why) = dropped.or_else(|| place.as_ref().err().cloned()) {
        plan.drop(directive, why);
        return Ok(());
    }
    for (key, value) in place.map(|place| place.more).unwrap_or_default() {
        refclock.put(key, value);
    }
    plan.absorb(scratch);
    plan.add_refclock(refclock);
    Ok(())
}

/// Where it is; inside, why it cannot be carried over.
fn place(driver: &str, parameter: &str) -> Result<Result<Place, String>, String> {
    let mut parts = parameter.split(':');
    let device = parts.next().unwrap_or_default();
    let options: Vec<&str> = parts.collect();
    let has = |wanted: &str| options.contains(&wanted);
    let value = |key: &str| options.iter().find_map(|option| option.strip_prefix(key)?.strip_prefix('='));
    let of = |name: &str, letters, more| {
        let keys = vec![("driver", quote(name)), ("device", quote(device))];
        Ok(Ok(Place { keys, more, letters }))
    };
    match driver.to_ascii_uppercase().as_str() {
        "PPS" => of("pps", "PPS", if has("clear") { vec![("edge", quote("clear"))] } else { Vec::new() }),
        "SOCK" => of("sock", "SOC", Vec::new()),
        "PHC" if has("extpps") => Ok(Err("pulses that a hardware clock stamps (extpps) are not read".to_owned())),
        "PHC" => {
            let more = if has("nocrossts") { vec![("cross-timestamp", "false".to_owned())] } else { Vec::new() };
            of("phc", "PHC", more)
        }
        "SHM" => {
            let unit: i64 = device.parse().map_err(|_| format!("`{device}` is not the number of a segment"))?;
            let Ok(unit) = u8::try_from(unit) else { return Ok(Err("segments have numbers up to 255".to_owned())) };
            let more = value("perm").map(|mode| vec![("permissions", quote(mode))]).unwrap_or_default();
            let keys = vec![("driver", quote("shm")), ("unit", unit.to_string())];
            Ok(Ok(Place { keys, more, letters: "SHM" }))
        }
        "RTC" => Ok(Err("a hardware clock without a finer interface (RTC) is no reference clock here".to_owned())),
        _ => Err(format!("unknown driver `{driver}`")),
    }
}

/// Reads the options; why the whole line is to be dropped, if it is.
fn options(plan: &mut Plan, refclock: &mut Refclock, words: &[&str]) -> Result<Option<String>, String> {
    let mut rest = words.iter();
    let mut why = None;
    // What depends on pulses comes after what says that there are some.
    let mut settings: Vec<(String, &'static str, String)> = Vec::new();
    while let Some(word) = rest.next() {
        let name = word.to_ascii_lowercase();
        let mut argument = || rest.next().copied().ok_or_else(|| format!("a value is missing after `{name}`"));
        match name.as_str() {
            "refid" | "lock" => {
                let id = argument()?;
                if id.len() > 4 || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(format!("`{id}` is no reference identifier"));
                }
                if name == "lock" {
                    refclock.lock = Some(id.to_owned());
                } else {
                    id.clone_into(&mut refclock.refid);
                    settings.push((format!("refid {id}"), "refid", quote(id)));
                }
            }
            "tai" => refclock.tai = true,
            "local" => why = Some("a free-running oscillator (local) is no source here".to_owned()),
            "prefer" => refclock.select.push("prefer"),
            "noselect" => refclock.select = vec!["noselect"],
            "trust" => refclock.select.push("trust"),
            "require" => refclock.select.push("require"),
            _ => {
                if let Some(&(_, has_value, why)) = DROPPED.iter().find(|(known, ..)| *known == name) {
                    let value = if has_value { format!(" {}", argument()?) } else { String::new() };
                    plan.drop_part(&refclock.directive, &format!("{name}{value}"), why);
                    continue;
                }
                let &(_, key, kind) = OPTIONS
                    .iter()
                    .find(|(known, ..)| *known == name)
                    .ok_or_else(|| format!("unknown option `{word}`"))?;
                let setting = match kind {
                    Value::Flag => Some((name.clone(), "true".to_owned())),
                    Value::Whole | Value::Number | Value::Seconds | Value::Signed => {
                        let word = argument()?;
                        let value = value(kind, word)?;
                        value.map(|value| (format!("{name} {word}"), value))
                    }
                };
                settings.extend(setting.map(|(part, value)| (part, key, value)));
            }
        }
    }
    if refclock.select.contains(&"noselect") {
        refclock.select = vec!["noselect"];
    }
    settings.sort_by_key(|(_, key, _)| (*key != "poll", *key != "pps"));
    let is_pps = refclock.is_pps();
    for (part, key, value) in settings {
        // Of pulses it need not be said.
        if !(is_pps && key == "pps") {
            refclock.set(plan, &part, key, &value);
        }
    }
    Ok(why)
}

/// A value as our file has it; nothing where it says nothing.
fn value(kind: Value, word: &str) -> Result<Option<String>, String> {
    let out_of_range = || format!("`{word}` is out of range");
    match kind {
        Value::Whole => word
            .parse::<i64>()
            .map(|value| Some(value.to_string()))
            .map_err(|_| format!("`{word}` is not a whole number")),
        Value::Number => number(word).map(|value| Some(float(value))),
        Value::Seconds => number(word).and_then(|value| match duration(value) {
            Some(_) if value.abs() < f64::EPSILON => Ok(None),
            text => text.map(|text| Some(quote(&text))).ok_or_else(out_of_range),
        }),
        Value::Signed => number(word).and_then(|value| {
            if value.abs() < f64::EPSILON {
                return Ok(None);
            }
            signed_duration(value).map(|text| Some(quote(&text))).ok_or_else(out_of_range)
        }),
        Value::Flag => Ok(None),
    }
}
