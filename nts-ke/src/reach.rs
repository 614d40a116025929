//! From where an address can be reached: a server that names another one must not send its clients to what only they, or
//! only it, can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// From where an address means one and the same host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// From the whole internet.
    Internet,
    /// From one site: it means another host at every one.
    Site,
    /// From the host itself.
    Host,
    /// From nowhere: it is no host's.
    Nowhere,
}

/// From where an address can be reached, by the registries of special addresses (RFC 6890 and those that followed it).
/// Addresses that stand for one of IPv4 are as far in reach as that.
#[must_use]
pub fn reach(address: IpAddr) -> Reach {
    match address.to_canonical() {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let [a, b, ..] = address.octets();
    // RFC 6598: shared between the customers of a provider.
    let shared = a == 100 && (64..128).contains(&b);
    match a {
        127 => Reach::Host,
        // RFC 791 section 3.2, RFC 1112 section 4: "this network", groups, what was never given to anybody, and everybody.
        0 | 224..=255 => Reach::Nowhere,
        _ if address.is_private() || address.is_link_local() || shared => Reach::Site,
        _ => Reach::Internet,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    if address.is_loopback() {
        return Reach::Host;
    }
    // RFC 3879: fec0::/10 was for sites, and may still be used in some.
    let site_local = address.segments()[0] & 0xffc0 == 0xfec0;
    if address.is_unique_local() || address.is_unicast_link_local() || site_local {
        return Reach::Site;
    }
    match address.segments() {
        // RFC 6052 section 2.1: an address of IPv4 behind a translator.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => reach_v4(((u32::from(high) << 16) | u32::from(low)).into()),
        // RFC 3056 section 2: one behind a router that unwraps what is sent to it.
        [0x2002, high, low, ..] => reach_v4(((u32::from(high) << 16) | u32::from(low)).into()),
        // RFC 8215: behind a translator of the site's own, wherever that leads.
        [0x64, 0xff9b, 1, ..] => Reach::Site,
        // RFC 4291 section 2.5.5.1: the old form of one, which nobody routes; and no address at all.
        [0, 0, 0, 0, 0, 0, ..] => Reach::Nowhere,
        _ if address.is_multicast() => Reach::Nowhere,
        _ => Reach::Internet,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_told_from_those_of_the_internet() {
        for (addresses, wanted) in [
            (&["198.51.100.7", "2001:db8::7", "::ffff:198.51.100.7", "64:ff9b::c633:6407"][..], Reach::Internet),
            (
                &["10.9.9.9", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "fd12::1", "fe80::1"],
                Reach::Site,
            ),
            (&["2002:c633:6407::1"], Reach::Internet),
            (&["::ffff:192.168.1.1", "64:ff9b::a00:1", "2002:a00:1::1", "2002:c0a8:101::"], Reach::Site),
            (&["fec0::1", "feff::1", "64:ff9b:1::c633:6407", "64:ff9b:1:ffff::1"], Reach::Site),
            (&["2002:7f00:1::1"], Reach::Host),
            (&["2002::1", "2002:e000:101::1"], Reach::Nowhere),
            (&["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"], Reach::Host),
            (&["0.0.0.0", "0.1.2.3", "224.0.1.1", "240.0.0.1", "255.255.255.255"], Reach::Nowhere),
            (&["::", "::7f00:1", "::a00:1", "ff05::101", "64:ff9b::", "64:ff9b::e000:101"], Reach::Nowhere),
        ] {
            for address in addresses {
                assert_eq!(reach(address.parse().unwrap()), wanted, "{address}");
            }
        }
    }
}
