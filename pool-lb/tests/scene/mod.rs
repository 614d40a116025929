//! A pool on loopback: members of all manners, a balancer before them, and users.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use ntp_proto::{
    bootstrap::Judgement,
    nts::AeadAlgorithm,
    time::{Monotonic, UnixTime},
};
use nts_ke::{
    client::{ClientConfig, ClientSession, Established, Order, Output},
    error::KeError,
    verify::TrustRoots,
};
use pool_lb::balance::{
    Balancer,
    config::{self, Config},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConnection, HandshakeKind, StreamOwned,
    client::{ClientSessionStore, Resumption},
    pki_types::CertificateDer,
};

mod member;
pub(crate) mod time;

use member::mark;
pub(crate) use member::{Manner, Member};

pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const POOL: &str = "pool.test";
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Pki {
    pub(crate) ca: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = parameters.self_signed(&key).unwrap();
        Self { ca: ca.der().clone(), pem: ca.pem(), issuer: Issuer::new(parameters, key) }
    }

    fn leaf(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new(vec![name.into()]).unwrap().signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// The time of day of a scene, unless it has a clock of its own.
fn some_day() -> UnixTime {
    UnixTime { seconds: 1_894_000_000, nanos: 0 }
}

/// Waits for something that must come, however slow the machine.
pub(crate) fn wait_until(what: &str, mut come: impl FnMut() -> bool) {
    let by = Instant::now() + 3 * PATIENCE;
    while !come() {
        assert!(Instant::now() < by, "in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// What one user was told, octet for octet.
pub(crate) struct Told {
    /// All that came before the end of TLS.
    pub(crate) plain: Vec<u8>,
    /// Whether TLS was ended in order, and the connection after it.
    pub(crate) ended: bool,
    /// Client to server, server to client, for AEAD_AES_SIV_CMAC_256.
    pub(crate) keys: [[u8; 32]; 2],
    pub(crate) kind: HandshakeKind,
}

/// A balancer and its members.
pub(crate) struct Scene {
    pub(crate) pki: Pki,
    pub(crate) members: Vec<Member>,
    pub(crate) balancer: Option<Balancer>,
    pub(crate) address: SocketAddr,
    /// The certificate of an authority that the balancer does not trust.
    pub(crate) stranger: String,
    folder: tempfile::TempDir,
    started: Instant,
}

/// What members are to be like: the manner, the algorithms, and the name they give to users.
pub(crate) type Wanted<'a> = (Manner, &'a [u16], Option<&'a str>);

impl Scene {
    pub(crate) fn new(wanted: &[Manner]) -> Self {
        let wanted: Vec<Wanted<'_>> = wanted.iter().map(|manner| (*manner, &[15, 17, 30][..], None)).collect();
        Self::with(&wanted, "")
    }

    pub(crate) fn with(wanted: &[Wanted<'_>], settings: &str) -> Self {
        Self::at(some_day, wanted, settings)
    }

    /// With a clock of its own.
    pub(crate) fn at(clock: fn() -> UnixTime, wanted: &[Wanted<'_>], settings: &str) -> Self {
        let authorities = [Pki::new(), Pki::new(), Pki::new()];
        let members = wanted.iter().zip(1..).map(|((manner, algorithms, alias), number)| {
            Member::start(&authorities, &format!("m{number}.test"), *manner, algorithms, *alias)
        });
        let members: Vec<_> = members.collect();
        let folder = tempfile::tempdir().unwrap();
        let [pki, other, stranger] = authorities;
        let roots = [pki.pem.as_str(), &other.pem].concat();
        let (leaf, key) = pki.leaf(POOL);
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("cert.pem", &leaf.pem());
        write("key.pem", &key.serialize_pem());
        fs::set_permissions(folder.path().join("key.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        write("ca.pem", &roots);
        write("members.toml", &directory(&members));
        fs::set_permissions(folder.path().join("members.toml"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        let balancer = node(folder.path(), "lb", clock, settings);
        let address = balancer.addresses()[0];
        let stranger = stranger.pem;
        Self { pki, members, balancer: Some(balancer), address, stranger, folder, started: Instant::now() }
    }

    /// Another balancer for the same members.
    pub(crate) fn another(&self, name: &str, clock: fn() -> UnixTime, settings: &str) -> Balancer {
        node(self.folder.path(), name, clock, settings)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes these the members from now on.
    pub(crate) fn set_members(&self, members: &[Member]) {
        self.write_members(members);
        self.command("reload").unwrap();
    }

    /// The same as soon as the balancer looks.
    pub(crate) fn write_members(&self, members: &[Member]) {
        fs::write(self.path("members.toml"), directory(members)).unwrap();
    }

    pub(crate) fn balancer(&self) -> &Balancer {
        self.balancer.as_ref().unwrap()
    }

    pub(crate) fn command(&self, line: &str) -> Result<String, String> {
        self.balancer().command(line)
    }

    /// State and reason of a member, as `list` shows them.
    pub(crate) fn health(&self, member: usize) -> (String, String) {
        let list = self.command("list").unwrap();
        let line = list.lines().find(|line| line.starts_with(&self.members[member].name)).unwrap();
        let mut words = line.split_whitespace();
        let state = words.nth(1).unwrap().to_owned();
        (state, words.skip(2).collect::<Vec<_>>().join(" "))
    }

    /// By how many seconds probes found a member's clock to be ahead.
    pub(crate) fn offset(&self, member: usize) -> Option<f64> {
        let series = format!("nts_pool_lb_member_offset_seconds{{member=\"{}\"}} ", self.members[member].name);
        self.command("metrics").unwrap().lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
    }

    pub(crate) fn user(&self) -> Result<Established, KeError> {
        self.user_with(&[AeadAlgorithm::AesSivCmac256], &[], &[])
    }

    /// One key exchange. `header` is sent first.
    pub(crate) fn user_with(
        &self,
        algorithms: &[AeadAlgorithm],
        denied: &[String],
        header: &[u8],
    ) -> Result<Established, KeError> {
        let roots = TrustRoots::new(vec![self.pki.ca.clone()]).unwrap();
        let now = || Monotonic::from_nanos(1) + self.started.elapsed();
        let deadline = now() + PATIENCE;
        let judgement = Judgement::At(some_day());
        let order = Order { server: POOL, algorithms, denied, judgement, deadline, tlsa: &[] };
        let mut session = ClientSession::new(&ClientConfig::new(&roots).unwrap(), &order).unwrap();
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(header).unwrap();
        let mut piece = [0; 4096];
        loop {
            match session.poll_output() {
                Output::Transmit(bytes) => drop(stream.write_all(&bytes)),
                Output::Done(established) => return Ok(*established),
                Output::Failed(error, _) => return Err(error),
                Output::Timeout(..) => match stream.read(&mut piece) {
                    Ok(0) | Err(_) => session.handle_eof(now()),
                    Ok(length) => session.handle_input(now(), &piece[..length]),
                },
            }
        }
    }

    /// The TLS of a user that keeps sessions in `store`.
    pub(crate) fn user_tls(&self, store: Option<Arc<dyn ClientSessionStore>>) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.pki.ca.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"ntske/1".to_vec()];
        tls.resumption = store.map_or_else(Resumption::disabled, Resumption::store);
        Arc::new(tls)
    }

    /// One key exchange as its octets are.
    pub(crate) fn told(&self, tls: &Arc<rustls::ClientConfig>, address: SocketAddr) -> std::io::Result<Told> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let session = ClientConnection::new(Arc::clone(tls), POOL.try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        stream.write_all(&[0x80, 1, 0, 2, 0, 0, 0x80, 4, 0, 2, 0, 15, 0x80, 0, 0, 0])?;
        let mut plain = Vec::new();
        // An end of the connection without that of TLS is an error here.
        let ended = stream.read_to_end(&mut plain).is_ok() && stream.sock.read(&mut [0]).is_ok_and(|more| more == 0);
        let key = |direction| {
            let context = Some(&[0, 0, 0, 15, direction][..]);
            stream.conn.export_keying_material([0; 32], b"EXPORTER-network-time-security", context).unwrap()
        };
        let keys = [key(0), key(1)];
        Ok(Told { plain, ended, keys, kind: stream.conn.handshake_kind().unwrap() })
    }

    /// The members that were given these keys.
    pub(crate) fn holders(&self, keys: &[[u8; 32]; 2]) -> Vec<&Member> {
        let [c2s, s2c] = keys;
        let holds = |member: &&Member| {
            let held = member.keys.lock().unwrap();
            held.iter().any(|held| held.c2s.as_slice() == c2s || held.s2c.as_slice() == s2c)
        };
        self.members.iter().filter(holds).collect()
    }

    /// Whose cookies these are; nobody else may have had the keys.
    pub(crate) fn owner(&self, established: &Established) -> &Member {
        let keys = (established.keys.c2s.as_bytes(), established.keys.s2c.as_bytes());
        let known = |member: &&Member| {
            let held = member.keys.lock().unwrap();
            held.iter().any(|held| (held.c2s.as_slice(), held.s2c.as_slice()) == keys)
        };
        let owners: Vec<_> = self.members.iter().filter(known).collect();
        assert_eq!(owners.len(), 1, "the keys of a user reach one member");
        for cookie in &established.cookies {
            assert_eq!(cookie.as_bytes(), mark(&owners[0].name, keys.0).as_bytes());
        }
        owners[0]
    }

    /// No keys may have been given to anybody twice.
    pub(crate) fn all_keys(&self) -> usize {
        let mut all: Vec<Vec<u8>> = Vec::new();
        for member in &self.members {
            all.extend(member.keys.lock().unwrap().iter().map(|keys| keys.c2s.to_vec()));
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "keys were sent twice");
        count
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.balancer.take().unwrap().stop();
    }
}

/// Starts a balancer on the files of this folder.
fn node(folder: &Path, name: &str, clock: fn() -> UnixTime, settings: &str) -> Balancer {
    let file = folder.join(format!("{name}.toml"));
    let probes = if settings.contains("[probe]") { "" } else { "[probe]\ninterval = 0\n" };
    let workers = if settings.starts_with("workers") { "" } else { "workers = 2\n" };
    let text = format!(
        "listen = [\"127.0.0.1:0\"]\ncertificate = \"cert.pem\"\nprivate-key = \"key.pem\"\nmembers = \"members.toml\"\n\
         trust = \"file\"\ntrust-file = \"ca.pem\"\ncontrol-socket = \"{name}.sock\"\nhealth-file = \"{name}.json\"\n\
         metrics = \"127.0.0.1:0\"\n{workers}{settings}\n{probes}"
    );
    fs::write(&file, text).unwrap();
    let config = Config { time_of_day: clock, ..config::load(&file).unwrap() };
    Balancer::start(config).unwrap()
}

fn directory(members: &[Member]) -> String {
    let entry = |member: &Member| {
        let tlsa = member.tlsa.as_ref().map_or_else(String::new, |tlsa| format!("tlsa = [\"{tlsa}\"]\n"));
        format!(
            "[[member]]\nname = \"{}\"\nport = {}\naddresses = [\"127.0.0.1\"]\ntoken = \"{TOKEN}\"\noperator = \"{}\"\n{tlsa}",
            member.name, member.port, member.name
        )
    };
    members.iter().map(entry).collect()
}
