//! DANE: certificates that TLSA records vouch for (RFC 6698, RFC 7671).
//!
//! Everything here takes records whose DNSSEC signatures were validated; it has no means to do so itself.

use core::fmt;
use std::sync::Arc;

use rustls::{
    CertificateError, Error, OtherError, RootCertStore, client::WebPkiServerVerifier,
    client::danger::ServerCertVerifier as _, crypto::CryptoProvider, pki_types::CertificateDer,
};
use sha2::{Digest as _, Sha256, Sha512};
use webpki::VerifiedPath;

use crate::{
    der,
    judge::is_of_dates,
    path::{self, Path, Presented},
    verify::{TrustRoots, Verifier},
};

/// Most records that are looked at for one server.
pub const MAX_RECORDS: usize = 16;

/// Most octets of one record.
pub const MAX_RECORD_OCTETS: usize = 16_384;

/// What a record vouches for (RFC 6698 section 2.1.1, names of RFC 7218).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Usage {
    /// 0, PKIX-TA: an authority that the chain must lead through, besides the usual verification.
    PkixTa,
    /// 1, PKIX-EE: the server's certificate, besides the usual verification.
    PkixEe,
    /// 2, DANE-TA: an authority that is trusted for this server alone.
    DaneTa,
    /// 3, DANE-EE: the server's certificate or key, and nothing else is asked.
    DaneEe,
}

/// Which part of a certificate is compared (RFC 6698 section 2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// 0: all of it.
    Certificate,
    /// 1: its `SubjectPublicKeyInfo`.
    PublicKey,
}

/// How it is compared (RFC 6698 section 2.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Matching {
    /// 0: octet by octet.
    Full,
    /// 1: by its SHA-256.
    Sha256,
    /// 2: by its SHA-512.
    Sha512,
}

/// A usable TLSA record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tlsa {
    usage: Usage,
    selector: Selector,
    matching: Matching,
    data: Vec<u8>,
}

/// Why a TLSA record cannot be used (RFC 6698 section 4.1). If none of a server's records can, it is verified as if
/// there were none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Its usage is not known here.
    Usage(u8),
    /// Its selector is not known here.
    Selector(u8),
    /// Its matching type is not known here.
    Matching(u8),
    /// Its data is not what its matching type asks for: a hash of another length, or not a whole certificate or key.
    Data,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(number) => write!(f, "unknown usage {number}"),
            Self::Selector(number) => write!(f, "unknown selector {number}"),
            Self::Matching(number) => write!(f, "unknown matching type {number}"),
            Self::Data => f.write_str("its data is not what its matching type asks for"),
        }
    }
}

impl core::error::Error for Unusable {}

impl Tlsa {
    /// Takes the fields of a record as they stand in DNS.
    ///
    /// # Errors
    ///
    /// [`Unusable`] if it can vouch for nothing.
    pub fn new(usage: u8, selector: u8, matching: u8, data: Vec<u8>) -> Result<Self, Unusable> {
        let usage = match usage {
            0 => Usage::PkixTa,
            1 => Usage::PkixEe,
            2 => Usage::DaneTa,
            3 => Usage::DaneEe,
            other => return Err(Unusable::Usage(other)),
        };
        let selector = match selector {
            0 => Selector::Certificate,
            1 => Selector::PublicKey,
            other => return Err(Unusable::Selector(other)),
        };
        let (matching, fits) = match matching {
            0 => (Matching::Full, is_whole(selector, &data)),
            1 => (Matching::Sha256, data.len() == 32),
            2 => (Matching::Sha512, data.len() == 64),
            other => return Err(Unusable::Matching(other)),
        };
        if fits { Ok(Self { usage, selector, matching, data }) } else { Err(Unusable::Data) }
    }

    /// What it vouches for.
    #[must_use]
    pub const fn usage(&self) -> Usage {
        self.usage
    }

    /// Whether it means this certificate, or its key.
    #[must_use]
    pub fn matches(&self, certificate: &CertificateDer<'_>) -> bool {
        match self.selector {
            Selector::Certificate => self.is_of(certificate),
            Selector::PublicKey => der::public_key_info(certificate).is_some_and(|info| self.is_of(info)),
        }
    }

    fn is_of(&self, selected: &[u8]) -> bool {
        match self.matching {
            Matching::Full => self.data == selected,
            Matching::Sha256 => self.data == Sha256::digest(selected).as_slice(),
            Matching::Sha512 => self.data == Sha512::digest(selected).as_slice(),
        }
    }
}

impl fmt::Display for Tlsa {
    /// The first three fields, as in a zone file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.usage as u8, self.selector as u8, self.matching as u8)
    }
}

/// Whether `data` can be all of what the selector means.
fn is_whole(selector: Selector, data: &[u8]) -> bool {
    data.len() <= MAX_RECORD_OCTETS
        && match selector {
            Selector::Certificate => der::is_one(data, der::SEQUENCE) && der::public_key_info(data).is_some(),
            Selector::PublicKey => der::is_one(data, der::SEQUENCE),
        }
}

/// Whether the server's own certificate is vouched for by itself, whatever it says of names and dates.
#[must_use]
pub(crate) fn vouch_for_end_entity(records: &[Tlsa], end_entity: &CertificateDer<'_>) -> bool {
    let vouches = |record: &Tlsa| record.usage == Usage::DaneEe && record.matches(end_entity);
    records.iter().take(MAX_RECORDS).any(vouches)
}

