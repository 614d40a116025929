//! One connection to a member.

use std::{io, mem::MaybeUninit, net::SocketAddr, time::Duration};

use ntp_proto::time::Monotonic;
use nts_ke::{
    dane::Tlsa,
    error::KeError,
    pool::PoolRequest,
    upstream::{Answer, Output, UpstreamSession},
};
use pool_srv::directory::Member;
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

/// What the directory says of the member's certificate. Clients that take the pool's DNS at its word judge by the same.
pub(super) fn records_of(member: &Member) -> Vec<Tlsa> {
    // RFC 6698 section 4.1: records that cannot be used count as none.
    let usable = |record: &pool_srv::directory::Tlsa| {
        Tlsa::new(record.usage, record.selector, record.matching, record.data.clone()).ok()
    };
    member.tlsa.iter().filter_map(usable).collect()
}

enum Said {
    Ready,
    Answered(Answer),
}

impl Connection {
    /// Connects, and checks that this is the member.
    pub(super) async fn open(
        shared: &Shared,
        member: &Member,
        address: SocketAddr,
        by: Monotonic,
    ) -> Result<Self, Trouble> {
        let connected = timeout(now::until(by), TcpStream::connect(address)).await;
        let stream = connected.map_err(|_| KeError::Timeout("connection to the member"))??;
        stream.set_nodelay(true)?;
        let (name, tlsa) = (member.name.as_str(), records_of(member));
        let session = UpstreamSession::new(&shared.client.load(), name, &tlsa, (shared.config.time_of_day)(), by);
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
