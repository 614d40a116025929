//! Whole requests through a whole responder.

use core::{net::Ipv4Addr, sync::atomic::AtomicU64, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    ids::{Leap, ReferenceId},
    nts::{AeadAlgorithm, AeadKey, OpenReplyError, SealRequest, SessionKeys, open_reply, seal_request},
    smear::Smear,
    time::{ClockMap, NtpDuration, NtpShort, PollInterval, Rate},
    wire::{MacAlgorithm, Mode, Packet},
};

const UNIQUE_ID: [u8; 32] = [0x1d; 32];
const SIV: AeadAlgorithm = AeadAlgorithm::AesSivCmac256;

fn at(seconds: f64) -> NtpTimestamp {
    NtpTimestamp::from_bits(0xe000_0000 << 32) + NtpDuration::from_seconds(seconds)
}

fn status() -> Status {
    Status {
        leap: Leap::None,
        stratum: 2,
        precision: -23,
        root_delay: NtpDuration::from_seconds(0.25),
        root_dispersion: NtpDuration::from_seconds(0.125),
        dispersion_rate: Rate::from_ppm(15.0),
        max_distance: NtpDuration::from_seconds(1.5),
        reference_id: ReferenceId([192, 0, 2, 7]),
        reference_time: at(-100.0),
        from_kernel: ClockMap::IDENTITY,
        smear: None,
    }
}

fn meta() -> RxMeta {
    RxMeta {
        peer: Ipv4Addr::new(192, 0, 2, 1).into(),
        peer_port: 40_000,
        received: at(1.0),
        kind: StampKind::Kernel,
        monotonic: Monotonic::from_nanos(1_000_000_000),
    }
}

fn session(algorithm: AeadAlgorithm) -> SessionKeys {
    let key = |byte| AeadKey::new(algorithm, &[byte; 64][..algorithm.key_len()]).unwrap();
    SessionKeys { c2s: key(1), s2c: key(2) }
}

fn keyring() -> Keyring {
    Keyring::new(&[3; 32])
}

fn symmetric_keys() -> Vec<SymmetricKey> {
    MacAlgorithm::ALL
        .into_iter()
        .zip(1..)
        .map(|(algorithm, id)| {
            SymmetricKey::new(KeyId(id), algorithm, &[7; 32][..algorithm.key_len().1.min(32)]).unwrap()
        })
        .collect()
}

/// Everything served, to everybody.
fn responder<'t>() -> Responder<'t> {
    let mut access = AccessTable::new();
    access.add(Prefix::ALL_V4, Access::Allow).unwrap();
    let mut responder = Responder::new(access, [9; 32]);
    responder.set_keyring(Some(keyring()));
    responder.set_keys(&symmetric_keys()).unwrap();
    responder
}

fn plain(version: u8) -> Vec<u8> {
    let mut request = vec![0; 48];
    request[0] = version << 3 | 3;
    request[2] = 6;
    request[40..48].copy_from_slice(&0x0123_4567_89ab_cdef_u64.to_be_bytes());
    request
}

fn symmetric(version: u8, key: &SymmetricKey) -> Vec<u8> {
    let mut request = plain(version);
    request.resize(100, 0);
    let len = key.append(&mut request, 48).unwrap();
    request.truncate(len);
    request
}

fn nts_with(keys: &SessionKeys, keyring: &Keyring, placeholders: usize) -> Vec<u8> {
    let mut cookie = [0; 200];
    let len = keyring.issue(keys, &[4; 16], &mut cookie).unwrap();
    let seal =
        SealRequest { unique_id: &UNIQUE_ID, cookie: &cookie[..len], placeholders, key: &keys.c2s, nonce: &[5; 16] };
    let mut request = plain(4);
    request.resize(2048, 0);
    let len = seal_request(&mut request, 48, &seal).unwrap();
    request.truncate(len);
    request
}

fn nts(algorithm: AeadAlgorithm, placeholders: usize) -> Vec<u8> {
    nts_with(&session(algorithm), &keyring(), placeholders)
}

