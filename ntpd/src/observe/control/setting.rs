//! Settings that can be changed while the daemon runs, in the words of chrony's commands.

use std::time::Duration;

use ntp_proto::{
    discipline::StepLimit,
    server::LocalConfig,
    time::{NtpDuration, Rate},
};

use crate::config::{STRATA, local_time};

/// Longest time that makes sense here, in seconds.
const MAX_SECONDS: f64 = 1e9;

/// What `local` takes.
const LOCAL: &str = "off, or any of: stratum 1 to 15, distance SECONDS, activate SECONDS, orphan, waitsynced SECONDS, waitunsynced SECONDS";

/// Reads what stands after `local`; `None` is `off`.
///
/// # Errors
///
/// What is wrong, and what is accepted.
pub fn parse_local(text: &str) -> Result<Option<LocalConfig>, String> {
    let wrong = |what: String| format!("{what}; accepted: {LOCAL}");
    if text.trim().eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let (mut config, mut unsynced) = (LocalConfig::DEFAULT, None);
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let word = word.to_ascii_lowercase();
        if word == "orphan" {
            config.orphan = true;
            continue;
        }
        let mut seconds = || {
            let value = words.next().and_then(|value| local_time(value.parse().ok()?));
            value.ok_or_else(|| wrong(format!("`{word}` needs a number of seconds, up to a year")))
        };
        match word.as_str() {
            "stratum" => {
                let stratum = words.next().and_then(|value| value.parse().ok());
                config.stratum = stratum
                    .filter(|stratum| STRATA.contains(stratum))
                    .ok_or_else(|| wrong("the stratum is out of range".to_owned()))?;
            }
            "distance" => config.distance = NtpDuration::from_seconds(seconds()?.as_secs_f64()),
            "activate" => config.activate = NtpDuration::from_seconds(seconds()?.as_secs_f64()),
            "waitsynced" => config.wait_synced = seconds()?,
            "waitunsynced" => unsynced = Some(seconds()?),
            _ => return Err(wrong(format!("unknown word `{}`", word.escape_debug()))),
        }
    }
    let wait = if config.orphan { LocalConfig::ORPHAN_WAIT } else { Duration::ZERO };
    Ok(Some(LocalConfig { wait_unsynced: unsynced.unwrap_or(wait), ..config }))
}

/// What [`parse_local`] reads.
#[must_use]
pub fn show_local(config: Option<&LocalConfig>) -> String {
    let Some(config) = config else { return "off".to_owned() };
    let orphan = if config.orphan { " orphan" } else { "" };
    format!(
        "stratum {} distance {} activate {}{orphan} waitsynced {} waitunsynced {}",
        config.stratum,
        config.distance.to_seconds(),
        config.activate.to_seconds(),
        config.wait_synced.as_secs_f64(),
        config.wait_unsynced.as_secs_f64()
    )
}

/// Reads a threshold in seconds and a number of updates, of which -1 is all.
///
/// # Errors
///
/// What is accepted.
pub fn parse_steps(text: &str) -> Result<(f64, StepLimit), String> {
    let wrong = || "accepted: a threshold in seconds and how many updates may step, -1 for all".to_owned();
    let mut words = text.split_whitespace();
    let (Some(threshold), Some(limit), None) = (words.next(), words.next(), words.next()) else { return Err(wrong()) };
    let threshold = threshold.parse().ok().and_then(self::threshold);
    let limit = limit.parse::<i64>().map_err(|_| wrong())?;
    Ok((threshold.ok_or_else(wrong)?, steps(limit)))
}

/// A threshold in seconds, if it can be one.
#[must_use]
pub fn threshold(seconds: f64) -> Option<f64> {
    (0.0..=MAX_SECONDS).contains(&seconds).then_some(seconds)
}

/// A number of updates as chrony has it.
#[must_use]
pub fn steps(limit: i64) -> StepLimit {
    if limit < 0 { StepLimit::Always } else { StepLimit::Updates(u32::try_from(limit).unwrap_or(u32::MAX)) }
}

/// What [`parse_steps`] reads.
#[must_use]
pub fn show_steps(threshold: f64, limit: StepLimit) -> String {
    let limit = match limit {
        StepLimit::Always => -1,
        StepLimit::Updates(updates) => i64::from(updates),
    };
    format!("{threshold} {limit}")
}

/// Reads parts per million.
///
/// # Errors
///
/// What is accepted.
pub fn parse_skew(text: &str) -> Result<Rate, String> {
    let ppm = text.trim().parse::<f64>().ok().filter(|ppm| *ppm > 0.0 && *ppm <= 1e6);
    ppm.map(Rate::from_ppm).ok_or_else(|| "accepted: parts per million, above 0 and up to 1000000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back() {
        for text in ["off", "", "stratum 3 orphan", "Distance 0.1 activate 2 waitsynced 4", "orphan waitunsynced 0"] {
            let local = parse_local(text).unwrap();
            assert_eq!(parse_local(&show_local(local.as_ref())), Ok(local), "{text}");
        }
        let orphan = parse_local("stratum 3 orphan").unwrap().unwrap();
        assert_eq!((orphan.stratum, orphan.orphan, orphan.wait_unsynced), (3, true, LocalConfig::ORPHAN_WAIT));
        assert_eq!(parse_local(""), Ok(Some(LocalConfig::DEFAULT)));
        for text in ["1 3", "0.5 -1", "0 0"] {
            let (threshold, limit) = parse_steps(text).unwrap();
            assert_eq!(show_steps(threshold, limit), text);
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_with_what_does() {
        for text in ["stratum", "stratum 0", "stratum 16", "distance x", "distance -1", "onn", "off now"] {
            assert!(parse_local(text).unwrap_err().contains("accepted: off, or any of: stratum 1 to 15"), "{text}");
        }
        for text in ["", "1", "1 x", "-1 3", "nan 3", "1 3 5"] {
            assert!(parse_steps(text).unwrap_err().starts_with("accepted: a threshold"), "{text}");
        }
        for text in ["", "0", "-1", "1e7", "nan"] {
            assert!(parse_skew(text).is_err(), "{text}");
        }
    }
}
