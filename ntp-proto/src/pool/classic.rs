//! Plain NTP from the addresses of names: today's pools.

use core::time::Duration;
use std::{
    collections::{BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
};

use super::{
    Answer, Leave, MAX_MEMBERS, Member, MemberId, Name, Output, PoolMode, Question, QuestionId,
    family::{Family, Tally},
    pace::{Backoff, Shunned},
};
use crate::{ids::Trust, time::Monotonic};

/// Most names and addresses of one pool.
pub const MAX_HOSTS: usize = 16;

/// Most addresses that are kept of one answer.
pub const MAX_ADDRESSES: usize = 64;

/// Answers are used for this long at least and at most, whatever they say themselves.
const LIFETIMES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(86_400));

/// How long an address is left alone that was no good.
const SHUN: Duration = Duration::from_secs(3600);

/// How long an address is left alone that told us to go away.
const SHUN_DENIED: Duration = Duration::from_secs(86_400);

/// Where members come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// All addresses of a name.
    Name {
        /// The name.
        name: Name,
        /// The port of each address.
        port: u16,
    },
    /// One address.
    Address(SocketAddr),
}

/// Members from the addresses of one or more hosts, with plain NTP.
#[derive(Clone, Debug)]
pub struct ClassicPool {
    hosts: Vec<Known>,
    /// A host is one server with several addresses, not one server at each.
    whole: bool,
    target: usize,
    held: Vec<Held>,
    /// No good; and those that sent us away.
    shunned: Shunned<SocketAddr>,
    denied: Shunned<SocketAddr>,
    joins: VecDeque<Member>,
    /// When to try again what has led to too few members.
    retry_at: Option<Monotonic>,
    failures: Backoff,
    /// News are on their way that may move members.
    refreshing: bool,
    next_question: u32,
    next_member: u32,
}

#[derive(Clone, Debug)]
struct Held {
    id: MemberId,
    /// The one it is known by.
    address: SocketAddr,
    /// All of them.
    addresses: Vec<SocketAddr>,
}

#[derive(Clone, Debug)]
struct Known {
    host: Host,
    addresses: Vec<SocketAddr>,
    state: Lookup,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lookup {
    /// To be asked as soon as members are wanted.
    Due,
    /// To be asked even if there are enough members.
    Wanted,
    Asked(QuestionId),
    /// Answered; not to be asked before that time. Never, for an address.
    Until(Option<Monotonic>),
}

impl ClassicPool {
    /// Starts with no members; hosts beyond [`MAX_HOSTS`] are left out. `seed` decides the jitter of waits.
    #[must_use]
    pub fn new(hosts: Vec<Host>, seed: u64) -> Self {
        let known = |host| match host {
            Host::Name { .. } => Known { host, addresses: Vec::new(), state: Lookup::Due },
            Host::Address(address) => Known { host, addresses: vec![address], state: Lookup::Until(None) },
        };
        Self {
            hosts: hosts.into_iter().take(MAX_HOSTS).map(known).collect(),
            whole: false,
            target: 0,
            held: Vec::new(),
            shunned: Shunned::default(),
            denied: Shunned::default(),
            joins: VecDeque::new(),
            retry_at: None,
            failures: Backoff::new(seed),
            refreshing: false,
            next_question: 0,
            next_member: 0,
        }
    }

    /// Takes each host for one server, whose addresses are ways to it.
    #[must_use]
    pub const fn with_whole_hosts(mut self) -> Self {
        self.whole = true;
        self
    }

    /// Takes members from these hosts from now on, in this order; hosts beyond [`MAX_HOSTS`] are left out, but not one
    /// that has a member. With `whole`, each is one server, whose addresses are ways to it.
    pub(super) fn set_hosts(&mut self, hosts: Vec<Host>, whole: bool) {
        let in_use = |known: &Known| {
            let mut all = self.held.iter().flat_map(|held| &held.addresses);
            all.any(|address| known.addresses.contains(address))
        };
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for host in hosts {
            match self.hosts.iter().find(|known| known.host == host).cloned() {
                Some(known) if in_use(&known) => first.push(known),
                Some(known) => rest.push(known),
                None => rest.push(Known { host, addresses: Vec::new(), state: Lookup::Due }),
            }
        }
        first.append(&mut rest);
        first.truncate(MAX_HOSTS);
        self.hosts = first;
        self.whole = whole;
        if self.asking() {
            self.retry_at = None;
        }
    }

