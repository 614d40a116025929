//! When to ask next.

use core::time::Duration;

use super::SampleRules;
use crate::{
    filter::Surprise,
    time::{Monotonic, PollInterval},
};

/// Score of a request without an answer.
const MISSED_SCORE: f64 = 0.25;
/// Good replies that end a burst.
const BURST_GOOD: u8 = 4;
/// Requests that end a burst.
const BURST_MAX: u8 = 8;
/// Longest time between the requests of a burst.
const BURST_SPACING: Duration = Duration::from_secs(2);
/// By how much more shortest intervals than one a burst out of turn keeps the next request out of turn away: it may take so
/// many requests. Whatever happens to the clock, and however often, requests out of turn are thus at most as many in an hour as
/// ordinary ones at the shortest interval: a program that sets the clock each second makes nobody ask a pool each second.
const BURST_COST: u32 = BURST_MAX as u32;
/// Shortest intervals in which there is one request because of other sources' surprises: servers that surprise on purpose make at most as
/// many as the longest of the usual intervals.
const ONCE_COST: u32 = 16;
/// Such requests that are saved up: a clock that changes its rate surprises each source a few times.
const ONCE_SAVED: u32 = 3;
/// Requests out of turn are spread over this time by chance: what makes a machine ask all its sources may happen to many
/// machines at once.
const EARLY_SPREAD: Duration = Duration::from_secs(2);
/// Good replies after which the interval a server asked for (kiss code RATE) is tried one step shorter again; twice as many after each
/// time that was refused.
const RATE_RECOVERY: u8 = 8;
/// Most good replies that this takes.
const SLOWEST_RECOVERY: u8 = 128;
/// Longest interval that a server can ask for where the longest that was set is shorter, log2 seconds: 1024 s, the longest there is
/// by default.
const RATE_CEILING: i8 = 10;
/// Intervals that a server's refusal keeps us away for, in steps of the poll interval.
const RATE_PENALTY: u32 = 4;
/// By how much less than the interval, in steps of it, must be worth waiting for it to be shortened.
const HYSTERESIS: f64 = 0.25;
/// Share of an interval that chance may add to it, so that neither clients nor the sources of one client ask in step. Nothing is
/// taken away: who limits its clients counts on them to keep to the interval.
const JITTER: f64 = 0.03;
/// Share of the first interval after a burst that chance may take away: bursts of all sources end together, and measurements
/// spread over time say more than as many at once.
const SPREAD: f64 = 0.5;
/// Share of the interval after which a source is asked again, two times, of which a burst told all that is known.
const YOUNG: f64 = 0.5;
/// Most requests that a source owes: as many as it takes to find out that a server is gone.
const MOST_OWED: f64 = 8.0;
/// Share of what it owes that a source gives back at a turn: gaps between samples cost more than what they are long.
const GIVEN_BACK: f64 = 0.25;
/// Most intervals by which a turn is put off.
const MOST_PUT_OFF: f64 = 0.5;
/// An answer that takes longer may be lost.
const SOONEST_RETRY: Duration = Duration::from_secs(4);
/// Intervals below this are short enough for anything.
const SHORT_ENOUGH: Duration = Duration::from_secs(16);

/// When a source is asked several times in quick succession.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bursts {
    /// Never, unless an administrator says so.
    Never,
    /// At the start (chrony's `iburst`).
    #[default]
    AtStart,
    /// At every poll (chrony's `burst`), the first included.
    AtEveryPoll,
}

