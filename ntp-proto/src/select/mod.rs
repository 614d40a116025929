//! Which sources to believe.
//!
//! Trust goes before number: where any source is authenticated, only authenticated sources vote on the time, and the
//! others are used only if the vote confirms them. Plain sources can thus never outvote authenticated ones, not even
//! while those are silent. Where authenticated sources come to no majority, those that DNSSEC vouches for decide alone, then
//! those whose certificate it vouches for; a majority of all is never overruled.

use crate::{
    filter::Estimate,
    ids::{SourceId, Trust},
    sample::MAX_CLOCK_ERROR,
};

mod cluster;
mod combine;
mod interval;
mod verdict;

pub use combine::Combined;
use interval::agreement;
pub(crate) use interval::{Interval, deepest};
use interval::{Overlap, covered};
pub use verdict::Verdict;

/// How an administrator wants a source to be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelectOptions {
    /// Measure it, never use it.
    pub noselect: bool,
    /// Use it rather than others that agree with it.
    pub prefer: bool,
    /// Let it vote as if it were authenticated.
    pub trust: bool,
    /// Follow no source unless this one agrees.
    pub require: bool,
}

/// What selection makes of authentication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthSelect {
    /// Sources without it are never used.
    Require,
    /// They are used only where no source has it.
    Prefer,
    /// Where any source has it, they do not vote, and are used if those that do confirm them.
    #[default]
    Mix,
    /// All vote alike.
    Ignore,
}

/// Limits of selection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SelectConfig {
    /// Fewest voting sources that must agree; `None`: two where three or more are configured, or else one.
    pub min_sources: Option<usize>,
    /// Largest error bound of a source, in seconds.
    pub max_distance: f64,
    /// Largest spread of a source's measurements, in seconds.
    pub max_jitter: f64,
    /// What authentication counts for.
    pub auth: AuthSelect,
}

impl Default for SelectConfig {
    fn default() -> Self {
        Self { min_sources: None, max_distance: 3.0, max_jitter: 1.0, auth: AuthSelect::Mix }
    }
}

/// A source that has measurements and was found fit to vote, or the reason why not.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Which source.
    pub id: SourceId,
    /// What its measurements say.
    pub estimate: Estimate,
    /// What vouches for it.
    pub trust: Trust,
    /// What the administrator wants.
    pub options: SelectOptions,
}

/// The outcome.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// A verdict for every candidate, in their order.
    pub verdicts: Vec<Verdict>,
    /// The best source and the time of all that are used, if there is any.
    pub chosen: Option<(SourceId, Combined)>,
    /// Those who decided: the voters that were elected by and agree on the time, whether or not it is made of theirs.
    pub deciders: Vec<SourceId>,
}

impl Selection {
    /// For each candidate, how many times as much it and those that are used and `is_heard` tell together as it alone, by the
    /// variances of their usual measurements; 1 for one that does not agree with them. Each other tells [`MOST_TOLD`] times as much at
    /// most: one that seems sure of everything does not keep the rest from being asked.
    pub(crate) fn redundancies(&self, candidates: &[Candidate], is_heard: impl Fn(SourceId) -> bool) -> Vec<f64> {
        let told = |candidate: &Candidate| candidate.estimate.jitter.powi(-2);
        let judged = || candidates.iter().zip(&self.verdicts);
        let by_others = |own: &Candidate| -> f64 {
            let others = judged().filter(|(c, verdict)| verdict.is_used() && c.id != own.id && is_heard(c.id));
            others.map(|(other, _)| (told(other) / told(own)).min(MOST_TOLD)).sum()
        };
        let redundancy = |(candidate, verdict): (&Candidate, &Verdict)| {
            if verdict.agrees() { 1.0 + by_others(candidate) } else { 1.0 }
        };
        judged().map(redundancy).collect()
    }
}

/// How many times as much as one source another tells at most.
const MOST_TOLD: f64 = 2.0;

/// What selection must know besides the candidates.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// The best source of last time.
    pub previous: Option<SourceId>,
    /// Where some sources have not finished their first measurements: what is waited for.
    pub starting: Option<Starting>,
    /// Some source is authenticated, or trusted by option where that stands for it, whether or not it is among the
    /// candidates.
    pub authenticated: bool,
    /// Sources that would vote if they were all fit, whether or not they are among the candidates, or found yet.
    pub configured_voters: usize,
    /// Some required source is not among the candidates.
    pub required_missing: bool,
}

