//! The machine's own clock on Linux.
//!
//! The kernel's phase-locked loop is not used, and what others begin with it or with adjtime(3) is ended. A rate is set as
//! tick length and frequency together, which reaches ±100 000 ppm where the frequency alone ends at ±500; a step is one
//! `ADJ_SETOFFSET`, which the kernel carries out without a window between reading and setting.

use std::{fs, io, mem};

use ntp_proto::{
    ids::Leap,
    steer::{Applied, ClockStatus, Foreign, Steer},
    time::{ClockMap, NtpDuration, NtpTimestamp, Rate, UnixTime},
};

use crate::{
    Clock, ClockError, MAX_RATE,
    sys::{self, Timex},
};

/// The kernel's frequency word counts 2^-16 ppm.
const FREQUENCY_SCALE: f64 = 65_536.0;

/// Largest rate that the frequency word alone can hold, in ppm (the kernel's `MAXFREQ`).
const MAX_FREQUENCY_PPM: f64 = 500.0;

/// Microseconds in a second.
const MICROS_PER_SECOND: i64 = 1_000_000;

/// Nanoseconds in a second.
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Seconds in an era of NTP timestamps (RFC 5905 section 6).
const ERA_SECONDS: i64 = 1 << 32;

/// Where the kernel caps its error bounds, in microseconds (`NTP_PHASE_LIMIT`).
const MAX_ERROR_MICROS: i64 = 16_000_000;

/// Status bits of the kernel's own loops, which have to be off.
const LOOPS: i32 = libc::STA_PLL | libc::STA_FLL | libc::STA_PPSFREQ | libc::STA_PPSTIME;

/// Status bits that belong to us: whether the clock is synchronized, which leap second comes, and the loops.
const OUR_STATUS: i32 = libc::STA_UNSYNC | libc::STA_INS | libc::STA_DEL | libc::STA_FREQHOLD | LOOPS;

/// Bit of `CAP_SYS_TIME` in a capability set (capabilities(7)).
const CAP_SYS_TIME: u32 = 25;

/// What a command has to take into account.
#[derive(Clone, Copy, Debug)]
struct Kernel {
    /// `USER_HZ`.
    user_hz: i64,
    /// The status word as it is now.
    status: i32,
    /// The last status that we set. A step makes the kernel forget it.
    told: Option<ClockStatus>,
    /// What the clock reads.
    time: UnixTime,
    /// A time in the era that steps must lead to.
    era: UnixTime,
}

/// The machine's clock, `CLOCK_REALTIME`.
#[derive(Debug)]
pub struct SystemClock {
    user_hz: i64,
    era: UnixTime,
    told: Option<ClockStatus>,
    /// Tick and frequency as the kernel had them after our last change.
    ours: Option<(i64, i64)>,
    /// Whatever others had begun before us is ended, so that what goes on was begun after.
    begun: bool,
    foreign: Vec<Foreign>,
}

impl SystemClock {
    /// Opens the machine's clock and changes nothing.
    ///
    /// Timestamps and steps do not tell one era from another, but the machine's clock does: a step leads to the time
    /// nearest to `era`.
    ///
    /// # Errors
    ///
    /// [`ClockError`] if the kernel does not let us read its time-keeping state.
    pub fn open(era: UnixTime) -> Result<Self, ClockError> {
        let clock = Self::new(sys::user_hz().map_err(refused)?, era);
        clock.frequency()?;
        Ok(clock)
    }

    const fn new(user_hz: i64, era: UnixTime) -> Self {
        Self { user_hz, era, told: None, ours: None, begun: false, foreign: Vec::new() }
    }

    /// The rate the kernel has set now, whoever set it.
    ///
    /// # Errors
    ///
    /// [`ClockError`] if the kernel does not let us read its time-keeping state.
    pub fn frequency(&self) -> Result<Rate, ClockError> {
        let state = sys::adjust(&Timex::default()).map_err(refused)?;
        Ok(rate_of(state.tick, state.freq, self.user_hz))
    }

