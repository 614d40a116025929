//! A worker: a thread that takes connections of users and serves them.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use chacha20::{ChaCha20Rng, rand_core::SeedableRng as _};
use ntp_proto::pool::Name;
use nts_ke::{
    admission::{Admission, ConnectionId, Decision, Refusal},
    pressure::{Pressure, Waiting},
    server::{Deadlines, Stage},
};
use pool_srv::directory::Wish;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinSet, unconstrained, yield_now},
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{debug, warn};

use super::{Shared, assign::Assignments, metrics::Counter, now, pace::LastResort, proxy, upstream::Link, user};
use crate::acceptor::{Handles, accept, is_of_one_connection, refuse, relieved};

/// Connections that the kernel keeps until they are accepted.
pub(super) const BACKLOG: i32 = 4096;

/// Connections that are looked at in one go. All that have come should be: those that wait in the kernel while others are
/// served cannot be told that they are too many.
const MAX_AT_ONCE: usize = 1024;

/// How often connections to members are looked after.
const TENDING: Duration = Duration::from_secs(1);

/// How long a proxy may take for its header.
const PROXY_DEADLINE: Duration = Duration::from_secs(1);

/// Members to which connections are made before the first user comes.
const MAX_WARMED: usize = 32;

/// What one worker has.
pub(super) struct Worker {
    pub(super) shared: Rc<Shared>,
    links: RefCell<BTreeMap<Name, Rc<Link>>>,
    admission: RefCell<Admission>,
    pressure: RefCell<Pressure>,
    handles: RefCell<Handles>,
    random: RefCell<ChaCha20Rng>,
    last_resort: Cell<LastResort>,
}

impl Worker {
    pub(super) fn new(shared: Shared) -> io::Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        let admission = RefCell::new(Admission::new(shared.config.limits));
        let random = RefCell::new(ChaCha20Rng::from_seed(seed));
        let (links, handles, pressure) = (RefCell::default(), RefCell::default(), RefCell::default());
        Ok(Self { shared: Rc::new(shared), links, admission, pressure, handles, random, last_resort: Cell::default() })
    }

    pub(super) fn deadlines(&self) -> Deadlines {
        Deadlines::default()
    }

    pub(super) fn draw(&self, assignments: &Assignments, wish: &Wish<'_>) -> Option<usize> {
        assignments.roster.draw(wish, 1, &mut *self.random.borrow_mut()).first().copied()
    }

    /// The connections to the member at this place. If it is to be reached otherwise than before, those of the old one are
    /// closed as they fall idle.
    pub(super) fn link(&self, assignments: &Assignments, place: usize) -> Option<Rc<Link>> {
        let member = assignments.roster.directory().members().get(place)?;
        let mut links = self.links.borrow_mut();
        if let Some(link) = links.get(&member.name).filter(|link| link.leads_to(member)) {
            return Some(Rc::clone(link));
        }
        let dials = self.shared.dials.of(&member.name);
        let link = Rc::new(Link::new(member.clone(), self.shared.config.workers, dials));
        links.insert(member.name.clone(), Rc::clone(&link));
        Some(link)
    }

    /// Members that it has something to do with.
    #[cfg(test)]
    pub(super) fn link_count(&self) -> usize {
        self.links.borrow().len()
    }

    /// Whether a member may be tried now although its breaker is open.
    pub(super) fn has_last_resort(&self) -> bool {
        let mut resort = self.last_resort.get();
        let taken = resort.take(now::monotonic());
        self.last_resort.set(resort);
        taken
    }

    pub(super) async fn tend_forever(self: Rc<Self>) {
        let assignments = self.shared.assignments.load_full();
        for place in 0..assignments.roster.directory().members().len().min(MAX_WARMED) {
            if let Some(link) = self.link(&assignments, place) {
                tokio::task::spawn_local(link.warm(Rc::clone(&self.shared)));
            }
        }
        drop(assignments);
        let mut ticks = interval(TENDING);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let assignments = self.shared.assignments.load_full();
            let directory = assignments.roster.directory();
            if self.links.borrow().len() > directory.members().len() {
                let names: std::collections::BTreeSet<_> =
                    directory.members().iter().map(|member| &member.name).collect();
                self.links.borrow_mut().retain(|name, _| names.contains(name));
            }
            for link in self.links.borrow().values() {
                link.tend(&self.shared);
            }
        }
    }

    /// Gives a connection a place, maybe that of another one, or none.
    fn decide(&self, peer: IpAddr) -> Option<ConnectionId> {
        let metrics = &self.shared.metrics;
        let decision = self.admission.borrow_mut().handle_connection(now::monotonic(), peer);
        match decision {
            Decision::Admit(id) => Some(id),
            Decision::Replace { admitted, evicted } => {
                metrics.count(Counter::Evicted);
                self.handles.borrow_mut().evict(evicted);
                Some(admitted)
            }
            Decision::Refuse(refusal) => {
                debug!("{peer} refused: {refusal:?}");
                metrics.count(match refusal {
                    Refusal::Host | Refusal::Rate | Refusal::Network => Counter::RefusedPeer,
                    Refusal::Full => Counter::RefusedFull,
                });
                None
            }
        }
    }

    /// Makes room when the system has run out of something.
    async fn relieve(&self) {
        let ids = self.admission.borrow_mut().handle_shortage(now::monotonic());
        let evicted: Vec<_> = ids.into_iter().filter_map(|id| self.handles.borrow_mut().evict(id)).collect();
        for _ in &evicted {
            self.shared.metrics.count(Counter::Evicted);
        }
        if evicted.is_empty() {
            // Connections kept for later are worth less than users now.
            self.release();
        }
        relieved(&evicted).await;
    }

    fn release(&self) {
        for link in self.links.borrow().values() {
            link.release();
        }
    }
}

