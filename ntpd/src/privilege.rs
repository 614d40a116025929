//! Giving up what is not needed.

use std::{fmt, fs, os::unix::fs::chown, path::Path};

use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::{User, geteuid, setgid, setgroups, setuid};

/// The user the daemon runs as.
pub const USER: &str = "ntpd";

/// What became of the daemon's privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// It runs as [`USER`], with the few capabilities it needs.
    ToUser,
    /// It was started without privileges.
    NothingToDrop,
    /// There is no such user: it goes on as root.
    NoSuchUser,
}

/// Privileges that could not be dropped.
#[derive(Debug)]
pub struct DropError(String);

impl fmt::Display for DropError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot drop privileges to the user `{USER}`: {}", self.0)
    }
}

impl std::error::Error for DropError {}

/// Hands `owned` paths to the daemon's user and becomes that user, if started as root. Threads that exist already lose
/// all capabilities; the calling one and those it starts keep CAP_NET_BIND_SERVICE and, if `clock`, CAP_SYS_TIME.
///
/// # Errors
///
/// [`DropError`] if the user exists, but the system does not let us become it.
pub fn drop(clock: bool, owned: &[&Path]) -> Result<Dropped, DropError> {
    if !geteuid().is_root() {
        return Ok(Dropped::NothingToDrop);
    }
    let failed = |error: &dyn fmt::Display| DropError(error.to_string());
    let Some(user) = User::from_name(USER).map_err(|error| failed(&error))? else {
        return Ok(Dropped::NoSuchUser);
    };
    for path in owned.iter().filter(|path| path.exists()) {
        hand_over(path, user.uid.as_raw(), user.gid.as_raw());
    }
    let mut kept = CapsHashSet::new();
    kept.insert(Capability::CAP_NET_BIND_SERVICE);
    if clock {
        kept.insert(Capability::CAP_SYS_TIME);
    }
    caps::securebits::set_keepcaps(true).map_err(|error| failed(&error))?;
    setgroups(&[user.gid]).map_err(|error| failed(&error))?;
    setgid(user.gid).map_err(|error| failed(&error))?;
    setuid(user.uid).map_err(|error| failed(&error))?;
    caps::set(None, CapSet::Effective, &kept).map_err(|error| failed(&error))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(|error| failed(&error))?;
    Ok(Dropped::ToUser)
}

/// Gives a directory and the files in it to a user. What cannot be given shows when it is used.
fn hand_over(path: &Path, uid: u32, gid: u32) {
    let _ = chown(path, Some(uid), Some(gid));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        // Links are not followed: whoever could place one here must not get another file.
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = std::os::unix::fs::lchown(entry.path(), Some(uid), Some(gid));
        }
    }
}
