//! From a new sample to a steered clock.

use core::time::Duration;

use super::{Engine, Notice, Now, Output, Standing, chance};
use crate::{
    discipline::{Change, Discipline, LeapMode, LeapVote},
    filter::Filter,
    ids::{Leap, SourceId},
    sample::FREQUENCY_TOLERANCE,
    select::{Candidate, Circumstances, Combined, SelectOptions, Selection, Starting, Verdict, is_vouched, votes},
    source::{Loss, Source, SourceConfig},
    status::Status,
    steer::{ClockStatus, Steer},
    time::{NtpDuration, NtpTimestamp, Rate},
};

/// Requests without an answer after which a source that never answered is called silent.
const SILENT_FROM_START: u32 = 4;
/// Answers in a row with a bad verdict after which a source is worth replacing.
const BAD_UPDATES: u8 = 8;
/// The kernel lets its own error bound grow by 500 ppm, and calls the clock unsynchronized at 16 s: the bound is told anew
/// long before that.
pub(super) const STATUS_INTERVAL: Duration = Duration::from_secs(64);
/// The error at which the kernel itself calls the clock unsynchronized, in seconds.
const MAX_KERNEL_ERROR: f64 = 16.0;
/// Weight of the newest update in the usual interval between updates: sources may answer one after the other.
const INTERVAL_WEIGHT: f64 = 0.2;
/// Weight of the newest update in the mean square of offsets.
const MEAN_WEIGHT: f64 = 0.1;

/// What the error of the timeline's frequency may be beside its skew, s/s.
struct FrequencyError {
    /// The part of the frequency that was not applied.
    unbelieved: f64,
    /// What is wrong with what was applied, if those are wrong that it is from.
    doubted: f64,
}

/// The sources that could be judged, and what was made of them.
struct Judged {
    candidates: Vec<Candidate>,
    selection: Selection,
}

impl Judged {
    fn verdict(&self, id: SourceId) -> Option<Verdict> {
        let place = self.candidates.iter().position(|candidate| candidate.id == id)?;
        self.selection.verdicts.get(place).copied()
    }
}

impl Engine {
    /// Takes the new sample of `id` into account.
    pub(super) fn update(&mut self, now: Now, id: SourceId) {
        if self.waits_for_others(now) {
            self.publish(now);
            return;
        }
        let judged = self.judge(now);
        if self.asks_others(now, id, &judged) {
            self.publish(now);
            return;
        }
        let was_comparing = core::mem::take(&mut self.comparing);
        let had_selection = self.selected.is_some();
        let selection = self.keep_all(judged, Some(id));
        let is_news = was_comparing || !had_selection || self.is_used(id);
        if selection.chosen.is_none() || (is_news && !self.held) {
            self.apply(now, &selection);
        }
    }

    /// Whether some are asked just now whether it was this clock or another source that changed. Until they answer nothing follows: what they
    /// said before may be over, and who answers first is not to be believed more for that.
    fn waits_for_others(&self, now: Now) -> bool {
        self.comparing
            && self.sources.values().any(|source| source.compared_until().is_some_and(|end| now.monotonic < end))
    }

    /// Does what the sources say, once nobody else is waited for.
    pub(super) fn end_comparison(&mut self, now: Now) {
        if self.comparing && !self.waits_for_others(now) {
            self.comparing = false;
            if self.held { self.reselect(now, None) } else { self.follow_sources(now) }
        }
    }

    /// Whether a source that was used was surprised, or contradicts the others now, and these are asked.
    fn asks_others(&mut self, now: Now, id: SourceId, judged: &Judged) -> bool {
        let is_surprised = self.sources.get(&id).is_some_and(|source| source.surprised() == Some(now.monotonic));
        let contradicts = matches!(judged.verdict(id), Some(Verdict::Falseticker | Verdict::NoMajority));
        let mut asked = false;
        if self.is_used(id) && (is_surprised || contradicts) {
            for source in self.sources.values_mut().filter(|source| source.id() != id) {
                asked |= source.compare(now.monotonic, chance(&mut self.rng));
            }
        }
        self.comparing |= asked;
        asked
    }

    pub(super) fn is_used(&self, id: SourceId) -> bool {
        self.verdicts.get(&id).is_some_and(|standing| standing.verdict.is_used())
    }

