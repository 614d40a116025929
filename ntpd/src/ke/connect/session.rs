//! One session over one connection.

use std::{io, time::Duration};

use nts_ke::{
    client::{ClientConfig, ClientSession, Established, Order, Output},
    error::KeError,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, error::Elapsed, timeout_at},
};

use super::{Cause, Failed};
use crate::now;

/// Octets that are read at a time.
const PIECE: usize = 4096;

/// Lets the session and the server talk until one of them is done, for `time` at most. Of several sessions with one
/// server, that which has the only permit of `turn` sends its request.
pub(super) async fn run(
    config: &ClientConfig,
    order: &Order<'_>,
    mut stream: TcpStream,
    time: Duration,
    turn: &Semaphore,
) -> Result<Box<Established>, Failed> {
    let end = Instant::now() + time;
    let mut session = ClientSession::new(config, order).map_err(Cause::Order)?;
    // Both sides speak in turn; nothing is gained by collecting small packets. It works without as well.
    let _ = stream.set_nodelay(true);
    let mut piece = [0; PIECE];
    let mut broken = None;
    let mut permit = None;
    // Ends: input is bounded by the session and by `end`, and so is what it makes the session say.
    loop {
        match session.poll_output() {
            Output::Transmit(_) if broken.is_some() => {}
            Output::Transmit(bytes) if session.is_secure() && permit.is_none() => {
                // Closed it is never; and who waits here at the end has sent nothing that asks for keys.
                permit = timeout_at(end, turn.acquire()).await.ok().and_then(Result::ok);
                if permit.is_none() || write(&mut stream, &bytes, end, &mut broken).await.is_err() {
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
            Output::Timeout(Some(deadline), _) => match timeout_at(end, stream.read(&mut piece)).await {
                Ok(Ok(0)) => session.handle_eof(now::monotonic()),
                Ok(Ok(length)) => session.handle_input(now::monotonic(), piece.get(..length).unwrap_or_default()),
                Ok(Err(error)) => return Err(Cause::Broken(broken.unwrap_or(error)).into()),
                Err(_) => session.handle_timeout(now::monotonic().max(deadline)),
            },
        }
    }
}

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
