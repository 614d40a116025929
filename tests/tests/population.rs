//! What clients cost a pool. Every limit that `docs/pools/lookups.md` and `docs/pools/capacity.md` publish has its test
//! here; the figures themselves are printed by `cargo run --release -p ntpd-tests --bin population`.

use ntpd_tests::sim::population::{Cause, Counts, Incident, ModeName, Offer, Scenario, run};

const NTS: [ModeName; 4] = [ModeName::Srv, ModeName::Lb, ModeName::Auto(Offer::Srv), ModeName::Auto(Offer::Lb)];

/// Most queries of one start: six for the service records, and two for each of four targets.
const START_QUERIES: u64 = 6 + 4 * 2 * 2;

fn clients(mode: ModeName, clients: usize) -> Scenario {
    Scenario { clients, ..Scenario::new(mode) }
}

fn checked(scenario: &Scenario, seed: u64) -> Counts {
    let counts = run(scenario, seed);
    if scenario.mode.offer() != Offer::Classic {
        assert_eq!(counts.cookies, counts.ntp.requests, "a request without a cookie: {scenario:?}");
    }
    assert_eq!(counts.cookies_reused, 0, "a cookie went out twice: {scenario:?}");
    counts
}

#[test]
fn one_seed_is_one_population() {
    let scenario = Scenario { days: 0.1, loss: 0.05, ..clients(ModeName::Lb, 3) };
    assert_eq!(run(&scenario, 1), run(&scenario, 1));
    assert_ne!(run(&scenario, 1).ntp, run(&scenario, 2).ntp);
}

#[test]
fn without_trouble_keys_are_exchanged_once_a_member_and_names_are_asked_for_once() {
    for mode in NTS {
        let counts = checked(&clients(mode, 4), 1);
        assert_eq!(counts.all_exchanges(), 4 * 4, "{mode:?}: {counts:?}");
        assert_eq!((counts.done, counts.short, counts.lost_members), (4 * 4, 0, 0), "{mode:?}");
        assert!(counts.dns <= 4 * START_QUERIES + 4 * 6, "{mode:?}: {counts:?}");
    }
    let counts = checked(&clients(ModeName::Classic, 4), 1);
    assert_eq!((counts.all_exchanges(), counts.dns), (0, 4 * 2), "{counts:?}");
}

#[test]
fn the_lifetime_of_records_costs_a_running_client_nothing() {
    for mode in [ModeName::Srv, ModeName::Lb, ModeName::Classic] {
        let queries = [60, 86_400].map(|ttl| checked(&Scenario { ttl, ..clients(mode, 2) }, 3).dns);
        assert_eq!(queries[0], queries[1], "{mode:?}");
    }
}

#[test]
fn one_packet_in_twenty_lost_each_way_costs_no_key_exchange() {
    for mode in [ModeName::Srv, ModeName::Lb] {
        let counts = checked(&Scenario { loss: 0.05, ..clients(mode, 4) }, 5);
        let first = counts.exchanges_for(Cause::Start);
        assert!(counts.all_exchanges() - first <= 1, "{mode:?}: {:?}", counts.exchanges);
        assert!(first <= 4 * 4 + 2, "{mode:?}: {:?}", counts.exchanges);
    }
}

#[test]
fn one_packet_in_five_lost_each_way_costs_few_key_exchanges() {
    for mode in [ModeName::Srv, ModeName::Lb] {
        let counts = checked(&Scenario { loss: 0.2, ..clients(mode, 4) }, 5);
        let later = counts.all_exchanges() - counts.exchanges_for(Cause::Start);
        assert!(counts.per_client_day(later) <= 4.0, "{mode:?}: {:?}", counts.exchanges);
    }
}

#[test]
fn saved_keys_spare_the_exchanges_of_a_restart() {
    for mode in [ModeName::Srv, ModeName::Lb] {
        let scenario = Scenario { restarts: 10.0, ..clients(mode, 3) };
        let saved = checked(&scenario, 7);
        assert_eq!(saved.exchanges_for(Cause::Restart), 0, "{saved:?}");
        assert!(saved.spared >= 4 * 15, "{saved:?}");
        let lost = checked(&Scenario { saved: false, ..scenario }, 7);
        assert_eq!(lost.spared, 0);
        assert!(lost.exchanges_for(Cause::Restart) >= 4 * 15, "{lost:?}");
    }
}

