//! What the hardware clock's reading means.

/// The time zone that a hardware clock keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    /// Coordinated universal time.
    Utc,
    /// The machine's local time, as where another system that wants it so is started in turn.
    Local,
}

/// Reads `/etc/adjtime`: the third line says `UTC` or `LOCAL` (hwclock(8), adjtime_config(5)). Without it the clock keeps UTC.
pub(crate) fn zone(adjtime: &str) -> Zone {
    match adjtime.lines().nth(2).map(str::trim) {
        Some("LOCAL") => Zone::Local,
        Some(_) | None => Zone::Utc,
    }
}

#[cfg(test)]
mod tests {
    use std::{env, process::Command};

    use super::*;
    use crate::sys::local_to_utc;

    #[test]
    fn the_third_line_tells_the_zone() {
        for (text, expected) in [
            ("", Zone::Utc),
            ("0.0 0 0.0\n0\nUTC\n", Zone::Utc),
            ("0.0 0 0.0\n0\nLOCAL\n", Zone::Local),
            ("0.0 0 0.0\n0\nLOCAL", Zone::Local),
            ("LOCAL\n", Zone::Utc),
            ("\n\nlocal time\n", Zone::Utc),
        ] {
            assert_eq!(zone(text), expected, "{text:?}");
        }
    }

    /// What the C library says follows from the environment of the process, so that the test runs itself anew.
    #[test]
    fn local_time_is_taken_back_to_utc() {
        let (noon, hour) = (1_800_014_400, 3_600);
        match env::var("RTC_ZONE_TEST") {
            Ok(east) => assert_eq!(local_to_utc(noon), Some(noon - east.parse::<i64>().unwrap() * hour)),
            Err(_) => {
                for (zone, east) in [("UTC0", "0"), ("AAA-9", "9"), ("BBB+5", "-5")] {
                    let test = "rtc::tests::local_time_is_taken_back_to_utc";
                    let mut again = Command::new(env::current_exe().unwrap());
                    again.args(["--exact", test]).env("TZ", zone).env("RTC_ZONE_TEST", east);
                    let output = again.output().unwrap();
                    assert!(output.status.success(), "{zone}: {}", String::from_utf8_lossy(&output.stdout));
                    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{zone}");
                }
            }
        }
    }
}
