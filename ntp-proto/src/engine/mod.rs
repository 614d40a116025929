//! The client: many sources, one clock.
//!
//! One law of use: call one `handle_*` method or command, then [`Engine::poll_output`] until it returns
//! [`Output::Timeout`]; obey each output before asking for the next. The daemon and the simulated world do just that.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use chacha20::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng};

use crate::{
    discipline::{
        ChangeLimit, Controller, FrequencyHistory, LeapMode, LeapRule, LeapTable, StepLimit, StepPolicy, Timeline,
    },
    ids::{Leap, ReferenceId, SourceId, StampKind, Trust},
    select::{SelectConfig, SelectOptions, Verdict},
    source::{Action, Arrival, Datagram, KeysReason, Loss, NtsKeys, Outcome, Source, SourceConfig, Tune, TxToken},
    stamping::Converted,
    status::Status,
    steer::{Applied, Foreign, Steer},
    time::{Monotonic, NtpDuration, NtpTimestamp, Rate, UnixTime},
    wire::Kiss,
};

mod foreign;
mod hold;
mod holdover;
mod leap;
mod orphan;
mod refclock;
mod report;
mod timers;
mod update;

pub use report::{SourceReport, SourceState, Tracking};

/// Most sources of one engine.
pub const MAX_SOURCES: usize = 128;

/// What a slew may leave of an offset, in seconds: the next update takes care of it.
const NEGLIGIBLE_REST: f64 = 10e-6;

/// The present, by both clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The monotonic clock.
    pub monotonic: Monotonic,
    /// The clock that is steered.
    pub clock: NtpTimestamp,
}

/// What the engine is told at the start.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Limits of selection.
    pub select: SelectConfig,
    /// Offsets of at least this many seconds may be stepped ...
    pub step_threshold: f64,
    /// ... in this many updates.
    pub step_limit: StepLimit,
    /// Fastest slew.
    pub max_slew: Rate,
    /// In how many update intervals an offset as large as its own deviation is made up for.
    pub correction_time_ratio: f64,
    /// Largest frequency that the oscillator may need, either way.
    pub max_frequency: Rate,
    /// Largest error bound of a new frequency that is used.
    pub max_update_skew: Rate,
    /// Offsets that are too large to be true, if there are any.
    pub change_limit: Option<ChangeLimit>,
    /// Offset from which on a correction is told about, in seconds.
    pub notable_offset: f64,
    /// What is done at a leap second.
    pub leap_mode: LeapMode,
    /// Frequency the clock runs at now, relative to its oscillator.
    pub applied: Rate,
    /// Frequency and its error bound (s/s) from an earlier run.
    pub saved_frequency: Option<(Rate, f64)>,
    /// Precision of the clock, log2 seconds.
    pub precision: i8,
    /// A time known to be in the right era, such as when this program was built.
    pub era: UnixTime,
    /// How old keys may be before others are wanted, by a clock that stands still while the machine sleeps. Each set is
    /// given up to an eighth more, so that clients that started together do not come back together.
    pub key_age: Duration,
    /// Seed of everything random.
    pub seed: [u8; 32],
}

/// How old keys may be unless something else is set: a week. In that time certificates, DANE and service records that were
/// taken out lose their effect.
pub const KEY_AGE: Duration = Duration::from_secs(7 * 86_400);

/// Sources of a name that is not resolved yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// How many there are to be.
    pub count: usize,
    /// What is to vouch for them.
    pub trust: Trust,
    /// How they may be used.
    pub options: SelectOptions,
}

/// A datagram's way here.
#[derive(Clone, Copy, Debug)]
pub struct RxInfo {
    /// When it arrived, by the clock that is steered.
    pub received: NtpTimestamp,
    /// Who stamped it.
    pub stamp: StampKind,
    /// When it arrived by the network interface, if that stamped it too.
    pub interface: Option<Converted>,
    /// How a server that follows this machine would name it.
    pub own_reference: ReferenceId,
}

