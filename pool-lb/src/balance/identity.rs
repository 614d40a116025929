//! Certificates and keys from files: the pool's own, and those that vouch for members.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use nts_ke::{
    client::ClientConfig,
    server::{InvalidPair, ServerConfig, TicketKeys},
    verify::TrustRoots,
};
use pool_srv::files::{Fault, MAX_BYTES, certificates, private_key, read_secret};
use rustls_native_certs::load_native_certs;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::config::{Config, Trust};

/// Seconds that ticket keys are used for new tickets.
const TICKET_EPOCH: u32 = 6 * 3600;

/// Fewest octets of the secret that nodes share.
const MIN_SECRET: usize = 32;

/// A file that cannot be used.
#[derive(Debug)]
pub struct FileError {
    /// Which.
    pub file: PathBuf,
    /// Why.
    pub why: String,
    /// Whether the system failed, and not the file: it may be well the next time.
    pub is_passing: bool,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.why)
    }
}

impl std::error::Error for FileError {}

fn wrong(file: &Path, why: impl fmt::Display) -> FileError {
    FileError { file: file.to_owned(), why: why.to_string(), is_passing: false }
}

fn unusable(file: &Path) -> impl Fn(Fault) -> FileError {
    |fault| FileError { is_passing: fault.is_passing(), ..wrong(file, fault) }
}

/// What users are shown.
///
/// # Errors
///
/// [`FileError`] if certificate or key cannot be used.
pub fn server_config(config: &Config) -> Result<ServerConfig, FileError> {
    let chain = certificates(&config.certificate).map_err(unusable(&config.certificate))?;
    let key = private_key(&config.private_key).map_err(unusable(&config.private_key))?;
    let server = ServerConfig::new(chain, key, Some((config.time_of_day)())).map_err(|error| {
        let of_key = matches!(error, InvalidPair::Key(_) | InvalidPair::Mismatch);
        wrong(if of_key { &config.private_key } else { &config.certificate }, error)
    })?;
    let Some(file) = &config.ticket_secret else { return Ok(server) };
    let secret = read_secret(file, MAX_BYTES).map_err(unusable(file))?;
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
        roots = certificates(file).map_err(unusable(file))?;
        TrustRoots::new(roots.clone()).map_err(|error| wrong(file, error))?;
    }
    if config.trust != Trust::File {
        roots.extend(load_native_certs().certs);
    }
    let place = config.trust_file.as_deref().unwrap_or_else(|| Path::new("the system's certificates"));
    let roots = TrustRoots::new(roots).map_err(|error| wrong(place, error))?;
    ClientConfig::new(&roots).map_err(|error| wrong(place, error))
}
