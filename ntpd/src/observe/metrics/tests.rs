//! The text is read back by a parser that accepts the format and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use proptest::prelude::*;

use super::*;
use crate::observe::report::{TimeReport, TimeState, tests::busy_status};

/// Labels and value of a series.
type Series = (BTreeMap<String, String>, f64);

/// What the text says, by family. Panics where the format does not permit it.
fn parse(text: &str) -> BTreeMap<String, (String, Vec<Series>)> {
    let mut families: BTreeMap<String, (String, Vec<Series>)> = BTreeMap::new();
    let (mut helped, mut current) = (String::new(), String::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("help has words");
            assert!(words.ends_with('.') && !words.contains('\\'), "{line}");
            helped = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert!(name == helped && ["gauge", "counter"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(families.insert(name.to_owned(), (kind.to_owned(), Vec::new())).is_none(), "twice: {line}");
            current = name.to_owned();
        } else {
            let (name, series) = sample(line);
            assert_eq!(name, current, "{line}");
            let (_, all) = families.get_mut(&name).expect("a family");
            assert!(all.iter().all(|(labels, _)| *labels != series.0), "two values: {line}");
            all.push(series);
        }
    }
    families
}

fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_lowercase())
        && letters.all(|c| c.is_ascii_lowercase() || c == '_')
}

fn sample(line: &str) -> (String, Series) {
    let (name, mut rest) = line.split_at(line.find(['{', ' ']).expect("a name ends"));
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, value) = rest.split_once("=\"").expect("a label");
            assert!(is_name(label), "{line}");
            let (mut text, mut end) = (String::new(), None);
            let mut letters = value.char_indices();
            while let Some((at, letter)) = letters.next() {
                match letter {
                    '"' => {
                        end = Some(at);
                        break;
                    }
                    '\\' => text.push(match letters.next().expect("an escaped letter").1 {
                        'n' => '\n',
                        same @ ('"' | '\\') => same,
                        other => panic!("{other} is not to be escaped: {line}"),
                    }),
                    other => text.push(other),
                }
            }
            assert!(labels.insert(label.to_owned(), text).is_none(), "{line}");
            let after = &value[end.expect("a value ends") + 1..];
            if let Some(next) = after.strip_prefix(',') {
                rest = next;
                continue;
            }
            rest = after.strip_prefix('}').expect("labels end");
            break;
        }
    }
    (name.to_owned(), (labels, rest.strip_prefix(' ').expect("a space").parse().expect("a number")))
}

#[test]
fn all_families_are_told_of_a_busy_daemon() {
    let mut report = busy_status();
    report.tracking.time = Some(TimeReport {
        state: TimeState::Provisional,
        distrust: None,
        dates_deferred: false,
        earliest_unix_seconds: 0,
        missing: None,
    });
    report.authdata.sources.iter_mut().for_each(|row| row.cookies = 7);
    report.ntpdata.sources[0].refused.insert("forged".to_owned(), 7);
    let told = parse(&text(&report));
    let silent: Vec<&str> = names().filter(|name| !told.contains_key(*name)).collect();
    assert!(silent.is_empty() && told.len() == names().count(), "{silent:?}");
    for (name, (_, series)) in &told {
        assert!(name.starts_with("ntpd_") && !series.is_empty(), "{name}");
    }
    let value = |name: &str, wanted: &[(&str, &str)]| {
        let fits =
            |labels: &BTreeMap<String, String>| wanted.iter().all(|(l, v)| labels.get(*l).is_some_and(|is| is == v));
        let found: Vec<f64> = told[name].1.iter().filter(|(labels, _)| fits(labels)).map(|(_, value)| *value).collect();
        assert_eq!(found.len(), 1, "{name} {wanted:?}");
        found[0]
    };
    assert_eq!(value("ntpd_build_info", &[("version", "1.2.3")]), 1.0);
    assert_eq!(value("ntpd_time_state", &[("state", "provisional")]), 1.0);
    assert_eq!(value("ntpd_source_verdict", &[("source", "liar.example"), ("verdict", "untrusted")]), 1.0);
    assert_eq!(value("ntpd_source_reach_ratio", &[("source", "silent.example")]), 0.0);
    assert_eq!(value("ntpd_source_nts_cookies", &[("source", "nts.example")]), 7.0);
    assert_eq!(value("ntpd_source_refused_total", &[("source", "good.example"), ("reason", "forged")]), 7.0);
    assert_eq!(value("ntpd_source_refused_total", &[("source", "good.example"), ("reason", "unauthenticated")]), 0.0);
    assert_eq!(value("ntpd_sources", &[("state", "unresolved")]), 1.0);
    assert_eq!(value("ntpd_pool_members_wanted", &[("pool", "pool.example")]), 4.0);
    assert_eq!(value("ntpd_server_requests_total", &[]), 1.0);
    assert_eq!(value("ntpd_key_exchange_completed_total", &[]), 6.0);
    assert_eq!(value("ntpd_certificate_expiry_timestamp_seconds", &[]), 1.8e9);
    let dropped: f64 = told["ntpd_server_dropped_total"].1.iter().map(|(_, value)| value).sum();
    assert_eq!(dropped, count(report.serverstats.ntp.unwrap().0.dropped()));
    assert!((value("ntpd_frequency_ratio", &[]) - report.tracking.frequency_ppm * 1e-6).abs() < 1e-18);
}

