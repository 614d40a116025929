//! How long a newcomer would wait for its turn, so that whom a server is too busy for is told so before it costs anything.
//!
//! A server that takes all who come and serves them in their order ends up serving those who have given up: with more work
//! than it can do, the wait grows beyond everybody's patience.

use std::time::Duration;

use ntp_proto::time::Monotonic;

/// How long a newcomer may have to wait for its first turn. An exchange has a few turns, and all of them wait alike.
const LONGEST: Duration = Duration::from_millis(150);

/// Of how many turns about the cost is a mean.
const MEMORY: u64 = 16;

/// Those who wait for their first turn on one thread, and what turns cost there.
#[derive(Clone, Debug, Default)]
pub struct Pressure {
    waiting: u64,
    /// Nanoseconds that newcomers waited, and turns before and with their own meanwhile; both fade.
    nanos: u64,
    turns: u64,
}

/// The place of one that waits.
#[derive(Debug)]
pub struct Waiting {
    since: Monotonic,
    place: u64,
}

impl Pressure {
    /// Whether a newcomer would wait too long. Never if nobody waits, so that what a turn costs is learned anew.
    #[must_use]
    pub fn is_too_high(&self) -> bool {
        let cost = self.nanos / self.turns.max(1);
        u128::from(self.waiting) * u128::from(cost) > LONGEST.as_nanos()
    }

    /// Takes word of one that was taken, and waits for its turn from now on.
    pub const fn handle_admitted(&mut self, now: Monotonic) -> Waiting {
        self.waiting = self.waiting.saturating_add(1);
        Waiting { since: now, place: self.waiting }
    }

    /// Takes word that its turn has come.
    pub fn handle_turn(&mut self, now: Monotonic, waiting: &Waiting) {
        self.handle_gone();
        let lag = u64::try_from(now.since(waiting.since).as_nanos()).unwrap_or(u64::MAX);
        self.nanos = (self.nanos - self.nanos / MEMORY).saturating_add(lag);
        self.turns = (self.turns - self.turns / MEMORY).saturating_add(waiting.place);
    }

    /// Takes word that one was closed before its turn came.
    pub const fn handle_gone(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const MILLISECOND: u64 = 1_000_000;

    /// A server that needs `cost` for each turn, for ten seconds, while one comes each `gap`. Returns how many were served, how
    /// many refused, and the longest wait in milliseconds. At `stall` it does nothing for 300 ms.
    fn run(cost: u64, gap: u64, stall: Option<u64>) -> (u64, u64, u64) {
        let mut pressure = Pressure::default();
        let mut queue = VecDeque::new();
        let (mut served, mut refused, mut longest, mut next) = (0, 0, 0, 0);
        let mut now = 0;
        while now < 10_000 * MILLISECOND {
            if stall.is_some_and(|at| (at..at + cost).contains(&now)) {
                now += 300 * MILLISECOND;
            }
            // All who have come are looked at in one go, as an event loop does it.
            while next <= now {
                if pressure.is_too_high() {
                    refused += 1;
                } else {
                    queue.push_back((next, pressure.handle_admitted(Monotonic::from_nanos(now))));
                }
                next += gap;
            }
            let Some((came, waiting)) = queue.pop_front() else {
                now = next;
                continue;
            };
            longest = longest.max((now - came) / MILLISECOND);
            pressure.handle_turn(Monotonic::from_nanos(now), &waiting);
            served += 1;
            now += cost;
        }
        (served, refused, longest)
    }

    #[test]
    fn nobody_is_refused_by_who_keeps_up() {
        for (cost, gap) in [(2 * MILLISECOND, 3 * MILLISECOND), (MILLISECOND / 4, MILLISECOND / 2), (90_000, 100_000)] {
            assert_eq!(run(cost, gap, None).1, 0, "{cost} of {gap}");
        }
        assert_eq!(run(MILLISECOND, 6 * MILLISECOND, Some(5_000 * MILLISECOND)).1, 0, "a stall is not a lack of power");
    }

    #[test]
    fn with_more_work_than_power_as_many_are_served_and_nobody_waits_long() {
        for cost in [MILLISECOND / 4, 2 * MILLISECOND, 20 * MILLISECOND] {
            for times in [2, 3, 10] {
                let (served, refused, longest) = run(cost, cost / times, None);
                let most = 10_000 * MILLISECOND / cost;
                assert!(served >= most - 1, "{cost} {times}: {served} of {most}");
                assert!(refused >= most * (times - 1) * 9 / 10, "{cost} {times}: {refused}");
                // Some turns more while the cost is being learned.
                assert!(longest <= 200 + 20 * cost / MILLISECOND, "{cost} {times}: {longest} ms");
            }
        }
    }

    #[test]
    fn who_is_closed_waits_no_longer() {
        let mut pressure = Pressure::default();
        let at = |milliseconds| Monotonic::from_nanos(milliseconds * MILLISECOND);
        let first = pressure.handle_admitted(at(0));
        for _ in 0..3 {
            let _ = pressure.handle_admitted(at(0));
        }
        pressure.handle_turn(at(60), &first);
        assert!(pressure.is_too_high(), "three wait, 60 ms each");
        pressure.handle_gone();
        assert!(!pressure.is_too_high(), "120 ms are bearable");
    }
}
