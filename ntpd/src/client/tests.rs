//! The loop without a network: what pools and the engine say is put into its hands. No task it starts ever runs.

use std::{net::SocketAddr, time::Duration};

use clock_control::SoftClock;
use ntp_proto::{
    bootstrap::{ClockFacts, SetBy},
    ids::Trust,
    nts::{AeadAlgorithm, AeadKey, CookieJar, SessionKeys},
    pool::{Answer, Failure, KeyExchange, Name, Negotiated, PoolMode as _, QuestionId, Service},
    source::{KeysReason, Loss, NtsKeys},
};
use tokio::runtime::{Builder, Runtime};

use super::{
    members::without_keys,
    saved::{Fresh, Origin},
    *,
};
use crate::{
    ke::connect::{Cause, KeProblem},
    observe::{control::Change, report::SourceRow},
};

mod awaited;
mod boot;
mod chains;
mod local;
mod offline;
mod saved;

/// A hardware clock has set the time.
const KNOWN: Known = Known {
    clock: ClockFacts {
        set_by: SetBy::HardwareClock { voltage_low: false },
        synchronized: false,
        verified: false,
        restored: false,
    },
    distribution: None,
    verified: None,
    kept: None,
};

struct Bench {
    client: Client,
    // The client's sockets and tasks need it.
    _runtime: Runtime,
}

impl Bench {
    fn new(text: &str) -> Self {
        Self::with_state(text, None)
    }

    fn with_state(text: &str, state: Option<Arc<StateDirectory>>) -> Self {
        Self::of(text, state, KNOWN)
    }

    fn of(text: &str, state: Option<Arc<StateDirectory>>, known: Known) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let guard = runtime.enter();
        let config = Config::parse("test", text).unwrap();
        let resolver = Resolver::new(&config.trust).unwrap();
        let parts = Parts {
            clock: LocalClock::Soft(SoftClock::new()),
            exchanger: KeyExchanger::new(&config.trust, resolver.clone()).unwrap(),
            resolver,
            status: Arc::new(StatusCell::default()),
            state,
            known,
            precision: -20,
            refclocks: Opened::default(),
            hardware: Hardware::default(),
            seed: [1; 32],
        };
        let client = Client::new(&config, &[], parts);
        drop(guard);
        Self { client, _runtime: runtime }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Client) -> T) -> T {
        let _guard = self._runtime.enter();
        let result = act(&mut self.client);
        self.client.drain();
        result
    }

    /// Lets time pass for the pools.
    fn pools_after(&mut self, wait: Duration) {
        self.with(|client| {
            client.groups.values_mut().for_each(|group| group.mode.handle_timeout(now::monotonic() + wait));
        });
    }

    /// The sources, and whether they have NTS.
    fn sources(&self) -> Vec<(SourceId, bool)> {
        self.client.info.keys().map(|id| (*id, self.client.engine.uses_nts(*id).unwrap())).collect()
    }
}

const SERVER: &str = "[[server]]\naddress = \"127.0.0.1\"\nnts = \"require\"\nke-port = 9\n";

fn address() -> SocketAddr {
    "127.0.0.1:9".parse().unwrap()
}

fn keys() -> Fresh {
    let key = || AeadKey::new(AeadAlgorithm::AesSivCmac256, &[7; 32]).unwrap();
    let mut cookies = CookieJar::new();
    cookies.put(&[1; 100]);
    let keys = NtsKeys { keys: SessionKeys { c2s: key(), s2c: key() }, fallback: None, cookies };
    let server = Name::parse("127.0.0.1").unwrap();
    let question = KeyExchange { server, port: 9, addresses: None, validated: false, denied: Vec::new() };
    Fresh { keys, origin: Origin::now(&question, [0; 32]), chain: None, place: None }
}

fn exchanged(question: u32) -> Answered {
    let answer =
        Answer::KeyExchange(Negotiated { ntp_server: "a".into(), addresses: vec![address()], trust: Trust::Pki });
    Answered::for_test(QuestionId(question), answer, Some(keys()))
}

/// More answers than keys are kept for, then that to the open question: its keys find no room.
fn answer_without_room(client: &mut Client, question: u32) {
    for stray in 0..40 {
        client.handle_answered(0, exchanged(1_000 + stray));
    }
    client.handle_answered(0, exchanged(question));
}

