//! Both sides of a key exchange against each other and against peers that misbehave, in memory.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    io::{Read as _, Write as _},
    sync::Arc,
    time::Duration,
};

use chacha20::{ChaCha20Rng, rand_core::SeedableRng as _};
use ntp_proto::{
    bootstrap::{Judgement, Window},
    nts::{AeadAlgorithm, Keyring, SessionKeys},
    pool::Failure,
    time::{Monotonic, UnixTime},
};
use nts_ke::{
    client::{self, ClientConfig, ClientSession, Established, InvalidOrder, Order},
    dane::Tlsa,
    error::{ErrorCode, Fault, KeError, NoOverlap, TlsFault},
    message::{Grant, MAX_COOKIES, Request, Response},
    record::RecordType,
    server::{self, Deadlines, InvalidPair, Served, ServerConfig, ServerSession},
    verify::TrustRoots,
};
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const NAME: &str = "ke1.pool.test";
/// 2030-01-07, within the life of the certificates here.
const GOOD: UnixTime = UnixTime { seconds: 1_894_000_000, nanos: 0 };
/// 2030-01-01 and 2030-04-01.
const LIFE: (UnixTime, UnixTime) =
    (UnixTime { seconds: 1_893_456_000, nanos: 0 }, UnixTime { seconds: 1_901_232_000, nanos: 0 });
const START: Monotonic = Monotonic::from_nanos(7_000_000_000);
/// Most turns of a conversation here; all have a few.
const MAX_TURNS: usize = 100;

struct Pki {
    ca: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Pki {
    fn new() -> Self {
        Self::with_chain_padding(0)
    }

    fn with_chain_padding(padding: usize) -> Self {
        let mut parameters = CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (parameters.not_before, parameters.not_after) = (date_time_ymd(2029, 1, 1), date_time_ymd(2040, 1, 1));
        let ca_key = KeyPair::generate().unwrap();
        parameters.distinguished_name.push(DnType::CommonName, format!("{:?}", ca_key.public_key_raw()));
        let ca = parameters.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(parameters, &ca_key);
        let mut parameters =
            CertificateParams::new(vec![NAME.into(), "192.0.2.7".into(), "2001:db8::7".into()]).unwrap();
        (parameters.not_before, parameters.not_after) = (date_time_ymd(2030, 1, 1), date_time_ymd(2030, 4, 1));
        let key = KeyPair::generate().unwrap();
        let leaf = parameters.signed_by(&key, &issuer).unwrap();
        let mut chain = vec![leaf.der().clone(), ca.der().clone()];
        chain.extend(std::iter::repeat_n(ca.der().clone(), padding));
        Self { ca: ca.der().clone(), chain, key: key.serialize_der() }
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.clone()).unwrap()
    }

    fn server(&self) -> ServerConfig {
        ServerConfig::new(self.chain.clone(), self.key(), Some(GOOD)).unwrap()
    }

    fn client(&self) -> ClientConfig {
        ClientConfig::new(&TrustRoots::new(vec![self.ca.clone()]).unwrap()).unwrap()
    }
}

fn order(algorithms: &[AeadAlgorithm]) -> Order<'_> {
    Order {
        server: NAME,
        algorithms,
        tlsa: &[],
        denied: &[],
        judgement: Judgement::At(GOOD),
        deadline: START + Duration::from_secs(5),
    }
}

/// Both outcomes of a conversation.
struct Outcome {
    client: Result<Box<Established>, KeError>,
    server: Result<AeadAlgorithm, KeError>,
    keyring: Keyring,
}

