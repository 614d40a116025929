//! Members of all manners.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ntp_proto::{
    nts::{AeadAlgorithm, Cookie},
    time::Monotonic,
};
use nts_ke::{
    admission::{Admission, Decision, Limits as Admitted},
    message::{Grant, Response},
    pool::{FixedKeys, Message, PoolRequest, Support},
    record::{Incoming, Limits},
    server::Stage,
};
use rustls::{ServerConnection, StreamOwned, pki_types::PrivateKeyDer};

use super::{PATIENCE, Pki, TOKEN, time::Timekeeper, wait_until};

/// How a member behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Good,
    /// Takes from one host what members take by default, and counts what it refuses.
    Limited,
    /// Nobody listens at its port.
    Absent,
    /// Has a certificate that nothing but the directory's TLSA record vouches for.
    Pinned,
    /// The directory's TLSA record is of another certificate.
    Mispinned,
    /// Has a certificate of another authority, which the balancer trusts too.
    OtherAuthority,
    /// Has a certificate of an authority that the balancer does not trust.
    StrangeAuthority,
    /// Takes connections and says nothing.
    Silent,
    /// Shows the certificate of somebody else.
    OtherName,
    /// Answers the question for what it can do with 64 KiB of rubbish.
    RubbishSupport,
    /// Says that it sends users to an internal address.
    InternalSupport,
    /// Says what it can do only when it is told to.
    LateSupport,
    /// From here on the member has the keys.
    Rubbish,
    Stalls,
    /// Gives its cookies only when it is told to.
    LateCookies,
    /// Says half of a record, and then nothing.
    HalfRecord,
    /// Says half of its answer, and closes.
    HalfAnswer,
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

impl Manner {
    pub(crate) const ALL: [Self; 27] = [
        Self::Good,
        Self::Limited,
        Self::Absent,
        Self::Pinned,
        Self::Mispinned,
        Self::OtherAuthority,
        Self::StrangeAuthority,
        Self::Silent,
        Self::OtherName,
        Self::RubbishSupport,
        Self::InternalSupport,
        Self::LateSupport,
        Self::Rubbish,
        Self::Stalls,
        Self::LateCookies,
        Self::HalfRecord,
        Self::HalfAnswer,
        Self::Closes,
        Self::ZeroCookies,
        Self::OtherAlgorithm,
        Self::Internal,
        Self::Localhost,
        Self::PortZero,
        Self::Chatty,
        Self::ErrorRecord,
        Self::WarningRecord,
        Self::Twice,
    ];
}

/// One member.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) port: u16,
    alive: Arc<AtomicBool>,
    started: Instant,
    /// Whether late answers may go.
    pub(crate) released: Arc<AtomicBool>,
    /// Late answers that went.
    pub(crate) late: Arc<AtomicUsize>,
    /// The keys that it was given.
    pub(crate) keys: Arc<Mutex<Vec<FixedKeys>>>,
    /// Whom it takes, if it is limited, and how many it refused.
    admission: Arc<Mutex<Admission>>,
    pub(crate) refused: Arc<AtomicUsize>,
    /// The token that it knows on new connections.
    pub(crate) token: Arc<Mutex<String>>,
    manner: Manner,
    algorithms: Vec<(u16, u16)>,
    alias: Option<String>,
    /// What its entry in the directory says of its certificate.
    pub(super) tlsa: Option<String>,
    /// Its NTP server, and the port of that.
    pub(crate) time: Arc<Timekeeper>,
    ntp_port: u16,
}

