//! How much each client is answered.
//!
//! A token bucket for each subject, in a table of fixed size that all server threads share without a lock. Plain
//! requests are charged to their address, which anybody can forge; authenticated ones to their key, so that forged
//! packets never use up what an authenticated client may ask.

use core::{
    fmt,
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use aes::{
    Aes128,
    cipher::{BlockCipherEncrypt as _, KeyInit as _},
};

use crate::{
    ids::KeyId,
    nts::AeadKey,
    time::{Monotonic, PollInterval},
};

/// Slots that one subject can be found in.
const WAYS: usize = 8;

/// Tokens that one request costs; a bucket gains as many in one interval.
const COST: u64 = 256;

/// How often a change is tried again when other threads change the same slot.
const MAX_RACES: usize = 8;

/// Bits of the time in a slot.
const TIME_BITS: u32 = 24;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// Bits of the tokens in a slot.
const TOKEN_BITS: u32 = 16;
const TOKEN_MASK: u64 = (1 << TOKEN_BITS) - 1;

/// How many requests are let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// One request per this interval in the long run.
    pub interval: PollInterval,
    /// As many at once.
    pub burst: u8,
    /// Of the plain requests beyond that, one in 2^this is answered all the same, so that somebody who forges a client's
    /// address cannot silence it; `None` answers none.
    pub leak_log2: Option<u8>,
    /// Whether some of the refused are told so with a kiss-o'-death (RFC 5905 section 7.4, code RATE).
    pub kiss: bool,
}

impl RateLimit {
    /// Generous: a request per second and 32 at once, half of the rest answered, no kiss.
    pub const DEFAULT: Self = Self {
        interval: match PollInterval::new(0) {
            Some(interval) => interval,
            None => PollInterval::MIN,
        },
        burst: 32,
        leak_log2: Some(1),
        kiss: false,
    };
}

/// Who is charged for a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'a> {
    /// A plain request: its address, in IPv6 the first 64 bits of it.
    Address(IpAddr),
    /// A request with a symmetric key.
    Key(IpAddr, KeyId),
    /// A request with NTS: its C2S key.
    Association(&'a AeadKey),
}

/// The token buckets. Copies share the same slots.
#[derive(Clone)]
pub struct RateTable<'t> {
    slots: &'t [[AtomicU64; WAYS]],
    limit: RateLimit,
    tick_nanos: u64,
    hash: Aes128,
}

impl<'t> RateTable<'t> {
    /// Uses `slots`, all zero at first, of which the largest power of two is taken; fewer than eight limit nothing. All
    /// threads must give the same `slots`, `limit` and `key`, and `key` must be fresh random bytes, so that nobody can
    /// choose addresses that fall together.
    #[must_use]
    pub fn new(slots: &'t [AtomicU64], limit: RateLimit, key: &[u8; 16]) -> Self {
        let (sets, _) = slots.as_chunks::<WAYS>();
        let count = sets.len().checked_ilog2().map_or(0, |log2| 1 << log2);
        let interval_nanos = u64::try_from(limit.interval.to_duration().as_nanos()).unwrap_or(u64::MAX);
        Self { slots: &sets[..count], limit, tick_nanos: (interval_nanos / COST).max(1), hash: Aes128::new(key.into()) }
    }

    /// The limit it applies.
    #[must_use]
    pub const fn limit(&self) -> RateLimit {
        self.limit
    }

    /// Charges `subject` for one request; false if it has used up its share.
    pub(super) fn charge(&self, subject: Subject<'_>, now: Monotonic) -> bool {
        if self.slots.is_empty() {
            return true;
        }
        let hash = self.hash(subject);
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits are used")]
        let set = &self.slots[hash as usize & (self.slots.len() - 1)];
        let tag = (hash >> (TIME_BITS + TOKEN_BITS)).max(1);
        let tick = (now.to_nanos() / self.tick_nanos) & TIME_MASK;
        let full = u64::from(self.limit.burst.max(1)) * COST;
        for _ in 0..MAX_RACES {
            let (slot, seen) = choose(set, tag, tick);
            let bucket = Bucket::unpack(seen);
            let tokens = if bucket.tag == tag { (bucket.tokens + age(tick, bucket.time)).min(full) } else { full };
            let left = tokens.checked_sub(COST);
            let next = Bucket { tag, tokens: left.unwrap_or(tokens), time: tick }.pack();
            if slot.compare_exchange(seen, next, Relaxed, Relaxed).is_ok() {
                return left.is_some();
            }
        }
        // So many others are at this bucket at the same moment that it is surely empty.
        false
    }

