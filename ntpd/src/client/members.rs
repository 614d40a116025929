//! From names to sources: runs the pool modes and starts, moves and drops sources as they say.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
};

use ntp_proto::{
    bootstrap::{Chain, Signatures},
    ids::SourceId,
    pool::{Answer, Backoff, MemberId, Name, Output as PoolOutput, PoolMode as _, Question, QuestionId},
    time::Monotonic,
    wire::SymmetricKey,
};
use rand_core::Rng as _;

use super::{
    Client, Event,
    awaited::Search,
    refused::Refused,
    renew::own_exchanger,
    saved::{Fresh, Origin},
};
use crate::{
    config::{Config, Host, NtsUse, Pool, Require, Server, SourceOptions},
    ke::connect::{KeProblem, KeyExchanger},
    now,
    pool::{Mode, Spec},
    resolve::ServiceAnswer,
};

/// Key exchanges whose keys wait for their member; more than any mode has under way.
const MAX_WAITING_KEYS: usize = 32;

/// A question of a pool, answered.
#[derive(Debug)]
pub(super) struct Answered {
    question: QuestionId,
    answer: Answer,
    /// What a key exchange gave.
    keys: Option<Box<Fresh>>,
    /// What the certificates of this server, and the records that led to it, say of the time, if it gave no keys for their dates
    /// alone.
    dates: Option<Box<(Name, Chain)>>,
    /// What the signatures of service records say of it.
    services: Option<Signatures>,
    /// The same of those that are not valid yet.
    later: Option<Box<Signatures>>,
    /// What went wrong, for people.
    problem: Option<String>,
    /// The server that was refused for it, because what vouches for it is missing or forged.
    refused: Option<Name>,
    /// Whether it is a key exchange that failed.
    pub(super) in_vain: bool,
}

/// One `[[pool]]` or `[[server]]` of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Configured {
    Pool(Pool),
    Server(Server),
}

impl Configured {
    /// The name as written.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Pool(pool) => pool.name.to_string(),
            Self::Server(server) => server.host.to_string(),
        }
    }

    pub(super) fn requires_nts(&self) -> bool {
        let nts = match self {
            Self::Pool(pool) => pool.nts,
            Self::Server(server) => server.nts,
        };
        nts == NtsUse::Require
    }

    pub(super) const fn require(&self) -> Require {
        match self {
            Self::Pool(pool) => pool.require,
            Self::Server(server) => server.require,
        }
    }

    /// Where the name leads by the configuration, if this is it.
    pub(super) fn hints(&self, name: &Name) -> &[IpAddr] {
        match self {
            Self::Pool(pool) if pool.name == *name => &pool.address_hints,
            Self::Server(server) if server.host == Host::Name(name.clone()) => &server.address_hints,
            Self::Pool(_) | Self::Server(_) => &[],
        }
    }

    pub(super) const fn options(&self) -> &SourceOptions {
        match self {
            Self::Pool(pool) => &pool.options,
            Self::Server(server) => &server.options,
        }
    }

    pub(super) const fn count(&self) -> usize {
        match self {
            Self::Pool(pool) => pool.count,
            Self::Server(_) => 1,
        }
    }
}

/// A configured name at work.
#[derive(Debug)]
pub(super) struct Group {
    /// Which one of the configuration, counted from 0. A place is taken again when its name is gone.
    pub(super) entry: usize,
    pub(super) configured: Configured,
    pub(super) key: Option<SymmetricKey>,
    /// Exchanges its keys, if its certificates are judged by roots of its own.
    pub(super) exchanger: Option<KeyExchanger>,
    /// Nobody is asked, not even by the mode.
    pub(super) offline: bool,
    /// Finds members.
    pub(super) mode: Mode,
    pub(super) members: BTreeMap<MemberId, Active>,
    /// Sources whose member has left: they go on until another one takes their place.
    pub(super) retiring: VecDeque<SourceId>,
    pub(super) keys: BTreeMap<QuestionId, Fresh>,
    /// What the signatures of the last service records say of the time: it holds for every server that they named.
    services: Option<Signatures>,
    timeout: Option<Monotonic>,
    /// Its server does not answer, which has been told.
    pub(super) silent: bool,
    /// Looks for where a silent server may be now.
    pub(super) pace: Backoff,
    /// None before this time.
    pub(super) not_before: Option<Monotonic>,
    /// The last thing that went wrong.
    pub(super) problem: Option<String>,
    pub(super) refused: Refused,
    /// Whether its last key exchange failed.
    pub(super) in_vain: bool,
    pub(super) search: Search,
}

