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

impl Trouble {
    /// Of failures with two addresses of a member the one that counts: what this machine lacks for one address says nothing
    /// of another.
    pub(super) fn or(first: Option<Self>, second: Self) -> Self {
        match (first, second) {
            (Some(Self::Member(why)), Self::Ours(_)) => Self::Member(why),
            (_, second) => second,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_held_against_no_member() {
        let ours = || Trouble::from(io::Error::from_raw_os_error(libc::ENETUNREACH));
        let member = || Trouble::from(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        assert!(matches!(ours(), Trouble::Ours(_)) && matches!(member(), Trouble::Member(_)));
        // Its IPv6 address cannot be reached from here, its IPv4 address refuses, or the other way round.
        assert!(matches!(Trouble::or(Some(ours()), member()), Trouble::Member(_)));
        assert!(matches!(Trouble::or(Some(member()), ours()), Trouble::Member(_)));
        assert!(matches!(Trouble::or(Some(ours()), ours()), Trouble::Ours(_)));
        assert!(matches!(Trouble::or(None, ours()), Trouble::Ours(_)));
    }
}