/// The poll interval of one source and its next deadline.
///
/// A score rises with requests that stay without an answer; each whole point is one step of the interval.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    min: PollInterval,
    max: PollInterval,
    /// Share of the worthwhile interval after which it is asked.
    share: f64,
    poll: PollInterval,
    score: f64,
    /// The interval that the server has asked for.
    asked: Option<PollInterval>,
    good_since_asked: u8,
    /// Good replies after which fewer are tried.
    recovery: u8,
    /// Fewer were tried, and have not been in force for long.
    trying: bool,
    bursts: Bursts,
    burst: Option<Burst>,
    next: Option<Monotonic>,
    /// All that is known was told by a burst.
    young: bool,
    /// Chance, 0..1.
    random: f64,
    /// The server does not want to be asked before.
    held: Option<Monotonic>,
    /// Before then it is not asked out of turn once more.
    early: Option<Monotonic>,
    /// Until when the requests because of other sources are spent.
    once: Option<Monotonic>,
    /// When its next turn is once the last request is answered; `None` if that is [`next`](Self::next) already.
    due: Option<Monotonic>,
    /// By how many intervals requests came before their turn because others had no answer; later turns are put off for that.
    owed: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Burst {
    good: u8,
    sent: u8,
}

impl Schedule {
    /// Starts at the shortest interval, at `first`.
    pub(super) fn new(min: PollInterval, max: PollInterval, bursts: Bursts, first: Monotonic) -> Self {
        Self {
            min,
            max: max.max(min),
            share: 1.0,
            poll: min,
            score: 0.0,
            asked: None,
            good_since_asked: 0,
            recovery: RATE_RECOVERY,
            trying: false,
            bursts,
            burst: (bursts != Bursts::Never).then_some(Burst::default()),
            next: Some(first),
            young: false,
            random: 0.0,
            held: None,
            early: None,
            once: None,
            due: None,
            owed: 0.0,
        }
    }

    /// Asks more often than is worth it by default, or less, in proportion to `target` and its default.
    pub(super) fn aiming_at(mut self, target: u8) -> Self {
        self.set_range(self.min, self.max, target);
        self
    }

    /// Keeps to other limits from now on. What is waited for now stays.
    pub(super) fn set_range(&mut self, min: PollInterval, max: PollInterval, target: u8) {
        (self.min, self.max) = (min, max.max(min));
        self.share = f64::from(SampleRules::default().poll_target) / f64::from(target.max(1));
        self.poll = self.poll.clamp(self.shortest(), self.longest());
    }

    /// When to ask next; `None` while the source rests.
    #[must_use]
    pub const fn next(&self) -> Option<Monotonic> {
        self.next
    }

    /// The interval in force.
    #[must_use]
    pub const fn poll(&self) -> PollInterval {
        self.poll
    }

    /// Whether a burst is under way.
    #[must_use]
    pub const fn in_burst(&self) -> bool {
        self.burst.is_some()
    }

    fn shortest(&self) -> PollInterval {
        self.asked.map_or(self.min, |asked| asked.max(self.min))
    }

    fn longest(&self) -> PollInterval {
        self.max.max(self.shortest())
    }

    /// The longest interval that a server can ask for.
    fn ceiling(&self) -> PollInterval {
        let longest = self.longest();
        PollInterval::new(RATE_CEILING).map_or(longest, |ceiling| ceiling.max(longest))
    }

    /// A request goes out at `now`; `random` is uniform in 0..1. If there is no answer, the next one follows `again` steps above the
    /// shortest interval, if that is earlier than in its turn; `None`: in its turn. Later turns are put off, each by up to half an
    /// interval, until what was lost on the way cost no more packets than what was not; but none in a burst.
    pub(super) fn handle_request(&mut self, now: Monotonic, random: f64, again: Option<i8>) {
        self.random = random;
        let is_young = core::mem::take(&mut self.young) && self.burst.is_none();
        let interval = self.poll.to_duration();
        let early = self.due.take().map_or(Duration::ZERO, |due| due.since(now));
        self.owed = (self.owed + early.as_secs_f64() / interval.as_secs_f64()).min(MOST_OWED);
        let mut put_off = (self.owed * GIVEN_BACK).min(MOST_PUT_OFF);
        let mut wait = interval.mul_f64(put_off + if is_young { YOUNG } else { 1.0 });
        // A server that asked for fewer requests gets them one by one.
        if self.bursts == Bursts::AtEveryPoll && self.burst.is_none() && self.asked.is_none() {
            self.burst = Some(Burst::default());
        }
        if let Some(burst) = &mut self.burst {
            burst.sent += 1;
            if burst.sent >= BURST_MAX {
                self.burst = None;
            } else {
                wait = BURST_SPACING.min(wait / 4);
                put_off = 0.0;
            }
        }
        self.owed -= put_off;
        let retry =
            again.map(|steps| self.shortest().step(steps, self.min, self.longest()).to_duration().max(SOONEST_RETRY));
        self.next = Some(self.varied(now, retry.map_or(wait, |retry| wait.min(retry))));
        self.due = Some(self.varied(now, wait)).filter(|due| self.next < Some(*due));
    }

