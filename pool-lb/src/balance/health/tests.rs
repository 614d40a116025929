use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::balance::round::{PROBE, Round};

fn judge(members: usize) -> (Judge, Vec<String>) {
    let names: Vec<_> = (0..members).map(|n| format!("m{n}.test")).collect();
    let mut judge = Judge::new(0.1);
    judge.set_members(1000, names.iter().map(String::as_str));
    judge.judge(1000);
    (judge, names)
}

fn fail(judge: &mut Judge, now: u64, member: &str, times: usize) {
    for _ in 0..times {
        judge.handle_sample(now, member, Sample::Failed("no answer".to_owned()));
    }
    judge.judge(now);
}

fn serve(judge: &mut Judge, now: u64, member: &str, times: usize) {
    for _ in 0..times {
        judge.handle_sample(now, member, Sample::Served);
    }
    judge.judge(now);
}

fn measure(judge: &mut Judge, now: u64, member: &str, offset: f64) {
    judge.handle_sample(now, member, Sample::Measured { offset, delay: 0.0 });
    judge.judge(now);
}

fn probe_in_vain(judge: &mut Judge, now: u64, member: &str) {
    judge.handle_sample(now, member, Sample::Unprobed("no NTP answer in time".to_owned()));
    judge.judge(now);
}

/// All others serve: what fails is the member's own fault.
fn with_good_others() -> Judge {
    let (mut judge, names) = judge(8);
    for name in &names {
        serve(&mut judge, 1000, name, 1);
    }
    judge
}

#[test]
fn one_failure_makes_suspect_three_bring_down_and_successes_bring_back() {
    let mut judge = with_good_others();
    fail(&mut judge, 1001, "m1.test", 1);
    assert_eq!(judge.state("m1.test"), Health::Suspect);
    serve(&mut judge, 1002, "m1.test", 1);
    assert_eq!(judge.state("m1.test"), Health::Up);
    fail(&mut judge, 1003, "m1.test", 3);
    assert_eq!(judge.state("m1.test"), Health::Down);
    let report = judge.report(1004, 501_004);
    assert_eq!(report.members["m1.test"].reason.as_deref(), Some("no answer"));
    assert_eq!((report.members["m1.test"].since, report.members["m2.test"].reason.as_deref()), (501_003, None));
    serve(&mut judge, 1005, "m1.test", 3);
    assert_eq!(judge.state("m1.test"), Health::Up);
}

#[test]
fn a_member_that_is_down_is_tried_again_less_and_less_often() {
    let mut judge = with_good_others();
    fail(&mut judge, 1001, "m1.test", 3);
    let mut now = 1001;
    for pause in [10, 20, 40, 80, 160, 300, 300] {
        judge.judge(now + pause - 1);
        assert_eq!(judge.state("m1.test"), Health::Down, "{pause}");
        now += pause;
        judge.judge(now);
        assert_eq!(judge.state("m1.test"), Health::Suspect, "{pause}");
        serve(&mut judge, now, "m2.test", 1);
        fail(&mut judge, now, "m1.test", 1);
        assert_eq!(judge.state("m1.test"), Health::Down, "{pause}");
    }
}

#[test]
fn a_server_without_time_goes_down_however_many_users_get_cookies_of_it() {
    let mut judge = with_good_others();
    judge.set_horizon(Round::plan(Duration::from_secs(60), 8).horizon());
    for second in 0..600 {
        let now = 1001 + second;
        serve(&mut judge, now, "m1.test", 1);
        if second % 60 == 0 {
            probe_in_vain(&mut judge, now, "m1.test");
        }
        let expected = if second < 120 { Health::Suspect } else { Health::Down };
        assert_eq!(judge.state("m1.test"), expected, "after {second} s");
    }
    assert_eq!(judge.report(1601, 1601).members["m1.test"].reason.as_deref(), Some("no NTP answer in time"));
    // Only what failed brings it back.
    for (now, expected) in [(1601, Health::Suspect), (1661, Health::Suspect), (1721, Health::Up)] {
        serve(&mut judge, now, "m1.test", 9);
        measure(&mut judge, now, "m1.test", 0.0);
        assert_eq!(judge.state("m1.test"), expected, "{now}");
    }
}

#[test]
fn a_member_that_serves_no_pool_is_not_put_back_by_probes() {
    let mut judge = with_good_others();
    fail(&mut judge, 1001, "m1.test", 3);
    let (mut now, mut trials) = (1001, Vec::new());
    for second in 1002..2402 {
        if second % 10 == 0 {
            measure(&mut judge, second, "m1.test", 0.0);
        }
        judge.judge(second);
        if judge.state("m1.test") == Health::Suspect {
            trials.push(second - now);
            now = second;
            fail(&mut judge, second, "m1.test", 1);
        }
        assert_eq!(judge.state("m1.test"), Health::Down, "{second}");
    }
    assert_eq!(trials, [10, 20, 40, 80, 160, 300, 300, 300], "each trial comes after twice the time, to the limit");
}

