//! What reaches users, octet for octet, whatever members do.

use std::{sync::atomic::Ordering, thread};

use pool_lb::balance::metrics::Counter;

use super::scene::{Manner, Scene, Told, wait_until};

/// An Error record for an internal error, and the end.
const FAILED: [u8; 10] = [0x80, 2, 0, 2, 0, 2, 0x80, 0, 0, 0];

/// The records of one message, which must be whole and nothing else.
fn records(told: &Told) -> Vec<(bool, u16, &[u8])> {
    assert!(told.ended, "TLS is ended in order, and then the connection");
    let mut records = Vec::new();
    let mut rest = &told.plain[..];
    while let [a, b, c, d, body @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        assert!(length <= body.len(), "half a record");
        records.push((a & 0x80 != 0, u16::from_be_bytes([a & 0x7f, *b]), &body[..length]));
        rest = &body[length..];
    }
    assert_eq!(rest, [0_u8; 0], "half a record");
    assert_eq!(records.iter().position(|(_, kind, _)| *kind == 0), Some(records.len() - 1), "one End of Message, last");
    records
}

/// Whether a user was served; it was told what RFC 8915 has for it, and nothing else.
fn was_served(scene: &Scene, told: &Told) -> bool {
    let holders = scene.holders(&told.keys);
    assert!(holders.len() <= 1, "keys of a user reach one member at most");
    if told.plain == FAILED {
        return false;
    }
    let records = records(told);
    let of_kind = |wanted| records.iter().filter(|(_, kind, _)| *kind == wanted).map(|(_, _, body)| *body).collect();
    let [protocols, algorithms, cookies, servers]: [Vec<&[u8]>; 4] = [1, 4, 5, 6].map(of_kind);
    assert_eq!((&protocols[..], &algorithms[..]), (&[&[0, 0][..]][..], &[&[0, 15][..]][..]));
    assert!(cookies.len() == 8 && servers.len() == 1);
    for (critical, kind, _) in &records {
        // RFC 8915 section 4.1: these are critical, cookies are not.
        assert!(matches!((kind, critical), (0 | 1 | 4 | 6 | 7, true) | (5, false)), "{records:?}");
    }
    let holder = holders.first().expect("cookies are made by somebody who has the keys");
    let hex: String = told.keys[0][..16].iter().map(|octet| format!("{octet:02x}")).collect();
    for cookie in cookies {
        assert_eq!(cookie, format!("{:-<32}{hex}", holder.name).as_bytes(), "somebody else's cookie");
    }
    true
}

#[test]
fn users_see_nothing_but_an_answer_whatever_members_do() {
    thread::scope(|scope| {
        for manner in Manner::ALL {
            let run = move || {
                let scene = Scene::new(&[manner, manner, Manner::Good]);
                let tls = scene.user_tls(None);
                let served = (0..6).filter(|_| was_served(&scene, &scene.told(&tls, scene.address).unwrap())).count();
                scene.all_keys();
                if matches!(manner, Manner::Good | Manner::Chatty) {
                    assert_eq!(served, 6);
                }
                scene.members.iter().for_each(|member| member.released.store(true, Ordering::SeqCst));
                for _ in 0..2 {
                    was_served(&scene, &scene.told(&tls, scene.address).unwrap());
                }
                scene.all_keys();
            };
            thread::Builder::new().name(format!("{manner:?}")).spawn_scoped(scope, run).unwrap();
        }
    });
}

#[test]
fn what_a_member_can_do_told_too_late_keeps_nobody_waiting() {
    let scene = Scene::new(&[Manner::LateSupport, Manner::Good]);
    let tls = scene.user_tls(None);
    let late = &scene.members[0];
    let served = |count: usize| (0..count).all(|_| was_served(&scene, &scene.told(&tls, scene.address).unwrap()));
    // Until the balancer has given it up once at least.
    wait_until("a failure of m1.test", || {
        assert!(served(1));
        scene.command("list").unwrap().lines().any(|line| line.starts_with("m1.test") && line.contains("answer"))
    });
    assert!(late.keys.lock().unwrap().is_empty());
    late.released.store(true, Ordering::SeqCst);
    wait_until("late answers", || late.late.load(Ordering::SeqCst) > 0);
    assert!(served(8));
    scene.all_keys();
}

#[test]
fn cookies_that_come_too_late_reach_nobody() {
    let scene = Scene::new(&[Manner::LateCookies, Manner::Good]);
    let tls = scene.user_tls(None);
    let late = &scene.members[0];
    let mut lost = Vec::new();
    wait_until("a user of m1.test", || {
        let told = scene.told(&tls, scene.address).unwrap();
        if !was_served(&scene, &told) {
            assert_eq!(scene.holders(&told.keys)[0].name, "m1.test");
            lost.push(told);
        }
        !lost.is_empty()
    });
    late.released.store(true, Ordering::SeqCst);
    wait_until("late answers", || late.late.load(Ordering::SeqCst) > 0);
    // The answer of the user before went nowhere, and none is one ahead of its question from here on.
    wait_until("both members in use", || {
        let told = scene.told(&tls, scene.address).unwrap();
        was_served(&scene, &told) && scene.holders(&told.keys)[0].name == "m1.test"
    });
    assert!(lost.iter().all(|told| told.plain == FAILED));
    scene.all_keys();
}

#[test]
fn with_nobody_left_users_are_told_so_without_asking_around() {
    for manner in [Manner::Absent, Manner::Silent] {
        let scene = Scene::new(&[manner; 3]);
        let tls = scene.user_tls(None);
        let told = scene.told(&tls, scene.address).unwrap();
        assert_eq!(records(&told), [(true, 2, &[0, 2][..]), (true, 0, &[])], "{manner:?}");
    }
    let scene = Scene::new(&[Manner::Absent; 3]);
    let tls = scene.user_tls(None);
    // Soon each thread knows that they are gone, and a user's answer waits for nobody.
    let metrics = scene.balancer().metrics();
    wait_until("an answer that costs no attempt", || {
        let before = metrics.get(Counter::Failovers);
        assert_eq!(scene.told(&tls, scene.address).unwrap().plain, FAILED);
        metrics.get(Counter::Failovers) == before
    });
    assert_eq!(scene.all_keys(), 0);
}
