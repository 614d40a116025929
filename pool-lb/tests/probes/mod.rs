//! Probes of members, with and without users beside them.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use ntp_proto::nts::AeadAlgorithm;
use pool_lb::balance::metrics::Counter;

use super::{
    FAILED,
    scene::{Manner, Scene, Wanted, time, wait_until},
};

/// Rounds are short, and a loaded machine may be slow to stamp packets.
const OFTEN: &str = "[probe]\ninterval = 0.3\nmax-offset = 5.0";

fn probed(manners: &[Manner]) -> Scene {
    let wanted: Vec<Wanted<'_>> = manners.iter().map(|manner| (*manner, &[15][..], None)).collect();
    Scene::at(time::of_day, &wanted, OFTEN)
}

/// Ends what goes on beside a test, however the test ends.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Waits until the members are as they should be: state, and a part of the reason.
fn wait_for(scene: &Scene, wanted: &[(usize, &str, &str)]) {
    for (member, state, reason) in wanted {
        wait_until(&format!("{state} {reason:?} of member {member}"), || {
            let (found, why) = scene.health(*member);
            found == *state && why.contains(reason)
        });
    }
}

#[test]
fn members_whose_time_is_missing_or_wrong_get_no_users_however_many_they_served() {
    let scene = probed(&[Manner::Good; 8]);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Users come all the time, and get cookies of everybody.
        let users = scope.spawn(|| {
            let mut served = 0;
            while !over.load(Ordering::SeqCst) {
                scene.owner(&scene.user().unwrap());
                served += 1;
            }
            served
        });
        let ending = Ending(&over);
        wait_for(&scene, &[(0, "up", ""), (1, "up", ""), (2, "up", ""), (3, "up", ""), (7, "up", "")]);
        scene.members[0].time.is_silent.store(true, Ordering::SeqCst);
        scene.members[1].time.ahead.store(-30, Ordering::SeqCst);
        scene.members[2].time.is_lost.store(true, Ordering::SeqCst);
        let bad = [
            (0, "down", "probe: no NTP answer in time"),
            (1, "down", "its clock is off by -"),
            (2, "down", "probe: it is not synchronized"),
        ];
        wait_for(&scene, &bad);
        for _ in 0..20 {
            let owner = &scene.owner(&scene.user().unwrap()).name;
            assert!(!["m1.test", "m2.test", "m3.test"].contains(&owner.as_str()), "{owner}");
        }
        wait_for(&scene, &bad);
        wait_for(&scene, &[3, 4, 5, 6, 7].map(|member| (member, "up", "")));
        for member in &scene.members[..3] {
            member.time.is_silent.store(false, Ordering::SeqCst);
            member.time.is_lost.store(false, Ordering::SeqCst);
            member.time.ahead.store(0, Ordering::SeqCst);
        }
        wait_for(&scene, &[(0, "up", ""), (1, "up", ""), (2, "up", "")]);
        drop(ending);
        assert!(users.join().unwrap() > 0);
    });
    assert_eq!(scene.balancer().metrics().get(Counter::Lost), 0);
}

#[test]
fn members_that_serve_clients_and_no_pool_are_found_before_users_find_them() {
    for manner in [Manner::ErrorRecord, Manner::ZeroCookies, Manner::Internal, Manner::Closes] {
        let scene = probed(&[manner, Manner::Good, Manner::Good, Manner::Good]);
        wait_for(&scene, &[(0, "down", "probe: "), (1, "up", ""), (2, "up", ""), (3, "up", "")]);
        for _ in 0..4 {
            assert_ne!(scene.owner(&scene.user().unwrap()).name, "m1.test", "{manner:?}");
        }
        assert_eq!(scene.balancer().metrics().get(Counter::Lost), 0, "{manner:?}");
    }
}

#[test]
fn strays_do_not_end_a_probe() {
    let scene = probed(&[Manner::Good]);
    scene.members[0].time.strays.store(100, Ordering::SeqCst);
    scene.members[0].time.ahead.store(-2, Ordering::SeqCst);
    wait_until("an offset", || scene.offset(0).is_some_and(|offset| offset < -1.0));
    assert_eq!(scene.health(0).0, "up");
}

#[test]
fn members_are_judged_by_their_tlsa_records_if_the_directory_has_some() {
    let scene = probed(&[Manner::Pinned]);
    scene.owner(&scene.user_with(&[AeadAlgorithm::AesSivCmac256], &[], &[]).unwrap());
    wait_until("a measurement", || scene.offset(0).is_some());
    assert_eq!(scene.health(0).0, "up");
    let scene = probed(&[Manner::Mispinned, Manner::Good, Manner::Good]);
    wait_for(&scene, &[(0, "down", "TLSA")]);
    assert_ne!(scene.owner(&scene.user().unwrap()).name, "m1.test");
    let alone = Scene::new(&[Manner::Mispinned]);
    assert_eq!(alone.user().unwrap_err(), FAILED);
    assert_eq!(alone.all_keys(), 0);
}
