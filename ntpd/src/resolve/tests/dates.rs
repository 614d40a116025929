//! Signatures that are not valid at the time of the clock.

use ntp_proto::{
    bootstrap::{Signatures, Window},
    time::UnixTime,
};

use super::*;

const DAY: u64 = 86_400;
/// 2026-11-24.
const FLOOR: i64 = 1_795_478_400;
/// 2027-01-10 to 2027-01-24: records.
const RECORDS: [u64; 2] = [1_799_539_200, 1_799_539_200 + 14 * DAY];
/// 2027-01-05 to 2027-01-20: keys.
const KEYS: [u64; 2] = [1_799_107_200, 1_799_107_200 + 15 * DAY];

fn seconds(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap()
}

/// When both are valid.
fn both() -> Window {
    Window { not_before: seconds(RECORDS[0]), not_after: seconds(KEYS[1]) }
}

fn at(seconds: i64) -> Judgement {
    Judgement::At(UnixTime { seconds, nanos: 0 })
}

fn later(now: i64) -> Judgement {
    Judgement::Deferred { now, floor: FLOOR }
}

/// 1970, two days before any signature, two days after all, and ten years after; the time at which all is valid is left out.
fn wrong_clocks() -> [i64; 4] {
    let after = seconds(RECORDS[1] + 2 * DAY);
    [0, seconds(KEYS[0] - 2 * DAY), after, after + 3653 * seconds(DAY)]
}

async fn resolver(change: impl FnOnce(&mut World)) -> (Resolver, JoinHandle<()>) {
    let (mut world, anchors) = World::new();
    (world.keys_live, world.lives) = (vec![KEYS], vec![RECORDS]);
    change(&mut world);
    let (server, task) = serve(world).await;
    (Resolver::system().with_name_servers(vec![server], anchors), task)
}

/// Signatures are judged at the time that is passed in, not at that of the machine.
#[test]
fn signatures_are_judged_at_the_time_that_is_told() {
    block_on(async {
        let (resolver, task) = world().await;
        let owner = name("_ntske._tcp.good.test");
        // The signatures here begin in 2024.
        let (early, later) = (at(1_600_000_000), at(2_000_000_000));
        assert_eq!(resolver.services(&owner, early).await.answer, Answer::Bogus);
        let (one, two) = tokio::join!(resolver.services(&owner, later), resolver.services(&owner, early));
        assert!(matches!(one.answer, Answer::Services { .. }), "{one:?}");
        assert_eq!((two.answer, two.signatures), (Answer::Bogus, None));
        let [begin, end] = LIFE.map(seconds);
        let window = Window { not_before: begin, not_after: end };
        assert_eq!(one.signatures, Some(Signatures { window, signed: vec![begin] }));
        task.abort();
    });
}

#[test]
fn what_is_not_valid_now_is_verified_where_dates_are_deferred() {
    block_on(async {
        let (resolver, task) = resolver(|_| {}).await;
        let expected = Some(Signatures { window: both(), signed: vec![seconds(RECORDS[0])] });
        for zone in ["good", "alias"] {
            let owner = name(&format!("_ntske._tcp.{zone}.test"));
            for now in wrong_clocks() {
                assert_eq!(resolver.services(&owner, at(now)).await.answer, Answer::Bogus, "{now}");
                let found = resolver.services(&owner, later(now)).await;
                assert!(matches!(&found.answer, Answer::Services { records, .. } if records.len() == 2), "{found:?}");
                assert_eq!(found.signatures, expected, "{now}");
                let tlsa = resolver.tlsa(&name(&format!("{zone}.test")), 4460, later(now)).await;
                assert_eq!((tlsa.records().len(), tlsa.signatures()), (1, expected.as_ref()), "{tlsa:?}");
            }
        }
        task.abort();
    });
}

#[test]
fn everything_but_dates_is_asked_of_signatures() {
    block_on(async {
        let (resolver, task) = resolver(|_| {}).await;
        for now in wrong_clocks() {
            for (zone, expected) in [
                ("forged", Answer::Bogus),
                ("astray", Answer::Bogus),
                ("stripped", Answer::Bogus),
                ("plain", Answer::Insecure),
                ("proven", Answer::NoRecord),
            ] {
                let found = resolver.services(&name(&format!("_ntske._tcp.{zone}.test")), later(now)).await;
                assert_eq!((found.answer, found.signatures), (expected, None), "{zone} {now}");
            }
            for (host, expected) in [
                ("proven.test", TlsaAnswer::Absent),
                ("plain.test", TlsaAnswer::Insecure),
                ("forged.test", TlsaAnswer::Bogus("they are forged or broken".to_owned())),
            ] {
                assert_eq!(resolver.tlsa(&name(host), 4460, later(now)).await, expected, "{host} {now}");
            }
        }
        task.abort();
    });
}

#[test]
fn what_is_expired_at_the_floor_is_not_believed() {
    block_on(async {
        let (resolver, task) = resolver(|_| {}).await;
        let owner = name("_ntske._tcp.good.test");
        let end = seconds(KEYS[1]);
        for now in [0, seconds(RECORDS[0]), end + 1, 4_000_000_000] {
            let found = resolver.services(&owner, Judgement::Deferred { now, floor: end }).await;
            assert_eq!(found.signatures.unwrap().window, both());
            let refused = resolver.services(&owner, Judgement::Deferred { now, floor: end + 1 }).await;
            assert_eq!((refused.answer, refused.signatures), (Answer::Bogus, None));
        }
        task.abort();
    });
}

