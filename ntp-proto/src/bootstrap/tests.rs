use super::*;

mod absent;
mod unread;

const BUILD: i64 = 1_790_000_000;
/// What time it is.
const TRUE: i64 = BUILD + 300 * DAY;
const GOOD: ClockFacts = ClockFacts {
    set_by: SetBy::HardwareClock { voltage_low: false },
    synchronized: false,
    verified: false,
    restored: false,
};
const NONE: ClockFacts = ClockFacts { set_by: SetBy::Nothing, ..GOOD };
/// A clock that was verified before, since the machine started.
const KEPT: ClockFacts = ClockFacts { synchronized: true, verified: true, ..NONE };

fn config() -> Config {
    let floor = Floor { build: BUILD, distribution: None, verified: None };
    Config { policy: Policy::Quorum, floor, min_agreeing: None, single: false }
}

fn identity(operator: u8) -> Identity {
    Identity { domain: format!("op{operator}.example"), key: Some([operator; 32]) }
}

fn chain(from: i64, until: i64) -> Chain {
    let window = Window { not_before: from, not_after: until };
    Chain { window, signed: vec![from], records: Vec::new(), life: until - from, key: [0; 32], pinned: false }
}

/// A machine with its clock, and the operators it knows.
struct Machine {
    boot: Bootstrap,
    at: Present,
    exchanges: u32,
    alarms: Vec<Alarm>,
    refused: Vec<SourceId>,
    /// How often each server is measured.
    samples: usize,
}

impl Machine {
    fn new(config: Config, facts: &ClockFacts, clock: i64, operators: usize) -> Self {
        let clock = UnixTime { seconds: clock, nanos: 0 };
        let at = Present { monotonic: Monotonic::from_nanos(1), clock };
        let mut boot = Bootstrap::new(config, facts, at);
        let domain = |operator: usize| Some(identity(u8::try_from(operator).unwrap()).domain);
        boot.set_expected(
            (0..operators).map(|one| Expected { operator: domain(one), servers: 1, absent: false }).collect(),
        );
        let mut machine = Self { boot, at, exchanges: 0, alarms: Vec::new(), refused: Vec::new(), samples: 4 };
        machine.obey();
        machine
    }

    /// The time that the sources tell is followed from now on.
    fn follow(&mut self, said: i64) {
        self.at.clock.seconds = said;
    }

    fn obey(&mut self) -> Option<Monotonic> {
        loop {
            match self.boot.poll_output() {
                Output::SetClock(by) => {
                    let whole = by.to_seconds().floor();
                    #[expect(clippy::cast_possible_truncation, reason = "some years")]
                    let whole = whole as i64;
                    self.at.clock.seconds += whole;
                }
                Output::ExchangeAgain => self.exchanges += 1,
                Output::Refuse(source) => self.refused.push(source),
                Output::Alarm(alarm) => self.alarms.push(alarm),
                Output::Now(_) => {}
                Output::Timeout(at) => return at,
            }
        }
    }

    /// What an exchange with each of these operators comes to, by how it is judged, and what each then says of the time.
    fn ask(&mut self, servers: &[(u8, Chain)], said: i64) {
        let mut readings = Vec::new();
        for (operator, chain) in servers {
            let good = match self.boot.judgement(self.at.clock) {
                Judgement::At(at) => chain.window.contains(at.seconds, 0),
                Judgement::Deferred { floor, .. } => chain.window.not_after >= floor,
            };
            let source = good.then_some(SourceId(u32::from(*operator)));
            let name = format!("ke.op{operator}.example");
            self.boot.handle_chain(self.at, usize::from(*operator), &name, identity(*operator), chain.clone(), source);
            if let Some(source) = source {
                let offset = between(self.at.clock, said);
                readings.push(Reading { source, offset, distance: 0.05, samples: self.samples });
            }
        }
        self.hear(&readings);
    }

