//! A daemon that does not believe its sources any more ends with a code of its own.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
};

use ntp_proto::time::NtpDuration;
use ntpd::now;

use crate::{
    replies::reply,
    world::{Place, plain_entry},
};

/// Replies that are true, before all are ten seconds ahead.
const TRUE_REPLIES: u32 = 6;

/// A server that tells the truth for a while.
fn liar() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let (mut buffer, mut replies) = ([0; 2048], 0);
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            replies += 1;
            let ahead = NtpDuration::from_seconds(if replies > TRUE_REPLIES { 10.0 } else { 0.0 });
            let _ = socket.send_to(&reply(&buffer[..length], now::kernel() + ahead, *b"LIAR"), client);
        }
    });
    address
}

#[test]
fn an_offset_above_max_change_ends_the_daemon_with_code_3() {
    let limit = "[clock]\nmax-change = { offset = \"1s\", start = 1, ignore = 2 }\n";
    let place = Place::new(&format!("{}{limit}", plain_entry(liar())));
    let ended = place.ntpd(&["-x"]);
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    assert_eq!(ended.err.matches("offset above clock.max-change ignored").count(), 1, "told once: {}", ended.err);
    assert!(ended.err.contains("the clock is left to you, and the daemon ends"), "{}", ended.err);
}
