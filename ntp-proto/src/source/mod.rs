//! One server that we ask for the time: what was sent to it, what came back, and what we make of that.

use core::time::Duration;

use chacha20::ChaCha12Rng;
use rand_core::Rng;

use crate::{
    filter::{Filter, SourceFilter, Surprise},
    ids::{Leap, ReferenceId, SourceId, StampKind, Trust},
    refclock::Refclock,
    sample::{Exchange, Sample, ServerState, Shift},
    select::SelectOptions,
    time::{Monotonic, NtpDuration, NtpTimestamp, PollInterval},
    wire::{Kiss, SymmetricKey},
};

mod ask;
mod association;
mod exchange;
mod reach;
mod reference;
mod request;
mod residence;
mod response;
mod rules;
mod schedule;
mod tune;

pub use association::{Association, KeysReason, NtsKeys};
pub use exchange::Refined;
pub use reach::Reach;
pub use request::{Datagram, TxToken};
pub use response::{Refusal, RefusalCounts};
pub use rules::SampleRules;
pub use schedule::{Bursts, Schedule};
pub use tune::Tune;

use exchange::{InFlight, Previous};
use residence::Residence;

/// Requests without an answer after which a source counts as lost.
const LOST_AFTER: u32 = 8;
/// Requests without an answer after which the time to the next is doubled: whether a server is gone is found out in half an hour.
const MISSES_A_STEP: u32 = 2;
/// For how long an answer is waited for that was asked for because of another source's surprise: such requests leave within two seconds.
const COMPARED: Duration = Duration::from_secs(4);
/// Refusals (DENY, RSTR) in a row after which an unauthenticated source is believed.
const DENIALS_BELIEVED: u8 = 3;

/// How a source's packets are authenticated.
#[derive(Debug)]
pub enum Authentication {
    /// Not at all.
    None,
    /// With a key shared by hand.
    Symmetric(SymmetricKey),
    /// With NTS; the keys come later, by [`Engine::set_keys`](crate::engine::Engine::set_keys).
    Nts,
}

/// What is known of a source beforehand.
#[derive(Debug)]
pub struct SourceConfig {
    /// How the server is named in our own packets if we follow it: its IPv4 address, or the first four bytes of the MD5
    /// of its IPv6 address (RFC 5905 section 7.3).
    pub reference_id: ReferenceId,
    /// Shortest poll interval.
    pub min_poll: PollInterval,
    /// Longest poll interval.
    pub max_poll: PollInterval,
    /// When it is asked several times in quick succession.
    pub bursts: Bursts,
    /// Use interleaved mode (RFC 9769) if the server can.
    pub interleaved: bool,
    /// Protocol version, 3 or 4.
    pub version: u8,
    /// How packets are authenticated.
    pub authentication: Authentication,
    /// What vouches for the server.
    pub trust: Trust,
    /// How it may be used.
    pub options: SelectOptions,
    /// What is asked of its measurements.
    pub rules: SampleRules,
}

/// Why a source should be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It does not answer.
    Unreachable,
    /// It told us to stay away.
    Denied,
    /// It answers, with a time that cannot be used.
    Unusable,
}

/// What a datagram did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// A new sample is in the filter.
    Sampled,
    /// The server sent a kiss code instead of the time.
    Kissed(Kiss),
}

/// What becomes of the newest sample: its exact version, or nothing because that is not fit for use.
type Refinement = Option<Sample>;

/// A sample that may be used, and what was expected of it.
type JudgedSample = (Sample, Option<Surprise>);

/// Something a source wants done.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send this.
    Transmit(TxToken, Datagram),
    /// Exchange keys.
    NeedKeys(KeysReason),
    /// Find another server.
    Lost(Loss),
    /// Take its new sample into account.
    Sampled,
}