    /// What sources say, of whom the one is followed whom most others agree with.
    fn hear(&mut self, readings: &[Reading]) {
        let agree = |one: &Reading| readings.iter().filter(|other| (one.offset - other.offset).abs() < 1.0).count();
        let followed = readings.iter().max_by_key(|reading| agree(reading)).map(|reading| reading.source);
        self.boot.update(self.at, readings, followed);
        self.obey();
    }

    /// As [`ask`](Self::ask), but each says a time of its own.
    fn ask_each(&mut self, servers: &[(u8, Chain, i64)]) {
        let mut readings = Vec::new();
        for (operator, chain, said) in servers {
            let source = SourceId(u32::from(*operator));
            let name = format!("ke.op{operator}.example");
            let entry = usize::from(*operator);
            self.boot.handle_chain(self.at, entry, &name, identity(*operator), chain.clone(), Some(source));
            readings.push(Reading { source, offset: between(self.at.clock, *said), distance: 0.05, samples: 4 });
        }
        self.hear(&readings);
    }

    fn wait(&mut self) {
        let until = self.obey().unwrap();
        self.at.clock.seconds += i64::try_from(until.since(self.at.monotonic).as_secs()).unwrap();
        self.at.monotonic = until;
        self.boot.handle_timeout(until);
        self.obey();
    }
}

fn honest(operators: u8) -> Vec<(u8, Chain)> {
    let issued = |operator: u8| TRUE - DAY * (5 + i64::from(operator));
    (0..operators).map(|operator| (operator, chain(issued(operator), issued(operator) + 90 * DAY))).collect()
}

#[test]
fn a_machine_without_a_clock_takes_the_time_of_a_majority_and_confirms_it() {
    let mut machine = Machine::new(config(), &NONE, 0, 4);
    assert_eq!(machine.at.clock.seconds, BUILD, "it was that late at least");
    assert!(machine.boot.report().deferred);
    machine.ask(&honest(2), TRUE);
    assert_eq!(machine.boot.state(), State::Unknown);
    let missing = machine.boot.report().missing.to_string();
    assert_eq!(missing, "operators that agree on the time: 2 of 3 needed, 4 are configured");
    machine.ask(&honest(3), TRUE);
    assert_eq!((machine.boot.state(), machine.exchanges), (State::Provisional, 1));
    assert!((machine.at.clock.seconds - TRUE).abs() <= 1);
    assert!(matches!(machine.boot.judgement(machine.at.clock), Judgement::At(_)));
    machine.ask(&honest(4), TRUE);
    assert_eq!(machine.boot.state(), State::Verified);
    assert_eq!(machine.boot.report().missing, Missing::Nothing);
}

#[test]
fn a_vote_takes_three_measurements_of_each_and_its_confirmation_one() {
    let mut machine = Machine::new(config(), &NONE, 0, 3);
    let ask = |machine: &mut Machine, samples| {
        machine.samples = samples;
        machine.ask(&honest(3), TRUE);
        machine.boot.state()
    };
    assert_eq!([1, 2].map(|samples| ask(&mut machine, samples)), [State::Unknown; 2]);
    assert_eq!(ask(&mut machine, 3), State::Provisional);
    assert_eq!(ask(&mut machine, 0), State::Provisional);
    assert_eq!(ask(&mut machine, 1), State::Verified);
    // One measurement confirms nothing but the time that was agreed on.
    let mut machine = Machine::new(config(), &NONE, 0, 3);
    assert_eq!(ask(&mut machine, 3), State::Provisional);
    machine.samples = 1;
    machine.ask(&honest(3), TRUE + 2 * DAY);
    assert_eq!(machine.boot.state(), State::Provisional);
}

#[test]
fn a_right_clock_that_nothing_vouches_for_needs_no_second_exchange() {
    let mut machine = Machine::new(config(), &NONE, TRUE, 3);
    machine.ask(&honest(3), TRUE);
    assert_eq!((machine.boot.state(), machine.exchanges), (State::Verified, 0));
}