/// Serves users until told to stop, and those that are there then to their end.
pub(super) async fn work(
    shared: Shared,
    listeners: Vec<std::net::TcpListener>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let worker = Rc::new(Worker::new(shared)?);
    let listeners = listeners.into_iter().map(TcpListener::from_std).collect::<io::Result<Vec<_>>>()?;
    let tending = tokio::task::spawn_local(Rc::clone(&worker).tend_forever());
    let mut crowd = Crowd { worker, tasks: JoinSet::new() };
    tokio::select! {
        () = crowd.accept_forever(&listeners) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    // What the kernel has accepted for us already is served too.
    let mut turn = 0;
    while let Ok(Ok((stream, peer))) = timeout(Duration::ZERO, accept(&listeners, &mut turn)).await {
        crowd.admit(stream, peer);
    }
    drop(listeners);
    let patience = crowd.worker.deadlines().total;
    let _ = timeout(patience, async { while crowd.tasks.join_next().await.is_some() {} }).await;
    tending.abort();
    Ok(())
}

/// All users of a worker. Dropping it closes their connections.
struct Crowd {
    worker: Rc<Worker>,
    tasks: JoinSet<()>,
}

/// The place of one connection; given back however its task ends.
struct Place {
    worker: Rc<Worker>,
    id: ConnectionId,
    /// Until its first turn.
    waiting: Option<Waiting>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.waiting.is_some() {
            self.worker.pressure.borrow_mut().handle_gone();
        }
        self.worker.admission.borrow_mut().handle_closed(self.id);
    }
}

impl Crowd {
    /// No error ends this loop.
    async fn accept_forever(&mut self, listeners: &[TcpListener]) {
        let (mut turn, mut at_once) = (0, 0);
        loop {
            at_once = if at_once == MAX_AT_ONCE { 0 } else { at_once + 1 };
            if at_once == 0 {
                yield_now().await;
            }
            match unconstrained(accept(listeners, &mut turn)).await {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) => {
                    self.worker.shared.metrics.count(Counter::AcceptErrors);
                    if is_of_one_connection(&error) {
                        continue;
                    }
                    if self.worker.shared.complaint.is_new(now::monotonic()) {
                        warn!(
                            "cannot accept connections: {error}; those that have come least far are closed for others"
                        );
                    }
                    self.worker.relieve().await;
                }
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        while self.tasks.try_join_next().is_some() {}
        if self.worker.pressure.borrow().is_too_high() {
            self.worker.shared.metrics.count(Counter::RefusedBusy);
            return refuse(stream);
        }
        let peer = peer.ip().to_canonical();
        // The user's own address counts, which a proxy has yet to tell; the proxy's limit is the number of places.
        let proxied = self.worker.shared.config.proxies.iter().any(|net| net.contains(&peer));
        let asking = if proxied { IpAddr::from([127, 0, 0, 1]) } else { peer };
        let Some(id) = self.worker.decide(asking) else { return refuse(stream) };
        self.worker.shared.metrics.count(Counter::Accepted);
        let waiting = Some(self.worker.pressure.borrow_mut().handle_admitted(now::monotonic()));
        let place = Place { worker: Rc::clone(&self.worker), id, waiting };
        let handle = self.tasks.spawn_local(attend(place, stream, peer, proxied));
        self.worker.handles.borrow_mut().insert(id, handle, self.worker.shared.config.limits.total);
    }
}

async fn attend(mut place: Place, mut stream: TcpStream, peer: IpAddr, proxied: bool) {
    if let Some(waiting) = place.waiting.take() {
        place.worker.pressure.borrow_mut().handle_turn(now::monotonic(), &waiting);
    }
    let (mut user, mut first) = (peer, Vec::new());
    if proxied {
        match timeout(PROXY_DEADLINE, read_header(&mut stream)).await {
            Ok(Ok((told, rest))) => {
                first = rest;
                if let Some(told) = told {
                    user = told;
                    if !readmit(&mut place, told) {
                        return refuse(stream);
                    }
                }
            }
            Ok(Err(error)) => {
                debug!("proxy {peer}: {error}");
                return place.worker.shared.metrics.count(Counter::BadProxies);
            }
            Err(_) => return place.worker.shared.metrics.count(Counter::BadProxies),
        }
    }
    let progress = |stage: Stage| place.worker.admission.borrow_mut().handle_progress(place.id, stage);
    user::attend(&place.worker, &mut stream, &first, user, &progress).await;
}

/// Counts a proxied connection as its user's.
fn readmit(place: &mut Place, user: IpAddr) -> bool {
    let worker = &place.worker;
    worker.admission.borrow_mut().handle_closed(place.id);
    let Some(id) = worker.decide(user) else { return false };
    worker.handles.borrow_mut().rename(place.id, id);
    place.id = id;
    true
}

/// Reads the header of a proxy; returns the user, and what follows.
async fn read_header(stream: &mut TcpStream) -> io::Result<(Option<IpAddr>, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 512];
    // Ends: a header is bounded, and every round adds to it.
    loop {
        match stream.read(&mut piece).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => bytes.extend(piece.iter().take(length)),
        }
        if let Some(header) = proxy::parse(&bytes).map_err(io::Error::other)? {
            let rest = bytes.split_off(header.length.min(bytes.len()));
            return Ok((header.user.map(|user| user.ip().to_canonical()), rest));
        }
    }
}
