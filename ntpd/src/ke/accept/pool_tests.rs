//! A pool that hands over the keys of its users, over TCP on loopback.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use nts_ke::{
    client::ClientConfig,
    error::{ErrorCode, KeError},
    pool::{FixedKeys, PoolRequest},
    upstream::{ALL_LISTS, Answer, Output, UpstreamSession},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::{
    tests::{NAME, Pki, keyring},
    *,
};

const OLD: &str = "0123456789abcdef0123456789abcdef";
const NEW: &str = "abcdefghijABCDEFGHIJ12";

/// One connection of a pool.
struct Pool {
    stream: TcpStream,
    session: UpstreamSession,
}

impl Pool {
    async fn connect(pki: &Pki, address: SocketAddr) -> Self {
        let config = ClientConfig::new(&pki.roots).unwrap();
        let deadline = now::monotonic() + Duration::from_secs(10);
        let session = UpstreamSession::new(&config, NAME, &[], now::unix(), deadline).unwrap();
        let mut pool = Self { stream: TcpStream::connect(address).await.unwrap(), session };
        assert_eq!(pool.said().await, Output::Ready);
        pool
    }

    async fn ask(&mut self, request: PoolRequest, token: &str) -> Result<Answer, KeError> {
        self.session.ask(request, token, now::monotonic() + Duration::from_secs(10)).unwrap();
        match self.said().await {
            Output::Answered(answer) => Ok(answer),
            Output::Failed(error) => Err(error),
            other @ (Output::Transmit(_) | Output::Ready | Output::Timeout(..)) => panic!("{other:?}"),
        }
    }

    async fn said(&mut self) -> Output {
        let mut piece = [0; 4096];
        loop {
            match self.session.poll_output() {
                Output::Transmit(bytes) => self.stream.write_all(&bytes).await.unwrap(),
                Output::Timeout(..) => match self.stream.read(&mut piece).await {
                    Ok(length @ 1..) => self.session.handle_input(now::monotonic(), &piece[..length]),
                    Ok(0) | Err(_) => self.session.handle_eof(now::monotonic()),
                },
                said @ (Output::Ready | Output::Answered(_) | Output::Failed(_)) => return said,
            }
        }
    }
}

fn keys() -> FixedKeys {
    let key = |octet| Zeroizing::new(vec![octet; 32]);
    FixedKeys { protocol: 0, algorithm: 15, c2s: key(1), s2c: key(2) }
}

fn member(pki: &Pki, tokens: &str) -> KeServer {
    let file = pki.path("tokens");
    fs::write(&file, tokens).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let identity = Identity { pool_tokens: Some(file), ..pki.identity() };
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let options = Options { listen, identity, limits: Limits::default(), deadlines: Deadlines::default() };
    KeServer::start(options, keyring(), Some(now::unix())).unwrap()
}

#[tokio::test]
async fn a_pool_gets_cookies_for_given_keys_over_one_connection() {
    let pki = Pki::new();
    let server = member(&pki, OLD);
    let mut pool = Pool::connect(&pki, server.addresses()[0]).await;
    let Ok(Answer::Support(support)) = pool.ask(PoolRequest::Support(ALL_LISTS), OLD).await else { panic!() };
    assert!(support.keep_alive && support.algorithms.contains(&(15, 32)) && support.servers == ["ntp.test"]);
    for _ in 0..3 {
        let Ok(Answer::Cookies(accepted)) = pool.ask(keys().into(), OLD).await else { panic!() };
        assert_eq!(
            (accepted.server.as_deref(), accepted.port, accepted.keep_alive),
            (Some("ntp.test"), Some(4123), true)
        );
        for cookie in accepted.cookies {
            assert_eq!(keyring().open(cookie.as_bytes()).unwrap().c2s.as_bytes(), [1; 32]);
        }
    }
    // A client of its own is served beside it.
    assert!(pki.exchange(server.addresses()[0]).await.is_ok());
    drop(pool);
    let counters = server.stop().await;
    let expected = KeCounters { accepted: 2, completed: 1, pool_requests: 4, ..KeCounters::default() };
    assert_eq!(counters, expected);
}

#[tokio::test]
async fn tokens_are_changed_with_an_overlap_and_without_a_restart() {
    let pki = Pki::new();
    let server = member(&pki, OLD);
    let address = server.addresses()[0];
    let refused = Err(KeError::Refused(ErrorCode::UnrecognizedCritical));
    assert_eq!(Pool::connect(&pki, address).await.ask(keys().into(), NEW).await, refused);
    for (tokens, good) in [(format!("{OLD}\n{NEW}\n"), [true, true]), (NEW.to_owned(), [false, true])] {
        fs::write(pki.path("tokens"), tokens).unwrap();
        server.reload_if_changed(None).unwrap().unwrap();
        for (token, good) in [OLD, NEW].into_iter().zip(good) {
            let answer = Pool::connect(&pki, address).await.ask(keys().into(), token).await;
            assert_eq!(answer.is_ok(), good, "{answer:?}");
        }
    }
    fs::write(pki.path("tokens"), "short\n").unwrap();
    let error = server.reload_if_changed(None).unwrap().unwrap_err().to_string();
    assert!(error.contains("tokens: line 1: not a token") && !error.contains("short"), "{error}");
    assert!(Pool::connect(&pki, address).await.ask(keys().into(), NEW).await.is_ok(), "the last good tokens stay");
    fs::set_permissions(pki.path("tokens"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(pki.path("tokens"), NEW).unwrap();
    assert!(server.reload_if_changed(None).unwrap().unwrap_err().to_string().contains("everybody may read"));
}

#[tokio::test]
async fn a_kept_connection_does_not_outlive_the_token_it_was_opened_with() {
    let pki = Pki::new();
    let server = member(&pki, OLD);
    let mut pool = Pool::connect(&pki, server.addresses()[0]).await;
    assert!(pool.ask(keys().into(), OLD).await.is_ok());
    fs::write(pki.path("tokens"), NEW).unwrap();
    server.reload_if_changed(None).unwrap().unwrap();
    let refused = Err(KeError::Refused(ErrorCode::UnrecognizedCritical));
    assert_eq!(pool.ask(keys().into(), OLD).await, refused);
    // One that waits is closed too, so that nobody sends keys into it.
    let mut idle = Pool::connect(&pki, server.addresses()[0]).await;
    assert!(idle.ask(keys().into(), NEW).await.is_ok());
    fs::write(pki.path("tokens"), format!("{NEW}\n{OLD}\n")).unwrap();
    server.reload_if_changed(None).unwrap().unwrap();
    assert!(matches!(idle.said().await, Output::Failed(KeError::Eof(_))));
}

#[tokio::test]
async fn a_request_on_its_way_while_tokens_change_is_answered_if_its_own_is_still_good() {
    let pki = Pki::new();
    let server = member(&pki, OLD);
    let mut pool = Pool::connect(&pki, server.addresses()[0]).await;
    let Ok(Answer::Cookies(first)) = pool.ask(keys().into(), OLD).await else { panic!() };
    assert!(first.keep_alive);
    fs::write(pki.path("tokens"), format!("{OLD}\n{NEW}\n")).unwrap();
    server.reload_if_changed(None).unwrap().unwrap();
    let Ok(Answer::Cookies(last)) = pool.ask(keys().into(), OLD).await else { panic!() };
    assert!(!last.keep_alive && last.cookies.len() == first.cookies.len(), "and then the connection ends");
}