/// Packets of one source, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketCounts {
    /// Requests sent.
    pub sent: u64,
    /// Datagrams received.
    pub received: u64,
    /// Of those, replies to our requests.
    pub valid: u64,
    /// Of those, replies that gave a sample.
    pub good: u64,
    /// Requests stamped by the kernel.
    pub stamped_sent: u64,
    /// Datagrams stamped by the kernel.
    pub stamped_received: u64,
    /// Requests stamped by the interface.
    pub hardware_sent: u64,
    /// Datagrams stamped by the interface.
    pub hardware_received: u64,
    /// Replies in interleaved mode.
    pub interleaved: u64,
}

/// What the last good reply said, for display.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LastReply {
    /// When it came.
    pub at: Monotonic,
    /// Leap warning.
    pub leap: Leap,
    /// Its reference identifier.
    pub reference_id: ReferenceId,
    /// Its reference timestamp.
    pub reference_time: NtpTimestamp,
    /// Its poll interval, log2 seconds, as the server gives it.
    pub poll: i8,
    /// What it says of the server's clock.
    pub server: ServerState,
    /// The exchange it ended, unless it told impossible times. In interleaved mode T3 is what the server usually takes after T2.
    pub exchange: Option<Exchange>,
    /// In interleaved mode the exchange before, of which it tells T3.
    pub refined: Option<Refined>,
    /// Whether it was interleaved.
    pub interleaved: bool,
    /// Who stamped the request.
    pub sent_stamp: StampKind,
    /// Who stamped the reply.
    pub received_stamp: StampKind,
}

/// A datagram's arrival.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// When, by the monotonic clock.
    pub(crate) now: Monotonic,
    /// When, on the engine's timescale.
    pub(crate) received: NtpTimestamp,
    /// Who stamped it.
    pub(crate) stamp: StampKind,
    /// When by the kernel, on the engine's timescale, if that is not who stamped it.
    pub(crate) kernel: Option<NtpTimestamp>,
    /// What the stamp may be wrong by, beside what its kind may, in seconds.
    pub(crate) error: f64,
    /// How a server that follows this machine would name it.
    pub(crate) own_reference: ReferenceId,
}

/// One source. See the engine for the order of calls.
#[derive(Debug)]
pub struct Source {
    id: SourceId,
    config: SourceConfig,
    association: Association,
    schedule: Schedule,
    reach: Reach,
    filter: SourceFilter,
    sequence: u32,
    in_flight: Option<InFlight>,
    previous: Option<Previous>,
    /// Timeouts in a row since the server last answered, with whatever it was.
    unanswered: u32,
    /// How many times as much is told by all sources together as by this one.
    redundancy: f64,
    /// Interleaved replies in a row that were no use.
    interleaved_failures: u8,
    /// How long the server keeps requests.
    residence: Residence,
    /// Samples in a row that were refused for a delay that is unusual.
    delayed: u8,
    /// When a measurement was last off by more than chance explains.
    surprised: Option<Monotonic>,
    /// When it was asked because another source's was, unless it answered since.
    compared: Option<Monotonic>,
    last: Option<LastReply>,
    unsynchronized: bool,
    looping: bool,
    /// How this machine would be named by whoever follows it on the way that the last reply came.
    own_reference: Option<ReferenceId>,
    denials: u8,
    counts: PacketCounts,
    refusals: RefusalCounts,
    last_refusal: Option<Refusal>,
    /// The device that it is, if it is no server.
    refclock: Option<Refclock>,
}

impl Source {
    pub(crate) fn new(id: SourceId, mut config: SourceConfig, first: Monotonic) -> Self {
        let authentication = core::mem::replace(&mut config.authentication, Authentication::None);
        Self {
            id,
            association: Association::new(authentication),
            schedule: Schedule::new(config.min_poll, config.max_poll, config.bursts, first)
                .aiming_at(config.rules.poll_target),
            filter: SourceFilter::with_memory(config.rules.min_samples, config.rules.max_samples),
            config,
            reach: Reach::default(),
            sequence: 0,
            in_flight: None,
            previous: None,
            unanswered: 0,
            redundancy: 1.0,
            interleaved_failures: 0,
            residence: Residence::default(),
            delayed: 0,
            surprised: None,
            compared: None,
            last: None,
            unsynchronized: false,
            looping: false,
            own_reference: None,
            denials: 0,
            counts: PacketCounts::default(),
            refusals: RefusalCounts::default(),
            last_refusal: None,
            refclock: None,
        }
    }

