//! Transmit timestamps for interleaved mode (RFC 9769).
//!
//! In interleaved mode a reply carries the transmit timestamp of the reply before it, which is known better by then. A
//! client asks for it by sending our last receive timestamp as its origin timestamp, so that timestamp is the key under
//! which the pair is kept. Receive timestamps that we send are odd and transmit timestamps even; a request in basic
//! mode, whose origin timestamp is one of our transmit timestamps, is told from an interleaved one by that bit.
//!
//! The table is of fixed size, shared by all server threads, and never waited for: whoever finds a slot in use by
//! another thread goes without, and a reply is then in basic mode.

use core::{
    fmt,
    net::IpAddr,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use crate::{
    smear::Smear,
    status::smeared,
    time::{ClockMap, NtpTimestamp},
};

/// A slot that holds nothing.
const EMPTY: u64 = 0;

/// A slot that a thread is at work on; even, so no key.
const BUSY: u64 = 2;

/// How many other receive timestamps are tried for one that is taken.
const MAX_DUPLICATES: usize = 4;

/// Room for one pair of timestamps.
#[derive(Debug, Default)]
pub struct InterleaveSlot {
    /// The odd receive timestamp, [`EMPTY`] or [`BUSY`]. What follows may only be touched by whoever made it busy.
    receive: AtomicU64,
    transmit: AtomicU64,
    peer_high: AtomicU64,
    peer_low: AtomicU64,
}

impl InterleaveSlot {
    /// An empty slot.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            receive: AtomicU64::new(EMPTY),
            transmit: AtomicU64::new(0),
            peer_high: AtomicU64::new(0),
            peer_low: AtomicU64::new(0),
        }
    }

    /// Makes a slot that holds `expected` busy.
    fn claim(&self, expected: u64) -> bool {
        self.receive.compare_exchange(expected, BUSY, Acquire, Relaxed).is_ok()
    }

    /// Ends a claim.
    fn release(&self, receive: u64) {
        self.receive.store(receive, Release);
    }

    fn belongs_to(&self, peer: Peer) -> bool {
        self.peer_high.load(Relaxed) == peer.high && self.peer_low.load(Relaxed) == peer.low
    }
}

/// A client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peer {
    high: u64,
    low: u64,
}

impl Peer {
    fn new(address: IpAddr) -> Self {
        let bits = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        };
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        let (high, low) = ((bits >> 64) as u64, bits as u64);
        Self { high, low }
    }
}

/// Names a reply whose transmit timestamp is wanted once it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TransmitToken {
    receive: u64,
    peer: Peer,
    from_kernel: ClockMap,
    smear: Option<Smear>,
}

/// The pairs of timestamps. Copies share the same slots.
#[derive(Clone, Copy)]
pub struct InterleaveTable<'t> {
    slots: &'t [InterleaveSlot],
    shift: u32,
}

impl<'t> InterleaveTable<'t> {
    /// Uses `slots`, of which the largest power of two is taken; with fewer than two, all replies are in basic mode.
    #[must_use]
    pub const fn new(slots: &'t [InterleaveSlot]) -> Self {
        match slots.len().checked_ilog2() {
            None | Some(0) => Self { slots: &[], shift: 0 },
            Some(log2) => Self { slots, shift: u64::BITS - log2 },
        }
    }

    /// Takes out the transmit timestamp that belongs to `receive`, a receive timestamp sent to `peer`. It is there at
    /// most once.
    pub(super) fn take(&self, receive: NtpTimestamp, peer: IpAddr) -> Option<NtpTimestamp> {
        let receive = receive.to_bits();
        let slot = self.slot(receive)?;
        if !is_key(receive) || !slot.claim(receive) {
            return None;
        }
        if !slot.belongs_to(Peer::new(peer)) {
            slot.release(receive);
            return None;
        }
        let transmit = slot.transmit.load(Relaxed);
        slot.release(EMPTY);
        Some(NtpTimestamp::from_bits(transmit))
    }

    /// Keeps a pair for `peer`, and returns the receive timestamp to send, odd and a little later if another client was
    /// sent the same; `None` if the pair could not be kept.
    pub(super) fn put(&self, receive: NtpTimestamp, transmit: NtpTimestamp, peer: IpAddr) -> Option<NtpTimestamp> {
        let mut receive = receive.to_bits() | 1;
        for _ in 0..MAX_DUPLICATES {
            let slot = self.slot(receive)?;
            let seen = slot.receive.load(Relaxed);
            if seen == receive {
                receive = receive.wrapping_add(2);
                continue;
            }
            if seen == BUSY || !slot.claim(seen) {
                return None;
            }
            let peer = Peer::new(peer);
            slot.transmit.store(even(transmit).to_bits(), Relaxed);
            slot.peer_high.store(peer.high, Relaxed);
            slot.peer_low.store(peer.low, Relaxed);
            slot.release(receive);
            return Some(NtpTimestamp::from_bits(receive));
        }
        None
    }

    /// Names the pair kept under `receive` for [`Self::amend`]; transmit timestamps will be mapped as the reply's were.
    pub(super) fn token(
        receive: NtpTimestamp,
        peer: IpAddr,
        from_kernel: ClockMap,
        smear: Option<Smear>,
    ) -> TransmitToken {
        TransmitToken { receive: receive.to_bits(), peer: Peer::new(peer), from_kernel, smear }
    }

