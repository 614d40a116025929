//! A short run of every fuzz target on mutated valid messages. Reproducible: `NTPD_SEED` picks the run.

use ntpd_tests::{
    fuzz::{TARGETS, corpus},
    sim::Random,
};

/// Inputs for each target.
const RUNS: usize = 30_000;
/// Most changes to one input.
const MAX_CHANGES: u64 = 8;

/// Changes a valid message a little: bits, bytes, lengths, pieces.
fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let pick = |random: &mut Random, below: usize| usize::try_from(random.bits() % below.max(1) as u64).unwrap_or(0);
    let mut bytes = seeds[pick(random, seeds.len())].clone();
    for _ in 0..random.bits() % (MAX_CHANGES + 1) {
        let at = pick(random, bytes.len());
        match random.bits() % 7 {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << (random.bits() % 8),
            1 if !bytes.is_empty() => bytes[at] = random.bits().to_le_bytes()[0],
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.bits().to_le_bytes()[0]),
            4 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, 4, 16, 28][pick(random, 8)],
            5 => {
                let other = &seeds[pick(random, seeds.len())];
                let from = pick(random, other.len());
                bytes.extend(&other[from..]);
            }
            _ => {
                let end = at + pick(random, bytes.len() - at + 1);
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
        bytes.truncate(4096);
    }
    bytes
}

#[test]
fn no_target_breaks_a_promise() {
    let seed = std::env::var("NTPD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    eprintln!("seed {seed} (replay with NTPD_SEED={seed})");
    let mut random = Random::new(seed);
    let seeds = corpus();
    for (name, target) in TARGETS {
        seeds.iter().for_each(|bytes| target(bytes));
        for _ in 0..RUNS {
            let bytes = mutate(&mut random, &seeds);
            if std::panic::catch_unwind(|| target(&bytes)).is_err() {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                panic!("target {name}, seed {seed}: {hex}");
            }
        }
    }
}