    pub(super) fn short(&self) -> bool {
        self.held.len() < self.target
    }

    fn asking(&self) -> bool {
        self.hosts.iter().any(|known| !matches!(known.state, Lookup::Until(_)))
    }

    /// Takes members from the addresses known, as long as there are too few.
    fn fill(&mut self) {
        let (family, alone) = self.family();
        let is_kin = |address: &SocketAddr| family.is_none_or(|family| Family::of(address.ip()) == family);
        self.join_all(|pool, address| pool.is_fresh(address) && is_kin(address) && !pool.has_neighbour(address));
        // Neighbours may share their fate or their owner, and the other family the servers: only if the answers leave no
        // choice.
        if !self.asking() {
            self.join_all(|pool, address| pool.is_fresh(address) && is_kin(address));
            if !alone {
                self.join_all(Self::is_fresh);
            }
        }
    }

    /// The family that members should have, and whether no other; none where a host is one server.
    fn family(&self) -> (Option<Family>, bool) {
        if self.whole {
            return (None, true);
        }
        let mut tally = Tally::default();
        self.held.iter().for_each(|held| tally.add(held.address.ip(), true));
        let known = self.hosts.iter().flat_map(|known| &known.addresses);
        let is_held = |address: &SocketAddr| self.held.iter().any(|held| held.address == *address);
        let mut seen = BTreeSet::new();
        let is_new = |address: &&SocketAddr| self.is_fresh(address) && !is_held(address) && seen.insert(**address);
        for address in known.filter(is_new) {
            tally.add(address.ip(), false);
        }
        let (family, alone) = tally.choose(self.target);
        (Some(family), alone)
    }

    fn is_fresh(&self, address: &SocketAddr) -> bool {
        !self.shunned.contains(address) && !self.denied.contains(address)
    }

    fn has_neighbour(&self, address: &SocketAddr) -> bool {
        self.held.iter().any(|held| network(held.address.ip()) == network(address.ip()))
    }

    /// Joins acceptable addresses, one of each host in turn.
    fn join_all(&mut self, acceptable: impl Fn(&Self, &SocketAddr) -> bool) {
        let places = if self.whole { 1 } else { MAX_ADDRESSES };
        for place in 0..places {
            for host in 0..self.hosts.len() {
                let Some(address) = self.hosts.get(host).and_then(|known| known.addresses.get(place)).copied() else {
                    continue;
                };
                let same = |held: &Held| held.address == address || self.whole && held.addresses.contains(&address);
                let held = self.held.iter().any(same);
                if self.short() && !held && acceptable(self, &address) {
                    self.join(host, address, None);
                }
            }
        }
    }

    /// Joins an address of a host, or the host as a whole; `replaces` is held.
    fn join(&mut self, host: usize, address: SocketAddr, replaces: Option<MemberId>) {
        let Some(known) = self.hosts.get(host) else { return };
        let (label, addresses) = match &known.host {
            Host::Name { name, .. } if self.whole => (name.to_string(), known.addresses.clone()),
            Host::Name { .. } | Host::Address(_) => (address.ip().to_string(), vec![address]),
        };
        let id = MemberId(self.next_member);
        self.next_member = self.next_member.wrapping_add(1);
        let held = Held { id, address, addresses: addresses.clone() };
        match self.held.iter_mut().find(|held| Some(held.id) == replaces) {
            Some(old) => *old = held,
            None => self.held.push(held),
        }
        self.joins.push_back(Member { id, label, addresses, keys: None, trust: Trust::None, replaces });
    }