    /// Replaces the transmit timestamp of a pair by a better one on the kernel's clock, if the pair is still there.
    pub(super) fn amend(&self, token: &TransmitToken, transmit: NtpTimestamp) {
        let Some(slot) = self.slot(token.receive) else {
            return;
        };
        if !slot.claim(token.receive) {
            return;
        }
        if let (true, Some(transmit)) =
            (slot.belongs_to(token.peer), smeared(token.smear, token.from_kernel.apply(transmit)))
        {
            slot.transmit.store(even(transmit).to_bits(), Relaxed);
        }
        slot.release(token.receive);
    }

    /// Where the pair with this key stands.
    fn slot(&self, receive: u64) -> Option<&'t InterleaveSlot> {
        // Fibonacci hashing: the golden ratio spreads timestamps that differ in few bits.
        let index = receive.wrapping_mul(0x9e37_79b9_7f4a_7c15).checked_shr(self.shift)?;
        self.slots.get(usize::try_from(index).ok()?)
    }
}

impl fmt::Debug for InterleaveTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterleaveTable").field("slots", &self.slots.len()).finish_non_exhaustive()
    }
}

/// Whether this can be a receive timestamp that we sent.
pub(super) const fn is_key(bits: u64) -> bool {
    bits & 1 == 1
}

/// The timestamp with its lowest bit, 0.2 ns, cleared: no key.
pub(super) const fn even(timestamp: NtpTimestamp) -> NtpTimestamp {
    NtpTimestamp::from_bits(timestamp.to_bits() & !1)
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    fn slots(count: usize) -> Vec<InterleaveSlot> {
        (0..count).map(|_| InterleaveSlot::new()).collect()
    }

    fn peer(n: u32) -> IpAddr {
        Ipv4Addr::from(n).into()
    }

    const fn at(bits: u64) -> NtpTimestamp {
        NtpTimestamp::from_bits(bits)
    }

    #[test]
    fn a_pair_is_given_out_once_and_to_its_client_only() {
        let slots = slots(16);
        let table = InterleaveTable::new(&slots);
        let key = table.put(at(0x1234_5678), at(0x1234_9999), peer(1)).unwrap();
        assert_eq!(key, at(0x1234_5679));
        assert_eq!(table.take(key, peer(2)), None);
        assert_eq!(table.take(at(0x1234_5678), peer(1)), None);
        assert_eq!(table.take(key, peer(1)), Some(at(0x1234_9998)));
        assert_eq!(table.take(key, peer(1)), None);
    }

    #[test]
    fn equal_receive_timestamps_become_different_keys() {
        let slots = slots(1 << 12);
        let table = InterleaveTable::new(&slots);
        let first = table.put(at(1_000), at(2_000), peer(1)).unwrap();
        let second = table.put(at(1_000), at(4_000), peer(2)).unwrap();
        assert_eq!((first, second), (at(1_001), at(1_003)));
        assert_eq!(table.take(second, peer(2)), Some(at(4_000)));
        assert_eq!(table.take(first, peer(1)), Some(at(2_000)));
    }

    #[test]
    fn a_late_timestamp_replaces_the_first_guess_on_the_same_timescale() {
        let slots = slots(16);
        let table = InterleaveTable::new(&slots);
        let ahead = ClockMap { offset: crate::time::NtpDuration::from_bits(100), ..ClockMap::IDENTITY };
        let key = table.put(at(1_000), at(2_000), peer(1)).unwrap();
        let token = InterleaveTable::token(key, peer(1), ahead, None);
        table.amend(&token, at(2_500));
        assert_eq!(table.take(key, peer(1)), Some(at(2_600)));
        table.amend(&token, at(9_000));
        assert_eq!(table.take(key, peer(1)), None);
    }

    #[test]
    fn a_busy_slot_is_left_alone() {
        let slots = slots(2);
        let table = InterleaveTable::new(&slots);
        for slot in &slots {
            slot.receive.store(BUSY, Relaxed);
        }
        assert_eq!(table.put(at(1_000), at(2_000), peer(1)), None);
        assert_eq!(table.take(at(BUSY), peer(1)), None);
        assert_eq!(table.take(at(1_001), peer(1)), None);
    }

    #[test]
    fn no_room_means_basic_mode() {
        for count in [0, 1] {
            let slots = slots(count);
            let table = InterleaveTable::new(&slots);
            assert_eq!(table.put(at(1_000), at(2_000), peer(1)), None);
            assert_eq!(table.take(at(1_001), peer(1)), None);
        }
    }

    /// Four threads at a table so small that they are at the same slots all the time. A transmit timestamp that does not
    /// belong to its receive timestamp, or is given out twice, would be seen.
    #[test]
    fn threads_never_mix_pairs() {
        const ROUNDS: u64 = 50_000;
        let slots = slots(4);
        let table = InterleaveTable::new(&slots);
        let transmit_for = |receive: u64| receive.wrapping_mul(0x1_0000_0001) & !1;
        let taken: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4_u32)
                .map(|thread| {
                    scope.spawn(move || {
                        let mut taken = 0;
                        for round in 0..ROUNDS {
                            // Timestamps of the threads collide on purpose.
                            let receive = round << 8 | 1;
                            let Some(key) = table.put(at(receive), at(transmit_for(receive)), peer(thread)) else {
                                continue;
                            };
                            if let Some(transmit) = table.take(key, peer(thread)) {
                                assert_eq!(transmit, at(transmit_for(receive)));
                                taken += 1;
                                assert_eq!(table.take(key, peer(thread)), None);
                            }
                        }
                        taken
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(taken > ROUNDS / 10, "{taken}");
    }
}