#[test]
fn a_member_whose_keys_are_missing_gets_no_plain_source() {
    let mut bench = Bench::new(SERVER);
    bench.with(|client| answer_without_room(client, 0));
    assert_eq!(bench.sources(), [], "it would be asked without authentication");
    bench.pools_after(Duration::from_secs(60));
    bench.with(|client| client.handle_answered(0, exchanged(1)));
    let [(source, true)] = bench.sources()[..] else { panic!("{:?}", bench.sources()) };

    // The same with one that goes on.
    let mut question = 2;
    for round in 0..3 {
        bench.with(|client| client.handle_keys_needed(source, KeysReason::NoCookies));
        bench.pools_after(Duration::from_secs(1_000_000));
        bench.with(|client| answer_without_room(client, question));
        assert_eq!(bench.sources(), [(source, true)], "round {round}");
        bench.pools_after(Duration::from_secs(2_000_000));
        let before = bench.client.info[&source].keys_at;
        bench.with(|client| client.handle_answered(0, exchanged(question + 1)));
        assert_eq!(bench.sources(), [(source, true)], "the same source has keys again");
        assert!(bench.client.info[&source].keys_at > before);
        question += 2;
    }
}

/// What a source votes with.
fn trust(bench: &mut Bench, source: SourceId) -> Trust {
    let present = bench.client.clock.now();
    bench.client.engine.source(present, source).unwrap().source.config().trust
}

#[test]
fn a_source_that_goes_on_is_trusted_as_its_last_key_exchange_says() {
    let vouched = |question, trust| {
        let answer = Answer::KeyExchange(Negotiated { ntp_server: "a".into(), addresses: vec![address()], trust });
        Answered::for_test(QuestionId(question), answer, Some(keys()))
    };
    let mut bench = Bench::new(SERVER);
    bench.with(|client| client.handle_answered(0, vouched(0, Trust::Dane)));
    let [(source, true)] = bench.sources()[..] else { panic!("{:?}", bench.sources()) };
    assert_eq!(trust(&mut bench, source), Trust::Dane);
    // The TLSA record is withdrawn, and comes back.
    for (question, now) in [(1, Trust::Pki), (2, Trust::Dane)] {
        bench.with(|client| client.handle_keys_needed(source, KeysReason::NoCookies));
        bench.pools_after(Duration::from_secs(1_000_000) * question);
        bench.with(|client| client.handle_answered(0, vouched(question, now)));
        assert_eq!(bench.sources(), [(source, true)], "the same server: the same source");
        assert_eq!(trust(&mut bench, source), now);
    }
}

#[test]
fn servers_that_were_refused_are_told_beside_those_that_were_not() {
    let mut bench = Bench::new("[[pool]]\nname = \"pool.invalid\"\nmode = \"srv\"\ncount = 2\nrequire = [\"dane\"]\n");
    let target = |name: &str| Name::parse(name).unwrap();
    let service = |priority, name: &str| Service { priority, weight: 0, port: 9, target: target(name) };
    let records = vec![service(1, "bad.invalid"), service(2, "good.invalid")];
    let until = now::monotonic() + Duration::from_secs(3600);
    let told = |bench: &mut Bench| -> Vec<(String, String)> {
        let row = |row: SourceRow| (row.judged.source.name, row.judged.reason);
        let unresolved = |row: &SourceRow| row.judged.source.address.is_none();
        bench.with(|client| client.sources()).sources.into_iter().filter(unresolved).map(row).collect()
    };
    let answer = Answer::Services { records, until };
    bench.with(|client| client.handle_answered(0, Answered::for_test(QuestionId(0), answer.clone(), None)));
    assert_eq!(told(&mut bench), [("pool.invalid".to_owned(), "waiting for its first answer".to_owned())]);
    let missing = Cause::Missing("dane", "it has no TLSA records".to_owned());
    let refused = KeProblem { server: target("bad.invalid"), port: 9, cause: missing, chain: None };
    bench.with(|client| client.handle_answered(0, without_keys(QuestionId(1), &refused)));
    let joined = |question, server: &str, place: &str| {
        let addresses = vec![place.parse().unwrap()];
        let answer = Answer::KeyExchange(Negotiated { ntp_server: server.into(), addresses, trust: Trust::Dane });
        let mut fresh = keys();
        fresh.origin.server = target(server);
        Answered::for_test(QuestionId(question), answer, Some(fresh))
    };
    bench.with(|client| client.handle_answered(0, joined(2, "good.invalid", "127.0.0.1:9")));
    assert_eq!(bench.places(), ["127.0.0.1:9"]);
    let why = "refused: `require` asks for \"dane\", and it has no TLSA records";
    assert_eq!(told(&mut bench), [("bad.invalid".to_owned(), why.to_owned())]);

    // It gets its record.
    bench.pools_after(Duration::from_secs(1_000_000));
    bench.with(|client| client.handle_answered(0, Answered::for_test(QuestionId(3), answer, None)));
    bench.with(|client| client.handle_answered(0, joined(4, "bad.invalid", "127.0.0.2:9")));
    assert_eq!(bench.places(), ["127.0.0.1:9", "127.0.0.2:9"]);
    assert_eq!(told(&mut bench), []);
}