#[test]
fn a_plausible_clock_is_judged_by_and_never_deferred() {
    let mut machine = Machine::new(config(), &GOOD, TRUE, 4);
    assert!(!machine.boot.report().deferred);
    // The middle has expired keys of three, and the others are blocked: no time at all.
    let old: Vec<(u8, Chain)> = (0..3).map(|one| (one, chain(TRUE - 200 * DAY, TRUE - 110 * DAY))).collect();
    machine.ask(&old, TRUE - 150 * DAY);
    assert_eq!(machine.boot.state(), State::Unknown);
    let missing = machine.boot.report().missing.to_string();
    assert_eq!(missing, "servers whose certificates are valid by this clock: 0 of 3 needed");
    machine.wait();
    assert_eq!(machine.alarms, [Alarm::NotValid]);
    assert_eq!(machine.boot.judgement(machine.at.clock), Judgement::At(machine.at.clock));
    machine.ask(&honest(3), machine.at.clock.seconds);
    assert_eq!((machine.boot.state(), machine.exchanges), (State::Verified, 0));
}

#[test]
fn a_minority_with_expired_keys_gets_nowhere_however_long_it_tries() {
    let mut machine = Machine::new(config(), &NONE, 0, 5);
    let said = BUILD + 50 * DAY;
    let old: Vec<(u8, Chain)> = (0..2).map(|one| (one, chain(said - DAY, said + 89 * DAY))).collect();
    for _ in 0..20 {
        machine.ask(&old, said);
        assert_eq!(machine.boot.state(), State::Unknown);
        machine.wait();
    }
    assert!(machine.alarms.contains(&Alarm::NoQuorum));
    machine.ask(&honest(5), TRUE);
    machine.ask(&honest(5), TRUE);
    machine.wait();
    machine.ask(&honest(5), TRUE);
    machine.ask(&honest(5), TRUE);
    assert_eq!(machine.boot.state(), State::Verified, "{:?}", machine.boot.report());
    assert!((machine.at.clock.seconds - TRUE).abs() < 100_000);
}

#[test]
fn what_two_operators_signed_has_passed() {
    let mut machine = Machine::new(config(), &NONE, 0, 5);
    let said = BUILD + 50 * DAY;
    // Three keys are stolen, a majority; but two others reach us, though their time does not.
    let mut seen: Vec<(u8, Chain)> = (0..3).map(|one| (one, chain(said - DAY, said + 89 * DAY))).collect();
    for (operator, chain) in honest(5).split_off(3) {
        let name = format!("ke.op{operator}.example");
        let entry = usize::from(operator);
        machine.boot.handle_chain(machine.at, entry, &name, identity(operator), chain, None);
    }
    machine.ask(&seen, said);
    assert_eq!(machine.boot.state(), State::Unknown);
    assert!(machine.boot.earliest() > said);
    // A date that nobody would believe is no evidence.
    seen[0].1.signed.push(i64::MAX);
    seen[1].1.signed.push(i64::MAX);
    machine.ask(&seen, said);
    assert!(machine.boot.earliest() < TRUE);
}

#[test]
fn servers_of_one_operator_have_one_voice() {
    for clock in [0, TRUE] {
        let facts = if clock == 0 { NONE } else { GOOD };
        let mut machine = Machine::new(config(), &facts, clock, 3);
        let servers = honest(3);
        for (number, (_, chain)) in servers.iter().enumerate() {
            let source = SourceId(u32::try_from(number).unwrap());
            let mut one = identity(u8::try_from(number).unwrap());
            one.key = Some([9; 32]);
            machine.boot.handle_chain(machine.at, number, &format!("{number}"), one, chain.clone(), Some(source));
        }
        let offset = between(machine.at.clock, TRUE);
        let says = |source| Reading { source: SourceId(source), offset, distance: 0.05, samples: 4 };
        machine.hear(&[0, 1, 2].map(says));
        assert_eq!(
            (machine.boot.state(), machine.boot.operators()),
            (State::Unknown, 3),
            "{:?}",
            machine.boot.report()
        );
    }
    let allowed = Config { single: true, ..config() };
    let mut machine = Machine::new(allowed, &NONE, 0, 1);
    machine.ask(&honest(1), TRUE);
    machine.ask(&honest(1), TRUE);
    assert_eq!(machine.boot.state(), State::Verified);
}

