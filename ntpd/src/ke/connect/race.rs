//! Connections to several addresses of one server, each begun a little after the one before (RFC 8305).

use std::{collections::VecDeque, fmt, io, net::SocketAddr, pin::Pin, time::Duration};

use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::Cause;

/// How long one attempt is alone (RFC 8305 section 5, "Connection Attempt Delay").
const HEAD_START: Duration = Duration::from_millis(250);

/// How long a session is alone once there is a connection: longer, because each handshake costs the server something.
const SESSION_HEAD_START: Duration = Duration::from_millis(500);

/// Most addresses that are tried.
const MAX_ATTEMPTS: usize = 8;

/// An attempt to connect.
type Attempt<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// Attempts under way. Those that are still under way are given up with it.
pub(super) struct Race<T = TcpStream> {
    waiting: VecDeque<SocketAddr>,
    connect: Box<dyn Fn(SocketAddr) -> Attempt<T> + Send + Sync>,
    running: JoinSet<(SocketAddr, io::Result<T>)>,
    /// When the next attempt begins.
    next_at: Instant,
    errors: Vec<(SocketAddr, io::Error)>,
    late: bool,
}

impl<T> fmt::Debug for Race<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Race").field("waiting", &self.waiting).field("errors", &self.errors).finish_non_exhaustive()
    }
}

impl Race {
    pub(super) fn new(addresses: &[SocketAddr]) -> Self {
        Self::by(addresses, |address| Box::pin(TcpStream::connect(address)))
    }
}

impl<T: Send + 'static> Race<T> {
    /// Connects in this way.
    fn by(addresses: &[SocketAddr], connect: impl Fn(SocketAddr) -> Attempt<T> + Send + Sync + 'static) -> Self {
        let mut waiting = alternate(addresses);
        waiting.truncate(MAX_ATTEMPTS);
        Self {
            waiting,
            connect: Box::new(connect),
            running: JoinSet::new(),
            next_at: Instant::now(),
            errors: Vec::new(),
            late: false,
        }
    }

    /// Whether no other connection can come.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// The next connection; `None` if there is none before `end`.
    pub(super) async fn next(&mut self, end: Instant) -> Option<(SocketAddr, T)> {
        // Ends: every turn begins an attempt, or takes the outcome of one, or is the last.
        while !self.is_over() {
            tokio::select! {
                biased;
                () = sleep_until(end) => {
                    self.late = true;
                    return None;
                }
                Some(Ok((address, outcome))) = self.running.join_next() => match outcome {
                    Ok(stream) => {
                        self.next_at = Instant::now() + SESSION_HEAD_START;
                        return Some((address, stream));
                    }
                    Err(error) => {
                        self.errors.push((address, error));
                        self.next_at = Instant::now();
                    }
                },
                () = sleep_until(self.next_at), if !self.waiting.is_empty() => self.begin(),
            }
        }
        None
    }

    /// Lets the next attempt begin now.
    pub(super) fn hurry(&mut self) {
        self.next_at = Instant::now();
    }

    fn begin(&mut self) {
        if let Some(address) = self.waiting.pop_front() {
            let attempt = (self.connect)(address);
            self.running.spawn(async move { (address, attempt.await) });
            self.next_at = Instant::now() + HEAD_START;
        }
    }

    /// Why there was no connection at all.
    pub(super) fn into_cause(self, deadline: Duration) -> Cause {
        if self.late { Cause::NoConnection(deadline) } else { Cause::Unreachable(self.errors) }
    }
}

/// Both address families in turn, the first one's first: if one of them leads nowhere, little time is lost.
fn alternate(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        addresses.iter().partition(|address| address.is_ipv6() == is_v6);
    let mut all = VecDeque::new();
    while let Some(address) = first.pop_front() {
        all.push_back(address);
        all.extend(second.pop_front());
    }
    all.extend(second);
    all
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::{Arc, Mutex},
    };

    use super::*;

    /// When attempts began, in milliseconds, when there was a connection, and with which address. Of those before the last,
    /// dead ones never answer, and the others refuse.
    fn run(dead: &[bool]) -> (Vec<u128>, u128, usize) {
        let place = |n: usize| SocketAddr::from(([192, 0, 2, 1], n as u16));
        let addresses: Vec<_> = (0..=dead.len()).map(place).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let start = Instant::now();
            let begun: Arc<Mutex<Vec<u128>>> = Arc::default();
            let (noted, dead) = (Arc::clone(&begun), dead.to_vec());
            let mut race = Race::by(&addresses, move |address| {
                noted.lock().unwrap().push(start.elapsed().as_millis());
                match dead.get(usize::from(address.port())) {
                    Some(true) => Box::pin(pending()),
                    Some(false) => Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) }),
                    None => Box::pin(async { Ok(()) }),
                }
            });
            let (address, ()) = race.next(start + Duration::from_secs(8)).await.unwrap();
            let began = begun.lock().unwrap().clone();
            (began, start.elapsed().as_millis(), address.port().into())
        })
    }

    #[test]
    fn attempts_are_staggered_however_many_addresses_are_dead() {
        let (began, connected, address) = run(&[true; 3]);
        assert!(began.windows(2).all(|pair| pair[1] - pair[0] <= 251), "{began:?}");
        // Nobody is begun with before its turn, each of which would cost a server a handshake.
        assert!(began.windows(2).all(|pair| pair[1] - pair[0] >= 250), "{began:?}");
        assert!(connected < 1_000 && address == 3, "{connected} ms");
        // One that refuses gives its turn to the next.
        let (began, connected, _) = run(&[false, true, false]);
        assert_eq!(began.len(), 4);
        assert!(connected <= 251, "{began:?}");
        let (began, connected, address) = run(&[true; 7]);
        assert!(began.len() == 8 && connected < 2_000 && address == 7, "{began:?}");
    }

    #[test]
    fn families_take_turns() {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let addresses = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]);
        assert_eq!(alternate(&addresses), parse(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]));
        let addresses = parse(&["1.1.1.1:1", "[::1]:1", "[::2]:1"]);
        assert_eq!(alternate(&addresses), parse(&["1.1.1.1:1", "[::1]:1", "[::2]:1"]));
        assert_eq!(alternate(&[]), parse(&[]));
    }
}
