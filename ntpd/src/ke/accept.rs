//! The key-exchange server: connections in, sessions of `nts_ke` on them.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use ntp_proto::{nts::Keyring, time::UnixTime};
use nts_ke::{
    cert_time::Validity,
    pressure::Pressure,
    server::{Deadlines, ServerConfig},
};
use pool_lb::acceptor::{self, Complaint, Handles, accept, is_of_one_connection, refuse, relieved};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet, unconstrained, yield_now},
};
use tracing::{debug, warn};

use super::{
    admission::{Admission, Decision, Limits, Refusal},
    pair::{Credentials, Identity, IdentityError, Look},
};
use crate::{
    now,
    serve::{ClientLog, ListenError},
};

mod session;

use session::{Place, attend};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

/// Connections that are looked at in one go.
const MAX_AT_ONCE: usize = 1024;

/// Why the server does not start.
#[derive(Debug)]
pub enum StartError {
    /// There is no address to serve.
    NoAddress,
    /// An address cannot be served.
    Listen(ListenError),
    /// Certificate or key cannot be used.
    Identity(IdentityError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("no address to serve NTS key exchange on"),
            Self::Listen(error) => error.fmt(f),
            Self::Identity(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeCounters {
    /// Connections taken.
    pub accepted: u64,
    /// Connections refused because of what their host or network has already.
    pub refused_peer: u64,
    /// Connections refused for want of places.
    pub refused_full: u64,
    /// Connections refused because their turn would have come too late.
    pub refused_busy: u64,
    /// Connections closed to make place for others.
    pub evicted: u64,
    /// Exchanges that gave a client keys and cookies.
    pub completed: u64,
    /// Requests of pools that were answered.
    pub pool_requests: u64,
    /// Exchanges that failed in the TLS handshake, or because it took too long.
    pub failed_handshake: u64,
    /// Exchanges that failed later.
    pub failed_request: u64,
    /// Times that the system refused to hand out a connection.
    pub accept_errors: u64,
}

/// What all connections see.
struct Shared {
    config: ArcSwap<ServerConfig>,
    keyring: ArcSwap<Keyring>,
    deadlines: Deadlines,
    /// No lock is held while anything is waited for.
    admission: Mutex<Admission>,
    pressure: Mutex<Pressure>,
    complaint: Complaint,
    counters: Mutex<KeCounters>,
    clients: ArcSwapOption<ClientLog>,
}

impl Shared {
    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pressure(&self) -> MutexGuard<'_, Pressure> {
        self.pressure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counters(&self) -> MutexGuard<'_, KeCounters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Addresses that are bound, and where connections wait.
#[derive(Clone, Debug)]
pub struct Listeners(Vec<Arc<TcpListener>>);

/// A running key-exchange server. It stops when dropped.
pub struct KeServer {
    shared: Arc<Shared>,
    /// Where connections are taken; the task that accepts them looks here.
    listeners: watch::Sender<Listeners>,
    /// The identity in use, and how its files looked when they were last read.
    identity: Mutex<(Identity, Look)>,
    task: Option<JoinHandle<()>>,
}

impl fmt::Debug for KeServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeServer").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where connections are taken.
    pub listen: Vec<SocketAddr>,
    /// Certificate, key and what is announced.
    pub identity: Identity,
    /// Who may have how many connections.
    pub limits: Limits,
    /// How long clients may take.
    pub deadlines: Deadlines,
}

impl KeServer {
    /// Starts to exchange keys. The addresses are bound and the files read before this returns, so privileges may be
    /// dropped then. The certificate is judged at `judged_at`; leave that out as long as the time is not known.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is served then.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with IO and time.
    pub fn start(options: Options, keyring: Keyring, judged_at: Option<UnixTime>) -> Result<Self, StartError> {
        let Options { listen, identity, limits, deadlines } = options;
        let credentials = identity.read(judged_at).map_err(StartError::Identity)?;
        let listeners = Listeners::bind(&listen, None)?;
        Ok(Self::new(listeners, credentials, limits, deadlines, keyring))
    }

    /// Starts to exchange keys; nothing of this can fail.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with IO and time.
    #[must_use]
    pub fn new(
        listeners: Listeners,
        credentials: Credentials,
        limits: Limits,
        deadlines: Deadlines,
        keyring: Keyring,
    ) -> Self {
        let Credentials { identity, look, config } = credentials;
        let shared = Arc::new(Shared {
            config: ArcSwap::from_pointee(config.with_deadlines(deadlines)),
            keyring: ArcSwap::from_pointee(keyring),
            deadlines,
            admission: Mutex::new(Admission::new(limits)),
            pressure: Mutex::default(),
            complaint: Complaint::default(),
            counters: Mutex::new(KeCounters::default()),
            clients: ArcSwapOption::empty(),
        });
        let places = limits.total;
        let crowd = Crowd { shared: Arc::clone(&shared), tasks: JoinSet::new(), handles: Handles::default(), places };
        let (listeners, places_to_look) = watch::channel(listeners);
        let task = Some(tokio::spawn(crowd.accept_until_retired(places_to_look)));
        Self { shared, listeners, identity: Mutex::new((identity, look)), task }
    }

    /// The addresses served, with the ports that the system chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.borrow().0.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Where connections are taken now, for [`Listeners::bind`].
    #[must_use]
    pub fn listeners(&self) -> Listeners {
        self.listeners.borrow().clone()
    }

    /// Takes connections there from now on, and nowhere else. Sessions that go on are not disturbed.
    pub fn listen_at(&self, listeners: Listeners) {
        self.listeners.send_replace(listeners);
    }

    /// Takes no more connections. Sessions that go on come to their end, within their deadlines.
    pub fn retire(mut self) {
        // The task ends by itself once nobody can tell it of other addresses any more.
        self.task = None;
    }

    /// Makes cookies with these keys from now on. The NTP server must know them already.
    pub fn set_keyring(&self, keyring: Keyring) {
        self.shared.keyring.store(Arc::new(keyring));
    }

    /// Shows this identity to new clients; exchanges that go on are not disturbed.
    ///
    /// # Errors
    ///
    /// [`IdentityError`]; the old identity stays in use then.
    pub fn reload(&self, identity: Identity, judged_at: Option<UnixTime>) -> Result<Validity, IdentityError> {
        self.identity().1 = identity.look();
        let credentials = identity.read(judged_at)?;
        let validity = credentials.config.validity();
        self.set_credentials(credentials);
        Ok(validity)
    }

    /// As [`reload`](Self::reload), with what was read before.
    pub fn set_credentials(&self, credentials: Credentials) {
        let Credentials { identity, look, config } = credentials;
        let mut current = self.identity();
        *current = (identity, look);
        self.shared.config.store(Arc::new(config.with_deadlines(self.shared.deadlines)));
    }

    /// Sets other limits. Connections that are open stay.
    pub fn set_limits(&self, limits: Limits) {
        self.shared.admission().set_limits(limits);
    }

    /// Takes note of who asks, or no more.
    pub fn set_client_log(&self, clients: Option<Arc<ClientLog>>) {
        self.shared.clients.store(clients);
    }

    fn identity(&self) -> MutexGuard<'_, (Identity, Look)> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the files again if they look changed. To be called now and then; each change is tried once, so that files
    /// replaced one after the other are complained of once.
    pub fn reload_if_changed(&self, judged_at: Option<UnixTime>) -> Option<Result<Validity, IdentityError>> {
        let (identity, look) = self.identity().clone();
        (identity.look() != look).then(|| self.reload(identity, judged_at))
    }

    /// When the certificate in use is valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.shared.config.load().validity()
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counters(&self) -> KeCounters {
        *self.shared.counters()
    }

    /// How many connections are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.admission().open()
    }

    /// Closes all connections, and returns what was counted.
    pub async fn stop(mut self) -> KeCounters {
        if let Some(task) = self.task.take() {
            task.abort();
            // It ends by being told to.
            let _ = task.await;
        }
        self.counters()
    }
}

impl Drop for KeServer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Listeners {
    /// Binds all addresses; those of `held` are taken over, so that no connection is refused in between.
    ///
    /// # Errors
    ///
    /// [`StartError`] names the address; nothing has changed then.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with IO.
    pub fn bind(addresses: &[SocketAddr], held: Option<&Self>) -> Result<Self, StartError> {
        if addresses.is_empty() {
            return Err(StartError::NoAddress);
        }
        let bound = addresses.iter().map(|&address| {
            let held = || held.into_iter().flat_map(|held| &held.0);
            let same = held().find(|listener| listener.local_addr().is_ok_and(|held| held == address));
            let bind = || acceptor::bind(address, BACKLOG, false).and_then(TcpListener::from_std).map(Arc::new);
            let bound = same.map_or_else(bind, |listener| Ok(Arc::clone(listener)));
            let own = held().filter_map(|listener| listener.local_addr().ok());
            bound.map_err(|cause| StartError::Listen(ListenError::new("NTS key exchange", address, cause, own)))
        });
        bound.collect::<Result<_, _>>().map(Self)
    }
}

/// All connections. Dropping it closes them.
struct Crowd {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    handles: Handles,
    /// Most handles worth keeping.
    places: usize,
}

impl Crowd {
    /// Takes connections where it is told to. No error ends this.
    async fn accept_until_retired(mut self, mut told: watch::Receiver<Listeners>) {
        let (mut turn, mut at_once) = (0, 0);
        loop {
            // All that have come are looked at in one go: those that wait in the kernel cannot be told that they are too many.
            at_once = if at_once == MAX_AT_ONCE { 0 } else { at_once + 1 };
            if at_once == 0 {
                yield_now().await;
            }
            let listeners = told.borrow_and_update().clone().0;
            let accepted = tokio::select! {
                accepted = unconstrained(accept(&listeners, &mut turn)) => accepted,
                changed = told.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => break,
                },
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer.ip()),
                Err(error) => {
                    self.shared.counters().accept_errors += 1;
                    if is_of_one_connection(&error) {
                        continue;
                    }
                    if self.shared.complaint.is_new(now::monotonic()) {
                        warn!(
                            "NTS key exchange: cannot accept connections: {error}; those that have come least far are \
                             closed for others"
                        );
                    }
                    self.relieve().await;
                }
            }
        }
        drop(told);
        // Ends: sessions have deadlines.
        while self.tasks.join_next().await.is_some() {}
    }

