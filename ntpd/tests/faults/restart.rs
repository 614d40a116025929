//! What is kept over a restart, and what becomes of it when the disk does not keep it.

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, UdpSocket},
    os::unix::net::UnixDatagram,
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use ntp_proto::nts::Keyring;
use ntpd::ke::pair::Identity;

use crate::world::{Authority, Exchange, GOOD_YEARS, Place, nts_entry, plain_entry, plain_server, time_server};

const KINDS: [&str; 3] = ["soft-drift", "sources", "pools"];

/// Runs until there is something to save, twice, so that every record has one before it.
fn fill(place: &Place) {
    for _ in 0..2 {
        let daemon = place.start();
        daemon.synchronized();
        daemon.stop();
    }
    assert!(!place.path("control.sock").exists(), "the socket goes with the daemon");
}

#[test]
fn a_damaged_record_is_told_once_and_the_one_before_it_is_used() {
    let (_server, address) = plain_server();
    let place = Place::new(&plain_entry(address));
    fill(&place);
    let drift = place.path("state/soft-drift");
    let whole = fs::read(&drift).unwrap();
    for damaged in [&whole[..whole.len() / 2], &vec![0; whole.len()], b"", &[0xff; 5_000]] {
        fs::write(place.path("log"), "").unwrap();
        fs::write(&drift, damaged).unwrap();
        let daemon = place.start();
        daemon.synchronized();
        let told = daemon.log().matches("state/soft-drift: damaged, the previous record is used").count();
        assert_eq!(told, 1, "{}", daemon.log());
        daemon.crash();
        assert!(place.path("state/soft-drift.old").exists(), "the good one is not pushed out");
    }
    let daemon = place.start();
    daemon.synchronized();
    daemon.stop();
    fs::write(place.path("log"), "").unwrap();
    let daemon = place.start();
    assert!(!daemon.log().contains("damaged"), "it was replaced: {}", daemon.log());
    daemon.stop();
}

/// A run that leaves the clock alone learns how the clock runs as it is steered, which says nothing of the machine's own.
#[test]
fn a_run_with_x_leaves_the_machines_drift_alone() {
    let (_server, address) = plain_server();
    let place = Place::new(&plain_entry(address));
    fill(&place);
    let (soft, drift) = (place.path("state/soft-drift"), place.path("state/drift"));
    assert!(soft.exists() && !drift.exists());
    fs::remove_file(&soft).unwrap();
    fs::remove_file(place.path("state/soft-drift.old")).unwrap();
    // 400 ppm would show.
    let payload = "{\"frequency-ppm\":400.0,\"skew-ppm\":0.1}";
    let header = format!("ntpd-state 1 drift {} {:08x}\n", payload.len(), crc32fast::hash(payload.as_bytes()));
    place.write("state/drift", format!("{header}{payload}\n"));
    let before = fs::read(&drift).unwrap();
    let daemon = place.start();
    let tracking = daemon.synchronized();
    let frequency = tracking["frequency-ppm"].as_f64().unwrap();
    assert!(frequency.abs() < 300.0, "{tracking}");
    daemon.stop();
    assert_eq!(fs::read(&drift).unwrap(), before);
}

#[test]
fn without_any_record_it_starts_afresh() {
    let (_server, address) = plain_server();
    let place = Place::new(&plain_entry(address));
    fill(&place);
    for kind in KINDS {
        for name in [kind.to_owned(), format!("{kind}.old"), format!("{kind}.new")] {
            fs::write(place.path("state").join(name), [0; 4096]).unwrap();
        }
    }
    fs::write(place.path("log"), "").unwrap();
    let daemon = place.start();
    daemon.synchronized();
    for kind in KINDS {
        let words = format!("state/{kind}: damaged, starting without it");
        assert_eq!(daemon.log().matches(&words).count(), 1, "{}", daemon.log());
    }
    daemon.stop();
}

#[test]
fn a_state_directory_that_cannot_be_used_is_told_and_done_without() {
    let (_server, address) = plain_server();
    let place = Place::new(&plain_entry(address));
    place.write("state", "a file where the directory should be");
    let daemon = place.start();
    daemon.synchronized();
    daemon.logged("nothing will be kept over a restart");
    daemon.stop();
}

