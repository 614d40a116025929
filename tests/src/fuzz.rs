//! Targets for fuzzing: each takes any bytes and panics only if a promise is broken.
//!
//! The smoke test runs them on mutated valid messages; `tests/fuzz` runs the same targets under libFuzzer.

use std::net::{IpAddr, Ipv4Addr};

use ntp_proto::{
    ids::{KeyId, StampKind},
    nts::{AeadAlgorithm, AeadKey, Keyring, SealRequest, SessionKeys, open_reply, seal_request},
    server::{Access, AccessTable, Prefix, Responder, RxMeta, Verdict},
    status::Status,
    time::{Monotonic, NtpTimestamp},
    wire::{Header, MacAlgorithm, Mode, Packet, SymmetricKey},
};
use nts_ke::{
    message::{Accepted, Request},
    record::{Incoming, Limits},
};

mod pool;

/// A target by name.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 11] = [
    ("packet", packet),
    ("responder_plain", responder_plain),
    ("responder_nts", responder_nts),
    ("nts_reply", nts_reply),
    ("cookie", cookie),
    ("keyring_state", keyring_state),
    ("key_exchange_request", key_exchange_request),
    ("key_exchange_response", key_exchange_response),
    ("pool_query", pool::pool_query),
    ("member_answer", pool::member_answer),
    ("proxy_header", pool::proxy_header),
];

/// Runs one target.
///
/// # Panics
///
/// If there is no such target, or it finds a promise broken.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a known target");
    target(bytes);
}

fn key(fill: u8) -> AeadKey {
    AeadKey::new(AeadAlgorithm::AesSivCmac256, &[fill; 32]).expect("32 bytes are a key")
}

fn session() -> SessionKeys {
    SessionKeys { c2s: key(1), s2c: key(2) }
}

fn keyring() -> Keyring {
    Keyring::new(&[7; Keyring::KEY_LEN])
}

fn packet(bytes: &[u8]) {
    if let Ok(packet) = Packet::parse(bytes) {
        assert_eq!(packet.header.write()[..4], bytes[..4], "the first word survives the round trip");
        let fields: usize = packet.extensions().map(|field| field.body.len()).sum();
        assert!(fields <= bytes.len());
    }
}

/// No reply is longer than its request, and none is given to anything but a request.
fn respond(bytes: &[u8], keyring: Option<Keyring>) {
    let mut access = AccessTable::new();
    access.add(Prefix::ALL_V4, Access::Allow).expect("an empty table has room");
    let mut responder = Responder::new(access, [3; 32]);
    responder.set_keyring(keyring);
    let secret = SymmetricKey::new(KeyId(1), MacAlgorithm::AesCmac128, &[9; 16]).expect("16 bytes are a key");
    responder.set_keys(&[secret]).expect("one key is not too many");
    let meta = RxMeta {
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        peer_port: 40_000,
        received: NtpTimestamp::from_bits(1 << 60),
        kind: StampKind::Kernel,
        monotonic: Monotonic::default(),
    };
    let (mut request, mut out) = (bytes.to_vec(), [0; 4096]);
    let now = || NtpTimestamp::from_bits((1 << 60) + 1);
    if let Verdict::Reply { len, .. } = responder.respond(&mut request, &meta, &Status::UNSYNCHRONIZED, now, &mut out) {
        assert!(len <= bytes.len(), "a reply of {len} bytes to {}", bytes.len());
        let first = bytes.first().copied().unwrap_or_default();
        // Mode 3, or what clients of version 1 send: no mode at all.
        assert!(first & 7 == 3 || first & 0x3f == 0x08, "a reply to {first:#04x}");
        assert_eq!(out[0] & 7, 4);
    }
}

fn responder_plain(bytes: &[u8]) {
    respond(bytes, None);
}

fn responder_nts(bytes: &[u8]) {
    respond(bytes, Some(keyring()));
}

