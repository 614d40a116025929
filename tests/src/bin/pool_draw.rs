//! What a directory of many members costs: to read, to keep, to draw from.
//!
//! `pool_draw [MEMBERS ...]`, by default 100, 5000 and 20000: members in twenty regions, of as many operators as half their
//! number, of weights 1 to 40, drawn for clients whose region is known. Processor time of this thread; resident memory of the
//! process. JSON goes to standard output, a line for each number.

use std::{env, error::Error, fmt::Write as _, fs, net::IpAddr, path::Path, process::ExitCode, sync::Arc};

use chacha20::ChaCha12Rng;
use nix::time::{ClockId, clock_gettime};
use pool_srv::directory::{Health, Roster, Wish, parse};
use rand_core::{Rng as _, SeedableRng as _};

const REGIONS: usize = 20;
const DRAWS: u32 = 200_000;

fn cpu_nanos() -> Result<i64, Box<dyn Error>> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

/// Octets of this process in memory.
fn resident() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

fn directory(members: usize) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for region in 0..REGIONS {
        writeln!(text, "[[region]]\nname = \"r{region}\"\nprefixes = [\"10.{region}.0.0/16\"]")?;
    }
    for member in 0..members {
        let (region, weight, operator) = (member % REGIONS, 1 + member % 40, member / 2);
        writeln!(
            text,
            "[[member]]\nname = \"ntp{member}.example\"\nweight = {weight}\nregions = [\"r{region}\"]\noperator = \"o{operator}\""
        )?;
    }
    Ok(text)
}

fn measure(members: usize) -> Result<(), Box<dyn Error>> {
    let text = directory(members)?;
    let (before, started) = (resident()?, cpu_nanos()?);
    let directory = parse(Path::new("members.toml"), &text)?;
    let loaded = cpu_nanos()?;
    let roster = Roster::new(Arc::clone(&directory), |_| Health::Up);
    let (prepared, after) = (cpu_nanos()?, resident()?);
    let mut random = ChaCha12Rng::from_seed([7; 32]);
    let mut cost = |count: usize, excluded: &[usize]| -> Result<f64, Box<dyn Error>> {
        let begun = cpu_nanos()?;
        let mut drawn = 0;
        for _ in 0..DRAWS {
            let [a, b, c, _] = random.next_u32().to_be_bytes();
            let client = Some(IpAddr::from([10, a % 20, b, c]));
            let wish = Wish { client, has_some: !excluded.is_empty(), excluded };
            drawn += roster.draw(&wish, count, &mut random).len();
        }
        let spent = i32::try_from((cpu_nanos()? - begun) / 1_000)?;
        // What is not looked at may not be computed.
        assert!(drawn >= usize::try_from(DRAWS)?);
        Ok(f64::from(spent) * 1_000.0 / f64::from(DRAWS))
    };
    let (one, next, eight) = (cost(1, &[])?, cost(1, &[1, 2, 3])?, cost(8, &[])?);
    println!(
        "{{\"members\": {members}, \"read_ms\": {:.1}, \"prepare_ms\": {:.2}, \"kib\": {}, \"one_ns\": {one:.0}, \
         \"fourth_ns\": {next:.0}, \"eight_ns\": {eight:.0}}}",
        f64::from(i32::try_from((loaded - started) / 1_000)?) / 1_000.0,
        f64::from(i32::try_from((prepared - loaded) / 1_000)?) / 1_000.0,
        after.saturating_sub(before) / 1024,
    );
    Ok(())
}

fn main() -> ExitCode {
    let wanted: Result<Vec<usize>, _> = env::args().skip(1).map(|text| text.parse()).collect();
    let wanted = match wanted {
        Ok(wanted) if wanted.is_empty() => vec![100, 5_000, 20_000],
        Ok(wanted) => wanted,
        Err(error) => {
            eprintln!("pool_draw: {error}; accepted: numbers of members");
            return ExitCode::from(2);
        }
    };
    for members in wanted {
        if let Err(error) = measure(members) {
            eprintln!("pool_draw: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
