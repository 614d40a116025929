//! Prints how well the client keeps a clock, beside chronyd: errors, packets and time to converge for each scenario.
//!
//! `accuracy [--seeds N] [--first-seed N] [--scenarios A,B] [--unseen] [--polls MIN,MAX] [--frontier] [--plots FOLDER] [--json FILE]`:
//! Markdown goes to standard output, medians over the seeds, with ratios to what was measured of chronyd. `--unseen` takes
//! the scenarios that chronyd was not measured in; `--frontier` goes through fixed poll intervals. `--plots` keeps a
//! picture of the error over time for the first seed of each scenario, and of the frontier; `--json` keeps the figures of each
//! run, for `agree.py`.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Mutex,
    thread,
};

use ntpd_tests::sim::{
    Frontier, Plot,
    accuracy::{SCENARIOS, Scenario, Score, UNSEEN, median},
};
use serde_json::{Map, Value, json};

const CHRONYD: &str = include_str!("../../bench/accuracy/chronyd.json");
/// The poll intervals of a daemon that is told none, log2 seconds.
const DEFAULT_POLLS: (i8, i8) = (6, 10);
/// Scenarios of the frontier.
const FRONTIER: [&str; 5] = ["lan", "lan-wander", "wan", "wan-bell", "wifi"];

struct Options {
    seeds: u64,
    first: u64,
    names: Vec<String>,
    unseen: bool,
    polls: (i8, i8),
    frontier: bool,
    plots: Option<PathBuf>,
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = options(env::args().skip(1)).map_err(Box::<dyn Error>::from).and_then(|options| {
        let chronyd = serde_json::from_str(CHRONYD)?;
        if options.frontier { frontier(&options, &chronyd) } else { table(&options, &chronyd) }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("accuracy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        seeds: 10,
        first: 1,
        names: Vec::new(),
        unseen: false,
        polls: DEFAULT_POLLS,
        frontier: false,
        plots: None,
        json: None,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => options.seeds = number(&value()?)?,
            "--first-seed" => options.first = number(&value()?)?,
            "--scenarios" => options.names = value()?.split(',').map(str::to_owned).collect(),
            "--unseen" => options.unseen = true,
            "--polls" => {
                let text = value()?;
                let (min, max) = text.split_once(',').ok_or_else(|| format!("{text}: two numbers are wanted: 6,10"))?;
                options.polls = (number(min)?, number(max)?);
            }
            "--frontier" => options.frontier = true,
            "--plots" => options.plots = Some(value()?.into()),
            "--json" => options.json = Some(value()?.into()),
            _ => {
                return Err(format!(
                    "{word}: accepted: --seeds N, --first-seed N, --scenarios A,B, --unseen, --polls MIN,MAX, \
                     --frontier, --plots FOLDER, --json FILE"
                ));
            }
        }
    }
    Ok(options)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text}: not a number that is accepted here"))
}

