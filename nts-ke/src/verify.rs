//! Whom to trust, and whether a certificate chain leads there.

use core::fmt;
use std::sync::Arc;

use rustls::{
    CertificateError, Error, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, TrustAnchor},
};
use sha2::{Digest as _, Sha256};
use webpki::VerifiedPath;

use crate::{
    dane::Digests,
    path::{self, Path, Presented},
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
    /// How many of the first were named by the administrator.
    pinned: usize,
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
        Self::pinning(Vec::new(), certificates)
    }

    /// The same, and knows those that the administrator named himself from the others.
    ///
    /// # Errors
    ///
    /// [`NoUsableRoots`] if none is left.
    pub fn pinning(
        named: Vec<CertificateDer<'static>>,
        others: Vec<CertificateDer<'static>>,
    ) -> Result<Self, NoUsableRoots> {
        let pinned = named.len();
        let certificates: Vec<_> = named.into_iter().chain(others).collect();
        let given = certificates.len();
        let fingerprint = fingerprint(&certificates);
        let mut store = RootCertStore::empty();
        let mut digests = Vec::with_capacity(given);
        let mut usable_pinned = 0;
        for (place, certificate) in certificates.into_iter().enumerate() {
            let of_this = Digests::of(&certificate);
            if store.add(certificate).is_ok() {
                digests.push(of_this);
                usable_pinned += usize::from(place < pinned);
            }
        }
        if digests.is_empty() {
            return Err(NoUsableRoots { given });
        }
        let ignored = given.saturating_sub(digests.len());
        Ok(Self { store: Arc::new(store), digests: digests.into(), pinned: usable_pinned, ignored, fingerprint })
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
        self.digests.get(self.place(anchor)?)
    }

    /// Whether the administrator named it.
    fn is_pinned(&self, anchor: &TrustAnchor<'_>) -> bool {
        self.place(anchor).is_some_and(|place| place < self.pinned)
    }

    /// The first of a root's places: those that the administrator named come before the others.
    fn place(&self, anchor: &TrustAnchor<'_>) -> Option<usize> {
        let same = |root: &TrustAnchor<'_>| {
            root.subject == anchor.subject && root.subject_public_key_info == anchor.subject_public_key_info
        };
        self.anchors().iter().position(same)
    }
}

/// SHA-256 over the sorted digests of the certificates.
fn fingerprint(certificates: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut digests: Vec<[u8; 32]> = certificates.iter().map(|one| Sha256::digest(one).into()).collect();
    digests.sort_unstable();
    digests.dedup();
    Sha256::digest(digests.concat()).into()
}

/// What can vouch for a server besides its TLSA records.
#[derive(Clone, Debug)]
pub(crate) struct Verifier {
    /// Without it nobody is trusted but whom TLSA records vouch for.
    usual: Option<(TrustRoots, Arc<WebPkiServerVerifier>)>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    pub(crate) fn new(roots: &TrustRoots, provider: Arc<CryptoProvider>) -> Result<Self, NoUsableRoots> {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.store.clone(), provider.clone()).build();
        let verifier = verifier.map_err(|_| NoUsableRoots { given: roots.len() })?;
        Ok(Self { usual: Some((roots.clone(), verifier)), provider })
    }

    pub(crate) const fn without_roots(provider: Arc<CryptoProvider>) -> Self {
        Self { usual: None, provider }
    }

    pub(crate) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// Verifies a chain by the roots.
    pub(crate) fn verify_usual(&self, presented: Presented<'_>) -> Result<Path, Error> {
        let through_any = |_: &TrustRoots, _: &VerifiedPath<'_>| true;
        // Whatever the library can read, so can we.
        self.verify_through(presented, &through_any)?.ok_or_else(|| CertificateError::BadEncoding.into())
    }

    /// The same, by those of the ways alone that are meant; `None` if the chain holds, but by none of these.
    pub(crate) fn verify_through(
        &self,
        presented: Presented<'_>,
        is_meant: &dyn Fn(&TrustRoots, &VerifiedPath<'_>) -> bool,
    ) -> Result<Option<Path>, Error> {
        let Some((roots, verifier)) = &self.usual else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        let Presented { end_entity, intermediates, name, now } = presented;
        verifier.verify_server_cert(end_entity, intermediates, name, &[], now)?;
        let is_meant = |path: &VerifiedPath<'_>| is_meant(roots, path);
        let is_pinned = |anchor: &TrustAnchor<'_>| roots.is_pinned(anchor);
        Ok(path::longest(presented, &self.provider, roots.anchors(), &is_meant, &is_pinned))
    }
}