#[test]
fn a_daemon_that_serves_nobody_has_no_series_about_it() {
    let mut report = busy_status();
    report.serverstats.ntp = None;
    report.serverstats.key_exchange = None;
    report.daemon.certificate_expires_unix_seconds = None;
    let text = text(&report);
    parse(&text);
    assert!(!text.contains("ntpd_server") && !text.contains("ntpd_key_exchange") && !text.contains("certificate"));
}

#[test]
fn two_sources_of_one_name_and_address_are_one_series() {
    let mut report = busy_status();
    let twin = report.sources.sources[0].clone();
    report.sources.sources.push(twin);
    let twin = report.ntpdata.sources[0].clone();
    report.ntpdata.sources.push(twin);
    parse(&text(&report));
}

#[test]
fn numbers_that_are_none_are_written_as_the_format_has_them() {
    let mut samples = Samples { name: "a", text: String::new() };
    [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e-9, 1e15].into_iter().for_each(|value| samples.one(value));
    assert_eq!(samples.text, "a +Inf\na -Inf\na NaN\na 0.000000001\na 1000000000000000\n");
}

proptest! {
    #[test]
    fn no_name_leaves_its_quotes(name in ".*", reason in "[\\PC\"\\\\\n{},=]{0,40}") {
        let mut report = busy_status();
        report.sources.sources[0].judged.source.name = name.clone();
        report.sources.sources[0].judged.verdict = reason.clone();
        let told = parse(&text(&report));
        let found = told["ntpd_source_verdict"].1.iter().any(|(labels, _)| labels["source"] == name && labels["verdict"] == reason);
        prop_assert!(found);
    }
}

/// What the dashboard draws and the rules alert on is there: every word that looks like a metric.
#[test]
fn the_dashboard_and_the_rules_know_only_metrics_that_exist() {
    let names: BTreeSet<&str> = names().collect();
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
    let mut used = BTreeSet::new();
    for file in ["grafana/ntpd.json", "prometheus/ntpd.rules.yml"] {
        let text = fs::read_to_string(packaging.join(file)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let of_file: BTreeSet<String> = words.filter(|word| word.starts_with("ntpd_")).map(str::to_owned).collect();
        for word in &of_file {
            assert!(names.contains(word.as_str()), "{file}: there is no {word}");
        }
        assert!(of_file.len() > 5, "{file}: {of_file:?}");
        used.extend(of_file);
    }
    assert!(used.contains("ntpd_synchronized"));
}

/// Metrics and labels with what an expression compares them with.
fn selectors(text: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('{') {
        let metric = text[..at].rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
        let inside = text[at + 1..].split('}').next().unwrap_or_default();
        if !metric.starts_with("ntpd_") {
            continue;
        }
        for matcher in inside.split(',') {
            let (label, values) = matcher.split_once('=').expect("a matcher");
            let values = values.trim_start_matches('~').trim_matches('"');
            let label = label.trim_end_matches('!').trim();
            found.extend(values.split('|').map(|value| (metric.to_owned(), label.to_owned(), value.to_owned())));
        }
    }
    found
}

/// An alert on a word that nothing ever says would never come.
#[test]
fn the_rules_know_only_label_values_that_exist() {
    let mut report = busy_status();
    report.tracking.time = Some(TimeReport {
        state: TimeState::Verified,
        distrust: None,
        dates_deferred: false,
        earliest_unix_seconds: 0,
        missing: None,
    });
    let told = parse(&text(&report));
    // These families say all values that there are; of verdicts only one at a time.
    let verdicts = include_str!("../../../../ntp-proto/src/select/verdict.rs");
    let exists = |metric: &str, label: &str, value: &str| match (metric, label) {
        ("ntpd_source_verdict", "verdict") => verdicts.contains(&format!(" => \"{value}\",")),
        _ => told[metric].1.iter().any(|(labels, _)| labels.get(label).is_some_and(|is| is == value)),
    };
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/prometheus/ntpd.rules.yml");
    let used = selectors(&fs::read_to_string(rules).unwrap());
    assert!(used.len() >= 12, "{used:?}");
    for (metric, label, value) in &used {
        assert!(exists(metric, label, value), "no series of {metric} has {label}=\"{value}\"");
    }
    assert!(!exists("ntpd_source_verdict", "verdict", "wrong") && !exists("ntpd_sources", "state", "gone"));
}

/// `promtool test rules` runs these courses: each alert comes in one of them, and stays away in one.
#[test]
fn each_alert_has_a_course_in_which_it_comes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let rules = fs::read_to_string(root.join("packaging/prometheus/ntpd.rules.yml")).unwrap();
    let courses = fs::read_to_string(root.join("tests/interop/rules.test.yml")).unwrap();
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 17);
    for alert in alerts {
        let comes = courses.contains(&format!("alertname: {alert}\n        exp_alerts:\n          - exp_labels:"));
        assert!(comes, "{alert} has no course in which it comes");
    }
}
