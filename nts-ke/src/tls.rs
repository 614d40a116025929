//! TLS 1.3 as RFC 8915 section 3 wants it, over buffers.

use core::fmt;
use std::{
    io::{Read as _, Write as _},
    sync::Arc,
};

use ntp_proto::{
    bootstrap::{Chain, Judgement},
    nts::{AeadAlgorithm, SessionKeys},
    time::UnixTime,
};
use rustls::{
    CipherSuite, Connection, Error, InvalidMessage, PeerIncompatible,
    client::{Resumption, TicketRequest},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

use crate::{
    error::TlsFault,
    export,
    judge::{Judge, TimeOfDay, certificate_fault},
    pool::FixedKeys,
};

/// The ALPN protocol of RFC 8915 section 4.
const ALPN: &[u8] = b"ntske/1";

/// Octets of TLS taken from a server: a chain, and the longest response even at one octet a TLS record.
pub(crate) const MAX_FROM_SERVER: usize = 2 << 20;

/// Octets of TLS taken from a client, by the same measure.
pub(crate) const MAX_FROM_CLIENT: usize = 256 << 10;

/// Where no certificate is judged.
const NONE: Judgement = Judgement::At(UnixTime { seconds: 0, nanos: 0 });

/// Octets of plaintext moved at a time.
const PIECE: usize = 4096;

/// The library's provider, with AES-128 and SHA-256 first. The key exchanges that go with it are of that strength too, and
/// most processors have instructions for SHA-256 but none for SHA-384, which is a tenth of the cost of a handshake.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// One side of a TLS connection.
pub(crate) struct Channel {
    connection: Connection,
    judgement: Judgement,
    /// A server judges nobody.
    judge: Option<Arc<Judge>>,
    /// Octets that may still come.
    budget: usize,
    /// Octets that may come for one message.
    renewal: usize,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("handshaking", &self.handshaking()).field("budget", &self.budget).finish()
    }
}

