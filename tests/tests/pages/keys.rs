//! The keys that ntpd.toml(5) explains are those that the daemon reads.

use std::collections::{BTreeMap, BTreeSet};

use ntpd::config::Config;

/// A file with a key that nobody knows in every table, so that the keys which are known are told.
const UNKNOWN: &str = r#"
zzz = 1
[[pool]]
zzz = 1
[[server]]
zzz = 1
[[refclock]]
zzz = 1
[[hwtimestamp]]
zzz = 1
[clock]
zzz = 1
[clock.step]
zzz = 1
[clock.max-change]
zzz = 1
[serve]
zzz = 1
[serve.rate-limit]
zzz = 1
[serve.local]
zzz = 1
[serve.nts]
zzz = 1
[trust]
zzz = 1
[keys]
zzz = 1
[state]
zzz = 1
[control]
zzz = 1
[observe]
zzz = 1
[log]
zzz = 1
[log.files]
zzz = 1
"#;

/// Keys of all tables, by the path of their table.
pub(super) fn known() -> BTreeMap<String, BTreeSet<String>> {
    let told = Config::parse("keys.toml", UNKNOWN).expect_err("unknown keys").to_string();
    let of_line = |line: &str| {
        let (place, keys) = line.split_once("zzz: unknown key; accepted: ")?;
        let table = place.rsplit(": ").next()?.trim_end_matches('.');
        Some((table.to_owned(), keys.split(", ").map(str::to_owned).collect()))
    };
    let mut all: BTreeMap<String, BTreeSet<String>> = told.lines().filter_map(of_line).collect();
    // This one is done with when files are put together.
    all.entry(String::new()).or_default().insert("remove".to_owned());
    all
}

/// What stands under a heading of the page.
#[derive(Default)]
pub(super) struct Explained {
    /// Keys that have an entry.
    pub(super) keys: BTreeSet<String>,
    /// Those, and what else is in bold: keys of small tables, which have none of their own.
    pub(super) words: BTreeSet<String>,
}

/// What the page explains, by its headings.
pub(super) fn explained(page: &str) -> BTreeMap<String, Explained> {
    let mut all: BTreeMap<String, Explained> = BTreeMap::new();
    let (mut heading, mut begins) = (String::new(), false);
    for line in page.lines() {
        if let Some(name) = line.strip_prefix(".SS ") {
            heading = name.trim_matches(['"', '[', ']']).to_owned();
        } else if line.starts_with(".SH") {
            heading.clear();
        } else if let Some(words) = line.strip_prefix(".B ").or_else(|| line.strip_prefix(".BR ")) {
            let words = words.split([' ', '"', ',', '(']).filter(|word| !word.is_empty()).map(str::to_owned);
            let under = all.entry(heading.clone()).or_default();
            let words: Vec<_> = words.collect();
            under.words.extend(words.iter().cloned());
            if begins {
                under.keys.extend(words);
            }
        }
        begins = line == ".TP";
    }
    all.remove("");
    all
}

/// Under which heading the keys of a table are explained, and those of tables like it.
pub(super) fn headings(table: &str) -> Vec<&str> {
    match table {
        "" => vec!["Top level"],
        "server" => vec!["server", "pool"],
        table => vec![table, table.rsplit_once('.').map_or(table, |(above, _)| above)],
    }
}
