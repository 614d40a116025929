//! The balancer in process, over real TLS on loopback.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    reason = "tests block, keep time and count by themselves"
)]

mod adversity;
mod nodes;
mod probes;
mod scene;
mod wire;
mod zone;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::atomic::Ordering,
    thread,
};

use ntp_proto::nts::AeadAlgorithm;
use nts_ke::error::{ErrorCode, KeError, NoOverlap};
use pool_lb::balance::metrics::Counter;
use pool_srv::directory::{Health, HealthReport, MemberHealth};
use scene::{Manner, Scene};

const FAILED: KeError = KeError::Refused(ErrorCode::Internal);

#[test]
fn users_get_cookies_of_members_for_their_own_keys() {
    let scene = Scene::new(&[Manner::Good, Manner::Good, Manner::Good, Manner::Chatty]);
    for algorithms in [&AeadAlgorithm::ALL[..], &[AeadAlgorithm::AesGcmSiv128], &[AeadAlgorithm::AesSivCmac512]] {
        for _ in 0..6 {
            let established = scene.user_with(algorithms, &[], &[]).unwrap();
            let owner = scene.owner(&established);
            assert_eq!(established.algorithm, algorithms[0]);
            assert_eq!(established.server.as_deref(), Some(owner.name.as_str()));
            assert!(established.fallback_keys.is_none(), "record 1024 is echoed");
            assert_eq!(established.cookies.len(), 8);
            assert_eq!(established.port, (owner.name == "m4.test").then_some(1123));
        }
    }
    assert_eq!(scene.all_keys(), 18);
    assert_eq!(scene.balancer().metrics().get(Counter::Served), 18);
}

#[test]
fn members_that_fail_before_they_have_keys_cost_nobody_an_exchange() {
    let scene = Scene::new(&[
        Manner::Good,
        Manner::Silent,
        Manner::OtherName,
        Manner::RubbishSupport,
        Manner::InternalSupport,
        Manner::Good,
    ]);
    for _ in 0..12 {
        let established = scene.user().unwrap();
        assert!(["m1.test", "m6.test"].contains(&scene.owner(&established).name.as_str()));
    }
    assert_eq!(scene.all_keys(), 12);
}

#[test]
fn members_have_certificates_of_authorities_of_their_own() {
    let scene = Scene::new(&[Manner::Good, Manner::OtherAuthority, Manner::StrangeAuthority]);
    let member = |number: usize| &scene.members[number];
    // Two that the balancer trusts, none of which vouches for the other's member.
    scene::wait_until("both in use, and the third tried", || {
        let owner = scene.owner(&scene.user().unwrap()).name.clone();
        assert_ne!(owner, member(2).name);
        [0, 1].into_iter().all(|number| !member(number).keys.lock().unwrap().is_empty())
            && !scene.health(2).1.is_empty()
    });
    assert_eq!(
        [scene.health(0), scene.health(1)],
        [("up".to_owned(), String::new()), ("up".to_owned(), String::new())]
    );
    let (state, reason) = scene.health(2);
    assert!(state != "up" && reason.contains("certificate"), "{state}: {reason}");
    assert!(member(2).keys.lock().unwrap().is_empty(), "nobody vouches for it, so it gets no keys");
    // It is in use as soon as its authority is trusted, and not before.
    scene.set_members(&scene.members[2..]);
    assert_eq!(scene.user().unwrap_err(), FAILED);
    fs::write(scene.path("ca.pem"), &scene.stranger).unwrap();
    scene.command("reload").unwrap();
    scene::wait_until("a user of it", || scene.user().is_ok_and(|user| scene.owner(&user).name == member(2).name));
    scene.all_keys();
}