#[test]
fn a_single_operator_is_judged_by_the_clock_as_it_is() {
    let mut machine = Machine::new(config(), &NONE, 0, 1);
    machine.ask(&honest(1), TRUE);
    assert_eq!(machine.boot.state(), State::Unknown);
    let mut machine = Machine::new(config(), &NONE, TRUE, 1);
    machine.ask(&honest(1), TRUE);
    assert_eq!(machine.boot.state(), State::Verified);
}

#[test]
fn strict_never_defers() {
    let strict = Config { policy: Policy::Strict, ..config() };
    let mut machine = Machine::new(strict.clone(), &NONE, 0, 4);
    machine.ask(&honest(4), TRUE);
    assert_eq!(machine.boot.state(), State::Unknown);
    let mut machine = Machine::new(strict, &NONE, TRUE, 4);
    machine.ask(&honest(4), TRUE);
    assert_eq!(machine.boot.state(), State::Verified);
}

#[test]
fn a_verified_time_is_given_up_when_two_operators_sign_later_ones() {
    let mut machine = Machine::new(config(), &NONE, 0, 3);
    let past = BUILD + 50 * DAY;
    let old: Vec<(u8, Chain)> = (0..3).map(|one| (one, chain(past - DAY, past + 89 * DAY))).collect();
    machine.ask(&old, past);
    machine.ask(&old, past);
    assert_eq!(machine.boot.state(), State::Verified, "all keys are stolen");
    machine.ask(&honest(2), TRUE);
    assert_eq!(machine.alarms, [Alarm::Refuted]);
    machine.ask(&honest(3), TRUE);
    machine.ask(&honest(3), TRUE);
    assert_eq!(machine.boot.state(), State::Verified);
    assert!((machine.at.clock.seconds - TRUE).abs() <= 1);
}

#[test]
fn a_majority_takes_back_a_day_of_the_floor_and_no_more() {
    for (hours, repaired) in [(20, true), (28, false)] {
        let floor = Floor { verified: Some(TRUE + hours * 3_600), ..config().floor };
        let mut machine = Machine::new(Config { floor, ..config() }, &NONE, 0, 3);
        machine.ask(&honest(3), TRUE);
        machine.ask(&honest(3), TRUE);
        assert_eq!(machine.boot.state() == State::Verified, repaired, "{hours}");
    }
}

#[test]
fn a_restored_machine_asks_a_majority() {
    let mut machine = Machine::new(config(), &GOOD, TRUE, 3);
    machine.ask(&honest(3), TRUE);
    assert_eq!(machine.boot.state(), State::Verified);
    machine.boot.handle_restored();
    machine.obey();
    assert!(machine.boot.report().deferred && machine.exchanges == 1);
    assert_eq!(machine.boot.state(), State::Unknown);
}

#[test]
fn those_who_are_not_valid_at_the_time_agreed_on_are_refused() {
    let mut machine = Machine::new(config(), &NONE, TRUE, 4);
    let expired = (3, chain(TRUE - 200 * DAY, TRUE - 110 * DAY));
    let servers: Vec<(u8, Chain)> = core::iter::once(expired).chain(honest(3)).collect();
    machine.ask(&servers, TRUE);
    assert_eq!(machine.boot.state(), State::Verified);
    assert_eq!(machine.refused, [SourceId(3)]);
}

