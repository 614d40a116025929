//! The certificates that may vouch for key-exchange servers, from the system's store and from a file.

use std::{fmt, path::PathBuf};

use nts_ke::verify::{NoUsableRoots, TrustRoots};
use rustls_native_certs::{CertificateResult, load_native_certs};
use tracing::warn;

use crate::config::{self, TrustSettings, Wrong};

/// Most complaints about the system's store that are passed on.
const MAX_COMPLAINTS: usize = 3;

/// Why nobody can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootsError {
    /// The file of the configuration cannot be used; the text names it.
    File(Wrong),
    /// No certificate of the file can be a root.
    UselessFile(PathBuf, NoUsableRoots),
    /// The system has no certificates; the text says where it looked, or why it could not.
    NoSystem(String),
}

impl fmt::Display for RootsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(wrong) => wrong.fmt(f),
            Self::UselessFile(path, cause) => write!(f, "{}: {cause}", path.display()),
            Self::NoSystem(why) => write!(
                f,
                "no trusted certificates on this system: {why} (install the package `ca-certificates`, or name a file with \
                 `certificate-file` in `[trust]`)"
            ),
        }
    }
}

impl std::error::Error for RootsError {}

/// Loads what the settings name. Certificates that cannot be read are left out, and so is an empty store of the system
/// if there is a file besides; both are logged.
///
/// # Errors
///
/// [`RootsError`] if nothing is left, or the file cannot be used.
pub fn load(settings: &TrustSettings) -> Result<TrustRoots, RootsError> {
    choose(settings, load_native_certs)
}

fn choose(settings: &TrustSettings, system: impl FnOnce() -> CertificateResult) -> Result<TrustRoots, RootsError> {
    let (with_system, file) = match (settings.certificates, &settings.certificate_file) {
        (config::TrustRoots::System, _) => (true, None),
        (config::TrustRoots::File, file) => (false, file.as_ref()),
        (config::TrustRoots::Both, file) => (true, file.as_ref()),
    };
    let mut named = Vec::new();
    if let Some(path) = file {
        named = config::certificates(path).map_err(RootsError::File)?;
        let ours = TrustRoots::new(named.clone());
        let ours = ours.map_err(|cause| RootsError::UselessFile(path.clone(), cause))?;
        if ours.ignored() > 0 {
            warn!("{}: {} certificates cannot be trust roots and are left out", path.display(), ours.ignored());
        }
    }
    let mut others = Vec::new();
    let mut complaints = String::from("its store is empty");
    if with_system {
        let CertificateResult { certs, errors, .. } = system();
        if !errors.is_empty() {
            let shown: Vec<_> = errors.iter().take(MAX_COMPLAINTS).map(ToString::to_string).collect();
            complaints = shown.join("; ");
        }
        if certs.is_empty() && !named.is_empty() {
            warn!("no trusted certificates on this system: {complaints}");
        }
        others = certs;
    }
    TrustRoots::pinning(named, others).map_err(|_| RootsError::NoSystem(complaints))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};

    use super::*;

    fn root() -> String {
        let mut parameters = CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn store(roots: &[String]) -> CertificateResult {
        let mut result = CertificateResult::default();
        result.certs = roots.iter().map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).collect();
        result
    }

    fn settings(certificates: config::TrustRoots, text: &str) -> (tempfile::TempDir, TrustSettings) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        fs::write(&path, text).unwrap();
        (directory, TrustSettings { certificates, certificate_file: Some(path), ..TrustSettings::default() })
    }

    #[test]
    fn roots_come_from_where_the_settings_say() {
        let (one, two) = ([root()], [root(), root()]);
        for (which, expected) in
            [(config::TrustRoots::System, 2), (config::TrustRoots::File, 1), (config::TrustRoots::Both, 3)]
        {
            let (_directory, settings) = settings(which, &one[0]);
            assert_eq!(choose(&settings, || store(&two)).unwrap().len(), expected, "{which:?}");
        }
    }

    #[test]
    fn the_same_certificates_have_the_same_fingerprint() {
        let system = TrustSettings::default();
        let fingerprint = |roots: &[String]| choose(&system, || store(roots)).unwrap().fingerprint();
        let (one, two) = (root(), root());
        let both = fingerprint(&[one.clone(), two.clone()]);
        assert_eq!(both, fingerprint(&[two.clone(), one.clone(), two.clone()]));
        assert!(both != fingerprint(&[one]) && both != fingerprint(&[two]));
    }

    #[test]
    fn an_empty_store_matters_only_if_nothing_else_is_left() {
        let (_directory, both) = settings(config::TrustRoots::Both, &root());
        assert_eq!(choose(&both, || store(&[])).unwrap().len(), 1);
        let system = TrustSettings::default();
        let error = choose(&system, || store(&[])).unwrap_err().to_string();
        assert!(error.contains("its store is empty") && error.contains("ca-certificates"), "{error}");
    }

    #[test]
    fn errors_name_the_file_and_the_cause() {
        let broken = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
        for (text, cause) in
            [("", "no certificate in this file"), (broken, "none of 1 trusted certificates can be read")]
        {
            let (_directory, settings) = settings(config::TrustRoots::File, text);
            let error = choose(&settings, || store(&[])).unwrap_err().to_string();
            assert!(error.contains("ca.pem: ") && error.contains(cause), "{error}");
        }
        let (directory, settings) = settings(config::TrustRoots::Both, "");
        drop(directory);
        let error = choose(&settings, || store(&[root()])).unwrap_err().to_string();
        assert!(error.contains("ca.pem") && error.contains("No such file"), "{error}");
    }
}