    /// A keyed hash: the CBC-MAC of the subject. Its blocks are of one length for each kind, and nobody outside sees
    /// the result.
    fn hash(&self, subject: Subject<'_>) -> u64 {
        let mut state = [0; 16];
        match subject {
            Subject::Address(address) => self.absorb(&mut state, network(address)),
            Subject::Key(address, KeyId(id)) => {
                self.absorb(&mut state, u128::from(id) | 1 << 64);
                self.absorb(&mut state, network(address));
            }
            Subject::Association(key) => {
                self.absorb(&mut state, 2 << 64);
                for block in key.as_bytes().as_chunks::<16>().0 {
                    self.absorb(&mut state, u128::from_be_bytes(*block));
                }
            }
        }
        let [a, b, c, d, e, f, g, h, ..] = state;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    fn absorb(&self, state: &mut [u8; 16], block: u128) {
        *state = (u128::from_be_bytes(*state) ^ block).to_be_bytes();
        self.hash.encrypt_block(state.into());
    }
}

impl fmt::Debug for RateTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateTable").field("sets", &self.slots.len()).field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// What of an address tells one client from another: an IPv6 client has a whole /64 to choose from. No IPv4 address
/// equals the start of an IPv6 one in use.
fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

/// One slot: whose, how many tokens at what time. An empty slot is all zero, and no tag is.
#[derive(Clone, Copy)]
struct Bucket {
    tag: u64,
    tokens: u64,
    time: u64,
}

impl Bucket {
    const fn pack(self) -> u64 {
        self.tag << (TOKEN_BITS + TIME_BITS) | (self.tokens & TOKEN_MASK) << TIME_BITS | (self.time & TIME_MASK)
    }

