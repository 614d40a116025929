//! Names and numbers that more than one layer speaks of.

use core::{fmt, net::IpAddr};

use md5::{Digest as _, Md5};

/// Identifies one source (one NTP server we ask) for the life of the engine; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

/// The identifier of a symmetric key (RFC 5905 section 7.3), never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

/// The reference identifier of RFC 5905 section 7.3: an IPv4 address, a hash of an IPv6 address, four letters of a
/// reference clock, or a kiss code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReferenceId(pub [u8; 4]);

impl ReferenceId {
    /// How a server is named in packets of those that follow it (RFC 5905 section 7.3): its IPv4 address, or the first
    /// four bytes of the MD5 of its IPv6 address.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.octets()),
            IpAddr::V6(address) => {
                let digest: [u8; 16] = Md5::digest(address.octets()).into();
                let [a, b, c, d, ..] = digest;
                Self([a, b, c, d])
            }
        }
    }
}

impl fmt::Display for ReferenceId {
    /// Eight hexadecimal digits, as chronyc prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}", u32::from_be_bytes(self.0))
    }
}

/// Warning of a leap second at the end of the month (RFC 5905 section 7.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Leap {
    /// No warning.
    None,
    /// The last minute has 61 seconds.
    Insert,
    /// The last minute has 59 seconds.
    Delete,
    /// The clock is not synchronized.
    #[default]
    Unsynchronized,
}

/// What vouches for a source, from nothing to most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// Plain NTP: anybody on the path can lie.
    #[default]
    None,
    /// A device of this machine.
    Local,
    /// A symmetric key shared by hand.
    Key,
    /// NTS, the certificate chained to a trusted root.
    Pki,
    /// As `Pki`, and DNSSEC vouches for the name.
    Dnssec,
    /// DNSSEC vouches for the certificate itself (RFC 6698).
    Dane,
}

impl Trust {
    /// The word for it in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Local => "local",
            Self::Key => "key",
            Self::Pki => "pki",
            Self::Dnssec => "dnssec",
            Self::Dane => "dane",
        }
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which clock, and how near the wire, made a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StampKind {
    /// Read by this program around the system call.
    Daemon,
    /// Made by the kernel's network stack.
    Kernel,
    /// Made by the network interface.
    Hardware,
}
