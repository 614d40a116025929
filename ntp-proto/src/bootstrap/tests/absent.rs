//! Servers that do not answer, and operators that are not configured.

use super::*;

/// Two operators, of whom the second has been absent.
fn with_one_absent(facts: &ClockFacts, clock: i64) -> Machine {
    let mut machine = Machine::new(config(), facts, clock, 0);
    let named = |one: u8, absent| Expected { operator: Some(identity(one).domain), servers: 1, absent };
    machine.boot.set_expected(vec![named(0, false), named(1, true)]);
    machine
}

#[test]
fn a_server_that_was_absent_for_a_day_keeps_no_good_clock_from_being_confirmed() {
    for facts in [GOOD, KEPT] {
        let mut machine = with_one_absent(&facts, TRUE);
        machine.ask(&honest(1), TRUE);
        assert_eq!(machine.boot.state(), State::Verified, "{facts:?}");
        let mut machine = Machine::new(config(), &facts, TRUE, 2);
        machine.ask(&honest(1), TRUE);
        assert_eq!(machine.boot.state(), State::Unknown, "it was not absent before: {facts:?}");
    }
}

#[test]
fn one_that_was_absent_counts_again_when_it_answers() {
    let mut machine = with_one_absent(&GOOD, TRUE);
    // Two times, two operators: no majority.
    let servers = honest(2).into_iter().zip([TRUE, TRUE + 500]).map(|((one, chain), said)| (one, chain, said));
    machine.ask_each(&servers.collect::<Vec<_>>());
    assert_eq!(machine.boot.state(), State::Unknown);
    let missing = machine.boot.report().missing.to_string();
    assert_eq!(missing, "servers whose certificates are valid by this clock: 1 of 2 needed");
}

#[test]
fn where_the_clock_is_distrusted_absence_makes_nobody_fewer() {
    let restored = ClockFacts { restored: true, ..GOOD };
    for (facts, clock) in [(NONE, 0), (NONE, TRUE), (restored, TRUE), (GOOD, BUILD - DAY)] {
        let mut machine = with_one_absent(&facts, clock);
        machine.ask(&honest(1), TRUE);
        machine.wait();
        machine.ask(&honest(1), TRUE);
        assert_eq!((machine.boot.state(), machine.boot.needed()), (State::Unknown, 2), "{facts:?}");
    }
}

#[test]
fn that_nobody_answers_is_an_alarm_where_there_is_a_network() {
    for facts in [NONE, GOOD] {
        let mut machine = Machine::new(config(), &facts, TRUE, 3);
        assert_eq!(machine.obey(), None, "without a network nobody is waited for");
        machine.boot.handle_network(machine.at.monotonic);
        machine.wait();
        assert_eq!(machine.alarms, [Alarm::NobodyAnswers]);
        assert_eq!((machine.obey(), machine.exchanges), (None, 0), "there is nothing to pause from");
        machine.ask(&honest(3), machine.at.clock.seconds);
        assert_eq!(machine.boot.state(), State::Verified);
    }
}

#[test]
fn a_lone_operator_is_told_what_helps_a_distrusted_clock() {
    let missing = |facts, policy, operators, single| {
        let mut config = Config { policy, single, ..config() };
        config.floor.verified = None;
        Machine::new(config, &facts, 0, operators).boot.report().missing
    };
    let lone = missing(NONE, Policy::Quorum, 1, false);
    assert_eq!(
        lone.to_string(),
        "servers whose certificates are valid by this clock: 0 of 1 needed; only one operator is configured, who alone is not \
         believed without a clock: name servers of two more, or set trust.first-boot-quorum = 1"
    );
    for (policy, operators, single) in
        [(Policy::Quorum, 1, true), (Policy::Quorum, 3, false), (Policy::Strict, 1, false)]
    {
        assert!(!matches!(missing(NONE, policy, operators, single), Missing::OneOperator { .. }));
    }
    let mut machine = Machine::new(config(), &GOOD, TRUE, 1);
    machine.obey();
    assert!(matches!(machine.boot.report().missing, Missing::Servers { .. }), "this clock is not distrusted");
}

#[test]
fn dates_in_records_show_that_the_clock_is_behind() {
    let slow = TRUE - 60 * DAY;
    let mut machine = Machine::new(config(), &GOOD, slow, 2);
    let sign = |machine: &mut Machine, one: u8, at| {
        let domain = identity(one).domain;
        machine.boot.handle_signed(machine.at, &format!("_ntske._tcp.{domain}"), domain, &[at]);
        machine.boot.earliest()
    };
    assert_eq!(sign(&mut machine, 0, TRUE - 2 * DAY), BUILD, "one alone proves nothing");
    assert_eq!(sign(&mut machine, 0, TRUE - DAY), BUILD);
    assert_eq!(sign(&mut machine, 1, TRUE - 3 * DAY), TRUE - 3 * DAY);
    let Judgement::At(at) = machine.boot.judgement_of_names(machine.at.clock) else { panic!("it is plausible") };
    assert_eq!(at.seconds, TRUE - 3 * DAY);
}

#[test]
fn addresses_are_judged_late_until_the_time_is_verified() {
    for (facts, policy) in [(NONE, Policy::Strict), (GOOD, Policy::Quorum), (KEPT, Policy::Quorum)] {
        let mut machine = Machine::new(Config { policy, ..config() }, &facts, TRUE, 3);
        let judged = |machine: &Machine| machine.boot.judgement_of_addresses(machine.at.clock);
        assert!(matches!(judged(&machine), Judgement::Deferred { .. }), "{facts:?}");
        assert!(matches!(machine.boot.judgement(machine.at.clock), Judgement::At(_)));
        machine.ask(&honest(3), TRUE);
        assert_eq!(machine.boot.state(), State::Verified);
        assert_eq!(judged(&machine), Judgement::At(machine.at.clock));
    }
}
