//! Whole key exchanges over TCP on loopback.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use chacha20::{ChaCha20Rng, rand_core::SeedableRng as _};
use ntp_proto::{ids::Trust, nts::Keyring, pool::Failure, time::UnixTime};
use nts_ke::{
    error::TlsFault,
    server::{self, ServerConfig, ServerSession},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;
use crate::{now, resolve::tests::vouching};

mod dates;
mod hints;
mod own;

/// 2030-01-07, within the life of the certificates here.
pub(crate) const GOOD: UnixTime = UnixTime { seconds: 1_894_000_000, nanos: 0 };

pub(crate) const fn at(time: UnixTime) -> Judgement {
    Judgement::At(time)
}

pub(crate) struct Pki {
    /// The certificate of the authority.
    ca: String,
    roots: TrustRoots,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut parameters = CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (parameters.not_before, parameters.not_after) = (date_time_ymd(2029, 1, 1), date_time_ymd(2040, 1, 1));
        let key = KeyPair::generate().unwrap();
        // An issuer is told from another by its name.
        parameters.distinguished_name.push(DnType::CommonName, format!("{:?}", key.public_key_raw()));
        let ca = parameters.self_signed(&key).unwrap();
        let issuer = Issuer::new(parameters, key);
        let mut parameters = CertificateParams::new(vec!["ke.test".into(), "127.0.0.1".into(), "::1".into()]).unwrap();
        (parameters.not_before, parameters.not_after) = (date_time_ymd(2030, 1, 1), date_time_ymd(2030, 4, 1));
        let key = KeyPair::generate().unwrap();
        let leaf = parameters.signed_by(&key, &issuer).unwrap();
        let roots = TrustRoots::new(vec![ca.der().clone()]).unwrap();
        Self { ca: ca.pem(), roots, chain: vec![leaf.der().clone()], key: key.serialize_der() }
    }

    pub(crate) fn server(&self) -> ServerConfig {
        let key = PrivateKeyDer::try_from(self.key.clone()).unwrap();
        ServerConfig::new(self.chain.clone(), key, Some(GOOD)).unwrap()
    }

    pub(crate) fn roots(&self) -> TrustRoots {
        self.roots.clone()
    }

    /// A client for which `ke.test` and `other.test` are 127.0.0.1.
    pub(crate) fn client(&self) -> KeyExchanger {
        let name = |text| Name::parse(text).unwrap();
        let hosts = BTreeMap::from([
            (name("ke.test"), vec![[127, 0, 0, 1].into()]),
            (name("other.test"), vec![[127, 0, 0, 1].into()]),
            (name("ntp.test"), vec![[127, 0, 0, 9].into(), [127, 0, 0, 1].into(), [224, 0, 1, 1].into()]),
            (name("nowhere.test"), vec![]),
        ]);
        let mut client = KeyExchanger::with_roots(self.roots.clone(), Resolver::with_hosts(hosts)).unwrap();
        client.deadline = Duration::from_secs(4);
        client
    }
}

fn ask(server: &str, port: u16) -> KeyExchange {
    KeyExchange { server: Name::parse(server).unwrap(), port, addresses: None, validated: false, denied: vec![] }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn listener(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Serves everybody who comes; the address to come to.
pub(crate) async fn serve(config: ServerConfig, at: &str) -> SocketAddr {
    serve_counted(config, at, Arc::default()).await
}

/// The same, and counts how many got keys.
async fn serve_counted(config: ServerConfig, at: &str, served: Arc<AtomicUsize>) -> SocketAddr {
    let (listener, address) = listener(at).await;
    let config = Arc::new(config);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(config.clone(), stream, served.clone()));
        }
    });
    address
}

async fn answer(config: Arc<ServerConfig>, mut stream: TcpStream, served: Arc<AtomicUsize>) {
    let (keyring, mut rng) = (Keyring::new(&[9; Keyring::KEY_LEN]), ChaCha20Rng::from_seed([1; 32]));
    let mut session = ServerSession::new(config, now::monotonic()).unwrap();
    let mut piece = [0; 4096];
    loop {
        match session.poll_output() {
            // The client may be gone: another of its sessions was faster.
            server::Output::Transmit(bytes) => drop(stream.write_all(&bytes).await),
            server::Output::Done(_) => {
                served.fetch_add(1, Ordering::Relaxed);
                return;
            }
            server::Output::Failed(_) => return,
            server::Output::Kept(_) => {}
            server::Output::Timeout(..) => match stream.read(&mut piece).await {
                Ok(length @ 1..) => session.handle_input(now::monotonic(), &piece[..length], &keyring, &mut rng),
                Ok(0) | Err(_) => session.handle_eof(now::monotonic()),
            },
        }
    }
}

