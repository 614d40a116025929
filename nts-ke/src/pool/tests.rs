use proptest::prelude::*;

use super::*;
use crate::record::records;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn parse(text: &str) -> Result<Message, Fault> {
    Message::parse(records(&hex(text)), |token| token == TOKEN)
}

fn keys(protocol: u16, algorithm: u16) -> FixedKeys {
    let key = |first: u8| Zeroizing::new((first..first + 32).collect());
    FixedKeys { protocol, algorithm, c2s: key(0), s2c: key(32) }
}

const EVERYTHING: Lists = Lists { protocols: true, algorithms: true, servers: true };
const NO_NAMES: Lists = Lists { servers: false, ..EVERYTHING };
const SHOWN: &str = "000e0020 3031323334353637383961626364656630313233343536373839616263646566";

/// The worked example of the pool protocol.
#[test]
fn requests_of_a_pool_have_the_known_bytes() {
    let support = PoolRequest::Support(NO_NAMES);
    let text = format!("{SHOWN} 800a0000 80090000 00080000 80000000");
    assert_eq!(support.encode(TOKEN, true), hex(&text));
    assert_eq!(parse(&text), Ok(Message::Pool { request: support, keep_alive: true }));
    let fixed = PoolRequest::FixedKeys(keys(0, 15));
    let both: String = (0..64).map(|octet| format!("{octet:02x}")).collect();
    let text = format!("{SHOWN} 800c0040 {both} 80010002 0000 80040002 000f 00080000 80000000");
    assert_eq!(fixed.encode(TOKEN, true), hex(&text));
    assert_eq!(parse(&text), Ok(Message::Pool { request: fixed, keep_alive: true }));
}

#[test]
fn answers_of_a_member_have_the_known_bytes() {
    let bytes = hex("80090002 0000 800a0008 000f0020 00110040 00080000 80000000");
    let support =
        Support { protocols: vec![0], algorithms: vec![(15, 32), (17, 64)], servers: vec![], keep_alive: true };
    assert_eq!(support.encode(NO_NAMES), bytes);
    assert_eq!(Support::parse(records(&bytes), NO_NAMES), Ok(support));
    let named = hex("80060006 622e74657374 80060006 632e74657374 80000000");
    let lists = Lists { servers: true, ..Lists::default() };
    let support = Support { servers: vec!["b.test".into(), "c.test".into()], ..Support::default() };
    assert_eq!(support.encode(lists), named);
    assert_eq!(Support::parse(records(&named), lists), Ok(support));
}

#[test]
fn without_its_token_before_it_a_record_of_pools_is_not_recognized() {
    let both = "00".repeat(64);
    let fixed = format!("800c0040 {both}");
    let wrong = "000e0002 3030";
    for (text, kind) in [
        ("80090000 80000000", RecordType::SupportedProtocols),
        ("800a0000 80000000", RecordType::SupportedAlgorithms),
        ("800b0000 80000000", RecordType::ServerNames),
        (&format!("{fixed} 80010002 0000 80040002 000f 80000000"), RecordType::FixedKeyRequest),
        (&format!("{wrong} 80090000 80000000"), RecordType::SupportedProtocols),
        (&format!("80090000 {SHOWN} 80000000"), RecordType::SupportedProtocols),
    ] {
        assert_eq!(parse(text), Err(Fault::UnrecognizedCritical(kind)), "{text}");
    }
    assert_eq!(Fault::UnrecognizedCritical(RecordType::FixedKeyRequest).error_code(), ErrorCode::UnrecognizedCritical);
    // A client that sends a token is a client, and its connection is not kept.
    let text = "80010002 0000 80040002 000f 00080000 80000000";
    assert!(matches!(parse(&format!("{wrong} {text}")), Ok(Message::Exchange(_))));
    assert!(matches!(parse(&format!("{SHOWN} {text}")), Ok(Message::Exchange(_))));
}

#[test]
fn requests_that_break_a_rule_are_refused() {
    let fixed = format!("800c0040 {}", "00".repeat(64));
    let rest = "80010002 0000 80040002 000f";
    for (text, fault) in [
        (format!("{SHOWN} {SHOWN} 80090000"), Fault::Duplicate(RecordType::Token)),
        (format!("{SHOWN} {fixed} 80090000 {rest}"), Fault::Unexpected(RecordType::FixedKeyRequest)),
        (format!("{SHOWN} {fixed} {fixed} {rest}"), Fault::Duplicate(RecordType::FixedKeyRequest)),
        (format!("{SHOWN} {fixed} 80010004 00000001 80040002 000f"), Fault::Several(RecordType::NextProtocol)),
        (format!("{SHOWN} {fixed} 80010002 0000 80040004 000f0011"), Fault::Several(RecordType::Aead)),
        (format!("{SHOWN} {fixed} 80040002 000f"), Fault::Missing(RecordType::NextProtocol)),
        (format!("{SHOWN} {fixed} 80010002 0000"), Fault::Missing(RecordType::Aead)),
        (format!("{SHOWN} 800c0002 0000 {rest}"), Fault::Body(RecordType::FixedKeyRequest)),
        (format!("{SHOWN} 800c0021 {} {rest}", "00".repeat(33)), Fault::Body(RecordType::FixedKeyRequest)),
    ] {
        assert_eq!(parse(&format!("{text} 80000000")), Err(fault), "{text}");
    }
    // A body that should be empty is ignored.
    let text = format!("{SHOWN} 80090003 010203 800a0001 00 800b0001 00 00080001 00 80000000");
    assert_eq!(parse(&text), Ok(Message::Pool { request: PoolRequest::Support(EVERYTHING), keep_alive: true }));
}

