//! A user, a balancer and a member of its pool, in memory over real TLS.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use core::time::Duration;
use std::sync::Arc;

use chacha20::{ChaCha20Rng, rand_core::SeedableRng as _};
use ntp_proto::{
    bootstrap::Judgement,
    nts::{AeadAlgorithm, Keyring},
    time::{Monotonic, UnixTime},
};
use nts_ke::{
    client::{self, ClientConfig, ClientSession, Established, Order},
    error::{ErrorCode, KeError},
    message::{Grant, Request, Response},
    pool::{PoolRequest, Support},
    server::{Gate, MAX_KEPT_EXCHANGES, Output, Served, ServerConfig, ServerSession, UserOutput, UserSession},
    upstream::{self, ALL_LISTS, Answer, NotReady, UpstreamSession},
    verify::TrustRoots,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const USERS_NAME: &str = "pool.test";
const MEMBERS_NAME: &str = "m1.test";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const START: Monotonic = Monotonic::from_nanos(7_000_000_000);
const SOON: Monotonic = Monotonic::from_nanos(9_000_000_000);
/// Within the life that rcgen gives certificates.
const GOOD: UnixTime = UnixTime { seconds: 1_894_000_000, nanos: 0 };

#[derive(Debug)]
struct OneToken;

impl Gate for OneToken {
    fn admits(&self, token: &str) -> bool {
        token == TOKEN
    }
}

struct Pki {
    ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = parameters.self_signed(&key).unwrap().der().clone();
        Self { ca, issuer: Issuer::new(parameters, key) }
    }

    fn server(&self, name: &str) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.into()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        ServerConfig::new(vec![leaf.der().clone()], key, Some(GOOD)).unwrap()
    }

    fn client(&self) -> ClientConfig {
        ClientConfig::new(&TrustRoots::new(vec![self.ca.clone()]).unwrap()).unwrap()
    }
}

/// A member and the balancer's connection to it.
struct Link {
    upstream: UpstreamSession,
    member: ServerSession,
    keyring: Keyring,
    rng: ChaCha20Rng,
    /// What the member says it did.
    served: Vec<Output>,
}

impl Link {
    fn new(pki: &Pki, member: ServerConfig) -> Self {
        let upstream = UpstreamSession::new(&pki.client(), MEMBERS_NAME, &[], GOOD, SOON).unwrap();
        let member = ServerSession::new(Arc::new(member), START).unwrap();
        let keyring = Keyring::new(&[9; Keyring::KEY_LEN]);
        Self { upstream, member, keyring, rng: ChaCha20Rng::from_seed([1; 32]), served: Vec::new() }
    }

    /// Lets the two talk until the balancer's side has something to say.
    fn run(&mut self) -> upstream::Output {
        for _ in 0..100 {
            match self.upstream.poll_output() {
                upstream::Output::Transmit(bytes) => {
                    self.member.handle_input(START, &bytes, &self.keyring, &mut self.rng);
                }
                upstream::Output::Timeout(..) => {}
                said @ (upstream::Output::Ready | upstream::Output::Answered(_) | upstream::Output::Failed(_)) => {
                    return said;
                }
            }
            loop {
                match self.member.poll_output() {
                    Output::Transmit(bytes) => self.upstream.handle_input(START, &bytes),
                    Output::Timeout(..) => break,
                    did @ (Output::Kept(_) | Output::Done(_) | Output::Failed(_)) => self.served.push(did),
                }
            }
        }
        panic!("nothing comes of it: {:?} {:?}", self.upstream, self.member);
    }

    /// What the balancer's side says, apart from what it sends.
    fn said(&mut self) -> upstream::Output {
        loop {
            match self.upstream.poll_output() {
                upstream::Output::Transmit(_) => {}
                said @ (upstream::Output::Ready
                | upstream::Output::Answered(_)
                | upstream::Output::Failed(_)
                | upstream::Output::Timeout(..)) => return said,
            }
        }
    }

    fn ready(pki: &Pki, member: ServerConfig) -> Self {
        let mut link = Self::new(pki, member);
        assert_eq!(link.run(), upstream::Output::Ready);
        link
    }

    fn ask(&mut self, request: PoolRequest, token: &str) -> upstream::Output {
        self.upstream.ask(request, token, SOON).unwrap();
        self.run()
    }
}

fn member(pki: &Pki) -> ServerConfig {
    let member = pki.server(MEMBERS_NAME).with_gate(Some(Arc::new(OneToken)));
    member.with_ntp_server(Some("ntp.m1.test".into()), None).unwrap()
}

/// What the balancer needs to know of a user.
fn ask_user(user: &mut ClientSession, session: &mut UserSession) -> Request {
    for _ in 0..100 {
        if let client::Output::Transmit(bytes) = user.poll_output() {
            session.handle_input(START, &bytes);
        }
        match session.poll_output() {
            UserOutput::Transmit(bytes) => user.handle_input(START, &bytes),
            UserOutput::Asked(request) => return request,
            UserOutput::Done | UserOutput::Failed(_) | UserOutput::Timeout(..) => {}
        }
    }
    panic!("the user asks nothing: {user:?} {session:?}");
}

