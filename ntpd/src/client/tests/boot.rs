//! When the clock is left alone, and whom the bootstrap is told of.

use ntp_proto::bootstrap::{Alarm, Judgement, Signatures, Standing, State, Window};

use super::*;
use crate::{observe::report::TimeReport, state::LastTime};

const PLAIN: &str = "[[server]]\naddress = \"127.0.0.1\"\nnts = \"off\"\n";
const AUTO: &str = "[[server]]\naddress = \"ke.one.test\"\n";

fn held(bench: &Bench) -> bool {
    assert_eq!(bench.client.boot.holds(), bench.client.engine.is_held());
    bench.client.engine.is_held()
}

#[test]
fn a_clock_without_authenticated_sources_is_not_held() {
    let mut bench = Bench::new(PLAIN);
    assert!(!held(&bench) && bench.client.bootstrap_report().is_none());
    assert!(bench.with(|client| client.change(&Change::MakeStep)).is_ok());

    // What only is measured tells nobody the time.
    let measured = "[[server]]\naddress = \"ke.one.test\"\nnts = \"require\"\nselect = [\"noselect\"]\n";
    assert!(!held(&Bench::new(&format!("{PLAIN}{measured}"))));
}

#[test]
fn a_clock_with_authenticated_sources_is_held_until_the_time_is_verified() {
    let mut bench = Bench::new(SERVER);
    assert!(held(&bench));
    assert_eq!(bench.client.bootstrap_report().unwrap().state, State::Unknown);
    let refused = bench.with(|client| client.change(&Change::MakeStep)).unwrap_err();
    assert!(refused.message.contains("not verified"), "{refused:?}");
    // There is no more to hold for when the name is gone.
    let config = Config::parse("test", PLAIN).unwrap();
    bench.with(|client| {
        let exchanger = client.exchanger.clone();
        client.reconfigure(&config, &[], exchanger, false);
    });
    assert!(!held(&bench) && bench.client.bootstrap_report().is_none());
}

#[test]
fn a_name_that_is_undecided_holds_the_others_for_a_while() {
    let mut bench = Bench::new(&format!("{PLAIN}{AUTO}"));
    assert!(held(&bench));
    assert!(bench.client.bootstrap_report().is_none(), "it may have no NTS at all");
    assert!(bench.client.wake.is_some_and(|wake| wake <= bench.client.boot.undecided_until));
    bench.client.boot.undecided_until = now::monotonic();
    bench.with(|_| {});
    assert!(!held(&bench));
    // A key exchange works in the end.
    bench.with(|client| client.store.remember("ke.one.test", ntp_proto::pool::auto::Route::Lb));
    assert!(held(&bench));
    assert_eq!(bench.client.bootstrap_report().unwrap().state, State::Unknown);
}

#[test]
fn each_name_counts_as_whoever_registered_it() {
    let server = |name: &str| format!("[[server]]\naddress = \"{name}\"\nnts = \"require\"\n");
    let pool = |name: &str, mode: &str| format!("[[pool]]\nname = \"{name}\"\nmode = \"{mode}\"\ncount = 3\n");
    let needed = |text: &str| {
        let report = Bench::new(text).client.bootstrap_report().unwrap();
        let ntp_proto::bootstrap::Missing::Servers { needed, .. } = report.missing else { panic!("{report:?}") };
        needed
    };
    assert_eq!(needed(&server("a.one.test")), 1);
    assert_eq!(needed(&[server("a.one.test"), server("b.one.test")].concat()), 1, "one operator");
    assert_eq!(needed(&[server("a.one.test"), server("a.two.test")].concat()), 2);
    assert_eq!(needed(&pool("pool.test", "lb")), 1);
    assert_eq!(needed(&pool("pool.test", "srv")), 1, "whoever signs the zone is one");
    assert_eq!(needed(&[pool("pool.test", "srv"), server("a.one.test"), server("a.two.test")].concat()), 2);
}

