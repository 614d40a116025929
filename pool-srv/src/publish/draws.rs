//! Draws that need no memory: who is in an answer follows from a secret, the client and the time, so that all threads, and
//! all servers with the same secret and members, say the same. What was drawn is kept only because a signature costs more.

use core::time::Duration;
use std::{net::IpAddr, sync::Arc};

use arc_swap::ArcSwapOption;
use chacha20::ChaCha12Rng;
use rand_core::SeedableRng as _;

use super::{cookie::CookieSecret, name::WireName, zone::RrSet};

/// Draws of a region at a time; each client has one of them.
pub(super) const DRAWS: u64 = 64;

/// How long a draw is used.
pub(super) const DRAW_LIFE: Duration = Duration::from_secs(20);

/// One of the draws of a region at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Which of the draws of a region.
    number: u64,
    /// How often it has been drawn anew since 1970.
    slot: u64,
}

/// What draws follow from.
#[derive(Clone, Debug)]
pub(super) struct DrawSecret {
    hashing: CookieSecret,
    seed: [u8; 32],
}

impl DrawSecret {
    /// Servers that share the secret behind cookies share this one.
    pub(super) fn new(hashing: CookieSecret) -> Self {
        let mut seed = [0; 32];
        for (place, part) in seed.chunks_exact_mut(8).enumerate() {
            // No address, cookie or other input of this hash begins so.
            let label = format!("seed of draws {place}");
            part.copy_from_slice(&hashing.hash(label.as_bytes()).to_le_bytes());
        }
        Self { hashing, seed }
    }

    /// Whose turn it is for a client at a time in seconds since 1970. A client is an IPv4 address or an IPv6 /64: a host has
    /// one answer by whatever way it asks. The draws of a region change one after the other.
    pub(super) fn turn(&self, client: IpAddr, now: u64) -> Turn {
        let number = match client.to_canonical() {
            IpAddr::V4(address) => self.hashing.hash_parts(&[b"client", &address.octets()]),
            IpAddr::V6(address) => {
                self.hashing.hash_parts(&[b"client", address.octets().first_chunk::<8>().map_or(&[], |net| net)])
            }
        } % DRAWS;
        let life = DRAW_LIFE.as_secs();
        let slot = now.saturating_mul(DRAWS).saturating_add(number.saturating_mul(life)) / life.saturating_mul(DRAWS);
        Turn { number, slot }
    }

    /// The chance of a draw: for all clients of a region, or of a single client, which have different names.
    pub(super) fn random(&self, zone: &WireName, turn: Turn, whose: &str) -> ChaCha12Rng {
        let (number, slot) = (turn.number.to_be_bytes(), turn.slot.to_be_bytes());
        let mut random = ChaCha12Rng::from_seed(self.seed);
        random.set_stream(self.hashing.hash_parts(&[b"draw", &number, &slot, zone.as_wire(), whose.as_bytes()]));
        random
    }
}

/// The draws that are in use, for all threads: they may be forgotten at any time.
#[derive(Debug)]
pub(super) struct Kept(Box<[ArcSwapOption<(u64, RrSet)>]>);

impl Kept {
    /// Places for the draws of so many regions.
    pub(super) fn new(regions: usize) -> Self {
        let places = usize::try_from(DRAWS).unwrap_or(0).saturating_mul(regions);
        Self((0..places).map(|_| ArcSwapOption::empty()).collect())
    }

    /// The draw of a region's turn. Two threads may make it at the same time: both make the same.
    pub(super) fn draw(&self, region: usize, turn: Turn, make: impl FnOnce() -> RrSet) -> Arc<(u64, RrSet)> {
        let number = usize::try_from(turn.number).unwrap_or(0);
        let place = self.0.get(region.saturating_mul(usize::try_from(DRAWS).unwrap_or(0)).saturating_add(number));
        let kept = place.and_then(ArcSwapOption::load_full).filter(|kept| kept.0 == turn.slot);
        kept.unwrap_or_else(|| {
            let made = Arc::new((turn.slot, make()));
            if let Some(place) = place {
                place.store(Some(Arc::clone(&made)));
            }
            made
        })
    }
}

#[cfg(test)]
mod tests {
    use rand_core::Rng as _;

    use super::*;

    fn secret() -> DrawSecret {
        DrawSecret::new(CookieSecret::new([3; 16]))
    }

    #[test]
    fn a_host_has_one_turn_that_lasts_its_time() {
        let secret = secret();
        let turn = |client: &str, now| secret.turn(client.parse().unwrap(), now);
        let now = 1_800_000_000;
        assert_eq!(turn("192.0.2.1", now), turn("::ffff:192.0.2.1", now));
        assert_eq!(turn("2001:db8::1", now), turn("2001:db8::ffff:1", now));
        for client in ["192.0.2.1", "2001:db8::1"] {
            let slots: Vec<_> = (now..now + 2_000).map(|now| turn(client, now)).collect();
            assert_eq!(slots.chunk_by(|a, b| a == b).skip(1).map(<[_]>::len).take(98).collect::<Vec<_>>(), [20; 98]);
        }
        // They do not change all at once.
        let client = |n: u8| IpAddr::from([192, 0, 2, n]);
        let change =
            |at: u64| (0..=255).filter(|n| secret.turn(client(*n), at) != secret.turn(client(*n), at + 1)).count();
        assert!((now..now + 20).all(|at| (1..60).contains(&change(at))));
    }

    #[test]
    fn numbers_are_as_likely_and_the_chance_of_each_turn_is_its_own() {
        let secret = secret();
        let mut counts = [0_u32; 64];
        for n in 0..64_000_u32 {
            let turn = secret.turn(IpAddr::from(n.to_be_bytes()), 1_800_000_000);
            counts[usize::try_from(turn.number).unwrap()] += 1;
        }
        // Five deviations around a thousand.
        assert!(counts.iter().all(|count| (843..=1_157).contains(count)), "{counts:?}");
        let zone = |name| WireName::of(&ntp_proto::pool::Name::parse(name).unwrap());
        let (a, b) = (zone("a.example"), zone("b.example"));
        let first = |secret: &DrawSecret, zone, number, slot, whose: &str| {
            secret.random(zone, Turn { number, slot }, whose).next_u64()
        };
        let same = first(&secret, &a, 1, 2, "");
        assert_eq!(same, first(&self::secret(), &a, 1, 2, ""));
        let other = DrawSecret::new(CookieSecret::new([4; 16]));
        let others = [
            first(&secret, &b, 1, 2, ""),
            first(&secret, &a, 2, 2, ""),
            first(&secret, &a, 1, 3, ""),
            first(&secret, &a, 1, 2, "north"),
            first(&other, &a, 1, 2, ""),
        ];
        assert!(!others.contains(&same), "{others:?}");
    }
}