fn nts_reply(bytes: &[u8]) {
    let mut packet = bytes.to_vec();
    if let Ok(authentic) = open_reply(&mut packet, &[5; 32], &key(2)) {
        assert!(authentic.cookies().count() <= bytes.len());
    }
}

fn cookie(bytes: &[u8]) {
    let ring = keyring();
    if let Ok(keys) = ring.open(bytes) {
        // Only what the keyring made itself opens.
        assert_eq!((keys.c2s.as_bytes(), keys.s2c.as_bytes()), (&[1; 32][..], &[2; 32][..]));
    }
}

fn keyring_state(bytes: &[u8]) {
    if let Ok(ring) = Keyring::from_bytes(bytes) {
        let mut out = [0; 256];
        let len = ring.issue(&session(), &[1; 16], &mut out).expect("256 bytes hold a cookie");
        assert!(ring.open(&out[..len]).is_ok());
    }
}

fn key_exchange_request(bytes: &[u8]) {
    let mut incoming = Incoming::new(Limits::REQUEST);
    // In two parts, split somewhere that the bytes themselves decide.
    let middle = bytes.first().map_or(0, |first| usize::from(*first).min(bytes.len()));
    let whole = incoming
        .handle_input(&bytes[..middle])
        .and_then(|done| if done { Ok(true) } else { incoming.handle_input(&bytes[middle..]) });
    if whole == Ok(true)
        && let Ok(request) = Request::parse(incoming.records())
    {
        assert!(request.encode().len() <= 4096);
    }
}

fn key_exchange_response(bytes: &[u8]) {
    let mut incoming = Incoming::new(Limits::RESPONSE);
    if incoming.handle_input(bytes) == Ok(true) {
        let asked = Request { protocols: vec![0], algorithms: vec![15, 30], ..Request::default() };
        if let Ok(accepted) = Accepted::parse(incoming.records(), &asked) {
            assert!((1..=8).contains(&accepted.cookies.len()));
            assert!(asked.algorithms.contains(&accepted.algorithm));
        }
    }
}

/// Valid inputs to begin with, for all targets.
///
/// # Panics
///
/// Never: the buffers are large enough.
#[must_use]
pub fn corpus() -> Vec<Vec<u8>> {
    let header = Header {
        version: 4,
        mode: Mode::Client,
        transmit: NtpTimestamp::from_bits(0x0123_4567_89ab_cdef),
        ..Header::read(&[0x23; 48]).expect("48 bytes are a header")
    };
    let mut cookie = [0; 256];
    let len = keyring().issue(&session(), &[4; 16], &mut cookie).expect("256 bytes hold a cookie");
    let mut sealed = vec![0; 1500];
    sealed[..48].copy_from_slice(&header.write());
    let request =
        SealRequest { unique_id: &[5; 32], cookie: &cookie[..len], placeholders: 7, key: &key(1), nonce: &[6; 16] };
    let sealed_len = seal_request(&mut sealed, 48, &request).expect("1500 bytes hold a request");
    sealed.truncate(sealed_len);
    let secret = SymmetricKey::new(KeyId(1), MacAlgorithm::AesCmac128, &[9; 16]).expect("16 bytes are a key");
    let mut signed = vec![0; 100];
    signed[..48].copy_from_slice(&header.write());
    let signed_len = secret.append(&mut signed, 48).expect("100 bytes hold a MAC");
    signed.truncate(signed_len);
    let ask =
        Request { protocols: vec![0], algorithms: vec![30, 15], denied: vec!["a.test".into()], ..Request::default() };
    let mut answer = Vec::from(*b"\x80\x01\x00\x02\x00\x00\x80\x04\x00\x02\x00\x0f\x00\x05\x00\x08cookie01");
    answer.extend(b"\x80\x06\x00\x06b.test\x80\x07\x00\x02\x00\x7b\x80\x00\x00\x00");
    let state = keyring().to_bytes().to_vec();
    let mut corpus = vec![header.write().to_vec(), sealed, signed, cookie[..len].to_vec(), ask.encode(), answer, state];
    corpus.extend(pool::corpus());
    corpus
}
