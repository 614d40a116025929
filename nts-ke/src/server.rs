//! The server's side of a key exchange.

use core::{fmt, time::Duration};
use std::{net::IpAddr, sync::Arc};

use ntp_proto::{nts::AeadAlgorithm, pool::Name, time::UnixTime};
use rustls::{
    Error, InconsistentKeys,
    pki_types::{CertificateDer, PrivateKeyDer},
};

use crate::{
    cert_time::Validity,
    error::TlsFault,
    message::Request,
    tls,
    verify::{MAX_CHAIN_CERTIFICATES, MAX_CHAIN_OCTETS},
};

mod conversation;
mod session;
mod tickets;
mod user;

pub use conversation::Stage;
pub use session::{MAX_KEPT_EXCHANGES, Output, Served, ServerSession};
pub use tickets::TicketKeys;
pub use user::{UserOutput, UserSession};

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
    /// Until a pool sends its next request over a connection that is kept for it; the others count from there again.
    pub idle: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        // A packet that is lost costs a second before there is a measurement of the way (RFC 6298 section 2.1), at each of
        // the first three. Who is slow on purpose loses its place to others before that.
        let [hello, handshake, request, total, idle] = [3, 5, 7, 8, 300].map(Duration::from_secs);
        Self { hello, handshake, request, total, idle }
    }
}

/// Who knows the pools that this server belongs to.
pub trait Gate: fmt::Debug + Send + Sync {
    /// Whether a token is that of one of them. The comparison must take the same time for all tokens of one length.
    fn admits(&self, token: &str) -> bool;
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
    gate: Option<Arc<dyn Gate>>,
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
            if not_after < not_before {
                return Err(InvalidPair::Expired(TlsFault::NeverValid));
            }
            if judged_at > not_after {
                return Err(InvalidPair::Expired(TlsFault::Expired { not_after, judged_at }));
            }
            if judged_at < not_before {
                let fault = TlsFault::NotYetValid { not_before, judged_at };
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
            gate: None,
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

    /// Serves the pools that `gate` admits: their Fixed Key Requests are answered, their connections are kept.
    #[must_use]
    pub fn with_gate(self, gate: Option<Arc<dyn Gate>>) -> Self {
        Self { gate, ..self }
    }

    /// Lets clients resume sessions with tickets made of these keys; there are no tickets unless this is called. To change
    /// the keys, make another configuration.
    #[must_use]
    pub fn with_tickets(self, keys: TicketKeys) -> Self {
        let mut tls = rustls::ServerConfig::clone(&self.tls);
        tls.ticketer = tickets::Tickets::new(keys);
        tls.send_tls13_tickets = 1;
        Self { tls: Arc::new(tls), ..self }
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
