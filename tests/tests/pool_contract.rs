//! One contract for all pool modes.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use ntp_proto::pool::{
    Answer, Failure, Leave, Name,
    classic::{ClassicPool, Host},
};
use ntpd_tests::contract::{Action, Kind, holds, interleaved};
use pool_lb::LbPool;
use pool_srv::SrvPool;
use proptest::{prelude::*, sample::select};

fn name() -> Name {
    Name::parse("time.example").unwrap()
}

fn classic(seed: u64) -> ClassicPool {
    ClassicPool::new(vec![Host::Name { name: name(), port: 123 }], seed)
}

fn lb(seed: u64) -> LbPool {
    LbPool::new(name(), 4460, seed)
}

fn srv(seed: u64) -> SrvPool {
    SrvPool::new(&name(), seed).unwrap()
}

#[test]
fn classic_holds_the_contract() {
    holds(classic);
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
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn classic_bears_any_order(seed: u64, actions in proptest::collection::vec(action(), 0..120)) {
        interleaved(classic(seed), &actions);
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
