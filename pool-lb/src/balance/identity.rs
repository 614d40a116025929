//! Certificates and keys from files: the pool's own, and those that vouch for members.

use std::{
    fmt,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nts_ke::{
    client::ClientConfig,
    server::{InvalidPair, ServerConfig, TicketKeys},
    verify::TrustRoots,
};
use rustls_native_certs::load_native_certs;
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::config::{Config, Trust};

/// Longest file.
const MAX_BYTES: u64 = 1 << 20;

/// Seconds that ticket keys are used for new tickets.
const TICKET_EPOCH: u32 = 6 * 3600;

/// Fewest octets of the secret that nodes share.
const MIN_SECRET: usize = 32;

/// Permission bits that let everybody read or write a file.
const EVERYBODY: u32 = 0o006;

/// A file that cannot be used.
#[derive(Debug)]
pub struct FileError {
    /// Which.
    pub file: PathBuf,
    /// Why.
    pub why: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.why)
    }
}

impl std::error::Error for FileError {}

fn wrong(file: &Path, why: impl fmt::Display) -> FileError {
    FileError { file: file.to_owned(), why: why.to_string() }
}

#[expect(clippy::disallowed_types, reason = "operator's code: files are read at start and when they change")]
fn open(path: &Path) -> io::Result<std::fs::File> {
    std::fs::File::open(path)
}

/// Reads a file. A secret one must not be everybody's.
pub(super) fn read(path: &Path, secret: bool) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let file = open(path).map_err(|error| wrong(path, error))?;
    let mode = file.metadata().map_err(|error| wrong(path, error))?.mode();
    if secret && mode & EVERYBODY != 0 {
        return Err(wrong(path, "everybody may read or write this secret, so it is not used"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let length = file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| wrong(path, error))?;
    if u64::try_from(length).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(wrong(path, format!("longer than {MAX_BYTES} octets")));
    }
    Ok(bytes)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path, false)?).collect();
    found.map_err(|_| wrong(path, "not well-formed PEM"))
}

/// What users are shown.
///
/// # Errors
///
/// [`FileError`] if certificate or key cannot be used.
pub fn server_config(config: &Config) -> Result<ServerConfig, FileError> {
    let chain = certificates(&config.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&config.private_key, true)?);
    // The library's own words repeat lines of the file, which is secret.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are faults of syntax")]
    let key = key.map_err(|error| match error {
        pem::Error::NoItemsFound => wrong(&config.private_key, "no private key"),
        _ => wrong(&config.private_key, "not well-formed PEM"),
    })?;
    let server = ServerConfig::new(chain, key, Some((config.time_of_day)())).map_err(|error| {
        let of_key = matches!(error, InvalidPair::Key(_) | InvalidPair::Mismatch);
        wrong(if of_key { &config.private_key } else { &config.certificate }, error)
    })?;
    let Some(file) = &config.ticket_secret else { return Ok(server) };
    let secret = read(file, true)?;
    let secret = secret.trim_ascii();
    if secret.len() < MIN_SECRET {
        return Err(wrong(file, format!("too short; accepted: {MIN_SECRET} octets and more, at random")));
    }
    let hash = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(secret)));
    Ok(server.with_tickets(TicketKeys::derive(&hash, ticket_epoch(config), TICKET_EPOCH)))
}

/// The number of the time in which ticket keys stay the same; nodes whose clocks differ a little still read each other's.
pub(super) fn ticket_epoch(config: &Config) -> u64 {
    config.unix_seconds() / u64::from(TICKET_EPOCH)
}

/// Whom members must be vouched for by.
///
/// # Errors
///
/// [`FileError`] if nobody is left to be trusted.
pub fn client_config(config: &Config) -> Result<ClientConfig, FileError> {
    let mut roots = Vec::new();
    if let (Trust::File | Trust::Both, Some(file)) = (config.trust, &config.trust_file) {
        roots = certificates(file)?;
        TrustRoots::new(roots.clone()).map_err(|error| wrong(file, error))?;
    }
    if config.trust != Trust::File {
        roots.extend(load_native_certs().certs);
    }
    let place = config.trust_file.as_deref().unwrap_or_else(|| Path::new("the system's certificates"));
    let roots = TrustRoots::new(roots).map_err(|error| wrong(place, error))?;
    ClientConfig::new(&roots).map_err(|error| wrong(place, error))
}

/// How files look from outside; if that changes, so may they have.
#[must_use]
pub fn look(files: &[&Path]) -> Vec<Option<(u64, u64, i64, i64)>> {
    let look = |file: &&Path| {
        let data = file.metadata().ok()?;
        Some((data.ino(), data.len(), data.mtime(), data.mtime_nsec()))
    };
    files.iter().map(look).collect()
}