/// The reply, its class and whether it is interleaved.
fn ask(responder: &mut Responder<'_>, request: &[u8]) -> Result<(Vec<u8>, ReplyClass, bool), DropReason> {
    ask_at(responder, request, &meta(), &status())
}

fn ask_at(
    responder: &mut Responder<'_>,
    request: &[u8],
    meta: &RxMeta,
    status: &Status,
) -> Result<(Vec<u8>, ReplyClass, bool), DropReason> {
    let mut out = [0xee; 2048];
    let sent = meta.received + NtpDuration::from_seconds(0.25);
    match responder.respond(&mut request.to_vec(), meta, status, || sent, &mut out) {
        Verdict::Drop(reason) => Err(reason),
        Verdict::Reply { len, class, interleaved, .. } => {
            assert!(len <= request.len(), "a reply of {len} bytes to {}", request.len());
            Ok((out[..len].to_vec(), class, interleaved))
        }
    }
}

#[test]
fn a_plain_reply_says_what_the_status_says() {
    for version in 1..=4 {
        let (reply, class, interleaved) = ask(&mut responder(), &plain(version)).unwrap();
        assert_eq!((class, interleaved, reply.len()), (ReplyClass::Plain, false, 48));
        let expected = Header {
            leap: Leap::None,
            version,
            mode: Mode::Server,
            stratum: 2,
            poll: 6,
            precision: -23,
            root_delay: NtpShort::from_bits(0x4000),
            // 0.125 s and 101.25 s at 15 ppm, rounded up.
            root_dispersion: NtpShort::from_bits(0x2000 + 100),
            reference_id: ReferenceId([192, 0, 2, 7]),
            reference: at(-100.0),
            origin: NtpTimestamp::from_bits(0x0123_4567_89ab_cdef),
            receive: at(1.0),
            transmit: at(1.25),
        };
        assert_eq!(Header::read(&reply).unwrap(), expected);
    }
}

#[test]
fn timestamps_are_moved_from_the_kernel_s_clock_to_the_served_time() {
    let ahead = ClockMap { offset: NtpDuration::from_seconds(2.5), ..ClockMap::IDENTITY };
    let status = Status { from_kernel: ahead, ..status() };
    let (reply, ..) = ask_at(&mut responder(), &plain(4), &meta(), &status).unwrap();
    let header = Header::read(&reply).unwrap();
    assert_eq!((header.receive, header.transmit), (at(3.5), at(3.75)));
}

#[test]
fn a_smeared_leap_second_is_in_all_timestamps_and_not_announced() {
    let at_noon = Smear { midnight: at(1.0 + 43_200.0), inserts: true };
    let in_it = Smear { midnight: at(1.5), inserts: true };
    let ends_with_the_reply = Smear { midnight: at(2.25 - 1e-6), inserts: true };
    let status = |smear| Status { leap: Leap::Insert, smear: Some(smear), ..status() };
    let ask = |smear| ask_at(&mut responder(), &plain(4), &meta(), &status(smear));
    let header = Header::read(&ask(at_noon).unwrap().0).unwrap();
    assert_eq!(header.leap, Leap::None);
    let behind = |served: NtpTimestamp, kept: f64| (at(kept) - served).to_seconds();
    assert!(behind(header.receive, 1.0).abs() < 1e-9);
    assert!((behind(header.transmit, 1.25) - 0.25 / 86_401.0).abs() < 1e-9);
    assert_eq!(ask(in_it).unwrap_err(), DropReason::Leap);
    assert_eq!(ask(ends_with_the_reply).unwrap_err(), DropReason::Leap, "it came before and would leave within");
}

#[test]
fn a_clock_that_is_lost_says_so() {
    let too_old = Status { reference_time: at(-100_000.0), ..status() };
    let too_far = Status { root_delay: NtpDuration::from_seconds(3.0), ..status() };
    let alarm = Status { leap: Leap::Unsynchronized, ..status() };
    for status in [Status::UNSYNCHRONIZED, too_old, too_far, alarm] {
        let (reply, ..) = ask_at(&mut responder(), &plain(4), &meta(), &status).unwrap();
        let header = Header::read(&reply).unwrap();
        assert_eq!((header.leap, header.stratum), (Leap::Unsynchronized, 16), "{status:?}");
        assert_eq!(Kiss::of(&header), None);
    }
}

