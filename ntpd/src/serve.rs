//! The NTP server: threads that answer requests.
//!
//! Every thread has its own socket for each address and its own responder; the kernel spreads clients over the sockets
//! that share a port. What the threads have in common is either replaced as a whole ([`Settings`], [`StatusCell`]) or
//! made of atomics (the tables of the responder, the counters), so no thread ever waits for another.

use std::{
    fmt,
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::AcqRel},
        mpsc,
    },
    thread::JoinHandle,
};

use arc_swap::ArcSwap;
use ntp_proto::{
    counters::ServerCounters,
    nts::Keyring,
    server::{AccessTable, InterleaveSlot},
    wire::SymmetricKey,
};

mod bind;
mod client_log;
pub mod keys;
mod outstanding;
mod published;
mod reference;
mod settings;
mod status;
mod thread;

pub use bind::ListenError;
pub use client_log::ClientLog;
pub use published::SendCounters;
pub use settings::{Settings, SettingsError};
pub use status::StatusCell;

use crate::net::ServerSocket;
use published::Published;
use thread::Worker;

/// Most server threads.
pub const MAX_THREADS: usize = 64;

/// Most server threads unless more are asked for.
const MAX_DEFAULT_THREADS: usize = 16;

/// Slots of the rate table, 8 bytes each: as many clients are told apart.
const RATE_SLOTS: usize = 1 << 17;

/// Slots of the table for interleaved mode, 32 bytes each: as many replies are remembered.
const INTERLEAVE_SLOTS: usize = 1 << 15;

/// As many threads as there are processors for us, within reason.
#[must_use]
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_DEFAULT_THREADS)
}

/// Why the server does not start.
#[derive(Debug)]
pub enum StartError {
    /// There is no address to serve.
    NoAddress,
    /// An address cannot be served.
    Listen(ListenError),
    /// A thread cannot be started.
    Thread(io::Error),
    /// The system gives no random bytes.
    Random(getrandom::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("no address to serve NTP on"),
            Self::Listen(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "cannot start a server thread: {error}"),
            Self::Random(error) => write!(f, "no random bytes: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<ListenError> for StartError {
    fn from(error: ListenError) -> Self {
        Self::Listen(error)
    }
}

/// What all threads see.
struct Shared {
    settings: ArcSwap<Settings>,
    status: Arc<StatusCell>,
    stopping: AtomicBool,
    rate: Vec<AtomicU64>,
    rate_key: [u8; 16],
    interleave: Vec<InterleaveSlot>,
    clients: Option<Arc<ClientLog>>,
    /// One for each thread.
    published: Vec<Published>,
}

impl fmt::Debug for Shared {
    /// Without the key of the rate table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("threads", &self.published.len()).finish_non_exhaustive()
    }
}

/// A running server. It stops when dropped.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    threads: Vec<Thread>,
}

/// A server that waits to be started: its addresses are bound, and its threads are there, but answer nothing. Dropped, it
/// ends without having done anything.
#[derive(Debug)]
pub struct Ready {
    /// One for each thread. They come first, since they must be dropped before the server waits for its threads.
    gates: Vec<mpsc::Sender<()>>,
    server: Server,
}

impl Ready {
    /// Lets the threads serve.
    #[must_use]
    pub fn start(self) -> Server {
        let Self { gates, server } = self;
        for gate in gates {
            // A thread holds the other end until it has heard.
            let _ = gate.send(());
        }
        server
    }
}

#[derive(Debug)]
struct Thread {
    handle: JoinHandle<()>,
    waker: UnixStream,
}

impl Server {
    /// Starts to serve the time of `status` on all `listen` addresses, with 1 to [`MAX_THREADS`] threads.
    ///
    /// The addresses are bound before this returns, so privileges may be dropped then.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is served then.
    pub fn start(
        listen: &[SocketAddr],
        threads: usize,
        settings: Settings,
        status: Arc<StatusCell>,
    ) -> Result<Self, StartError> {
        Ok(Self::ready(&[], listen, threads, settings, status)?.start())
    }

