//! The members of a pool from its zone: a name server hands it over whole (AXFR, RFC 5936) to whoever has a key (TSIG,
//! RFC 8945), and says by the mark of its list whether that is another. Every message has to be signed with that key, or the
//! next that is.

use core::{fmt, time::Duration};
use std::{io, net::SocketAddr};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use ntp_proto::pool;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::spawn_blocking,
    time::timeout,
};

use super::{
    MAX_BYTES, Mark,
    listed::{Listed, list_name, mark_of},
};
use crate::tsig::{TsigKey, Verifier, refusal};

/// How long a name server may take for everything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Most name servers of a zone.
pub const MAX_SERVERS: usize = 8;

/// Where the list of members is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneSource {
    /// The zone.
    pub name: pool::Name,
    /// Its name servers; the first with a list that is not behind is believed.
    pub servers: Vec<SocketAddr>,
    /// What shows them who asks, and us who answers.
    pub key: TsigKey,
}

/// Why a zone was not transferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// The server cannot be reached, or does not answer.
    Unreachable(String),
    /// The server refuses.
    Refused(String),
    /// What it says is not signed, or not whole.
    Untrusted(String),
    /// The zone holds no list that can be used.
    Unusable(String),
    /// Its list is older than what is known.
    Behind(String),
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "cannot be reached: {why}"),
            Self::Refused(why) => write!(f, "refuses: {why}"),
            Self::Untrusted(why) => write!(f, "cannot be trusted: {why}"),
            Self::Unusable(why) => why.fmt(f),
            Self::Behind(why) => write!(f, "is behind: {why}"),
        }
    }
}

impl core::error::Error for TransferError {}

/// What is wanted of a zone whose list is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Another list, if there is one; its mark tells.
    Change,
    /// The list, whatever its mark says.
    Whole,
    /// The same, even if it is older than what is known.
    Older,
}

/// What a zone came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transferred {
    /// It is what is known.
    Same {
        /// When the zone should be looked at again.
        look_after: Duration,
    },
    /// It is another, or was wanted whole.
    New {
        /// The serial number of its zone.
        serial: u32,
        /// The list.
        listed: Listed,
    },
}

impl ZoneSource {
    /// Asks for the list once, each server in turn until one has it that is not behind. `known` is the mark of what is known,
    /// with its hash; `now` the time in seconds since 1970, and `id` makes numbers for messages. Takes 20 seconds for each
    /// server at most.
    ///
    /// # Errors
    ///
    /// What each server said.
    pub async fn transfer(
        &self,
        known: Option<&Mark>,
        wish: Wish,
        now: impl Fn() -> u64,
        mut id: impl FnMut() -> u16,
    ) -> Result<Transferred, String> {
        let known = known.filter(|_| wish != Wish::Older);
        let mut told = Vec::new();
        for server in &self.servers {
            let asked = timeout(PATIENCE, self.ask(*server, known, wish, now(), &mut id)).await;
            let late = |_| Err(TransferError::Unreachable(format!("no answer within {PATIENCE:?}")));
            match asked.unwrap_or_else(late) {
                Ok(transferred) => return Ok(transferred),
                Err(error) => told.push(format!("name server {server} {error}")),
            }
        }
        Err(format!("zone {}: {}", self.name, told.join("; ")))
    }

    async fn ask(
        &self,
        server: SocketAddr,
        known: Option<&Mark>,
        wish: Wish,
        now: u64,
        id: &mut impl FnMut() -> u16,
    ) -> Result<Transferred, TransferError> {
        let broken = |error: io::Error| TransferError::Unreachable(error.to_string());
        let mut stream = TcpStream::connect(server).await.map_err(broken)?;
        if let Some(known) = known.filter(|_| wish == Wish::Change) {
            let mut mark = Incoming::new(self, RecordType::TXT, id(), now)?;
            exchange(&mut stream, &mut mark).await?;
            let (mark, look_after) = mark_of(&mark.name, &mark.records).map_err(TransferError::Unusable)?;
            if is_known(&mark, known)? {
                return Ok(Transferred::Same { look_after });
            }
        }
        let mut zone = Incoming::new(self, RecordType::AXFR, id(), now)?;
        exchange(&mut stream, &mut zone).await?;
        let serial = zone.serial()?;
        let name = self.name.clone();
        // Thousands of members are read beside what else this thread does.
        let listed = spawn_blocking(move || Listed::read(&name, &zone.records)).await;
        let listed = listed.map_err(|error| TransferError::Unusable(error.to_string()))?;
        let listed = listed.map_err(TransferError::Unusable)?;
        match known {
            // Another server has put the same list in its place earlier.
            Some(known) if is_known(&listed.mark, known)? && listed.mark.generation < known.generation => {
                Ok(Transferred::Same { look_after: listed.look_after })
            }
            _ => Ok(Transferred::New { serial, listed }),
        }
    }
}

