//! Operators with real key exchanges and NTP servers on loopback, and a client whose clock is wrong.
//!
//! What time it is there is chosen: all servers are ahead of the machine's clock by as much. So nothing depends on when the
//! tests run.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use clock_control::{Oscillator, SimClock};
use ntp_proto::{
    bootstrap::{ClockFacts, SetBy, State},
    nts::Keyring,
    pool::Name,
    time::NtpDuration,
};
use ntpd::{
    client::{BUILT, Client, Known, Parts},
    clock::{LocalClock, Simulated},
    config::{Config, DEFAULT_AEADS},
    ke::{
        accept::{KeServer, Options},
        admission::Limits,
        connect::KeyExchanger,
        pair::Identity,
    },
    now,
    resolve::Resolver,
    serve::{Server, StatusCell},
    state::StateDirectory,
};
use nts_ke::server::Deadlines;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::{runtime::Builder, time::Instant};

pub(crate) const DAY: i64 = 86_400;
/// What time it is when a test begins, in Unix seconds.
pub(crate) const TRUE: i64 = BUILT.seconds + 300 * DAY;
/// How long certificates are valid.
const LIFE: i64 = 90 * DAY;
/// How long anything may take before a test fails: far longer than it does on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A hardware clock has set the time.
pub(crate) const HARDWARE: ClockFacts =
    ClockFacts { set_by: SetBy::HardwareClock { voltage_low: false }, synchronized: false, restored: false };
/// Nothing has.
pub(crate) const NOTHING: ClockFacts = ClockFacts { set_by: SetBy::Nothing, ..HARDWARE };

/// A machine that starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) facts: ClockFacts,
    /// What its clock says, in Unix seconds.
    pub(crate) clock: i64,
    pub(crate) verified: Option<i64>,
}

/// What one of the operators is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Honest,
    /// Nobody gets through to it.
    Blocked,
    /// Somebody in its place with the key of a certificate that was issued then and has expired, who says that it is a day
    /// later.
    Impostor {
        issued: i64,
    },
}

/// A key exchange and the NTP server behind it.
struct Running {
    exchange: Option<KeServer>,
    _time: Option<Server>,
    ke_port: u16,
}

/// An authority that all trust.
struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    fn new(folder: &Path) -> Self {
        let mut parameters = CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(folder.join("ca.pem"), parameters.self_signed(&key).unwrap().pem()).unwrap();
        Self(Issuer::new(parameters, key))
    }

    fn issue(&self, folder: &Path, name: &str, issued: i64) -> (std::path::PathBuf, std::path::PathBuf) {
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let at = |unix: i64| (UNIX_EPOCH + Duration::from_secs(unix.unsigned_abs())).into();
        (parameters.not_before, parameters.not_after) = (at(issued), at(issued + LIFE));
        let key = KeyPair::generate().unwrap();
        let chain = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        fs::write(&chain.0, parameters.signed_by(&key, &self.0).unwrap().pem()).unwrap();
        fs::write(&chain.1, key.serialize_pem()).unwrap();
        fs::set_permissions(&chain.1, fs::Permissions::from_mode(0o600)).unwrap();
        chain
    }
}

/// Name of an operator's key exchange.
fn name(number: u8) -> String {
    format!("ke.operator{number}.test")
}

/// An address in a network of its own.
fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, number, 0, 1)
}

/// How far servers that say `unix` now are ahead of the machine's clock.
fn ahead(unix: i64) -> NtpDuration {
    let now = now::unix();
    NtpDuration::from_nanos((unix - now.seconds) * 1_000_000_000 - i64::from(now.nanos))
}

impl Running {
    fn start(folder: &Path, authority: &Authority, truth: NtpDuration, number: u8, operator: Operator) -> Self {
        let (issued, ahead) = match operator {
            Operator::Honest => (TRUE - DAY * (5 + i64::from(number)), truth),
            Operator::Impostor { issued } => {
                (issued, truth + NtpDuration::from_nanos((issued + DAY - TRUE) * 1_000_000_000))
            }
            // Nobody listens at the discard port.
            Operator::Blocked => return Self { exchange: None, _time: None, ke_port: 9 },
        };
        let keyring = Keyring::new(&[number; Keyring::KEY_LEN]);
        let any_port = SocketAddr::new(IpAddr::V4(address(number)), 0);
        let time = Server::reference(any_port, Some(keyring.clone()), ahead).unwrap();
        let (certificate, private_key) = authority.issue(folder, &name(number), issued);
        let options = Options {
            listen: vec![any_port],
            identity: Identity {
                certificate,
                private_key,
                ntp_server: None,
                ntp_port: Some(time.addresses()[0].port()),
                aeads: DEFAULT_AEADS.to_vec(),
                pool_tokens: None,
            },
            limits: Limits::default(),
            deadlines: Deadlines::default(),
        };
        let exchange = KeServer::start(options, keyring, None).unwrap();
        let ke_port = exchange.addresses()[0].port();
        Self { exchange: Some(exchange), _time: Some(time), ke_port }
    }
}

