//! Who asked, and how often: what administrators of chrony know as `clients`.
//!
//! A table of fixed size that all server threads share without a lock. It only watches: what it holds decides nothing, and what
//! two threads do to one entry at the same moment may be lost to it. (The rate limit has a table of its own, which holds no
//! addresses but a few bits made of them, and keys of NTS besides.)

use core::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use aes::{
    Aes128,
    cipher::{BlockCipherEncrypt as _, KeyInit as _},
};

use crate::time::Monotonic;

/// Slots that one client can be found in.
const WAYS: usize = 8;

/// Parts of a second in which the time between requests is counted. What lies 97 days apart counts as just that.
const PARTS: u32 = 512;

/// One in so many of what the last interval differs from the mean is taken over.
const MEMORY: i64 = 8;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The time.
    Ntp,
    /// Keys of NTS.
    KeyExchange,
}

/// How often a client asked for one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Requests, those included that were not answered.
    pub hits: u32,
    /// Those that were not.
    pub drops: u32,
    /// Time between two of the last requests in the mean, log2 seconds; `None` before the second.
    pub interval: Option<i8>,
    /// Seconds since the last; `None` if there was none.
    pub age_seconds: Option<u32>,
}

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientRow {
    /// Who.
    pub address: IpAddr,
    /// Requests for the time.
    pub ntp: Requests,
    /// Requests for keys.
    pub key_exchange: Requests,
}

/// Counts of one kind. Times are seconds of the monotonic clock and one more, so that 0 is none.
#[derive(Debug, Default)]
struct Tally {
    hits: AtomicU32,
    drops: AtomicU32,
    /// Time between two requests, in parts of a second ([`PARTS`]): a mean in which the last eight weigh most.
    mean: AtomicU32,
    last: AtomicU32,
}

impl Tally {
    fn note(&self, second: u32, is_answered: bool) {
        let hits = self.hits.load(Relaxed);
        self.hits.store(hits.saturating_add(1), Relaxed);
        if !is_answered {
            self.drops.store(self.drops.load(Relaxed).saturating_add(1), Relaxed);
        }
        let last = self.last.swap(second, Relaxed);
        let gap = second.saturating_sub(last).saturating_mul(PARTS);
        match hits {
            0 => {}
            1 => self.mean.store(gap, Relaxed),
            _ => {
                let mean = self.mean.load(Relaxed);
                let change = (i64::from(gap) - i64::from(mean)) / MEMORY;
                self.mean.store(u32::try_from(i64::from(mean) + change).unwrap_or(0), Relaxed);
            }
        }
    }

    fn clear(&self) {
        for count in [&self.hits, &self.drops, &self.mean, &self.last] {
            count.store(0, Relaxed);
        }
    }

    fn read(&self, second: u32) -> Requests {
        let (hits, last) = (self.hits.load(Relaxed), self.last.load(Relaxed));
        Requests {
            hits,
            drops: self.drops.load(Relaxed),
            interval: (hits > 1).then(|| log2(self.mean.load(Relaxed))),
            age_seconds: (last > 0).then(|| second.saturating_sub(last)),
        }
    }
}

/// The logarithm of a time in parts of a second, in seconds, to the nearest; several requests a second are one in half a second
/// at least, since times are noted in seconds.
fn log2(parts: u32) -> i8 {
    let parts = parts.max(PARTS / 2);
    // Half a step is the square root of two.
    let up = u64::from(parts).pow(2) >= 2_u64.pow(2 * parts.ilog2() + 1);
    let log = i64::from(parts.ilog2()) + i64::from(up) - i64::from(PARTS.ilog2());
    i8::try_from(log).unwrap_or(i8::MAX)
}

/// Room for one client.
#[derive(Debug, Default)]
pub struct ClientSlot {
    /// A hash of the address, by which it is found; 0 if there is nobody.
    key: AtomicU64,
    high: AtomicU64,
    low: AtomicU64,
    ntp: Tally,
    key_exchange: Tally,
}

impl ClientSlot {
    fn tally(&self, asked: Asked) -> &Tally {
        match asked {
            Asked::Ntp => &self.ntp,
            Asked::KeyExchange => &self.key_exchange,
        }
    }

    fn last(&self) -> u32 {
        self.ntp.last.load(Relaxed).max(self.key_exchange.last.load(Relaxed))
    }