#[test]
fn a_fault_of_ours_that_only_probes_show_brings_nobody_down() {
    for interval in [10, 60, 600] {
        let (mut judge, names) = judge(8);
        judge.set_horizon(Round::plan(Duration::from_secs(interval), 8).horizon());
        // Users are served all the time; what probes send by UDP is lost for five rounds, and then comes through again.
        for second in 0..10 * interval {
            let now = 1000 + second;
            names.iter().for_each(|name| judge.handle_sample(now, name, Sample::Served));
            for (place, name) in (0..8).zip(&names) {
                match (second % interval == place * interval / 8, (2..7).contains(&(second / interval))) {
                    (false, _) => {}
                    (true, true) => probe_in_vain(&mut judge, now, name),
                    (true, false) => measure(&mut judge, now, name, 0.0),
                }
            }
            judge.judge(now);
            assert!(names.iter().all(|name| judge.state(name) != Health::Down), "{interval} s: {second}");
        }
        assert!(names.iter().all(|name| judge.state(name) == Health::Up), "{interval} s");
    }
}

#[test]
fn clocks_are_judged_alike_on_both_sides_of_zero() {
    for sign in [-1.0, 1.0] {
        for (offset, wrong) in
            [(0.05, false), (0.099, false), (0.101, true), (0.3, true), (2.9, true), (f64::NAN, true)]
        {
            let mut judge = with_good_others();
            measure(&mut judge, 1001, "m1.test", sign * offset);
            let once = if wrong { Health::Suspect } else { Health::Up };
            assert_eq!(judge.state("m1.test"), once, "{sign} {offset}");
            measure(&mut judge, 1002, "m1.test", sign * offset);
            let twice = if wrong { Health::Down } else { Health::Up };
            assert_eq!(judge.state("m1.test"), twice, "{sign} {offset}");
            // Serving users says nothing of its clock, nor does time.
            serve(&mut judge, 1003, "m1.test", 9);
            judge.judge(1400);
            assert_eq!(judge.state("m1.test"), twice, "{sign} {offset}");
            measure(&mut judge, 1401, "m1.test", 0.0);
            assert_eq!(judge.state("m1.test"), Health::Up, "{sign} {offset}");
        }
    }
}

#[test]
fn if_most_fail_at_once_nobody_goes_down() {
    let (mut judge, names) = judge(8);
    for name in &names {
        serve(&mut judge, 1000, name, 1);
    }
    for name in &names {
        for _ in 0..4 {
            judge.handle_sample(1001, name, Sample::Failed("no answer".to_owned()));
        }
    }
    judge.judge(1001);
    assert!(judge.is_common_mode());
    assert!(names.iter().all(|name| judge.state(name) == Health::Suspect));
    // Our clock jumped: all others seem to have jumped the other way.
    let (mut judge, names) = self::judge(8);
    for now in [1001, 1002] {
        for name in &names {
            judge.handle_sample(now, name, Sample::Measured { offset: 1.0, delay: 0.0 });
        }
    }
    judge.judge(1002);
    assert!(judge.is_common_mode() && names.iter().all(|name| judge.state(name) == Health::Suspect));
    // As many as half may go.
    let (mut judge, names) = self::judge(8);
    names[4..].iter().for_each(|name| serve(&mut judge, 1001, name, 1));
    names[..4].iter().for_each(|name| fail(&mut judge, 1001, name, 3));
    assert!(!judge.is_common_mode());
    assert!(names[..4].iter().all(|name| judge.state(name) == Health::Down));
}

