//! The verdict on members: samples in, states out.
//!
//! A member is judged by what happens to the keys of users (passive samples) and by probes, each by itself: whoever makes
//! cookies need not serve time, and whoever serves single clients need not serve a pool. A sample that fails makes it
//! suspect, some more bring it down; what failed has to succeed again. If most members fail at the same time, the fault is
//! more likely ours: nobody is brought down then. Whoever was down before stays so, and says nothing of that.

use std::collections::BTreeMap;

use pool_srv::directory::{Health, HealthReport, MemberHealth};

use super::round::Horizon;

/// Failures more than successes that bring a member down.
const DOWN_AT: u8 = 3;

/// Most failures with users that are held against a member: so many successes and one more bring it up again.
pub(super) const MOST: u8 = 4;

/// Most failed probes that are held against it. They are seldom: one that succeeds is enough for a few users.
const MOST_PROBES: u8 = DOWN_AT;

/// Probes in a row with a wrong clock that bring a member down.
const WRONG_AT: u8 = 2;

/// Seconds after which a member that is down is given a few users again, at first and at most.
const TRIAL: (u64, u64) = (10, 300);

/// Seconds of an exchange's delay, halved, that may excuse its offset.
const MAX_EXCUSE: f64 = 0.05;

/// What was learned of a member.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// It made cookies for keys of a user, or of a probe that asked as users are served.
    Served,
    /// It did not; why.
    Failed(String),
    /// A probe got no time of it, asking as any client does; why.
    Unprobed(String),
    /// A probe found its clock this far ahead of ours, in seconds, and took this long.
    Measured {
        /// Its clock minus ours.
        offset: f64,
        /// How long the exchange took.
        delay: f64,
    },
}

/// What is held against a member on one way to it.
#[derive(Clone, Copy, Debug, Default)]
struct Track {
    bad: u8,
    /// Whether the last sample was a failure.
    fails: bool,
    sampled: Option<u64>,
    failed: Option<u64>,
}

impl Track {
    fn succeed(&mut self, now: u64) {
        self.bad = self.bad.saturating_sub(1);
        (self.fails, self.sampled) = (false, Some(now));
    }

    fn fail(&mut self, now: u64, most: u8) {
        self.bad = self.bad.saturating_add(1).min(most);
        (self.fails, self.sampled, self.failed) = (true, Some(now), Some(now));
    }

    fn forget(&mut self) {
        (self.bad, self.fails) = (0, false);
    }
}

/// Whether something happened, and not longer ago than so many seconds.
fn is_within(at: Option<u64>, now: u64, seconds: u64) -> bool {
    at.is_some_and(|at| now.saturating_sub(at) <= seconds)
}

#[derive(Clone, Debug, Default)]
struct Record {
    /// With the keys of users.
    users: Track,
    /// As any client has it, by probes.
    probes: Track,
    /// Probes in a row that found a wrong clock.
    wrong: u8,
    measured: u64,
    offset: Option<f64>,
    reason: Option<String>,
    /// While it is down: when it is tried again, and how long it is left alone after that.
    trial: Option<(u64, u64)>,
    draining: bool,
    state: Health,
    since: u64,
    /// Since when it is down, trials included, and whether that has just changed.
    down_since: Option<u64>,
    turned: bool,
}

/// The state machine of all members. Times are seconds of a clock that nobody sets.
#[derive(Clone, Debug)]
pub struct Judge {
    max_offset: f64,
    horizon: Horizon,
    members: BTreeMap<String, Record>,
    common: bool,
}

impl Judge {
    /// Members' clocks may be `max_offset` seconds off, ahead or behind.
    #[must_use]
    pub fn new(max_offset: f64) -> Self {
        Self { max_offset, horizon: Horizon::default(), members: BTreeMap::new(), common: false }
    }

    /// Says how far back samples count from now on.
    pub const fn set_horizon(&mut self, horizon: Horizon) {
        self.horizon = horizon;
    }

