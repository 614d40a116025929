//! What a clock is worth before anybody has confirmed it.

use core::fmt;

/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;

/// How far after the last verified time a clock may be that counts as plausible.
const PLAUSIBLE_AFTER_VERIFIED: i64 = 400 * DAY;

/// The same where no time was ever verified, after the build of this program.
const PLAUSIBLE_AFTER_BUILD: i64 = 5 * 365 * DAY;

/// No time later than this after the build is believed.
const CEILING_AFTER_BUILD: i64 = 15 * 365 * DAY;

/// Times that cannot be too late, in Unix seconds: none was taken from a clock that nobody had verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// When this program was built.
    pub build: i64,
    /// What the distribution says, by the date of `/usr/lib/clock-epoch`.
    pub distribution: Option<i64>,
    /// The last time that this daemon verified, less its error bound.
    pub verified: Option<i64>,
}

impl Floor {
    /// The latest of them.
    #[must_use]
    pub fn latest(&self) -> i64 {
        self.build.max(self.distribution.unwrap_or(i64::MIN)).max(self.verified.unwrap_or(i64::MIN))
    }

    /// The latest time that is believed at all.
    #[must_use]
    pub const fn ceiling(&self) -> i64 {
        self.build.saturating_add(CEILING_AFTER_BUILD)
    }

    /// The latest reading of a clock that is plausible.
    fn plausible_until(&self) -> i64 {
        match self.verified {
            Some(_) => self.latest().saturating_add(PLAUSIBLE_AFTER_VERIFIED),
            None => self.build.saturating_add(PLAUSIBLE_AFTER_BUILD),
        }
    }
}

/// What gave this machine's clock its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetBy {
    /// Nothing that is known: there is no hardware clock.
    Nothing,
    /// A hardware clock that runs while the machine is off.
    HardwareClock {
        /// It says itself that its battery failed.
        voltage_low: bool,
    },
    /// The machine that this one is a guest of (`ptp_kvm`, `vmclock`).
    Host,
    /// Nothing, though there is a hardware clock: its driver came too late for the kernel to set the clock by it, or somebody
    /// has set the clock since.
    Unread {
        /// What it reads, in Unix seconds.
        reading: i64,
        /// It says itself that its battery failed.
        voltage_low: bool,
    },
}

/// What can be known of a clock without asking anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockFacts {
    /// What gave it its time.
    pub set_by: SetBy,
    /// The kernel has counted it as synchronized since the machine started, whoever told it so.
    pub synchronized: bool,
    /// This daemon has verified the time since the machine started.
    pub verified: bool,
    /// The machine was put back to an earlier state, or copied, since the last verified time.
    pub restored: bool,
}

/// How far a clock is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This daemon verified it since the machine started, and the kernel says that it is synchronized.
    Trusted,
    /// Hardware, or somebody else who keeps it, gave it a time that can be right.
    Plausible,
    /// Not at all, for this reason.
    Untrusted(Distrust),
}

/// Why a clock is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// Nothing has set it.
    NoHardwareClock,
    /// The battery of the hardware clock failed.
    VoltageLow,
    /// It was behind the floor.
    BehindFloor,
    /// It is too far ahead of the floor.
    FarAhead,
    /// The machine was put back to an earlier state, or copied.
    Restored,
    /// Servers of several operators showed that it was wrong after it had been verified.
    Refuted,
    /// An administrator says so.
    Administrator,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHardwareClock => "this machine has no hardware clock",
            Self::VoltageLow => "the battery of the hardware clock failed",
            Self::BehindFloor => "the clock was earlier than a time that has passed",
            Self::FarAhead => "the clock is too far ahead of the last time that was verified",
            Self::Restored => "this machine was put back to an earlier state",
            Self::Refuted => "several operators signed later times than the clock's",
            Self::Administrator => "an administrator does not believe the last time that was verified",
        })
    }
}

/// Judges a clock that says `now`, in Unix seconds.
#[must_use]
pub fn judge(now: i64, floor: &Floor, facts: &ClockFacts) -> Standing {
    if facts.restored {
        Standing::Untrusted(Distrust::Restored)
    } else if now < floor.latest() {
        Standing::Untrusted(Distrust::BehindFloor)
    } else if now > floor.plausible_until() {
        // Whoever keeps the kernel's clock may have been told anything by anybody.
        Standing::Untrusted(Distrust::FarAhead)
    } else if facts.synchronized && facts.verified {
        Standing::Trusted
    } else if facts.synchronized {
        Standing::Plausible
    } else {
        match facts.set_by {
            SetBy::Nothing | SetBy::Unread { .. } => Standing::Untrusted(Distrust::NoHardwareClock),
            SetBy::HardwareClock { voltage_low: true } => Standing::Untrusted(Distrust::VoltageLow),
            SetBy::HardwareClock { voltage_low: false } | SetBy::Host => Standing::Plausible,
        }
    }
}

/// What a clock that says `now` is set to because the hardware clock was not read when the machine started, in Unix seconds:
/// it is behind the floor, and the hardware clock is where a plausible clock can be. It is then worth as much as one that the
/// kernel has set.
#[must_use]
pub fn late_reading(now: i64, floor: &Floor, facts: &ClockFacts) -> Option<i64> {
    match facts.set_by {
        SetBy::Unread { reading, voltage_low: false } if !facts.synchronized && now < floor.latest() => {
            (floor.latest()..=floor.plausible_until()).contains(&reading).then_some(reading)
        }
        SetBy::Unread { .. } | SetBy::Nothing | SetBy::HardwareClock { .. } | SetBy::Host => None,
    }
}