/// A client among operators.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) status: Arc<StatusCell>,
    pub(crate) folder: TempDir,
    /// How far true time is ahead of the machine's clock.
    truth: NtpDuration,
    operators: Vec<Operator>,
    running: Vec<Running>,
}

impl World {
    /// Starts everything; `extra` goes into `[trust]`. To be called in a runtime.
    pub(crate) fn new(machine: Machine, operators: &[Operator], extra: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Authority::new(folder.path());
        let truth = ahead(TRUE);
        let numbered = || operators.iter().copied().zip(1_u8..);
        let running: Vec<Running> = numbered()
            .map(|(operator, number)| Running::start(folder.path(), &authority, truth, number, operator))
            .collect();
        let mut text = String::new();
        for (one, number) in running.iter().zip(1_u8..) {
            let (name, port) = (name(number), one.ke_port);
            write!(
                text,
                "[[server]]\naddress = \"{name}\"\nnts = \"require\"\nke-port = {port}\n\
                 min-poll = -2\nmax-poll = -2\niburst = false\n"
            )
            .unwrap();
        }
        let authority = folder.path().join("ca.pem").display().to_string();
        write!(text, "[trust]\ncertificates = \"file\"\ncertificate-file = {authority:?}\n{extra}\n").unwrap();
        let config = Config::parse("test", &text).unwrap();
        let hosts: BTreeMap<Name, Vec<IpAddr>> =
            numbered().map(|(_, n)| (Name::parse(&name(n)).unwrap(), vec![IpAddr::V4(address(n))])).collect();
        let resolver = Resolver::with_hosts(hosts);
        let state = Arc::new(StateDirectory::open(&folder.path().join("state")).unwrap());
        let status = Arc::new(StatusCell::default());
        let clock = Simulated::start(|kernel| SimClock::new(Oscillator::default(), 1, kernel, ahead(machine.clock)));
        let parts = Parts {
            clock: LocalClock::Simulated(Box::new(clock)),
            exchanger: KeyExchanger::new(&config.trust, resolver.clone()).unwrap(),
            resolver,
            status: Arc::clone(&status),
            state: Some(state),
            known: Known { clock: machine.facts, distribution: None, verified: machine.verified },
            precision: -24,
            seed: [7; 32],
        };
        let client = Client::new(&config, &[], parts);
        Self { client, status, folder, truth, operators: operators.to_vec(), running }
    }

    /// What is known of the time.
    pub(crate) fn state(&self) -> State {
        self.client.bootstrap_report().unwrap().state
    }

    /// How far the clock is ahead, in seconds.
    pub(crate) fn error(&mut self) -> f64 {
        (self.client.clock_mut().true_error().unwrap() - self.truth).to_seconds()
    }

    /// Whether every operator has said all it can: a dozen measurements of its server, or why there are no keys.
    fn is_said(&mut self) -> bool {
        let mut measured = 0;
        self.client.for_each_source(|report, _| measured += usize::from(report.source.counts().good >= 12));
        measured + self.client.problems().count() >= self.operators.len()
    }

    /// Runs until the time is verified or all has been said, and calls `look` after every step. Whatever is not verified must
    /// not be told to others. Returns whether the time was verified.
    pub(crate) async fn run(&mut self, mut look: impl FnMut(&mut Self)) -> bool {
        let end = Instant::now() + PATIENCE;
        while self.state() != State::Verified && !self.is_said() {
            assert!(Instant::now() < end, "nothing comes of it: {:?}", self.client.bootstrap_report());
            let _ = tokio::time::timeout_at(end, self.client.step()).await;
            if self.state() != State::Verified {
                assert_eq!(self.status.get().leap, ntp_proto::ids::Leap::Unsynchronized);
                assert!(!self.client.has_updated());
            }
            look(self);
        }
        self.state() == State::Verified
    }

    /// Key exchanges that an operator has completed.
    pub(crate) fn exchanges(&self, number: usize) -> u64 {
        self.running[number].exchange.as_ref().map_or(0, |exchange| exchange.counters().completed)
    }

    /// What was kept for a restart.
    pub(crate) fn saved<T: ntpd::state::Record>(&self) -> Option<T> {
        StateDirectory::open(&self.folder.path().join("state")).unwrap().load::<T>().value
    }
}

/// Runs in a runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
