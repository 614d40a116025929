//! Control clients that misbehave, and configurations that are read again.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::unix::net::UnixStream,
    time::Duration,
};

use nix::sys::signal::Signal;
use ntp_proto::{
    bootstrap::Judgement,
    pool::{KeyExchange, Name},
};
use ntpd::{config::Require, ke::connect::KeyExchanger, now, resolve::Resolver};
use nts_ke::verify::TrustRoots;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::world::{Authority, GOOD_YEARS, Place, eventually, plain_entry, plain_server, reserved_port};

#[test]
fn clients_that_flood_hang_or_send_rubbish_keep_nobody_out() {
    let (_server, address) = plain_server();
    let place = Place::new(&plain_entry(address));
    let daemon = place.start();
    let mut held = Vec::new();
    for number in 0..100_u32 {
        let mut client = UnixStream::connect(place.path("control.sock")).unwrap();
        let text: &[u8] = match number % 5 {
            0 => b"",
            1 => b"{\"command\":",
            2 => b"\0\xff\xfe rubbish\n{}\n[]\n",
            3 => &[b'x'; 100_000],
            _ => b"{\"command\":\"sources\"}\n{\"command\":\"sources\"}\n",
        };
        // It may be turned away in the middle.
        client.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = client.write_all(text);
        held.push(client);
        if number % 10 == 9 {
            assert_eq!(daemon.ctl(&["tracking"]).code, Some(0), "while {number} hold on");
        }
    }
    daemon.synchronized();
    let mut answer = String::new();
    let mut rude = UnixStream::connect(place.path("control.sock")).unwrap();
    rude.write_all(b"rubbish\n").unwrap();
    rude.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("{\"error\":{\"kind\":\"bad-request\""), "{answer}");
    drop(held);
    assert_eq!(daemon.json(&["sources"])["sources"][0]["name"], "127.0.0.1");
    daemon.stop();
}

/// Addresses of all sources.
fn addresses(report: &serde_json::Value) -> Vec<String> {
    let rows = report["sources"].as_array().unwrap();
    rows.iter().map(|row| row["address"].as_str().unwrap_or("none").to_owned()).collect()
}

#[test]
fn a_wrong_configuration_changes_nothing() {
    let (_server, address) = plain_server();
    let place = Place::new(&plain_entry(address));
    let daemon = place.start();
    daemon.synchronized();
    let other = "[[server]]\naddress = \"127.0.0.2:11123\"\n";
    let holder = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    for (text, at, message) in [
        (format!("{other}min-pol = 1\n"), ":3:1: ", "server.min-pol: unknown key (did you mean `min-poll`?)"),
        (format!("{other}[serve]\nlisten = \"{taken}\"\nallow = \"all\"\n"), "", "cannot serve NTP on 127.0.0.1:"),
        (format!("{other}[trust]\ncertificate-file = \"none.pem\"\n"), ":4:20: ", "none.pem: cannot read this file"),
    ] {
        place.configure(&text);
        let answer = daemon.ctl(&["reload"]);
        assert_eq!((answer.code, answer.out.as_str()), (Some(1), ""), "{answer:?}");
        assert!(answer.err.starts_with("ntpctl: configuration not changed: "), "{answer:?}");
        assert!(answer.err.contains(at) && answer.err.contains(message), "{answer:?}");
        daemon.signal(Signal::SIGHUP);
        daemon.logged("configuration not changed: ");
        assert_eq!(addresses(&daemon.json(&["sources"])), [address.to_string()]);
        assert_eq!(daemon.json(&["tracking"])["synchronized"], true);
    }
    place.configure(&(plain_entry(address) + "[clock]\nstep = { threshold = \"2s\" }\n"));
    for _ in 0..2 {
        let answer = daemon.ctl(&["reload"]);
        let expected = "configuration applied; what changes with a restart only: clock.step\n";
        assert_eq!((answer.code, answer.out.as_str()), (Some(0), expected), "{answer:?}");
    }
    place.write("ntpd.toml", plain_entry(address) + "[state]\ndirectory = \"elsewhere\"\n");
    let answer = daemon.ctl(&["reload"]);
    assert!(answer.err.contains("only change with a restart"), "{answer:?}");
    drop(holder);
    daemon.stop();
}

/// Whether the daemon under test serves the time here.
fn serves(address: SocketAddr) -> bool {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket.connect(address).unwrap();
    let mut request = [0; 48];
    (request[0], request[47]) = (0x23, 1);
    let _ = socket.send(&request);
    let mut reply = [0; 100];
    socket.recv(&mut reply).is_ok_and(|length| length == 48 && reply[0] & 7 == 4)
}