    /// After a refresh: members whose address is gone move to another.
    fn relocate(&mut self) {
        for old in self.held.clone() {
            let knows = |known: &Known| old.addresses.iter().any(|address| known.addresses.contains(address));
            let place = match self.hosts.iter().position(knows) {
                None => self.fresh_place(),
                Some(_) if !self.whole => None,
                // The same server, whichever of its addresses came and went.
                Some(host) => self.hosts.get(host).and_then(|known| {
                    let same = known.addresses.len() == old.addresses.len()
                        && known.addresses.iter().all(|address| old.addresses.contains(address));
                    known.addresses.first().filter(|_| !same).map(|address| (host, *address))
                }),
            };
            if let Some((host, address)) = place {
                self.join(host, address, Some(old.id));
            }
        }
    }

    /// An address that nobody holds.
    fn fresh_place(&self) -> Option<(usize, SocketAddr)> {
        let free = |address: &&SocketAddr| {
            self.is_fresh(address) && !self.held.iter().any(|held| held.addresses.contains(address))
        };
        let mut hosts = self.hosts.iter().enumerate();
        hosts.find_map(|(host, known)| Some((host, *known.addresses.iter().find(free)?)))
    }

    /// Sets the time to look for more, if there are too few and no answer is awaited.
    fn plan(&mut self, now: Monotonic) {
        if !self.short() {
            self.retry_at = None;
            if self.target > 0 {
                self.failures.reset();
            }
        } else if !self.asking() && self.retry_at.is_none() {
            let wait = self.failures.trouble(now);
            // What an answer says stays true until then; a static address has no such time.
            let until = self.hosts.iter().filter_map(|known| match known.state {
                Lookup::Until(until) => until,
                Lookup::Due | Lookup::Wanted | Lookup::Asked(_) => None,
            });
            let news = until.min().map_or(wait, |until| until.min(now + SHUN));
            self.retry_at = Some(if self.held.is_empty() { wait } else { wait.max(news) });
        }
    }

    /// Marks the names whose answers are out of date.
    fn renew(&mut self, now: Monotonic) {
        for known in &mut self.hosts {
            if matches!(known.state, Lookup::Until(Some(until)) if until <= now) {
                known.state = Lookup::Due;
            }
        }
    }
}

impl PoolMode for ClassicPool {
    fn set_target(&mut self, members: usize) {
        self.target = members.min(MAX_MEMBERS);
        if self.retry_at.is_some() {
            return;
        }
        self.fill();
        if self.short() && !self.asking() {
            for known in &mut self.hosts {
                if matches!(known.state, Lookup::Until(Some(_))) {
                    known.state = Lookup::Due;
                }
            }
        }
    }

    fn handle_answer(&mut self, now: Monotonic, id: QuestionId, answer: Answer) {
        let Some(known) = self.hosts.iter_mut().find(|known| known.state == Lookup::Asked(id)) else { return };
        known.state = Lookup::Until(Some(now));
        if let Answer::Addresses { mut addresses, until } = answer {
            addresses.truncate(MAX_ADDRESSES);
            known.addresses = addresses;
            known.state = Lookup::Until(Some(until.max(now + LIFETIMES.0).min(now + LIFETIMES.1)));
        }
        self.shunned.expire(now);
        self.denied.expire(now);
        if self.refreshing && !self.asking() {
            self.refreshing = false;
            self.relocate();
        }
        self.fill();
        // One that was no good is better than none.
        if self.held.is_empty() && !self.asking() {
            self.join_all(|pool, address| !pool.denied.contains(address));
        }
        self.plan(now);
    }

    fn handle_leave(&mut self, now: Monotonic, member: MemberId, reason: Leave) {
        if reason == Leave::KeysLost {
            return; // There were none.
        }
        let Some(place) = self.held.iter().position(|held| held.id == member) else { return };
        let Held { address, .. } = self.held.remove(place);
        if reason == Leave::Denied {
            self.denied.insert(address, now + SHUN_DENIED);
        } else {
            self.shunned.insert(address, now + SHUN);
        }
        self.fill();
        self.plan(now);
    }

