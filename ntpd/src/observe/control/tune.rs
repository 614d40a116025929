//! Settings of one source, and who is served, in the words of the configuration.

use std::{fmt::Display, net::IpAddr, ops::RangeInclusive, str::FromStr};

use ipnet::IpNet;
use ntp_proto::{select::SelectOptions, source::Tune, time::PollInterval};

use crate::config::{AccessChange, DELAYS, DEVIATIONS, RATIOS};

/// What `tune` takes.
const ACCEPTED: &str = "min-poll LOG2, max-poll LOG2, poll-target NUMBER, min-stratum STRATUM, max-delay SECONDS, \
                        max-delay-ratio NUMBER or off, max-delay-dev-ratio NUMBER or off, or select with any of \
                        noselect, prefer, trust, require, each after + or -";

/// Words of [`SelectOptions`], in the order of its fields.
const SELECT: [&str; 4] = ["noselect", "prefer", "trust", "require"];

const NONE: SelectOptions = SelectOptions { noselect: false, prefer: false, trust: false, require: false };

/// Reads a key of a source and its value.
///
/// # Errors
///
/// What is accepted.
pub fn parse_tune(text: &str) -> Result<Tune, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let tune = match words.as_slice() {
        ["select", options @ ..] if !options.is_empty() => parse_select(options),
        [key, value] => parse_one(key, value),
        _ => None,
    };
    tune.ok_or_else(|| format!("accepted: {ACCEPTED}"))
}

fn parse_one(key: &str, value: &str) -> Option<Tune> {
    let off = value == "off";
    Some(match key {
        "min-poll" => Tune::MinPoll(PollInterval::new(value.parse().ok()?)?),
        "max-poll" => Tune::MaxPoll(PollInterval::new(value.parse().ok()?)?),
        "poll-target" => Tune::PollTarget(within(value, 1..=64)?),
        "min-stratum" => Tune::MinStratum(within(value, 0..=15)?),
        "max-delay" => Tune::MaxDelay(max_delay(value.parse().ok()?)?),
        "max-delay-ratio" if off => Tune::MaxDelayRatio(None),
        "max-delay-ratio" => Tune::MaxDelayRatio(Some(within(value, RATIOS)?)),
        "max-delay-dev-ratio" if off => Tune::MaxDelayDeviations(None),
        "max-delay-dev-ratio" => Tune::MaxDelayDeviations(Some(within(value, DEVIATIONS)?)),
        _ => return None,
    })
}

fn within<T: FromStr + PartialOrd>(value: &str, range: RangeInclusive<T>) -> Option<T> {
    value.parse().ok().filter(|value| range.contains(value))
}

/// A delay in seconds, if it can be one.
#[must_use]
pub fn max_delay(seconds: f64) -> Option<f64> {
    (DELAYS.start().as_secs_f64()..=DELAYS.end().as_secs_f64()).contains(&seconds).then_some(seconds)
}

fn parse_select(words: &[&str]) -> Option<Tune> {
    let (mut which, mut to) = (NONE, NONE);
    for word in words {
        let (on, word) = match (word.strip_prefix('+'), word.strip_prefix('-')) {
            (Some(word), _) => (true, word),
            (None, Some(word)) => (false, word),
            (None, None) => return None,
        };
        let place = SELECT.iter().position(|known| *known == word)?;
        let [changed, value] = [&mut which, &mut to].map(|options| {
            let SelectOptions { noselect, prefer, trust, require } = options;
            [noselect, prefer, trust, require].into_iter().nth(place)
        });
        (*changed?, *value?) = (true, on);
    }
    Some(Tune::Select { which, to })
}

/// What [`parse_tune`] reads.
#[must_use]
pub fn show_tune(tune: &Tune) -> String {
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "off".to_owned(), |ratio| ratio.to_string());
    let with = |key: &str, value: &dyn Display| format!("{key} {value}");
    match tune {
        Tune::MinPoll(poll) => with("min-poll", &poll.log2_seconds()),
        Tune::MaxPoll(poll) => with("max-poll", &poll.log2_seconds()),
        Tune::PollTarget(samples) => with("poll-target", samples),
        Tune::MinStratum(stratum) => with("min-stratum", stratum),
        Tune::MaxDelay(seconds) => with("max-delay", seconds),
        Tune::MaxDelayRatio(most) => with("max-delay-ratio", &ratio(*most)),
        Tune::MaxDelayDeviations(most) => with("max-delay-dev-ratio", &ratio(*most)),
        Tune::Select { which, to } => {
            let values = |options: &SelectOptions| [options.noselect, options.prefer, options.trust, options.require];
            let changes = SELECT.iter().zip(values(which)).zip(values(to)).filter(|((_, changed), _)| *changed);
            let changes: Vec<String> =
                changes.map(|((word, _), on)| format!("{}{word}", if on { '+' } else { '-' })).collect();
            with("select", &changes.join(" "))
        }
    }
}

/// Reads what stands after `allow` or `deny`: `all` or nothing, and a range or nothing.
///
/// # Errors
///
/// What is accepted.
pub fn parse_access(allows: bool, text: &str) -> Result<AccessChange, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (all, range) = match words.as_slice() {
        ["all", range @ ..] => (true, range),
        range => (false, range),
    };
    let range = match range {
        [] => Some(None),
        [range] => range.parse().or_else(|_| range.parse::<IpAddr>().map(IpNet::from)).ok().map(Some),
        _ => None,
    };
    let range =
        range.ok_or("accepted: an address or a range such as 192.0.2.0/24, after `all` if parts of it go, too")?;
    Ok(AccessChange { allows, all, range })
}

/// What [`parse_access`] reads.
#[must_use]
pub fn show_access(change: &AccessChange) -> String {
    let all = change.all.then_some("all".to_owned());
    all.into_iter().chain(change.range.map(|range| range.to_string())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back() {
        for text in [
            "min-poll -2",
            "max-poll 17",
            "poll-target 64",
            "min-stratum 0",
            "max-delay 0.5",
            "max-delay-ratio 2.5",
            "max-delay-ratio off",
            "max-delay-dev-ratio 10",
            "max-delay-dev-ratio off",
            "select -noselect +prefer -trust +require",
            "select +trust",
        ] {
            assert_eq!(show_tune(&parse_tune(text).unwrap()), text);
        }
        for text in ["", "all", "192.0.2.0/24", "all 2001:db8::/32"] {
            assert_eq!(show_access(&parse_access(true, text).unwrap()), text);
        }
        assert_eq!(show_access(&parse_access(false, "192.0.2.1").unwrap()), "192.0.2.1/32");
    }

    #[test]
    fn what_makes_no_sense_is_told_with_what_does() {
        for text in [
            "",
            "min-poll",
            "min-poll x",
            "min-poll 18",
            "poll-target 0",
            "poll-target 65",
            "min-stratum 16",
            "max-delay 0",
            "max-delay off",
            "max-delay nan",
            "max-delay-ratio 0.5",
            "max-delay-dev-ratio -1",
            "select",
            "select prefer",
            "select +best",
            "burst 1",
            "min-poll 1 2",
        ] {
            assert!(parse_tune(text).unwrap_err().starts_with("accepted: min-poll LOG2, "), "{text}");
        }
        for text in ["x", "192.0.2.0/33", "all all", "192.0.2.1 192.0.2.2", "192.0.2.1 all"] {
            assert!(parse_access(true, text).unwrap_err().starts_with("accepted: an address"), "{text}");
        }
    }
}
