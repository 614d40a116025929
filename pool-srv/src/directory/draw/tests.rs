use std::{collections::BTreeMap, path::Path};

use chacha20::ChaCha12Rng;
use rand_core::SeedableRng as _;

use super::*;
use crate::directory::parse;

fn random() -> ChaCha12Rng {
    ChaCha12Rng::from_seed([7; 32])
}

fn directory(text: &str) -> Arc<Directory> {
    parse(Path::new("members.toml"), text).unwrap()
}

fn up(_: &Member) -> Health {
    Health::Up
}

const ANYWHERE: Wish<'_> = Wish { client: None, has_some: false, excluded: &[] };

/// Members m0, m1, … with these further lines.
fn members(lines: &[&str]) -> String {
    lines.iter().enumerate().map(|(n, line)| format!("[[member]]\nname = \"m{n}.example\"\n{line}\n")).collect()
}

#[test]
fn shares_follow_the_weights() {
    let roster = Roster::new(directory(&members(&["weight = 1", "weight = 10", "weight = 39"])), up);
    let mut random = random();
    let mut counts = [0_u32; 3];
    const DRAWS: u32 = 100_000;
    for _ in 0..DRAWS {
        counts[roster.draw(&ANYWHERE, 1, &mut random)[0]] += 1;
    }
    // Three standard deviations of a binomial distribution.
    for (count, share) in counts.into_iter().zip([0.02, 0.2, 0.78]) {
        let (mean, deviation) = (f64::from(DRAWS) * share, (f64::from(DRAWS) * share * (1.0 - share)).sqrt());
        assert!((f64::from(count) - mean).abs() < 3.0 * deviation, "{counts:?}");
    }
}

