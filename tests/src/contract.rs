//! What every pool mode must do, whatever its way of finding servers.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ntp_proto::{
    ids::Trust,
    pool::{
        Answer, Failure, Leave, MAX_MEMBERS, Member, MemberId, Name, Negotiated, Output, PoolMode, Question,
        QuestionId, Service,
    },
    time::Monotonic,
};

mod world;

pub use world::good;
use world::{dual_stack, dual_stack_without, host_of, server_addresses, server_name, without_family};

/// When every run begins.
pub const START: Monotonic = Monotonic::from_nanos(1_000);

/// Most outputs between two inputs: a mode that says more does not drain.
const MAX_OUTPUTS: usize = 200;

/// Most questions in an hour in which none is answered.
const MAX_ASKS_PER_HOUR: usize = 12;

/// Most questions of one run: a mode that asks more does not wait.
const MAX_ASKS: usize = 2_000;

const HOUR: Duration = Duration::from_secs(3600);

/// A mode under watch: every output is checked, members and open questions are kept.
#[derive(Debug)]
pub struct Watched<M> {
    mode: M,
    now: Monotonic,
    target: usize,
    open: BTreeMap<QuestionId, Question>,
    asked: BTreeSet<QuestionId>,
    exchanged: BTreeSet<QuestionId>,
    joined: BTreeSet<MemberId>,
    members: BTreeMap<MemberId, Member>,
    timeout: Option<Monotonic>,
}

impl<M: PoolMode> Watched<M> {
    /// Watches a mode from its beginning, with `target` members wanted.
    pub fn new(mode: M, target: usize) -> Self {
        let mut watched = Self {
            mode,
            now: START,
            target: 0,
            open: BTreeMap::new(),
            asked: BTreeSet::new(),
            exchanged: BTreeSet::new(),
            joined: BTreeSet::new(),
            members: BTreeMap::new(),
            timeout: None,
        };
        watched.drain();
        watched.set_target(target);
        watched
    }

    fn set_target(&mut self, target: usize) {
        self.target = target.min(MAX_MEMBERS);
        self.mode.set_target(target);
        self.drain();
    }

    fn answer(&mut self, id: QuestionId, answer: Answer) {
        if self.open.remove(&id).is_some() && matches!(answer, Answer::KeyExchange(_)) {
            self.exchanged.insert(id);
        }
        self.mode.handle_answer(self.now, id, answer);
        self.drain();
    }

    fn leave(&mut self, id: MemberId, reason: Leave) {
        if reason != Leave::KeysLost {
            self.members.remove(&id);
        }
        self.mode.handle_leave(self.now, id, reason);
        self.drain();
    }

    fn refresh(&mut self) {
        self.mode.handle_refresh(self.now);
        self.drain();
    }

    /// Lets time pass without telling.
    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    fn tick(&mut self) {
        self.mode.handle_timeout(self.now);
        self.drain();
        assert!(self.timeout.is_none_or(|at| at > self.now), "a timeout that has passed was not let go");
    }

    fn drain(&mut self) {
        for _ in 0..MAX_OUTPUTS {
            match self.mode.poll_output() {
                Output::Ask(id, question) => {
                    assert!(self.asked.insert(id), "question {id:?} was asked before");
                    self.open.insert(id, question);
                }
                Output::Join(member) => self.join(member),
                end @ Output::Timeout(at, why) => {
                    assert!(!why.is_empty(), "a timeout says why it wakes");
                    assert_eq!(self.mode.poll_output(), end, "spoke again unasked");
                    self.timeout = at;
                    return;
                }
            }
        }
        panic!("does not drain");
    }

    fn join(&mut self, member: Member) {
        assert!(self.joined.insert(member.id), "member {:?} joined before", member.id);
        assert!(!member.addresses.is_empty() && !member.label.is_empty());
        assert_eq!(member.keys.is_some(), member.trust != Trust::None, "trust without keys, or keys without trust");
        if let Some(keys) = member.keys {
            assert!(self.exchanged.remove(&keys), "keys of an exchange that gave none, or gave them to another");
        }
        if let Some(old) = member.replaces {
            assert!(self.members.remove(&old).is_some(), "replaces one that is no member");
        } else {
            assert!(self.members.len() < self.target, "more members than wanted");
        }
        self.members.insert(member.id, member);
        assert!(self.members.len() <= MAX_MEMBERS);
    }

