//! Members from the addresses of one name, each an NTS server of its own: those that share a certificate for the name,
//! and those that have one for their address.

use core::time::Duration;
use std::{collections::VecDeque, net::SocketAddr};

use super::{
    Answer, KeyExchange, Leave, MAX_MEMBERS, MAX_SHUNNED, Member, MemberId, Name, Negotiated, Output, PoolMode,
    Question, QuestionId,
    pace::{Backoff, Shunned},
};
use crate::time::Monotonic;

/// Most addresses that are kept of one answer: few enough that all of them and a full set of members can be shunned.
pub const MAX_ADDRESSES: usize = MAX_SHUNNED - 2 * MAX_MEMBERS;

/// Answers are used for this long at least and at most, whatever they say themselves.
const LIFETIMES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(86_400));

/// How long an address is left alone that was no good.
const SHUN: Duration = Duration::from_secs(3600);

/// How long an address is left alone that told us to go away.
const SHUN_DENIED: Duration = Duration::from_secs(86_400);

/// What the certificate of each server must be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Certificate {
    /// The name of the pool, the same for all.
    OfName,
    /// The server's own address.
    OfAddress,
}

/// Members from key exchanges with each address of a name.
#[derive(Clone, Debug)]
pub struct AddressPool {
    name: Name,
    port: u16,
    certificate: Certificate,
    target: usize,
    /// Where keys are exchanged, in the order to be tried.
    addresses: Vec<SocketAddr>,
    /// When `addresses` should be asked for again; `None` before the first good answer.
    until: Option<Monotonic>,
    /// Whether `addresses` are to be asked for before the next exchange.
    due: bool,
    held: Vec<Held>,
    /// No good; and those that sent us away.
    shunned: Shunned<SocketAddr>,
    denied: Shunned<SocketAddr>,
    asked: Option<Asked>,
    joins: VecDeque<Member>,
    retry_at: Option<Monotonic>,
    /// What `retry_at` waits for.
    trouble: &'static str,
    failures: Backoff,
    losses: Backoff,
    next_question: u32,
    next_member: u32,
}

#[derive(Clone, Debug)]
struct Held {
    id: MemberId,
    /// Where its keys come from.
    at: SocketAddr,
    label: String,
    addresses: Vec<SocketAddr>,
    keys_lost: bool,
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    Addresses(QuestionId),
    Keys { id: QuestionId, at: SocketAddr, rekeys: Option<MemberId> },
}

impl AddressPool {
    /// Starts with no members. Keys are exchanged at `port`; `seed` decides the jitter of waits.
    #[must_use]
    pub fn new(name: Name, port: u16, certificate: Certificate, seed: u64) -> Self {
        Self {
            name,
            port,
            certificate,
            target: 0,
            addresses: Vec::new(),
            until: None,
            due: true,
            held: Vec::new(),
            shunned: Shunned::default(),
            denied: Shunned::default(),
            asked: None,
            joins: VecDeque::new(),
            retry_at: None,
            trouble: "addresses",
            failures: Backoff::new(seed),
            losses: Backoff::new(!seed),
            next_question: 0,
            next_member: 0,
        }
    }

    /// What the certificate of each server must be for.
    #[must_use]
    pub const fn certificate(&self) -> Certificate {
        self.certificate
    }

    /// How many members it has.
    #[must_use]
    pub fn members(&self) -> usize {
        self.held.len()
    }

    fn short(&self) -> bool {
        self.held.len() < self.target
    }

    /// The next address to exchange keys with, and the member that needs them if it has one.
    fn candidate(&self) -> Option<(SocketAddr, Option<MemberId>)> {
        let free = |address: &&SocketAddr| {
            !self.shunned.contains(address)
                && !self.denied.contains(address)
                && !self.held.iter().any(|held| held.at == **address)
        };
        if let Some(address) = self.addresses.iter().find(free).filter(|_| self.short()) {
            return Some((*address, None));
        }
        self.held.iter().find(|held| held.keys_lost).map(|held| (held.at, Some(held.id)))
    }

    fn ask_addresses(&mut self) -> Output {
        let id = self.question();
        self.asked = Some(Asked::Addresses(id));
        Output::Ask(id, Question::Addresses { name: self.name.clone(), port: self.port })
    }

