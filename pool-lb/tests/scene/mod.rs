//! A pool on loopback: members of all manners, a balancer before them, and users.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ntp_proto::{
    bootstrap::Judgement,
    nts::{AeadAlgorithm, Cookie},
    time::{Monotonic, UnixTime},
};
use nts_ke::{
    client::{ClientConfig, ClientSession, Established, Order, Output},
    error::KeError,
    message::{Grant, Response},
    pool::{FixedKeys, Message, PoolRequest, Support},
    record::{Incoming, Limits},
    verify::TrustRoots,
};
use pool_lb::balance::{Balancer, config};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer},
};

pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const POOL: &str = "pool.test";
const PATIENCE: Duration = Duration::from_secs(20);

/// How a member behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Good,
    /// Takes connections and says nothing.
    Silent,
    /// Shows the certificate of somebody else.
    OtherName,
    /// Answers the question for what it can do with 64 KiB of rubbish.
    RubbishSupport,
    /// Says that it sends users to an internal address.
    InternalSupport,
    /// From here on the member has the keys.
    Rubbish,
    Stalls,
    Closes,
    ZeroCookies,
    OtherAlgorithm,
    Internal,
    Localhost,
    PortZero,
    /// With records that are none of the user's business.
    Chatty,
    ErrorRecord,
    WarningRecord,
    /// Answers twice.
    Twice,
}

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

/// One member.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) name: String,
    port: u16,
    alive: Arc<AtomicBool>,
    /// The keys that it was given.
    pub(crate) keys: Arc<Mutex<Vec<FixedKeys>>>,
    manner: Manner,
    algorithms: Vec<(u16, u16)>,
    alias: Option<String>,
}

impl Member {
    fn start(pki: &Pki, name: &str, manner: Manner, algorithms: &[u16], alias: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shown = if manner == Manner::OtherName { "somebody.test" } else { name };
        let (leaf, key) = pki.leaf(shown);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut tls =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![leaf.der().clone()], key)
                .unwrap();
        tls.alpn_protocols = vec![b"ntske/1".to_vec()];
        let length = |id: &u16| (*id, AeadAlgorithm::from_id(*id).map_or(40, |known| known.key_len() as u16));
        let member = Self {
            name: name.to_owned(),
            port: listener.local_addr().unwrap().port(),
            alive: Arc::new(AtomicBool::new(true)),
            keys: Arc::default(),
            manner,
            algorithms: algorithms.iter().map(length).collect(),
            alias: alias.map(str::to_owned),
        };
        let (this, tls) = (member.clone(), Arc::new(tls));
        thread::spawn(move || {
            // Ends with the process.
            for stream in listener.incoming().flatten() {
                let (this, tls) = (this.clone(), Arc::clone(&tls));
                if this.alive.load(Ordering::SeqCst) {
                    thread::spawn(move || this.attend(stream, tls));
                }
            }
        });
        member
    }

    /// Closes all connections, and every new one at once.
    pub(crate) fn kill(&self) {
        self.alive.store(false, Ordering::SeqCst);
    }

    fn attend(&self, stream: TcpStream, tls: Arc<rustls::ServerConfig>) -> Option<()> {
        if self.manner == Manner::Silent {
            thread::sleep(PATIENCE);
            return None;
        }
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(tls).unwrap(), stream);
        loop {
            let mut incoming = Incoming::new(Limits::REQUEST);
            let mut piece = [0; 4096];
            loop {
                let length = match stream.read(&mut piece) {
                    Ok(0) => return None,
                    Ok(length) => length,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        if !self.alive.load(Ordering::SeqCst) {
                            return None;
                        }
                        continue;
                    }
                    Err(_) => return None,
                };
                if incoming.handle_input(&piece[..length]).ok()? {
                    break;
                }
            }
            let reply = match Message::parse(incoming.records(), |token| token == TOKEN).ok()? {
                Message::Pool { request: PoolRequest::Support(lists), .. } => self.support(lists),
                Message::Pool { request: PoolRequest::FixedKeys(keys), .. } => {
                    self.keys.lock().unwrap().push(keys.clone());
                    self.cookies(&keys)?
                }
                Message::Exchange(_) => return None,
            };
            stream.write_all(&reply).ok()?;
            stream.flush().ok()?;
        }
    }

    fn support(&self, lists: nts_ke::pool::Lists) -> Vec<u8> {
        if self.manner == Manner::RubbishSupport {
            return vec![0x5a; 65_536];
        }
        let internal = (self.manner == Manner::InternalSupport).then(|| "10.1.2.3".to_owned());
        let support = Support {
            protocols: vec![0],
            algorithms: self.algorithms.clone(),
            servers: self.alias.iter().cloned().chain(internal).collect(),
            keep_alive: true,
        };
        support.encode(lists)
    }

    fn cookies(&self, keys: &FixedKeys) -> Option<Vec<u8>> {
        // A mark of whose cookies they are.
        let count = if self.manner == Manner::ZeroCookies { 0 } else { 8 };
        let cookies = vec![Cookie::new(format!("{:-<64}", self.name).as_bytes()).unwrap(); count];
        let server = match self.manner {
            Manner::Internal => Some("192.168.1.1"),
            Manner::Localhost => Some("localhost"),
            _ => self.alias.as_deref(),
        };
        let grant = Grant {
            algorithm: if self.manner == Manner::OtherAlgorithm { 16 } else { keys.algorithm },
            cookies: &cookies,
            server,
            port: match self.manner {
                Manner::PortZero => Some(0),
                Manner::Chatty => Some(1123),
                _ => None,
            },
            compliant_export: false,
        };
        let mut bytes = Response::Established(grant).encode();
        bytes.truncate(bytes.len() - 4);
        match self.manner {
            Manner::Rubbish => {
                return Some((0..65_536_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect());
            }
            Manner::Stalls => thread::sleep(PATIENCE),
            Manner::Closes => return None,
            Manner::ErrorRecord => return Some(vec![0x80, 2, 0, 2, 0xf0, 1, 0x80, 0, 0, 0]),
            Manner::WarningRecord => return Some(vec![0x80, 3, 0, 2, 0, 1, 0x80, 0, 0, 0]),
            // Not critical: unknown ones, and the balancer's own.
            Manner::Chatty => bytes.extend([0x4f, 1, 0, 2, 1, 2, 0x40, 4, 0, 0]),
            _ => {}
        }
        bytes.extend([0, 8, 0, 0, 0x80, 0, 0, 0]);
        if self.manner == Manner::Twice {
            bytes.extend(bytes.clone());
        }
        Some(bytes)
    }
}