/// What the engine wants done.
#[derive(Debug)]
pub enum Output {
    /// Send this from a fresh port, and call [`Engine::handle_transmitted`] with the time at which it left.
    Transmit(TxToken, Datagram),
    /// Steer the clock, and call [`Engine::handle_steered`] with what it did, or [`Engine::handle_refused`].
    Steer(Steer),
    /// Exchange keys for this source, and call [`Engine::set_keys`].
    NeedKeys(SourceId, KeysReason),
    /// Find another server in this one's place.
    Lost(SourceId, Loss),
    /// Tell whoever watches.
    Notice(Notice),
    /// Nothing more until this time; then call [`Engine::handle_timeout`]. The text says what is waited for.
    Timeout(Option<Monotonic>, &'static str),
}

/// Something worth a line in a log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Notice {
    /// This source is now the best.
    Selected(SourceId),
    /// No source can be used any more, or none yet.
    NoSelection,
    /// A source that was used disagrees with the majority.
    Falseticker(SourceId),
    /// The server sent a kiss code.
    Kiss(SourceId, Kiss),
    /// The clock is about to jump by this much.
    Step(NtpDuration),
    /// The clock is wrong by this much and will be slewed: no step is allowed.
    Wrong(NtpDuration),
    /// The clock did not jump by this much, and is slewed instead.
    StepRefused(NtpDuration),
    /// Sources say together that the clock is wrong by this much, which is too much to be true and ignored.
    Ignored(NtpDuration),
    /// They have said so too often: the clock should be left to an administrator.
    GaveUp(NtpDuration),
    /// The error bound grew so large that the clock no longer counts as synchronized.
    Unsynchronized,
    /// Somebody else made the clock jump.
    Jump(NtpDuration),
    /// Another program steers the clock too.
    Foreign(Foreign),
    /// A leap second is made by ourselves: clocks go on by this much.
    LeapSecond(NtpDuration),
}

/// The client engine; see the module.
#[derive(Debug)]
pub struct Engine {
    select: SelectConfig,
    authentication_expected: bool,
    expected_sources: Option<usize>,
    awaited: Vec<Awaited>,
    leaps: LeapRule,
    /// Sources of this stratum or above may serve no more than their own clocks.
    orphan_stratum: Option<u8>,
    /// The clock is left alone, whatever sources say.
    held: bool,
    era: UnixTime,
    rng: ChaCha12Rng,
    key_age: Duration,
    sources: BTreeMap<SourceId, Source>,
    verdicts: BTreeMap<SourceId, Standing>,
    next_id: u32,
    timeline: Timeline,
    discipline: Controller,
    frequencies: FrequencyHistory,
    step_policy: StepPolicy,
    /// The clock did not jump when it was last told to.
    steps_refused: bool,
    change_limit: Option<ChangeLimit>,
    notable_offset: f64,
    outputs: VecDeque<Output>,
    slew_end: Option<Monotonic>,
    refresh: Option<Monotonic>,
    /// A leap second that is ours to make.
    leap_due: Option<leap::Due>,
    status: Status,
    selected: Option<SourceId>,
    /// Sources were asked whether it was this clock or another source that changed, and nothing follows until they answer.
    comparing: bool,
    history: History,
}

/// What selection made of a source, and for how long.
#[derive(Clone, Copy, Debug)]
struct Standing {
    verdict: Verdict,
    /// Updates in a row with a verdict that is the source's fault.
    bad: u8,
}

/// What is shown of past updates.
#[derive(Clone, Copy, Debug, Default)]
struct History {
    updates: u64,
    last: Option<Monotonic>,
    interval: f64,
    /// What it usually is, in seconds.
    usual_interval: f64,
    last_offset: f64,
    mean_square: Option<f64>,
    /// How well the last offset was known, in seconds.
    deviation: f64,
    synchronized: bool,
}