#[test]
fn many_threads_connect_to_a_member_within_what_it_allows_a_host() {
    let scene = Scene::with(&[(Manner::Limited, &[15][..], None), (Manner::Limited, &[15], None)], "workers = 16");
    let metrics = scene.balancer().metrics();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..4 {
                    scene.owner(&scene.user().unwrap());
                }
            });
        }
    });
    scene::wait_until("a connection of each thread to each member", || metrics.get(Counter::UpstreamConnections) >= 32);
    for member in &scene.members {
        assert_eq!(member.refused.load(Ordering::SeqCst), 0, "{}", member.name);
    }
    let counted = [Counter::Served, Counter::Failovers, Counter::Lost, Counter::OwnFaults, Counter::NoMember];
    assert_eq!(counted.map(|counter| metrics.get(counter)), [32, 0, 0, 0, 0]);
    assert_eq!(scene.all_keys(), 32);
}

#[test]
fn a_member_that_forgets_its_token_gets_no_keys() {
    let scene = Scene::new(&[Manner::Good, Manner::Good]);
    // Both are known well.
    scene::wait_until("both members in use", || {
        scene.user().unwrap();
        scene.members.iter().all(|member| !member.keys.lock().unwrap().is_empty())
    });
    "another".clone_into(&mut scene.members[0].token.lock().unwrap());
    let metrics = scene.balancer().metrics();
    // So many at a time need new connections.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    scene.owner(&scene.user().unwrap());
                    if metrics.get(Counter::Failovers) > 2 {
                        break;
                    }
                }
            });
        }
    });
    assert!(metrics.get(Counter::Failovers) > 0, "the token is tried before keys are sent");
    assert_eq!(metrics.get(Counter::Lost), 0);
    scene.all_keys();
}

#[test]
fn a_member_that_dies_is_replaced() {
    let scene = Scene::new(&[Manner::Good; 3]);
    for _ in 0..6 {
        scene.owner(&scene.user().unwrap());
    }
    scene.members[0].kill();
    thread::sleep(std::time::Duration::from_millis(100));
    let before = scene.members[0].keys.lock().unwrap().len();
    for _ in 0..20 {
        assert_ne!(scene.owner(&scene.user().unwrap()).name, "m1.test");
    }
    assert_eq!(scene.members[0].keys.lock().unwrap().len(), before);
}

#[test]
fn what_a_hostile_member_sends_stays_with_the_balancer() {
    for manner in [
        Manner::Rubbish,
        Manner::Stalls,
        Manner::Closes,
        Manner::ZeroCookies,
        Manner::OtherAlgorithm,
        Manner::Internal,
        Manner::Localhost,
        Manner::PortZero,
        Manner::ErrorRecord,
        Manner::WarningRecord,
        Manner::Twice,
    ] {
        let scene = Scene::new(&[manner]);
        assert_eq!(scene.user().unwrap_err(), FAILED, "{manner:?}");
        assert_eq!(scene.all_keys(), 1, "{manner:?}: no second try with keys that are out");
        scene::wait_until("the judge to hear of it", || scene.health(0).0 == "suspect");
        assert!(!scene.health(0).1.is_empty(), "{manner:?}");
    }
}

#[test]
fn with_all_members_down_users_are_told_so() {
    let scene = Scene::new(&[Manner::Good, Manner::Good]);
    scene.members.iter().for_each(scene::Member::kill);
    thread::sleep(std::time::Duration::from_millis(100));
    for _ in 0..5 {
        assert_eq!(scene.user().unwrap_err(), FAILED);
    }
    assert_eq!(scene.all_keys(), 0);
}

#[test]
fn the_first_user_denies_a_name_that_nobody_has_heard_of_yet() {
    let siv = [AeadAlgorithm::AesSivCmac256];
    for _ in 0..8 {
        let wanted = [(Manner::Good, &[15][..], Some("ntp.one.test")), (Manner::Good, &[15], None)];
        let scene = Scene::with(&wanted, "");
        let denied = ["NTP.One.test.".to_owned()];
        assert_eq!(scene.owner(&scene.user_with(&siv, &denied, &[]).unwrap()).name, "m2.test");
        let all = ["ntp.one.test", "m2.test"].map(str::to_owned);
        scene.owner(&scene.user_with(&siv, &all, &[]).unwrap());
    }
}

