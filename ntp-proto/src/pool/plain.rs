//! Plain NTP from the targets of `_ntp._udp` service records, or from the addresses of the name if it has none.
//!
//! Nobody need vouch for these records, and they vouch for nobody.

use core::time::Duration;

use super::{
    Answer, Leave, MemberId, Name, Output, PoolMode, Question, QuestionId,
    classic::{ClassicPool, Host},
    order::order,
};
use crate::time::Monotonic;

/// The service of RFC 5905 in service records (RFC 2782).
const SERVICE: &str = "_ntp._udp";

/// Answers are used for this long at least and at most, whatever they say themselves.
const LIFETIMES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(86_400));

/// How long the name does without service records before they are asked for again.
const PAUSE: Duration = Duration::from_secs(3600);

/// Questions of this mode have the numbers of this remainder, those of the mode it runs the others.
const OWN: u32 = 1;
const KINDS: u32 = 2;

/// Members with plain NTP from one name.
#[derive(Clone, Debug)]
pub struct PlainPool {
    /// `None` if the name is too long to have service records.
    owner: Option<Name>,
    itself: Host,
    inner: ClassicPool,
    target: usize,
    state: Lookup,
    /// What the inner mode waits for.
    wake: Option<Monotonic>,
    random: u64,
    next_question: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lookup {
    /// To be asked before anything else.
    First,
    /// To be asked again, while the inner mode goes on.
    Due,
    Asked {
        id: QuestionId,
        first: bool,
    },
    /// Answered; not to be asked before that time.
    Until(Monotonic),
}

impl PlainPool {
    /// Starts with no members. `seed` decides the order among records of one priority, and the jitter of waits.
    #[must_use]
    pub fn new(name: &Name, port: u16, seed: u64) -> Self {
        let itself = Host::Name { name: name.clone(), port };
        Self {
            owner: Name::parse(&format!("{SERVICE}.{name}")).ok(),
            inner: ClassicPool::new(vec![itself.clone()], seed),
            itself,
            target: 0,
            state: Lookup::First,
            wake: None,
            random: seed | 1,
            next_question: 0,
        }
    }

    /// Takes the name for one server, whatever number of addresses it has.
    #[must_use]
    pub fn with_one_server(mut self) -> Self {
        self.owner = None;
        self.inner = self.inner.with_whole_hosts();
        self
    }

    fn handle_services(&mut self, now: Monotonic, answer: Answer) {
        let mut until = now + PAUSE;
        match answer {
            Answer::Services { records, until: good } => {
                until = good.max(now + LIFETIMES.0).min(now + LIFETIMES.1);
                let random = &mut self.random;
                let records = order(records, |below| {
                    // The high bits of a linear congruence are good enough to share load.
                    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (*random >> 33) % below
                });
                let hosts = records.into_iter().map(|record| Host::Name { name: record.target, port: record.port });
                self.inner.set_hosts(hosts.collect(), true);
            }
            Answer::NoRecord => self.inner.set_hosts(vec![self.itself.clone()], false),
            // What was known before still serves.
            Answer::Addresses { .. }
            | Answer::KeyExchange(_)
            | Answer::Failed(_)
            | Answer::Insecure
            | Answer::Bogus => {}
        }
        self.state = Lookup::Until(until);
        self.inner.set_target(self.target);
    }

    /// Whether the inner mode may not begin yet.
    const fn is_first(&self) -> bool {
        self.owner.is_some() && matches!(self.state, Lookup::First | Lookup::Asked { first: true, .. })
    }

    fn renew(&mut self, now: Monotonic) {
        if self.inner.short() && matches!(self.state, Lookup::Until(until) if until <= now) {
            self.state = Lookup::Due;
        }
    }
}

impl PoolMode for PlainPool {
    fn set_target(&mut self, members: usize) {
        self.target = members;
        if !self.is_first() {
            self.inner.set_target(members);
        }
    }

    fn handle_answer(&mut self, now: Monotonic, id: QuestionId, answer: Answer) {
        if id.0 % KINDS != OWN {
            self.inner.handle_answer(now, QuestionId(id.0 / KINDS), answer);
        } else if matches!(self.state, Lookup::Asked { id: asked, .. } if asked == id) {
            self.handle_services(now, answer);
        }
    }

    fn handle_leave(&mut self, now: Monotonic, member: MemberId, reason: Leave) {
        self.inner.handle_leave(now, member, reason);
        self.renew(now);
    }

    fn handle_refresh(&mut self, now: Monotonic) {
        if self.is_first() {
            return;
        }
        if self.target > 0 && matches!(self.state, Lookup::Until(_)) {
            self.state = Lookup::Due;
        }
        self.inner.handle_refresh(now);
    }

    fn handle_timeout(&mut self, now: Monotonic) {
        self.inner.handle_timeout(now);
        if self.wake.is_some_and(|at| at <= now) {
            self.renew(now);
        }
    }

