//! Whole servers on loopback.

use std::{
    net::UdpSocket,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use ntp_proto::{
    ids::{KeyId, Leap, ReferenceId},
    nts::{AeadAlgorithm, AeadKey, SealRequest, SessionKeys, open_reply, seal_request},
    server::{Access, Prefix, RateLimit},
    status::Status,
    time::{ClockMap, NtpDuration, NtpShort, NtpTimestamp, PollInterval, Rate},
    wire::{Header, MacAlgorithm, Mode, Packet},
};

use super::*;
use crate::{net::ServerSocket, now};

/// How far the served time is ahead of the kernel's.
const AHEAD: f64 = 1_000.0;

const UNIQUE_ID: [u8; 32] = [7; 32];

fn status() -> Status {
    Status {
        leap: Leap::None,
        stratum: 3,
        precision: -20,
        root_delay: NtpDuration::ZERO,
        root_dispersion: NtpDuration::ZERO,
        dispersion_rate: Rate::from_ppm(1.0),
        max_distance: NtpDuration::from_seconds(1.5),
        reference_id: ReferenceId([192, 0, 2, 9]),
        reference_time: now::kernel() + NtpDuration::from_seconds(AHEAD),
        from_kernel: ClockMap { since: now::kernel(), offset: NtpDuration::from_seconds(AHEAD), rate: Rate::ZERO },
        smear: None,
    }
}

fn everybody() -> Settings {
    let mut access = AccessTable::new();
    for all in [Prefix::ALL_V4, Prefix::ALL_V6] {
        access.add(all, Access::Allow).unwrap();
    }
    Settings::new(access)
}

fn start(listen: &[&str], threads: usize, settings: Settings) -> Server {
    let listen: Vec<SocketAddr> = listen.iter().map(|text| text.parse().unwrap()).collect();
    Server::start(&listen, threads, settings, Arc::new(StatusCell::new(status()))).unwrap()
}

fn client(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((server.ip(), 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn request(origin: NtpTimestamp, receive: NtpTimestamp, transmit: u64) -> Vec<u8> {
    let header = Header {
        leap: Leap::None,
        version: 4,
        mode: Mode::Client,
        stratum: 0,
        poll: 0,
        precision: 32,
        root_delay: NtpShort::default(),
        root_dispersion: NtpShort::default(),
        reference_id: ReferenceId::default(),
        reference: NtpTimestamp::ZERO,
        origin,
        receive,
        transmit: NtpTimestamp::from_bits(transmit),
    };
    header.write().to_vec()
}

fn plain(transmit: u64) -> Vec<u8> {
    request(NtpTimestamp::ZERO, NtpTimestamp::ZERO, transmit)
}

fn exchange(socket: &UdpSocket, request: &[u8]) -> io::Result<Vec<u8>> {
    socket.send(request)?;
    let mut reply = vec![0; 2048];
    let len = socket.recv(&mut reply)?;
    reply.truncate(len);
    Ok(reply)
}

fn session(algorithm: AeadAlgorithm) -> SessionKeys {
    let key = |byte| AeadKey::new(algorithm, &[byte; 64][..algorithm.key_len()]).unwrap();
    SessionKeys { c2s: key(1), s2c: key(2) }
}

fn cookie(keyring: &Keyring) -> Vec<u8> {
    let mut cookie = [0; 200];
    let len = keyring.issue(&session(AeadAlgorithm::AesSivCmac256), &[4; 16], &mut cookie).unwrap();
    cookie[..len].to_vec()
}

fn nts(cookie: &[u8]) -> Vec<u8> {
    let keys = session(AeadAlgorithm::AesSivCmac256);
    let seal = SealRequest { unique_id: &UNIQUE_ID, cookie, placeholders: 2, key: &keys.c2s, nonce: &[5; 16] };
    let mut request = plain(1);
    request.resize(1_500, 0);
    let len = seal_request(&mut request, Header::LEN, &seal).unwrap();
    request.truncate(len);
    request
}

/// The cookies of an authentic reply, `None` for any other.
fn opened(mut reply: Vec<u8>) -> Option<usize> {
    let s2c = session(AeadAlgorithm::AesSivCmac256).s2c;
    open_reply(&mut reply, &UNIQUE_ID, &s2c).ok().map(|authentic| authentic.cookies().count())
}

/// Whether a request gets no reply.
fn is_refused(socket: &UdpSocket, request: &[u8]) -> bool {
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let refused = exchange(socket, request).is_err();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    refused
}

/// Waits until the counts say so, five seconds at most.
fn eventually(server: &Server, what: impl Fn(&Server) -> bool) {
    let started = Instant::now();
    while !what(server) {
        assert!(started.elapsed() < Duration::from_secs(5), "{:?} {:?}", server.counters(), server.send_counters());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn both_families_get_the_served_time() {
    let server = start(&["127.0.0.1:0", "[::1]:0"], 2, everybody());
    for &address in server.addresses() {
        let before = now::kernel();
        let reply = exchange(&client(address), &plain(0x1234)).unwrap();
        let header = Header::read(&reply).unwrap();
        assert_eq!((reply.len(), header.mode, header.stratum, header.leap), (48, Mode::Server, 3, Leap::None));
        assert_eq!(header.origin, NtpTimestamp::from_bits(0x1234));
        let times = [before, header.receive, header.transmit, now::kernel()];
        let shifted = [0.0, AHEAD, AHEAD, 0.0];
        let on_one_clock: Vec<f64> =
            times.iter().zip(shifted).map(|(at, ahead)| at.since(before).to_seconds() - ahead).collect();
        assert!(on_one_clock.is_sorted_by(|a, b| *a <= *b + 1e-6), "{on_one_clock:?}");
    }
    eventually(&server, |server| server.counters().received == 2);
    let counters = server.counters();
    assert_eq!((counters.replies_plain, counters.stamped_by_kernel, counters.dropped()), (2, 2, 0));
    assert!(server.is_whole());
    assert_eq!(server.stop(), counters);
}

#[test]
fn what_is_published_is_served_at_once() {
    let server = start(&["127.0.0.1:0"], 1, everybody());
    let socket = client(server.addresses()[0]);
    for stratum in [2, 5, 16] {
        server.shared.status.publish(Status { stratum, ..status() });
        assert_eq!(server.shared.status.get().stratum, stratum);
        assert_eq!(Header::read(&exchange(&socket, &plain(1)).unwrap()).unwrap().stratum, stratum);
    }
    server.shared.status.publish(Status::UNSYNCHRONIZED);
    assert_eq!(Header::read(&exchange(&socket, &plain(1)).unwrap()).unwrap().leap, Leap::Unsynchronized);
}

#[test]
fn nts_is_answered_with_fresh_cookies_through_rotations() {
    let mut keyring = Keyring::new(&[3; 32]);
    let server = start(&["127.0.0.1:0"], 3, everybody().with_keyring(Some(keyring.clone())));
    // Other sockets reach other threads.
    let clients: Vec<UdpSocket> = (0..8).map(|_| client(server.addresses()[0])).collect();
    let old = cookie(&keyring);
    for rotation in 0..7 {
        let new = cookie(&keyring);
        for client in &clients {
            assert_eq!(opened(exchange(client, &nts(&old)).unwrap()), Some(3), "rotation {rotation}");
            assert_eq!(opened(exchange(client, &nts(&new)).unwrap()), Some(3), "rotation {rotation}");
        }
        keyring.rotate(&[rotation + 10; 32]);
        server.set_keyring(Some(keyring.clone()));
    }
    let foreign = cookie(&Keyring::new(&[99; 32]));
    let nak = exchange(&clients[0], &nts(&foreign)).unwrap();
    assert_eq!(Header::read(&nak).unwrap().reference_id, ReferenceId(*b"NTSN"));
    let counters = server.stop();
    assert_eq!((counters.replies_nts, counters.replies_nts_nak), (7 * 16, 1));
}

#[test]
fn symmetric_keys_can_be_replaced() {
    let key = |secret| SymmetricKey::new(KeyId(5), MacAlgorithm::AesCmac128, &[secret; 16]).unwrap();
    let ask = |socket: &UdpSocket, key: &SymmetricKey| {
        let mut request = plain(1);
        request.resize(100, 0);
        let len = key.append(&mut request, Header::LEN).unwrap();
        exchange(socket, &request[..len])
    };
    let server = start(&["[::1]:0"], 1, everybody().with_keys(vec![key(1)]).unwrap());
    let socket = client(server.addresses()[0]);
    let reply = ask(&socket, &key(1)).unwrap();
    let packet = Packet::parse(&reply).unwrap();
    assert!(key(1).verify(&reply[..Header::LEN], &packet.mac().unwrap()));

    server.set_keys(&[key(2)]).unwrap();
    assert!(ask(&socket, &key(2)).is_ok());
    let many: Vec<SymmetricKey> = std::iter::repeat_with(|| key(3)).take(65).collect();
    assert!(server.set_keys(&many).is_err());
    assert!(ask(&socket, &key(2)).is_ok(), "the refused change changed nothing");
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    assert!(ask(&socket, &key(1)).is_err());
    assert_eq!(server.stop().dropped_key, 1);
}

#[test]
fn access_and_rate_limit_can_change() {
    let server = start(&["127.0.0.1:0"], 1, everybody());
    let socket = client(server.addresses()[0]);
    assert!(exchange(&socket, &plain(1)).is_ok());
    server.set_access(&AccessTable::new());
    assert!(is_refused(&socket, &plain(1)));
    let limit = RateLimit { interval: PollInterval::MAX, burst: 2, leak_log2: None, kiss: false };
    server.set(everybody().with_rate_limit(Some(limit)));
    assert_eq!(server.settings().rate_limit(), Some(limit));
    for _ in 0..2 {
        assert!(exchange(&socket, &plain(1)).is_ok());
    }
    for _ in 0..2 {
        assert!(is_refused(&socket, &plain(1)));
    }
    let counters = server.stop();
    assert_eq!((counters.dropped_access, counters.dropped_rate), (1, 2));
}

#[test]
fn interleaved_replies_carry_the_kernel_s_transmit_timestamp() {
    let server = start(&["127.0.0.1:0"], 1, everybody());
    let socket = client(server.addresses()[0]);
    let mut last = Header::read(&exchange(&socket, &plain(1)).unwrap()).unwrap();
    for n in 1..=5 {
        let sent = now::kernel();
        let receive = NtpTimestamp::from_bits(0x5555_0000 + n);
        let reply = exchange(&socket, &request(last.receive, receive, n)).unwrap();
        let header = Header::read(&reply).unwrap();
        assert_eq!(header.origin, receive, "interleaved mode");
        // The transmit timestamp is that of the reply before.
        assert!(header.transmit.since(last.receive).to_seconds() >= 0.0);
        assert!(header.transmit.since(sent).to_seconds() < AHEAD);
        last = header;
        eventually(&server, |server| server.send_counters().stamped == n);
    }
    assert_eq!(server.send_counters(), SendCounters { unsent: 0, stamped: 5 });
    assert_eq!(server.stop().interleaved, 5);
}

#[test]
fn no_request_is_lost_or_misjudged_while_everything_is_reloaded() {
    let keyring = Keyring::new(&[3; 32]);
    let settings = || everybody().with_keyring(Some(keyring.clone()));
    let server = start(&["127.0.0.1:0"], 2, settings());
    let address = server.addresses()[0];
    let (stop, asked) = (AtomicBool::new(false), AtomicU32::new(0));
    let cookie = cookie(&keyring);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let socket = client(address);
                while !stop.load(Relaxed) {
                    assert_eq!(opened(exchange(&socket, &nts(&cookie)).unwrap()), Some(3));
                    asked.fetch_add(1, Relaxed);
                }
            });
        }
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(500) {
            let mut rotated = keyring.clone();
            rotated.rotate(&[4; 32]);
            server.set(settings().with_keyring(Some(rotated)));
            server.set_keys(&[]).unwrap();
        }
        stop.store(true, Relaxed);
    });
    let counters = server.stop();
    let asked = u64::from(asked.load(Relaxed));
    assert!(asked > 50);
    assert_eq!((counters.received, counters.replies_nts, counters.dropped()), (asked, asked, 0));
}

#[test]
fn a_flooded_address_does_not_starve_another_and_stopping_is_prompt() {
    let server = start(&["127.0.0.1:0", "127.0.0.1:0"], 1, everybody());
    let [flooded, other] = server.addresses()[..] else { panic!("two addresses") };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let socket = client(flooded);
            while !stop.load(Relaxed) {
                let _ = socket.send(&plain(1));
            }
        });
        let socket = client(other);
        for n in 0..50 {
            assert!(exchange(&socket, &plain(n)).is_ok());
        }
        let started = Instant::now();
        let counters = server.stop();
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        assert_eq!(counters.received, counters.replied());
        stop.store(true, Relaxed);
    });
}

