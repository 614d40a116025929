//! Many users at a time that exchange keys with one server, and what became of them.
//!
//! `ke_load --server ADDRESS:PORT --name NAME --roots FILE [--rate N] [--seconds N] [--count N] [--users N]`: with a rate,
//! exchanges begin at even distances whatever becomes of the others, and at most `--users` are under way; without one, that
//! many users begin the next as soon as the last is over. It ends after the time or the count. JSON goes to standard output.
//! Every exchange is a connection and a full handshake of its own. `--server` may be given several times: each user begins
//! with another one, and goes on to the next if that gives it nothing.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    env,
    error::Error,
    fmt::Write as _,
    fs,
    net::SocketAddr,
    process::ExitCode,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use ntpd_tests::exchange::{exchange, quantiles};
use nts_ke::{client::ClientConfig, verify::TrustRoots};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::{
    sync::Semaphore,
    task::{JoinSet, LocalSet},
    time::{sleep_until, timeout},
};

/// How long a user waits: longer than the balancer looks for a member.
const PATIENCE: Duration = Duration::from_secs(6);
/// Failures that are told one by one.
const MAX_TOLD: usize = 64;
/// Most exchanges of one run.
const MAX_COUNT: u32 = 1_000_000;

struct Options {
    servers: Vec<SocketAddr>,
    name: String,
    roots: String,
    rate: f64,
    seconds: f64,
    count: u32,
    users: usize,
}

/// What one server of the answers got, in seconds after the start.
#[derive(Clone, Copy)]
struct Served {
    count: u32,
    first: f64,
    last: f64,
}

#[derive(Default)]
struct Tally {
    waits: Vec<f64>,
    /// How long those waited who got nothing.
    failed_waits: Vec<f64>,
    /// When each success was.
    ends: Vec<f64>,
    failures: BTreeMap<String, u32>,
    told: Vec<(f64, String)>,
    /// Users that another server had to serve.
    second: u32,
    servers: BTreeMap<String, Served>,
}

struct Load {
    options: Options,
    config: ClientConfig,
    start: Instant,
    tally: RefCell<Tally>,
}

fn main() -> ExitCode {
    match options(env::args().skip(1)).and_then(run) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ke_load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, Box<dyn Error>> {
    let (mut servers, mut name, mut roots) = (Vec::new(), None, None);
    let (mut rate, mut seconds, mut count, mut users) = (0.0, 10.0, MAX_COUNT, 8);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let wrong = |error: &dyn Error| format!("{word} {value}: {error}");
        match word.as_str() {
            "--server" => servers.push(value.parse().map_err(|error| wrong(&error))?),
            "--name" => name = Some(value),
            "--roots" => roots = Some(value),
            "--rate" => rate = value.parse().map_err(|error| wrong(&error))?,
            "--seconds" => seconds = value.parse().map_err(|error| wrong(&error))?,
            "--count" => count = value.parse().map_err(|error| wrong(&error))?,
            "--users" => users = value.parse().map_err(|error| wrong(&error))?,
            _ => {
                let known = "--server, --name, --roots, --rate, --seconds, --count, --users";
                return Err(format!("{word}: accepted: {known}").into());
            }
        }
    }
    let fits = (0.0..=100_000.0).contains(&rate) && (0.1..=86_400.0).contains(&seconds);
    if !fits || !(1..=MAX_COUNT).contains(&count) || !(1..=10_000).contains(&users) {
        return Err("accepted: rates to 100000, 0.1 to 86400 s, 1 to 1000000 exchanges, 1 to 10000 users".into());
    }
    let (false, Some(name), Some(roots)) = (servers.is_empty(), name, roots) else {
        return Err("--server, --name and --roots are needed".into());
    };
    Ok(Options { servers, name, roots, rate, seconds, count, users })
}

