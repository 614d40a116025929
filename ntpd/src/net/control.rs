//! Control messages and socket addresses, as the kernel lays them out.

use std::{
    mem::{offset_of, size_of},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use ntp_proto::time::{NtpTimestamp, UnixTime};

use super::sys::{CONTROL_BYTES, Control, NAME_BYTES};

/// Most control messages looked at in one datagram.
const MAX_MESSAGES: usize = 16;

/// Bytes of `struct cmsghdr`.
const HEADER: usize = size_of::<libc::cmsghdr>();

/// What control messages are aligned to.
const ALIGNMENT: usize = size_of::<usize>();

/// Origin of an extended error that is a timestamp (linux/errqueue.h).
const ORIGIN_TIMESTAMPING: u8 = 4;

/// The timestamp was taken when the packet went to the device (`SCM_TSTAMP_SND`).
const STAMPED_WHEN_SENT: u32 = 0;

/// What came beside a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Ancillary {
    /// When the kernel's network stack saw the packet.
    pub(super) software: Option<NtpTimestamp>,
    /// Our address, and the interface it came in by.
    pub(super) local: Option<(IpAddr, u32)>,
    /// Number of the sent packet that this is the timestamp of.
    pub(super) sent_id: Option<u32>,
}

/// Reads control messages; what is unknown or broken is passed over.
pub(super) fn parse(bytes: &[u8]) -> Ancillary {
    let mut found = Ancillary::default();
    let mut rest = bytes;
    for _ in 0..MAX_MESSAGES {
        let Some((level, kind, data, next)) = split(rest) else { break };
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SO_TIMESTAMPING) => found.software = timestamp(data),
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => found.local = packet_info_v4(data),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => found.local = packet_info_v6(data),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                found.sent_id = sent_id(data);
            }
            _ => {}
        }
        rest = next;
    }
    found
}