fn addresses(question: u32, list: &[&str]) -> Answered {
    let addresses = list.iter().map(|text| text.parse().unwrap()).collect();
    let until = now::monotonic() + Duration::from_secs(3600);
    Answered::for_test(QuestionId(question), Answer::Addresses { addresses, until }, None)
}

impl Bench {
    /// Where the sources are asked.
    fn places(&self) -> Vec<String> {
        self.client.info.values().map(SourceInfo::place).collect()
    }

    fn refresh(&mut self, source: Option<&str>) -> bool {
        self.with(|client| client.change(&Change::Refresh { source: source.map(str::to_owned) }).is_ok())
    }
}

#[test]
fn refresh_asks_for_names_without_an_answer_at_once() {
    let mut bench = Bench::new("[[server]]\naddress = \"ntp.invalid\"\nnts = \"off\"\n");
    let failed = Answered::for_test(QuestionId(0), Answer::Failed(Failure::Resolver), None);
    bench.with(|client| client.handle_answered(0, failed));
    assert!(!bench.refresh(Some("other.invalid")));
    bench.with(|client| client.handle_answered(0, addresses(1, &["127.0.0.1:9"])));
    assert_eq!(bench.places(), [""; 0], "not asked yet");
    assert!(bench.refresh(Some("NTP.invalid")));
    bench.with(|client| client.handle_answered(0, addresses(1, &["127.0.0.1:9"])));
    assert_eq!(bench.places(), ["127.0.0.1:9"]);
}

#[test]
fn refresh_moves_a_source_whose_address_is_gone_and_no_other() {
    let mut bench = Bench::new("[[pool]]\nname = \"pool.invalid\"\nmode = \"classic\"\ncount = 2\n");
    // Of service records there are none, then or later; questions about addresses have the even numbers.
    let none = |question| Answered::for_test(QuestionId(question), Answer::NoRecord, None);
    bench.with(|client| client.handle_answered(0, none(1)));
    bench.with(|client| client.handle_answered(0, addresses(0, &["127.0.0.1:9", "127.1.0.1:9"])));
    let before = bench.sources();
    assert!(bench.refresh(None));
    bench.with(|client| client.handle_answered(0, none(3)));
    bench.with(|client| client.handle_answered(0, addresses(2, &["127.2.0.1:9", "127.1.0.1:9"])));
    assert_eq!(bench.places(), ["127.1.0.1:9", "127.2.0.1:9"]);
    assert_eq!(bench.sources()[0], before[1], "it goes on");
}

#[test]
fn refresh_of_an_nts_server_keeps_its_source_until_it_has_moved() {
    let mut bench = Bench::new(SERVER);
    bench.with(|client| client.handle_answered(0, exchanged(0)));
    let before = bench.sources();
    assert!(bench.refresh(Some("a")));
    assert_eq!(bench.sources(), before);
    bench.with(|client| client.handle_answered(0, exchanged(1)));
    assert_eq!(bench.sources(), before, "the same server: the same source");
}