/// Runs a scenario with each seed, on all processors.
fn runs(scenario: &Scenario, options: &Options, polls: (i8, i8), plot: Option<&Path>) -> Vec<Score> {
    let seeds = Mutex::new(options.first..options.first + options.seeds);
    let scores = Mutex::new(BTreeMap::new());
    let next = || seeds.lock().ok()?.next();
    let work = || {
        while let Some(seed) = next() {
            let (score, trace) = scenario.run(seed, polls);
            if let Some(folder) = plot.filter(|_| seed == options.first) {
                let file = folder.join(format!("{}.svg", scenario.name));
                let title = format!("{}, seed {seed}", scenario.name);
                if let Err(error) = Plot::new(&title).with("clock error", &trace).save(&file) {
                    eprintln!("accuracy: {}: {error}", file.display());
                }
            }
            scores.lock().expect("no thread fails").insert(seed, score);
        }
    };
    thread::scope(|scope| {
        let others = thread::available_parallelism().map_or(0, |count| count.get() - 1);
        (0..others).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    scores.into_inner().expect("no thread fails").into_values().collect()
}

fn table(options: &Options, chronyd: &Value) -> Result<(), Box<dyn Error>> {
    println!(
        "| scenario | RMS (range) | chronyd | ratio | p95, max | rate, ppm | chronyd | packets | chronyd | to 10 ms / 1 ms / 100 us | chronyd | bound broken |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let all: &[fn() -> Scenario] = if options.unseen { &UNSEEN } else { &SCENARIOS };
    let (mut ratios, mut kept) = (Vec::new(), Map::new());
    for scenario in all.iter().map(|make| make()) {
        if !options.names.is_empty() && !options.names.iter().any(|name| *name == scenario.name) {
            continue;
        }
        let scores = runs(&scenario, options, options.polls, options.plots.as_deref());
        let of = |what: fn(&Score) -> f64| median(scores.iter().map(what));
        let name = if options.polls == (6, 6) { "chronyd at 64 s" } else { "chronyd" };
        let theirs = &chronyd["scenarios"][scenario.name][name];
        let their = |key: &str| theirs[key].as_f64().unwrap_or(f64::INFINITY);
        let ratio = of(|s| s.rms) / their("rms");
        let range = scores.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), s| (low.min(s.rms), high.max(s.rms)));
        println!(
            "| {} | {} ({} .. {}) | {} | {ratio:.2} | {:.2}, {:.2} | {:.3} | {:.3} | {:.0} | {:.0} | {:.0} / {:.0} / {:.0} | {:.0} / {:.0} / {:.0} | {} |",
            scenario.name,
            si(of(|s| s.rms)),
            si(range.0),
            si(range.1),
            si(their("rms")),
            of(|s| s.p95) / their("p95"),
            of(|s| s.max) / their("max"),
            of(|s| s.rate) * 1e6,
            their("frms") * 1e6,
            of(|s| s.packets),
            their("pkts"),
            of(|s| s.to_10_ms),
            of(|s| s.to_1_ms),
            of(|s| s.to_100_us),
            their("c10ms"),
            their("c1ms"),
            their("c100us"),
            scores.iter().map(|s| s.broken).sum::<usize>(),
        );
        let figures = |s: &Score| json!({ "rms": s.rms, "p95": s.p95, "max": s.max, "packets": s.packets });
        kept.insert(scenario.name.to_owned(), scores.iter().map(figures).collect());
        ratios.extend(Some(ratio).filter(|ratio| *ratio > 0.0));
    }
    if let Some(file) = &options.json {
        fs::write(file, Value::Object(kept).to_string())?;
    }
    println!("\nMedian ratio {:.2} over {} scenarios.", median(ratios.iter().copied()), ratios.len());
    Ok(())
}

fn frontier(options: &Options, chronyd: &Value) -> Result<(), Box<dyn Error>> {
    println!(
        "| scenario | poll | packets | RMS | chronyd's packets | chronyd | ratio |\n|---|---|---|---|---|---|---|"
    );
    for scenario in SCENARIOS.iter().map(|make| make()).filter(|s| FRONTIER.contains(&s.name)) {
        if !options.names.is_empty() && !options.names.iter().any(|name| *name == scenario.name) {
            continue;
        }
        let theirs = &chronyd["frontier"];
        let servers = scenario.paths.len().to_string();
        let mut curve = Frontier::new(scenario.name);
        let polls = (4..=10).map(|poll| (poll, poll)).chain([DEFAULT_POLLS]);
        for (index, polls) in polls.enumerate() {
            let scores = runs(&scenario, options, polls, None);
            let (packets, rms) = (median(scores.iter().map(|s| s.packets)), median(scores.iter().map(|s| s.rms)));
            let fixed = theirs["rms"][scenario.name][index].as_f64();
            let default = &chronyd["scenarios"][scenario.name]["chronyd"];
            let their = fixed.or_else(|| default["rms"].as_f64()).unwrap_or(f64::NAN);
            let sent = theirs["packets"][&servers][index].as_f64().or_else(|| default["pkts"].as_f64());
            let sent = sent.unwrap_or(f64::NAN);
            let label = if polls.0 == polls.1 { format!("{} s", 1 << polls.0) } else { "default".to_owned() };
            println!(
                "| {} | {label} | {packets:.0} | {} | {sent:.0} | {} | {:.2} |",
                scenario.name,
                si(rms),
                si(their),
                rms / their
            );
            curve.add(polls.0 == polls.1, (packets, rms), (sent, their));
        }
        if let Some(folder) = &options.plots {
            fs::create_dir_all(folder)?;
            fs::write(folder.join(format!("frontier-{}.svg", scenario.name)), curve.to_svg())?;
        }
    }
    Ok(())
}

/// Seconds in a unit that can be read.
fn si(seconds: f64) -> String {
    let units = [(1.0, "s"), (1e-3, "ms"), (1e-6, "us")];
    if !seconds.is_finite() {
        return "-".to_owned();
    }
    let (unit, name) = units.into_iter().find(|(unit, _)| seconds >= *unit).unwrap_or((1e-9, "ns"));
    let value = seconds / unit;
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {name}")
}
