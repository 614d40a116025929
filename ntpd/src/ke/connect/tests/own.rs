//! Servers that are judged by roots of their own, or found by addresses of one family.

use super::*;
use crate::config;

fn own(pki: &Pki) -> (tempfile::TempDir, SourceRoots) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("own.pem");
    std::fs::write(&file, &pki.ca).unwrap();
    (directory, SourceRoots { which: config::TrustRoots::File, file: Some(file) })
}

#[test]
fn a_source_is_judged_by_its_own_roots_and_others_are_not() {
    block_on(async {
        let (usual, site) = (Pki::new(), Pki::new());
        let (_directory, roots) = own(&site);
        let common = usual.client();
        let judged = common.judging_by(&roots);
        for (server, by_common, by_own) in [(&usual, true, false), (&site, false, true)] {
            let port = serve(server.server(), "127.0.0.1:0").await.port();
            let question = ask("ke.test", port);
            for (client, accepted) in [(&common, by_common), (&judged, by_own)] {
                let outcome = client.exchange(&question, Require::default(), at(GOOD)).await;
                assert_eq!(outcome.is_ok(), accepted, "{:?}", outcome.err().map(|problem| problem.to_string()));
            }
        }
        assert_ne!(common.trusted(), judged.trusted(), "keys had under one are not those of the other");
        assert_eq!(judged.trusted(), common.judging_by(&roots).trusted());
    });
}

#[test]
fn roots_that_cannot_be_used_let_nobody_in() {
    block_on(async {
        let usual = Pki::new();
        let (directory, roots) = own(&usual);
        drop(directory);
        let port = serve(usual.server(), "127.0.0.1:0").await.port();
        let judged = usual.client().judging_by(&roots);
        let (failure, text) = problem(&judged, &ask("ke.test", port), GOOD).await;
        assert!(text.contains("own.pem: cannot read this file"), "{failure:?} {text}");
    });
}

#[test]
fn no_address_of_the_other_family_is_used() {
    block_on(async {
        let pki = Pki::new();
        let elsewhere = pki.server().with_ntp_server(Some("2001:db8::7".into()), None).unwrap();
        let (server, redirecting) = (serve(pki.server(), "127.0.0.1:0").await, serve(elsewhere, "127.0.0.1:0").await);
        let within = |family| pki.client().within(Some(family));
        let question = ask("ke.test", server.port());
        assert!(within(Family::Ipv4).exchange(&question, Require::default(), at(GOOD)).await.is_ok());
        let (_, text) = problem(&within(Family::Ipv6), &question, GOOD).await;
        assert_eq!(text, "ke.test: it has no address of the family that is used");
        let (_, text) = problem(&within(Family::Ipv4), &ask("ke.test", redirecting.port()), GOOD).await;
        assert!(text.contains("2001:db8::7, of a family of addresses that is not used"), "{text}");
    });
}
