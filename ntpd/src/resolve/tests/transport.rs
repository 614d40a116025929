//! Networks that let UDP through to name servers in part, or not at all.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

/// What becomes of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It gets through, and so does its answer.
    Open,
    /// It is dropped.
    Silent,
    /// It comes back as a query that nobody understands, since it has EDNS (RFC 6891 section 7).
    FormErr,
    /// Its EDNS is taken out, so that the answer comes without signatures.
    NoEdns,
    /// Answers of more than 512 octets are dropped.
    Short,
}

fn pass(world: &World, way: Way, query: &[u8]) -> Option<Vec<u8>> {
    let asked = Message::from_vec(query).unwrap();
    match way {
        Way::Open => world.reply(query),
        Way::Silent => None,
        Way::Short => world.reply(query).filter(|reply| reply.len() <= 512),
        Way::FormErr => {
            let mut reply = Message::response(asked.metadata.id, OpCode::Query);
            reply.metadata.response_code = ResponseCode::FormErr;
            Some(reply.to_vec().unwrap())
        }
        Way::NoEdns => {
            let whole = Message::from_vec(&world.reply(query)?).unwrap();
            let mut reply = Message::response(asked.metadata.id, OpCode::Query);
            reply.metadata = whole.metadata;
            reply.add_query(asked.queries[0].clone());
            let kept = |record: &Record| !matches!(record.record_type(), RecordType::RRSIG | RecordType::NSEC);
            reply.insert_answers(whole.answers.into_iter().filter(kept).collect());
            reply.insert_authorities(whole.authorities.into_iter().filter(kept).collect());
            Some(reply.to_vec().unwrap())
        }
    }
}

/// A resolver behind such a network.
async fn behind(udp: Way, tcp: Way) -> (Resolver, JoinHandle<()>) {
    let (world, anchors) = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let socket = UdpSocket::bind(server).await.unwrap();
    let world = Arc::new(world);
    let task = tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            tokio::select! {
                received = socket.recv_from(&mut buffer) => {
                    let (length, peer) = received.unwrap();
                    if let Some(reply) = pass(&world, udp, &buffer[..length]) {
                        socket.send_to(&reply, peer).await.unwrap();
                    }
                }
                accepted = listener.accept() => {
                    let (mut stream, _) = accepted.unwrap();
                    let world = Arc::clone(&world);
                    tokio::spawn(async move {
                        while let Ok(length) = stream.read_u16().await {
                            let mut query = vec![0; length.into()];
                            stream.read_exact(&mut query).await.unwrap();
                            if let Some(reply) = pass(&world, tcp, &query) {
                                let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
                                stream.write_all(&[&length, &reply[..]].concat()).await.unwrap();
                            }
                        }
                    });
                }
            }
        }
    });
    (Resolver::system().with_name_servers(vec![server], anchors), task)
}

#[test]
fn what_udp_does_not_bring_comes_by_tcp() {
    block_on(async {
        for udp in [Way::Silent, Way::FormErr, Way::NoEdns, Way::Short] {
            let (resolver, task) = behind(udp, Way::Open).await;
            let (good, proven) = (name("_ntske._tcp.good.test"), name("_ntske._tcp.proven.test"));
            let (plain, host) = (name("_ntp._udp.proven.test"), name("good.test"));
            let (found, absent, plain, certificate) = tokio::join!(
                services(&resolver, &good, today()),
                services(&resolver, &proven, today()),
                resolver.plain_services(&plain, today()),
                resolver.tlsa(&host, 4460, today()),
            );
            assert!(matches!(&found.0, Answer::Services { records, .. } if records.len() == 2), "{udp:?}: {found:?}");
            assert_eq!(absent, (Answer::NoRecord, None), "{udp:?}");
            assert_eq!(plain, (Answer::NoRecord, None), "{udp:?}");
            assert_eq!(certificate.records().len(), 1, "{udp:?}: {certificate:?}");
            task.abort();
        }
    });
}

/// What a network keeps back altogether is told; that there is none does not follow.
#[test]
fn what_neither_transport_brings_is_not_taken_for_absent() {
    block_on(async {
        let failed = || Answer::Failed(Failure::Resolver);
        for (udp, tcp, expected) in [
            (Way::Silent, Way::Silent, failed()),
            (Way::FormErr, Way::FormErr, failed()),
            (Way::Silent, Way::NoEdns, Answer::Bogus),
            (Way::NoEdns, Way::Silent, Answer::Bogus),
            (Way::NoEdns, Way::NoEdns, Answer::Bogus),
        ] {
            let (resolver, task) = behind(udp, tcp).await;
            let (answer, text) = services(&resolver, &name("_ntske._tcp.good.test"), today()).await;
            assert_eq!(answer, expected, "{udp:?} and {tcp:?}: {text:?}");
            assert!(text.is_some(), "{udp:?} and {tcp:?}");
            task.abort();
        }
    });
}
