use std::{path::Path, sync::Arc};

use nts_ke::{message::MAX_COOKIES, record::Content};
use pool_srv::directory::{Health, parse};
use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn request(algorithms: &[u16], compliant_export: bool) -> Request {
    Request { protocols: vec![NTPV4], algorithms: algorithms.to_vec(), compliant_export, ..Request::default() }
}

fn support(algorithms: &[(u16, u16)]) -> Support {
    Support { protocols: vec![NTPV4], algorithms: algorithms.to_vec(), ..Support::default() }
}

#[test]
fn a_denied_name_excludes_all_who_bear_it() {
    let member =
        |n| format!("[[member]]\nname = \"m{n}.test\"\naddresses = [\"2001:db8::{n}\", \"198.51.100.{}\"]\n", n / 2);
    let text: String = (0..4).map(member).collect();
    let directory = parse(Path::new("members.toml"), &text).unwrap();
    let assignments = Assignments::new(Roster::new(Arc::clone(&directory), |_| Health::Up));
    let mut aliases = Aliases::default();
    aliases.insert(&name("m1.test"), "NTP.one.test");
    aliases.insert(&name("m2.test"), "ntp.one.test.");
    aliases.insert(&name("m2.test"), "192.0.2.2");
    aliases.insert(&name("gone.test"), "ntp.one.test");
    for (denied, expected) in [
        (&["m3.test"][..], &[3][..]),
        (&["M3.TEST."], &[3]),
        (&["ntp.one.test"], &[1, 2]),
        (&["192.0.2.2", "m0.test", "m0.test"], &[0, 2]),
        // By the directory alone: another node may have sent the user there.
        (&["2001:db8::3"], &[3]),
        (&["198.51.100.1"], &[2, 3]),
        // One address in another form.
        (&["2001:DB8:0:0::3"], &[3]),
        (&["::ffff:198.51.100.1"], &[2, 3]),
        (&["::FFFF:192.0.2.2"], &[2]),
        (&["else.test", ""], &[]),
    ] {
        let denied: Vec<_> = denied.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(assignments.excluded(&denied, &aliases), expected, "{denied:?}");
    }
}

#[test]
fn users_are_told_an_address_of_their_own_family() {
    let text = "[[member]]\nname = \"m.test\"\naddresses = [\"10.0.0.1\", \"198.51.100.1\", \"198.51.100.2\", \"2001:db8::1\"]\n";
    let directory = parse(Path::new("members.toml"), text).unwrap();
    let member = &directory.members()[0];
    let told = |user: &str, good: Option<&str>, private| {
        address_for(user.parse().unwrap(), member, good.map(|good| good.parse().unwrap()), private)
    };
    assert_eq!(told("192.0.2.7", None, false).as_deref(), Some("198.51.100.1"));
    assert_eq!(told("192.0.2.7", None, true).as_deref(), Some("10.0.0.1"));
    assert_eq!(told("192.0.2.7", Some("198.51.100.2"), false).as_deref(), Some("198.51.100.2"));
    assert_eq!(told("192.0.2.7", Some("2001:db8::1"), false).as_deref(), Some("198.51.100.1"));
    assert_eq!(
        told("192.0.2.7", Some("10.0.0.1"), false).as_deref(),
        Some("198.51.100.1"),
        "an internal one is not told"
    );
    assert_eq!(told("2001:db8::7", None, false).as_deref(), Some("2001:db8::1"));
    let nameless =
        parse(Path::new("members.toml"), "[[member]]\nname = \"m.test\"\naddresses = [\"192.0.2.1\"]\n").unwrap();
    assert_eq!(address_for("2001:db8::7".parse().unwrap(), &nameless.members()[0], None, false), None);
}

