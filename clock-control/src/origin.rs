//! Where the machine's clock has its time from, as far as the machine can tell.
//!
//! Everything is read once, early: a device may be out of reach when privileges are gone. What cannot be read counts as not
//! there.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use ntp_proto::bootstrap::{ClockFacts, SetBy};

use crate::{
    rtc::{self, Zone},
    sys::{self, Timex},
};

/// Furthest that the clock is from the hardware clock which set it, in seconds: that may run in any time zone, and there are
/// those of UTC+14 and UTC-12.
const LOCAL_TIME: i64 = 15 * 3_600;

/// Furthest that the clock is from the host's which set it, in seconds: both run in UTC, and a clock that nobody keeps is soon
/// minutes off.
const HOST_DRIFT: i64 = 3_600;

/// Above this bound the kernel itself calls its clock unsynchronized, in microseconds.
const MAX_ERROR_MICROS: i64 = 16_000_000;

/// Names of clocks by which a host tells its guests the time: `ptp_kvm`, and `vmclock` with its number.
const HOST_CLOCKS: [&str; 2] = ["KVM virtual PTP", "vmclock"];

/// What the machine says of its clock, which reads `now` in Unix seconds. Whether the machine was put back to an earlier state
/// while it was off, Linux tells no program; and whether this daemon verified the clock is not the machine's to say.
#[must_use]
pub fn clock_facts(now: i64) -> ClockFacts {
    let synchronized = sys::adjust(&Timex::default()).is_ok_and(|state| {
        // ntp_adjtime(2): the flag says that somebody kept the clock and told the kernel how well.
        state.status & libc::STA_UNSYNC == 0 && state.maxerror < MAX_ERROR_MICROS
    });
    ClockFacts { set_by: Machine::new(Path::new("/")).set_by(now), synchronized, verified: false, restored: false }
}

/// When the distribution was put together, in Unix seconds, by the date of `/usr/lib/clock-epoch` (systemd(1)); `None`
/// without that file.
#[must_use]
pub fn distribution_epoch() -> Option<i64> {
    Machine::new(Path::new("/")).distribution_epoch()
}

/// What the hardware clock reads, in Unix seconds, if there is one that has the time.
#[must_use]
pub fn hardware_clock() -> Option<i64> {
    let machine = Machine::new(Path::new("/"));
    machine.hardware_clock().map(|(reading, _)| machine.utc(reading))
}

/// The files of a machine, below a folder.
struct Machine<'r> {
    root: &'r Path,
}

impl<'r> Machine<'r> {
    const fn new(root: &'r Path) -> Self {
        Self { root }
    }

    fn distribution_epoch(&self) -> Option<i64> {
        let modified = fs::metadata(self.root.join("usr/lib/clock-epoch")).and_then(|file| file.modified()).ok()?;
        i64::try_from(modified.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
    }

    fn set_by(&self, now: i64) -> SetBy {
        // Others may have set the clock since the machine started, to a date of a file for one: then it is far from what it
        // was set by.
        let is_near = |reading: i64, limit: i64| now.abs_diff(reading) <= limit.unsigned_abs();
        if self.host_clocks().into_iter().any(|reading| is_near(reading, HOST_DRIFT)) {
            return SetBy::Host;
        }
        match self.hardware_clock() {
            Some((reading, device)) if is_near(reading, LOCAL_TIME) => {
                SetBy::HardwareClock { voltage_low: File::open(device).is_ok_and(|device| sys::voltage_low(&device)) }
            }
            Some((reading, device)) => SetBy::Unread {
                reading: self.utc(reading),
                voltage_low: File::open(device).is_ok_and(|device| sys::voltage_low(&device)),
            },
            None => SetBy::Nothing,
        }
    }

    /// What a hardware clock that reads this means, in Unix seconds.
    fn utc(&self, reading: i64) -> i64 {
        match rtc::zone(&fs::read_to_string(self.root.join("etc/adjtime")).unwrap_or_default()) {
            Zone::Utc => reading,
            Zone::Local => sys::local_to_utc(reading).unwrap_or(reading),
        }
    }

    /// What the hardware clock says that the kernel sets the time by, or else the first, and where its device is. A clock that
    /// has lost its time cannot be read.
    fn hardware_clock(&self) -> Option<(i64, PathBuf)> {
        let mut clocks = self.entries("sys/class/rtc");
        let sets = |clock: &PathBuf| number(&clock.join("hctosys")) == Some(1);
        clocks.sort_by_key(|clock| (!sets(clock), clock.clone()));
        let chosen = clocks.first()?;
        let device = self.root.join("dev").join(chosen.file_name()?);
        Some((number(&chosen.join("since_epoch"))?, device))
    }

    /// What clocks of the host say, as far as they may be read.
    fn host_clocks(&self) -> Vec<i64> {
        let read = |device| sys::device_clock(&File::open(device).ok()?).ok();
        self.host_devices().into_iter().filter_map(read).collect()
    }

    /// Where they are.
    fn host_devices(&self) -> Vec<PathBuf> {
        let is_hosts = |clock: &PathBuf| {
            let name = fs::read_to_string(clock.join("clock_name")).unwrap_or_default();
            HOST_CLOCKS.iter().any(|known| name.starts_with(known))
        };
        let device = |clock: PathBuf| Some(self.root.join("dev").join(clock.file_name()?));
        self.entries("sys/class/ptp").into_iter().filter(is_hosts).filter_map(device).collect()
    }

    fn entries(&self, folder: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.join(folder));
        entries.map(|all| all.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
    }
}

fn number(file: &Path) -> Option<i64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    /// A machine with these files.
    struct Made(PathBuf);

