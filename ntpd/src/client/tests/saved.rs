//! Keys of an earlier run, taken and left.

use super::*;
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
