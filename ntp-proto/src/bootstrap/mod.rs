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

mod by_clock;
mod chain;
mod clock;
mod evidence;
mod messages;
mod operators;
mod quorum;
mod report;

pub use chain::{Chain, Judgement, MAX_SIGNED, Signatures, Window, keep_latest};
use clock::DAY;
pub use clock::{ClockFacts, Distrust, Floor, SetBy, Standing, judge, late_reading, resumed};
use evidence::Evidence;
pub use messages::{Alarm, Config, Expected, Output, Policy, Present, Reading, State};
pub use operators::Identity;
use quorum::{Ballot, CONFIRMING_SAMPLES, FIRST_SAMPLES, Limits, Vote, Witness, unix, vote};
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
/// How long after its end, in seconds, a certificate still counts that was judged by another clock than this one: records that
/// led to a server are used for a day.
const OUTDATED: i64 = DAY;
/// Seconds by which a time that was agreed on may be early, for clock and offset are rounded down.
const ROUNDED: i64 = 2;
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

/// Decides whether and whom to believe until the time is verified; see the module.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    config: Config,
    standing: Standing,
    /// The kernel counts the clock as synchronized, whoever told it so.
    synchronized: bool,
    state: State,
    expected: Vec<Expected>,
    /// Who was seen since all was asked anew.
    seen: Vec<Seen>,
    evidence: Evidence,
    outputs: VecDeque<Output>,
    /// The end of the stretch with deferred dates, of the strict pass, or of the watch.
    until: Option<Monotonic>,
    /// By when somebody should have answered, as long as nobody has.
    unheard_until: Option<Monotonic>,
    /// The end of the pause between two stretches.
    paused_until: Option<Monotonic>,
    /// How long the last of them is, since the time was verified.
    pause: Option<Duration>,
    last_vote: Vote,
}

impl Bootstrap {
    /// Judges the clock by what is known on this machine. A clock behind the floor is set to it, since it was that late at
    /// least, or to a hardware clock that says more and that the kernel did not read.
    /// A last verified time that nobody would believe now is forgotten.
    #[must_use]
    pub fn new(mut config: Config, facts: &ClockFacts, present: Present) -> Self {
        config.floor.verified = config.floor.verified.filter(|at| *at <= config.floor.ceiling());
        let now = present.clock.seconds;
        let reading = late_reading(now, &config.floor, facts);
        let standing = match reading {
            Some(reading) => {
                let set_by = SetBy::HardwareClock { voltage_low: false };
                judge(reading, &config.floor, &ClockFacts { set_by, ..*facts })
            }
            None => judge(now, &config.floor, facts),
        };
        let start = reading.unwrap_or_else(|| config.floor.latest());
        let mut outputs = VecDeque::new();
        if now < start {
            outputs.push_back(Output::SetClock(NtpDuration::from_seconds(between(present.clock, start))));
        }
        Self {
            config,
            standing,
            synchronized: facts.synchronized,
            state: State::Unknown,
            expected: Vec::new(),
            seen: Vec::new(),
            evidence: Evidence::default(),
            outputs,
            until: None,
            unheard_until: None,
            paused_until: None,
            pause: None,
            last_vote: Vote::NONE,
        }
    }

    /// What is known of the time.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Sets what the configuration names, what names turned out to be, and who has been absent.
    pub fn set_expected(&mut self, expected: Vec<Expected>) {
        self.expected = expected;
    }

    /// How many operators there are: the owners of the names that are configured. Nothing that servers say or prove makes them
    /// fewer: what they share gives them one voice, but it may be shown by one in the place of another.
    fn operators(&self) -> usize {
        let mut owners: Vec<&str> = self.counted().filter_map(|expected| expected.operator.as_deref()).collect();
        owners.sort_unstable();
        owners.dedup();
        owners.len()
    }

    /// The entries whose majority is needed. One that was absent is among them again once it answers.
    fn counted(&self) -> impl Iterator<Item = &Expected> {
        let answers = |entry| self.seen.iter().any(|seen| seen.entry == entry && seen.source.is_some());
        let all = self.expected.iter().enumerate().filter(|(_, expected)| expected.servers > 0);
        all.filter(move |(entry, expected)| self.is_distrusted() || !expected.absent || answers(*entry))
            .map(|(_, expected)| expected)
    }

    /// Who answers for this server, by the configuration.
    fn operator_of(&self, seen: &Seen) -> Option<String> {
        self.expected.get(seen.entry).and_then(|expected| expected.operator.clone())
    }

    /// Those who may vote, and what they say. Servers that only addresses lead to have no voice beside others.
    fn witnesses(&self, readings: &[Reading]) -> Vec<Witness<'_>> {
        let nobody_named = self.expected.iter().all(|expected| expected.operator.is_none());
        let witness = |seen| {
            let Seen { identity, chain, source, .. }: &Seen = seen;
            let domain = self.operator_of(seen).or_else(|| nobody_named.then(|| identity.domain.clone()))?;
            let reading = readings.iter().find(|reading| Some(reading.source) == *source).copied();
            // A server that a pool names, too, may be one that is configured for itself.
            let key = identity.key.filter(|_| identity.domain == domain);
            let identity = Identity { domain, key };
            Some(Witness { identity, chain, proven: source.is_some(), reading })
        };
        self.seen.iter().filter_map(witness).collect()
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
        self.evidence.signed_by_two()
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
    pub const fn may_stand(&self) -> bool {
        self.synchronized && !self.is_distrusted()
    }

