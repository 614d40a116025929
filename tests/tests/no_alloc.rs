//! The server path allocates nothing, whatever it is sent.
#![expect(unsafe_code, reason = "a counting allocator cannot be written without it")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::Ipv4Addr,
    sync::atomic::AtomicU64,
};

use ntp_proto::{
    ids::{KeyId, Leap, ReferenceId, StampKind},
    nts::{AeadAlgorithm, AeadKey, Keyring, SealRequest, SessionKeys, seal_request},
    server::{
        Access, AccessTable, ClientSlot, ClientTable, DropReason, InterleaveSlot, InterleaveTable, Prefix, RateLimit,
        RateTable, ReplyClass, Responder, RxMeta, Verdict,
    },
    status::Status,
    time::{Monotonic, NtpDuration, NtpTimestamp},
    wire::{Header, MacAlgorithm, SymmetricKey},
};

thread_local!(static ALLOCATIONS: Cell<u64> = const { Cell::new(0) });

struct Counting;

// SAFETY: every call is forwarded to `System` unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: same contract as ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: same contract as ours.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often each kind of request is sent.
const REQUESTS: u64 = 100_000;

/// The same for kinds that differ from another only in the cipher, which a debug build is slow at.
const FEW_REQUESTS: u64 = 10_000;

const STATUS: Status = Status {
    leap: Leap::None,
    stratum: 1,
    max_distance: NtpDuration::MAX,
    reference_id: ReferenceId(*b"TEST"),
    ..Status::UNSYNCHRONIZED
};

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

fn plain() -> Vec<u8> {
    let mut request = vec![0; Header::LEN];
    request[0] = 0x23;
    request[40..].copy_from_slice(&[7; 8]);
    request
}

fn symmetric_key() -> SymmetricKey {
    SymmetricKey::new(KeyId(5), MacAlgorithm::AesCmac128, &[8; 16]).expect("16 bytes")
}

fn symmetric() -> Vec<u8> {
    let mut request = plain();
    request.resize(68, 0);
    symmetric_key().append(&mut request, Header::LEN).expect("there is room");
    request
}

fn keyring() -> Keyring {
    let mut keyring = Keyring::new(&[0; 32]);
    for n in 1..8 {
        keyring.rotate(&[n; 32]);
    }
    keyring
}

fn nts(algorithm: AeadAlgorithm, placeholders: usize) -> Vec<u8> {
    let key = |byte| AeadKey::new(algorithm, &[byte; 64][..algorithm.key_len()]).expect("the right length");
    let keys = SessionKeys { c2s: key(1), s2c: key(2) };
    let mut cookie = vec![0; Keyring::cookie_len(algorithm)];
    keyring().issue(&keys, &[3; 16], &mut cookie).expect("there is room");
    let seal = SealRequest { unique_id: &[4; 32], cookie: &cookie, placeholders, key: &keys.c2s, nonce: &[5; 16] };
    let mut request = plain();
    request.resize(2048, 0);
    let len = seal_request(&mut request, Header::LEN, &seal).expect("there is room");
    request.truncate(len);
    request
}

fn changed(mut request: Vec<u8>, at: usize) -> Vec<u8> {
    request[at] ^= 1;
    request
}

fn responder<'t>() -> Responder<'t> {
    let mut access = AccessTable::new();
    access.add(Prefix::ALL_V4, Access::Allow).expect("one rule fits");
    let mut responder = Responder::new(access, [9; 32]);
    responder.set_keyring(Some(keyring()));
    responder.set_keys(&[symmetric_key()]).expect("one key fits");
    responder
}

fn meta(n: u64) -> RxMeta {
    RxMeta {
        peer: Ipv4Addr::from(u32::try_from(n).expect("a small number")).into(),
        peer_port: 40_000,
        received: NtpTimestamp::from_bits((0xe000_0000 << 32) + (n << 20)),
        kind: StampKind::Kernel,
        monotonic: Monotonic::from_nanos(n * 1_000_000),
    }
}

/// Sends one request [`REQUESTS`] times, each time from another address; every verdict must pass `check`.
fn flood(responder: &mut Responder<'_>, request: &[u8], check: impl Fn(Verdict) -> bool) {
    flood_with(REQUESTS, responder, request, check);
}

fn flood_with(count: u64, responder: &mut Responder<'_>, request: &[u8], check: impl Fn(Verdict) -> bool) {
    let mut buffer = request.to_vec();
    let mut out = [0; 2048];
    let before = allocations();
    for n in 0..count {
        buffer.copy_from_slice(request);
        let meta = meta(n);
        let verdict = responder.respond(&mut buffer, &meta, &STATUS, || meta.received, &mut out);
        assert!(check(verdict), "request {n}: {verdict:?}");
    }
    assert_eq!(allocations() - before, 0);
}