/// What a clock that says `now` goes on from where no authenticated source is expected, in Unix seconds: the hardware clock, as
/// [`late_reading`] has it, or without one when it was last `kept`. It only ever goes forward.
#[must_use]
pub fn resumed(now: i64, floor: &Floor, facts: &ClockFacts, kept: Option<i64>) -> Option<i64> {
    let is_unset = facts.set_by == SetBy::Nothing && !facts.synchronized;
    let kept = kept.filter(|kept| is_unset && (now + 1..=floor.ceiling()).contains(kept));
    late_reading(now, floor, facts).or(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILD: i64 = 1_790_000_000;

    #[test]
    fn clocks_are_told_apart() {
        let good = SetBy::HardwareClock { voltage_low: false };
        let never = Floor { build: BUILD, distribution: None, verified: None };
        let known = Floor { verified: Some(BUILD + 100 * DAY), ..never };
        let facts = |set_by| ClockFacts { set_by, synchronized: false, verified: false, restored: false };
        let judged = |days: i64, floor: &Floor, facts| judge(BUILD + days * DAY, floor, &facts);
        for (days, floor, set_by, expected) in [
            (50, &never, good, Standing::Plausible),
            (50, &never, SetBy::Host, Standing::Plausible),
            (50, &never, SetBy::Nothing, Standing::Untrusted(Distrust::NoHardwareClock)),
            (50, &never, SetBy::HardwareClock { voltage_low: true }, Standing::Untrusted(Distrust::VoltageLow)),
            (50, &known, good, Standing::Untrusted(Distrust::BehindFloor)),
            (499, &known, good, Standing::Plausible),
            (501, &known, good, Standing::Untrusted(Distrust::FarAhead)),
            (501, &never, good, Standing::Plausible),
            (5 * 365 + 1, &never, good, Standing::Untrusted(Distrust::FarAhead)),
            (-1, &never, SetBy::Host, Standing::Untrusted(Distrust::BehindFloor)),
        ] {
            assert_eq!(judged(days, floor, facts(set_by)), expected, "{days} {floor:?} {set_by:?}");
        }
        let kept = ClockFacts { synchronized: true, ..facts(SetBy::Nothing) };
        assert_eq!(judged(300, &known, kept), Standing::Plausible);
        assert_eq!(judged(600, &known, kept), Standing::Untrusted(Distrust::FarAhead));
        let synchronized = ClockFacts { verified: true, ..kept };
        assert_eq!(judged(300, &known, synchronized), Standing::Trusted);
        assert_eq!(judged(-1, &never, synchronized), Standing::Untrusted(Distrust::BehindFloor));
        let restored = ClockFacts { restored: true, ..synchronized };
        assert_eq!(judged(300, &known, restored), Standing::Untrusted(Distrust::Restored));
    }

    #[test]
    fn a_hardware_clock_that_was_not_read_sets_a_clock_behind_the_floor() {
        let floor = Floor { build: BUILD, distribution: None, verified: Some(BUILD + 100 * DAY) };
        let facts = |days: i64, voltage_low| ClockFacts {
            set_by: SetBy::Unread { reading: BUILD + days * DAY, voltage_low },
            synchronized: false,
            verified: false,
            restored: false,
        };
        for (clock, days, voltage_low, expected) in [
            (-10_000, 120, false, true),
            (99, 100, false, true),
            (100, 120, false, false),    // Something has set the clock to what can be.
            (-10_000, 99, false, false), // It lost its time, too.
            (-10_000, 501, false, false),
            (-10_000, 120, true, false),
        ] {
            let (now, facts) = (BUILD + clock * DAY, facts(days, voltage_low));
            let reading = expected.then_some(BUILD + days * DAY);
            assert_eq!(late_reading(now, &floor, &facts), reading, "{clock} {days} {voltage_low}");
            assert_eq!(resumed(now, &floor, &facts, Some(BUILD + 90 * DAY)), reading, "there is a hardware clock");
            let kept = ClockFacts { synchronized: true, ..facts };
            assert_eq!(late_reading(now, &floor, &kept), None, "somebody keeps it");
        }
    }

    #[test]
    fn without_a_hardware_clock_plain_time_goes_on_from_when_it_was_kept() {
        let floor = Floor { build: BUILD, ..Floor::default() };
        let facts = |set_by, synchronized| ClockFacts { set_by, synchronized, verified: false, restored: false };
        let hardware = SetBy::HardwareClock { voltage_low: false };
        for (now, kept, set_by, synchronized, expected) in [
            (0, Some(BUILD - DAY), SetBy::Nothing, false, Some(BUILD - DAY)),
            (0, None, SetBy::Nothing, false, None),
            (BUILD, Some(BUILD), SetBy::Nothing, false, None),
            (BUILD, Some(BUILD - 1), SetBy::Nothing, false, None),
            (0, Some(floor.ceiling() + 1), SetBy::Nothing, false, None),
            (0, Some(BUILD), SetBy::Nothing, true, None),
            (0, Some(BUILD), hardware, false, None),
            (0, Some(BUILD), SetBy::Host, false, None),
        ] {
            assert_eq!(resumed(now, &floor, &facts(set_by, synchronized), kept), expected, "{now} {kept:?} {set_by:?}");
        }
    }

    #[test]
    fn the_floor_is_the_latest_of_what_has_passed() {
        let floor = Floor { build: 10, distribution: Some(30), verified: Some(20) };
        assert_eq!((floor.latest(), Floor { build: 10, ..Floor::default() }.latest()), (30, 10));
        assert_eq!(floor.ceiling(), 10 + 15 * 365 * DAY);
    }
}
