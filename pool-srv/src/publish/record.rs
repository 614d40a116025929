//! Record data, to the wire and to zone files.

use core::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::name::WireName;
use crate::directory::Tlsa;

/// Numbers of the record types that the server knows (IANA DNS parameters).
pub(super) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const NS: u16 = 2;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const TXT: u16 = 16;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const RRSIG: u16 = 46;
    pub(crate) const NSEC: u16 = 47;
    pub(crate) const DNSKEY: u16 = 48;
    pub(crate) const TLSA: u16 = 52;
    pub(crate) const CDS: u16 = 59;
    pub(crate) const CDNSKEY: u16 = 60;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
}

/// Class IN.
pub(super) const IN: u16 = 1;

/// Octets of a record between its owner and its data.
pub(super) const FIXED: usize = 10;

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// The start of authority.
    Soa {
        /// The first name server.
        primary: WireName,
        /// The mailbox of the zone's keeper, as a name.
        contact: WireName,
        /// Grows with each change.
        serial: u32,
        /// Seconds that absence may be remembered.
        negative: u32,
    },
    /// A name server.
    Ns(WireName),
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// A target of the service.
    Srv {
        /// Lower ones first.
        priority: u16,
        /// Its share among those of its priority.
        weight: u16,
        /// TCP port.
        port: u16,
        /// The host.
        target: WireName,
    },
    /// A text of 255 octets at most, without quotation marks.
    Txt(Box<str>),
    /// What a certificate must match.
    Tlsa(Tlsa),
    /// A key, a digest of one or a proof, in wire form, by record type.
    Wire(u16, Box<[u8]>),
}

/// What secondaries would wait; there are none, and old servers want to see something.
const REFRESH_RETRY_EXPIRE: [u32; 3] = [3_600, 600, 1_209_600];

impl Data {
    /// Its record type.
    #[must_use]
    pub fn kind(&self) -> u16 {
        match self {
            Self::Soa { .. } => kind::SOA,
            Self::Ns(_) => kind::NS,
            Self::A(_) => kind::A,
            Self::Aaaa(_) => kind::AAAA,
            Self::Srv { .. } => kind::SRV,
            Self::Txt(_) => kind::TXT,
            Self::Tlsa(_) => kind::TLSA,
            Self::Wire(kind, _) => *kind,
        }
    }

    /// Its wire form; names are not compressed.
    #[must_use]
    pub fn to_wire(&self) -> Vec<u8> {
        match self {
            Self::Soa { primary, contact, serial, negative } => {
                let [refresh, retry, expire] = REFRESH_RETRY_EXPIRE;
                let numbers = [*serial, refresh, retry, expire, *negative];
                [primary.as_wire(), contact.as_wire(), &numbers.map(u32::to_be_bytes).concat()].concat()
            }
            Self::Ns(name) => name.as_wire().to_vec(),
            Self::A(address) => address.octets().to_vec(),
            Self::Aaaa(address) => address.octets().to_vec(),
            Self::Srv { priority, weight, port, target } => {
                let numbers = [*priority, *weight, *port].map(u16::to_be_bytes).concat();
                [&numbers, target.as_wire()].concat()
            }
            Self::Txt(text) => [&[u8::try_from(text.len()).unwrap_or(0)], text.as_bytes()].concat(),
            Self::Tlsa(tlsa) => [&[tlsa.usage, tlsa.selector, tlsa.matching], tlsa.data.as_slice()].concat(),
            Self::Wire(_, data) => data.to_vec(),
        }
    }

    /// The record without its owner.
    pub(super) fn to_record(&self, ttl: u32) -> Box<[u8]> {
        let data = self.to_wire();
        let mut record = Vec::with_capacity(FIXED.saturating_add(data.len()));
        record.extend(self.kind().to_be_bytes());
        record.extend(IN.to_be_bytes());
        record.extend(ttl.to_be_bytes());
        record.extend(u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
        record.extend(data);
        record.into()
    }
}

/// As in a zone file: type and data.
impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Soa { primary, contact, serial, negative } => {
                let [refresh, retry, expire] = REFRESH_RETRY_EXPIRE;
                write!(f, "SOA {primary} {contact} {serial} {refresh} {retry} {expire} {negative}")
            }
            Self::Ns(name) => write!(f, "NS {name}"),
            Self::A(address) => write!(f, "A {address}"),
            Self::Aaaa(address) => write!(f, "AAAA {address}"),
            Self::Srv { priority, weight, port, target } => write!(f, "SRV {priority} {weight} {port} {target}"),
            Self::Txt(text) => write!(f, "TXT \"{text}\""),
            Self::Tlsa(tlsa) => write!(f, "TLSA {tlsa}"),
            // RFC 3597 section 5.
            Self::Wire(kind, data) => {
                write!(f, "TYPE{kind} \\# {} ", data.len())?;
                data.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
        }
    }
}