/// Lets the two talk at `START`, `piece` octets at a time, until both are done.
fn converse(mut client: ClientSession, mut server: ServerSession, piece: usize) -> Outcome {
    let keyring = Keyring::new(&[9; Keyring::KEY_LEN]);
    let mut rng = ChaCha20Rng::from_seed([1; 32]);
    let (mut of_client, mut of_server) = (None, None);
    for _ in 0..MAX_TURNS {
        let mut quiet = true;
        match client.poll_output() {
            client::Output::Transmit(bytes) => {
                quiet = false;
                bytes.chunks(piece).for_each(|part| server.handle_input(START, part, &keyring, &mut rng));
            }
            client::Output::Done(established) => of_client = Some(Ok(established)),
            client::Output::Failed(error, _) => of_client = Some(Err(error)),
            client::Output::Timeout(..) => {}
        }
        match server.poll_output() {
            server::Output::Transmit(bytes) => {
                quiet = false;
                bytes.chunks(piece).for_each(|part| client.handle_input(START, part));
            }
            server::Output::Done(Served::Client(algorithm)) => of_server = Some(Ok(algorithm)),
            other @ (server::Output::Done(_) | server::Output::Kept(_)) => panic!("{other:?}"),
            server::Output::Failed(error) => of_server = Some(Err(error)),
            server::Output::Timeout(..) => {}
        }
        if quiet && of_client.is_some() {
            server.handle_eof(START);
        }
        if quiet && of_server.is_some() {
            client.handle_eof(START);
        }
        if let (Some(client), Some(server)) = (&of_client, &of_server) {
            return Outcome { client: client.clone(), server: server.clone(), keyring };
        }
    }
    panic!("the conversation does not end: {client:?} {server:?}");
}

fn run(pki: &Pki, order: &Order<'_>, server: ServerConfig) -> Outcome {
    let client = ClientSession::new(&pki.client(), order).unwrap();
    converse(client, ServerSession::new(Arc::new(server), START).unwrap(), usize::MAX)
}

fn same(a: &SessionKeys, b: &SessionKeys) -> bool {
    a.c2s.as_bytes() == b.c2s.as_bytes() && a.s2c.as_bytes() == b.s2c.as_bytes()
}

#[test]
fn both_ends_hold_the_same_keys_for_every_algorithm() {
    let pki = Pki::new();
    for algorithm in AeadAlgorithm::ALL {
        for piece in [usize::MAX, 1] {
            let client = ClientSession::new(&pki.client(), &order(&[algorithm])).unwrap();
            let server = ServerSession::new(Arc::new(pki.server()), START).unwrap();
            let outcome = converse(client, server, piece);
            let established = outcome.client.unwrap();
            assert_eq!((established.algorithm, outcome.server), (algorithm, Ok(algorithm)));
            assert_eq!(established.cookies.len(), MAX_COOKIES);
            for cookie in &established.cookies {
                assert!(same(&outcome.keyring.open(cookie.as_bytes()).unwrap(), &established.keys));
            }
            assert_ne!(established.cookies.first(), established.cookies.last());
            assert_ne!(established.keys.c2s.as_bytes(), established.keys.s2c.as_bytes());
            assert!(established.fallback_keys.is_none());
            assert_eq!((established.server, established.port), (None, None));
            let window = established.chain.unwrap().window;
            assert_eq!((window.not_before, window.not_after), (LIFE.0.seconds, LIFE.1.seconds));
        }
    }
}

#[test]
fn the_clients_order_decides_among_the_algorithms_of_both() {
    use AeadAlgorithm::{AesGcmSiv128, AesSivCmac256, AesSivCmac512};
    let pki = Pki::new();
    for (offered, served, chosen) in [
        (vec![AesSivCmac512, AesSivCmac256], vec![AesSivCmac256, AesSivCmac512], Some(AesSivCmac512)),
        (vec![AesSivCmac512, AesSivCmac256], vec![AesSivCmac256], Some(AesSivCmac256)),
        (vec![AesGcmSiv128, AesSivCmac256], AeadAlgorithm::ALL.to_vec(), Some(AesGcmSiv128)),
        (vec![AesSivCmac512], vec![AesSivCmac256], None),
    ] {
        let outcome = run(&pki, &order(&offered), pki.server().with_algorithms(served));
        let none = KeError::NoOverlap(NoOverlap::Algorithm);
        assert_eq!(outcome.server, chosen.ok_or_else(|| none.clone()));
        assert_eq!(outcome.client.map(|established| established.algorithm), chosen.ok_or(none));
    }
}

#[test]
fn another_ntp_server_and_denied_names_are_passed_on() {
    let pki = Pki::new();
    let server = pki.server().with_ntp_server(Some("ntp.pool.test".into()), Some(1123)).unwrap();
    let denied = ["a.test".into(), "b.test".into()];
    let outcome = run(&pki, &Order { denied: &denied, ..order(&AeadAlgorithm::ALL) }, server);
    let established = outcome.client.unwrap();
    assert_eq!((established.server.as_deref(), established.port), (Some("ntp.pool.test"), Some(1123)));
    let bad = pki.server().with_ntp_server(Some("no name".into()), None).unwrap_err();
    assert!(bad.to_string().contains("no name"));
}

