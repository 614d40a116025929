//! What a key-exchange server does with sockets, be it a balancer or a member: connections are taken, closed for others,
//! and ended so that the last answer arrives. What is said on them is up to `nts_ke`.

use std::{
    borrow::Borrow,
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    task::Poll,
    time::Duration,
};

use ntp_proto::time::Monotonic;
use nts_ke::{admission::ConnectionId, error::KeError};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, yield_now},
    time::{sleep, timeout},
};

/// Octets read at a time.
pub const PIECE: usize = 4096;

/// How long nothing is accepted after an error that will not go away at once.
pub const PAUSE: Duration = Duration::from_millis(100);

/// How long a peer may take to close after its answer, so that the answer is not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);

/// Octets that are thrown away meanwhile.
const MAX_LINGER_BYTES: usize = 16 * PIECE;

/// Trouble that comes back within this time is still the same.
const SAME_TROUBLE: Duration = Duration::from_secs(60);

/// Opens a listener for which the kernel keeps `backlog` connections; what is written to those is sent at once. With `shared_port` others may listen beside it, each
/// getting a share; otherwise a port in use stays refused.
///
/// # Errors
///
/// What the system says.
pub fn bind(address: SocketAddr, backlog: i32, shared_port: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // For connections of an earlier run that the kernel still remembers.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared_port)?;
    // Linux passes this on to connections (tcp(7)), which saves a call for each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Accepts from any of the listeners, the next one first each time.
///
/// # Errors
///
/// See [`is_of_one_connection`].
pub async fn accept<L: Borrow<TcpListener>>(listeners: &[L], turn: &mut usize) -> io::Result<(TcpStream, SocketAddr)> {
    *turn = turn.wrapping_add(1);
    let (after, before) = listeners.split_at(*turn % listeners.len().max(1));
    std::future::poll_fn(|context| {
        for listener in before.iter().chain(after) {
            if let Poll::Ready(accepted) = listener.borrow().poll_accept(context) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    })
    .await
}

/// Whether an error of `accept` was the fault of one connection (accept(2) passes on errors of the network), rather than
/// the system having run out of something.
#[must_use]
pub fn is_of_one_connection(error: &io::Error) -> bool {
    let codes = [
        libc::ECONNABORTED,
        libc::EPROTO,
        libc::ENOPROTOOPT,
        libc::EOPNOTSUPP,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::ENONET,
        libc::EINTR,
        libc::EPERM,
    ];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Tells the peer at once that it is not wanted: a reset, after which the kernel remembers nothing of the connection.
pub fn refuse(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

/// Trouble of the whole process that is told once, however often it comes and goes within a minute.
#[derive(Debug, Default)]
pub struct Complaint(
    /// When it last came, in nanoseconds; never, if 0.
    AtomicU64,
);

impl Complaint {
    /// Takes word of trouble; returns whether to tell of it.
    pub fn is_new(&self, now: Monotonic) -> bool {
        let last = self.0.swap(now.to_nanos().max(1), Ordering::Relaxed);
        last == 0 || now.since(Monotonic::from_nanos(last)) >= SAME_TROUBLE
    }
}

/// How to close each connection; some may have ended by themselves.
#[derive(Debug, Default)]
pub struct Handles(BTreeMap<ConnectionId, AbortHandle>);

impl Handles {
    /// Keeps the handle of a connection's task. Of more than `places` those that are of no more use are dropped.
    pub fn insert(&mut self, id: ConnectionId, handle: AbortHandle, places: usize) {
        if self.0.len() >= places {
            self.0.retain(|_, handle| !handle.is_finished());
        }
        self.0.insert(id, handle);
    }

    /// Knows a connection by another name from now on.
    pub fn rename(&mut self, old: ConnectionId, new: ConnectionId) {
        let handle = self.0.remove(&old);
        self.0.extend(handle.map(|handle| (new, handle)));
    }

    /// Closes a connection at the next turn of its task.
    pub fn evict(&mut self, id: ConnectionId) -> Option<AbortHandle> {
        let handle = self.0.remove(&id)?;
        handle.abort();
        Some(handle)
    }
}

/// Waits until evicted connections are closed; a while, if there are none.
pub async fn relieved(evicted: &[AbortHandle]) {
    if evicted.is_empty() {
        return sleep(PAUSE).await;
    }
    // Ends: a task that is told to end does so at its next turn.
    while evicted.iter().any(|handle| !handle.is_finished()) {
        yield_now().await;
    }
}

/// Why an exchange gave nothing.
#[derive(Debug)]
pub enum Failure {
    /// The session says so.
    Exchange(KeError),
    /// The connection broke.
    Io(io::Error),
    /// The peer did not take what was sent.
    Stuck,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::Stuck => f.write_str("the answer was not taken in time"),
        }
    }
}

impl Failure {
    /// Whether the peer was told something that it may still have to read.
    #[must_use]
    pub const fn was_told(&self) -> bool {
        matches!(self, Self::Exchange(error) if !matches!(error, KeError::Timeout(_)))
    }
}

/// Sends all octets, within a time.
///
/// # Errors
///
/// [`Failure::Stuck`] and [`Failure::Io`].
pub async fn transmit(stream: &mut TcpStream, bytes: &[u8], within: Duration) -> Result<(), Failure> {
    // There mostly is room for all of it, and then there is nothing to wait for.
    let sent = match stream.try_write(bytes) {
        Ok(sent) => sent,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Err(Failure::Io(error)),
    };
    let Some(rest @ [_, ..]) = bytes.get(sent..) else { return Ok(()) };
    timeout(within, stream.write_all(rest)).await.map_err(|_| Failure::Stuck)?.map_err(Failure::Io)
}

/// Says that no more will come, and waits a little until the peer says so too: closing a connection with unread data
/// resets it, and the peer could lose what it was told.
pub async fn part(stream: &mut TcpStream, within: Duration) {
    let _ = timeout(LINGER.min(within), async {
        stream.shutdown().await?;
        let mut taken = 0_usize;
        let mut piece = [0; PIECE];
        while taken < MAX_LINGER_BYTES {
            match stream.read(&mut piece).await? {
                0 => break,
                length => taken = taken.saturating_add(length),
            }
        }
        Ok::<_, io::Error>(())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_once_a_spell() {
        let complaint = Complaint::default();
        let at = |seconds: u64| Monotonic::from_nanos(1_000_000_000 * seconds);
        let told: Vec<_> =
            [0, 1, 60, 119, 120, 180, 181].into_iter().filter(|seconds| complaint.is_new(at(*seconds))).collect();
        assert_eq!(told, [0, 180], "60 s of quiet end a spell");
    }

    #[test]
    fn errors_of_one_connection_are_told_from_shortages() {
        let is_of_one = |code| is_of_one_connection(&io::Error::from_raw_os_error(code));
        assert!([libc::ECONNABORTED, libc::EHOSTUNREACH, libc::EINTR].into_iter().all(is_of_one));
        let shortages = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EINVAL];
        assert!(!shortages.into_iter().any(is_of_one) && !is_of_one_connection(&io::Error::other("unknown")));
    }
}
