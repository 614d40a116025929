//! What administrators are told of the sources and the clock. Each line says what happened, what it means and, where there is
//! something to be done, what.

use std::{collections::BTreeMap, time::Duration};

use ntp_proto::{
    engine::Notice,
    ids::SourceId,
    steer::Foreign,
    time::{Monotonic, NtpDuration},
};

use super::Client;
use crate::observe::SourceInfo;

/// How long what goes on is not told again.
const REMINDER: Duration = Duration::from_secs(3_600);

/// What may happen with each measurement, and is told once and then as a reminder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Falseticker(SourceId),
    Kiss(SourceId),
    Wrong,
    StepRefused,
    Ignored,
    ForeignFrequency,
    ForeignSlew,
    ForeignLoop,
}

/// When each was told last.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<Topic, Monotonic>);

impl Told {
    /// Whether it is time to tell it, which is then done.
    fn is_due(&mut self, topic: Topic, now: Monotonic) -> bool {
        let is_due = self.0.get(&topic).is_none_or(|last| now.since(*last) >= REMINDER);
        if is_due {
            // Sources come and go, and this stays small.
            self.0.retain(|_, last| now.since(*last) < REMINDER);
            self.0.insert(topic, now);
        }
        is_due
    }
}

/// How a source is called in messages. Both are fields of their own there, by which a journal is searched.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) address: String,
}

impl From<&SourceInfo> for Place {
    fn from(info: &SourceInfo) -> Self {
        Self { name: info.name.clone(), address: info.place() }
    }
}

impl Client {
    pub(super) fn place(&self, id: SourceId) -> Place {
        let unknown = || Place { name: format!("source {}", id.0), address: String::new() };
        self.info.get(&id).map_or_else(unknown, Place::from)
    }

    pub(super) fn tell(&mut self, notice: Notice) {
        let now = self.clock.now().monotonic;
        if topic_of(notice).is_some_and(|topic| !self.told.is_due(topic, now)) {
            return;
        }
        match notice {
            Notice::Selected(id) => {
                let Place { name, address } = self.place(id);
                tracing::info!(source = %name, %address, "selected source: the clock follows it most");
            }
            Notice::NoSelection => tracing::warn!(
                "no source can be used: the clock runs on at its last frequency and its error bound grows; `ntpctl sources` says \
                 why each is not used"
            ),
            Notice::Falseticker(id) => {
                let Place { name, address } = self.place(id);
                tracing::warn!(
                    source = %name, %address,
                    "source disagrees with the majority and is left out; if it goes on, mend its clock or remove it"
                );
            }
            Notice::Kiss(id, code) => {
                let Place { name, address } = self.place(id);
                tracing::warn!(
                    source = %name, %address, reason = %code,
                    "server sent a kiss code: it wants to be asked less often, or not at all"
                );
            }
            Notice::Step(by) => {
                tracing::warn!(
                    seconds = by.to_seconds(),
                    "stepping the clock; times logged before are wrong by as much"
                );
            }
            Notice::Wrong(by) | Notice::StepRefused(by) => {
                tracing::warn!(seconds = by.to_seconds(), "{}", why_slewed(notice));
            }
            Notice::Ignored(by) => tracing::warn!(
                seconds = by.to_seconds(),
                "offset above clock.max-change ignored; if the sources are right, set the clock by hand or start the daemon anew"
            ),
            Notice::GaveUp(by) => {
                self.gave_up = true;
                tracing::error!(seconds = by.to_seconds(), "offset above clock.max-change once too often; giving up");
            }
            Notice::Unsynchronized => tracing::warn!(
                "error bound too large: the clock is no longer synchronized, and clients are told so; `ntpctl tracking` says why"
            ),
            Notice::Jump(by) => tracing::warn!(
                seconds = by.to_seconds(),
                "somebody else made the clock jump; measuring anew. Find the program that sets it, and stop it"
            ),
            Notice::Foreign(foreign) => {
                let (noticed, frequency_ppm, left) = match foreign {
                    Foreign::Frequency(rate) => ("another frequency", Some(rate.to_ppm()), None),
                    Foreign::Slew(left) => ("a slew by adjtime()", None, Some(left)),
                    Foreign::Loop(left) => ("the kernel's own loop", None, Some(left)),
                };
                tracing::warn!(
                    noticed,
                    frequency_ppm,
                    seconds_left = left.map(NtpDuration::to_seconds),
                    "another program steers this clock too, and time is kept badly until it is stopped: find it and stop it"
                );
            }
            Notice::LeapSecond(by) => tracing::info!(seconds = by.to_seconds(), "clocks go on by a leap second"),
        }
    }
}

/// Why a clock that is far off is slewed.
const fn why_slewed(notice: Notice) -> &'static str {
    if matches!(notice, Notice::StepRefused(_)) {
        "the kernel refuses to step the clock: slewing, which takes long; give back the right to set it (CAP_SYS_TIME)"
    } else {
        "clock is wrong, and no step is allowed any more: slewing, which takes long; `ntpctl makestep` steps it"
    }
}

/// What is not told again so soon.
const fn topic_of(notice: Notice) -> Option<Topic> {
    match notice {
        Notice::Falseticker(id) => Some(Topic::Falseticker(id)),
        Notice::Kiss(id, _) => Some(Topic::Kiss(id)),
        Notice::Wrong(_) => Some(Topic::Wrong),
        Notice::StepRefused(_) => Some(Topic::StepRefused),
        Notice::Ignored(_) => Some(Topic::Ignored),
        Notice::Foreign(Foreign::Frequency(_)) => Some(Topic::ForeignFrequency),
        Notice::Foreign(Foreign::Slew(_)) => Some(Topic::ForeignSlew),
        Notice::Foreign(Foreign::Loop(_)) => Some(Topic::ForeignLoop),
        Notice::Selected(_)
        | Notice::NoSelection
        | Notice::Step(_)
        | Notice::GaveUp(_)
        | Notice::Unsynchronized
        | Notice::Jump(_)
        | Notice::LeapSecond(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_told_once_an_hour() {
        let at = |seconds| Monotonic::default() + Duration::from_secs(seconds);
        let (one, two) = (Topic::Kiss(SourceId(1)), Topic::Kiss(SourceId(2)));
        let mut told = Told::default();
        let due = [(one, 0), (one, 64), (two, 64), (one, 3_599), (one, 3_600), (two, 3_601), (one, 3_664)];
        assert_eq!(
            due.map(|(topic, seconds)| told.is_due(topic, at(seconds))),
            [true, false, true, false, true, false, false]
        );
        (0..1_000)
            .for_each(|id| assert!(told.is_due(Topic::Falseticker(SourceId(id)), at(10_000 + 100 * u64::from(id)))));
        assert!(told.0.len() <= 37, "{}", told.0.len());
    }
}
