//! The time while nobody has confirmed it: feeds the bootstrap with what exchanges and sources say, and does what it
//! decides.

use std::{net::IpAddr, time::Duration};

use ntp_proto::{
    bootstrap::{
        Alarm, Bootstrap, Chain, ClockFacts, Config as BootstrapConfig, Expected, Floor, Identity, Judgement, Output,
        Present, Reading, Report, SeenServer, Signatures, Standing, State, Window,
    },
    ids::SourceId,
    pool::{Leave, Name, PoolMode as _, auto::Route},
    time::{Monotonic, UnixTime},
};

use super::{
    BUILT, Client, Group,
    members::Configured,
    saved::{ExchangedAt, Fresh},
    tell::Place,
};
use crate::{
    config::FirstBoot, ke::connect::Judgements, now, observe::report::TimeReport, pool::Mode, state::LastTime,
};

/// How long a name that may yet turn out to have NTS keeps the others from setting the clock.
const UNDECIDED: Duration = Duration::from_secs(20);

/// What is known of the time without asking anybody.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// What the machine says of its clock.
    pub clock: ClockFacts,
    /// When the distribution was put together, in Unix seconds.
    pub distribution: Option<i64>,
    /// The last time that an earlier run verified, less its error bound, in Unix seconds.
    pub verified: Option<i64>,
    /// When an earlier run last kept the clock, whoever it followed, in Unix seconds.
    pub kept: Option<i64>,
}

/// The bootstrap, and what it is made of.
#[derive(Debug)]
pub(super) struct Boot {
    pub(super) known: Known,
    settings: FirstBoot,
    /// There as long as authenticated sources are expected: what others say later is not verified by what those have said.
    pub(super) bootstrap: Option<Bootstrap>,
    /// Whether they are now, or may be because a name is undecided.
    engaged: bool,
    /// Whether they are now for certain.
    expected: bool,
    /// Until when a name that is undecided counts as one that has NTS.
    pub(super) undecided_until: Monotonic,
    wake: Option<Monotonic>,
    /// What is saved says that the machine's clock was verified since it started.
    pub(super) vouched: bool,
    /// Alarms since the time was last verified, which are not told again and again.
    told: Vec<Alarm>,
}

impl Boot {
    pub(super) fn new(known: Known, settings: FirstBoot) -> Self {
        let undecided_until = now::monotonic() + UNDECIDED;
        Self {
            vouched: known.clock.verified,
            known,
            settings,
            bootstrap: None,
            engaged: false,
            expected: false,
            undecided_until,
            wake: None,
            told: Vec::new(),
        }
    }

    fn make(&self, present: Present, synchronized: bool) -> Bootstrap {
        let clock = ClockFacts { synchronized, ..self.known.clock };
        let FirstBoot { policy, single, min_agreeing } = self.settings;
        Bootstrap::new(BootstrapConfig { policy, floor: self.floor(), min_agreeing, single }, &clock, present)
    }

    pub(super) const fn floor(&self) -> Floor {
        let Known { distribution, verified, .. } = self.known;
        Floor { build: BUILT.seconds, distribution, verified }
    }

