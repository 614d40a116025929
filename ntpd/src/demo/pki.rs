//! Certificates made on the spot.

use std::time::{Duration, UNIX_EPOCH};

use ntp_proto::bootstrap::Window;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData as _};
use sha2::{Digest as _, Sha256};

use super::folder::Folder;
use crate::{hex, start::StartError};

/// The file of the authority's certificate.
pub(super) const AUTHORITY: &str = "ca.pem";

/// Whom the client and the balancer trust.
pub(super) struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// Makes one, and writes its certificate.
    pub(super) fn new(folder: &Folder) -> Result<Self, StartError> {
        let mut parameters = CertificateParams::new(Vec::new()).map_err(StartError::new)?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(StartError::new)?;
        let root = parameters.self_signed(&key).map_err(StartError::new)?;
        folder.write(AUTHORITY, &root.pem())?;
        Ok(Self(Issuer::new(parameters, key)))
    }

    /// Makes a certificate for names and addresses, and writes it and its key to `FILE.pem` and `FILE.key`; the data of
    /// the TLSA record that pins its key (RFC 6698).
    pub(super) fn certify(&self, folder: &Folder, file: &str, subjects: Vec<String>) -> Result<String, StartError> {
        self.issue(folder, file, CertificateParams::new(subjects).map_err(StartError::new)?)
    }

    /// Makes a certificate for a name that is valid then and at no other time, and writes it and its key in the same way.
    pub(super) fn certify_for(&self, folder: &Folder, name: &str, life: Window) -> Result<(), StartError> {
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).map_err(StartError::new)?;
        let at = |unix: i64| (UNIX_EPOCH + Duration::from_secs(unix.unsigned_abs())).into();
        (parameters.not_before, parameters.not_after) = (at(life.not_before), at(life.not_after));
        self.issue(folder, name, parameters).map(drop)
    }

    fn issue(&self, folder: &Folder, file: &str, parameters: CertificateParams) -> Result<String, StartError> {
        let key = KeyPair::generate().map_err(StartError::new)?;
        let leaf = parameters.signed_by(&key, &self.0).map_err(StartError::new)?;
        folder.write(&format!("{file}.pem"), &leaf.pem())?;
        folder.write(&format!("{file}.key"), &key.serialize_pem())?;
        // RFC 7671 section 5.1: "3 1 1" is the hash of the public key of the server itself.
        Ok(format!("3 1 1 {}", hex::encode(&Sha256::digest(key.subject_public_key_info()))))
    }
}
