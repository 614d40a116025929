//! What near members are worth: the same clients with members of their own region and with members from anywhere.

use std::{fmt::Write as _, net::IpAddr, path::Path as File, sync::Arc};

use chacha20::ChaCha12Rng;
use ntpd_tests::sim::{ClientSpec, Path, Random, ServerSpec, SourceSpec, World};
use pool_srv::directory::{Health, Roster, Wish, parse};
use rand_core::SeedableRng as _;

/// Where regions are, in degrees north and east.
const REGIONS: [(f64, f64); 12] = [
    (52.0, 5.0),
    (40.0, -4.0),
    (59.0, 18.0),
    (41.0, -74.0),
    (37.0, -122.0),
    (45.0, -93.0),
    (-23.0, -46.0),
    (35.0, 139.0),
    (1.0, 103.0),
    (19.0, 73.0),
    (-33.0, 151.0),
    (-26.0, 28.0),
];
const MEMBERS: usize = 20;
const CLIENTS: usize = 12;
/// Length of a meridian's quarter over that of its angle, in km a radian.
const EARTH_KM: f64 = 6_371.0;
/// Light in fibre, km a second, along ways half as long again as the great circle.
const KM_PER_SECOND: f64 = 200_000.0 / 1.5;
/// Shortest way, there or back, in seconds.
const LEAST: f64 = 0.002;
/// Largest part of the round trip by which one direction can be longer than the other: routes differ.
const ASYMMETRY: f64 = 0.15;

fn distance((north, east): (f64, f64), other: (f64, f64)) -> f64 {
    let (a, b) = (north.to_radians(), other.0.to_radians());
    let cosine = a.sin() * b.sin() + a.cos() * b.cos() * (east - other.1).to_radians().cos();
    EARTH_KM * cosine.clamp(-1.0, 1.0).acos()
}

fn directory() -> String {
    let mut text = String::new();
    for region in 0..REGIONS.len() {
        let _ = write!(text, "[[region]]\nname = \"r{region}\"\nprefixes = [\"10.{region}.0.0/16\"]\n");
        for member in 0..MEMBERS {
            let _ = write!(
                text,
                "[[member]]\nname = \"m{member}.r{region}.example\"\nregions = [\"r{region}\"]\noperator = \"o{member}\"\n"
            );
        }
    }
    text
}

/// The median over a client's second and third hour of how far its clock is off.
fn median_error(place: (f64, f64), members: &[usize], seed: u64) -> f64 {
    let (mut world, mut random) = (World::new(seed), Random::new(seed));
    let sources = members.iter().map(|member| {
        let way = LEAST + distance(place, REGIONS[member / MEMBERS]) / KM_PER_SECOND;
        let longer = ASYMMETRY * (2.0 * random.uniform() - 1.0);
        let path = Path { there: way * (1.0 + longer), back: way * (1.0 - longer), ..Path::symmetric(way, 0.02 * way) };
        SourceSpec::new(world.add_server(ServerSpec::default()), path)
    });
    let sources: Vec<SourceSpec> = sources.collect();
    let client = world.add_client(ClientSpec::new(sources));
    world.run_until(3.0 * 3_600.0);
    let mut errors: Vec<f64> =
        world.trace(client).points.iter().filter(|point| point.at >= 3_600.0).map(|point| point.error.abs()).collect();
    errors.sort_by(f64::total_cmp);
    errors[errors.len() / 2]
}

#[test]
fn near_members_keep_clocks_several_times_nearer() {
    let directory = parse(File::new("members.toml"), &directory()).expect("a good directory");
    let roster = Roster::new(Arc::clone(&directory), |_| Health::Up);
    let mut draws = ChaCha12Rng::from_seed([3; 32]);
    let mut gains: Vec<f64> = Vec::new();
    let (mut near, mut anywhere) = (Vec::new(), Vec::new());
    for (region, place) in REGIONS.into_iter().enumerate() {
        for number in 0..CLIENTS {
            let mut of = |client: Option<IpAddr>| {
                let members = roster.draw(&Wish { client, has_some: false, excluded: &[] }, 4, &mut draws);
                let seed = u64::try_from(region * CLIENTS + number).expect("small");
                median_error(place, &members, seed)
            };
            let address = IpAddr::from([10, u8::try_from(region).expect("a few"), 0, 1]);
            let (by_region, by_chance) = (of(Some(address)), of(None));
            near.push(by_region);
            anywhere.push(by_chance);
            gains.push(by_chance / by_region);
        }
    }
    for all in [&mut near, &mut anywhere, &mut gains] {
        all.sort_by(f64::total_cmp);
    }
    // The order statistics between which the median lies with 95 % of chance, by the binomial distribution (n = 144).
    let (low, high) = (gains[59], gains[84]);
    let half = gains.len() / 2;
    println!(
        "median error: near {:.2} ms, anywhere {:.2} ms; gain {:.1}, 95 % within {low:.1} to {high:.1}",
        1e3 * near[half],
        1e3 * anywhere[half],
        gains[half]
    );
    assert!(low > 2.0, "{gains:?}");
}