#[test]
fn nothing_but_requests_is_answered() {
    let forged = nts_with(&session(SIV), &Keyring::new(&[8; 32]), 0);
    let kinds = [plain(4), symmetric(4, &symmetric_keys()[0]), nts(SIV, 1), forged];
    for (kind, request) in kinds.iter().enumerate() {
        for port in [123, 40_000] {
            let mut silent = 0;
            let mut version_1 = 0;
            for first in 0..=255_u8 {
                let mut request = request.clone();
                request[0] = first;
                let meta = RxMeta { peer_port: port, ..meta() };
                let answered = ask_at(&mut responder(), &request, &meta, &status()).is_ok();
                if first & 7 == 3 {
                    // Plain requests of the four versions are all answered.
                    let known = (1..=4).contains(&((first >> 3) & 7));
                    assert!(kind != 0 || answered == known, "first byte {first:#x}");
                } else if first & 0x3f == 0x08 {
                    assert!(!answered || port != 123);
                    version_1 += u32::from(answered);
                } else {
                    assert!(!answered, "first byte {first:#x} from port {port}");
                    silent += 1;
                }
            }
            assert_eq!(silent, 224 - 4);
            // A changed first byte spoils MACs; what NTS adds is not known to version 1.
            assert_eq!(version_1, if kind == 0 && port != 123 { 4 } else { 0 });
        }
    }
}

#[test]
fn nts_requests_get_as_many_cookies_as_they_ask_for() {
    for algorithm in AeadAlgorithm::ALL {
        for placeholders in 0..=7 {
            let request = nts(algorithm, placeholders);
            let asked = Packet::parse(&request).unwrap().extensions().count() - 2;
            let mut responder = responder();
            let (mut reply, class, _) = ask(&mut responder, &request).unwrap();
            assert_eq!(class, ReplyClass::Nts);
            let opened = open_reply(&mut reply, &UNIQUE_ID, &session(algorithm).s2c).unwrap();
            assert_eq!(opened.header().receive, at(1.0));
            let cookies: Vec<_> = opened.cookies().collect();
            assert_eq!(cookies.len(), asked, "{algorithm}, {placeholders} placeholders");
            assert_eq!(responder.counters().cookies, asked as u64);
            for (n, cookie) in cookies.iter().enumerate() {
                let keys = keyring().open(cookie).unwrap();
                assert_eq!(keys.c2s.as_bytes(), session(algorithm).c2s.as_bytes());
                assert!(!cookies[..n].contains(cookie) && !request.windows(cookie.len()).any(|part| part == *cookie));
            }
        }
    }
}

#[test]
fn a_bad_cookie_or_authenticator_gets_a_nak() {
    let unknown = nts_with(&session(SIV), &Keyring::new(&[8; 32]), 3);
    let mut bad_cookie = nts(SIV, 3);
    bad_cookie[48 + 36 + 4 + 30] ^= 1;
    let mut bad_length = nts(AeadAlgorithm::AesGcmSiv128, 0);
    bad_length.truncate(48 + 36);
    bad_length.extend([2, 4, 0, 24].iter().chain(&[1; 20]));
    let authenticator = nts(SIV, 0);
    bad_length.extend(&authenticator[authenticator.len() - 40..]);
    let mut bad_authenticator = nts(SIV, 3);
    *bad_authenticator.last_mut().unwrap() ^= 1;
    let mut bad_header = nts(SIV, 3);
    bad_header[40] ^= 1;
    for request in [unknown, bad_cookie, bad_length, bad_authenticator, bad_header] {
        let (mut reply, class, _) = ask(&mut responder(), &request).unwrap();
        assert_eq!((class, reply.len()), (ReplyClass::NtsNak, 84));
        let header = Header::read(&reply).unwrap();
        assert_eq!(header.origin, Header::read(&request).unwrap().transmit);
        let opened = open_reply(&mut reply, &UNIQUE_ID, &session(SIV).s2c);
        assert_eq!(opened.err(), Some(OpenReplyError::NtsNak));
    }
}

