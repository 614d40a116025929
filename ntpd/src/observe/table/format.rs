//! Numbers as chronyc writes them.

use std::fmt;

/// Longest text of others that is shown, in characters.
const MAX_TEXT: usize = 200;

/// One line of text from elsewhere, such as a name that a server gave, without what could steer a terminal.
pub(in crate::observe) fn clean(text: &str) -> String {
    let mut shown = String::new();
    text.chars().take(MAX_TEXT).for_each(|character| push(&mut shown, character));
    if text.chars().nth(MAX_TEXT).is_some() {
        shown.push('…');
    }
    shown
}

/// Lines of text from elsewhere, without what could steer a terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::new();
    for character in text.trim_end().chars() {
        if character == '\n' { shown.push('\n') } else { push(&mut shown, character) }
    }
    shown
}

fn push(shown: &mut String, character: char) {
    if character.is_control() { shown.extend(character.escape_default()) } else { shown.push(character) }
}

/// An amount of time without a sign.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span(pub(super) f64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.abs();
        // At most four digits, the last unit is the largest whose number does not need a fifth.
        match [(1e-9, "ns"), (1e-6, "us"), (1e-3, "ms")].into_iter().find(|(unit, _)| seconds < 9999.5 * unit) {
            Some((unit, name)) => write!(f, "{:.0}{name}", seconds / unit),
            None if seconds < 999.95 => write!(f, "{seconds:.1}s"),
            None => write!(f, "{seconds:.0}s"),
        }
    }
}

/// An amount of time with its sign, as chronyc has it: positive if this clock is ahead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offset(f64);

impl Offset {
    /// From an offset that is positive if the source is ahead.
    pub(super) fn ahead_here(seconds: f64) -> Self {
        Self(-seconds)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0.0 { '-' } else { '+' };
        write!(f, "{sign}{}", Span(self.0))
    }
}

/// `-value`, and never `-0` when it is shown with this many decimals.
pub(super) fn negated(value: f64, decimals: i32) -> f64 {
    if value.abs() < 0.5 * 10_f64.powi(-decimals) { 0.0 } else { -value }
}

/// How long ago something was.
pub(crate) fn age(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return "-".to_owned() };
    let seconds = seconds.max(0.0);
    match seconds {
        s if s < 1200.0 => format!("{s:.0}"),
        s if s < 36_000.0 => format!("{:.0}m", s / 60.0),
        s if s < 345_600.0 => format!("{:.0}h", s / 3600.0),
        s if s < 365.0 * 86_400.0 => format!("{:.0}d", s / 86_400.0),
        s => format!("{:.0}y", s / (365.25 * 86_400.0)),
    }
}

/// A point in time, UTC, in the form of `date`; the beginning of 1970 stands for none.
pub(crate) fn date(unix_seconds: Option<f64>) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    #[expect(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
    let seconds = unix_seconds.unwrap_or(0.0).clamp(-1e11, 1e12).floor() as i64;
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let pick = |names: &[&'static str], index: i64| {
        usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or("?")
    };
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!(
        "{} {} {day:02} {hour:02}:{minute:02}:{:02} {year}",
        pick(&DAYS, days.rem_euclid(7)),
        pick(&MONTHS, month - 1),
        second % 60
    )
}

/// A second of Unix time as files of measurements have it, UTC.
pub(crate) fn timestamp(unix_seconds: i64) -> String {
    let (days, second) = (unix_seconds.div_euclid(86_400), unix_seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01. Years are counted from March, so that the
/// leap day is the last of its year; an era is the 400 years after which the calendar repeats itself.
const fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March on have 31, 30, 31, 30, 31 days, again and again: 153 in five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, next) = if month_from_march < 10 { (month_from_march + 3, 0) } else { (month_from_march - 9, 1) };
    (era * 400 + year_of_era + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_at_most_four_digits() {
        for (seconds, expected) in [
            (0.0, "0ns"),
            (1.2e-9, "1ns"),
            (9.999e-6, "9999ns"),
            (1e-5, "10us"),
            (1.534e-3, "1534us"),
            (0.043, "43ms"),
            (9.999, "9999ms"),
            (12.34, "12.3s"),
            (999.96, "1000s"),
            (1e6, "1000000s"),
        ] {
            assert_eq!(Span(seconds).to_string(), expected);
            assert_eq!(Offset::ahead_here(-seconds).to_string(), format!("+{expected}"));
        }
        assert_eq!(Offset::ahead_here(0.001).to_string(), "-1000us");
    }

    #[test]
    fn ages_change_their_unit_where_chronyc_does() {
        for (seconds, expected) in
            [(0.4, "0"), (1199.0, "1199"), (1200.0, "20m"), (36_000.0, "10h"), (345_600.0, "4d"), (1e8, "3y")]
        {
            assert_eq!(age(Some(seconds)), expected);
        }
        assert_eq!(age(None), "-");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0.0, "Thu Jan 01 00:00:00 1970"),
            (-1.0, "Wed Dec 31 23:59:59 1969"),
            (951_782_400.0, "Tue Feb 29 00:00:00 2000"),
            (951_868_800.0, "Wed Mar 01 00:00:00 2000"),
            (1_795_478_400.5, "Tue Nov 24 00:00:00 2026"),
            (2_085_978_496.0, "Thu Feb 07 06:28:16 2036"),
            (4_107_542_400.0, "Mon Mar 01 00:00:00 2100"),
        ] {
            assert_eq!(date(Some(seconds)), expected);
        }
        assert_eq!(date(None), "Thu Jan 01 00:00:00 1970");
        assert!(date(Some(f64::INFINITY)).len() > 20 && date(Some(f64::NAN)).ends_with("1970"));
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\n\u{9b}c"), "a\\u{1b}[2Jb\\n\\u{9b}c");
        assert_eq!(printable("a\u{1b}[2Jb\nc\n"), "a\\u{1b}[2Jb\nc");
        assert_eq!(clean(&"x".repeat(300)).chars().count(), 201);
    }

    #[test]
    fn zero_has_no_minus() {
        assert_eq!(format!("{:+.3} {:+.3}", negated(0.000_4, 3), negated(0.001, 3)), "+0.000 -0.001");
    }
}
