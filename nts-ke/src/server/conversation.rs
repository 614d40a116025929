//! What every session of a server does: TLS, one message in, one message out, and deadlines for all of it.

use std::sync::Arc;

use ntp_proto::time::Monotonic;

use super::{Deadlines, ServerConfig};
use crate::{
    error::{Fault, KeError, TlsFault},
    message::Response,
    pool::Message,
    record::{Incoming, Limits},
    tls::Channel,
};

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The client has sent nothing, or a part of its ClientHello.
    Hello,
    /// The TLS handshake goes on.
    Handshake,
    /// The request is awaited.
    Request,
    /// The request is there and not answered yet.
    Asked,
    /// A pool may send another request.
    Kept,
    /// The session is over; the answer may still be on its way.
    Over,
}

impl Stage {
    pub(super) const fn awaited(self) -> &'static str {
        match self {
            Self::Hello => "TLS ClientHello",
            Self::Handshake => "TLS handshake",
            Self::Request => "key-exchange request",
            Self::Asked => "answer to the request",
            Self::Kept => "next request of the pool",
            Self::Over => "end of the session",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) channel: Channel,
    config: Arc<ServerConfig>,
    incoming: Incoming,
    started: Monotonic,
    stage: Stage,
    failure: Option<KeError>,
}

impl Conversation {
    pub(super) fn new(config: Arc<ServerConfig>, now: Monotonic) -> Result<Self, TlsFault> {
        let channel = Channel::server(config.tls.clone())?;
        let incoming = Incoming::new(Limits::REQUEST);
        Ok(Self { channel, config, incoming, started: now, stage: Stage::Hello, failure: None })
    }

    pub(super) const fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// Goes by other settings from here on; the certificate was shown already.
    pub(super) fn set_config(&mut self, config: Arc<ServerConfig>) {
        self.config = config;
    }

    /// When the connection must be closed even if the client has not taken all that was transmitted.
    pub(super) fn final_deadline(&self) -> Monotonic {
        let Deadlines { total, idle, .. } = self.config.deadlines;
        self.started + if self.stage == Stage::Kept { idle } else { total }
    }

    /// Takes octets; returns the message once it is complete.
    pub(super) fn handle_input(&mut self, now: Monotonic, bytes: &[u8]) -> Option<Message> {
        self.handle_timeout(now);
        match self.stage {
            Stage::Hello | Stage::Handshake | Stage::Request => {}
            Stage::Kept => {
                self.stage = Stage::Request;
                self.started = now;
                self.incoming = Incoming::new(Limits::REQUEST);
                self.channel.renew_budget();
            }
            Stage::Asked => {
                self.take_while_asked(bytes);
                return None;
            }
            Stage::Over => return None,
        }
        match self.advance(bytes) {
            Ok(message) => {
                if message.is_some() {
                    self.stage = Stage::Asked;
                }
                return message;
            }
            Err(KeError::Protocol(fault)) => {
                // RFC 8915 section 4.1.3: 0 for a critical record that is not understood, 1 for what is malformed.
                let told = self.channel.send(&Response::Error(fault.error_code()).encode());
                self.fail(told.map_err(KeError::Tls).err().unwrap_or(KeError::Protocol(fault)));
            }
            Err(error) => self.fail(error),
        }
        None
    }

    /// Takes octets that come before the answer. A client may say that it sends no more; another message is too much: the
    /// draft knows no pipelining, and clients send one.
    fn take_while_asked(&mut self, bytes: &[u8]) {
        let mut plain = Vec::new();
        match self.channel.handle_input(bytes, &mut plain) {
            Ok(_) if plain.is_empty() => {}
            Ok(_) => {
                self.send(&Response::Error(Fault::AfterEnd.error_code()).encode());
                self.fail(Fault::AfterEnd.into());
            }
            Err(fault) => self.fail(KeError::Tls(fault)),
        }
    }

    fn advance(&mut self, bytes: &[u8]) -> Result<Option<Message>, KeError> {
        let mut plain = Vec::new();
        let closed = self.channel.handle_input(bytes, &mut plain)?;
        if self.stage == Stage::Hello && self.channel.wants_write() {
            self.stage = Stage::Handshake;
        }
        if self.stage == Stage::Handshake && !self.channel.handshaking() {
            self.channel.check_alpn()?;
            self.stage = Stage::Request;
        }
        if !plain.is_empty() && self.incoming.handle_input(&plain)? {
            let gate = self.config.gate.as_ref();
            let admits = |token: &str| gate.is_some_and(|gate| gate.admits(token));
            return Ok(Some(Message::parse(self.incoming.records(), admits)?));
        }
        match closed {
            false => Ok(None),
            true if self.incoming.is_empty() => Err(KeError::Eof(self.stage.awaited())),
            true => Err(Fault::Incomplete.into()),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Monotonic) {
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            self.fail(KeError::Timeout(self.stage.awaited()));
        }
    }

    pub(super) fn handle_eof(&mut self, now: Monotonic) {
        self.handle_timeout(now);
        // Whoever has asked may close its side and still wait for the answer.
        if !matches!(self.stage, Stage::Asked | Stage::Over) {
            self.fail(KeError::Eof(self.stage.awaited()));
        }
    }

    /// Sends a message that ends nothing by itself.
    pub(super) fn send(&mut self, message: &[u8]) {
        if let Err(fault) = self.channel.send(message) {
            self.fail(KeError::Tls(fault));
        }
    }

    /// Sends an answer, and waits for another request if the connection is to be kept.
    pub(super) fn answer(&mut self, now: Monotonic, message: &[u8], keep: bool) {
        if let Err(fault) = self.channel.send(message) {
            self.fail(KeError::Tls(fault));
        } else if keep {
            self.stage = Stage::Kept;
            self.started = now;
        } else {
            self.close();
        }
    }

    /// Ends the session for a reason.
    pub(super) fn fail(&mut self, error: KeError) {
        if self.stage != Stage::Over {
            self.failure = Some(error);
            self.close();
        }
    }

    fn close(&mut self) {
        if !self.channel.handshaking() {
            self.channel.close();
        }
        self.stage = Stage::Over;
    }

    /// What is to be sent.
    pub(super) fn take_output(&mut self) -> Option<Vec<u8>> {
        self.channel.take_output()
    }

    /// Why the session ended, once.
    pub(super) const fn take_failure(&mut self) -> Option<KeError> {
        self.failure.take()
    }

    /// The next deadline and what is waited for.
    pub(super) fn timeout(&self) -> (Option<Monotonic>, &'static str) {
        (self.deadline(), self.stage.awaited())
    }

    fn deadline(&self) -> Option<Monotonic> {
        let Deadlines { hello, handshake, request, total, idle } = self.config.deadlines;
        let stage = match self.stage {
            Stage::Hello => hello.min(total),
            Stage::Handshake => handshake.min(total),
            Stage::Request => request.min(total),
            Stage::Asked => total,
            Stage::Kept => idle,
            Stage::Over => return None,
        };
        Some(self.started + stage)
    }
}
