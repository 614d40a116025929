//! Where a key-exchange server may send its clients.
//!
//! What it names is only as trustworthy as itself: a hostile one would have its clients send packets to somebody else,
//! or to what only they can reach.

use std::net::IpAddr;

/// Whether a server at `peer` may name the NTP server `target`.
pub(super) fn is_allowed(peer: IpAddr, target: IpAddr) -> bool {
    let (peer, target) = (peer.to_canonical(), target.to_canonical());
    let broadcast = matches!(target, IpAddr::V4(target) if target.is_broadcast());
    if target.is_unspecified() || target.is_multicast() || broadcast {
        return false;
    }
    if target.is_loopback() {
        return peer.is_loopback();
    }
    !is_private(target) || is_private(peer) || peer.is_loopback()
}

/// Addresses that mean another machine at every site: RFC 1918, RFC 3927, RFC 6598, RFC 4193, link-local.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            let shared = a == 100 && (64..128).contains(&b);
            address.is_private() || address.is_link_local() || shared || a == 0
        }
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_send_nobody_to_where_they_could_not_be_themselves() {
        let peers = ["192.0.2.1", "2001:db8::1", "10.0.0.1", "fd00::1", "127.0.0.1", "::1"];
        for (target, allowed) in [
            ("198.51.100.7", [true; 6]),
            ("2001:db8::7", [true; 6]),
            ("10.9.9.9", [false, false, true, true, true, true]),
            ("172.16.0.1", [false, false, true, true, true, true]),
            ("192.168.1.1", [false, false, true, true, true, true]),
            ("::ffff:192.168.1.1", [false, false, true, true, true, true]),
            ("169.254.169.254", [false, false, true, true, true, true]),
            ("100.64.0.1", [false, false, true, true, true, true]),
            ("fd12::1", [false, false, true, true, true, true]),
            ("fe80::1", [false, false, true, true, true, true]),
            ("127.0.0.1", [false, false, false, false, true, true]),
            ("::ffff:127.0.0.1", [false, false, false, false, true, true]),
            ("::1", [false, false, false, false, true, true]),
            ("0.0.0.0", [false; 6]),
            ("::", [false; 6]),
            ("255.255.255.255", [false; 6]),
            ("224.0.1.1", [false; 6]),
            ("ff05::101", [false; 6]),
        ] {
            let found = peers.map(|peer| is_allowed(peer.parse().unwrap(), target.parse().unwrap()));
            assert_eq!(found, allowed, "{target}");
        }
    }
}
