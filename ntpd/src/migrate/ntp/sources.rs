//! `server`, `pool` and `peer`.

use crate::migrate::{
    input::Input,
    plan::{Directive, Plan},
    source::{Judges, Kind, Protection, Source, split_port},
    words::number,
};

/// Options that ask for authentication.
pub(super) const PROTECTING: [&str; 3] = ["nts", "key", "autokey"];

/// Options without a counterpart, whether a value follows, and why.
const OPTIONS: [(&str, bool, &str); 11] = [
    ("aead", true, "`aeads` of [trust] says which algorithms are used"),
    ("ask", true, "the server of keys chooses the NTP server"),
    ("bias", true, "no constant correction can be set"),
    ("cert", true, "no certificate of the client is shown"),
    ("expire", true, "keys are exchanged again after a week"),
    ("mode", true, "it is for reference clocks"),
    ("noval", false, "certificates are always verified"),
    ("preempt", false, "pools replace their servers by themselves"),
    ("subtype", true, "it is for reference clocks"),
    ("ttl", true, "packets go to one server only"),
    ("xmtnonce", false, "it is always done"),
];

/// Addresses that stand for reference clocks.
const REFCLOCKS: &str = "127.127.";

/// What the options of a line say.
#[derive(Default)]
struct Options {
    nts: bool,
    key: Option<u32>,
    autokey: bool,
    fixed_server: bool,
    roots: Option<String>,
    iburst: bool,
    min_poll: Option<i64>,
    max_poll: Option<i64>,
    settings: Vec<(String, &'static str, String)>,
    select: Vec<&'static str>,
    dropped: Vec<(String, &'static str)>,
}

/// Reads a line.
///
/// # Errors
///
/// What cannot be meant.
pub(super) fn read(
    plan: &mut Plan,
    input: &Input,
    directive: &Directive,
    kind: &str,
    words: &[&str],
) -> Result<(), String> {
    let family = words.iter().take_while(|word| word.starts_with('-')).count();
    let mut words = words.iter().skip(family);
    let name = words.next().ok_or("the name of a server is missing")?;
    let options = options(&mut words.copied())?;
    let reason = if name.starts_with(REFCLOCKS) {
        Some("reference clocks of this file are not carried over: name the device in [[refclock]]")
    } else if kind == "peer" {
        Some("the symmetric mode is not supported; a server can be asked instead")
    } else if options.autokey {
        Some("Autokey is not supported; NTS takes its place")
    } else if options.nts && options.fixed_server {
        Some("the server of keys chooses the NTP server")
    } else if options.nts && options.roots.as_ref().is_some_and(|path| input.locate(path).is_dir()) {
        Some("it is judged by a directory of roots, which is not read: name a file that holds all of them")
    } else {
        None
    };
    if let Some(reason) = reason {
        plan.drop(directive, reason);
        return Ok(());
    }
    if family > 0 {
        plan.drop_part(directive, "-4 or -6", "the family of addresses cannot be set; name an address instead");
    }
    for (part, why) in &options.dropped {
        plan.drop_part(directive, part, *why);
    }
    let (host, port) = split_port(name);
    let mut source = Source::new(directive, if kind == "pool" { Kind::Pool } else { Kind::Server }, host);
    source.protection = match options.key {
        _ if options.nts => Protection::Nts,
        Some(id) => Protection::Key(id),
        None => Protection::Plain,
    };
    if options.nts && kind == "pool" {
        source.set(plan, "nts", "mode", "\"shared-cert\"");
    }
    match port {
        Some(port) if options.nts => source.set(plan, name, "ke-port", port),
        Some(port) => source.port = Some(port.parse().map_err(|_| format!("`{port}` is not a port"))?),
        None => {}
    }
    if options.nts {
        source.roots = options.roots.map(|path| Judges::File(path, false));
    }
    source.set_poll(plan, options.min_poll, options.max_poll);
    if !options.iburst {
        source.set(plan, "iburst", "iburst", "false");
    }
    for (part, key, value) in options.settings {
        source.set(plan, &part, key, &value);
    }
    source.select = options.select;
    source.finish(plan);
    Ok(())
}

fn options(words: &mut dyn Iterator<Item = &str>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(word) = words.next() {
        let name = word.to_ascii_lowercase();
        let mut value = || words.next().ok_or_else(|| format!("a value is missing after `{word}`"));
        let whole =
            |text: &str| text.parse::<i64>().map_err(|_| format!("`{text}` after `{word}` is not a whole number"));
        match name.as_str() {
            "nts" => options.nts = true,
            "autokey" => options.autokey = true,
            "require" => {
                value()?;
                options.fixed_server = true;
            }
            "key" => {
                let id = whole(value()?)?;
                options.key = Some(u32::try_from(id).ok().filter(|&id| id != 0).ok_or("there is no such key")?);
            }
            "ca" => options.roots = Some(value()?.to_owned()),
            "iburst" => options.iburst = true,
            "minpoll" => options.min_poll = Some(whole(value()?)?),
            "maxpoll" => options.max_poll = Some(whole(value()?)?),
            "burst" => options.settings.push((name, "burst", "true".to_owned())),
            "xleave" => {}
            "version" => {
                let version = whole(value()?)?;
                if version != 4 {
                    options.settings.push((format!("version {version}"), "version", version.to_string()));
                }
            }
            "prefer" | "noselect" | "true" => {
                let word = ["prefer", "noselect"].into_iter().find(|known| *known == name).unwrap_or("trust");
                if !options.select.contains(&word) {
                    options.select.push(word);
                }
            }
            _ => {
                let known = OPTIONS.iter().find(|(known, ..)| *known == name);
                let &(_, has_value, why) = known.ok_or_else(|| format!("unknown option `{word}`"))?;
                let part = if has_value { format!("{name} {}", value()?) } else { name.clone() };
                if name == "bias" {
                    number(part.trim_start_matches("bias "))?;
                }
                options.dropped.push((part, why));
            }
        }
    }
    Ok(options)
}