#[test]
fn an_administrator_can_do_away_with_a_floor_that_is_too_late() {
    let floor = Floor { verified: Some(TRUE + 900 * DAY), ..config().floor };
    let mut machine = Machine::new(Config { floor, ..config() }, &GOOD, TRUE, 3);
    assert_eq!(machine.at.clock.seconds, TRUE + 900 * DAY);
    machine.ask(&honest(3), TRUE);
    assert_eq!(machine.boot.state(), State::Unknown);
    machine.boot.handle_floor_reset();
    machine.obey();
    machine.ask(&honest(3), TRUE);
    machine.ask(&honest(3), TRUE);
    assert_eq!(machine.boot.state(), State::Verified);
    assert!((machine.at.clock.seconds - TRUE).abs() <= 1);
}

#[test]
fn a_pool_that_names_another_operators_server_takes_nothing_of_its_voice() {
    for (facts, clock) in [(GOOD, TRUE), (NONE, 0)] {
        let mut machine = Machine::new(config(), &facts, clock, 2);
        let chain = || chain(TRUE - 6 * DAY, TRUE + 84 * DAY);
        // The pool of the first names three servers of its own, who lie and are surest of it, and the second's.
        for (number, server) in ["evil0", "evil1", "evil2", "ke.op1.example"].into_iter().enumerate() {
            let number = u8::try_from(number).unwrap();
            let who = if number == 3 { identity(1) } else { identity(20 + number) };
            let source = Some(SourceId(u32::from(number)));
            machine.boot.handle_chain(machine.at, 0, server, who, chain(), source);
        }
        machine.boot.handle_chain(machine.at, 1, "ke.op1.example", identity(1), chain(), Some(SourceId(4)));
        let lie = between(machine.at.clock, TRUE + 60 * DAY);
        let truth = between(machine.at.clock, TRUE);
        let says = |source, offset, distance| Reading { source: SourceId(source), offset, distance, samples: 4 };
        let evil = [0, 1, 2].map(|source| says(source, lie, 0.001));
        let good = [3, 4].map(|source| says(source, truth, 0.05));
        machine.hear(&[&evil[..], &good].concat());
        assert_eq!(machine.boot.state(), State::Unknown, "one of two operators");
        // Where they agree, both have a voice, though the pool names the other's server.
        let agreed = [0, 1, 2, 3, 4].map(|source| says(source, truth, 0.05));
        machine.hear(&agreed);
        assert_ne!(machine.boot.state(), State::Unknown, "{:?}", machine.boot.report());
    }
}

#[test]
fn whoever_signs_records_is_one_whatever_servers_they_name() {
    let mut machine = Machine::new(config(), &NONE, 0, 3);
    let ahead = TRUE + 10 * DAY;
    for number in 0..2 {
        let mut found = chain(TRUE - 6 * DAY, TRUE + 84 * DAY);
        found.records = vec![ahead];
        let source = Some(SourceId(u32::from(number)));
        machine.boot.handle_chain(machine.at, 0, &format!("ke{number}"), identity(30 + number), found, source);
    }
    assert!(machine.boot.earliest() < TRUE, "that is one operator's date");
    let mut found = chain(TRUE - 6 * DAY, TRUE + 84 * DAY);
    found.records = vec![ahead];
    machine.boot.handle_chain(machine.at, 1, "ke9", identity(39), found, Some(SourceId(9)));
    assert_eq!(machine.boot.earliest(), ahead);
}

#[test]
fn old_certificates_that_anybody_may_show_outvote_nobody() {
    let mut machine = Machine::new(config(), &NONE, 0, 3);
    for number in 0..6 {
        let old = chain(TRUE - (400 + number) * DAY, TRUE - (310 + number) * DAY);
        machine.boot.handle_chain(machine.at, 2, "ke.op2.example", identity(2), old.clone(), None);
        machine.boot.handle_chain(machine.at, 2, &format!("other{number}"), identity(2), old, None);
    }
    machine.ask(&honest(2), TRUE);
    machine.ask(&honest(2), TRUE);
    assert_eq!(machine.boot.state(), State::Verified);
}

