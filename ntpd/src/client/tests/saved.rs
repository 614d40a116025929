//! Keys of an earlier run, taken and left.

use super::{super::members::Configured, *};
use crate::state::{SavedSource, Sources};

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
        let found = bench.with(|client| client.known_services(&configured));
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