    /// Whether dates of certificates are deferred.
    fn defers(&self) -> bool {
        self.defers_names() && self.operators() > usize::from(!self.config.single)
    }

    /// Whether dates would be deferred if more operators were configured.
    fn lacks_operators(&self) -> bool {
        self.defers_names() && !self.defers() && self.operators() == 1
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

    /// The same of addresses, where the system's resolver has none. They need no proof, since a server has to prove who it
    /// is by the name that is configured; and a resolver that validates by the same wrong clock must not keep this machine from
    /// ever setting it.
    #[must_use]
    pub fn judgement_of_addresses(&self, clock: UnixTime) -> Judgement {
        self.judged(clock, self.state != State::Verified)
    }

    fn judged(&self, clock: UnixTime, deferred: bool) -> Judgement {
        if deferred {
            return Judgement::Deferred { now: clock.seconds, floor: self.earliest_for_majority() };
        }
        let earliest = if self.state == State::Unknown { self.earliest() } else { i64::MIN };
        Judgement::At(if clock.seconds < earliest { UnixTime { seconds: earliest, nanos: 0 } } else { clock })
    }

    /// Takes what an exchange with `server` for this entry of the configuration showed: with `source`, that of a source that
    /// has keys from it; without, that of an exchange which failed, whose server has not proven to have the certificate's
    /// key.
    pub fn handle_chain(
        &mut self,
        present: Present,
        entry: usize,
        server: &str,
        identity: Identity,
        chain: Chain,
        source: Option<SourceId>,
    ) {
        self.unheard_until = None;
        let ceiling = self.config.floor.ceiling();
        self.evidence.add(server, &identity, &chain.signed, ceiling);
        // Whoever signs records names as many servers as he likes, and is one.
        if let Some(domain) = self.expected.get(entry).and_then(|expected| expected.operator.clone()) {
            let name = format!("records of {domain}");
            self.evidence.add(&name, &Identity { domain, key: None }, &chain.records, ceiling);
        }
        let judged_at = self.judged_at(present);
        let source = match source {
            // It was judged while dates were deferred, or by a clock that has been set since.
            Some(source) if !self.defers() && !chain.window.contains(judged_at, OUTDATED) => {
                self.outputs.push_back(Output::Refuse(source));
                None
            }
            source => source,
        };
        let is_replaced = |seen: &Seen| match seen.source {
            Some(_) => seen.source == source,
            None => seen.server == server,
        };
        self.seen.retain(|seen| !is_replaced(seen));
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
            State::Verified if self.until.is_some() => self.watch(present.clock.seconds),
            State::Provisional | State::Verified => {}
        }
    }

    /// Takes dates that the owner of a name has signed in its records, which fail by their dates alone: they may show that the
    /// clock is behind.
    pub fn handle_signed(&mut self, present: Present, name: &str, domain: String, dates: &[i64]) {
        let identity = Identity { domain, key: None };
        self.evidence.add(name, &identity, dates, self.config.floor.ceiling());
        if self.state == State::Verified && self.until.is_some() {
            self.watch(present.clock.seconds);
        }
    }

    /// Others can be reached from now on, so that somebody should answer before long.
    pub fn handle_network(&mut self, now: Monotonic) {
        if self.state == State::Unknown && self.paused_until.is_none() && self.seen.is_empty() {
            self.unheard_until.get_or_insert(now + STRETCH);
        }
    }

    /// A source is no longer used; the dates that were signed for it stay.
    pub fn handle_gone(&mut self, source: SourceId) {
        self.seen.retain(|seen| seen.source != Some(source));
    }

    /// Takes the time that a verified clock says now, less its error bound, in Unix seconds, and returns what may be saved as
    /// the last verified time: that never goes back while the clock does.
    pub fn raise_floor(&mut self, at: i64) -> i64 {
        let verified = self.config.floor.verified.unwrap_or(i64::MIN).max(at.min(self.config.floor.ceiling()));
        self.config.floor.verified = Some(verified);
        verified
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

    /// Everything is asked again, and of what was seen only dates that have passed stay, and what does not hang on the time.
    fn begin_again(&mut self, state: State) {
        self.seen.retain(|seen| seen.source.is_some() && seen.chain.is_timeless());
        self.last_vote = Vote::NONE;
        self.outputs.push_back(Output::ExchangeAgain);
        self.enter(state);
    }

    fn enter(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.outputs.push_back(Output::Now(state));
        }
    }

