//! What survives a restart.
//!
//! Each kind of record is one file of two lines: a header with its kind, length and checksum, and the record as JSON. A
//! file is replaced as a whole, and the one before it is kept, so that neither a crash nor a failing disk leaves less
//! than the previous record. What is damaged is treated as if it did not exist. Secrets that may be used only once are
//! the exception: their record is gone from the disk before it is used, and none is kept beside it.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat, renameat},
    sys::stat::Mode,
    unistd::{Gid, Uid, UnlinkatFlags, User, fchown, fsync, geteuid, unlinkat},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::privilege;

mod names;
mod records;

pub use names::{Absences, Places};
pub use records::{Drift, Keyring, LastTime, PoolMemory, PoolRecord, SavedSource, SoftDrift, Sources};

/// First word of a file.
const MAGIC: &str = "ntpd-state";

/// Version of the header.
const VERSION: u32 = 1;

/// Longest file.
const MAX_BYTES: u64 = 4 << 20;

/// Directory permission bits that let others than the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// All kinds of records.
const KINDS: [&str; 8] = [
    Drift::KIND,
    SoftDrift::KIND,
    LastTime::KIND,
    Sources::KIND,
    Keyring::KIND,
    PoolMemory::KIND,
    Places::KIND,
    Absences::KIND,
];

/// A kind of record.
pub trait Record: Serialize + DeserializeOwned {
    /// Name of the file, and kind in its header.
    const KIND: &'static str;

    /// Whether it holds what must not be used twice: then no record before it is kept, and reading it removes it.
    const USED_ONCE: bool = false;

    /// Brings values into their ranges; `None` if the record makes no sense.
    fn sanitize(self) -> Option<Self>;
}

/// What was found of a record.
#[derive(Debug)]
pub struct Recovered<T> {
    /// The record, if there is one.
    pub value: Option<T>,
    /// What was wrong on the way, for the log.
    pub complaint: Option<StateError>,
}

/// What went wrong with the state of one kind. Time keeping goes on without it.
#[derive(Debug)]
pub struct StateError {
    /// The file.
    pub path: PathBuf,
    /// What happened.
    pub fault: StateFault,
}

/// What can go wrong with a file of state.
#[derive(Debug)]
pub enum StateFault {
    /// The operating system says so.
    Io(io::Error),
    /// The file is not as it was written; whether the one before it could be used.
    Damaged {
        /// Whether there was an older record.
        previous_used: bool,
    },
    /// Others than the owner may write the directory.
    Exposed,
    /// The directory belongs to this user, who is neither root nor the daemon's.
    Foreign(Uid),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.fault {
            StateFault::Io(error) => error.fmt(f),
            StateFault::Damaged { previous_used: true } => f.write_str("damaged, the previous record is used"),
            StateFault::Damaged { previous_used: false } => f.write_str("damaged, starting without it"),
            StateFault::Exposed => f.write_str("others than its owner may write this directory, so it is not used"),
            StateFault::Foreign(owner) => {
                write!(f, "belongs to the user {owner}, so it is not used; give it to `{}` or to root", privilege::USER)
            }
        }
    }
}

impl std::error::Error for StateError {}

/// The state directory, held open so that it stays the same one whatever happens to its path.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    directory: OwnedFd,
}

