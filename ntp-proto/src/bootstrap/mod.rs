//! Authenticated time with no time: whom to believe while nobody knows how late it is.
//!
//! A certificate can be judged only by a clock, and the clock is to come from behind certificates. [`Bootstrap`] decides when
//! this machine's clock will do to judge them, and what else has to come together where it will not:
//!
//! - What was signed was signed when it says, or later. A date that two operators have signed has passed; a certificate that
//!   is not valid *yet* proves that the clock is behind.
//! - Dates are deferred only for a clock that is no good for reasons found on this machine, never because something failed:
//!   whoever can make exchanges fail must gain nothing.
//! - The time then comes from a majority of the *configured* operators, who agree on one time at which the certificates of
//!   most are valid. The clock is set once, everything is exchanged again and judged strictly at that time, and only
//!   then is the time verified.
//!
//! No time that is not verified ever becomes a floor. RFC 8915 section 8.5 lists the parts; how they are put together, and
//! against whom it helps, is in `docs/first-boot.md`.
//!
//! One law of use: call a method that takes `&mut self`, then [`Bootstrap::poll_output`] until it returns
//! [`Output::Timeout`].

use core::time::Duration;
use std::collections::VecDeque;

use crate::{
    ids::SourceId,
    time::{Monotonic, NtpDuration, UnixTime},
};

mod chain;
mod clock;
mod messages;
mod operators;
mod quorum;
mod report;

pub use chain::{Chain, Judgement, MAX_SIGNED, Signatures, Window, keep_latest};
use clock::DAY;
pub use clock::{ClockFacts, Distrust, Floor, SetBy, Standing, judge};
pub use messages::{Alarm, Config, Expected, Output, Policy, Present, Reading, State};
pub use operators::Identity;
use operators::operators;
use quorum::{CONFIRMING_SAMPLES, FIRST_SAMPLES, Limits, Vote, Witness, signed_by_two, vote};
pub use report::{Missing, Report, SeenServer};

/// Most servers that are remembered.
pub const MAX_SEEN: usize = 64;

/// How long dates may be deferred at a stretch, and how long the strict pass after it may take.
const STRETCH: Duration = Duration::from_secs(600);
/// First and longest pause between two stretches, the second as powers of two of the first.
const PAUSE: Duration = Duration::from_secs(64);
const MAX_PAUSE: Duration = Duration::from_secs(1024);
/// How long after the time was verified signed dates are watched.
const WATCH: Duration = Duration::from_secs(86_400);
/// Two operators whose dates are this far ahead, in seconds, refute a time that was verified.
const AHEAD: i64 = 2 * DAY;
/// How far a majority may set the clock behind the last verified time, in seconds.
const REPAIR: i64 = DAY;
/// How many servers confirm a clock that the kernel counts as synchronized.
const TRUSTED_BY: usize = 2;
/// A clock this near to what is agreed on, in seconds, need not be set.
const NEAR: f64 = 1.0;

#[derive(Clone, Debug)]
struct Seen {
    /// Whom the certificate is for.
    server: String,
    identity: Identity,
    chain: Chain,
    /// Which entry of the configuration it serves.
    entry: usize,
    source: Option<SourceId>,
}

impl Seen {
    fn witness(&self, readings: &[Reading]) -> Witness<'_> {
        let reading = readings.iter().find(|reading| Some(reading.source) == self.source).copied();
        Witness { identity: &self.identity, chain: &self.chain, reading }
    }
}

fn count_operators(witnesses: &[Witness<'_>]) -> usize {
    let identities: Vec<&Identity> = witnesses.iter().map(|witness| witness.identity).collect();
    distinct(operators(&identities))
}

fn distinct(mut operators: Vec<usize>) -> usize {
    operators.sort_unstable();
    operators.dedup();
    operators.len()
}

/// Decides whether and whom to believe until the time is verified; see the module.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    config: Config,
    standing: Standing,
    state: State,
    expected: Vec<Expected>,
    seen: Vec<Seen>,
    outputs: VecDeque<Output>,
    /// The end of the stretch with deferred dates, of the strict pass, or of the watch.
    until: Option<Monotonic>,
    /// The end of the pause between two stretches.
    paused_until: Option<Monotonic>,
    /// How long the last of them is, since the time was verified.
    pause: Option<Duration>,
    last_vote: Vote,
}

