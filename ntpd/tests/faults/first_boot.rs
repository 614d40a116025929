//! A daemon whose time nobody has confirmed: what it says, to whom, and how that ends.
//!
//! Two operators are configured. Whatever this machine's clock is worth, one of them is not enough.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use ntp_proto::nts::Keyring;
use ntpd::{ke::pair::Identity, serve::Server};

use crate::world::{
    Authority, Daemon, Exchange, FAST, GOOD_YEARS, Place, eventually, plain_entry, plain_server, reserved_port,
    time_server,
};

/// One operator: a key exchange, and the NTP server behind it.
struct Operator {
    _time: Server,
    _exchange: Exchange,
}

/// An address in a network of its own.
fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, number, 0, 1)
}

impl Operator {
    fn start(place: &Place, authority: &Authority, number: u8, ke_port: u16) -> Self {
        Self::start_as(place, authority, &address(number).to_string(), number, ke_port)
    }

    /// The same under a name.
    fn start_as(place: &Place, authority: &Authority, name: &str, number: u8, ke_port: u16) -> Self {
        let keyring = Keyring::new(&[number; Keyring::KEY_LEN]);
        let time = time_server((address(number), 0).into(), Some(keyring.clone()));
        let identity = authority.issue(place, name, GOOD_YEARS);
        let identity = Identity { ntp_port: Some(time.addresses()[0].port()), ..identity };
        let listen = SocketAddr::from((address(number), ke_port));
        Self { _time: time, _exchange: Exchange::start_at(listen, identity, keyring) }
    }
}

fn configuration(ke_port: u16, serve: u16) -> String {
    let server = |number| {
        let address = address(number);
        format!("[[server]]\naddress = \"{address}\"\nnts = \"require\"\nke-port = {ke_port}\n{FAST}")
    };
    format!(
        "{}{}[trust]\ncertificates = \"file\"\ncertificate-file = \"ca.pem\"\n{}",
        server(1),
        server(2),
        serving(serve)
    )
}

fn serving(port: u16) -> String {
    format!("[serve]\nlisten = \"127.0.0.1:{port}\"\nallow = \"127.0.0.1\"\n")
}

/// The leap indicator that clients are told.
fn leap_indicator(port: u16) -> u8 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut request = [0; 48];
    request[0] = 0x23;
    eventually("a reply", || {
        socket.send_to(&request, (Ipv4Addr::LOCALHOST, port)).unwrap();
        let mut reply = [0; 48];
        match socket.recv(&mut reply) {
            Ok(48) => Ok(reply[0] >> 6),
            other => Err(format!("{other:?}")),
        }
    })
}

fn missing(daemon: &Daemon<'_>, words: &str) {
    eventually(words, || {
        let report = daemon.json(&["tracking"]);
        let missing = report["time"]["missing"].as_str().unwrap_or_default();
        if missing.contains(words) { Ok(()) } else { Err(format!("{report}\n{}", daemon.log())) }
    });
}

#[test]
fn a_time_that_nobody_confirmed_is_neither_followed_nor_passed_on() {
    let place = Place::new("");
    let authority = Authority::new(&place);
    let (ke_port, serve) = (reserved_port(), reserved_port());
    let _first = Operator::start(&place, &authority, 1, ke_port);
    place.configure(&configuration(ke_port, serve));
    let daemon = place.start();
    missing(&daemon, ": 1 of 2 needed");
    let report = daemon.json(&["tracking"]);
    assert_eq!((&report["time"]["state"], &report["synchronized"]), (&"unknown".into(), &false.into()), "{report}");
    assert_eq!(leap_indicator(serve), 3);
    let words = daemon.ctl(&["tracking"]).out;
    assert!(words.contains("\nTime            : unknown; ") && words.contains(": 1 of 2 needed"), "{words}");

    let stepped = daemon.ctl(&["makestep"]);
    assert_eq!(stepped.code, Some(1));
    assert!(stepped.err.contains("the time is not verified"), "{}", stepped.err);
    assert_eq!(daemon.ctl(&["waitsync", "1"]).code, Some(1));
    assert_eq!(daemon.ctl(&["bootstrap", "reset-floor"]).code, Some(0));
    daemon.logged("as an administrator wants it");

    // The other operator is there at last, and is found without a restart.
    let _second = Operator::start(&place, &authority, 2, ke_port);
    assert_eq!(daemon.ctl(&["refresh"]).code, Some(0));
    let report = daemon.synchronized();
    assert_eq!(report["time"]["state"], "verified", "{report}");
    assert!(report["time"]["missing"].is_null(), "{report}");
    assert_eq!(leap_indicator(serve), 0);
    assert!(place.path("state/last-time").exists(), "what is verified is the floor of the next start");
    daemon.stop();
}

