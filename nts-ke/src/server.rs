//! The server's side of a key exchange.

use core::{fmt, time::Duration};
use std::{net::IpAddr, sync::Arc};

use ntp_proto::{
    nts::{AeadAlgorithm, Cookie, Keyring},
    pool::Name,
    time::{Monotonic, UnixTime},
};
use rand_core::CryptoRng;
use rustls::{
    Error, InconsistentKeys,
    pki_types::{CertificateDer, PrivateKeyDer},
};

use crate::{
    cert_time::Validity,
    error::{ErrorCode, Fault, KeError, NoOverlap, TlsFault},
    message::{Grant, MAX_COOKIES, NTPV4, Request, Response},
    record::{Incoming, Limits, MAX_COOKIE_LENGTH},
    tls::{self, Channel},
    verify::{MAX_CHAIN_CERTIFICATES, MAX_CHAIN_OCTETS},
};

/// How long a client may take, each counted from the start of its session, so that no client holds one by being slow
/// in many small ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Until its TLS ClientHello is complete.
    pub hello: Duration,
    /// Until the handshake is complete.
    pub handshake: Duration,
    /// Until its request is complete.
    pub request: Duration,
    /// Until it has taken the answer.
    pub total: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let [hello, handshake, request, total] = [1, 2, 3, 5].map(Duration::from_secs);
        Self { hello, handshake, request, total }
    }
}

/// What all sessions of a server have in common. To change the certificate, make another one and give it to new
/// sessions.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    tls: Arc<rustls::ServerConfig>,
    validity: Validity,
    algorithms: Vec<AeadAlgorithm>,
    server: Option<String>,
    port: Option<u16>,
    deadlines: Deadlines,
}

/// A certificate chain and a private key that cannot serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidPair {
    /// There is no certificate.
    NoCertificate,
    /// The chain is longer than clients have to take.
    ChainTooLong,
    /// The certificate at this place (0 is the server's own) cannot be read.
    Certificate(usize),
    /// The key cannot be read or is of a kind that is not supported.
    Key(String),
    /// The key is not the one of the first certificate.
    Mismatch,
    /// The first certificate has expired.
    Expired(TlsFault),
    /// The first certificate is not valid yet.
    NotYetValid(TlsFault),
}

impl fmt::Display for InvalidPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("no certificate"),
            Self::ChainTooLong => {
                write!(f, "more than {MAX_CHAIN_CERTIFICATES} certificates or {MAX_CHAIN_OCTETS} octets")
            }
            Self::Certificate(place) => write!(f, "certificate {} cannot be read", place + 1),
            Self::Key(why) => write!(f, "private key cannot be used: {why}"),
            Self::Mismatch => f.write_str("the private key does not belong to the first certificate"),
            Self::Expired(fault) | Self::NotYetValid(fault) => fault.fmt(f),
        }
    }
}

impl core::error::Error for InvalidPair {}

/// A name that cannot be announced as NTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidServer(pub String);

impl fmt::Display for InvalidServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is neither a host name nor an address", self.0)
    }
}

impl core::error::Error for InvalidServer {}

