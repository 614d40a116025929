//! Pools by DNS SRV records.
//!
//! [`SrvPool`] asks for the service records of a name, which DNSSEC must vouch for, and exchanges keys with each target
//! under the target's own name. Records that are unsigned or forged never choose a name: only the records of the last
//! good answer are used.
#![forbid(unsafe_code)]

use core::time::Duration;
use std::{collections::VecDeque, net::SocketAddr};

use ntp_proto::{
    ids::Trust,
    pool::{
        Answer, Backoff, InvalidName, KeyExchange, Leave, MAX_MEMBERS, Member, MemberId, Name, Negotiated, Output,
        PoolMode, Question, QuestionId, Service, Shunned,
    },
    time::Monotonic,
};

#[cfg(feature = "operator")]
pub mod directory;
#[cfg(feature = "operator")]
pub mod publish;

pub use ntp_proto::pool::order::{MAX_TARGETS, order};

/// The service that is asked for, in front of the name (RFC 8915 section 7.2 registers `ntske`).
const SERVICE: &str = "_ntske._tcp";

/// Answers are used for this long at least and at most, whatever they say themselves.
const LIFETIMES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(86_400));

/// How long a target is left alone that was no good.
const SHUN: Duration = Duration::from_secs(3600);

/// How long a target is left alone that told us to go away.
const SHUN_DENIED: Duration = Duration::from_secs(86_400);

/// The owner of a pool's service records.
///
/// # Errors
///
/// [`InvalidName`] if the name is too long to have any.
pub fn service_owner(name: &Name) -> Result<Name, InvalidName> {
    Name::parse(&format!("{SERVICE}.{name}"))
}

/// Members from the targets of service records.
#[derive(Clone, Debug)]
pub struct SrvPool {
    owner: Name,
    target: usize,
    /// In the order to be tried.
    records: Vec<Service>,
    /// When `records` should be asked for again; `None` before the first good answer.
    until: Option<Monotonic>,
    /// Whether `records` are to be asked for before the next exchange.
    due: bool,
    held: Vec<Held>,
    /// No good; and those that sent us away.
    shunned: Shunned<Name>,
    denied: Shunned<Name>,
    asked: Option<Asked>,
    joins: VecDeque<Member>,
    retry_at: Option<Monotonic>,
    /// What `retry_at` waits for.
    trouble: &'static str,
    failures: Backoff,
    losses: Backoff,
    random: u64,
    next_question: u32,
    next_member: u32,
}

#[derive(Clone, Debug)]
struct Held {
    id: MemberId,
    service: Service,
    ntp_server: String,
    addresses: Vec<SocketAddr>,
    keys_lost: bool,
}

#[derive(Clone, Debug)]
enum Asked {
    Services(QuestionId),
    Keys { id: QuestionId, service: Service, rekeys: Option<MemberId> },
}

impl SrvPool {
    /// Starts with no members. `seed` decides the order among records of one priority, and the jitter of waits.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] if the name is too long to have service records.
    pub fn new(name: &Name, seed: u64) -> Result<Self, InvalidName> {
        Ok(Self {
            owner: service_owner(name)?,
            target: 0,
            records: Vec::new(),
            until: None,
            due: true,
            held: Vec::new(),
            shunned: Shunned::default(),
            denied: Shunned::default(),
            asked: None,
            joins: VecDeque::new(),
            retry_at: None,
            trouble: "service records",
            failures: Backoff::new(seed),
            losses: Backoff::new(!seed),
            random: seed | 1,
            next_question: 0,
            next_member: 0,
        })
    }

    /// How many members it has.
    #[must_use]
    pub fn members(&self) -> usize {
        self.held.len()
    }

    fn short(&self) -> bool {
        self.held.len() < self.target
    }

    /// The next record to exchange keys with, and the member that needs them if it has one.
    fn candidate(&self) -> Option<(Service, Option<MemberId>)> {
        let free = |record: &&Service| {
            !self.shunned.contains(&record.target)
                && !self.denied.contains(&record.target)
                && !self.held.iter().any(|held| held.service.target == record.target)
        };
        if let Some(record) = self.records.iter().find(free).filter(|_| self.short()) {
            return Some((record.clone(), None));
        }
        self.held.iter().find(|held| held.keys_lost).map(|held| (held.service.clone(), Some(held.id)))
    }

    fn ask_services(&mut self) -> Output {
        let id = self.question();
        self.asked = Some(Asked::Services(id));
        Output::Ask(id, Question::Services { owner: self.owner.clone(), validated: true })
    }

    fn ask_keys(&mut self, service: Service, rekeys: Option<MemberId>) -> Output {
        let id = self.question();
        let (server, port) = (service.target.clone(), service.port);
        self.asked = Some(Asked::Keys { id, service, rekeys });
        let exchange = KeyExchange { server, port, addresses: None, validated: true, denied: Vec::new() };
        Output::Ask(id, Question::KeyExchange(exchange))
    }

