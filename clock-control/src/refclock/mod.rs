//! Reference clocks: devices and programs that say what time it is. They are only read; what their readings are worth is
//! decided elsewhere.

use std::{fmt, io, path::PathBuf};

use ntp_proto::{
    refclock::Reading,
    time::{NtpTimestamp, UnixTime},
};

mod phc;
mod pps;
mod shm;
mod sock;

pub use phc::{Phc, phc_of};
pub use pps::{Edge, Pps};
pub use shm::Shm;
pub use sock::Sock;

/// Where a reference clock is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Driver {
    /// Pulses, one a second, that the kernel stamps (RFC 2783).
    Pps {
        /// The device, such as `/dev/pps0`.
        device: PathBuf,
        /// Which edge of a pulse counts.
        edge: Edge,
    },
    /// A hardware clock with the interface of those of network cards.
    Phc {
        /// The device, such as `/dev/ptp0`, or the name of the network interface that it belongs to.
        device: PathBuf,
        /// Whether the hardware may compare the clocks itself, where it can.
        cross_timestamp: bool,
    },
    /// A segment of memory that is shared with another program, such as gpsd.
    Shm {
        /// Which of them.
        unit: u8,
        /// Who may attach it, if it has to be made.
        permissions: u32,
    },
    /// A socket that another program, such as gpsd, sends to.
    Sock {
        /// Where the socket is made.
        path: PathBuf,
    },
}

impl Driver {
    /// The word for it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pps { .. } => "pps",
            Self::Phc { .. } => "phc",
            Self::Shm { .. } => "shm",
            Self::Sock { .. } => "sock",
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pps { device, .. } | Self::Phc { device, .. } => write!(f, "{} {}", self.name(), device.display()),
            Self::Shm { unit, .. } => write!(f, "{} unit {unit}", self.name()),
            Self::Sock { path } => write!(f, "{} {}", self.name(), path.display()),
        }
    }
}

/// What was read at one go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    /// Oldest first, stamped by the kernel's clock.
    pub readings: Vec<Reading>,
    /// What made no sense.
    pub malformed: usize,
}

impl From<Option<Reading>> for Readings {
    fn from(reading: Option<Reading>) -> Self {
        Self { readings: reading.into_iter().collect(), malformed: 0 }
    }
}

/// A reference clock that can be read.
#[derive(Debug)]
pub enum Refclock {
    /// See [`Driver::Pps`].
    Pps(Pps),
    /// See [`Driver::Phc`].
    Phc(Phc),
    /// See [`Driver::Shm`].
    Shm(Shm),
    /// See [`Driver::Sock`].
    Sock(Sock),
}

impl Refclock {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// If there is no such device, or it may not be used, or is another kind of thing.
    pub fn open(driver: &Driver) -> io::Result<Self> {
        match driver {
            Driver::Pps { device, edge } => Pps::open(device, *edge).map(Self::Pps),
            Driver::Phc { device, cross_timestamp } => Phc::open(device, *cross_timestamp).map(Self::Phc),
            Driver::Shm { unit, permissions } => Shm::open(*unit, *permissions).map(Self::Shm),
            Driver::Sock { path } => Sock::open(path).map(Self::Sock),
        }
    }

    /// Reads what is new, without waiting for it.
    ///
    /// # Errors
    ///
    /// If the device is gone or broken; it should be opened anew.
    pub fn read(&mut self) -> io::Result<Readings> {
        match self {
            Self::Pps(device) => device.read().map(Readings::from),
            Self::Phc(device) => device.read().map(|reading| Some(reading).into()),
            Self::Shm(segment) => Ok(segment.read()),
            Self::Sock(socket) => socket.read(),
        }
    }
}

/// A Unix time as the kernel gives it; `None` if it is none.
fn timestamp(seconds: impl Into<i64>, nanos: impl TryInto<u32>) -> Option<NtpTimestamp> {
    let nanos = nanos.try_into().ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(NtpTimestamp::from_unix(UnixTime { seconds: seconds.into(), nanos }))
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the device gave no time")
}