    /// Takes fresh keys and cookies from a key exchange, with what vouched for the server in it; others are wanted at
    /// `old_at`.
    pub(crate) fn set_keys(&mut self, now: Monotonic, keys: NtsKeys, trust: Trust, old_at: Monotonic) {
        self.association.set_keys(keys, old_at);
        self.config.trust = trust;
        // What is under way was sealed with the old keys: its answer, a NAK perhaps, says nothing of the new ones.
        self.in_flight = None;
        self.schedule.resume(now, self.filter.latest().is_none() && self.config.bursts != Bursts::Never);
    }

    /// Asks again soon, `burst` several times: an administrator wants it.
    pub(crate) fn refresh(&mut self, now: Monotonic, burst: bool) {
        let burst = burst && self.refclock.is_none();
        self.association.forget_backoff();
        self.schedule.wake(now, burst);
    }

    /// The clock jumped: stamps from before may still come, and nothing tells them from others, so the exchange they belong to
    /// is given up.
    pub(crate) fn forget_stamps(&mut self) {
        self.in_flight = None;
        self.previous = None;
    }

    /// Asks soon whether the clock is right, at a time that is told by `random` (uniform in 0..1), unless that was done not long
    /// ago or it is not to be asked.
    pub(crate) fn recheck(&mut self, now: Monotonic, random: f64) {
        if self.refclock.is_none() {
            self.schedule.ask_early(now, random);
        }
    }

    /// Asks soon, once, whether another source that was surprised is right; whether it does. Not if that was done not long ago, if
    /// it has just answered or does not answer, nor if nothing follows from what it says.
    pub(crate) fn compare(&mut self, now: Monotonic, random: f64) -> bool {
        let is_fresh = self.last.is_some_and(|last| now < last.at + COMPARED);
        let is_of_use = !is_fresh && self.unanswered == 0 && !self.config.options.noselect && self.refclock.is_none();
        let is_asked = is_of_use && self.schedule.ask_once(now, random);
        if is_asked {
            self.compared = Some(now);
        }
        is_asked
    }

    /// Until when its answer is waited for, if it was asked because of another source's surprise and has not answered yet.
    pub(crate) fn compared_until(&self) -> Option<Monotonic> {
        self.compared.map(|since| since + COMPARED)
    }

    /// When a measurement was last off by more than chance explains.
    pub(crate) const fn surprised(&self) -> Option<Monotonic> {
        self.surprised
    }

    /// All sources together tell `redundancy` times as much as this one alone.
    pub(crate) const fn set_redundancy(&mut self, redundancy: f64) {
        self.redundancy = redundancy;
    }

    /// Asks no more until [`refresh`](Self::refresh).
    pub(crate) fn stop(&mut self) {
        self.schedule.stop();
        self.in_flight = None;
    }

    /// The server is asked at another address.
    pub(crate) fn relocate(&mut self, now: Monotonic, reference_id: ReferenceId) {
        self.config.reference_id = reference_id;
        self.schedule.forget_limits();
        self.restart(now, 0.0);
    }

    /// The clock or the path jumped: what was measured before does not count. It is measured anew at a time that is told by
    /// `random`, uniform in 0..1.
    pub(crate) fn restart(&mut self, now: Monotonic, random: f64) {
        self.filter.reset();
        self.residence = Residence::default();
        self.forget_stamps();
        if let Some(refclock) = &mut self.refclock {
            refclock.reset();
        } else if self.schedule.restart(now, random) {
            self.association.forget_backoff();
        }
    }