impl Bootstrap {
    /// Judges the clock by what is known on this machine. A clock behind the floor is set to it: it was that late at least.
    #[must_use]
    pub fn new(config: Config, facts: &ClockFacts, present: Present) -> Self {
        let floor = config.floor.latest();
        let standing = judge(present.clock.seconds, &config.floor, facts);
        let mut outputs = VecDeque::new();
        if present.clock.seconds < floor {
            outputs.push_back(Output::SetClock(NtpDuration::from_seconds(between(present.clock, floor))));
        }
        Self {
            config,
            standing,
            state: State::Unknown,
            expected: Vec::new(),
            seen: Vec::new(),
            outputs,
            until: None,
            paused_until: None,
            pause: None,
            last_vote: Vote { agreeing: 0, offset: None },
        }
    }

    /// What is known of the time.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Sets what the configuration names, and what names turned out to be.
    pub fn set_expected(&mut self, expected: Vec<Expected>) {
        self.expected = expected;
    }

    /// How many operators there are, as far as is known: those that answered, and one for each server that did not.
    fn operators(&self) -> usize {
        let named = self.expected.iter().filter_map(|expected| expected.domain.clone());
        let named: Vec<Identity> = named.map(|domain| Identity { domain, key: None, addresses: Vec::new() }).collect();
        let used = || self.seen.iter().filter(|seen| seen.source.is_some());
        let identities: Vec<&Identity> = named.iter().chain(used().map(|seen| &seen.identity)).collect();
        let silent = |(entry, expected): (usize, &Expected)| match expected.domain {
            Some(_) => 0,
            None => expected.servers.saturating_sub(used().filter(|seen| seen.entry == entry).count()),
        };
        distinct(operators(&identities)) + self.expected.iter().enumerate().map(silent).sum::<usize>()
    }

    /// How many of them must agree: more than half, and two at least.
    fn needed(&self) -> usize {
        if self.config.single && self.operators() <= 1 { 1 } else { (self.operators() / 2 + 1).max(2) }
    }

    /// It is this late at least, in Unix seconds: what has passed, or what two operators have signed to have passed.
    #[must_use]
    pub fn earliest(&self) -> i64 {
        self.config.floor.latest().max(self.signed().unwrap_or(i64::MIN))
    }

    fn signed(&self) -> Option<i64> {
        let seen = self.seen.iter().map(|seen| (&seen.identity, seen.chain.evidence()));
        signed_by_two(seen, self.config.floor.ceiling())
    }

    /// As [`earliest`](Self::earliest), but a majority may take back a day of the last verified time: it was verified by a
    /// clock that can have been set wrong by somebody since.
    fn earliest_for_majority(&self) -> i64 {
        let Floor { build, distribution, verified } = self.config.floor;
        let repaired = Floor { build, distribution, verified: verified.map(|verified| verified - REPAIR) };
        repaired.latest().max(self.signed().unwrap_or(i64::MIN))
    }

    /// Whether the clock will not do, for reasons found on this machine.
    const fn is_distrusted(&self) -> bool {
        matches!(self.standing, Standing::Untrusted(_))
    }

    /// Whether what was said of the clock before anybody was asked may stand: it is synchronized, and nothing found since
    /// speaks against it.
    #[must_use]
    pub fn trusts_clock(&self) -> bool {
        self.standing == Standing::Trusted
    }

    /// Whether dates of certificates are deferred.
    fn defers(&self) -> bool {
        self.defers_names() && (self.operators() > 1 || self.config.single)
    }

    /// The same of signatures in DNS: with deferred dates names lead to operators at all, whose certificates decide.
    fn defers_names(&self) -> bool {
        self.state == State::Unknown
            && self.config.policy == Policy::Quorum
            && self.is_distrusted()
            && self.paused_until.is_none()
    }