impl ServerConfig {
    /// Takes a certificate chain, the server's own first, and its private key.
    ///
    /// The pair is judged at `judged_at`; leave that out as long as the time is not known.
    ///
    /// # Errors
    ///
    /// [`InvalidPair`] says why the pair cannot serve.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        judged_at: Option<UnixTime>,
    ) -> Result<Self, InvalidPair> {
        let octets = chain.iter().fold(0_usize, |sum, one| sum.saturating_add(one.len()));
        if chain.len() > MAX_CHAIN_CERTIFICATES || octets > MAX_CHAIN_OCTETS {
            return Err(InvalidPair::ChainTooLong);
        }
        if let Some(bad) = chain.iter().position(|one| Validity::of(one).is_none()) {
            return Err(InvalidPair::Certificate(bad));
        }
        let validity = chain.first().and_then(Validity::of).ok_or(InvalidPair::NoCertificate)?;
        if let Some(judged_at) = judged_at {
            let Validity { not_before, not_after } = validity;
            if judged_at > not_after {
                return Err(InvalidPair::Expired(TlsFault::Expired { not_after: Some(not_after), judged_at }));
            }
            if judged_at < not_before {
                let fault = TlsFault::NotYetValid { not_before: Some(not_before), judged_at };
                return Err(InvalidPair::NotYetValid(fault));
            }
        }
        let provider = tls::provider();
        let unusable = |error: Error| InvalidPair::Key(error.to_string());
        let certified = tls::certified_key(&provider, chain, key).map_err(unusable)?;
        match certified.keys_match() {
            // A key that does not tell its public half cannot be compared.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => return Err(InvalidPair::Mismatch),
            Err(Error::InvalidCertificate(_)) => return Err(InvalidPair::Certificate(0)),
            Err(error) => return Err(unusable(error)),
        }
        Ok(Self {
            tls: Arc::new(tls::server_config(provider, certified).map_err(unusable)?),
            validity,
            algorithms: AeadAlgorithm::ALL.to_vec(),
            server: None,
            port: None,
            deadlines: Deadlines::default(),
        })
    }

    /// Serves these algorithms only; all of them unless this is called.
    #[must_use]
    pub fn with_algorithms(self, algorithms: Vec<AeadAlgorithm>) -> Self {
        Self { algorithms, ..self }
    }

    /// Sets how long clients may take.
    #[must_use]
    pub fn with_deadlines(self, deadlines: Deadlines) -> Self {
        Self { deadlines, ..self }
    }

    /// Sends clients to this NTP server and port, if they differ from the name they asked and 123.
    ///
    /// # Errors
    ///
    /// [`InvalidServer`] if `server` is neither a host name nor an address.
    pub fn with_ntp_server(self, server: Option<String>, port: Option<u16>) -> Result<Self, InvalidServer> {
        if let Some(name) = &server
            && name.parse::<IpAddr>().is_err()
            && Name::parse(name).is_err()
        {
            return Err(InvalidServer(name.clone()));
        }
        Ok(Self { server, port, ..self })
    }

    /// When the server's own certificate is valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The first algorithm of the client that is ours.
    ///
    /// AES-128-GCM-SIV comes last with a client that does not say how it exports keys for it: it may do so in another
    /// way than we.
    fn choose(&self, request: &Request) -> Option<AeadAlgorithm> {
        let common = || {
            request
                .algorithms
                .iter()
                .filter_map(|id| AeadAlgorithm::from_id(*id))
                .filter(|a| self.algorithms.contains(a))
        };
        let unclear =
            |algorithm: &AeadAlgorithm| *algorithm == AeadAlgorithm::AesGcmSiv128 && !request.compliant_export;
        common().find(|algorithm| !unclear(algorithm)).or_else(|| common().next())
    }
}

/// What a session wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these octets.
    Transmit(Vec<u8>),
    /// The client has its keys and cookies; close the connection.
    Done(AeadAlgorithm),
    /// The client has nothing, and was told why if it could be; close the connection.
    Failed(KeError),
    /// Call [`ServerSession::handle_timeout`] at this time (never, if `None`: the session is over); nothing else to do
    /// until then. The text says what is waited for.
    Timeout(Option<Monotonic>, &'static str),
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The client has sent nothing, or a part of its ClientHello.
    Hello,
    /// The TLS handshake goes on.
    Handshake,
    /// The request is awaited.
    Request,
    /// The session is over; the answer may still be on its way.
    Over,
}

/// The server's side of one key exchange over one connection.
///
/// After every `handle_*` call, call [`poll_output`](Self::poll_output) until it returns [`Output::Timeout`].
#[derive(Debug)]
pub struct ServerSession {
    config: Arc<ServerConfig>,
    channel: Channel,
    incoming: Incoming,
    started: Monotonic,
    state: State,
}

#[derive(Debug)]
enum State {
    Hello,
    Handshake,
    Request,
    Over(Option<Result<AeadAlgorithm, KeError>>),
}

impl ServerSession {
    /// Starts a session on a connection just accepted.
    ///
    /// # Errors
    ///
    /// [`TlsFault`] if TLS cannot be set up.
    pub fn new(config: Arc<ServerConfig>, now: Monotonic) -> Result<Self, TlsFault> {
        let channel = Channel::server(config.tls.clone())?;
        Ok(Self { config, channel, incoming: Incoming::new(Limits::REQUEST), started: now, state: State::Hello })
    }