    /// Answers with `world` and lets time pass, until `span` is over; returns how many questions were asked.
    fn run(&mut self, span: Duration, world: impl Fn(Monotonic, &Question) -> Answer) -> usize {
        let (end, before) = (self.now + span, self.asked.len());
        loop {
            while let Some((id, question)) = self.open.first_key_value() {
                let (id, answer) = (*id, world(self.now, question));
                self.answer(id, answer);
                assert!(self.asked.len() - before < MAX_ASKS, "asks without waiting");
            }
            let Some(at) = self.timeout.filter(|at| *at <= end) else { break };
            if at > self.now {
                let asked = self.asked.len();
                self.now = Monotonic::from_nanos(at.to_nanos() - 1);
                self.mode.handle_timeout(self.now);
                self.drain();
                assert_eq!(self.asked.len(), asked, "asked before the time it named");
                assert_eq!(self.timeout, Some(at), "changed its mind for being woken early");
                self.now = at;
            }
            self.tick();
        }
        self.now = end;
        self.asked.len() - before
    }
}

/// Holds a mode to all of the contract but what [`interleaved`] checks. `make` makes it anew from a seed.
///
/// # Panics
///
/// When the mode breaks the contract.
pub fn holds<M: PoolMode>(make: impl Fn(u64) -> M) {
    for seed in 0..20 {
        is_quiet_when_nothing_is_wanted(make(seed));
        fills_up_and_is_quiet(make(seed));
        ignores_answers_to_unknown_questions(make(seed));
        replaces_those_who_leave(make(seed));
        keeps_the_identity_of_one_without_keys(make(seed));
        for answer in [
            Answer::NoRecord,
            Answer::Insecure,
            Answer::Bogus,
            Answer::Failed(Failure::Resolver),
            Answer::Failed(Failure::Connect),
            Answer::Failed(Failure::Tls),
            Answer::Failed(Failure::Protocol),
            Answer::Failed(Failure::Unsupported),
        ] {
            asks_ever_less_without_answers(make(seed), &answer);
        }
        asks_no_server_too_often_that_gives_no_keys(make(seed));
        news_are_had_at_once_and_cost_no_member(&make, seed);
        exchanges_ever_less_if_keys_are_always_lost(make(seed));
    }
}

fn is_quiet_when_nothing_is_wanted(mode: impl PoolMode) {
    let watched = Watched::new(mode, 0);
    assert_eq!((watched.asked.len(), watched.timeout), (0, None));
}

fn fills_up_and_is_quiet(mode: impl PoolMode) {
    let mut watched = Watched::new(mode, 4);
    watched.run(HOUR, good);
    assert_eq!(watched.members.len(), 4);
    assert_eq!(watched.run(24 * HOUR, good), 0, "asks though it has enough members");
    watched.set_target(MAX_MEMBERS + 5);
    watched.run(24 * HOUR, good);
    assert_eq!(watched.members.len(), MAX_MEMBERS);
    watched.set_target(2);
    watched.run(24 * HOUR, good);
    let labels: BTreeSet<_> = watched.members.values().map(|member| &member.label).collect();
    assert_eq!(labels.len(), MAX_MEMBERS, "members are not distinct");
}

fn ignores_answers_to_unknown_questions(mode: impl PoolMode) {
    let mut watched = Watched::new(mode, 4);
    let before = (watched.asked.len(), watched.timeout);
    for question in watched.open.values().cloned().collect::<Vec<_>>() {
        watched.answer(QuestionId(1_000_000), good(watched.now, &question));
    }
    watched.leave(MemberId(1_000_000), Leave::Unreachable);
    assert_eq!((watched.asked.len(), watched.timeout, watched.members.len()), (before.0, before.1, 0));
    watched.run(HOUR, good);
    let id = watched.asked.first().copied().unwrap_or(QuestionId(0));
    let before = (watched.asked.len(), watched.members.len(), watched.timeout);
    watched.answer(id, Answer::Bogus);
    assert_eq!((watched.asked.len(), watched.members.len(), watched.timeout), before);
}

fn replaces_those_who_leave(mode: impl PoolMode) {
    let mut watched = Watched::new(mode, 4);
    watched.run(HOUR, good);
    for reason in [Leave::Denied, Leave::Unreachable, Leave::Unusable] {
        let Some((id, label)) = watched.members.values().next().map(|member| (member.id, member.label.clone())) else {
            panic!("no members")
        };
        watched.leave(id, reason);
        watched.leave(id, reason);
        watched.run(HOUR, good);
        assert_eq!(watched.members.len(), 4, "{reason:?}");
        assert!(watched.members.values().all(|member| member.label != label), "the same one came back: {reason:?}");
    }
}

