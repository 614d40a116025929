//! The header by which a proxy in front of us says who the user is (the PROXY protocol, version 2, of HAProxy).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How every header begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Octets before the addresses.
const FIXED: usize = 16;

/// Most octets after those: addresses, and what a proxy may say beside them.
pub const MAX_REST: usize = 1024;

/// What stands in a complete header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who connected to the proxy; `None` if the proxy speaks for itself, or of something that is not TCP.
    pub user: Option<SocketAddr>,
    /// How long the header is: what follows is the user's.
    pub length: usize,
}

/// Octets that are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotProxy(
    /// What is wrong.
    pub &'static str,
);

impl core::fmt::Display for NotProxy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "no PROXY header: {}", self.0)
    }
}

impl core::error::Error for NotProxy {}

/// Reads what has come so far. `None` means that more is needed: the end of the stream is an error then.
///
/// # Errors
///
/// [`NotProxy`] if no header can come of it.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, NotProxy> {
    let begun = bytes.len().min(SIGNATURE.len());
    if bytes.get(..begun) != SIGNATURE.get(..begun) {
        return Err(NotProxy("it does not begin like one"));
    }
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else { return Ok(None) };
    let [.., version_command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if version_command >> 4 != 2 {
        return Err(NotProxy("it is not of version 2"));
    }
    if length > MAX_REST {
        return Err(NotProxy("it is too long"));
    }
    let local = match version_command & 15 {
        0 => true,
        1 => false,
        _ => return Err(NotProxy("its command is unknown")),
    };
    let Some(rest) = rest.get(..length) else { return Ok(None) };
    let user = match family {
        _ if local => None,
        // TCP over IPv4: two addresses, two ports.
        0x11 => Some(v4(rest)?),
        // TCP over IPv6.
        0x21 => Some(v6(rest)?),
        _ => None,
    };
    Ok(Some(Header { user, length: FIXED.saturating_add(length) }))
}

fn v4(rest: &[u8]) -> Result<SocketAddr, NotProxy> {
    let Some([a, b, c, d, _, _, _, _, high, low, ..]) = rest.first_chunk::<12>() else {
        return Err(NotProxy("it is too short for its addresses"));
    };
    let address = IpAddr::V4(Ipv4Addr::new(*a, *b, *c, *d));
    Ok(SocketAddr::new(address, u16::from_be_bytes([*high, *low])))
}

fn v6(rest: &[u8]) -> Result<SocketAddr, NotProxy> {
    let short = NotProxy("it is too short for its addresses");
    let address = rest.first_chunk::<16>().ok_or(short)?;
    let [_, .., high, low, _, _] = rest.first_chunk::<36>().ok_or(short)?;
    let address = IpAddr::V6(Ipv6Addr::from(*address));
    Ok(SocketAddr::new(address.to_canonical(), u16::from_be_bytes([*high, *low])))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, body].concat()
    }

    #[test]
    fn users_of_both_families_are_found_and_what_follows_is_left() {
        let v4 = header(1, 0x11, &[192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 0x11, 0x6c, 1, 2, 3]);
        let user = Some("192.0.2.7:12345".parse().unwrap());
        let long = [&v4[..], b"\x16\x03\x01"].concat();
        assert_eq!(parse(&long), Ok(Some(Header { user, length: v4.len() })));
        let mut body = [0; 36];
        body[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        body[32..34].copy_from_slice(&12345_u16.to_be_bytes());
        let user = Some("[2001:db8::7]:12345".parse().unwrap());
        assert_eq!(parse(&header(1, 0x21, &body)), Ok(Some(Header { user, length: 52 })));
        for own in [header(0, 0, &[]), header(0, 0x11, &[9; 12]), header(1, 0x31, &[0; 216]), header(1, 0, &[])] {
            assert_eq!(parse(&own), Ok(Some(Header { user: None, length: own.len() })));
        }
    }

    #[test]
    fn every_beginning_asks_for_more_and_rubbish_is_refused() {
        let whole = header(1, 0x11, &[9; 12]);
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]), Ok(None), "{cut}");
        }
        for bad in [
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
            b"\x16\x03\x01\x02".to_vec(),
            header(2, 0x11, &[9; 12]),
            header(1, 0x11, &[9; 11]),
            header(1, 0x21, &[9; 35]),
            header(1, 0x11, &vec![0; MAX_REST + 1]),
            [&SIGNATURE[..], &[0x11, 0x11, 0, 0]].concat(),
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_taken_calmly(bytes in prop::collection::vec(any::<u8>(), 0..64), command in 0_u8..3, family: u8) {
            let _ = parse(&bytes);
            if let Ok(Some(header)) = parse(&header(command, family, &bytes)) {
                prop_assert_eq!(header.length, bytes.len() + FIXED);
            }
        }
    }
}