    fn ask_keys(&mut self, at: SocketAddr, rekeys: Option<MemberId>) -> Output {
        let id = self.question();
        self.asked = Some(Asked::Keys { id, at, rekeys });
        let server = match self.certificate {
            Certificate::OfName => self.name.clone(),
            Certificate::OfAddress => Name::from(at.ip()),
        };
        let (port, addresses) = (at.port(), Some(vec![at]));
        let exchange = KeyExchange { server, port, addresses, validated: false, denied: Vec::new() };
        Output::Ask(id, Question::KeyExchange(exchange))
    }

    fn question(&mut self) -> QuestionId {
        let id = QuestionId(self.next_question);
        self.next_question = self.next_question.wrapping_add(1);
        id
    }

    fn handle_addresses(&mut self, now: Monotonic, answer: Answer) {
        self.trouble = match answer {
            Answer::Addresses { mut addresses, until } => {
                addresses.truncate(MAX_ADDRESSES);
                self.addresses = addresses;
                self.until = Some(until.max(now + LIFETIMES.0).min(now + LIFETIMES.1));
                self.due = false;
                "next key exchange"
            }
            Answer::NoRecord => "addresses: there are none",
            Answer::Failed(_) | Answer::Insecure | Answer::Bogus | Answer::Services { .. } | Answer::KeyExchange(_) => {
                "addresses: no answer"
            }
        };
        if !self.due {
            self.plan(now);
        } else if self.candidate().is_some() {
            // The last good answer still serves; the next one is asked for later.
            self.until = Some(self.failures.trouble(now));
            self.due = false;
        } else {
            self.retry_at = Some(self.failures.trouble(now));
        }
    }

    fn handle_keys(
        &mut self,
        now: Monotonic,
        id: QuestionId,
        at: SocketAddr,
        rekeys: Option<MemberId>,
        answer: Answer,
    ) {
        let rekeys = rekeys.filter(|id| self.held.iter().any(|held| held.id == *id));
        let Answer::KeyExchange(server) = answer else {
            if let Some(place) = self.held.iter().position(|held| Some(held.id) == rekeys) {
                // Others that want keys come first next time.
                let last = self.held.remove(place);
                self.held.push(last);
                self.retry_at = Some(self.failures.trouble(now));
            } else {
                self.shunned.insert(at, now + SHUN);
                self.plan(now);
            }
            return;
        };
        let server = self.apart(at, server);
        // Two addresses may be one server: it counts once.
        let known = self.held.iter().any(|held| Some(held.id) != rekeys && is_same(held, &server));
        if known && rekeys.is_none() {
            self.shunned.insert(at, now + SHUN);
        } else if rekeys.is_some() || self.short() {
            self.join(id, at, server, rekeys);
        }
        self.plan(now);
    }

    /// Servers that share a name are told apart by their addresses, and each is the one at the address that gave the
    /// keys.
    fn apart(&self, at: SocketAddr, mut server: Negotiated) -> Negotiated {
        if server.ntp_server.trim_end_matches('.').eq_ignore_ascii_case(self.name.as_str()) {
            server.ntp_server = at.ip().to_string();
            if let Some(own) = server.addresses.iter().find(|address| address.ip() == at.ip()).copied() {
                server.addresses = vec![own];
            }
        }
        server
    }

    fn join(&mut self, keys: QuestionId, at: SocketAddr, server: Negotiated, replaces: Option<MemberId>) {
        let id = MemberId(self.next_member);
        self.next_member = self.next_member.wrapping_add(1);
        let Negotiated { ntp_server: label, addresses, trust } = server;
        let held = Held { id, at, label: label.clone(), addresses: addresses.clone(), keys_lost: false };
        match self.held.iter_mut().find(|held| Some(held.id) == replaces) {
            Some(old) => *old = held,
            None => self.held.push(held),
        }
        self.joins.push_back(Member { id, label, addresses, keys: Some(keys), trust, replaces });
    }

