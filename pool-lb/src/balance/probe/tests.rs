use std::cell::Cell;

use ntp_proto::nts::{AeadKey, Cookie, SessionKeys};
use tokio::{
    net::TcpListener,
    task::{JoinSet, spawn_local},
};

use super::*;
use crate::balance::{
    dials::MAX_DIALS,
    tests::{absent, block_on, shared},
};

/// Addresses of loopback that all have the same port, which `open` opens.
async fn at_five<T>(open: impl AsyncFn(SocketAddr) -> io::Result<T>) -> (u16, Vec<T>) {
    // The port is free at the first address, and may be taken at another.
    loop {
        let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        drop(first);
        let mut opened = Vec::new();
        for last in 1..=5 {
            opened.extend(open(([127, 0, 0, last], port).into()).await);
        }
        if opened.len() == 5 {
            return (port, opened);
        }
    }
}

#[test]
fn keys_are_asked_for_at_three_addresses() {
    block_on(async {
        let (port, listeners) = at_five(async |address| TcpListener::bind(address).await).await;
        let addresses = "\"127.0.0.1\", \"127.0.0.2\", \"127.0.0.3\", \"127.0.0.4\", \"127.0.0.5\"";
        let text = format!("[[member]]\nname = \"m.test\"\nport = {port}\naddresses = [{addresses}]\n");
        let shared = shared(&text).0;
        let member = shared.assignments.load().roster.directory().members()[0].clone();
        let asked: [Cell<usize>; 5] = Default::default();
        let asked = std::rc::Rc::new(asked);
        let mut serving = JoinSet::new();
        for (number, listener) in listeners.into_iter().enumerate() {
            let asked = std::rc::Rc::clone(&asked);
            serving.spawn_local(async move {
                // Whoever comes is sent away.
                while listener.accept().await.is_ok() {
                    asked[number].set(asked[number].get() + 1);
                }
            });
        }
        let samples = probe(&shared, &member).await;
        assert!(matches!(samples.as_slice(), [Sample::Unprobed(why)] if why.starts_with("probe: ")), "{samples:?}");
        assert_eq!(asked.each_ref().map(Cell::get), [1, 1, 1, 0, 0]);
    });
}

#[test]
fn who_waits_for_a_place_has_the_whole_time_after_it() {
    block_on(async {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let (shared, _heard) = shared(&absent(1).replace("port = 1\n", &format!("port = {port}\n")));
        let member = shared.assignments.load().roster.directory().members()[0].clone();
        shared.dials.set_members([&member.name].into_iter());
        tokio::time::pause();
        let start = Instant::now();
        let places = shared.dials.of(&member.name).acquire_many_owned(MAX_DIALS.try_into().unwrap()).await.unwrap();
        let others = QUEUEING - Duration::from_millis(100);
        spawn_local(async move {
            tokio::time::sleep(others).await;
            drop(places);
        });
        let failed = handover::hand_over(&shared, &member).await.unwrap_err();
        assert!(matches!(failed, Trouble::Member(_)), "{failed}");
        assert!(start.elapsed() >= others + KE_DEADLINE, "{:?}", start.elapsed());
        // Who gets none has asked nobody.
        let _places = shared.dials.of(&member.name).acquire_many_owned(MAX_DIALS.try_into().unwrap()).await.unwrap();
        assert!(matches!(handover::hand_over(&shared, &member).await, Err(Trouble::Skipped(_))));
    });
}

#[test]
fn the_time_is_asked_for_at_three_addresses_with_no_cookie_twice() {
    block_on(async {
        // Nobody waits for answers that do not come.
        tokio::time::pause();
        let (port, sockets) = at_five(async |address| UdpSocket::bind(address).await).await;
        let cookies = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        for (number, socket) in sockets.into_iter().enumerate() {
            let cookies = std::rc::Rc::clone(&cookies);
            spawn_local(async move {
                let mut packet = [0; MAX_PACKET];
                while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                    let cookie = packet[..length].windows(8).find(|octets| octets.starts_with(b"cookie-")).unwrap();
                    cookies.borrow_mut().push((number, cookie.to_vec()));
                    socket.send_to(b"rubbish", from).await.unwrap();
                }
            });
        }
        let key = || AeadKey::new(AeadAlgorithm::AesSivCmac256, &[7; 32]).unwrap();
        let cookie = |n: u8| Cookie::new(&[&b"cookie-"[..], &[b'0' + n]].concat()).unwrap();
        let mut established = Established {
            algorithm: AeadAlgorithm::AesSivCmac256,
            keys: SessionKeys { c2s: key(), s2c: key() },
            fallback_keys: None,
            cookies: (0..8).map(cookie).collect(),
            server: None,
            port: None,
            chain: None,
        };
        let addresses = (1..=5).map(|last| ([127, 0, 0, last], port).into()).collect();
        let failed = ask_time(&mut established, addresses, now::unix).await.unwrap_err();
        assert!(matches!(failed, Trouble::Member(_)), "{failed}");
        let mut seen = cookies.borrow().clone();
        let places: Vec<_> = seen.iter().map(|(number, _)| *number).collect();
        assert_eq!(places, [0, 0, 1, 1, 2, 2]);
        seen.sort_by(|a, b| a.1.cmp(&b.1));
        seen.dedup_by(|a, b| a.1 == b.1);
        assert_eq!(seen.len(), 6, "no cookie goes out twice");
    });
}

#[test]
fn offsets_have_the_sign_of_the_members_clock() {
    let at = |seconds: f64| NtpTimestamp::from_bits((seconds * 4_294_967_296.0) as u64);
    let reply = |ahead: f64| Header {
        leap: Leap::None,
        stratum: 2,
        receive: at(1000.0 + ahead + 0.010),
        transmit: at(1000.0 + ahead + 0.011),
        ..request(NtpTimestamp::ZERO)
    };
    for ahead in [-2.9, -0.3, 0.0, 0.3, 2.9] {
        let (offset, delay) = judge(&reply(ahead), at(1000.0), NtpDuration::from_seconds(0.021)).unwrap();
        assert!((offset - ahead).abs() < 1e-6 && (delay - 0.02).abs() < 1e-6, "{ahead}: {offset} {delay}");
    }
    let took = NtpDuration::from_seconds(0.021);
    for bad in [
        Header { leap: Leap::Unsynchronized, ..reply(0.0) },
        Header { stratum: 0, ..reply(0.0) },
        Header { stratum: 16, ..reply(0.0) },
        Header { transmit: at(999.0), ..reply(0.0) },
        Header { transmit: at(1005.0), ..reply(0.0) },
    ] {
        assert!(judge(&bad, at(1000.0), took).is_err(), "{bad:?}");
    }
}