#[test]
fn without_a_keyring_nts_fields_are_unknown_fields() {
    let mut responder = responder();
    responder.set_keyring(None);
    let (reply, class, _) = ask(&mut responder, &nts(SIV, 3)).unwrap();
    assert_eq!((class, reply.len()), (ReplyClass::Plain, 48));
}

#[test]
fn symmetric_replies_verify_and_wrong_keys_get_none() {
    for key in symmetric_keys() {
        for version in 1..=4 {
            let request = symmetric(version, &key);
            let (reply, class, _) = ask(&mut responder(), &request).unwrap();
            assert_eq!((class, reply.len()), (ReplyClass::Symmetric, request.len()));
            let packet = Packet::parse(&reply).unwrap();
            let mac = packet.mac().unwrap();
            assert!(key.verify(&reply[..mac.covered], &mac), "{key:?} in version {version}");

            let mut wrong = request.clone();
            *wrong.last_mut().unwrap() ^= 1;
            assert_eq!(ask(&mut responder(), &wrong), Err(DropReason::Key));
            let unknown = SymmetricKey::new(KeyId(99), MacAlgorithm::AesCmac128, &[7; 16]).unwrap();
            assert_eq!(ask(&mut responder(), &symmetric(version, &unknown)), Err(DropReason::Key));
        }
    }
    let key = &symmetric_keys()[0];
    let too_many = vec![key.clone(); Responder::MAX_KEYS + 1];
    assert_eq!(responder().set_keys(&too_many), Err(TooManyKeys));
    assert_eq!(responder().set_keys(&too_many[1..]), Ok(()));
}

#[test]
fn a_crypto_nak_is_not_answered() {
    let request = [&plain(4)[..], &[0; 4]].concat();
    assert_eq!(ask(&mut responder(), &request), Err(DropReason::Malformed));
}

#[test]
fn interleaved_replies_carry_the_earlier_reply_s_own_transmit_time() {
    let slots: Vec<_> = (0..64).map(|_| InterleaveSlot::new()).collect();
    let mut responder = responder();
    responder.set_interleave_table(Some(InterleaveTable::new(&slots)));
    let mut out = [0; 48];
    let mut step = |request: &Header, received: f64, sent: f64| {
        let meta = RxMeta { received: at(received), ..meta() };
        let verdict = responder.respond(&mut request.write(), &meta, &status(), || at(sent), &mut out);
        let Verdict::Reply { interleaved, want_transmit_stamp, .. } = verdict else { panic!("{verdict:?}") };
        if let Some(token) = want_transmit_stamp {
            responder.transmitted(&token, at(sent + 0.5));
        }
        (Header::read(&out).unwrap(), interleaved)
    };
    let mut request = Header::read(&plain(4)).unwrap();
    let (first, interleaved) = step(&request, 1.0, 1.25);
    assert!(!interleaved);
    assert_eq!((first.receive.to_bits() & 1, first.transmit.to_bits() & 1), (1, 0));

    // RFC 9769: origin is our receive timestamp, receive and transmit are the client's own.
    request.origin = first.receive;
    request.receive = NtpTimestamp::from_bits(77);
    let (second, interleaved) = step(&request, 3.0, 3.25);
    assert!(interleaved);
    assert_eq!((second.origin, second.transmit), (request.receive, first.transmit));

    // This time the transmit timestamp came late, and better.
    request.origin = second.receive;
    let (third, interleaved) = step(&request, 5.0, 5.25);
    assert!(interleaved);
    assert_eq!(third.transmit, at(3.75));

    // The same request again: its pair is used up, so the reply is in basic mode.
    let (again, interleaved) = step(&request, 6.0, 6.25);
    assert!(!interleaved);
    assert_eq!((again.origin, again.transmit), (request.transmit, at(6.25)));

    // A basic request whose origin is our transmit timestamp is never taken for an interleaved one.
    request.origin = again.transmit;
    assert!(!step(&request, 7.0, 7.25).1);
    // Nor is one whose two timestamps agree.
    request.origin = again.receive;
    request.transmit = request.receive;
    assert!(!step(&request, 8.0, 8.25).1);
    assert_eq!(responder.counters().interleaved, 2);
}