#[test]
fn certificates_are_judged_at_the_time_given_and_errors_say_why() {
    let pki = Pki::new();
    let at = |seconds| Order { judgement: Judgement::At(UnixTime { seconds, nanos: 0 }), ..order(&AeadAlgorithm::ALL) };
    let failed = |order: &Order<'_>| {
        let outcome = run(&pki, order, pki.server());
        assert!(matches!(outcome.server, Err(KeError::Tls(TlsFault::Alert(_)))), "{:?}", outcome.server);
        let error = outcome.client.unwrap_err();
        assert_eq!(error.failure(), Failure::Tls);
        error
    };
    let late = failed(&at(2_000_000_000));
    let KeError::Tls(TlsFault::Expired { not_after, judged_at }) = &late else { panic!("{late}") };
    assert_eq!((*not_after, judged_at.seconds), (LIFE.1, 2_000_000_000));
    assert_eq!(late.to_string(), "certificate expired on 2030-04-01T00:00:00Z (judged at 2033-05-18T03:33:20Z)");
    for early in [0, -5] {
        let error = failed(&at(early));
        let KeError::Tls(TlsFault::NotYetValid { not_before, .. }) = error else { panic!("{error}") };
        assert_eq!(not_before, LIFE.0);
    }
    let wrong = failed(&Order { server: "ke2.pool.test", ..order(&AeadAlgorithm::ALL) });
    let KeError::Tls(TlsFault::WrongName { expected, presented }) = &wrong else { panic!("{wrong}") };
    assert_eq!((expected.as_str(), presented.len()), ("ke2.pool.test", 3));
    let wrong = failed(&Order { server: "192.0.2.8", ..order(&AeadAlgorithm::ALL) });
    assert!(matches!(wrong, KeError::Tls(TlsFault::WrongName { .. })), "{wrong}");
}

#[test]
fn tlsa_records_decide_whom_a_client_trusts() {
    let pki = Pki::new();
    let key = |der: &[u8]| Tlsa::new(3, 0, 0, der.to_vec()).unwrap();
    let (ours, other) = ([key(&pki.chain[0])], [key(&pki.ca)]);
    let nobody = ClientConfig::without_roots();
    let outcome = |config: &ClientConfig, order: &Order<'_>| {
        let server = ServerSession::new(Arc::new(pki.server()), START).unwrap();
        converse(ClientSession::new(config, order).unwrap(), server, usize::MAX).client
    };
    let algorithms = &AeadAlgorithm::ALL;
    // Certificate of another name, long expired: only the record counts, and it says nothing of time.
    let late = UnixTime { seconds: 2_300_000_000, nanos: 0 };
    let order_late = Order { server: "x.test", tlsa: &ours, judgement: Judgement::At(late), ..order(algorithms) };
    let vouched = outcome(&nobody, &order_late).unwrap().chain.unwrap();
    assert_eq!((vouched.window, vouched.signed, vouched.life), (Window::ALWAYS, vec![], 0));
    assert!(outcome(&pki.client(), &order(algorithms)).unwrap().chain.unwrap().window != Window::ALWAYS);
    let refused = outcome(&pki.client(), &Order { tlsa: &other, ..order(algorithms) }).unwrap_err();
    assert_eq!(refused, KeError::Tls(TlsFault::NotInDns { records: 1 }));
    let refused = outcome(&nobody, &order(algorithms)).unwrap_err();
    assert_eq!(refused, KeError::Tls(TlsFault::UnknownIssuer));
}

#[test]
fn a_certificate_for_an_address_is_good_for_it() {
    let pki = Pki::new();
    for server in ["192.0.2.7", "2001:db8::7"] {
        assert!(run(&pki, &Order { server, ..order(&AeadAlgorithm::ALL) }, pki.server()).client.is_ok());
    }
}

