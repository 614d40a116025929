use std::{collections::BTreeSet, time::Duration};

use ntp_proto::{
    ids::{KeyId, Trust},
    pool::{Failure, KeyExchange, Member, Negotiated, Question, Service},
    select::SelectOptions,
    source::SampleRules,
    time::PollInterval,
};

use super::*;
use crate::config::{Require, SourceOptions};

const START: Monotonic = Monotonic::from_nanos(1);

fn name() -> Name {
    Name::parse("time.example").unwrap()
}

fn options() -> SourceOptions {
    SourceOptions {
        min_poll: PollInterval::MIN,
        max_poll: PollInterval::MAX,
        iburst: true,
        burst: false,
        interleaved: true,
        version: 4,
        offline: false,
        family: None,
        rules: SampleRules::default(),
        roots: None,
        select: SelectOptions::default(),
    }
}

fn pool(mode: PoolModeName, nts: NtsUse) -> Mode {
    let pool = Pool {
        name: name(),
        mode,
        count: 3,
        nts,
        require: Require::default(),
        port: 1123,
        ke_port: 14460,
        address_hints: Vec::new(),
        options: options(),
    };
    Mode::new(Spec::of_pool(&pool, None, 1))
}

fn server(host: &str, nts: NtsUse, key: Option<KeyId>, remembered: Option<Route>) -> Mode {
    let host = host.parse().map_or_else(|_| config::Host::Name(Name::parse(host).unwrap()), config::Host::Address);
    let (require, address_hints) = (Require::default(), Vec::new());
    let server = Server { host, port: 1123, ke_port: 14460, nts, key, require, address_hints, options: options() };
    Mode::new(Spec::of_server(&server, remembered, 1))
}

/// Everything until the next timeout.
fn drain(mode: &mut Mode) -> (Vec<Member>, Vec<(QuestionId, Question)>, Option<Monotonic>) {
    let (mut joined, mut asked) = (Vec::new(), Vec::new());
    loop {
        match mode.poll_output() {
            Output::Join(member) => joined.push(member),
            Output::Ask(id, question) => asked.push((id, question)),
            Output::Timeout(at, _) => return (joined, asked, at),
        }
    }
}

/// The one question that is asked now.
fn question(mode: &mut Mode) -> (QuestionId, Question) {
    let (joined, mut asked, _) = drain(mode);
    assert_eq!((joined.len(), asked.len()), (0, 1), "{joined:?} {asked:?}");
    asked.remove(0)
}

/// The route that a question belongs to.
fn route(question: &Question) -> Route {
    match question {
        Question::Services { .. } => Route::Srv,
        Question::KeyExchange(_) => Route::Lb,
        Question::Addresses { .. } => Route::Classic,
    }
}

fn negotiated() -> Answer {
    let addresses = vec!["192.0.2.1:123".parse().unwrap()];
    Answer::KeyExchange(Negotiated { ntp_server: "a.example".into(), addresses, trust: Trust::Pki })
}

fn services() -> Answer {
    let target = Name::parse("a.example").unwrap();
    let record = Service { priority: 0, weight: 0, port: 4460, target };
    Answer::Services { records: vec![record], until: START + Duration::from_secs(3600) }
}

fn addresses() -> Answer {
    Answer::Addresses { addresses: vec!["192.0.2.9:1123".parse().unwrap()], until: START + Duration::from_secs(3600) }
}

/// Lets time pass until something is asked.
fn wait_for_question(mode: &mut Mode, now: &mut Monotonic) -> (QuestionId, Question) {
    for _ in 0..10 {
        let (joined, mut asked, timeout) = drain(mode);
        assert_eq!(joined, []);
        if !asked.is_empty() {
            return asked.remove(0);
        }
        *now = timeout.expect("it waits for a time");
        mode.handle_timeout(*now);
    }
    panic!("asks nothing");
}