#[test]
fn a_right_configuration_is_applied_as_a_whole() {
    let ((_first, a), (_second, b)) = (plain_server(), plain_server());
    let place = Place::new(&plain_entry(a));
    let daemon = place.start();
    daemon.synchronized();
    let [one, two]: [SocketAddr; 2] = [reserved_port(), reserved_port()].map(|port| ([127, 0, 0, 1], port).into());
    let serve = |list: &[SocketAddr]| {
        let list: Vec<String> = list.iter().map(|address| format!("\"{address}\"")).collect();
        format!("[serve]\nlisten = [{}]\nallow = \"all\"\n", list.join(", "))
    };
    for (servers, listen) in [(&[a, b][..], &[one][..]), (&[b], &[one, two]), (&[b, a], &[two]), (&[a], &[])] {
        let entries: String = servers.iter().map(|server| plain_entry(*server)).collect();
        place.configure(&(entries + &if listen.is_empty() { String::new() } else { serve(listen) }));
        let answer = daemon.ctl(&["reload"]);
        assert_eq!((answer.code, answer.out.as_str()), (Some(0), "configuration applied\n"), "{answer:?}");
        let mut wanted: Vec<String> = servers.iter().map(ToString::to_string).collect();
        wanted.sort();
        eventually("the sources", || {
            let mut found = addresses(&daemon.json(&["sources"]));
            found.sort();
            if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
        });
        for address in [one, two] {
            assert_eq!(serves(address), listen.contains(&address), "{address} {listen:?}");
        }
        daemon.synchronized();
    }
    daemon.stop();
}

/// Exchanges keys with the daemon under test.
fn exchange(port: u16, authority: &std::path::Path) -> Result<(), String> {
    let root = CertificateDer::from_pem_file(authority).unwrap();
    let exchanger = KeyExchanger::with_roots(TrustRoots::new(vec![root]).unwrap(), Resolver::system()).unwrap();
    let server = Name::parse("127.0.0.1").or_else(|_| Ok::<_, ()>(Name::from(std::net::IpAddr::from([127, 0, 0, 1]))));
    let question = KeyExchange { server: server.unwrap(), port, addresses: None, validated: false, denied: vec![] };
    let judgement = Judgement::At(now::unix());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let done = runtime.block_on(exchanger.exchange(&question, Require::default(), judgement));
    done.map(drop).map_err(|problem| problem.to_string())
}

#[test]
fn certificates_and_addresses_of_the_nts_server_are_replaced() {
    let place = Place::new("");
    let old = Authority::new(&place);
    old.issue(&place, "127.0.0.1", GOOD_YEARS);
    let (_server, address) = plain_server();
    let [ntp, one, two] = [reserved_port(), reserved_port(), reserved_port()];
    let configure = |list: &str| {
        place.configure(&format!(
            "{}[serve]\nlisten = \"127.0.0.1:{ntp}\"\nallow = \"all\"\n[serve.nts]\nlisten = [{list}]\n\
             certificate = \"chain.pem\"\nprivate-key = \"key.pem\"\n",
            plain_entry(address)
        ));
    };
    configure(&format!("\"127.0.0.1:{one}\""));
    let daemon = place.start();
    exchange(one, &place.path("ca.pem")).unwrap();

    // One address more, while the first one stays.
    configure(&format!("\"127.0.0.1:{one}\", \"127.0.0.1:{two}\""));
    let answer = daemon.ctl(&["reload"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    for port in [one, two] {
        eventually("keys", || exchange(port, &place.path("ca.pem")));
    }

    // A key that does not belong to the certificate changes nothing.
    let (new, pem) = Authority::unknown();
    place.write("new.pem", pem);
    let chain = std::fs::read(place.path("chain.pem")).unwrap();
    new.issue(&place, "127.0.0.1", GOOD_YEARS);
    let fresh = std::fs::read(place.path("chain.pem")).unwrap();
    place.write("chain.pem", chain);
    let answer = daemon.ctl(&["reload"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.err.contains("not the key of the certificate"), "{answer:?}");
    exchange(two, &place.path("ca.pem")).unwrap();

    place.write("chain.pem", fresh);
    daemon.signal(Signal::SIGHUP);
    eventually("the new certificate", || exchange(two, &place.path("new.pem")));
    assert!(exchange(one, &place.path("ca.pem")).unwrap_err().contains("certificate"));
    daemon.stop();
}