#[test]
fn draws_are_distinct_and_spread_over_operators() {
    let lines: Vec<String> = (0..20).map(|n| format!("operator = \"o{}\"", n / 10)).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let roster = Roster::new(directory(&members(&lines)), up);
    let mut random = random();
    for _ in 0..200 {
        let drawn = roster.draw(&ANYWHERE, 4, &mut random);
        assert_eq!(drawn.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
        assert_ne!(drawn[0] / 10, drawn[1] / 10, "both operators first: {drawn:?}");
        let other = roster.draw(&Wish { excluded: &drawn[..1], has_some: true, ..ANYWHERE }, 1, &mut random);
        assert_ne!(other[0] / 10, drawn[0] / 10, "not the operator that the client has already");
    }
    assert_eq!(roster.draw(&ANYWHERE, 99, &mut random).len(), MAX_DRAW);
}

#[test]
fn what_is_excluded_is_never_drawn() {
    let lines = vec![""; 300];
    let roster = Roster::new(directory(&members(&lines)), up);
    let excluded: Vec<usize> = (0..299).collect();
    let wish = Wish { excluded: &excluded, has_some: true, ..ANYWHERE };
    let mut random = random();
    for _ in 0..100 {
        assert_eq!(roster.draw(&wish, 4, &mut random), [299]);
    }
    let all: Vec<usize> = (0..300).collect();
    assert!(roster.draw(&Wish { excluded: &all, ..wish }, 4, &mut random).is_empty());
}

#[test]
fn the_health_of_members_decides() {
    let directory = directory(&members(&["", "", "drain = true", ""]));
    let mut random = random();
    let states =
        |states: [Health; 4]| move |member: &Member| states[usize::from(member.name.as_str().as_bytes()[1] - b'0')];
    let places = |roster: &Roster, random: &mut ChaCha12Rng| {
        let mut drawn = roster.draw(&ANYWHERE, 9, random);
        drawn.sort_unstable();
        drawn
    };
    use Health::{Down, Suspect, Up};
    let roster = Roster::new(directory.clone(), states([Up, Down, Up, Suspect]));
    assert_eq!(places(&roster, &mut random), [0, 3]);
    let mut counts: BTreeMap<usize, u32> = BTreeMap::new();
    for _ in 0..10_000 {
        *counts.entry(roster.draw(&ANYWHERE, 1, &mut random)[0]).or_default() += 1;
    }
    assert!((1_800..2_200).contains(&counts[&3]), "a suspect member gets a quarter of its weight: {counts:?}");
    let roster = Roster::new(directory, states([Down; 4]));
    assert_eq!(places(&roster, &mut random), [0, 1, 3], "nobody left: all but the draining ones");
    let roster = Roster::new(self::directory(&members(&["drain = true"])), up);
    assert_eq!(places(&roster, &mut random), [0], "everybody drains: everybody");
}

#[test]
fn clients_get_near_members_first_and_later_ones_from_further_away() {
    let mut text = String::from(
        "[[region]]\nname = \"near\"\nprefixes = [\"192.0.2.0/24\"]\n[[region]]\nname = \"tiny\"\nprefixes = [\"198.51.100.0/24\"]\n",
    );
    let lines: Vec<&str> = (0..40)
        .map(|n| match n {
            0..4 => "regions = [\"near\"]",
            4 => "regions = [\"tiny\"]",
            _ => "",
        })
        .collect();
    text.push_str(&members(&lines));
    let roster = Roster::new(directory(&text), up);
    let mut random = random();
    let near = Wish { client: Some("192.0.2.9".parse().unwrap()), ..ANYWHERE };
    let drawn = roster.draw(&near, 6, &mut random);
    assert!(drawn[..4].iter().all(|place| *place < 4) && drawn[4..].iter().all(|place| *place >= 4), "{drawn:?}");
    // A region with one member would give that one power over all its clients.
    let tiny = Wish { client: Some("198.51.100.9".parse().unwrap()), ..ANYWHERE };
    assert_eq!(roster.regions(&tiny), [None]);
    // The second member comes from the world, since the region is smaller than 16.
    let later = Wish { has_some: true, excluded: &drawn[..1], ..near };
    assert_eq!(roster.regions(&later), [None]);
    let places: Vec<usize> = (0..50).flat_map(|_| roster.draw(&later, 1, &mut random)).collect();
    assert!(places.iter().any(|place| *place >= 4) && !places.contains(&drawn[0]), "{places:?}");
}

#[test]
fn members_for_certain_clients_get_no_others() {
    let roster = Roster::new(directory(&members(&["prefixes = [\"192.0.2.0/24\"]", ""])), up);
    let mut random = random();
    let from = |client: &str| Wish { client: Some(client.parse().unwrap()), ..ANYWHERE };
    assert_eq!(roster.draw(&from("203.0.113.1"), 4, &mut random), [1]);
    assert_eq!(roster.draw(&from("192.0.2.1"), 4, &mut random).len(), 2);
}

#[test]
fn lower_priorities_make_a_roster_of_their_own() {
    let directory = directory(&members(&["priority = 5", "priority = 1\nweight = 3", "priority = 5", "priority = 1"]));
    let tiers = Roster::by_priority(&directory, up);
    assert_eq!(tiers.iter().map(Roster::len).collect::<Vec<_>>(), [2, 2]);
    let mut first = tiers[0].draw(&ANYWHERE, 8, &mut random());
    first.sort_unstable();
    assert_eq!(first, [1, 3]);
    // Health decides over all of them: one that is up in the second tier is not joined by the dead of the first.
    let health = |member: &Member| if member.priority == 1 { Health::Down } else { Health::Up };
    let tiers = Roster::by_priority(&directory, health);
    assert_eq!(tiers.iter().map(Roster::len).collect::<Vec<_>>(), [2]);
}

#[test]
fn weights_within_draws_and_the_chance_to_be_drawn_make_the_share() {
    // All are in each draw: the weights are those of the directory.
    let roster = Roster::new(directory(&members(&["weight = 1", "weight = 10", "weight = 39"])), up);
    for (place, weight) in [1, 10, 39].into_iter().enumerate() {
        assert_eq!(roster.weight_in_draw(None, 4, place), weight);
    }
    // One of weight 1 among tens gets its share and no more, although it is drawn now and then.
    let mut lines = vec!["weight = 10"; 30];
    lines.push("weight = 1");
    let roster = Roster::new(directory(&members(&lines)), up);
    let mut random = random();
    let (mut share, mut draws) = (0.0, 0.0);
    for _ in 0..20_000 {
        let drawn = roster.draw(&ANYWHERE, 6, &mut random);
        let weight = |place: &usize| f64::from(roster.weight_in_draw(None, 6, *place));
        let sum: f64 = drawn.iter().map(weight).sum();
        share += drawn.iter().filter(|place| **place == 30).map(|place| weight(place) / sum).sum::<f64>();
        draws += 1.0;
    }
    let share = share / draws * 301.0;
    assert!((0.85..1.15).contains(&share), "{share} of its share");
}
