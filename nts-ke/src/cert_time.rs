//! When a certificate is valid, read from its DER (RFC 5280 section 4.1).
//!
//! The TLS library checks validity but does not show it. A client without a clock needs both ends: no certificate
//! was signed after now, and none of those it relied on may have expired at the time it was told.

use ntp_proto::{bootstrap::Window, time::UnixTime};
use rustls_pki_types::CertificateDer;

use crate::der::{SEQUENCE, element, fields_from_issuer};

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The validity of a certificate (RFC 5280 section 4.1.2.5), both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub not_before: UnixTime,
    /// Last second.
    pub not_after: UnixTime,
}

impl Validity {
    /// Reads it; `None` if `certificate` is no well-formed X.509 certificate up to that field.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, fields) = element(fields_from_issuer(certificate)?, SEQUENCE)?;
        let (validity, _) = element(fields, SEQUENCE)?;
        let (not_before, rest) = time(validity)?;
        let (not_after, rest) = time(rest)?;
        rest.is_empty().then_some(Self { not_before, not_after })
    }

    /// The same in seconds.
    #[must_use]
    pub const fn window(&self) -> Window {
        Window { not_before: self.not_before.seconds, not_after: self.not_after.seconds }
    }
}

/// The time that `bytes` begins with, and what follows it.
fn time(bytes: &[u8]) -> Option<(UnixTime, &[u8])> {
    let (year, text, rest) = if let Some((text, rest)) = element(bytes, UTC_TIME) {
        let (year, text) = digits(text, 2)?;
        // RFC 5280 section 4.1.2.5.1: two digits from 50 on belong to the last century.
        (if year >= 50 { 1900 + year } else { 2000 + year }, text, rest)
    } else {
        let (text, rest) = element(bytes, GENERALIZED_TIME)?;
        let (year, text) = digits(text, 4)?;
        (year, text, rest)
    };
    let (month, text) = digits(text, 2)?;
    let (day, text) = digits(text, 2)?;
    let (hour, text) = digits(text, 2)?;
    let (minute, text) = digits(text, 2)?;
    let (second, text) = digits(text, 2)?;
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60;
    if !in_range || text != b"Z" {
        return None;
    }
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((UnixTime { seconds, nanos: 0 }, rest))
}

/// The number in the first `count` octets, and what follows them.
fn digits(text: &[u8], count: usize) -> Option<(i64, &[u8])> {
    let (head, rest) = text.split_at_checked(count)?;
    let number =
        head.iter().try_fold(0, |sum, octet| octet.is_ascii_digit().then(|| sum * 10 + i64::from(octet - b'0')));
    Some((number?, rest))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, year 0 to 9999.
///
/// Years are counted from March, so that a leap day is the last day of its year; a month then begins
/// `(153 m + 2) / 5` days into it, and an era of 400 years has 146 097 days.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - DAYS_TO_UNIX_EPOCH
}

/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_UNIX_EPOCH: i64 = 719_468;

/// Year, month and day of a number of days since 1970-01-01: the inverse of [`days_from_civil`].
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(DAYS_TO_UNIX_EPOCH);
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_and_days_agree() {
        for (date, days) in [
            ((1970, 1, 1), 0),
            ((1969, 12, 31), -1),
            ((2000, 2, 29), 11_016),
            ((2000, 3, 1), 11_017),
            ((2030, 1, 1), 21_915),
            ((9999, 12, 31), 2_932_896),
        ] {
            assert_eq!(days_from_civil(date.0, date.1, date.2), days, "{date:?}");
            assert_eq!(civil_from_days(days), date);
        }
        for days in -719_000..200_000 {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
    }

    #[test]
    fn validity_is_read_from_real_certificates() {
        for (begin, end) in [((2030, 1, 1), (2030, 4, 1)), ((1999, 2, 28), (2051, 12, 31))] {
            let mut parameters = rcgen::CertificateParams::new(vec!["ntp.example".into()]).unwrap();
            parameters.not_before = rcgen::date_time_ymd(begin.0, begin.1, begin.2);
            parameters.not_after = rcgen::date_time_ymd(end.0, end.1, end.2);
            let certificate = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            let at = |(y, m, d): (i32, u8, u8)| UnixTime {
                seconds: days_from_civil(y.into(), m.into(), d.into()) * 86_400,
                nanos: 0,
            };
            let expected = Validity { not_before: at(begin), not_after: at(end) };
            assert_eq!(Validity::of(certificate.der()), Some(expected));
            for cut in 0..100 {
                let part = CertificateDer::from(certificate.der().get(..cut).unwrap().to_vec());
                assert_eq!(Validity::of(&part), None);
            }
        }
    }

    #[test]
    fn times_outside_the_calendar_are_refused() {
        for bad in ["301301000000Z", "300132000000Z", "300101240000Z", "3001010000Z", "300101000000+", "3x0101000000Z"]
        {
            let mut der = vec![UTC_TIME, u8::try_from(bad.len()).unwrap()];
            der.extend(bad.as_bytes());
            assert_eq!(time(&der), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_calmly(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _read = Validity::of(&CertificateDer::from(bytes.clone()));
            let _read = time(&bytes);
        }
    }
}