/// Verifies a chain by a server's usable records, of which there must be at least one. Any of them will do (RFC 6698
/// section 4.1), so that a server can publish those of the next certificate along with those of the present one. There is
/// no path where nothing but the record is asked.
pub(crate) fn verify(records: &[Tlsa], usual: &Verifier, presented: Presented<'_>) -> Result<Option<Path>, Error> {
    // RFC 7671 section 5.1: for DANE-EE neither names nor dates of the certificate count.
    if vouch_for_end_entity(records, presented.end_entity) {
        return Ok(None);
    }
    let records = records.get(..MAX_RECORDS).unwrap_or(records);
    let mut worst: Option<Error> = None;
    for (place, record) in records.iter().enumerate() {
        // A chain costs signatures: it is verified once for all records of a usage.
        if records.iter().take(place).any(|before| before.usage == record.usage) {
            continue;
        }
        let alike = || records.iter().filter(|other| other.usage == record.usage);
        let outcome = match record.usage {
            Usage::DaneEe => None,
            Usage::DaneTa => by_own_authority(alike, usual.provider(), presented),
            Usage::PkixEe => {
                alike().any(|record| record.matches(presented.end_entity)).then(|| usual.verify_usual(presented))
            }
            // PKIX-TA (RFC 6698 section 2.1.1): which way is meant is only known of one that holds.
            Usage::PkixTa => {
                let is_meant = |roots: &TrustRoots, path: &VerifiedPath<'_>| {
                    alike().any(|record| leads_through(record, roots, path))
                };
                usual.verify_through(presented, &is_meant).transpose()
            }
        };
        match outcome {
            Some(Ok(path)) => return Ok(Some(path)),
            // The first, but for one that another time would mend.
            Some(Err(error)) if worst.as_ref().is_none_or(|worst| is_of_dates(&error) && !is_of_dates(worst)) => {
                worst = Some(error);
            }
            Some(Err(_)) | None => {}
        }
    }
    Err(worst.unwrap_or_else(|| mismatch(records.len())))
}

/// DANE-TA (RFC 7671 section 5.2): the chain must end at a certificate that one of the records means, and the rest is as
/// usual, name and dates included. `None` if it does not.
fn by_own_authority<'a, I: Iterator<Item = &'a Tlsa>>(
    records: impl Fn() -> I,
    provider: &Arc<CryptoProvider>,
    presented: Presented<'_>,
) -> Option<Result<Path, Error>> {
    // An authority that is given in full need not be sent by the server.
    let is_whole = |record: &&Tlsa| (record.selector, record.matching) == (Selector::Certificate, Matching::Full);
    let given = records().filter(is_whole).map(|record| CertificateDer::from(record.data.as_slice()));
    let sent = presented.intermediates.iter().filter(|one| records().any(|record| record.matches(one)));
    let mut store = RootCertStore::empty();
    for authority in sent.cloned().chain(given) {
        // One that cannot be read vouches for nothing.
        let _ = store.add(authority.into_owned());
    }
    if store.is_empty() {
        return None;
    }
    let store = Arc::new(store);
    let verifier = WebPkiServerVerifier::builder_with_provider(store.clone(), provider.clone()).build().ok()?;
    let Presented { end_entity, intermediates, name, now } = presented;
    match verifier.verify_server_cert(end_entity, intermediates, name, &[], now) {
        // The administrator did not name it: the server's domain did.
        Ok(_) => path::longest(presented, provider, &store.roots, &|_| true, &|_| false).map(Ok),
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => None,
        Err(error) => Some(Err(error)),
    }
}

/// Whether a verified path leads through an authority that the record means.
fn leads_through(record: &Tlsa, roots: &TrustRoots, path: &VerifiedPath<'_>) -> bool {
    path.intermediate_certificates().any(|one| record.matches(&one.der())) || is_root(record, roots, path)
}

fn is_root(record: &Tlsa, roots: &TrustRoots, path: &VerifiedPath<'_>) -> bool {
    let Some(digests) = roots.digests(path.anchor()) else { return false };
    let (sha256, sha512) = match record.selector {
        Selector::Certificate => (&digests.certificate_sha256, &digests.certificate_sha512),
        Selector::PublicKey => (&digests.key_sha256, &digests.key_sha512),
    };
    match record.matching {
        Matching::Full => Sha256::digest(&record.data).as_slice() == sha256,
        Matching::Sha256 => record.data == sha256,
        Matching::Sha512 => record.data == sha512,
    }
}

/// What is kept of a root: its certificate is not.
#[derive(Clone, Debug)]
pub(crate) struct Digests {
    certificate_sha256: [u8; 32],
    certificate_sha512: [u8; 64],
    key_sha256: [u8; 32],
    key_sha512: [u8; 64],
}

impl Digests {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        let key = der::public_key_info(certificate).unwrap_or_default();
        Self {
            certificate_sha256: Sha256::digest(certificate).into(),
            certificate_sha512: Sha512::digest(certificate).into(),
            key_sha256: Sha256::digest(key).into(),
            key_sha512: Sha512::digest(key).into(),
        }
    }
}

/// No TLSA record means a certificate of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) records: usize,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "none of {} TLSA records is for this certificate", self.records)
    }
}

impl core::error::Error for Mismatch {}

fn mismatch(records: usize) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Mismatch { records }))))
}

#[cfg(test)]
mod tests;