impl Group {
    /// Whether there is no source for this name.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.retiring.is_empty()
    }

    /// Lets a member's source go on until another one takes its place.
    pub(super) fn retire(&mut self, member: MemberId) {
        self.retiring.extend(self.members.remove(&member).map(|active| active.source));
    }

    /// Sources that wait for new keys, or to be replaced.
    fn dependent(&self) -> Vec<SourceId> {
        let waiting = self.members.values().filter(|active| active.wants_keys).map(|active| active.source);
        waiting.chain(self.retiring.iter().copied()).collect()
    }

    pub(super) fn sources(&self) -> Vec<SourceId> {
        self.members.values().map(|active| active.source).chain(self.retiring.iter().copied()).collect()
    }
}

/// A member with a source.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) source: SourceId,
    pub(super) label: String,
    pub(super) addresses: Vec<SocketAddr>,
    /// Which of the addresses is in use.
    pub(super) current: usize,
    /// How often it went on to another since it last answered.
    pub(super) moves: usize,
    /// Where its keys are from.
    pub(super) origin: Option<Origin>,
    /// Its source asked for keys and has not got any yet.
    pub(super) wants_keys: bool,
}

impl Client {
    /// Starts everything the configuration names that does not run yet.
    pub(super) fn add_groups(&mut self, config: &Config, keys: &[SymmetricKey]) {
        let servers = config.servers.iter().cloned().map(Configured::Server);
        for configured in config.pools.iter().cloned().map(Configured::Pool).chain(servers) {
            let key = match &configured {
                Configured::Server(Server { key: Some(id), .. }) => keys.iter().find(|key| key.id() == *id).cloned(),
                Configured::Server(_) | Configured::Pool(_) => None,
            };
            let running =
                self.groups.values().any(|group| group.configured == configured && same_key(&group.key, &key));
            if !running {
                let entries: Vec<usize> = self.groups.values().map(|group| group.entry).collect();
                let free = (0..).find(|entry| !entries.contains(entry)).unwrap_or_default();
                self.add_group(free, configured, key);
            }
        }
    }

    pub(super) fn add_group(&mut self, entry: usize, configured: Configured, key: Option<SymmetricKey>) {
        let seed = self.random.next_u64();
        let remembered = self.store.remembered(&configured.name());
        let spec = match &configured {
            Configured::Pool(pool) => Spec::of_pool(pool, remembered, seed),
            Configured::Server(server) => Spec::of_server(server, remembered, seed),
        };
        let mut mode = Mode::new(spec);
        let exchanger = own_exchanger(&self.exchanger, &configured);
        mode.resume(self.known_services(&configured, exchanger.as_ref()));
        mode.set_target(configured.count());
        let group = Group {
            entry,
            offline: configured.options().offline,
            configured,
            key,
            exchanger,
            mode,
            members: BTreeMap::new(),
            retiring: VecDeque::new(),
            keys: BTreeMap::new(),
            services: None,
            timeout: None,
            silent: false,
            pace: Backoff::new(seed.rotate_left(32)),
            not_before: None,
            problem: None,
            refused: Refused::default(),
            in_vain: false,
            search: Search::default(),
        };
        self.groups.insert(self.next_group, group);
        self.next_group += 1;
    }

