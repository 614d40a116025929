//! `ntpd demo`: the whole system on loopback, in one process, without touching anything.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clock_control::{Oscillator, SimClock};
use ntp_proto::{
    ids::{Leap, ReferenceId},
    nts::Keyring,
    pool::Name,
    select::Verdict,
    server::{Access, AccessTable, Prefix},
    status::Status,
    time::{ClockMap, NtpDuration, Rate},
};
use nts_ke::{server::Deadlines, verify::TrustRoots};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde::Serialize;
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use crate::{
    cli::{DemoArgs, FAILED, print},
    client::{Client, Parts},
    clock::{LocalClock, Simulated},
    config::Config,
    ke::{
        accept::{KeServer, Options},
        admission::Limits,
        connect::KeyExchanger,
        pair::Identity,
    },
    now,
    resolve::Resolver,
    serve::{Server, Settings, StatusCell},
    start::{StartError, parts, random_seed},
};

mod folder;

use folder::Folder;

/// The name that everything is reached by.
const POOL: &str = "pool.demo";
/// How many servers there are; the last one lies.
const SERVERS: u8 = 4;
/// How far the liar's clock is off.
const LIE: f64 = 0.5;
/// How wrong the client's clock is at the start.
const OFFSET: f64 = 2.5;
/// How fast it runs away.
const FREQUENCY: Rate = Rate::from_ppm(40.0);
/// How long it takes.
const DURATION: Duration = Duration::from_secs(30);
/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(3);
/// The clock must be this near to true time at the end.
const GOAL: f64 = 1e-3;

/// Servers, a key exchange, and the certificates for it.
struct Stage {
    servers: Vec<Server>,
    exchange: KeServer,
    identity: Identity,
    /// Exchanges when the announced server was last changed.
    announced: u64,
    port: u16,
    roots: TrustRoots,
    folder: Folder,
}

/// The result, as `--json` prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Outcome {
    mode: String,
    clock_error_seconds: f64,
    liar_rejected: bool,
    passed: bool,
    members: Vec<Member>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Member {
    name: String,
    address: SocketAddr,
    trust: String,
    offset_seconds: Option<f64>,
    verdict: String,
    liar: bool,
}

/// Runs the demonstration.
#[must_use]
pub fn run(args: &DemoArgs) -> ExitCode {
    let result = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::new)
        .and_then(|runtime| runtime.block_on(play(args)));
    match result {
        Ok(outcome) if outcome.passed => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("ntpd: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// Plays until the end or an interruption; either way what was written is removed.
async fn play(args: &DemoArgs) -> Result<Outcome, StartError> {
    let mut interruption = Interruption::watch()?;
    let mut stage = Stage::build()?;
    let mut client = stage.client(args)?;
    let outcome = tokio::select! {
        outcome = perform(args, &mut stage, &mut client) => outcome?,
        () = interruption.comes() => return Err(StartError::new("interrupted")),
    };
    if args.keep {
        if !args.json {
            print(&format!("{}\n", stage.invitation()));
        }
        loop {
            tokio::select! {
                () = interruption.comes() => break,
                () = client.step() => stage.rotate(),
            }
        }
    }
    Ok(outcome)
}

/// SIGINT and SIGTERM.
struct Interruption([Signal; 2]);

impl Interruption {
    /// From here on these signals end nothing by themselves.
    fn watch() -> Result<Self, StartError> {
        let on = |kind| signal(kind).map_err(StartError::new);
        Ok(Self([on(SignalKind::interrupt())?, on(SignalKind::terminate())?]))
    }

    async fn comes(&mut self) {
        let [interrupt, terminate] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

async fn perform(args: &DemoArgs, stage: &mut Stage, client: &mut Client) -> Result<Outcome, StartError> {
    let say = |text: &str| {
        if !args.json {
            print(&format!("{text}\n"));
        }
    };
    say(&stage.describe());
    let begin = Instant::now();
    let mut told = Duration::ZERO;
    while begin.elapsed() < DURATION {
        let _ = tokio::time::timeout(Duration::from_millis(200), client.step()).await;
        stage.rotate();
        if begin.elapsed() >= told {
            told += PROGRESS;
            say(&progress(client, begin.elapsed()));
        }
    }
    let outcome = outcome(client);
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&outcome).map_err(StartError::new)?));
    } else {
        print(&table(&outcome));
    }
    Ok(outcome)
}