    /// Forgets members that are no longer any, and takes new ones, which are up.
    pub fn set_members<'a>(&mut self, now: u64, names: impl Iterator<Item = &'a str>) {
        let mut old = core::mem::take(&mut self.members);
        for name in names {
            let record = old.remove(name).unwrap_or_else(|| Record { since: now, ..Record::default() });
            self.members.insert(name.to_owned(), record);
        }
    }

    /// Takes what was learned of a member; those that are not known do not count.
    pub fn handle_sample(&mut self, now: u64, member: &str, sample: Sample) {
        let max_offset = self.max_offset;
        let Some(record) = self.members.get_mut(member) else { return };
        match sample {
            Sample::Served => record.users.succeed(now),
            Sample::Failed(reason) => {
                record.users.fail(now, MOST);
                record.reason = Some(reason);
            }
            Sample::Unprobed(reason) => {
                record.probes.fail(now, MOST_PROBES);
                record.reason = Some(reason);
            }
            Sample::Measured { offset, delay } => {
                record.probes.succeed(now);
                record.offset = Some(offset);
                record.measured = now;
                // The same on both sides of zero. What is not a number is wrong too.
                let bound = max_offset + (delay / 2.0).clamp(0.0, MAX_EXCUSE);
                if offset.abs() <= bound {
                    record.wrong = 0;
                } else {
                    record.wrong = record.wrong.saturating_add(1).min(WRONG_AT);
                    record.probes.failed = Some(now);
                    record.reason = Some(format!("its clock is off by {offset:+.3} s"));
                }
            }
        }
    }

    /// Takes a member out, or in again; `false` if it is not known.
    pub fn set_draining(&mut self, member: &str, draining: bool) -> bool {
        let Some(record) = self.members.get_mut(member) else { return false };
        record.draining = draining;
        true
    }

    /// Works out all states again; whether any changed. To be called after samples, and now and then.
    pub fn judge(&mut self, now: u64) -> bool {
        for record in self.members.values_mut() {
            record.age(now, self.horizon.fresh);
        }
        let common = self.is_common(now);
        if core::mem::replace(&mut self.common, common) && !common {
            // What a fault of ours made probes and users find condemns nobody once it is over: the next of each decides.
            self.members.values_mut().filter(|record| record.down_since.is_none()).for_each(Record::pardon);
        }
        let mut changed = false;
        for record in self.members.values_mut() {
            let state = record.judge(now, common);
            // A trial is no return: it is told when it ended well.
            record.turned = match state {
                Health::Down => record.down_since.replace(record.down_since.unwrap_or(now)).is_none(),
                Health::Up => record.down_since.take().is_some(),
                Health::Suspect | Health::Draining => false,
            };
            if state != record.state {
                record.state = state;
                record.since = now;
                changed = true;
            }
        }
        changed
    }

    /// Whether so many members fail at once that the fault is taken for ours.
    #[must_use]
    pub const fn is_common_mode(&self) -> bool {
        self.common
    }

    fn is_common(&self, now: u64) -> bool {
        let Horizon { event, fresh } = self.horizon;
        // Whoever was down before fails at any time: that is no sign of one event, nor of its absence.
        let was_down = |record: &Record| record.down_since.is_some_and(|since| !is_within(Some(since), now, event));
        let fresh = |record: &&Record| {
            !was_down(record) && [record.users, record.probes].iter().any(|track| is_within(track.sampled, now, fresh))
        };
        // Whose last word was a failure, or a wrong time, counts before it is condemned: else, whoever comes first in a round of probes would
        // be brought down before the others have their say.
        let failing = |record: &&Record| record.is_failing(now, event);
        let known = self.members.values().filter(fresh).count();
        let failing = self.members.values().filter(fresh).filter(failing).count();
        failing >= 2 && failing * 2 > known
    }

    /// How a member is; up if it is not known.
    #[must_use]
    pub fn state(&self, member: &str) -> Health {
        self.members.get(member).map_or(Health::Up, |record| record.state)
    }

    /// Those that went down, or came back from there, in the last judgement: name, whether down, and the
    /// reason.
    pub fn turns(&self) -> impl Iterator<Item = (&str, bool, &str)> {
        let turned = self.members.iter().filter(|(_, record)| record.turned);
        turned.map(|(name, record)| {
            (name.as_str(), record.state == Health::Down, record.reason.as_deref().unwrap_or("no reason known"))
        })
    }

    /// The verdict, to be published at a time in seconds since 1970.
    #[must_use]
    pub fn report(&self, now: u64, made_at: u64) -> HealthReport {
        let members = self.members.iter().map(|(name, record)| {
            let up = record.state == Health::Up;
            let health = MemberHealth {
                state: record.state,
                since: made_at.saturating_sub(now.saturating_sub(record.since)),
                offset_seconds: record.offset,
                reason: record.reason.clone().filter(|_| !up),
            };
            (name.clone(), health)
        });
        HealthReport { made_at, members: members.collect() }
    }
}

impl Record {
    /// Lets go what was true too long ago.
    fn age(&mut self, now: u64, fresh: u64) {
        if now.saturating_sub(self.measured) > fresh {
            self.offset = None;
            self.wrong = self.wrong.min(WRONG_AT - 1);
        }
        if !is_within(self.probes.sampled, now, fresh) {
            self.probes.forget();
            self.wrong = 0;
        }
        if !is_within(self.users.sampled, now, fresh) && self.trial.is_none() {
            self.users.forget();
        }
    }

    /// Takes back what it would be condemned for.
    fn pardon(&mut self) {
        self.users.bad = self.users.bad.min(DOWN_AT - 1);
        self.probes.bad = self.probes.bad.min(DOWN_AT - 1);
        self.wrong = self.wrong.min(WRONG_AT - 1);
    }

    /// Whether it failed within so many seconds, and has not succeeded in the same since.
    fn is_failing(&self, now: u64, event: u64) -> bool {
        let users = self.users.fails || self.fails_users();
        let probes = self.probes.fails || self.wrong > 0 || self.fails_probes();
        users && is_within(self.users.failed, now, event) || probes && is_within(self.probes.failed, now, event)
    }

    const fn fails_users(&self) -> bool {
        self.users.bad >= DOWN_AT
    }

    const fn fails_probes(&self) -> bool {
        self.probes.bad >= DOWN_AT || self.wrong >= WRONG_AT
    }

    fn judge(&mut self, now: u64, common: bool) -> Health {
        if self.draining {
            return Health::Draining;
        }
        // Most failing at once is no excuse for what was found before.
        let excused = common && self.down_since.is_none();
        let fails_probes = self.fails_probes() && !excused;
        if self.fails_users() && !excused {
            match self.trial {
                // What probes find they find again by themselves: no user is needed for that.
                Some((at, pause)) if at <= now && !fails_probes && self.state == Health::Down => {
                    self.users.bad = DOWN_AT - 1;
                    self.trial = Some((at, (pause * 2).min(TRIAL.1)));
                }
                Some((at, pause)) => {
                    if at <= now || self.state != Health::Down {
                        self.trial = Some((now + pause, pause));
                    }
                    return Health::Down;
                }
                None => {
                    self.trial = Some((now + TRIAL.0, TRIAL.0));
                    return Health::Down;
                }
            }
        }
        if fails_probes {
            return Health::Down;
        }
        if self.users.bad == 0 {
            self.trial = None;
        }
        if self.users.bad == 0 && self.probes.bad == 0 && self.wrong == 0 { Health::Up } else { Health::Suspect }
    }
}

#[cfg(test)]
mod tests;