/// Shakes hands with everybody, and never answers a request.
async fn mute(config: ServerConfig, at: &str) -> SocketAddr {
    let (listener, address) = listener(at).await;
    let config = Arc::new(config);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut session = ServerSession::new(config.clone(), now::monotonic()).unwrap();
            tokio::spawn(async move {
                let (keyring, mut rng) = (Keyring::new(&[9; Keyring::KEY_LEN]), ChaCha20Rng::from_seed([1; 32]));
                let mut piece = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut piece).await {
                    if session.stage() < server::Stage::Request {
                        session.handle_input(now::monotonic(), &piece[..length], &keyring, &mut rng);
                    }
                    if session.stage() <= server::Stage::Request
                        && let server::Output::Transmit(bytes) = session.poll_output()
                    {
                        let _ = stream.write_all(&bytes).await;
                    }
                }
            });
        }
    });
    address
}

/// Takes connections, and says nothing.
async fn stall(at: &str) -> SocketAddr {
    let (listener, address) = listener(at).await;
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
        }
    });
    address
}

/// A port that answers no attempt to connect: its queue is full, and nobody empties it.
async fn dead(at: &str) -> (socket2::Socket, Vec<TcpStream>, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&at.parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut filling = Vec::new();
    for _ in 0..8 {
        match tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(address)).await {
            Ok(stream) => filling.push(stream.unwrap()),
            Err(_) => return (socket, filling, address),
        }
    }
    panic!("the queue does not fill");
}

#[test]
fn keys_and_cookies_come_with_the_servers_own_address() {
    block_on(async {
        let pki = Pki::new();
        let server = serve(pki.server(), "127.0.0.1:0").await;
        let exchanged =
            pki.client().exchange(&ask("ke.test", server.port()), Require::default(), at(GOOD)).await.unwrap();
        let expected = Negotiated {
            ntp_server: "ke.test".into(),
            addresses: vec!["127.0.0.1:123".parse().unwrap()],
            trust: Trust::Pki,
        };
        assert_eq!((exchanged.negotiated, exchanged.algorithm), (expected, AeadAlgorithm::AesSivCmac256));
        assert_eq!(exchanged.keys.cookies.len(), CookieJar::CAPACITY);
        assert_eq!(exchanged.certificates.unwrap().not_after, 1_901_232_000);

        let mut jar = exchanged.keys.cookies;
        let cookie = jar.take().unwrap();
        let opened = Keyring::new(&[9; Keyring::KEY_LEN]).open(cookie.as_bytes()).unwrap();
        assert_eq!(opened.c2s.as_bytes(), exchanged.keys.keys.c2s.as_bytes());
    });
}

#[test]
fn an_address_stands_for_itself() {
    block_on(async {
        let pki = Pki::new();
        for (place, literal) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
            let server = serve(pki.server(), place).await;
            let name = Name::from(literal.parse::<IpAddr>().unwrap());
            let question =
                KeyExchange { server: name, port: server.port(), addresses: None, validated: false, denied: vec![] };
            let exchanged = pki.client().exchange(&question, Require::default(), at(GOOD)).await.unwrap();
            assert_eq!(exchanged.negotiated.ntp_server, literal);
            assert_eq!(exchanged.negotiated.addresses, [SocketAddr::new(server.ip(), 123)]);
        }
    });
}

