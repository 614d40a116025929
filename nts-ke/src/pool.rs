//! What a pool and its members say to each other (draft-ietf-ntp-nts-keyexchange-pool-01).
//!
//! A pool asks a member what it can do ([`PoolRequest::Support`]) and hands it the keys of one of its clients
//! ([`PoolRequest::FixedKeys`]), for which the member makes cookies.

use core::fmt;

use zeroize::Zeroizing;

use crate::{
    error::{ErrorCode, Fault, KeError},
    message::{Accepted, Collected, Grant, Request, once},
    record::{Content, Record, RecordType, write, write_end, write_ids},
};

/// Most protocols, and most algorithms, that are kept of a member's list.
pub const MAX_LISTED: usize = 32;

/// Most server names that are kept of a member's list.
pub const MAX_SERVER_NAMES: usize = 16;

/// Which lists a pool asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// The protocols (record 9).
    pub protocols: bool,
    /// The algorithms with the length of their keys (record 10).
    pub algorithms: bool,
    /// The server names that may stand in its answers (record 11).
    pub servers: bool,
}

/// The keys of a client, and what they are for (record 12).
#[derive(Clone, PartialEq, Eq)]
pub struct FixedKeys {
    /// The next protocol.
    pub protocol: u16,
    /// The AEAD algorithm.
    pub algorithm: u16,
    /// Client to server.
    pub c2s: Zeroizing<Vec<u8>>,
    /// Server to client; as long as the other.
    pub s2c: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for FixedKeys {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, algorithm, c2s, .. } = self;
        write!(f, "FixedKeys {{ protocol: {protocol}, algorithm: {algorithm}, 2 x {} octets }}", c2s.len())
    }
}

/// What a pool wants of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolRequest {
    /// To know what it can do. Nothing is negotiated.
    Support(Lists),
    /// Cookies for these keys.
    FixedKeys(FixedKeys),
}

impl PoolRequest {
    /// The message. The token stands first, for it must precede what it authorises; `keep_alive` asks for the connection
    /// to stay open.
    #[must_use]
    pub fn encode(&self, token: &str, keep_alive: bool) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, false, RecordType::Token, token.as_bytes());
        match self {
            Self::Support(lists) => {
                let wanted = [
                    (lists.algorithms, RecordType::SupportedAlgorithms),
                    (lists.protocols, RecordType::SupportedProtocols),
                    (lists.servers, RecordType::ServerNames),
                ];
                for (_, kind) in wanted.into_iter().filter(|(wanted, _)| *wanted) {
                    write(&mut out, true, kind, &[]);
                }
            }
            Self::FixedKeys(keys) => {
                let both = Zeroizing::new([keys.c2s.as_slice(), keys.s2c.as_slice()].concat());
                write(&mut out, true, RecordType::FixedKeyRequest, &both);
                write_ids(&mut out, true, RecordType::NextProtocol, [keys.protocol]);
                write_ids(&mut out, true, RecordType::Aead, [keys.algorithm]);
            }
        }
        if keep_alive {
            write(&mut out, false, RecordType::KeepAlive, &[]);
        }
        write_end(&mut out);
        out
    }
}

/// A message that a server received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// From a client.
    Exchange(Request),
    /// From a pool that showed a token we know.
    Pool {
        /// What it wants.
        request: PoolRequest,
        /// Whether it asks for the connection to stay open.
        keep_alive: bool,
    },
}

impl Message {
    /// Reads a complete message; `admits` says whether a token is that of a pool of ours. Without such a token, records
    /// 9 to 12 count as unrecognized, as the draft has it for members that do not let everybody use them.
    ///
    /// # Errors
    ///
    /// The first rule broken; [`Fault::error_code`] says how to answer.
    pub fn parse<'a>(
        records: impl Iterator<Item = Record<'a>>,
        admits: impl FnMut(&str) -> bool,
    ) -> Result<Self, Fault> {
        let collected = Collected::read(records, admits)?;
        let keep_alive = collected.keep_alive;
        let Some([c2s, s2c]) = &collected.fixed_keys else {
            return if collected.lists == Lists::default() {
                collected.into_request().map(Self::Exchange)
            } else {
                // What is to be negotiated beside a list is passed over: the draft has a server that receives these
                // records negotiate nothing.
                Ok(Self::Pool { request: PoolRequest::Support(collected.lists), keep_alive })
            };
        };
        if collected.lists != Lists::default() {
            return Err(Fault::Unexpected(RecordType::FixedKeyRequest));
        }
        let one = |ids: Option<Vec<u16>>, kind| match ids.as_deref() {
            Some([id]) => Ok(*id),
            Some([]) | None => Err(Fault::Missing(kind)),
            Some([_, _, ..]) => Err(Fault::Several(kind)),
        };
        let keys = FixedKeys {
            c2s: c2s.clone(),
            s2c: s2c.clone(),
            protocol: one(collected.protocols, RecordType::NextProtocol)?,
            algorithm: one(collected.algorithms, RecordType::Aead)?,
        };
        Ok(Self::Pool { request: PoolRequest::FixedKeys(keys), keep_alive })
    }
}