    /// How far it has come.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        match self.state {
            State::Hello => Stage::Hello,
            State::Handshake => Stage::Handshake,
            State::Request => Stage::Request,
            State::Over(_) => Stage::Over,
        }
    }

    /// When the connection must be closed even if the client has not taken all that was transmitted.
    #[must_use]
    pub fn final_deadline(&self) -> Monotonic {
        self.started + self.config.deadlines.total
    }

    /// Takes octets from the client. Cookies are made with `keyring`, their nonces with `rng`.
    pub fn handle_input(&mut self, now: Monotonic, bytes: &[u8], keyring: &Keyring, rng: &mut impl CryptoRng) {
        self.handle_timeout(now);
        if matches!(self.state, State::Over(_)) {
            return;
        }
        match self.advance(bytes) {
            Ok(None) => {}
            Ok(Some(request)) => {
                let outcome = self.answer(&request, keyring, rng);
                self.finish(outcome);
            }
            Err(KeError::Protocol(fault)) => {
                // RFC 8915 section 4.1.3: 0 for a critical record that is not understood, 1 for what is malformed.
                let told = self.channel.send(&Response::Error(fault.error_code()).encode());
                self.finish(told.map_err(KeError::Tls).and(Err(KeError::Protocol(fault))));
            }
            Err(error) => self.finish(Err(error)),
        }
    }

    /// Takes word that time has passed.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            self.finish(Err(KeError::Timeout(self.awaited())));
        }
    }

    /// Takes word that the client closed the connection.
    pub fn handle_eof(&mut self, now: Monotonic) {
        self.handle_timeout(now);
        if !matches!(self.state, State::Over(_)) {
            self.finish(Err(KeError::Eof(self.awaited())));
        }
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Output {
        if let Some(bytes) = self.channel.take_output() {
            return Output::Transmit(bytes);
        }
        let (deadline, awaited) = (self.deadline(), self.awaited());
        match &mut self.state {
            State::Hello | State::Handshake | State::Request => Output::Timeout(deadline, awaited),
            State::Over(outcome) => match outcome.take() {
                Some(Ok(algorithm)) => Output::Done(algorithm),
                Some(Err(error)) => Output::Failed(error),
                None => Output::Timeout(None, awaited),
            },
        }
    }

    fn awaited(&self) -> &'static str {
        match self.state {
            State::Hello => "TLS ClientHello",
            State::Handshake => "TLS handshake",
            State::Request => "key-exchange request",
            State::Over(_) => "end of the session",
        }
    }

    fn deadline(&self) -> Option<Monotonic> {
        let Deadlines { hello, handshake, request, total } = self.config.deadlines;
        let stage = match self.state {
            State::Hello => hello,
            State::Handshake => handshake,
            State::Request => request,
            State::Over(_) => return None,
        };
        Some(self.started + stage.min(total))
    }

    /// Takes octets; returns the request once it is complete.
    fn advance(&mut self, bytes: &[u8]) -> Result<Option<Request>, KeError> {
        let mut plain = Vec::new();
        let closed = self.channel.handle_input(bytes, &mut plain)?;
        if matches!(self.state, State::Hello) && self.channel.wants_write() {
            self.state = State::Handshake;
        }
        if matches!(self.state, State::Handshake) && !self.channel.handshaking() {
            self.channel.check_alpn()?;
            self.state = State::Request;
        }
        if !plain.is_empty() && self.incoming.handle_input(&plain)? {
            return Ok(Some(Request::parse(self.incoming.records())?));
        }
        match closed {
            false => Ok(None),
            true if self.incoming.is_empty() => Err(KeError::Eof(self.awaited())),
            true => Err(Fault::Incomplete.into()),
        }
    }

    fn answer(
        &mut self,
        request: &Request,
        keyring: &Keyring,
        rng: &mut impl CryptoRng,
    ) -> Result<AeadAlgorithm, KeError> {
        if !request.protocols.contains(&NTPV4) {
            self.channel.send(&Response::NoProtocol.encode())?;
            return Err(KeError::NoOverlap(NoOverlap::Protocol));
        }
        let Some(algorithm) = self.config.choose(request) else {
            self.channel.send(&Response::NoAlgorithm.encode())?;
            return Err(KeError::NoOverlap(NoOverlap::Algorithm));
        };
        let Some(cookies) = self.cookies(algorithm, keyring, rng) else {
            self.channel.send(&Response::Error(ErrorCode::Internal).encode())?;
            return Err(KeError::Refused(ErrorCode::Internal));
        };
        let grant = Grant {
            algorithm: algorithm.id(),
            cookies: &cookies,
            server: self.config.server.as_deref(),
            port: self.config.port,
            compliant_export: request.compliant_export && algorithm == AeadAlgorithm::AesGcmSiv128,
        };
        self.channel.send(&Response::Established(grant).encode())?;
        Ok(algorithm)
    }

    fn cookies(&self, algorithm: AeadAlgorithm, keyring: &Keyring, rng: &mut impl CryptoRng) -> Option<Vec<Cookie>> {
        let keys = self.channel.export(algorithm, algorithm.id()).ok()?;
        let make = |_| {
            let mut nonce = [0; 16];
            rng.fill_bytes(&mut nonce);
            let mut out = [0; MAX_COOKIE_LENGTH];
            let length = keyring.issue(&keys, &nonce, &mut out).ok()?;
            Cookie::new(out.get(..length)?)
        };
        (0..MAX_COOKIES).map(make).collect()
    }

    fn finish(&mut self, outcome: Result<AeadAlgorithm, KeError>) {
        if !self.channel.handshaking() {
            self.channel.close();
        }
        self.state = State::Over(Some(outcome));
    }
}