#[test]
fn once_needs_a_verified_time() {
    let place = Place::new("");
    let authority = Authority::new(&place);
    let ke_port = reserved_port();
    let _first = Operator::start(&place, &authority, 1, ke_port);
    place.configure(&configuration(ke_port, reserved_port()));
    let ended = place.ntpd(&["once", "-x"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("no time was had in 30.0 s"), "{}", ended.err);
    assert!(ended.err.contains("  the time is not verified: "), "{}", ended.err);
    assert!(ended.err.contains(": 1 of 2 needed"), "{}", ended.err);

    let _second = Operator::start(&place, &authority, 2, ke_port);
    let ended = place.ntpd(&["once", "-x"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.starts_with("clock left alone (-x); it is "), "{}", ended.out);
}

/// Whatever sources without authentication told is not taken back when others are to confirm it; nor is it confirmed by them.
#[test]
fn a_clock_that_plain_sources_kept_is_served_on_after_a_reload() {
    let (_plain, plain) = plain_server();
    let (ke_port, serve) = (reserved_port(), reserved_port());
    let place = Place::new(&(plain_entry(plain) + &serving(serve)));
    let authority = Authority::new(&place);
    let daemon = place.start();
    daemon.synchronized();
    assert_eq!(leap_indicator(serve), 0);

    let _first = Operator::start(&place, &authority, 1, ke_port);
    place.configure(&configuration(ke_port, serve));
    assert_eq!(daemon.ctl(&["reload"]).code, Some(0));
    missing(&daemon, ": 1 of 2 needed");
    let report = daemon.json(&["tracking"]);
    assert_eq!((&report["time"]["state"], &report["synchronized"]), (&"unknown".into(), &true.into()), "{report}");
    assert_eq!(leap_indicator(serve), 0, "{report}");
    assert_eq!(daemon.ctl(&["waitsync", "1"]).code, Some(1), "nobody has confirmed it");
    assert!(!place.path("state/last-time").exists());

    let _second = Operator::start(&place, &authority, 2, ke_port);
    assert_eq!(daemon.ctl(&["refresh"]).code, Some(0));
    assert_eq!(daemon.ctl(&["waitsync", "0", "0", "0", "0.1"]).code, Some(0));
    assert_eq!(daemon.json(&["tracking"])["time"]["state"], "verified");
    eventually("the floor of the next start", || {
        place.path("state/last-time").exists().then_some(()).ok_or_else(|| daemon.log())
    });

    // What plain sources say from now on is verified by nobody.
    place.configure(&(plain_entry(plain) + &serving(serve)));
    assert_eq!(daemon.ctl(&["reload"]).code, Some(0));
    eventually("no time to be verified", || {
        let report = daemon.json(&["tracking"]);
        if report["time"].is_null() && report["synchronized"] == true { Ok(()) } else { Err(report.to_string()) }
    });
    std::fs::remove_file(place.path("state/last-time")).unwrap();
    daemon.stop();
    assert!(!place.path("state/last-time").exists());
}

/// No name server knows these names (RFC 6761).
#[test]
fn servers_that_dns_does_not_know_are_found_by_hints_and_where_they_were() {
    let place = Place::new("");
    let authority = Authority::new(&place);
    let ke_port = reserved_port();
    let name = |number: u8| format!("ke.operator{number}.test");
    let _operators = [1, 2].map(|number| Operator::start_as(&place, &authority, &name(number), number, ke_port));
    let configuration = |hinted: bool| {
        let server = |number| {
            let hints = if hinted { format!("address-hints = \"{}\"\n", address(number)) } else { String::new() };
            let name = name(number);
            format!("[[server]]\naddress = \"{name}\"\nnts = \"require\"\nke-port = {ke_port}\n{hints}{FAST}")
        };
        let trust = "[trust]\ncertificates = \"file\"\ncertificate-file = \"ca.pem\"\n";
        [server(1), server(2), trust.to_owned()].concat()
    };
    place.configure(&configuration(true));
    let daemon = place.start();
    assert_eq!(daemon.synchronized()["time"]["state"], "verified");
    daemon.stop();

    // Keys would do for a restart without any exchange.
    std::fs::remove_file(place.path("state/sources")).unwrap();
    place.configure(&configuration(false));
    let daemon = place.start();
    assert_eq!(daemon.synchronized()["time"]["state"], "verified");
    daemon.stop();
}
