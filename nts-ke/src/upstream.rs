//! The side of a pool towards one of its members: a connection that is kept for one request after the other.

use ntp_proto::{
    bootstrap::Judgement,
    time::{Monotonic, UnixTime},
};
use rustls::pki_types::ServerName;

use crate::{
    client::{ClientConfig, InvalidOrder},
    dane::Tlsa,
    error::{Fault, KeError},
    message::Accepted,
    pool::{self, FixedKeys, Lists, PoolRequest, Support},
    record::{Incoming, Limits},
    tls::Channel,
};

/// What a member answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// What it can do.
    Support(Support),
    /// Cookies for the keys given. Server and port are the member's word, not checked beyond their form.
    Cookies(Accepted),
}

impl Answer {
    const fn forget_keeping(&mut self) {
        match self {
            Self::Support(support) => support.keep_alive = false,
            Self::Cookies(accepted) => accepted.keep_alive = false,
        }
    }

    /// Whether the member keeps the connection open.
    #[must_use]
    pub const fn keeps(&self) -> bool {
        match self {
            Self::Support(support) => support.keep_alive,
            Self::Cookies(accepted) => accepted.keep_alive,
        }
    }
}

/// What a session wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these octets.
    Transmit(Vec<u8>),
    /// The member can be asked.
    Ready,
    /// The member answered. If it does not keep the connection ([`Answer::keeps`]), the session is over: close it.
    Answered(Answer),
    /// The session failed; close the connection. Keys of its last request may have reached the member.
    Failed(KeError),
    /// Call [`UpstreamSession::handle_timeout`] at this time (never, if `None`); nothing else to do until then. The text
    /// says what is waited for.
    Timeout(Option<Monotonic>, &'static str),
}

/// A request made at the wrong time: the member is not ready, or has another one to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotReady;

impl core::fmt::Display for NotReady {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the member cannot be asked now")
    }
}

impl core::error::Error for NotReady {}

/// One connection to a member.
///
/// After [`new`](Self::new), [`ask`](Self::ask) and every `handle_*` call, call [`poll_output`](Self::poll_output) until it
/// returns [`Output::Timeout`].
#[derive(Debug)]
pub struct UpstreamSession {
    channel: Channel,
    incoming: Incoming,
    deadline: Monotonic,
    state: State,
}

#[derive(Debug)]
enum State {
    Handshake,
    /// Nothing is asked; whether that was told.
    Ready {
        told: bool,
    },
    Asked(PoolRequest),
    Answered(Answer),
    Failed(KeError),
    Over,
}

impl UpstreamSession {
    /// Starts on a connection just made. The certificate must be for `server`, vouched for by one of `tlsa` if there are any
    /// (whoever gives them answers for them), and is judged at `judged_at`; the handshake must be over at `deadline`.
    ///
    /// # Errors
    ///
    /// [`InvalidOrder`] if it cannot even be begun.
    pub fn new(
        config: &ClientConfig,
        server: &str,
        tlsa: &[Tlsa],
        judged_at: UnixTime,
        deadline: Monotonic,
    ) -> Result<Self, InvalidOrder> {
        let name = ServerName::try_from(server.to_owned()).map_err(|_| InvalidOrder::Server(server.to_owned()))?;
        let channel = config.channel(name, tlsa, Judgement::At(judged_at)).map_err(InvalidOrder::Tls)?;
        let incoming = Incoming::new(Limits::RESPONSE);
        Ok(Self { channel, incoming, deadline, state: State::Handshake })
    }

    /// Whether the member can be asked.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// Asks the member. `token` shows who we are; the connection is asked to be kept; the answer must be whole at
    /// `deadline`.
    ///
    /// # Errors
    ///
    /// [`NotReady`], and nothing is sent.
    pub fn ask(&mut self, request: PoolRequest, token: &str, deadline: Monotonic) -> Result<(), NotReady> {
        if !self.is_ready() {
            return Err(NotReady);
        }
        self.channel.renew_budget();
        self.incoming = Incoming::new(Limits::RESPONSE);
        self.deadline = deadline;
        let message = zeroize::Zeroizing::new(request.encode(token, true));
        self.state = match self.channel.send(&message) {
            Ok(()) => State::Asked(request),
            Err(fault) => State::Failed(fault.into()),
        };
        Ok(())
    }

