//! The defaults that ntpd.toml(5) names are those of the daemon.

use std::collections::BTreeMap;

use ntpd::config::Config;

/// Every table that needs no file, with what it has to have.
const LEAST: &str = r#"
[[pool]]
name = "name"
[[server]]
address = "address"
[[refclock]]
driver = "pps"
device = "device"
[[refclock]]
driver = "phc"
device = "device"
[[refclock]]
driver = "shm"
unit = 0
[[hwtimestamp]]
interface = "interface"
[clock]
max-change = { offset = "7s" }
[serve]
allow = "all"
local = true
[log.files]
write = ["tracking"]
"#;

/// Keys whose value is none that the page could name: it is what [`LEAST`] gives, or depends on other keys or on the machine, or is a list.
const OTHER: [&str; 15] = [
    "name",
    "address",
    "driver",
    "device",
    "unit",
    "interface",
    "allow",
    "write",
    "refid",
    "dpoll",
    "threads",
    "listen",
    "local",
    "chronyc-listen",
    "chronyc-open",
];
/// Where it is a part of such a value.
const GIVEN: &str = "7s";
/// What the page says instead of what it says elsewhere.
const AS_ELSEWHERE: &str = "As for a pool.";

/// Parts of a value that the page could name: numbers, words, times.
fn parts(value: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_alphanumeric() || ".-/_".contains(c);
    value.split(|c| !is_part(c)).map(|part| part.trim_end_matches('.')).filter(|part| !part.is_empty()).collect()
}

/// The defaults of all tables, by the headings of the page: a key and its value.
fn defaults() -> Vec<(String, String, String)> {
    let (mut heading, mut all) = (String::new(), Vec::new());
    for line in Config::parse("least.toml", LEAST).expect("a configuration").explain().lines() {
        if let Some((key, value)) = line.split_once(" = ") {
            all.push((heading.clone(), key.to_owned(), value.to_owned()));
        } else if line.starts_with('[') {
            heading = line.trim_matches(['[', ']']).to_owned();
        }
    }
    all
}

/// What the page says of each key, by its heading; keys that are explained together have one text.
fn entries(page: &str) -> BTreeMap<(String, String), String> {
    let (mut heading, mut keys, mut begins) = (String::new(), Vec::new(), false);
    let mut all: BTreeMap<(String, String), String> = BTreeMap::new();
    for line in page.lines() {
        if let Some(name) = line.strip_prefix(".SS ") {
            name.trim_matches(['"', '[', ']']).clone_into(&mut heading);
            keys.clear();
        } else if begins {
            let words = line.split(' ').skip(1).map(|word| word.trim_matches(['"', ',']));
            keys = words.filter(|word| !word.is_empty()).map(str::to_owned).collect();
        } else if line != ".TP" {
            for key in &keys {
                let text = all.entry((heading.clone(), key.clone())).or_default();
                text.push_str(line);
                text.push('\n');
            }
        }
        begins = line == ".TP";
    }
    all
}

/// Defaults that the page does not name where it explains their keys, and how many it does name.
pub(super) fn unnamed(page: &str) -> (Vec<String>, usize) {
    let entries = entries(page);
    let (mut unnamed, mut named) = (Vec::new(), 0);
    for (heading, key, value) in defaults() {
        // Words that the file has to choose from are empty lists.
        if OTHER.contains(&key.as_str()) || value == "[]" {
            continue;
        }
        let of = |heading: &str| entries.get(&(heading.to_owned(), key.clone()));
        let own = of(&heading).filter(|text| text.trim() != AS_ELSEWHERE);
        let text = own.or_else(|| of("pool").filter(|_| ["server", "refclock"].contains(&heading.as_str())));
        let words = text.map(|text| parts(text)).unwrap_or_default();
        let lacks: Vec<_> = parts(&value).into_iter().filter(|part| *part != GIVEN && !words.contains(part)).collect();
        named += usize::from(lacks.is_empty());
        if !lacks.is_empty() {
            unnamed.push(format!("[{heading}] {key} = {value}: {lacks:?}"));
        }
    }
    (unnamed, named)
}