#[test]
fn a_few_confirm_a_clock_and_do_not_move_it() {
    let away = TRUE + 60 * DAY;
    let mut machine = Machine::new(config(), &KEPT, TRUE, 5);
    let valid = || chain(TRUE - 6 * DAY, TRUE + 84 * DAY);
    machine.ask_each(&[(0, valid(), away), (1, valid(), away)]);
    assert_eq!(machine.boot.state(), State::Unknown, "two of five");
    machine.ask_each(&[(0, valid(), away), (1, valid(), away), (2, valid(), away)]);
    assert_eq!(machine.boot.state(), State::Verified, "a majority");
    let floor = Floor { verified: Some(TRUE), ..config().floor };
    let mut machine = Machine::new(Config { floor, ..config() }, &KEPT, TRUE + 5, 5);
    machine.ask_each(&[(0, valid(), TRUE - 5), (1, valid(), TRUE - 5)]);
    assert_eq!(machine.boot.state(), State::Unknown, "nor take they back what was verified");
    machine.ask_each(&[(0, valid(), TRUE + 6), (1, valid(), TRUE + 6)]);
    assert_eq!(machine.boot.state(), State::Verified);
}

#[test]
fn a_plausible_clock_is_confirmed_by_a_majority_that_agrees_and_not_by_certificates_alone() {
    // Some months slow, where two stolen certificates are valid, and a third that is honest and valid for long.
    let clock = TRUE - 150 * DAY;
    let stolen = || chain(clock - DAY, clock + 89 * DAY);
    let said = clock + 7 * DAY;
    let long = chain(clock - DAY, TRUE + 30 * DAY);
    let mut machine = Machine::new(config(), &GOOD, clock, 5);
    machine.ask_each(&[(0, stolen(), said), (1, stolen(), said), (2, long.clone(), TRUE)]);
    assert_eq!(machine.boot.state(), State::Unknown);
    let missing = machine.boot.report().missing.to_string();
    assert_eq!(missing, "servers whose certificates are valid by this clock: 2 of 3 needed");
    machine.ask_each(&[(0, stolen(), said), (1, stolen(), said), (2, long, said)]);
    assert_eq!(machine.boot.state(), State::Verified, "three are a majority of five");
}

#[test]
fn no_time_outside_the_certificates_or_beyond_belief_is_verified() {
    for (said, verified) in
        [(BUILD + 20 * DAY, true), (BUILD + 95 * DAY, false), (BUILD + 34 * 365 * DAY, false), (BUILD - 5 * DAY, false)]
    {
        let mut machine = Machine::new(config(), &NONE, 0, 1);
        machine.ask(&[(0, chain(BUILD - 10 * DAY, BUILD + 90 * DAY))], said);
        assert_eq!(machine.boot.state() == State::Verified, verified, "{}", (said - BUILD) / DAY);
    }
    // A last verified time that was saved by somebody who believed that is none.
    let floor = Floor { verified: Some(BUILD + 34 * 365 * DAY), ..config().floor };
    let machine = Machine::new(Config { floor, ..config() }, &NONE, TRUE, 3);
    assert_eq!(machine.boot.earliest(), BUILD);
}

#[test]
fn a_clock_that_is_shown_to_be_behind_is_set_right_and_not_refuted_for_it() {
    for policy in [Policy::Quorum, Policy::Strict] {
        let mut machine = Machine::new(Config { policy, ..config() }, &GOOD, TRUE - 60 * DAY, 3);
        // Not valid yet: that is evidence.
        for (operator, chain) in honest(3) {
            let (name, entry) = (format!("ke.op{operator}.example"), usize::from(operator));
            machine.boot.handle_chain(machine.at, entry, &name, identity(operator), chain, None);
        }
        assert_eq!(machine.boot.earliest(), TRUE - 6 * DAY);
        // Judged when two have signed at least, all are valid that are not newer than that.
        let mut issued = honest(3);
        issued.iter_mut().for_each(|(_, chain)| chain.window.not_before -= 5 * DAY);
        machine.ask(&issued, TRUE);
        assert_eq!(machine.boot.state(), State::Verified, "{policy:?}");
        assert!((machine.at.clock.seconds - TRUE).abs() <= 1);
        assert_eq!((&machine.alarms[..], &machine.refused[..], machine.exchanges), (&[][..], &[][..], 0));
        machine.ask(&issued, TRUE);
        assert_eq!((machine.boot.state(), machine.exchanges), (State::Verified, 0), "and it stays so");
    }
}