    /// How certificates are to be judged in an exchange that begins now.
    #[must_use]
    pub fn judgement(&self, clock: UnixTime) -> Judgement {
        self.judged(clock, self.defers())
    }

    /// How signatures of DNS records are to be judged now.
    #[must_use]
    pub fn judgement_of_names(&self, clock: UnixTime) -> Judgement {
        self.judged(clock, self.defers_names())
    }

    fn judged(&self, clock: UnixTime, deferred: bool) -> Judgement {
        if deferred {
            return Judgement::Deferred { now: clock.seconds, floor: self.earliest_for_majority() };
        }
        let earliest = if self.state == State::Unknown { self.earliest() } else { i64::MIN };
        Judgement::At(if clock.seconds < earliest { UnixTime { seconds: earliest, nanos: 0 } } else { clock })
    }

    /// Takes what an exchange with `server` for this entry of the configuration showed: with `source`, that of a source that
    /// has keys from it; without, that of an exchange which failed by its date alone.
    pub fn handle_chain(
        &mut self,
        present: Present,
        entry: usize,
        server: &str,
        identity: Identity,
        chain: Chain,
        source: Option<SourceId>,
    ) {
        self.seen.retain(|seen| seen.server != server || (seen.source.is_some() && seen.source != source));
        if self.seen.len() >= MAX_SEEN {
            let oldest = self.seen.iter().position(|seen| seen.source.is_none()).unwrap_or(0);
            self.seen.remove(oldest);
        }
        self.seen.push(Seen { server: server.to_owned(), identity, chain, entry, source });
        match self.state {
            // In a pause nobody waits for a majority.
            State::Unknown if self.paused_until.is_some() => {}
            State::Unknown => {
                self.until.get_or_insert(present.monotonic + STRETCH);
            }
            State::Verified if self.until.is_some() => self.watch(present),
            State::Provisional | State::Verified => {}
        }
    }

    /// A source is no longer used; what its chain says of the time stays.
    pub fn handle_gone(&mut self, source: SourceId) {
        self.seen.iter_mut().filter(|seen| seen.source == Some(source)).for_each(|seen| seen.source = None);
    }

    /// The clock may be wrong by any amount from now on: the machine was put back to an earlier state, or copied.
    pub fn handle_restored(&mut self) {
        self.distrust(Distrust::Restored);
    }

    /// An administrator does not believe the last verified time: it is no floor any more, and all begins anew.
    pub fn handle_floor_reset(&mut self) {
        self.config.floor.verified = None;
        self.distrust(Distrust::Administrator);
    }

    fn distrust(&mut self, why: Distrust) {
        self.standing = Standing::Untrusted(why);
        self.paused_until = None;
        self.until = None;
        self.begin_again(State::Unknown);
    }

    /// Everything is asked again, and what was seen counts as evidence only.
    fn begin_again(&mut self, state: State) {
        self.seen.iter_mut().for_each(|seen| seen.source = None);
        self.last_vote = Vote { agreeing: 0, offset: None };
        self.outputs.push_back(Output::ExchangeAgain);
        self.enter(state);
    }