#[test]
fn a_server_may_name_another_with_a_port() {
    block_on(async {
        let pki = Pki::new();
        for (named, expected) in [
            // The peer's own address comes first, and what cannot be a server is left out.
            ("ntp.test", vec!["127.0.0.1:1123", "127.0.0.9:1123"]),
            ("192.0.2.7", vec!["192.0.2.7:1123"]),
            ("2001:db8::7", vec!["[2001:db8::7]:1123"]),
        ] {
            let config = pki.server().with_ntp_server(Some(named.into()), Some(1123)).unwrap();
            let server = serve(config, "127.0.0.1:0").await;
            let exchanged =
                pki.client().exchange(&ask("ke.test", server.port()), Require::default(), at(GOOD)).await.unwrap();
            assert_eq!(exchanged.negotiated.ntp_server, named);
            let expected: Vec<SocketAddr> = expected.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(exchanged.negotiated.addresses, expected);
        }
    });
}

#[test]
fn other_addresses_of_the_name_follow_that_of_the_peer() {
    block_on(async {
        let pki = Pki::new();
        let server = serve(pki.server(), "127.0.0.1:0").await;
        let addresses = ["127.0.0.9", "127.0.0.1"].map(|ip| SocketAddr::new(ip.parse().unwrap(), server.port()));
        let question = KeyExchange { addresses: Some(addresses.to_vec()), ..ask("ke.test", server.port()) };
        let exchanged = pki.client().exchange(&question, Require::default(), at(GOOD)).await.unwrap();
        let expected: [SocketAddr; 2] = ["127.0.0.1:123", "127.0.0.9:123"].map(|text| text.parse().unwrap());
        assert_eq!(exchanged.negotiated.addresses, expected);
    });
}

async fn problem(client: &KeyExchanger, question: &KeyExchange, judged_at: UnixTime) -> (Failure, String) {
    let problem = client.exchange(question, Require::default(), at(judged_at)).await.unwrap_err();
    (problem.failure(), problem.to_string())
}

#[test]
fn redirects_to_where_no_server_can_be_are_refused() {
    block_on(async {
        let pki = Pki::new();
        let config = pki.server().with_ntp_server(Some("224.0.1.1".into()), None).unwrap();
        let server = serve(config, "127.0.0.1:0").await;
        let (failure, text) = problem(&pki.client(), &ask("ke.test", server.port()), GOOD).await;
        assert_eq!(failure, Failure::Protocol);
        assert_eq!(
            text,
            "ke.test: key exchange names 224.0.1.1 as NTP server, at an address that is not believed: 224.0.1.1"
        );
        let config = pki.server().with_ntp_server(Some("nowhere.test".into()), None).unwrap();
        let server = serve(config, "127.0.0.1:0").await;
        let (failure, text) = problem(&pki.client(), &ask("ke.test", server.port()), GOOD).await;
        assert_eq!((failure, text.starts_with("nowhere.test: no such host")), (Failure::Resolver, true), "{text}");
    });
}

#[test]
fn what_goes_wrong_is_said_in_words() {
    block_on(async {
        let pki = Pki::new();
        let mut client = pki.client();
        client.deadline = Duration::from_millis(600);
        let server = serve(pki.server(), "127.0.0.1:0").await.port();
        let no_algorithm = serve(pki.server().with_algorithms(vec![]), "127.0.0.1:0").await.port();
        let stranger = serve(Pki::new().server(), "127.0.0.1:0").await.port();
        let stalled = stall("127.0.0.1:0").await.port();
        let (_socket, _filling, full) = dead("127.0.0.1:0").await;
        let (closing, closed) = listener("127.0.0.1:0").await;
        drop(closing);
        let late = UnixTime { seconds: 2_000_000_000, nanos: 0 };
        let refused = format!("ke.test: nobody listens at TCP port {} (is it an NTS server?)", closed.port());
        let full = (full.port(), format!("ke.test: no connection to TCP port {} in 0.6 s", full.port()));
        for (name, port, judged_at, failure, expected) in [
            ("nowhere.test", server, GOOD, Failure::Resolver, "nowhere.test: no such host"),
            ("ke.test", closed.port(), GOOD, Failure::Connect, refused.as_str()),
            ("ke.test", full.0, GOOD, Failure::Connect, full.1.as_str()),
            ("ke.test", stalled, GOOD, Failure::Protocol, "ke.test: key exchange stalled: no TLS handshake in 0.6 s"),
            ("ke.test", server, late, Failure::Tls, "ke.test: key exchange failed: certificate expired on 2030-04-01"),
            (
                "other.test",
                server,
                GOOD,
                Failure::Tls,
                "other.test: key exchange failed: certificate is not for other.test but for",
            ),
            (
                "ke.test",
                stranger,
                GOOD,
                Failure::Tls,
                "ke.test: key exchange failed: certificate signed by an unknown issuer",
            ),
            (
                "ke.test",
                no_algorithm,
                GOOD,
                Failure::Unsupported,
                "ke.test: key exchange failed: no common AEAD algorithm",
            ),
        ] {
            let (found, text) = problem(&client, &ask(name, port), judged_at).await;
            assert_eq!(found, failure, "{text}");
            assert!(text.starts_with(expected), "{text}\n{expected}");
        }
    });
}

