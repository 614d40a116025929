//! How machines that do not know the time come to know it, in the virtual world: how long it takes, and what they do while
//! nobody tells them.

use ntp_proto::{
    bootstrap::{Alarm, ClockFacts, Config, Floor, Missing, Policy, SetBy, State},
    discipline::StepLimit,
    ids::Leap,
};
use ntpd_tests::sim::{
    ClientSpec, Random,
    boot::{Deed, Machine, Network, Operator, TRUE},
};

const DAY: i64 = 86_400;
const HOUR: f64 = 3_600.0;
/// When the program was built.
const BUILT: i64 = TRUE - 100 * DAY;
const NOTHING: ClockFacts =
    ClockFacts { set_by: SetBy::Nothing, synchronized: false, verified: false, restored: false };
const HARDWARE: ClockFacts = ClockFacts { set_by: SetBy::HardwareClock { voltage_low: false }, ..NOTHING };

fn config() -> Config {
    let floor = Floor { build: BUILT, distribution: None, verified: None };
    Config { policy: Policy::Quorum, floor, min_agreeing: None, single: false }
}

fn honest(number: usize) -> Operator {
    let days = i64::try_from(number).expect("a few");
    Operator { issued: TRUE - (5 + 10 * days) * DAY, error: 0.0, round_trip: 0.03, loss: 0.0 }
}

/// A machine with four honest operators.
fn machine(seed: u64, facts: &ClockFacts, clock: i64) -> Machine {
    let operators: Vec<Operator> = (0..4).map(honest).collect();
    Machine::start(seed, config(), facts, clock, ClientSpec::new(Vec::new()), &operators)
}

fn set(machine: &Machine) -> Vec<f64> {
    machine.deeds.iter().filter_map(|(_, deed)| if let Deed::Set(by) = deed { Some(*by) } else { None }).collect()
}

fn alarms(machine: &Machine) -> Vec<Alarm> {
    machine
        .deeds
        .iter()
        .filter_map(|(_, deed)| if let Deed::Alarm(alarm) = deed { Some(*alarm) } else { None })
        .collect()
}

/// When it asked an operator for keys, in seconds.
fn exchanges(machine: &Machine, operator: usize) -> Vec<f64> {
    machine.deeds.iter().filter(|(_, deed)| *deed == Deed::Exchange(operator)).map(|(at, _)| *at).collect()
}

/// What the machine tells the kernel, and by that others, of its clock now.
fn is_synchronized(machine: &Machine) -> bool {
    let (engine, now) = machine.world.engine(machine.client);
    engine.tracking(now).synchronized
}

/// Nothing has come of what anybody said: the clock was set to what has passed and to nothing else, and clients are told that
/// it is not synchronized.
fn assert_untouched(machine: &Machine) {
    assert_eq!(machine.boot.earliest(), BUILT, "no floor rises by what nobody has confirmed");
    assert!(set(machine).len() <= 1, "to what has passed, at most: {:?}", set(machine));
    let (engine, _) = machine.world.engine(machine.client);
    assert_eq!(engine.status().leap, Leap::Unsynchronized);
    assert!(!is_synchronized(machine) && machine.boot.state() == State::Unknown);
}

