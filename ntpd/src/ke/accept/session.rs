//! One connection of the key-exchange server.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use chacha20::{ChaCha20Rng, rand_core::SeedableRng as _};
use ntp_proto::time::Monotonic;
use nts_ke::{
    error::KeError,
    pressure::Waiting,
    server::{Output, Served, ServerSession, Stage},
};
use pool_lb::acceptor::{Failure, PIECE, part, transmit};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};
use tracing::debug;

use super::{KeCounters, Shared};
use crate::{ke::admission::ConnectionId, now};

/// How often a connection that is kept for a pool looks whether what it began with still holds.
const LOOK: Duration = Duration::from_secs(1);

/// The place of one connection; given back however its task ends.
pub(super) struct Place {
    pub(super) shared: Arc<Shared>,
    pub(super) id: ConnectionId,
    /// Until its first turn.
    pub(super) waiting: Option<Waiting>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.waiting.is_some() {
            self.shared.pressure().handle_gone();
        }
        self.shared.admission().handle_closed(self.id);
    }
}

/// Carries out one exchange and counts it.
pub(super) async fn attend(mut place: Place, mut stream: TcpStream, peer: IpAddr) {
    let began = now::monotonic();
    if let Some(waiting) = place.waiting.take() {
        place.shared.pressure().handle_turn(began, &waiting);
    }
    let mut stage = Stage::Hello;
    let outcome = converse(&place, &mut stream, &mut stage).await;
    {
        let mut counters = place.shared.counters();
        match &outcome {
            Ok(served) => {
                count(&mut counters, *served);
                debug!("NTS key exchange with {peer}: {served:?}");
            }
            // A pool that closes a connection kept for it has all it wanted.
            Err(Failure::Exchange(KeError::Eof(_) | KeError::Timeout(_))) if stage == Stage::Kept => {}
            Err(failure) => {
                let late = matches!(
                    failure,
                    Failure::Exchange(KeError::Protocol(_) | KeError::NoOverlap(_) | KeError::Refused(_))
                );
                if late || stage >= Stage::Request {
                    counters.failed_request += 1;
                } else {
                    counters.failed_handshake += 1;
                }
                debug!("NTS key exchange with {peer} failed: {failure}");
            }
        }
    }
    if outcome.as_ref().err().is_none_or(Failure::was_told) {
        // A connection kept for a pool may have begun long ago; its last answer is as new as any.
        let total = place.shared.deadlines.total;
        let close_by = if stage == Stage::Kept { now::monotonic() + total } else { began + total };
        part(&mut stream, until(close_by)).await;
    }
    drop(place);
}

/// Drives a session. Says in `stage` how far it came before it was over.
async fn converse(place: &Place, stream: &mut TcpStream, stage: &mut Stage) -> Result<Served, Failure> {
    let Place { shared, id, .. } = place;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| Failure::Io(io::Error::other(error)))?;
    let mut rng = ChaCha20Rng::from_seed(seed);
    let mut config = shared.config.load_full();
    let session = ServerSession::new(Arc::clone(&config), now::monotonic());
    let mut session = session.map_err(|fault| Failure::Exchange(KeError::Tls(fault)))?;
    let mut piece = [0; PIECE];
    loop {
        let deadline = match session.poll_output() {
            Output::Transmit(bytes) => {
                transmit(stream, &bytes, until(session.final_deadline())).await?;
                continue;
            }
            Output::Kept(served) => {
                count(&mut shared.counters(), served);
                continue;
            }
            Output::Done(served) => return Ok(served),
            Output::Failed(error) => return Err(Failure::Exchange(error)),
            Output::Timeout(deadline, _) => deadline.unwrap_or_else(|| session.final_deadline()),
        };
        if session.stage() != *stage {
            *stage = session.stage();
            shared.admission().handle_progress(*id, *stage);
        }
        let kept = *stage == Stage::Kept;
        let wait = if kept { until(deadline).min(LOOK) } else { until(deadline) };
        let received = timeout(wait, stream.read(&mut piece)).await;
        // What a pool is served must not outlive the token, the certificate and the settings that it was admitted under.
        if kept && !Arc::ptr_eq(&config, &shared.config.load()) {
            if !matches!(received, Ok(Ok(1..))) {
                session.handle_eof(now::monotonic());
                continue;
            }
            config = shared.config.load_full();
            session.handle_config(Arc::clone(&config));
        }
        match received {
            Err(_) => session.handle_timeout(now::monotonic()),
            Ok(Ok(0)) => session.handle_eof(now::monotonic()),
            Ok(Ok(length)) => {
                let bytes = piece.get(..length).unwrap_or_default();
                session.handle_input(now::monotonic(), bytes, &shared.keyring.load(), &mut rng);
            }
            Ok(Err(error)) => return Err(Failure::Io(error)),
        }
    }
}

const fn count(counters: &mut KeCounters, served: Served) {
    match served {
        Served::Client(_) => counters.completed += 1,
        Served::Support | Served::FixedKeys(_) => counters.pool_requests += 1,
    }
}

fn until(deadline: Monotonic) -> Duration {
    deadline.since(now::monotonic())
}
