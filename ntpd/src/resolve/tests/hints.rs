//! Addresses that are known without DNS.

use super::*;

fn place(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn hints() -> Hints {
    Hints { saved: vec![place("192.0.2.7:4460")], configured: vec![place("192.0.2.8:4460")], in_vain: false }
}

fn unknown_time() -> Judgement {
    Judgement::Deferred { now: now::unix().seconds, floor: 1_704_067_200 }
}

async fn found(resolver: &Resolver, host: &str, judgement: Judgement) -> Vec<String> {
    let (answer, text) = resolver.addresses(&name(host), 4460, judgement).await;
    let Answer::Addresses { addresses, .. } = answer else { panic!("{host}: {answer:?} {text:?}") };
    addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn what_the_configuration_says_is_beside_dns_and_where_a_server_was_in_its_place() {
    block_on(async {
        let (resolver, task) = world().await;
        let resolver = resolver.without_system();
        let both = &["192.0.2.7:4460", "192.0.2.8:4460"][..];
        for (judgement, taken_out) in [(today(), &both[1..]), (unknown_time(), both)] {
            for (host, expected) in [
                ("forged.test", &["192.0.2.1:4460", "192.0.2.8:4460"][..]),
                // Not validated, no answer, no such name.
                ("good.test", both),
                ("_ntske._tcp.fail.test", both),
                ("localhost", taken_out),
            ] {
                let hinted = resolver.clone().with_hints(name(host), hints());
                assert_eq!(found(&hinted, host, judgement).await, expected, "{host}");
                // They are for no other name, as that of the NTP server which a key exchange names.
                let other = resolver.clone().with_hints(name("other.test"), hints());
                let (answer, _) = other.addresses(&name(host), 4460, judgement).await;
                assert_eq!(matches!(answer, Answer::Addresses { .. }), host == "forged.test", "{host}");
            }
        }
        task.abort();
    });
}

#[test]
fn without_hints_nothing_is_made_up() {
    block_on(async {
        let (resolver, task) = world().await;
        let resolver = resolver.without_system().with_hints(name("good.test"), Hints::default());
        let (answer, _) = resolver.addresses(&name("good.test"), 4460, today()).await;
        assert_eq!(answer, Answer::Failed(Failure::Resolver));
        task.abort();
    });
}

/// Name servers that never answer, and an unknown time.
#[test]
fn silent_name_servers_do_not_keep_known_addresses_back() {
    block_on(async {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = silent.local_addr().unwrap();
        let resolver = Resolver::system().with_name_servers(vec![server], TrustAnchors::empty()).without_system();
        let resolver = resolver.with_hints(name("ke.test"), hints());
        assert_eq!(found(&resolver, "ke.test", unknown_time()).await, ["192.0.2.7:4460", "192.0.2.8:4460"]);
    });
}

/// Name servers that answer late, an unknown time, and a server that has moved.
#[test]
fn dns_is_waited_for_if_known_addresses_were_asked_in_vain() {
    block_on(async {
        let (world, anchors) = World::new();
        let world = Arc::new(world);
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let server = socket.local_addr().unwrap();
        // Nobody waits but the resolver.
        tokio::time::pause();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
                let (world, socket, query) = (Arc::clone(&world), Arc::clone(&socket), buffer[..length].to_vec());
                tokio::spawn(async move {
                    tokio::time::sleep(HEAD_START + Duration::from_millis(200)).await;
                    if let Some(reply) = world.reply(&query) {
                        socket.send_to(&reply, peer).await.unwrap();
                    }
                });
            }
        });
        let resolver = Resolver::system().with_name_servers(vec![server], anchors).without_system();
        for (in_vain, expected) in [(false, "192.0.2.7:4460"), (true, "192.0.2.1:4460")] {
            let hinted = resolver.clone().with_hints(name("forged.test"), Hints { in_vain, ..hints() });
            assert_eq!(found(&hinted, "forged.test", unknown_time()).await, [expected, "192.0.2.8:4460"]);
        }
        task.abort();
    });
}