/// Sources are in their first measurements: what a first time must have to be believed nevertheless.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Starting {
    /// More than half of so many sources that agree.
    pub expected: usize,
    /// An error bound that is small beside this offset, in seconds, from which on the clock is stepped.
    pub step_threshold: f64,
}

impl Starting {
    /// Whether a first time is known well enough. What a clock is stepped by for one whose bound is at most half of the
    /// threshold makes it no worse, wherever in that bound the truth is; and so does what is more than the threshold in any case.
    fn is_sure(&self, combined: &Combined) -> bool {
        let bound = combined.bound();
        bound <= 0.5 * self.step_threshold || combined.offset.abs() - bound >= self.step_threshold
    }
}

/// Who decides: all voters, and where they come to no majority, only those of a class that it takes more to forge.
const TIERS: [Trust; 3] = [Trust::None, Trust::Dnssec, Trust::Dane];
/// Configured voters from which on a single one is not followed.
const MANY_VOTERS: usize = 3;
/// How many must agree then.
const MIN_OF_MANY: usize = 2;

/// How many voters must agree. It is the configured that count, not the reachable: whoever can silence honest servers
/// could otherwise leave one liar, which would agree with itself.
///
/// A source whose name is not resolved yet is configured as well. Of four configured sources with three dead, the last is not
/// followed: the clock goes on alone and its bound grows until another answers or the dead are taken out.
///
/// A reference clock is followed alone: nobody who silences servers can put words into its mouth, and it is there for when
/// they are silent. An administrator who says how many it takes knows of other reasons, for one whose servers nobody can silence.
fn needed(around: &Circumstances, config: &SelectConfig, has_refclock: bool) -> usize {
    let is_many = around.configured_voters >= MANY_VOTERS && !has_refclock;
    config.min_sources.unwrap_or(if is_many { MIN_OF_MANY } else { 1 })
}

/// Chooses among candidates.
#[must_use]
pub fn select(candidates: &[Candidate], around: &Circumstances, config: &SelectConfig) -> Selection {
    let mut verdicts: Vec<Verdict> = candidates.iter().map(|c| fitness(c, around, config)).collect();
    let voting = |i: &usize| {
        let candidate = &candidates[*i];
        verdicts[*i] == Verdict::Selected
            && votes(candidate.trust, candidate.options, around.authenticated, config.auth)
    };
    let all: Vec<usize> = (0..candidates.len()).filter(voting).collect();
    let tiers = if config.auth == AuthSelect::Ignore { &TIERS[..1] } else { &TIERS };
    let elected = tiers.iter().find_map(|tier| {
        let voters: Vec<usize> = all.iter().copied().filter(|&i| candidates[i].trust >= *tier).collect();
        majority(candidates, &voters).map(|overlap| (voters, overlap))
    });
    let Some((voters, overlap)) = elected else {
        let voters = all;
        let verdict = if voters.is_empty() { Verdict::Untrusted } else { Verdict::NoMajority };
        for (index, slot) in verdicts.iter_mut().enumerate() {
            if *slot == Verdict::Selected {
                *slot = if voters.contains(&index) { verdict } else { Verdict::Untrusted };
            }
        }
        return Selection { verdicts, ..Selection::default() };
    };
    for (index, (candidate, verdict)) in candidates.iter().zip(&mut verdicts).enumerate() {
        let own = interval(candidate);
        if *verdict != Verdict::Selected {
            // It takes no part.
        } else if voters.contains(&index) {
            if !overlap.interval.is_inside(&own) {
                let shares_a_place = overlap.interval.low <= own.high && own.low <= overlap.interval.high;
                *verdict = if overlap.single || !shares_a_place { Verdict::Falseticker } else { Verdict::NoMajority };
            }
        } else if !overlap.single || !own.is_inside(&overlap.interval) {
            *verdict = Verdict::Untrusted;
        }
    }
    let chosen = choose(candidates, &voters, &mut verdicts, around, config).map(|(best, others)| {
        let combined = combine::combine(best, &others);
        (
            best.id,
            if is_beyond_doubt(best, &voters, candidates) { combined } else { doubt(combined, &voters, candidates) },
        )
    });
    // One reply may be late by half of its round trip; more of them may tell.
    let is_unsure = |(_, combined): &(_, Combined)| {
        around.previous.is_none() && around.starting.is_some_and(|starting| !starting.is_sure(combined))
    };
    if chosen.as_ref().is_some_and(is_unsure) {
        verdicts.iter_mut().filter(|verdict| verdict.agrees()).for_each(|verdict| *verdict = Verdict::Waiting);
        return Selection { verdicts, ..Selection::default() };
    }
    let agrees = |i: &usize| chosen.is_some() && verdicts[*i].agrees();
    let deciders = voters.iter().copied().filter(agrees).map(|i| candidates[i].id).collect();
    Selection { verdicts, chosen, deciders }
}