#[test]
fn whoever_was_down_before_stays_down_if_others_fail_and_does_not_make_one_failure_an_event() {
    let (mut judge, names) = judge(3);
    judge.set_horizon(Round::plan(Duration::from_secs(60), 3).horizon());
    // Users are served by all; the second gives no time for long, and once a probe of the third is lost.
    for round in 0..30 {
        let now = 1000 + 60 * round;
        names.iter().for_each(|name| serve(&mut judge, now, name, 3));
        measure(&mut judge, now, "m0.test", 0.0);
        probe_in_vain(&mut judge, now + 20, "m1.test");
        if round == 20 {
            probe_in_vain(&mut judge, now + 40, "m2.test");
        } else {
            measure(&mut judge, now + 40, "m2.test", 0.0);
        }
        assert!(!judge.is_common_mode(), "{round}");
        assert_eq!(judge.state("m1.test") == Health::Down, round >= 2, "{round}");
    }
    // Even if all others fail.
    for round in 30..40 {
        for (name, at) in [("m0.test", 0), ("m1.test", 20), ("m2.test", 40)] {
            probe_in_vain(&mut judge, 1000 + 60 * round + at, name);
            assert_eq!(judge.state("m1.test"), Health::Down, "{round}");
        }
    }
    assert!(judge.is_common_mode());
    assert_eq!([judge.state("m0.test"), judge.state("m2.test")], [Health::Suspect; 2]);
    measure(&mut judge, 3400, "m0.test", 0.0);
    assert_eq!((judge.is_common_mode(), judge.state("m1.test")), (false, Health::Down));
}

/// Rounds in which every probe takes as long as it may, and fails on both ways.
#[test]
fn an_outage_of_all_is_one_event_however_many_members_there_are() {
    for members in [300, 5_000] {
        let (mut judge, names) = judge(members);
        let interval = 60;
        let round = Round::plan(Duration::from_secs(interval), members);
        judge.set_horizon(round.horizon());
        for name in &names {
            judge.handle_sample(1000, name, Sample::Served);
            judge.handle_sample(1000, name, Sample::Measured { offset: 0.0, delay: 0.0 });
        }
        // Each place takes the next member when it is free, no sooner than its turn.
        let mut free = vec![0.0_f64; round.parallel];
        let mut ends = Vec::new();
        for probe in 0..5 * members {
            let turn = probe as f64 * interval as f64 / members as f64;
            let place = free.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
            *place = place.max(turn) + PROBE.as_secs_f64();
            ends.push((1000 + *place as u64, &names[probe % members]));
        }
        let last = ends.last().unwrap().0;
        let mut ended = ends.into_iter().peekable();
        let mut recognized = false;
        for now in 1000..=last {
            while let Some((_, name)) = ended.next_if(|(end, _)| *end <= now) {
                judge.handle_sample(now, name, Sample::Unprobed("no key exchange in time".to_owned()));
                judge.handle_sample(now, name, Sample::Failed("no key exchange in time".to_owned()));
            }
            if now % 5 == 0 || now == last {
                judge.judge(now);
                recognized |= judge.is_common_mode();
                assert!(names.iter().all(|name| judge.state(name) != Health::Down), "{members}: {now}");
            }
        }
        assert!(recognized && judge.is_common_mode(), "{members}");
    }
}

/// Nobody uses the balancer meanwhile: what is known of handing over keys is known by probes.
#[test]
fn an_outage_on_both_ways_condemns_nobody_when_it_is_over() {
    let (mut judge, names) = judge(8);
    judge.set_horizon(Round::plan(Duration::from_secs(80), 8).horizon());
    for round in 0..10 {
        for (place, name) in (0..).zip(&names) {
            let now = 1000 + 80 * round + 10 * place;
            if (2..7).contains(&round) {
                judge.handle_sample(now, name, Sample::Failed("no key exchange in time".to_owned()));
                probe_in_vain(&mut judge, now, name);
            } else {
                judge.handle_sample(now, name, Sample::Served);
                measure(&mut judge, now, name, 0.0);
            }
            let down: Vec<_> = names.iter().filter(|name| judge.state(name) == Health::Down).collect();
            assert_eq!(down, [""; 0], "{now}");
        }
    }
    assert!(!judge.is_common_mode());
}

/// One round of probes, evenly over `interval`; returns who was down at any time.
fn probe_all(
    judge: &mut Judge,
    names: &[String],
    start: u64,
    interval: u64,
    offset: impl Fn(u64) -> f64,
) -> Vec<String> {
    let mut down = Vec::new();
    for second in 0..interval {
        let now = start + second;
        // Users are served meanwhile, which says nothing of clocks.
        names.iter().for_each(|name| judge.handle_sample(now, name, Sample::Served));
        for (place, name) in (0..).zip(names) {
            if place * interval / names.len() as u64 == second {
                judge.handle_sample(now, name, Sample::Measured { offset: offset(place), delay: 0.01 });
            }
        }
        judge.judge(now);
        down.extend(names.iter().filter(|name| judge.state(name) == Health::Down).cloned());
    }
    down.dedup();
    down
}