#[test]
fn aliases_are_bounded() {
    let mut aliases = Aliases::default();
    for number in 0..1000 {
        aliases.insert(&name("m1.test"), &format!("a{number}.test"));
        aliases.insert(&name(&format!("m{number}.test")), "shared.test");
    }
    assert!(is_denied(&["2001:db8::7".to_owned()], &["2001:DB8::0:7".to_owned()]));
    assert!(!is_denied(&["2001:db8::7".to_owned()], &["2001:db8::70".to_owned()]));
    assert_eq!(aliases.counts[&name("m1.test")], MAX_ALIASES);
    assert_eq!(aliases.bearers("shared.test").len(), MAX_BEARERS);
    assert!(aliases.knows(&name("m1.test"), "M1.test.") && !aliases.knows(&name("m1.test"), "a999.test"));
}

#[test]
fn the_first_algorithm_of_the_user_is_chosen_and_30_only_if_it_is_clear() {
    let all = support(&[(15, 32), (17, 64), (30, 16), (99, 40), (7, 4), (8, 1000)]);
    let terms =
        |algorithm, key_length, compliant_export| Choice::Use(Terms { algorithm, key_length, compliant_export });
    for (wanted, compliant, choice) in [
        (&[30, 15][..], true, terms(30, 16, true)),
        (&[30, 15], false, terms(15, 32, false)),
        (&[30, 99], false, terms(99, 40, false)),
        (&[30], false, terms(30, 16, false)),
        (&[17, 15], true, terms(17, 64, false)),
        (&[16, 99], false, terms(99, 40, false)),
        (&[16], true, Choice::NoAlgorithm),
        (&[7, 8], true, Choice::NoAlgorithm),
    ] {
        assert_eq!(choose(&request(wanted, compliant), &all), choice, "{wanted:?} {compliant}");
    }
    let other = Support { protocols: vec![0x8001], ..all.clone() };
    assert_eq!(choose(&request(&[15], false), &other), Choice::NoProtocol);
    assert_eq!(choose(&Request { protocols: vec![0x8001], ..request(&[15], false) }, &all), Choice::NoProtocol);
}

fn accepted(server: Option<&str>, port: Option<u16>) -> Accepted {
    Accepted {
        algorithm: 15,
        cookies: vec![nts_cookie(); 8],
        server: server.map(str::to_owned),
        port,
        compliant_export: false,
        keep_alive: true,
    }
}

fn nts_cookie() -> ntp_proto::nts::Cookie {
    ntp_proto::nts::Cookie::new(&[7; 100]).unwrap()
}

const TERMS: Terms = Terms { algorithm: 15, key_length: 32, compliant_export: false };

#[test]
fn users_are_sent_to_servers_on_the_internet_only() {
    let member = name("m1.test");
    for (server, expected) in [
        (None, Ok(())),
        (Some("ntp.m1.test"), Ok(())),
        (Some("192.0.2.1"), Ok(())),
        (Some("2001:db8::1"), Ok(())),
        (Some("127.0.0.1"), Err(Unfit::Internal)),
        (Some("10.0.0.1"), Err(Unfit::Internal)),
        (Some("172.16.3.4"), Err(Unfit::Internal)),
        (Some("192.168.0.1"), Err(Unfit::Internal)),
        (Some("169.254.169.254"), Err(Unfit::Internal)),
        (Some("100.64.0.1"), Err(Unfit::Internal)),
        (Some("0.0.0.0"), Err(Unfit::Internal)),
        (Some("224.0.1.1"), Err(Unfit::Internal)),
        (Some("255.255.255.255"), Err(Unfit::Internal)),
        (Some("::1"), Err(Unfit::Internal)),
        (Some("::"), Err(Unfit::Internal)),
        (Some("fe80::1"), Err(Unfit::Internal)),
        (Some("fd00::1"), Err(Unfit::Internal)),
        (Some("ff05::101"), Err(Unfit::Internal)),
        (Some("::ffff:10.0.0.1"), Err(Unfit::Internal)),
        (Some("::7f00:1"), Err(Unfit::Internal)),
        (Some("64:ff9b::a00:1"), Err(Unfit::Internal)),
        (Some("64:ff9b::c000:201"), Ok(())),
        (Some("localhost"), Err(Unfit::Internal)),
        (Some("evil.LocalHost."), Err(Unfit::Internal)),
        (Some("router"), Err(Unfit::Internal)),
        (Some("127.1"), Err(Unfit::Internal)),
        (Some("not a name"), Err(Unfit::Name)),
        (Some(""), Err(Unfit::Name)),
    ] {
        let accepted = accepted(server, None);
        assert_eq!(grant(&TERMS, &member, "m1.test", &accepted, false).map(drop), expected, "{server:?}");
        let lenient = grant(&TERMS, &member, "m1.test", &accepted, true).map(drop);
        assert_eq!(lenient, expected.or_else(|unfit| if unfit == Unfit::Internal { Ok(()) } else { Err(unfit) }));
    }
}