/// Whether a candidate may take part at all; `Selected` stands for "yes, so far".
fn fitness(candidate: &Candidate, around: &Circumstances, config: &SelectConfig) -> Verdict {
    if candidate.options.noselect {
        Verdict::NotSelectable
    } else if candidate.trust == Trust::None && is_excluded(around.authenticated, config.auth) {
        Verdict::Untrusted
    } else if candidate.estimate.distance() > config.max_distance {
        Verdict::Distant
    } else if candidate.estimate.jitter > config.max_jitter {
        Verdict::Jittery
    } else {
        Verdict::Selected
    }
}

/// Whether sources without authentication are not even to confirm others.
const fn is_excluded(authenticated: bool, auth: AuthSelect) -> bool {
    match auth {
        AuthSelect::Require => true,
        AuthSelect::Prefer => authenticated,
        AuthSelect::Mix | AuthSelect::Ignore => false,
    }
}

/// Whether a source is authenticated, or counts as if it were.
pub(crate) fn is_vouched(trust: Trust, options: SelectOptions, auth: AuthSelect) -> bool {
    // A reference clock votes with authenticated sources, and is no reason for others not to: it can be wrong alone.
    trust > Trust::Local || (options.trust && auth == AuthSelect::Mix)
}

/// How a source is used, after what authentication counts for, where `authenticated` is as for [`votes`].
pub(crate) const fn effective(
    trust: Trust,
    options: SelectOptions,
    authenticated: bool,
    auth: AuthSelect,
) -> SelectOptions {
    let is_plain = matches!(trust, Trust::None);
    if is_plain && is_excluded(authenticated, auth) {
        return SelectOptions { noselect: true, prefer: false, trust: false, require: options.require };
    }
    let is_vouched = if matches!(trust, Trust::Local) { authenticated } else { !is_plain };
    SelectOptions { trust: options.trust || is_vouched && matches!(auth, AuthSelect::Mix), ..options }
}

/// Whether a source may vote, where `authenticated` says that there is [one that is vouched for](is_vouched).
pub(crate) fn votes(trust: Trust, options: SelectOptions, authenticated: bool, auth: AuthSelect) -> bool {
    match auth {
        AuthSelect::Ignore => true,
        AuthSelect::Mix => !authenticated || trust == Trust::Local || is_vouched(trust, options, auth),
        AuthSelect::Prefer | AuthSelect::Require => trust > Trust::None || !is_excluded(authenticated, auth),
    }
}

/// Where more than half of the voters agree.
fn majority(candidates: &[Candidate], voters: &[usize]) -> Option<Overlap> {
    let intervals: Vec<Interval> = voters.iter().map(|&i| interval(&candidates[i])).collect();
    agreement(&intervals).filter(|overlap| 2 * overlap.depth > voters.len())
}

/// Whether the best source's word is enough for how large the error is claimed to be: a reference clock's is, and whose the
/// administrator prefers, and that of one of two.
fn is_beyond_doubt(best: &Candidate, voters: &[usize], candidates: &[Candidate]) -> bool {
    let is_voter = voters.iter().any(|&i| candidates[i].id == best.id);
    is_voter && (best.options.prefer || best.trust == Trust::Local || voters.len() < MANY_VOTERS)
}

/// Widens what is claimed: fewer than half of the voters may be wrong, the best among them, and one whose round trip seems short has the
/// smallest interval.
fn doubt(combined: Combined, voters: &[usize], candidates: &[Candidate]) -> Combined {
    let covered_by_most = |interval: &dyn Fn(&Estimate) -> Interval| {
        let intervals: Vec<Interval> = voters.iter().map(|&i| interval(&candidates[i].estimate)).collect();
        covered(&intervals, voters.len() / 2 + 1)
    };
    let offsets = covered_by_most(&|e| Interval::around(e.offset, e.bound().max(e.distance())));
    let frequencies = covered_by_most(&|e| Interval::around(e.frequency, e.skew + MAX_CLOCK_ERROR));
    combined.at_least(offsets, frequencies)
}

