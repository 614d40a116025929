use super::*;

const BUILD: i64 = 1_790_000_000;
/// What time it is.
const TRUE: i64 = BUILD + 300 * DAY;
const GOOD: ClockFacts =
    ClockFacts { set_by: SetBy::HardwareClock { voltage_low: false }, synchronized: false, restored: false };
const NONE: ClockFacts = ClockFacts { set_by: SetBy::Nothing, ..GOOD };

fn config() -> Config {
    let floor = Floor { build: BUILD, distribution: None, verified: None };
    Config { policy: Policy::Quorum, floor, min_agreeing: None, single: false }
}

fn identity(operator: u8) -> Identity {
    let addresses = vec![std::net::IpAddr::from([192, 0, operator, 1])];
    Identity { domain: format!("op{operator}.example"), key: Some([operator; 32]), addresses }
}

fn chain(from: i64, until: i64) -> Chain {
    let window = Window { not_before: from, not_after: until };
    Chain { window, signed: vec![from], life: until - from, key: [0; 32], pinned: false }
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
        boot.set_expected((0..operators).map(|one| Expected { domain: domain(one), servers: 1 }).collect());
        let mut machine = Self { boot, at, exchanges: 0, alarms: Vec::new(), refused: Vec::new(), samples: 4 };
        machine.obey();
        machine
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
        let selected = !readings.is_empty();
        self.boot.update(self.at, &readings, selected);
        self.obey();
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
    let mut machine = Machine::new(config(), &NONE, 0, 3);
    let servers = honest(3);
    for (number, (_, chain)) in servers.iter().enumerate() {
        let source = SourceId(u32::try_from(number).unwrap());
        let mut one = identity(u8::try_from(number).unwrap());
        one.key = Some([9; 32]);
        machine.boot.handle_chain(machine.at, number, &format!("{number}"), one, chain.clone(), Some(source));
    }
    assert_eq!(machine.boot.operators(), 1);
    assert!(!machine.boot.report().deferred, "one operator is no majority");
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