#[test]
fn once_members_are_back_users_are_served_again() {
    let scene = Scene::new(&[Manner::Good, Manner::Good]);
    scene.user().unwrap();
    scene.members.iter().for_each(scene::Member::kill);
    let metrics = scene.balancer().metrics();
    // Until no attempt is made for a user, and yet some are made now and then.
    scene::wait_until("an answer that costs no attempt", || {
        let before = metrics.get(Counter::Failovers);
        scene.user().is_err() && metrics.get(Counter::Failovers) == before
    });
    for _ in 0..4 {
        let before = metrics.get(Counter::Failovers);
        scene::wait_until("an attempt", || scene.user().is_err() && metrics.get(Counter::Failovers) > before);
    }
    scene.members.iter().for_each(scene::Member::revive);
    scene::wait_until("a user that is served", || scene.user().is_ok());
    scene.all_keys();
}

#[test]
fn denied_servers_are_not_given_under_any_of_their_names() {
    let wanted =
        [(Manner::Good, &[15][..], Some("ntp.one.test")), (Manner::Good, &[15], None), (Manner::Good, &[15], None)];
    let scene = Scene::with(&wanted, "");
    // Until the balancer knows what they call themselves.
    while !scene.members.iter().all(|member| !member.keys.lock().unwrap().is_empty()) {
        scene.user().unwrap();
    }
    let siv = [AeadAlgorithm::AesSivCmac256];
    for denied in [["ntp.one.test", "m2.test"], ["M1.Test", "m2.test"], ["NTP.ONE.TEST.", "m2.test."]] {
        let denied = denied.map(str::to_owned);
        for _ in 0..5 {
            let established = scene.user_with(&siv, &denied, &[]).unwrap();
            assert_eq!(scene.owner(&established).name, "m3.test", "{denied:?}");
        }
    }
    // Denying everybody is no reason to give nobody.
    let all = ["m1.test", "m2.test", "m3.test"].map(str::to_owned);
    scene.owner(&scene.user_with(&siv, &all, &[]).unwrap());
}

#[test]
fn users_may_be_sent_to_addresses() {
    let settings = "hand-out = \"address\"\nallow-private = true";
    let scene = Scene::with(&[(Manner::Good, &[15][..], None), (Manner::Good, &[15], Some("ntp.two.test"))], settings);
    while !scene.members.iter().all(|member| !member.keys.lock().unwrap().is_empty()) {
        let established = scene.user().unwrap();
        let expected = if scene.owner(&established).name == "m1.test" { "127.0.0.1" } else { "ntp.two.test" };
        assert_eq!(established.server.as_deref(), Some(expected));
    }
    // In this scene all members have one address.
    scene.set_members(&scene.members[..1]);
    let denied = ["127.0.0.1".to_owned()];
    let established = scene.user_with(&[AeadAlgorithm::AesSivCmac256], &denied, &[]).unwrap();
    assert_eq!(scene.owner(&established).name, "m1.test", "better than nobody");
}

#[test]
fn a_user_gets_a_member_that_has_its_algorithm_if_there_is_one() {
    let mut wanted = vec![(Manner::Good, &[15][..], None); 7];
    wanted.push((Manner::Good, &[15, 17], None));
    let scene = Scene::with(&wanted, "");
    for _ in 0..4 {
        let established = scene.user_with(&[AeadAlgorithm::AesSivCmac512], &[], &[]).unwrap();
        assert_eq!(scene.owner(&established).name, "m8.test");
    }
    let error = scene.user_with(&[AeadAlgorithm::AesGcmSiv128], &[], &[]).unwrap_err();
    assert_eq!(error, KeError::NoOverlap(NoOverlap::Algorithm));
}