fn interval(candidate: &Candidate) -> Interval {
    Interval::around(candidate.estimate.offset, candidate.estimate.distance())
}

/// Picks the best of those that agree, unless something else is still wanted.
fn choose<'a>(
    candidates: &'a [Candidate],
    voters: &[usize],
    verdicts: &mut [Verdict],
    around: &Circumstances,
    config: &SelectConfig,
) -> Option<(&'a Candidate, Vec<&'a Candidate>)> {
    let agreeing = |verdicts: &[Verdict]| -> Vec<usize> {
        (0..candidates.len()).filter(|&i| verdicts.get(i) == Some(&Verdict::Selected)).collect()
    };
    let all = agreeing(verdicts);
    let agreed = all.iter().filter(|&i| voters.contains(i)).count();
    let has_refclock = all.iter().any(|&i| voters.contains(&i) && candidates[i].trust == Trust::Local);
    let missing = around.required_missing
        || candidates.iter().zip(verdicts.iter()).any(|(c, v)| c.options.require && *v != Verdict::Selected);
    let wanted = if missing {
        Some(Verdict::MissingRequired)
    } else if agreed < needed(around, config, has_refclock) {
        Some(Verdict::TooFew)
    } else if around.previous.is_none() && around.starting.is_some_and(|starting| agreed <= starting.expected / 2) {
        Some(Verdict::Waiting)
    } else {
        None
    };
    if let Some(verdict) = wanted {
        all.iter().for_each(|&i| verdicts[i] = verdict);
        return None;
    }
    if all.iter().any(|&i| candidates[i].options.prefer) {
        for &i in all.iter().filter(|&&i| !candidates[i].options.prefer) {
            verdicts[i] = Verdict::NotPreferred;
        }
    }
    let mut left = agreeing(verdicts);
    // Those who decide on the time decide on its rate as well, where any of them are left.
    let deciding: Vec<&Candidate> = left.iter().filter(|&i| voters.contains(i)).map(|&i| &candidates[i]).collect();
    let judges = if deciding.is_empty() { left.iter().map(|&i| &candidates[i]).collect() } else { deciding };
    if let Some(common) = cluster::common_frequency(&judges) {
        left.retain(|&i| {
            let is_steady = cluster::runs_at(&candidates[i], &common);
            if !is_steady {
                verdicts[i] = Verdict::NotCombined;
            }
            is_steady
        });
    }
    let pool: Vec<&Candidate> = left.iter().map(|&i| &candidates[i]).collect();
    let best = *pool.get(cluster::best(&pool, around.previous)?)?;
    let mut others = Vec::new();
    for &i in left.iter().filter(|&&i| candidates[i].id != best.id) {
        if cluster::combines(best, &candidates[i]) {
            verdicts[i] = Verdict::Combined;
            others.push(&candidates[i]);
        } else {
            verdicts[i] = Verdict::NotCombined;
        }
    }
    Some((best, others))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::NtpTimestamp;

    fn candidate(id: u32, offset: f64, distance: f64, trust: Trust) -> Candidate {
        let estimate = Estimate {
            at: NtpTimestamp::ZERO,
            offset,
            offset_deviation: distance / 10.0,
            frequency: 0.0,
            skew: 1e-6,
            jitter: distance / 10.0,
            peer_distance: distance,
            root_distance: 0.0,
            root_delay: 0.0,
            root_dispersion: distance,
            stratum: 2,
            samples: 8,
            runs: 4,
            span: 100.0,
            age: 1.0,
        };
        Candidate { id: SourceId(id), estimate, trust, options: SelectOptions::default() }
    }

    fn around(candidates: &[Candidate]) -> Circumstances {
        around_of(candidates, AuthSelect::Mix)
    }

    fn around_of(candidates: &[Candidate], auth: AuthSelect) -> Circumstances {
        let authenticated = candidates.iter().any(|c| is_vouched(c.trust, c.options, auth));
        let around = Circumstances {
            previous: None,
            starting: None,
            authenticated,
            configured_voters: 0,
            required_missing: false,
        };
        let voting = |c: &&Candidate| votes(c.trust, c.options, authenticated, auth);
        let voters = candidates.iter().filter(|c| !c.options.noselect).filter(voting).count();
        Circumstances { configured_voters: voters, ..around }
    }

    fn run(candidates: &[Candidate]) -> Selection {
        select(candidates, &around(candidates), &SelectConfig::default())
    }

    #[test]
    fn the_liar_is_found() {
        let sources: Vec<_> =
            [0.001, -0.001, 0.002, 0.5].iter().zip(1..).map(|(&o, id)| candidate(id, o, 0.01, Trust::None)).collect();
        let selection = run(&sources);
        assert_eq!(selection.verdicts[3], Verdict::Falseticker);
        assert!(selection.verdicts[..3].iter().all(|v| v.is_used()));
        assert!(selection.chosen.unwrap().1.offset.abs() < 0.002);
    }

    #[test]
    fn a_liar_that_seems_near_is_followed_no_farther_than_the_claimed_bound() {
        let mut sources: Vec<_> = (1..=4).map(|id| candidate(id, 0.0, 0.02, Trust::None)).collect();
        sources[0] = candidate(1, 0.015, 0.001, Trust::None);
        let (best, combined) = run(&sources).chosen.unwrap();
        assert_eq!(best, SourceId(1), "nobody can tell it from a server near by");
        assert!(combined.bound() >= combined.offset.abs(), "true time is 0: {combined:?}");
        // Three of four say so, and so it is claimed.
        assert!((combined.bound() - (0.02 + combined.offset)).abs() < 1e-9, "{combined:?}");
        sources[0].options.prefer = true;
        assert!(run(&sources).chosen.unwrap().1.bound() < 0.002, "the administrator knows better");
        assert!(run(&sources[..2]).chosen.unwrap().1.bound() < 0.002, "there is no majority among two");
    }

    #[test]
    fn one_that_drifts_inside_of_what_the_others_know_is_not_the_best() {
        let mut sources: Vec<_> = (1..=4).map(|id| candidate(id, 0.0, 0.02, Trust::None)).collect();
        sources[0] = candidate(1, 0.005, 0.01, Trust::None);
        sources[0].estimate.frequency = 50e-6;
        let selection = run(&sources);
        assert_eq!(selection.verdicts[0], Verdict::NotCombined);
        assert!(selection.verdicts[1..].iter().all(|v| v.is_used()), "{:?}", selection.verdicts);
        let (_, combined) = selection.chosen.unwrap();
        assert!(combined.offset.abs() < 1e-9 && combined.frequency.abs() < 1e-12, "{combined:?}");
        // Two who run at different rates are as good as each other.
        assert!(run(&sources[..2]).chosen.is_some());
    }

    #[test]
    fn plain_sources_do_not_outvote_authenticated_ones_on_the_rate() {
        let mut sources: Vec<_> = (1..=5).map(|id| candidate(id, 0.0, 0.02, Trust::Pki)).collect();
        for liar in &mut sources[2..] {
            liar.trust = Trust::None;
            (liar.estimate.peer_distance, liar.estimate.frequency) = (0.001, 20e-6);
        }
        let selection = run(&sources);
        assert!(selection.verdicts[..2].iter().all(|v| v.is_used()), "{:?}", selection.verdicts);
        assert_eq!(selection.verdicts[2..], [Verdict::NotCombined; 3]);
        assert!(selection.chosen.unwrap().1.frequency.abs() < 1e-12);
    }

    #[test]
    fn two_against_two_move_nothing() {
        let sources: Vec<_> =
            [0.0, 0.0, 1.0, 1.0].iter().zip(1..).map(|(&o, id)| candidate(id, o, 0.01, Trust::None)).collect();
        let selection = run(&sources);
        assert_eq!(selection.chosen, None);
        assert!(selection.verdicts.iter().all(|v| *v == Verdict::NoMajority));
    }

    #[test]
    fn a_reference_clock_votes_with_those_that_are_authenticated_and_does_not_silence_others() {
        let clock = candidate(1, 0.0, 1e-6, Trust::Local);
        let plain = [2, 3].map(|id| candidate(id, 0.5, 0.01, Trust::None));
        let selection = run(&[clock, plain[0], plain[1]]);
        assert_eq!(selection.verdicts[0], Verdict::Falseticker, "plain servers vote beside it, and have the majority");
        let authentic = [2, 3].map(|id| candidate(id, 0.001, 0.01, Trust::Pki));
        let selection = run(&[clock, authentic[0], authentic[1], plain[0]]);
        assert!(selection.verdicts[..3].iter().all(|verdict| verdict.is_used() || *verdict == Verdict::NotCombined));
        assert_eq!(selection.verdicts[3], Verdict::Untrusted);
        // All servers are silent: it goes on alone, where one server would not.
        let around = Circumstances { configured_voters: 4, ..around(&[clock]) };
        let alone = |candidate| select(&[candidate], &around, &SelectConfig::default()).verdicts[0];
        assert_eq!(alone(clock), Verdict::Selected);
        assert_eq!(alone(candidate(1, 0.0, 1e-6, Trust::None)), Verdict::TooFew);
    }

    #[test]
    fn a_tie_is_decided_by_those_better_vouched_for_and_a_majority_is_not_overruled() {
        let source = |id, offset, trust| candidate(id, offset, 0.01, trust);
        for (honest, liars, followed) in [
            ([Trust::Dane; 2], [Trust::Pki; 2], true),
            ([Trust::Dnssec; 2], [Trust::Pki; 2], true),
            ([Trust::Dane; 2], [Trust::Dnssec; 2], true),
            // One is not enough where many are configured.
            ([Trust::Dane, Trust::Pki], [Trust::Pki; 2], false),
            ([Trust::Dane, Trust::Pki], [Trust::Dane, Trust::Pki], false),
            // Keys are shared by hand: no worse than certificates, and no tier of their own.
            ([Trust::Pki; 2], [Trust::Key; 2], false),
        ] {
            let [a, b] = honest;
            let [c, d] = liars;
            let sources = [source(1, 0.0, a), source(2, 0.001, b), source(3, 1.0, c), source(4, 1.001, d)];
            let selection = run(&sources);
            assert_eq!(selection.chosen.map(|(id, _)| id.0 <= 2), followed.then_some(true), "{honest:?} {liars:?}");
            if followed {
                assert_eq!(selection.verdicts[2..], [Verdict::Untrusted; 2]);
            }
        }
        let three = [0.0, 0.0, 0.0].iter().zip(1..).map(|(&offset, id)| source(id, offset, Trust::Pki));
        let sources: Vec<_> = three.chain([source(4, 1.0, Trust::Dane), source(5, 1.0, Trust::Dane)]).collect();
        let selection = run(&sources);
        assert!(selection.verdicts[..3].iter().all(|v| v.is_used()));
        assert_eq!(selection.verdicts[3..], [Verdict::Falseticker; 2]);
    }

    #[test]
    fn of_equals_the_better_vouched_for_is_the_best() {
        let sources = [
            candidate(1, 0.0, 0.010, Trust::Pki),
            candidate(2, 0.0, 0.010, Trust::Dane),
            candidate(3, 0.0, 0.010, Trust::Dnssec),
        ];
        assert_eq!(run(&sources).chosen.unwrap().0, SourceId(2));
        // A clearly better one is the best whatever vouches for it.
        let sources = [sources[0], candidate(2, 0.0, 0.030, Trust::Dane), sources[2]];
        assert_eq!(run(&sources).chosen.unwrap().0, SourceId(3));
    }

    #[test]
    fn nine_plain_liars_do_not_outvote_one_authenticated_source() {
        let mut sources: Vec<_> = (1..10).map(|id| candidate(id, 0.4, 0.01, Trust::None)).collect();
        sources.push(candidate(10, 0.0, 0.02, Trust::Pki));
        let selection = run(&sources);
        assert_eq!(selection.chosen.unwrap().0, SourceId(10));
        assert!(selection.verdicts[..9].iter().all(|v| *v == Verdict::Untrusted));
    }

    #[test]
    fn plain_sources_wait_while_the_authenticated_are_silent() {
        let sources: Vec<_> = (1..4).map(|id| candidate(id, 0.0, 0.01, Trust::None)).collect();
        let silent = Circumstances { authenticated: true, ..around(&sources) };
        let selection = select(&sources, &silent, &SelectConfig::default());
        assert_eq!(selection.chosen, None);
        assert!(selection.verdicts.iter().all(|v| *v == Verdict::Untrusted));
    }

    #[test]
    fn authentication_counts_for_what_was_said() {
        let plain = |id, offset| candidate(id, offset, 0.01, Trust::None);
        let mixed = [plain(1, 0.4), plain(2, 0.4), plain(3, 0.001), candidate(4, 0.0, 0.02, Trust::Pki)];
        let all_plain = [plain(1, 0.0), plain(2, 0.001)];
        let chosen = |sources: &[Candidate], auth| {
            let config = SelectConfig { auth, ..SelectConfig::default() };
            let selection = select(sources, &around_of(sources, auth), &config);
            let used = selection.verdicts.iter().map(|verdict| verdict.is_used()).collect::<Vec<_>>();
            (selection.chosen.is_some(), used)
        };
        for (auth, mixed_used, plain_used) in [
            (AuthSelect::Require, [false, false, false, true], false),
            (AuthSelect::Prefer, [false, false, false, true], true),
            (AuthSelect::Mix, [false, false, true, true], true),
        ] {
            assert_eq!(chosen(&mixed, auth), (true, mixed_used.to_vec()), "{auth:?}");
            assert_eq!(chosen(&all_plain, auth), (plain_used, vec![plain_used; 2]), "{auth:?}");
        }
        // Two against two: nobody is the better for a certificate.
        assert_eq!(chosen(&mixed, AuthSelect::Ignore), (false, vec![false; 4]));
        let liars = [plain(1, 0.4), plain(2, 0.4), plain(3, 0.4), candidate(4, 0.0, 0.02, Trust::Dane)];
        assert_eq!(chosen(&liars, AuthSelect::Ignore), (true, vec![true, true, true, false]));
    }

    #[test]
    fn a_vote_by_option_does_not_stand_for_authentication_that_is_required() {
        let mut trusted = candidate(1, 0.0, 0.01, Trust::None);
        trusted.options.trust = true;
        let sources = [trusted, candidate(2, 0.4, 0.01, Trust::None), candidate(3, 0.4, 0.01, Trust::None)];
        for (auth, used) in [
            (AuthSelect::Require, [false; 3]),
            (AuthSelect::Prefer, [false, true, true]),
            (AuthSelect::Mix, [true, false, false]),
        ] {
            let config = SelectConfig { auth, ..SelectConfig::default() };
            let selection = select(&sources, &around_of(&sources, auth), &config);
            let found: Vec<_> = selection.verdicts.iter().map(|verdict| verdict.is_used()).collect();
            assert_eq!(found, used, "{auth:?}");
        }
    }

    #[test]
    fn who_says_what_others_say_is_redundant() {
        let sources = [0.0, 1e-4, -1e-4, 9.0].into_iter().zip([1e-3, 1e-3, 1e-2, 1e-3]).zip(1..);
        let sources: Vec<_> = sources.map(|((offset, wide), id)| candidate(id, offset, wide, Trust::None)).collect();
        let selection = run(&sources);
        assert_eq!(selection.verdicts[2..], [Verdict::NotCombined, Verdict::Falseticker]);
        let near =
            |found: &[f64], expected: [f64; 4]| found.iter().zip(expected).all(|(a, b)| (a / b - 1.0).abs() < 1e-9);
        let all = selection.redundancies(&sources, |_| true);
        assert!(near(&all, [2.0, 2.0, 5.0, 1.0]), "{all:?}");
        let one_is_silent = selection.redundancies(&sources, |id| id != SourceId(2));
        assert!(near(&one_is_silent, [1.0, 2.0, 3.0, 1.0]), "{one_is_silent:?}");
        // What knows little takes nothing away from one that knows much.
        let selection = run(&[sources[0], candidate(2, 0.0, 2e-3, Trust::None)]);
        assert!(selection.redundancies(&sources[..1], |_| true) == [1.0]);
        let unequal = selection.redundancies(&[sources[0], candidate(2, 0.0, 2e-3, Trust::None)], |_| true);
        assert!((unequal[0] - 1.25).abs() < 1e-9 && (unequal[1] - 3.0).abs() < 1e-9, "{unequal:?}");
    }

    #[test]
    fn a_liar_beside_a_wide_honest_source_moves_nothing() {
        // The wide one agrees with both, which do not agree with each other: either may be the liar.
        let sources = [
            candidate(1, 0.0, 0.1, Trust::None),
            candidate(2, 0.0, 1e-4, Trust::None),
            candidate(3, 0.06, 1e-4, Trust::None),
        ];
        let selection = run(&sources);
        assert_eq!(selection.verdicts, [Verdict::TooFew, Verdict::NoMajority, Verdict::NoMajority]);
        assert_eq!(selection.chosen, None);
        // Where one that covers both places is not alone, it is followed, and its bound holds.
        let sources = [sources[0], candidate(4, 0.01, 0.1, Trust::None), sources[1], sources[2]];
        let (best, combined) = run(&sources).chosen.unwrap();
        assert!(best == SourceId(1) && combined.offset.abs() <= combined.bound());
        assert!(combined.offset.abs() < 0.01);
    }

    #[test]
    fn no_minority_of_liars_moves_the_clock() {
        // Honest sources differ in what they promise, and keep it; liars all say the same, sure of it.
        for count in 1..=9_u32 {
            for liars in 0..count.div_ceil(2) {
                for (lie, sureness) in [(0.3, 1e-6), (0.3, 0.1), (-0.02, 1e-4), (0.008, 1e-5), (40.0, 1.0)] {
                    let honest = |id: u32| {
                        let distance = 0.01 * f64::from(1 + id % 3);
                        candidate(id, distance * (f64::from(id % 5) - 2.0) / 4.0, distance, Trust::None)
                    };
                    let liar = |id| candidate(id, lie, sureness, Trust::None);
                    let sources: Vec<_> = (0..count).map(|id| if id < liars { liar(id) } else { honest(id) }).collect();
                    if let Some((_, combined)) = run(&sources).chosen {
                        // At worst to the edge of what most honest sources allow.
                        assert!(combined.offset.abs() <= 0.03, "{liars} of {count} say {lie}: {combined:?}");
                    } else {
                        assert!(liars > 0, "{count} honest sources agree");
                    }
                }
            }
        }
    }

    #[test]
    fn one_that_is_left_of_many_is_not_followed() {
        let sources = [candidate(5, 0.5, 0.01, Trust::None)];
        for (configured_voters, min_sources, followed) in [
            (1, None, true),
            (2, None, true),
            (3, None, false),
            (5, None, false),
            (5, Some(1), true),
            (1, Some(2), false),
        ] {
            let around = Circumstances { configured_voters, ..around(&sources) };
            let selection = select(&sources, &around, &SelectConfig { min_sources, ..SelectConfig::default() });
            assert_eq!(selection.chosen.is_some(), followed, "{configured_voters} {min_sources:?}");
            assert_eq!(selection.verdicts[0] == Verdict::TooFew, !followed);
        }
    }

    #[test]
    fn a_confirmed_plain_source_claims_no_more_than_who_confirmed_it() {
        let sources = [candidate(1, 0.0, 0.05, Trust::Pki), candidate(2, 0.02, 1e-4, Trust::None)];
        let (_, combined) = run(&sources).chosen.unwrap();
        assert!(combined.bound() >= 0.05, "{combined:?}");
    }

    #[test]
    fn options_are_obeyed() {
        let mut sources: Vec<_> = (1..4).map(|id| candidate(id, 0.0, 0.01, Trust::None)).collect();
        sources[0].options.noselect = true;
        sources[2].options.prefer = true;
        let selection = run(&sources);
        assert_eq!(selection.verdicts, [Verdict::NotSelectable, Verdict::NotPreferred, Verdict::Selected]);

        sources[1].options.require = true;
        sources[1].estimate.peer_distance = 10.0;
        let selection = run(&sources);
        assert_eq!(selection.verdicts, [Verdict::NotSelectable, Verdict::Distant, Verdict::MissingRequired]);
    }

    #[test]
    fn equals_do_not_take_turns() {
        let sources = [candidate(1, 0.0, 0.010, Trust::None), candidate(2, 0.0, 0.011, Trust::None)];
        let kept = Circumstances { previous: Some(SourceId(2)), ..around(&sources) };
        assert_eq!(select(&sources, &kept, &SelectConfig::default()).chosen.unwrap().0, SourceId(2));
        assert_eq!(run(&sources).chosen.unwrap().0, SourceId(1));
    }
}
