//! `server`, `pool` and `peer`.

use super::table::OPTIONS;
use crate::migrate::{
    plan::{Directive, Plan, quote},
    source::{Judges, Kind, Protection, Source},
    words::{float, number, signed_duration},
};

/// What the options of a line say, before it is known what they come to.
#[derive(Default)]
struct Options {
    nts: bool,
    key: Option<u32>,
    certset: u32,
    iburst: bool,
    min_poll: Option<i64>,
    max_poll: Option<i64>,
    port: Option<i64>,
    settings: Vec<(String, &'static str, String)>,
    select: Vec<&'static str>,
    dropped: Vec<(String, &'static str)>,
}

/// Reads a line.
///
/// # Errors
///
/// What chronyd would not accept either.
pub(super) fn read(plan: &mut Plan, directive: &Directive, words: &[&str]) -> Result<(), String> {
    let [kind, name, rest @ ..] = words else { return Err("the name of a server is missing".to_owned()) };
    let options = options(rest)?;
    if kind.eq_ignore_ascii_case("peer") {
        plan.drop(directive, "the symmetric mode is not supported; a server can be asked instead");
        return Ok(());
    }
    let is_pool = kind.eq_ignore_ascii_case("pool");
    let mut source = Source::new(directive, if is_pool { Kind::Pool } else { Kind::Server }, name);
    for (part, why) in &options.dropped {
        plan.drop_part(directive, part, *why);
    }
    match options.port.map(u16::try_from) {
        Some(Ok(port)) if port != 0 => source.port = Some(port),
        Some(_) => {
            plan.drop(directive, "there is no such port");
            return Ok(());
        }
        None => {}
    }
    source.roots = (options.certset != 0).then_some(Judges::Set(options.certset));
    source.protection = match options.key {
        _ if options.nts => Protection::Nts,
        Some(id) => Protection::Key(id),
        None => Protection::Plain,
    };
    if options.nts && options.key.is_some() {
        plan.drop_part(directive, "key", "NTS and a key exclude each other; NTS is used");
    }
    if options.nts && is_pool {
        // As chronyd takes a pool: each address is a server of its own, and all have the pool's certificate.
        source.set(plan, "nts", "mode", "\"shared-cert\"");
    }
    source.set_poll(plan, options.min_poll, options.max_poll);
    if !options.iburst {
        source.set(plan, "iburst", "iburst", "false");
    }
    for (part, key, value) in options.settings {
        // A name that is no pool has one server.
        if is_pool || key != "count" {
            source.set(plan, &part, key, &value);
        }
    }
    source.select = options.select;
    source.finish(plan);
    Ok(())
}

fn options(words: &[&str]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let name = word.to_ascii_lowercase();
        let mut integer = || whole(&name, rest.next());
        match name.as_str() {
            "nts" => options.nts = true,
            "key" => {
                let id = integer()?;
                options.key = Some(u32::try_from(id).ok().filter(|&id| id != 0).ok_or("there is no such key")?);
            }
            "certset" => options.certset = u32::try_from(integer()?).map_err(|_| "there is no such set")?,
            "iburst" => options.iburst = true,
            "minpoll" => options.min_poll = Some(integer()?),
            "maxpoll" => options.max_poll = Some(integer()?),
            "port" => options.port = Some(integer()?),
            "burst" | "offline" => {
                let key = if name == "burst" { "burst" } else { "offline" };
                options.settings.push((name, key, "true".to_owned()));
            }
            "ipv4" | "ipv6" => options.settings.push((name.clone(), "family", quote(&name))),
            // The daemon does it without.
            "xleave" => {}
            "version" => {
                let version = integer()?;
                if version != 4 {
                    options.settings.push((format!("{name} {version}"), "version", version.to_string()));
                }
            }
            "ntsport" => {
                let port = integer()?;
                options.settings.push((format!("{name} {port}"), "ke-port", port.to_string()));
            }
            "maxsources" => {
                let count = integer()?;
                options.settings.push((format!("{name} {count}"), "count", count.to_string()));
            }
            _ if VALUES.iter().any(|(known, ..)| *known == name) => {
                let word = argument(&name, 'n', rest.next())?;
                if let Some(setting) = of_value(&name, word)? {
                    options.settings.push(setting);
                }
            }
            "prefer" => select(&mut options, "prefer"),
            "noselect" => select(&mut options, "noselect"),
            "trust" => select(&mut options, "trust"),
            "require" => select(&mut options, "require"),
            _ => {
                let known = OPTIONS.iter().find(|(known, ..)| *known == name);
                let &(_, value, why) = known.ok_or_else(|| format!("unknown option `{word}`"))?;
                let value = match value {
                    None => None,
                    Some(kind) => Some(argument(&name, kind, rest.next())?),
                };
                let part = value.map_or_else(|| name.clone(), |value| format!("{name} {value}"));
                options.dropped.push((part, why));
            }
        }
    }
    Ok(options)
}

/// What the value of an option is.
#[derive(Clone, Copy)]
enum Value {
    Whole,
    Number,
    Seconds,
}

/// Options that have a key of their own, and with which value chrony does nothing.
const VALUES: &[(&str, &str, Value, f64)] = &[
    ("offset", "offset", Value::Seconds, 0.0),
    ("minstratum", "min-stratum", Value::Whole, 0.0),
    ("maxdelay", "max-delay", Value::Seconds, 3.0),
    ("maxdelayratio", "max-delay-ratio", Value::Number, 0.0),
    ("maxdelaydevratio", "max-delay-dev-ratio", Value::Number, 0.0),
    ("minsamples", "min-samples", Value::Whole, 0.0),
    ("maxsamples", "max-samples", Value::Whole, 0.0),
    ("polltarget", "poll-target", Value::Whole, 8.0),
];

/// The part of a line, the key and its value; nothing where that is the default.
fn of_value(name: &str, word: &str) -> Result<Option<(String, &'static str, String)>, String> {
    let Some(&(_, key, kind, default)) = VALUES.iter().find(|(known, ..)| *known == name) else { return Ok(None) };
    let value = number(word)?;
    if (value - default).abs() < f64::EPSILON {
        return Ok(None);
    }
    let text = match kind {
        Value::Whole => whole(name, Some(&word))?.to_string(),
        Value::Number => float(value),
        Value::Seconds => quote(&signed_duration(value).ok_or_else(|| format!("`{word}` is out of range"))?),
    };
    Ok(Some((format!("{name} {word}"), key, text)))
}

fn select(options: &mut Options, word: &'static str) {
    if !options.select.contains(&word) {
        options.select.push(word);
    }
}

fn whole(name: &str, word: Option<&&str>) -> Result<i64, String> {
    let word = word.ok_or_else(|| format!("a number is missing after `{name}`"))?;
    word.parse().map_err(|_| format!("`{word}` after `{name}` is not a whole number"))
}

fn argument<'w>(name: &str, kind: char, word: Option<&&'w str>) -> Result<&'w str, String> {
    let word = word.ok_or_else(|| format!("a value is missing after `{name}`"))?;
    if kind == 'n' {
        number(word)?;
    }
    Ok(word)
}