#[test]
fn only_given_roots_are_trusted_and_long_chains_are_not_looked_at() {
    let (pki, stranger) = (Pki::new(), Pki::new());
    let error = run(&stranger, &order(&AeadAlgorithm::ALL), pki.server()).client.unwrap_err();
    assert_eq!(error, KeError::Tls(TlsFault::UnknownIssuer));

    let fits = Pki::with_chain_padding(6);
    assert!(run(&fits, &order(&AeadAlgorithm::ALL), fits.server()).client.is_ok());
    let long = Pki::with_chain_padding(7);
    let error = ServerConfig::new(long.chain.clone(), long.key(), None).unwrap_err();
    assert_eq!(error, InvalidPair::ChainTooLong);

    assert!(TrustRoots::new(vec![]).is_err());
    let junk = CertificateDer::from(vec![1, 2, 3]);
    assert!(TrustRoots::new(vec![junk.clone()]).is_err());
    let roots = TrustRoots::new(vec![junk, pki.ca.clone()]).unwrap();
    assert_eq!((roots.len(), roots.ignored()), (1, 1));
}

#[test]
fn a_pair_that_cannot_serve_is_refused_by_name() {
    let (pki, other) = (Pki::new(), Pki::new());
    let new = |chain: &[CertificateDer<'static>], key, at| ServerConfig::new(chain.to_vec(), key, at).map(|_| ());
    assert_eq!(new(&pki.chain, pki.key(), Some(GOOD)), Ok(()));
    assert_eq!(new(&[], pki.key(), None), Err(InvalidPair::NoCertificate));
    assert_eq!(new(&pki.chain, other.key(), None), Err(InvalidPair::Mismatch));
    let junk = CertificateDer::from(vec![0x30, 0]);
    assert_eq!(new(std::slice::from_ref(&junk), pki.key(), None), Err(InvalidPair::Certificate(0)));
    assert_eq!(new(&[pki.chain[0].clone(), junk], pki.key(), None), Err(InvalidPair::Certificate(1)));
    let key = PrivateKeyDer::Pkcs8(vec![1, 2, 3].into());
    assert!(matches!(new(&pki.chain, key, None), Err(InvalidPair::Key(_))));
    let at = |seconds| Some(UnixTime { seconds, nanos: 0 });
    assert!(matches!(new(&pki.chain, pki.key(), at(LIFE.1.seconds + 1)), Err(InvalidPair::Expired(_))));
    assert!(matches!(new(&pki.chain, pki.key(), at(LIFE.0.seconds - 1)), Err(InvalidPair::NotYetValid(_))));
    assert_eq!(new(&pki.chain, pki.key(), None), Ok(()));
    assert_eq!(pki.server().validity().not_after, LIFE.1);
}

#[test]
fn orders_that_cannot_be_begun_are_refused() {
    let config = Pki::new().client();
    let new = |order: &Order<'_>| ClientSession::new(&config, order).map(|_| ());
    assert_eq!(new(&order(&[])), Err(InvalidOrder::NoAlgorithm));
    let bad = Order { server: "not a name", ..order(&AeadAlgorithm::ALL) };
    assert_eq!(new(&bad), Err(InvalidOrder::Server("not a name".into())));
}

/// A peer made of the TLS library alone.
struct Raw {
    connection: rustls::Connection,
}

impl Raw {
    fn client(pki: &Pki, alpn: &[&[u8]]) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(pki.ca.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_details(provider, Arc::new(Fixed))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let connection = rustls::ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap();
        Self { connection: connection.into() }
    }

    fn server(pki: &Pki, alpn: &[&[u8]]) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_details(provider, Arc::new(Fixed))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(pki.chain.clone(), pki.key())
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let mut connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        connection.set_buffer_limit(None);
        Self { connection: connection.into() }
    }

    /// Takes octets; the plaintext in them.
    fn take(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        while !bytes.is_empty() && self.connection.read_tls(&mut bytes).unwrap() > 0 {
            if self.connection.process_new_packets().is_err() {
                break;
            }
            let _more = self.connection.reader().read_to_end(&mut plain);
        }
        plain
    }

    fn give(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut out).unwrap();
        }
        out
    }
}

#[derive(Debug)]
struct Fixed;

impl rustls::time_provider::TimeProvider for Fixed {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(GOOD.seconds.unsigned_abs())))
    }
}