#[test]
fn machines_without_a_clock_know_the_time_within_ten_seconds() {
    const BOOTS: u64 = 400;
    let mut random = Random::new(1);
    let (mut took, mut synchronized) = (Vec::new(), Vec::new());
    for seed in 0..BOOTS {
        // From the same town to the other side of the world, and some loss.
        let count = [3, 4, 4, 5, 7][usize::try_from(seed % 5).expect("small")];
        let operators: Vec<Operator> = (0..count)
            .map(|number| Operator {
                round_trip: 0.005 * f64::powf(60.0, random.uniform()),
                loss: 0.005,
                error: 2e-3 * (random.uniform() - 0.5),
                ..honest(number)
            })
            .collect();
        let mut machine = Machine::start(seed, config(), &NOTHING, 0, ClientSpec::new(Vec::new()), &operators);
        assert!(machine.run_until(600.0), "seed {seed}: {:?}", machine.boot.report());
        assert!(machine.error().abs() < 0.5, "seed {seed}: {}", machine.error());
        took.push(machine.elapsed());
        assert!(machine.run(600.0, is_synchronized), "seed {seed}");
        synchronized.push(machine.elapsed());
    }
    took.sort_by(f64::total_cmp);
    synchronized.sort_by(f64::total_cmp);
    let at = |times: &[f64], share: usize| times[times.len() * share / 100];
    for (what, times) in [("verified", &took), ("synchronized", &synchronized)] {
        println!("{what} after {:.1} s (median), {:.1} s (99 %)", at(times, 50), at(times, 99));
    }
    assert!(at(&took, 50) <= 10.0, "{}", at(&took, 50));
    assert!(at(&took, 99) <= 30.0, "{}", at(&took, 99));
}

#[test]
fn days_without_a_network_change_nothing_and_end_with_it() {
    let mut machine = machine(2, &NOTHING, 0);
    machine.network = Network::Down;
    assert!(!machine.run_until(72.0 * HOUR));
    assert_untouched(&machine);
    // The clock was set to what has passed, and has run on since.
    assert!((machine.error() + 100.0 * 86_400.0).abs() < 10.0, "{}", machine.error());
    let missing = machine.boot.report().missing.to_string();
    assert_eq!(missing, "operators that agree on the time: 0 of 3 needed, 4 are configured");
    assert_eq!(alarms(&machine), [], "that nobody is reached is no reason to suspect anybody");
    // It is asked ever less, and never given up.
    let asked = exchanges(&machine, 0);
    let gaps: Vec<f64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let longest = gaps.iter().copied().fold(0.0, f64::max);
    println!("{} exchanges in three days; at least every {longest:.0} s", asked.len());
    assert!(gaps[0] < 60.0 && (gaps[0]..1_100.0).contains(&longest) && asked.len() < 400, "{gaps:?}");

    machine.network = Network::Open;
    assert!(machine.run_until(72.0 * HOUR + longest + 60.0), "{:?}", machine.boot.report());
    assert!(machine.error().abs() < 0.1);
    machine.run(machine.elapsed() + 10.0, |_| false);
    assert!(is_synchronized(&machine));
    // To what has passed, and to what a majority told.
    assert_eq!(set(&machine).len(), 2);
}

#[test]
fn a_portal_gives_no_time_and_is_left_behind() {
    let mut machine = machine(3, &NOTHING, 0);
    machine.network = Network::Portal;
    assert!(!machine.run_until(2.0 * HOUR));
    assert_untouched(&machine);
    assert!(matches!(machine.boot.report().missing, Missing::Operators { agreeing: 0, needed: 3, all: 4 }));
    machine.network = Network::Open;
    assert!(machine.run_until(2.5 * HOUR), "{:?}", machine.boot.report());
    assert!(machine.error().abs() < 0.1);
}

#[test]
fn a_good_clock_without_a_network_is_left_alone_and_passed_on_to_nobody() {
    let mut machine = machine(4, &HARDWARE, TRUE + 2);
    machine.network = Network::Down;
    assert!(!machine.run_until(48.0 * HOUR));
    assert_untouched(&machine);
    assert!(set(&machine).is_empty() && alarms(&machine).is_empty());
    let missing = machine.boot.report().missing.to_string();
    assert_eq!(missing, "servers whose certificates are valid by this clock: 0 of 3 needed");
    let run_away = machine.error();
    machine.network = Network::Open;
    assert!(machine.run_until(60.0 * HOUR), "{:?}", machine.boot.report());
    assert!(set(&machine).is_empty(), "the bootstrap has no part in it");
    // From here on the usual rules hold: the first updates may step.
    machine.run(machine.elapsed() + 10.0, |_| false);
    assert!(is_synchronized(&machine) && machine.error().abs() < 0.01, "{} after {run_away}", machine.error());
    assert_eq!(machine.world.steps(machine.client), 1);
}

