//! `local` of `[serve]`.

use std::{ops::RangeInclusive, time::Duration};

use ntp_proto::{server::LocalConfig, time::NtpDuration};

use super::{problem::Wrong, raw::Data, section::Section, values};

/// What may be said: strata, and times of all kinds.
pub(crate) const STRATA: RangeInclusive<u8> = 1..=15;
pub(crate) const TIMES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(365 * 86_400);

/// What may stand there.
const ACCEPTED: &str = "true, false, or a table such as { stratum = 10, orphan = true }";

/// `true` is what chrony's `local` means without options; a table changes it.
pub(super) fn local(section: &mut Section<'_>) -> Option<LocalConfig> {
    let value = section.raw("local")?;
    let table = match value.data {
        Data::Boolean(false) => return None,
        Data::Boolean(true) => return Some(LocalConfig::DEFAULT),
        Data::Table(table) => table,
        other @ (Data::String(_) | Data::Integer(_) | Data::Float(_) | Data::Datetime | Data::Array(_)) => {
            let wrong = Wrong::new(format!("expected a table, found {}", other.kind())).accepted(ACCEPTED);
            section.error(&value.place, "local", wrong);
            return None;
        }
    };
    let default = LocalConfig::DEFAULT;
    let mut local = section.subsection("local", value.place, table);
    let stratum = local.field("stratum", values::integer(STRATA)).map_or(default.stratum, |found| found.value);
    let mut time = |key| local.field(key, values::duration(TIMES)).map(|found| found.value);
    let (distance, activate) = (time("distance").map(span), time("activate").map(span));
    let (wait_synced, wait_unsynced) = (time("wait-synced"), time("wait-unsynced"));
    let orphan = local.field("orphan", values::boolean).is_some_and(|found| found.value);
    local.finish();
    let wait = if orphan { LocalConfig::ORPHAN_WAIT } else { default.wait_unsynced };
    Some(LocalConfig {
        stratum,
        distance: distance.unwrap_or(default.distance),
        activate: activate.unwrap_or(default.activate),
        orphan,
        wait_synced: wait_synced.unwrap_or(default.wait_synced),
        wait_unsynced: wait_unsynced.unwrap_or(wait),
    })
}

/// A time of `local` in seconds, if it may be one.
pub(crate) fn local_time(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().filter(|time| TIMES.contains(time))
}

fn span(duration: Duration) -> NtpDuration {
    NtpDuration::from_seconds(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::load;

    fn read(local: &str) -> Result<Option<LocalConfig>, String> {
        let text = format!("pool = \"a.example\"\n[serve]\nallow = \"all\"\nlocal = {local}\n");
        load(&text).map(|config| config.serve.unwrap().local)
    }

    #[test]
    fn it_means_what_it_means_in_chrony() {
        assert_eq!(read("false"), Ok(None));
        assert_eq!(read("true"), Ok(Some(LocalConfig::DEFAULT)));
        let orphan = LocalConfig {
            stratum: 3,
            orphan: true,
            distance: NtpDuration::from_seconds(0.1),
            wait_unsynced: Duration::from_secs(300),
            ..LocalConfig::DEFAULT
        };
        assert_eq!(read("{ stratum = 3, orphan = true, distance = \"100ms\" }"), Ok(Some(orphan)));
        let patient =
            read("{ orphan = true, wait-unsynced = \"0s\", activate = \"1s\", wait-synced = \"1h\" }").unwrap();
        let patient = patient.unwrap();
        assert_eq!((patient.wait_unsynced, patient.wait_synced), (Duration::ZERO, Duration::from_secs(3600)));
        assert_eq!(patient.activate, NtpDuration::from_seconds(1.0));
    }

    #[test]
    fn what_is_wrong_is_told_with_what_is_right() {
        for (local, wrong) in [
            (
                "10",
                "ntpd.toml:4:9: serve.local: expected a table, found an integer; accepted: true, false, or a table such as { stratum = 10, orphan = true }",
            ),
            ("{ stratum = 16 }", "ntpd.toml:4:21: serve.local.stratum: 16 is out of range; accepted: 1 to 15"),
            (
                "{ strata = 1 }",
                "ntpd.toml:4:11: serve.local.strata: unknown key (did you mean `stratum`?); accepted: activate, distance, orphan, stratum, wait-synced, wait-unsynced",
            ),
        ] {
            assert_eq!(read(local).unwrap_err(), wrong);
        }
    }
}
