//! Changing what is served.

use std::{
    fs,
    net::{SocketAddr, TcpStream, UdpSocket},
    path::PathBuf,
};

use ntp_proto::nts::{AeadAlgorithm, AeadKey, SessionKeys};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;

/// A folder with a certificate and its key.
struct Files(TempDir);

impl Files {
    fn new(year: i32) -> Self {
        let files = Self(TempDir::new().unwrap());
        let mut parameters = CertificateParams::new(vec!["ke.test".to_owned()]).unwrap();
        parameters.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        fs::write(files.certificate(), parameters.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(files.key(), key.serialize_pem()).unwrap();
        fs::set_permissions(files.key(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        files
    }

    fn certificate(&self) -> PathBuf {
        self.0.path().join("chain.pem")
    }

    fn key(&self) -> PathBuf {
        self.0.path().join("key.pem")
    }

    fn secret(&self, text: &str) -> PathBuf {
        let file = self.0.path().join("secret");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        file
    }

    fn config(&self, ntp: SocketAddr, exchange: SocketAddr) -> Config {
        let text = format!(
            "[serve]\nlisten = \"{ntp}\"\nallow = \"all\"\nthreads = 2\n\
             [serve.nts]\nlisten = \"{exchange}\"\ncertificate = {:?}\nprivate-key = {:?}\n",
            self.certificate(),
            self.key()
        );
        Config::parse("test", &text).unwrap()
    }
}

/// Addresses that were free a moment ago.
fn free() -> (SocketAddr, SocketAddr) {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    (udp, tcp)
}

fn start(config: &Config) -> Serving {
    Serving::start(config, &[], None, Arc::new(StatusCell::default())).unwrap()
}

fn year(serving: &Serving) -> i64 {
    let seconds = serving.exchange.as_ref().unwrap().validity().not_after.seconds;
    1970 + seconds / 31_556_952
}

#[tokio::test]
async fn what_cannot_be_had_as_a_whole_changes_nothing() {
    let (files, broken) = (Files::new(2040), Files::new(2041));
    let (ntp, exchange) = free();
    let mut serving = start(&files.config(ntp, exchange));
    let (other_ntp, other_exchange) = free();
    let wanted = broken.config(other_ntp, other_exchange);

    fs::remove_file(broken.key()).unwrap();
    let error = serving.prepare(&wanted, &[]).unwrap_err().to_string();
    assert!(error.contains("key.pem"), "{error}");
    let untouched = || {
        assert!(UdpSocket::bind(other_ntp).is_ok(), "no address was kept");
        assert!(TcpStream::connect(other_exchange).is_err());
        assert!(TcpStream::connect(exchange).is_ok(), "what ran goes on");
    };
    untouched();

    // An address that is taken is found out before anything is put in force as well.
    let good = Files::new(2042);
    let holder = UdpSocket::bind(other_ntp).unwrap();
    let error = serving.prepare(&good.config(other_ntp, other_exchange), &[]).unwrap_err().to_string();
    assert!(error.contains("another program uses this port"), "{error}");
    drop(holder);
    untouched();
    assert_eq!(year(&serving), 2040);
    serving.stop();
}

#[tokio::test]
async fn nothing_is_read_again_once_all_is_prepared() {
    let (first, second, third) = (Files::new(2040), Files::new(2041), Files::new(2042));
    let (ntp, exchange) = free();
    let mut serving = start(&first.config(ntp, exchange));
    assert_eq!(year(&serving), 2040);

    // The same addresses, and other ones.
    let (other_ntp, other_exchange) = free();
    for (files, at, expected) in [(second, (ntp, exchange), 2041), (third, (other_ntp, other_exchange), 2042)] {
        let prepared = serving.prepare(&files.config(at.0, at.1), &[]).unwrap();
        drop(files);
        serving.commit(prepared);
        assert_eq!(year(&serving), expected);
        assert_eq!(serving.server.as_ref().unwrap().addresses(), [at.0]);
        assert_eq!(serving.exchange.as_ref().unwrap().addresses(), [at.1]);
    }
    assert!(UdpSocket::bind(ntp).is_ok(), "the old address is free");
    serving.stop();
}

#[tokio::test]
async fn counts_go_on_when_a_server_is_replaced() {
    let files = Files::new(2040);
    let (ntp, exchange) = free();
    let mut serving = start(&files.config(ntp, exchange));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let ask = |at: SocketAddr| {
        let mut request = [0; 48];
        (request[0], request[40]) = (0x23, 1);
        client.send_to(&request, at).unwrap();
        client.recv(&mut request).unwrap();
    };
    ask(ntp);
    let (other_ntp, other_exchange) = free();
    let mut plain = files.config(other_ntp, other_exchange);
    let prepared = serving.prepare(&plain, &[]).unwrap();
    serving.commit(prepared);
    ask(other_ntp);
    // A thread tells what it counted before it waits again, or ends.
    plain.serve = None;
    serving.ended.1.completed = 3;
    let prepared = serving.prepare(&plain, &[]).unwrap();
    serving.commit(prepared);
    assert!(serving.counters().is_none() && serving.key_exchange_counters().is_none(), "nothing is served");
    assert_eq!((serving.ended.0.received, serving.ended.1.completed), (2, 3));
    let prepared = serving.prepare(&files.config(ntp, exchange), &[]).unwrap();
    serving.commit(prepared);
    assert_eq!(serving.counters().unwrap().received, 2);
    assert_eq!(serving.key_exchange_counters().unwrap().completed, 3);
    serving.stop();
}

#[tokio::test]
async fn without_nts_there_are_no_cookie_keys_to_come_back() {
    let files = Files::new(2040);
    let (ntp, exchange) = free();
    let config = files.config(ntp, exchange);
    let mut serving = start(&config);
    assert!(serving.rekey());
    let mut plain = config.clone();
    plain.serve.as_mut().unwrap().nts = None;
    let prepared = serving.prepare(&plain, &[]).unwrap();
    serving.commit(prepared);
    assert!(!serving.rekey(), "NTS is not served");
    serving.tend();
    assert!(serving.server.as_ref().unwrap().settings().keyring().is_none());
    // The listener closes when the task that accepts hears of it.
    tokio::task::yield_now().await;
    let prepared = serving.prepare(&config, &[]).unwrap();
    serving.commit(prepared);
    assert!(serving.rekey() && serving.exchange.is_some());
}

#[tokio::test]
async fn servers_share_cookies_by_a_secret_which_can_be_replaced() {
    let key = |byte| AeadKey::new(AeadAlgorithm::AesSivCmac256, &[byte; 32]).unwrap();
    let session = SessionKeys { c2s: key(1), s2c: key(2) };
    let keyring = |serving: &Serving| serving.server.as_ref().unwrap().settings().keyring().unwrap().clone();
    let takes = |to: &Serving, from: &Serving| {
        let mut cookie = [0; 200];
        let length = keyring(from).issue(&session, &[7; 16], &mut cookie).unwrap();
        keyring(to).open(&cookie[..length]).is_ok()
    };
    let (old, new) = ("0123456789abcdef0123456789abcdef\n", "fedcba9876543210fedcba9876543210\n");
    let mut servers: Vec<(Files, Config, Serving)> = [2040, 2041]
        .map(|year| {
            let (files, (ntp, exchange)) = (Files::new(year), free());
            let plain = files.config(ntp, exchange);
            let mut shared = plain.clone();
            shared.serve.as_mut().unwrap().nts.as_mut().unwrap().cookie_secret = Some(files.secret(old));
            (files, shared, start(&plain))
        })
        .into();
    assert!(!takes(&servers[0].2, &servers[1].2), "each has keys of its own");
    // What is on the disk is taken up server by server, and cookies of all are good at all times.
    for text in [old.to_owned(), format!("{old}{new}"), format!("{new}{old}"), new.to_owned()] {
        for at in 0..servers.len() {
            let (files, config, serving) = &mut servers[at];
            files.secret(&text);
            let prepared = serving.prepare(config, &[]).unwrap();
            serving.commit(prepared);
            let (a, b) = (&servers[0].2, &servers[1].2);
            assert!(text == old || (takes(a, b) && takes(b, a)), "{text}");
        }
        assert!(takes(&servers[0].2, &servers[1].2), "{text}");
    }
    let (files, config, serving) = &mut servers[0];
    assert!(!serving.rekey(), "keys follow the time");
    files.secret("short\n");
    let error = serving.prepare(config, &[]).unwrap_err().to_string();
    assert!(error.contains("secret: line 1: too short; accepted: 32"), "{error}");
    let mut own = config.clone();
    own.serve.as_mut().unwrap().nts.as_mut().unwrap().cookie_secret = None;
    let prepared = serving.prepare(&own, &[]).unwrap();
    serving.commit(prepared);
    assert!(!takes(&servers[0].2, &servers[1].2), "each has keys of its own again");
    servers.into_iter().for_each(|(_, _, mut serving)| serving.stop());
}

#[tokio::test]
async fn an_address_that_overlaps_with_our_own_is_told_as_such() {
    let files = Files::new(2040);
    let (ntp, exchange) = free();
    let wide = |address: SocketAddr| SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), address.port());
    let serving = start(&files.config(ntp, exchange));
    for (config, own) in [(files.config(wide(ntp), exchange), ntp), (files.config(ntp, wide(exchange)), exchange)] {
        let told = serving.prepare(&config, &[]).unwrap_err().to_string();
        assert!(
            told.contains(&format!("we serve {own} on this port already; such a change needs a restart")),
            "{told}"
        );
    }
}

#[test]
fn members_of_a_pool_allow_a_host_more() {
    let nts = |pool_tokens| ServeNts {
        listen: Vec::new(),
        certificate: PathBuf::new(),
        private_key: PathBuf::new(),
        ntp_server: None,
        ntp_port: None,
        pool_tokens,
        cookie_secret: None,
        cookie_period: Duration::from_secs(3600),
    };
    assert_eq!(limits(&nts(None)), Limits::default());
    assert_eq!(limits(&nts(Some("tokens".into()))), Limits::for_members());
}