    /// Judges the sources again, and does what they say without waiting for the next sample.
    pub(super) fn follow_sources(&mut self, now: Now) {
        let selection = self.select_at(now, None);
        self.apply(now, &selection);
    }

    /// Chooses among the sources as if none had been followed so far.
    pub fn choose_again(&mut self, now: Now) {
        self.selected = None;
        if self.held { self.reselect(now, None) } else { self.follow_sources(now) }
    }

    /// Judges the sources again without a new sample; `heard` has answered with something that is none.
    pub(super) fn reselect(&mut self, now: Now, heard: Option<SourceId>) {
        let had_selection = self.selected.is_some();
        let selection = self.select_at(now, heard);
        if !had_selection && !self.held { self.apply(now, &selection) } else { self.publish(now) }
    }

    /// Chooses among the sources and keeps the verdicts. Only the source that was `heard` is held to a bad one.
    fn select_at(&mut self, now: Now, heard: Option<SourceId>) -> Selection {
        let judged = self.judge(now);
        self.keep_all(judged, heard)
    }

    /// Chooses among the sources.
    fn judge(&self, now: Now) -> Judged {
        let at = self.timeline.at(now.clock);
        let candidates: Vec<Candidate> = self.sources.values().filter_map(|source| candidate(source, at)).collect();
        let is_candidate = |id: SourceId| candidates.iter().any(|candidate| candidate.id == id);
        let auth = self.select.auth;
        let authenticated = self.is_authenticated();
        let would_vote =
            |trust, options: SelectOptions| !options.noselect && votes(trust, options, authenticated, auth);
        let is_voter = |s: &&Source| s.schedule().next().is_some() && would_vote(s.config().trust, s.config().options);
        let awaited = self.awaited.iter().filter(|a| would_vote(a.trust, a.options)).map(|a| a.count).sum::<usize>();
        let configured_voters = self.sources.values().filter(is_voter).count() + awaited;
        let starting = self.sources.values().any(|source| source.schedule().in_burst());
        // Nobody knows whether that is all there are.
        let expected = self.expected_sources.map_or(usize::MAX, |count| count.max(configured_voters));
        let circumstances = Circumstances {
            previous: self.selected,
            starting: starting.then_some(Starting { expected, step_threshold: self.step_policy.threshold() }),
            authenticated,
            configured_voters,
            required_missing: self.sources.values().any(|s| s.config().options.require && !is_candidate(s.id())),
        };
        let selection = self.choose(&candidates, &circumstances);
        Judged { candidates, selection }
    }

    /// Keeps what sources were found to be.
    fn keep_all(&mut self, judged: Judged, heard: Option<SourceId>) -> Selection {
        let ids: Vec<SourceId> = self.sources.keys().copied().collect();
        for id in ids {
            let own = judged.verdict(id).or_else(|| self.sources.get(&id).and_then(unfit));
            let verdict = own.unwrap_or(Verdict::NoSamples);
            self.keep(id, verdict, heard == Some(id));
        }
        self.tell_redundancies(&judged);
        let selection = judged.selection;
        let best = selection.chosen.map(|(best, _)| best);
        if best != self.selected {
            self.selected = best;
            self.outputs.push_back(Output::Notice(best.map_or(Notice::NoSelection, Notice::Selected)));
        }
        selection
    }

    /// Tells each source how much of what it says the others say as well. What is silent says nothing.
    fn tell_redundancies(&mut self, judged: &Judged) {
        let is_heard = |id: SourceId| self.sources.get(&id).is_some_and(Source::is_answering);
        let redundancies = judged.selection.redundancies(&judged.candidates, is_heard);
        for (id, source) in &mut self.sources {
            let place = judged.candidates.iter().position(|candidate| candidate.id == *id);
            source.set_redundancy(place.and_then(|place| redundancies.get(place)).copied().unwrap_or(1.0));
        }
    }

    /// Whether any source is authenticated, or is expected to be.
    pub(super) fn is_authenticated(&self) -> bool {
        let vouching = |source: &Source| {
            let SourceConfig { trust, options, .. } = source.config();
            // What is only measured cannot vote, and cannot keep others from it.
            is_vouched(*trust, *options, self.select.auth) && !options.noselect
        };
        self.authentication_expected || self.sources.values().any(vouching)
    }

