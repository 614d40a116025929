use std::path::Path;

use chacha20::ChaCha12Rng;
use rand_core::SeedableRng as _;

use super::{
    super::{
        cookie::CookieSecret,
        sign::{Signer, Window, ZoneKey},
        zone::ZoneSettings,
    },
    *,
};
use crate::directory::parse;

const NOW: u64 = 1_800_000_000;

fn zone(members: &str) -> (Zone, Candidates) {
    let name = |text: &str| ntp_proto::pool::Name::parse(text).unwrap();
    let settings = ZoneSettings {
        name: name("time.example"),
        name_servers: vec![(name("ns.example"), Vec::new())],
        addresses: Vec::new(),
        contact: name("hostmaster.example"),
        targets: 6,
        ttl: 300,
        negative_ttl: 60,
        cds: false,
        list: false,
        transfer_keys: Vec::new(),
        members: "m".into(),
    };
    let directory = parse(Path::new("m"), members).unwrap();
    let key = ZoneKey::generate().unwrap();
    let key = Arc::new(ZoneKey::from_pem(Path::new("key"), key.as_bytes()).unwrap());
    let window = Window { inception: NOW - 1, expiration: NOW + 1 };
    let signer = Signer::new(Arc::clone(&key), settings.origin(), window);
    (Zone::build(&settings, &directory, &[key], signer, 1).unwrap(), Candidates::new(&directory, |_| Health::Up))
}

fn draws(secret: u8) -> Draws {
    Draws::new(DrawSecret::new(CookieSecret::new([secret; 16])))
}

fn many(count: u32, more: &str) -> String {
    (0..count).map(|n| format!("[[member]]\nname = \"m{n:03}.example\"\nweight = {}\n{more}\n", n + 1)).collect()
}

const REGION: &str = "[[region]]\nname = \"north\"\nprefixes = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n";

#[test]
fn all_threads_and_servers_with_one_secret_say_the_same() {
    let some = "[[member]]\nname = \"campus.example\"\nprefixes = [\"203.0.113.0/24\"]\nweight = 60000\n";
    let members = format!("{REGION}{}{some}", many(40, "regions = [\"north\"]"));
    // Two threads share what is kept, another server has its own and answers others before.
    let (zone_a, candidates_a) = zone(&members);
    let (zone_b, candidates_b) = zone(&members);
    let (mut first, mut second, mut elsewhere, mut other) = (draws(1), draws(1), draws(1), draws(2));
    let clients = ["192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::7", "2001:db8:0:1::7", "203.0.113.9"];
    let (mut same, mut differ) = (0, 0);
    for (turn, client) in (0..200).flat_map(|turn| clients.map(|client| (turn, client.parse().unwrap()))) {
        let (now, unix) = (Monotonic::from_nanos(turn * 7_000_000_000), NOW + turn * 7);
        let records = |draws: &mut Draws, zone: &Zone, candidates: &Candidates| {
            draws.targets(zone, candidates, client, now, unix).unwrap().1.records.clone()
        };
        let drawn = records(&mut first, &zone_a, &candidates_a);
        assert_eq!(drawn.len(), 6);
        assert_eq!(drawn, records(&mut second, &zone_a, &candidates_a), "another thread, or TCP after UDP");
        assert_eq!(drawn, records(&mut first, &zone_a, &candidates_a), "the same question again");
        assert_eq!(drawn, records(&mut elsewhere, &zone_b, &candidates_b), "another server");
        let stranger = records(&mut other, &zone_b, &Candidates::new(&candidates_b.directory, |_| Health::Up));
        *(if stranger == drawn { &mut same } else { &mut differ }) += 1;
    }
    assert!(same * 20 < differ, "another secret draws others: {same} {differ}");
}

/// Which members are in an answer.
fn members(records: &[Box<[u8]>]) -> impl Iterator<Item = usize> {
    // Behind priority, weight and port, the first label: its length, an "m", and three digits.
    records.iter().map(|record| core::str::from_utf8(&record[FIXED + 8..FIXED + 11]).unwrap().parse().unwrap())
}

#[test]
fn what_follows_from_hosts_and_times_is_as_likely_as_what_is_drawn_by_chance() {
    const DRAWN: u32 = 100_000;
    let (zone, candidates) = zone(&many(20, ""));
    let (mut draws, mut random) = (draws(5), ChaCha12Rng::from_seed([9; 32]));
    let (mut derived, mut chance) = ([0_u32; 20], [0_u32; 20]);
    // Hosts that ask once each, over a month.
    for n in 0..DRAWN {
        let client = IpAddr::from(n.wrapping_mul(2_654_435_761).to_be_bytes());
        let unix = NOW + u64::from(n) * 26;
        let drawn = draws.targets(&zone, &candidates, client, Monotonic::default(), unix).unwrap();
        members(&drawn.1.records).for_each(|member| derived[member] += 1);
        let by_chance = RrSet::new(300, &candidates.draw(Some(client), 6, &mut random));
        members(&by_chance.records).for_each(|member| chance[member] += 1);
    }
    assert!(chance.is_sorted(), "{chance:?}");
    for (derived, chance) in derived.into_iter().zip(chance) {
        let all = f64::from(DRAWN);
        let part = f64::from(derived + chance) / 2.0 / all;
        let deviation = (2.0 * part * (1.0 - part) * all).sqrt();
        assert!((f64::from(derived) - f64::from(chance)).abs() < 4.5 * deviation, "{derived} {chance}");
    }
}
