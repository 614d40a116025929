//! Memory that is shared with a program that has the time.

use std::io;

use ntp_proto::{ids::Leap, refclock::Reading};

use super::{Readings, timestamp};
use crate::sys::{Segment, ShmTime};

/// The key of unit 0; that of unit N is N more.
const KEY: i32 = 0x4e54_5030;

/// Nanoseconds in a microsecond.
const MICRO: u32 = 1_000;

/// A segment.
#[derive(Debug)]
pub struct Shm {
    segment: Segment,
}

impl Shm {
    /// Attaches the segment of a unit, which is made with these permissions if there is none.
    ///
    /// # Errors
    ///
    /// If it belongs to somebody who does not let us, or is smaller than it should be.
    pub fn open(unit: u8, permissions: u32) -> io::Result<Self> {
        Segment::attach(KEY + i32::from(unit), permissions).map(|segment| Self { segment })
    }

    /// What was written since the last time.
    pub(super) fn read(&mut self) -> Readings {
        let time = self.segment.read();
        // In mode 1 the writer counts before and after; if that changed meanwhile, it is still at it.
        let is_torn = time.mode == 1 && time.count != self.segment.count();
        if time.valid == 0 || is_torn {
            return Readings::default();
        }
        self.segment.take();
        let reading = interpret(&time);
        Readings { malformed: usize::from(reading.is_none()), readings: reading.into_iter().collect() }
    }
}

/// `None` if it makes no sense.
fn interpret(time: &ShmTime) -> Option<Reading> {
    if !(0..=1).contains(&time.mode) {
        return None;
    }
    let reference = timestamp(time.clock_seconds, nanos(time.clock_micros, time.clock_nanos)?)?;
    let at = timestamp(time.receive_seconds, nanos(time.receive_micros, time.receive_nanos)?)?;
    // What the program claims of its own precision, within reason.
    let error = f64::from(time.precision.clamp(-30, 0)).exp2();
    let leap = match time.leap {
        0 => Leap::None,
        1 => Leap::Insert,
        2 => Leap::Delete,
        3 => Leap::Unsynchronized,
        _ => return None,
    };
    // Programs that set no precision leave it at 0, which would mean a second.
    Some(Reading { at, reference, is_pulse: false, error: if time.precision == 0 { 0.0 } else { error }, leap })
}

/// Older programs write microseconds only, and leave in the other field whatever was there.
fn nanos(micros: i32, nanos: u32) -> Option<u32> {
    let micros = u32::try_from(micros).ok().filter(|micros| *micros < 1_000_000)?;
    Some(if nanos / MICRO == micros { nanos } else { micros * MICRO })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::tests::{Removal, write};

    /// A unit of which nobody else makes use.
    const UNIT: u8 = 177;

    fn time() -> ShmTime {
        ShmTime {
            mode: 1,
            count: 6,
            clock_seconds: 1_790_000_000,
            clock_micros: 12,
            clock_nanos: 12_345,
            receive_seconds: 1_790_000_000,
            receive_micros: 10,
            receive_nanos: 0,
            precision: -20,
            valid: 1,
            ..ShmTime::default()
        }
    }

    #[test]
    fn a_segment_is_made_and_read_once_for_each_time() {
        let _removal = Removal(KEY + i32::from(UNIT));
        let mut shm = Shm::open(UNIT, 0o600).unwrap();
        let other = Shm::open(UNIT, 0o600).unwrap();
        assert_eq!(shm.read(), Readings::default(), "nothing is there yet");
        write(&other.segment, time());
        let read = shm.read();
        assert_eq!((read.readings.len(), read.malformed), (1, 0));
        let reading = read.readings[0];
        assert_eq!((reading.reference - reading.at).to_nanos(), 2_345, "nanoseconds where they agree with the rest");
        assert!(reading.error < 1e-6 && reading.leap == Leap::None);
        assert_eq!(shm.read(), Readings::default(), "it was taken");
        write(&other.segment, ShmTime { leap: 7, ..time() });
        assert_eq!(shm.read().malformed, 1);
    }

    #[test]
    fn what_makes_no_sense_is_no_reading() {
        assert!(interpret(&time()).is_some());
        for wrong in [
            ShmTime { mode: 2, ..time() },
            ShmTime { clock_micros: 1_000_000, ..time() },
            ShmTime { receive_micros: -1, ..time() },
            ShmTime { leap: -1, ..time() },
        ] {
            assert_eq!(interpret(&wrong), None, "{wrong:?}");
        }
        let none = interpret(&ShmTime { leap: 3, precision: 0, ..time() }).unwrap();
        assert!(none.leap == Leap::Unsynchronized && none.error.abs() < f64::EPSILON);
    }
}
