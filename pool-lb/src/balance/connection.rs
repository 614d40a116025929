//! One connection to a member.

use std::{io, mem::MaybeUninit, net::SocketAddr, time::Duration};

use ntp_proto::time::Monotonic;
use nts_ke::{
    error::KeError,
    pool::PoolRequest,
    upstream::{Answer, Output, UpstreamSession},
};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{Shared, now, trouble::Trouble};

/// Octets read at a time.
const PIECE: usize = 4096;

/// A connection to a member.
pub(super) struct Connection {
    session: UpstreamSession,
    stream: TcpStream,
    used: Monotonic,
}

enum Said {
    Ready,
    Answered(Answer),
}

impl Connection {
    /// Connects, and checks that the member is the one of this name.
    pub(super) async fn open(shared: &Shared, name: &str, address: SocketAddr, by: Monotonic) -> Result<Self, Trouble> {
        let connected = timeout(now::until(by), TcpStream::connect(address)).await;
        let stream = connected.map_err(|_| KeError::Timeout("connection to the member"))??;
        stream.set_nodelay(true)?;
        let session = UpstreamSession::new(&shared.client.load(), name, (shared.config.time_of_day)(), by);
        let session = session.map_err(|error| Trouble::Member(error.to_string()))?;
        let mut connection = Self { session, stream, used: now::monotonic() };
        connection.run(by).await?;
        Ok(connection)
    }

    /// Whether the member is asked for nothing now, and keeps the connection.
    pub(super) fn is_ready(&self) -> bool {
        self.session.is_ready()
    }

    /// Whether a request may be sent: the member has neither closed it nor said anything unasked.
    pub(super) fn is_alive(&self) -> bool {
        let mut octet = [MaybeUninit::uninit()];
        let peeked = SockRef::from(&self.stream).peek(&mut octet);
        self.is_ready() && peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// How long it has not been used.
    pub(super) fn idle_for(&self) -> Duration {
        now::monotonic().since(self.used)
    }

    /// Sends a request, and waits for the answer.
    pub(super) async fn exchange(
        &mut self,
        request: PoolRequest,
        token: &str,
        by: Monotonic,
    ) -> Result<Answer, KeError> {
        self.session.ask(request, token, by).map_err(|_| KeError::Eof("next request"))?;
        let said = self.run(by).await;
        self.used = now::monotonic();
        match said? {
            Said::Answered(answer) => Ok(answer),
            Said::Ready => Err(KeError::Eof("the member's answer")),
        }
    }

    async fn run(&mut self, by: Monotonic) -> Result<Said, KeError> {
        let mut piece = [0; PIECE];
        // Ends: the session fails at its deadline, and by the amount of data it takes.
        loop {
            let deadline = match self.session.poll_output() {
                Output::Transmit(bytes) => {
                    let sent = timeout(now::until(by), self.stream.write_all(&bytes)).await;
                    let sent = sent.map_err(|_| KeError::Timeout("the member to take what is sent"))?;
                    sent.map_err(|_| KeError::Eof("the member to take what is sent"))?;
                    continue;
                }
                Output::Ready => return Ok(Said::Ready),
                Output::Answered(answer) => return Ok(Said::Answered(answer)),
                Output::Failed(error) => return Err(error),
                Output::Timeout(deadline, _) => deadline.unwrap_or(by),
            };
            match timeout(now::until(deadline), self.stream.read(&mut piece)).await {
                Err(_) => self.session.handle_timeout(now::monotonic().max(deadline)),
                Ok(Ok(0) | Err(_)) => self.session.handle_eof(now::monotonic()),
                Ok(Ok(length)) => {
                    self.session.handle_input(now::monotonic(), piece.get(..length).unwrap_or_default());
                }
            }
        }
    }
}
