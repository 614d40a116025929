//! The vote on what time it is.

use super::{Reading, chain::Chain, clock::DAY, operators::Identity, operators::operators};
use crate::select::{Interval, deepest};

/// How far outside its window a server's time may be, in seconds: certificates are made by clocks that differ.
const WINDOW_SLACK: i64 = 60;
/// Widest overlap that is agreement on one time, in seconds.
const MAX_WIDTH: f64 = 1.0;
/// Fewest measurements of each server in a vote on what time it is.
pub(super) const FIRST_SAMPLES: usize = 3;
/// The same where a vote confirms a time that was agreed on: whatever delays one measurement widens what it says by as much,
/// and nothing but the time agreed on can be confirmed.
pub(super) const CONFIRMING_SAMPLES: usize = 1;
/// Longest life of a certificate by an authority that all the web trusts (CA/Browser Forum Baseline Requirements 6.3.2); a
/// longer one is believed only of an authority that the administrator named.
const MAX_LIFE: i64 = 398 * DAY;

/// A server that may vote.
#[derive(Clone, Debug)]
pub(super) struct Witness<'a> {
    /// Whose it is, as far as the vote is concerned.
    pub(super) identity: Identity,
    pub(super) chain: &'a Chain,
    /// The server has proven to have the certificate's key.
    pub(super) proven: bool,
    pub(super) reading: Option<Reading>,
}

/// What must hold of a time that is agreed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// It is this late at least, in Unix seconds.
    pub(super) earliest: i64,
    /// It is this late at most.
    pub(super) latest: i64,
    /// How many operators must agree.
    pub(super) needed: usize,
    /// Fewest measurements of each server.
    pub(super) samples: usize,
    /// What the clock says.
    pub(super) now: i64,
    /// What it takes to vote.
    pub(super) ballot: Ballot,
}

/// What it takes to vote, and what to agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ballot {
    /// The clock will be set, or was set, to what comes out: certificates of no unusual life, and agreement on one time to the
    /// second.
    Setting,
    /// The clock is confirmed by certificates that are valid by it, one voice for each operator.
    Confirming,
    /// The same, one voice for each server.
    ConfirmingByServers,
}

/// The outcome of a vote.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Vote {
    /// The most operators that agree on one time.
    pub(super) agreeing: usize,
    /// The time that enough agree on, as seconds from the clock to it.
    pub(super) offset: Option<f64>,
    /// The most that it can be off.
    pub(super) distance: f64,
}

impl Vote {
    /// Nobody has voted.
    pub(super) const NONE: Self = Self { agreeing: 0, offset: None, distance: 0.0 };
}

/// `offset` seconds after `now`, rounded down: dates are of whole seconds, and the vote allows for more than one.
#[expect(clippy::cast_possible_truncation, reason = "saturates, and such times are refused")]
pub(super) fn unix(now: i64, offset: f64) -> i64 {
    now.saturating_add(offset.floor() as i64)
}

/// Lets operators vote, one voice each: the deepest overlap of what they say, if it is in one place, narrow, and at a time
/// at which most of the chains seen are valid.
pub(super) fn vote(witnesses: &[Witness<'_>], limits: &Limits) -> Vote {
    let voters: Vec<(&Witness<'_>, Reading)> =
        witnesses.iter().filter_map(|witness| Some((witness, fit(witness, limits)?))).collect();
    let identities: Vec<&Identity> = voters.iter().map(|(witness, _)| &witness.identity).collect();
    let operator = match limits.ballot {
        Ballot::Setting | Ballot::Confirming => operators(&identities),
        Ballot::ConfirmingByServers => (0..voters.len()).collect(),
    };
    // One operator's servers have one voice, that of the surest.
    let mut best: Vec<(usize, Reading)> = Vec::new();
    for (operator, (_, reading)) in operator.into_iter().zip(&voters) {
        match best.iter_mut().find(|(known, _)| *known == operator) {
            Some((_, kept)) if kept.distance <= reading.distance => {}
            Some((_, kept)) => *kept = *reading,
            None => best.push((operator, *reading)),
        }
    }
    let intervals: Vec<Interval> = best
        .iter()
        .map(|(_, Reading { offset, distance, .. })| Interval { low: offset - distance, high: offset + distance })
        .collect();
    let Some(overlap) = deepest(&intervals) else { return Vote::NONE };
    let Interval { low, high } = overlap.interval;
    let middle = 0.5 * (low + high);
    let at = unix(limits.now, middle);
    let (valid, all) = valid_at(witnesses, at);
    let agreed = overlap.depth >= limits.needed
        && overlap.single
        && (high - low <= MAX_WIDTH || limits.ballot != Ballot::Setting)
        && (limits.earliest..=limits.latest).contains(&at)
        && 2 * valid > all;
    Vote { agreeing: overlap.depth, offset: agreed.then_some(middle), distance: 0.5 * (high - low) }
}

/// How many operators have a certificate that is valid then, and how many have any: of those who have proven to have its key,
/// since old ones may be shown by anybody.
fn valid_at(witnesses: &[Witness<'_>], at: i64) -> (usize, usize) {
    let proven: Vec<&Witness<'_>> = witnesses.iter().filter(|witness| witness.proven).collect();
    let identities: Vec<&Identity> = proven.iter().map(|witness| &witness.identity).collect();
    let (mut all, mut valid) = (Vec::new(), Vec::new());
    for (operator, witness) in operators(&identities).into_iter().zip(proven) {
        if !all.contains(&operator) {
            all.push(operator);
        }
        if witness.chain.window.contains(at, WINDOW_SLACK) && !valid.contains(&operator) {
            valid.push(operator);
        }
    }
    (valid.len(), all.len())
}

/// What a server says, if that can be true.
fn fit(witness: &Witness<'_>, limits: &Limits) -> Option<Reading> {
    let reading = witness.reading.filter(|reading| reading.samples >= limits.samples)?;
    let at = unix(limits.now, reading.offset);
    let chain = witness.chain;
    let is_usual = chain.life <= MAX_LIFE || chain.pinned;
    let can_be = chain.window.contains(at, WINDOW_SLACK)
        && (limits.earliest..=limits.latest).contains(&at)
        && (is_usual || limits.ballot != Ballot::Setting);
    can_be.then_some(reading)
}