#[test]
fn the_configuration_says_what_is_asked_first() {
    let services = Question::Services { owner: Name::parse("_ntske._tcp.time.example").unwrap(), validated: true };
    let plain = Question::Services { owner: Name::parse("_ntp._udp.time.example").unwrap(), validated: false };
    let ke_addresses = Question::Addresses { name: name(), port: 14460 };
    let addresses = Question::Addresses { name: name(), port: 1123 };
    let keys = |server: &str| {
        let server =
            server.parse().map_or_else(|_| Name::parse(server).unwrap(), |address: std::net::IpAddr| address.into());
        Question::KeyExchange(KeyExchange { server, port: 14460, addresses: None, validated: false, denied: vec![] })
    };
    let (auto, require, off) = (NtsUse::Auto, NtsUse::Require, NtsUse::Off);
    let key = Some(KeyId(7));
    for (mut mode, label, expected) in [
        (pool(PoolModeName::Auto, auto), "auto", services.clone()),
        (pool(PoolModeName::Auto, require), "auto", services.clone()),
        (pool(PoolModeName::Auto, off), "classic", plain.clone()),
        (pool(PoolModeName::Srv, auto), "srv", services.clone()),
        (pool(PoolModeName::Lb, require), "lb", keys("time.example")),
        (pool(PoolModeName::SharedCert, auto), "shared-cert", ke_addresses.clone()),
        (pool(PoolModeName::IpCert, require), "ip-cert", ke_addresses),
        (pool(PoolModeName::Classic, off), "classic", plain),
        (server("time.example", auto, None, None), "auto", services),
        (server("time.example", auto, key, None), "classic", addresses.clone()),
        (server("time.example", off, None, None), "classic", addresses),
        (server("time.example", require, None, None), "lb", keys("time.example")),
        (server("192.0.2.1", require, None, None), "lb", keys("192.0.2.1")),
        (server("2001:db8::1", require, None, None), "lb", keys("2001:db8::1")),
    ] {
        assert_eq!((mode.label(), mode.learned(), question(&mut mode).1), (label, None, expected));
    }
    for (host, nts, key) in [("192.0.2.1", auto, None), ("192.0.2.1", off, None), ("2001:db8::1", off, key)] {
        let (joined, asked, _) = drain(&mut server(host, nts, key, None));
        assert_eq!(asked, []);
        assert_eq!(joined[0].addresses, [SocketAddr::new(host.parse().unwrap(), 1123)]);
    }
}

#[test]
fn the_members_wanted_are_those_configured() {
    let mut mode = pool(PoolModeName::Classic, NtsUse::Off);
    let (id, _) = question(&mut mode);
    mode.handle_answer(START, id, Answer::NoRecord);
    let (id, _) = question(&mut mode);
    let addresses = (1..9).map(|net| SocketAddr::from(([10, 0, net, 1], 123))).collect();
    mode.handle_answer(START, id, Answer::Addresses { addresses, until: START + Duration::from_secs(60) });
    assert_eq!(drain(&mut mode).0.len(), 3);
}

#[test]
fn auto_goes_the_way_of_its_table() {
    let mut mode = pool(PoolModeName::Auto, NtsUse::Auto);
    let (id, asked) = question(&mut mode);
    assert_eq!(route(&asked), Route::Srv);
    mode.handle_answer(START, id, Answer::NoRecord);
    let (id, asked) = question(&mut mode);
    assert_eq!((route(&asked), mode.label()), (Route::Lb, "auto"));
    mode.handle_answer(START, id, Answer::Failed(Failure::Connect));
    let (id, asked) = question(&mut mode);
    assert!(matches!(asked, Question::Services { validated: false, .. }), "{asked:?}");
    mode.handle_answer(START, id, Answer::Failed(Failure::Resolver));
    let (id, asked) = question(&mut mode);
    assert_eq!((route(&asked), mode.learned()), (Route::Classic, None));
    mode.handle_answer(START, id, addresses());
    let (joined, _, _) = drain(&mut mode);
    assert_eq!((joined.len(), mode.label(), mode.learned()), (1, "auto (classic)", Some(Route::Classic)));
}

