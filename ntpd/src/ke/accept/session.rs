//! One connection of the key-exchange server.

use std::{fmt, io, net::IpAddr, sync::Arc, time::Duration};

use chacha20::{ChaCha20Rng, rand_core::SeedableRng as _};
use ntp_proto::time::Monotonic;
use nts_ke::{
    error::KeError,
    server::{Output, Served, ServerSession, Stage},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tracing::debug;

use super::{KeCounters, Shared};
use crate::{ke::admission::ConnectionId, now};

/// Bytes read at a time.
const PIECE: usize = 4096;

/// How long a client may take to close after its answer, so that the answer is not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes that are thrown away meanwhile.
const MAX_LINGER_BYTES: usize = 16 * PIECE;

/// The place of one connection; given back however its task ends.
pub(super) struct Place {
    pub(super) shared: Arc<Shared>,
    pub(super) id: ConnectionId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.admission().handle_closed(self.id);
    }
}

/// Why an exchange gave nothing.
#[derive(Debug)]
enum Failure {
    Exchange(KeError),
    Io(io::Error),
    /// The client did not take what was sent.
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

/// Carries out one exchange and counts it.
pub(super) async fn attend(place: Place, mut stream: TcpStream, peer: IpAddr) {
    let close_by = now::monotonic() + place.shared.deadlines.total;
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
    let told = match outcome {
        Ok(_) => true,
        Err(Failure::Exchange(error)) => !matches!(error, KeError::Timeout(_)),
        Err(Failure::Io(_) | Failure::Stuck) => false,
    };
    if told {
        // Closing a connection with unread data resets it, and the client could lose what it was told.
        let _ = timeout(LINGER.min(until(close_by)), part(&mut stream)).await;
    }
    drop(place);
}

/// Drives a session. Says in `stage` how far it came before it was over.
async fn converse(place: &Place, stream: &mut TcpStream, stage: &mut Stage) -> Result<Served, Failure> {
    let Place { shared, id } = place;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| Failure::Io(io::Error::other(error)))?;
    let mut rng = ChaCha20Rng::from_seed(seed);
    let session = ServerSession::new(shared.config.load_full(), now::monotonic());
    let mut session = session.map_err(|fault| Failure::Exchange(KeError::Tls(fault)))?;
    let mut piece = [0; PIECE];
    loop {
        let deadline = match session.poll_output() {
            Output::Transmit(bytes) => {
                let sent = timeout(until(session.final_deadline()), stream.write_all(&bytes)).await;
                sent.map_err(|_| Failure::Stuck)?.map_err(Failure::Io)?;
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
        match timeout(until(deadline), stream.read(&mut piece)).await {
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

/// Says that no more will come, and waits until the client does.
async fn part(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut thrown_away = 0;
    let mut piece = [0; PIECE];
    while thrown_away < MAX_LINGER_BYTES {
        match stream.read(&mut piece).await? {
            0 => break,
            length => thrown_away += length,
        }
    }
    Ok(())
}
