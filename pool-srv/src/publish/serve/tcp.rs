//! Queries by TCP (RFC 7766): few connections at a time, none of them for long, and no neighbourhood has most of them.

use core::time::Duration;
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::debug;

use super::States;
use crate::publish::{
    answer::{Responder, Transport},
    config::TcpSettings,
    counters::{Count, Counters},
    now,
    transfer::{self, Outcome},
};

/// The part of all connections that one prefix may have.
const PREFIX_PART: usize = 8;

/// How long a connection may say nothing once most places are taken.
const CROWDED_IDLE: Duration = Duration::from_secs(1);

/// How long a connection lives at most.
const MAX_LIFE: Duration = Duration::from_secs(120);

/// Connections that wait to be accepted.
const BACKLOG: i32 = 256;

/// The pause after a connection could not be accepted, such as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    responder: Mutex<(Responder, States)>,
    states: States,
    settings: TcpSettings,
    counters: Arc<Counters>,
}

impl Shared {
    pub(super) fn new(responder: Responder, states: States, settings: TcpSettings, counters: &Arc<Counters>) -> Self {
        let responder = Mutex::new((responder, states.clone()));
        Self { responder, states, settings, counters: Arc::clone(counters) }
    }

    /// The answer to a message: one, or several if a zone is handed over; none to what is no query.
    async fn respond(&self, message: &[u8], peer: IpAddr) -> Vec<Vec<u8>> {
        let moment = now::moment();
        let state = Arc::clone(&self.states.borrow());
        if let Some((outcome, messages)) = transfer::answer(&state, message, moment.unix) {
            self.counters.add(Count::Tcp);
            if outcome == Outcome::Refused {
                debug!("{peer}: its key, its time or what it asks for is none of a zone's");
            }
            self.counters.add(if outcome == Outcome::Handed { Count::Transfers } else { Count::Refused });
            return messages;
        }
        let mut out = Vec::new();
        let (responder, states) = &mut *self.responder.lock().await;
        if states.has_changed().unwrap_or(false) {
            responder.set_state(Arc::clone(&states.borrow_and_update()));
        }
        if responder.respond(message, peer, Transport::Tcp, moment, &mut out) { vec![out] } else { vec![] }
    }
}

/// The neighbourhood of an address: an IPv4 /24 or an IPv6 /56.
fn neighbourhood(address: IpAddr) -> [u8; 7] {
    let mut net = [0; 7];
    match address.to_canonical() {
        IpAddr::V4(address) => net.iter_mut().zip(address.octets()).take(3).for_each(|(net, octet)| *net = octet),
        IpAddr::V6(address) => net.iter_mut().zip(address.octets()).for_each(|(net, octet)| *net = octet),
    }
    net
}

/// A socket that takes connections; one of all IPv6 addresses leaves those of IPv4 to another.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts connections, at most so many at a time.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, most: usize) {
    let mut connections = JoinSet::new();
    let mut by_net: BTreeMap<[u8; 7], usize> = BTreeMap::new();
    loop {
        tokio::select! {
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                // A connection's task ends with its neighbourhood; none is ever cancelled.
                let Ok(net) = ended else { continue };
                if let Some(count) = by_net.get_mut(&net) {
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        by_net.remove(&net);
                    }
                }
            }
            accepted = listener.accept() => {
                let Ok((stream, peer)) = accepted else {
                    sleep(PAUSE).await;
                    continue;
                };
                let net = neighbourhood(peer.ip());
                let count = by_net.get(&net).copied().unwrap_or(0);
                if connections.len() >= most || count >= most.div_ceil(PREFIX_PART) {
                    shared.counters.add(Count::Crowded);
                    continue;
                }
                shared.counters.add(Count::Connections);
                by_net.insert(net, count.saturating_add(1));
                let idle = if connections.len() > most / 2 { CROWDED_IDLE } else { shared.settings.idle };
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    if let Ok(Err(error)) = timeout(MAX_LIFE, talk(stream, peer.ip(), &shared, idle)).await {
                        debug!("{peer}: {error}");
                    }
                    net
                });
            }
        }
    }
}

/// Answers the queries of one connection, one after the other.
async fn talk(mut stream: TcpStream, peer: IpAddr, shared: &Shared, idle: Duration) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    stream.set_nodelay(true)?;
    loop {
        let length = match timeout(idle, stream.read_u16()).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            length => length.map_err(late)??,
        };
        let mut message = vec![0; length.into()];
        timeout(idle, stream.read_exact(&mut message)).await.map_err(late)??;
        let answers = shared.respond(&message, peer).await;
        if answers.is_empty() {
            return Ok(());
        }
        for answer in answers {
            let length = u16::try_from(answer.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            let answer = [&length.to_be_bytes(), answer.as_slice()].concat();
            timeout(idle, stream.write_all(&answer)).await.map_err(late)??;
        }
    }
}
