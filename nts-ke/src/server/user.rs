//! The side of a balancer towards the users of its pool: it takes their requests, exports their keys, and passes on what
//! a member answers.

use std::sync::Arc;

use ntp_proto::time::Monotonic;

use super::{ServerConfig, Stage, conversation::Conversation};
use crate::{
    error::{ErrorCode, Fault, KeError, TlsFault},
    message::{Request, Response},
    pool::{FixedKeys, Message},
    record::RecordType,
};

/// What a user's session wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum UserOutput {
    /// Send these octets.
    Transmit(Vec<u8>),
    /// Find an answer and call [`UserSession::answer`].
    Asked(Request),
    /// The user has its answer; close the connection.
    Done,
    /// The user has nothing, and was told why if it could be; close the connection.
    Failed(KeError),
    /// Call [`UserSession::handle_timeout`] at this time (never, if `None`: the session is over); nothing else to do
    /// until then. The text says what is waited for.
    Timeout(Option<Monotonic>, &'static str),
}

/// One user's connection.
///
/// After every `handle_*` call and after [`answer`](Self::answer), call [`poll_output`](Self::poll_output) until it returns
/// [`UserOutput::Timeout`].
#[derive(Debug)]
pub struct UserSession {
    conversation: Conversation,
    asked: Option<Request>,
    exported: bool,
    answered: bool,
}

impl UserSession {
    /// Starts a session on a connection just accepted.
    ///
    /// # Errors
    ///
    /// [`TlsFault`] if TLS cannot be set up.
    pub fn new(config: Arc<ServerConfig>, now: Monotonic) -> Result<Self, TlsFault> {
        let conversation = Conversation::new(config, now)?;
        Ok(Self { conversation, asked: None, exported: false, answered: false })
    }

    /// How far it has come.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.conversation.stage()
    }

    /// When the connection must be closed even if the user has not taken all that was transmitted.
    #[must_use]
    pub fn final_deadline(&self) -> Monotonic {
        self.conversation.final_deadline()
    }

    /// Takes octets from the user.
    pub fn handle_input(&mut self, now: Monotonic, bytes: &[u8]) {
        match self.conversation.handle_input(now, bytes) {
            None => {}
            Some(Message::Exchange(request)) => self.asked = Some(request),
            // A pool should not be the member of another (the draft, section on security).
            Some(Message::Pool { .. }) => {
                let fault = Fault::UnrecognizedCritical(RecordType::FixedKeyRequest);
                self.conversation.send(&Response::Error(fault.error_code()).encode());
                self.conversation.fail(fault.into());
            }
        }
    }

    /// Takes word that time has passed. A user whose request was not answered in time is told so.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        if self.stage() == Stage::Asked && now >= self.final_deadline() {
            self.conversation.send(&Response::Error(ErrorCode::Internal).encode());
        }
        self.conversation.handle_timeout(now);
    }

    /// Takes word that the user closed the connection.
    pub fn handle_eof(&mut self, now: Monotonic) {
        self.conversation.handle_eof(now);
    }

    /// Exports the user's keys for a member, each of `length` octets: once, for the keys must reach one member at most.
    ///
    /// # Errors
    ///
    /// [`TlsFault`] if they were exported before, or TLS refuses.
    pub fn export(&mut self, protocol: u16, algorithm: u16, length: usize) -> Result<FixedKeys, TlsFault> {
        if core::mem::replace(&mut self.exported, true) {
            return Err(TlsFault::Other("keys were exported before".to_owned()));
        }
        self.conversation.channel.export_fixed(protocol, algorithm, length)
    }

    /// Answers the request; too late if the session is over.
    pub fn answer(&mut self, now: Monotonic, response: &Response<'_>) {
        if self.stage() == Stage::Asked {
            self.answered = true;
            self.conversation.answer(now, &response.encode(), false);
        }
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> UserOutput {
        if let Some(bytes) = self.conversation.take_output() {
            return UserOutput::Transmit(bytes);
        }
        if let Some(error) = self.conversation.take_failure() {
            return UserOutput::Failed(error);
        }
        if let Some(request) = self.asked.take() {
            return UserOutput::Asked(request);
        }
        if core::mem::take(&mut self.answered) {
            return UserOutput::Done;
        }
        let (deadline, awaited) = self.conversation.timeout();
        UserOutput::Timeout(deadline, awaited)
    }
}
