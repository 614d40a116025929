//! What a pool mode must answer, and what it may ask for.
//!
//! A mode turns one name into members: servers the daemon then starts a source for. It performs no IO; it asks
//! [`Question`]s and is told [`Answer`]s. Keys never enter a mode: the daemon keeps what a key exchange gave under
//! the [`QuestionId`] of the exchange.

use std::net::SocketAddr;

use crate::{ids::Trust, time::Monotonic};

pub mod addresses;
pub mod auto;
mod census;
pub mod classic;
mod family;
pub mod listed;
mod name;
pub mod order;
mod pace;
pub mod plain;

pub use name::{InvalidName, Name};
pub use pace::{Backoff, MAX_SHUNNED, Shunned};

/// Most members one pool name may be asked for.
pub const MAX_MEMBERS: usize = 16;

/// Identifies one question of one mode, so that answers may come in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuestionId(pub u32);

/// Identifies one member of one mode; never reused by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u32);

/// Something only the outside world knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The addresses of a host, each with `port`.
    Addresses {
        /// Whose addresses.
        name: Name,
        /// Port to put into each of them.
        port: u16,
    },
    /// One NTS key exchange.
    KeyExchange(KeyExchange),
    /// Service records.
    Services {
        /// The whole owner name, such as `_ntske._tcp.time.example`.
        owner: Name,
        /// Whether DNSSEC must vouch for them. It need not where they lead to plain NTP: there is nothing to lose.
        validated: bool,
    },
}

/// Whom to exchange keys with, and what to tell them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyExchange {
    /// The name the certificate must be valid for.
    pub server: Name,
    /// TCP port.
    pub port: u16,
    /// Connect to these addresses instead of resolving `server`.
    pub addresses: Option<Vec<SocketAddr>>,
    /// Whether DNSSEC vouches for `server`: it was named by records that were validated.
    pub validated: bool,
    /// NTP servers we hold already, for NTP Server Deny records
    /// (draft-ietf-ntp-nts-keyexchange-pool-01), exactly as they were negotiated.
    pub denied: Vec<String>,
}

/// One service record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Lower is tried first.
    pub priority: u16,
    /// Relative share within a priority.
    pub weight: u16,
    /// TCP port.
    pub port: u16,
    /// Host.
    pub target: Name,
}

/// What a finished key exchange tells a mode. The keys stay with the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The NTP server as the key exchange named it; the key-exchange server's own name or address if it named none.
    pub ntp_server: String,
    /// Where that server answers NTP: all of its addresses, best first, never empty.
    pub addresses: Vec<SocketAddr>,
    /// What vouches for it.
    pub trust: Trust,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Addresses of a host.
    Addresses {
        /// In the order to be tried, never empty.
        addresses: Vec<SocketAddr>,
        /// When they should be asked for again.
        until: Monotonic,
    },
    /// A key exchange was completed.
    KeyExchange(Negotiated),
    /// Service records, which DNSSEC vouches for if that was asked; never empty.
    Services {
        /// The records, in the order of the answer.
        records: Vec<Service>,
        /// When they should be asked for again.
        until: Monotonic,
    },
    /// The name or the records do not exist: authoritatively, so another mode may be tried.
    NoRecord,
    /// No answer could be had now; nothing follows from that.
    Failed(Failure),
    /// There are records, but DNSSEC does not cover them.
    Insecure,
    /// There are records, and DNSSEC says they are forged or broken.
    Bogus,
}

/// Why a question got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The resolver failed or did not answer in time.
    Resolver,
    /// This machine has no way to the server.
    Network,
    /// No connection to the key-exchange server.
    Connect,
    /// The key-exchange server's certificate or TLS is not acceptable.
    Tls,
    /// The key exchange itself failed: an error record, a broken rule, or a missed deadline.
    Protocol,
    /// The server cannot do what we need (no common protocol or algorithm).
    Unsupported,
}

/// A server that the pool proposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which one.
    pub id: MemberId,
    /// How to show it: the server's name, or its address.
    pub label: String,
    /// Where it answers NTP: all addresses of the one server, best first, never empty.
    pub addresses: Vec<SocketAddr>,
    /// The key exchange whose keys belong to it; `None` for plain NTP.
    pub keys: Option<QuestionId>,
    /// What vouches for it.
    pub trust: Trust,
    /// The member that this one takes the place of: the daemon moves an existing source to the new keys or address, or
    /// drops it once this one runs.
    pub replaces: Option<MemberId>,
}

/// Why the daemon wants another member, or fresh keys for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It told us to go away (kiss code DENY or RSTR).
    Denied,
    /// It does not answer.
    Unreachable,
    /// It answers, with a wrong time or none.
    Unusable,
    /// Its keys or cookies are used up or refused; the old ones stay in use until new ones come.
    KeysLost,
}

/// What a mode wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Find this out and call [`PoolMode::handle_answer`].
    Ask(QuestionId, Question),
    /// Start a source for this member.
    Join(Member),
    /// Call [`PoolMode::handle_timeout`] at this time (never, if `None`); nothing else to do until then. The text says
    /// what is waited for.
    Timeout(Option<Monotonic>, &'static str),
}

/// A way of turning one pool name into members.
///
/// After every `set_*` or `handle_*` call, call [`poll_output`](Self::poll_output) until it returns
/// [`Output::Timeout`]. Every implementer is held to this by one contract suite.
pub trait PoolMode {
    /// Sets how many members are wanted, at most [`MAX_MEMBERS`]. If there are more, the daemon drops as many as it
    /// likes with [`handle_leave`](Self::handle_leave); none joins before there are fewer.
    fn set_target(&mut self, members: usize);
    /// Takes the answer to a question asked earlier; answers to other questions are ignored.
    fn handle_answer(&mut self, now: Monotonic, id: QuestionId, answer: Answer);
    /// Takes word that a member was dropped, or needs keys.
    fn handle_leave(&mut self, now: Monotonic, member: MemberId, reason: Leave);
    /// Takes the wish for news, now and whatever is waited for: what has no answer yet is asked again, and so is where the
    /// members are. They stay until an answer says that they moved; then others join that replace them. Nobody is shunned
    /// for it.
    fn handle_refresh(&mut self, now: Monotonic);
    /// Takes word that time has passed.
    fn handle_timeout(&mut self, now: Monotonic);
    /// Returns the next thing to do.
    fn poll_output(&mut self) -> Output;
}