#[test]
fn fixed_modes_tell_of_nts_once_they_have_it() {
    let mut mode = server("time.example", NtsUse::Require, None, None);
    let (id, _) = question(&mut mode);
    mode.handle_answer(START, id, negotiated());
    assert_eq!((drain(&mut mode).0.len(), mode.learned()), (1, Some(Route::Lb)));

    // A name whose servers share a certificate exchanges keys itself; one whose servers do not says nothing of that.
    for (mode, learned) in [(PoolModeName::SharedCert, Some(Route::Lb)), (PoolModeName::IpCert, None)] {
        let mut mode = pool(mode, NtsUse::Auto);
        let (id, _) = question(&mut mode);
        mode.handle_answer(START, id, addresses());
        let (id, _) = question(&mut mode);
        assert_eq!(mode.learned(), None);
        mode.handle_answer(START, id, negotiated());
        assert_eq!((drain(&mut mode).0[0].trust, mode.learned()), (Trust::Pki, learned));
    }

    let mut mode = pool(PoolModeName::Srv, NtsUse::Auto);
    let (id, _) = question(&mut mode);
    mode.handle_answer(START, id, services());
    let (id, _) = question(&mut mode);
    assert_eq!(mode.learned(), None);
    mode.handle_answer(START, id, negotiated());
    let (joined, _, _) = drain(&mut mode);
    assert_eq!((joined[0].trust, mode.learned()), (Trust::Dnssec, Some(Route::Srv)));
}

/// A target of service records that cannot be reached says nothing of the name.
#[test]
fn an_answer_about_a_target_does_not_decide() {
    for answer in [Answer::NoRecord, Answer::Failed(Failure::Connect)] {
        let mut mode = pool(PoolModeName::Auto, NtsUse::Auto);
        let (id, _) = question(&mut mode);
        mode.handle_answer(START, id, services());
        let mut now = START;
        for _ in 0..20 {
            let (id, asked) = wait_for_question(&mut mode, &mut now);
            assert!(
                !matches!(&asked, Question::KeyExchange(exchange) if exchange.server == name()),
                "went on to key exchange with the name itself"
            );
            let answer = if route(&asked) == Route::Srv { services() } else { answer.clone() };
            mode.handle_answer(now, id, answer);
        }
        assert_eq!(mode.label(), "auto (srv)");
    }
}

#[test]
fn when_all_members_are_lost_the_way_begins_anew_and_never_leads_down() {
    let mut mode = server("time.example", NtsUse::Auto, None, None);
    let (id, _) = question(&mut mode);
    mode.handle_answer(START, id, Answer::NoRecord);
    let (id, _) = question(&mut mode);
    mode.handle_answer(START, id, negotiated());
    let (joined, _, _) = drain(&mut mode);
    assert_eq!(mode.label(), "auto (lb)");

    let mut now = START + Duration::from_secs(100);
    mode.handle_leave(now, joined[0].id, Leave::Unreachable);
    let (id, asked) = wait_for_question(&mut mode, &mut now);
    assert_eq!(route(&asked), Route::Srv);
    mode.handle_answer(now, id, Answer::NoRecord);
    // The way down is what an attacker wants: NTS is gone for a while, and plain NTP would answer.
    let mut ids = BTreeSet::from([id]);
    for _ in 0..10 {
        let (id, asked) = wait_for_question(&mut mode, &mut now);
        assert_eq!(route(&asked), Route::Lb);
        assert!(ids.insert(id));
        mode.handle_answer(now, id, Answer::Failed(Failure::Connect));
    }
    assert_eq!(mode.learned(), Some(Route::Lb));
    let (id, _) = wait_for_question(&mut mode, &mut now);
    mode.handle_answer(now, id, negotiated());
    let (again, _, _) = drain(&mut mode);
    assert_eq!(again.len(), 1);
    assert_ne!(again[0].id, joined[0].id);
}

#[test]
fn a_name_without_nts_may_gain_it_when_its_members_are_lost() {
    let mut mode = server("time.example", NtsUse::Auto, None, Some(Route::Classic));
    let (id, _) = question(&mut mode);
    mode.handle_answer(START, id, Answer::NoRecord);
    let (id, _) = question(&mut mode);
    mode.handle_answer(START, id, Answer::Failed(Failure::Connect));
    let (id, _) = question(&mut mode);
    mode.handle_answer(START, id, addresses());
    let (joined, _, _) = drain(&mut mode);
    let mut now = START + Duration::from_secs(5000);
    mode.handle_leave(now, joined[0].id, Leave::Unusable);
    let (id, asked) = wait_for_question(&mut mode, &mut now);
    assert_eq!(route(&asked), Route::Srv);
    mode.handle_answer(now, id, services());
    assert_eq!((mode.label(), mode.learned()), ("auto (srv)", Some(Route::Srv)));
}