    /// Does all of [`start`](Self::start) that can fail, while a server of this process may still serve the addresses
    /// `held`: to change addresses or threads without losing a request, start the new server beside the old one, then
    /// stop that.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing has changed then.
    pub fn ready(
        held: &[SocketAddr],
        listen: &[SocketAddr],
        threads: usize,
        settings: Settings,
        status: Arc<StatusCell>,
    ) -> Result<Ready, StartError> {
        if listen.is_empty() {
            return Err(StartError::NoAddress);
        }
        let threads = threads.clamp(1, MAX_THREADS);
        let sockets = bind::bind(listen, held, threads)?;
        let local = |socket: &ServerSocket| socket.local_addr().ok();
        let shared = Arc::new(Shared {
            clients: settings.client_log().cloned(),
            settings: ArcSwap::from_pointee(settings),
            status,
            stopping: AtomicBool::new(false),
            rate: std::iter::repeat_with(AtomicU64::default).take(RATE_SLOTS).collect(),
            rate_key: random()?,
            interleave: std::iter::repeat_with(InterleaveSlot::new).take(INTERLEAVE_SLOTS).collect(),
            published: std::iter::repeat_with(Published::default).take(threads).collect(),
        });
        let addresses = sockets.first().into_iter().flatten().filter_map(local).collect();
        let server = Self { shared, addresses, threads: Vec::with_capacity(threads) };
        // From here on a failure drops this, which ends the threads already there.
        let mut ready = Ready { gates: Vec::with_capacity(threads), server };
        for (index, sockets) in sockets.into_iter().enumerate() {
            let (gate, opened) = mpsc::channel();
            ready.gates.push(gate);
            let thread = ready.server.spawn(index, sockets, opened)?;
            ready.server.threads.push(thread);
        }
        Ok(ready)
    }

    fn spawn(
        &self,
        index: usize,
        sockets: Vec<ServerSocket>,
        opened: mpsc::Receiver<()>,
    ) -> Result<Thread, StartError> {
        let (waker, wake) = UnixStream::pair().map_err(StartError::Thread)?;
        for end in [&waker, &wake] {
            end.set_nonblocking(true).map_err(StartError::Thread)?;
        }
        let worker = Worker { index, shared: Arc::clone(&self.shared), sockets, wake, seed: random()? };
        let builder = std::thread::Builder::new().name(format!("ntp-serve-{index}"));
        let run = move || {
            // Closed instead, if the server is not to be after all.
            if opened.recv().is_ok() {
                worker.run();
            }
        };
        let handle = builder.spawn(run).map_err(StartError::Thread)?;
        Ok(Thread { handle, waker })
    }

    /// The addresses served, with the ports that the system chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.shared.settings.load_full()
    }

    /// Changes all settings at once. Every request that arrives after this returns is answered by them; no request is
    /// lost, and none is answered by a mixture of old and new.
    pub fn set(&self, settings: Settings) {
        self.shared.settings.store(Arc::new(settings));
        self.wake();
    }

    /// Changes the keys of cookies; without any, NTS is not served.
    pub fn set_keyring(&self, keyring: Option<Keyring>) {
        self.change(|settings| settings.with_keyring(keyring.clone()));
    }

    /// Changes who is answered.
    pub fn set_access(&self, access: &AccessTable) {
        self.change(|settings| settings.with_access(access.clone()));
    }

    /// Changes the symmetric keys.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] if there are too many; the old ones stay in force then.
    pub fn set_keys(&self, keys: &[SymmetricKey]) -> Result<(), SettingsError> {
        Settings::new(AccessTable::new()).with_keys(keys.to_vec())?;
        self.change(|settings| settings.clone().with_keys(keys.to_vec()).unwrap_or(settings));
        Ok(())
    }

    /// Changes a part of the settings, whoever else changes another at the same time.
    fn change(&self, change: impl Fn(Settings) -> Settings) {
        self.shared.settings.rcu(|settings| change(Settings::clone(settings)));
        self.wake();
    }

    /// What was counted since the start, by all threads together.
    #[must_use]
    pub fn counters(&self) -> ServerCounters {
        self.shared.published.iter().fold(ServerCounters::default(), |mut sum, one| {
            sum.add(&one.counters());
            sum
        })
    }

    /// What became of the replies on their way out.
    #[must_use]
    pub fn send_counters(&self) -> SendCounters {
        self.shared.published.iter().map(Published::sending).fold(SendCounters::default(), |sum, one| SendCounters {
            unsent: sum.unsent + one.unsent,
            stamped: sum.stamped + one.stamped,
        })
    }

    /// Whether all threads are at work. A thread ends before it is told to only by a fault of ours.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.threads.iter().all(|thread| !thread.handle.is_finished())
    }

    /// Stops all threads, and returns what they counted.
    pub fn stop(mut self) -> ServerCounters {
        self.join();
        self.counters()
    }

    fn join(&mut self) {
        if self.shared.stopping.swap(true, AcqRel) {
            return;
        }
        self.wake();
        for thread in self.threads.drain(..) {
            // A panic was reported by the thread itself.
            let _ = thread.handle.join();
        }
    }

    /// Makes every thread look at what has changed. A full pipe wakes as well.
    fn wake(&self) {
        for thread in &self.threads {
            let _ = (&thread.waker).write(&[1]);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.join();
    }
}

fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(StartError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