#[test]
fn a_member_that_dies_costs_each_of_its_clients_one_exchange_with_a_balancer() {
    let scenario = Scenario { members: 8, incidents: vec![(21_600.0, Incident::Dies(0))], ..clients(ModeName::Lb, 6) };
    let counts = checked(&scenario, 9);
    assert!((1..=6).contains(&counts.lost_members), "{counts:?}");
    assert_eq!(counts.exchanges_for(Cause::Gone), counts.lost_members, "{:?}", counts.exchanges);
    assert_eq!(counts.short, 0);
}

#[test]
fn a_member_that_dies_costs_few_exchanges_with_service_records() {
    let scenario = Scenario { members: 8, incidents: vec![(21_600.0, Incident::Dies(0))], ..clients(ModeName::Srv, 6) };
    let counts = checked(&scenario, 9);
    assert!((1..=6).contains(&counts.lost_members), "{counts:?}");
    assert!(counts.exchanges_for(Cause::Gone) <= 2 * counts.lost_members, "{:?}", counts.exchanges);
    assert_eq!(counts.short, 0);
}

#[test]
fn a_member_that_loses_its_keys_costs_each_of_its_clients_one_exchange() {
    for mode in [ModeName::Srv, ModeName::Lb] {
        let incidents = vec![(21_600.0, Incident::ForgetsKeys(0))];
        let counts = checked(&Scenario { members: 8, listed: 8, incidents, ..clients(mode, 6) }, 11);
        let again = counts.exchanges_for(Cause::Refused);
        assert!((1..=6).contains(&again), "{mode:?}: {:?}", counts.exchanges);
        assert_eq!(counts.all_exchanges(), 6 * 4 + again, "{mode:?}: {:?}", counts.exchanges);
    }
}

#[test]
fn a_member_that_is_no_longer_listed_costs_nothing() {
    for mode in [ModeName::Srv, ModeName::Lb, ModeName::Classic] {
        let incidents = vec![(21_600.0, Incident::Leaves(0))];
        let counts = checked(&Scenario { incidents, members: 8, ..clients(mode, 3) }, 13);
        assert_eq!(counts.lost_members, 0, "{mode:?}");
        assert_eq!(counts.exchanges_between(21_600, 86_400), 0, "{mode:?}");
    }
}

/// Running clients hold cookies: neither names nor key exchanges are needed for as long as their members last.
#[test]
fn a_day_without_key_exchanges_and_names_is_not_noticed_by_running_clients() {
    for mode in [ModeName::Srv, ModeName::Lb] {
        let incidents = vec![(3_600.0, Incident::ExchangesFail(true)), (3_600.0, Incident::NamesFail(true))];
        let counts = checked(&Scenario { incidents, ..clients(mode, 3) }, 15);
        assert_eq!((counts.all_exchanges(), counts.short), (3 * 4, 0), "{mode:?}");
    }
}

/// Machines that start while no key exchange succeeds must not make it worse: with a balancer they ask it 16 times a day,
/// with service records each of the targets.
#[test]
fn a_client_without_keys_tries_ever_less() {
    for (mode, targets) in [(ModeName::Lb, 1.0), (ModeName::Srv, 8.0)] {
        let incidents = vec![(0.0, Incident::ExchangesFail(true))];
        let counts = checked(&Scenario { incidents, members: 8, ..clients(mode, 3) }, 17);
        assert_eq!(counts.done, 0);
        let tries = counts.per_client_day(counts.all_exchanges());
        assert!((8.0 * targets..=16.0 * targets).contains(&tries), "{mode:?}: {tries}");
    }
}

/// A name that offers no NTS is found out with one exchange that nobody answers. Then there are looks whether it has come,
/// after one hour, two, four, nine and so on.
#[test]
fn auto_tries_one_key_exchange_where_there_is_no_nts_and_few_later() {
    let counts = checked(&clients(ModeName::Auto(Offer::Classic), 3), 25);
    assert_eq!((counts.done, counts.short, counts.lost_members), (0, 0, 0), "{counts:?}");
    let looks = counts.all_exchanges() - 3;
    assert_eq!(looks, 3 * 4, "{counts:?}");
    assert_eq!(counts.exchanges_between(0, 3_600), 3);
    assert_eq!(counts.dns, 3 * (6 + 2 + 2) + looks * (6 + 2));
}