#[test]
fn signatures_that_are_never_valid_together_prove_nothing() {
    block_on(async {
        let (resolver, task) = resolver(|world| world.keys_live = vec![[RECORDS[1] + 1, RECORDS[1] + DAY]]).await;
        for now in wrong_clocks() {
            let found = resolver.services(&name("_ntske._tcp.good.test"), later(now)).await;
            assert_eq!((found.answer, found.signatures), (Answer::Bogus, None));
        }
        task.abort();
    });
}

#[test]
fn old_and_future_signatures_beside_a_good_one_do_not_matter() {
    block_on(async {
        let old = [KEYS[0] - 9 * DAY, KEYS[0] - 8 * DAY];
        let next = [RECORDS[1] + DAY, RECORDS[1] + 9 * DAY];
        let (resolver, task) = resolver(|world| {
            world.keys_live = vec![old, KEYS, next];
            // No keys are valid with the old and the next.
            world.lives = vec![[old[1] + 1, old[1] + 2], RECORDS, [next[0] - 2, next[0] - 1]];
        })
        .await;
        for now in wrong_clocks() {
            let found = resolver.services(&name("_ntske._tcp.good.test"), later(now)).await;
            assert_eq!(found.signatures.map(|said| said.window), Some(both()), "{now} {:?}", found.answer);
        }
        task.abort();
    });
}

/// A resolver of the system that validates by the same clock has no answer.
#[test]
fn addresses_are_asked_for_at_name_servers_if_the_system_fails() {
    block_on(async {
        let (resolver, task) = resolver(|_| {}).await;
        // Its address is signed, and so are all others of the zone.
        let host = name("forged.test");
        let expected = "192.0.2.1:123".parse().unwrap();
        let direct = resolver.clone().without_system();
        // Nothing can be asked of the system any more.
        resolver.threads.close();
        for now in wrong_clocks() {
            for resolver in [&resolver, &direct] {
                let (answer, _) = resolver.addresses(&host, 123, later(now)).await;
                assert!(
                    matches!(&answer, Answer::Addresses { addresses, .. } if addresses[..] == [expected]),
                    "{answer:?}"
                );
                let (answer, text) = resolver.addresses(&host, 123, at(now)).await;
                assert_eq!(answer, Answer::Failed(Failure::Resolver), "{text:?}");
            }
            let (answer, _) = resolver.addresses(&name("proven.test"), 123, later(now)).await;
            assert_eq!(answer, Answer::Failed(Failure::Resolver));
        }
        task.abort();
    });
}

/// The same where the resolver is believed: there is nothing to validate ourselves.
#[test]
fn a_believed_resolver_with_the_same_wrong_clock_is_asked_for_addresses_without_its_validation() {
    block_on(async {
        let (mut world, _) = World::new();
        world.refuses = true;
        let (server, task) = serve(world).await;
        let servers = NameServers::fixed(vec![server], Validation::Elsewhere);
        let believing = Resolver { name_servers: Arc::new(servers), ..Resolver::system() };
        believing.threads.close();
        let host = name("forged.test");
        let (answer, text) = believing.addresses(&host, 123, later(0)).await;
        let expected = "192.0.2.1:123".parse().unwrap();
        assert!(
            matches!(&answer, Answer::Addresses { addresses, .. } if addresses[..] == [expected]),
            "{answer:?} {text:?}"
        );
        let (answer, _) = believing.addresses(&host, 123, at(0)).await;
        assert_eq!(answer, Answer::Failed(Failure::Resolver), "once the time is known it is believed again");
        // Whatever is not just an address needs its word.
        let found = believing.services(&name("_ntske._tcp.good.test"), later(0)).await;
        assert_eq!(found.answer, Answer::Failed(Failure::Resolver));
        task.abort();
    });
}

#[test]
fn records_that_are_not_valid_yet_show_when_they_were_signed() {
    block_on(async {
        let (resolver, task) = resolver(|_| {}).await;
        let slow = at(seconds(KEYS[0] - 2 * DAY));
        for zone in ["good", "alias"] {
            let found = resolver.services(&name(&format!("_ntske._tcp.{zone}.test")), slow).await;
            assert_eq!((found.answer, found.signatures), (Answer::Bogus, None), "they vouch for nothing now");
            let later = Signatures { window: both(), signed: vec![seconds(RECORDS[0])] };
            assert_eq!(found.later, Some(later), "{zone}");
        }
        // What is wrong with anything but dates shows nothing.
        for zone in ["forged", "astray", "stripped", "plain", "proven"] {
            let found = resolver.services(&name(&format!("_ntske._tcp.{zone}.test")), slow).await;
            assert_eq!(found.later, None, "{zone}");
        }
        // Nor do records whose time is over.
        let found = resolver.services(&name("_ntske._tcp.good.test"), at(seconds(RECORDS[1] + 1))).await;
        assert_eq!((found.answer, found.later), (Answer::Bogus, None));
        // Where they are valid there is nothing else to be said.
        let found = resolver.services(&name("_ntske._tcp.good.test"), at(seconds(RECORDS[0] + DAY))).await;
        assert!(found.signatures.is_some() && found.later.is_none(), "{found:?}");
        task.abort();
    });
}
