//! Lines of the files, column by column.
//!
//! Widths and units are those of chrony.conf(5) and of files that chronyd has written.

use std::{fmt, net::IpAddr};

use ntp_proto::{
    ids::{Leap, ReferenceId, StampKind},
    sample::Sample,
    time::UnixTime,
};

use crate::observe::table::timestamp;

pub(super) const MEASUREMENTS: &str = "   Date (UTC) Time     IP Address   L St 123 567 ABCD  LP RP Score    Offset  Peer del. Peer disp.  Root del. Root disp. Refid     MTxRx";
pub(super) const STATISTICS: &str = "   Date (UTC) Time     IP Address    Std dev'n Est offset  Offset sd  Diff freq   Est skew  Stress  Ns  Bs  Nr  Asym";
pub(super) const TRACKING: &str = "   Date (UTC) Time     IP Address   St   Freq ppm   Skew ppm     Offset L Co  Offset sd Rem. corr. Root delay Root disp. Max. error";
pub(super) const SELECTION: &str =
    "   Date (UTC) Time     IP Address   S EOpts Reach Score Last sample  Low end   High end";

/// Whom a line is about: a server by its address, a reference clock by its letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Server(IpAddr),
    Refclock(String),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(address) => f.pad(&address.to_canonical().to_string()),
            Self::Refclock(name) => f.pad(name),
        }
    }
}

/// A measurement. Offsets have NTP's sign: positive if the source is ahead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) at: UnixTime,
    pub(crate) address: IpAddr,
    pub(crate) leap: Leap,
    /// It passed the tests of the exchange.
    pub(crate) is_good: bool,
    pub(crate) local_poll: i8,
    pub(crate) remote_poll: i8,
    pub(crate) sample: Sample,
    pub(crate) reference_id: ReferenceId,
    pub(crate) interleaved: bool,
    pub(crate) sent: StampKind,
    pub(crate) received: StampKind,
}

/// What the measurements of a source come to. Signs are those of NTP; chronyd's are the other way round.
#[derive(Clone, Debug)]
pub(crate) struct Estimated {
    pub(crate) at: UnixTime,
    pub(crate) who: Who,
    pub(crate) jitter: f64,
    pub(crate) offset: f64,
    pub(crate) offset_deviation: f64,
    pub(crate) frequency: f64,
    pub(crate) skew: f64,
    /// How far the frequency moved, in units of what was its error bound.
    pub(crate) stress: f64,
    pub(crate) samples: usize,
    /// Old measurements that were left out this time.
    pub(crate) dropped: usize,
    pub(crate) runs: usize,
}

/// A correction of the clock, with NTP's signs: positive if the clock was slow.
#[derive(Clone, Debug)]
pub(crate) struct Tracked {
    pub(crate) at: UnixTime,
    pub(crate) who: Option<Who>,
    pub(crate) stratum: u8,
    pub(crate) frequency_ppm: f64,
    pub(crate) skew_ppm: f64,
    pub(crate) offset: f64,
    pub(crate) leap: Leap,
    /// Sources that were used.
    pub(crate) used: usize,
    pub(crate) offset_deviation: f64,
    /// What was left of earlier corrections.
    pub(crate) remaining: f64,
    pub(crate) root_delay: f64,
    pub(crate) root_dispersion: f64,
    pub(crate) max_error: f64,
}

