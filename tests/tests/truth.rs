//! No clock is worse than it says: the error bound that is claimed (half the root delay, root dispersion, and what the clock is
//! still behind) against the true error, each second.
//!
//! `NTPD_SEEDS=10` runs each case so many times and with three ranges of poll intervals; one `NTPD_SEED=N` is replayed.

use std::{env, sync::Mutex, thread};

use ntpd_tests::sim::{
    Point, Random,
    accuracy::{SCENARIOS, UNSEEN},
    run_seeds,
    truth::ORDEALS,
};

/// The poll intervals of a daemon that is told none, and others, log2 seconds.
const POLLS: [(i8, i8); 4] = [(6, 10), (10, 10), (6, 6), (4, 4)];

/// A run that can be made: its name and its points.
type Run = Box<dyn FnOnce() -> (String, Vec<Point>) + Send>;

/// How many seeds, and how many ranges of poll intervals.
fn extent() -> (u64, usize) {
    let seeds = env::var("NTPD_SEEDS").ok().and_then(|count| count.parse().ok());
    seeds.map_or((1, 1), |seeds: u64| (seeds, POLLS.len()))
}

/// Makes all runs, and asserts that the error was never larger than claimed. Returns how many points were claimed.
fn all_true(runs: Vec<Run>) -> usize {
    let (runs, broken, claimed) = (Mutex::new(runs), Mutex::new(Vec::new()), Mutex::new(0));
    let next = || runs.lock().expect("no run panicked").pop();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(run) = next() {
                    let (name, points) = run();
                    *claimed.lock().expect("no run panicked") += points.iter().filter(|p| p.bound.is_finite()).count();
                    let wrong: Vec<&Point> = points.iter().filter(|p| p.is_broken()).collect();
                    if let Some(first) = wrong.first() {
                        let text = format!("{name}: {} points, first {first:?}", wrong.len());
                        broken.lock().expect("no run panicked").push(text);
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().expect("no run panicked");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    claimed.into_inner().expect("no run panicked")
}

#[test]
fn clocks_that_are_kept_are_not_worse_than_they_say() {
    let (seeds, ranges) = extent();
    let mut runs: Vec<Run> = Vec::new();
    run_seeds(seeds, |seed| {
        for make in SCENARIOS.iter().chain(&UNSEEN) {
            for polls in &POLLS[..ranges] {
                let name = format!("{} {polls:?} seed {seed}", make().name);
                runs.push(Box::new(move || (name, make().run(seed, *polls).1.points)));
            }
        }
    });
    let claimed = all_true(runs);
    eprintln!("{claimed} points, none of them worse than claimed");
    assert!(claimed > 1_000_000, "{claimed} points");
}

#[test]
fn clocks_that_are_treated_badly_are_not_worse_than_they_say() {
    let (seeds, ranges) = extent();
    let mut runs: Vec<Run> = Vec::new();
    run_seeds(seeds, |seed| {
        for make in ORDEALS {
            // The longest intervals hide most.
            for polls in &POLLS[..2.max(ranges)] {
                let ordeal = make(&mut Random::new(seed));
                let name = format!("{} {polls:?} seed {seed}", ordeal.name);
                runs.push(Box::new(move || (name, ordeal.run(seed, *polls))));
            }
        }
    });
    let claimed = all_true(runs);
    eprintln!("{claimed} points, none of them worse than claimed");
    assert!(claimed > 1_000_000, "{claimed} points");
}