#[test]
fn a_name_that_had_nts_in_an_earlier_run_stays_with_it() {
    let mut mode = server("time.example", NtsUse::Auto, None, Some(Route::Lb));
    let (id, _) = question(&mut mode);
    mode.handle_answer(START, id, Answer::NoRecord);
    let mut now = START;
    for _ in 0..10 {
        let (id, asked) = wait_for_question(&mut mode, &mut now);
        assert_eq!(route(&asked), Route::Lb);
        mode.handle_answer(now, id, Answer::Failed(Failure::Connect));
    }
}

#[test]
fn names_too_long_for_service_records_are_asked_for_keys() {
    let long = Name::parse(&["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(61)].join(".")).unwrap();
    let target = Target { name: long, port: 123, ke_port: 4460 };
    let mut mode = Mode::Auto(AutoPool::new(&target, NtsPolicy::Auto, None, 1));
    mode.set_target(1);
    assert_eq!(route(&question(&mut mode).1), Route::Lb);
}

/// A name that came to plain NTP, with a member.
fn plain_one() -> (Mode, Member) {
    let mut mode = server("time.example", NtsUse::Auto, None, None);
    for answer in [Answer::NoRecord, Answer::Failed(Failure::Connect), addresses()] {
        let (id, _) = question(&mut mode);
        mode.handle_answer(START, id, answer);
    }
    let (mut joined, _, _) = drain(&mut mode);
    assert_eq!((joined.len(), mode.label()), (1, "auto (classic)"));
    (mode, joined.remove(0))
}

/// The question of a look, beside those of the mode that serves.
fn look(mode: &mut Mode) -> Option<(QuestionId, Question)> {
    let (joined, asked, _) = drain(mode);
    assert_eq!(joined, []);
    asked.into_iter().find(|(id, _)| mode.is_look(*id))
}

#[test]
fn one_failed_connection_at_the_first_start_is_not_plain_ntp_for_good() {
    let (mut mode, plain) = plain_one();
    let (_, _, timeout) = drain(&mut mode);
    let now = timeout.expect("it will look again");
    let wait = now.since(START).as_secs();
    assert!((4096..4608).contains(&wait), "{wait}");
    mode.handle_timeout(now);
    let (id, asked) = look(&mut mode).expect("a look");
    assert_eq!(route(&asked), Route::Srv);
    mode.handle_answer(now, id, Answer::NoRecord);
    let (id, asked) = look(&mut mode).expect("the way goes on");
    assert_eq!((route(&asked), mode.learned()), (Route::Lb, Some(Route::Classic)));
    // Its port is open now.
    mode.handle_answer(now, id, negotiated());
    assert_eq!((mode.label(), mode.learned()), ("auto (lb)", Some(Route::Lb)));
    let (joined, asked, _) = drain(&mut mode);
    assert_eq!((joined.len(), asked), (1, vec![]));
    assert_eq!((joined[0].replaces, joined[0].trust), (Some(plain.id), Trust::Pki));
    mode.handle_refresh(now);
    assert!(look(&mut mode).is_none(), "there is nothing better to look for");
}

#[test]
fn whoever_wants_news_of_a_plain_name_has_it_looked_at_for_nts() {
    let (mut mode, plain) = plain_one();
    let now = START + Duration::from_secs(10);
    mode.handle_refresh(now);
    let (id, asked) = look(&mut mode).expect("a look");
    assert_eq!(route(&asked), Route::Srv);
    mode.handle_answer(now, id, services());
    // Records alone give no member.
    assert_eq!(mode.learned(), Some(Route::Classic));
    let (id, asked) = look(&mut mode).expect("the target is asked for keys");
    assert!(matches!(&asked, Question::KeyExchange(exchange) if exchange.validated), "{asked:?}");
    mode.handle_answer(now, id, negotiated());
    let (joined, _, _) = drain(&mut mode);
    assert_eq!((joined.len(), joined[0].replaces, joined[0].trust), (1, Some(plain.id), Trust::Dnssec));
    assert_eq!((mode.label(), mode.learned()), ("auto (srv)", Some(Route::Srv)));
}

#[test]
fn a_look_that_fails_changes_nothing_and_the_next_one_comes_later() {
    let no_target: &[fn() -> Answer] = &[services, || Answer::Failed(Failure::Connect)];
    let no_answer: &[fn() -> Answer] = &[|| Answer::Failed(Failure::Resolver)];
    let no_keys: &[fn() -> Answer] = &[|| Answer::NoRecord, || Answer::Failed(Failure::Tls)];
    let no_listener: &[fn() -> Answer] = &[|| Answer::NoRecord, || Answer::Failed(Failure::Connect)];
    for answers in [no_target, no_answer, no_keys, no_listener] {
        let (mut mode, _) = plain_one();
        let (mut now, mut waits) = (START, Vec::new());
        for _ in 0..8 {
            let (_, _, timeout) = drain(&mut mode);
            let at = timeout.expect("it will look again");
            waits.push(at.since(now).as_secs());
            now = at;
            mode.handle_timeout(now);
            for answer in answers {
                let (id, _) = look(&mut mode).expect("a question");
                mode.handle_answer(now, id, answer());
            }
            assert!(look(&mut mode).is_none(), "the look is over");
            assert_eq!((mode.label(), mode.learned()), ("auto (classic)", Some(Route::Classic)));
        }
        assert!(waits.windows(2).all(|pair| pair[0] < pair[1] || pair[1] >= 65_536), "{waits:?}");
        assert!(waits.iter().all(|wait| (4096..73_728).contains(wait)), "{waits:?}");
    }
}

#[test]
fn of_several_plain_members_each_is_replaced_by_one_with_nts() {
    let mut mode = pool(PoolModeName::Auto, NtsUse::Auto);
    let many = || {
        let addresses = (1..9).map(|net| SocketAddr::from(([10, 0, net, 1], 123))).collect();
        Answer::Addresses { addresses, until: START + Duration::from_secs(3600) }
    };
    for answer in [Answer::NoRecord, Answer::Failed(Failure::Connect), Answer::NoRecord, many()] {
        let (id, _) = question(&mut mode);
        mode.handle_answer(START, id, answer);
    }
    let plain: BTreeSet<_> = drain(&mut mode).0.into_iter().map(|member| member.id).collect();
    assert_eq!(plain.len(), 3);
    mode.handle_refresh(START);
    let (mut replaced, mut exchanges) = (BTreeSet::new(), 0);
    for _ in 0..12 {
        let (joined, asked, _) = drain(&mut mode);
        replaced.extend(joined.into_iter().map(|member| member.replaces.expect("nobody beside the three")));
        for (id, asked) in asked {
            let answer = match (route(&asked), asked) {
                (Route::Lb, _) => {
                    exchanges += 1;
                    let addresses = vec![SocketAddr::from(([10, 1, exchanges, 1], 123))];
                    let ntp_server = format!("{exchanges}.example");
                    Answer::KeyExchange(Negotiated { ntp_server, addresses, trust: Trust::Pki })
                }
                (Route::Classic, _) => many(),
                (Route::Srv, _) => Answer::NoRecord,
            };
            mode.handle_answer(START, id, answer);
        }
    }
    assert_eq!((replaced, exchanges), (plain, 3));
}

#[test]
fn without_policy_auto_there_is_no_look() {
    let mut mode = pool(PoolModeName::Auto, NtsUse::Off);
    let (id, _) = question(&mut mode);
    mode.handle_answer(START, id, Answer::NoRecord);
    let (id, _) = question(&mut mode);
    mode.handle_answer(START, id, addresses());
    drain(&mut mode);
    mode.handle_refresh(START);
    for (_, asked) in drain(&mut mode).1 {
        assert!(!matches!(asked, Question::Services { validated: true, .. } | Question::KeyExchange(_)), "{asked:?}");
    }
}
