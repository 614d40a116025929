//! One session over one connection.

use std::{future::pending, io, time::Duration};

use nts_ke::{
    client::{ClientConfig, ClientSession, Established, Order, Output},
    error::KeError,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, error::Elapsed, timeout_at},
};

use super::{
    Cause, Failed,
    turn::{Held, Turn},
};
use crate::now;

/// Octets that are read at a time.
const PIECE: usize = 4096;

/// Lets the session and the server talk until one of them is done, for `time` at most. Of several sessions with one
/// server, that which has the `turn` sends its request; if there is no answer to it for long, the next one has the turn.
pub(super) async fn run(
    config: &ClientConfig,
    order: &Order<'_>,
    mut stream: TcpStream,
    time: Duration,
    turn: &Turn,
) -> Result<Box<Established>, Failed> {
    let end = Instant::now() + time;
    let mut session = ClientSession::new(config, order).map_err(Cause::Order)?;
    // Both sides speak in turn; nothing is gained by collecting small packets. It works without as well.
    let _ = stream.set_nodelay(true);
    let mut piece = [0; PIECE];
    let mut broken = None;
    let mut held = None;
    // Ends: input is bounded by the session and by `end`, and so is what it makes the session say.
    loop {
        match session.poll_output() {
            Output::Transmit(_) if broken.is_some() => {}
            Output::Transmit(bytes) if session.is_secure() && held.is_none() => {
                // Who waits here at the end has sent nothing that asks for keys.
                held = turn.take(end).await;
                if held.is_none() || write(&mut stream, &bytes, end, &mut broken).await.is_err() {
                    session.handle_timeout(now::monotonic().max(order.deadline));
                }
            }
            Output::Transmit(bytes) => {
                if write(&mut stream, &bytes, end, &mut broken).await.is_err() {
                    session.handle_timeout(now::monotonic().max(order.deadline));
                }
            }
            Output::Done(established) => return Ok(established),
            Output::Failed(error, chain) => {
                let cause = match (error, broken) {
                    (KeError::Timeout(owed), _) => Cause::Stalled(owed, time),
                    (KeError::Eof(_), Some(broken)) => Cause::Broken(broken),
                    (error, _) => Cause::Session(error),
                };
                return Err(Failed { cause, chain });
            }
            Output::Timeout(None, _) => return Err(late().into()),
            Output::Timeout(Some(deadline), _) => match read(&mut stream, &mut piece, end, held.as_ref()).await {
                Ok(Ok(0)) => session.handle_eof(now::monotonic()),
                Ok(Ok(length)) => session.handle_input(now::monotonic(), piece.get(..length).unwrap_or_default()),
                Ok(Err(error)) => return Err(Cause::Broken(broken.unwrap_or(error)).into()),
                Err(_) => session.handle_timeout(now::monotonic().max(deadline)),
            },
        }
    }
}

/// Receives, or fails at the `end`, or when another session is to have the turn: nothing was exported yet.
async fn read(
    stream: &mut TcpStream,
    piece: &mut [u8],
    end: Instant,
    held: Option<&Held<'_>>,
) -> Result<io::Result<usize>, Late> {
    let wanted = async {
        match held {
            Some(held) => held.is_wanted().await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        read = timeout_at(end, stream.read(piece)) => read.map_err(|_| Late),
        () = wanted => Err(Late),
    }
}

/// The time of a session is over.
struct Late;

/// Sends, or fails at the `end`.
async fn write(
    stream: &mut TcpStream,
    bytes: &[u8],
    end: Instant,
    broken: &mut Option<io::Error>,
) -> Result<(), Elapsed> {
    // What the server said before it closed may still be read, or the session may be done without it.
    *broken = timeout_at(end, stream.write_all(bytes)).await?.err();
    Ok(())
}

/// A session that is over has said so before.
fn late() -> Cause {
    Cause::Session(KeError::Eof("end of the session"))
}
