//! Keys of an earlier run, taken and left.

use super::{super::members::Configured, *};
use crate::state::{Absences, SavedSource, Sources};

/// Whom keys are had under where `[trust]` is as this text says.
fn trusted(text: &str) -> Vec<u8> {
    let config = Config::parse("test", text).unwrap();
    KeyExchanger::new(&config.trust, Resolver::new(&config.trust).unwrap()).unwrap().trusted().to_vec()
}

/// Keys that were exchanged a minute ago.
fn kept() -> SavedSource {
    SavedSource {
        trusted: trusted(""),
        client_key: vec![1; 32],
        server_key: vec![2; 32],
        exchanged_at: now::unix().seconds - 60,
        ..SavedSource::example()
    }
}

/// A client that finds these keys, and where it does.
fn restarted(text: &str, sources: Vec<SavedSource>) -> (Bench, Arc<StateDirectory>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let state = Arc::new(StateDirectory::open(directory.path()).unwrap());
    state.save(&Sources { sources }).unwrap();
    (Bench::with_state(text, Some(state.clone())), state, directory)
}

#[test]
fn what_vouched_for_keys_is_kept_with_them_but_for_tlsa_records() {
    for (saved, found) in [(Trust::Pki, Trust::Pki), (Trust::Dnssec, Trust::Dnssec), (Trust::Dane, Trust::Dnssec)] {
        let name = || "127.0.0.1".to_owned();
        let of_server =
            SavedSource { configured: name(), key_exchange: name(), key_exchange_port: 9, trust: saved, ..kept() };
        let (mut bench, state, _directory) = restarted(SERVER, vec![of_server]);
        let [(source, true)] = bench.sources()[..] else { panic!("{:?}", bench.sources()) };
        assert_eq!(trust(&mut bench, source), found);
        bench.with(Client::shut_down);
        let again = state.load::<Sources>().value.unwrap();
        assert_eq!(again.sources.iter().map(|saved| saved.trust).collect::<Vec<_>>(), [found]);
    }
}

const KEY: &str = ". 172800 IN DNSKEY 257 3 13 \
    mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==";

#[test]
fn keys_of_another_validation_are_left() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), KEY).unwrap();
    let anchor = format!("[trust]\ndnssec-anchor = \"{}\"\n", file.path().display());
    let ways = ["", "[trust]\ndnssec = \"trust-resolver\"\n", &anchor];
    for then in ways {
        for now in ways {
            let server = "127.0.0.1".to_owned();
            let saved = SavedSource {
                configured: server.clone(),
                key_exchange: server,
                key_exchange_port: 9,
                trusted: trusted(then),
                ..kept()
            };
            let (bench, _, _directory) = restarted(&format!("{now}{SERVER}"), vec![saved]);
            assert_eq!(bench.sources().len(), usize::from(then == now), "{then:?} {now:?}");
        }
    }
}

#[test]
fn service_records_of_an_earlier_run_are_those_that_keys_are_for() {
    const POOL: &str = "[[pool]]\nname = \"time.example\"\nmode = \"srv\"\n";
    type Spoil = fn(&mut SavedSource);
    let known = |pool: &str, spoil: Spoil| -> Vec<String> {
        let mut saved = kept();
        spoil(&mut saved);
        // The name itself is not asked yet: that would use the keys up.
        let (mut bench, ..) = restarted(pool.split("[[pool]]").next().unwrap(), vec![saved]);
        let configured = Configured::Pool(Config::parse("test", pool).unwrap().pools.remove(0));
        let found = bench.with(|client| client.known_services(&configured, None));
        found.iter().map(|service| format!("{}:{}", service.target, service.port)).collect()
    };
    let same: Spoil = |_| ();
    assert_eq!(known(POOL, same), ["ke.time.example:4460"]);
    assert_eq!(known(POOL, |saved| saved.key_exchange_port = 4461), ["ke.time.example:4461"]);
    assert_eq!(known(POOL, |saved| saved.exchanged_at -= 3 * 86_400 - 3600), ["ke.time.example:4460"]);
    let spoilt: [(&str, Spoil); 7] = [
        ("of another name", |saved| saved.configured = "other.example".to_owned()),
        ("the name itself", |saved| saved.key_exchange = "time.example".to_owned()),
        ("an address", |saved| saved.key_exchange = "192.0.2.1".to_owned()),
        ("no name", |saved| saved.key_exchange = "a b".to_owned()),
        ("too old", |saved| saved.exchanged_at -= 3 * 86_400),
        ("other certificates", |saved| saved.trusted[0] ^= 1),
        ("an algorithm that nobody knows", |saved| saved.algorithm = 999),
    ];
    for (what, spoil) in spoilt {
        assert_eq!(known(POOL, spoil), [""; 0], "{what}");
    }
    assert_eq!(known(&format!("{POOL}require = [\"dnssec\"]\n"), same), [""; 0]);
    assert_eq!(known(&format!("{POOL}require = [\"dane\"]\n"), same), [""; 0]);
    // An algorithm that is known, and not offered any more.
    let other = format!("[trust]\naeads = [30]\n{POOL}");
    assert_eq!(known(&other, same), [""; 0]);
    assert_eq!(known(&other, |saved| saved.algorithm = 30), ["ke.time.example:4460"]);
}