    /// Takes octets from the member.
    pub fn handle_input(&mut self, now: Monotonic, bytes: &[u8]) {
        self.handle_timeout(now);
        match &self.state {
            State::Failed(_) | State::Over => return,
            State::Handshake | State::Ready { .. } | State::Asked(_) | State::Answered(_) => {}
        }
        if let Err(error) = self.advance(bytes) {
            self.fail(error);
        }
    }

    /// Takes word that time has passed.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        if now >= self.deadline && matches!(self.state, State::Handshake | State::Asked(_)) {
            self.fail(KeError::Timeout(self.awaited()));
        }
    }

    /// Takes word that the member closed the connection.
    pub fn handle_eof(&mut self, now: Monotonic) {
        self.handle_timeout(now);
        match self.state {
            State::Handshake | State::Ready { .. } | State::Asked(_) => self.fail(KeError::Eof(self.awaited())),
            State::Answered(_) | State::Failed(_) | State::Over => {}
        }
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Output {
        if let Some(bytes) = self.channel.take_output() {
            return Output::Transmit(bytes);
        }
        let awaited = self.awaited();
        match core::mem::replace(&mut self.state, State::Over) {
            State::Ready { told: false } => {
                self.state = State::Ready { told: true };
                Output::Ready
            }
            State::Answered(answer) => {
                if answer.keeps() {
                    self.state = State::Ready { told: true };
                }
                Output::Answered(answer)
            }
            State::Failed(error) => Output::Failed(error),
            State::Over => Output::Timeout(None, awaited),
            waiting @ State::Ready { told: true } => {
                self.state = waiting;
                Output::Timeout(None, awaited)
            }
            waiting @ (State::Handshake | State::Asked(_)) => {
                self.state = waiting;
                Output::Timeout(Some(self.deadline), awaited)
            }
        }
    }

    const fn awaited(&self) -> &'static str {
        match self.state {
            State::Handshake => "TLS handshake with the member",
            State::Ready { .. } | State::Answered(_) => "next request",
            State::Asked(_) => "the member's answer",
            State::Failed(_) | State::Over => "end of the session",
        }
    }

    fn advance(&mut self, bytes: &[u8]) -> Result<(), KeError> {
        let mut plain = Vec::new();
        let closed = self.channel.handle_input(bytes, &mut plain)?;
        if matches!(self.state, State::Handshake) && !self.channel.handshaking() {
            self.channel.check_alpn()?;
            self.state = State::Ready { told: false };
        }
        if !plain.is_empty() {
            let State::Asked(request) = &self.state else { return Err(Fault::AfterEnd.into()) };
            if self.incoming.handle_input(&plain)? {
                let mut answer = read_answer(&self.incoming, request)?;
                if closed {
                    // Whatever it says of keeping the connection, it has closed it.
                    answer.forget_keeping();
                }
                self.state = State::Answered(answer);
            }
        }
        match (&self.state, closed) {
            (State::Ready { .. } | State::Handshake | State::Asked(_), true) => Err(KeError::Eof(self.awaited())),
            _ => Ok(()),
        }
    }

    fn fail(&mut self, error: KeError) {
        if !self.channel.handshaking() {
            self.channel.close();
        }
        self.state = State::Failed(error);
    }
}

fn read_answer(incoming: &Incoming, request: &PoolRequest) -> Result<Answer, KeError> {
    match request {
        PoolRequest::Support(lists) => Support::parse(incoming.records(), *lists).map(Answer::Support),
        PoolRequest::FixedKeys(keys) => pool::parse_grant(incoming.records(), keys).map(Answer::Cookies),
    }
}

/// The lists that a balancer needs.
pub const ALL_LISTS: Lists = Lists { protocols: true, algorithms: true, servers: true };

/// The lists that every member knows, those of old drafts too: some refuse a request for server names.
pub const COMMON_LISTS: Lists = Lists { servers: false, ..ALL_LISTS };

impl From<FixedKeys> for PoolRequest {
    fn from(keys: FixedKeys) -> Self {
        Self::FixedKeys(keys)
    }
}
