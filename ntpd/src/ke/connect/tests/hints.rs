//! Servers that DNS does not lead to.

use super::*;
use crate::resolve::Hints;

#[test]
fn keys_are_exchanged_where_a_server_was_last_or_is_by_the_configuration() {
    block_on(async {
        let pki = Pki::new();
        let server = serve(pki.server(), "127.0.0.1:0").await;
        let name = || Name::parse("ke.test").unwrap();
        let mut client = pki.client();
        // Nothing is known of it.
        client.resolver = Resolver::with_hosts(BTreeMap::from([(name(), vec![])]));
        let question = ask("ke.test", server.port());
        assert!(client.exchange(&question, Require::default(), at(GOOD)).await.is_err());
        let saved = || Hints { saved: vec![server], ..Hints::default() };
        let configured = Hints { configured: vec![server], ..Hints::default() };
        // Where it was counts while nobody knows whether DNS may be believed.
        let unknown = Judgement::Deferred { now: now::unix().seconds, floor: 1_704_067_200 };
        let judgements = Judgements { certificates: at(GOOD), addresses: unknown };
        let known = client.clone().with_hints(name(), saved()).exchange(&question, Require::default(), at(GOOD)).await;
        assert!(matches!(known.unwrap_err().cause, Cause::Name(_)), "it was taken out of DNS");
        for hints in [saved(), configured] {
            let client = client.clone().with_hints(name(), hints);
            let exchanged = client.exchange(&question, Require::default(), judgements).await.unwrap();
            assert_eq!(exchanged.peer, server);
            assert_eq!(exchanged.negotiated.addresses, [SocketAddr::new(server.ip(), 123)]);
        }
        // Whoever is there has to be the one that is configured.
        let stranger = client.with_hints(Name::parse("stranger.test").unwrap(), saved());
        let refused = stranger.exchange(&ask("stranger.test", server.port()), Require::default(), judgements).await;
        assert!(matches!(refused.unwrap_err().cause, Cause::Session(KeError::Tls(_))));
    });
}