/// Keys are a week old when others are had, and up to an eighth more: 30 days have three such exchanges a member, or four.
#[test]
fn a_month_costs_each_member_one_exchange_a_week_and_clients_do_not_come_together() {
    for mode in [ModeName::Srv, ModeName::Lb] {
        let counts = checked(&Scenario { days: 30.0, polls: (10, 10), ..clients(mode, 3) }, 27);
        assert_eq!((counts.exchanges_for(Cause::Start), counts.lost_members, counts.short), (3 * 4, 0, 0), "{mode:?}");
        let renewed = counts.exchanges_for(Cause::Age);
        assert_eq!(counts.all_exchanges(), 3 * 4 + renewed, "{mode:?}: {:?}", counts.exchanges);
        assert!((3 * 4 * 3..=3 * 4 * 4).contains(&renewed), "{mode:?}: {renewed}");
        assert_eq!(counts.exchanges_between(3_600, 7 * 86_400), 0, "{mode:?}: before a week");
        let first_round = 7 * 86_400..8 * 86_400;
        let most = first_round.step_by(3_600).map(|hour| counts.exchanges_between(hour, hour + 3_600)).max();
        assert!(most.is_some_and(|most| most <= 6), "{mode:?}: {most:?} of 12 in one hour of 21");
        // Two for each exchange and, with service records, six for each look at them; a balancer has its own name too.
        let looks = if mode == ModeName::Srv { 6 * renewed } else { 2 * renewed };
        assert!(counts.dns <= 3 * START_QUERIES + 2 * renewed + looks, "{mode:?}: {}", counts.dns);
    }
}

/// Answers of few records may be all there are, or a draw.
#[test]
fn a_member_taken_off_a_whole_list_is_replaced_and_one_that_a_draw_leaves_out_is_kept() {
    let month = |members, listed, incidents| Scenario {
        members,
        listed,
        incidents,
        days: 30.0,
        polls: (10, 10),
        ..clients(ModeName::Srv, 6)
    };
    let gone = checked(&month(6, 7, vec![(86_400.0, Incident::Leaves(0))]), 29);
    assert!((1..=6).contains(&gone.replaced), "{gone:?}");
    assert_eq!((gone.unlisted, gone.lost_members, gone.short), (0, 0, 0), "{gone:?}");
    assert_eq!(gone.exchanges_for(Cause::Other), gone.replaced, "each cost one exchange: {:?}", gone.exchanges);
    for (members, listed) in [(5, 4), (6, 4), (12, 4), (40, 4), (7, 6), (40, 6), (8, 7), (40, 8)] {
        let drawn = checked(&month(members, listed, vec![]), 31);
        assert_eq!((drawn.replaced, drawn.lost_members, drawn.short), (0, 0, 0), "{members} {listed}: {drawn:?}");
        assert_eq!(drawn.exchanges_for(Cause::Other), 0, "{members} {listed}: {:?}", drawn.exchanges);
        // Two for each exchange, six for each look at the records, and a few of these besides to tell draws from lists.
        let renewed = drawn.exchanges_for(Cause::Age);
        let doubts = 6 * 4 * 6;
        assert!(drawn.dns <= 6 * START_QUERIES + 8 * renewed + doubts, "{members} {listed}: {}", drawn.dns);
    }
}

#[test]
fn after_a_power_cut_every_client_starts_once() {
    for mode in [ModeName::Srv, ModeName::Lb] {
        let incidents = vec![(21_600.0, Incident::PowerCut)];
        let counts = checked(&Scenario { incidents, days: 0.5, ..clients(mode, 6) }, 19);
        assert_eq!(counts.exchanges_for(Cause::Restart), 6 * 4, "{mode:?}: {:?}", counts.exchanges);
        assert_eq!(counts.exchanges_between(21_600, 21_600 + 120), 6 * 4, "all within two minutes");
    }
}

#[test]
fn a_laptop_that_sleeps_keeps_its_keys() {
    for mode in [ModeName::Srv, ModeName::Lb] {
        let counts = checked(&Scenario { laptops: true, ..clients(mode, 4) }, 21);
        assert!(counts.all_exchanges() <= 4 * 4 + 2, "{mode:?}: {:?}", counts.exchanges);
        assert_eq!(counts.exchanges_for(Cause::Refused) + counts.exchanges_for(Cause::NoCookies), 0);
    }
}

#[test]
fn a_shared_resolver_asks_the_pool_once_a_lifetime_at_most() {
    let scenario =
        Scenario { ttl: 3_600, restarts: 10.0, saved: false, clients_per_resolver: 10, ..clients(ModeName::Lb, 10) };
    let counts = checked(&scenario, 23);
    assert!(counts.dns_pool <= 2 * (24 + 1), "two families, once an hour: {counts:?}");
    assert!(counts.dns >= 10 * counts.dns_pool, "{counts:?}");
}