    /// Drops what the new configuration no longer names, and starts what it adds.
    pub(super) fn replace_groups(&mut self, config: &Config, keys: &[SymmetricKey]) {
        let wanted: Vec<Configured> = config
            .pools
            .iter()
            .cloned()
            .map(Configured::Pool)
            .chain(config.servers.iter().cloned().map(Configured::Server))
            .collect();
        let gone: Vec<usize> = self
            .groups
            .iter()
            .filter(|(_, group)| {
                let key = group.key.as_ref().map(SymmetricKey::id);
                let fresh = keys.iter().find(|candidate| Some(candidate.id()) == key).cloned();
                !wanted.contains(&group.configured) || !same_key(&group.key, &fresh)
            })
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            let Some(group) = self.groups.remove(&number) else { continue };
            group.sources().into_iter().for_each(|source| self.drop_source(source));
        }
        self.add_groups(config, keys);
    }

    pub(super) fn drop_source(&mut self, source: SourceId) {
        self.waiting.remove(&source);
        self.info.remove(&source);
        self.boot.handle_gone(source);
        let present = self.clock.now();
        self.engine.remove_source(present, source);
    }

    /// Obeys the pool modes until all of them wait.
    pub(super) fn drain_pools(&mut self) {
        self.settle();
        let numbers: Vec<usize> = self.groups.keys().copied().collect();
        for number in numbers {
            while let Some(group) = self.groups.get_mut(&number) {
                if group.offline {
                    group.timeout = None;
                    break;
                }
                match group.mode.poll_output() {
                    PoolOutput::Ask(id, question) => self.ask(number, id, question),
                    PoolOutput::Join(member) => self.join(number, member),
                    PoolOutput::Timeout(at, _) => {
                        group.timeout = at;
                        // A mode proposes a member as soon as it has the answer: what is left now belongs to nobody.
                        group.keys.clear();
                        group.note_idle();
                        break;
                    }
                }
            }
        }
        self.settle();
    }

    pub(super) fn next_pool_timeout(&self) -> Option<Monotonic> {
        self.groups.values().filter_map(|group| group.timeout).min()
    }

    pub(super) fn handle_pool_timeouts(&mut self) {
        let present = now::monotonic();
        for group in self.groups.values_mut().filter(|group| group.timeout.is_some_and(|at| at <= present)) {
            group.timeout = None;
            group.mode.handle_timeout(present);
        }
    }

    fn ask(&mut self, number: usize, id: QuestionId, question: Question) {
        self.groups.get_mut(&number).into_iter().for_each(|group| group.search.begin(id));
        let events = self.events.clone();
        let require = self.groups.get(&number).map_or_else(Require::default, |group| group.configured.require());
        let saved = match &question {
            // What vouched for saved keys may be gone by now.
            Question::KeyExchange(exchange) if require.is_empty() => self.take_saved(number, exchange),
            Question::KeyExchange(_) | Question::Addresses { .. } | Question::Services { .. } => None,
        };
        if let Some((negotiated, keys)) = saved {
            let answer = Answer::KeyExchange(negotiated);
            self.handle_answered(number, Answered { keys: Some(Box::new(keys)), ..plain(id, (answer, None)) });
            return;
        }
        let family = self.groups.get(&number).and_then(|group| group.configured.options().family);
        let own = self.groups.get(&number).and_then(|group| group.exchanger.as_ref());
        let mut exchanger = own.unwrap_or(&self.exchanger).clone().within(family);
        let mut resolver = self.resolver.clone().within(family);
        match &question {
            Question::Addresses { name, port } => {
                resolver = resolver.with_hints(name.clone(), self.hints(number, name, *port));
            }
            Question::KeyExchange(exchange) => {
                let hints = self.hints(number, &exchange.server, exchange.port);
                exchanger = exchanger.with_hints(exchange.server.clone(), hints);
            }
            Question::Services { .. } => {}
        }
        let (judgements, of_names) = self.judgements();
        let services = self.groups.get(&number).and_then(|group| group.services.clone());
        tokio::spawn(async move {
            let answered = match question {
                Question::Addresses { name, port } => {
                    plain(id, resolver.addresses(&name, port, judgements.addresses).await)
                }
                Question::Services { owner, validated: true } => {
                    let ServiceAnswer { answer, problem, signatures, later } =
                        resolver.services(&owner, of_names).await;
                    let later = later.map(Box::new);
                    Answered { services: signatures, later, ..plain(id, (answer, problem)) }
                }
                Question::Services { owner, validated: false } => {
                    plain(id, resolver.plain_services(&owner, of_names).await)
                }
                Question::KeyExchange(exchange) => {
                    let services = services.filter(|_| exchange.validated);
                    let found = |chain: Chain| services.iter().fold(chain, Chain::found_by);
                    match exchanger.exchange(&exchange, require, judgements).await {
                        Ok(done) => {
                            let origin = Origin::now(&exchange, exchanger.trusted());
                            let keys = Some(Box::new(Fresh {
                                keys: done.keys,
                                origin,
                                chain: done.chain.map(found),
                                place: Some(done.peer),
                            }));
                            Answered { keys, ..plain(id, (Answer::KeyExchange(done.negotiated), None)) }
                        }
                        Err(failed) => {
                            let answered = without_keys(id, &failed);
                            let dates = failed.chain.map(|chain| Box::new((exchange.server.clone(), found(*chain))));
                            Answered { dates, ..answered }
                        }
                    }
                }
            };
            let _ = events.send(Event::Answered { group: number, answered }).await;
        });
    }

    pub(super) fn handle_answered(&mut self, number: usize, answered: Answered) {
        let present = now::monotonic();
        if let Some((fresh, place)) = answered.keys.as_ref().and_then(|fresh| Some((fresh, fresh.place?))) {
            self.store.note_place(fresh.origin.server.as_str(), place);
        }
        let Some(group) = self.groups.get_mut(&number) else { return };
        group.search.end(answered.question, &answered.answer);
        let name = group.configured.name();
        group.in_vain = answered.in_vain || group.in_vain && !matches!(answered.answer, Answer::KeyExchange(_));
        if answered.services.is_some() {
            group.services = answered.services;
        }
        if let (Some(server), Some(why)) = (&answered.refused, &answered.problem) {
            group.refused.add(server.as_str(), why);
        }
        // Problems begin with the name that was asked for, which is often this one.
        let problem = answered.problem.as_ref().map(|text| text.strip_prefix(&format!("{name}: ")).unwrap_or(text));
        match (problem, &answered.answer) {
            // What serves goes on, and nobody need do anything about it.
            (Some(problem), _) if group.mode.is_look(answered.question) => {
                tracing::debug!("{name}: no NTS yet: {problem}")
            }
            (Some(problem), _) => {
                if group.problem.as_deref() != Some(problem) {
                    tracing::warn!(source = %name, reason = %problem, "trouble with this name; it is tried again by itself");
                    group.problem = Some(problem.to_owned());
                }
                for source in group.dependent() {
                    let Some(info) = self.info.get_mut(&source) else { continue };
                    info.key_attempts = info.key_attempts.saturating_add(1);
                    info.note = Some(problem.to_owned());
                }
            }
            (None, Answer::KeyExchange(_) | Answer::Addresses { .. } | Answer::Services { .. }) => group.problem = None,
            (None, _) => {}
        }
        if let Some(keys) = answered.keys.filter(|_| group.keys.len() < MAX_WAITING_KEYS) {
            group.keys.insert(answered.question, *keys);
        }
        group.mode.handle_answer(present, answered.question, answered.answer);
        if let Some(route) = group.mode.learned() {
            self.store.remember(&name, route);
        }
        if let Some((server, chain)) = answered.dates.map(|dates| *dates) {
            self.note_dates(number, &server, chain);
        }
        if let Some(signed) = &answered.later {
            self.note_signed(number, signed);
        }
    }
}