#[test]
fn our_own_clock_is_told_from_a_members_however_seldom_they_are_probed() {
    for interval in [10, 60, 300, 600, 3600] {
        for members in [3, 8, 50] {
            let (mut judge, names) = judge(members);
            let round = Round::plan(Duration::from_secs(interval), members);
            judge.set_horizon(round.horizon());
            // Ours is wrong for some rounds: all members seem to be.
            let mut start = 1000;
            for ours in [0.0, 2.0, 2.0, 2.0, 2.0, 0.0, 0.0] {
                let down = probe_all(&mut judge, &names, start, interval, |_| -ours);
                assert_eq!(down, [""; 0], "{interval} s, {members} members, {start}");
                start += interval;
            }
            assert!(names.iter().all(|name| judge.state(name) == Health::Up));
            // One member's is.
            let one = |place| if place == 1 { 0.3 } else { 0.0 };
            assert_eq!(probe_all(&mut judge, &names, start, interval, one), [""; 0]);
            assert_eq!(probe_all(&mut judge, &names, start + interval, interval, one), ["m1.test"]);
            probe_all(&mut judge, &names, start + 2 * interval, interval, |_| 0.0);
            assert!(names.iter().all(|name| judge.state(name) == Health::Up));
        }
    }
}

#[test]
fn what_is_old_says_nothing() {
    let mut judge = with_good_others();
    fail(&mut judge, 1001, "m1.test", 2);
    measure(&mut judge, 1001, "m2.test", 0.5);
    assert_eq!([judge.state("m1.test"), judge.state("m2.test")], [Health::Suspect; 2]);
    judge.judge(1001 + Horizon::default().fresh);
    assert_eq!([judge.state("m1.test"), judge.state("m2.test")], [Health::Suspect; 2]);
    judge.judge(1002 + Horizon::default().fresh);
    assert_eq!([judge.state("m1.test"), judge.state("m2.test")], [Health::Up; 2]);
    assert_eq!(judge.report(1700, 1700).members["m2.test"].offset_seconds, None);
}

#[test]
fn going_down_and_coming_back_are_told_once() {
    let mut judge = with_good_others();
    let turns = |judge: &Judge| -> Vec<(String, bool, String)> {
        judge.turns().map(|(name, down, reason)| (name.to_owned(), down, reason.to_owned())).collect()
    };
    let turn = |down| vec![("m1.test".to_owned(), down, "no answer".to_owned())];
    fail(&mut judge, 1001, "m1.test", 2);
    assert_eq!(turns(&judge), []);
    fail(&mut judge, 1001, "m1.test", 1);
    assert_eq!(turns(&judge), turn(true));
    judge.judge(1002);
    assert_eq!(turns(&judge), []);
    // A trial that fails changes nothing.
    judge.judge(1011);
    assert_eq!((judge.state("m1.test"), turns(&judge)), (Health::Suspect, vec![]));
    fail(&mut judge, 1011, "m1.test", 1);
    assert_eq!((judge.state("m1.test"), turns(&judge)), (Health::Down, vec![]));
    serve(&mut judge, 1012, "m1.test", 4);
    assert_eq!((judge.state("m1.test"), turns(&judge)), (Health::Up, turn(false)));
}

#[test]
fn members_that_drain_stay_out_and_unknown_ones_are_up() {
    let mut judge = with_good_others();
    assert!(judge.set_draining("m1.test", true) && !judge.set_draining("else.test", true));
    judge.judge(1001);
    serve(&mut judge, 1002, "m1.test", 5);
    assert_eq!(judge.state("m1.test"), Health::Draining);
    judge.set_draining("m1.test", false);
    judge.judge(1003);
    assert_eq!([judge.state("m1.test"), judge.state("else.test")], [Health::Up; 2]);
    judge.handle_sample(1004, "else.test", Sample::Served);
    judge.set_members(1005, ["m1.test"].into_iter());
    assert_eq!(judge.report(1005, 1005).members.len(), 1);
}

proptest! {
    /// The member count never changes what one is, and no history keeps a member down that serves from now on.
    #[test]
    fn whoever_serves_comes_back(history in prop::collection::vec((0_u64..30, 0_u8..4), 0..60)) {
        let mut judge = with_good_others();
        let mut now = 1000;
        for (pause, what) in history {
            now += pause;
            match what {
                0 => fail(&mut judge, now, "m1.test", 1),
                1 => serve(&mut judge, now, "m1.test", 1),
                2 => probe_in_vain(&mut judge, now, "m1.test"),
                _ => measure(&mut judge, now, "m1.test", 0.2),
            }
        }
        (0..MOST_PROBES).for_each(|_| measure(&mut judge, now, "m1.test", 0.0));
        serve(&mut judge, now, "m1.test", usize::from(MOST));
        prop_assert_eq!(judge.state("m1.test"), Health::Up);
    }
}