#[test]
fn answers_that_break_a_rule_are_refused() {
    let support = |text: &str, lists| Support::parse(records(&hex(&format!("{text} 80000000"))), lists);
    for (text, fault) in [
        ("80090002 0000", Fault::Missing(RecordType::SupportedAlgorithms)),
        ("800a0004 000f0020", Fault::Missing(RecordType::SupportedProtocols)),
        ("80090002 0000 80090002 0000", Fault::Duplicate(RecordType::SupportedProtocols)),
        ("80090001 00", Fault::Body(RecordType::SupportedProtocols)),
        ("800a0002 000f", Fault::Body(RecordType::SupportedAlgorithms)),
        ("80060001 61", Fault::Unexpected(RecordType::Server)),
        ("00050001 61", Fault::Unexpected(RecordType::NewCookie)),
        ("c0000000", Fault::UnrecognizedCritical(RecordType::Unknown(0x4000))),
    ] {
        assert_eq!(support(text, NO_NAMES), Err(KeError::Protocol(fault)), "{text}");
    }
    assert_eq!(support("80020002 0001", NO_NAMES), Err(KeError::Refused(ErrorCode::BadRequest)));
    let many = "0000".repeat(500);
    let cut = support(&format!("800903e8 {many} 800a0004 000f0020"), NO_NAMES).unwrap();
    assert_eq!(cut.protocols.len(), MAX_LISTED);
    let grant = |text: &str| parse_grant(records(&hex(&format!("{text} 80000000"))), &keys(0, 15));
    let good = "80010002 0000 80040002 000f 00050001 aa 80060006 622e74657374";
    let accepted = grant(&format!("{good} 00080000")).unwrap();
    assert_eq!((accepted.keep_alive, accepted.server.as_deref(), accepted.cookies.len()), (true, Some("b.test"), 1));
    assert!(!grant(good).unwrap().keep_alive);
    let other = "80010002 0000 80040002 0011 00050001 aa";
    assert_eq!(grant(other), Err(KeError::Protocol(Fault::NotOffered(RecordType::Aead, 17))));
    assert_eq!(grant("80010002 0000 80040002 000f"), Err(KeError::Protocol(Fault::NoCookies)));
}

#[test]
fn keys_and_tokens_are_not_shown() {
    let text = format!("{:?}", PoolRequest::FixedKeys(keys(0, 15)));
    assert!(text.contains("32 octets") && !text.contains("31"), "{text}");
}

proptest! {
    #[test]
    fn requests_survive_the_round_trip(
        fixed: bool, keep_alive: bool, lists: (bool, bool, bool), protocol: u16, algorithm: u16,
        key in proptest::collection::vec(any::<u8>(), 16..=128),
    ) {
        let (protocols, algorithms, servers) = lists;
        prop_assume!(fixed || protocols || algorithms || servers);
        let request = if fixed {
            let key = Zeroizing::new(key);
            PoolRequest::FixedKeys(FixedKeys { protocol, algorithm, c2s: key.clone(), s2c: key })
        } else {
            PoolRequest::Support(Lists { protocols, algorithms, servers })
        };
        let bytes = request.encode(TOKEN, keep_alive);
        prop_assert_eq!(
            Message::parse(records(&bytes), |token| token == TOKEN),
            Ok(Message::Pool { request, keep_alive })
        );
    }

    #[test]
    fn any_records_are_taken_calmly(
        list in proptest::collection::vec(
            (any::<bool>(), prop_oneof![0_u16..16, any::<u16>()], proptest::collection::vec(any::<u8>(), 0..70)), 0..40)
    ) {
        let mut bytes = Vec::new();
        for (critical, kind, body) in list {
            write(&mut bytes, critical, RecordType::from_number(kind), &body);
        }
        let _ = Message::parse(records(&bytes), |_| true);
        let _ = parse_grant(records(&bytes), &keys(0, 15));
        if let Ok(support) = Support::parse(records(&bytes), EVERYTHING) {
            prop_assert!(support.servers.len() <= MAX_SERVER_NAMES && support.algorithms.len() <= MAX_LISTED);
        }
    }
}