    fn question(&mut self) -> QuestionId {
        let id = QuestionId(self.next_question);
        self.next_question = self.next_question.wrapping_add(1);
        id
    }

    fn handle_services(&mut self, now: Monotonic, answer: Answer) {
        self.trouble = match answer {
            Answer::Services { records, until } => {
                let random = &mut self.random;
                self.records = order(records, |below| {
                    // The high bits of a linear congruence are good enough to share load.
                    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (*random >> 33) % below
                });
                self.until = Some(until.max(now + LIFETIMES.0).min(now + LIFETIMES.1));
                self.due = false;
                "next key exchange"
            }
            Answer::NoRecord => "service records: there are none",
            Answer::Insecure => "service records: they are not signed",
            Answer::Bogus => "service records: they are forged or broken",
            Answer::Failed(_) | Answer::Addresses { .. } | Answer::KeyExchange(_) => "service records: no answer",
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
        service: Service,
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
                self.shunned.insert(service.target, now + SHUN);
                self.plan(now);
            }
            return;
        };
        // Two targets may be one server: it counts once.
        let known = self.held.iter().any(|held| Some(held.id) != rekeys && is_same(held, &server));
        if known && rekeys.is_none() {
            self.shunned.insert(service.target, now + SHUN);
        } else if rekeys.is_some() || self.short() {
            self.join(id, service, server, rekeys);
        }
        self.plan(now);
    }

    fn join(&mut self, keys: QuestionId, service: Service, server: Negotiated, replaces: Option<MemberId>) {
        let id = MemberId(self.next_member);
        self.next_member = self.next_member.wrapping_add(1);
        let Negotiated { ntp_server, addresses, trust } = server;
        // The record that named the target was validated.
        let trust = if trust == Trust::Pki { Trust::Dnssec } else { trust };
        let held = Held { id, service, ntp_server: ntp_server.clone(), addresses: addresses.clone(), keys_lost: false };
        match self.held.iter_mut().find(|held| Some(held.id) == replaces) {
            Some(old) => *old = held,
            None => self.held.push(held),
        }
        self.joins.push_back(Member { id, label: ntp_server, addresses, keys: Some(keys), trust, replaces });
    }

    /// Sets the time for another look if all records are used up and there are still too few members.
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

    /// Marks the records if they are out of date.
    fn renew(&mut self, now: Monotonic) {
        if self.short() && self.until.is_none_or(|until| until <= now) {
            self.due = true;
        }
    }
}

fn is_same(held: &Held, server: &Negotiated) -> bool {
    held.ntp_server.eq_ignore_ascii_case(&server.ntp_server)
        || held.addresses.iter().any(|address| server.addresses.contains(address))
}

impl PoolMode for SrvPool {
    fn set_target(&mut self, members: usize) {
        self.target = members.min(MAX_MEMBERS);
        if self.short() && self.candidate().is_none() {
            self.due = true;
        }
    }

    fn handle_answer(&mut self, now: Monotonic, id: QuestionId, answer: Answer) {
        let ours = |asked: &mut Asked| match asked {
            Asked::Services(asked) | Asked::Keys { id: asked, .. } => *asked == id,
        };
        match self.asked.take_if(ours) {
            None => {}
            Some(Asked::Services(_)) => {
                self.shunned.expire(now);
                self.handle_services(now, answer);
            }
            Some(Asked::Keys { id, service, rekeys }) => self.handle_keys(now, id, service, rekeys, answer),
        }
    }

    fn handle_leave(&mut self, now: Monotonic, member: MemberId, reason: Leave) {
        let Some(place) = self.held.iter().position(|held| held.id == member) else { return };
        if reason == Leave::KeysLost {
            let Some(held) = self.held.get_mut(place).filter(|held| !held.keys_lost) else { return };
            held.keys_lost = true;
        } else {
            let Held { service, .. } = self.held.remove(place);
            if reason == Leave::Denied {
                self.denied.insert(service.target, now + SHUN_DENIED);
            } else {
                self.shunned.insert(service.target, now + SHUN);
            }
        }
        self.trouble = "next key exchange";
        self.retry_at = self.retry_at.max(Some(self.losses.trouble(now)));
    }

    /// A target's own key exchange says where it is; records are asked for only if members are missing.
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
            (Some(Asked::Services(_)), _) => return Output::Timeout(None, "service records"),
            (Some(Asked::Keys { .. }), _) => return Output::Timeout(None, "key exchange"),
            (None, Some(at)) => return Output::Timeout(Some(at), self.trouble),
            (None, None) => {}
        }
        match candidate {
            Some((service, rekeys)) if !self.due || !self.short() => self.ask_keys(service, rekeys),
            Some(_) | None if self.due => self.ask_services(),
            // All records are used up, and `plan` has set no time since: the target was raised.
            Some(_) | None => Output::Timeout(None, "next look for members"),
        }
    }
}

#[cfg(test)]
mod tests;
