//! The client's side of a key exchange.

use core::fmt;

use ntp_proto::{
    bootstrap::{Chain, Judgement},
    nts::{AeadAlgorithm, Cookie, SessionKeys},
    time::Monotonic,
};
use rustls::pki_types::ServerName;

use crate::{
    dane::Tlsa,
    error::{Fault, KeError, TlsFault},
    judge::Judge,
    message::{Accepted, NTPV4, Request},
    record::{Incoming, Limits},
    tls::{self, Channel},
    verify::{NoUsableRoots, TrustRoots, Verifier},
};

/// What all key exchanges of a client have in common.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    verifier: Verifier,
}

impl ClientConfig {
    /// Servers must have a certificate that leads to one of `roots`.
    ///
    /// # Errors
    ///
    /// [`NoUsableRoots`] if the roots cannot be used.
    pub fn new(roots: &TrustRoots) -> Result<Self, NoUsableRoots> {
        Ok(Self { verifier: Verifier::new(roots, tls::provider())? })
    }

    /// Only servers whose certificate their TLSA records vouch for are trusted.
    #[must_use]
    pub fn without_roots() -> Self {
        Self { verifier: Verifier::without_roots(tls::provider()) }
    }

    /// A connection to a server whose certificate must be for `server`, and vouched for by one of `tlsa` if there are any.
    pub(crate) fn channel(
        &self,
        server: ServerName<'static>,
        tlsa: &[Tlsa],
        judgement: Judgement,
    ) -> Result<Channel, TlsFault> {
        let judge = Judge::new(self.verifier.clone(), tlsa, judgement);
        Channel::client(self.verifier.provider().clone(), judge, server, judgement)
    }
}

/// One key exchange to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order<'a> {
    /// Host name or address that the certificate must be valid for.
    pub server: &'a str,
    /// AEAD algorithms, best first.
    pub algorithms: &'a [AeadAlgorithm],
    /// TLSA records of the server, usable and validated by DNSSEC. If there are any, one of them must vouch for its
    /// certificate.
    pub tlsa: &'a [Tlsa],
    /// NTP servers not wanted, as earlier exchanges named them.
    pub denied: &'a [String],
    /// The time at which certificates are judged.
    pub judgement: Judgement,
    /// When the whole exchange must be over.
    pub deadline: Monotonic,
}

/// An order that cannot be carried out: a fault of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidOrder {
    /// The server is neither a host name nor an address.
    Server(String),
    /// No algorithm is offered.
    NoAlgorithm,
    /// TLS cannot be set up.
    Tls(TlsFault),
}

impl fmt::Display for InvalidOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(name) => write!(f, "{name:?} is neither a host name nor an address"),
            Self::NoAlgorithm => f.write_str("no AEAD algorithm to offer"),
            Self::Tls(fault) => fault.fmt(f),
        }
    }
}

impl core::error::Error for InvalidOrder {}

/// What a key exchange gave.
#[derive(Clone, Debug)]
pub struct Established {
    /// The AEAD algorithm.
    pub algorithm: AeadAlgorithm,
    /// Keys exported as RFC 8915 section 5.1 says.
    pub keys: SessionKeys,
    /// Keys to be tried if the server refuses cookies used with the others: servers that do not confirm how they
    /// exported keys for AES-128-GCM-SIV may have used the number of AES-SIV-CMAC-256.
    pub fallback_keys: Option<SessionKeys>,
    /// 1 to [`crate::message::MAX_COOKIES`] cookies.
    pub cookies: Vec<Cookie>,
    /// The NTP server; the one asked if `None`.
    pub server: Option<String>,
    /// Its port; 123 if `None`.
    pub port: Option<u16>,
    /// What the server's certificates say of the time.
    pub chain: Option<Chain>,
}

