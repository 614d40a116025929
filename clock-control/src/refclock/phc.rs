//! Hardware clocks of network cards, and those that hosts show their virtual machines in the same way.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use ntp_proto::{
    ids::Leap,
    refclock::Reading,
    time::{NtpDuration, NtpTimestamp},
};

use super::{nonsense, timestamp};
use crate::sys;

/// Readings of which the best counts.
const READINGS: u32 = 10;

/// How a device is compared with the system's clock, the best way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// The hardware takes both at one moment.
    Cross,
    /// The driver reads the system's clock right before and after the device.
    Enclosed,
    /// The kernel reads both in turn.
    Alternate,
}

impl Method {
    const fn next(self) -> Option<Self> {
        match self {
            Self::Cross => Some(Self::Enclosed),
            Self::Enclosed => Some(Self::Alternate),
            Self::Alternate => None,
        }
    }
}

/// A hardware clock.
#[derive(Debug)]
pub struct Phc {
    device: File,
    method: Method,
}

/// The device of the hardware clock of a network interface.
///
/// # Errors
///
/// If there is no such interface, or it has no such clock.
pub fn phc_of(interface: &str) -> io::Result<PathBuf> {
    let clock = sys::timestamping_info(interface)?.clock;
    if clock < 0 {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the interface has no hardware clock"));
    }
    Ok(format!("/dev/ptp{clock}").into())
}

impl Phc {
    /// Opens a device by its path, or by the name of its network interface.
    ///
    /// # Errors
    ///
    /// If there is no such device, it may not be opened, or has no clock.
    pub fn open(device: &Path, cross_timestamp: bool) -> io::Result<Self> {
        let device = match device.to_str().filter(|name| !name.contains('/')) {
            Some(interface) => File::open(phc_of(interface)?)?,
            None => File::open(device)?,
        };
        let mut phc = Self { device, method: if cross_timestamp { Method::Cross } else { Method::Enclosed } };
        phc.read()?;
        Ok(phc)
    }

    /// Compares it with the system's clock.
    ///
    /// # Errors
    ///
    /// If the device is gone or has no time.
    pub fn read(&mut self) -> io::Result<Reading> {
        loop {
            match self.compare() {
                Ok(reading) => return Ok(reading),
                // What a device cannot do it will not learn.
                Err(error) if is_unsupported(&error) => self.method = self.method.next().ok_or(error)?,
                Err(error) => return Err(error),
            }
        }
    }

    fn compare(&self) -> io::Result<Reading> {
        let time = |time: &libc::ptp_clock_time| timestamp(time.sec, time.nsec);
        match self.method {
            Method::Cross => {
                let taken = sys::cross_timestamp(&self.device)?;
                let both = time(&taken.sys_realtime).zip(time(&taken.device));
                both.map(|(at, reference)| reading(at, reference, 0.0)).ok_or_else(nonsense)
            }
            Method::Enclosed => {
                let taken = sys::enclosed_readings(&self.device, READINGS)?;
                let count = usize::try_from(taken.n_samples).unwrap_or(0);
                let triples = taken.ts.iter().take(count);
                best(triples.filter_map(|[before, device, after]| Some((time(before)?, time(device)?, time(after)?))))
            }
            Method::Alternate => {
                let taken = sys::alternate_readings(&self.device, READINGS)?;
                let count = usize::try_from(taken.n_samples).unwrap_or(0);
                let turns = taken.ts.get(..=2 * count).unwrap_or_default();
                best(turns.windows(3).step_by(2).filter_map(|turn| match turn {
                    [before, device, after] => Some((time(before)?, time(device)?, time(after)?)),
                    _ => None,
                }))
            }
        }
    }
}

const fn reading(at: NtpTimestamp, reference: NtpTimestamp, error: f64) -> Reading {
    Reading { at, reference, is_pulse: false, error, leap: Leap::None }
}

/// The reading that took the least time: the device was read at some moment of it.
fn best(readings: impl Iterator<Item = (NtpTimestamp, NtpTimestamp, NtpTimestamp)>) -> io::Result<Reading> {
    // One that took no time was taken while the system's clock was set back.
    let took = readings.map(|(before, device, after)| (after - before, before, device));
    let (took, before, device) =
        took.filter(|(took, ..)| took.to_bits() >= 0).min_by_key(|(took, ..)| *took).ok_or_else(nonsense)?;
    let half = NtpDuration::from_bits(took.to_bits() / 2);
    Ok(reading(before + half, device, half.to_seconds()))
}

/// Whether a call failed because the device, or the kernel, knows no such thing.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL | libc::ENOSYS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: i64) -> NtpTimestamp {
        NtpTimestamp::from_bits(4_000_000_000 << 32) + NtpDuration::from_nanos(nanos)
    }

    #[test]
    fn the_shortest_reading_counts() {
        let readings = [(0, 100_500, 9_000), (10_000, 110_400, 10_800), (20_000, 121_000, 22_000)];
        let best =
            best(readings.into_iter().map(|(before, device, after)| (at(before), at(device), at(after)))).unwrap();
        assert_eq!((best.reference - best.at).to_nanos(), 100_000);
        assert!((best.error - 400e-9).abs() < 1e-9 && !best.is_pulse);
        assert!(super::best(std::iter::once((at(5), at(0), at(0)))).is_err(), "the clock was set back meanwhile");
        assert!(super::best(std::iter::empty()).is_err());
    }

    #[test]
    fn what_has_no_clock_is_an_error() {
        assert_eq!(Phc::open(Path::new("/dev/null"), true).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        assert_eq!(Phc::open(Path::new("/nonexistent"), true).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(Phc::open(Path::new("none0"), true).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(Phc::open(Path::new("lo"), true).unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
}