/// An NTS server with several addresses: its keys serve at all of them, first, later, and back again.
#[test]
fn a_server_is_asked_at_its_other_addresses_with_the_same_keys() {
    let mut bench = Bench::new("[[pool]]\nname = \"pool.invalid\"\nmode = \"lb\"\ncount = 1\nke-port = 9\n");
    let list = ["127.0.0.1:9", "127.0.0.2:9", "127.0.0.3:9"];
    let addresses = list.iter().map(|text| text.parse().unwrap()).collect();
    let answer = Answer::KeyExchange(Negotiated { ntp_server: "a".into(), addresses, trust: Trust::Pki });
    bench.with(|client| client.handle_answered(0, Answered::for_test(QuestionId(0), answer, Some(keys()))));
    let before = bench.sources();
    let [(source, true)] = before[..] else { panic!("{before:?}") };
    let lose = |bench: &mut Bench| bench.with(|client| client.handle_lost(source, Loss::Unreachable));
    let answers = |bench: &mut Bench| {
        // As `handle_heard` does when the engine has taken a reply.
        bench
            .client
            .groups
            .values_mut()
            .flat_map(|group| group.members.values_mut())
            .for_each(|active| active.moves = 0);
    };
    let keys_at = bench.client.info[&source].keys_at;
    for place in [1, 2] {
        lose(&mut bench);
        assert_eq!(bench.places(), [list[place]]);
    }
    answers(&mut bench);
    for place in [0, 1] {
        lose(&mut bench);
        assert_eq!(bench.places(), [list[place]], "after a time in which it answered, all others again");
    }
    assert_eq!((bench.sources(), bench.client.info[&source].keys_at), (before, keys_at), "no new keys were asked for");
    assert_eq!(bench.client.groups[&0].members.len(), 1);
    lose(&mut bench);
    assert_eq!(bench.client.groups[&0].members.len(), 0, "all were tried: another server is wanted");
}

/// A `[[server]]` that is dead is not given up, and not asked where it is at every turn.
#[test]
fn a_silent_server_stays_and_is_looked_up_ever_less() {
    let mut bench = Bench::new("[[server]]\naddress = \"ntp.invalid\"\nnts = \"off\"\n");
    bench.with(|client| client.handle_answered(0, addresses(0, &["127.0.0.1:9", "127.0.0.2:9"])));
    let [(source, false)] = bench.sources()[..] else { panic!("{:?}", bench.sources()) };
    let lose = |bench: &mut Bench| bench.with(|client| client.handle_lost(source, Loss::Unreachable));
    lose(&mut bench);
    assert_eq!(bench.places(), ["127.0.0.2:9"], "the next address first");
    lose(&mut bench);
    assert_eq!(bench.places(), ["127.0.0.1:9"], "and round again");
    let first = bench.client.groups[&0].not_before;
    assert!(bench.client.groups[&0].silent && first > Some(now::monotonic()));
    (0..5).for_each(|_| lose(&mut bench));
    assert_eq!(bench.places(), ["127.0.0.2:9"], "it stays where it is for a while");
    assert_eq!(bench.client.groups[&0].not_before, first);
    bench.client.groups.get_mut(&0).unwrap().not_before = None;
    lose(&mut bench);
    let wait = bench.client.groups[&0].not_before.unwrap().since(now::monotonic());
    assert!(wait > Duration::from_secs(30), "{wait:?}");
    assert_eq!(bench.sources(), [(source, false)]);

    bench.with(|client| client.handle_answered(0, addresses(1, &["127.0.0.3:9"])));
    assert_eq!(bench.places(), ["127.0.0.3:9"], "it was asked for, and has moved");
}

#[test]
fn whether_places_that_are_known_were_asked_in_vain_is_known() {
    let mut bench = Bench::new("[[server]]\naddress = \"ke.invalid\"\n");
    let (name, number) = (Name::parse("ke.invalid").unwrap(), 0);
    let in_vain = |bench: &mut Bench| bench.with(|client| client.hints(number, &name, 4460).in_vain);
    let cause = Cause::NoConnection(Duration::from_secs(8));
    let failed = KeProblem { server: name.clone(), port: 4460, cause, chain: None };
    assert!(!in_vain(&mut bench));
    bench.with(|client| client.handle_answered(number, without_keys(QuestionId(0), &failed)));
    assert!(in_vain(&mut bench));
    bench.with(|client| client.handle_answered(number, addresses(1, &["127.0.0.1:9"])));
    assert!(in_vain(&mut bench), "where it is says nothing of whether it answers there");
    bench.with(|client| client.handle_answered(number, exchanged(2)));
    assert!(!in_vain(&mut bench));
}

#[test]
fn the_time_of_building_is_that_of_the_build_and_never_before_the_source() {
    assert_eq!(built(None), RELEASED);
    assert_eq!(built(Some("0")), RELEASED);
    assert_eq!(built(Some("1900000000")), 1_900_000_000);
    for wrong in ["yesterday", "1900000000000", ""] {
        assert!(std::panic::catch_unwind(|| built(Some(wrong))).is_err(), "{wrong}");
    }
}
