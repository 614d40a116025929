//! `ntpd once` and `ntpd query`: a few measurements, and done.

use std::{collections::BTreeMap, net::SocketAddr, process::ExitCode, time::Duration};

use ntp_proto::{discipline::StepLimit, engine::SourceReport};
use tokio::{runtime::Builder, time::Instant};

use crate::{
    cli::{FAILED, print},
    client::{Client, Known},
    clock::LocalClock,
    config::{Config, NtsUse, Origin},
    ke::connect::KeyExchanger,
    observe::{SourceInfo, report::TimeReport},
    resolve::Resolver,
    source_files::SourceFiles,
    start::{StartError, known, open_clock, parts, read},
    state::{PoolMemory, StateDirectory},
};

/// How long servers may take to agree on a time.
const ONCE_PATIENCE: Duration = Duration::from_secs(30);
/// How long servers may take to be measured.
const QUERY_PATIENCE: Duration = Duration::from_secs(15);

/// Sets the clock once by the servers of a configuration.
#[must_use]
pub fn once(origin: &Origin, no_clock: bool) -> ExitCode {
    let loaded = match read(origin) {
        Ok(loaded) => loaded,
        Err(failed) => return failed,
    };
    let (mut config, complaints) = SourceFiles::of(&loaded.config, &loaded.keys);
    complaints.iter().for_each(|complaint| tracing::warn!("{complaint}"));
    let state = existing_state(&config);
    keep_promises(&mut config, state.as_ref());
    let known = known(state.as_ref());
    // There is no time to slew.
    config.clock.step_threshold = Duration::ZERO;
    config.clock.step_limit = StepLimit::Always;
    let result = open_clock(no_clock).and_then(|clock| {
        measure(
            &config,
            &loaded.keys,
            (clock, known),
            ONCE_PATIENCE,
            // Nothing is corrected by a time that is not verified, where authenticated sources are to tell it.
            (Client::has_updated, Client::has_updated),
            |client| {
                let offset = client.last_offset();
                let (what, verb) = if no_clock { ("clock left alone (-x)", "is") } else { ("clock set", "was") };
                let direction = if offset < 0.0 { "fast" } else { "slow" };
                format!("{what}; it {verb} {direction} by {:.6} s\n", offset.abs())
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
        let done = (Client::has_measured_all as Asks, Client::has_selected as Asks);
        measure(&config, &[], (clock, known(None)), QUERY_PATIENCE, done, sources)
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

/// A question to a client.
type Asks = fn(&mut Client) -> bool;

/// Runs a client until it is `done` or patience ends; then prints, and says whether a time `was_had`.
fn measure(
    config: &Config,
    keys: &[ntp_proto::wire::SymmetricKey],
    (clock, known): (LocalClock, Known),
    patience: Duration,
    (done, was_had): (Asks, Asks),
    describe: impl FnOnce(&mut Client) -> String,
) -> Result<bool, StartError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(StartError::new)?;
    let resolver = Resolver::new(&config.trust).map_err(StartError::new)?;
    let exchanger = KeyExchanger::new(&config.trust, resolver.clone()).map_err(StartError::new)?;
    let parts = parts(clock, known, resolver, exchanger)?;
    let result = runtime.block_on(async {
        let mut client = Client::new(config, keys, parts);
        let start = Instant::now();
        let end = start + patience;
        while !done(&mut client) && Instant::now() < end {
            let _ = tokio::time::timeout_at(end, client.step()).await;
        }
        let had_time = was_had(&mut client);
        if had_time {
            print(&describe(&mut client));
        } else {
            eprint!("{}", failure(&mut client, start.elapsed()));
            print(&sources(&mut client));
        }
        // A slew that has begun must not go on without us.
        client.shut_down();
        Ok(had_time)
    });
    // A look-up in progress may take longer than anybody wants to wait.
    runtime.shutdown_background();
    result
}

/// The state directory, if there is one.
fn existing_state(config: &Config) -> Option<StateDirectory> {
    config.state_directory.exists().then(|| StateDirectory::open(&config.state_directory).ok()).flatten()
}

/// A name that offered NTS once is not used without it, whoever asks. Nothing is written.
fn keep_promises(config: &mut Config, state: Option<&StateDirectory>) {
    let Some(state) = state else { return };
    let memory = state.load::<PoolMemory>().value.unwrap_or_default();
    let promised = |name: &str| memory.names.get(name).is_some_and(|record| record.nts);
    for pool in config.pools.iter_mut().filter(|pool| pool.nts == NtsUse::Auto && promised(pool.name.as_str())) {
        pool.nts = NtsUse::Require;
    }
    for server in config.servers.iter_mut().filter(|server| server.nts == NtsUse::Auto) {
        if promised(&server.host.to_string()) {
            server.nts = NtsUse::Require;
        }
    }
}

/// Why there is no time: a line for each source and each name without any.
fn failure(client: &mut Client, elapsed: Duration) -> String {
    let report = client.sources();
    let mut text = format!("no time was had in {:.1} s\n", elapsed.as_secs_f64());
    for row in &report.sources {
        let address = row.judged.source.address.map(|address| format!(" ({address})")).unwrap_or_default();
        text.push_str(&format!("  {}{address}: {}\n", row.judged.source.name, row.judged.reason));
    }
    if let Some(time) = client.bootstrap_report() {
        text.push_str(&format!("  the time is not verified: {}\n", TimeReport::new(&time).obstacles()));
    }
    if report.sources.is_empty() {
        text.push_str("  no server is configured\n");
    }
    text
}

/// One line for each source, and one for each name without any.
fn sources(client: &mut Client) -> String {
    let mut text =
        format!("{:<30} {:>2} {:>13} {:>11} {:>11} {:<6} reason\n", "server", "st", "offset", "+/-", "delay", "trust");
    let report = client.sources();
    let judged = report.sources.iter().map(|row| &row.judged);
    let reasons: BTreeMap<(&str, Option<SocketAddr>), &str> =
        judged.map(|judged| ((judged.source.name.as_str(), judged.source.address), judged.reason.as_str())).collect();
    client.for_each_source(|report: &SourceReport<'_>, info: &SourceInfo| {
        let server = info.to_string();
        let verdict = reasons.get(&(info.name.as_str(), info.address)).copied().unwrap_or_default();
        let line = report.estimate.map_or_else(
            || format!("{server:<30}  -             -           -           - -      {verdict}\n"),
            |estimate| {
                let (stratum, offset, error) = (estimate.stratum, estimate.offset, estimate.distance());
                let (delay, trust) = (estimate.root_delay, report.source.config().trust);
                format!("{server:<30} {stratum:>2} {offset:>+13.6} {error:>11.6} {delay:>11.6} {trust:<6} {verdict}\n")
            },
        );
        text.push_str(&line);
    });
    for problem in client.problems() {
        text.push_str(&problem.to_string());
        text.push('\n');
    }
    text
}
