//! How a mode spaces its questions, and whom it leaves alone for a while.

use core::time::Duration;

use crate::time::Monotonic;

/// Shortest wait after trouble: 2^4 s.
const MIN_WAIT_LOG2: u8 = 4;

/// Longest wait: 2^17 s, 36 hours.
const MAX_WAIT_LOG2: u8 = 17;

/// Trouble is forgotten after a calm of this many waits ...
const CALM_WAITS: u32 = 4;

/// ... and not before this long.
const MIN_CALM: Duration = Duration::from_secs(3600);

/// Waits that double with each trouble, from 16 s to 2^17 s if nothing else is said, and are up to an eighth longer so that
/// many clients of one pool do not come at once.
#[derive(Clone, Debug)]
pub struct Backoff {
    /// Shortest and longest.
    bounds_log2: (u8, u8),
    wait_log2: u8,
    /// The end of the last wait.
    last: Option<Monotonic>,
    random: u64,
}

impl Backoff {
    /// Starts with the shortest wait; `seed` decides the jitter.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self::between((MIN_WAIT_LOG2, MAX_WAIT_LOG2), seed)
    }

    /// Starts with the shortest wait; `bounds_log2` are the shortest and the longest in log2 seconds.
    #[must_use]
    pub const fn between(bounds_log2: (u8, u8), seed: u64) -> Self {
        Self { bounds_log2, wait_log2: bounds_log2.0, last: None, random: seed }
    }

    /// Takes word of trouble; returns when to try again.
    pub fn trouble(&mut self, now: Monotonic) -> Monotonic {
        let wait = Duration::from_secs(1 << self.wait_log2);
        if self.last.is_some_and(|last| now.since(last) > MIN_CALM.max(wait.saturating_mul(CALM_WAITS))) {
            self.wait_log2 = self.bounds_log2.0;
        }
        let wait = Duration::from_secs(1 << self.wait_log2);
        self.wait_log2 = self.wait_log2.saturating_add(1).min(self.bounds_log2.1);
        let eighths = Duration::from_nanos(self.next_random() & 0xffff).saturating_mul(1_000_000_000 >> 19);
        let at = now + wait.saturating_add(eighths.saturating_mul(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX)));
        self.last = Some(at);
        at
    }

    /// Forgets earlier trouble.
    pub fn reset(&mut self) {
        self.wait_log2 = self.bounds_log2.0;
        self.last = None;
    }

    /// SplitMix64: good enough to spread clients, and no secret.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Most entries of one [`Shunned`].
pub const MAX_SHUNNED: usize = 64;

/// Servers that were no good, each until its time is over.
#[derive(Clone, Debug)]
pub struct Shunned<T> {
    /// Oldest first.
    entries: Vec<(T, Monotonic)>,
}

impl<T> Default for Shunned<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T: PartialEq> Shunned<T> {
    /// Shuns `server` until `until`; the oldest of [`MAX_SHUNNED`] is let go.
    pub fn insert(&mut self, server: T, until: Monotonic) {
        self.entries.retain(|(known, _)| *known != server);
        if self.entries.len() >= MAX_SHUNNED {
            self.entries.remove(0);
        }
        self.entries.push((server, until));
    }

    /// Lets go whose time is over.
    pub fn expire(&mut self, now: Monotonic) {
        self.entries.retain(|(_, until)| *until > now);
    }

    /// Who is shunned, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(server, _)| server)
    }

    /// Whether `server` is shunned.
    pub fn contains(&self, server: &T) -> bool {
        self.iter().any(|known| known == server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Monotonic = Monotonic::from_nanos(1);

    #[test]
    fn waits_double_from_16_s_to_2_to_the_17_and_are_an_eighth_longer_at_most() {
        for seed in 0..100 {
            let mut backoff = Backoff::new(seed);
            let mut now = START;
            for step in 4..30_u8 {
                let wait = 2_f64.powi(step.min(17).into());
                let at = backoff.trouble(now);
                let ratio = at.since(now).as_secs_f64() / wait;
                assert!((1.0..1.126).contains(&ratio), "{seed} {step} {ratio}");
                now = at;
            }
            let rested = now + Duration::from_secs(600_000);
            assert!(backoff.trouble(rested).since(rested).as_secs() <= 18);
            backoff.trouble(rested);
            backoff.reset();
            assert!(backoff.trouble(rested).since(rested).as_secs() <= 18);
        }
    }

    #[test]
    fn different_seeds_wait_differently() {
        let waits: Vec<_> = (0..50).map(|seed| Backoff::new(seed).trouble(START)).collect();
        assert!(waits.windows(2).all(|pair| pair.first() != pair.last()));
    }

    #[test]
    fn the_shunned_are_bounded_and_let_go() {
        let mut shunned = Shunned::default();
        for server in 0..100 {
            shunned.insert(server, START + Duration::from_secs(server));
        }
        shunned.insert(50, START + Duration::from_secs(1000));
        assert_eq!(shunned.iter().count(), MAX_SHUNNED);
        assert!(!shunned.contains(&35) && shunned.contains(&36));
        shunned.expire(START + Duration::from_secs(99));
        assert_eq!(shunned.iter().collect::<Vec<_>>(), [&50]);
    }
}