    fn enter(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.outputs.push_back(Output::Now(state));
        }
    }

    /// Takes what sources say now, and whether selection has found a time among those it knows.
    pub fn update(&mut self, present: Present, readings: &[Reading], selected: bool) {
        let all: Vec<Witness<'_>> = self.seen.iter().map(|seen| seen.witness(readings)).collect();
        let judged_at = present.clock.seconds.max(self.earliest());
        let strict: Vec<Witness<'_>> = all
            .iter()
            .filter(|witness| witness.reading.is_some() && witness.chain.window.contains(judged_at, 0))
            .copied()
            .collect();
        let limits = Limits {
            earliest: self.earliest_for_majority(),
            latest: self.config.floor.ceiling(),
            needed: self.needed(),
            samples: if self.state == State::Provisional { CONFIRMING_SAMPLES } else { FIRST_SAMPLES },
            now: present.clock.seconds,
        };
        let confirmed = |vote: &Vote| vote.offset.is_some_and(|offset| offset.abs() <= NEAR);
        match self.state {
            State::Verified => {}
            State::Unknown if self.defers() => {
                // Where a majority was judged at this very time already, a strict pass would be the same again.
                let (deferred, strict) = (vote(&all, &limits), vote(&strict, &limits));
                self.last_vote = deferred;
                match deferred.offset {
                    Some(_) if confirmed(&strict) => self.verify(present),
                    Some(offset) => self.agree(present, offset),
                    None => {}
                }
            }
            State::Unknown => {
                let servers = self.standing == Standing::Trusted || self.config.min_agreeing.is_some();
                let passed = if servers && !self.is_distrusted() { strict.len() } else { count_operators(&strict) };
                self.last_vote = Vote { agreeing: passed, offset: None };
                if selected && passed >= self.needed_by_clock() {
                    self.verify(present);
                }
            }
            State::Provisional => {
                self.last_vote = vote(&strict, &limits);
                if confirmed(&self.last_vote) {
                    self.verify(present);
                }
            }
        }
    }

    /// How many confirm a clock by which their certificates are valid.
    fn needed_by_clock(&self) -> usize {
        let servers = self.expected.iter().map(|expected| expected.servers).sum::<usize>();
        let majority = if self.operators() > 1 { self.needed() } else { 1 };
        let enough = match self.standing {
            Standing::Trusted => self.config.min_agreeing.unwrap_or(TRUSTED_BY),
            Standing::Plausible => self.config.min_agreeing.unwrap_or(majority),
            Standing::Untrusted(_) => return majority,
        };
        enough.min(servers).max(1)
    }

    /// A majority agrees that the clock is behind by this much, in seconds.
    fn agree(&mut self, present: Present, offset: f64) {
        self.until = Some(present.monotonic + STRETCH);
        if offset.abs() > NEAR {
            self.outputs.push_back(Output::SetClock(NtpDuration::from_seconds(offset)));
        }
        self.begin_again(State::Provisional);
    }

    fn verify(&mut self, present: Present) {
        let invalid = |seen: &&Seen| !seen.chain.window.contains(present.clock.seconds, 0);
        let refused: Vec<SourceId> = self.seen.iter().filter(invalid).filter_map(|seen| seen.source).collect();
        self.outputs.extend(refused.into_iter().map(Output::Refuse));
        self.until = Some(present.monotonic + WATCH);
        self.paused_until = None;
        self.pause = None;
        self.enter(State::Verified);
        self.watch(present);
    }

    /// Two operators that signed what is far ahead of a verified time refute it.
    fn watch(&mut self, present: Present) {
        if self.signed().is_some_and(|signed| signed > present.clock.seconds.saturating_add(AHEAD)) {
            self.outputs.push_back(Output::Alarm(Alarm::Refuted));
            self.distrust(Distrust::Refuted);
        }
    }

    /// Takes word that time has passed.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
            self.begin_again(State::Unknown);
        }
        if self.until.is_none_or(|until| now < until) {
            return;
        }
        self.until = None;
        match self.state {
            // The watch is over.
            State::Verified => {}
            State::Unknown if !self.defers() => self.outputs.push_back(Output::Alarm(Alarm::NotValid)),
            State::Unknown | State::Provisional => {
                let failed = if self.state == State::Unknown { Alarm::NoQuorum } else { Alarm::NotConfirmed };
                self.outputs.push_back(Output::Alarm(failed));
                let pause = self.pause.map_or(PAUSE, |last| last.saturating_mul(2).min(MAX_PAUSE));
                self.pause = Some(pause);
                self.paused_until = Some(now + pause);
                self.begin_again(State::Unknown);
            }
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Output {
        let next = [self.until, self.paused_until].into_iter().flatten().min();
        self.outputs.pop_front().unwrap_or(Output::Timeout(next))
    }
}

/// Seconds from `from` to `to`.
#[expect(clippy::cast_precision_loss, reason = "to some milliseconds in a million years")]
fn between(from: UnixTime, to: i64) -> f64 {
    to.saturating_sub(from.seconds) as f64 - f64::from(from.nanos) * 1e-9
}

#[cfg(test)]
mod tests;