    /// Whether the clock must be left alone still.
    pub(super) fn holds(&self) -> bool {
        self.engaged && self.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.state() != State::Verified)
    }

    /// Whether what was said of the clock may stand meanwhile.
    fn may_stand(&self) -> bool {
        self.bootstrap.as_ref().is_some_and(Bootstrap::may_stand)
    }

    /// Takes what a verified clock says, less its error bound, in Unix seconds; returns what may be saved as the last verified
    /// time.
    pub(super) fn raise_floor(&mut self, at: i64) -> i64 {
        let at = self.bootstrap.as_mut().map_or(at, |bootstrap| bootstrap.raise_floor(at));
        self.known.verified = Some(at);
        at
    }

    /// Whether the time is confirmed by authenticated sources.
    pub(super) fn is_verified(&self) -> bool {
        self.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.state() == State::Verified)
    }

    /// What is known and what is missing, where authenticated sources are expected.
    pub(super) fn report(&self) -> Option<Report> {
        self.bootstrap.as_ref().filter(|_| self.expected).map(Bootstrap::report)
    }

    /// Whether an alarm was not told since the time was last verified.
    pub(super) fn is_news(&mut self, alarm: Alarm) -> bool {
        let is_news = !self.told.contains(&alarm);
        self.told.extend(is_news.then_some(alarm));
        is_news
    }

    pub(super) fn wake(&self) -> Option<Monotonic> {
        self.wake
    }

    /// Others can be reached.
    pub(super) fn handle_network(&mut self, now: Monotonic) {
        if let Some(bootstrap) = &mut self.bootstrap {
            bootstrap.handle_network(now);
        }
    }

    pub(super) fn handle_gone(&mut self, source: SourceId) {
        if let Some(bootstrap) = &mut self.bootstrap {
            bootstrap.handle_gone(source);
        }
    }
}

/// Whether a name has sources with NTS, or is to have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nts {
    Expected,
    Undecided,
    No,
}

impl Client {
    pub(super) fn nts_of(&self, group: &Group) -> Nts {
        if group.configured.options().select.noselect {
            return Nts::No;
        }
        match &group.mode {
            Mode::Addresses(_) | Mode::Lb(_) | Mode::Srv(_) => Nts::Expected,
            Mode::Classic(_) | Mode::Plain(_) => Nts::No,
            Mode::Auto(pool) => {
                let remembered = self.store.remembered(&group.configured.name());
                if group.configured.requires_nts() || remembered.is_some_and(Route::is_nts) {
                    Nts::Expected
                } else if pool.may_have_nts() {
                    Nts::Undecided
                } else {
                    Nts::No
                }
            }
        }
    }

    /// Whether the sources of a name are authenticated, or will be once there are any.
    pub(super) fn expects_authentication(&self, group: &Group) -> bool {
        let has_key = group.key.is_some() && !group.configured.options().select.noselect;
        has_key || self.nts_of(group) == Nts::Expected
    }

    /// Whom a name stands for: its owner, unless servers are known by addresses that it leads to.
    fn expected(&self, group: &Group) -> Expected {
        if !self.expects_authentication(group) && self.nts_of(group) == Nts::No {
            return Expected { operator: None, servers: 0, absent: false };
        }
        let by_address = matches!(group.configured, Configured::Pool(_)) && group.mode.asks_by_address();
        let operator = (!by_address).then(|| registrable(&group.configured.name()));
        Expected { operator, servers: group.configured.count(), absent: self.is_absent(group) }
    }

    /// The time believed in, whatever it is worth.
    pub(super) fn present(&mut self) -> Present {
        let present = self.clock.now();
        let clock = self.engine.map().apply(present.clock).to_unix(BUILT);
        Present { monotonic: present.monotonic, clock }
    }

    /// How certificates and addresses are to be judged in an exchange that begins now, and how signatures of other DNS records
    /// are.
    pub(super) fn judgements(&mut self) -> (Judgements, Judgement) {
        let clock = self.present().clock;
        let Some(bootstrap) = &self.boot.bootstrap else { return (Judgement::At(clock).into(), Judgement::At(clock)) };
        let (certificates, addresses) = (bootstrap.judgement(clock), bootstrap.judgement_of_addresses(clock));
        (Judgements { certificates, addresses }, bootstrap.judgement_of_names(clock))
    }

