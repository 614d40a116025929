//! Sockets: one over UDP for each address, and one of the file system.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::unistd::geteuid;
use tokio::{
    net::{UdpSocket, UnixDatagram},
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::timeout,
};

use super::{
    answer::Answer,
    packet::{Incoming, MAX_REQUEST, NULL_REPLY, Status, read_request, write_reply},
    table::{Access, Entry},
};
use crate::config::{AccessRules, ChronycSettings};

/// Requests that may wait for the daemon's loop.
pub const QUEUE: usize = 16;

/// Mode of the socket's file: whoever may enter its directory may ask.
const SOCKET_MODE: u32 = 0o666;
/// Mode of its directory.
const DIRECTORY_MODE: u32 = 0o770;
/// Pause after a socket could not be read.
const PAUSE: Duration = Duration::from_millis(250);
/// How long the daemon's loop may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// A request on its way to the daemon's loop.
#[derive(Debug)]
pub struct ChronycRequest {
    pub(super) entry: &'static Entry,
    pub(super) body: Vec<u8>,
    pub(super) reply: oneshot::Sender<Answer>,
}

impl ChronycRequest {
    /// Answers it.
    pub fn answer(self, host: &mut impl super::Host) {
        let answer = super::answer::answer(self.entry, &self.body, host);
        // Whoever asked may be gone.
        let _ = self.reply.send(answer);
    }
}

/// Requests, counted.
#[derive(Debug, Default)]
pub struct ChronycCounts {
    received: AtomicU64,
    dropped: AtomicU64,
}

impl ChronycCounts {
    /// Those that came, and those of them that got no answer.
    #[must_use]
    pub fn get(&self) -> (u64, u64) {
        (self.received.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed))
    }
}

/// The sockets. The file of the one is removed when this is dropped, or the future of [`run`](Self::run).
#[derive(Debug, Default)]
pub struct ChronycServer {
    udp: Vec<UdpSocket>,
    local: Option<(UnixDatagram, File)>,
    counts: Arc<ChronycCounts>,
}

/// A socket's file, which goes away with it.
#[derive(Debug)]
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Whom requests over UDP are taken from, and which.
#[derive(Clone, Debug)]
struct Rules {
    access: watch::Receiver<AccessRules>,
    open: Arc<[Access]>,
}

/// Whether requests over UDP from this address are answered. Programs on this machine always are.
#[must_use]
pub fn may_ask(rules: &AccessRules, address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || rules.permit(address)
}

impl ChronycServer {
    /// Opens the sockets. What cannot be opened is told and left out: whoever watches a clock must not stop it.
    #[must_use]
    pub fn bind(settings: &ChronycSettings) -> Self {
        let mut server = Self::default();
        for address in &settings.listen {
            match bind_udp(*address) {
                Ok(socket) => server.udp.push(socket),
                Err(error) => tracing::warn!("chronyc is not answered at {address} (UDP): {}", explain(&error)),
            }
        }
        if let Some(path) = &settings.socket {
            match bind_unix(path) {
                Ok(socket) => server.local = Some((socket, File(path.clone()))),
                Err(error) => {
                    tracing::warn!("chronyc is not answered at {}: {}", path.display(), explain(&error));
                }
            }
        }
        server
    }

    /// What is counted from now on.
    #[must_use]
    pub fn counts(&self) -> Arc<ChronycCounts> {
        Arc::clone(&self.counts)
    }

    /// Answers, one request of each socket at a time, until the future is dropped. Over UDP, those are answered whom `access`
    /// permits just then, and `open` is what they may ask. Requests go to `requests`, a queue of [`QUEUE`].
    pub async fn run(
        self,
        access: watch::Receiver<AccessRules>,
        open: Vec<Access>,
        requests: mpsc::Sender<ChronycRequest>,
    ) {
        let rules = Rules { access, open: open.into() };
        let mut tasks = JoinSet::new();
        for socket in self.udp {
            let (requests, counts, rules) = (requests.clone(), Arc::clone(&self.counts), rules.clone());
            tasks.spawn(async move { Place::Udp(socket, rules).serve(&requests, &counts).await });
        }
        if let Some((socket, _file)) = self.local {
            Place::Local(socket).serve(&requests, &self.counts).await;
        }
        while tasks.join_next().await.is_some() {}
        // Without any socket there is nothing to do, and never will be.
        std::future::pending::<()>().await;
    }
}

/// A socket that requests come to.
#[derive(Debug)]
enum Place {
    /// Over UDP, where not all may ask, nor everything.
    Udp(UdpSocket, Rules),
    /// In the file system.
    Local(UnixDatagram),
}

/// Where a reply goes.
enum Asker {
    Udp(SocketAddr),
    Local(PathBuf),
}

impl Place {
    /// Waits for a datagram. Who must not ask, or has no name of its own, cannot be answered.
    async fn receive(&self, datagram: &mut [u8]) -> io::Result<(usize, Option<Asker>)> {
        match self {
            Self::Udp(socket, rules) => {
                let (len, from) = socket.recv_from(datagram).await?;
                Ok((len, may_ask(&rules.access.borrow(), from.ip()).then_some(Asker::Udp(from))))
            }
            Self::Local(socket) => {
                let (len, from) = socket.recv_from(datagram).await?;
                Ok((len, from.as_pathname().map(|path| Asker::Local(path.to_path_buf()))))
            }
        }
    }