    /// So long after `now`, and a little more by chance.
    fn varied(&self, now: Monotonic, wait: Duration) -> Monotonic {
        now + wait.mul_f64(1.0 + JITTER * self.random)
    }

    /// Its turn comes at `now` and there is nothing to send.
    pub(super) fn skip(&mut self, now: Monotonic, random: f64) {
        self.due = None;
        self.handle_request(now, random, None);
    }

    /// The last request was answered.
    pub(super) const fn handle_answer(&mut self) {
        if let (Some(_), Some(due)) = (self.next, self.due.take()) {
            self.next = Some(due);
        }
    }

    /// A device is looked at, at an even pace. What was missed by a late timer is not made up for.
    pub(super) fn handle_tick(&mut self, now: Monotonic) {
        self.next = Some(now + self.poll.to_duration());
    }

    /// The last request stayed without an answer.
    pub(super) fn handle_miss(&mut self) {
        if self.burst.is_none() {
            self.add(MISSED_SCORE);
        }
    }

    /// A good reply came: what was expected of it, and for how many seconds from now another would tell nothing new.
    pub(super) fn handle_sample(&mut self, now: Monotonic, surprise: Option<Surprise>, worth_waiting: Option<f64>) {
        self.recover();
        if let Some(burst) = &mut self.burst {
            burst.good += 1;
            if burst.good < BURST_GOOD {
                return;
            }
            self.burst = None;
            self.adapt(surprise, worth_waiting);
            if self.bursts == Bursts::AtEveryPoll {
                self.next = Some(self.varied(now, self.poll.to_duration()));
                return;
            }
            // What was learnt in a few seconds is good for less than the shortest interval.
            let interval = self.poll.to_duration();
            let is_news = worth_waiting.is_some_and(|wait| wait < interval.as_secs_f64());
            self.young = is_news && interval >= SHORT_ENOUGH;
            let share = if self.young { YOUNG } else { 1.0 };
            self.next = Some(now + self.poll.to_duration().mul_f64(share * (1.0 - SPREAD * self.random)));
            return;
        }
        let before = self.poll;
        self.adapt(surprise, worth_waiting);
        if self.poll < before {
            self.next = self.next.map(|next| next.min(now + self.poll.to_duration()));
        }
    }

    /// Chooses the interval for which it is worth waiting. A surprise is looked into at once: it may have been the packet, or
    /// the clock.
    fn adapt(&mut self, surprise: Option<Surprise>, worth_waiting: Option<f64>) {
        let shortest = self.shortest();
        if surprise.is_some_and(|surprise| surprise.is_great()) {
            self.poll = shortest;
            return;
        }
        let Some(wanted) = worth_waiting.map(|wait| (wait * self.share).log2()) else { return };
        let current = f64::from(self.poll.log2_seconds());
        if wanted >= current + 1.0 || wanted < current - HYSTERESIS {
            #[expect(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
            let steps = (wanted.floor() - current) as i8;
            self.poll = self.poll.step(steps, shortest, self.longest());
        }
    }

    /// The server asked for fewer requests (kiss code RATE).
    pub(super) fn handle_rate(&mut self, now: Monotonic) {
        // RFC 5905 section 7.4 has the interval lengthened at once, so counted from the one in force.
        self.poll = self.poll.step(1, self.min, self.ceiling());
        self.asked = Some(self.poll);
        self.good_since_asked = 0;
        if core::mem::take(&mut self.trying) {
            self.recovery = self.recovery.saturating_mul(2).min(SLOWEST_RECOVERY);
        }
        self.score = 0.0;
        self.rest_until(now + self.poll.to_duration().saturating_mul(RATE_PENALTY).min(self.ceiling().to_duration()));
    }

