//! A server that makes cookies itself: for its own clients, and as a member of pools for theirs.

use std::sync::Arc;

use ntp_proto::{
    nts::{AeadAlgorithm, AeadKey, Cookie, Keyring, SessionKeys},
    time::Monotonic,
};
use rand_core::CryptoRng;

use super::{ServerConfig, Stage, conversation::Conversation};
use crate::{
    error::{ErrorCode, Fault, KeError, NoOverlap, TlsFault},
    message::{Grant, MAX_COOKIES, NTPV4, Request, Response},
    pool::{self, FixedKeys, Lists, Message, PoolRequest, Support},
    record::{MAX_COOKIE_LENGTH, RecordType},
};

/// Requests after which a connection is not kept any longer, so that none lives for ever.
pub const MAX_KEPT_EXCHANGES: u32 = 10_000;

/// What was done for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// A client has keys and cookies for this algorithm.
    Client(AeadAlgorithm),
    /// A pool was told what this server can do.
    Support,
    /// A pool has cookies for the keys of one of its clients.
    FixedKeys(AeadAlgorithm),
}

/// What a session wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these octets.
    Transmit(Vec<u8>),
    /// A pool has its answer; the connection stays open for its next request.
    Kept(Served),
    /// The peer has its answer; close the connection.
    Done(Served),
    /// The peer has nothing, and was told why if it could be; close the connection.
    Failed(KeError),
    /// Call [`ServerSession::handle_timeout`] at this time (never, if `None`: the session is over); nothing else to do
    /// until then. The text says what is waited for.
    Timeout(Option<Monotonic>, &'static str),
}

/// The server's side of one connection.
///
/// After every `handle_*` call, call [`poll_output`](Self::poll_output) until it returns [`Output::Timeout`].
#[derive(Debug)]
pub struct ServerSession {
    conversation: Conversation,
    served: Option<Served>,
    /// Requests answered over a kept connection.
    exchanges: u32,
    /// Whether the next answer is the last.
    ends: bool,
}

impl ServerSession {
    /// Starts a session on a connection just accepted.
    ///
    /// # Errors
    ///
    /// [`TlsFault`] if TLS cannot be set up.
    pub fn new(config: Arc<ServerConfig>, now: Monotonic) -> Result<Self, TlsFault> {
        Ok(Self { conversation: Conversation::new(config, now)?, served: None, exchanges: 0, ends: false })
    }