impl Member {
    pub(super) fn start(
        [pki, other, stranger]: &[Pki; 3],
        name: &str,
        manner: Manner,
        algorithms: &[u16],
        alias: Option<&str>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shown = if manner == Manner::OtherName { "somebody.test" } else { name };
        let (leaf, key) = match manner {
            Manner::Pinned => Pki::new().leaf(shown),
            Manner::StrangeAuthority => stranger.leaf(shown),
            Manner::OtherAuthority => other.leaf(shown),
            _ => pki.leaf(shown),
        };
        let certificate: String = leaf.der().iter().map(|octet| format!("{octet:02x}")).collect();
        let tlsa = match manner {
            Manner::Pinned => Some(format!("3 0 0 {certificate}")),
            Manner::Mispinned => Some(format!("3 1 1 {}", "ab".repeat(32))),
            _ => None,
        };
        let time = Arc::<Timekeeper>::default();
        let ntp_port = time.start();
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
            started: Instant::now(),
            released: Arc::default(),
            late: Arc::default(),
            keys: Arc::default(),
            admission: Arc::new(Mutex::new(Admission::new(Admitted { limit_loopback: true, ..Admitted::default() }))),
            refused: Arc::default(),
            token: Arc::new(Mutex::new(TOKEN.to_owned())),
            manner,
            algorithms: algorithms.iter().map(length).collect(),
            alias: alias.map(str::to_owned),
            tlsa,
            time,
            ntp_port,
        };
        if manner == Manner::Absent {
            return member;
        }
        let (this, tls) = (member.clone(), Arc::new(tls));
        thread::spawn(move || {
            // Ends with the process.
            for stream in listener.incoming().flatten() {
                let (this, tls) = (this.clone(), Arc::clone(&tls));
                if this.alive.load(Ordering::SeqCst) {
                    thread::spawn(move || this.admit(stream, tls));
                }
            }
        });
        member
    }

    /// Closes all connections, and every new one at once.
    pub(crate) fn kill(&self) {
        self.alive.store(false, Ordering::SeqCst);
    }

    fn admit(&self, stream: TcpStream, tls: Arc<rustls::ServerConfig>) {
        let now = || Monotonic::from_nanos(1_000_000_000_000) + self.started.elapsed();
        let peer = stream.peer_addr().unwrap().ip();
        if self.manner != Manner::Limited {
            self.attend(stream, tls, &|| {});
            return;
        }
        let decision = self.admission.lock().unwrap().handle_connection(now(), peer);
        let Decision::Admit(id) = decision else {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return;
        };
        self.attend(stream, tls, &|| self.admission.lock().unwrap().handle_progress(id, Stage::Kept));
        self.admission.lock().unwrap().handle_closed(id);
    }

    /// Takes connections again.
    pub(crate) fn revive(&self) {
        self.alive.store(true, Ordering::SeqCst);
    }

    fn attend(&self, stream: TcpStream, tls: Arc<rustls::ServerConfig>, kept: &dyn Fn()) -> Option<()> {
        // What was kept before a change goes on as it began.
        let token = self.token.lock().unwrap().clone();
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
            let message = Message::parse(incoming.records(), |shown| shown == token);
            let Ok(message) = message else {
                // As members answer a token that they do not know.
                let _ = stream.write_all(&[0x80, 2, 0, 2, 0, 1, 0x80, 0, 0, 0]).and_then(|()| stream.flush());
                return None;
            };
            let reply = match message {
                Message::Pool { request: PoolRequest::Support(lists), .. } => {
                    kept();
                    self.support(lists)
                }
                Message::Pool { request: PoolRequest::FixedKeys(keys), .. } => {
                    self.keys.lock().unwrap().push(keys.clone());
                    self.cookies(&keys)?
                }
                Message::Exchange(_) => {
                    let answer = self.serve_client(&stream.conn);
                    let _ = stream.write_all(&answer).and_then(|()| stream.flush());
                    return None;
                }
            };
            let sent = stream.write_all(&reply).and_then(|()| stream.flush());
            if self.released.load(Ordering::SeqCst) {
                self.late.fetch_add(1, Ordering::SeqCst);
            }
            sent.ok()?;
            if self.manner == Manner::HalfAnswer && !self.keys.lock().unwrap().is_empty() {
                return None;
            }
        }
    }

    /// What any client gets, with the time from our own server.
    fn serve_client(&self, tls: &ServerConnection) -> Vec<u8> {
        let key = |direction| {
            let context = Some(&[0, 0, 0, 15, direction][..]);
            tls.export_keying_material([0; 32], b"EXPORTER-network-time-security", context).unwrap()
        };
        let cookies = self.time.cookies(&key(0), &key(1));
        let port = Some(self.ntp_port);
        let grant = Grant { algorithm: 15, cookies: &cookies, server: None, port, compliant_export: false };
        Response::Established(grant).encode()
    }

    fn wait_for_release(&self) {
        wait_until("release", || self.released.load(Ordering::SeqCst));
    }

    fn support(&self, lists: nts_ke::pool::Lists) -> Vec<u8> {
        if self.manner == Manner::RubbishSupport {
            return vec![0x5a; 65_536];
        }
        if self.manner == Manner::LateSupport {
            self.wait_for_release();
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
        let count = if self.manner == Manner::ZeroCookies { 0 } else { 8 };
        let cookies = vec![Cookie::new(mark(&self.name, &keys.c2s).as_bytes()).unwrap(); count];
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
            Manner::LateCookies => self.wait_for_release(),
            Manner::HalfRecord => {
                bytes.truncate(bytes.len() - 40);
                return Some(bytes);
            }
            Manner::HalfAnswer => {
                bytes.truncate(bytes.len() / 2);
                return Some(bytes);
            }
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

/// What a cookie of a member says: whose it is, and for whose keys.
pub(super) fn mark(member: &str, c2s: &[u8]) -> String {
    let keys: String = c2s.iter().take(16).map(|octet| format!("{octet:02x}")).collect();
    format!("{member:-<32}{keys}")
}