/// Level, type and data of the first message, and what follows it.
fn split(bytes: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let length = usize::from_ne_bytes(field(bytes, offset_of!(libc::cmsghdr, cmsg_len))?);
    let level = i32::from_ne_bytes(field(bytes, offset_of!(libc::cmsghdr, cmsg_level))?);
    let kind = i32::from_ne_bytes(field(bytes, offset_of!(libc::cmsghdr, cmsg_type))?);
    let data = bytes.get(HEADER..length)?;
    let next = length.checked_next_multiple_of(ALIGNMENT)?;
    Some((level, kind, data, bytes.get(next..).unwrap_or_default()))
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// The first of the three times of `struct scm_timestamping`, which is the software one; zero if there is none.
fn timestamp(data: &[u8]) -> Option<NtpTimestamp> {
    // A `timespec` has 64-bit or, on old systems, 32-bit fields.
    let (seconds, nanos) = if data.len() >= 48 {
        (i64::from_ne_bytes(field(data, 0)?), i64::from_ne_bytes(field(data, 8)?))
    } else {
        (i32::from_ne_bytes(field(data, 0)?).into(), i32::from_ne_bytes(field(data, 4)?).into())
    };
    let nanos = u32::try_from(nanos).ok().filter(|&nanos| nanos < 1_000_000_000)?;
    (seconds != 0 || nanos != 0).then(|| NtpTimestamp::from_unix(UnixTime { seconds, nanos }))
}

/// `struct in_pktinfo`: interface, our address, destination in the header.
fn packet_info_v4(data: &[u8]) -> Option<(IpAddr, u32)> {
    let interface = u32::from_ne_bytes(field(data, 0)?);
    Some((Ipv4Addr::from(field::<4>(data, 4)?).into(), interface))
}

/// `struct in6_pktinfo`: address, interface.
fn packet_info_v6(data: &[u8]) -> Option<(IpAddr, u32)> {
    let address = Ipv6Addr::from(field::<16>(data, 0)?);
    Some((address.into(), u32::from_ne_bytes(field(data, 16)?)))
}

/// `struct sock_extended_err`: of which packet this is the timestamp, if it is one.
fn sent_id(data: &[u8]) -> Option<u32> {
    let origin = *data.get(offset_of!(libc::sock_extended_err, ee_origin))?;
    let info = u32::from_ne_bytes(field(data, offset_of!(libc::sock_extended_err, ee_info))?);
    let id = u32::from_ne_bytes(field(data, offset_of!(libc::sock_extended_err, ee_data))?);
    (origin == ORIGIN_TIMESTAMPING && info == STAMPED_WHEN_SENT).then_some(id)
}

/// Writes the one control message that makes a packet leave from `local`; returns its length.
pub(super) fn pin_source(control: &mut Control, local: IpAddr, interface: u32) -> usize {
    match local {
        IpAddr::V4(v4) => {
            let mut data = [0; 12];
            data[4..8].copy_from_slice(&v4.octets());
            write(control, libc::IPPROTO_IP, libc::IP_PKTINFO, &data)
        }
        IpAddr::V6(v6) => {
            let mut data = [0; 20];
            data[..16].copy_from_slice(&v6.octets());
            // Elsewhere the interface is the routing table's to choose.
            if v6.is_unicast_link_local() {
                data[16..].copy_from_slice(&interface.to_ne_bytes());
            }
            write(control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data)
        }
    }
}

fn write<const N: usize>(control: &mut Control, level: i32, kind: i32, data: &[u8; N]) -> usize {
    const { assert!(HEADER + N + ALIGNMENT <= CONTROL_BYTES) };
    let bytes = &mut control.0;
    let mut put = |offset: usize, field: &[u8]| bytes[offset..offset + field.len()].copy_from_slice(field);
    put(offset_of!(libc::cmsghdr, cmsg_len), &(HEADER + N).to_ne_bytes());
    put(offset_of!(libc::cmsghdr, cmsg_level), &level.to_ne_bytes());
    put(offset_of!(libc::cmsghdr, cmsg_type), &kind.to_ne_bytes());
    put(HEADER, data);
    (HEADER + N).next_multiple_of(ALIGNMENT)
}

/// Reads `sockaddr_in` or `sockaddr_in6`.
pub(super) fn read_address(name: &[u8]) -> Option<SocketAddr> {
    let family = libc::sa_family_t::from_ne_bytes(field(name, 0)?);
    let port = u16::from_be_bytes(field(name, 2)?);
    match i32::from(family) {
        libc::AF_INET => Some(SocketAddrV4::new(field::<4>(name, 4)?.into(), port).into()),
        libc::AF_INET6 => {
            let scope = u32::from_ne_bytes(field(name, 24)?);
            Some(SocketAddrV6::new(field::<16>(name, 8)?.into(), port, 0, scope).into())
        }
        _ => None,
    }
}

/// Writes `sockaddr_in` or `sockaddr_in6`; returns its length.
pub(super) fn write_address(name: &mut [u8; NAME_BYTES], address: SocketAddr) -> usize {
    *name = [0; NAME_BYTES];
    name[2..4].copy_from_slice(&address.port().to_be_bytes());
    let (family, length) = match address {
        SocketAddr::V4(v4) => {
            name[4..8].copy_from_slice(&v4.ip().octets());
            (libc::AF_INET, size_of::<libc::sockaddr_in>())
        }
        SocketAddr::V6(v6) => {
            name[8..24].copy_from_slice(&v6.ip().octets());
            name[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            (libc::AF_INET6, NAME_BYTES)
        }
    };
    let family = libc::sa_family_t::try_from(family).unwrap_or_default();
    name[..2].copy_from_slice(&family.to_ne_bytes());
    length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["192.0.2.1:123", "[2001:db8::1]:4460", "[fe80::1%7]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            let mut name = [0xff; NAME_BYTES];
            let length = write_address(&mut name, address);
            assert_eq!(read_address(&name[..length]), Some(address));
            assert_eq!(read_address(&name[..length - 1]).is_none(), address.is_ipv6());
        }
        assert_eq!(read_address(&[0; NAME_BYTES]), None);
        assert_eq!(read_address(&[]), None);
    }

    #[test]
    fn the_pinned_source_reads_as_packet_information() {
        let mut control = Control([0; CONTROL_BYTES]);
        for (local, interface, kept) in [("192.0.2.1", 3, 0), ("2001:db8::1", 3, 0), ("fe80::1", 3, 3)] {
            let local: IpAddr = local.parse().unwrap();
            let length = pin_source(&mut control, local, interface);
            assert_eq!(parse(&control.0[..length]).local, Some((local, kept)));
        }
    }

    #[test]
    fn times_of_zero_and_broken_ones_are_none() {
        let stamp = |seconds: i64, nanos: i64| {
            let mut data = [0; 48];
            data[..8].copy_from_slice(&seconds.to_ne_bytes());
            data[8..16].copy_from_slice(&nanos.to_ne_bytes());
            timestamp(&data)
        };
        assert_eq!(stamp(0, 0), None);
        assert_eq!(stamp(1, 1_000_000_000), None);
        assert_eq!(stamp(1, -1), None);
        let one = NtpTimestamp::from_unix(UnixTime { seconds: 1, nanos: 5 });
        assert_eq!(stamp(1, 5), Some(one));
        let narrow: Vec<u8> = [1_i32, 5, 0, 0, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(timestamp(&narrow), Some(one));
    }

    proptest! {
        #[test]
        fn rubbish_is_passed_over(bytes in prop::collection::vec(any::<u8>(), 0..CONTROL_BYTES), length: u8) {
            let mut bytes = bytes;
            let _ = parse(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = length;
            }
            if let Some(rest) = bytes.get_mut(1..8) {
                rest.fill(0);
            }
            let _ = parse(&bytes);
        }
    }
}
