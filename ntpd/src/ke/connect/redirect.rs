//! Where a key-exchange server may send its clients.
//!
//! What it names is only as trustworthy as itself: a hostile one would have its clients send packets to somebody else,
//! or to what only they can reach.

use std::net::IpAddr;

use nts_ke::reach::{Reach, reach};

/// Whether a server at `peer` may name the NTP server `target`.
pub(super) fn is_allowed(peer: IpAddr, target: IpAddr) -> bool {
    match reach(target) {
        Reach::Internet => true,
        Reach::Site => matches!(reach(peer), Reach::Site | Reach::Host),
        Reach::Host => reach(peer) == Reach::Host,
        Reach::Nowhere => false,
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
            ("64:ff9b::a00:1", [false, false, true, true, true, true]),
            ("64:ff9b::7f00:1", [false, false, false, false, true, true]),
            ("::7f00:1", [false; 6]),
            ("240.0.0.1", [false; 6]),
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