/// A victim asks every 64 s; an attacker sends ten packets a second in its name.
#[test]
fn forged_requests_do_not_lock_a_client_out() {
    let slots: Vec<_> = (0..1 << 10).map(|_| AtomicU64::new(0)).collect();
    let limit = RateLimit { interval: PollInterval::new(1).unwrap(), burst: 8, ..RateLimit::DEFAULT };
    let mut responder = responder();
    responder.set_rate_table(Some(RateTable::new(&slots, limit, &[6; 16])));
    let (plain, nts) = (plain(4), nts(SIV, 0));
    let (mut plain_served, mut nts_served) = (0, 0);
    let mut now = Monotonic::from_nanos(0);
    for _ in 0..200 {
        for _ in 0..640 {
            now = now + Duration::from_millis(100);
            let _ = ask_at(&mut responder, &plain, &RxMeta { monotonic: now, ..meta() }, &status());
        }
        let meta = RxMeta { monotonic: now, ..meta() };
        plain_served += u32::from(ask_at(&mut responder, &plain, &meta, &status()).is_ok());
        nts_served += u32::from(ask_at(&mut responder, &nts, &meta, &status()).is_ok());
    }
    assert_eq!(nts_served, 200);
    assert!(plain_served >= 90, "{plain_served}");
}

#[test]
fn kisses_are_few_and_authenticated_like_their_requests() {
    let slots: Vec<_> = (0..64).map(|_| AtomicU64::new(0)).collect();
    let limit = RateLimit { burst: 1, leak_log2: None, kiss: true, ..RateLimit::DEFAULT };
    let key = symmetric_keys().remove(0);
    for request in [plain(4), symmetric(4, &key), nts(SIV, 1)] {
        for slot in &slots {
            slot.store(0, core::sync::atomic::Ordering::Relaxed);
        }
        let mut responder = responder();
        responder.set_rate_table(Some(RateTable::new(&slots, limit, &[6; 16])));
        let (mut kisses, mut refused) = (0, 0);
        assert!(ask(&mut responder, &request).is_ok());
        for _ in 0..3_200 {
            match ask(&mut responder, &request) {
                Err(reason) => {
                    assert_eq!(reason, DropReason::Rate);
                    refused += 1;
                }
                Ok((mut reply, class, _)) => {
                    assert_eq!(class, ReplyClass::Kiss);
                    assert_eq!(Kiss::of(&Header::read(&reply).unwrap()), Some(Kiss::Rate));
                    if request.len() == 68 {
                        let mac = Packet::parse(&reply).unwrap().mac().unwrap();
                        assert!(key.verify(&reply[..48], &mac));
                    } else if request.len() > 68 {
                        let opened = open_reply(&mut reply, &UNIQUE_ID, &session(SIV).s2c).unwrap();
                        assert_eq!(opened.cookies().count(), 2);
                    }
                    kisses += 1;
                }
            }
        }
        assert!((120..=280).contains(&kisses), "{kisses} of {refused}");
    }
}

#[test]
fn others_are_not_served_and_cost_no_clock_reading() {
    let meta = RxMeta { peer: "2001:db8::1".parse().unwrap(), ..meta() };
    let verdict = responder().respond(&mut plain(4), &meta, &status(), || panic!("the clock was read"), &mut [0; 48]);
    assert_eq!(verdict, Verdict::Drop(DropReason::Access));
}