/// Whether a list is the known one, or one that was put into its place earlier and is the same. Generations alone say which
/// of two others is older: serial numbers are each server's own.
fn is_known(mark: &Mark, known: &Mark) -> Result<bool, TransferError> {
    let is_older = mark.generation < known.generation;
    if mark.fits(known) && !(is_older && mark.sha256.is_none()) {
        return Ok(mark.generation <= known.generation);
    }
    if is_older {
        let (theirs, ours) = (mark.generation, known.generation);
        let accepted = "accepted: nts-pool-lb reload --older, if the older one is meant";
        return Err(TransferError::Behind(format!("its list has generation {theirs}, ours {ours}; {accepted}")));
    }
    Ok(false)
}

/// Sends a request, and takes messages until all that belongs to it has come.
async fn exchange(stream: &mut TcpStream, incoming: &mut Incoming) -> Result<(), TransferError> {
    let broken = |error: io::Error| TransferError::Unreachable(error.to_string());
    let length = u16::try_from(incoming.request.len());
    let length = length.map_err(|_| TransferError::Unusable("the request is too long".to_owned()))?;
    stream.write_all(&[&length.to_be_bytes(), incoming.request.as_slice()].concat()).await.map_err(broken)?;
    let mut left = MAX_BYTES;
    loop {
        let length = stream.read_u16().await.map_err(broken)?;
        left = left.checked_sub(length.into()).ok_or_else(|| {
            TransferError::Unusable(format!("the zone is longer than {MAX_BYTES} octets, which is too long"))
        })?;
        let mut message = vec![0; length.into()];
        stream.read_exact(&mut message).await.map_err(broken)?;
        if incoming.handle_message(&message)? {
            return Ok(());
        }
    }
}

/// The answer to one request: its messages in their order, and whether they are the server's.
struct Incoming {
    /// What is asked for: the zone, or the mark of its list.
    name: Name,
    key: String,
    kind: RecordType,
    id: u16,
    request: Vec<u8>,
    verifier: Verifier,
    records: Vec<Record>,
}

impl Incoming {
    fn new(source: &ZoneSource, kind: RecordType, id: u16, now: u64) -> Result<Self, TransferError> {
        let ours = |error: String| TransferError::Unusable(error);
        let list = list_name(&source.name).map_err(ours)?;
        let name = if kind == RecordType::AXFR { list.base_name() } else { list };
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(name.clone(), kind));
        let (request, verifier) = Verifier::sign(&source.key, message, now).map_err(ours)?;
        Ok(Self { name, key: source.key.name.to_string(), kind, id, request, verifier, records: Vec::new() })
    }

    /// Takes a message; whether it was the last.
    fn handle_message(&mut self, bytes: &[u8]) -> Result<bool, TransferError> {
        let untrusted = |what: &str| TransferError::Untrusted(what.to_owned());
        // What cannot be read to its end is not looked at in another way.
        let message = Message::from_vec(bytes).map_err(|error| TransferError::Untrusted(error.to_string()))?;
        if message.id != self.id || message.message_type != MessageType::Response {
            return Err(untrusted("it answers something else"));
        }
        if message.response_code != ResponseCode::NoError {
            let why = refusal(&message, &self.key, &format!("have {}", self.name));
            return Err(TransferError::Refused(why));
        }
        let is_signed = self.verifier.handle_message(bytes, message.signature().is_some());
        let is_signed = is_signed.map_err(TransferError::Untrusted)?;
        let before = self.records.len();
        self.records.extend(message.answers);
        let is_whole = self.is_whole(before)?;
        if is_whole && !is_signed {
            return Err(untrusted("the last message is not signed"));
        }
        Ok(is_whole)
    }

    /// Whether all has come: one message, or for a whole zone the start of authority again at its end (RFC 5936 section 2.2).
    /// That it is not before so many records is known.
    fn is_whole(&self, before: usize) -> Result<bool, TransferError> {
        let wrong = |what: &str| TransferError::Untrusted(what.to_owned());
        let is_start = |record: &Record| record.name == self.name && record.record_type() == RecordType::SOA;
        if self.kind != RecordType::AXFR {
            return Ok(true);
        }
        let Some(first) = self.records.first() else { return Ok(false) };
        if !is_start(first) {
            return Err(wrong("it does not begin with the start of authority"));
        }
        let mut later = self.records.iter().enumerate().skip(before.max(1)).filter(|(_, record)| is_start(record));
        match later.next() {
            None => Ok(false),
            Some((place, last)) if place + 1 == self.records.len() && last.data == first.data => Ok(true),
            Some(_) => Err(wrong("the zone does not end as it began")),
        }
    }

    fn serial(&self) -> Result<u32, TransferError> {
        let Some(Record { data: RData::SOA(soa), .. }) = self.records.first() else {
            return Err(TransferError::Untrusted("it has no start of authority".to_owned()));
        };
        Ok(soa.serial)
    }
}

#[cfg(test)]
mod tests;
