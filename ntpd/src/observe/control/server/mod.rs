//! Connections.

use std::{
    collections::VecDeque,
    io,
    os::unix::net::UnixListener as StdListener,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::unistd::geteuid;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{Answer, BindError, Command, ControlError, ControlRequest, ErrorKind, Reply, socket::SocketFile};
use crate::observe::ControlCounters;

/// Most connections at a time.
pub const MAX_CONNECTIONS: usize = 16;
/// Longest request, its end not included, in bytes.
pub const MAX_REQUEST: usize = 4096;
/// Requests that may wait for the daemon's loop.
pub const QUEUE: usize = MAX_CONNECTIONS;

/// Bytes read at a time.
const CHUNK: usize = 1024;
/// Pause after a connection could not be accepted, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// How long things may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// From one answer to the end of the next request.
    idle: Duration,
    /// The daemon's loop, to answer.
    answer: Duration,
    /// The client, to take the answer.
    write: Duration,
}

const LIMITS: Limits =
    Limits { idle: Duration::from_secs(30), answer: Duration::from_secs(10), write: Duration::from_secs(10) };

/// Requests, counted.
#[derive(Debug, Default)]
pub struct ControlCounts {
    received: AtomicU64,
    refused: AtomicU64,
}

impl ControlCounts {
    /// The counts now.
    #[must_use]
    pub fn get(&self) -> ControlCounters {
        ControlCounters {
            received: self.received.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

/// The control socket. Its file is removed when this is dropped, or the future of [`run`](Self::run).
#[derive(Debug)]
pub struct ControlServer {
    listener: StdListener,
    file: SocketFile,
    counts: Arc<ControlCounts>,
    limits: Limits,
}

impl ControlServer {
    /// Starts to listen at `path`, and makes its directory if there is none. Nobody is answered before
    /// [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// [`BindError`] if the path is taken or cannot be used.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let (file, listener) = SocketFile::bind(path)?;
        Ok(Self { listener, file, counts: Arc::default(), limits: LIMITS })
    }

    /// What is counted from now on.
    #[must_use]
    pub fn counts(&self) -> Arc<ControlCounts> {
        Arc::clone(&self.counts)
    }

    /// Answers, until the future is dropped, and all its connections with it. Requests go to `requests`, a queue of
    /// [`QUEUE`].
    ///
    /// # Errors
    ///
    /// Only if the runtime has no place for the socket; otherwise this does not end.
    pub async fn run(self, requests: mpsc::Sender<ControlRequest>) -> io::Result<()> {
        let Self { listener, file: _file, counts, limits } = self;
        let listener = UnixListener::from_std(listener)?;
        let mut connections = JoinSet::new();
        let mut guests = Guests::default();
        let mut complained = false;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) if guests.make_room() => {
                    complained = false;
                    let asking = Arc::default();
                    let context = Context {
                        requests: requests.clone(),
                        counts: Arc::clone(&counts),
                        limits,
                        asking: Arc::clone(&asking),
                    };
                    guests.0.push_back(Guest { asking, task: connections.spawn(context.converse(stream)) });
                }
                Ok((stream, _)) => {
                    counts.refused.fetch_add(1, Ordering::Relaxed);
                    turn_away(&stream);
                }
                Err(error) => {
                    if !complained {
                        tracing::warn!("control socket: cannot accept a connection: {error}; ntpctl has to wait");
                    }
                    complained = true;
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// The open connections, oldest first; at most [`MAX_CONNECTIONS`].
#[derive(Default)]
struct Guests(VecDeque<Guest>);

struct Guest {
    /// The daemon's loop owes it an answer.
    asking: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Guests {
    /// Makes room for one more. If all places are taken, the oldest connection without a request under way is closed:
    /// whoever holds many, or does not read, must not keep others out.
    fn make_room(&mut self) -> bool {
        self.0.retain(|guest| !guest.task.is_finished());
        if self.0.len() < MAX_CONNECTIONS {
            return true;
        }
        let idle = self.0.iter().position(|guest| !guest.asking.load(Ordering::Relaxed));
        let Some(guest) = idle.and_then(|place| self.0.remove(place)) else { return false };
        guest.task.abort();
        true
    }
}

/// An empty socket buffer has room for one line; if it has not, the client learns it from the end of the connection.
fn turn_away(stream: &UnixStream) {
    let what = format!("too many connections; accepted: {MAX_CONNECTIONS} at a time");
    let _ = stream.try_write(&line(Err(ControlError::new(ErrorKind::Busy, what))));
}

fn line(result: Result<Reply, ControlError>) -> Vec<u8> {
    let mut line = serde_json::to_vec(&Answer::from(result)).unwrap_or_else(|error| {
        // Reports are made of strings and numbers, so this is our own fault; the client is told rather than left.
        format!(r#"{{"error":{{"kind":"failed","message":"report cannot be written: {}"}}}}"#, error.line())
            .into_bytes()
    });
    line.push(b'\n');
    line
}

/// What every connection needs.
struct Context {
    requests: mpsc::Sender<ControlRequest>,
    counts: Arc<ControlCounts>,
    limits: Limits,
    asking: Arc<AtomicBool>,
}

impl Context {
    /// Reads requests and answers them, one after the other.
    async fn converse(self, mut stream: UnixStream) {
        let uid = stream.peer_cred().ok().map(|peer| peer.uid());
        let mut lines = Lines::default();
        loop {
            let (answer, last) = match timeout(self.limits.idle, lines.next(&mut stream)).await {
                Ok(Next::Line(request)) => {
                    self.counts.received.fetch_add(1, Ordering::Relaxed);
                    self.asking.store(true, Ordering::Relaxed);
                    let answer = self.handle(&request, uid).await;
                    self.asking.store(false, Ordering::Relaxed);
                    let last = matches!(
                        &answer,
                        Err(ControlError { kind: ErrorKind::BadRequest | ErrorKind::UnknownCommand, .. })
                    );
                    (answer, last)
                }
                Ok(Next::TooLong) => {
                    let what = format!("the request is too long; accepted: {MAX_REQUEST} bytes a line");
                    (Err(ControlError::new(ErrorKind::BadRequest, what)), true)
                }
                Ok(Next::End) => return,
                Err(_) if lines.is_empty() => return,
                Err(_) => (Err(ControlError::new(ErrorKind::BadRequest, "the request did not end in time")), true),
            };
            if answer.is_err() {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
            }
            let written = timeout(self.limits.write, stream.write_all(&line(answer))).await;
            if last || !matches!(written, Ok(Ok(()))) {
                return;
            }
        }
    }

    async fn handle(&self, request: &[u8], uid: Option<u32>) -> Result<Reply, ControlError> {
        let command = Command::parse(request)?;
        let own = geteuid().as_raw();
        // A client without a user, which no kernel we know of has, is nobody.
        if !command.is_permitted(uid.unwrap_or(u32::MAX), own) {
            let what = format!("only the superuser and the daemon's own user may use \"{}\"", command.word());
            return Err(ControlError::new(ErrorKind::NotPermitted, what));
        }
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(ControlRequest { command, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ControlError::new(ErrorKind::Busy, "too many requests at a time"),
            mpsc::error::TrySendError::Closed(_) => stopping(),
        })?;
        match timeout(self.limits.answer, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(stopping()),
            Err(_) => Err(ControlError::new(ErrorKind::Failed, "the daemon did not answer in time")),
        }
    }
}

fn stopping() -> ControlError {
    ControlError::new(ErrorKind::Failed, "the daemon is stopping")
}

/// Cuts what comes in into lines.
#[derive(Debug, Default)]
struct Lines {
    /// At most a request and a chunk.
    bytes: Vec<u8>,
    ended: bool,
}

/// What came in.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// A line, without its end.
    Line(Vec<u8>),
    /// More than a line may have.
    TooLong,
    /// No more.
    End,
}

impl Lines {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next line; the last one may lack its end. Nothing is lost if this is dropped half-way.
    async fn next(&mut self, stream: &mut UnixStream) -> Next {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            let mut chunk = [0; CHUNK];
            match stream.read(&mut chunk).await {
                Ok(0) => self.ended = true,
                Ok(len) => self.bytes.extend_from_slice(chunk.get(..len).unwrap_or_default()),
                Err(_) => return Next::End,
            }
        }
    }

    /// What can be said without more bytes.
    fn take(&mut self) -> Option<Next> {
        match self.bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) if end <= MAX_REQUEST => {
                let rest = self.bytes.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.bytes, rest);
                line.pop();
                Some(Next::Line(line))
            }
            Some(_) => Some(Next::TooLong),
            None if self.bytes.len() > MAX_REQUEST => Some(Next::TooLong),
            None if !self.ended => None,
            None if self.bytes.is_empty() => Some(Next::End),
            None => Some(Next::Line(std::mem::take(&mut self.bytes))),
        }
    }
}

#[cfg(test)]
mod tests;