#[test]
fn an_address_that_is_dead_or_stalls_does_not_keep_from_the_next() {
    block_on(async {
        let pki = Pki::new();
        let good = serve(pki.server(), "127.0.0.1:0").await;
        let (listener, refusing) = listener("127.0.0.2:0").await;
        drop(listener);
        let (_socket, _filling, dead) = dead("127.0.0.3:0").await;
        let stalling = stall("127.0.0.4:0").await;
        let stranger = serve(Pki::new().server(), "127.0.0.5:0").await;
        let mute = mute(pki.server(), "127.0.0.6:0").await;
        for bad in [refusing, dead, stalling, stranger, mute] {
            let question = KeyExchange { addresses: Some(vec![bad, good]), ..ask("ke.test", 1) };
            // Each of them would keep the client until its deadline.
            let exchanged = pki.client().exchange(&question, Require::default(), at(GOOD)).await;
            assert_eq!(exchanged.unwrap().negotiated.addresses[0], SocketAddr::new(good.ip(), 123), "{bad}");
        }
    });
}

/// Passes on what comes, each way as much later, for one connection after the other.
async fn detour(to: SocketAddr, at: &str, late: Duration) -> SocketAddr {
    let (listener, address) = listener(at).await;
    tokio::spawn(async move {
        loop {
            let (inner, outer) = (TcpStream::connect(to), listener.accept());
            let (Ok(inner), Ok((outer, _))) = tokio::join!(inner, outer) else { return };
            let ((mut from_server, mut to_server), (mut from_client, mut to_client)) =
                (inner.into_split(), outer.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            tokio::spawn(async move {
                tokio::time::sleep(late).await;
                tokio::io::copy(&mut from_server, &mut to_client).await
            });
        }
    });
    address
}

#[test]
fn of_two_sessions_with_one_server_one_sends_a_request() {
    block_on(async {
        let pki = Pki::new();
        let served = Arc::new(AtomicUsize::new(0));
        let good = serve_counted(pki.server(), "127.0.0.1:0", served.clone()).await;
        // Both ways have a connection at once; the first has its handshake when the second has long got its keys, or at
        // about the same time.
        for late in [450, 510, 700] {
            served.store(0, Ordering::Relaxed);
            let slow = detour(good, "127.0.0.2:0", Duration::from_millis(late)).await;
            let question = KeyExchange { addresses: Some(vec![slow, good]), ..ask("ke.test", 1) };
            let exchanged = pki.client().exchange(&question, Require::default(), at(GOOD)).await.unwrap();
            assert!(!exchanged.keys.cookies.is_empty());
            tokio::time::sleep(Duration::from_millis(400)).await;
            assert_eq!(served.load(Ordering::Relaxed), 1, "{late} ms");
        }
    });
}

#[test]
fn a_server_that_refuses_is_not_asked_at_its_other_addresses() {
    block_on(async {
        let pki = Pki::new();
        let refusing = serve(pki.server().with_algorithms(vec![]), "127.0.0.1:0").await;
        let good = serve(pki.server(), "127.0.0.2:0").await;
        let question = KeyExchange { addresses: Some(vec![refusing, good]), ..ask("ke.test", 1) };
        let (failure, _) = problem(&pki.client(), &question, GOOD).await;
        assert_eq!(failure, Failure::Unsupported);
    });
}

#[test]
fn a_connection_that_breaks_does_not_count_as_no_server() {
    block_on(async {
        let pki = Pki::new();
        let (listener, address) = listener("127.0.0.1:0").await;
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // Closing with unread input resets the connection.
                stream.readable().await.unwrap();
            }
        });
        let (failure, text) = problem(&pki.client(), &ask("ke.test", address.port()), GOOD).await;
        assert_eq!(failure, Failure::Protocol, "{text}");
    });
}