    /// How somebody else was steering when we last did: another daemon runs, or an administrator used `adjtimex`. What was
    /// left from before our first command is not told. Forgotten once told.
    pub fn take_foreign(&mut self) -> Vec<Foreign> {
        mem::take(&mut self.foreign)
    }

    /// Takes note of what others do, where `left` is what adjtime(3) has left, in microseconds.
    fn note_foreign(&mut self, state: &Timex, left: i64) {
        let set = (state.tick, state.freq);
        let changed = self.ours.is_some_and(|ours| ours != set);
        if changed {
            // Told once, though it goes on until ours is set again.
            self.ours = Some(set);
        }
        let frequency = changed.then(|| Foreign::Frequency(rate_of(state.tick, state.freq, self.user_hz)));
        let slew = (left != 0).then(|| Foreign::Slew(NtpDuration::from_nanos(left.saturating_mul(1_000))));
        let loop_left = NtpDuration::from_nanos(state.offset.saturating_mul(unit_nanos(state.status)));
        let kernel_loop = is_in_loop(state).then_some(Foreign::Loop(loop_left));
        let begun = slew.into_iter().chain(kernel_loop).filter(|_| self.begun);
        self.foreign = frequency.into_iter().chain(begun).collect();
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Result<NtpTimestamp, ClockError> {
        sys::realtime().map_err(refused)
    }

    fn steer(&mut self, command: Steer) -> Result<Applied, ClockError> {
        let before = sys::adjust(&Timex::default()).map_err(refused)?;
        // Where that is not to be had, in a sandbox perhaps, nothing is known of it.
        let only_left = Timex { modes: libc::ADJ_OFFSET_SS_READ, ..Timex::default() };
        let left = sys::adjust(&only_left).map_or(0, |state| state.offset);
        self.note_foreign(&before, left);
        // If that is refused, so is the command, or there is more to tell the next time.
        self.begun |= endings(&before, left).iter().all(|request| sys::adjust(request).is_ok());
        let (status, told) = (before.status, self.told);
        let kernel = Kernel { user_hz: self.user_hz, status, told, time: reading(&before), era: self.era };
        let (request, command) = plan(command, &kernel)?;
        let after = sys::adjust(&request).map_err(refused)?;
        match command {
            Steer::Frequency(_) => self.ours = Some((after.tick, after.freq)),
            Steer::Status(status) => self.told = Some(status),
            Steer::Step(_) => {}
        }
        Ok(Applied { command, at: effective_at(&after, &command) })
    }

    /// The clock is the kernel's.
    fn from_kernel(&self) -> ClockMap {
        ClockMap::IDENTITY
    }
}

/// Whether this process may set the machine's clock, found out without setting it.
///
/// # Errors
///
/// [`ClockError::NotPermitted`] without `CAP_SYS_TIME`, or inside a user namespace, where that capability does not
/// count; [`ClockError::System`] if the clock cannot even be read.
pub fn permitted() -> Result<(), ClockError> {
    sys::adjust(&Timex::default()).map_err(refused)?;
    // Where /proc is not mounted, the first command will tell.
    let capable = fs::read_to_string("/proc/self/status").map_or(true, |status| has_capability(&status));
    let whole_machine = fs::read_to_string("/proc/self/uid_map").map_or(true, |map| is_initial_namespace(&map));
    if capable && whole_machine { Ok(()) } else { Err(ClockError::NotPermitted) }
}

fn has_capability(process_status: &str) -> bool {
    process_status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .is_none_or(|set| set >> CAP_SYS_TIME & 1 == 1)
}

/// The initial user namespace maps all ids to themselves (user_namespaces(7)).
fn is_initial_namespace(uid_map: &str) -> bool {
    uid_map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

fn refused(error: io::Error) -> ClockError {
    match error.raw_os_error() {
        Some(libc::EPERM) => ClockError::NotPermitted,
        Some(libc::EINVAL) => ClockError::Invalid,
        _ => ClockError::System(error),
    }
}

/// Whether a loop of the kernel is on, or still makes up for what it was told while it was.
const fn is_in_loop(state: &Timex) -> bool {
    state.status & LOOPS != 0 || state.offset != 0
}

/// What to write, in order, so that nobody's slew goes on beside ours; `left` is what adjtime(3) has left.
fn endings(state: &Timex, left: i64) -> Vec<Timex> {
    let mut requests = Vec::new();
    if left != 0 {
        requests.push(Timex { modes: libc::ADJ_OFFSET_SINGLESHOT, offset: 0, ..Timex::default() });
    }
    if is_in_loop(state) {
        // An offset outlives the loop that it was given to, and the kernel takes another one, of zero, only while that is on.
        // Switching it off makes the kernel forget the unit of its fractions.
        let off = state.status & !LOOPS;
        let unit = if state.status & libc::STA_NANO != 0 { libc::ADJ_NANO } else { 0 };
        let status = Timex { modes: libc::ADJ_STATUS | unit, ..Timex::default() };
        requests.push(Timex { modes: status.modes | libc::ADJ_OFFSET, status: off | libc::STA_PLL, ..status });
        requests.push(Timex { status: off, ..status });
    }
    requests
}

/// Works out what to write for a command, and what the command comes to once limited and rounded.
fn plan(command: Steer, kernel: &Kernel) -> Result<(Timex, Steer), ClockError> {
    match command {
        Steer::Frequency(rate) => plan_frequency(rate, kernel.user_hz),
        Steer::Step(step) => Ok(plan_step(step, kernel)),
        Steer::Status(status) => Ok((plan_status(&status, kernel.status), command)),
    }
}

fn plan_frequency(rate: Rate, user_hz: i64) -> Result<(Timex, Steer), ClockError> {
    if !rate.get().is_finite() {
        return Err(ClockError::Invalid);
    }
    let (tick, freq) = split(rate.clamp(MAX_RATE), user_hz);
    let request = Timex { modes: libc::ADJ_TICK | libc::ADJ_FREQUENCY, tick, freq, ..Timex::default() };
    Ok((request, Steer::Frequency(rate_of(tick, freq, user_hz))))
}

/// Splits a rate within [`MAX_RATE`] into a tick in microseconds and a frequency in 2^-16 ppm.
///
/// The tick stays at its nominal length as long as the frequency alone can do, so that programs which read only that
/// see the whole rate.
pub(crate) fn split(rate: Rate, user_hz: i64) -> (i64, i64) {
    #[expect(clippy::cast_precision_loss, reason = "USER_HZ is a small number")]
    let ppm_per_tick = user_hz as f64;
    let ppm = rate.to_ppm();
    let ticks = if ppm.abs() <= MAX_FREQUENCY_PPM { 0.0 } else { (ppm / ppm_per_tick).round() };
    let rest = (ppm - ticks * ppm_per_tick).clamp(-MAX_FREQUENCY_PPM, MAX_FREQUENCY_PPM);
    #[expect(clippy::cast_possible_truncation, reason = "at most 10^5 ticks of ppm and 500 ppm of rest")]
    let parts = (MICROS_PER_SECOND / user_hz + ticks as i64, (rest * FREQUENCY_SCALE).round() as i64);
    parts
}

/// The rate that a tick and a frequency make together: the kernel adds them.
pub(crate) fn rate_of(tick: i64, freq: i64, user_hz: i64) -> Rate {
    #[expect(clippy::cast_precision_loss, reason = "both are far below 2^53")]
    let ppm = ((tick - MICROS_PER_SECOND / user_hz) * user_hz) as f64 + freq as f64 / FREQUENCY_SCALE;
    Rate::from_ppm(ppm)
}

fn plan_step(step: NtpDuration, kernel: &Kernel) -> (Timex, Steer) {
    let nanos = step.to_nanos();
    let seconds = nanos.div_euclid(NANOS_PER_SECOND);
    // A clock that is 68 years slow or more looks fast, and a clock in another era right.
    let target = (NtpTimestamp::from_unix(kernel.time) + step).to_unix(kernel.era);
    let astray = target.seconds - (kernel.time.seconds + seconds);
    let eras = (astray + ERA_SECONDS / 2).div_euclid(ERA_SECONDS);
    // The kernel marks a stepped clock as unsynchronized with the largest error; what we told it stays true.
    let status = kernel.told.map_or_else(Timex::default, |status| plan_status(&status, kernel.status));
    let request = Timex {
        // The offset of a TAI clock is not touched by a step of UTC.
        modes: (status.modes & !libc::ADJ_TAI) | libc::ADJ_SETOFFSET | libc::ADJ_NANO,
        time_seconds: seconds + eras * ERA_SECONDS,
        time_fraction: nanos.rem_euclid(NANOS_PER_SECOND),
        constant: 0,
        ..status
    };
    (request, Steer::Step(NtpDuration::from_nanos(nanos)))
}

fn plan_status(status: &ClockStatus, current: i32) -> Timex {
    let synchronized = if status.synchronized { 0 } else { libc::STA_UNSYNC };
    let leap = match status.leap {
        Leap::Insert => libc::STA_INS,
        Leap::Delete => libc::STA_DEL,
        Leap::None | Leap::Unsynchronized => 0,
    };
    let tai = status.tai_offset.filter(|&offset| offset >= 0);
    Timex {
        modes: libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR | tai.map_or(0, |_| libc::ADJ_TAI),
        status: (current & !OUR_STATUS) | synchronized | leap,
        maxerror: micros_at_least(status.max_error),
        esterror: micros_at_least(status.estimated_error),
        constant: tai.unwrap_or_default().into(),
        ..Timex::default()
    }
}

/// Rounds up, so that a bound stays a bound.
fn micros_at_least(span: NtpDuration) -> i64 {
    let nanos = span.to_nanos();
    let rounded_up = nanos / 1_000 + i64::from(nanos % 1_000 > 0);
    rounded_up.clamp(0, MAX_ERROR_MICROS)
}

/// Nanoseconds in what the kernel counts fractions of its time in.
const fn unit_nanos(status: i32) -> i64 {
    if status & libc::STA_NANO != 0 { 1 } else { 1_000 }
}

/// What the clock read during a call.
fn reading(state: &Timex) -> UnixTime {
    let nanos = u32::try_from(state.time_fraction * unit_nanos(state.status)).unwrap_or_default();
    UnixTime { seconds: state.time_seconds, nanos }
}

/// The kernel reads its clock inside the call, after a step.
fn effective_at(after: &Timex, done: &Steer) -> NtpTimestamp {
    let read = NtpTimestamp::from_unix(reading(after));
    match done {
        Steer::Step(step) => read - *step,
        Steer::Frequency(_) | Steer::Status(_) => read,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ERA: UnixTime = UnixTime { seconds: 1_795_478_400, nanos: 0 };

    const KERNEL: Kernel =
        Kernel { user_hz: 100, status: libc::STA_UNSYNC | libc::STA_NANO, told: None, time: ERA, era: ERA };

    const GOOD: ClockStatus = ClockStatus {
        synchronized: true,
        leap: Leap::None,
        max_error: NtpDuration::from_nanos(1_500_001),
        estimated_error: NtpDuration::from_nanos(20_000),
        tai_offset: Some(37),
    };

    #[test]
    fn rates_are_split_between_tick_and_frequency() {
        // ppm asked, tick, frequency word, ppm set
        let cases = [
            (0.0, 10_000, 0, 0.0),
            (1.0, 10_000, 65_536, 1.0),
            (-40.25, 10_000, -2_637_824, -40.25),
            (500.0, 10_000, 32_768_000, 500.0),
            (-500.0, 10_000, -32_768_000, -500.0),
            (501.0, 10_005, 65_536, 501.0),
            (-12_345.5, 9_877, -2_981_888, -12_345.5),
            (100_000.0, 11_000, 0, 100_000.0),
            (-250_000.0, 9_000, 0, -100_000.0),
            (f64::INFINITY, 0, 0, f64::NAN),
        ];
        for (ppm, tick, freq, set) in cases {
            let planned = plan(Steer::Frequency(Rate::from_ppm(ppm)), &KERNEL);
            if set.is_nan() {
                assert!(matches!(planned, Err(ClockError::Invalid)), "{ppm}");
                continue;
            }
            let (request, Steer::Frequency(rate)) = planned.unwrap() else { panic!("another command") };
            assert_eq!((request.tick, request.freq), (tick, freq), "{ppm}");
            assert_eq!(request.modes, libc::ADJ_TICK | libc::ADJ_FREQUENCY);
            assert!((rate.to_ppm() - set).abs() < 1e-9, "{ppm}: {rate:?}");
        }
    }

    #[test]
    fn a_kernel_with_another_tick_gets_the_same_rate() {
        for user_hz in [100, 250, 1_000, 1_024] {
            for ppm in [-99_000.0, -700.0, -3.0, 0.1, 499.0, 80_000.0] {
                let (tick, freq) = split(Rate::from_ppm(ppm), user_hz);
                let off = (rate_of(tick, freq, user_hz).to_ppm() - ppm).abs();
                assert!(off <= 0.5 / FREQUENCY_SCALE + 1e-9, "{ppm} at {user_hz}: off by {off}");
            }
        }
    }

    #[test]
    fn steps_are_exact_to_the_nanosecond_with_a_positive_fraction() {
        for (nanos, seconds, fraction) in [
            (0, 0, 0),
            (1, 0, 1),
            (-1, -1, 999_999_999),
            (2_500_000_000, 2, 500_000_000),
            (-2_500_000_000, -3, 500_000_000),
        ] {
            let (request, done) = plan(Steer::Step(NtpDuration::from_nanos(nanos)), &KERNEL).unwrap();
            assert_eq!((request.time_seconds, request.time_fraction), (seconds, fraction));
            assert_eq!(request.modes, libc::ADJ_SETOFFSET | libc::ADJ_NANO);
            assert_eq!(done, Steer::Step(NtpDuration::from_nanos(nanos)));
        }
    }

    #[test]
    fn steps_lead_to_the_era_we_live_in() {
        // the clock, true time
        for (from, to) in [
            (1_000, 2_114_380_800),
            (1_000, 2_147_570_048),
            (0, 2_200_000_000),
            (1_792_000_000, 2_147_483_648),
            (4_300_000_000, 1_800_000_000),
            (6_094_967_300, 1_800_000_000),
            (2_085_978_490, 2_085_978_500),
            (2_085_978_500, 2_085_978_490),
        ] {
            let at = |seconds| UnixTime { seconds, nanos: 999_999_999 };
            let step = NtpTimestamp::from_unix(at(to)) - NtpTimestamp::from_unix(at(from));
            let (request, done) = plan(Steer::Step(step), &Kernel { time: at(from), ..KERNEL }).unwrap();
            assert_eq!((from + request.time_seconds, request.time_fraction), (to, 0), "from {from}");
            assert_eq!(done, Steer::Step(step), "timestamps are told what timestamps see");
        }
    }

    #[test]
    fn a_step_keeps_what_was_told_about_the_clock() {
        let told = Kernel { told: Some(GOOD), ..KERNEL };
        let (request, _) = plan(Steer::Step(NtpDuration::from_nanos(-7)), &told).unwrap();
        let modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO | libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR;
        assert_eq!(request.modes, modes);
        assert_eq!((request.maxerror, request.status & libc::STA_UNSYNC, request.constant), (1_501, 0, 0));
        assert_eq!((request.time_seconds, request.time_fraction), (-1, 999_999_993));
    }

    #[test]
    fn the_status_word_tells_the_truth() {
        let request = |status, current| plan(Steer::Status(status), &Kernel { status: current, ..KERNEL }).unwrap().0;
        let all = libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR | libc::ADJ_TAI;

        let good = request(GOOD, libc::STA_UNSYNC | libc::STA_NANO | libc::STA_PLL | libc::STA_FREQHOLD);
        assert_eq!((good.modes, good.status, good.constant), (all, libc::STA_NANO, 37));
        assert_eq!((good.maxerror, good.esterror), (1_501, 20));

        let lost = ClockStatus {
            synchronized: false,
            leap: Leap::Unsynchronized,
            max_error: NtpDuration::MAX,
            estimated_error: NtpDuration::from_nanos(-5),
            tai_offset: None,
        };
        let lost = request(lost, libc::STA_INS);
        assert_eq!((lost.modes, lost.status), (all & !libc::ADJ_TAI, libc::STA_UNSYNC));
        assert_eq!((lost.maxerror, lost.esterror), (MAX_ERROR_MICROS, 0));

        for (leap, bit) in [(Leap::Insert, libc::STA_INS), (Leap::Delete, libc::STA_DEL)] {
            assert_eq!(request(ClockStatus { leap, ..GOOD }, 0).status, bit);
        }
        let negative_tai = request(ClockStatus { tai_offset: Some(-1), ..GOOD }, 0);
        assert_eq!(negative_tai.modes & libc::ADJ_TAI, 0);
    }

    #[test]
    fn a_change_by_somebody_else_is_noticed_once() {
        let mut clock = SystemClock::new(100, ERA);
        let state = |tick, freq| Timex { tick, freq, ..Timex::default() };
        clock.note_foreign(&state(10_000, 655_360), 0);
        assert_eq!(clock.take_foreign(), [], "what was there before us is no change");
        clock.ours = Some((10_000, 655_360));
        clock.note_foreign(&state(10_000, 655_360), 0);
        assert_eq!(clock.take_foreign(), []);
        clock.note_foreign(&state(10_001, 0), 0);
        let [Foreign::Frequency(found)] = clock.take_foreign()[..] else { panic!("no frequency") };
        assert!((found.to_ppm() - 100.0).abs() < 1e-9);
        assert_eq!(clock.take_foreign(), []);
        clock.note_foreign(&state(10_001, 0), 0);
        assert_eq!(clock.take_foreign(), [], "while our answer is on its way");
    }

    /// A kernel whose loop is on, or was, with this much left, in its own unit.
    fn looping(status: i32, offset: i64) -> Timex {
        Timex { status, offset, ..Timex::default() }
    }

    #[test]
    fn slews_and_loops_of_others_are_told_unless_they_are_older_than_we() {
        // status, offset, what adjtime(3) has left, what is found
        let cases = [
            (0, 0, 0, vec![]),
            (libc::STA_UNSYNC | libc::STA_INS | libc::STA_NANO, 0, 0, vec![]),
            (0, 0, -250_000, vec![Foreign::Slew(NtpDuration::from_nanos(-250_000_000))]),
            (libc::STA_NANO, 0, 3, vec![Foreign::Slew(NtpDuration::from_nanos(3_000))]),
            (libc::STA_PLL, 0, 0, vec![Foreign::Loop(NtpDuration::ZERO)]),
            (libc::STA_FLL, 7, 0, vec![Foreign::Loop(NtpDuration::from_nanos(7_000))]),
            (libc::STA_PPSFREQ, 0, 0, vec![Foreign::Loop(NtpDuration::ZERO)]),
            (libc::STA_NANO, -7, 0, vec![Foreign::Loop(NtpDuration::from_nanos(-7))]),
            (
                libc::STA_PLL,
                1,
                2,
                vec![Foreign::Slew(NtpDuration::from_nanos(2_000)), Foreign::Loop(NtpDuration::from_nanos(1_000))],
            ),
        ];
        for (status, offset, left, found) in cases {
            let mut clock = SystemClock::new(100, ERA);
            clock.note_foreign(&looping(status, offset), left);
            assert_eq!(clock.take_foreign(), [], "{status} {offset} {left}: somebody who may be gone");
            clock.begun = true;
            clock.note_foreign(&looping(status, offset), left);
            assert_eq!(clock.take_foreign(), found, "{status} {offset} {left}");
        }
    }

    #[test]
    fn slews_and_loops_of_others_are_ended() {
        let (nano, pll, ins) = (libc::STA_NANO, libc::STA_PLL, libc::STA_INS);
        let written = |status, offset, left| {
            let requests = endings(&looping(status, offset), left);
            assert!(requests.iter().all(|request| request.offset == 0), "nothing is left");
            requests.iter().map(|request| (request.modes, request.status)).collect::<Vec<_>>()
        };
        assert_eq!(written(libc::STA_UNSYNC | ins | nano, 0, 0), [], "nothing to end");
        let slew = (libc::ADJ_OFFSET_SINGLESHOT, 0);
        assert_eq!(written(nano, 0, -1), [slew]);
        let (off, zero) = (libc::ADJ_STATUS, libc::ADJ_STATUS | libc::ADJ_OFFSET);
        assert_eq!(written(pll | ins, 5, 0), [(zero, pll | ins), (off, ins)], "leap seconds stay");
        assert_eq!(written(libc::STA_FLL, 0, 1), [slew, (zero, pll), (off, 0)]);
        let unit = libc::ADJ_NANO;
        assert_eq!(written(nano, 5, 0), [(zero | unit, nano | pll), (off | unit, nano)], "what an older loop has left");
    }

    #[test]
    fn the_time_of_effect_lies_before_a_step() {
        let micro = Timex { time_seconds: 1_000, time_fraction: 250_000, ..Timex::default() };
        let nano = Timex { time_fraction: 250_000_000, status: libc::STA_NANO, ..micro };
        let read = NtpTimestamp::from_unix(UnixTime { seconds: 1_000, nanos: 250_000_000 });
        let rate = Steer::Frequency(Rate::ZERO);
        assert_eq!(effective_at(&micro, &rate), read);
        assert_eq!(effective_at(&nano, &rate), read);
        let step = NtpDuration::from_seconds(0.25);
        assert_eq!(effective_at(&nano, &Steer::Step(step)) + step, read);
    }

    #[test]
    fn capabilities_are_read_as_the_kernel_writes_them() {
        assert!(has_capability("Name:\tx\nCapEff:\t000001fffeffffff\n"));
        assert!(has_capability("CapEff:\t0000000002000000\n"));
        assert!(!has_capability("CapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\n"));
        assert!(!has_capability("CapEff:\t000001fffdffffff\n"));
        assert!(is_initial_namespace("         0          0 4294967295\n"));
        assert!(!is_initial_namespace("         0       1000          1\n"));
    }

    #[test]
    fn the_kernel_can_be_read_without_being_changed() {
        let clock = SystemClock::open(ERA).unwrap();
        let before = clock.frequency().unwrap();
        let _ = permitted();
        let span = clock.now().unwrap() - clock.now().unwrap();
        assert!(span.to_seconds().abs() < 60.0);
        assert!(before.to_ppm().abs() <= 100_500.0);
        assert_eq!(clock.from_kernel(), ClockMap::IDENTITY);
    }

    proptest! {
        #[test]
        fn every_rate_is_set_within_half_a_unit(ppm in -150_000.0..150_000.0_f64, hz in prop::sample::select(vec![100_i64, 250, 1_000])) {
            let (request, done) = plan_frequency(Rate::from_ppm(ppm), hz).unwrap();
            prop_assert!(request.freq.abs() <= 32_768_000);
            prop_assert!((900_000 / hz..=1_100_000 / hz).contains(&request.tick));
            let Steer::Frequency(rate) = done else { unreachable!() };
            prop_assert!((rate.to_ppm() - ppm.clamp(-100_000.0, 100_000.0)).abs() <= 0.5 / FREQUENCY_SCALE + 1e-7);
        }

        #[test]
        fn every_step_is_written_as_it_is_reported(bits: i64) {
            let (request, done) = plan_step(NtpDuration::from_bits(bits), &KERNEL);
            prop_assert!((0..NANOS_PER_SECOND).contains(&request.time_fraction));
            let Steer::Step(step) = done else { unreachable!() };
            let off = i128::from(step.to_nanos())
                - i128::from(request.time_seconds) * i128::from(NANOS_PER_SECOND)
                - i128::from(request.time_fraction);
            let era = i128::from(ERA_SECONDS * NANOS_PER_SECOND);
            prop_assert!(((off + era / 2).rem_euclid(era) - era / 2).abs() <= 1);
            prop_assert!((KERNEL.time.seconds + request.time_seconds - ERA.seconds).abs() <= ERA_SECONDS / 2 + 1);
        }
    }
}