    impl Made {
        fn new(name: &str, files: &[(&str, String)]) -> Self {
            let root = std::env::temp_dir().join(format!("origin-{name}-{}", std::process::id()));
            for (file, text) in files {
                let path = root.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }

        fn machine(&self) -> Machine<'_> {
            Machine::new(&self.0)
        }
    }

    impl Drop for Made {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn set_by(name: &str, files: &[(&str, String)]) -> SetBy {
        Made::new(name, files).machine().set_by(NOW)
    }

    #[test]
    fn a_hardware_clock_counts_if_the_clock_still_has_its_time() {
        let good = SetBy::HardwareClock { voltage_low: false };
        assert_eq!(set_by("none", &[]), SetBy::Nothing);
        for (name, reading, expected) in [
            ("same", "1800000003\n", good),
            // Local time of UTC+14.
            ("zone", "1800050400", good),
            // The battery is gone, and somebody has set the clock to a later date that has passed.
            ("reset", "946684900", SetBy::Unread { reading: 946_684_900, voltage_low: false }),
            ("broken", "", SetBy::Nothing),
        ] {
            let file = ("sys/class/rtc/rtc0/since_epoch", reading.to_owned());
            assert_eq!(set_by(name, &[file]), expected, "{name}");
        }
    }

    #[test]
    fn of_several_hardware_clocks_that_counts_which_sets_the_time() {
        let files = [
            ("sys/class/rtc/rtc0/since_epoch", "946684900".to_owned()),
            ("sys/class/rtc/rtc0/hctosys", "0\n".to_owned()),
            ("sys/class/rtc/rtc1/since_epoch", NOW.to_string()),
            ("sys/class/rtc/rtc1/hctosys", "1\n".to_owned()),
        ];
        assert_eq!(set_by("two", &files), SetBy::HardwareClock { voltage_low: false });
        assert_eq!(set_by("first", &files[..3]), SetBy::Unread { reading: 946_684_900, voltage_low: false });
    }

    #[test]
    fn a_host_is_told_by_its_clock() {
        for (name, clock, is_hosts) in
            [("kvm", "KVM virtual PTP\n", true), ("vmclock", "vmclock0\n", true), ("network", "ixgbe\n", false)]
        {
            let made = Made::new(name, &[("sys/class/ptp/ptp0/clock_name", clock.to_owned())]);
            let device = made.0.join("dev/ptp0");
            assert_eq!(made.machine().host_devices(), is_hosts.then_some(device).into_iter().collect::<Vec<_>>());
            assert_eq!(made.machine().set_by(NOW), SetBy::Nothing, "what cannot be read says nothing");
        }
    }

    #[test]
    fn the_distribution_says_when_it_was_made() {
        let made = Made::new("epoch", &[("usr/lib/clock-epoch", String::new())]);
        let file = File::open(made.0.join("usr/lib/clock-epoch")).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_790_000_000)).unwrap();
        assert_eq!(made.machine().distribution_epoch(), Some(1_790_000_000));
        assert_eq!(Made::new("no-epoch", &[]).machine().distribution_epoch(), None);
    }

    #[test]
    fn this_machine_can_be_asked() {
        // What it says depends on the machine; that it says it, and changes nothing, does not.
        let facts = clock_facts(0);
        let is_set = matches!(facts.set_by, SetBy::HardwareClock { .. } | SetBy::Host);
        assert!(!facts.restored && !is_set, "no clock of this century is near 1970: {facts:?}");
    }
}
