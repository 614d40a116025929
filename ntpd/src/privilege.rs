//! Giving up what is not needed.

use std::{
    ffi::CString,
    fmt,
    fs::DirBuilder,
    os::unix::fs::{DirBuilderExt as _, chown},
    path::Path,
};

use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setgid, setuid};

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

/// Becomes the daemon's user, if started as root; `hand_over` first gives that user what it needs to own. The process keeps
/// CAP_NET_BIND_SERVICE and, if `clock`, CAP_SYS_TIME; threads that exist already lose all capabilities.
///
/// # Errors
///
/// [`DropError`] if the user exists, but the system does not let us become it.
pub fn drop(clock: bool, hand_over: impl FnOnce(Uid, Gid)) -> Result<Dropped, DropError> {
    if !geteuid().is_root() {
        return Ok(Dropped::NothingToDrop);
    }
    let failed = |error: &dyn fmt::Display| DropError(error.to_string());
    let Some(user) = User::from_name(USER).map_err(|error| failed(&error))? else {
        return Ok(Dropped::NoSuchUser);
    };
    hand_over(user.uid, user.gid);
    let mut kept = CapsHashSet::new();
    kept.insert(Capability::CAP_NET_BIND_SERVICE);
    if clock {
        kept.insert(Capability::CAP_SYS_TIME);
    }
    let name = CString::new(USER).map_err(|error| failed(&error))?;
    caps::securebits::set_keepcaps(true).map_err(|error| failed(&error))?;
    initgroups(&name, user.gid).map_err(|error| failed(&error))?;
    setgid(user.gid).map_err(|error| failed(&error))?;
    setuid(user.uid).map_err(|error| failed(&error))?;
    caps::set(None, CapSet::Effective, &kept).map_err(|error| failed(&error))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(|error| failed(&error))?;
    // No program that this process might be made to start can have more.
    nix::sys::prctl::set_no_new_privs().map_err(|error| failed(&error))?;
    Ok(Dropped::ToUser)
}

/// Makes the directory of the control socket, for its owner to put the socket in. One that exists stays as it is.
pub fn make_directory(path: &Path, uid: Uid, gid: Gid) {
    let made = DirBuilder::new().mode(0o755).create(path);
    if made.is_ok() {
        // If it cannot be given away, binding the socket says so.
        let _ = chown(path, Some(uid.as_raw()), Some(gid.as_raw()));
    }
}
