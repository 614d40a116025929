//! Sources that give no time, or rubbish beside it.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
};

use ntp_proto::time::NtpTimestamp;
use ntpd::now;

use crate::world::{Place, eventually, plain_entry, plain_server, time_server};

#[test]
fn a_name_that_does_not_resolve_is_shown_and_the_others_keep_the_time() {
    let (_server, address) = plain_server();
    let unknown = "[[server]]\naddress = \"ntp.invalid\"\nnts = \"off\"\n\
                   [[pool]]\nname = \"pool.invalid\"\nmode = \"classic\"\n";
    let place = Place::new(&format!("{}{unknown}", plain_entry(address)));
    let daemon = place.start();
    for name in ["ntp.invalid", "pool.invalid"] {
        // A machine without any name server is told something else than one that asks in vain.
        let row = daemon.reason(name, "(is ");
        assert_eq!((&row["state"], &row["asked"]), (&"?".into(), &"unresolved".into()), "{row}");
        let reason = row["reason"].as_str().unwrap();
        assert!(reason.starts_with("no such host") || reason.starts_with("cannot be resolved"), "{reason}");
        assert!(daemon.ctl(&["sources"]).out.contains(reason), "words show it too");
    }
    let pools = daemon.json(&["pools"]);
    assert!(pools["pools"][0]["note"].as_str().unwrap().contains("(is "), "{pools}");
    let tracking = daemon.synchronized();
    assert_eq!(tracking["reference"]["address"], address.to_string());
    assert_eq!(daemon.json(&["activity"])["unresolved"], 2);
    daemon.stop();
}

#[test]
fn without_any_server_tracking_says_why() {
    let place = Place::new("pool = \"pool.invalid\"\n");
    let daemon = place.start();
    daemon.reason("pool.invalid", "(is ");
    let tracking = daemon.json(&["tracking"]);
    let reason = tracking["reason"].as_str().unwrap();
    assert!(reason.starts_with("no server is known yet; pool.invalid: "), "{reason}");
    assert!(daemon.ctl(&["tracking"]).out.contains(reason), "words show it too");
    daemon.stop();
}

/// What a good server with this clock answers.
pub(crate) fn reply(request: &[u8], at: NtpTimestamp, reference: [u8; 4]) -> Vec<u8> {
    let mut reply = vec![0; 48];
    reply[0] = (request[0] & 0x38) | 4;
    (reply[1], reply[2], reply[3]) = (1, request[2], (-20_i8).cast_unsigned());
    reply[12..16].copy_from_slice(&reference);
    let stamp = at.to_bits().to_be_bytes();
    reply[16..24].copy_from_slice(&stamp);
    reply[24..32].copy_from_slice(&request[40..48]);
    reply[32..40].copy_from_slice(&stamp);
    reply[40..48].copy_from_slice(&stamp);
    reply
}

/// A server that sends all kinds of rubbish before the reply, and has somebody else answer first.
fn rubbish_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let others = [UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.2:0").unwrap()];
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let request = &buffer[..length];
            let wrong = NtpTimestamp::from_bits(now::kernel().to_bits().wrapping_add(100 << 32));
            for other in &others {
                let _ = other.send_to(&reply(request, wrong, *b"EVIL"), client);
            }
            let send = |bytes: &[u8]| {
                let _ = socket.send_to(bytes, client);
            };
            let good = reply(request, now::kernel(), *b"GOOD");
            send(&[]);
            send(&good[..1]);
            send(&good[..47]);
            send(&[0xff; 2000]);
            let mut bad = reply(request, wrong, *b"EVIL");
            bad[31] ^= 1;
            send(&bad);
            bad[24..32].fill(0);
            send(&bad);
            bad = reply(request, wrong, *b"EVIL");
            bad[0] = (bad[0] & 0x38) | 3;
            send(&bad);
            send(&good);
            // Once more, as an attacker would who replays.
            send(&good);
        }
    });
    address
}

#[test]
fn the_true_reply_is_found_among_rubbish() {
    let address = rubbish_server();
    let place = Place::new(&plain_entry(address));
    let daemon = place.start();
    let tracking = daemon.synchronized();
    assert!(tracking["pending-seconds"].as_f64().unwrap().abs() < 1.0, "{tracking}");
    let row = eventually("all kinds of refusals", || {
        let row = daemon.json(&["ntpdata"])["sources"][0].clone();
        let counted =
            ["malformed", "mode", "origin", "not-asked"].iter().all(|test| row["refused"][test].as_u64() > Some(0));
        if counted { Ok(row) } else { Err(row.to_string()) }
    });
    assert!(row["good"].as_u64() > Some(0), "{row}");
    assert_eq!(row["reply"]["reference-name"], "GOOD", "{row}");
    assert_eq!(row["local-address"], "127.0.0.1", "{row}");
    // Of nine datagrams for a request one is good; those from elsewhere were not even received.
    assert!(row["received"].as_u64().unwrap() <= 9 * row["sent"].as_u64().unwrap(), "{row}");
    daemon.stop();
}

#[test]
fn a_silent_server_is_told_from_one_that_was_never_asked() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let place = Place::new(&plain_entry(silent.local_addr().unwrap()).replace("iburst = false", "iburst = true"));
    let daemon = place.start();
    daemon.reason("127.0.0.1", "does not answer");
    let tracking = daemon.json(&["tracking"]);
    let reason = tracking["reason"].as_str().unwrap();
    assert_eq!(reason, "the only source, 127.0.0.1, cannot be used: does not answer");
    daemon.stop();
}

/// One that an administrator named stays to be seen, whatever happens; the log says when it went, and when it came back.
#[test]
fn a_dead_server_is_told_once_and_so_is_its_return() {
    let (server, address) = plain_server();
    let place = Place::new(&plain_entry(address));
    let daemon = place.start();
    daemon.synchronized();
    drop(server);
    let sent = || daemon.json(&["ntpdata"])["sources"][0]["sent"].as_u64().unwrap();
    daemon.logged("it does not answer");
    let end = sent() + 30;
    eventually("requests in vain", || if sent() >= end { Ok(()) } else { Err(sent().to_string()) });
    let row = daemon.reason("127.0.0.1", "does not answer");
    assert_eq!(row["reach"], 0, "{row}");
    let _server = time_server(address, None);
    daemon.logged("answers again");
    daemon.reason("127.0.0.1", "best source");
    let log = daemon.log();
    for words in ["it does not answer", "answers again", "added source"] {
        assert_eq!(log.matches(words).count(), 1, "{words}: {log}");
    }
    daemon.stop();
}