    /// Stays away until `until`, unless an administrator wants otherwise.
    pub(super) fn rest_until(&mut self, until: Monotonic) {
        self.burst = None;
        self.due = None;
        self.held = Some(until);
        if self.next.is_some() {
            self.next = Some(until);
        }
    }

    /// Asks no more until told to.
    pub(super) fn stop(&mut self) {
        self.burst = None;
        self.due = None;
        self.next = None;
    }

    /// An administrator wants it asked at `at` and, if `burst`, a few times in quick succession, whatever was said before.
    pub(super) fn wake(&mut self, at: Monotonic, burst: bool) {
        self.held = None;
        self.next = Some(self.next.unwrap_or(at));
        self.resume(at, burst);
    }

    /// Asks at `at` and, if `burst`, a few times in quick succession, unless it was told to stop or the server wants to be
    /// left alone.
    pub(super) fn resume(&mut self, at: Monotonic, burst: bool) {
        let Some(next) = self.next else { return };
        if self.held.is_some_and(|held| at < held) {
            return;
        }
        if burst {
            self.burst = Some(Burst::default());
        }
        self.due = None;
        self.next = Some(next.min(at));
    }

    /// Asks soon, out of turn: at a time that is told by `random`, uniform in 0..1, and in a burst unless there is to be none.
    /// Whether it does: not again before as much time has passed as these requests take at the shortest interval.
    pub(super) fn ask_early(&mut self, now: Monotonic, random: f64) -> bool {
        if !self.may_ask(now, self.early, random) {
            return false;
        }
        // A server that asked for fewer requests gets them one by one.
        let burst = self.bursts != Bursts::Never && self.asked.is_none();
        let cost = if burst { BURST_COST } else { 1 };
        self.early = Some(now + self.shortest().to_duration() * cost);
        self.resume(now + EARLY_SPREAD.mul_f64(random), burst);
        true
    }

    /// Asks soon, out of turn, once. Whether it does: one time in [`ONCE_COST`] shortest intervals, in the long run.
    pub(super) fn ask_once(&mut self, now: Monotonic, random: f64) -> bool {
        let cost = self.shortest().to_duration() * ONCE_COST;
        let spent = self.once.map_or(now, |spent| spent.max(now));
        let is_asked = self.burst.is_none() && spent <= now + cost * ONCE_SAVED && self.may_ask(now, None, random);
        if is_asked {
            self.once = Some(spent + cost);
            self.resume(now + EARLY_SPREAD.mul_f64(random), false);
        }
        is_asked
    }

    /// Another server is asked in the old one's place, which asked for nothing so far.
    pub(super) const fn forget_limits(&mut self) {
        self.early = None;
        self.once = None;
        self.due = None;
        self.owed = 0.0;
        self.held = None;
        (self.asked, self.good_since_asked) = (None, 0);
        (self.recovery, self.trying) = (RATE_RECOVERY, false);
    }

    fn may_ask(&self, now: Monotonic, not_before: Option<Monotonic>, random: f64) -> bool {
        let at = now + EARLY_SPREAD.mul_f64(random);
        let is_limited = not_before.is_some_and(|early| now < early);
        !is_limited && self.next.is_some() && self.held.is_none_or(|held| at >= held)
    }

    /// The clock or the path changed: measures at the shortest interval again, and at once if it may. Whether it may is as for
    /// [`ask_early`](Self::ask_early).
    pub(super) fn restart(&mut self, now: Monotonic, random: f64) -> bool {
        self.poll = self.shortest();
        self.score = 0.0;
        let is_early = self.ask_early(now, random);
        if !is_early {
            self.resume(now + self.poll.to_duration(), false);
        }
        is_early
    }

