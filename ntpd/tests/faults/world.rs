//! A daemon and the servers around it. They end with the test.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::{OpenOptionsExt as _, chown},
            net::{SocketAddr as UnixAddress, UnixListener},
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Mutex,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};
use ntp_proto::{nts::Keyring, time::NtpDuration};
use ntpd::{
    config::DEFAULT_AEADS,
    ke::{
        accept::{KeServer, Options},
        admission::Limits,
        pair::Identity,
    },
    privilege,
    serve::Server,
};
use nts_ke::server::Deadlines;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{runtime::Builder, sync::oneshot};

/// How long anything may take before a test fails: far longer than it does on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(40);

/// Looks again and again until there is what was waited for; `probe` says what there is instead.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match probe() {
            Ok(found) => return found,
            Err(instead) if Instant::now() >= end => panic!("{what}: {instead}"),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// A port of UDP and TCP that is this test's alone, for whoever is to bind it later, or for nobody.
///
/// The system gives ports of its own range to whoever asks for any, and might give away one that was only looked for. So
/// it is none of these. Other tests, in other processes too, are kept from it by a name that lasts as long as this process.
pub(crate) fn reserved_port() -> u16 {
    static RESERVED: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let mut reserved = RESERVED.lock().unwrap();
    let reserve = |port: u16| {
        let name = UnixAddress::from_abstract_name(format!("ntpd-test-port-{port}")).unwrap();
        let name = UnixListener::bind_addr(&name).ok()?;
        let is_free = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
            && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
        is_free.then_some((port, name))
    };
    let (port, name) = own_ports().find_map(reserve).expect("a free port");
    reserved.push(name);
    port
}

/// Ports that the system gives nobody who does not ask for them.
fn own_ports() -> impl Iterator<Item = u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let ends: Vec<u16> = range.split_whitespace().map(|end| end.parse().unwrap()).collect();
    (10_000..=u16::MAX).filter(move |port| !(ends[0]..=ends[1]).contains(port))
}

#[test]
fn a_reserved_port_is_given_to_nobody_else() {
    let reserved: Vec<u16> = (0..50).map(|_| reserved_port()).collect();
    let once: BTreeSet<_> = reserved.iter().collect();
    assert_eq!(once.len(), reserved.len());
    let any: Vec<_> = (0..500).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    for socket in &any {
        assert!(!once.contains(&socket.local_addr().unwrap().port()));
    }
    assert!(own_ports().all(|port| any.iter().all(|socket| socket.local_addr().unwrap().port() != port)));
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A process that does not outlive the test.
struct Process(Child);

impl Process {
    fn wait(&mut self) -> ExitStatus {
        eventually("the end of a process", || match self.0.try_wait().unwrap() {
            Some(status) => Ok(status),
            None => Err("it still runs".to_owned()),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder with a configuration, state and a control socket.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    /// `text` is the configuration; where state and socket are is added.
    pub(crate) fn new(text: &str) -> Self {
        let place = Self { folder: TempDir::new().unwrap() };
        give(place.folder.path());
        place.configure(text);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("ntpd.toml")
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
        file.write_all(text.as_ref()).unwrap();
        give(&path);
        path
    }

    pub(crate) fn configure(&self, text: &str) {
        let rest = "\n[state]\ndirectory = \"state\"\n[control]\nsocket = \"control.sock\"\n[log]\nformat = \"text\"\n";
        self.write("ntpd.toml", format!("{text}{rest}"));
    }

    /// Names of all files and folders but the configuration.
    pub(crate) fn others(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).filter(|name| name != "ntpd.toml").collect()
    }

    /// Runs a program to its end.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Ended {
        // Files take any amount of output while nobody reads.
        let (mut out, mut err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let child = environment(&mut Command::new(program))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(err.try_clone().unwrap())
            .spawn();
        let code = Process(child.unwrap()).wait().code();
        Ended { code, out: all(&mut out), err: all(&mut err) }
    }

    /// Runs `ntpd` with this configuration to its end, which it is expected to come to by itself.
    pub(crate) fn ntpd(&self, arguments: &[&str]) -> Ended {
        let config = self.config().display().to_string();
        self.run(env!("CARGO_BIN_EXE_ntpd"), &[arguments, &["-c", &config]].concat())
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) fn start(&self) -> Daemon<'_> {
        self.start_with(&[])
    }

    pub(crate) fn start_with(&self, variables: &[(&str, &Path)]) -> Daemon<'_> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let child = environment(&mut Command::new(env!("CARGO_BIN_EXE_ntpd")))
            .arg("-x")
            .arg("-c")
            .arg(self.config())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let mut daemon = Daemon { place: self, process: Process(child.unwrap()) };
        eventually("the daemon's first answer", || {
            if let Some(status) = daemon.process.0.try_wait().unwrap() {
                panic!("the daemon ended ({status}):\n{}", daemon.log());
            }
            let answer = daemon.ctl(&["activity"]);
            if answer.code == Some(0) { Ok(()) } else { Err(answer.err) }
        });
        daemon
    }
}

/// Started as root, the daemon becomes its own user where there is one, and then must still be able to read.
fn give(path: &Path) {
    if let (true, Ok(Some(user))) = (geteuid().is_root(), User::from_name(privilege::USER)) {
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
}

/// What the test itself was started with is not for the program.
fn environment(command: &mut Command) -> &mut Command {
    command.env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM")
}

fn all(file: &mut fs::File) -> String {
    use std::io::Seek as _;
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// A running `ntpd -x`.
pub(crate) struct Daemon<'p> {
    pub(crate) place: &'p Place,
    process: Process,
}

impl Daemon<'_> {
    /// What this and earlier daemons in the same place logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.place.path("log")).unwrap()
    }

    /// Waits for words in the log.
    pub(crate) fn logged(&self, words: &str) {
        eventually(words, || if self.log().contains(words) { Ok(()) } else { Err(self.log()) });
    }

    pub(crate) fn ctl(&self, arguments: &[&str]) -> Ended {
        let socket = self.place.path("control.sock").display().to_string();
        self.place.run(env!("CARGO_BIN_EXE_ntpctl"), &[&["--socket", &socket], arguments].concat())
    }

    /// A report.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let answer = self.ctl(&[&["--json"], arguments].concat());
        assert_eq!(answer.code, Some(0), "{arguments:?}: {}\n{}", answer.err, self.log());
        serde_json::from_str(&answer.out).unwrap()
    }

    /// Waits for the clock to be synchronized.
    pub(crate) fn synchronized(&self) -> Value {
        eventually("synchronization", || {
            let report = self.json(&["tracking"]);
            if report["synchronized"] == true { Ok(report) } else { Err(format!("{report}\n{}", self.log())) }
        })
    }

    /// Waits for words in the reason of the only source, or of the one called `name`.
    pub(crate) fn reason(&self, name: &str, words: &str) -> Value {
        eventually(words, || {
            let report = self.json(&["sources"]);
            let row = report["sources"].as_array().unwrap().iter().find(|row| row["name"] == name).cloned();
            let row = row.ok_or_else(|| format!("no source {name} in {report}"))?;
            let reason = row["reason"].as_str().unwrap();
            if reason.contains(words) { Ok(row) } else { Err(format!("{reason}\n{}", self.log())) }
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.0.id().try_into().unwrap()), signal).unwrap();
    }

    /// Has it end as a service manager does; it does so properly.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.process.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Has it end without a chance to do anything about it.
    pub(crate) fn crash(mut self) {
        self.signal(Signal::SIGKILL);
        self.process.wait();
    }
}