    fn clear(&self) {
        self.ntp.clear();
        self.key_exchange.clear();
    }
}

/// The clients. Copies share the same slots.
#[derive(Clone)]
pub struct ClientTable<'t> {
    sets: &'t [[ClientSlot; WAYS]],
    hash: Aes128,
}

impl<'t> ClientTable<'t> {
    /// Uses `slots`, all fresh at first, in whole groups of eight; fewer than eight hold nobody. All threads must give the same
    /// `slots` and `key`, and `key` must be fresh random bytes, so that nobody can choose addresses that fall together.
    #[must_use]
    pub fn new(slots: &'t [ClientSlot], key: &[u8; 16]) -> Self {
        Self { sets: slots.as_chunks::<WAYS>().0, hash: Aes128::new(key.into()) }
    }

    /// How many clients there is room for.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// Takes note of a request. Of clients for whom there is no room the one that has been silent for longest is forgotten.
    pub fn note(&self, peer: IpAddr, now: Monotonic, asked: Asked, is_answered: bool) {
        let bits = bits(peer);
        let key = self.key(bits);
        let Some(set) = self.set(key) else { return };
        let slot = match set.iter().find(|slot| slot.key.load(Relaxed) == key) {
            Some(slot) => slot,
            None => {
                let Some(slot) = set.iter().min_by_key(|slot| slot.last()) else { return };
                let seen = slot.key.load(Relaxed);
                // Another thread is at it: this request is not counted.
                if slot.key.compare_exchange(seen, key, Relaxed, Relaxed).is_err() {
                    return;
                }
                slot.clear();
                let [high, low] = halves(bits);
                slot.high.store(high, Relaxed);
                slot.low.store(low, Relaxed);
                slot
            }
        };
        slot.tally(asked).note(second(now), is_answered);
    }

    /// The client in the slot with this number, below [`capacity`](Self::capacity); `None` if there is none.
    #[must_use]
    pub fn row(&self, index: usize, now: Monotonic) -> Option<ClientRow> {
        let slot = self.slot(index)?;
        let key = slot.key.load(Relaxed);
        let bits = u128::from(slot.high.load(Relaxed)) << 64 | u128::from(slot.low.load(Relaxed));
        // An address that is being written is not that of its key.
        if key == 0 || key != self.key(bits) {
            return None;
        }
        let address = IpAddr::V6(Ipv6Addr::from(bits)).to_canonical();
        let second = second(now);
        Some(ClientRow { address, ntp: slot.ntp.read(second), key_exchange: slot.key_exchange.read(second) })
    }

    /// Begins to count anew for the client in this slot.
    pub fn reset(&self, index: usize) {
        if let Some(slot) = self.slot(index) {
            for tally in [&slot.ntp, &slot.key_exchange] {
                let last = tally.last.load(Relaxed);
                tally.clear();
                tally.last.store(last, Relaxed);
            }
        }
    }

    fn slot(&self, index: usize) -> Option<&'t ClientSlot> {
        self.sets.get(index / WAYS)?.get(index % WAYS)
    }

    fn set(&self, key: u64) -> Option<&'t [ClientSlot; WAYS]> {
        let index = usize::try_from(key >> 1).unwrap_or(usize::MAX).checked_rem(self.sets.len())?;
        self.sets.get(index)
    }

    fn key(&self, bits: u128) -> u64 {
        let mut block = bits.to_be_bytes();
        self.hash.encrypt_block((&mut block).into());
        let [a, b, c, d, e, f, g, h, ..] = block;
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) | 1
    }
}

impl fmt::Debug for ClientTable<'_> {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTable").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

fn second(now: Monotonic) -> u32 {
    u32::try_from(now.to_nanos() / 1_000_000_000 + 1).unwrap_or(u32::MAX)
}

/// IPv4 addresses in their place among those of IPv6.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
const fn halves(bits: u128) -> [u64; 2] {
    [(bits >> 64) as u64, bits as u64]
}

#[cfg(test)]
mod tests {
    use core::{net::Ipv4Addr, time::Duration};

    use super::*;

    fn slots(count: usize) -> Vec<ClientSlot> {
        (0..count).map(|_| ClientSlot::default()).collect()
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic::default() + Duration::from_secs(seconds)
    }