#[cfg(test)]
impl Answered {
    pub(super) fn for_test(question: QuestionId, answer: Answer, keys: Option<Fresh>) -> Self {
        Self { keys: keys.map(Box::new), ..plain(question, (answer, None)) }
    }

    pub(super) fn with_later(self, signed: Signatures) -> Self {
        Self { later: Some(Box::new(signed)), ..self }
    }

    /// When its certificates are valid, and when its service records are.
    pub(super) fn said(&self) -> (Option<ntp_proto::bootstrap::Window>, Option<ntp_proto::bootstrap::Window>) {
        let chain = self.keys.as_ref().and_then(|keys| keys.chain.as_ref());
        (chain.map(|chain| chain.window), self.services.as_ref().map(|services| services.window))
    }
}

fn plain(question: QuestionId, (answer, problem): (Answer, Option<String>)) -> Answered {
    Answered {
        question,
        answer,
        keys: None,
        dates: None,
        services: None,
        later: None,
        problem,
        refused: None,
        in_vain: false,
    }
}

pub(super) fn without_keys(question: QuestionId, failed: &KeProblem) -> Answered {
    let refused = failed.is_refusal().then(|| failed.server.clone());
    let answer = Answer::Failed(failed.failure());
    Answered { refused, in_vain: true, ..plain(question, (answer, Some(failed.to_string()))) }
}

/// Whether two keys are one: the same number, and the same secret as far as a packet can tell.
fn same_key(a: &Option<SymmetricKey>, b: &Option<SymmetricKey>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.is_same(b),
        (Some(_), None) | (None, Some(_)) => false,
    }
}
