//! Whom to trust, and whether a certificate chain leads there.

use core::fmt;
use std::sync::Arc;

use ntp_proto::time::UnixTime;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{self, CryptoProvider},
    pki_types::{self, CertificateDer, ServerName, TrustAnchor},
    time_provider::TimeProvider,
};
use sha2::{Digest as _, Sha256};

use crate::{
    dane::{self, Chain, Digests, Mismatch, Tlsa},
    error::{MAX_SHOWN_NAMES, TlsFault},
};

/// Most certificates of a chain, the server's own included.
pub const MAX_CHAIN_CERTIFICATES: usize = 8;

/// Most octets of a chain.
pub const MAX_CHAIN_OCTETS: usize = 65_536;

/// The certificates that may vouch for a server. Nothing is trusted that was not given.
#[derive(Clone, Debug)]
pub struct TrustRoots {
    store: Arc<RootCertStore>,
    /// Of each root of the store, in its order.
    digests: Arc<[Digests]>,
    ignored: usize,
    fingerprint: [u8; 32],
}

/// None of the certificates given can be a trust root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoUsableRoots {
    /// How many were given.
    pub given: usize,
}

impl fmt::Display for NoUsableRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.given {
            0 => f.write_str("no trusted certificates"),
            given => write!(f, "none of {given} trusted certificates can be read"),
        }
    }
}

impl core::error::Error for NoUsableRoots {}

impl TrustRoots {
    /// Takes certificates. Those that cannot be read are ignored, as system stores hold a few of them.
    ///
    /// # Errors
    ///
    /// [`NoUsableRoots`] if none is left.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, NoUsableRoots> {
        let given = certificates.len();
        let fingerprint = fingerprint(&certificates);
        let mut store = RootCertStore::empty();
        let mut digests = Vec::with_capacity(given);
        for certificate in certificates {
            let of_this = Digests::of(&certificate);
            if store.add(certificate).is_ok() {
                digests.push(of_this);
            }
        }
        if digests.is_empty() {
            return Err(NoUsableRoots { given });
        }
        let ignored = given.saturating_sub(digests.len());
        Ok(Self { store: Arc::new(store), digests: digests.into(), ignored, fingerprint })
    }

    /// How many certificates are trusted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Whether none is: never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.store.is_empty()
    }

    /// How many of the certificates given could not be read.
    #[must_use]
    pub fn ignored(&self) -> usize {
        self.ignored
    }

    /// A digest of the certificates given, in whatever order: another one means that others are trusted.
    #[must_use]
    pub const fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.store.roots
    }

    /// What is known of the certificate of a root.
    pub(crate) fn digests(&self, anchor: &TrustAnchor<'_>) -> Option<&Digests> {
        let same = |root: &TrustAnchor<'_>| {
            root.subject == anchor.subject && root.subject_public_key_info == anchor.subject_public_key_info
        };
        self.digests.get(self.anchors().iter().position(same)?)
    }
}

/// SHA-256 over the sorted digests of the certificates.
fn fingerprint(certificates: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut digests: Vec<[u8; 32]> = certificates.iter().map(|one| Sha256::digest(one).into()).collect();
    digests.sort_unstable();
    digests.dedup();
    Sha256::digest(digests.concat()).into()
}

/// The usual verification (RFC 5280, RFC 6125 by subject alternative names), with bounds on what is looked at; or that by
/// TLSA records, where there are any.
#[derive(Clone, Debug)]
pub(crate) struct Verifier {
    /// Without it nobody is trusted but whom TLSA records vouch for.
    usual: Option<(TrustRoots, Arc<WebPkiServerVerifier>)>,
    provider: Arc<CryptoProvider>,
    records: Vec<Tlsa>,
}

