//! A socket that a program with the time sends to, as gpsd does.

use std::{
    fs, io,
    mem::size_of,
    os::unix::{fs::FileTypeExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
};

use ntp_proto::{ids::Leap, refclock::Reading, time::NtpDuration};

use super::{Readings, timestamp};

/// Marks a datagram as one of these.
const MAGIC: i32 = 0x534f_434b;

/// Bytes of the system's time in front, of which the width is the platform's.
const TIME_LEN: usize = size_of::<libc::timeval>();

/// Bytes of one of the two parts of that.
const PART_LEN: usize = TIME_LEN / 2;

/// Bytes of a datagram: after the time an offset (double), whether it is a pulse, what is said of leap seconds, padding,
/// and [`MAGIC`] (int each).
const LEN: usize = TIME_LEN + 8 + 4 * 4;

/// Datagrams that are read at one go.
const MAX_DATAGRAMS: usize = 64;

/// Largest offset that is believed to be one, in seconds: 60 years, within which NTP timestamps can be told apart.
const MAX_OFFSET: f64 = 60.0 * 365.25 * 86_400.0;

/// The socket.
#[derive(Debug)]
pub struct Sock {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Sock {
    /// Makes the socket; one that was left behind is taken away.
    ///
    /// # Errors
    ///
    /// If there is something else in its place, or it may not be made there.
    pub fn open(path: &Path) -> io::Result<Self> {
        if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            fs::remove_file(path)?;
        }
        let socket = UnixDatagram::bind(path)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// What came since the last time.
    pub(super) fn read(&mut self) -> io::Result<Readings> {
        let mut read = Readings::default();
        // One byte more, so that what is too long is seen to be.
        let mut buffer = [0; LEN + 1];
        for _ in 0..MAX_DATAGRAMS {
            match self.socket.recv(&mut buffer) {
                Ok(len) => match buffer.get(..len).and_then(interpret) {
                    Some(reading) => read.readings.push(reading),
                    None => read.malformed += 1,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }
}

impl Drop for Sock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Reads a datagram, in this machine's own byte order; `None` if it is none.
fn interpret(bytes: &[u8]) -> Option<Reading> {
    if bytes.len() != LEN {
        return None;
    }
    let int = |index: usize| {
        let at = TIME_LEN + 8 + 4 * index;
        Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    };
    let (pulse, leap, magic) = (int(0)?, int(1)?, int(3)?);
    let offset = f64::from_ne_bytes(bytes.get(TIME_LEN..TIME_LEN + 8)?.try_into().ok()?);
    if magic != MAGIC || !offset.is_finite() || offset.abs() > MAX_OFFSET {
        return None;
    }
    let micros = u32::try_from(part(bytes, 1)?).ok().filter(|micros| *micros < 1_000_000)?;
    let at = timestamp(part(bytes, 0)?, micros * 1_000)?;
    let leap = match leap {
        0 => Leap::None,
        1 => Leap::Insert,
        2 => Leap::Delete,
        3 => Leap::Unsynchronized,
        _ => return None,
    };
    let reference = at + NtpDuration::from_seconds(offset);
    Some(Reading { at, reference, is_pulse: pulse != 0, error: 0.0, leap })
}

/// One of the two parts of the time in front.
fn part(bytes: &[u8], index: usize) -> Option<i64> {
    let part = bytes.get(index * PART_LEN..(index + 1) * PART_LEN)?;
    match PART_LEN {
        8 => Some(i64::from_ne_bytes(part.try_into().ok()?)),
        _ => Some(i32::from_ne_bytes(part.try_into().ok()?).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(seconds: i64, micros: i64, offset: f64, pulse: i32, leap: i32, magic: i32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in [seconds, micros] {
            // On platforms of 32 bits the parts are shorter.
            let wide = part.to_ne_bytes();
            let narrow = i32::try_from(part).unwrap_or(i32::MAX).to_ne_bytes();
            bytes.extend_from_slice(if PART_LEN == 8 { &wide } else { &narrow });
        }
        bytes.extend(offset.to_ne_bytes());
        [pulse, leap, 0, magic].iter().for_each(|int| bytes.extend(int.to_ne_bytes()));
        bytes
    }

    fn good() -> Vec<u8> {
        datagram(1_790_000_000, 250_000, 0.001_5, 0, 1, MAGIC)
    }

    #[test]
    fn datagrams_are_read_in_their_order_and_others_counted() {
        let path = std::env::temp_dir().join(format!("ntpd-sock-{}", std::process::id()));
        // One that was left behind.
        drop(UnixDatagram::bind(&path).unwrap());
        let mut sock = Sock::open(&path).unwrap();
        assert_eq!(sock.read().unwrap(), Readings::default());
        let sender = UnixDatagram::unbound().unwrap();
        for bytes in [good(), vec![0; 3], good(), vec![7; 200]] {
            sender.send_to(&bytes, &path).unwrap();
        }
        let read = sock.read().unwrap();
        assert_eq!((read.readings.len(), read.malformed), (2, 2));
        let reading = read.readings[0];
        assert_eq!((reading.reference - reading.at).to_nanos(), 1_500_000);
        assert_eq!((reading.leap, reading.is_pulse), (Leap::Insert, false));
        drop(sock);
        assert!(!path.exists(), "it goes with the daemon");
    }

    #[test]
    fn something_else_is_not_taken_away() {
        let path = std::env::temp_dir().join(format!("ntpd-file-{}", std::process::id()));
        fs::write(&path, "precious").unwrap();
        assert_eq!(Sock::open(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_makes_no_sense_is_no_reading() {
        assert!(interpret(&good()).is_some_and(|reading| !reading.is_pulse));
        assert!(interpret(&datagram(0, 0, 0.0, 1, 0, MAGIC)).is_some_and(|reading| reading.is_pulse));
        let mut long = good();
        long.push(0);
        for wrong in [
            good()[..LEN - 1].to_vec(),
            long,
            datagram(1_790_000_000, 0, 0.0, 0, 0, MAGIC + 1),
            datagram(1_790_000_000, 0, f64::NAN, 0, 0, MAGIC),
            datagram(1_790_000_000, 0, f64::INFINITY, 0, 0, MAGIC),
            datagram(1_790_000_000, 0, 1e10, 0, 0, MAGIC),
            datagram(1_790_000_000, -1, 0.0, 0, 0, MAGIC),
            datagram(1_790_000_000, 1_000_000, 0.0, 0, 0, MAGIC),
            datagram(1_790_000_000, 0, 0.0, 0, 4, MAGIC),
        ] {
            assert_eq!(interpret(&wrong), None, "{wrong:?}");
        }
    }
}
