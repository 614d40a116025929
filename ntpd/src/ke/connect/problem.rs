//! Why there are no keys, in words for an administrator.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ntp_proto::{
    bootstrap::Chain,
    pool::{Failure, Name},
};
use nts_ke::{client::InvalidOrder, error::KeError};

/// Why a key exchange gave nothing.
#[derive(Debug)]
pub struct KeProblem {
    /// Who was asked.
    pub server: Name,
    /// Its TCP port.
    pub port: u16,
    /// Why.
    pub cause: Cause,
    /// What the server's certificates, and the records that led to them, say of the time, if nothing but their dates is wrong.
    pub chain: Option<Box<Chain>>,
}

/// Why a key exchange gave nothing, whoever was asked.
#[derive(Debug)]
pub enum Cause {
    /// A name has no addresses; the text begins with it.
    Name(String),
    /// No address takes connections.
    Unreachable(Vec<(SocketAddr, io::Error)>),
    /// No address took a connection in this time.
    NoConnection(Duration),
    /// The server stopped talking; the text says what it owed.
    Stalled(&'static str, Duration),
    /// The connection broke.
    Broken(io::Error),
    /// TLS or the exchange itself failed.
    Session(KeError),
    /// DNSSEC vouches for a certificate of the server, and what it says was forged or kept back; the text says how.
    Forged(String),
    /// The configuration requires something that vouches for the server, and there is no such thing: the word of the
    /// configuration, and what there is instead.
    Missing(&'static str, String),
    /// There is no certificate authority to judge it by.
    NoRoots(String),
    /// The server cannot be asked.
    Order(InvalidOrder),
    /// The server names an NTP server that cannot be one.
    BadNtpServer(String),
    /// The server names an NTP server at addresses where a server of the Internet has no business.
    Redirect(String, Vec<IpAddr>),
}

/// Why no server at any address of a name gave keys.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) cause: Cause,
    /// As in a [`KeProblem`].
    pub(super) chain: Option<Box<Chain>>,
}

impl Failed {
    /// The same, and what an earlier attempt showed of the time if that shows more.
    pub(super) fn after(self, earlier: Option<Self>) -> Self {
        let chains = [self.chain, earlier.and_then(|earlier| earlier.chain)];
        Self { cause: self.cause, chain: chains.into_iter().flatten().max_by_key(|chain| chain.evidence()) }
    }
}

impl From<Cause> for Failed {
    fn from(cause: Cause) -> Self {
        Self { cause, chain: None }
    }
}

impl KeProblem {
    /// Whether the server was not even tried, because what vouches for it is missing or forged.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self.cause, Cause::Forged(_) | Cause::Missing(..))
    }

    /// What the pool mode is told.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match &self.cause {
            Cause::Name(_) => Failure::Resolver,
            Cause::Unreachable(errors) if errors.iter().all(|(_, error)| is_local(error)) => Failure::Network,
            Cause::Unreachable(_) | Cause::NoConnection(_) => Failure::Connect,
            Cause::Stalled(..) | Cause::Broken(_) | Cause::BadNtpServer(_) | Cause::Redirect(..) => Failure::Protocol,
            Cause::Session(error) => error.failure(),
            Cause::NoRoots(_) | Cause::Forged(_) => Failure::Tls,
            Cause::Order(_) | Cause::Missing(..) => Failure::Unsupported,
        }
    }
}

/// Whether no packet can have left this machine. `HostUnreachable` is not among them: that is what a firewall before a
/// server says, too.
fn is_local(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown | io::ErrorKind::AddrNotAvailable
    )
}

impl fmt::Display for KeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, port, cause, chain: _ } = self;
        match cause {
            Cause::Name(text) => f.write_str(text),
            Cause::Unreachable(errors) => {
                let refused = |(_, error): &(_, io::Error)| error.kind() == io::ErrorKind::ConnectionRefused;
                if !errors.is_empty() && errors.iter().all(refused) {
                    return write!(f, "{server}: nobody listens at TCP port {port} (is it an NTS server?)");
                }
                write!(f, "{server}: cannot connect to TCP port {port}")?;
                for (place, (address, error)) in errors.iter().enumerate() {
                    write!(f, "{} {}: {error}", if place == 0 { ":" } else { ";" }, address.ip())?;
                }
                Ok(())
            }
            Cause::NoConnection(after) => write!(
                f,
                "{server}: no connection to TCP port {port} in {} s (does a firewall drop it?)",
                after.as_secs_f32()
            ),
            Cause::Stalled(owed, after) => {
                write!(f, "{server}: key exchange stalled: no {owed} in {:.1} s", after.as_secs_f32())
            }
            Cause::Broken(error) => write!(f, "{server}: connection broke during key exchange: {error}"),
            Cause::Session(error) => write!(f, "{server}: key exchange failed: {error}"),
            Cause::Forged(why) => write!(
                f,
                "{server}: refused: its zone is signed, but what DNS says of its certificate cannot be believed: {why}"
            ),
            Cause::Missing(what, instead) => {
                write!(f, "{server}: refused: `require` asks for \"{what}\", and {instead}")
            }
            Cause::NoRoots(why) => write!(f, "{server}: its certificate cannot be judged: {why}"),
            Cause::Order(error) => write!(f, "{server}: no key exchange is possible: {error}"),
            Cause::BadNtpServer(what) => write!(f, "{server}: key exchange names an NTP server that is none: {what}"),
            Cause::Redirect(named, addresses) => {
                write!(f, "{server}: key exchange names {named} as NTP server, at an address that is not believed:")?;
                addresses.iter().try_for_each(|address| write!(f, " {address}"))
            }
        }
    }
}

impl std::error::Error for KeProblem {}