    fn rows(table: &ClientTable<'_>, now: u64) -> Vec<ClientRow> {
        (0..table.capacity()).filter_map(|index| table.row(index, at(now))).collect()
    }

    #[test]
    fn requests_are_counted_by_kind_and_what_was_not_answered_too() {
        let slots = slots(64);
        let table = ClientTable::new(&slots, &[1; 16]);
        let peer: IpAddr = "192.0.2.1".parse().unwrap();
        for (second, is_answered) in [(0, true), (64, false), (128, true)] {
            table.note(peer, at(second), Asked::Ntp, is_answered);
        }
        table.note("::ffff:192.0.2.1".parse().unwrap(), at(130), Asked::KeyExchange, true);
        table.note("2001:db8::1".parse().unwrap(), at(131), Asked::Ntp, true);
        let mut found = rows(&table, 140);
        found.sort_by_key(|row| row.address);
        let ntp = Requests { hits: 3, drops: 1, interval: Some(6), age_seconds: Some(12) };
        let key_exchange = Requests { hits: 1, drops: 0, interval: None, age_seconds: Some(10) };
        assert_eq!(found[0], ClientRow { address: peer, ntp, key_exchange });
        assert_eq!((found.len(), found[1].key_exchange), (2, Requests::default()));

        let index = (0..64).find(|index| table.row(*index, at(140)) == Some(found[0])).unwrap();
        table.reset(index);
        let row = table.row(index, at(140)).unwrap();
        assert_eq!(row.ntp, Requests { age_seconds: Some(12), ..Requests::default() });
        table.reset(64);
    }

    #[test]
    fn whoever_was_silent_for_longest_makes_room() {
        let slots = slots(WAYS);
        let table = ClientTable::new(&slots, &[1; 16]);
        for n in 0..100_u32 {
            table.note(Ipv4Addr::from(n).into(), at(n.into()), Asked::Ntp, true);
        }
        let mut found: Vec<_> = rows(&table, 100).iter().map(|row| row.address).collect();
        found.sort();
        let last: Vec<IpAddr> = (92..100_u32).map(|n| Ipv4Addr::from(n).into()).collect();
        assert_eq!(found, last);
    }

    #[test]
    fn a_table_without_room_holds_nobody() {
        let slots = slots(7);
        let table = ClientTable::new(&slots, &[1; 16]);
        table.note(Ipv4Addr::LOCALHOST.into(), at(1), Asked::Ntp, true);
        assert_eq!((table.capacity(), table.row(0, at(1))), (0, None));
    }

    #[test]
    fn many_requests_a_second_and_many_seconds_have_an_interval() {
        for (parts, expected) in [(0, -1), (PARTS, 0), (PARTS * 14 / 10, 0), (PARTS * 15 / 10, 1), (1_000 * PARTS, 10)]
        {
            assert_eq!(log2(parts), expected, "{parts}");
        }
        assert_eq!(log2(u32::MAX), 23);
    }

    #[test]
    fn the_interval_is_that_of_the_last_requests() {
        let slots = slots(WAYS);
        let table = ClientTable::new(&slots, &[1; 16]);
        let (peer, mut second) = (IpAddr::from(Ipv4Addr::LOCALHOST), 0);
        let mut ask = |gap: u64, times: u32| {
            for _ in 0..times {
                second += gap;
                table.note(peer, at(second), Asked::Ntp, true);
            }
            rows(&table, second)[0].ntp.interval
        };
        assert_eq!(ask(0, 4), Some(-1), "a burst");
        assert_eq!(ask(1_024, 40), Some(10), "of which nothing is seen later");
        assert_eq!(ask(16, 60), Some(4));
        assert_eq!(ask(200 * 86_400, 1), Some(20), "one pause weighs an eighth");
    }

    #[test]
    fn threads_that_meet_leave_only_addresses_that_asked() {
        let slots = slots(2 * WAYS);
        let table = ClientTable::new(&slots, &[1; 16]);
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let table = table.clone();
                scope.spawn(move || {
                    for n in 0..2_000_u32 {
                        table.note(Ipv4Addr::from((n * 4 + thread) % 64).into(), at(5), Asked::Ntp, true);
                        for row in rows(&table, 6) {
                            let IpAddr::V4(address) = row.address else { panic!("{row:?}") };
                            assert!(address.to_bits() < 64);
                        }
                    }
                });
            }
        });
    }
}