#[test]
fn a_key_that_does_not_hang_on_the_time_keeps_its_voice() {
    let mut machine = Machine::new(config(), &NONE, 0, 2);
    let keyed =
        Chain { window: Window::ALWAYS, signed: Vec::new(), records: Vec::new(), life: 0, key: [0; 32], pinned: false };
    let by_key = Identity { domain: "op1.example".into(), key: None };
    machine.boot.handle_chain(machine.at, 1, "op1.example", by_key, keyed, Some(SourceId(1)));
    for state in [State::Provisional, State::Verified] {
        let (_, chain) = honest(1).remove(0);
        machine.boot.handle_chain(machine.at, 0, "ke.op0.example", identity(0), chain, Some(SourceId(0)));
        let offset = between(machine.at.clock, TRUE);
        let says = |source| Reading { source: SourceId(source), offset, distance: 0.05, samples: 4 };
        machine.hear(&[says(0), says(1)]);
        assert_eq!(machine.boot.state(), state);
    }
}

#[test]
fn servers_that_records_name_have_the_one_voice_of_the_zone() {
    let mut machine = Machine::new(config(), &NONE, 0, 2);
    for number in 0..4 {
        // Names and keys of their own, all by one entry.
        let (_, chain) = honest(1).remove(0);
        let source = Some(SourceId(u32::from(number)));
        machine.boot.handle_chain(machine.at, 0, &format!("{number}"), identity(10 + number), chain, source);
    }
    let offset = between(machine.at.clock, TRUE);
    let says = |source| Reading { source: SourceId(source), offset, distance: 0.05, samples: 4 };
    machine.hear(&[0, 1, 2, 3].map(says));
    assert_eq!(machine.boot.state(), State::Unknown);
    let missing = machine.boot.report().missing.to_string();
    assert_eq!(missing, "operators that agree on the time: 1 of 2 needed, 2 are configured");
}

#[test]
fn servers_that_only_addresses_lead_to_have_no_voice_beside_others() {
    let mut machine = Machine::new(config(), &NONE, TRUE, 3);
    let nobody = || Expected { operator: None, servers: 4, absent: false };
    let named = |one: u8| Expected { operator: Some(identity(one).domain), servers: 1, absent: false };
    machine.boot.set_expected(vec![nobody(), named(1), named(2)]);
    let servers: Vec<(u8, Chain, i64)> = (0..4).map(|one| (one, honest(1).remove(0).1, TRUE)).collect();
    for (number, chain, _) in servers.clone() {
        let source = Some(SourceId(u32::from(number)));
        machine.boot.handle_chain(machine.at, 0, &format!("{number}"), identity(10 + number), chain, source);
    }
    let says = |source| Reading { source: SourceId(source), offset: 0.0, distance: 0.05, samples: 4 };
    machine.hear(&[0, 1, 2, 3].map(says));
    assert_eq!((machine.boot.state(), machine.boot.operators()), (State::Unknown, 2));
    // Where nobody else is configured, the clock as it is judges them.
    machine.boot.set_expected(vec![nobody()]);
    machine.hear(&[0, 1, 2, 3].map(says));
    assert_eq!(machine.boot.state(), State::Verified);
}

#[test]
fn old_certificates_of_servers_that_are_gone_do_not_outvote_present_ones() {
    let mut machine = Machine::new(config(), &NONE, TRUE, 3);
    for number in 0..20 {
        let source = SourceId(100 + number);
        let old = chain(TRUE - 95 * DAY, TRUE - 5 * DAY);
        machine.boot.handle_chain(machine.at, 0, &format!("old{number}"), identity(0), old, Some(source));
        machine.boot.handle_gone(source);
    }
    machine.ask(&honest(3), TRUE);
    assert_eq!(machine.boot.state(), State::Verified);
}

