use super::*;
use crate::balance::tests::{absent, block_on, shared};

const USER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// Draws members, each of which is left alone because it failed too often but for those at `others`, and says at the how
/// manieth the last resort is taken.
fn last_resort_at(members: usize, others: &[usize]) -> Option<usize> {
    let worker = Worker::new(shared(&absent(members)).0).unwrap();
    let request = Request::default();
    let mut search = Search::new(&worker, &request, USER);
    for asked in 1..=members {
        let (place, _) = search.next()?;
        if search.take_zeal() == Zeal::LastResort {
            return Some(asked);
        }
        let trouble = if others.contains(&asked) { Trouble::Member("late".to_owned()) } else { Trouble::Broken };
        assert!(search.weigh(place, Err(trouble), &request).is_none());
    }
    search.next().filter(|_| search.take_zeal() == Zeal::LastResort).map(|_| members + 1)
}

#[test]
fn after_thirty_two_that_failed_too_often_one_is_tried_all_the_same() {
    assert_eq!(last_resort_at(40, &[]), Some(33));
    assert_eq!(last_resort_at(5000, &[]), Some(33), "however many there are");
    // Few are all asked before.
    for members in [1, 2, 31, 32] {
        assert_eq!(last_resort_at(members, &[]), Some(members + 1), "{members}");
    }
    // Where one has failed in another way not everybody is left alone: the usual order goes on.
    assert_eq!(last_resort_at(40, &[7]), None);
}

#[test]
fn the_last_resort_is_for_one() {
    let worker = Worker::new(shared(&absent(3)).0).unwrap();
    let request = Request::default();
    let mut zeals = Vec::new();
    let mut search = Search::new(&worker, &request, USER);
    for _ in 0..10 {
        let Some((place, _)) = search.next() else { break };
        zeals.push(search.take_zeal());
        assert!(search.weigh(place, Err(Trouble::Broken), &request).is_none());
    }
    // Each is asked, then one of them though it is left alone, and then the two others, in the second that is its turn.
    assert_eq!(zeals[..4], [Zeal::Usual, Zeal::Usual, Zeal::Usual, Zeal::LastResort]);
    assert!(!zeals[4..].contains(&Zeal::LastResort), "{zeals:?}");
    // In that second nobody else has one.
    let mut search = Search::new(&worker, &request, USER);
    for _ in 0..3 {
        let (place, _) = search.next().unwrap();
        assert!(search.weigh(place, Err(Trouble::Broken), &request).is_none());
    }
    assert!(search.next().is_none());
}

/// What a member calls itself is heard only when it is asked.
#[test]
fn a_denied_member_comes_last_whatever_it_is_called() {
    let members = "[[member]]\nname = \"m1.test\"\naddresses = [\"2001:db8::1\"]\n\
                   [[member]]\nname = \"m2.test\"\naddresses = [\"192.0.2.2\"]\n[[member]]\nname = \"m3.test\"\n";
    for denied in [
        &["m1.test", "m2.test"][..],
        &["M1.TEST.", "ntp.two.test"],
        &["2001:DB8:0:0::1", "192.0.2.2"],
        &["2001:db8:0000::1", "::ffff:192.0.2.2"],
        &["2001:db8::99", "2001:DB8::0:2"],
    ] {
        let shared = shared(members).0;
        shared.learn_alias(&name("m1.test"), "2001:db8:0::99");
        shared.learn_alias(&name("m2.test"), "NTP.two.test");
        shared.learn_alias(&name("m2.test"), "2001:db8::2");
        let worker = Worker::new(shared).unwrap();
        let request = Request { denied: denied.iter().map(|name| (*name).to_owned()).collect(), ..Request::default() };
        for _ in 0..16 {
            let mut search = Search::new(&worker, &request, USER);
            let order: Vec<_> = core::iter::from_fn(|| search.next()).map(|(place, _)| place).collect();
            assert_eq!((order[0], order.len()), (2, 3), "{denied:?}: {order:?}");
        }
    }
}

fn name(text: &str) -> ntp_proto::pool::Name {
    ntp_proto::pool::Name::parse(text).unwrap()
}

#[test]
fn connections_are_made_beforehand_to_few_members_of_many() {
    for (members, warmed) in [(3, 3), (32, 32), (33, 32), (500, 32)] {
        let worker = Rc::new(Worker::new(shared(&absent(members)).0).unwrap());
        let links = block_on(async {
            let tending = spawn_local(Rc::clone(&worker).tend_forever());
            tokio::task::yield_now().await;
            let links = worker.link_count();
            tending.abort();
            links
        });
        assert_eq!(links, warmed, "{members}");
    }
}

#[test]
fn connections_outlive_changes_of_the_directory_that_are_none_of_theirs() {
    let entry = |name: &str, more: &str| {
        format!(
            "[[member]]\nname = \"{name}.test\"\naddresses = [\"127.0.0.1\"]\ntoken = \"{}\"\n{more}",
            "0".repeat(22)
        )
    };
    let worker = Worker::new(shared(&entry("m1", "capacity = 5\n")).0).unwrap();
    let link_in = |members: &str| {
        let directory = pool_srv::directory::parse(std::path::Path::new("members.toml"), members).unwrap();
        let place = directory.members().iter().position(|member| member.name.as_str() == "m1.test").unwrap();
        let roster = pool_srv::directory::Roster::new(directory, |_| pool_srv::directory::Health::Up);
        worker.link(&Assignments::new(roster), place).unwrap()
    };
    let first = link_in(&entry("m1", "capacity = 5\n"));
    // Another member stands before it; its own share and place change.
    let europe = "[[region]]\nname = \"europe\"\nprefixes = [\"192.0.2.0/24\"]\n";
    let with = entry("m0", "") + &entry("m1", "capacity = 5\nweight = 7\ndrain = true\nregions = [\"europe\"]\n");
    let second = link_in(&(europe.to_owned() + &with));
    assert!(Rc::ptr_eq(&first, &second));
    let pin = format!("capacity = 5\ntlsa = [\"3 1 1 {}\"]\n", "ab".repeat(32));
    for other in [
        entry("m1", "capacity = 6\n"),
        entry("m1", "capacity = 5\nport = 4461\n"),
        entry("m1", &pin),
        entry("m1", "capacity = 5\n").replace("127.0.0.1", "127.0.0.2"),
        entry("m1", "capacity = 5\n").replace('0', "1"),
    ] {
        let before = link_in(&entry("m1", "capacity = 5\n"));
        assert!(!Rc::ptr_eq(&before, &link_in(&other)), "{other}");
    }
}