    const fn unpack(bits: u64) -> Self {
        Self { tag: bits >> (TOKEN_BITS + TIME_BITS), tokens: (bits >> TIME_BITS) & TOKEN_MASK, time: bits & TIME_MASK }
    }
}

/// Ticks from `time` to `now`, modulo 2^24. Threads read the clock one after the other and store in any order, so a
/// time a little ahead of `now` is no age at all.
const fn age(now: u64, time: u64) -> u64 {
    let age = now.wrapping_sub(time) & TIME_MASK;
    if age > TIME_MASK - COST { 0 } else { age }
}

/// The slot that belongs to `tag`, or else the one that is empty or was unused for longest; with its content.
fn choose(set: &[AtomicU64; WAYS], tag: u64, tick: u64) -> (&AtomicU64, u64) {
    let [first, ..] = set;
    let mut chosen = (first, first.load(Relaxed));
    let mut chosen_age = 0;
    for slot in set {
        let seen = slot.load(Relaxed);
        let bucket = Bucket::unpack(seen);
        if bucket.tag == tag {
            return (slot, seen);
        }
        let age = if seen == 0 { u64::MAX } else { age(tick, bucket.time) };
        if age > chosen_age {
            (chosen, chosen_age) = ((slot, seen), age);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use core::{net::Ipv4Addr, time::Duration};

    use super::*;
    use crate::nts::AeadAlgorithm;

    fn slots(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    fn limit(interval: i8, burst: u8) -> RateLimit {
        RateLimit { interval: PollInterval::new(interval).unwrap(), burst, leak_log2: None, kiss: false }
    }

    fn at(seconds: f64) -> Monotonic {
        Monotonic::from_nanos(0) + Duration::from_secs_f64(seconds)
    }

    fn address(n: u32) -> Subject<'static> {
        Subject::Address(Ipv4Addr::from(n).into())
    }

    #[test]
    fn a_burst_passes_and_then_one_per_interval() {
        let slots = slots(64);
        let table = RateTable::new(&slots, limit(1, 4), &[1; 16]);
        let passed = |from: f64, count: u32, spacing: f64| {
            (0..count).filter(|n| table.charge(address(7), at(from + f64::from(*n) * spacing))).count()
        };
        assert_eq!(passed(10.0, 10, 0.0), 4);
        assert_eq!(passed(12.1, 3, 0.0), 1);
        assert_eq!(passed(20.2, 9, 0.0), 4);
        // In the long run what the interval says, although ten times as many ask.
        let through = passed(30.0, 1_000, 0.2);
        assert!((100..=105).contains(&through), "{through}");
        // Others are not affected.
        assert!(table.charge(address(8), at(230.0)));
    }

    #[test]
    fn refused_requests_do_not_delay_the_next_token() {
        let slots = slots(64);
        let table = RateTable::new(&slots, limit(0, 1), &[1; 16]);
        assert!(table.charge(address(7), at(1.0)));
        for n in 0..99 {
            assert!(!table.charge(address(7), at(1.0 + f64::from(n) * 0.01)));
        }
        assert!(table.charge(address(7), at(2.01)));
    }

    #[test]
    fn a_clock_read_a_little_earlier_gives_no_tokens() {
        let slots = slots(64);
        let table = RateTable::new(&slots, limit(0, 1), &[1; 16]);
        assert!(table.charge(address(7), at(100.0)));
        assert!(!table.charge(address(7), at(99.95)));
    }

    #[test]
    fn an_ipv6_client_is_its_64_bits_and_a_mapped_address_is_ipv4() {
        let slots = slots(64);
        let table = RateTable::new(&slots, limit(3, 1), &[1; 16]);
        let charge = |text: &str| table.charge(Subject::Address(text.parse().unwrap()), at(9.0));
        assert!(charge("2001:db8:1:2::1"));
        assert!(!charge("2001:db8:1:2:ffff::9"));
        assert!(charge("2001:db8:1:3::1"));
        assert!(charge("192.0.2.1"));
        assert!(!charge("::ffff:192.0.2.1"));
    }

    #[test]
    fn forged_packets_do_not_touch_authenticated_clients() {
        let slots = slots(1 << 12);
        let table = RateTable::new(&slots, limit(3, 2), &[1; 16]);
        let key = AeadKey::new(AeadAlgorithm::AesSivCmac256, &[5; 32]).unwrap();
        let victim = Ipv4Addr::new(192, 0, 2, 1);
        for n in 0..100 {
            table.charge(Subject::Address(victim.into()), at(f64::from(n) * 0.001));
        }
        assert!(!table.charge(Subject::Address(victim.into()), at(0.2)));
        assert!(table.charge(Subject::Key(victim.into(), KeyId(1)), at(0.2)));
        assert!(table.charge(Subject::Association(&key), at(0.2)));
    }

    #[test]
    fn a_flood_of_addresses_finds_room_and_frees_it() {
        let slots = slots(1 << 8);
        let table = RateTable::new(&slots, limit(3, 2), &[1; 16]);
        for n in 0..100_000 {
            assert!(table.charge(address(n), at(1.0)));
        }
        // Whoever was pushed out starts afresh.
        assert!(table.charge(address(0), at(1.0)));
    }

    #[test]
    fn whoever_was_quiet_for_longest_makes_room() {
        let slots = slots(WAYS);
        let table = RateTable::new(&slots, limit(6, 1), &[1; 16]);
        for n in 0..8 {
            assert!(table.charge(address(n), at(f64::from(n))));
        }
        assert!(!table.charge(address(0), at(8.0)));
        assert!(table.charge(address(8), at(9.0)));
        assert!(!table.charge(address(0), at(10.0)), "still known");
        assert!(table.charge(address(1), at(11.0)), "forgotten");
    }

    #[test]
    fn another_key_gives_another_order() {
        let slots = slots(8);
        let hashes = |key| RateTable::new(&slots, limit(0, 1), &[key; 16]).hash(address(1));
        assert_ne!(hashes(1), hashes(2));
    }

    #[test]
    fn a_table_without_room_limits_nothing() {
        let slots = slots(7);
        let table = RateTable::new(&slots, limit(3, 1), &[1; 16]);
        assert!((0..10).all(|_| table.charge(address(1), at(0.0))));
    }

    #[test]
    fn threads_together_get_one_share() {
        let slots = slots(64);
        let table = RateTable::new(&slots, limit(0, 200), &[1; 16]);
        let through: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let table = table.clone();
                    scope.spawn(move || (0..10_000).filter(|_| table.charge(address(1), at(5.0))).count())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(through, 200);
    }
}