impl Stage {
    fn build() -> Result<Self, StartError> {
        let folder = Folder::new()?;
        let roots = certificates(&folder)?;
        let keyring = Keyring::new(&random_seed()?);
        let mut servers: Vec<Server> = Vec::new();
        for number in 1..=SERVERS {
            let port = servers.first().and_then(|first| first.addresses().first()).map_or(0, SocketAddr::port);
            servers.push(serve(number, port, keyring.clone())?);
        }
        let port = servers.first().and_then(|first| first.addresses().first()).map_or(0, SocketAddr::port);
        let identity = Identity {
            certificate: folder.path("chain.pem"),
            private_key: folder.path("key.pem"),
            ntp_server: Some(host(1).to_string()),
            ntp_port: Some(port),
            aeads: crate::config::DEFAULT_AEADS.to_vec(),
            pool_tokens: None,
        };
        let options = Options {
            listen: vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)],
            identity: identity.clone(),
            limits: Limits::default(),
            deadlines: Deadlines::default(),
        };
        let exchange = KeServer::start(options, keyring, None).map_err(StartError::new)?;
        Ok(Self { servers, exchange, identity, announced: 0, port, roots, folder })
    }

    fn ke_port(&self) -> u16 {
        self.exchange.addresses().first().map_or(0, SocketAddr::port)
    }

    fn describe(&self) -> String {
        format!(
            "{POOL}: {} NTP servers at 127.0.0.1 to 127.0.0.{SERVERS}, port {}, the last one off by {LIE} s;\n\
             key exchange at 127.0.0.1:{}, which hands out one server after the other.\n\
             The client knows `pool = \"{POOL}\"`; its clock is {OFFSET} s wrong and {} ppm fast.\n",
            self.servers.len(),
            self.port,
            self.ke_port(),
            FREQUENCY.to_ppm()
        )
    }

    fn invitation(&self) -> String {
        format!(
            "\nStaying up until interrupted. Key exchange: 127.0.0.1:{}, certificate for {POOL}, authority {}",
            self.ke_port(),
            self.folder.path("ca.pem").display()
        )
    }

    /// Announces the next server once a client has got the last one.
    fn rotate(&mut self) {
        let completed = self.exchange.counters().completed;
        if completed == self.announced {
            return;
        }
        self.announced = completed;
        let next = u8::try_from(completed % u64::from(SERVERS)).unwrap_or(0) + 1;
        self.identity.ntp_server = Some(host(next).to_string());
        // The files were read before; should they be gone, the last server is announced once more.
        let _ = self.exchange.reload(self.identity.clone(), None);
    }

    fn client(&self, args: &DemoArgs) -> Result<Client, StartError> {
        let mode = crate::config::PoolModeName::from(args.mode).name();
        let text = format!(
            "[[pool]]\nname = \"{POOL}\"\nmode = \"{mode}\"\ncount = {SERVERS}\nport = {}\nke-port = {}\n\
             min-poll = 0\nmax-poll = 1\n",
            self.port,
            self.ke_port()
        );
        let config = Config::parse("demo", &text).map_err(StartError::new)?;
        let name = |text: &str| Name::parse(text).map_err(StartError::new);
        let mut hosts = BTreeMap::new();
        let all = if matches!(args.mode, crate::cli::DemoMode::Classic) { SERVERS } else { 1 };
        hosts.insert(name(POOL)?, (1..=all).map(|number| IpAddr::V4(address(number))).collect());
        for number in 1..=SERVERS {
            hosts.insert(name(&host(number))?, vec![address(number).into()]);
        }
        let resolver = Resolver::with_hosts(hosts);
        let oscillator = Oscillator { frequency: FREQUENCY, ..Oscillator::default() };
        let seed = random_seed()?;
        let simulated = Simulated::start(|true_time| {
            let seed = u64::from_le_bytes([seed[0], seed[1], seed[2], seed[3], seed[4], seed[5], seed[6], seed[7]]);
            SimClock::new(oscillator, seed, true_time, NtpDuration::from_seconds(OFFSET))
        });
        let exchanger = KeyExchanger::with_roots(self.roots.clone(), resolver.clone()).map_err(StartError::new)?;
        let clock = LocalClock::Simulated(Box::new(simulated));
        let parts = Parts { precision: -24, ..parts(clock, resolver, exchanger)? };
        Ok(Client::new(&config, &[], parts))
    }
}