    /// Says what the configuration expects now. As long as that is authenticated and the time is not verified, the clock is
    /// left alone.
    pub(super) fn settle(&mut self) {
        let has = |nts: Nts| self.groups.values().any(|group| self.nts_of(group) == nts);
        let undecided = now::monotonic() < self.boot.undecided_until && has(Nts::Undecided);
        self.boot.expected = has(Nts::Expected);
        self.boot.engaged = self.boot.expected || undecided;
        self.boot.wake = undecided.then_some(self.boot.undecided_until);
        let authenticated = self.groups.values().any(|group| self.expects_authentication(group));
        if self.boot.engaged {
            let begins = self.boot.bootstrap.is_none();
            self.engage();
            let mut expected = Vec::new();
            for group in self.groups.values() {
                if expected.len() <= group.entry {
                    expected.resize(group.entry + 1, Expected { operator: None, servers: 0, absent: false });
                }
                if let Some(place) = expected.get_mut(group.entry) {
                    *place = self.expected(group);
                }
            }
            if let Some(bootstrap) = &mut self.boot.bootstrap {
                bootstrap.set_expected(expected);
                if begins {
                    let obstacles = TimeReport::new(&bootstrap.report()).obstacles();
                    tracing::info!("the clock is left alone until the time is verified; {obstacles}");
                }
            }
        }
        if !self.boot.engaged {
            self.boot.bootstrap = None;
            self.disown();
            self.resume();
        }
        let present = self.clock.now();
        self.engine.expect_authentication(present, authenticated);
        self.expect_sources();
        self.hold();
    }

    /// What nobody authenticates keeps the clock from now on: it is no more the one that was verified, neither in this run nor
    /// after a restart.
    fn disown(&mut self) {
        if let (true, Some(seconds)) = (self.boot.vouched, self.boot.known.verified) {
            self.store.save(&LastTime::new(UnixTime { seconds, nanos: 0 }, None));
        }
        (self.boot.vouched, self.boot.known.clock.verified) = (false, false);
    }

    /// Leaves the clock alone, or no more. One that others kept until now is served on meanwhile.
    fn hold(&mut self) {
        let (present, holds) = (self.clock.now(), self.boot.holds());
        if holds && self.boot.may_stand() {
            self.engine.hold_over(present);
        } else {
            self.engine.set_hold(present, holds);
        }
    }

    fn engage(&mut self) {
        if self.boot.bootstrap.is_some() {
            return;
        }
        let (now, present) = (self.clock.now(), self.present());
        let tracking = self.engine.tracking(now);
        // What the kernel said at the start is old where this daemon has kept the clock since.
        let synchronized =
            if tracking.updates > 0 { tracking.synchronized } else { self.boot.known.clock.synchronized };
        self.boot.bootstrap = Some(self.boot.make(present, synchronized));
        let keyed: Vec<(usize, SourceId)> = self
            .groups
            .iter()
            .filter(|(_, group)| group.key.is_some())
            .flat_map(|(number, group)| group.members.values().map(|active| (*number, active.source)))
            .collect();
        keyed.into_iter().for_each(|(number, source)| self.vouch_by_key(number, source));
    }

    /// What an exchange said of the time whose keys a source has now.
    pub(super) fn vouch(&mut self, number: usize, fresh: &Fresh, source: SourceId) {
        let server = fresh.origin.server.clone();
        let (chain, key) = match (&fresh.chain, fresh.origin.at) {
            (Some(chain), _) => (chain.clone(), Some(chain.key)),
            // Only keys of verified times are saved: they were good when they were exchanged, and so it is later now.
            (None, ExchangedAt::Unix(at)) => (from_then_on(at), None),
            (None, ExchangedAt::Boot(_)) => return,
        };
        let identity = Identity { domain: registrable(server.as_str()), key };
        self.hand_in(number, server.as_str(), identity, chain, Some(source));
    }

    /// A source with a symmetric key is that of its operator at all times.
    pub(super) fn vouch_by_key(&mut self, number: usize, source: SourceId) {
        let Some(group) = self.groups.get(&number).filter(|_| self.info.contains_key(&source)) else { return };
        let name = group.configured.name();
        let identity = Identity { domain: registrable(&name), key: None };
        self.hand_in(number, &name, identity, from_then_on(i64::MIN), Some(source));
    }

