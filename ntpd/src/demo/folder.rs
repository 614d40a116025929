//! What the demonstration writes.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use nix::unistd::mkdtemp;

use crate::start::StartError;

/// A folder that nobody else can read or foresee. It goes away with its owner.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Result<Self, StartError> {
        let place = std::env::temp_dir();
        let failed = |error| StartError::new(format_args!("cannot make a folder in {}: {error}", place.display()));
        mkdtemp(&place.join("ntpd-demo-XXXXXX")).map(Self).map_err(failed)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), StartError> {
        let path = self.path(name);
        let failed = |error| StartError::new(format_args!("{}: {error}", path.display()));
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("ntpd: {} is left behind: {error}", self.0.display());
        }
    }
}
