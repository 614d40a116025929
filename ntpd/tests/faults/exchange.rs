//! Key exchanges that fail.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use ntp_proto::nts::Keyring;
use ntpd::ke::pair::Identity;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::world::{
    Authority, Exchange, GOOD_YEARS, Place, eventually, nts_entry, plain_entry, plain_server, tcp_server, time_server,
};

fn keyring(seed: u8) -> Keyring {
    Keyring::new(&[seed; Keyring::KEY_LEN])
}

/// The one NTS server says why it is of no use, in `sources`, in `tracking` and once in the log.
fn says(place: &Place, port: u16, words: &str) {
    place.configure(&nts_entry(port));
    let daemon = place.start();
    let row = daemon.reason("127.0.0.1", words);
    let reason = row["reason"].as_str().unwrap();
    assert!(!reason.starts_with("127.0.0.1"), "the name stands beside it: {reason}");
    let tracking = daemon.json(&["tracking"]);
    assert!(tracking["reason"].as_str().unwrap().contains(words), "{tracking}");
    assert_eq!(daemon.log().matches(words).count(), 1, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn certificates_that_do_not_fit_are_told_apart() {
    let place = Place::new("");
    let authority = Authority::new(&place);
    let (stranger, _) = Authority::unknown();
    for (issuer, name, years, words) in [
        (&authority, "other.test", GOOD_YEARS, "certificate is not for 127.0.0.1 but for other.test"),
        (&authority, "127.0.0.1", (2000, 2001), "certificate expired on 2001-01-01T00:00:00Z"),
        (&authority, "127.0.0.1", (2090, 2100), "certificate not valid before 2090-01-01T00:00:00Z"),
        (&stranger, "127.0.0.1", GOOD_YEARS, "certificate signed by an unknown issuer"),
    ] {
        let exchange = Exchange::start(issuer.issue(&place, name, years), keyring(1));
        says(&place, exchange.port(), words);
        assert_eq!(exchange.completed(), 0);
    }
}

#[test]
fn a_port_that_nobody_listens_to_is_named() {
    let place = Place::new("");
    Authority::new(&place);
    let port = crate::world::reserved_port();
    says(&place, port, &format!("nobody listens at TCP port {port}"));
}

#[test]
fn an_exchange_that_stalls_ends() {
    let place = Place::new("");
    Authority::new(&place);
    let mut held = Vec::new();
    let port = tcp_server(move |stream| held.push(stream));
    says(&place, port, "key exchange stalled");
}

#[test]
fn an_exchange_that_is_no_tls_ends() {
    let place = Place::new("");
    Authority::new(&place);
    let port = tcp_server(|stream| {
        let mut stream = stream.unwrap();
        let _ = stream.write_all(b"220 mail.test ESMTP\r\n");
        let _ = stream.read(&mut [0; 4096]);
    });
    says(&place, port, "peer does not speak TLS");
}

/// TLS as it should be, and then these bytes; how often somebody came.
fn tls_server(identity: &Identity, answer: &'static [u8]) -> (u16, Arc<AtomicUsize>) {
    let chain = CertificateDer::pem_file_iter(&identity.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&identity.private_key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let mut config = config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"ntske/1".to_vec()];
    let (config, count) = (Arc::new(config), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    let port = tcp_server(move |stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        let config = Arc::clone(&config);
        thread::spawn(move || converse(config, stream.unwrap(), answer));
    });
    (port, count)
}

fn converse(config: Arc<ServerConfig>, stream: TcpStream, answer: &[u8]) {
    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    let _ = stream.read(&mut [0; 1024]);
    let _ = stream.write_all(answer);
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

/// Next protocol NTPv4, AES-SIV-CMAC-256, end of message: all that there must be but cookies.
const NO_COOKIES: &[u8] = &[0x80, 1, 0, 2, 0, 0, 0x80, 4, 0, 2, 0, 15, 0x80, 0, 0, 0];
/// A critical record of a type that does not exist.
const GARBAGE: &[u8] = &[0xff, 0xff, 0, 4, 1, 2, 3, 4, 0x80, 0, 0, 0];
/// A record that promises more than comes.
const HALF: &[u8] = &[0x80, 1, 0xff, 0xff, 0, 0];

#[test]
fn answers_that_are_of_no_use_are_told_apart() {
    let place = Place::new("");
    let identity = Authority::new(&place).issue(&place, "127.0.0.1", GOOD_YEARS);
    for (answer, words) in [
        (NO_COOKIES, "response without cookies"),
        (GARBAGE, "critical record of type 32767 that is not served"),
        (HALF, "message ends before End of Message"),
        (b"", "connection closed while waiting for the key-exchange response"),
    ] {
        let (port, count) = tls_server(&identity, answer);
        says(&place, port, words);
        assert_eq!(count.load(Ordering::Relaxed), 1, "it is not asked again at once");
    }
}

/// The way to the time with NTS does not depend on the one without.
#[test]
fn a_plain_server_beside_it_is_explained() {
    let place = Place::new("");
    let identity = Authority::new(&place).issue(&place, "127.0.0.1", GOOD_YEARS);
    let (_plain, address) = plain_server();
    let time = time_server("127.0.0.1:0".parse().unwrap(), Some(keyring(1)));
    let identity = Identity { ntp_port: Some(time.addresses()[0].port()), ..identity };
    let exchange = Exchange::start(identity, keyring(1));
    place.configure(&format!("{}{}", plain_entry(address), nts_entry(exchange.port())));
    let daemon = place.start();
    let tracking = daemon.synchronized();
    assert_ne!(tracking["reference"]["address"], address.to_string(), "{tracking}");

    // Now the authenticated one falls silent: the plain one does not take over, and that is said.
    drop(time);
    let said = eventually("the reason", || {
        let tracking = daemon.json(&["tracking"]);
        let reason = tracking["reason"].as_str().unwrap_or_default().to_owned();
        if reason.contains("not authenticated") { Ok(reason) } else { Err(tracking.to_string()) }
    });
    assert!(said.contains("does not answer"), "{said}");
    daemon.stop();
}

/// Keeping a key exchange from succeeding must not be a way to have unauthenticated time believed.
#[test]
fn a_plain_server_does_not_stand_in_for_one_without_keys() {
    let place = Place::new("");
    Authority::new(&place);
    let (_plain, address) = plain_server();
    // Nobody listens at the discard port.
    place.configure(&format!("{}{}", plain_entry(address), nts_entry(9)));
    let daemon = place.start();
    eventually("measurements of the plain server", || {
        let data = daemon.json(&["ntpdata"]);
        if data["sources"][0]["good"].as_u64() >= Some(6) { Ok(()) } else { Err(data.to_string()) }
    });
    let row = daemon.json(&["sources"])["sources"][0].clone();
    assert_eq!(row["verdict"], "untrusted", "{row}");
    assert_eq!(daemon.json(&["tracking"])["synchronized"], false);
    daemon.stop();
}

/// A server that has forgotten its keys, and no key exchange to be had: the source says both.
#[test]
fn keys_that_cannot_be_renewed_are_explained_at_the_source() {
    let place = Place::new("");
    let identity = Authority::new(&place).issue(&place, "127.0.0.1", GOOD_YEARS);
    let time = time_server("127.0.0.1:0".parse().unwrap(), Some(keyring(1)));
    let port = time.addresses()[0].port();
    let exchange = Exchange::start(Identity { ntp_port: Some(port), ..identity }, keyring(1));
    place.configure(&nts_entry(exchange.port()));
    let daemon = place.start();
    daemon.synchronized();
    let row = daemon.json(&["authdata"])["sources"][0].clone();
    assert_eq!((&row["mode"], row["cookies"].as_u64() > Some(0)), (&"nts".into(), true), "{row}");

    time.set_keyring(Some(keyring(2)));
    drop(exchange);
    daemon.reason("127.0.0.1", "cookie not accepted by the server; nobody listens at TCP port");
    let row = daemon.json(&["authdata"])["sources"][0].clone();
    assert!(row["naks"].as_u64() > Some(0) && row["key-attempts"].as_u64() > Some(0), "{row}");
    assert!(row["note"].as_str().unwrap().starts_with("nobody listens at TCP port"), "{row}");
    daemon.stop();
}
