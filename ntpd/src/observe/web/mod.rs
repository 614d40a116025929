//! Metrics, reports and a page over HTTP, for programs and people that only look.
//!
//! Nothing can be changed here, and no secret is shown. Whoever may connect may look, so the addresses are those that the
//! administrator names. A request costs a bounded amount of memory and time, whatever is sent.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{history::History, report::StatusReport};
use crate::serve::ListenError;

mod answer;
#[cfg(test)]
mod tests;

/// Most connections at a time, of all addresses; others wait.
pub const MAX_CONNECTIONS: usize = 16;
/// Requests that may wait for the daemon's loop.
pub const QUEUE: usize = MAX_CONNECTIONS;

/// Longest head of a request, in bytes: the least that the library takes for a limit.
const MAX_HEAD: usize = 8_192;
/// Most header fields of a request.
const MAX_FIELDS: usize = 64;
/// How long a connection may take to send its request.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// How long a connection may last.
const PATIENCE: Duration = Duration::from_secs(15);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// The pause after a connection could not be accepted, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// The state of the daemon at one moment.
#[derive(Clone, Debug)]
pub struct Observed {
    /// All reports, of the last second.
    pub status: Arc<StatusReport>,
    /// What the clock did over the last day, where that was asked for.
    pub history: Option<History>,
    /// By which the points of that have an age.
    pub now: ntp_proto::time::Monotonic,
}

/// A request on its way to the daemon's loop.
#[derive(Debug)]
pub struct WebRequest {
    /// Whether the history is to be shown.
    pub with_history: bool,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Observed>,
}

/// Listens at some addresses, until it is dropped; what was asked before is answered still.
#[derive(Debug)]
pub struct Web {
    places: Arc<Semaphore>,
    requests: mpsc::Sender<WebRequest>,
    listeners: BTreeMap<SocketAddr, Listening>,
}

/// Addresses that are bound, and not yet listened at.
#[derive(Debug, Default)]
pub struct Prepared(Vec<(SocketAddr, StdListener)>);

#[derive(Debug)]
struct Listening(JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Web {
    /// Listens nowhere yet. Requests go to the receiver, a queue of [`QUEUE`].
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<WebRequest>) {
        let (requests, receiver) = mpsc::channel(QUEUE);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        (Self { places, requests, listeners: BTreeMap::new() }, receiver)
    }

    /// Takes those addresses of `wanted` that are new.
    ///
    /// # Errors
    ///
    /// [`ListenError`] for the first that cannot be had; then nothing has changed.
    pub fn prepare(&self, wanted: &[SocketAddr]) -> Result<Prepared, ListenError> {
        let held = || self.listeners.keys().copied();
        let new = wanted.iter().filter(|address| !self.listeners.contains_key(address));
        new.map(|&address| match bind(address) {
            Ok(listener) => Ok((address, listener)),
            Err(cause) => Err(ListenError::new("metrics and the status page", address, cause, held())),
        })
        .collect::<Result<_, _>>()
        .map(Prepared)
    }

    /// Listens at `wanted` from now on, and nowhere else; those that stay are not disturbed. Must be called within the runtime.
    pub fn commit(&mut self, wanted: &[SocketAddr], Prepared(new): Prepared) {
        self.listeners.retain(|address, _| wanted.contains(address));
        for (address, listener) in new {
            let (places, requests) = (Arc::clone(&self.places), self.requests.clone());
            let task = tokio::spawn(async move {
                if let Err(error) = accept(listener, places, requests).await {
                    tracing::warn!("metrics and the status page are not served at {address}: {error}");
                }
            });
            self.listeners.insert(address, Listening(task));
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of a daemon that has just ended do not keep this one out.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

async fn accept(listener: StdListener, places: Arc<Semaphore>, requests: mpsc::Sender<WebRequest>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut complained = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                complained = false;
                // Only who is there takes a place, not an address where nobody asks. It is closed by nobody.
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
                let requests = requests.clone();
                tokio::spawn(async move {
                    // Whoever asks does so again.
                    drop(timeout(PATIENCE, converse(stream, requests)).await);
                    drop(place);
                });
            }
            Err(error) => {
                if !complained {
                    tracing::warn!("metrics: cannot accept a connection: {error}; those who ask will have to wait");
                }
                complained = true;
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one request.
async fn converse(stream: TcpStream, requests: mpsc::Sender<WebRequest>) -> hyper::Result<()> {
    let is_local = stream.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
    let service = service_fn(|request| answer::answer(request, is_local, &requests));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_FIELDS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}
