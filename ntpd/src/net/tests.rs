use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use ntp_proto::{ids::StampKind, time::NtpTimestamp};

use super::*;
use crate::now;

const PATIENCE: Duration = Duration::from_secs(5);

fn server(address: &str) -> ServerSocket {
    ServerSocket::bind(address.parse().unwrap(), PATIENCE).unwrap()
}

fn seconds(later: NtpTimestamp, earlier: NtpTimestamp) -> f64 {
    (later - earlier).to_seconds()
}

/// Tries for a while; loopback is quick, but not always at once.
fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < end, "nothing came");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits for the one reply and, before or after it, the one timestamp of the request.
async fn reply_and_stamp(client: &ClientSocket, batch: &mut RxBatch) -> SentStamp {
    let (mut stamps, mut last, mut stamp) = (SentStamps::new(), RxBatch::new(1), None);
    let mut replies = 0;
    while replies == 0 || stamp.is_none() {
        let into = if replies == 0 { &mut *batch } else { &mut last };
        let arrived = tokio::time::timeout(PATIENCE, client.recv(into, &mut stamps)).await.unwrap().unwrap();
        replies += arrived.replies;
        stamp = stamp.or_else(|| stamps.as_slice().first().copied());
    }
    assert_eq!(replies, 1);
    stamp.unwrap()
}

