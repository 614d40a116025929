//! Pulses that the kernel stamps (RFC 2783).

use std::{fs::File, io, path::Path};

use ntp_proto::{ids::Leap, refclock::Reading, time::NtpTimestamp};

use super::{nonsense, timestamp};
use crate::sys::{self, PpsFetch};

/// The bits of an NTP timestamp that are below a second.
const FRACTION: u64 = 0xffff_ffff;

/// Which edge of a pulse begins the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edge {
    /// The first.
    #[default]
    Assert,
    /// The last.
    Clear,
}

/// A source of pulses.
#[derive(Debug)]
pub struct Pps {
    device: File,
    edge: Edge,
    /// The number of the last pulse that was seen.
    sequence: Option<u32>,
}

impl Pps {
    /// Opens a device, and has it capture the edge.
    ///
    /// # Errors
    ///
    /// If there is no such device, it may not be opened, or does not see that edge.
    pub fn open(path: &Path, edge: Edge) -> io::Result<Self> {
        let device = File::open(path)?;
        let captured = match edge {
            Edge::Assert => sys::PPS_ASSERT,
            Edge::Clear => sys::PPS_CLEAR,
        };
        sys::capture_pulses(&device, captured)?;
        Ok(Self { device, edge, sequence: None })
    }

    /// The last pulse, if it has not been seen.
    ///
    /// # Errors
    ///
    /// If the device is gone.
    pub fn read(&mut self) -> io::Result<Option<Reading>> {
        let fetched = sys::fetch_pulse(&self.device)?;
        self.take(&fetched)
    }

    fn take(&mut self, fetched: &PpsFetch) -> io::Result<Option<Reading>> {
        let (sequence, time) = match self.edge {
            Edge::Assert => (fetched.assert_sequence, fetched.assert),
            Edge::Clear => (fetched.clear_sequence, fetched.clear),
        };
        // The one before the first look may be old; a device that has seen none has number 0.
        let before = self.sequence.replace(sequence);
        if before.is_none_or(|before| before == sequence) || sequence == 0 {
            return Ok(None);
        }
        let at = timestamp(time.seconds, time.nanos).ok_or_else(nonsense)?;
        // Which second begins is for others to say.
        let reference = NtpTimestamp::from_bits(at.to_bits() & !FRACTION);
        Ok(Some(Reading { at, reference, is_pulse: true, error: 0.0, leap: Leap::None }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::PpsTime;

    fn fetched(sequence: u32, seconds: i64, nanos: i32) -> PpsFetch {
        let assert = PpsTime { seconds, nanos, flags: 0 };
        PpsFetch { assert_sequence: sequence, assert, ..PpsFetch::default() }
    }

    #[test]
    fn each_pulse_is_told_once_and_old_ones_are_not() {
        let device = File::open("/dev/null").unwrap();
        let mut pps = Pps { device, edge: Edge::Assert, sequence: None };
        assert_eq!(pps.take(&fetched(41, 1_790_000_000, 5)).unwrap(), None, "it may be from yesterday");
        assert_eq!(pps.take(&fetched(41, 1_790_000_000, 5)).unwrap(), None);
        let pulse = pps.take(&fetched(42, 1_790_000_001, 750)).unwrap().unwrap();
        assert!(pulse.is_pulse && (pulse.at - pulse.reference).to_nanos() == 750, "{pulse:?}");
        assert_eq!(pps.take(&fetched(42, 1_790_000_001, 750)).unwrap(), None);
        assert!(pps.take(&fetched(43, 1_790_000_002, -1)).is_err(), "no time");
    }

    #[test]
    fn what_is_no_source_of_pulses_is_an_error() {
        assert_eq!(Pps::open(Path::new("/dev/null"), Edge::Assert).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        let missing = Pps::open(Path::new("/nonexistent/pps0"), Edge::Assert).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