    /// How far it has come.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.conversation.stage()
    }

    /// When the connection must be closed even if the client has not taken all that was transmitted.
    #[must_use]
    pub fn final_deadline(&self) -> Monotonic {
        self.conversation.final_deadline()
    }

    /// Takes octets from the client. Cookies are made with `keyring`, their nonces with `rng`.
    pub fn handle_input(&mut self, now: Monotonic, bytes: &[u8], keyring: &Keyring, rng: &mut impl CryptoRng) {
        let Some(message) = self.conversation.handle_input(now, bytes) else { return };
        let outcome = match message {
            // Keys exported here would be those of every other exchange over this connection.
            Message::Exchange(_) if self.exchanges > 0 => self.refuse(Fault::Unexpected(RecordType::NextProtocol)),
            Message::Exchange(request) => self.serve_client(now, &request, keyring, rng),
            Message::Pool { request, keep_alive } => {
                self.exchanges = self.exchanges.saturating_add(1);
                let keep = keep_alive && self.exchanges < MAX_KEPT_EXCHANGES && !self.ends;
                match request {
                    PoolRequest::Support(lists) => Ok(self.tell_support(now, lists, keep)),
                    PoolRequest::FixedKeys(keys) => self.serve_pool(now, &keys, keep, keyring, rng),
                }
            }
        };
        match outcome {
            Ok(served) => self.served = Some(served),
            Err(error) => self.conversation.fail(error),
        }
    }

    /// Takes word that the server goes by other settings now, perhaps with another certificate. A request that is already on
    /// its way is judged by these, for its pool may give these keys to nobody else; the connection is not kept after that.
    pub fn handle_config(&mut self, config: Arc<ServerConfig>) {
        self.conversation.set_config(config);
        self.ends = true;
    }

    /// Takes word that time has passed.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        self.conversation.handle_timeout(now);
    }

    /// Takes word that the client closed the connection.
    pub fn handle_eof(&mut self, now: Monotonic) {
        self.conversation.handle_eof(now);
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Output {
        if let Some(bytes) = self.conversation.take_output() {
            return Output::Transmit(bytes);
        }
        if let Some(error) = self.conversation.take_failure() {
            return Output::Failed(error);
        }
        if let Some(served) = self.served.take() {
            let kept = self.conversation.stage() == Stage::Kept;
            return if kept { Output::Kept(served) } else { Output::Done(served) };
        }
        let (deadline, awaited) = self.conversation.timeout();
        Output::Timeout(deadline, awaited)
    }

    /// Answers with an error and says why.
    fn refuse(&mut self, fault: Fault) -> Result<Served, KeError> {
        self.tell(&Response::Error(fault.error_code()), fault.into())
    }

    /// Answers that there is nothing, for a reason.
    fn tell(&mut self, response: &Response<'_>, error: KeError) -> Result<Served, KeError> {
        self.conversation.send(&response.encode());
        Err(error)
    }

    fn serve_client(
        &mut self,
        now: Monotonic,
        request: &Request,
        keyring: &Keyring,
        rng: &mut impl CryptoRng,
    ) -> Result<Served, KeError> {
        if !request.protocols.contains(&NTPV4) {
            return self.tell(&Response::NoProtocol, KeError::NoOverlap(NoOverlap::Protocol));
        }
        let Some(algorithm) = self.conversation.config().choose(request) else {
            return self.tell(&Response::NoAlgorithm, KeError::NoOverlap(NoOverlap::Algorithm));
        };
        let keys = self.conversation.channel.export(algorithm, algorithm.id()).ok();
        let Some(cookies) = keys.and_then(|keys| cookies(&keys, keyring, rng)) else {
            let internal = ErrorCode::Internal;
            return self.tell(&Response::Error(internal), KeError::Refused(internal));
        };
        let compliant_export = request.compliant_export && algorithm == AeadAlgorithm::AesGcmSiv128;
        let grant = Grant { compliant_export, ..self.grant(algorithm, &cookies) };
        let message = Response::Established(grant).encode();
        self.conversation.answer(now, &message, false);
        Ok(Served::Client(algorithm))
    }

    /// A positive answer that sends the client where this server's clients belong.
    fn grant<'a>(&'a self, algorithm: AeadAlgorithm, cookies: &'a [Cookie]) -> Grant<'a> {
        let config = self.conversation.config();
        let (server, port) = (config.server.as_deref(), config.port);
        Grant { algorithm: algorithm.id(), cookies, server, port, compliant_export: false }
    }

    fn tell_support(&mut self, now: Monotonic, lists: Lists, keep_alive: bool) -> Served {
        let config = self.conversation.config();
        let length = |algorithm: &AeadAlgorithm| u16::try_from(algorithm.key_len()).unwrap_or(u16::MAX);
        let support = Support {
            protocols: vec![NTPV4],
            algorithms: config.algorithms.iter().map(|one| (one.id(), length(one))).collect(),
            servers: config.server.iter().cloned().collect(),
            keep_alive,
        };
        self.conversation.answer(now, &support.encode(lists), keep_alive);
        Served::Support
    }

    fn serve_pool(
        &mut self,
        now: Monotonic,
        given: &FixedKeys,
        keep_alive: bool,
        keyring: &Keyring,
        rng: &mut impl CryptoRng,
    ) -> Result<Served, KeError> {
        if given.protocol != NTPV4 {
            return self.tell(&Response::NoProtocol, KeError::NoOverlap(NoOverlap::Protocol));
        }
        let ours = |algorithm: &AeadAlgorithm| self.conversation.config().algorithms.contains(algorithm);
        let Some(algorithm) = AeadAlgorithm::from_id(given.algorithm).filter(ours) else {
            return self.tell(&Response::NoAlgorithm, KeError::NoOverlap(NoOverlap::Algorithm));
        };
        let key = |octets: &[u8]| AeadKey::new(algorithm, octets).ok();
        let (Some(c2s), Some(s2c)) = (key(&given.c2s), key(&given.s2c)) else {
            return self.refuse(Fault::Body(RecordType::FixedKeyRequest));
        };
        let Some(cookies) = cookies(&SessionKeys { c2s, s2c }, keyring, rng) else {
            let internal = ErrorCode::Internal;
            return self.tell(&Response::Error(internal), KeError::Refused(internal));
        };
        let message = pool::encode_grant(&self.grant(algorithm, &cookies), keep_alive);
        self.conversation.answer(now, &message, keep_alive);
        Ok(Served::FixedKeys(algorithm))
    }
}

fn cookies(keys: &SessionKeys, keyring: &Keyring, rng: &mut impl CryptoRng) -> Option<Vec<Cookie>> {
    let make = |_| {
        let mut nonce = [0; 16];
        rng.fill_bytes(&mut nonce);
        let mut out = [0; MAX_COOKIE_LENGTH];
        let length = keyring.issue(keys, &nonce, &mut out).ok()?;
        Cookie::new(out.get(..length)?)
    };
    (0..MAX_COOKIES).map(make).collect()
}