    fn handle_refresh(&mut self, now: Monotonic) {
        if self.target == 0 {
            return;
        }
        self.retry_at = None;
        self.refreshing = true;
        self.shunned = Shunned::default();
        self.denied.expire(now);
        for known in &mut self.hosts {
            if matches!((&known.host, known.state), (Host::Name { .. }, Lookup::Until(_) | Lookup::Due)) {
                known.state = Lookup::Wanted;
            }
        }
        self.fill();
        self.plan(now);
    }

    fn handle_timeout(&mut self, now: Monotonic) {
        if self.retry_at.is_none_or(|at| now < at) {
            return;
        }
        self.retry_at = None;
        self.shunned.expire(now);
        self.denied.expire(now);
        self.renew(now);
        self.fill();
        if self.held.is_empty() && !self.asking() {
            self.join_all(|pool, address| !pool.denied.contains(address));
        }
        self.plan(now);
    }

    fn poll_output(&mut self) -> Output {
        if let Some(member) = self.joins.pop_front() {
            return Output::Join(member);
        }
        let (short, wanted) = (self.short(), self.target > 0);
        let due = |known: &&mut Known| match known.state {
            Lookup::Due => short,
            Lookup::Wanted => wanted,
            Lookup::Asked(_) | Lookup::Until(_) => false,
        };
        // Of several servers, the one after the next is only asked about if the next is not enough.
        let busy = self.whole && self.hosts.iter().any(|known| matches!(known.state, Lookup::Asked(_)));
        if let Some(known) = self.hosts.iter_mut().find(due).filter(|_| !busy)
            && let Host::Name { name, port } = &known.host
        {
            let id = QuestionId(self.next_question);
            self.next_question = self.next_question.wrapping_add(1);
            known.state = Lookup::Asked(id);
            return Output::Ask(id, Question::Addresses { name: name.clone(), port: *port });
        }
        let text = match (self.short(), self.asking()) {
            (false, _) => "enough members",
            (true, true) => "addresses",
            (true, false) => "next look for members",
        };
        Output::Timeout(self.retry_at, text)
    }
}

/// The part of an address that one operator usually holds: /24 or /48.
fn network(address: IpAddr) -> [u8; 7] {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            [4, a, b, c, 0, 0, 0]
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, ..] = address.octets();
            [6, a, b, c, d, e, f]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Failure;

    const START: Monotonic = Monotonic::from_nanos(1);

    fn at(seconds: u64) -> Monotonic {
        START + Duration::from_secs(seconds)
    }

    fn pool(names: &[&str]) -> ClassicPool {
        let host = |name: &&str| Host::Name { name: Name::parse(name).unwrap(), port: 123 };
        ClassicPool::new(names.iter().map(host).collect(), 1)
    }