#[test]
fn dns_vouches_for_a_certificate_or_against_it() {
    block_on(async {
        // Its certificate is for another name, signed by nobody known.
        let pki = Pki::new();
        let server = serve(pki.server(), "127.0.0.1:0").await;
        let question = ask("localhost", server.port());
        let dane = Require { dnssec: true, dane: true };
        let client = async |usage, certificate: &[u8]| {
            let resolver = vouching(server.port(), usage, certificate).await;
            KeyExchanger::with_roots(Pki::new().roots, resolver).unwrap()
        };
        let vouched = client(3, &pki.chain[0]).await;
        for require in [Require::default(), dane] {
            let exchanged = vouched.exchange(&question, require, at(GOOD)).await.unwrap();
            assert_eq!((exchanged.negotiated.trust, exchanged.certificates), (Trust::Dane, None));
        }
        let text = |problem: KeProblem| problem.to_string();
        let elsewhere = Pki::new();
        let refused = client(3, &elsewhere.chain[0]).await.exchange(&question, Require::default(), at(GOOD)).await;
        assert_eq!(
            text(refused.unwrap_err()),
            "localhost: key exchange failed: certificate is not the one that DNS vouches for: none of 1 TLSA records matches"
        );
        // A record that can vouch for nothing: as if there were none, but `require` is not met by it.
        let useless = client(3, b"a hash, as it were").await;
        let refused = useless.exchange(&question, Require::default(), at(GOOD)).await;
        assert!(text(refused.unwrap_err()).contains("unknown issuer"));
        let refused = useless.exchange(&question, dane, at(GOOD)).await.unwrap_err();
        assert_eq!(refused.failure(), Failure::Unsupported);
        assert_eq!(
            text(refused),
            "localhost: refused: `require` asks for \"dane\", and none of its 1 TLSA records can be used: its data is not \
             what its matching type asks for"
        );
        let refused = pki.client().exchange(&ask("ke.test", server.port()), dane, at(GOOD)).await.unwrap_err();
        assert_eq!(text(refused), "ke.test: refused: `require` asks for \"dnssec\", and its name is not signed");
    });
}

/// The daemon runs exchanges and look-ups beside each other.
#[test]
fn exchanges_can_be_tasks() {
    let beside = |task: &dyn Fn() -> JoinHandle<()>| block_on(async { task().abort() });
    let client = Pki::new().client();
    beside(&|| {
        let client = client.clone();
        tokio::spawn(async move { drop(client.exchange(&ask("nowhere.test", 1), Require::default(), at(GOOD)).await) })
    });
    beside(&|| {
        let resolver = client.resolver.clone();
        tokio::spawn(
            async move { drop(resolver.services(&Name::parse("_ntske._tcp.ke.test").unwrap(), at(GOOD)).await) },
        )
    });
}

#[test]
fn only_what_this_machine_says_itself_is_a_matter_of_the_network() {
    use std::io::{Error, ErrorKind};
    let failure = |kinds: &[ErrorKind]| {
        let address = "192.0.2.1:4460".parse().unwrap();
        let errors = kinds.iter().map(|kind| (address, Error::from(*kind))).collect();
        let server = Name::parse("ke.test").unwrap();
        KeProblem { server, port: 4460, cause: Cause::Unreachable(errors), chain: None }.failure()
    };
    assert_eq!(failure(&[ErrorKind::NetworkUnreachable]), Failure::Network);
    assert_eq!(failure(&[ErrorKind::NetworkUnreachable, ErrorKind::ConnectionRefused]), Failure::Connect);
    assert_eq!(failure(&[ErrorKind::HostUnreachable]), Failure::Connect);
    let expired = TlsFault::Expired { not_after: GOOD, judged_at: GOOD };
    let server = Name::parse("ke.test").unwrap();
    let problem = KeProblem { server, port: 4460, cause: Cause::Session(KeError::Tls(expired)), chain: None };
    assert_eq!(problem.failure(), Failure::Tls);
}
