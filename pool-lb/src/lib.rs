//! Pools by load-balanced key exchange.
//!
//! [`LbPool`] repeats the key exchange with one name until it holds as many distinct NTP servers as are wanted; each
//! time it names those it does not want (draft-ietf-ntp-nts-keyexchange-pool-01). A plain NTS server is a balancer of
//! one.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use ntp_proto::{
    pool::{
        Answer, Backoff, KeyExchange, Leave, MAX_MEMBERS, Member, MemberId, Name, Negotiated, Output, PoolMode,
        Question, QuestionId,
    },
    time::Monotonic,
};

#[cfg(feature = "acceptor")]
pub mod acceptor;
#[cfg(feature = "operator")]
pub mod balance;
mod deny;
pub mod member;

use deny::{DenyList, same_name};

/// Members from repeated key exchanges with one name.
#[derive(Clone, Debug)]
pub struct LbPool {
    name: Name,
    port: u16,
    target: usize,
    held: Vec<Held>,
    deny: DenyList,
    asked: Option<Asked>,
    joins: VecDeque<Member>,
    /// When the next exchange may be made.
    retry_at: Option<Monotonic>,
    /// Exchanges that failed or brought nothing new.
    failures: Backoff,
    /// Members that left or need keys: each costs the balancer an exchange, whoever causes it.
    losses: Backoff,
    next_question: u32,
    next_member: u32,
}

#[derive(Clone, Debug)]
struct Held {
    member: Member,
    keys_lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    id: QuestionId,
    /// The member that needs keys; `None` if another member is wanted.
    rekeys: Option<MemberId>,
}

impl LbPool {
    /// Starts with no members. `seed` decides the jitter of waits.
    #[must_use]
    pub fn new(name: Name, port: u16, seed: u64) -> Self {
        Self {
            name,
            port,
            target: 0,
            held: Vec::new(),
            deny: DenyList::default(),
            asked: None,
            joins: VecDeque::new(),
            retry_at: None,
            failures: Backoff::new(seed),
            losses: Backoff::new(!seed),
            next_question: 0,
            next_member: 0,
        }
    }

    /// How many members it has.
    #[must_use]
    pub fn members(&self) -> usize {
        self.held.len()
    }

    /// What the next exchange is for, if one is needed.
    fn need(&self) -> Option<Option<MemberId>> {
        let keys = self.held.iter().find(|held| held.keys_lost).map(|held| held.member.id);
        if keys.is_some() {
            return Some(keys);
        }
        (self.held.len() < self.target).then_some(None)
    }

    fn ask(&mut self, rekeys: Option<MemberId>) -> Output {
        let id = QuestionId(self.next_question);
        self.next_question = self.next_question.wrapping_add(1);
        self.asked = Some(Asked { id, rekeys });
        let others = self.held.iter().filter(|held| Some(held.member.id) != rekeys);
        Output::Ask(
            id,
            Question::KeyExchange(KeyExchange {
                server: self.name.clone(),
                port: self.port,
                addresses: None,
                validated: false,
                denied: self.deny.names(others.map(|held| held.member.label.as_str())),
            }),
        )
    }

    fn handle_negotiated(&mut self, now: Monotonic, asked: Asked, server: Negotiated) {
        let same = |held: &&mut Held| is_same(&held.member, &server);
        let found = self.held.iter_mut().find(same).map(|held| (held.member.id, held.keys_lost));
        match found {
            Some((id, keys_lost)) if keys_lost || asked.rekeys == Some(id) => self.join(asked.id, server, Some(id)),
            // It has no others for us now.
            Some(_) => self.wait_for_others(now),
            None if self.deny.refuses(&server.ntp_server, self.held.is_empty()) => self.wait_for_others(now),
            None => {
                let replaces = asked.rekeys.filter(|id| self.held.iter().any(|held| held.member.id == *id));
                if replaces.is_some() || self.held.len() < self.target {
                    self.join(asked.id, server, replaces);
                }
            }
        }
    }

    fn wait_for_others(&mut self, now: Monotonic) {
        self.retry_at = Some(self.failures.trouble(now));
    }

    fn join(&mut self, keys: QuestionId, server: Negotiated, replaces: Option<MemberId>) {
        self.failures.reset();
        let id = MemberId(self.next_member);
        self.next_member = self.next_member.wrapping_add(1);
        let Negotiated { ntp_server: label, addresses, trust } = server;
        let member = Member { id, label, addresses, keys: Some(keys), trust, replaces };
        self.joins.push_back(member.clone());
        let held = Held { member, keys_lost: false };
        match self.held.iter_mut().find(|held| Some(held.member.id) == replaces) {
            Some(old) => *old = held,
            None => self.held.push(held),
        }
    }
}

/// Whether a member is the server that an exchange gave: by name, or by any address of the two.
fn is_same(member: &Member, server: &Negotiated) -> bool {
    same_name(&member.label, &server.ntp_server)
        || member.addresses.iter().any(|address| server.addresses.contains(address))
}

impl PoolMode for LbPool {
    fn set_target(&mut self, members: usize) {
        self.target = members.min(MAX_MEMBERS);
    }

    fn handle_answer(&mut self, now: Monotonic, id: QuestionId, answer: Answer) {
        let Some(asked) = self.asked.filter(|asked| asked.id == id) else { return };
        self.asked = None;
        self.deny.expire(now);
        match answer {
            Answer::KeyExchange(server) => self.handle_negotiated(now, asked, server),
            Answer::NoRecord
            | Answer::Failed(_)
            | Answer::Insecure
            | Answer::Bogus
            | Answer::Addresses { .. }
            | Answer::Services { .. } => self.wait_for_others(now),
        }
    }

    fn handle_leave(&mut self, now: Monotonic, member: MemberId, reason: Leave) {
        let Some(place) = self.held.iter().position(|held| held.member.id == member) else { return };
        if reason == Leave::KeysLost {
            if let Some(held) = self.held.get_mut(place).filter(|held| !held.keys_lost) {
                held.keys_lost = true;
            } else {
                return;
            }
        } else {
            let Held { member, .. } = self.held.remove(place);
            self.deny.insert(now, member.label, reason);
        }
        self.retry_at = self.retry_at.max(Some(self.losses.trouble(now)));
    }

    /// Only the balancer knows where its servers are: it is asked for each of them again.
    fn handle_refresh(&mut self, now: Monotonic) {
        self.retry_at = None;
        self.deny.expire(now);
        self.held.iter_mut().for_each(|held| held.keys_lost = true);
    }

    fn handle_timeout(&mut self, now: Monotonic) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        self.deny.expire(now);
    }

    fn poll_output(&mut self) -> Output {
        if let Some(member) = self.joins.pop_front() {
            return Output::Join(member);
        }
        match (self.need(), self.asked, self.retry_at) {
            (None, _, _) => Output::Timeout(None, "enough members"),
            (Some(_), Some(_), _) => Output::Timeout(None, "key exchange"),
            (Some(_), None, Some(at)) => Output::Timeout(Some(at), "next key exchange"),
            (Some(rekeys), None, None) => self.ask(rekeys),
        }
    }
}

#[cfg(test)]
mod tests;