/// What our server answers to `request` in clear text, and how the session ended.
fn ask_server(pki: &Pki, alpn: &[&[u8]], request: &[u8], close: bool) -> (Vec<u8>, server::Output) {
    let mut raw = Raw::client(pki, alpn);
    let mut session = ServerSession::new(Arc::new(pki.server()), START).unwrap();
    let (keyring, mut rng) = (Keyring::new(&[9; 32]), ChaCha20Rng::from_seed([1; 32]));
    let mut answer = Vec::new();
    let mut sent = false;
    for _ in 0..MAX_TURNS {
        if !raw.connection.is_handshaking() && !sent {
            raw.connection.writer().write_all(request).unwrap();
            if close {
                raw.connection.send_close_notify();
            }
            sent = true;
            // Whatever order the client has; no other suite costs as little.
            let suite = raw.connection.negotiated_cipher_suite().unwrap().suite();
            assert_eq!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        }
        session.handle_input(START, &raw.give(), &keyring, &mut rng);
        match session.poll_output() {
            server::Output::Transmit(bytes) => answer.extend(raw.take(&bytes)),
            server::Output::Timeout(..) if sent => session.handle_eof(START),
            server::Output::Timeout(..) => {}
            end @ (server::Output::Kept(_) | server::Output::Done(_) | server::Output::Failed(_)) => {
                return (answer, end);
            }
        }
    }
    panic!("the session does not end: {session:?}");
}

/// How our client ends when a server answers with `response`.
fn ask_client(pki: &Pki, alpn: &[&[u8]], response: &[u8]) -> Result<Box<Established>, KeError> {
    let mut raw = Raw::server(pki, alpn);
    let mut session = ClientSession::new(&pki.client(), &order(&AeadAlgorithm::ALL)).unwrap();
    for _ in 0..MAX_TURNS {
        match session.poll_output() {
            client::Output::Transmit(bytes) => {
                if !raw.take(&bytes).is_empty() {
                    raw.connection.writer().write_all(response).unwrap();
                    raw.connection.send_close_notify();
                }
            }
            client::Output::Timeout(..) => {}
            client::Output::Done(established) => return Ok(established),
            client::Output::Failed(error, _) => return Err(error),
        }
        session.handle_input(START, &raw.give());
    }
    panic!("the session does not end: {session:?}");
}

const NTSKE: &[&[u8]] = &[b"ntske/1"];
const BAD_REQUEST: &[u8] = &[0x80, 2, 0, 2, 0, 1, 0x80, 0, 0, 0];

#[test]
fn peers_that_do_not_agree_on_ntske_1_are_refused() {
    let pki = Pki::new();
    for alpn in [&[] as &[&[u8]], &[b"http/1.1"]] {
        let (answer, end) = ask_server(&pki, alpn, &[], false);
        assert_eq!((answer, end), (vec![], server::Output::Failed(KeError::Tls(TlsFault::NoAlpn))));
        let error = ask_client(&pki, alpn, &[]).unwrap_err();
        assert_eq!(error, KeError::Tls(TlsFault::NoAlpn));
    }
}

#[test]
fn a_tls_1_2_client_is_refused() {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    // No session id; TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256; no compression; signature_algorithms, supported_groups.
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    body.extend([0, 16, 0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 29]);
    let length = u8::try_from(body.len()).unwrap();
    let hello = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length], &body[..]].concat();
    let mut session = ServerSession::new(Arc::new(Pki::new().server()), START).unwrap();
    session.handle_input(START, &hello, &Keyring::new(&[9; 32]), &mut ChaCha20Rng::from_seed([1; 32]));
    let server::Output::Transmit(alert) = session.poll_output() else { panic!("no alert") };
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 70], "fatal alert protocol_version");
    assert_eq!(session.poll_output(), server::Output::Failed(KeError::Tls(TlsFault::Version)));
}