/// An NTP server in this process, which serves the machine's time at stratum 1.
pub(crate) fn time_server(listen: SocketAddr, keyring: Option<Keyring>) -> Server {
    Server::reference(listen, keyring, NtpDuration::ZERO).unwrap()
}

/// The same without NTS, on a free port.
pub(crate) fn plain_server() -> (Server, SocketAddr) {
    let server = time_server((Ipv4Addr::LOCALHOST, 0).into(), None);
    let address = server.addresses()[0];
    (server, address)
}

/// `[[server]]` for a plain server, asked often.
pub(crate) fn plain_entry(address: SocketAddr) -> String {
    format!("[[server]]\naddress = \"{address}\"\nnts = \"off\"\n{FAST}")
}

/// `[[server]]` and trust for an NTS server at 127.0.0.1.
pub(crate) fn nts_entry(ke_port: u16) -> String {
    format!(
        "[[server]]\naddress = \"127.0.0.1\"\nnts = \"require\"\nke-port = {ke_port}\n{FAST}\
         [trust]\ncertificates = \"file\"\ncertificate-file = \"ca.pem\"\n"
    )
}

/// Four requests a second, from the start.
pub(crate) const FAST: &str = "min-poll = -2\nmax-poll = -2\niburst = false\n";

/// An authority, in `ca.pem` of a place.
pub(crate) struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(place: &Place) -> Self {
        let (authority, pem) = Self::unknown();
        place.write("ca.pem", pem);
        authority
    }

    /// One that nobody trusts, and its certificate.
    pub(crate) fn unknown() -> (Self, String) {
        let mut parameters = CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        // An issuer is told from another by its name.
        parameters.distinguished_name.push(DnType::CommonName, format!("{:?}", key.public_key_raw()));
        let pem = parameters.self_signed(&key).unwrap().pem();
        (Self(Issuer::new(parameters, key)), pem)
    }

    /// Writes a certificate and its key to `chain.pem` and `key.pem`.
    pub(crate) fn issue(&self, place: &Place, name: &str, years: (i32, i32)) -> Identity {
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (parameters.not_before, parameters.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        let key = KeyPair::generate().unwrap();
        let leaf = parameters.signed_by(&key, &self.0).unwrap();
        Identity {
            certificate: place.write("chain.pem", leaf.pem()),
            private_key: place.write("key.pem", key.serialize_pem()),
            ntp_server: None,
            ntp_port: None,
            aeads: DEFAULT_AEADS.to_vec(),
            pool_tokens: None,
        }
    }
}

/// Years in which a good certificate is valid.
pub(crate) const GOOD_YEARS: (i32, i32) = (2020, 2100);

/// A key-exchange server in this process, at 127.0.0.1 unless asked for elsewhere.
pub(crate) struct Exchange {
    pub(crate) server: Option<KeServer>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Exchange {
    pub(crate) fn start(identity: Identity, keyring: Keyring) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), identity, keyring)
    }

    pub(crate) fn start_at(listen: SocketAddr, identity: Identity, keyring: Keyring) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let options =
            Options { listen: vec![listen], identity, limits: Limits::default(), deadlines: Deadlines::default() };
        let guard = runtime.enter();
        let server = KeServer::start(options, keyring, None).unwrap();
        drop(guard);
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let _ = runtime.block_on(stopped);
        });
        Self { server: Some(server), stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.as_ref().unwrap().addresses()[0].port()
    }

    pub(crate) fn completed(&self) -> u64 {
        self.server.as_ref().unwrap().counters().completed
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        drop(self.server.take());
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Does something with every connection to a port of 127.0.0.1, on a thread that ends with the process.
pub(crate) fn tcp_server(mut handle: impl FnMut(io::Result<std::net::TcpStream>) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            handle(stream);
        }
    });
    port
}
