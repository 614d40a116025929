//! The server's certificate and private key, from files.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use ntp_proto::{nts::AeadAlgorithm, time::UnixTime};
use nts_ke::server::{Gate, InvalidPair, InvalidServer, ServerConfig};
use pool_lb::member::{InvalidTokens, Tokens};
use pool_srv::files::{self, Fault, MAX_BYTES, read_secret};

use crate::config::ServeNts;

/// What a key-exchange server shows its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Certificate chain, PEM, the server's own first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub private_key: PathBuf,
    /// NTP server to announce, if it is not the one the client connected to.
    pub ntp_server: Option<String>,
    /// NTP port to announce, if it is not 123.
    pub ntp_port: Option<u16>,
    /// AEAD algorithms that clients may have.
    pub aeads: Vec<AeadAlgorithm>,
    /// Tokens of the pools whose Fixed Key Requests are served.
    pub pool_tokens: Option<PathBuf>,
}

impl Identity {
    /// What a configuration wants shown.
    #[must_use]
    pub fn of(settings: &ServeNts, aeads: &[AeadAlgorithm]) -> Self {
        let ServeNts { certificate, private_key, ntp_server, ntp_port, pool_tokens, .. } = settings;
        Self {
            certificate: certificate.clone(),
            private_key: private_key.clone(),
            ntp_server: ntp_server.as_ref().map(ToString::to_string),
            ntp_port: *ntp_port,
            aeads: aeads.to_vec(),
            pool_tokens: pool_tokens.clone(),
        }
    }
}

/// Why an identity cannot be used.
#[derive(Debug)]
pub enum IdentityError {
    /// A file cannot be used.
    File(PathBuf, Fault),
    /// The certificate, in its file, cannot serve.
    Certificate(PathBuf, InvalidPair),
    /// The key, in its file, cannot serve.
    Key(PathBuf, InvalidPair),
    /// Two files that do not belong together.
    Mismatch {
        /// The certificate's.
        certificate: PathBuf,
        /// The key's.
        private_key: PathBuf,
    },
    /// The tokens, in their file.
    Tokens(PathBuf, InvalidTokens),
    /// The name to announce.
    Server(InvalidServer),
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file, cause) => write!(f, "{}: {cause}", file.display()),
            Self::Certificate(file, cause) | Self::Key(file, cause) => write!(f, "{}: {cause}", file.display()),
            Self::Mismatch { certificate, private_key } => write!(
                f,
                "{}: not the private key of the first certificate in {}",
                private_key.display(),
                certificate.display()
            ),
            Self::Tokens(file, cause) => write!(f, "{}: {cause}", file.display()),
            Self::Server(cause) => write!(f, "NTP server to announce: {cause}"),
        }
    }
}

impl std::error::Error for IdentityError {}

impl Identity {
    /// Reads and checks everything. The certificate's life is judged at `judged_at`; leave that out as long as the time
    /// is not known.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] names the file and what is wrong with it.
    pub fn load(&self, judged_at: Option<UnixTime>) -> Result<ServerConfig, IdentityError> {
        let Self { certificate, private_key, ntp_server, ntp_port, aeads, pool_tokens } = self;
        let unusable = |file: &Path| {
            let file = file.to_path_buf();
            |fault| IdentityError::File(file, fault)
        };
        let chain = files::certificates(certificate).map_err(unusable(certificate))?;
        let key = files::private_key(private_key).map_err(unusable(private_key))?;
        let config = ServerConfig::new(chain, key, judged_at).map_err(|cause| match cause {
            InvalidPair::Mismatch => {
                IdentityError::Mismatch { certificate: certificate.clone(), private_key: private_key.clone() }
            }
            InvalidPair::Key(_) => IdentityError::Key(private_key.clone(), cause),
            InvalidPair::NoCertificate
            | InvalidPair::ChainTooLong
            | InvalidPair::Certificate(_)
            | InvalidPair::Expired(_)
            | InvalidPair::NotYetValid(_) => IdentityError::Certificate(certificate.clone(), cause),
        })?;
        let gate = pool_tokens.as_ref().map(|file| tokens(file)).transpose()?;
        let config = config.with_algorithms(aeads.clone()).with_gate(gate);
        config.with_ntp_server(ntp_server.clone(), *ntp_port).map_err(IdentityError::Server)
    }

    /// As [`load`](Self::load), with everything that is needed to put it in use later without reading anything again.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] names the file and what is wrong with it.
    pub fn read(self, judged_at: Option<UnixTime>) -> Result<Credentials, IdentityError> {
        // Looked at first: what changes while it is read is read again.
        let look = self.look();
        let config = self.load(judged_at)?;
        Ok(Credentials { identity: self, look, config })
    }

    /// What the files look like from outside; if it changes, so may they have.
    #[must_use]
    pub fn look(&self) -> Look {
        Look(
            [Some(&self.certificate), Some(&self.private_key), self.pool_tokens.as_ref()]
                .map(|file| files::look(file?)),
        )
    }
}

/// An identity whose files have been read and found good.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub(super) identity: Identity,
    pub(super) look: Look,
    pub(super) config: ServerConfig,
}

/// How all files look, as far as they exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look([files::Look; 3]);

/// The tokens of the pools that this server is a member of.
fn tokens(file: &Path) -> Result<Arc<dyn Gate>, IdentityError> {
    let text = read_secret(file, MAX_BYTES).map_err(|fault| IdentityError::File(file.to_path_buf(), fault))?;
    let tokens = Tokens::parse(&String::from_utf8_lossy(&text));
    Ok(Arc::new(tokens.map_err(|cause| IdentityError::Tokens(file.to_path_buf(), cause))?))
}