/// What a member can do: its answer to [`PoolRequest::Support`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Support {
    /// Next protocols.
    pub protocols: Vec<u16>,
    /// AEAD algorithms, each with the length of one key in octets.
    pub algorithms: Vec<(u16, u16)>,
    /// Names that it may send clients to, apart from its own.
    pub servers: Vec<String>,
    /// Whether it keeps the connection open.
    pub keep_alive: bool,
}

impl Support {
    /// The message, with the lists that were asked for.
    #[must_use]
    pub fn encode(&self, lists: Lists) -> Vec<u8> {
        let mut out = Vec::new();
        if lists.protocols {
            write_ids(&mut out, true, RecordType::SupportedProtocols, self.protocols.iter().copied());
        }
        if lists.algorithms {
            let pairs = self.algorithms.iter().flat_map(|(algorithm, length)| [*algorithm, *length]);
            write_ids(&mut out, true, RecordType::SupportedAlgorithms, pairs);
        }
        if lists.servers {
            for name in self.servers.iter().take(MAX_SERVER_NAMES) {
                write(&mut out, true, RecordType::Server, name.as_bytes());
            }
        }
        if self.keep_alive {
            write(&mut out, false, RecordType::KeepAlive, &[]);
        }
        write_end(&mut out);
        out
    }

    /// Reads a member's answer. Lists are cut at [`MAX_LISTED`] and [`MAX_SERVER_NAMES`].
    ///
    /// # Errors
    ///
    /// [`KeError::Refused`] and [`KeError::Warned`] for what a member says, [`KeError::Protocol`] with the first rule
    /// broken; a list that was asked for must be there.
    pub fn parse<'a>(records: impl Iterator<Item = Record<'a>>, lists: Lists) -> Result<Self, KeError> {
        let (mut protocols, mut algorithms) = (None, None);
        let mut support = Self::default();
        for record in records {
            match record.content()? {
                Content::Error(code) => return Err(KeError::Refused(ErrorCode::from_number(code))),
                Content::Warning(code) => return Err(KeError::Warned(code)),
                Content::SupportedProtocols(ids) if lists.protocols => once(&mut protocols, ids, record.kind)?,
                Content::SupportedAlgorithms(ids) if lists.algorithms => once(&mut algorithms, ids, record.kind)?,
                Content::Server(name) if lists.servers => support.servers.push(name.to_owned()),
                Content::KeepAlive => support.keep_alive = true,
                Content::Unknown if record.critical => return Err(Fault::UnrecognizedCritical(record.kind).into()),
                Content::EndOfMessage | Content::Unknown => {}
                Content::SupportedProtocols(_)
                | Content::SupportedAlgorithms(_)
                | Content::Server(_)
                | Content::NextProtocol(_)
                | Content::Aead(_)
                | Content::NewCookie(_)
                | Content::Port(_)
                | Content::ServerNames
                | Content::FixedKeyRequest { .. }
                | Content::ServerDeny(_)
                | Content::Token(_)
                | Content::CompliantExport => return Err(Fault::Unexpected(record.kind).into()),
            }
        }
        if lists.protocols {
            let ids = protocols.ok_or(Fault::Missing(RecordType::SupportedProtocols))?;
            support.protocols = ids.iter().take(MAX_LISTED).collect();
        }
        if lists.algorithms {
            let ids = algorithms.ok_or(Fault::Missing(RecordType::SupportedAlgorithms))?;
            let (ids, lengths) = (ids.iter().step_by(2), ids.iter().skip(1).step_by(2));
            support.algorithms = ids.zip(lengths).take(MAX_LISTED).collect();
        }
        support.servers.truncate(MAX_SERVER_NAMES);
        Ok(support)
    }
}

/// A member's positive answer to [`PoolRequest::FixedKeys`].
#[must_use]
pub(crate) fn encode_grant(grant: &Grant<'_>, keep_alive: bool) -> Vec<u8> {
    let mut out = Vec::new();
    grant.write(&mut out);
    if keep_alive {
        write(&mut out, false, RecordType::KeepAlive, &[]);
    }
    write_end(&mut out);
    out
}

/// Reads a member's answer to [`PoolRequest::FixedKeys`]: an ordinary one, for exactly what was asked.
///
/// # Errors
///
/// As [`Accepted::parse`].
pub fn parse_grant<'a>(records: impl Iterator<Item = Record<'a>>, keys: &FixedKeys) -> Result<Accepted, KeError> {
    let request = Request { protocols: vec![keys.protocol], algorithms: vec![keys.algorithm], ..Request::default() };
    Accepted::parse(records, &request)
}

#[cfg(test)]
mod tests;