#[test]
fn bad_requests_are_answered_with_the_error_of_rfc_8915() {
    let pki = Pki::new();
    let good = Request { protocols: vec![0], algorithms: vec![15], ..Request::default() }.encode();
    let cut = good.get(..good.len() - 1).unwrap();
    let refused = |request: &[u8], close| {
        let (answer, end) = ask_server(&pki, NTSKE, request, close);
        let server::Output::Failed(error) = end else { panic!("{end:?}") };
        (answer, error)
    };
    let bad = |fault| (BAD_REQUEST.to_vec(), KeError::Protocol(fault));
    assert_eq!(refused(cut, true), bad(Fault::Incomplete));
    assert_eq!(refused(&[0x40; 4097], false), bad(Fault::TooLong { max: 4096 }));
    assert_eq!(refused(&[0x80, 0, 0, 0], false), bad(Fault::Missing(RecordType::NextProtocol)));
    let fixed_key = [0x80, 12, 0, 0, 0x80, 0, 0, 0];
    let unknown = Fault::UnrecognizedCritical(RecordType::FixedKeyRequest);
    let answer = vec![0x80, 2, 0, 2, 0, 0, 0x80, 0, 0, 0];
    assert_eq!(refused(&fixed_key, false), (answer, KeError::Protocol(unknown)));
    let other = Request { protocols: vec![0x8001], ..Request::default() }.encode();
    let (answer, error) = refused(&other, false);
    assert_eq!(
        (answer.as_slice(), error),
        (&[0x80, 1, 0, 0, 0x80, 0, 0, 0][..], KeError::NoOverlap(NoOverlap::Protocol))
    );
    // A connection that ends without a request is not worth an answer.
    assert_eq!(refused(&[], true), (vec![], KeError::Eof("key-exchange request")));
    assert_eq!(refused(cut, false), (vec![], KeError::Eof("key-exchange request")));
    assert_eq!(
        ask_server(&pki, NTSKE, &good, true).1,
        server::Output::Done(Served::Client(AeadAlgorithm::AesSivCmac256))
    );
}

#[test]
fn a_client_that_does_not_say_how_it_exports_gets_another_algorithm() {
    let pki = Pki::new();
    for (offer, compliant_export, chosen) in
        [(vec![30, 15], false, 15), (vec![30, 15], true, 30), (vec![30], false, 30), (vec![15, 30], true, 15)]
    {
        let request = Request { protocols: vec![0], algorithms: offer, compliant_export, ..Request::default() };
        let (answer, end) = ask_server(&pki, NTSKE, &request.encode(), false);
        assert_eq!(end, server::Output::Done(Served::Client(AeadAlgorithm::from_id(chosen).unwrap())));
        let confirmed = answer.windows(4).any(|part| part == [4, 0, 0, 0]);
        assert_eq!(confirmed, compliant_export && chosen == 30);
    }
}

#[test]
fn a_server_that_does_not_confirm_its_export_leaves_two_sets_of_keys() {
    let pki = Pki::new();
    let cookies = [ntp_proto::nts::Cookie::new(&[1; 100]).unwrap()];
    let grant = |algorithm, compliant_export| {
        let grant = Grant { algorithm, cookies: &cookies, server: None, port: None, compliant_export };
        ask_client(&pki, NTSKE, &Response::Established(grant).encode()).unwrap()
    };
    let unconfirmed = grant(30, false);
    let fallback = unconfirmed.fallback_keys.as_ref().unwrap();
    assert_eq!(fallback.c2s.algorithm(), AeadAlgorithm::AesGcmSiv128);
    assert!(!same(fallback, &unconfirmed.keys));
    assert!(grant(30, true).fallback_keys.is_none());
    assert!(grant(15, false).fallback_keys.is_none());
}

#[test]
fn answers_that_break_a_rule_fail_by_name() {
    let pki = Pki::new();
    let ask = |response: &[u8]| ask_client(&pki, NTSKE, response).map(|_| ()).unwrap_err();
    for (number, failure) in [(0, Failure::Protocol), (1, Failure::Protocol), (2, Failure::Protocol)] {
        let error = ask(&Response::Error(ErrorCode::from_number(number)).encode());
        assert_eq!(error, KeError::Refused(ErrorCode::from_number(number)));
        assert_eq!(error.failure(), failure);
    }
    let error = ask(&Response::NoAlgorithm.encode());
    assert_eq!((&error, error.failure()), (&KeError::NoOverlap(NoOverlap::Algorithm), Failure::Unsupported));
    assert_eq!(ask(&[]), KeError::Eof("key-exchange response"));
    assert_eq!(ask(&[0x80]), KeError::Protocol(Fault::Incomplete));
    assert_eq!(ask(&vec![0x40; 65_537]), KeError::Protocol(Fault::TooLong { max: 65_536 }));
    let grant = Grant { algorithm: 15, cookies: &[], server: None, port: None, compliant_export: false };
    assert_eq!(ask(&Response::Established(grant).encode()), KeError::Protocol(Fault::NoCookies));
}