    /// What a server showed whose certificate was good but for its dates.
    pub(super) fn note_dates(&mut self, number: usize, server: &Name, chain: Chain) {
        let domain = registrable(server.as_str());
        let identity = Identity { domain, key: Some(chain.key) };
        self.hand_in(number, server.as_str(), identity, chain, None);
    }

    /// What the owner of a name has signed, which only is not valid yet by this clock.
    pub(super) fn note_signed(&mut self, number: usize, signed: &Signatures) {
        let present = self.present();
        let Some(group) = self.groups.get(&number).filter(|group| !group.configured.options().select.noselect) else {
            return;
        };
        let name = group.configured.name();
        if let Some(bootstrap) = &mut self.boot.bootstrap {
            bootstrap.handle_signed(present, &format!("records of {name}"), registrable(&name), &signed.signed);
        }
    }

    fn hand_in(&mut self, number: usize, server: &str, identity: Identity, chain: Chain, source: Option<SourceId>) {
        let present = self.present();
        let Some(group) = self.groups.get(&number).filter(|group| !group.configured.options().select.noselect) else {
            return;
        };
        if let Some(bootstrap) = &mut self.boot.bootstrap {
            bootstrap.handle_chain(present, group.entry, server, identity, chain, source);
        }
    }

    /// Tells the bootstrap what sources say now, and that time has passed.
    pub(super) fn update_boot(&mut self) {
        let present = self.present();
        let now = self.clock.now();
        let Some(bootstrap) = self.boot.bootstrap.as_mut().filter(|_| self.boot.engaged) else { return };
        bootstrap.handle_timeout(present.monotonic);
        if bootstrap.state() == State::Verified {
            return;
        }
        let readings: Vec<Reading> = self
            .engine
            .sources(now)
            .filter_map(|report| {
                let (source, estimate) = (report.source.id(), report.estimate?);
                let (offset, distance, samples) = (estimate.offset, estimate.distance(), estimate.samples);
                Some(Reading { source, offset, distance, samples })
            })
            .collect();
        bootstrap.update(present, &readings, self.engine.tracking(now).selected);
    }

    /// Does what the bootstrap wants done next; whether there was anything.
    pub(super) fn obey_boot(&mut self) -> bool {
        let Some(bootstrap) = self.boot.bootstrap.as_mut().filter(|_| self.boot.engaged) else { return false };
        let output = bootstrap.poll_output();
        let report = bootstrap.report();
        match output {
            Output::SetClock(by) => {
                let why = match report.state {
                    State::Unknown => "the clock is behind a time that has passed, and is set forward",
                    State::Provisional | State::Verified => "a majority of the operators agrees on the time",
                };
                tracing::warn!(seconds = by.to_seconds(), "{why}");
                let present = self.clock.now();
                self.engine.set_clock(present, by);
            }
            Output::ExchangeAgain => self.exchange_again(),
            Output::Refuse(source) => self.refuse(source),
            Output::Now(state) => self.enter(state, &report),
            Output::Alarm(alarm) => self.raise(alarm, &report),
            Output::Timeout(at) => {
                self.boot.wake = [self.boot.wake, at].into_iter().flatten().min();
                return false;
            }
        }
        true
    }

    pub(super) fn enter(&mut self, state: State, report: &Report) {
        match state {
            State::Unknown => tracing::warn!("the time is not known: {}", TimeReport::new(report).obstacles()),
            State::Provisional => {
                tracing::info!("keys are exchanged again, to be judged at the time that was agreed on")
            }
            State::Verified => {
                tracing::info!("the time is verified");
                self.boot.told.clear();
                self.boot.known.clock.restored = false;
                self.store.save_soon();
            }
        }
        self.hold();
    }