/// Cookies that were seen on the way to the server; one that came twice is in the second list.
#[derive(Default)]
struct Cookies {
    seen: BTreeSet<Vec<u8>>,
    again: Vec<Vec<u8>>,
}

/// The cookies of a request (RFC 8915 section 5.4, type 0x0204).
fn cookies(request: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = request.get(48..).unwrap_or_default();
    while let Some((&[a, b, c, d], body)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([c, d]));
        let Some(body) = length.checked_sub(4).and_then(|length| body.get(..length)) else { break };
        if [a, b] == [2, 4] {
            found.push(body.to_vec());
        }
        rest = &rest[length..];
    }
    found
}

/// Carries packets to a server and back, and looks at them.
fn relay(server: SocketAddr) -> (u16, Arc<Mutex<Cookies>>) {
    let front = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = front.local_addr().unwrap().port();
    let back = UdpSocket::bind("127.0.0.1:0").unwrap();
    back.connect(server).unwrap();
    back.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let all = Arc::new(Mutex::new(Cookies::default()));
    let noted = Arc::clone(&all);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = front.recv_from(&mut buffer) {
            for cookie in cookies(&buffer[..length]) {
                let mut noted = noted.lock().unwrap();
                if !noted.seen.insert(cookie.clone()) {
                    noted.again.push(cookie);
                }
            }
            let _ = back.send(&buffer[..length]);
            if let Ok(length) = back.recv(&mut buffer) {
                let _ = front.send_to(&buffer[..length], client);
            }
        }
    });
    (port, all)
}

#[test]
fn a_restart_uses_saved_cookies_each_of_them_once() {
    let place = Place::new("");
    let identity = Authority::new(&place).issue(&place, "127.0.0.1", GOOD_YEARS);
    let keyring = Keyring::new(&[1; Keyring::KEY_LEN]);
    let time = time_server("127.0.0.1:0".parse().unwrap(), Some(keyring.clone()));
    let (port, seen) = relay(time.addresses()[0]);
    let exchange = Exchange::start(Identity { ntp_port: Some(port), ..identity }, keyring);
    place.configure(&nts_entry(exchange.port()));
    let count = || seen.lock().unwrap().seen.len();

    let daemon = place.start();
    daemon.synchronized();
    daemon.stop();
    assert_eq!(exchange.completed(), 1);
    assert!(place.path("state/soft-drift").exists() && place.path("state/last-time").exists());
    let before = count();
    let daemon = place.start();
    daemon.synchronized();
    daemon.crash();
    assert_eq!(exchange.completed(), 1, "no key exchange was needed");
    assert!(count() > before);

    // It had no time to save: its cookies are not used again.
    let daemon = place.start();
    daemon.synchronized();
    daemon.stop();
    assert_eq!(exchange.completed(), 2);

    // Whoever vouched for the keys may not be trusted any more.
    let ca = fs::read_to_string(place.path("ca.pem")).unwrap();
    place.write("ca.pem", format!("{ca}{}", Authority::unknown().1));
    let daemon = place.start();
    daemon.synchronized();
    daemon.stop();
    assert_eq!(exchange.completed(), 3);
    assert!(seen.lock().unwrap().again.is_empty(), "a cookie was used twice");
}

#[test]
fn a_service_manager_is_told() {
    let (_server, address) = plain_server();
    let place = Place::new(&plain_entry(address));
    let path = place.path("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let next = || {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let daemon = place.start_with(&[("NOTIFY_SOCKET", path.as_path() as &Path)]);
    assert_eq!(next().trim(), "READY=1");
    daemon.signal(Signal::SIGHUP);
    let reloading = next();
    assert!(reloading.contains("RELOADING=1") && reloading.contains("MONOTONIC_USEC="), "{reloading}");
    assert_eq!(next().trim(), "READY=1");
    daemon.stop();
    assert_eq!(next().trim(), "STOPPING=1");
}

#[test]
fn it_ends_while_names_are_looked_up() {
    let place = Place::new("pool = [\"pool.invalid\", \"other.invalid\"]\n");
    place.start().stop();
    place.start().stop();
}