impl Verifier {
    pub(crate) fn new(roots: &TrustRoots, provider: Arc<CryptoProvider>) -> Result<Self, NoUsableRoots> {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.store.clone(), provider.clone()).build();
        let verifier = verifier.map_err(|_| NoUsableRoots { given: roots.len() })?;
        Ok(Self { usual: Some((roots.clone(), verifier)), ..Self::without_roots(provider) })
    }

    pub(crate) const fn without_roots(provider: Arc<CryptoProvider>) -> Self {
        Self { usual: None, provider, records: Vec::new() }
    }

    /// The same for a server with these TLSA records.
    pub(crate) fn with_records(&self, records: &[Tlsa]) -> Self {
        Self { records: records.to_vec(), ..self.clone() }
    }

    pub(crate) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    pub(crate) fn roots(&self) -> Option<&TrustRoots> {
        self.usual.as_ref().map(|(roots, _)| roots)
    }

    /// Verifies a chain without TLSA records.
    pub(crate) fn verify_usual(&self, chain: Chain<'_>) -> Result<(), Error> {
        let Some((_, verifier)) = &self.usual else {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let Chain { end_entity, intermediates, name, now } = chain;
        verifier.verify_server_cert(end_entity, intermediates, name, &[], now).map(|_| ())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: pki_types::UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let octets = intermediates.iter().fold(end_entity.len(), |sum, one| sum.saturating_add(one.len()));
        if intermediates.len() >= MAX_CHAIN_CERTIFICATES || octets > MAX_CHAIN_OCTETS {
            return Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(ChainTooLong)))));
        }
        let chain = Chain { end_entity, intermediates, name, now };
        if self.records.is_empty() {
            self.verify_usual(chain)?;
        } else {
            dane::verify(&self.records, self, chain)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct ChainTooLong;

impl fmt::Display for ChainTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {MAX_CHAIN_CERTIFICATES} certificates or {MAX_CHAIN_OCTETS} octets")
    }
}

impl core::error::Error for ChainTooLong {}

/// The time at which a session judges certificates, for its whole life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JudgedAt(pub(crate) UnixTime);

impl TimeProvider for JudgedAt {
    fn current_time(&self) -> Option<pki_types::UnixTime> {
        // Times before 1970 are judged as 1970: no certificate is valid at either.
        let seconds = u64::try_from(self.0.seconds).unwrap_or(0);
        Some(pki_types::UnixTime::since_unix_epoch(core::time::Duration::from_secs(seconds)))
    }
}

/// What the library says of a certificate, in our terms.
pub(crate) fn certificate_fault(error: &CertificateError, judged_at: UnixTime) -> TlsFault {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's list is open, and its own words will do")]
    match error {
        CertificateError::Expired => TlsFault::Expired { not_after: None, judged_at },
        CertificateError::ExpiredContext { not_after, .. } => {
            TlsFault::Expired { not_after: Some(from_pki(*not_after)), judged_at }
        }
        CertificateError::NotValidYet => TlsFault::NotYetValid { not_before: None, judged_at },
        CertificateError::NotValidYetContext { not_before, .. } => {
            TlsFault::NotYetValid { not_before: Some(from_pki(*not_before)), judged_at }
        }
        CertificateError::NotValidForNameContext { expected, presented } => TlsFault::WrongName {
            expected: expected.to_str().into_owned(),
            presented: presented.iter().take(MAX_SHOWN_NAMES).map(|name| bare(name)).collect(),
        },
        CertificateError::UnknownIssuer => TlsFault::UnknownIssuer,
        CertificateError::Revoked => TlsFault::Revoked,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => TlsFault::WrongPurpose,
        CertificateError::Other(other) if other.0.is::<ChainTooLong>() => TlsFault::ChainTooLong,
        CertificateError::Other(other) => match other.0.downcast_ref::<Mismatch>() {
            Some(Mismatch { records }) => TlsFault::NotInDns { records: *records },
            None => TlsFault::Certificate(error.to_string()),
        },
        other => TlsFault::Certificate(other.to_string()),
    }
}

/// A name without what the library puts around it, as in `DnsName("ke.example")`.
fn bare(shown: &str) -> String {
    let quoted = shown.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"'));
    quoted.map_or(shown, |(name, _)| name).to_owned()
}

fn from_pki(time: pki_types::UnixTime) -> UnixTime {
    UnixTime { seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), nanos: 0 }
}
