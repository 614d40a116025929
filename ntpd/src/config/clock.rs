//! `[clock]`.

use std::{path::PathBuf, time::Duration};

use ntp_proto::{
    discipline::{CORRECTION_TIME_RATIO, ChangeLimit, LeapMode, MAX_UPDATE_SKEW, StepLimit},
    select::{AuthSelect, SelectConfig},
    time::Rate,
};

use super::{
    ClockSettings,
    check::{path, path_text},
    problem::Wrong,
    raw::Data,
    section::{Found, Section},
    values,
};
use crate::leap_file;

const MICROSECOND: Duration = Duration::from_micros(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Most updates after start that may step.
const MAX_STEPS: i64 = 1_000_000;

const DEFAULT_STEP_THRESHOLD: Duration = Duration::from_secs(1);
const DEFAULT_STEPS: StepLimit = StepLimit::Updates(3);

/// Fastest slew, as in chrony: a twelfth of a second a second.
const DEFAULT_MAX_SLEW: Rate = Rate::from_ppm(83_333.333);

/// Largest frequency error of an oscillator (MAXFREQ of RFC 5905).
const DEFAULT_MAX_FREQUENCY: Rate = Rate::from_ppm(500.0);

/// Words for [`LeapMode`].
pub(super) const LEAP: &[(&str, LeapMode)] =
    &[("system", LeapMode::System), ("step", LeapMode::Step), ("slew", LeapMode::Slew), ("ignore", LeapMode::Ignore)];

/// Words for [`AuthSelect`].
pub(super) const AUTH_SELECT: &[(&str, AuthSelect)] = &[
    ("require", AuthSelect::Require),
    ("prefer", AuthSelect::Prefer),
    ("mix", AuthSelect::Mix),
    ("ignore", AuthSelect::Ignore),
];

/// Corrections above this are logged, as in chrony.
const DEFAULT_LOG_CHANGE: Duration = Duration::from_secs(1);

/// How the clock is set.
pub(super) fn clock(section: Option<Section<'_>>) -> ClockSettings {
    let limits = SelectConfig::default();
    let mut settings = ClockSettings {
        step_threshold: DEFAULT_STEP_THRESHOLD,
        step_limit: DEFAULT_STEPS,
        max_slew_rate: DEFAULT_MAX_SLEW,
        correction_time_ratio: CORRECTION_TIME_RATIO,
        max_frequency: DEFAULT_MAX_FREQUENCY,
        max_update_skew: MAX_UPDATE_SKEW,
        max_change: None,
        log_change: DEFAULT_LOG_CHANGE,
        select: limits,
        leap: LeapMode::System,
        leap_file: None,
    };
    let Some(mut section) = section else { return settings };
    if let Some(mut step) = section.section("step") {
        let threshold = step.field("threshold", values::duration(MICROSECOND..=YEAR));
        settings.step_threshold = threshold.map_or(DEFAULT_STEP_THRESHOLD, |found| found.value);
        settings.step_limit = step.field("updates", step_limit).map_or(DEFAULT_STEPS, |found| found.value);
        step.finish();
    }
    let mut rate = |key, default| section.field(key, values::ppm(1.0..=100_000.0)).map_or(default, |rate| rate.value);
    settings.max_slew_rate = rate("max-slew-rate", DEFAULT_MAX_SLEW);
    settings.max_frequency = rate("max-frequency", DEFAULT_MAX_FREQUENCY);
    let ratio = section.field("correction-time-ratio", values::number(0.01..=100.0));
    settings.correction_time_ratio = ratio.map_or(CORRECTION_TIME_RATIO, |found| found.value);
    let skew = section.field("max-update-skew", values::ppm(1e-3..=1e6));
    settings.max_update_skew = skew.map_or(MAX_UPDATE_SKEW, |found| found.value);
    settings.max_change = max_change(&mut section);
    let log_change = section.field("log-change", values::duration(Duration::ZERO..=YEAR));
    settings.log_change = log_change.map_or(DEFAULT_LOG_CHANGE, |found| found.value);
    let mut seconds = |key, default| {
        let found = section.field(key, values::duration(MILLISECOND..=HOUR));
        found.map_or(default, |found: Found<Duration>| found.value.as_secs_f64())
    };
    settings.select.max_distance = seconds("max-distance", limits.max_distance);
    settings.select.max_jitter = seconds("max-jitter", limits.max_jitter);
    let min_sources = section.field("min-sources", values::integer(1..=16_u8));
    settings.select.min_sources = min_sources.map(|found| found.value.into());
    settings.select.auth =
        section.field("auth-select-mode", values::word(AUTH_SELECT)).map_or(limits.auth, |found| found.value);
    settings.leap = section.field("leap", values::word(LEAP)).map_or(LeapMode::System, |found| found.value);
    settings.leap_file = leap_file(&mut section);
    section.finish();
    settings
}

/// Whatever is wrong with the file, time goes on without it.
fn leap_file(section: &mut Section<'_>) -> Option<PathBuf> {
    let Found { value, place } = path(section.field("leap-file", path_text))?;
    if let Err(fault) = leap_file::read(&value) {
        let what = format!("{fault}; sources say when leap seconds come");
        section.warning(&place, "leap-file", Wrong::new(what));
    }
    Some(value)
}

fn step_limit(data: &Data) -> Result<StepLimit, Wrong> {
    let accepted = |wrong: Wrong| wrong.accepted(format!("0 to {MAX_STEPS}, or \"always\""));
    match data {
        Data::String(word) if word == "always" => Ok(StepLimit::Always),
        Data::Integer(updates) if (0..=MAX_STEPS).contains(updates) => {
            Ok(StepLimit::Updates(u32::try_from(*updates).unwrap_or_default()))
        }
        Data::Integer(updates) => Err(accepted(Wrong::new(format!("{updates} is out of range")))),
        Data::String(word) => Err(accepted(Wrong::new(format!("unknown value `{word}`")))),
        Data::Float(_) | Data::Boolean(_) | Data::Datetime | Data::Array(_) | Data::Table(_) => {
            Err(accepted(Wrong::new(format!("expected an integer, found {}", data.kind()))))
        }
    }
}

/// Three keys, of which the first must be given.
fn max_change(section: &mut Section<'_>) -> Option<ChangeLimit> {
    let mut change = section.section("max-change")?;
    let offset = change.required("offset", values::duration(MICROSECOND..=YEAR * 100));
    let start = change.field("start", values::integer(0..=MAX_STEPS)).map_or(1, |found| found.value);
    let ignore = change.field("ignore", ignore).map_or(Some(0), |found| found.value);
    change.finish();
    let start = u64::try_from(start).unwrap_or_default();
    offset.map(|offset| ChangeLimit { offset: offset.value.as_secs_f64(), start, ignore })
}

/// A number, or all of them.
fn ignore(data: &Data) -> Result<Option<u32>, Wrong> {
    step_limit(data).map(|limit| match limit {
        StepLimit::Always => None,
        StepLimit::Updates(updates) => Some(updates),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::load;

    fn clock(text: &str) -> Result<ClockSettings, String> {
        load(&format!("pool = \"a.example\"\n[clock]\n{text}\n")).map(|config| config.clock)
    }

    #[test]
    fn limits_of_changes_are_those_of_chrony() {
        let plain = clock("").unwrap();
        assert_eq!((plain.max_update_skew, plain.max_change), (Rate::from_ppm(1000.0), None));
        assert_eq!(plain.log_change, Duration::from_secs(1));
        let all = clock(
            "max-update-skew = 100.0\nlog-change = \"100ms\"\nmax-change = { offset = \"1000s\", start = 1, ignore = 2 }",
        );
        let all = all.unwrap();
        assert_eq!(all.max_update_skew, Rate::from_ppm(100.0));
        assert_eq!(all.max_change, Some(ChangeLimit { offset: 1000.0, start: 1, ignore: Some(2) }));
        assert_eq!(all.log_change, Duration::from_millis(100));
        let patient = clock("max-change = { offset = \"1s\", ignore = \"always\" }").unwrap();
        assert_eq!(patient.max_change, Some(ChangeLimit { offset: 1.0, start: 1, ignore: None }));
    }

    #[test]
    fn what_is_wrong_is_told_with_what_is_right() {
        for (text, wrong) in [
            ("max-change = { start = 1 }", "ntpd.toml:3:1: clock.max-change.offset: missing"),
            (
                "max-change = { offset = \"1s\", ignore = -1 }",
                "ntpd.toml:3:40: clock.max-change.ignore: -1 is out of range; accepted: 0 to 1000000, or \"always\"",
            ),
            (
                "max-update-skew = 0",
                "ntpd.toml:3:19: clock.max-update-skew: 0 is out of range; accepted: 0.001 to 1000000 (parts per million)",
            ),
            ("leap-file = 1", "ntpd.toml:3:13: clock.leap-file: expected a string, found an integer"),
        ] {
            assert_eq!(clock(text).unwrap_err(), wrong);
        }
    }
}