#[test]
fn an_answer_has_a_server_always_and_is_for_what_was_asked() {
    let member = name("m1.test");
    let got = accepted(None, Some(1123));
    let answer = grant(&TERMS, &member, "m1.test", &got, false).unwrap();
    assert_eq!((answer.server, answer.port, answer.algorithm), (Some("m1.test"), Some(1123), 15));
    for (said, told) in [(None, "192.0.2.1"), (Some("M1.test."), "192.0.2.1"), (Some("ntp.one.test"), "ntp.one.test")] {
        let got = accepted(said, None);
        assert_eq!(grant(&TERMS, &member, "192.0.2.1", &got, false).unwrap().server, Some(told));
    }
    assert_eq!(grant(&TERMS, &member, "m1.test", &accepted(None, Some(0)), false), Err(Unfit::Port));
    assert_eq!(grant(&Terms { algorithm: 17, ..TERMS }, &member, "m1.test", &got, false), Err(Unfit::Algorithm));
    let none = Accepted { cookies: vec![], ..got };
    assert_eq!(grant(&TERMS, &member, "m1.test", &none, false), Err(Unfit::NoCookies));
}

proptest! {
    /// Whatever a member says, users see records of RFC 8915 and the echo they asked for.
    #[test]
    fn only_listed_records_reach_users(
        server in prop::option::of("[a-z0-9.:-]{0,40}"),
        port in prop::option::of(any::<u16>()),
        count in 0_usize..20,
        algorithm in prop::sample::select(vec![15_u16, 17, 30]),
        echo: bool,
    ) {
        let mut got = accepted(server.as_deref(), port);
        got.cookies = vec![nts_cookie(); count];
        got.algorithm = algorithm;
        let terms = Terms { algorithm: 30, key_length: 16, compliant_export: echo };
        if let Ok(answer) = grant(&terms, &name("m1.test"), "m1.test", &got, false) {
            prop_assert_eq!(algorithm, 30);
            let mut incoming = nts_ke::record::Incoming::new(nts_ke::record::Limits::RESPONSE);
            prop_assert_eq!(incoming.handle_input(&nts_ke::message::Response::Established(answer).encode()), Ok(true));
            let (mut cookies, mut servers) = (0, 0);
            for record in incoming.records() {
                #[expect(clippy::wildcard_enum_match_arm, reason = "all others are forbidden")]
                match record.content().unwrap() {
                    Content::NextProtocol(ids) => prop_assert!(ids.iter().eq([NTPV4])),
                    Content::Aead(ids) => prop_assert!(ids.iter().eq([30])),
                    Content::NewCookie(_) => cookies += 1,
                    Content::Server(told) => {
                        servers += 1;
                        prop_assert!(check_server(told, false).is_ok());
                    }
                    Content::Port(told) => prop_assert!(told != 0),
                    Content::CompliantExport => prop_assert!(echo),
                    Content::EndOfMessage => {}
                    _ => prop_assert!(false, "type {}", record.kind.number()),
                }
            }
            prop_assert!((1..=MAX_COOKIES).contains(&cookies) && servers == 1);
        }
    }
}