    /// What certificates are to be valid at, in Unix seconds, where dates are not deferred.
    fn judged_at(&self, present: Present) -> i64 {
        let earliest = if self.state == State::Unknown { self.earliest() } else { i64::MIN };
        present.clock.seconds.max(earliest)
    }

    /// Takes what sources say now, and the one whose time would be followed among those that selection knows.
    pub fn update(&mut self, present: Present, readings: &[Reading], followed: Option<SourceId>) {
        if self.state == State::Verified {
            return;
        }
        let all = self.witnesses(readings);
        let judged_at = self.judged_at(present);
        let is_valid =
            |witness: &&Witness<'_>| witness.reading.is_some() && witness.chain.window.contains(judged_at, 0);
        let strict: Vec<Witness<'_>> = all.iter().filter(is_valid).cloned().collect();
        let limits = Limits {
            earliest: self.earliest_for_majority(),
            latest: self.config.floor.ceiling(),
            needed: self.needed(),
            samples: if self.state == State::Provisional { CONFIRMING_SAMPLES } else { FIRST_SAMPLES },
            now: present.clock.seconds,
            ballot: Ballot::Setting,
        };
        let confirmed = |vote: &Vote| vote.offset.filter(|offset| offset.abs() <= NEAR);
        match self.state {
            State::Verified => {}
            State::Unknown if self.defers() => {
                // Where a majority was judged at this very time already, a strict pass would be the same again.
                let (deferred, strict) = (vote(&all, &limits), vote(&strict, &limits));
                self.last_vote = deferred;
                match (deferred.offset, confirmed(&strict)) {
                    (Some(_), Some(offset)) => self.verify(present, offset),
                    (Some(offset), None) => self.agree(present, offset),
                    (None, _) => {}
                }
            }
            State::Unknown => {
                let followed = readings.iter().find(|reading| Some(reading.source) == followed);
                let [few, majority] = self.limits_by_clock(limits);
                let (by_few, by_majority) = (vote(&strict, &few), vote(&strict, &majority));
                self.last_vote = by_few;
                // A few confirm a clock, they do not move it.
                let is_confirmed = |vote: &Vote, reach: f64| {
                    let offset = vote.offset.filter(|offset| offset.abs() <= reach)?;
                    let is_followed = (followed?.offset - offset).abs() <= vote.distance + NEAR;
                    is_followed.then_some(offset)
                };
                let confirmed =
                    is_confirmed(&by_few, self.reach_of_few()).or_else(|| is_confirmed(&by_majority, f64::INFINITY));
                if let Some(offset) = confirmed {
                    self.verify(present, offset);
                }
            }
            State::Provisional => {
                let vote = vote(&strict, &limits);
                self.last_vote = vote;
                if let Some(offset) = confirmed(&vote) {
                    self.verify(present, offset);
                }
            }
        }
    }

    /// A majority agrees that the clock is behind by this much, in seconds.
    fn agree(&mut self, present: Present, offset: f64) {
        self.until = Some(present.monotonic + STRETCH);
        if offset.abs() > NEAR {
            self.outputs.push_back(Output::SetClock(NtpDuration::from_seconds(offset)));
        }
        self.begin_again(State::Provisional);
    }

    /// Those who are needed confirm that the clock is behind by this much, in seconds.
    fn verify(&mut self, present: Present, offset: f64) {
        let at = unix(present.clock.seconds, offset);
        if present.clock.seconds < self.earliest() && offset > NEAR {
            // What is proven to be behind is set right, however the clock is to be kept from now on.
            self.outputs.push_back(Output::SetClock(NtpDuration::from_seconds(offset)));
        }
        let invalid = |seen: &&Seen| !seen.chain.window.contains(at, ROUNDED);
        let refused: Vec<SourceId> = self.seen.iter().filter(invalid).filter_map(|seen| seen.source).collect();
        self.outputs.extend(refused.into_iter().map(Output::Refuse));
        // A majority may have taken back a day of it.
        self.config.floor.verified = self.config.floor.verified.map(|verified| verified.min(at));
        self.until = Some(present.monotonic + WATCH);
        self.paused_until = None;
        self.pause = None;
        self.enter(State::Verified);
        self.watch(at);
    }

    /// Two operators that signed what is far ahead of a verified time, in Unix seconds, refute it.
    fn watch(&mut self, clock: i64) {
        if self.signed().is_some_and(|signed| signed > clock.saturating_add(AHEAD)) {
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
        if self.unheard_until.is_some_and(|until| until <= now) {
            self.unheard_until = None;
            self.outputs.push_back(Output::Alarm(Alarm::NobodyAnswers));
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
        let next = [self.until, self.unheard_until, self.paused_until].into_iter().flatten().min();
        self.outputs.pop_front().unwrap_or(Output::Timeout(next))
    }
}

/// Seconds from `from` to `to`.
#[expect(clippy::cast_precision_loss, reason = "to some milliseconds in a million years")]
#[must_use]
pub fn between(from: UnixTime, to: i64) -> f64 {
    to.saturating_sub(from.seconds) as f64 - f64::from(from.nanos) * 1e-9
}

#[cfg(test)]
mod tests;
