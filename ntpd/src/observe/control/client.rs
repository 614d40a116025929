//! The other end of the control socket.

use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Answer, Command, ControlError, ErrorKind, Reply};

/// How long the daemon may take; longer than it gives itself.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest answer, in bytes.
const MAX_ANSWER: u64 = 4 << 20;

/// Why a command gave nothing.
#[derive(Debug)]
pub enum AskError {
    /// Nobody answers.
    NotRunning(PathBuf),
    /// The socket's own permissions.
    NoPermission(PathBuf),
    /// The daemon has no such command.
    OldDaemon(&'static str),
    /// The daemon's answer makes no sense to this program.
    NotUnderstood,
    /// The daemon says no.
    Refused(ControlError),
    /// The connection failed.
    Io(PathBuf, io::Error),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning(path) => write!(f, "ntpd is not running: nobody answers at {}", path.display()),
            Self::NoPermission(path) => {
                write!(f, "no permission to use {}: run this as root or as the daemon's user or group", path.display())
            }
            Self::OldDaemon(word) => write!(f, "the running ntpd is older than this program and has no \"{word}\""),
            Self::NotUnderstood => f.write_str("the answer makes no sense: the running ntpd is of another version"),
            Self::Refused(error) => error.fmt(f),
            Self::Io(path, error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                write!(f, "ntpd does not answer at {}", path.display())
            }
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for AskError {}

/// Asks the daemon at `path` and waits for its answer.
///
/// # Errors
///
/// [`AskError`] if there is no answer, or it is no.
pub fn ask(path: &Path, command: &Command) -> Result<Reply, AskError> {
    let failed = |error| fault(path, error);
    let mut stream = UnixStream::connect(path).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    // A daemon that turns us away closes early, and says why.
    let written = stream.write_all(command.to_line().as_bytes());
    let mut line = Vec::new();
    let read = BufReader::new(stream.take(MAX_ANSWER)).read_until(b'\n', &mut line);
    if line.is_empty() {
        written.and_then(|()| read.map(drop)).map_err(failed)?;
    }
    match serde_json::from_slice(&line) {
        Ok(Answer::Ok(reply)) => Ok(*reply),
        Ok(Answer::Error(error)) if error.kind == ErrorKind::UnknownCommand => Err(AskError::OldDaemon(command.word())),
        Ok(Answer::Error(error)) => Err(AskError::Refused(error)),
        Err(_) => Err(AskError::NotUnderstood),
    }
}

fn fault(path: &Path, error: io::Error) -> AskError {
    let path = path.to_path_buf();
    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
        AskError::NotRunning(path)
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        AskError::NoPermission(path)
    } else {
        AskError::Io(path, error)
    }
}