    /// The world's clocks and ours went `by` ahead together: a leap second. No one's offset changed.
    pub(crate) fn handle_leap(&mut self, by: NtpDuration) {
        self.filter.handle_leap(by);
        self.refclock.iter_mut().for_each(|refclock| refclock.handle_leap(by));
    }

    /// Moves everything stored to the changed timescale.
    pub(crate) fn handle_shift(&mut self, shift: &Shift) {
        self.filter.handle_shift(shift);
        self.refclock.iter_mut().for_each(|refclock| refclock.handle_shift(shift));
        if let Some(sent) = self.in_flight.as_mut().and_then(|flight| flight.sent.as_mut()) {
            sent.shift(shift);
        }
        if let Some(previous) = &mut self.previous {
            previous.shift(shift);
        }
    }

    /// Makes the next request if it is time, and says what else is needed.
    pub(crate) fn handle_timeout(&mut self, now: Monotonic, rng: &mut ChaCha12Rng) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.schedule.next().is_none_or(|next| now < next) {
            return actions;
        }
        if self.refclock.is_some() {
            return self.poll_refclock(now);
        }
        if let Some(flight) = self.in_flight.take() {
            self.handle_miss(&flight, &mut actions);
        }
        if let Some(reason) = self.association.keys_wanted(now) {
            actions.push(Action::NeedKeys(reason));
        }
        let again = i8::try_from(self.unanswered / MISSES_A_STEP).ok().filter(|_| self.filter.latest().is_some());
        self.reach.handle_request();
        let request = self.request(rng);
        let random = f64::from(rng.next_u32()) / f64::from(u32::MAX);
        if let Some((flight, datagram)) = request {
            self.counts.sent += 1;
            actions.push(Action::Transmit(flight.token, datagram));
            self.in_flight = Some(flight);
            self.schedule.handle_request(now, random, again);
        } else {
            // Whether keys can be had at all is for the key exchange to tell.
            if self.association.nts_keys().is_some() {
                self.count_unanswered(&mut actions);
            }
            self.schedule.skip(now, random);
        }
        actions
    }

    fn handle_miss(&mut self, flight: &InFlight, actions: &mut Vec<Action>) {
        self.schedule.handle_miss();
        // RFC 8915 section 5.7: a client that receives an NTS NAK waits for a valid reply until the next poll.
        if flight.nak {
            self.association.handle_nak();
        }
        if let Some(previous) = &mut self.previous {
            previous.missed += 1;
            if previous.missed > exchange::MAX_INTERLEAVED_MISSES {
                self.previous = None;
            }
        }
        self.count_unanswered(actions);
    }

    fn count_unanswered(&mut self, actions: &mut Vec<Action>) {
        self.unanswered = self.unanswered.saturating_add(1);
        if self.unanswered.is_multiple_of(LOST_AFTER) {
            actions.push(Action::Lost(Loss::Unreachable));
        }
    }

    /// Takes the time at which a request left, on the engine's timescale. A better stamp replaces a poorer one, even after
    /// the answer came: interleaved mode still needs it.
    pub(crate) fn handle_transmitted(&mut self, token: TxToken, at: NtpTimestamp, stamp: StampKind, error: f64) {
        let fresh = exchange::Sent::new(at, stamp, error);
        let is_better = if let Some(flight) = self.in_flight.as_mut().filter(|flight| flight.token == token) {
            let is_first = flight.sent.is_none();
            flight.sent.get_or_insert(fresh).improve(&fresh) || is_first
        } else {
            let previous = self.previous.as_mut().filter(|previous| previous.token == token);
            previous.is_some_and(|previous| previous.sent.improve(&fresh))
        };
        if !is_better {
            return;
        }
        match stamp {
            StampKind::Daemon => {}
            StampKind::Kernel => self.counts.stamped_sent += 1,
            // What comes after the kernel's stamp of the same request counts once among them.
            StampKind::Hardware => self.counts.hardware_sent += 1,
        }
    }

    /// Takes a datagram that came in on this source's socket.
    pub(crate) fn handle_datagram(
        &mut self,
        arrival: &Arrival,
        payload: &mut [u8],
        actions: &mut Vec<Action>,
    ) -> Result<Outcome, Refusal> {
        self.counts.received += 1;
        if arrival.stamp == StampKind::Kernel || arrival.kernel.is_some() {
            self.counts.stamped_received += 1;
        }
        if arrival.stamp == StampKind::Hardware {
            self.counts.hardware_received += 1;
        }
        let result = self.accept(arrival, payload);
        match &result {
            Ok(Outcome::Kissed(kiss)) => self.handle_kiss(*kiss, arrival.now, actions),
            Ok(Outcome::Sampled) => self.denials = 0,
            Err(refusal) => {
                self.refusals.add(*refusal);
                self.last_refusal = Some(*refusal);
                self.unsynchronized |= *refusal == Refusal::Unsynchronized;
                self.looping |= *refusal == Refusal::Loop;
            }
        }
        result
    }

    /// RFC 5905 section 7.4: DENY and RSTR ask a client to stop, RATE to slow down; other codes ask nothing. An
    /// authenticated refusal is believed at once, an unauthenticated one only if it is repeated.
    fn handle_kiss(&mut self, kiss: Kiss, now: Monotonic, actions: &mut Vec<Action>) {
        match kiss {
            Kiss::Rate => self.schedule.handle_rate(now),
            Kiss::Deny | Kiss::Restrict => {
                self.denials = self.denials.saturating_add(1);
                self.schedule.rest_until(now + self.config.max_poll.max(self.schedule.poll()).to_duration());
                if self.config.trust > Trust::None || self.denials >= DENIALS_BELIEVED {
                    self.denials = DENIALS_BELIEVED;
                    self.schedule.rest_until(now + response::DENIED_REST);
                    actions.push(Action::Lost(Loss::Denied));
                }
            }
            // RFC 5905 section 7.3: stratum 0 is "unspecified or invalid", whatever the code says.
            Kiss::NtsNak | Kiss::Other(_) => self.unsynchronized = true,
        }
    }

    /// Whether the delay of a sample lets it be used.
    fn judge(&mut self, sample: Sample) -> Result<JudgedSample, Refusal> {
        let sample = self.config.rules.correct(sample);
        let mut surprise = self.filter.surprise(&sample);
        if let Err(refusal) = self.config.rules.check(&sample, surprise.as_ref()) {
            self.delayed += 1;
            if self.delayed < rules::LONGER_AFTER {
                return Err(refusal);
            }
            // Nothing comes on the old way any more, and nothing else would ever end this.
            self.filter.reset();
            surprise = None;
        }
        self.delayed = 0;
        Ok((sample, surprise))
    }

    /// Takes the sample of the exchange that ended, if it may be used, after what became of the one before. One exchange is
    /// one measurement, however often it is refined.
    fn handle_judged(
        &mut self,
        now: Monotonic,
        judged: Result<JudgedSample, Refusal>,
        refinement: Option<Refinement>,
    ) -> Result<Outcome, Refusal> {
        let next = judged.ok().map(|(sample, _)| sample);
        match (refinement, next) {
            (Some(exact), next) => self.filter.refine_latest(exact, next),
            (None, Some(sample)) => self.filter.handle_sample(sample),
            (None, None) => {}
        }
        let (_, surprise) = judged?;
        if surprise.is_some_and(|surprise| surprise.is_great()) {
            self.surprised = Some(now);
        }
        if let Some(previous) = &mut self.previous {
            previous.is_sampled = true;
        }
        self.schedule.handle_sample(now, surprise, self.filter.worth_waiting(self.redundancy));
        self.counts.good += 1;
        Ok(Outcome::Sampled)
    }
}