    /// Sets the time for another look if all addresses are used up and there are still too few members.
    fn plan(&mut self, now: Monotonic) {
        if !self.short() {
            // As long as one cannot have keys, there is trouble.
            if self.held.iter().all(|held| !held.keys_lost) {
                self.failures.reset();
            }
        } else if self.candidate().is_none() && !self.due && self.retry_at.is_none() {
            let wait = self.failures.trouble(now);
            let news = self.until.unwrap_or(now).min(now + SHUN);
            self.trouble = "next look for members";
            self.retry_at = Some(if self.held.is_empty() { wait } else { wait.max(news) });
        }
    }

    /// Marks the addresses if they are out of date.
    fn renew(&mut self, now: Monotonic) {
        if self.short() && self.until.is_none_or(|until| until <= now) {
            self.due = true;
        }
    }
}

fn is_same(held: &Held, server: &Negotiated) -> bool {
    held.label.eq_ignore_ascii_case(&server.ntp_server)
        || held.addresses.iter().any(|address| server.addresses.contains(address))
}

impl PoolMode for AddressPool {
    fn set_target(&mut self, members: usize) {
        self.target = members.min(MAX_MEMBERS);
        if self.short() && self.candidate().is_none() {
            self.due = true;
        }
    }

    fn handle_answer(&mut self, now: Monotonic, id: QuestionId, answer: Answer) {
        let ours = |asked: &mut Asked| match asked {
            Asked::Addresses(asked) | Asked::Keys { id: asked, .. } => *asked == id,
        };
        match self.asked.take_if(ours) {
            None => {}
            Some(Asked::Addresses(_)) => {
                self.shunned.expire(now);
                self.handle_addresses(now, answer);
            }
            Some(Asked::Keys { id, at, rekeys }) => self.handle_keys(now, id, at, rekeys, answer),
        }
    }

    fn handle_leave(&mut self, now: Monotonic, member: MemberId, reason: Leave) {
        let Some(place) = self.held.iter().position(|held| held.id == member) else { return };
        if reason == Leave::KeysLost {
            let Some(held) = self.held.get_mut(place).filter(|held| !held.keys_lost) else { return };
            held.keys_lost = true;
        } else {
            let Held { at, .. } = self.held.remove(place);
            if reason == Leave::Denied {
                self.denied.insert(at, now + SHUN_DENIED);
            } else {
                self.shunned.insert(at, now + SHUN);
            }
        }
        self.trouble = "next key exchange";
        self.retry_at = self.retry_at.max(Some(self.losses.trouble(now)));
    }

    /// The key exchange at an address says where its server is; addresses are asked for only if members are missing.
    fn handle_refresh(&mut self, now: Monotonic) {
        self.retry_at = None;
        self.held.iter_mut().for_each(|held| held.keys_lost = true);
        self.denied.expire(now);
        if self.short() {
            self.shunned = Shunned::default();
            self.due = true;
        }
    }

    fn handle_timeout(&mut self, now: Monotonic) {
        if self.retry_at.is_none_or(|at| now < at) {
            return;
        }
        self.retry_at = None;
        self.shunned.expire(now);
        self.denied.expire(now);
        if self.held.is_empty() && self.candidate().is_none() {
            // One that was no good is better than none.
            self.shunned = Shunned::default();
        }
        self.renew(now);
        if self.asked.is_none() {
            self.plan(now);
        }
    }

