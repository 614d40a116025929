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
    client::{BUILT, Client, Hardware, Known, Opened, Parts},
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
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, net::TcpListener, runtime::Builder, task::AbortHandle, time::Instant};

pub(crate) const DAY: i64 = 86_400;
/// What time it is when a test begins, in Unix seconds.
pub(crate) const TRUE: i64 = BUILT.seconds + 300 * DAY;
/// How long certificates are valid.
const LIFE: i64 = 90 * DAY;
/// How long anything may take before a test fails: far longer than it does on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A hardware clock has set the time.
pub(crate) const HARDWARE: ClockFacts = ClockFacts {
    set_by: SetBy::HardwareClock { voltage_low: false },
    synchronized: false,
    verified: false,
    restored: false,
};
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
    /// A portal answers in its place until somebody has logged in.
    Portal(Portal),
}

/// What a portal does to whom it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Portal {
    /// It has a certificate of an authority that nobody knows, and would exchange keys.
    Foreign,
    /// It answers everything with a page.
    Page,
    /// Its DNS answers everything with its own address, where it has a certificate as above.
    OneAddress,
}

/// The address of a portal that its DNS answers with.
const PORTAL: Ipv4Addr = Ipv4Addr::new(127, 99, 0, 1);

/// A key exchange and the NTP server behind it.
#[derive(Default)]
struct Running {
    exchange: Option<KeServer>,
    _time: Option<Server>,
    _page: Option<Page>,
    ke_port: u16,
}

/// A task that ends with the portal.
struct Page(AbortHandle);

impl Drop for Page {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An authority that all trust.
struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mut parameters = CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // An issuer is told from another by its name.
        parameters.distinguished_name.push(DnType::CommonName, folder.display().to_string());
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

/// Where its name leads.
fn host_of(operator: Operator, number: u8) -> IpAddr {
    IpAddr::V4(if operator == Operator::Portal(Portal::OneAddress) { PORTAL } else { address(number) })
}

/// How far servers that say `unix` now are ahead of the machine's clock.
fn ahead(unix: i64) -> NtpDuration {
    let now = now::unix();
    NtpDuration::from_nanos((unix - now.seconds) * 1_000_000_000 - i64::from(now.nanos))
}

impl Running {
    fn start(place: &Place<'_>, number: u8, operator: Operator, ke_port: u16) -> Self {
        let truth = place.truth;
        let strangers = Authority::new(&place.folder.join("strangers"));
        let mut authority = place.authority;
        let mut host = address(number);
        let (issued, ahead) = match operator {
            Operator::Honest => (TRUE - DAY * (5 + i64::from(number)), truth),
            Operator::Impostor { issued } => {
                (issued, truth + NtpDuration::from_nanos((issued + DAY - TRUE) * 1_000_000_000))
            }
            // Nobody listens at the discard port.
            Operator::Blocked => return Self { ke_port: 9, ..Self::default() },
            Operator::Portal(Portal::Page) => return Self::page(host),
            Operator::Portal(portal) => {
                authority = &strangers;
                host = if portal == Portal::OneAddress { PORTAL } else { host };
                (TRUE - DAY, truth)
            }
        };
        let keyring = Keyring::new(&[number; Keyring::KEY_LEN]);
        let any_port = SocketAddr::new(IpAddr::V4(host), 0);
        let time = Server::reference(any_port, Some(keyring.clone()), ahead).unwrap();
        let (certificate, private_key) = authority.issue(place.folder, &name(number), issued);
        let options = Options {
            listen: vec![SocketAddr::new(IpAddr::V4(host), ke_port)],
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
        Self { exchange: Some(exchange), _time: Some(time), _page: None, ke_port }
    }

    /// Answers whatever is said with a page.
    fn page(host: Ipv4Addr) -> Self {
        let listener = std::net::TcpListener::bind((host, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let ke_port = listener.local_addr().unwrap().port();
        let listener = TcpListener::from_std(listener).unwrap();
        let answers = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: http://portal.test/\r\n\r\n").await;
            }
        });
        Self { _page: Some(Page(answers.abort_handle())), ke_port, ..Self::default() }
    }
}

/// What all operators of a world share.
struct Place<'a> {
    folder: &'a Path,
    authority: &'a Authority,
    /// How far true time is ahead of the machine's clock.
    truth: NtpDuration,
}

/// A client among operators.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) status: Arc<StatusCell>,
    pub(crate) folder: TempDir,
    authority: Authority,
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
        let place = Place { folder: folder.path(), authority: &authority, truth };
        let numbered = || operators.iter().copied().zip(1_u8..);
        let running: Vec<Running> =
            numbered().map(|(operator, number)| Running::start(&place, number, operator, 0)).collect();
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
        let file = folder.path().join("ca.pem").display().to_string();
        write!(text, "[trust]\ncertificates = \"file\"\ncertificate-file = {file:?}\n{extra}\n").unwrap();
        let config = Config::parse("test", &text).unwrap();
        let hosts: BTreeMap<Name, Vec<IpAddr>> =
            numbered().map(|(operator, n)| (Name::parse(&name(n)).unwrap(), vec![host_of(operator, n)])).collect();
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
            known: Known { clock: machine.facts, distribution: None, verified: machine.verified, kept: None },
            precision: -24,
            refclocks: Opened::default(),
            hardware: Hardware::default(),
            seed: [7; 32],
        };
        let client = Client::new(&config, &[], parts);
        Self { client, status, folder, authority, truth, operators: operators.to_vec(), running }
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

    /// Whoever was at the portal has logged in: operators are reached at last, where they were looked for.
    pub(crate) async fn log_in(&mut self) {
        let end = Instant::now() + PATIENCE;
        for (at, number) in (0..self.running.len()).zip(1_u8..) {
            let ke_port = self.running[at].ke_port;
            self.running[at] = Running::default();
            // Tasks end when the runtime next comes to them.
            while std::net::TcpListener::bind((address(number), ke_port)).is_err() {
                assert!(Instant::now() < end, "the portal is still there");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let place = Place { folder: self.folder.path(), authority: &self.authority, truth: self.truth };
            self.running[at] = Running::start(&place, number, Operator::Honest, ke_port);
        }
    }

    /// Runs until the time is verified.
    pub(crate) async fn verify(&mut self) {
        let end = Instant::now() + PATIENCE;
        while self.state() != State::Verified {
            assert!(Instant::now() < end, "nothing comes of it: {:?}", self.client.bootstrap_report());
            let _ = tokio::time::timeout_at(end, self.client.step()).await;
        }
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