fn keeps_the_identity_of_one_without_keys(mode: impl PoolMode) {
    let mut watched = Watched::new(mode, 4);
    watched.run(HOUR, good);
    for old in watched.members.values().cloned().collect::<Vec<_>>() {
        watched.leave(old.id, Leave::KeysLost);
        watched.run(2 * HOUR, good);
        assert_eq!(watched.members.len(), 4);
        if old.keys.is_none() {
            assert!(watched.members.contains_key(&old.id), "one without keys has none to lose");
        } else {
            let new = watched.members.values().find(|member| member.replaces == Some(old.id));
            assert!(new.is_some_and(|new| new.label == old.label && new.keys != old.keys), "no keys for {old:?}");
        }
    }
}

fn asks_ever_less_without_answers(mode: impl PoolMode, answer: &Answer) {
    let mut watched = Watched::new(mode, 4);
    let first = 1 + watched.run(HOUR, |_, _| answer.clone());
    assert!(first > 1, "gives up");
    assert!(first <= MAX_ASKS_PER_HOUR, "{first} questions in an hour of {answer:?}");
    let day = watched.run(24 * HOUR, |_, _| answer.clone());
    assert!((1..=MAX_ASKS_PER_HOUR).contains(&day), "{day} questions in a day of {answer:?}");
    watched.run(48 * HOUR, good);
    assert_eq!(watched.members.len(), 4, "does not recover");
}

fn asks_no_server_too_often_that_gives_no_keys(mode: impl PoolMode) {
    let mut watched = Watched::new(mode, 4);
    let asked = RefCell::new(BTreeMap::new());
    watched.run(HOUR, |now, question| match question {
        Question::KeyExchange(exchange) => {
            *asked.borrow_mut().entry((exchange.server.clone(), exchange.addresses.clone())).or_insert(0_usize) += 1;
            Answer::Failed(Failure::Protocol)
        }
        Question::Addresses { .. } | Question::Services { .. } => good(now, question),
    });
    for (server, times) in asked.take() {
        assert!(times <= MAX_ASKS_PER_HOUR, "{server:?} was asked {times} times in an hour");
    }
}

fn news_are_had_at_once_and_cost_no_member<M: PoolMode>(make: impl Fn(u64) -> M, seed: u64) {
    let mut failing = Watched::new(make(seed), 4);
    failing.run(48 * HOUR, |_, _| Answer::Failed(Failure::Resolver));
    failing.refresh();
    assert!(!failing.open.is_empty(), "waits though news are wanted");
    failing.run(HOUR, good);

    let mut watched = Watched::new(make(seed), 4);
    watched.run(HOUR, good);
    let labels = |watched: &Watched<M>| -> BTreeSet<String> {
        watched.members.values().map(|member| member.label.clone()).collect()
    };
    let before = labels(&watched);
    watched.refresh();
    assert!(!watched.open.is_empty(), "does not ask where its members are");
    watched.run(48 * HOUR, |_, _| Answer::Failed(Failure::Resolver));
    assert_eq!(labels(&watched), before, "lost members for want of an answer");
    watched.refresh();
    watched.run(48 * HOUR, good);
    assert_eq!(labels(&watched), before, "exchanged members that had not moved");
    assert_eq!(watched.run(24 * HOUR, good), 0, "goes on asking");
}

/// Hosts with an address of either family have one vote, as long as one family by itself makes a majority. For modes whose
/// members are addresses.
///
/// # Panics
///
/// When a host has two members, or a mode gives up a family that fails without going over to the other.
pub fn counts_hosts_once<M: PoolMode>(make: impl Fn(u64) -> M) {
    for (hosts, v6_first, seed) in (4..=8).flat_map(|hosts| [(hosts, false, 1), (hosts, true, 2), (hosts, true, 3)]) {
        let world = |now, question: &Question| dual_stack(hosts, v6_first, now, question);
        let mut watched = Watched::new(make(seed), 4);
        watched.run(HOUR, world);
        assert_eq!((watched.members.len(), watched.hosts().len()), (4, 4), "{hosts} hosts");
        // One dies, by both of its addresses.
        let (id, dead) = watched.members.iter().map(|(id, member)| (*id, host_of(member))).next().expect("a member");
        watched.leave(id, Leave::Unreachable);
        watched.run(HOUR / 2, |now, question| dual_stack_without(dead, hosts, v6_first, now, question));
        assert_eq!(watched.members.len(), watched.hosts().len(), "{hosts} hosts and one of them dead: counted twice");
        // One family is cut off.
        let family = |member: &Member| member.addresses.iter().all(|address| address.is_ipv4());
        let cut = watched.members.values().next().is_some_and(family);
        for _ in 0..2 {
            let gone: Vec<_> = watched.members.values().filter(|member| family(member) == cut).map(|m| m.id).collect();
            gone.into_iter().for_each(|id| watched.leave(id, Leave::Unreachable));
            watched.run(HOUR / 2, |now, question| without_family(cut, hosts, v6_first, now, question));
        }
        assert!(watched.members.len() >= 3, "{hosts} hosts, a family is lost: {:?}", watched.members);
    }
}

