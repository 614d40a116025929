//! What goes into a [`Bootstrap`](super::Bootstrap), and what comes out.

use super::clock::Floor;
use crate::{
    ids::SourceId,
    time::{Monotonic, NtpDuration, UnixTime},
};

/// What to do where this machine does not know the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Take it from a majority of the configured operators.
    #[default]
    Quorum,
    /// Judge certificates by the clock as it is, and by what has certainly passed.
    Strict,
}

/// What does not change.
#[derive(Clone, Debug)]
pub struct Config {
    /// What to do without a time.
    pub policy: Policy,
    /// What has passed.
    pub floor: Floor,
    /// Fewest servers that confirm a clock that is plausible or trusted; by default a majority of the operators for the
    /// first, and two servers for the second. Where the clock is distrusted nothing less than a majority will do.
    pub min_agreeing: Option<usize>,
    /// Believe a single operator, if no more are configured.
    pub single: bool,
}

/// The present, by both clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Present {
    /// The monotonic clock.
    pub monotonic: Monotonic,
    /// The time believed in, whatever it is worth.
    pub clock: UnixTime,
}

/// What is known of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nothing.
    Unknown,
    /// A majority told it; the strict pass at that time is under way.
    Provisional,
    /// It is confirmed.
    Verified,
}

/// Servers that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The registrable domain of the name that is configured, whose owner answers for all of them: whoever has the keys of a
    /// signed zone names as many servers as he likes, and has one voice. `None` where the name proves nothing, since servers
    /// are known by addresses that anybody can forge: these have no voice where others are configured.
    pub operator: Option<String>,
    /// How many are wanted.
    pub servers: usize,
    /// They have been dead for more than a day in which the time was verified. Where the clock will do, they are not among
    /// those whose majority is needed until one answers; where it will not they are, or whoever keeps servers from this
    /// machine for a day would need fewer stolen keys.
    pub absent: bool,
}

/// What a source says now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Which source.
    pub source: SourceId,
    /// How far its time is ahead of the clock, in seconds.
    pub offset: f64,
    /// Largest error of that, in seconds.
    pub distance: f64,
    /// Measurements that it rests on.
    pub samples: usize,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Output {
    /// Set the clock: it is this much behind.
    SetClock(NtpDuration),
    /// Forget all keys and cookies and what names lead to, and ask again.
    ExchangeAgain,
    /// Do without this source: its certificate is not valid at the time that was agreed on.
    Refuse(SourceId),
    /// What is known of the time has changed.
    Now(State),
    /// Tell whoever watches.
    Alarm(Alarm),
    /// Nothing more until this time; then call [`Bootstrap::handle_timeout`](super::Bootstrap::handle_timeout).
    Timeout(Option<Monotonic>),
}

/// What somebody should look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// There is no majority for any time.
    NoQuorum,
    /// Too few servers have certificates that are valid by this clock, which there is no reason to distrust.
    NotValid,
    /// The time that a majority told did not stand the strict pass.
    NotConfirmed,
    /// There is a network, and nobody has answered, with whatever certificate.
    NobodyAnswers,
    /// Several operators signed dates that are far ahead of the time that was verified: it had been set to the past.
    Refuted,
}