fn finish(user: &mut ClientSession, session: &mut UserSession) -> Result<Box<Established>, KeError> {
    let mut done = false;
    for _ in 0..100 {
        match session.poll_output() {
            UserOutput::Transmit(bytes) => user.handle_input(START, &bytes),
            UserOutput::Done | UserOutput::Failed(_) => done = true,
            UserOutput::Asked(_) | UserOutput::Timeout(..) => {}
        }
        match user.poll_output() {
            client::Output::Transmit(bytes) => session.handle_input(START, &bytes),
            client::Output::Done(established) if done => return Ok(established),
            client::Output::Failed(error, _) => return Err(error),
            client::Output::Done(_) | client::Output::Timeout(..) => {}
        }
    }
    panic!("the user gets nothing: {user:?} {session:?}");
}

fn user(pki: &Pki, algorithms: &[AeadAlgorithm]) -> ClientSession {
    let order = Order {
        server: USERS_NAME,
        algorithms,
        tlsa: &[],
        denied: &["a.test".into()],
        judgement: Judgement::At(GOOD),
        deadline: SOON,
    };
    ClientSession::new(&pki.client(), &order).unwrap()
}

#[test]
fn a_user_gets_cookies_of_a_member_for_the_keys_of_its_own_session() {
    let pki = Pki::new();
    let mut link = Link::ready(&pki, member(&pki));
    let upstream::Output::Answered(Answer::Support(support)) = link.ask(PoolRequest::Support(ALL_LISTS), TOKEN) else {
        panic!("{:?}", link.served);
    };
    let expected = Support {
        protocols: vec![0],
        algorithms: AeadAlgorithm::ALL.iter().map(|one| (one.id(), u16::try_from(one.key_len()).unwrap())).collect(),
        servers: vec!["ntp.m1.test".into()],
        keep_alive: true,
    };
    assert_eq!(support, expected);
    let users = Arc::new(pki.server(USERS_NAME));
    for algorithm in AeadAlgorithm::ALL {
        let mut user = user(&pki, &[algorithm]);
        let mut session = UserSession::new(users.clone(), START).unwrap();
        let request = ask_user(&mut user, &mut session);
        assert_eq!(
            (request.algorithms.as_slice(), request.denied.as_slice()),
            (&[algorithm.id()][..], &["a.test".to_owned()][..])
        );
        let keys = session.export(0, algorithm.id(), algorithm.key_len()).unwrap();
        assert!(session.export(0, algorithm.id(), algorithm.key_len()).is_err(), "no second member may have keys");
        let upstream::Output::Answered(Answer::Cookies(accepted)) = link.ask(keys.into(), TOKEN) else { panic!() };
        assert!(accepted.keep_alive);
        let grant = Grant {
            algorithm: accepted.algorithm,
            cookies: &accepted.cookies,
            server: accepted.server.as_deref(),
            port: accepted.port,
            compliant_export: request.compliant_export && algorithm == AeadAlgorithm::AesGcmSiv128,
        };
        session.answer(START, &Response::Established(grant));
        let established = finish(&mut user, &mut session).unwrap();
        assert_eq!(established.server.as_deref(), Some("ntp.m1.test"));
        assert!(established.fallback_keys.is_none());
        for cookie in &established.cookies {
            let opened = link.keyring.open(cookie.as_bytes()).unwrap();
            assert_eq!(opened.c2s.as_bytes(), established.keys.c2s.as_bytes());
            assert_eq!(opened.s2c.as_bytes(), established.keys.s2c.as_bytes());
        }
    }
    let kept = [Served::Support].into_iter().chain(AeadAlgorithm::ALL.map(Served::FixedKeys)).map(Output::Kept);
    assert_eq!(link.served, kept.collect::<Vec<_>>());
}

#[test]
fn whoever_shows_no_token_of_ours_gets_nothing_and_is_not_kept() {
    let pki = Pki::new();
    let mut link = Link::ready(&pki, member(&pki));
    let unrecognized = KeError::Refused(ErrorCode::UnrecognizedCritical);
    let said = link.ask(PoolRequest::Support(ALL_LISTS), "0123456789abcdef0123456789abcdeX");
    assert_eq!(said, upstream::Output::Failed(unrecognized.clone()));
    // A server without pools knows nothing of such requests.
    let mut link = Link::ready(&pki, pki.server(MEMBERS_NAME));
    assert_eq!(link.ask(PoolRequest::Support(ALL_LISTS), TOKEN), upstream::Output::Failed(unrecognized));
}