impl Engine {
    /// Starts without sources. The first outputs set the saved frequency.
    #[must_use]
    pub fn new(config: EngineConfig, now: Now) -> Self {
        let mut outputs = VecDeque::new();
        let natural = config.saved_frequency.map_or(config.applied, |(frequency, _)| frequency);
        let timeline = Timeline::new(now.clock, config.applied, natural, config.max_frequency);
        let skew = config.saved_frequency.map(|(_, skew)| {
            outputs.push_back(Output::Steer(Steer::Frequency(timeline.natural())));
            skew
        });
        let mut discipline = Controller::new(skew, config.max_slew);
        discipline.set_max_update_skew(config.max_update_skew);
        discipline.set_correction_time_ratio(config.correction_time_ratio);
        Self {
            select: config.select,
            authentication_expected: false,
            expected_sources: None,
            awaited: Vec::new(),
            leaps: LeapRule::new(config.leap_mode),
            orphan_stratum: None,
            held: false,
            era: config.era,
            rng: ChaCha12Rng::from_seed(config.seed),
            key_age: config.key_age,
            sources: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            next_id: 1,
            timeline,
            discipline,
            frequencies: FrequencyHistory::default(),
            step_policy: StepPolicy::new(config.step_threshold, config.step_limit),
            steps_refused: false,
            change_limit: config.change_limit,
            notable_offset: config.notable_offset,
            outputs,
            slew_end: None,
            refresh: None,
            leap_due: None,
            status: Status {
                precision: config.precision,
                max_distance: NtpDuration::from_seconds(config.select.max_distance),
                ..Status::UNSYNCHRONIZED
            },
            selected: None,
            comparing: false,
            history: History::default(),
        }
    }

    /// Adds a source that is asked for the first time at `first`; `None` if there are [`MAX_SOURCES`] already.
    pub fn add_source(&mut self, config: SourceConfig, first: Monotonic) -> Option<SourceId> {
        if self.sources.len() >= MAX_SOURCES {
            return None;
        }
        let id = SourceId(self.next_id);
        self.next_id = self.next_id.checked_add(1)?;
        self.sources.insert(id, Source::new(id, config, first));
        Some(id)
    }

    /// Forgets a source.
    pub fn remove_source(&mut self, now: Now, id: SourceId) {
        if self.sources.remove(&id).is_some() {
            self.verdicts.remove(&id);
            self.reselect(now, None);
        }
    }