#[test]
fn a_clock_that_the_kernel_vouches_for_needs_two_servers() {
    let synchronized = ClockFacts { synchronized: true, ..NOTHING };
    let mut machine = machine(5, &synchronized, TRUE);
    assert!(machine.run_until(60.0), "{:?}", machine.boot.report());
    assert!(set(&machine).is_empty() && machine.elapsed() < 30.0);
}

#[test]
fn limits_of_steps_do_not_keep_a_machine_in_1970() {
    let operators: Vec<Operator> = (0..4).map(honest).collect();
    let client = ClientSpec { steps: StepLimit::Updates(0), ..ClientSpec::new(Vec::new()) };
    let mut machine = Machine::start(6, config(), &NOTHING, 0, client, &operators);
    assert!(machine.run(60.0, |machine| machine.boot.state() == State::Provisional));
    let [floor, agreed] = set(&machine)[..] else { panic!("{:?}", set(&machine)) };
    #[expect(clippy::cast_precision_loss, reason = "some decades in seconds")]
    let (to_floor, to_truth) = (BUILT as f64, (TRUE - BUILT) as f64);
    assert!((floor - to_floor).abs() < 1.0 && (agreed - to_truth).abs() < 30.0, "{floor} {agreed}");
    // Not synchronized until it is confirmed, whatever is measured meanwhile.
    while machine.boot.state() == State::Provisional {
        assert!(!is_synchronized(&machine));
        let next = machine.elapsed() + 0.1;
        assert!(next < 60.0);
        machine.run(next, |machine| machine.boot.state() == State::Verified);
    }
    assert_eq!(machine.boot.state(), State::Verified);
    let before = machine.world.kernel_history(machine.client).iter().filter(|(at, _)| *at < machine.elapsed());
    assert!(before.clone().all(|(_, told)| !told.synchronized && told.leap == Leap::Unsynchronized));
    // What little is left is slewed, since no step is allowed.
    machine.run(machine.elapsed() + 120.0, |_| false);
    assert_eq!((machine.world.steps(machine.client), set(&machine).len()), (2, 2));
    assert!(machine.error().abs() < 1e-3 && is_synchronized(&machine), "{}", machine.error());
}

#[test]
fn an_alarm_is_raised_each_round_and_rounds_are_ever_further_apart() {
    // All say another time: nothing is agreed on.
    let operators: Vec<Operator> = (0..4)
        .map(|number| {
            let error = 100.0 * f64::from(u8::try_from(number).expect("four"));
            Operator { error, ..honest(number) }
        })
        .collect();
    let mut machine = Machine::start(7, config(), &NOTHING, 0, ClientSpec::new(Vec::new()), &operators);
    assert!(machine.run(700.0, |machine| matches!(machine.boot.report().missing, Missing::Pause { .. })));
    let missing = machine.boot.report().missing.to_string();
    assert_eq!(missing, "the next try, after a pause of 64 s: there was no majority for any time");
    assert!(!machine.run_until(6.0 * HOUR));
    assert!(alarms(&machine).iter().all(|alarm| *alarm == Alarm::NoQuorum), "{:?}", alarms(&machine));
    let raised = machine.deeds.iter().filter(|(_, deed)| matches!(deed, Deed::Alarm(_)));
    let at: Vec<f64> = raised.map(|(at, _)| *at).collect();
    let gaps: Vec<f64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    println!("rounds: {gaps:.0?}");
    // Ten minutes of trying, and a pause of 64 s that doubles up to 1024 s.
    let pauses = [64.0, 128.0, 256.0, 512.0].into_iter().chain(std::iter::repeat(1_024.0));
    let fits = |(gap, pause): (&f64, f64)| (gap - pause - 600.0).abs() < 30.0;
    assert!(gaps.len() > 8 && gaps.iter().zip(pauses).all(fits), "{gaps:?}");
    assert_eq!(
        machine.boot.earliest(),
        TRUE - 15 * DAY,
        "two operators have signed that much, and no more is believed"
    );
    assert!(!is_synchronized(&machine));
}