    fn addresses(list: &[&str]) -> Answer {
        let addresses = list.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 123)).collect();
        Answer::Addresses { addresses, until: at(150) }
    }

    /// Everything until the next timeout: labels joined, questions asked, the timeout.
    fn drain(pool: &mut ClassicPool) -> (Vec<Member>, Vec<QuestionId>, Option<Monotonic>) {
        let (mut joined, mut asked) = (Vec::new(), Vec::new());
        loop {
            match pool.poll_output() {
                Output::Join(member) => joined.push(member),
                Output::Ask(id, _) => asked.push(id),
                Output::Timeout(at, _) => return (joined, asked, at),
            }
        }
    }

    fn labels(members: &[Member]) -> Vec<&str> {
        members.iter().map(|member| member.label.as_str()).collect()
    }

    #[test]
    fn hosts_take_turns_and_neighbours_come_last() {
        let mut pool = pool(&["a.example", "b.example"]);
        pool.set_target(4);
        let (_, asked, _) = drain(&mut pool);
        let [a, b] = asked[..] else { panic!("{asked:?}") };
        pool.handle_answer(START, a, addresses(&["192.0.2.1", "192.0.2.2", "198.51.100.1"]));
        assert_eq!(labels(&drain(&mut pool).0), ["192.0.2.1", "198.51.100.1"]);
        pool.handle_answer(START, b, addresses(&["192.0.2.1", "2001:db8::1", "2001:db8::2"]));
        // What IPv6 leads to may be what is held already.
        let (joined, _, timeout) = drain(&mut pool);
        assert_eq!(labels(&joined), ["192.0.2.2"]);
        assert!(timeout.is_some());
    }

    #[test]
    fn without_a_majority_of_one_family_both_are_taken() {
        let mut pool = pool(&["a.example"]);
        pool.set_target(4);
        let (_, asked, _) = drain(&mut pool);
        pool.handle_answer(
            START,
            asked[0],
            addresses(&["2001:db8:1::1", "192.0.2.1", "2001:db8:2::1", "198.51.100.1"]),
        );
        let (joined, _, _) = drain(&mut pool);
        assert_eq!(labels(&joined), ["2001:db8:1::1", "2001:db8:2::1", "192.0.2.1", "198.51.100.1"]);
    }

    #[test]
    fn a_member_that_left_is_replaced_from_what_is_known_and_not_taken_again() {
        let mut pool = pool(&["a.example"]);
        pool.set_target(1);
        let (_, asked, _) = drain(&mut pool);
        pool.handle_answer(START, asked[0], addresses(&["192.0.2.1", "198.51.100.1"]));
        let (first, _, _) = drain(&mut pool);
        pool.handle_leave(at(10), first[0].id, Leave::KeysLost);
        assert_eq!(drain(&mut pool).0, []);
        pool.handle_leave(at(10), first[0].id, Leave::Unreachable);
        let (second, _, _) = drain(&mut pool);
        assert_eq!(labels(&second), ["198.51.100.1"]);
        pool.handle_leave(at(20), second[0].id, Leave::Denied);
        let (third, asked, timeout) = drain(&mut pool);
        assert_eq!((third, asked), (vec![], vec![]));
        pool.handle_timeout(timeout.unwrap());
        // The one that did not answer is better than none; the one that denied is not. The answer is still good.
        let (fourth, asked, _) = drain(&mut pool);
        assert_eq!((labels(&fourth), asked), (vec!["192.0.2.1"], vec![]));
    }

    #[test]
    fn a_short_pool_asks_again_when_the_answer_is_out_of_date() {
        let mut pool = pool(&["a.example"]);
        pool.set_target(2);
        let (_, asked, _) = drain(&mut pool);
        pool.handle_answer(START, asked[0], addresses(&["192.0.2.1"]));
        let (_, asked, timeout) = drain(&mut pool);
        assert_eq!((asked, timeout), (vec![], Some(at(150))));
        pool.handle_timeout(at(150));
        assert_eq!(drain(&mut pool).1.len(), 1);
    }

    #[test]
    fn a_higher_target_is_served_from_what_is_known_and_then_asked_for() {
        let mut pool = pool(&["a.example"]);
        pool.set_target(1);
        let (_, asked, _) = drain(&mut pool);
        pool.handle_answer(START, asked[0], addresses(&["192.0.2.1", "192.0.2.2"]));
        assert_eq!(labels(&drain(&mut pool).0), ["192.0.2.1"]);
        pool.set_target(3);
        let (joined, asked, _) = drain(&mut pool);
        assert_eq!((labels(&joined), asked.len()), (vec!["192.0.2.2"], 1));
    }

    #[test]
    fn failures_are_asked_again_ever_later() {
        let mut pool = pool(&["a.example"]);
        pool.set_target(1);
        let (_, mut asked, _) = drain(&mut pool);
        let mut now = START;
        for wait in [16, 32, 64, 128] {
            pool.handle_answer(now, asked[0], Answer::Failed(Failure::Resolver));
            let (_, none, timeout) = drain(&mut pool);
            let timeout = timeout.unwrap();
            assert!(none.is_empty() && (wait..=wait + wait / 8).contains(&timeout.since(now).as_secs()));
            now = timeout;
            pool.handle_timeout(now);
            (_, asked, _) = drain(&mut pool);
        }
    }

    #[test]
    fn news_move_those_alone_whose_address_is_gone() {
        let mut pool = pool(&["a.example"]);
        pool.set_target(2);
        let (_, asked, _) = drain(&mut pool);
        pool.handle_answer(START, asked[0], addresses(&["192.0.2.1", "198.51.100.1"]));
        let (first, _, _) = drain(&mut pool);
        assert_eq!(labels(&first), ["192.0.2.1", "198.51.100.1"]);
        pool.handle_refresh(at(10));
        let (_, asked, _) = drain(&mut pool);
        pool.handle_answer(at(11), asked[0], Answer::Failed(Failure::Resolver));
        assert_eq!(drain(&mut pool).0, [], "no news");
        pool.handle_refresh(at(20));
        let (_, asked, _) = drain(&mut pool);
        pool.handle_answer(at(21), asked[0], addresses(&["203.0.113.1", "198.51.100.1"]));
        let (moved, _, timeout) = drain(&mut pool);
        assert_eq!((labels(&moved), moved[0].replaces), (vec!["203.0.113.1"], Some(first[0].id)));
        assert_eq!(timeout, None);
        // One that is still there is never exchanged for another.
        pool.handle_refresh(at(30));
        let (_, asked, _) = drain(&mut pool);
        pool.handle_answer(at(31), asked[0], addresses(&["192.0.2.9", "203.0.113.1", "198.51.100.1"]));
        assert_eq!(drain(&mut pool).0, []);
    }

    #[test]
    fn news_are_asked_for_at_once_whatever_is_waited_for() {
        let mut pool = pool(&["a.example"]);
        pool.set_target(1);
        let (_, asked, _) = drain(&mut pool);
        pool.handle_answer(START, asked[0], Answer::Failed(Failure::Resolver));
        assert!(drain(&mut pool).1.is_empty());
        pool.handle_refresh(at(1));
        assert_eq!(drain(&mut pool).1.len(), 1);
        pool.handle_refresh(at(1));
        assert_eq!(drain(&mut pool).1, [], "it is asked already");
    }

    #[test]
    fn a_whole_host_is_one_member_at_all_its_addresses() {
        let mut pool = pool(&["a.example"]).with_whole_hosts();
        pool.set_target(1);
        let (_, asked, _) = drain(&mut pool);
        pool.handle_answer(START, asked[0], addresses(&["192.0.2.1", "2001:db8::1"]));
        let (first, _, _) = drain(&mut pool);
        assert_eq!((labels(&first), first[0].addresses.len()), (vec!["a.example"], 2));
        for (answer, moves) in [
            (addresses(&["2001:db8::1", "192.0.2.1"]), 0),
            (addresses(&["2001:db8::1"]), 1),
            (addresses(&["2001:db8::9"]), 1),
            (addresses(&["2001:db8::9"]), 0),
        ] {
            pool.handle_refresh(at(10));
            let (_, asked, _) = drain(&mut pool);
            pool.handle_answer(at(10), asked[0], answer);
            let (moved, _, _) = drain(&mut pool);
            assert_eq!(moved.len(), moves);
            assert!(moved.iter().all(|member| member.replaces.is_some()));
        }
    }

    #[test]
    fn a_single_address_is_tried_again_after_a_while() {
        let mut pool = ClassicPool::new(vec![Host::Address("192.0.2.1:1123".parse().unwrap())], 3);
        pool.set_target(1);
        let (joined, _, _) = drain(&mut pool);
        assert_eq!(joined[0].addresses, ["192.0.2.1:1123".parse().unwrap()]);
        pool.handle_leave(START, joined[0].id, Leave::Unreachable);
        let (none, _, timeout) = drain(&mut pool);
        assert_eq!(none, []);
        pool.handle_timeout(timeout.unwrap());
        assert_eq!(labels(&drain(&mut pool).0), ["192.0.2.1"]);
    }
}
