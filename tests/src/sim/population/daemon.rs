//! One client: what the daemon does between a pool mode and the engine.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use ntp_proto::{
    ids::SourceId,
    pool::{
        Answer, Failure, KeyExchange, Leave, Member, MemberId, Name, Negotiated, Output, PoolMode as _, Question,
        QuestionId, Service,
        auto::{NtsPolicy, Route},
        classic::{ClassicPool, Host},
    },
    source::{Loss, NtsKeys},
    time::{Monotonic, Rate},
};
use ntpd::pool::{AutoPool, Mode, Target};
use pool_lb::LbPool;
use pool_srv::srv_pool;

use super::{Cause, ModeName, Scenario, pool};
use crate::sim::{ServerId, SourceSpec, World};

/// Ports of key exchange and of NTP.
const KE_PORT: u16 = 4460;
const NTP_PORT: u16 = 123;
/// Time between the first requests of two sources.
const STAGGER: Duration = Duration::from_millis(20);

/// Why a source cannot go on as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Keys,
    Leaves(Leave),
}

impl Reason {
    pub(super) const fn of(loss: Loss) -> Self {
        Self::Leaves(match loss {
            Loss::Unreachable => Leave::Unreachable,
            Loss::Denied => Leave::Denied,
            Loss::Unusable => Leave::Unusable,
        })
    }
}

/// What is to be found out.
#[derive(Debug)]
pub(super) enum What {
    Addresses,
    Services,
    /// Service records for plain NTP, which this pool has none of.
    PlainServices,
    /// Keys of a member, or of the balancer if `server` is `None`.
    Keys {
        server: Option<usize>,
        denied: Vec<String>,
        cause: Cause,
    },
}

/// What a client does next.
#[derive(Debug)]
pub(super) enum Next {
    Ask(QuestionId, What),
    Wait(Monotonic),
}

#[derive(Debug)]
struct Active {
    source: SourceId,
    label: String,
    address: SocketAddr,
    /// With whom its keys were exchanged.
    origin: Option<Name>,
}

#[derive(Debug)]
struct Saved {
    origin: Name,
    label: String,
    address: SocketAddr,
    keys: NtsKeys,
}

#[derive(Debug)]
struct Expected {
    answer: Answer,
    keys: Option<NtsKeys>,
}

/// A client.
pub(super) struct Daemon {
    number: usize,
    spec: SourceSpec,
    /// `None` while it is off.
    mode: Option<Mode>,
    runs: u32,
    pub(super) asleep: bool,
    members: BTreeMap<MemberId, Active>,
    retiring: VecDeque<(SourceId, SocketAddr)>,
    keys: BTreeMap<QuestionId, (NtsKeys, Name)>,
    /// Whom the open questions are for, if for keys.
    origins: BTreeMap<QuestionId, Name>,
    expected: BTreeMap<QuestionId, Expected>,
    timeout: Option<Monotonic>,
    /// Why the next exchanges are made, in the order in which that arose.
    causes: VecDeque<Cause>,
    saved: Vec<Saved>,
    frequency: Option<(Rate, f64)>,
    remembered: Option<Route>,
    /// Exchanges that saved keys made unnecessary.
    pub(super) spared: u64,
    /// Members given up, and those that others took the place of.
    pub(super) lost: u64,
    pub(super) replaced: u64,
}

fn make_mode(name: ModeName, remembered: Option<Route>, seed: u64) -> Mode {
    let pool = Name::parse(pool::POOL).expect("a name");
    match name {
        ModeName::Srv => Mode::Srv(srv_pool(&pool, seed).expect("a short name")),
        ModeName::Lb => Mode::Lb(LbPool::new(pool, KE_PORT, seed)),
        ModeName::Classic => Mode::Classic(ClassicPool::new(vec![Host::Name { name: pool, port: NTP_PORT }], seed)),
        ModeName::Auto(_) => {
            let target = Target { name: pool, port: NTP_PORT, ke_port: KE_PORT };
            Mode::Auto(AutoPool::new(&target, NtsPolicy::Auto, remembered, seed))
        }
    }
}

impl Daemon {
    pub(super) fn new(number: usize) -> Self {
        Self {
            number,
            spec: SourceSpec::new(ServerId(0), pool::path(0.0)),
            mode: None,
            runs: 0,
            asleep: false,
            members: BTreeMap::new(),
            retiring: VecDeque::new(),
            keys: BTreeMap::new(),
            origins: BTreeMap::new(),
            expected: BTreeMap::new(),
            timeout: None,
            causes: VecDeque::new(),
            saved: Vec::new(),
            frequency: None,
            remembered: None,
            spared: 0,
            lost: 0,
            replaced: 0,
        }
    }

