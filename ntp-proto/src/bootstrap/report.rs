//! What is known of the time, in words.

use core::{fmt, time::Duration};

use super::{Bootstrap, Policy, Standing, State, Window};
use crate::ids::SourceId;

/// What the next state waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nothing.
    Nothing,
    /// Servers, of different operators unless the kernel vouches for the clock, whose certificates are valid by it.
    Servers {
        /// How many there are.
        passed: usize,
        /// How many are needed.
        needed: usize,
    },
    /// The same where the clock is distrusted, and only one operator is configured, who alone is not believed.
    OneOperator {
        /// How many there are.
        passed: usize,
        /// How many are needed.
        needed: usize,
    },
    /// Operators that agree on one time.
    Operators {
        /// How many do.
        agreeing: usize,
        /// How many are needed.
        needed: usize,
        /// How many there are.
        all: usize,
    },
    /// A pause to be over: there was no majority.
    Pause {
        /// How long all of it is.
        length: Duration,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Servers { passed, needed } => {
                write!(f, "servers whose certificates are valid by this clock: {passed} of {needed} needed")
            }
            Self::OneOperator { passed, needed } => {
                write!(
                    f,
                    "servers whose certificates are valid by this clock: {passed} of {needed} needed; only one operator is \
                     configured, who alone is not believed without a clock: name servers of two more, or set \
                     trust.first-boot-quorum = 1"
                )
            }
            Self::Operators { agreeing, needed, all } => {
                write!(f, "operators that agree on the time: {agreeing} of {needed} needed, {all} are configured")
            }
            Self::Pause { length } => {
                let seconds = length.as_secs();
                write!(f, "the next try, after a pause of {seconds} s: there was no majority for any time")
            }
        }
    }
}

/// What is known of the time, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// What is known.
    pub state: State,
    /// How far the clock was believed when it was last judged.
    pub standing: Standing,
    /// Whether dates are deferred now.
    pub deferred: bool,
    /// It is this late at least, in Unix seconds.
    pub earliest: i64,
    /// What the next state waits for.
    pub missing: Missing,
}

/// A server whose certificate was seen, and the times that this allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenServer<'a> {
    /// Whom the certificate is for.
    pub server: &'a str,
    /// When all that vouches for it is valid.
    pub window: Window,
    /// The source that has keys of it; `None` if it was refused by its dates, or is to be asked again.
    pub source: Option<SourceId>,
}

impl State {
    /// The word for it in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Provisional => "provisional",
            Self::Verified => "verified",
        }
    }
}

impl Policy {
    /// The word for it in configuration files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Strict => "strict",
        }
    }
}

impl Bootstrap {
    /// What is known, and what is missing for more.
    #[must_use]
    pub fn report(&self) -> Report {
        let agreeing = self.last_vote.agreeing;
        let missing = match self.state {
            State::Verified => Missing::Nothing,
            State::Unknown if self.paused_until.is_some() => Missing::Pause { length: self.pause.unwrap_or_default() },
            State::Unknown if self.lacks_operators() => {
                Missing::OneOperator { passed: agreeing, needed: self.needed_by_clock() }
            }
            State::Unknown if !self.defers() => Missing::Servers { passed: agreeing, needed: self.needed_by_clock() },
            State::Unknown | State::Provisional => {
                Missing::Operators { agreeing, needed: self.needed(), all: self.operators() }
            }
        };
        Report {
            state: self.state,
            standing: self.standing,
            deferred: self.defers(),
            earliest: self.earliest(),
            missing,
        }
    }

    /// The servers whose certificates were seen, the latest last.
    pub fn seen(&self) -> impl Iterator<Item = SeenServer<'_>> {
        self.seen.iter().map(|seen| SeenServer { server: &seen.server, window: seen.chain.window, source: seen.source })
    }
}
