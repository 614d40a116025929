//! Giving up what is not needed.

use std::{
    ffi::CString,
    fmt,
    fs::{DirBuilder, Permissions, set_permissions},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown},
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
    // No program that this process might be made to start can have more. A container may not let it be said.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(|error| failed(&error))? {
        caps::clear(None, CapSet::Bounding).map_err(|error| failed(&error))?;
    }
    let name = CString::new(USER).map_err(|error| failed(&error))?;
    caps::securebits::set_keepcaps(true).map_err(|error| failed(&error))?;
    initgroups(&name, user.gid).map_err(|error| failed(&error))?;
    setgid(user.gid).map_err(|error| failed(&error))?;
    setuid(user.uid).map_err(|error| failed(&error))?;
    caps::set(None, CapSet::Effective, &kept).map_err(|error| failed(&error))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(|error| failed(&error))?;
    // This clears what is ambient as well, since that is never more than what is inheritable (capabilities(7)).
    caps::clear(None, CapSet::Inheritable).map_err(|error| failed(&error))?;
    nix::sys::prctl::set_no_new_privs().map_err(|error| failed(&error))?;
    Ok(Dropped::ToUser)
}

/// Makes the directory of the control socket, for its owner to put the socket in and for all to pass through, as the
/// service manager would. One that exists stays as it is.
pub fn make_directory(path: &Path, uid: Uid, gid: Gid) {
    if DirBuilder::new().mode(0o700).create(path).is_ok() {
        // If it cannot be given away, binding the socket says so. The mode is set besides, since a umask takes from it.
        let _ = set_permissions(path, Permissions::from_mode(0o755))
            .and_then(|()| chown(path, Some(uid.as_raw()), Some(gid.as_raw())));
    }
}