impl<M: PoolMode> Watched<M> {
    fn hosts(&self) -> BTreeSet<u8> {
        self.members.values().map(host_of).collect()
    }
}

/// Whoever can make a server refuse all cookies must not make its clients flood it.
fn exchanges_ever_less_if_keys_are_always_lost(mode: impl PoolMode) {
    let mut watched = Watched::new(mode, 1);
    watched.run(HOUR, good);
    let before = watched.asked.len();
    let poll = Duration::from_secs(64);
    for _ in 0..24 * HOUR.as_secs() / poll.as_secs() {
        for id in watched.members.keys().copied().collect::<Vec<_>>() {
            watched.leave(id, Leave::KeysLost);
        }
        watched.run(poll, good);
    }
    assert!(watched.asked.len() - before <= 2 * MAX_ASKS_PER_HOUR);
    assert_eq!(watched.members.len(), 1);
}

/// Something that may happen to a mode at any time.
#[derive(Clone, Debug)]
pub enum Action {
    /// The `n`th open question is answered.
    Answer(usize, Kind),
    /// An answer comes to a question that is not open.
    Stray(u32),
    /// The `n`th member leaves or needs keys.
    Leave(usize, Leave),
    /// One leaves that is none.
    StrayLeave(u32, Leave),
    /// Time passes, in seconds; the mode is told, or not.
    Pass(u32, bool),
    /// Another number of members is wanted.
    Target(usize),
    /// News are wanted.
    Refresh,
}

/// How a question is answered.
#[derive(Clone, Debug)]
pub enum Kind {
    /// As [`good`] would.
    Good,
    /// With this server, whatever was asked.
    Server(u8),
    /// With these addresses, in any number.
    Addresses(u8),
    /// With these records, in any number.
    Services(u8),
    /// Not.
    No(Answer),
}

/// Lets anything happen in any order; everything is checked but progress, and that at the end.
///
/// # Panics
///
/// When the mode breaks the contract.
pub fn interleaved<M: PoolMode>(mode: M, actions: &[Action]) {
    let mut watched = Watched::new(mode, 3);
    for action in actions {
        match action {
            Action::Answer(place, kind) => {
                let open = watched.open.iter().nth(place % watched.open.len().max(1));
                if let Some((id, answer)) = open.map(|(id, question)| (*id, kind.answer(watched.now, question))) {
                    watched.answer(id, answer);
                }
            }
            Action::Stray(id) => {
                let id = QuestionId(*id);
                if !watched.open.contains_key(&id) {
                    watched.answer(id, Kind::Server(1).answer(watched.now, &stray_question()));
                }
            }
            Action::Leave(place, reason) => {
                let member = watched.members.keys().nth(place % watched.members.len().max(1)).copied();
                if let Some(id) = member {
                    watched.leave(id, *reason);
                }
            }
            Action::Refresh => watched.refresh(),
            Action::StrayLeave(id, reason) => {
                if !watched.members.contains_key(&MemberId(*id)) {
                    watched.leave(MemberId(*id), *reason);
                }
            }
            Action::Pass(seconds, told) => {
                watched.pass(Duration::from_secs(u64::from(*seconds)));
                if *told {
                    watched.tick();
                }
            }
            Action::Target(members) => watched.set_target(*members),
        }
    }
    watched.set_target(4);
    watched.run(240 * HOUR, good);
    assert!(watched.members.len() >= 4, "does not recover");
}

fn stray_question() -> Question {
    Question::Addresses { name: Name::parse("stray.example").unwrap_or_else(|_| unreachable!()), port: 123 }
}

impl Kind {
    fn answer(&self, now: Monotonic, question: &Question) -> Answer {
        let until = now + Duration::from_secs(u64::from(u16::MAX));
        match self {
            Self::Good => good(now, question),
            Self::Server(number) => Answer::KeyExchange(Negotiated {
                ntp_server: server_name(*number),
                addresses: server_addresses(*number),
                trust: Trust::Pki,
            }),
            Self::Addresses(count) => {
                Answer::Addresses { addresses: (0..*count).flat_map(server_addresses).collect(), until }
            }
            Self::Services(count) => {
                let target = |number| Name::parse(&server_name(number)).ok();
                let records =
                    (0..*count).filter_map(target).map(|target| Service { priority: 1, weight: 0, port: 4460, target });
                Answer::Services { records: records.collect(), until }
            }
            Self::No(answer) => answer.clone(),
        }
    }
}