    fn keep(&mut self, id: SourceId, verdict: Verdict, heard: bool) {
        let old = self.verdicts.get(&id).copied();
        let before = old.map_or(0, |old| old.bad);
        // A source that answers and has no measurements answers nothing of use.
        let is_bad = verdict.is_bad() || verdict == Verdict::NoSamples;
        let bad = if is_bad { before.saturating_add(heard.into()) } else { 0 };
        self.verdicts.insert(id, Standing { verdict, bad });
        if verdict == Verdict::Falseticker && old.is_none_or(|old| old.verdict != Verdict::Falseticker) {
            self.outputs.push_back(Output::Notice(Notice::Falseticker(id)));
        }
        // There is no other device to be found.
        let is_server = self.sources.get(&id).is_none_or(|source| source.refclock().is_none());
        if bad == BAD_UPDATES && before != bad && verdict != Verdict::Unreachable && is_server {
            self.outputs.push_back(Output::Lost(id, Loss::Unusable));
        }
    }

    /// Corrects the timeline by what was chosen, if anything was, and has the clock follow.
    fn apply(&mut self, now: Now, selection: &Selection) {
        let chosen = selection.chosen.filter(|(_, combined)| self.believes(combined.offset));
        let Some((best, combined)) = chosen else {
            self.publish(now);
            return;
        };
        let interval = self.history.last.map_or(1.0, |last| now.monotonic.since(last).as_secs_f64());
        let usual = &mut self.history.usual_interval;
        *usual += INTERVAL_WEIGHT * (interval - *usual);
        let correction = self.discipline.handle_combined(&combined, *usual);
        let shift = self.timeline.correct(now.clock, correction.offset, correction.frequency);
        for source in self.sources.values_mut() {
            source.handle_shift(&shift);
        }
        self.remember_frequency(now);
        let offset = correction.offset;
        let history = &mut self.history;
        history.updates += 1;
        history.last = Some(now.monotonic);
        history.interval = interval;
        history.last_offset = offset;
        history.deviation = combined.offset_deviation;
        history.mean_square = Some(match history.mean_square {
            Some(mean) => mean + MEAN_WEIGHT * (offset.powi(2) - mean),
            None => 0.0,
        });
        let vote = self.leap_vote(&selection.deciders);
        let unknown = FrequencyError {
            unbelieved: (combined.frequency - shift.rate).abs(),
            doubted: correction.gain * combined.doubted_skew,
        };
        self.describe(now, best, &combined, &unknown, &vote);
        if !self.follow(now) && offset.abs() >= self.notable_offset {
            self.outputs.push_back(Output::Notice(Notice::Wrong(NtpDuration::from_seconds(offset))));
        }
        self.publish(now);
    }

    /// Whether an offset can be true; it is told if not.
    fn believes(&mut self, offset: f64) -> bool {
        let Some(limit) = &mut self.change_limit else { return true };
        let told = NtpDuration::from_seconds(offset);
        self.outputs.push_back(Output::Notice(match limit.judge(offset, self.history.updates) {
            Change::Correct => return true,
            Change::Ignore => Notice::Ignored(told),
            Change::GiveUp => Notice::GaveUp(told),
        }));
        false
    }

    /// Makes the clock follow the timeline: by a step where that is allowed, by a slew otherwise. Whether it was a step.
    pub(super) fn follow(&mut self, now: Now) -> bool {
        let pending = self.timeline.pending(now.clock);
        let is_step = self.step_policy.decide(pending.to_seconds());
        if is_step {
            self.step(pending)
        } else {
            self.slew(now)
        }
        is_step
    }

    /// Starts to make up for what the clock is behind.
    pub(super) fn slew(&mut self, now: Now) {
        let pending = self.timeline.pending(now.clock);
        let natural = self.timeline.natural();
        let rate = match self.discipline.slew(pending.to_seconds()) {
            Some((slew, duration)) => {
                self.slew_end = Some(now.monotonic + duration);
                Rate::new((1.0 + natural.get()) * (1.0 + slew.get()) - 1.0)
            }
            None => {
                self.slew_end = None;
                natural
            }
        };
        self.outputs.push_back(Output::Steer(Steer::Frequency(rate)));
    }

    /// What those say of a leap second who decide on the time: whoever is only confirmed by them has no say in this either.
    fn leap_vote(&self, deciders: &[SourceId]) -> LeapVote {
        let mut vote = LeapVote::default();
        let replies = deciders.iter().filter_map(|id| self.sources.get(id)?.last_reply());
        replies.for_each(|reply| vote.add(reply.leap));
        vote
    }