#[test]
fn members_come_and_go_while_users_are_served() {
    let scene = Scene::new(&[Manner::Good; 4]);
    thread::scope(|scope| {
        let users: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| (0..20).map(|_| scene.user().is_ok()).filter(|served| *served).count()))
            .collect();
        for round in 0..10 {
            let members = if round % 2 == 0 { &scene.members[..2] } else { &scene.members[..] };
            scene.set_members(members);
        }
        assert_eq!(users.into_iter().map(|user| user.join().unwrap()).sum::<usize>(), 40);
    });
    scene.set_members(&scene.members[3..]);
    assert_eq!(scene.owner(&scene.user().unwrap()).name, "m4.test");
    fs::write(scene.path("members.toml"), "[[member]]\nnam = 1\n").unwrap();
    let error = scene.command("reload").unwrap_err();
    assert!(error.contains("members.toml:2:1") && error.contains("nam"), "{error}");
    assert_eq!(scene.owner(&scene.user().unwrap()).name, "m4.test");
    scene.all_keys();
}

#[test]
fn operators_see_and_drain_members() {
    let scene = Scene::new(&[Manner::Good, Manner::Good]);
    let why = scene.command("why 192.0.2.1").unwrap();
    assert!(why.contains("from the world") && why.contains("m1.test (weight 10, up, operator m1.test)"), "{why}");
    assert!(scene.command("drain M2.test").unwrap().contains("m2.test"));
    for _ in 0..6 {
        assert_eq!(scene.owner(&scene.user().unwrap()).name, "m1.test");
    }
    let list = scene.command("list").unwrap();
    assert!(list.lines().any(|line| line.starts_with("m2.test") && line.contains("draining")), "{list}");
    let report = HealthReport::from_json(&fs::read_to_string(scene.path("lb.json")).unwrap()).unwrap();
    assert_eq!(report.members.len(), 2);
    assert!(scene.command("undrain m2.test").is_ok());
    for bad in ["drain m3.test", "why here", "jump", ""] {
        assert!(scene.command(bad).is_err(), "{bad}");
    }
    let mut page = TcpStream::connect(scene.balancer().metrics_address().unwrap()).unwrap();
    page.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    page.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("nts_pool_lb_members{state=\"up\"} 2"), "{text}");
    // The year 4096, as the scene's certificates have it.
    assert!(text.contains("\nnts_pool_lb_certificate_not_after_seconds 67090118400\n"), "{text}");
}

#[test]
fn a_report_of_others_that_cannot_be_read_for_a_moment_leaves_the_last_in_force() {
    let wanted = [(Manner::Good, &[15][..], None), (Manner::Good, &[15], None), (Manner::Good, &[15], None)];
    let scene = Scene::with(&wanted, "health-from = [\"others.json\"]");
    scene.set_members(&scene.members[..2]);
    let health = MemberHealth { state: Health::Down, since: 0, offset_seconds: None, reason: None };
    let report = HealthReport { made_at: 1_894_000_000, members: [("m1.test".to_owned(), health)].into() };
    fs::write(scene.path("others.json"), report.to_json()).unwrap();
    scene::wait_until("the report to be read", || scene.health(0).0 == "down");
    fs::write(scene.path("others.json"), "{").unwrap();
    // Without a command: the balancer looks at all files when it finds the third member.
    scene.write_members(&scene.members);
    scene::wait_until("another look", || scene.command("list").unwrap().contains("m3.test"));
    assert_eq!(scene.health(0).0, "down");
    for _ in 0..6 {
        assert_ne!(scene.owner(&scene.user().unwrap()).name, "m1.test");
    }
    fs::write(scene.path("others.json"), HealthReport { made_at: 1_894_000_000, ..HealthReport::default() }.to_json())
        .unwrap();
    scene::wait_until("a new report to be read", || scene.health(0).0 == "up");
}

#[test]
fn idle_and_rude_connections_keep_nobody_out() {
    let scene = Scene::with(&[(Manner::Good, &[15][..], None)], "[limits]\nconnections = 16");
    let idle: Vec<_> = (0..64).map(|_| TcpStream::connect(scene.address)).collect();
    for _ in 0..4 {
        let mut rude = TcpStream::connect(scene.address).unwrap();
        // It may be closed already.
        let _ = rude.write_all(&[0x16; 3000]);
        scene.owner(&scene.user().unwrap());
    }
    drop(idle);
    assert!(scene.balancer().metrics().get(Counter::Evicted) > 0);
}
