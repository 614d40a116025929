//! What survives a restart.
//!
//! Each kind of record is one file of two lines: a header with its kind, length and checksum, and the record as JSON. A
//! file is replaced as a whole, and the one before it is kept, so that neither a crash nor a failing disk leaves less
//! than the previous record. What is damaged is treated as if it did not exist.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, renameat},
    sys::stat::Mode,
    unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, fsync, unlinkat},
};
use serde::{Serialize, de::DeserializeOwned};

mod records;

pub use records::{Drift, Keyring, LastTime, PoolMemory, PoolRecord, SavedSource, Sources};

/// First word of a file.
const MAGIC: &str = "ntpd-state";

/// Version of the header.
const VERSION: u32 = 1;

/// Longest file.
const MAX_BYTES: u64 = 4 << 20;

/// Directory permission bits that let others than the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A kind of record.
pub trait Record: Serialize + DeserializeOwned {
    /// Name of the file, and kind in its header.
    const KIND: &'static str;

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
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.fault {
            StateFault::Io(error) => error.fmt(f),
            StateFault::Damaged { previous_used: true } => f.write_str("damaged, the previous record is used"),
            StateFault::Damaged { previous_used: false } => f.write_str("damaged, starting without it"),
            StateFault::Exposed => f.write_str("others than its owner may write this directory, so it is not used"),
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
    /// [`StateError`] if it cannot be opened or made, or if others than its owner may write it.
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
        Ok(Self { path: path.to_path_buf(), directory: directory.into() })
    }

    /// Gives the directory and the records in it, and nothing else, to a user. What cannot be given shows when it is used.
    pub fn give_to(&self, uid: Uid, gid: Gid) {
        let _ = fchown(&self.directory, Some(uid), Some(gid));
        for kind in [Drift::KIND, LastTime::KIND, Sources::KIND, Keyring::KIND, PoolMemory::KIND] {
            for name in [kind.to_owned(), older(kind), format!("{kind}.new")] {
                let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
                let _ = fchownat(&self.directory, name.as_str(), Some(uid), Some(gid), flags);
            }
        }
    }

    /// Reads a record, or the one before it if that is damaged.
    #[must_use]
    pub fn load<T: Record>(&self) -> Recovered<T> {
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

    /// Replaces a record, and keeps the one before it. When this returns, the new record is on the disk.
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
        let fresh = format!("{}.new", T::KIND);
        // What a crash left behind may have any mode and any length.
        match unlinkat(&self.directory, fresh.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.directory, fresh.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let mut file = File::from(file);
        file.write_all(&bytes)?;
        file.sync_all()?;
        // A damaged record must not push out an older good one.
        if self.read::<T>(T::KIND).is_ok_and(|current| current.is_some()) {
            renameat(&self.directory, T::KIND, &self.directory, older(T::KIND).as_str())?;
        }
        renameat(&self.directory, fresh.as_str(), &self.directory, T::KIND)?;
        fsync(&self.directory)?;
        Ok(())
    }

    /// `None` if the file is damaged.
    fn read<T: Record>(&self, name: &str) -> io::Result<Option<T>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = File::from(openat(&self.directory, name, flags, Mode::empty())?);
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(decode(T::KIND, &bytes))
    }
}

