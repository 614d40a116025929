//! Why a source is used, or not.

use core::fmt;

/// What selection made of a source. Letters are those of chronyc's `selectdata`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No measurement yet, or none left.
    NoSamples,
    /// It has not answered the last eight requests.
    Unreachable,
    /// Set to be measured only.
    NotSelectable,
    /// It says itself that it is not synchronized.
    Unsynchronized,
    /// Its error bound is above the limit.
    Distant,
    /// Its measurements spread too widely.
    Jittery,
    /// It told us to stay away.
    Denied,
    /// It follows us.
    Loop,
    /// It may serve no more than its own clock, as this machine does, and better ones are there, or this one comes first.
    Orphan,
    /// There is no majority that agrees on a time.
    NoMajority,
    /// It disagrees with the majority.
    Falseticker,
    /// It is not authenticated, or not as well as those that decide, and they do not confirm it.
    Untrusted,
    /// It agrees, but others have not finished their first measurements, or the first ones do not say enough.
    Waiting,
    /// It agrees, but more sources are needed.
    TooFew,
    /// It agrees, but a source marked as required does not.
    MissingRequired,
    /// It agrees, but another source is preferred.
    NotPreferred,
    /// It agrees, but its error bound is too large beside the best one's to improve it, or its frequency is not that of most.
    NotCombined,
    /// It agrees and its time is combined with the best one's.
    Combined,
    /// It is the best source.
    Selected,
}

impl Verdict {
    /// The state letter of chronyc's `selectdata`.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::NoSamples | Self::Unreachable => 'M',
            Self::NotSelectable => 'N',
            Self::Unsynchronized | Self::Denied | Self::Loop => 's',
            Self::Orphan => 'O',
            Self::Distant => 'd',
            Self::Jittery => '~',
            Self::NoMajority | Self::Falseticker => 'x',
            Self::Untrusted => 'T',
            Self::Waiting => 'w',
            Self::TooFew | Self::MissingRequired => 'W',
            Self::NotPreferred => 'P',
            Self::NotCombined => 'D',
            Self::Combined => '+',
            Self::Selected => '*',
        }
    }

    /// The state letter of chronyc's `sources`.
    #[must_use]
    pub const fn short_letter(self) -> char {
        match self {
            Self::Selected => '*',
            Self::Combined => '+',
            Self::NoMajority | Self::Falseticker => 'x',
            Self::Jittery => '~',
            Self::Untrusted
            | Self::Waiting
            | Self::TooFew
            | Self::MissingRequired
            | Self::NotPreferred
            | Self::NotCombined => '-',
            Self::NoSamples
            | Self::Unreachable
            | Self::NotSelectable
            | Self::Unsynchronized
            | Self::Distant
            | Self::Denied
            | Self::Loop
            | Self::Orphan => '?',
        }
    }

    /// A short name for scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSamples => "no-samples",
            Self::Unreachable => "unreachable",
            Self::NotSelectable => "not-selectable",
            Self::Unsynchronized => "unsynchronized",
            Self::Distant => "distant",
            Self::Jittery => "jittery",
            Self::Denied => "denied",
            Self::Loop => "loop",
            Self::Orphan => "orphan",
            Self::NoMajority => "no-majority",
            Self::Falseticker => "falseticker",
            Self::Untrusted => "untrusted",
            Self::Waiting => "waiting",
            Self::TooFew => "too-few",
            Self::MissingRequired => "missing-required",
            Self::NotPreferred => "not-preferred",
            Self::NotCombined => "not-combined",
            Self::Combined => "combined",
            Self::Selected => "selected",
        }
    }

    /// Whether the source's time reaches the clock.
    #[must_use]
    pub const fn is_used(self) -> bool {
        matches!(self, Self::Selected | Self::Combined)
    }

    /// Whether the source agrees on the time that is followed, be that made of its own or not.
    pub(super) const fn agrees(self) -> bool {
        self.is_used() || matches!(self, Self::NotPreferred | Self::NotCombined)
    }

    /// Whether the fault lies with the source, so that another one may do better.
    #[must_use]
    pub const fn is_bad(self) -> bool {
        matches!(
            self,
            Self::Unreachable | Self::Unsynchronized | Self::Distant | Self::Jittery | Self::Falseticker | Self::Loop
        )
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSamples => "no measurement yet",
            Self::Unreachable => "does not answer",
            Self::NotSelectable => "set to be measured only",
            Self::Unsynchronized => "says it is not synchronized",
            Self::Distant => "error bound above the limit",
            Self::Jittery => "measurements spread too widely",
            Self::Denied => "refuses to serve us",
            Self::Loop => "follows us",
            Self::Orphan => "may serve its own clock (serve.local)",
            Self::NoMajority => "no majority agrees on a time",
            Self::Falseticker => "disagrees with the majority",
            Self::Untrusted => "not authenticated and not confirmed by authenticated sources",
            Self::Waiting => "agrees; waiting for more of the first measurements",
            Self::TooFew => "agrees; more sources are needed",
            Self::MissingRequired => "agrees; a required source is missing",
            Self::NotPreferred => "agrees; another source is preferred",
            Self::NotCombined => "agrees; too uncertain beside the best, or at another frequency than most",
            Self::Combined => "agrees; combined with the best",
            Self::Selected => "best source",
        })
    }
}