    /// Writes down what we now say about our own clock.
    fn describe(&mut self, now: Now, best: SourceId, combined: &Combined, unknown: &FrequencyError, vote: &LeapVote) {
        let reference_time = self.timeline.at(now.clock);
        let Some(source) = self.sources.get(&best) else { return };
        let stratum = source.filter().latest().map_or(15, |sample| sample.stratum);
        // RFC 5905 section 11.2: the dispersion grows with PHI, since nobody sees a change of the oscillator before the next
        // sample; and with what is not known of the frequency in any case.
        let growth = self.discipline.skew().max(unknown.doubted) + unknown.unbelieved + FREQUENCY_TOLERANCE;
        self.status = Status {
            leap: self.leaps.outcome(reference_time.to_unix(self.era), vote),
            stratum: stratum.saturating_add(1),
            root_delay: NtpDuration::from_seconds(combined.root_delay),
            root_dispersion: NtpDuration::from_seconds(combined.root_dispersion + combined.offset_deviation),
            dispersion_rate: Rate::new(growth),
            reference_id: source.config().reference_id,
            reference_time,
            ..self.status
        };
    }

    /// Tells the kernel how good the clock is, and notices when it is no longer good enough.
    pub(super) fn publish(&mut self, now: Now) {
        let at = self.timeline.at(now.clock);
        // A list knows without asking anybody.
        if let (Some(leap), true) = (self.leaps.listed(at.to_unix(self.era)), self.status.leap != Leap::Unsynchronized)
        {
            self.status.leap = leap;
        }
        self.look_for_leap(now);
        let synchronized = self.status.synchronized_at(at);
        if self.history.synchronized && !synchronized {
            self.outputs.push_back(Output::Notice(Notice::Unsynchronized));
        }
        self.history.synchronized = synchronized;
        self.tell(now.clock);
        self.refresh = Some(now.monotonic + STATUS_INTERVAL);
    }

    /// Tells the kernel how good the clock is where it reads `clock`.
    pub(super) fn tell(&mut self, clock: NtpTimestamp) {
        let at = self.timeline.at(clock);
        let behind = self.timeline.pending(clock).abs();
        let half_delay = NtpDuration::from_bits(self.status.root_delay.to_bits() / 2);
        let max_error = self.status.root_dispersion_at(at) + half_delay + behind;
        let synchronized = self.status.synchronized_at(at) && max_error.to_seconds() < MAX_KERNEL_ERROR;
        // Past offsets are larger than what is left of them, and say nothing yet after the first.
        let expected = f64::hypot(self.history.mean_square.unwrap_or(0.0).sqrt(), self.history.deviation);
        self.outputs.push_back(Output::Steer(Steer::Status(ClockStatus {
            synchronized,
            leap: match (synchronized, self.leaps.mode()) {
                (false, _) => Leap::Unsynchronized,
                (true, LeapMode::System) => self.status.leap,
                // It is not the kernel's to insert.
                (true, LeapMode::Step | LeapMode::Slew | LeapMode::Ignore) => Leap::None,
            },
            max_error,
            estimated_error: (NtpDuration::from_seconds(expected) + behind).min(max_error),
            tai_offset: if synchronized { self.leaps.tai_offset(at.to_unix(self.era)) } else { None },
        })));
    }
}

/// A source that can be judged by its measurements.
fn candidate(source: &Source, at: NtpTimestamp) -> Option<Candidate> {
    if unfit(source).is_some() {
        return None;
    }
    Some(Candidate {
        id: source.id(),
        estimate: source.filter().estimate(at)?,
        trust: source.config().trust,
        options: source.config().options,
    })
}

/// Why a source cannot be judged by its measurements, if there is a reason.
fn unfit(source: &Source) -> Option<Verdict> {
    if source.is_denied() {
        Some(Verdict::Denied)
    } else if source.is_looping() {
        Some(Verdict::Loop)
    } else if source.is_unsynchronized() {
        Some(Verdict::Unsynchronized)
    } else if source.schedule().next().is_none() {
        Some(Verdict::Unreachable)
    } else if source.reach().is_reachable() || source.reach().missed() == 0 {
        None
    } else {
        let never = source.counts().valid == 0 && source.reach().missed() >= SILENT_FROM_START;
        Some(if source.is_answering() && !never { Verdict::NoSamples } else { Verdict::Unreachable })
    }
}
