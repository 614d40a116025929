//! One contract for all pool modes.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use ntp_proto::{
    pool::{
        Answer, Failure, Leave, MemberId, Name, Output, PoolMode, Question, QuestionId,
        addresses::{AddressPool, Addresses, Certificate},
        auto::NtsPolicy,
        classic::{ClassicPool, Host},
        plain::PlainPool,
    },
    time::Monotonic,
};
use ntpd::pool::{AutoPool, Target};
use ntpd_tests::contract::{Action, Kind, START, counts_hosts_once, holds, interleaved};
use pool_lb::LbPool;
use pool_srv::{SrvPool, srv_pool};
use proptest::{prelude::*, sample::select};

fn name() -> Name {
    Name::parse("time.example").unwrap()
}

fn classic(seed: u64) -> ClassicPool {
    ClassicPool::new(vec![Host::Name { name: name(), port: 123 }], seed)
}

fn plain(seed: u64) -> PlainPool {
    PlainPool::new(&name(), 123, seed)
}

fn shared_cert(seed: u64) -> AddressPool {
    AddressPool::new(Addresses::new(name(), 123, Certificate::OfName), seed)
}

fn ip_cert(seed: u64) -> AddressPool {
    AddressPool::new(Addresses::new(name(), 123, Certificate::OfAddress), seed)
}

fn lb(seed: u64) -> LbPool {
    LbPool::new(name(), 4460, seed)
}

fn srv(seed: u64) -> SrvPool {
    srv_pool(&name(), seed).unwrap()
}

fn auto(seed: u64) -> AutoPool {
    AutoPool::new(&Target { name: name(), port: 123, ke_port: 4460 }, NtsPolicy::Auto, None, seed)
}

/// A mode in a world where some questions have one answer only.
#[derive(Debug)]
struct Lacking<M> {
    mode: M,
    now: Monotonic,
    answer: fn(&Question) -> Option<Answer>,
}

impl<M: PoolMode> PoolMode for Lacking<M> {
    fn set_target(&mut self, members: usize) {
        self.mode.set_target(members);
    }

    fn handle_answer(&mut self, now: Monotonic, id: QuestionId, answer: Answer) {
        self.now = now;
        self.mode.handle_answer(now, id, answer);
    }

    fn handle_leave(&mut self, now: Monotonic, member: MemberId, reason: Leave) {
        self.now = now;
        self.mode.handle_leave(now, member, reason);
    }

    fn handle_refresh(&mut self, now: Monotonic) {
        self.now = now;
        self.mode.handle_refresh(now);
    }

    fn handle_timeout(&mut self, now: Monotonic) {
        self.now = now;
        self.mode.handle_timeout(now);
    }

    fn poll_output(&mut self) -> Output {
        loop {
            match self.mode.poll_output() {
                Output::Ask(id, question) => match (self.answer)(&question) {
                    Some(answer) => self.mode.handle_answer(self.now, id, answer),
                    None => return Output::Ask(id, question),
                },
                output @ (Output::Join(_) | Output::Timeout(..)) => return output,
            }
        }
    }
}

/// Without service records.
fn auto_lb(seed: u64) -> Lacking<AutoPool> {
    let answer = |question: &Question| matches!(question, Question::Services { .. }).then_some(Answer::NoRecord);
    Lacking { mode: auto(seed), now: START, answer }
}

/// Without NTS.
fn auto_classic(seed: u64) -> Lacking<AutoPool> {
    let answer = |question: &Question| match question {
        Question::Services { .. } => Some(Answer::NoRecord),
        Question::KeyExchange(_) => Some(Answer::Failed(Failure::Connect)),
        Question::Addresses { .. } => None,
    };
    Lacking { mode: auto(seed), now: START, answer }
}

#[test]
fn auto_holds_the_contract_on_every_route() {
    holds(auto);
    holds(auto_lb);
    holds(auto_classic);
}

#[test]
fn classic_holds_the_contract() {
    holds(classic);
    holds(plain);
}

#[test]
fn shared_cert_and_ip_cert_hold_the_contract() {
    holds(shared_cert);
    holds(ip_cert);
}

#[test]
fn a_host_with_two_families_counts_once() {
    counts_hosts_once(classic);
    counts_hosts_once(plain);
    counts_hosts_once(shared_cert);
    counts_hosts_once(ip_cert);
}

#[test]
fn lb_holds_the_contract() {
    holds(lb);
}

#[test]
fn srv_holds_the_contract() {
    holds(srv);
}

fn kind() -> impl Strategy<Value = Kind> {
    let failures = [Failure::Resolver, Failure::Connect, Failure::Tls, Failure::Protocol, Failure::Unsupported];
    let no = [Answer::NoRecord, Answer::Insecure, Answer::Bogus].into_iter().chain(failures.map(Answer::Failed));
    prop_oneof![
        4 => Just(Kind::Good),
        2 => (0_u8..20).prop_map(Kind::Server),
        1 => (1_u8..=255).prop_map(Kind::Addresses),
        1 => (1_u8..=255).prop_map(Kind::Services),
        2 => select(no.collect::<Vec<_>>()).prop_map(Kind::No),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let leave = || select(vec![Leave::Denied, Leave::Unreachable, Leave::Unusable, Leave::KeysLost]);
    prop_oneof![
        6 => (any::<usize>(), kind()).prop_map(|(place, kind)| Action::Answer(place, kind)),
        1 => any::<u32>().prop_map(Action::Stray),
        3 => (any::<usize>(), leave()).prop_map(|(place, reason)| Action::Leave(place, reason)),
        1 => (any::<u32>(), leave()).prop_map(|(id, reason)| Action::StrayLeave(id, reason)),
        4 => (0_u32..100_000, any::<bool>()).prop_map(|(seconds, told)| Action::Pass(seconds, told)),
        1 => (0_usize..40).prop_map(Action::Target),
        1 => Just(Action::Refresh),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn auto_bears_any_order(seed: u64, actions in proptest::collection::vec(action(), 0..120)) {
        interleaved(auto(seed), &actions);
        interleaved(auto_lb(seed), &actions);
        interleaved(auto_classic(seed), &actions);
    }

    #[test]
    fn classic_bears_any_order(seed: u64, actions in proptest::collection::vec(action(), 0..120)) {
        interleaved(classic(seed), &actions);
        interleaved(plain(seed), &actions);
    }

    #[test]
    fn shared_cert_and_ip_cert_bear_any_order(seed: u64, actions in proptest::collection::vec(action(), 0..120)) {
        interleaved(shared_cert(seed), &actions);
        interleaved(ip_cert(seed), &actions);
    }

    #[test]
    fn lb_bears_any_order(seed: u64, actions in proptest::collection::vec(action(), 0..120)) {
        interleaved(lb(seed), &actions);
    }

    #[test]
    fn srv_bears_any_order(seed: u64, actions in proptest::collection::vec(action(), 0..120)) {
        interleaved(srv(seed), &actions);
    }
}