#[test]
fn a_short_buffer_is_our_caller_s_fault() {
    for (request, len) in [(plain(4), 47), (symmetric(4, &symmetric_keys()[0]), 67), (nts(SIV, 0), 100)] {
        let mut out = vec![0; len];
        let verdict = responder().respond(&mut request.clone(), &meta(), &status(), || at(2.0), &mut out);
        assert_eq!(verdict, Verdict::Drop(DropReason::NoSpace));
    }
    // With room for the header and the seal, but not for all cookies, there are fewer.
    let mut out = [0; 300];
    let verdict = responder().respond(&mut nts(SIV, 7), &meta(), &status(), || at(2.0), &mut out);
    let Verdict::Reply { len, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!(open_reply(&mut out[..len], &UNIQUE_ID, &session(SIV).s2c).unwrap().cookies().count(), 1);
}

#[test]
fn every_packet_is_counted_once() {
    let mut responder = responder();
    let mut bad = nts(SIV, 0);
    bad[60] ^= 1;
    let mut wrong_key = symmetric(4, &symmetric_keys()[0]);
    wrong_key[60] ^= 1;
    for request in
        [plain(4), symmetric(4, &symmetric_keys()[0]), nts(SIV, 2), bad, wrong_key, vec![0x24; 48], vec![0; 9]]
    {
        let _ = ask(&mut responder, &request);
    }
    let expected = ServerCounters {
        received: 7,
        stamped_by_kernel: 7,
        dropped_malformed: 1,
        dropped_mode: 1,
        dropped_key: 1,
        replies_plain: 1,
        replies_symmetric: 1,
        replies_nts: 1,
        replies_nts_nak: 1,
        cookies: 3,
        ..ServerCounters::default()
    };
    assert_eq!(*responder.counters(), expected);
    let mut sum = expected;
    sum.add(&expected);
    assert_eq!((sum.received, sum.dropped() + sum.replied()), (14, 14));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2048), request: bool, served: bool) {
        let mut bytes = bytes;
        if request && let Some(first) = bytes.first_mut() {
            *first = *first & 0xc0 | 0x23;
        }
        let mut responder = responder();
        if !served {
            responder.set_keyring(None);
        }
        // `ask` compares the lengths.
        let class = ask(&mut responder, &bytes).map(|(_, class, _)| class);
        prop_assert!(!matches!(class, Ok(ReplyClass::Nts | ReplyClass::Symmetric)), "{:?}", class);
    }

    #[test]
    fn any_fields_are_survived(
        fields in proptest::collection::vec((0..6_usize, 0..30_u16, any::<[u8; 120]>()), 0..14), cut in 0..40_usize
    ) {
        let kinds = [0x0104, 0x0204, 0x0304, 0x0404, 0x2002, 0x0104];
        let mut request = plain(4);
        for (kind, words, body) in fields {
            request.extend(u16::to_be_bytes(kinds[kind]));
            request.extend((4 + words * 4).to_be_bytes());
            request.extend(&body[..usize::from(words) * 4]);
        }
        request.truncate(request.len().saturating_sub(cut).max(48));
        let class = ask(&mut responder(), &request).map(|(_, class, _)| class);
        prop_assert!(!matches!(class, Ok(ReplyClass::Nts | ReplyClass::Symmetric)), "{:?}", class);
    }

    #[test]
    fn a_changed_nts_request_is_never_served(
        algorithm in 0..3_usize, placeholders in 0..4_usize, at: prop::sample::Index, change in 1..=255_u8, cut: bool
    ) {
        let mut request = nts(AeadAlgorithm::ALL[algorithm], placeholders);
        let index = at.index(request.len());
        if cut {
            request.truncate(index);
        } else {
            request[index] ^= change;
        }
        // Padding behind the ciphertext is neither encrypted nor authenticated, and means nothing.
        let in_padding = !cut && algorithm == 2 && index >= request.len() - 4;
        if let Ok((_, class, _)) = ask(&mut responder(), &request) {
            prop_assert_eq!(class == ReplyClass::Nts, in_padding, "{:?} for byte {}", class, index);
        }
    }
}