impl Channel {
    /// The client's side.
    pub(crate) fn client(
        provider: Arc<CryptoProvider>,
        judge: Judge,
        server: ServerName<'static>,
        judgement: Judgement,
    ) -> Result<Self, TlsFault> {
        let judge = Arc::new(judge);
        let time = TimeOfDay(match judgement {
            Judgement::At(at) => at.seconds,
            Judgement::Deferred { now, floor } => now.max(floor),
        });
        let mut config = rustls::ClientConfig::builder_with_details(provider, Arc::new(time))
            // RFC 8915 section 3: no version before TLS 1.3.
            .with_protocol_versions(&[&TLS13])
            .map_err(other)?
            .dangerous()
            .with_custom_certificate_verifier(judge.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A resumed session would tie two exchanges together for whoever watches, and save next to nothing. And in it no
        // certificate is judged, which must be done anew once the time is known.
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.send_ticket_request = Some(TicketRequest { new_session_count: 0, resumption_count: 0 });
        let connection = rustls::ClientConnection::new(Arc::new(config), server).map_err(other)?;
        let (budget, renewal) = (MAX_FROM_SERVER, MAX_FROM_SERVER);
        Ok(Self { connection: connection.into(), judgement, judge: Some(judge), budget, renewal })
    }

    /// The server's side.
    pub(crate) fn server(config: Arc<rustls::ServerConfig>) -> Result<Self, TlsFault> {
        let connection = rustls::ServerConnection::new(config).map_err(other)?;
        let (budget, renewal) = (MAX_FROM_CLIENT, MAX_FROM_CLIENT);
        Ok(Self { connection: connection.into(), judgement: NONE, judge: None, budget, renewal })
    }

    /// Takes octets from the peer and appends what they hold for us to `plain`; returns whether the peer has said that
    /// no more will come. After an error an alert may wait in [`Self::take_output`].
    pub(crate) fn handle_input(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<bool, TlsFault> {
        self.budget = self.budget.checked_sub(bytes.len()).ok_or(TlsFault::TooMuchData)?;
        let mut closed = false;
        // Ends: every round takes at least one octet.
        while !bytes.is_empty() && !closed {
            if self.connection.read_tls(&mut bytes).map_err(|_| TlsFault::TooMuchData)? == 0 {
                break;
            }
            let state = self.connection.process_new_packets().map_err(|error| fault(error, self.judgement))?;
            closed = state.peer_has_closed();
            let mut piece = [0; PIECE];
            while let Ok(taken @ 1..) = self.connection.reader().read(&mut piece) {
                plain.extend(piece.iter().take(taken));
            }
        }
        Ok(closed)
    }

    /// Takes what is to be sent to the peer.
    pub(crate) fn take_output(&mut self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        while self.connection.wants_write() && matches!(self.connection.write_tls(&mut out), Ok(1..)) {}
        (!out.is_empty()).then_some(out)
    }

    /// Whether anything is to be sent.
    pub(crate) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Whether keys are not agreed on yet.
    pub(crate) fn handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the peer agreed to speak NTS key establishment: a peer that says nothing of protocols is let through by
    /// the library.
    pub(crate) fn check_alpn(&self) -> Result<(), TlsFault> {
        if self.connection.alpn_protocol() == Some(ALPN) { Ok(()) } else { Err(TlsFault::NoAlpn) }
    }

    /// Sends a message in one piece.
    pub(crate) fn send(&mut self, message: &[u8]) -> Result<(), TlsFault> {
        self.connection.writer().write_all(message).map_err(|error| TlsFault::Other(error.to_string()))
    }

    /// Tells the peer that no more will come.
    pub(crate) fn close(&mut self) {
        self.connection.send_close_notify();
    }

    /// Exports the keys of the session, with `number` as that of the algorithm.
    pub(crate) fn export(&self, algorithm: AeadAlgorithm, number: u16) -> Result<SessionKeys, TlsFault> {
        export::session_keys(&self.connection, algorithm, number)
    }

    /// Exports the keys of a user for a member of the pool, each of `length` octets.
    pub(crate) fn export_fixed(&self, protocol: u16, algorithm: u16, length: usize) -> Result<FixedKeys, TlsFault> {
        export::fixed_keys(&self.connection, protocol, algorithm, length)
    }

    /// Takes as many octets again as at the start: another message may come.
    pub(crate) const fn renew_budget(&mut self) {
        self.budget = self.renewal;
    }

    /// What the server's chain says of the time, if nothing but its dates can be wrong. Before the handshake is over it may
    /// be the chain of somebody else.
    pub(crate) fn chain(&self) -> Option<&Chain> {
        self.judge.as_ref()?.chain()
    }
}

/// The server's configuration for all its sessions.
pub(crate) fn server_config(
    provider: Arc<CryptoProvider>,
    certified: CertifiedKey,
) -> Result<rustls::ServerConfig, Error> {
    // A server judges no certificate. The time given here goes into tickets, whose life their keys bound.
    let mut config = rustls::ServerConfig::builder_with_details(provider, Arc::new(TimeOfDay(0)))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Clients have orders of their own; see `provider`.
    config.ignore_client_order = true;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

/// Reads a key and puts it together with its certificates, unchecked.
pub(crate) fn certified_key(
    provider: &CryptoProvider,
    chain: Vec<CertificateDer<'static>>,
    key: rustls::pki_types::PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Error> {
    Ok(CertifiedKey::new(chain, provider.key_provider.load_private_key(key)?))
}

fn other(error: Error) -> TlsFault {
    fault(error, NONE)
}

/// What the library says, in our terms.
fn fault(error: Error, judgement: Judgement) -> TlsFault {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's list is open, and its own words will do")]
    match error {
        Error::InvalidCertificate(error) => certificate_fault(&error, judgement),
        Error::NoApplicationProtocol => TlsFault::NoAlpn,
        Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol) => TlsFault::NoAlpn,
        Error::AlertReceived(rustls::AlertDescription::ProtocolVersion) => TlsFault::Version,
        Error::AlertReceived(alert) => TlsFault::Alert(alert),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic,
        ) => TlsFault::Version,
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            TlsFault::NoTls
        }
        other => TlsFault::Other(other.to_string()),
    }
}
