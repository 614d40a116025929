//! What an administrator asks of the measurements of one source.

use super::*;

fn with(rules: SampleRules) -> Bench {
    Bench::new(SourceConfig { rules, ..plain() })
}

fn usual() -> SampleRules {
    SampleRules::default()
}

#[test]
fn a_known_error_is_taken_from_every_measurement() {
    let mut bench = with(SampleRules { correction: -0.25, min_stratum: 6, ..usual() });
    (0..8).for_each(|_| bench.round(Answer { offset: 0.25, ..GOOD }));
    let estimate = bench.report().estimate.unwrap();
    assert!(estimate.offset.abs() < 1e-6 && estimate.stratum == 6, "{estimate:?}");
    assert_eq!(bench.engine.status().stratum, 7, "and this machine is one below");
    let steps = bench.outputs.iter().filter(|output| matches!(output, Output::Steer(Steer::Step(_))));
    assert_eq!(steps.count(), 0, "there is nothing to correct");
}

#[test]
fn a_round_trip_has_the_limit_that_was_set() {
    for (max_delay, good) in [(0.1, 0), (0.3, 4)] {
        let mut bench = with(SampleRules { max_delay, ..usual() });
        (0..4).for_each(|_| bench.round(Answer { delay: 0.1, ..GOOD }));
        assert_eq!(bench.good(), good);
        assert_eq!(bench.report().source.refusals().get(Refusal::Delay), 4 - good);
    }
    // Longer than what is usual is possible too.
    for (max_delay, good) in [(usual().max_delay, 0), (4.5, 1)] {
        let mut bench = with(SampleRules { max_delay, ..usual() });
        bench.round(Answer { delay: 2.0, ..GOOD });
        assert_eq!(bench.good(), good);
    }
}

#[test]
fn late_replies_are_refused_until_they_are_the_rule() {
    for (rules, refusal) in [
        (SampleRules { max_delay_ratio: Some(3.0), ..usual() }, Refusal::DelayRatio),
        (SampleRules { max_delay_deviations: Some(10.0), ..usual() }, Refusal::DelayDeviations),
    ] {
        let mut bench = with(rules);
        (0..8).for_each(|_| bench.round(GOOD));
        let late = Answer { delay: 0.010, ..GOOD };
        bench.round(late);
        assert_eq!((bench.good(), bench.report().source.last_refusal()), (8, Some(refusal)));
        assert!(bench.report().source.reach().is_reachable(), "it answers");
        bench.round(GOOD);
        assert_eq!(bench.good(), 9);
        // The route has changed for good.
        (0..15).for_each(|_| bench.round(late));
        assert_eq!(bench.good(), 9, "{refusal:?}");
        (0..4).for_each(|_| bench.round(late));
        assert_eq!(bench.good(), 13, "{refusal:?}");
        assert!(bench.report().estimate.unwrap().root_delay > 0.019, "nothing is left of the shorter way");
    }
}

#[test]
fn a_clock_that_has_moved_is_no_late_reply() {
    let mut bench = with(SampleRules { max_delay_deviations: Some(10.0), ..usual() });
    (0..8).for_each(|_| bench.round(GOOD));
    bench.round(Answer { delay: 0.010, offset: 0.05, ..GOOD });
    assert_eq!(bench.good(), 9);
}

#[test]
fn no_more_samples_are_used_than_were_asked_for() {
    for (max_samples, used) in [(1, 1), (2, 2), (5, 5)] {
        let mut bench = with(SampleRules { max_samples, ..usual() });
        (0..20).for_each(|_| bench.round(GOOD));
        let estimate = bench.report().estimate.unwrap();
        assert!(estimate.samples <= used && estimate.offset.abs() < 1e-3, "{estimate:?}");
        assert!(max_samples > 1 || estimate.frequency.abs() < f64::MIN_POSITIVE, "{estimate:?}");
    }
}

#[test]
fn a_reply_that_came_before_its_request_left_is_no_perfect_measurement() {
    let mut bench = Bench::new(plain());
    (0..4).for_each(|_| bench.round(GOOD));
    bench.next_request();
    let (_, sent, token) = bench.request.clone();
    // It takes 1 ms each way and 2 ms at the server, and the driver stamps the request 2.5 ms late.
    bench.engine.handle_transmitted(token, at(sent + 2.5e-3), StampKind::Hardware, 0.0);
    let (mut bytes, received) = bench.reply(GOOD);
    bytes[40..48].copy_from_slice(&at(sent + 3e-3).to_bits().to_be_bytes());
    bench.deliver(bytes, received + 2e-3);
    assert_eq!(bench.report().source.last_refusal(), Some(Refusal::Delay));
    assert_eq!(bench.good(), 4);
}