/// Name of the record before.
fn older(kind: &str) -> String {
    format!("{kind}.old")
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
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use ntp_proto::time::Rate;
    use tempfile::TempDir;

    use super::*;

    fn drift(ppm: f64) -> Drift {
        Drift::new(Rate::from_ppm(ppm), Rate::from_ppm(0.5))
    }

    struct Disk {
        directory: TempDir,
        state: StateDirectory,
    }

    impl Disk {
        fn new() -> Self {
            let directory = TempDir::new().unwrap();
            let state = StateDirectory::open(&directory.path().join("state")).unwrap();
            Self { directory, state }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join("state").join(name)
        }

        fn damage(&self, bytes: &[u8]) {
            fs::write(self.path("drift"), bytes).unwrap();
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_private() {
        let disk = Disk::new();
        let nothing = disk.state.load::<Drift>();
        assert!(nothing.value.is_none() && nothing.complaint.is_none());
        for ppm in [1.0, 2.0, 3.0] {
            disk.state.save(&drift(ppm)).unwrap();
            assert_eq!(disk.state.load::<Drift>().value, Some(drift(ppm)));
        }
        for name in ["drift", "drift.old"] {
            assert_eq!(fs::metadata(disk.path(name)).unwrap().permissions().mode() & 0o7777, 0o600);
        }
        assert_eq!(fs::metadata(disk.path("")).unwrap().permissions().mode() & 0o7777, 0o700);
        assert!(!disk.path("drift.new").exists());
    }

    #[test]
    fn every_truncation_flip_and_zero_fill_is_noticed() {
        let disk = Disk::new();
        disk.state.save(&drift(1.0)).unwrap();
        let only = fs::read(disk.path("drift")).unwrap();
        let mut damaged: Vec<Vec<u8>> = (0..only.len()).map(|length| only[..length].to_vec()).collect();
        for bit in 0..only.len() * 8 {
            let mut flipped = only.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            damaged.push(flipped);
        }
        for from in 0..only.len() {
            let mut zeroed = only.clone();
            zeroed[from..].fill(0);
            damaged.push(zeroed);
        }
        damaged.push(vec![0; 4_096]);
        damaged.push([only.as_slice(), b"\n"].concat());
        damaged.push([only.as_slice(), only.as_slice()].concat());
        for bytes in &damaged {
            assert!(decode::<Drift>("drift", bytes).is_none(), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert!(decode::<Drift>("drift", &only).is_some());
        assert!(decode::<Drift>("last-time", &only).is_none(), "another kind");

        disk.damage(&damaged[17]);
        let lost = disk.state.load::<Drift>();
        assert!(lost.value.is_none());
        assert!(lost.complaint.unwrap().to_string().ends_with("drift: damaged, starting without it"));
    }

    #[test]
    fn the_previous_record_stands_in_and_survives_damage() {
        let disk = Disk::new();
        disk.state.save(&drift(1.0)).unwrap();
        disk.state.save(&drift(2.0)).unwrap();
        disk.damage(b"");
        let found = disk.state.load::<Drift>();
        assert_eq!(found.value, Some(drift(1.0)));
        assert!(found.complaint.unwrap().to_string().ends_with("damaged, the previous record is used"));

        disk.state.save(&drift(3.0)).unwrap();
        disk.damage(b"x");
        assert_eq!(disk.state.load::<Drift>().value, Some(drift(1.0)), "not replaced by the damaged one");

        fs::remove_file(disk.path("drift")).unwrap();
        let found = disk.state.load::<Drift>();
        assert!(found.complaint.is_none(), "as a crash between the renames leaves it");
        assert_eq!(found.value, Some(drift(1.0)));
    }

    #[test]
    fn a_failed_save_leaves_the_old_record() {
        let disk = Disk::new();
        disk.state.save(&drift(1.0)).unwrap();
        fs::create_dir(disk.path("drift.new")).unwrap();
        let error = disk.state.save(&drift(2.0)).unwrap_err();
        assert!(matches!(error.fault, StateFault::Io(_)), "{error}");
        assert_eq!(disk.state.load::<Drift>().value, Some(drift(1.0)));

        fs::remove_dir_all(disk.path("")).unwrap();
        assert!(disk.state.save(&drift(2.0)).is_err());
        assert!(disk.state.load::<Drift>().value.is_none());
    }

    #[test]
    fn links_and_leftovers_do_no_harm() {
        let disk = Disk::new();
        let elsewhere = disk.directory.path().join("elsewhere");
        fs::write(&elsewhere, "untouched").unwrap();
        std::os::unix::fs::symlink(&elsewhere, disk.path("drift.new")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, disk.path("drift")).unwrap();
        assert!(disk.state.load::<Drift>().value.is_none());
        disk.state.save(&drift(1.0)).unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
        assert_eq!(disk.state.load::<Drift>().value, Some(drift(1.0)));
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let directory = TempDir::new().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o770)).unwrap();
        let error = StateDirectory::open(directory.path()).unwrap_err();
        assert!(matches!(error.fault, StateFault::Exposed));
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(StateDirectory::open(&file).is_err());
    }
}