#[test]
fn a_place_is_taken_again_when_its_name_is_gone() {
    let server = |name: &str| format!("[[server]]\naddress = \"{name}\"\nnts = \"require\"\n");
    let mut bench = Bench::new(&[server("a.one.test"), server("a.two.test"), server("a.three.test")].concat());
    let entries = |bench: &Bench| {
        let mut all: Vec<(String, usize)> =
            bench.client.groups.values().map(|group| (group.configured.name(), group.entry)).collect();
        all.sort_by_key(|(_, entry)| *entry);
        all.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(entries(&bench), ["a.one.test", "a.two.test", "a.three.test"]);
    let config = Config::parse("test", &[server("a.one.test"), server("a.three.test"), server("a.four.test")].concat());
    bench.with(|client| {
        let exchanger = client.exchanger.clone();
        client.reconfigure(&config.unwrap(), &[], exchanger, false);
    });
    assert_eq!(entries(&bench), ["a.one.test", "a.four.test", "a.three.test"]);
    bench.with(|client| client.restart_group("a.three.test"));
    assert_eq!(entries(&bench), ["a.one.test", "a.four.test", "a.three.test"]);
}

#[test]
fn a_machine_that_was_put_back_begins_anew() {
    let mut bench = Bench::new(SERVER);
    bench.with(|client| client.handle_answered(0, exchanged(0)));
    assert_eq!(bench.sources().len(), 1);
    bench.with(Client::handle_restored);
    assert_eq!(bench.sources(), [], "keys are those of whoever was copied, too");
    assert!(held(&bench));
    let why = bench.client.bootstrap_report().unwrap().standing;
    assert_eq!(why, Standing::Untrusted(ntp_proto::bootstrap::Distrust::Restored));
    // A clock that is not held is measured anew.
    let mut bench = Bench::new(PLAIN);
    bench.with(Client::handle_restored);
    assert!(!held(&bench));
}

#[test]
fn a_clock_that_nothing_has_set_goes_on_from_when_plain_sources_last_kept_it() {
    let start = |text: &str, set_by: SetBy, ahead: i64| {
        let clock = ClockFacts { set_by, ..KNOWN.clock };
        let mut bench = Bench::of(text, None, Known { clock, kept: Some(now::unix().seconds + ahead), ..KNOWN });
        (bench.client.present().clock.seconds - now::unix().seconds + 30).div_euclid(60)
    };
    assert_eq!(start(PLAIN, SetBy::Nothing, 7_200), 120, "minutes");
    assert_eq!(start(PLAIN, SetBy::Nothing, -7_200), 0, "never back");
    assert_eq!(start(PLAIN, KNOWN.clock.set_by, 7_200), 0, "a hardware clock knows better");
    assert_eq!(start(SERVER, SetBy::Nothing, 7_200), 0, "nobody has verified that time");
}

#[test]
fn dates_are_deferred_for_a_clock_that_nothing_vouches_for() {
    let servers = "[[server]]\naddress = \"a.one.test\"\nnts = \"require\"\n[[server]]\naddress = \"a.two.test\"\nnts = \"require\"\n";
    let mut bench = Bench::new(servers);
    let (of_clock, of_names) = bench.client.judgements();
    assert!(matches!((of_clock.certificates, of_names), (Judgement::At(_), Judgement::At(_))));
    assert!(matches!(of_clock.addresses, Judgement::Deferred { .. }), "they need no proof");
    bench.client.boot.known.clock.set_by = SetBy::Nothing;
    bench.client.boot.bootstrap = None;
    bench.with(|_| {});
    let (of_clock, Judgement::Deferred { floor, .. }) = bench.client.judgements() else {
        panic!("{:?}", bench.client.bootstrap_report())
    };
    assert!(matches!(of_clock.certificates, Judgement::Deferred { .. }));
    assert_eq!(floor, BUILT.seconds);
}

#[test]
fn an_alarm_is_told_once_until_the_time_is_verified() {
    let mut bench = Bench::new(SERVER);
    let report = bench.client.bootstrap_report().unwrap();
    let news = |bench: &mut Bench| [Alarm::NoQuorum, Alarm::NotConfirmed].map(|alarm| bench.client.boot.is_news(alarm));
    assert_eq!(news(&mut bench), [true, true]);
    bench.with(|client| client.enter(State::Provisional, &report));
    assert_eq!(news(&mut bench), [false, false], "round after round");
    bench.with(|client| client.enter(State::Verified, &report));
    assert_eq!(news(&mut bench), [true, true]);
}

#[test]
fn whoever_was_not_reached_is_asked_again_when_there_is_another_address() {
    let mut bench = Bench::new(SERVER);
    let failed = |question| Answered::for_test(QuestionId(question), Answer::Failed(Failure::Connect), None);
    bench.with(|client| client.handle_answered(0, failed(0)));
    assert!(bench.client.next_pool_timeout().is_some_and(|at| at > now::monotonic()));
    bench.with(Client::handle_address);
    assert_eq!(bench.client.next_pool_timeout(), None, "it is asked");
    // As long as the time is not known, that also comes without one.
    bench.with(|client| client.handle_answered(0, failed(1)));
    assert!(bench.client.next_pool_timeout().is_some());
    bench.with(Client::ask_again_if_due);
    assert!(bench.client.next_pool_timeout().is_some());
    bench.client.ask_again_at = Some(now::monotonic());
    bench.with(Client::ask_again_if_due);
    assert_eq!(bench.client.next_pool_timeout(), None);
}

#[test]
fn what_was_said_of_a_clock_stands_only_where_nothing_speaks_against_it() {
    let mut bench = Bench::new(SERVER);
    assert!(!bench.client.boot.bootstrap.as_ref().unwrap().may_stand(), "plausible is not enough");
    bench.client.boot.known.clock.synchronized = true;
    bench.client.boot.bootstrap = None;
    bench.with(|_| {});
    assert!(bench.client.boot.bootstrap.as_ref().unwrap().may_stand() && held(&bench));
    bench.with(Client::handle_restored);
    assert!(!bench.client.boot.bootstrap.as_ref().unwrap().may_stand() && held(&bench));
    // That is not forgotten when sources come and go.
    bench.client.boot.bootstrap = None;
    bench.with(|_| {});
    assert!(!bench.client.boot.bootstrap.as_ref().unwrap().may_stand());
}

#[test]
fn records_that_are_not_valid_yet_show_a_slow_clock_how_late_it_is() {
    let pool = |name: &str| format!("[[pool]]\nname = \"{name}\"\nmode = \"srv\"\n");
    let mut bench = Bench::new(&[pool("pool.one.test"), pool("pool.two.test")].concat());
    let earliest = |bench: &Bench| bench.client.bootstrap_report().unwrap().earliest;
    let later = now::unix().seconds + 86_400;
    let signed = |at| {
        let window = Window { not_before: at, not_after: at + 1 };
        Answered::for_test(QuestionId(0), Answer::Bogus, None).with_later(Signatures { window, signed: vec![at] })
    };
    bench.with(|client| client.handle_answered(0, signed(later + 5)));
    assert_eq!(earliest(&bench), BUILT.seconds, "one zone alone proves nothing");
    bench.with(|client| client.handle_answered(1, signed(later)));
    assert_eq!(earliest(&bench), later);
    let (_, Judgement::At(at)) = bench.client.judgements() else { panic!("the clock is plausible") };
    assert_eq!(at.seconds, later, "so that the next answer holds");
}

#[test]
fn a_lone_operator_of_a_machine_without_a_clock_is_told_what_helps() {
    let mut bench = Bench::new("[[pool]]\nname = \"pool.one.test\"\nmode = \"lb\"\n");
    bench.client.boot.known.clock.set_by = SetBy::Nothing;
    bench.client.boot.bootstrap = None;
    bench.with(|_| {});
    let obstacles = TimeReport::new(&bench.client.bootstrap_report().unwrap()).obstacles();
    assert!(
        obstacles.ends_with("name servers of two more, or set trust.first-boot-quorum = 1")
            && obstacles
                .contains("; missing: servers whose certificates are valid by this clock: 0 of 1 needed; only one"),
        "{obstacles}"
    );
}

#[test]
fn a_clock_that_plain_sources_keep_is_no_more_the_one_that_was_verified() {
    let directory = tempfile::tempdir().unwrap();
    let state = Arc::new(StateDirectory::open(directory.path()).unwrap());
    let seconds = now::unix().seconds - 60;
    let since = |state: &StateDirectory| {
        let last = state.load::<LastTime>().value.unwrap();
        (last.time().seconds, last.is_since(Some("this")))
    };
    state.save(&LastTime::new(UnixTime { seconds, nanos: 0 }, Some("this".to_owned()))).unwrap();
    let clock = ClockFacts { synchronized: true, verified: true, ..KNOWN.clock };
    let known = Known { clock, verified: Some(seconds), ..KNOWN };

    let mut bench = Bench::of(SERVER, Some(state.clone()), known);
    assert_eq!(bench.client.bootstrap_report().unwrap().standing, Standing::Trusted);
    assert_eq!(since(&state), (seconds, true));
    for (text, standing) in [(PLAIN, None), (SERVER, Some(Standing::Plausible))] {
        bench.with(|client| {
            let config = Config::parse("test", text).unwrap();
            let exchanger = KeyExchanger::new(&config.trust, Resolver::new(&config.trust).unwrap()).unwrap();
            client.reconfigure(&config, &[], exchanger, false);
        });
        assert_eq!(bench.client.bootstrap_report().map(|report| report.standing), standing);
        assert_eq!(since(&state), (seconds, false), "nor is it after a restart");
    }
}