/// A balancer and its members.
pub(crate) struct Scene {
    pub(crate) pki: Pki,
    pub(crate) members: Vec<Member>,
    pub(crate) balancer: Option<Balancer>,
    pub(crate) address: SocketAddr,
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
        let pki = Pki::new();
        let members = wanted.iter().zip(1..).map(|((manner, algorithms, alias), number)| {
            Member::start(&pki, &format!("m{number}.test"), *manner, algorithms, *alias)
        });
        let members: Vec<_> = members.collect();
        let folder = tempfile::tempdir().unwrap();
        let (leaf, key) = pki.leaf(POOL);
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("cert.pem", &leaf.pem());
        write("key.pem", &key.serialize_pem());
        fs::set_permissions(folder.path().join("key.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        write("ca.pem", &pki.pem);
        write("members.toml", &directory(&members));
        write(
            "lb.toml",
            &format!(
                "listen = [\"127.0.0.1:0\"]\ncertificate = \"cert.pem\"\nprivate-key = \"key.pem\"\nmembers = \
                 \"members.toml\"\ntrust = \"file\"\ntrust-file = \"ca.pem\"\ncontrol-socket = \"control.sock\"\n\
                 health-file = \"health.json\"\nmetrics = \"127.0.0.1:0\"\nworkers = 2\n{settings}\n[probe]\ninterval = 0\n"
            ),
        );
        let config = config::load(&folder.path().join("lb.toml")).unwrap();
        let balancer = Balancer::start(config).unwrap();
        let address = balancer.addresses()[0];
        Self { pki, members, balancer: Some(balancer), address, folder, started: Instant::now() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes these the members from now on.
    pub(crate) fn set_members(&self, members: &[Member]) {
        fs::write(self.path("members.toml"), directory(members)).unwrap();
        self.command("reload").unwrap();
    }

    pub(crate) fn balancer(&self) -> &Balancer {
        self.balancer.as_ref().unwrap()
    }

    pub(crate) fn command(&self, line: &str) -> Result<String, String> {
        self.balancer().command(line)
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
        let judgement = Judgement::At(UnixTime { seconds: 1_894_000_000, nanos: 0 });
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
            assert!(cookie.as_bytes().starts_with(owners[0].name.as_bytes()));
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

fn directory(members: &[Member]) -> String {
    let entry = |member: &Member| {
        format!(
            "[[member]]\nname = \"{}\"\nport = {}\naddresses = [\"127.0.0.1\"]\ntoken = \"{TOKEN}\"\noperator = \"{}\"\n",
            member.name, member.port, member.name
        )
    };
    members.iter().map(entry).collect()
}