#[test]
fn the_floor_rises_with_verified_times_and_falls_by_a_days_repair_alone() {
    let floor = Floor { verified: Some(TRUE - 5 * DAY), ..config().floor };
    let mut machine = Machine::new(Config { floor, ..config() }, &NONE, TRUE, 3);
    machine.ask(&honest(3), TRUE);
    assert_eq!(machine.boot.state(), State::Verified);
    assert_eq!(machine.boot.raise_floor(TRUE), TRUE);
    assert_eq!(machine.boot.raise_floor(TRUE - 2 * DAY), TRUE, "a clock that goes back takes nothing along");
    machine.boot.handle_restored();
    machine.obey();
    machine.follow(TRUE - 3 * DAY);
    machine.ask(&honest(3), TRUE - 3 * DAY);
    assert_eq!(machine.boot.state(), State::Unknown, "three days before what was verified");
    machine.ask(&honest(3), TRUE - DAY / 2);
    machine.ask(&honest(3), TRUE - DAY / 2);
    assert_eq!(machine.boot.state(), State::Verified);
    assert_eq!(machine.boot.raise_floor(TRUE - DAY / 2), TRUE - DAY / 2);
    assert_eq!(machine.boot.raise_floor(BUILD + 40 * 365 * DAY), BUILD + 15 * 365 * DAY);
}

#[test]
fn a_certificate_that_was_issued_this_very_second_is_not_refused() {
    let mut machine = Machine::new(config(), &NONE, TRUE, 3);
    let issued = Chain { signed: Vec::new(), ..chain(TRUE, TRUE + 90 * DAY) };
    let fresh: Vec<(u8, Chain)> = (0..3).map(|operator| (operator, issued.clone())).collect();
    for (operator, chain) in &fresh {
        let (source, name) = (SourceId(u32::from(*operator)), format!("ke.op{operator}.example"));
        let (entry, who) = (usize::from(*operator), identity(*operator));
        machine.boot.handle_chain(machine.at, entry, &name, who, chain.clone(), Some(source));
    }
    // A microsecond before what the clock says.
    let reading = |number| Reading { source: SourceId(number), offset: -1e-6, distance: 0.05, samples: 4 };
    machine.hear(&[0, 1, 2].map(reading));
    assert_eq!((machine.boot.state(), &machine.refused[..]), (State::Verified, &[][..]));
}

#[test]
fn a_certificate_that_was_let_pass_late_is_refused() {
    let mut machine = Machine::new(config(), &NONE, TRUE, 3);
    machine.ask(&honest(3), TRUE);
    assert_eq!(machine.boot.state(), State::Verified);
    let expired = chain(TRUE - 200 * DAY, TRUE - 110 * DAY);
    machine.boot.handle_chain(machine.at, 2, "late", identity(9), expired, Some(SourceId(9)));
    machine.obey();
    assert_eq!(machine.refused, [SourceId(9)]);
}

#[test]
fn a_clock_that_was_verified_before_is_confirmed_by_two_servers() {
    let mut machine = Machine::new(config(), &KEPT, TRUE, 7);
    machine.ask(&honest(1), TRUE);
    assert_eq!(machine.boot.state(), State::Unknown);
    machine.ask(&honest(2), TRUE);
    assert_eq!(machine.boot.state(), State::Verified);
    // Whoever else told the kernel so may have been told anything by anybody.
    let mut machine = Machine::new(config(), &ClockFacts { verified: false, ..KEPT }, TRUE, 7);
    machine.ask(&honest(3), TRUE);
    assert_eq!(machine.boot.state(), State::Unknown);
    machine.ask(&honest(4), TRUE);
    assert_eq!(machine.boot.state(), State::Verified);
}