    fn poll_output(&mut self) -> Output {
        if let (Some(owner), Lookup::First | Lookup::Due, 1..) = (&self.owner, self.state, self.target) {
            let id = QuestionId(self.next_question.wrapping_mul(KINDS).wrapping_add(OWN));
            self.next_question = self.next_question.wrapping_add(1);
            self.state = Lookup::Asked { id, first: self.state == Lookup::First };
            return Output::Ask(id, Question::Services { owner: owner.clone(), validated: false });
        }
        match self.inner.poll_output() {
            Output::Ask(id, question) => Output::Ask(QuestionId(id.0.wrapping_mul(KINDS)), question),
            Output::Timeout(_, _) if self.is_first() && self.target > 0 => {
                self.wake = None;
                Output::Timeout(None, "service records")
            }
            Output::Timeout(at, why) => {
                self.wake = at;
                Output::Timeout(at, why)
            }
            output @ Output::Join(_) => output,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::pool::{Failure, Member, Service};

    const START: Monotonic = Monotonic::from_nanos(1);

    fn at(seconds: u64) -> Monotonic {
        START + Duration::from_secs(seconds)
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn pool() -> PlainPool {
        let mut pool = PlainPool::new(&name("a.example"), 123, 1);
        pool.set_target(2);
        pool
    }

    fn ask(pool: &mut PlainPool) -> (QuestionId, Question) {
        match pool.poll_output() {
            Output::Ask(id, question) => (id, question),
            other @ (Output::Join(_) | Output::Timeout(..)) => panic!("{other:?}"),
        }
    }

    fn join(pool: &mut PlainPool) -> Member {
        match pool.poll_output() {
            Output::Join(member) => member,
            other @ (Output::Ask(..) | Output::Timeout(..)) => panic!("{other:?}"),
        }
    }

    fn addresses(list: &[&str]) -> Answer {
        let addresses = list.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 123)).collect();
        Answer::Addresses { addresses, until: at(150) }
    }

    fn services(list: &[(u16, &str, u16)]) -> Answer {
        let record = |(priority, target, port): &(u16, &str, u16)| Service {
            priority: *priority,
            weight: 1,
            port: *port,
            target: name(target),
        };
        Answer::Services { records: list.iter().map(record).collect(), until: at(300) }
    }

    fn addresses_of(text: &str, port: u16) -> Question {
        Question::Addresses { name: name(text), port }
    }

    #[test]
    fn targets_are_one_server_each_in_their_order() {
        let mut pool = pool();
        let (id, question) = ask(&mut pool);
        assert_eq!(question, Question::Services { owner: name("_ntp._udp.a.example"), validated: false });
        let records = [(2, "late.example", 123), (1, "soon.example", 1123), (0, "first.example", 123)];
        pool.handle_answer(START, id, services(&records));
        let (id, question) = ask(&mut pool);
        assert_eq!(question, addresses_of("first.example", 123));
        assert!(matches!(pool.poll_output(), Output::Timeout(..)), "one at a time");
        pool.handle_answer(START, id, addresses(&["192.0.2.1", "198.51.100.1"]));
        let first = join(&mut pool);
        assert_eq!((first.label.as_str(), first.addresses.len()), ("first.example", 2));
        let (id, question) = ask(&mut pool);
        assert_eq!(question, addresses_of("soon.example", 1123));
        // Another name for the first: it counts once.
        pool.handle_answer(START, id, addresses(&["198.51.100.1"]));
        let (id, question) = ask(&mut pool);
        assert_eq!(question, addresses_of("late.example", 123));
        pool.handle_answer(START, id, addresses(&["203.0.113.9"]));
        assert_eq!(join(&mut pool).label, "late.example");
        assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));
    }

    #[test]
    fn without_service_records_the_name_itself_is_asked() {
        for answer in [Answer::NoRecord, Answer::Failed(Failure::Resolver), Answer::Bogus, Answer::Insecure] {
            let mut pool = pool();
            let (id, _) = ask(&mut pool);
            assert_eq!(pool.poll_output(), Output::Timeout(None, "service records"));
            pool.handle_answer(START, id, answer);
            let (id, question) = ask(&mut pool);
            assert_eq!(question, addresses_of("a.example", 123));
            pool.handle_answer(START, id, addresses(&["192.0.2.1", "198.51.100.1"]));
            assert_eq!([join(&mut pool).label, join(&mut pool).label], ["192.0.2.1", "198.51.100.1"]);
        }
        let mut one = PlainPool::new(&name("a.example"), 123, 1).with_one_server();
        one.set_target(1);
        assert_eq!(ask(&mut one).1, addresses_of("a.example", 123));
    }

    #[test]
    fn records_are_asked_for_again_when_they_are_old_and_members_are_missing() {
        let mut pool = pool();
        let (id, _) = ask(&mut pool);
        pool.handle_answer(START, id, services(&[(0, "one.example", 123)]));
        let (id, _) = ask(&mut pool);
        pool.handle_answer(START, id, addresses(&["192.0.2.1"]));
        let first = join(&mut pool);
        let Output::Timeout(Some(wake), _) = pool.poll_output() else { panic!("gives up") };
        pool.handle_timeout(wake.max(at(301)));
        let (id, question) = ask(&mut pool);
        assert!(matches!(question, Question::Services { .. }));
        pool.handle_answer(at(301), id, services(&[(0, "one.example", 123), (1, "two.example", 123)]));
        let (mut joined, mut asked) = (Vec::new(), Vec::new());
        loop {
            match pool.poll_output() {
                Output::Ask(id, question) => {
                    pool.handle_answer(
                        at(301),
                        id,
                        addresses(&[if asked.is_empty() { "192.0.2.1" } else { "192.0.2.9" }]),
                    );
                    asked.push(question);
                }
                Output::Join(member) => joined.push(member),
                Output::Timeout(..) => break,
            }
        }
        assert_eq!(asked, [addresses_of("one.example", 123), addresses_of("two.example", 123)]);
        assert_eq!(joined.iter().map(|member| member.label.as_str()).collect::<Vec<_>>(), ["two.example"]);
        assert!(joined.iter().all(|member| member.replaces.is_none() && member.id != first.id));
    }
}