    fn poll_output(&mut self) -> Output {
        if let Some(member) = self.joins.pop_front() {
            return Output::Join(member);
        }
        let candidate = self.candidate();
        if !self.short() && candidate.is_none() {
            return Output::Timeout(None, "enough members");
        }
        match (&self.asked, self.retry_at) {
            (Some(Asked::Addresses(_)), _) => return Output::Timeout(None, "addresses"),
            (Some(Asked::Keys { .. }), _) => return Output::Timeout(None, "key exchange"),
            (None, Some(at)) => return Output::Timeout(Some(at), self.trouble),
            (None, None) => {}
        }
        match candidate {
            Some((at, rekeys)) if !self.due || !self.short() => self.ask_keys(at, rekeys),
            Some(_) | None if self.due => self.ask_addresses(),
            // All addresses are used up, and `plan` has set no time since: the target was raised.
            Some(_) | None => Output::Timeout(None, "next look for members"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::Trust, pool::Failure};

    const START: Monotonic = Monotonic::from_nanos(1);

    fn pool(certificate: Certificate) -> AddressPool {
        let mut pool = AddressPool::new(Name::parse("time.example").unwrap(), 4460, certificate, 1);
        pool.set_target(2);
        pool
    }

    fn addresses() -> Answer {
        let addresses = ["192.0.2.1:4460", "[2001:db8::1]:4460", "192.0.2.3:4460"];
        let addresses = addresses.map(|text| text.parse().unwrap()).to_vec();
        Answer::Addresses { addresses, until: START + Duration::from_secs(300) }
    }

    fn negotiated(name: &str, addresses: &[&str]) -> Answer {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Answer::KeyExchange(Negotiated { ntp_server: name.to_owned(), addresses, trust: Trust::Pki })
    }

    fn asks(pool: &mut AddressPool) -> (QuestionId, Question) {
        match pool.poll_output() {
            Output::Ask(id, question) => (id, question),
            other @ (Output::Join(_) | Output::Timeout(..)) => panic!("{other:?}"),
        }
    }

    /// Answers the next question, which must be a key exchange, and returns whom it was asked of.
    fn exchange(pool: &mut AddressPool, answer: Answer) -> KeyExchange {
        let (id, question) = asks(pool);
        pool.handle_answer(START, id, answer);
        let Question::KeyExchange(exchange) = question else { panic!("{question:?}") };
        exchange
    }

    fn joined(pool: &mut AddressPool) -> Member {
        match pool.poll_output() {
            Output::Join(member) => member,
            other @ (Output::Ask(..) | Output::Timeout(..)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_address_is_asked_under_the_name_or_under_itself() {
        for (certificate, names) in
            [(Certificate::OfName, ["time.example"; 2]), (Certificate::OfAddress, ["192.0.2.1", "2001:db8::1"])]
        {
            let mut pool = pool(certificate);
            let (id, question) = asks(&mut pool);
            assert_eq!(question, Question::Addresses { name: Name::parse("time.example").unwrap(), port: 4460 });
            pool.handle_answer(START, id, addresses());
            for (name, at) in names.iter().zip(["192.0.2.1:4460", "[2001:db8::1]:4460"]) {
                let ntp = at.replace("4460", "123");
                let exchange = exchange(&mut pool, negotiated(name, &[&ntp]));
                assert_eq!(exchange.server.as_str(), *name);
                assert_eq!(exchange.addresses, Some(vec![at.parse().unwrap()]));
                let member = joined(&mut pool);
                assert_eq!(member.label, member.addresses[0].ip().to_string());
                assert_eq!(member.addresses, [ntp.parse().unwrap()]);
            }
            assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));
            assert_eq!(pool.members(), 2);
        }
    }

    #[test]
    fn servers_that_name_the_pool_are_those_that_gave_the_keys() {
        let mut pool = pool(Certificate::OfName);
        let (id, _) = asks(&mut pool);
        pool.handle_answer(START, id, addresses());
        let all = ["192.0.2.1:123", "[2001:db8::1]:123", "192.0.2.3:123"];
        exchange(&mut pool, negotiated("Time.Example.", &all));
        assert_eq!(joined(&mut pool).addresses, ["192.0.2.1:123".parse().unwrap()]);
        // Another NTP server for both of the others: one member.
        exchange(&mut pool, negotiated("ntp.example", &["198.51.100.1:123"]));
        assert_eq!(joined(&mut pool).label, "ntp.example");
        pool.set_target(3);
        exchange(&mut pool, negotiated("NTP.example", &["198.51.100.2:123"]));
        let Output::Timeout(Some(_), why) = pool.poll_output() else { panic!("it counts twice") };
        assert_eq!(why, "next look for members");
    }

    #[test]
    fn an_address_that_gives_no_keys_is_left_alone() {
        let mut pool = pool(Certificate::OfName);
        let (id, _) = asks(&mut pool);
        pool.handle_answer(START, id, addresses());
        let first = exchange(&mut pool, Answer::Failed(Failure::Connect));
        let second = exchange(&mut pool, negotiated("time.example", &["[2001:db8::1]:123"]));
        assert_ne!(first.addresses, second.addresses);
        joined(&mut pool);
        exchange(&mut pool, negotiated("time.example", &["192.0.2.3:123"]));
        joined(&mut pool);
        assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));
    }
}