fn is(expected: ReplyClass) -> impl Fn(Verdict) -> bool {
    move |verdict| matches!(verdict, Verdict::Reply { class, .. } if class == expected)
}

fn dropped(expected: DropReason) -> impl Fn(Verdict) -> bool {
    move |verdict| verdict == Verdict::Drop(expected)
}

#[test]
fn the_allocator_counts() {
    let before = allocations();
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(allocations() - before, 1);
}

#[test]
fn replies_allocate_nothing() {
    let rates: Vec<_> = (0..1 << 12).map(|_| AtomicU64::new(0)).collect();
    let pairs: Vec<_> = (0..1 << 10).map(|_| InterleaveSlot::new()).collect();
    let mut responder = responder();
    responder.set_rate_table(Some(RateTable::new(&rates, RateLimit::DEFAULT, &[6; 16])));
    responder.set_interleave_table(Some(InterleaveTable::new(&pairs)));
    let clients: Vec<_> = (0..1 << 6).map(|_| ClientSlot::default()).collect();
    let clients = ClientTable::new(&clients, &[6; 16]);
    responder.set_client_table(Some(clients.clone()));
    flood(&mut responder, &plain(), is(ReplyClass::Plain));
    flood(&mut responder, &symmetric(), is(ReplyClass::Symmetric));
    flood(&mut responder, &changed(nts(AeadAlgorithm::AesSivCmac256, 7), 100), is(ReplyClass::NtsNak));
    assert!((0..clients.capacity()).any(|index| clients.row(index, Monotonic::default()).is_some()));
}

#[test]
fn nts_replies_allocate_nothing() {
    let mut responder = responder();
    flood(&mut responder, &nts(AeadAlgorithm::AesSivCmac256, 0), is(ReplyClass::Nts));
    flood_with(FEW_REQUESTS, &mut responder, &nts(AeadAlgorithm::AesSivCmac512, 0), is(ReplyClass::Nts));
    flood_with(FEW_REQUESTS, &mut responder, &nts(AeadAlgorithm::AesGcmSiv128, 0), is(ReplyClass::Nts));
    assert_eq!(responder.counters().cookies, REQUESTS + 2 * FEW_REQUESTS);
}

#[test]
fn refusals_allocate_nothing() {
    let rates: Vec<_> = (0..8).map(|_| AtomicU64::new(0)).collect();
    let mut responder = responder();
    let request = nts(AeadAlgorithm::AesSivCmac256, 0);
    flood(&mut responder, &changed(symmetric(), 60), dropped(DropReason::Key));
    flood(&mut responder, &changed(plain(), 0), dropped(DropReason::Mode));
    flood(&mut responder, &plain()[1..], dropped(DropReason::Malformed));
    flood(&mut responder, &request[..request.len() - 40], dropped(DropReason::Nts));
    let limit = RateLimit { burst: 1, leak_log2: None, kiss: true, ..RateLimit::DEFAULT };
    responder.set_rate_table(Some(RateTable::new(&rates, limit, &[6; 16])));
    flood_with(FEW_REQUESTS, &mut responder, &request, |verdict| {
        is(ReplyClass::Nts)(verdict) || is(ReplyClass::Kiss)(verdict) || dropped(DropReason::Rate)(verdict)
    });
    assert!(responder.counters().dropped_rate > FEW_REQUESTS * 8 / 10);
    responder.set_access(AccessTable::new());
    flood(&mut responder, &plain(), dropped(DropReason::Access));
}

#[test]
fn interleaved_replies_allocate_nothing() {
    let pairs: Vec<_> = (0..1 << 10).map(|_| InterleaveSlot::new()).collect();
    let mut responder = responder();
    responder.set_interleave_table(Some(InterleaveTable::new(&pairs)));
    let mut request = Header::read(&plain()).unwrap();
    request.receive = NtpTimestamp::from_bits(1);
    let mut out = [0; Header::LEN];
    let before = allocations();
    for n in 0..REQUESTS {
        let meta = RxMeta { peer: Ipv4Addr::LOCALHOST.into(), ..meta(n) };
        let verdict = responder.respond(&mut request.write(), &meta, &STATUS, || meta.received, &mut out);
        if let Verdict::Reply { want_transmit_stamp: Some(token), .. } = verdict {
            responder.transmitted(&token, meta.received);
        }
        request.origin = Header::read(&out).unwrap().receive;
    }
    assert_eq!(allocations() - before, 0);
    assert_eq!(responder.counters().interleaved, REQUESTS - 1);
}
