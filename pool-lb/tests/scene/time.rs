//! The time that members serve, right or wrong.

use std::{
    net::UdpSocket,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use ntp_proto::{
    ids::{Leap, StampKind},
    nts::{AeadAlgorithm, AeadKey, Cookie, Keyring, SessionKeys},
    server::{Access, AccessTable, Prefix, Responder, RxMeta, Verdict},
    status::Status,
    time::{Monotonic, NtpDuration, NtpTimestamp, UnixTime},
};

/// What makes the cookies of all members.
const FRESH: [u8; Keyring::KEY_LEN] = [5; Keyring::KEY_LEN];

/// The time of day.
pub(crate) fn of_day() -> UnixTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixTime { seconds: now.as_secs() as i64, nanos: now.subsec_nanos() }
}

/// The NTP server of a member.
#[derive(Debug, Default)]
pub(crate) struct Timekeeper {
    /// Whether nobody hears from it.
    pub(crate) is_silent: AtomicBool,
    /// Whether it says that it does not know the time.
    pub(crate) is_lost: AtomicBool,
    /// Seconds that its clock is ahead.
    pub(crate) ahead: AtomicI64,
    /// Datagrams of no use that it sends before each answer.
    pub(crate) strays: AtomicI64,
    issued: Mutex<u64>,
}

impl Timekeeper {
    /// Starts to serve; returns the port.
    pub(super) fn start(self: &Arc<Self>) -> u16 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let this = Arc::clone(self);
        // Ends with the process.
        thread::spawn(move || this.serve(&socket));
        port
    }

    fn serve(&self, socket: &UdpSocket) {
        let mut access = AccessTable::new();
        access.add(Prefix::ALL_V4, Access::Allow).unwrap();
        let mut responder = Responder::new(access, [7; 32]);
        responder.set_keyring(Some(Keyring::new(&FRESH)));
        let (mut request, mut reply) = ([0; 2048], [0; 2048]);
        loop {
            let (length, from) = socket.recv_from(&mut request).unwrap();
            if self.is_silent.load(Ordering::SeqCst) {
                continue;
            }
            for _ in 0..self.strays.load(Ordering::SeqCst) {
                socket.send_to(b"stray", from).unwrap();
            }
            let meta = RxMeta {
                peer: from.ip(),
                peer_port: from.port(),
                received: self.now(),
                kind: StampKind::Daemon,
                monotonic: Monotonic::from_nanos(1),
            };
            let verdict = responder.respond(&mut request[..length], &meta, &self.status(), || self.now(), &mut reply);
            if let Verdict::Reply { len, .. } = verdict {
                socket.send_to(&reply[..len], from).unwrap();
            }
        }
    }

    fn now(&self) -> NtpTimestamp {
        let now = of_day();
        NtpTimestamp::from_unix(UnixTime { seconds: now.seconds + self.ahead.load(Ordering::SeqCst), ..now })
    }

    fn status(&self) -> Status {
        if self.is_lost.load(Ordering::SeqCst) {
            return Status::UNSYNCHRONIZED;
        }
        let max_distance = NtpDuration::from_seconds(1.0);
        Status { leap: Leap::None, stratum: 2, max_distance, reference_time: self.now(), ..Status::UNSYNCHRONIZED }
    }

    /// Cookies for a client's keys, which it serves.
    pub(super) fn cookies(&self, c2s: &[u8], s2c: &[u8]) -> Vec<Cookie> {
        let key = |secret| AeadKey::new(AeadAlgorithm::AesSivCmac256, secret).unwrap();
        let keys = SessionKeys { c2s: key(c2s), s2c: key(s2c) };
        let keyring = Keyring::new(&FRESH);
        let cookie = |_| {
            let mut issued = self.issued.lock().unwrap();
            *issued += 1;
            let mut bytes = [0; Cookie::MAX_LEN];
            let length = keyring.issue(&keys, &u128::from(*issued).to_be_bytes(), &mut bytes).unwrap();
            Cookie::new(&bytes[..length]).unwrap()
        };
        (0..8).map(cookie).collect()
    }
}