#[test]
fn hostile_packets_are_dropped_and_counted() {
    let server = start(&["127.0.0.1:0"], 1, everybody());
    let socket = client(server.addresses()[0]);
    let mut reply_to_us = plain(1);
    reply_to_us[0] = 4 << 3 | 4;
    let mut mapped = vec![0; 2048];
    mapped[0] = 4 << 3 | 3;
    mapped[48..52].copy_from_slice(&[0x01, 0x04, 0x00, 0x02]);
    for bad in [&[][..], &[0; 47], &reply_to_us, &mapped] {
        socket.send(bad).unwrap();
    }
    eventually(&server, |server| server.counters().received == 4);
    assert_eq!(server.counters().dropped(), 4);
    assert!(exchange(&socket, &plain(1)).is_ok());
}

#[test]
fn a_server_that_is_ready_answers_once_it_is_started_and_not_before() {
    let settled = || Arc::new(StatusCell::new(status()));
    let ready = |held: &[SocketAddr], address| Server::ready(held, &[address], 2, everybody(), settled()).unwrap();
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let first = ready(&[], anywhere);
    let address = first.server.addresses()[0];
    let socket = client(address);
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(exchange(&socket, &plain(1)).is_err(), "nothing is answered yet");
    let server = first.start();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(socket.recv(&mut [0; 2048]).is_ok(), "what came before is answered now");

    // One beside it that is not to be after all takes nothing away.
    drop(ready(&[address], address));
    for turn in 0..50 {
        assert!(exchange(&client(address), &plain(turn)).is_ok());
    }
    assert!(server.is_whole());
}

#[test]
fn a_server_that_cannot_start_says_why_and_leaves_nothing() {
    let status = || Arc::new(StatusCell::default());
    let error = Server::start(&[], 1, everybody(), status()).unwrap_err();
    assert_eq!(error.to_string(), "no address to serve NTP on");

    let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let error = Server::start(&["[::1]:0".parse().unwrap(), taken], 4, everybody(), status()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot serve NTP on {taken}: another program uses this port"));
    drop(holder);

    let server = Server::start(&[taken], 4, everybody(), status()).unwrap();
    drop(server);
    ServerSocket::bind(taken).unwrap();
    assert!((1..=MAX_DEFAULT_THREADS).contains(&default_threads()));
}