fn run(options: Options) -> Result<String, Box<dyn Error>> {
    let pem = fs::read(&options.roots)?;
    let roots = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>()?;
    let config = ClientConfig::new(&TrustRoots::new(roots)?)?;
    let load = Rc::new(Load { options, config, start: Instant::now(), tally: RefCell::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, Rc::clone(&load).offer());
    Ok(load.json())
}

impl Load {
    async fn offer(self: Rc<Self>) {
        let places = Arc::new(Semaphore::new(self.options.users));
        let mut users = JoinSet::new();
        let step = if self.options.rate > 0.0 { 1.0 / self.options.rate } else { 0.0 };
        for number in 0..self.options.count {
            let due = Duration::from_secs_f64(f64::from(number) * step);
            sleep_until((self.start + due).into()).await;
            // It is closed by nobody.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            if self.seconds() >= self.options.seconds {
                break;
            }
            let this = Rc::clone(&self);
            users.spawn_local(async move {
                this.user(usize::try_from(number).unwrap_or_default()).await;
                drop(place);
            });
            while users.try_join_next().is_some() {}
        }
        while users.join_next().await.is_some() {}
    }

    fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    async fn user(&self, number: usize) {
        let began = self.seconds();
        let servers = &self.options.servers;
        let mut result = Err(String::new());
        let mut tries = 0;
        for place in number..number + servers.len() {
            let Some(server) = servers.get(place % servers.len()) else { break };
            let exchanged = timeout(PATIENCE, exchange(&self.config, *server, &self.options.name, PATIENCE)).await;
            result = exchanged.unwrap_or_else(|_| Err("no end within 6 s".to_owned()));
            tries += 1;
            if result.is_ok() {
                break;
            }
        }
        let at = self.seconds();
        let mut tally = self.tally.borrow_mut();
        tally.second += u32::from(tries > 1 && result.is_ok());
        match result {
            Ok(established) => {
                tally.waits.push(at - began);
                tally.ends.push(at);
                let server = established.server.unwrap_or_else(|| self.options.name.clone());
                let served = tally.servers.entry(server).or_insert(Served { count: 0, first: at, last: at });
                served.count += 1;
                served.last = at;
            }
            Err(why) => {
                tally.failed_waits.push(at - began);
                if tally.told.len() < MAX_TOLD {
                    tally.told.push((at, why.clone()));
                }
                *tally.failures.entry(why).or_default() += 1;
            }
        }
    }

    fn json(&self) -> String {
        let mut tally = self.tally.borrow_mut();
        let failed: u32 = tally.failures.values().sum();
        let mut out =
            format!("{{\"seconds\": {:.3}, \"ok\": {}, \"failed\": {failed}", self.seconds(), tally.waits.len());
        let _ = write!(out, ", \"wait\": {}", quantiles(&mut tally.waits));
        let _ = write!(out, ", \"failed-wait\": {}", quantiles(&mut tally.failed_waits));
        // Successes are noted in their order; the start counts as one.
        let gap = std::iter::once(&0.0).chain(&tally.ends).zip(&tally.ends).map(|(before, after)| after - before);
        let _ = write!(out, ", \"gap\": {:.3}, \"second\": {}", gap.fold(0.0, f64::max), tally.second);
        let failures = tally.failures.iter().map(|(why, count)| format!("{}: {count}", quoted(why)));
        let _ = write!(out, ", \"failures\": {{{}}}", joined(failures));
        let told = tally.told.iter().map(|(at, why)| format!("[{at:.3}, {}]", quoted(why)));
        let _ = write!(out, ", \"told\": [{}]", joined(told));
        let servers = tally.servers.iter().map(|(name, served)| {
            let Served { count, first, last } = served;
            format!("{}: {{\"count\": {count}, \"first\": {first:.3}, \"last\": {last:.3}}}", quoted(name))
        });
        let _ = write!(out, ", \"servers\": {{{}}}}}", joined(servers));
        out
    }
}

fn joined(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
