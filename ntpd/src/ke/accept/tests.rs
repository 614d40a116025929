//! Whole key exchanges over TCP on loopback.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ntp_proto::{
    bootstrap::Judgement,
    nts::{AeadAlgorithm, Cookie, SealRequest, SessionKeys, open_reply, seal_request},
    server::{Access, AccessTable, Prefix},
};
use nts_ke::{
    client::{self, ClientConfig, ClientSession, Established, Order},
    message::MAX_COOKIES,
    server::InvalidPair,
    verify::TrustRoots,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::sleep,
};

use super::*;
use crate::{
    serve::{Server, Settings, keys::CookieKeys},
    state::StateDirectory,
};

pub(super) const NAME: &str = "ke.test";

/// A directory with a certificate and key, and the roots that lead to them.
pub(super) struct Pki {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    pub(super) roots: TrustRoots,
}

impl Pki {
    pub(super) fn new() -> Self {
        let mut parameters = CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = parameters.self_signed(&key).unwrap();
        let roots = TrustRoots::new(vec![ca.der().clone()]).unwrap();
        let pki = Self { directory: TempDir::new().unwrap(), issuer: Issuer::new(parameters, key), roots };
        pki.issue(2040);
        pki
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a new pair that ends with `year`.
    fn issue(&self, year: i32) {
        let (certificate, key) = self.pair(year);
        fs::write(self.path("chain.pem"), certificate).unwrap();
        self.write_key(&key);
    }

    fn write_key(&self, text: &str) {
        fs::write(self.path("key.pem"), text).unwrap();
        fs::set_permissions(self.path("key.pem"), fs::Permissions::from_mode(0o640)).unwrap();
    }

    fn pair(&self, year: i32) -> (String, String) {
        let mut parameters = CertificateParams::new(vec![NAME.into()]).unwrap();
        parameters.not_after = date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().unwrap();
        (parameters.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    pub(super) fn identity(&self) -> Identity {
        Identity {
            certificate: self.path("chain.pem"),
            private_key: self.path("key.pem"),
            ntp_server: Some("ntp.test".into()),
            ntp_port: Some(4123),
            aeads: AeadAlgorithm::ALL.to_vec(),
            pool_tokens: None,
        }
    }

    fn start(&self, limits: Limits, deadlines: Deadlines) -> KeServer {
        let listen = ["127.0.0.1:0", "[::1]:0"].map(|text| text.parse().unwrap()).to_vec();
        let options = Options { listen, identity: self.identity(), limits, deadlines };
        KeServer::start(options, keyring(), Some(now::unix())).unwrap()
    }

    fn session(&self) -> ClientSession {
        let order = Order {
            server: NAME,
            algorithms: &[AeadAlgorithm::AesSivCmac256],
            tlsa: &[],
            denied: &[],
            judgement: Judgement::At(now::unix()),
            deadline: now::monotonic() + Duration::from_secs(10),
        };
        ClientSession::new(&ClientConfig::new(&self.roots).unwrap(), &order).unwrap()
    }

    pub(super) async fn exchange(&self, address: SocketAddr) -> Result<Box<Established>, String> {
        self.exchange_in_pieces(address, usize::MAX).await
    }

    /// A client that sends at most `size` bytes at a time.
    async fn exchange_in_pieces(&self, address: SocketAddr, size: usize) -> Result<Box<Established>, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        self.exchange_over(stream, size).await
    }

    async fn exchange_over(&self, mut stream: TcpStream, size: usize) -> Result<Box<Established>, String> {
        stream.set_nodelay(true).unwrap();
        let mut session = self.session();
        loop {
            match session.poll_output() {
                client::Output::Transmit(bytes) => {
                    for piece in bytes.chunks(size) {
                        stream.write_all(piece).await.map_err(|error| error.to_string())?;
                        yield_now().await;
                    }
                    continue;
                }
                client::Output::Done(established) => return Ok(established),
                client::Output::Failed(error, _) => return Err(error.to_string()),
                client::Output::Timeout(_, _) => {}
            }
            let mut piece = [0; 4096];
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => session.handle_eof(now::monotonic()),
                Ok(length) => session.handle_input(now::monotonic(), &piece[..length]),
            }
        }
    }
}

pub(super) fn keyring() -> Keyring {
    Keyring::new(&[3; 32])
}

fn quick() -> Deadlines {
    let [hello, handshake, request, total] = [100, 200, 300, 500].map(Duration::from_millis);
    Deadlines { hello, handshake, request, total, idle: total }
}

fn patient() -> Deadlines {
    let [hello, handshake, request, total] = [60; 4].map(Duration::from_secs);
    Deadlines { hello, handshake, request, total, idle: total }
}

/// Waits until the server says so, five seconds at most.
async fn eventually(server: &KeServer, what: impl Fn(&KeServer) -> bool) {
    let started = Instant::now();
    while !what(server) {
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}, {} open", server.counters(), server.open());
        sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until the server closes; returns how long that took.
async fn closed(stream: &mut TcpStream) -> Duration {
    let started = Instant::now();
    let mut piece = [0; 4096];
    while let Ok(1..) = stream.read(&mut piece).await {}
    started.elapsed()
}

#[tokio::test]
async fn who_would_wait_too_long_is_refused_at_once() {
    let pki = Pki::new();
    let server = pki.start(Limits::default(), patient());
    let address = server.addresses()[0];
    // Turns cost a second each, so far.
    let start = now::monotonic();
    let waiting = server.shared.pressure().handle_admitted(start);
    server.shared.pressure().handle_turn(start + Duration::from_secs(1), &waiting);
    // Both have come before the server looks.
    let both = [(); 2].map(|()| std::net::TcpStream::connect(address).unwrap());
    eventually(&server, |server| server.counters().refused_busy == 1).await;
    assert_eq!((server.counters().accepted, server.open()), (1, 1), "where nobody waits, one is taken");
    drop(both);
    // And turns are cheap now.
    eventually(&server, |server| server.open() == 0).await;
    for _ in 0..3 {
        assert!(pki.exchange(address).await.is_ok());
    }
    let counters = server.stop().await;
    assert_eq!((counters.completed, counters.refused_busy), (3, 1));
}

#[tokio::test]
async fn clients_of_both_families_get_keys_and_cookies_that_open() {
    let pki = Pki::new();
    let server = pki.start(Limits::default(), Deadlines::default());
    for address in server.addresses() {
        let established = pki.exchange(address).await.unwrap();
        assert_eq!(established.cookies.len(), MAX_COOKIES);
        assert_eq!((established.server.as_deref(), established.port), (Some("ntp.test"), Some(4123)));
        for cookie in &established.cookies {
            let keys = keyring().open(cookie.as_bytes()).unwrap();
            assert_eq!(keys.c2s.as_bytes(), established.keys.c2s.as_bytes());
            assert_eq!(keys.s2c.as_bytes(), established.keys.s2c.as_bytes());
        }
    }
    let mut rotated = keyring();
    rotated.rotate(&[4; 32]);
    server.set_keyring(rotated.clone());
    let established = pki.exchange(server.addresses()[0]).await.unwrap();
    assert!(keyring().open(established.cookies[0].as_bytes()).is_err());
    assert!(rotated.open(established.cookies[0].as_bytes()).is_ok());
    eventually(&server, |server| server.open() == 0).await;
    let counters = server.stop().await;
    assert_eq!(counters, KeCounters { accepted: 3, completed: 3, ..KeCounters::default() });
}

#[tokio::test]
async fn cookies_are_good_at_the_ntp_server_and_after_a_restart_and_a_rotation() {
    let pki = Pki::new();
    let state = StateDirectory::open(&pki.path("state")).unwrap();
    let mut access = AccessTable::new();
    access.add(Prefix::ALL_V4, Access::Allow).unwrap();
    let day = |day: i64| UnixTime { seconds: 2_000_000_000 + 86_400 * day, nanos: 0 };
    let start = |day: UnixTime| {
        let (mut keys, complaint) = CookieKeys::load(&state, day).unwrap();
        assert!(complaint.is_none());
        let tended = keys.tend(Some(&state), day).unwrap();
        assert!(tended.complaint.is_none());
        let settings = Settings::new(access.clone()).with_keyring(Some(keys.keyring().clone()));
        let ntp = Server::start(&["127.0.0.1:0".parse().unwrap()], 2, settings, Arc::default()).unwrap();
        let ke = pki.start(Limits::default(), Deadlines::default());
        ke.set_keyring(keys.keyring().clone());
        (ntp, ke)
    };
    let (ntp, ke) = start(day(0));
    let established = pki.exchange(ke.addresses()[0]).await.unwrap();
    let cookies_from = |ntp: &Server, cookie: &Cookie| {
        let mut request = vec![0; 1200];
        request[0] = 4 << 3 | 3;
        let unique_id = &[9; 32];
        let SessionKeys { c2s, s2c } = &established.keys;
        let seal = SealRequest { unique_id, cookie: cookie.as_bytes(), placeholders: 1, key: c2s, nonce: &[5; 16] };
        let len = seal_request(&mut request, 48, &seal).unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send_to(&request[..len], ntp.addresses()[0]).unwrap();
        let len = socket.recv(&mut request).unwrap();
        open_reply(&mut request[..len], unique_id, s2c).map(|reply| reply.cookies().count())
    };
    assert_eq!(cookies_from(&ntp, &established.cookies[0]), Ok(2));
    drop((ntp, ke));
    let (ntp, _ke) = start(day(1));
    assert_eq!(cookies_from(&ntp, &established.cookies[1]), Ok(2));
    assert_eq!(ntp.stop().replies_nts_nak, 0);
}

#[tokio::test]
async fn one_byte_at_a_time_is_served_too() {
    let pki = Pki::new();
    let server = pki.start(Limits::default(), Deadlines::default());
    let established = pki.exchange_in_pieces(server.addresses()[0], 1).await.unwrap();
    assert_eq!(established.cookies.len(), MAX_COOKIES);
    assert_eq!(server.stop().await.completed, 1);
}

#[tokio::test]
async fn the_silent_and_the_slow_meet_the_deadline_and_others_do_not_wait_for_them() {
    let pki = Pki::new();
    let server = pki.start(Limits::default(), quick());
    let address = server.addresses()[0];
    let mut silent = TcpStream::connect(address).await.unwrap();
    let slow = TcpStream::connect(address).await.unwrap();
    let (mut slow_in, mut slow_out) = slow.into_split();
    let dribble = tokio::spawn(async move {
        // The beginning of a TLS record that is never completed.
        for byte in [22, 3, 1, 2, 0, 1, 0, 1].into_iter().chain(std::iter::repeat(0)) {
            if slow_out.write_all(&[byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(pki.exchange(address).await.is_ok());
    assert!(closed(&mut silent).await < Duration::from_secs(5));
    let mut piece = [0; 100];
    while let Ok(1..) = slow_in.read(&mut piece).await {}
    drop(slow_in);
    dribble.await.unwrap();
    eventually(&server, |server| server.open() == 0).await;
    let counters = server.stop().await;
    assert_eq!((counters.completed, counters.failed_handshake), (1, 2));
}

#[tokio::test]
async fn garbage_and_other_protocols_are_turned_away() {
    let pki = Pki::new();
    let server = pki.start(Limits::default(), Deadlines::default());
    let noise: Vec<u8> = (0..5_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &noise, &[22, 3, 1, 0xff, 0xff], &[0; 100]] {
        let mut stream = TcpStream::connect(server.addresses()[1]).await.unwrap();
        // It may close before all is sent.
        let _ = stream.write_all(bytes).await;
        assert!(closed(&mut stream).await < Duration::from_secs(5));
    }
    assert!(pki.exchange(server.addresses()[1]).await.is_ok());
    eventually(&server, |server| server.open() == 0).await;
    let counters = server.stop().await;
    assert_eq!((counters.completed, counters.failed_handshake, counters.failed_request), (1, 4, 0));
}

#[tokio::test]
async fn limits_hold_and_places_are_given_back() {
    let pki = Pki::new();
    let limits = Limits { limit_loopback: true, ..Limits::default() };
    let server = pki.start(limits, patient());
    let address = server.addresses()[0];
    let mut idle = Vec::new();
    for _ in 0..6 {
        // A refusal may come so fast that connecting fails.
        idle.push(TcpStream::connect(address).await);
    }
    eventually(&server, |server| server.counters().refused_peer == 2).await;
    assert_eq!(server.open(), 4);
    assert!(pki.exchange(address).await.is_err());
    // Another family, another host.
    assert!(pki.exchange(server.addresses()[1]).await.is_ok());
    idle.clear();
    eventually(&server, |server| server.open() == 0).await;
    assert!(pki.exchange(address).await.is_ok());
    let counters = server.stop().await;
    assert_eq!((counters.accepted, counters.refused_peer, counters.completed), (6, 3, 2));
}

#[tokio::test]
async fn a_crowd_of_the_idle_does_not_keep_clients_out() {
    let pki = Pki::new();
    let server = pki.start(Limits { total: 20, ..Limits::default() }, patient());
    let address = server.addresses()[0];
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    eventually(&server, |server| server.counters().accepted == 40).await;
    assert_eq!((server.counters().evicted, server.open()), (24, 16));
    assert!(closed(&mut idle[0]).await < Duration::from_secs(5), "the oldest was closed");
    for _ in 0..5 {
        assert!(pki.exchange(address).await.is_ok());
    }
    assert_eq!(server.counters().refused_full, 0);
    assert_eq!(server.stop().await.completed, 5);
    assert!(closed(&mut idle[39]).await < Duration::from_secs(5), "stopping closes all");
}

#[tokio::test]
async fn a_new_pair_is_used_once_it_fits_and_the_old_one_until_then() {
    let pki = Pki::new();
    let server = pki.start(Limits::default(), Deadlines::default());
    let address = server.addresses()[0];
    let judged_at = || Some(now::unix());
    let first = server.validity();
    assert!(server.reload_if_changed(judged_at()).is_none());

    // First the certificate is replaced, then the key, as tools do.
    let (certificate, key) = pki.pair(2041);
    fs::write(pki.path("chain.pem"), &certificate).unwrap();
    let error = server.reload_if_changed(judged_at()).unwrap().unwrap_err();
    let directory = pki.directory.path().display();
    assert_eq!(
        error.to_string(),
        format!("{directory}/key.pem: not the private key of the first certificate in {directory}/chain.pem")
    );
    assert!(server.reload_if_changed(judged_at()).is_none(), "complained of once");
    assert_eq!((server.validity(), pki.exchange(address).await.is_ok()), (first, true));
    pki.write_key(&key);
    let second = server.reload_if_changed(judged_at()).unwrap().unwrap();
    assert!(second.not_after > first.not_after);
    assert_eq!(pki.exchange(address).await.unwrap().chain.unwrap().window.not_after, second.not_after.seconds);
    assert_eq!(server.stop().await.failed_handshake, 0);
}

#[tokio::test]
async fn every_fault_of_an_identity_names_its_file_and_changes_nothing() {
    let pki = Pki::new();
    let server = pki.start(Limits::default(), Deadlines::default());
    let good = pki.identity();
    let write = |name: &str, text: &str, mode: u32| -> PathBuf {
        fs::write(pki.path(name), text).unwrap();
        fs::set_permissions(pki.path(name), fs::Permissions::from_mode(mode)).unwrap();
        pki.path(name)
    };
    let (certificate, key) = pki.pair(2041);
    let (expired, expired_key) = pki.pair(2001);
    let with_certificate = |file: &Path| Identity { certificate: file.to_path_buf(), ..pki.identity() };
    let with_key = |file: &Path| Identity { private_key: file.to_path_buf(), ..pki.identity() };
    for (identity, expected) in [
        (with_certificate(&pki.path("none")), "none: No such file or directory (os error 2)"),
        (with_certificate(&write("empty", "", 0o644)), "empty: no certificate"),
        (with_certificate(&write("cut", &certificate[..200], 0o644)), "cut: not well-formed PEM"),
        (with_certificate(&write("long", &certificate.repeat(3_000), 0o644)), "long: longer than 1048576 octets"),
        (with_key(&write("cert.pem", &certificate, 0o600)), "cert.pem: no private key"),
        (
            with_key(&write("open.pem", &key, 0o644)),
            "open.pem: everybody may read or write this secret, so it is not used",
        ),
        (with_key(&write("cut.pem", &key[..100], 0o600)), "cut.pem: not well-formed PEM"),
        (
            Identity {
                certificate: write("old", &expired, 0o644),
                private_key: write("old.pem", &expired_key, 0o600),
                ..pki.identity()
            },
            "old: ",
        ),
        (
            Identity { ntp_server: Some("not a name".into()), ..pki.identity() },
            "NTP server to announce: \"not a name\" is neither a host name nor an address",
        ),
    ] {
        let error = server.reload(identity, Some(now::unix())).unwrap_err();
        let text = error.to_string().replace(&format!("{}/", pki.directory.path().display()), "");
        assert!(text.starts_with(expected), "{text}");
        if expected == "old: " {
            assert!(matches!(error, IdentityError::Certificate(_, InvalidPair::Expired(_))), "{error:?}");
        }
    }
    assert!(pki.exchange(server.addresses()[0]).await.is_ok());
    server.reload(good, None).unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let pki = Pki::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let options = |listen| Options {
        listen,
        identity: pki.identity(),
        limits: Limits::default(),
        deadlines: Deadlines::default(),
    };
    let error = KeServer::start(options(vec![address]), keyring(), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot serve NTS key exchange on {address}: another program uses this port")
    );
    let error = KeServer::start(options(Vec::new()), keyring(), None).unwrap_err();
    assert_eq!(error.to_string(), "no address to serve NTS key exchange on");
    fs::remove_file(pki.path("key.pem")).unwrap();
    let error = KeServer::start(options(vec!["127.0.0.1:0".parse().unwrap()]), keyring(), None).unwrap_err();
    assert!(matches!(error, StartError::Identity(IdentityError::File(_, _))), "{error}");
}

#[tokio::test]
async fn sessions_under_way_outlive_other_addresses_and_the_end_of_serving() {
    let pki = Pki::new();
    let server = pki.start(Limits::default(), Deadlines::default());
    let old = server.addresses();
    let begin = async |address, accepted| {
        let stream = TcpStream::connect(address).await.unwrap();
        eventually(&server, |server| server.counters().accepted == accepted).await;
        stream
    };
    let early = begin(old[0], 1).await;

    let anywhere = ["127.0.0.1:0".parse().unwrap()];
    server.listen_at(Listeners::bind(&[&anywhere[..], &old[1..]].concat(), Some(&server.listeners())).unwrap());
    let new = server.addresses();
    assert_eq!((new.len(), new[1]), (2, old[1]), "an address that is kept stays bound");
    let late = begin(new[0], 2).await;
    assert!(pki.exchange_over(early, usize::MAX).await.is_ok(), "the session of the old address goes on");
    let refused = Instant::now();
    while TcpStream::connect(old[0]).await.is_ok() {
        assert!(refused.elapsed() < Duration::from_secs(5), "the old address still takes connections");
    }
    assert!(pki.exchange(new[1]).await.is_ok());

    server.retire();
    assert!(pki.exchange_over(late, usize::MAX).await.is_ok(), "the last session comes to its end");
    assert!(TcpStream::connect(new[0]).await.is_err());
}

#[tokio::test]
async fn a_retired_server_waits_for_no_client_longer_than_its_deadline() {
    let pki = Pki::new();
    let server = pki.start(Limits::default(), quick());
    let mut idle = TcpStream::connect(server.addresses()[0]).await.unwrap();
    eventually(&server, |server| server.open() == 1).await;
    server.retire();
    assert!(closed(&mut idle).await < Duration::from_secs(5));
}

#[tokio::test]
async fn only_the_algorithms_of_the_configuration_are_given() {
    let pki = Pki::new();
    let server = pki.start(Limits::default(), Deadlines::default());
    server.reload(Identity { aeads: vec![AeadAlgorithm::AesSivCmac512], ..pki.identity() }, None).unwrap();
    let error = pki.exchange(server.addresses()[0]).await.unwrap_err();
    assert!(error.contains("no common AEAD algorithm"), "{error}");
}