    /// Makes room when the system has run out of something.
    async fn relieve(&mut self) {
        let ids = self.shared.admission().handle_shortage(now::monotonic());
        let evicted: Vec<_> = ids.into_iter().filter_map(|id| self.handles.evict(id)).collect();
        self.shared.counters().evicted += u64::try_from(evicted.len()).unwrap_or_default();
        relieved(&evicted).await;
    }

    fn note(&self, peer: IpAddr, is_answered: bool) {
        if let Some(clients) = &*self.shared.clients.load() {
            clients.note_key_exchange(peer, is_answered);
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: IpAddr) {
        while self.tasks.try_join_next().is_some() {}
        if self.shared.pressure().is_too_high() {
            self.shared.counters().refused_busy += 1;
            self.note(peer, false);
            return refuse(stream);
        }
        let decision = self.shared.admission().handle_connection(now::monotonic(), peer);
        let id = match decision {
            Decision::Admit(id) => id,
            Decision::Replace { admitted, evicted } => {
                self.shared.counters().evicted += 1;
                self.handles.evict(evicted);
                admitted
            }
            Decision::Refuse(refusal) => {
                self.note(peer, false);
                debug!("NTS key exchange with {peer} refused: {refusal:?}");
                let mut counters = self.shared.counters();
                match refusal {
                    Refusal::Host | Refusal::Rate | Refusal::Network => counters.refused_peer += 1,
                    Refusal::Full => counters.refused_full += 1,
                }
                return refuse(stream);
            }
        };
        self.shared.counters().accepted += 1;
        self.note(peer, true);
        let waiting = Some(self.shared.pressure().handle_admitted(now::monotonic()));
        let place = Place { shared: Arc::clone(&self.shared), id, waiting };
        let handle = self.tasks.spawn(attend(place, stream, peer));
        self.handles.insert(id, handle, self.places);
    }
}

#[cfg(test)]
mod pool_tests;
#[cfg(test)]
mod tests;