/// What was made of a source.
#[derive(Clone, Debug)]
pub(crate) struct Selected {
    pub(crate) at: UnixTime,
    pub(crate) who: Who,
    pub(crate) state: char,
    /// `N`, `P`, `T` and `R`, or dashes in their places.
    pub(crate) options: String,
    pub(crate) reach: u8,
    pub(crate) age: f64,
    /// The offset of this clock lies between these two.
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Measured {
    pub(crate) fn line(&self) -> String {
        let (when, address, sample) = (timestamp(self.at.seconds), address(self.address), &self.sample);
        let tests = if self.is_good { "111 111 1111" } else { "111 111 0111" };
        let mode = if self.interleaved { 'I' } else { 'B' };
        format!(
            // There is no score between poll intervals here.
            "{when} {address} {} {:2} {tests}  {:2} {:2} 0.00 {} {} {} {} {} {} 4{mode} {} {}",
            letter(self.leap),
            sample.stratum,
            self.local_poll,
            self.remote_poll,
            wide(sample.offset),
            wide(sample.delay),
            wide(sample.dispersion),
            wide(sample.root_delay),
            wide(sample.root_dispersion),
            self.reference_id,
            stamp(self.sent),
            stamp(self.received),
        )
    }
}

impl Estimated {
    pub(crate) fn line(&self) -> String {
        format!(
            // The asymmetry of a path is not assumed.
            "{} {} {} {} {} {} {} {} {:3} {:3} {:3}  0.00",
            timestamp(self.at.seconds),
            who(&self.who),
            wide(self.jitter),
            wide(-self.offset),
            wide(self.offset_deviation),
            wide(-self.frequency),
            wide(self.skew),
            exponent(self.stress, 1),
            self.samples,
            self.dropped,
            self.runs,
        )
    }
}

impl Tracked {
    pub(crate) fn line(&self) -> String {
        format!(
            "{} {} {:2} {:10.3} {:10.3} {} {} {:2} {} {} {} {} {}",
            timestamp(self.at.seconds),
            self.who.as_ref().map_or_else(|| format!("{:<15}", "0.0.0.0"), who),
            if self.stratum < 16 { self.stratum } else { 0 },
            -self.frequency_ppm,
            self.skew_ppm,
            wide(-self.offset),
            letter(self.leap),
            self.used,
            wide(self.offset_deviation),
            wide(self.remaining),
            wide(self.root_delay),
            wide(self.root_dispersion),
            wide(self.max_error),
        )
    }
}

impl Selected {
    pub(crate) fn line(&self) -> String {
        format!(
            // A source is not kept for what it was.
            "{} {} {} {:5} {:4o}  1.00 {} {} {}",
            timestamp(self.at.seconds),
            who(&self.who),
            self.state,
            self.options,
            self.reach,
            wide(self.age),
            wide(self.low),
            wide(self.high),
        )
    }
}

fn address(address: IpAddr) -> String {
    who(&Who::Server(address))
}

fn who(who: &Who) -> String {
    format!("{who:<15}")
}

const fn letter(leap: Leap) -> char {
    match leap {
        Leap::None => 'N',
        Leap::Insert => '+',
        Leap::Delete => '-',
        Leap::Unsynchronized => '?',
    }
}

const fn stamp(kind: StampKind) -> char {
    match kind {
        StampKind::Daemon => 'D',
        StampKind::Kernel => 'K',
        StampKind::Hardware => 'H',
    }
}

fn wide(value: f64) -> String {
    format!("{:>10}", exponent(value, 3))
}

/// As `%.{digits}e` of printf: the exponent has a sign and two digits at least.
fn exponent(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$e}");
    match text.split_once('e') {
        Some((mantissa, power)) => {
            let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
            format!("{mantissa}e{sign}{power:0>2}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2026-11-30T06:27:46Z
    const AT: UnixTime = UnixTime { seconds: 1_796_020_066, nanos: 5 };

    fn sample() -> Sample {
        Sample {
            at: ntp_proto::time::NtpTimestamp::ZERO,
            offset: -1.378e-6,
            delay: 7.02e-6,
            dispersion: 1.575e-7,
            root_delay: 0.0,
            root_dispersion: 0.0,
            stratum: 2,
        }
    }

    /// The lines are those that chronyd 4.3 wrote about these values.
    #[test]
    fn lines_are_those_of_chronyd() {
        let address = "127.0.0.1".parse().unwrap();
        let measured = Measured {
            at: AT,
            address,
            leap: Leap::None,
            is_good: true,
            local_poll: -1,
            remote_poll: 0,
            sample: sample(),
            reference_id: ReferenceId([127, 127, 1, 1]),
            interleaved: false,
            sent: StampKind::Kernel,
            received: StampKind::Kernel,
        };
        assert_eq!(
            measured.line(),
            "2026-11-30 06:27:46 127.0.0.1       N  2 111 111 1111  -1  0 0.00 -1.378e-06  7.020e-06  1.575e-07  0.000e+00  0.000e+00 7F7F0101 4B K K"
        );
        let estimated = Estimated {
            at: AT,
            who: Who::Server(address),
            jitter: 1.695e-8,
            offset: -1.643e-6,
            offset_deviation: 1.631e-8,
            frequency: -8.041e-7,
            skew: 6.21e-5,
            stress: 4e-4,
            samples: 3,
            dropped: 0,
            runs: 3,
        };
        assert_eq!(
            estimated.line(),
            "2026-11-30 06:27:46 127.0.0.1        1.695e-08  1.643e-06  1.631e-08  8.041e-07  6.210e-05 4.0e-04   3   0   3  0.00"
        );
        let tracked = Tracked {
            at: AT,
            who: Some(Who::Refclock("PPS0".to_owned())),
            stratum: 3,
            frequency_ppm: 0.377,
            skew_ppm: 15.777,
            offset: -1.373e-6,
            leap: Leap::None,
            used: 1,
            offset_deviation: 1.033e-7,
            remaining: -1.181e-6,
            root_delay: 6.103e-6,
            root_dispersion: 6.439e-6,
            max_error: 1.5,
        };
        assert_eq!(
            tracked.line(),
            "2026-11-30 06:27:46 PPS0             3     -0.377     15.777  1.373e-06 N  1  1.033e-07 -1.181e-06  6.103e-06  6.439e-06  1.500e+00"
        );
        let selected = Selected {
            at: AT,
            who: Who::Server(address),
            state: 'S',
            options: "-----".to_owned(),
            reach: 0o377,
            age: 0.295,
            low: -1.756e-6,
            high: 4.283e-6,
        };
        assert_eq!(
            selected.line(),
            "2026-11-30 06:27:46 127.0.0.1       S -----  377  1.00  2.950e-01 -1.756e-06  4.283e-06"
        );
    }

    #[test]
    fn a_clock_that_follows_nothing_and_a_bad_exchange_show() {
        let address: IpAddr = "2001:db8::123:4567:89ab".parse().unwrap();
        let measured = Measured {
            at: AT,
            address,
            leap: Leap::Insert,
            is_good: false,
            local_poll: 10,
            remote_poll: 10,
            sample: sample(),
            reference_id: ReferenceId(*b"GPS\0"),
            interleaved: true,
            sent: StampKind::Daemon,
            received: StampKind::Hardware,
        };
        let line = measured.line();
        assert!(line.contains(" 2001:db8::123:4567:89ab +  2 111 111 0111  10 10 0.00 "), "{line}");
        assert!(line.ends_with(" 47505300 4I D H"), "{line}");
    }

    #[test]
    fn numbers_are_those_of_printf() {
        for (value, text) in
            [(0.0, "0.000e+00"), (-1.5e-123, "-1.500e-123"), (9.9996, "1.000e+01"), (12_345.0, "1.234e+04")]
        {
            assert_eq!(exponent(value, 3), text);
        }
    }
}