/// Requests and replies over a pair of sockets: contents, addresses and all four timestamps.
async fn exchange(address: &str) {
    let mut server = server(address);
    let client = ClientSocket::connect(server.local_addr().unwrap()).unwrap();
    assert!(server.is_stamped() && client.is_stamped());
    let (mut rx, mut tx, mut stamps) = (RxBatch::new(8), TxBatch::new(8), SentStamps::new());
    // The kernel turns stamping of received packets on a moment after it is asked to.
    for round in 0..20_u32 {
        let before = now::realtime();
        client.send(&[7; 48]).unwrap();
        assert_eq!(server.recv_batch(&mut rx).unwrap(), 1);
        let request = rx.iter_mut().next().unwrap();
        assert_eq!(request.bytes, [7; 48]);
        assert_eq!(request.peer, client.local_addr().unwrap());
        assert_eq!(request.local, Some(server.local_addr().unwrap().ip()));
        assert_ne!(request.iface, 0);
        let (received, kind) = (request.received, request.kind);
        tx.clear();
        assert!(tx.push(request.peer, request.local, request.iface, |reply| {
            reply[..100].fill(9);
            100
        }));
        assert_eq!(server.send_batch(&mut tx), 1);
        assert_eq!(tx.ids(), [Some(round)]);

        let asked = reply_and_stamp(&client, &mut rx).await;
        let reply = rx.iter_mut().next().unwrap();
        assert_eq!(reply.bytes, [9; 100]);
        assert_eq!(reply.peer, server.local_addr().unwrap());
        let answered = eventually(|| (server.recv_sent(&mut stamps).unwrap() == 1).then(|| stamps.as_slice()[0]));
        assert_eq!((asked.id, answered.id), (round, round));
        if kind == StampKind::Kernel && reply.kind == StampKind::Kernel {
            let order = [before, asked.sent, received, answered.sent, reply.received, now::realtime()];
            assert!(order.windows(2).all(|pair| seconds(pair[1], pair[0]) >= 0.0), "{order:?}");
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("the kernel never stamped a received packet");
}

#[tokio::test]
async fn an_exchange_over_ipv4_is_stamped_at_all_four_points() {
    exchange("127.0.0.1:0").await;
}

#[tokio::test]
async fn an_exchange_over_ipv6_is_stamped_at_all_four_points() {
    exchange("[::1]:0").await;
}

#[tokio::test]
async fn replies_leave_from_the_address_that_was_asked() {
    let mut server = server("0.0.0.0:0");
    let asked = SocketAddr::from(([127, 0, 0, 77], server.local_addr().unwrap().port()));
    let client = ClientSocket::connect(asked).unwrap();
    client.send(b"x").unwrap();
    let (mut rx, mut tx) = (RxBatch::new(1), TxBatch::new(1));
    server.recv_batch(&mut rx).unwrap();
    let request = rx.iter_mut().next().unwrap();
    assert_eq!(request.local, Some(IpAddr::from([127, 0, 0, 77])));
    tx.push(request.peer, request.local, request.iface, |reply| {
        reply[0] = b'y';
        1
    });
    assert_eq!(server.send_batch(&mut tx), 1);
    reply_and_stamp(&client, &mut rx).await;
    assert_eq!(rx.iter_mut().next().unwrap().peer, asked);
}

#[test]
fn many_datagrams_go_in_one_batch_up_to_its_size() {
    let mut server = server("127.0.0.1:0");
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    for number in 0..70_u8 {
        peer.send_to(&[number; 48], to).unwrap();
    }
    let mut rx = RxBatch::new(1_000);
    assert_eq!(server.recv_batch(&mut rx).unwrap(), 64);
    let numbers: Vec<_> = rx.iter_mut().map(|slot| slot.bytes[0]).collect();
    assert_eq!(numbers, (0..64).collect::<Vec<_>>());
    assert_eq!(server.recv_batch(&mut rx).unwrap(), 6);

    let mut tx = TxBatch::new(1_000);
    let peer = peer.local_addr().unwrap();
    let added = (0..70_usize).filter(|_| tx.push(peer, None, 0, |reply| reply.len().min(48))).count();
    assert_eq!((added, tx.len(), server.send_batch(&mut tx)), (64, 64, 64));
    assert!(!tx.push(peer, None, 0, |_| 0));
    assert_eq!(tx.ids().last(), Some(&Some(63)));
    // The error queue is read in bounded pieces.
    let mut stamps = SentStamps::new();
    let mut seen = Vec::new();
    eventually(|| {
        assert!(server.recv_sent(&mut stamps).unwrap() <= 64);
        seen.extend(stamps.as_slice().iter().map(|stamp| stamp.id));
        (seen.len() == 64).then_some(())
    });
    assert_eq!(seen, (0..64).collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_sent_is_passed_over_and_numbers_stay_right() {
    let mut server = server("127.0.0.1:0");
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // An address of the other family, and one that is not ours as source.
    let wrong: SocketAddr = "[2001:db8::1]:123".parse().unwrap();
    let foreign = Some(IpAddr::from([192, 0, 2, 1]));
    let mut tx = TxBatch::new(8);
    for (to, from) in [(peer, None), (wrong, None), (peer, None), (peer, foreign), (peer, None), (peer, None)] {
        assert!(tx.push(to, from, 0, |reply| reply.len().min(48)));
    }
    assert_eq!(server.send_batch(&mut tx), 4);
    assert_eq!(tx.ids(), [None, None, None, None, Some(0), Some(1)]);
    let mut stamps = SentStamps::new();
    let mut last = Vec::new();
    eventually(|| {
        server.recv_sent(&mut stamps).unwrap();
        last.extend(stamps.as_slice().iter().map(|stamp| stamp.id));
        last.ends_with(&[0, 1]).then_some(())
    });
}

#[test]
fn a_datagram_too_long_for_ntp_is_empty_and_the_next_is_whole() {
    let server = server("127.0.0.1:0");
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    for length in [MAX_DATAGRAM + 1, 9_000, MAX_DATAGRAM, 0, 48] {
        peer.send_to(&vec![1; length], to).unwrap();
    }
    let mut rx = RxBatch::new(8);
    assert_eq!(server.recv_batch(&mut rx).unwrap(), 5);
    let lengths: Vec<_> = rx.iter_mut().map(|slot| slot.bytes.len()).collect();
    assert_eq!(lengths, [0, 0, MAX_DATAGRAM, 0, 48]);
}

#[tokio::test]
async fn a_client_hears_only_its_server_and_learns_of_a_closed_port() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = ClientSocket::connect(server.local_addr().unwrap()).unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"forged", client.local_addr().unwrap()).unwrap();
    server.send_to(b"real", client.local_addr().unwrap()).unwrap();
    let (mut rx, mut stamps) = (RxBatch::new(4), SentStamps::new());
    let arrived = tokio::time::timeout(PATIENCE, client.recv(&mut rx, &mut stamps)).await.unwrap().unwrap();
    assert_eq!(arrived, Arrived { replies: 1, stamps: 0 });
    assert_eq!(rx.iter_mut().next().unwrap().bytes, b"real");
    let other = ClientSocket::connect(server.local_addr().unwrap()).unwrap();
    assert_ne!(other.local_addr().unwrap().port(), client.local_addr().unwrap().port());

    drop(server);
    client.send(b"x").unwrap();
    let refused = loop {
        match tokio::time::timeout(PATIENCE, client.recv(&mut rx, &mut stamps)).await.unwrap() {
            Ok(arrived) => assert_eq!(arrived.replies, 0),
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(refused, io::ErrorKind::ConnectionRefused);
    assert_eq!(rx.iter_mut().count(), 0);
}

#[test]
fn several_sockets_share_an_address_and_waiting_ends() {
    let first = server("127.0.0.1:0");
    let address = first.local_addr().unwrap();
    let second = ServerSocket::bind(address, Duration::from_millis(5)).unwrap();
    let waited = second.recv_batch(&mut RxBatch::new(1)).unwrap_err();
    assert_eq!(waited.kind(), io::ErrorKind::WouldBlock);
    let v6 = SocketAddr::from(([0_u16; 8], address.port()));
    assert!(ServerSocket::bind(v6, PATIENCE).is_ok(), "an IPv6 socket takes no IPv4 address");
    assert!(ServerSocket::bind("192.0.2.1:0".parse().unwrap(), PATIENCE).is_err());
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = ServerSocket::bind(taken.local_addr().unwrap(), PATIENCE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_wait_ends_only_when_something_came() {
    let server = server("127.0.0.1:0");
    let client = ClientSocket::connect(server.local_addr().unwrap()).unwrap();
    let (mut rx, mut stamps) = (RxBatch::new(1), SentStamps::new());
    client.send(b"request").unwrap();
    let arrived = tokio::time::timeout(PATIENCE, client.recv(&mut rx, &mut stamps)).await.unwrap().unwrap();
    assert_eq!((arrived, stamps.as_slice()[0].id), (Arrived { replies: 0, stamps: 1 }, 0));
    let quiet = tokio::time::timeout(Duration::from_millis(20), client.recv(&mut rx, &mut stamps)).await;
    assert!(quiet.is_err(), "{quiet:?}");
}
