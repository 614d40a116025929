//! Exchanges while nobody knows how late it is.

use super::*;
use crate::config;

/// 2026-11-24, before all certificates here.
const FLOOR: i64 = 1_795_478_400;
/// The life of the server's certificate here: 2030-01-01 to 2030-04-01.
const LIFE: Window = Window { not_before: 1_893_456_000, not_after: 1_901_232_000 };
/// When signatures of DNS records here begin: 2024-01-01.
const SIGNED: i64 = 1_704_067_200;

fn wrong_clocks() -> [i64; 4] {
    let day = 86_400;
    [0, LIFE.not_before - 2 * day, LIFE.not_after + 2 * day, LIFE.not_after + 3653 * day]
}

fn later(now: i64) -> Judgement {
    Judgement::Deferred { now, floor: FLOOR }
}

fn told(seconds: i64) -> Judgement {
    at(UnixTime { seconds, nanos: 0 })
}

#[test]
fn a_wrong_clock_gets_keys_where_dates_are_deferred_and_learns_of_dates_where_not() {
    block_on(async {
        let pki = Pki::new();
        let server = serve(pki.server(), "127.0.0.1:0").await;
        let question = ask("ke.test", server.port());
        let good = pki.client().exchange(&question, Require::default(), at(GOOD)).await.unwrap().chain.unwrap();
        assert_eq!((good.window, good.evidence(), good.life), (LIFE, LIFE.not_before, 90 * 86_400 + 1));
        for now in wrong_clocks() {
            let exchanged = pki.client().exchange(&question, Require::default(), later(now)).await.unwrap();
            assert_eq!(exchanged.keys.cookies.len(), CookieJar::CAPACITY);
            assert_eq!((exchanged.chain.as_ref(), exchanged.certificates), (Some(&good), Some(LIFE)));
            let refused = pki.client().exchange(&question, Require::default(), told(now)).await.unwrap_err();
            assert_eq!(refused.failure(), Failure::Tls);
            assert_eq!(refused.chain.as_deref(), Some(&good), "{refused}");
        }
    });
}

#[test]
fn certificates_that_the_administrator_named_are_told_apart() {
    block_on(async {
        let pki = Pki::new();
        let server = serve(pki.server(), "127.0.0.1:0").await;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        std::fs::write(&file, &pki.ca).unwrap();
        let settings = TrustSettings {
            certificates: config::TrustRoots::File,
            certificate_file: Some(file),
            ..TrustSettings::default()
        };
        let client = pki.client();
        let named = KeyExchanger::new(&settings, client.resolver().clone()).unwrap();
        for (client, expected) in [(client, false), (named, true)] {
            let question = ask("ke.test", server.port());
            let exchanged = client.exchange(&question, Require::default(), later(0)).await.unwrap();
            assert_eq!(exchanged.chain.unwrap().pinned, expected);
        }
    });
}

#[test]
fn nothing_but_dates_is_deferred() {
    block_on(async {
        let (pki, stranger) = (Pki::new(), Pki::new());
        let server = serve(pki.server(), "127.0.0.1:0").await;
        for now in wrong_clocks() {
            for (client, name, expected) in [
                (pki.client(), "other.test", "other.test: key exchange failed: certificate is not for other.test"),
                (stranger.client(), "ke.test", "ke.test: key exchange failed: certificate signed by an unknown issuer"),
            ] {
                let question = ask(name, server.port());
                let refused = client.exchange(&question, Require::default(), later(now)).await.unwrap_err();
                assert!(refused.to_string().starts_with(expected), "{refused}");
                assert_eq!((refused.failure(), refused.chain), (Failure::Tls, None));
            }
            let floor = LIFE.not_after + 1;
            let expired = Judgement::Deferred { now, floor };
            let question = ask("ke.test", server.port());
            let refused = pki.client().exchange(&question, Require::default(), expired).await.unwrap_err();
            assert_eq!(
                refused.to_string(),
                "ke.test: key exchange failed: certificate expired on 2030-04-01T00:00:00Z, and it is \
                 2030-04-01T00:00:01Z at least"
            );
            assert_eq!(refused.chain, None);
        }
    });
}

#[test]
fn what_one_address_showed_of_the_time_is_kept_though_the_next_fails_otherwise() {
    block_on(async {
        let (pki, stranger) = (Pki::new(), Pki::new());
        let late = serve(pki.server(), "127.0.0.1:0").await;
        let foreign = serve(stranger.server(), "127.0.0.2:0").await;
        for addresses in [[late, foreign], [foreign, late]] {
            let question = KeyExchange { addresses: Some(addresses.to_vec()), ..ask("ke.test", 1) };
            let refused = pki.client().exchange(&question, Require::default(), told(0)).await.unwrap_err();
            assert_eq!(refused.chain.unwrap().window, LIFE);
        }
    });
}

#[test]
fn records_that_vouch_for_a_certificate_bound_the_time_with_it() {
    block_on(async {
        let pki = Pki::new();
        let server = serve(pki.server(), "127.0.0.1:0").await;
        let question = KeyExchange { validated: true, ..ask("localhost", server.port()) };
        let vouched =
            KeyExchanger::with_roots(Pki::new().roots, vouching(server.port(), 3, &pki.chain[0]).await).unwrap();
        let tlsa = vouched.resolver().tlsa(&question.server, question.port, later(0)).await;
        let records = tlsa.signatures().unwrap();
        assert_eq!((records.window.not_before, &records.signed[..]), (SIGNED, &[SIGNED][..]));
        for now in wrong_clocks() {
            // Nobody signed this certificate for this name: it says nothing of the time, and its record does.
            let exchanged = vouched.exchange(&question, Require::default(), later(now)).await.unwrap();
            let chain = exchanged.chain.unwrap();
            assert_eq!((exchanged.negotiated.trust, exchanged.certificates), (Trust::Dane, None));
            assert_eq!((chain.window, &chain.records, chain.life), (records.window, &records.signed, 0));
            assert!(!chain.pinned);
        }
    });
}
