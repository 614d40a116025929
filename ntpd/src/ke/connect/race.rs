//! Connections to several addresses of one server, each begun a little after the one before (RFC 8305).

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

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

/// Attempts under way. Those that are still under way are given up with it.
#[derive(Debug)]
pub(super) struct Race {
    waiting: VecDeque<SocketAddr>,
    running: JoinSet<(SocketAddr, io::Result<TcpStream>)>,
    /// When the next attempt begins.
    next_at: Instant,
    errors: Vec<(SocketAddr, io::Error)>,
    late: bool,
}

impl Race {
    pub(super) fn new(addresses: &[SocketAddr]) -> Self {
        let mut waiting = alternate(addresses);
        waiting.truncate(MAX_ATTEMPTS);
        Self { waiting, running: JoinSet::new(), next_at: Instant::now(), errors: Vec::new(), late: false }
    }

    /// Whether no other connection can come.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// The next connection; `None` if there is none before `end`.
    pub(super) async fn next(&mut self, end: Instant) -> Option<(SocketAddr, TcpStream)> {
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
            self.running.spawn(async move { (address, TcpStream::connect(address).await) });
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
    use super::*;

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
