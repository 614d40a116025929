//! How many answers an address gets by UDP: what it asks under a false address would hit somebody else.

use core::time::Duration;
use std::net::IpAddr;

use ntp_proto::time::Monotonic;

use super::cookie::CookieSecret;

/// Places in the table; prefixes that share one share its rate.
const PLACES: usize = 65_536;

/// How much may be used at once, as a time of the rate.
const BURST: Duration = Duration::from_secs(2);

/// Settings of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// Answers a second for one IPv4 /24 or IPv6 /56; 0 for any number.
    pub rate: u32,
    /// Every how many answers beyond the limit is a short one that asks to come by TCP; 0 for none.
    pub slip: u32,
}

/// What an address gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    Answer,
    /// An empty answer that says it was cut: who really is there comes by TCP.
    Short,
    Nothing,
}

/// Rates by prefix.
#[derive(Debug)]
pub(super) struct Limiter {
    interval: u64,
    slip: u32,
    beyond: u32,
    secret: CookieSecret,
    /// When what a place was given is used up (the generic cell rate algorithm).
    places: Box<[u64]>,
}

impl Limiter {
    /// A limit with this share of the rate: each of several tables sees a part of the traffic.
    pub(super) fn new(settings: LimitSettings, tables: usize, secret: CookieSecret) -> Self {
        let tables = u64::try_from(tables.max(1)).unwrap_or(1);
        let interval = 1_000_000_000_u64.saturating_mul(tables).checked_div(settings.rate.into()).unwrap_or(0);
        let places = if interval == 0 { 0 } else { PLACES };
        Self { interval, slip: settings.slip, beyond: 0, secret, places: vec![0; places].into() }
    }

    pub(super) fn grant(&mut self, client: IpAddr, now: Monotonic) -> Grant {
        let now = now.to_nanos();
        let hash = match client.to_canonical() {
            IpAddr::V4(address) => self.secret.hash(address.octets().first_chunk::<3>().map_or(&[], |net| net)),
            IpAddr::V6(address) => self.secret.hash(address.octets().first_chunk::<7>().map_or(&[], |net| net)),
        };
        let index = usize::try_from(hash).unwrap_or(usize::MAX) % PLACES;
        let Some(until) = self.places.get_mut(index) else { return Grant::Answer };
        let burst = u64::try_from(BURST.as_nanos()).unwrap_or(0).max(self.interval.saturating_mul(2));
        let next = (*until).max(now).saturating_add(self.interval);
        if next.saturating_sub(now) <= burst {
            *until = next;
            return Grant::Answer;
        }
        self.beyond = self.beyond.wrapping_add(1);
        if self.beyond.checked_rem(self.slip) == Some(0) { Grant::Short } else { Grant::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(rate: u32, slip: u32) -> Limiter {
        Limiter::new(LimitSettings { rate, slip }, 1, CookieSecret::new([7; 16]))
    }

    fn at(millis: u64) -> Monotonic {
        Monotonic::default() + Duration::from_millis(millis)
    }

    #[test]
    fn a_prefix_gets_its_rate_and_others_theirs() {
        let mut limiter = limiter(100, 2);
        let grants: Vec<_> =
            (0..1_000).map(|n| limiter.grant(IpAddr::from([192, 0, 2, (n % 250) as u8]), at(5_000))).collect();
        let count = |wanted: Grant| grants.iter().filter(|grant| **grant == wanted).count();
        assert_eq!((count(Grant::Answer), count(Grant::Short), count(Grant::Nothing)), (200, 400, 400));
        assert_eq!(limiter.grant([198, 51, 100, 1].into(), at(5_000)), Grant::Answer);
        // After a second, what a second gives.
        let later: Vec<_> = (0..1_000).map(|_| limiter.grant([192, 0, 2, 1].into(), at(6_000))).collect();
        assert_eq!(later.iter().filter(|grant| **grant == Grant::Answer).count(), 100);
    }

    #[test]
    fn ipv6_is_counted_by_56_bits_and_mapped_addresses_as_ipv4() {
        let mut limiter = limiter(1, 0);
        let mut grant = |address: &str| limiter.grant(address.parse().unwrap(), at(0));
        assert_eq!(grant("2001:db8:0:1::1"), Grant::Answer);
        assert_eq!(grant("2001:db8:0:2::1"), Grant::Answer);
        assert_eq!(grant("2001:db8:0:3::1"), Grant::Nothing);
        assert_eq!(grant("2001:db8:0:100::1"), Grant::Answer);
        assert_eq!(grant("::ffff:192.0.2.1"), Grant::Answer);
        assert_eq!(grant("192.0.2.2"), Grant::Answer);
        assert_eq!(grant("::ffff:192.0.2.3"), Grant::Nothing);
    }

    #[test]
    fn no_limit_is_no_limit() {
        let mut limiter = limiter(0, 2);
        assert!((0..10_000).all(|_| limiter.grant([192, 0, 2, 1].into(), at(0)) == Grant::Answer));
    }
}
