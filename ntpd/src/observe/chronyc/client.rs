//! Asking a daemon, ours or chronyd, in its protocol.

use std::{
    fmt, fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket},
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    process,
    time::{Duration, Instant},
};

use super::packet::{MAX_REQUEST, NULL_REPLY, read_reply, write_request};
pub(crate) use super::{
    bodies::{
        AccessBody, ActivityData, AddSourceBody, AuthData, BurstBody, ClientsBody, ClientsData, LocalBody,
        MakeStepBody, ManualListData, NAME_LEN, NEVER, NtpData, NumberBody, RtcData, SelectData, SelectOptionsBody,
        ServerStatsData, SettingBody, SmoothingData, SourceCount, SourceData, SourceNameData, SourceStatsData, Subnet,
        TrackingData, flags, ntp_flags, options,
    },
    codec::{Address, Field, Timespec},
    packet::Status,
    table::Entry,
};

const SOCKET: &str = "/run/chrony/chronyd.sock";
/// How long the first answer is waited for; twice as long for each further try.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Requests that are sent before the next address is tried.
const TRIES: u16 = 3;

/// What a request carries.
pub(crate) trait Body {
    /// Its octets.
    fn octets(&self) -> Vec<u8>;
}

impl Body for () {
    fn octets(&self) -> Vec<u8> {
        Vec::new()
    }
}

impl<T: Field> Body for T {
    fn octets(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }
}

/// Why there is no answer, in chronyc's words.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody answers.
    Silence,
    /// The answer is not one to this request.
    Reply,
    /// The daemon says so.
    Status(Status),
    /// What was given is no address.
    Address,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silence => "506 Cannot talk to daemon",
            Self::Reply => "508 Bad reply from daemon",
            Self::Status(status) => status.text(),
            Self::Address => "Could not get address for hostname",
        })
    }
}

/// Where a daemon may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A socket of the file system.
    Path(PathBuf),
    /// An address of UDP.
    Udp(SocketAddr),
}

impl Peer {
    /// What is meant by these hosts, in the order in which they are to be tried; without any, where daemons usually are.
    pub(crate) fn list(hosts: &[String], port: u16, ipv4: bool, ipv6: bool) -> Vec<Self> {
        let wanted = |address: &SocketAddr| !(ipv4 && address.is_ipv6() || ipv6 && address.is_ipv4());
        if hosts.is_empty() {
            let loopback =
                [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
            let udp = loopback.into_iter().filter(wanted).map(Self::Udp);
            return [Self::Path(SOCKET.into())].into_iter().chain(udp).collect();
        }
        let each = |host: &String| -> Vec<Self> {
            if host.starts_with('/') {
                return vec![Self::Path(host.into())];
            }
            let found = (host.as_str(), port).to_socket_addrs();
            found.map(|all| all.filter(wanted).map(Self::Udp).collect()).unwrap_or_default()
        };
        hosts.iter().flat_map(each).collect()
    }
}

/// A connection, once there is one.
pub(crate) struct Talker {
    peers: Vec<Peer>,
    line: Option<Line>,
    sequence: u32,
}

impl Talker {
    /// Will talk to the first of these that answers.
    pub(crate) const fn new(peers: Vec<Peer>) -> Self {
        Self { peers, line: None, sequence: 0 }
    }

    /// Asks, and reads what comes.
    ///
    /// # Errors
    ///
    /// [`Failure`] if nobody answers, or it is no success.
    pub(crate) fn ask<T: Field>(&mut self, entry: &Entry, body: &impl Body) -> Result<T, Failure> {
        let (status, code, reply) = self.exchange(entry, &body.octets())?;
        if status != Status::Success {
            return Err(Failure::Status(status));
        }
        if code == entry.reply { T::get(&mut &reply[..]).ok_or(Failure::Reply) } else { Err(Failure::Reply) }
    }

    /// Tells, and reads how it went.
    ///
    /// # Errors
    ///
    /// [`Failure`] if nobody answers.
    pub(crate) fn tell(&mut self, entry: &Entry, body: &impl Body) -> Result<Status, Failure> {
        let (status, code, _) = self.exchange(entry, &body.octets())?;
        if code == NULL_REPLY { Ok(status) } else { Err(Failure::Reply) }
    }

    fn exchange(&mut self, entry: &Entry, body: &[u8]) -> Result<(Status, u16, Vec<u8>), Failure> {
        if let Some(line) = self.line.take()
            && let Some(answer) = self.try_line(&line, entry, body)
        {
            self.line = Some(line);
            return Ok(answer);
        }
        for peer in self.peers.clone() {
            let Ok(line) = Line::open(&peer) else { continue };
            if let Some(answer) = self.try_line(&line, entry, body) {
                self.line = Some(line);
                return Ok(answer);
            }
        }
        Err(Failure::Silence)
    }

    fn try_line(&mut self, line: &Line, entry: &Entry, body: &[u8]) -> Option<(Status, u16, Vec<u8>)> {
        let mut wait = FIRST_WAIT;
        for attempt in 0..TRIES {
            self.sequence = fresh(self.sequence);
            line.send(&write_request(entry, self.sequence, attempt, body)).ok()?;
            let end = Instant::now() + wait;
            let mut datagram = [0; MAX_REQUEST];
            while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                let Ok(len) = line.receive(&mut datagram, left) else { break };
                if let Some((status, code, reply)) =
                    read_reply(datagram.get(..len).unwrap_or_default(), entry, self.sequence)
                {
                    return Some((status, code, reply.to_vec()));
                }
            }
            wait *= 2;
        }
        None
    }
}

/// Another number; not one that somebody else could guess, if the kernel has any.
fn fresh(last: u32) -> u32 {
    let mut octets = [0; 4];
    match getrandom::fill(&mut octets) {
        Ok(()) => u32::from_be_bytes(octets),
        Err(_) => last.wrapping_add(1),
    }
}

/// A socket to one daemon.
enum Line {
    Udp(UdpSocket),
    Unix(UnixDatagram, #[expect(dead_code, reason = "dropped with the socket")] Own),
}

/// The file of our end, which goes away with it.
struct Own(PathBuf);

impl Drop for Own {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Line {
    fn open(peer: &Peer) -> io::Result<Self> {
        match peer {
            Peer::Udp(address) => {
                let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
                socket.connect(address)?;
                Ok(Self::Udp(socket))
            }
            Peer::Path(path) => {
                // The daemon answers to a name, so there has to be one, where it may write.
                let directory = path.parent().unwrap_or_else(|| Path::new("/"));
                let own = Own(directory.join(format!("chronyc.{}.sock", process::id())));
                let _ = fs::remove_file(&own.0);
                let socket = UnixDatagram::bind(&own.0)?;
                fs::set_permissions(&own.0, fs::Permissions::from_mode(0o666))?;
                socket.connect(path)?;
                Ok(Self::Unix(socket, own))
            }
        }
    }

    fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => socket.send(datagram),
            Self::Unix(socket, _) => socket.send(datagram),
        }
    }

    fn receive(&self, datagram: &mut [u8], wait: Duration) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => {
                socket.set_read_timeout(Some(wait))?;
                socket.recv(datagram)
            }
            Self::Unix(socket, _) => {
                socket.set_read_timeout(Some(wait))?;
                socket.recv(datagram)
            }
        }
    }
}
