//! The socket as a file.

use std::{
    fmt, fs, io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

/// Who may connect: the daemon's user and group.
const SOCKET_MODE: u32 = 0o660;
/// Mode of a directory that had to be made.
const DIRECTORY_MODE: u32 = 0o755;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// Why there is no control socket.
#[derive(Debug)]
pub struct BindError {
    /// Where it was to be.
    pub path: PathBuf,
    /// What happened.
    pub fault: BindFault,
}

/// What can go wrong with a socket's file.
#[derive(Debug)]
pub enum BindFault {
    /// Somebody answers there.
    InUse,
    /// Something that is not a socket is there.
    NotASocket,
    /// The operating system says so.
    Io(io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "control socket {}: ", self.path.display())?;
        match &self.fault {
            BindFault::InUse => f.write_str("another ntpd is running and answers there"),
            BindFault::NotASocket => f.write_str("there is a file that is not a socket, and it is left alone"),
            BindFault::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BindError {}

impl From<io::Error> for BindFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A listening socket. Its file is removed when this is dropped, if it is still the same one.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Device, inode, and the time at which it was made: file systems use the numbers of inodes again.
type Identity = (u64, u64, i64, i64);

fn identity(path: &Path) -> io::Result<Identity> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino(), found.mtime(), found.mtime_nsec()))
}

impl SocketFile {
    /// Starts to listen. What an earlier daemon left behind is removed, if nobody answers there.
    pub(super) fn bind(path: &Path) -> Result<(Self, UnixListener), BindError> {
        listen(path).map_err(|fault| BindError { path: path.to_path_buf(), fault })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // Nothing more can be done about it, and the next daemon removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn listen(path: &Path) -> Result<(SocketFile, UnixListener), BindFault> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    }
    clear(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Linux makes the file with the mode of the socket, less the umask, so that it is at no time open to more. Where
    // that cannot be set, the mode below is the only one.
    let _ = fchmod(&socket, Mode::from_bits_truncate(SOCKET_MODE));
    socket.bind(&SockAddr::unix(path)?).map_err(|error| {
        if error.kind() == io::ErrorKind::AddrInUse { BindFault::InUse } else { BindFault::Io(error) }
    })?;
    let file = SocketFile { path: path.to_path_buf(), identity: identity(path)? };
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((file, socket.into()))
}

/// Removes a socket that nobody listens to.
fn clear(path: &Path) -> Result<(), BindFault> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(found) if !found.file_type().is_socket() => return Err(BindFault::NotASocket),
        Ok(_) => {}
    }
    match is_answered(path)? {
        true => Err(BindFault::InUse),
        false => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        },
    }
}

/// Whether somebody listens. A full queue is an answer too, and is not waited for.
fn is_answered(path: &Path) -> Result<bool, BindFault> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => {
            drop(UnixStream::from(socket));
            Ok(true)
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn the_file_has_its_mode_and_goes_away() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("run/ntpd/control.sock");
        let (file, _listener) = SocketFile::bind(&path).unwrap();
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o660);
        assert_eq!(mode(path.parent().unwrap()) & !0o022, 0o755, "the umask may take more away");
        drop(file);
        assert!(!path.exists() && path.parent().unwrap().exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the standard library leaves the file");
        let (_file, _listener) = SocketFile::bind(&path).unwrap();
        let error = SocketFile::bind(&path).unwrap_err();
        assert!(matches!(error.fault, BindFault::InUse), "{error}");
        assert!(error.to_string().ends_with("another ntpd is running and answers there"));
        assert!(path.exists());
    }

    #[test]
    fn a_full_queue_is_an_answer() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("control.sock");
        let (_file, _listener) = SocketFile::bind(&path).unwrap();
        let connect = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.connect(&SockAddr::unix(&path).unwrap()).is_ok().then_some(socket)
        };
        let waiting: Vec<Option<Socket>> = (0..2 * BACKLOG).map(|_| connect()).collect();
        assert!(waiting.iter().any(Option::is_none), "the queue is full");
        assert!(matches!(SocketFile::bind(&path).unwrap_err().fault, BindFault::InUse));
    }

    #[test]
    fn other_files_are_left_alone() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("control.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(SocketFile::bind(&path).unwrap_err().fault, BindFault::NotASocket));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");

        let link = directory.path().join("link.sock");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(SocketFile::bind(&link).unwrap_err().fault, BindFault::NotASocket));

        let error = SocketFile::bind(&path.join("below")).unwrap_err();
        assert!(matches!(error.fault, BindFault::Io(_)), "{error}");
        let long = directory.path().join("x".repeat(200));
        assert!(matches!(SocketFile::bind(&long).unwrap_err().fault, BindFault::Io(_)));
    }

    #[test]
    fn the_socket_of_a_successor_is_not_removed() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("control.sock");
        let (old, listener) = SocketFile::bind(&path).unwrap();
        drop(listener);
        // Longer than the resolution of file times.
        std::thread::sleep(std::time::Duration::from_millis(30));
        let (_new, _listener) = SocketFile::bind(&path).unwrap();
        drop(old);
        assert!(path.exists());
    }
}