/// What a session wants next.
#[derive(Debug)]
pub enum Output {
    /// Send these octets.
    Transmit(Vec<u8>),
    /// The exchange is complete; close the connection.
    Done(Box<Established>),
    /// The exchange failed; close the connection. If the server's certificates were good but for their dates, it comes with
    /// what they say of the time. Whoever showed them need not have the key, as when somebody shows again what he saw
    /// before: that they were signed at those times is true all the same.
    Failed(KeError, Option<Box<Chain>>),
    /// Call [`ClientSession::handle_timeout`] at this time (never, if `None`: the session is over); nothing else to do
    /// until then. The text says what is waited for.
    Timeout(Option<Monotonic>, &'static str),
}

/// The client's side of one key exchange over one connection.
///
/// After [`new`](Self::new) and after every `handle_*` call, call [`poll_output`](Self::poll_output) until it returns
/// [`Output::Timeout`].
#[derive(Debug)]
pub struct ClientSession {
    channel: Channel,
    request: Request,
    incoming: Incoming,
    deadline: Monotonic,
    state: State,
}

#[derive(Debug)]
enum State {
    Handshake,
    Response,
    Over(Option<Result<Box<Established>, KeError>>),
}

impl ClientSession {
    /// Starts a key exchange on a connection just made.
    ///
    /// # Errors
    ///
    /// [`InvalidOrder`] if it cannot even be begun.
    pub fn new(config: &ClientConfig, order: &Order<'_>) -> Result<Self, InvalidOrder> {
        if order.algorithms.is_empty() {
            return Err(InvalidOrder::NoAlgorithm);
        }
        let server =
            ServerName::try_from(order.server.to_owned()).map_err(|_| InvalidOrder::Server(order.server.to_owned()))?;
        let channel = config.channel(server, order.tlsa, order.judgement).map_err(InvalidOrder::Tls)?;
        let request = Request {
            protocols: vec![NTPV4],
            algorithms: order.algorithms.iter().map(|algorithm| algorithm.id()).collect(),
            denied: order.denied.to_vec(),
            compliant_export: order.algorithms.contains(&AeadAlgorithm::AesGcmSiv128),
            server: None,
            port: None,
        };
        let incoming = Incoming::new(Limits::RESPONSE);
        Ok(Self { channel, request, incoming, deadline: order.deadline, state: State::Handshake })
    }

    /// Takes octets from the server.
    pub fn handle_input(&mut self, now: Monotonic, bytes: &[u8]) {
        self.handle_timeout(now);
        if matches!(self.state, State::Over(_)) {
            return;
        }
        match self.advance(bytes) {
            Ok(None) => {}
            Ok(Some(established)) => self.finish(Ok(Box::new(established))),
            Err(error) => self.finish(Err(error)),
        }
    }

    /// Takes word that time has passed.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        if now >= self.deadline && !matches!(self.state, State::Over(_)) {
            self.finish(Err(KeError::Timeout(self.awaited())));
        }
    }

    /// Takes word that the server closed the connection.
    pub fn handle_eof(&mut self, now: Monotonic) {
        self.handle_timeout(now);
        if !matches!(self.state, State::Over(_)) {
            self.finish(Err(KeError::Eof(self.awaited())));
        }
    }

    /// Whether the server has been recognized: what is sent from now on is the request. A caller that tries several
    /// addresses of one server lets one session alone go on from here.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        !matches!(self.state, State::Handshake)
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Output {
        if let Some(bytes) = self.channel.take_output() {
            return Output::Transmit(bytes);
        }
        let awaited = self.awaited();
        match &mut self.state {
            State::Handshake | State::Response => Output::Timeout(Some(self.deadline), awaited),
            State::Over(outcome) => match outcome.take() {
                Some(Ok(established)) => Output::Done(established),
                Some(Err(error)) => Output::Failed(error, self.channel.chain().cloned().map(Box::new)),
                None => Output::Timeout(None, awaited),
            },
        }
    }

    fn awaited(&self) -> &'static str {
        match self.state {
            State::Handshake => "TLS handshake",
            State::Response => "key-exchange response",
            State::Over(_) => "end of the session",
        }
    }

    fn advance(&mut self, bytes: &[u8]) -> Result<Option<Established>, KeError> {
        let mut plain = Vec::new();
        let closed = self.channel.handle_input(bytes, &mut plain)?;
        if matches!(self.state, State::Handshake) && !self.channel.handshaking() {
            self.channel.check_alpn()?;
            self.channel.send(&self.request.encode())?;
            self.state = State::Response;
        }
        if !plain.is_empty() && self.incoming.handle_input(&plain)? {
            return self.established().map(Some);
        }
        if closed {
            return Err(if self.incoming.is_empty() {
                KeError::Eof(self.awaited())
            } else {
                KeError::Protocol(Fault::Incomplete)
            });
        }
        Ok(None)
    }

    fn established(&self) -> Result<Established, KeError> {
        let accepted = Accepted::parse(self.incoming.records(), &self.request)?;
        let algorithm = AeadAlgorithm::from_id(accepted.algorithm)
            .ok_or(Fault::NotOffered(crate::record::RecordType::Aead, accepted.algorithm))?;
        let keys = self.channel.export(algorithm, algorithm.id())?;
        let unconfirmed = algorithm == AeadAlgorithm::AesGcmSiv128 && !accepted.compliant_export;
        let fallback_keys =
            unconfirmed.then(|| self.channel.export(algorithm, AeadAlgorithm::AesSivCmac256.id())).transpose()?;
        Ok(Established {
            algorithm,
            keys,
            fallback_keys,
            cookies: accepted.cookies,
            server: accepted.server,
            port: accepted.port,
            chain: self.channel.chain().cloned(),
        })
    }

    fn finish(&mut self, outcome: Result<Box<Established>, KeError>) {
        if !self.channel.handshaking() {
            self.channel.close();
        }
        self.state = State::Over(Some(outcome));
    }
}