    pub(super) const fn is_on(&self) -> bool {
        self.mode.is_some()
    }

    pub(super) const fn has_run_before(&self) -> bool {
        self.runs > 1
    }

    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// Where its members answer.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.members.values().map(|member| member.address)
    }

    pub(super) fn boot(&mut self, scenario: &Scenario, world: &mut World, seed: u64) {
        world.boot(self.number, self.frequency.take());
        let mut mode = make_mode(scenario.mode, self.remembered, seed);
        let service = |saved: &Saved| Service { priority: 0, weight: 0, port: KE_PORT, target: saved.origin.clone() };
        mode.resume(self.saved.iter().map(service).collect());
        mode.set_target(scenario.wanted);
        self.mode = Some(mode);
        self.spec = SourceSpec { path: pool::path(scenario.loss), polls: scenario.polls, ..self.spec };
        let cause = if self.runs == 0 { Cause::Start } else { Cause::Restart };
        self.causes = std::iter::repeat_n(cause, scenario.wanted).collect();
        self.runs += 1;
        self.asleep = false;
    }

    /// Stops; what the daemon saves is kept if `saved`.
    pub(super) fn shut_down(&mut self, world: &World, saved: bool) {
        (self.saved, self.frequency) = (Vec::new(), None);
        if saved {
            self.frequency = world.frequency(self.number);
            self.remembered = self.mode.as_ref().and_then(Mode::learned).or(self.remembered);
            for active in std::mem::take(&mut self.members).into_values() {
                let (Some(keys), Some(origin)) = (world.copy_keys(self.number, active.source), active.origin) else {
                    continue;
                };
                if !keys.cookies.is_empty() {
                    self.saved.push(Saved { origin, label: active.label, address: active.address, keys });
                }
            }
        } else {
            self.remembered = None;
        }
        self.mode = None;
        self.members.clear();
        self.retiring.clear();
        self.keys.clear();
        self.origins.clear();
        self.expected.clear();
        self.timeout = None;
    }

    /// Questions that were under way when it fell asleep have no answer.
    pub(super) fn wake_up(&mut self, now: Monotonic) {
        self.asleep = false;
        for question in std::mem::take(&mut self.expected).into_keys() {
            if let Some(mode) = &mut self.mode {
                mode.handle_answer(now, question, Answer::Failed(Failure::Network));
            }
        }
    }

    /// The member that a source asks.
    pub(super) fn server_of(&self, source: SourceId) -> Option<usize> {
        let active = self.members.values().find(|active| active.source == source)?;
        pool::member_at(active.address)
    }

    pub(super) fn handle_want(&mut self, now: Monotonic, source: SourceId, reason: Reason, cause: Cause) {
        let found = self.members.iter().find(|(_, active)| active.source == source);
        let (Some(member), Some(mode)) = (found.map(|(id, _)| *id), self.mode.as_mut()) else { return };
        self.causes.push_back(cause);
        match reason {
            Reason::Keys => mode.handle_leave(now, member, Leave::KeysLost),
            Reason::Leaves(leave) => {
                mode.handle_leave(now, member, leave);
                self.lost += 1;
                self.retiring.extend(self.members.remove(&member).map(|active| (active.source, active.address)));
            }
        }
    }

    /// Whether the time has come that the mode waits for.
    pub(super) fn handle_timeout(&mut self, now: Monotonic) -> bool {
        let due = !self.asleep && self.timeout.is_some_and(|at| at <= now);
        if let Some(mode) = self.mode.as_mut().filter(|_| due) {
            self.timeout = None;
            mode.handle_timeout(now);
        }
        due
    }

    /// Takes the answer that a question will have; returns in which run.
    pub(super) fn expect(&mut self, question: QuestionId, answer: Answer, keys: Option<NtsKeys>) -> u32 {
        self.expected.insert(question, Expected { answer, keys });
        self.runs
    }

    /// Whether a question was answered.
    pub(super) fn handle_answered(&mut self, now: Monotonic, run: u32, question: QuestionId) -> bool {
        if self.asleep || run != self.runs {
            return false;
        }
        let (Some(Expected { answer, keys }), Some(mode)) = (self.expected.remove(&question), self.mode.as_mut())
        else {
            return false;
        };
        let origin = self.origins.remove(&question);
        if let (Some(keys), Some(origin)) = (keys, origin) {
            self.keys.insert(question, (keys, origin));
            self.causes.pop_front();
        }
        mode.handle_answer(now, question, answer);
        self.remembered = mode.learned().or(self.remembered);
        true
    }

    /// What comes next; `None` if there is nothing to do or to wait for.
    pub(super) fn poll(&mut self, world: &mut World) -> Option<Next> {
        loop {
            match self.mode.as_mut()?.poll_output() {
                Output::Ask(id, Question::Addresses { .. }) => return Some(Next::Ask(id, What::Addresses)),
                Output::Ask(id, Question::Services { validated: true, .. }) => {
                    return Some(Next::Ask(id, What::Services));
                }
                Output::Ask(id, Question::Services { validated: false, .. }) => {
                    return Some(Next::Ask(id, What::PlainServices));
                }
                Output::Ask(id, Question::KeyExchange(exchange)) => {
                    let now = world.monotonic_of(self.number);
                    if let Some(ask) = self.ask_keys(now, id, exchange) {
                        return Some(ask);
                    }
                }
                Output::Join(member) => self.join(world, member),
                Output::Timeout(at, _) => {
                    self.keys.clear();
                    let fresh = at.filter(|_| at != self.timeout || self.asleep);
                    self.timeout = at;
                    self.expect_authentication(world);
                    return fresh.map(Next::Wait);
                }
            }
        }
    }

    fn expect_authentication(&self, world: &mut World) {
        let expected = match &self.mode {
            Some(Mode::Addresses(_) | Mode::Lb(_) | Mode::Srv(_)) => true,
            Some(Mode::Auto(_)) => self.remembered.is_some_and(Route::is_nts),
            Some(Mode::Classic(_) | Mode::Plain(_)) | None => false,
        };
        world.command(self.number, |engine, now| engine.expect_authentication(now, expected));
    }

    fn ask_keys(&mut self, now: Monotonic, id: QuestionId, exchange: KeyExchange) -> Option<Next> {
        let KeyExchange { server, denied, .. } = exchange;
        let fits = |saved: &Saved| saved.origin == server && !denied.contains(&saved.label);
        if let (Some(place), Some(mode)) = (self.saved.iter().position(fits), self.mode.as_mut()) {
            let saved = self.saved.remove(place);
            let negotiated = Negotiated {
                ntp_server: saved.label,
                addresses: vec![saved.address],
                trust: ntp_proto::ids::Trust::Pki,
            };
            self.keys.insert(id, (saved.keys, server));
            self.causes.pop_front();
            self.spared += 1;
            mode.handle_answer(now, id, Answer::KeyExchange(negotiated));
            return None;
        }
        let cause = self.causes.front().copied().unwrap_or(Cause::Other);
        let what = What::Keys { server: pool::member_of(&server), denied, cause };
        self.origins.insert(id, server);
        Some(Next::Ask(id, what))
    }

    /// Gives a member a source: the one it replaces if that asks the same server, a fresh one otherwise.
    fn join(&mut self, world: &mut World, member: Member) {
        let Member { id, label, addresses, keys, replaces, .. } = member;
        let Some(address) = addresses.first().copied() else { return };
        let keys = keys.and_then(|question| self.keys.remove(&question));
        let replaced = replaces.and_then(|old| self.members.remove(&old)).map(|old| (old.source, old.address));
        let same = |old: &(SourceId, SocketAddr)| old.1 == address;
        self.replaced += u64::from(replaced.is_some_and(|old| !same(&old)));
        let returning = self.retiring.iter().copied().find(same);
        let retired = returning.or_else(|| self.retiring.front().copied());
        let kept = replaced.filter(same).or(returning);
        self.retiring.extend(replaced.filter(|old| kept != Some(*old)));
        let fresh = || {
            let server = pool::member_at(address)?;
            let spec = SourceSpec { server: ServerId(server), nts: keys.is_some(), ..self.spec };
            let wait = STAGGER * u32::try_from(self.members.len()).unwrap_or(0);
            world.add_source(self.number, spec, wait)
        };
        let Some(source) = kept.map(|(source, _)| source).or_else(fresh) else { return };
        let mut origin = None;
        if let Some((keys, from)) = keys {
            world.set_keys(self.number, source, keys);
            origin = Some(from);
        }
        self.members.insert(id, Active { source, label, address, origin });
        self.retiring.retain(|old| old.0 != source);
        if let Some(gone) = retired.or_else(|| self.retiring.front().copied()).filter(|_| kept.is_none()) {
            self.retiring.retain(|old| *old != gone);
            world.remove_source(self.number, gone.0);
        }
    }
}
