//! Keys and signatures: one key signs a whole zone (ECDSA P-256 with SHA-256, RFC 6605).

use core::fmt;
use std::path::Path;

use data_encoding::BASE64;
use hickory_proto::{
    dnssec::{
        Algorithm, DigestType, PublicKey as _, SigningKey as _, TBS, Verifier as _,
        crypto::EcdsaSigningKey,
        rdata::{DNSKEY, DS},
    },
    rr::Name,
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use zeroize::Zeroizing;

use super::{
    name::WireName,
    record::{Data, FIXED, IN, kind},
};
use crate::directory::Problem;

/// The number of ECDSA P-256 with SHA-256.
const ALGORITHM: u8 = 13;

/// Octets of a signature of that algorithm.
const SIGNATURE: usize = 64;

/// Octets of RRSIG data in front of the signer's name (RFC 4034 section 3.1).
const RRSIG_FIXED: usize = 18;

/// When signatures are good, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first second.
    pub inception: u64,
    /// The last second.
    pub expiration: u64,
}

/// A key of a zone.
pub struct ZoneKey {
    key: EcdsaSigningKey,
    public: DNSKEY,
    tag: u16,
}

impl fmt::Debug for ZoneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ZoneKey({})", self.tag)
    }
}

impl ZoneKey {
    /// Makes a new key; its file's text.
    ///
    /// # Errors
    ///
    /// What the library for cryptography says.
    pub fn generate() -> Result<Zeroizing<String>, String> {
        let der =
            EcdsaSigningKey::generate_pkcs8(Algorithm::ECDSAP256SHA256).map_err(|error| format!("no key: {error}"))?;
        let text = Zeroizing::new(BASE64.encode(der.secret_pkcs8_der()));
        let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line));
        let body: Vec<_> = lines.collect();
        Ok(Zeroizing::new(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", body.join("\n"))))
    }

    /// Takes a key from the text of its file.
    ///
    /// # Errors
    ///
    /// [`Problem`] unless it is PKCS#8 in PEM, of a P-256 key that signs and whose signatures can be verified.
    pub fn from_pem(file: &Path, text: &[u8]) -> Result<Self, Problem> {
        let wrong = |what: &str| {
            let accepted = "accepted: an ECDSA P-256 key as PKCS#8 in PEM, as `nts-pool-srv key FILE` makes it";
            Problem::whole(file, format!("unusable key: {what}; {accepted}"))
        };
        let der = PrivatePkcs8KeyDer::from_pem_slice(text).map_err(|_| wrong("no \"BEGIN PRIVATE KEY\" block"))?;
        let key = EcdsaSigningKey::from_pkcs8(&der, Algorithm::ECDSAP256SHA256).map_err(|_| wrong("not P-256"))?;
        let public = key.to_public_key().map_err(|_| wrong("no public part"))?;
        let public = DNSKEY::from_key(&public);
        let tag = public.calculate_key_tag().map_err(|_| wrong("no key tag"))?;
        // What it cannot sign, the server refuses to load.
        let sample = b"nts-pool-srv";
        let signed = key.sign(&TBS::from(&sample[..])).map_err(|_| wrong("it does not sign"))?;
        let verified = public.key().and_then(|key| key.verify(sample, &signed));
        verified.map_err(|_| wrong("its signatures cannot be verified"))?;
        Ok(Self { key, public, tag })
    }

    /// The key tag (RFC 4034 appendix B).
    #[must_use]
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// The DNSKEY record's data in text form.
    #[must_use]
    pub fn dnskey_text(&self) -> String {
        self.public.to_string()
    }

    /// The DS record's data for the parent of `zone`, with SHA-256, in text form.
    #[must_use]
    pub fn ds_text(&self, zone: &WireName) -> String {
        let digest: String = self.digest(zone).iter().map(|octet| format!("{octet:02x}")).collect();
        format!("{} {ALGORITHM} {} {digest}", self.tag, u8::from(DigestType::SHA256))
    }

    fn digest(&self, zone: &WireName) -> Vec<u8> {
        let name = Name::from_ascii(zone.to_string()).unwrap_or_default();
        self.public.to_digest(&name, DigestType::SHA256).map(|digest| digest.as_ref().to_vec()).unwrap_or_default()
    }

    /// Its DNSKEY data, or that of a CDNSKEY.
    pub(super) fn dnskey(&self, kind: u16) -> Data {
        // Flags of a zone key that is a secure entry point, protocol, algorithm (RFC 4034 section 2.1).
        let fixed = [self.public.flags().to_be_bytes(), [3, ALGORITHM]].concat();
        Data::Wire(kind, [fixed.as_slice(), self.public.public_key().public_bytes()].concat().into())
    }

    /// Its CDS data, by which a parent may take the DS record from us (RFC 7344).
    pub(super) fn cds(&self, zone: &WireName) -> Data {
        let fixed = [self.tag.to_be_bytes(), [ALGORITHM, u8::from(DigestType::SHA256)]].concat();
        Data::Wire(kind::CDS, [fixed, self.digest(zone)].concat().into())
    }

    /// Takes the DS record's data apart again, for tests and for people.
    #[must_use]
    pub fn ds(&self, zone: &WireName) -> DS {
        DS::new(self.tag, Algorithm::ECDSAP256SHA256, DigestType::SHA256, self.digest(zone))
    }
}

/// What signs the records of one zone.
#[derive(Clone, Debug)]
pub struct Signer {
    key: std::sync::Arc<ZoneKey>,
    zone: WireName,
    window: Window,
}

impl Signer {
    /// All signatures are good in the same window.
    #[must_use]
    pub fn new(key: std::sync::Arc<ZoneKey>, zone: WireName, window: Window) -> Self {
        Self { key, zone, window }
    }

    /// When its signatures are good.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }

    #[cfg(test)]
    pub(super) fn dnskey(&self) -> Data {
        self.key.dnskey(kind::DNSKEY)
    }

    /// How many octets an RRSIG record has without its owner.
    #[must_use]
    pub fn rrsig_len(&self) -> usize {
        FIXED + RRSIG_FIXED + self.zone.wire_len() + SIGNATURE
    }

    /// Signs a set of records, which are given without their owner and in canonical order; the RRSIG record without its
    /// owner (RFC 4034 section 3.1.8.1). `None` if the key fails.
    pub(super) fn sign(&self, owner: &WireName, records: &[Box<[u8]>]) -> Option<Box<[u8]>> {
        let first = records.first()?;
        let (kind, ttl) = (first.get(..2)?, first.get(4..8)?);
        let time = |at: u64| u32::try_from(at & u64::from(u32::MAX)).unwrap_or(0).to_be_bytes();
        let mut data = Vec::with_capacity(self.rrsig_len());
        data.extend(kind);
        data.extend([ALGORITHM, owner.label_count()]);
        data.extend(ttl);
        data.extend(time(self.window.expiration));
        data.extend(time(self.window.inception));
        data.extend(self.key.tag.to_be_bytes());
        data.extend(self.zone.as_wire());
        let mut signed = data.clone();
        for record in records {
            signed.extend(owner.as_wire());
            signed.extend_from_slice(record);
        }
        data.extend(self.key.key.sign(&TBS::from(signed.as_slice())).ok()?);
        let mut record = Vec::with_capacity(self.rrsig_len());
        record.extend(kind::RRSIG.to_be_bytes());
        record.extend(IN.to_be_bytes());
        record.extend(ttl);
        record.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        record.extend(data);
        Some(record.into())
    }
}