#[test]
fn where_servers_were_is_kept_and_comes_with_the_hints_of_the_configuration() {
    let text =
        "[[server]]\naddress = \"ke.one.test\"\nnts = \"require\"\naddress-hints = [\"192.0.2.9\", \"2001:db8::9\"]\n";
    let (mut bench, state, _directory) = restarted(text, Vec::new());
    let hints = |bench: &Bench, name: &str, port| {
        let hints = bench.client.hints(0, &Name::parse(name).unwrap(), port);
        let words = |places: Vec<SocketAddr>| places.iter().map(ToString::to_string).collect::<Vec<_>>();
        (words(hints.saved), words(hints.configured))
    };
    let configured = |port: u16| vec![format!("192.0.2.9:{port}"), format!("[2001:db8::9]:{port}")];
    assert_eq!(hints(&bench, "ke.one.test", 4460), (vec![], configured(4460)));
    assert_eq!(hints(&bench, "ntp.one.test", 123), (vec![], vec![]), "that is another name");
    let place = "192.0.2.7:4460";
    let mut fresh = keys();
    (fresh.origin.server, fresh.place) = (Name::parse("ke.one.test").unwrap(), Some(place.parse().unwrap()));
    let answered = Answered::for_test(QuestionId(0), Answer::NoRecord, Some(fresh));
    bench.with(|client| client.handle_answered(0, answered));
    let both = (vec![place.to_owned()], configured(4460));
    assert_eq!(hints(&bench, "ke.one.test", 4460), both);
    assert_eq!(hints(&bench, "ke.one.test", 123), (vec![], configured(123)), "where keys were exchanged");
    // As long as the time is not verified nothing of it is kept.
    bench.with(Client::shut_down);
    assert_eq!(hints(&Bench::with_state(text, Some(state.clone())), "ke.one.test", 4460), (vec![], configured(4460)));
    bench.client.store.save_places();
    assert_eq!(hints(&Bench::with_state(text, Some(state)), "ke.one.test", 4460), both);
}

#[test]
fn a_restart_with_a_good_clock_waits_for_nobody_who_was_absent() {
    let server = |name: &str| format!("[[server]]\naddress = \"{name}\"\nnts = \"require\"\n");
    let text = [server("a.one.test"), server("a.two.test")].concat();
    let (mut bench, state, _directory) = restarted(&text, Vec::new());
    let missing = |bench: &Bench| bench.client.bootstrap_report().unwrap().missing.to_string();
    assert_eq!(missing(&bench), "servers whose certificates are valid by this clock: 0 of 2 needed");
    state.save(&Absences([("a.two.test".to_owned(), 86_400)].into())).unwrap();
    bench = Bench::with_state(&text, Some(state));
    assert_eq!(missing(&bench), "servers whose certificates are valid by this clock: 0 of 1 needed");
    // A clock that is no good needs everybody.
    bench.client.boot.known.clock.set_by = SetBy::Nothing;
    bench.client.boot.bootstrap = None;
    bench.with(|_| {});
    assert_eq!(missing(&bench), "operators that agree on the time: 0 of 2 needed, 2 are configured");
}