#[test]
fn what_a_member_cannot_serve_is_refused_by_name() {
    let pki = Pki::new();
    let users = Arc::new(pki.server(USERS_NAME));
    let keys = |protocol, algorithm, length| {
        let mut user = user(&pki, &AeadAlgorithm::ALL);
        let mut session = UserSession::new(users.clone(), START).unwrap();
        ask_user(&mut user, &mut session);
        session.export(protocol, algorithm, length).unwrap()
    };
    for (given, code) in [(keys(0, 15, 16), ErrorCode::BadRequest), (keys(0, 15, 128), ErrorCode::BadRequest)] {
        let mut link = Link::ready(&pki, member(&pki));
        assert_eq!(link.ask(given.into(), TOKEN), upstream::Output::Failed(KeError::Refused(code)));
    }
    for given in [keys(0x8001, 15, 32), keys(0, 99, 32)] {
        let mut link = Link::ready(&pki, member(&pki));
        let said = link.ask(given.into(), TOKEN);
        assert!(matches!(said, upstream::Output::Failed(KeError::NoOverlap(_))), "{said:?}");
    }
    let mut session = UserSession::new(users.clone(), START).unwrap();
    ask_user(&mut user(&pki, &AeadAlgorithm::ALL), &mut session);
    assert!(session.export(0, 15, 129).is_err() && session.export(0, 15, 32).is_err());
}

#[test]
fn a_kept_connection_exports_no_keys_and_ends_some_day() {
    let pki = Pki::new();
    let mut link = Link::ready(&pki, member(&pki));
    assert_eq!(link.upstream.ask(PoolRequest::Support(ALL_LISTS), TOKEN, SOON), Ok(()));
    assert_eq!(link.upstream.ask(PoolRequest::Support(ALL_LISTS), TOKEN, SOON), Err(NotReady));
    link.run();
    let mut answers = 1;
    loop {
        match link.ask(PoolRequest::Support(ALL_LISTS), TOKEN) {
            upstream::Output::Answered(answer) => {
                answers += 1;
                if !answer.keeps() {
                    break;
                }
            }
            other @ (upstream::Output::Transmit(_)
            | upstream::Output::Ready
            | upstream::Output::Failed(_)
            | upstream::Output::Timeout(..)) => panic!("{other:?}"),
        }
    }
    assert_eq!(answers, MAX_KEPT_EXCHANGES);
    assert_eq!(link.upstream.ask(PoolRequest::Support(ALL_LISTS), TOKEN, SOON), Err(NotReady));
    assert!(matches!(link.upstream.poll_output(), upstream::Output::Transmit(_) | upstream::Output::Timeout(None, _)));
}

#[test]
fn deadlines_hold_on_both_sides() {
    let pki = Pki::new();
    let mut link = Link::ready(&pki, member(&pki));
    link.ask(PoolRequest::Support(ALL_LISTS), TOKEN);
    // Kept and idle: the member waits longer than for a client, but not for ever.
    let Output::Timeout(Some(until), _) = link.member.poll_output() else { panic!() };
    assert_eq!(until, START + Duration::from_secs(300));
    link.member.handle_timeout(until);
    let mut bytes = Vec::new();
    while let Output::Transmit(more) = link.member.poll_output() {
        bytes.extend(more);
    }
    link.upstream.handle_input(until, &bytes);
    assert_eq!(link.said(), upstream::Output::Failed(KeError::Eof("next request")));
    // A member that does not answer.
    let mut link = Link::ready(&pki, member(&pki));
    link.upstream.ask(PoolRequest::Support(ALL_LISTS), TOKEN, SOON).unwrap();
    link.upstream.handle_timeout(SOON);
    assert_eq!(link.said(), upstream::Output::Failed(KeError::Timeout("the member's answer")));
    // A balancer that finds no answer in time tells the user.
    let users = Arc::new(pki.server(USERS_NAME));
    let mut user = user(&pki, &AeadAlgorithm::ALL);
    let mut session = UserSession::new(users, START).unwrap();
    ask_user(&mut user, &mut session);
    session.handle_timeout(session.final_deadline());
    assert_eq!(finish(&mut user, &mut session).unwrap_err(), KeError::Refused(ErrorCode::Internal));
}

#[test]
fn a_pool_is_no_user_of_another() {
    let pki = Pki::new();
    let mut upstream = UpstreamSession::new(&pki.client(), USERS_NAME, &[], GOOD, SOON).unwrap();
    let users = pki.server(USERS_NAME).with_gate(Some(Arc::new(OneToken)));
    let mut session = UserSession::new(Arc::new(users), START).unwrap();
    for _ in 0..100 {
        match upstream.poll_output() {
            upstream::Output::Transmit(bytes) => session.handle_input(START, &bytes),
            upstream::Output::Ready => upstream.ask(PoolRequest::Support(ALL_LISTS), TOKEN, SOON).unwrap(),
            upstream::Output::Failed(error) => {
                return assert_eq!(error, KeError::Refused(ErrorCode::UnrecognizedCritical));
            }
            upstream::Output::Answered(_) | upstream::Output::Timeout(..) => {}
        }
        if let UserOutput::Transmit(bytes) = session.poll_output() {
            upstream.handle_input(START, &bytes);
        }
    }
    panic!("no answer");
}