fn host(number: u8) -> String {
    format!("ntp{number}.demo")
}

const fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, number)
}

/// Starts one NTP server that serves this machine's time, or a lie.
fn serve(number: u8, port: u16, keyring: Keyring) -> Result<Server, StartError> {
    let lie = if number == SERVERS { LIE } else { 0.0 };
    let status = Status {
        leap: Leap::None,
        stratum: 1,
        precision: -24,
        root_dispersion: NtpDuration::from_seconds(1e-6),
        max_distance: NtpDuration::from_seconds(3.0),
        reference_id: ReferenceId(*b"DEMO"),
        reference_time: now::kernel(),
        from_kernel: ClockMap { offset: NtpDuration::from_seconds(lie), ..ClockMap::IDENTITY },
        ..Status::UNSYNCHRONIZED
    };
    let mut access = AccessTable::new();
    access.add(Prefix::ALL_V4, Access::Allow).map_err(StartError::new)?;
    let settings = Settings::new(access).with_keyring(Some(keyring));
    let listen = SocketAddr::new(address(number).into(), port);
    Server::start(&[listen], 1, settings, Arc::new(StatusCell::new(status))).map_err(StartError::new)
}

/// Makes an authority and a certificate for the pool, and writes them where the server reads them.
fn certificates(folder: &Folder) -> Result<TrustRoots, StartError> {
    let mut authority = CertificateParams::new(Vec::new()).map_err(StartError::new)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().map_err(StartError::new)?;
    let root = authority.self_signed(&authority_key).map_err(StartError::new)?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().map_err(StartError::new)?;
    let params = CertificateParams::new(vec![POOL.to_owned()]).map_err(StartError::new)?;
    let leaf = params.signed_by(&key, &issuer).map_err(StartError::new)?;
    folder.write("ca.pem", &root.pem())?;
    folder.write("chain.pem", &leaf.pem())?;
    folder.write("key.pem", &key.serialize_pem())?;
    TrustRoots::new(vec![root.der().clone()]).map_err(StartError::new)
}

fn true_error(client: &mut Client) -> f64 {
    client.clock_mut().true_error().map_or(f64::NAN, NtpDuration::to_seconds)
}

fn progress(client: &mut Client, elapsed: Duration) -> String {
    let (mut sources, mut used) = (0, 0);
    client.for_each_source(|report, _| {
        sources += 1;
        used += usize::from(report.verdict.is_used());
    });
    let error = true_error(client);
    format!("{:>3} s  {sources} servers, {used} used; clock off by {error:+.6} s", elapsed.as_secs())
}

fn outcome(client: &mut Client) -> Outcome {
    let error = true_error(client);
    let mut members = Vec::new();
    client.for_each_source(|report, info| {
        members.push(Member {
            name: info.name.clone(),
            address: info.address,
            trust: report.source.config().trust.to_string(),
            offset_seconds: report.estimate.map(|estimate| estimate.offset),
            verdict: report.verdict.to_string(),
            liar: info.address.ip() == IpAddr::V4(address(SERVERS)),
        });
    });
    let falseticker = Verdict::Falseticker.to_string();
    let liar_rejected = members.iter().any(|member| member.liar && member.verdict == falseticker);
    Outcome {
        mode: client.modes().join(", "),
        clock_error_seconds: error,
        liar_rejected,
        passed: error.abs() < GOAL && liar_rejected,
        members,
    }
}

fn table(outcome: &Outcome) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "\nmode: {}\n\n{:<10} {:<16} {:<6} {:>12}  verdict\n",
        outcome.mode, "member", "address", "trust", "offset"
    );
    for member in &outcome.members {
        let offset = member.offset_seconds.map_or_else(|| "-".into(), |offset| format!("{offset:+.6} s"));
        let liar = if member.liar { "  <- the liar" } else { "" };
        let _ = writeln!(
            text,
            "{:<10} {:<16} {:<6} {offset:>12}  {}{liar}",
            member.name,
            member.address.ip().to_string(),
            member.trust,
            member.verdict
        );
    }
    let _ = writeln!(
        text,
        "\nclock off by {:+.1} us (wanted: less than {} us); liar {}: {}",
        outcome.clock_error_seconds * 1e6,
        GOAL * 1e6,
        if outcome.liar_rejected { "rejected" } else { "NOT rejected" },
        if outcome.passed { "passed" } else { "FAILED" }
    );
    text
}