#[test]
fn a_stalled_peer_meets_the_deadline() {
    let pki = Pki::new();
    let mut session = ClientSession::new(&pki.client(), &order(&AeadAlgorithm::ALL)).unwrap();
    let client::Output::Transmit(hello) = session.poll_output() else { panic!("no hello") };
    let client::Output::Timeout(Some(deadline), "TLS handshake") = session.poll_output() else { panic!("no timeout") };
    session.handle_timeout(Monotonic::from_nanos(deadline.to_nanos() - 1));
    assert!(matches!(session.poll_output(), client::Output::Timeout(Some(_), _)));
    session.handle_input(deadline, b"\x16");
    let client::Output::Failed(error, _) = session.poll_output() else { panic!("no failure") };
    assert_eq!((&error, error.failure()), (&KeError::Timeout("TLS handshake"), Failure::Protocol));
    assert!(matches!(session.poll_output(), client::Output::Timeout(None, _)));

    let deadlines = Deadlines::default();
    let keyring = Keyring::new(&[9; 32]);
    let mut rng = ChaCha20Rng::from_seed([1; 32]);
    for (octets, stage, awaited) in
        [(hello.len() - 1, deadlines.hello, "TLS ClientHello"), (hello.len(), deadlines.handshake, "TLS handshake")]
    {
        let mut session = ServerSession::new(Arc::new(pki.server()), START).unwrap();
        assert_eq!(session.final_deadline(), START + deadlines.total);
        session.handle_input(START, hello.get(..octets).unwrap(), &keyring, &mut rng);
        while matches!(session.poll_output(), server::Output::Transmit(_)) {}
        assert_eq!(session.poll_output(), server::Output::Timeout(Some(START + stage), awaited));
        session.handle_timeout(START + stage);
        assert_eq!(session.poll_output(), server::Output::Failed(KeError::Timeout(awaited)));
    }
}

#[test]
fn a_packet_that_has_to_be_sent_again_costs_no_client_its_exchange() {
    let pki = Pki::new();
    let mut client = ClientSession::new(&pki.client(), &order(&AeadAlgorithm::ALL)).unwrap();
    let client::Output::Transmit(hello) = client.poll_output() else { panic!("no hello") };
    let mut session = ServerSession::new(Arc::new(pki.server()), START).unwrap();
    // RFC 6298 section 2.1: what was lost is sent again after a second; and the way may be long.
    for late in [Duration::from_millis(1_400), Duration::from_millis(2_900)] {
        session.handle_timeout(START + late);
        assert!(matches!(session.poll_output(), server::Output::Timeout(Some(_), "TLS ClientHello")), "{late:?}");
    }
    let late = START + Duration::from_millis(2_900);
    session.handle_input(late, &hello, &Keyring::new(&[9; 32]), &mut ChaCha20Rng::from_seed([1; 32]));
    assert!(matches!(session.poll_output(), server::Output::Transmit(_)));
    session.handle_timeout(late + Duration::from_millis(1_400));
    assert!(!matches!(session.poll_output(), server::Output::Failed(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn garbage_instead_of_tls_ends_both_sides(bytes in proptest::collection::vec(any::<u8>(), 1..2000)) {
        let pki = Pki::new();
        let mut client = ClientSession::new(&pki.client(), &order(&AeadAlgorithm::ALL)).unwrap();
        client.handle_input(START, &bytes);
        client.handle_eof(START);
        let mut server = ServerSession::new(Arc::new(pki.server()), START).unwrap();
        server.handle_input(START, &bytes, &Keyring::new(&[9; 32]), &mut ChaCha20Rng::from_seed([1; 32]));
        server.handle_eof(START);
        let ended = |_| matches!(client.poll_output(), client::Output::Failed(..));
        prop_assert!((0..4).any(ended));
        let ended = |_| matches!(server.poll_output(), server::Output::Failed(_));
        prop_assert!((0..4).any(ended));
    }

    #[test]
    fn garbage_after_the_handshake_ends_both_sides(bytes in proptest::collection::vec(any::<u8>(), 1..5000)) {
        let pki = Pki::new();
        let (answer, end) = ask_server(&pki, NTSKE, &bytes, true);
        prop_assert!(matches!(end, server::Output::Failed(KeError::Protocol(_))), "{:?}", end);
        prop_assert!(answer == BAD_REQUEST || answer == [0x80, 2, 0, 2, 0, 0, 0x80, 0, 0, 0]);
        prop_assert!(matches!(ask_client(&pki, NTSKE, &bytes), Err(KeError::Protocol(_) | KeError::Refused(_))));
    }
}
