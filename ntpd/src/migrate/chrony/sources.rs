//! `server`, `pool` and `peer`.

use super::table::OPTIONS;
use crate::migrate::{
    plan::{Directive, Plan},
    source::{Kind, Protection, Source},
    words::number,
};

/// What the options of a line say, before it is known what they come to.
#[derive(Default)]
struct Options {
    nts: bool,
    key: Option<u32>,
    certset: i64,
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
    if options.nts && options.certset != 0 {
        plan.drop(directive, "it is judged by roots of its own (certset); here the same roots count for all");
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
            "certset" => options.certset = integer()?,
            "iburst" => options.iburst = true,
            "minpoll" => options.min_poll = Some(integer()?),
            "maxpoll" => options.max_poll = Some(integer()?),
            "port" => options.port = Some(integer()?),
            "burst" => options.settings.push((name, "burst", "true".to_owned())),
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
