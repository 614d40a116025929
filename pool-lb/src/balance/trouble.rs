//! Whose fault it is that a member cannot be used.

use std::{fmt, io};

use nts_ke::error::KeError;

/// Why a member cannot be used.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It was not even asked; why.
    Skipped(&'static str),
    /// It was not even asked, since it failed too often.
    Broken,
    /// It failed.
    Member(String),
    /// We failed.
    Ours(io::Error),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped(why) => f.write_str(why),
            Self::Broken => f.write_str("it failed too often"),
            Self::Member(why) => f.write_str(why),
            Self::Ours(error) => write!(f, "our own fault: {error}"),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        // What this machine has run out of is no fault of a member.
        let ours = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL, libc::ENETUNREACH];
        if error.raw_os_error().is_some_and(|code| ours.contains(&code)) {
            Self::Ours(error)
        } else {
            Self::Member(error.to_string())
        }
    }
}

impl From<KeError> for Trouble {
    fn from(error: KeError) -> Self {
        Self::Member(error.to_string())
    }
}
