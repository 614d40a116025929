//! `ntpd once` and `ntpd query`: a few measurements, and done.

use std::{process::ExitCode, sync::Arc, time::Duration};

use clock_control::measure_precision;
use ntp_proto::{discipline::StepLimit, engine::SourceReport};
use tokio::{runtime::Builder, time::Instant};

use crate::{
    cli::FAILED,
    client::{Client, Parts},
    clock::LocalClock,
    config::{Config, Origin, load},
    ke::connect::KeyExchanger,
    log, now,
    observe::SourceInfo,
    resolve::Resolver,
    serve::StatusCell,
    start::{StartError, open_clock, random_seed},
};

/// How long servers may take to agree on a time.
const ONCE_PATIENCE: Duration = Duration::from_secs(30);
/// How long servers may take to be measured.
const QUERY_PATIENCE: Duration = Duration::from_secs(15);

/// Sets the clock once by the servers of a configuration.
#[must_use]
pub fn once(origin: &Origin, no_clock: bool) -> ExitCode {
    let loaded = match load(origin) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(FAILED);
        }
    };
    log::start(loaded.config.log);
    let mut config = loaded.config;
    // There is no time to slew.
    config.clock.step_threshold = Duration::ZERO;
    config.clock.step_limit = StepLimit::Always;
    let result = open_clock(no_clock).and_then(|clock| {
        measure(
            &config,
            &loaded.keys,
            clock,
            ONCE_PATIENCE,
            |client| client.has_updated(),
            |client| {
                let offset = client.last_offset();
                let (what, verb) = if no_clock { ("clock left alone (-x)", "is") } else { ("clock set", "was") };
                let direction = if offset < 0.0 { "fast" } else { "slow" };
                println!("{what}; it {verb} {direction} by {:.6} s", offset.abs());
            },
        )
    });
    finish(result)
}

/// Measures servers, touches no clock, and prints what they say.
#[must_use]
pub fn query(names: &[String]) -> ExitCode {
    let list: Vec<String> = names.iter().map(|name| format!("[[server]]\naddress = {name:?}\n")).collect();
    let config = match Config::parse("command line", &list.concat()) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(2);
        }
    };
    let clock = open_clock(true);
    let result = clock.and_then(|clock| {
        measure(&config, &[], clock, QUERY_PATIENCE, |client| client.has_measured_all(), print_sources)
    });
    finish(result)
}

fn finish(result: Result<bool, StartError>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("ntpd: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// Runs a client until `done`, a time was had, or patience ends; then prints, and says whether a time was had.
fn measure(
    config: &Config,
    keys: &[ntp_proto::wire::SymmetricKey],
    clock: LocalClock,
    patience: Duration,
    done: impl Fn(&mut Client) -> bool,
    print: impl FnOnce(&mut Client),
) -> Result<bool, StartError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(StartError::new)?;
    let resolver = Resolver::system();
    let parts = Parts {
        clock,
        exchanger: KeyExchanger::new(&config.trust, resolver.clone()).map_err(StartError::new)?,
        resolver,
        status: Arc::new(StatusCell::default()),
        state: None,
        precision: measure_precision(|| Some(now::kernel())).unwrap_or(-20),
        seed: random_seed()?,
    };
    let result = runtime.block_on(async {
        let mut client = Client::new(config, keys, parts);
        let end = Instant::now() + patience;
        while !done(&mut client) && Instant::now() < end {
            let _ = tokio::time::timeout_at(end, client.step()).await;
        }
        let had_time = client.has_updated();
        if had_time {
            print(&mut client);
        } else {
            eprintln!("no time was had in {} s", patience.as_secs());
            print_sources(&mut client);
        }
        Ok(had_time)
    });
    // A look-up in progress may take longer than anybody wants to wait.
    runtime.shutdown_background();
    result
}

/// One line for each source, and one for each name without any.
fn print_sources(client: &mut Client) {
    println!("{:<30} {:>2} {:>13} {:>11} {:>11} {:<6} reason", "server", "st", "offset", "+/-", "delay", "trust");
    client.for_each_source(|report: &SourceReport<'_>, info: &SourceInfo| {
        let Some(estimate) = report.estimate else {
            println!("{:<30}  -             -           -           - -      {}", info.to_string(), report.verdict);
            return;
        };
        let delay = estimate.root_delay;
        println!(
            "{:<30} {:>2} {:>+13.6} {:>11.6} {:>11.6} {:<6} {}",
            info.to_string(),
            estimate.stratum,
            estimate.offset,
            estimate.distance(),
            delay,
            report.source.config().trust,
            report.verdict
        );
    });
    for problem in client.problems() {
        println!("{problem}");
    }
}