    /// Somebody should look into this; once is enough until the time is verified.
    fn raise(&mut self, alarm: Alarm, report: &Report) {
        let what = match alarm {
            Alarm::NoQuorum => "there is no majority for any time",
            Alarm::NotValid => match report.standing {
                Standing::Untrusted(_) => "certificates are not valid by this clock, which cannot be trusted itself",
                Standing::Plausible | Standing::Trusted => {
                    "certificates are not valid by this clock, which there is no reason to distrust"
                }
            },
            Alarm::NotConfirmed => {
                "the time that a majority told was not confirmed by certificates that are valid then"
            }
            Alarm::NobodyAnswers => {
                "there is a network, and no server has answered with a certificate of whatever date"
            }
            Alarm::Refuted => "several operators signed dates far ahead of the time that was verified",
        };
        let missing = report.missing;
        if self.boot.is_news(alarm) {
            tracing::error!("{what}; missing: {missing}; the time is not verified until then");
        } else {
            tracing::debug!("{what}; missing: {missing}");
        }
    }

    /// Forgets all keys and cookies, saved ones too, and what names led to.
    fn exchange_again(&mut self) {
        self.store.distrust();
        let numbers: Vec<usize> =
            self.groups.iter().filter(|(_, group)| self.nts_of(group) != Nts::No).map(|(number, _)| *number).collect();
        numbers.into_iter().for_each(|number| self.restart(number));
    }

    /// Does without a source until its server shows a better certificate.
    fn refuse(&mut self, source: SourceId) {
        let Some((number, member)) = self.member_of(source) else { return };
        let Place { name, address } = self.place(source);
        tracing::warn!(
            source = %name, %address,
            "its certificate is not valid at the time that was agreed on; it is not used until it shows a better one"
        );
        if let Some(group) = self.groups.get_mut(&number) {
            group.members.remove(&member);
            group.mode.handle_leave(now::monotonic(), member, Leave::KeysLost);
        }
        self.drop_source(source);
    }

    /// The machine was put back to an earlier state, or copied: its clock may be wrong by any amount, and its keys are those
    /// of another, too.
    pub(super) fn handle_restored(&mut self) {
        tracing::warn!("this machine was put back to an earlier state, or copied");
        let present = self.clock.now();
        self.engine.handle_interruption(present);
        self.boot.known.clock = ClockFacts { restored: true, verified: false, ..self.boot.known.clock };
        if let Some(bootstrap) = &mut self.boot.bootstrap {
            bootstrap.handle_restored();
        }
    }

    /// An administrator does not believe the last verified time.
    pub(super) fn reset_floor(&mut self) {
        tracing::warn!("the last verified time is forgotten, as an administrator wants it");
        self.store.forget_time();
        self.boot.known.verified = None;
        if let Some(bootstrap) = &mut self.boot.bootstrap {
            bootstrap.handle_floor_reset();
        }
    }

    /// What is known of the time, and what is missing, where authenticated sources are expected.
    #[must_use]
    pub fn bootstrap_report(&self) -> Option<Report> {
        self.boot.report()
    }

    /// The servers whose certificates were seen, and the times that these allow.
    pub fn seen_servers(&self) -> impl Iterator<Item = SeenServer<'_>> {
        self.boot.bootstrap.iter().flat_map(Bootstrap::seen)
    }
}

/// A vouching that began then and has no end.
const fn from_then_on(not_before: i64) -> Chain {
    let window = Window { not_before, not_after: i64::MAX };
    Chain { window, signed: Vec::new(), records: Vec::new(), life: 0, key: [0; 32], pinned: false }
}

/// The part of a name that somebody has registered, who then answers for all below it; a name that is an address stands for
/// itself.
fn registrable(name: &str) -> String {
    if name.parse::<IpAddr>().is_ok() {
        return name.to_owned();
    }
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    psl::domain_str(&name).unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_registered_a_name_answers_for_all_below_it() {
        for (name, domain) in [
            ("a.time.example.com", "example.com"),
            ("Time.Example.CO.UK.", "example.co.uk"),
            ("ke.one.test", "one.test"),
            ("localhost", "localhost"),
            ("co.uk", "co.uk"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(registrable(name), domain, "{name}");
        }
    }
}