    /// What may be asked here; `None` is everything.
    fn opened(&self) -> Option<&[Access]> {
        match self {
            Self::Udp(_, rules) => Some(&rules.open),
            Self::Local(_) => None,
        }
    }

    /// Sends a reply, if that is possible at once; whether it was.
    fn send(&self, reply: &[u8], to: &Asker) -> bool {
        match (self, to) {
            (Self::Udp(socket, _), Asker::Udp(to)) => socket.try_send_to(reply, *to).is_ok(),
            (Self::Local(socket), Asker::Local(to)) => socket.try_send_to(reply, to).is_ok(),
            (Self::Udp(..), Asker::Local(_)) | (Self::Local(_), Asker::Udp(_)) => false,
        }
    }

    /// Answers one request after the other.
    async fn serve(&self, requests: &mpsc::Sender<ChronycRequest>, counts: &ChronycCounts) {
        // One octet more than the longest request tells that there was more.
        let mut datagram = [0; MAX_REQUEST + 1];
        loop {
            let Ok((len, asker)) = self.receive(&mut datagram).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            counts.received.fetch_add(1, Ordering::Relaxed);
            let reply = match &asker {
                Some(_) => reply_to(datagram.get(..len).unwrap_or_default(), self.opened(), requests).await,
                None => Vec::new(),
            };
            let is_sent = !reply.is_empty() && asker.is_some_and(|asker| self.send(&reply, &asker));
            counts.dropped.fetch_add(u64::from(!is_sent), Ordering::Relaxed);
        }
    }
}

/// The reply to a datagram; empty if there is none.
async fn reply_to(datagram: &[u8], opened: Option<&[Access]>, requests: &mpsc::Sender<ChronycRequest>) -> Vec<u8> {
    match read_request(datagram, opened) {
        Incoming::Silence => Vec::new(),
        Incoming::Error(header, status) => write_reply(&header, status, NULL_REPLY, &[]),
        Incoming::Ask(header, entry, body) => {
            let (reply, answer) = oneshot::channel();
            let request = ChronycRequest { entry, body: body.to_vec(), reply };
            let answered = match requests.try_send(request) {
                Ok(()) => timeout(ANSWER, answer).await.ok().and_then(Result::ok),
                Err(_) => None,
            };
            let answer = answered.unwrap_or_else(|| Status::Failed.into());
            write_reply(&header, answer.status, answer.code, &answer.body)
        }
    }
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Binds the socket of the file system. A socket that nobody answers at is replaced.
fn bind_unix(path: &Path) -> io::Result<UnixDatagram> {
    shut(path.parent().unwrap_or_else(|| Path::new("/")))?;
    let probe = std::os::unix::net::UnixDatagram::unbound()?;
    match probe.connect(path) {
        Ok(()) => return Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && is_socket(path) => fs::remove_file(path)?,
        Err(_) => {}
    }
    let socket = UnixDatagram::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(socket)
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

/// Makes sure that nobody else enters a directory, and makes it if there is none: whoever reaches the socket may change
/// everything.
fn shut(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let found = fs::symlink_metadata(directory)?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() {
        return Err(io::Error::other(format!("{} is not a directory of this daemon's user", directory.display())));
    }
    if found.mode() & 0o7777 & !DIRECTORY_MODE != 0 {
        fs::set_permissions(directory, fs::Permissions::from_mode(DIRECTORY_MODE))?;
    }
    Ok(())
}

/// What stands in the way, and what helps.
fn explain(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::AddrInUse {
        format!("{error}; is chronyd running? `systemctl disable --now chronyd` (on Debian `chrony`) stops it")
    } else if kind == io::ErrorKind::PermissionDenied {
        format!("{error}; start as root, or set `control.chronyc = false`")
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[tokio::test]
    async fn nobody_else_gets_at_the_socket() {
        let place = TempDir::new().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        let path = place.path().join("run/chronyd.sock");
        let first = bind_unix(&path).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (SOCKET_MODE, DIRECTORY_MODE));
        assert_eq!(bind_unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(bind_unix(&path).is_ok(), "what nobody answers at is replaced");
        // Made by somebody who lets all in.
        let open = place.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
        bind_unix(&open.join("chronyd.sock")).unwrap();
        assert_eq!(mode(&open), DIRECTORY_MODE);
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&open, &link).unwrap();
        assert!(bind_unix(&link.join("chronyd.sock")).is_err(), "where a link leads, others may say");
        let file = place.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert!(bind_unix(&file.join("chronyd.sock")).is_err());
    }

    #[tokio::test]
    async fn files_that_are_no_sockets_are_left_alone() {
        let place = TempDir::new().unwrap();
        let path = place.path().join("chronyd.sock");
        fs::write(&path, "precious").unwrap();
        assert!(bind_unix(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