    fn recover(&mut self) {
        // Answers at longer intervals say nothing of what the server refused.
        if (self.asked.is_none() && !self.trying) || self.poll > self.shortest() {
            return;
        }
        self.good_since_asked = self.good_since_asked.saturating_add(1);
        if self.good_since_asked < self.recovery {
            return;
        }
        self.good_since_asked = 0;
        if let Some(asked) = self.asked {
            self.asked = Some(asked.step(-1, PollInterval::MIN, asked)).filter(|shorter| *shorter > self.min);
            self.poll = self.poll.min(self.longest());
            self.trying = true;
        } else {
            // What was refused once is granted now.
            (self.trying, self.recovery) = (false, RATE_RECOVERY);
        }
    }

    /// Adds to the score and turns whole points into steps.
    fn add(&mut self, points: f64) {
        self.score += points;
        if (0.0..1.0).contains(&self.score) {
            return;
        }
        let whole = self.score.floor();
        #[expect(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
        let steps = whole as i8;
        let (shortest, before) = (self.shortest(), self.poll);
        self.poll = self.poll.step(steps, shortest, self.longest());
        self.score = if self.poll == before && steps > 0 { 1.0_f64.next_down() } else { self.score - whole };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_what_is_worth_waiting_for() {
        let start = Monotonic::default();
        for (target, worth, expected) in [
            (8, 64.0, 6),
            (8, 127.0, 6),
            (8, 300.0, 8),
            (8, 1e6, 10),
            (8, 1.0, 6),
            (4, 64.0, 7),
            (16, 300.0, 7),
            (64, 600.0, 6),
        ] {
            let mut schedule = Schedule::new(poll(6), poll(10), Bursts::Never, start).aiming_at(target);
            schedule.handle_sample(start, None, Some(worth));
            assert_eq!(schedule.poll(), poll(expected), "{target} {worth}");
        }
    }

    #[test]
    fn an_interval_at_the_edge_does_not_come_and_go() {
        let start = Monotonic::default();
        let mut schedule = schedule();
        schedule.handle_sample(start, None, Some(520.0));
        for worth in [500.0, 520.0, 440.0, 530.0] {
            schedule.handle_sample(start, None, Some(worth));
            assert_eq!(schedule.poll(), poll(9), "{worth}");
        }
        schedule.handle_sample(start, None, Some(400.0));
        assert_eq!(schedule.poll(), poll(8));
    }

    #[test]
    fn what_is_lost_is_asked_for_again_soon_and_costs_no_more_requests() {
        let start = Monotonic::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut schedule = schedule();
        schedule.handle_sample(start, None, Some(1e6));
        schedule.handle_request(start, 0.0, Some(0));
        assert_eq!(schedule.next(), Some(at(64)), "if it is lost");
        schedule.handle_answer();
        assert_eq!(schedule.next(), Some(at(1024)), "in its turn");
        schedule.handle_request(at(1024), 0.0, Some(0));
        assert_eq!(schedule.next(), Some(at(1088)), "if it is lost");
        schedule.handle_request(at(1088), 0.0, Some(1));
        assert_eq!(schedule.next(), Some(at(1088 + 128)), "twice as long after the second");
        schedule.handle_answer();
        // It came 960 s before its turn, of which a quarter is given back each time.
        assert_eq!(schedule.next(), Some(at(1088 + 1024 + 240)));
        for number in 3..33 {
            let now = schedule.next().unwrap();
            assert!(now <= at(1024 * number), "request {number} of those that would have been made");
            schedule.handle_request(now, 0.0, Some(0));
            schedule.handle_answer();
            assert!(schedule.next().unwrap().since(now) <= Duration::from_secs(1024 + 180), "{number}");
        }
        assert!(schedule.next() > Some(at(1024 * 33 - 10)), "one more: {:?}", schedule.next());
    }

    #[test]
    fn who_never_answers_is_not_owed_for_ever() {
        let mut schedule = schedule();
        schedule.handle_sample(Monotonic::default(), None, Some(1e6));
        for number in 0..100 {
            schedule.handle_request(schedule.next().unwrap(), 0.0, Some(number / 2));
        }
        let mut gaps = Vec::new();
        for _ in 0..40 {
            let now = schedule.next().unwrap();
            schedule.handle_request(now, 0.0, Some(0));
            schedule.handle_answer();
            gaps.push(schedule.next().unwrap().since(now).as_secs() - 1024);
        }
        // Eight came within 1920 s, the time of two. All others waited for their turn.
        let put_off: u64 = gaps.iter().sum();
        assert!(gaps[0] == 512 && gaps[39] == 0 && put_off / 1024 == 6, "{put_off} {gaps:?}");
    }

    #[test]
    fn nothing_is_owed_for_another_server_or_for_what_was_not_sent() {
        let silent = |again: bool| {
            let mut schedule = schedule();
            schedule.handle_sample(Monotonic::default(), None, Some(1e6));
            for number in 0..8 {
                let now = schedule.next().unwrap();
                if again { schedule.handle_request(now, 0.0, Some(number / 2)) } else { schedule.skip(now, 0.0) }
            }
            schedule
        };
        let gap = |mut schedule: Schedule| {
            let now = schedule.next().unwrap();
            schedule.handle_request(now, 0.0, None);
            schedule.next().unwrap().since(now).as_secs()
        };
        let mut moved = silent(true);
        moved.forget_limits();
        moved.handle_answer();
        assert_eq!([gap(silent(true)), gap(moved), gap(silent(false))], [1536, 1024, 1024]);
    }

    #[test]
    fn a_server_that_wants_to_be_left_alone_is_whatever_comes_late() {
        let start = Monotonic::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut schedule = schedule();
        schedule.handle_request(at(9000), 0.0, Some(0));
        schedule.rest_until(at(20_000));
        schedule.handle_answer();
        assert_eq!(schedule.next(), Some(at(20_000)));
    }

    #[test]
    fn chance_only_lengthens_intervals() {
        let start = Monotonic::default();
        for random in [0.0, 0.5, 1.0] {
            let mut schedule = schedule();
            schedule.handle_request(start, random, None);
            let waited = schedule.next().unwrap().since(start).as_secs_f64();
            assert!((64.0..=66.0).contains(&waited), "{waited}");
        }
    }

    fn poll(log2: i8) -> PollInterval {
        PollInterval::new(log2).unwrap()
    }

    fn schedule() -> Schedule {
        Schedule::new(poll(6), poll(10), Bursts::Never, Monotonic::default())
    }

    #[test]
    fn a_steady_source_is_asked_less_and_less() {
        let mut schedule = schedule();
        for _ in 0..200 {
            schedule.handle_sample(Monotonic::default(), None, Some(1e6));
        }
        assert_eq!(schedule.poll(), poll(10));
    }

    #[test]
    fn a_surprise_shortens_the_interval_at_once() {
        let mut schedule = schedule();
        for _ in 0..200 {
            schedule.handle_sample(Monotonic::default(), None, Some(1e6));
        }
        let surprise =
            Surprise { error: 5e-3, deviation: 1e-4, jitter: 1e-4, extra_delay: 0.0, explained: false, samples: 8 };
        schedule.handle_sample(Monotonic::default(), Some(surprise), Some(1e6));
        assert_eq!(schedule.poll(), poll(6));
    }

    #[test]
    fn a_burst_ends_after_four_answers_or_eight_requests() {
        let start = Monotonic::default();
        let mut answered = Schedule::new(poll(6), poll(10), Bursts::AtStart, start);
        for _ in 0..4 {
            assert!(answered.in_burst());
            answered.handle_request(start, 0.75, None);
            assert!(answered.next().unwrap().since(start) <= Duration::from_millis(2_100));
            answered.handle_sample(start, None, Some(1.0));
        }
        assert!(!answered.in_burst() && answered.next().unwrap().since(start) == Duration::from_secs(20));

        let mut silent = Schedule::new(poll(6), poll(10), Bursts::AtStart, start);
        (0..8).for_each(|_| silent.handle_request(start, 0.5, None));
        assert!(!silent.in_burst() && silent.next().unwrap().since(start) >= Duration::from_secs(60));
    }

    #[test]
    fn a_source_may_be_asked_in_bursts_at_every_poll() {
        let start = Monotonic::default();
        let mut schedule = Schedule::new(poll(6), poll(10), Bursts::AtEveryPoll, start);
        for worth in [1.0, 1e6, 64.0] {
            for _ in 0..4 {
                schedule.handle_request(start, 0.5, None);
                assert!(schedule.in_burst() && schedule.next().unwrap().since(start) <= Duration::from_millis(2_100));
                schedule.handle_sample(start, None, Some(worth));
            }
            let waited = schedule.next().unwrap().since(start);
            assert!(!schedule.in_burst() && waited >= schedule.poll().to_duration(), "{worth}: {waited:?}");
        }
        schedule.handle_rate(start);
        schedule.handle_request(start, 0.5, None);
        assert!(!schedule.in_burst(), "not after a server asked for less");
    }

    #[test]
    fn rate_raises_one_step_and_is_forgotten_after_good_replies() {
        let mut schedule = schedule();
        schedule.handle_rate(Monotonic::default());
        assert_eq!(schedule.poll(), poll(7));
        for _ in 0..20 {
            schedule.handle_rate(Monotonic::default());
        }
        assert_eq!(schedule.poll(), poll(10), "never above the longest");
        for _ in 0..5 * RATE_RECOVERY {
            schedule.handle_sample(Monotonic::default(), None, Some(1.0));
        }
        assert_eq!(schedule.poll(), poll(6));
    }

    #[test]
    fn rate_is_heeded_beyond_the_longest_interval_and_what_it_refused_is_tried_less_and_less() {
        let start = Monotonic::default();
        let mut schedule = Schedule::new(poll(4), poll(4), Bursts::Never, start);
        // A server that wants 200 s.
        let is_refused = |schedule: &Schedule| schedule.poll() < poll(8);
        let (mut refused, mut halves) = (0, Vec::new());
        for number in 1..=2000 {
            if is_refused(&schedule) {
                refused += 1;
                schedule.handle_rate(start);
            } else {
                schedule.handle_sample(start, None, Some(1.0));
            }
            if number % 1000 == 0 {
                halves.push(core::mem::take(&mut refused));
            }
        }
        assert!(halves[0] < 16 && halves[1] <= 8, "{halves:?}");
        for _ in 0..20 {
            schedule.handle_rate(start);
        }
        assert_eq!(schedule.poll(), poll(10), "never above the ceiling");
        // It wants nothing any more.
        for _ in 0..1100 {
            schedule.handle_sample(start, None, Some(1.0));
        }
        assert_eq!((schedule.poll(), schedule.recovery), (poll(4), RATE_RECOVERY));
    }

    #[test]
    fn the_longest_interval_is_kept_to_again_whatever_is_worth_waiting_for() {
        let start = Monotonic::default();
        for worth in [1.0, 32.0, 320.0, 1e6] {
            let mut schedule = Schedule::new(poll(4), poll(5), Bursts::Never, start);
            (0..4).for_each(|_| schedule.handle_rate(start));
            assert_eq!(schedule.poll(), poll(8));
            (0..100).for_each(|_| schedule.handle_sample(start, None, Some(worth)));
            assert!(schedule.poll() <= poll(5), "{worth}: {:?}", schedule.poll());
        }
    }

    #[test]
    fn what_a_server_asked_for_is_forgotten_by_answers_at_that_interval_alone() {
        let start = Monotonic::default();
        let mut schedule = schedule();
        (0..2).for_each(|_| schedule.handle_rate(start));
        // A calm clock is asked for more seldom anyway.
        schedule.handle_sample(start, None, Some(1e6));
        (0..1000).for_each(|_| schedule.handle_sample(start, None, Some(1e6)));
        let surprise =
            Surprise { error: 1.0, deviation: 1e-4, jitter: 1e-4, extra_delay: 0.0, explained: false, samples: 8 };
        schedule.handle_sample(start, Some(surprise), Some(1e6));
        assert_eq!(schedule.poll(), poll(8));
        // It stays that interval when others are set.
        for (least, most) in [(4, 10), (7, 10), (4, 5), (6, 10)] {
            schedule.set_range(poll(least), poll(most), 8);
            assert_eq!(schedule.shortest(), poll(8), "{least} to {most}");
        }
        schedule.set_range(poll(9), poll(10), 8);
        assert_eq!(schedule.shortest(), poll(9));
        // Another server asked for nothing.
        schedule.forget_limits();
        schedule.set_range(poll(6), poll(10), 8);
        assert_eq!(schedule.shortest(), poll(6));
    }

    #[test]
    fn rate_lengthens_the_interval_in_force() {
        let start = Monotonic::default();
        let mut schedule = schedule();
        schedule.handle_sample(start, None, Some(256.0));
        schedule.handle_rate(start);
        assert_eq!(schedule.poll(), poll(9));
        // The wait is longer still, but never above the longest interval.
        assert_eq!(schedule.next().unwrap().since(start), Duration::from_secs(1024));
        schedule.handle_request(schedule.next().unwrap(), 0.0, Some(0));
        assert_eq!(schedule.next().unwrap().since(start), Duration::from_secs(1024 + 512));
    }

    #[test]
    fn only_an_administrator_wakes_a_source_that_rests() {
        let (start, later) = (Monotonic::default(), Monotonic::default() + Duration::from_secs(1));
        let mut schedule = schedule();
        schedule.stop();
        schedule.resume(start, true);
        schedule.rest_until(later);
        assert!(schedule.next().is_none() && !schedule.in_burst());
        schedule.wake(start, true);
        assert!(schedule.next() == Some(start) && schedule.in_burst());
        schedule.rest_until(later);
        assert!(!schedule.restart(start, 0.0));
        assert!(schedule.next() == Some(later) && !schedule.in_burst());
    }

    #[test]
    fn requests_out_of_turn_are_as_few_as_those_at_the_shortest_interval() {
        let start = Monotonic::default();
        for (bursts, restarts) in [
            (Bursts::Never, false),
            (Bursts::Never, true),
            (Bursts::AtStart, false),
            (Bursts::AtStart, true),
            (Bursts::AtEveryPoll, false),
        ] {
            let mut schedule = Schedule::new(poll(6), poll(6), bursts, start);
            let mut sent = 0;
            // Something happens every second of an hour, and nobody answers.
            for second in 0..3600 {
                let now = start + Duration::from_secs(second);
                if second >= 128 {
                    let is_early = if restarts { schedule.restart(now, 0.25) } else { schedule.ask_early(now, 0.25) };
                    assert!(!is_early || schedule.next().unwrap() <= now + Duration::from_millis(500));
                    assert!(!schedule.in_burst() || bursts != Bursts::Never);
                }
                if schedule.next().unwrap() <= now {
                    schedule.handle_request(now, 0.5, None);
                    sent += 1;
                }
            }
            let ordinary = if bursts == Bursts::AtEveryPoll { 8 * 3600 / 64 } else { 3600 / 64 + 8 };
            assert!(sent <= ordinary + 3600 / 64, "{bursts:?} {restarts}: {sent}");
            assert!(sent >= 3600 / 64, "{bursts:?} {restarts}: {sent}");
        }
    }

    #[test]
    fn a_server_that_asked_for_fewer_requests_gets_no_burst_out_of_turn() {
        let start = Monotonic::default();
        let mut schedule = Schedule::new(poll(6), poll(10), Bursts::AtStart, start);
        schedule.handle_rate(start);
        let later = start + Duration::from_secs(2000);
        assert!(schedule.ask_early(later, 1.0) && !schedule.in_burst());
        assert!(!schedule.ask_early(later + Duration::from_secs(127), 0.0), "two minutes is its shortest interval");
        assert!(schedule.ask_early(later + Duration::from_secs(128), 0.0));
    }
}