    /// Gives a source fresh keys and cookies, and says what vouched for the server in the exchange that they are from. That
    /// counts from the next selection on, whatever vouched for it before. When the keys are as old as
    /// [`EngineConfig::key_age`], others are asked for, and these are used until those come.
    pub fn set_keys(&mut self, now: Monotonic, id: SourceId, keys: NtsKeys, trust: Trust) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.set_keys(now, keys, trust, now + self.key_age.mul_f64(1.0 + chance(&mut self.rng) / 8.0));
        }
    }

    /// The server of a source is asked at another of its addresses from now on: what was measured on the way to the old one
    /// does not count.
    pub fn move_source(&mut self, now: Now, id: SourceId, reference_id: ReferenceId) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.relocate(now.monotonic, reference_id);
            self.reselect(now, None);
        }
    }

    /// Asks a source again soon, `burst` several times in a row; also wakes one that was stopped.
    pub fn refresh_source(&mut self, now: Monotonic, id: SourceId, burst: bool) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.refresh(now, burst);
        }
    }

    /// Changes a setting of a source. It lasts as long as the source does.
    pub fn tune_source(&mut self, now: Now, id: SourceId, tune: &Tune) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.tune(tune);
            self.reselect(now, None);
        }
    }

    /// Asks a source no more until it is refreshed. Meanwhile its time is not used.
    pub fn stop_source(&mut self, now: Now, id: SourceId) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.stop();
            self.reselect(now, None);
        }
    }

    /// Says whether authenticated sources are configured, even if none of them has keys yet: as long as they are, sources
    /// without authentication do not vote, so that keeping a key exchange from succeeding gains an attacker nothing.
    pub fn expect_authentication(&mut self, now: Now, expected: bool) {
        if self.authentication_expected != expected {
            self.authentication_expected = expected;
            self.reselect(now, None);
        }
    }

    /// Says how many sources there will be once all names are resolved, and which of them are not there yet. From then on the
    /// first time is believed as soon as most of them agree on it, without waiting for the bursts to end. Those that are
    /// awaited count among the voters as if they were there and silent: a name is not believed alone because it is resolved first.
    pub fn expect_sources(&mut self, now: Now, count: usize, awaited: Vec<Awaited>) {
        self.expected_sources = Some(count);
        if self.awaited != awaited {
            self.awaited = awaited;
            self.reselect(now, None);
        }
    }

    /// Changes the limits of selection.
    pub fn set_select(&mut self, now: Now, select: SelectConfig) {
        self.select = select;
        self.status.max_distance = NtpDuration::from_seconds(select.max_distance);
        self.reselect(now, None);
    }

    /// Says from which stratum on sources may serve no more than their own clocks, as this machine does. They are used only
    /// while there is no other: of those with just this stratum the one with the smallest identifier, if that is smaller
    /// than our own, so that all who ask each other come to follow one.
    pub fn set_orphan_stratum(&mut self, now: Now, stratum: Option<u8>) {
        if self.orphan_stratum != stratum {
            self.orphan_stratum = stratum;
            self.reselect(now, None);
        }
    }

    /// Changes the list of leap seconds, which counts before what sources announce.
    pub fn set_leap_table(&mut self, now: Now, table: Option<LeapTable>) {
        self.leaps.set_table(table);
        self.publish(now);
    }

    /// Changes when the clock is stepped: offsets of at least `threshold` seconds, in the next updates that `limit` allows.
    pub const fn set_steps(&mut self, threshold: f64, limit: StepLimit) {
        self.step_policy = StepPolicy::new(threshold, limit);
    }

    /// Uses no new frequency whose own error bound is larger than this.
    pub const fn set_max_update_skew(&mut self, limit: Rate) {
        self.discipline.set_max_update_skew(limit);
    }

    /// Makes up for what the clock is behind by one step, at once, unless it is held.
    pub fn step_now(&mut self, now: Now) {
        if !self.held {
            self.step_policy.force();
            self.follow(now);
        }
    }

    /// Takes a datagram that came in on a source's socket. NTS opens it in place.
    pub fn handle_datagram(&mut self, now: Now, id: SourceId, info: &RxInfo, payload: &mut [u8]) {
        self.make_leap(now);
        let arrival = Arrival {
            now: now.monotonic,
            received: self.timeline.at(info.interface.map_or(info.received, |stamp| stamp.at)),
            stamp: if info.interface.is_some() { StampKind::Hardware } else { info.stamp },
            // Stamps of the two ends of an exchange are not mixed: this one is for when the other has no better one.
            kernel: info.interface.filter(|_| info.stamp == StampKind::Kernel).map(|_| self.timeline.at(info.received)),
            error: info.interface.map_or(0.0, |stamp| stamp.error),
            own_reference: info.own_reference,
        };
        let Some(source) = self.sources.get_mut(&id) else { return };
        let mut actions = Vec::new();
        let result = source.handle_datagram(&arrival, payload, &mut actions);
        self.obey(id, actions);
        match result {
            Ok(Outcome::Sampled) => self.update(now, id),
            Ok(Outcome::Kissed(kiss)) => {
                // Other codes ask nothing; a server without time sends one each time, and is shown as unsynchronized.
                if !matches!(kiss, Kiss::Other(_)) {
                    self.outputs.push_back(Output::Notice(Notice::Kiss(id, kiss)));
                }
                self.reselect(now, Some(id));
            }
            Err(refusal) if refusal.is_an_answer() => self.reselect(now, Some(id)),
            Err(_) => {}
        }
    }

    /// Takes the time at which a request left, by the clock that is steered, and what that may be wrong by, beside what its kind may, in
    /// seconds. May be called again with a better stamp.
    pub fn handle_transmitted(&mut self, token: TxToken, at: NtpTimestamp, stamp: StampKind, error: f64) {
        let at = self.timeline.at(at);
        if let Some(source) = self.sources.get_mut(&token.source) {
            source.handle_transmitted(token, at, stamp, error);
        }
    }

    /// Takes word of what the clock did.
    pub fn handle_steered(&mut self, applied: &Applied) {
        self.timeline.handle_applied(applied);
        if let Steer::Step(by) = applied.command {
            if core::mem::take(&mut self.steps_refused) {
                self.outputs.push_back(Output::Notice(Notice::Step(by)));
            }
            // What was told before the step counted all that was pending as an error.
            self.tell(applied.at + by);
        }
    }

    /// Takes word that the clock jumped by `by` when it read `at`, by nobody's command here. The time believed in stays
    /// unless the clock is held, and the sources are soon asked whether that is right, though not each time if it jumps often.
    pub fn handle_jump(&mut self, now: Now, at: NtpTimestamp, by: NtpDuration) {
        if self.is_leap(at, by) {
            self.timeline.handle_leap(at, by);
            self.pass_leap(at, by);
        } else {
            if self.held {
                self.handle_jump_while_held(at, by);
            } else {
                self.timeline.handle_jump(at, by);
            }
            self.outputs.push_back(Output::Notice(Notice::Jump(by)));
            for source in self.sources.values_mut() {
                source.forget_stamps();
                source.recheck(now.monotonic, chance(&mut self.rng));
            }
        }
        self.publish(now);
    }

    /// Takes word that the machine slept or moved, so that nothing measured before holds, nor what was said of the clock.
    pub fn handle_interruption(&mut self, now: Now) {
        self.status.leap = Leap::Unsynchronized;
        self.frequencies = FrequencyHistory::default();
        for source in self.sources.values_mut() {
            source.restart(now.monotonic, chance(&mut self.rng));
        }
        self.reselect(now, None);
    }

    /// Takes word that time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        self.make_leap(now);
        let due: Vec<SourceId> = self.sources.keys().copied().collect();
        for id in due {
            let Some(source) = self.sources.get_mut(&id) else { continue };
            let before = (source.is_answering(), source.reach().is_reachable(), source.schedule().in_burst());
            let actions = source.handle_timeout(now.monotonic, &mut self.rng);
            // A source that falls silent, or ends its first measurements without an answer, changes the vote.
            let changed =
                before != (source.is_answering(), source.reach().is_reachable(), source.schedule().in_burst());
            let is_sampled = actions.iter().any(|action| matches!(action, Action::Sampled));
            self.obey(id, actions);
            if is_sampled {
                self.update(now, id);
            } else if changed {
                self.reselect(now, None);
            }
        }
        if self.slew_end.is_some_and(|end| now.monotonic >= end) {
            // A late timer, or a rate that the kernel rounded, leaves something.
            if self.timeline.pending(now.clock).to_seconds().abs() > NEGLIGIBLE_REST {
                self.slew(now);
            } else {
                self.slew_end = None;
                self.outputs.push_back(Output::Steer(Steer::Frequency(self.timeline.natural())));
            }
        }
        self.end_comparison(now);
        self.coast(now);
        // A leap second that is not quite due is looked at again.
        let again = [self.refresh.or(Some(now.monotonic)), self.leap_due.map(|due| due.at)];
        if again.into_iter().flatten().any(|at| now.monotonic >= at) {
            self.publish(now);
        }
    }

    /// The clock is left alone from now on: it keeps its natural frequency.
    pub fn handle_shutdown(&mut self) {
        self.slew_end = None;
        self.outputs.push_back(Output::Steer(Steer::Frequency(self.timeline.natural())));
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or_else(|| {
            let (at, why) = self.next_timeout();
            Output::Timeout(at, why)
        })
    }

    fn obey(&mut self, id: SourceId, actions: Vec<Action>) {
        self.outputs.extend(actions.into_iter().filter_map(|action| match action {
            Action::Transmit(token, datagram) => Some(Output::Transmit(token, datagram)),
            Action::NeedKeys(reason) => Some(Output::NeedKeys(id, reason)),
            Action::Lost(loss) => Some(Output::Lost(id, loss)),
            Action::Sampled => None,
        }));
    }
}

/// Chance, uniform in 0..1.
fn chance(rng: &mut ChaCha12Rng) -> f64 {
    f64::from(rng.next_u32()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