impl StateDirectory {
    /// Opens the directory; makes it, for its owner alone, if it does not exist.
    ///
    /// # Errors
    ///
    /// [`StateError`] if it cannot be opened or made, if others than its owner may write it, or if that is neither root nor
    /// the daemon's user.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |fault| StateError { path: path.to_path_buf(), fault };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| failed(StateFault::Io(e)))?;
        let directory = File::open(path).map_err(|error| failed(StateFault::Io(error)))?;
        let metadata = directory.metadata().map_err(|error| failed(StateFault::Io(error)))?;
        if !metadata.is_dir() {
            return Err(failed(StateFault::Io(Errno::ENOTDIR.into())));
        }
        if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(failed(StateFault::Exposed));
        }
        let (owner, user) = (Uid::from_raw(metadata.uid()), geteuid());
        // As root we may find what an earlier run gave to the daemon's user, and give it again.
        let daemons = || User::from_name(privilege::USER).ok().flatten().map(|user| user.uid);
        if !may_own(owner, user, daemons) {
            return Err(failed(StateFault::Foreign(owner)));
        }
        Ok(Self { path: path.to_path_buf(), directory: directory.into() })
    }

    /// Gives the directory and the records in it, and nothing else, to a user. What cannot be given shows when it is used.
    pub fn give_to(&self, uid: Uid, gid: Gid) {
        let _ = fchown(&self.directory, Some(uid), Some(gid));
        for kind in KINDS {
            for name in [kind.to_owned(), older(kind), newer(kind)] {
                let Ok(file) = self.open_record(&name) else { continue };
                // Under another name it may be a file that is not ours to give.
                if file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1) {
                    let _ = fchown(&file, Some(uid), Some(gid));
                }
            }
        }
    }

    /// Reads a record, or the one before it if that is damaged. One that may be [used once](Record::USED_ONCE) is removed;
    /// if it cannot be, it counts as absent.
    #[must_use]
    pub fn load<T: Record>(&self) -> Recovered<T> {
        if !T::USED_ONCE {
            return self.recover();
        }
        let found = match self.read::<T>(T::KIND) {
            Ok(value) => value.ok_or(StateFault::Damaged { previous_used: false }).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StateFault::Io(error)),
        };
        match self.remove::<T>().map_err(StateFault::Io).and(found) {
            Ok(value) => Recovered { value, complaint: None },
            Err(fault) => Recovered { value: None, complaint: Some(self.error::<T>(fault)) },
        }
    }

    /// When a record was last saved by the clock of that time, in Unix seconds.
    #[must_use]
    pub fn saved_at<T: Record>(&self) -> Option<i64> {
        let modified = self.open_record(T::KIND).and_then(|file| file.metadata()?.modified()).ok()?;
        i64::try_from(modified.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
    }

    fn recover<T: Record>(&self) -> Recovered<T> {
        let fault = match self.read::<T>(T::KIND) {
            Ok(Some(value)) => return Recovered { value: Some(value), complaint: None },
            // Damaged, or gone: a crash between the two renames of `save` leaves only the older one.
            Ok(None) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let value = self.read::<T>(&older(T::KIND)).ok().flatten();
                return Recovered { value, complaint: None };
            }
            Err(error) => Some(StateFault::Io(error)),
        };
        let value = self.read::<T>(&older(T::KIND)).ok().flatten();
        let fault = fault.unwrap_or_else(|| StateFault::Damaged { previous_used: value.is_some() });
        Recovered { value, complaint: Some(self.error::<T>(fault)) }
    }

    /// Forgets a record, and the one before it.
    ///
    /// # Errors
    ///
    /// [`StateError`] if it could not be removed.
    pub fn forget<T: Record>(&self) -> Result<(), StateError> {
        self.remove::<T>().map_err(|error| self.error::<T>(StateFault::Io(error)))
    }

    /// Removes a record and all that was kept of it. When this returns, nothing of it is left on the disk.
    fn remove<T: Record>(&self) -> io::Result<()> {
        let mut removed = false;
        for name in [T::KIND.to_owned(), older(T::KIND), newer(T::KIND)] {
            removed |= self.unlink(&name)?;
        }
        if removed {
            fsync(&self.directory)?;
        }
        Ok(())
    }

    /// Whether there was such a file.
    fn unlink(&self, name: &str) -> io::Result<bool> {
        match unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces a record, and keeps the one before it unless that may be [used once](Record::USED_ONCE). When this returns, the new record is on the disk.
    ///
    /// # Errors
    ///
    /// [`StateError`] if it could not be written; then the old one is still there.
    pub fn save<T: Record>(&self, record: &T) -> Result<(), StateError> {
        self.replace(record).map_err(|error| self.error::<T>(StateFault::Io(error)))
    }

    fn error<T: Record>(&self, fault: StateFault) -> StateError {
        StateError { path: self.path.join(T::KIND), fault }
    }

    fn replace<T: Record>(&self, record: &T) -> io::Result<()> {
        let bytes = encode(T::KIND, &serde_json::to_vec(record)?);
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let fresh = newer(T::KIND);
        // What a crash left behind may have any mode and any length.
        self.unlink(&fresh)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.directory, fresh.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let mut file = File::from(file);
        file.write_all(&bytes)?;
        file.sync_all()?;
        // A damaged record must not push out an older good one.
        if T::USED_ONCE {
            self.unlink(&older(T::KIND))?;
        } else if self.read::<T>(T::KIND).is_ok_and(|current| current.is_some()) {
            renameat(&self.directory, T::KIND, &self.directory, older(T::KIND).as_str())?;
        }
        renameat(&self.directory, fresh.as_str(), &self.directory, T::KIND)?;
        fsync(&self.directory)?;
        Ok(())
    }

    /// `None` if the file is damaged.
    fn read<T: Record>(&self, name: &str) -> io::Result<Option<T>> {
        let mut bytes = Vec::new();
        self.open_record(name)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(decode(T::KIND, &bytes))
    }

    fn open_record(&self, name: &str) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        Ok(File::from(openat(&self.directory, name, flags, Mode::empty())?))
    }
}

/// Whether `user` can rely on a directory of `owner`; `daemons` is the daemon's user.
fn may_own(owner: Uid, user: Uid, daemons: impl FnOnce() -> Option<Uid>) -> bool {
    owner.is_root() || owner == user || (user.is_root() && daemons() == Some(owner))
}

/// Name of the record before.
fn older(kind: &str) -> String {
    format!("{kind}.old")
}

/// Name of the record that is being written.
fn newer(kind: &str) -> String {
    format!("{kind}.new")
}

/// Puts the header before a record.
fn encode(kind: &str, payload: &[u8]) -> Vec<u8> {
    let header = format!("{MAGIC} {VERSION} {kind} {} {:08x}\n", payload.len(), crc32fast::hash(payload));
    [header.as_bytes(), payload, b"\n"].concat()
}

/// The record of a file that is exactly as [`encode`] writes it.
fn decode<T: Record>(kind: &str, bytes: &[u8]) -> Option<T> {
    if bytes.len() as u64 > MAX_BYTES {
        return None;
    }
    let header_end = bytes.iter().position(|&byte| byte == b'\n')?;
    let payload = bytes.get(header_end + 1..)?.strip_suffix(b"\n")?;
    if encode(kind, payload) != bytes {
        return None;
    }
    serde_json::from_slice::<T>(payload).ok()?.sanitize()
}

#[cfg(test)]
mod tests;
