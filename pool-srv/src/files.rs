//! What every program of a pool does with its files: they are bounded, a secret must not be everybody's, and what the system
//! fails to read is told from what is wrong with a file.

use core::fmt;
use std::{
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};
use zeroize::Zeroizing;

/// Permission bits that let everybody use a file.
const EVERYBODY: u32 = 0o007;

/// Longest file of certificates, a key or tokens.
pub const MAX_BYTES: u64 = 1 << 20;

/// Why a file cannot be used; whoever tells it names the file.
#[derive(Debug)]
pub enum Fault {
    /// It cannot be read.
    Unreadable(io::Error),
    /// It is longer than so many octets.
    TooLong(u64),
    /// Everybody may read or write it, and it holds a secret.
    Exposed,
    /// It is not PEM.
    Syntax,
    /// There is no private key in it.
    NoKey,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => error.fmt(f),
            Self::TooLong(most) => write!(f, "longer than {most} octets"),
            Self::Exposed => {
                f.write_str("everybody may read or write this secret, so it is not used; accepted: mode 0600 or 0640")
            }
            Self::Syntax => f.write_str("not well-formed PEM"),
            Self::NoKey => f.write_str("no private key"),
        }
    }
}

impl core::error::Error for Fault {}

impl Fault {
    /// Whether the system failed, not the file: reading may succeed the next time although the file has not changed.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        let passing = [
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOMEM,
            libc::EIO,
            libc::EINTR,
            libc::EAGAIN,
            libc::ESTALE,
            libc::ETIMEDOUT,
        ];
        matches!(self, Self::Unreadable(error) if error.raw_os_error().is_some_and(|code| passing.contains(&code)))
    }
}

/// Reads a file, of `most` octets at most; and whether everybody may read or write it.
///
/// # Errors
///
/// [`Fault::Unreadable`] and [`Fault::TooLong`].
pub fn read(path: &Path, most: u64) -> Result<(Zeroizing<Vec<u8>>, bool), Fault> {
    let file = open(path).map_err(Fault::Unreadable)?;
    let mode = file.metadata().map_err(Fault::Unreadable)?.mode();
    let mut bytes = Zeroizing::new(Vec::new());
    let length = file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(Fault::Unreadable)?;
    if u64::try_from(length).unwrap_or(u64::MAX) > most {
        return Err(Fault::TooLong(most));
    }
    Ok((bytes, mode & EVERYBODY != 0))
}

/// Reads a secret, which must not be everybody's.
///
/// # Errors
///
/// As [`read`], and [`Fault::Exposed`].
pub fn read_secret(path: &Path, most: u64) -> Result<Zeroizing<Vec<u8>>, Fault> {
    match read(path, most)? {
        (bytes, false) => Ok(bytes),
        (_, true) => Err(Fault::Exposed),
    }
}

#[expect(clippy::disallowed_types, reason = "operators' code: files are read at start and when they change")]
fn open(path: &Path) -> io::Result<std::fs::File> {
    std::fs::File::open(path)
}

/// Reads certificates, PEM.
///
/// # Errors
///
/// As [`read`], and [`Fault::Syntax`].
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let (bytes, _) = read(path, MAX_BYTES)?;
    CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|_| Fault::Syntax)
}

/// Reads a private key, PEM.
///
/// # Errors
///
/// As [`read_secret`], [`Fault::Syntax`] and [`Fault::NoKey`].
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    // The library's own words repeat lines of the file, which is secret.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are faults of syntax")]
    PrivateKeyDer::from_pem_slice(&read_secret(path, MAX_BYTES)?).map_err(|error| match error {
        pem::Error::NoItemsFound => Fault::NoKey,
        _ => Fault::Syntax,
    })
}

/// How a file looks from outside: device, inode, length and time of change; nothing, if there is none. If that changes, so
/// may what is in it have.
pub type Look = Option<(u64, u64, u64, i64, i64)>;

/// How a file looks now.
#[must_use]
pub fn look(path: &Path) -> Look {
    let data = path.metadata().ok()?;
    Some((data.dev(), data.ino(), data.len(), data.ctime(), data.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_the_system_are_told_from_those_of_the_file() {
        let codes = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EIO, libc::ENOENT, libc::EACCES, libc::EISDIR];
        let passing = codes.map(|code| Fault::Unreadable(io::Error::from_raw_os_error(code)).is_passing());
        assert_eq!(passing, [true, true, true, true, false, false, false]);
        assert!(!Fault::Exposed.is_passing());
        assert!(matches!(read(Path::new("/dev/zero"), 100), Err(Fault::TooLong(100))));
    }
}
