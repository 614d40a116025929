//! The system calls behind [`SystemClock`](crate::SystemClock) and [`SoftClock`](crate::SoftClock).
#![expect(unsafe_code, reason = "these calls have no safe wrappers; every block says why it is sound")]

use std::{fs::File, io, mem::MaybeUninit, os::fd::AsRawFd as _};

use ntp_proto::time::{NtpTimestamp, UnixTime};

/// The fields of `struct timex` that we read or write, in the kernel's own units (adjtimex(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timex {
    /// Which of the fields are to be written (`ADJ_*`); 0 only reads.
    pub(crate) modes: u32,
    /// Parts per million, scaled by 2^16.
    pub(crate) freq: i64,
    /// Microseconds.
    pub(crate) maxerror: i64,
    /// Microseconds.
    pub(crate) esterror: i64,
    /// `STA_*`.
    pub(crate) status: i32,
    /// TAI offset, if written with `ADJ_TAI`.
    pub(crate) constant: i64,
    /// Microseconds from one tick of `USER_HZ` to the next.
    pub(crate) tick: i64,
    /// Step in, reading out: seconds.
    pub(crate) time_seconds: i64,
    /// Step in, reading out: nanoseconds if `ADJ_NANO` or `STA_NANO` says so, microseconds otherwise.
    pub(crate) time_fraction: i64,
}

/// Converts to whatever width this platform's C type has.
fn narrow<T: TryFrom<i64>>(value: i64) -> io::Result<T> {
    T::try_from(value).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Converts from whatever width this platform's C type has.
fn widen(value: impl Into<i64>) -> i64 {
    value.into()
}

/// Writes the fields that `request.modes` names, and returns all fields as they are afterwards.
pub(crate) fn adjust(request: &Timex) -> io::Result<Timex> {
    // SAFETY: `timex` is a C structure of integers, for which all zeros is a valid value.
    let mut raw: libc::timex = unsafe { MaybeUninit::zeroed().assume_init() };
    raw.modes = request.modes;
    raw.freq = narrow(request.freq)?;
    raw.maxerror = narrow(request.maxerror)?;
    raw.esterror = narrow(request.esterror)?;
    raw.status = request.status;
    raw.constant = narrow(request.constant)?;
    raw.tick = narrow(request.tick)?;
    raw.time.tv_sec = narrow(request.time_seconds)?;
    raw.time.tv_usec = narrow(request.time_fraction)?;
    // SAFETY: `raw` is a live, exclusively borrowed `timex`, which is all that the call reads and writes.
    if unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, &raw mut raw) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Timex {
        modes: request.modes,
        freq: widen(raw.freq),
        maxerror: widen(raw.maxerror),
        esterror: widen(raw.esterror),
        status: raw.status,
        constant: widen(raw.constant),
        tick: widen(raw.tick),
        time_seconds: widen(raw.time.tv_sec),
        time_fraction: widen(raw.time.tv_usec),
    })
}

/// Reads `CLOCK_REALTIME`.
pub(crate) fn realtime() -> io::Result<NtpTimestamp> {
    let mut raw = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is to a live `timespec`, which the call fills.
    if unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, raw.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it has filled the structure.
    let raw = unsafe { raw.assume_init() };
    let nanos = u32::try_from(raw.tv_nsec).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(NtpTimestamp::from_unix(UnixTime { seconds: widen(raw.tv_sec), nanos }))
}

/// Ticks in a second as programs see them (`USER_HZ`).
pub(crate) fn user_hz() -> io::Result<i64> {
    // SAFETY: the call takes an integer and touches no memory of ours.
    let hz = widen(unsafe { libc::sysconf(libc::_SC_CLK_TCK) });
    if hz > 0 { Ok(hz) } else { Err(io::Error::from(io::ErrorKind::Unsupported)) }
}

/// Reads the clock of a device, in Unix seconds.
pub(crate) fn device_clock(device: &File) -> io::Result<i64> {
    // How the kernel makes a clock of a descriptor (FD_TO_CLOCKID, clock_getres(2)).
    let clock = (!device.as_raw_fd() << 3) | 3;
    let mut raw = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is to a live `timespec`, which the call fills.
    if unsafe { libc::clock_gettime(clock, raw.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it has filled the structure.
    Ok(widen(unsafe { raw.assume_init() }.tv_sec))
}

/// Unix seconds of a local time, which is given as if it were UTC. `None` if the C library knows no such time.
pub(crate) fn local_to_utc(local: i64) -> Option<i64> {
    let seconds = libc::time_t::try_from(local).ok()?;
    let mut fields = MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both pointers are to live values; the call reads the first and fills the second.
    if unsafe { libc::gmtime_r(&raw const seconds, fields.as_mut_ptr()) }.is_null() {
        return None;
    }
    // SAFETY: the call succeeded, so it has filled the structure.
    let mut fields = unsafe { fields.assume_init() };
    // Whether summer time is in force follows from the date (mktime(3)).
    fields.tm_isdst = -1;
    // SAFETY: the pointer is to a live `tm`, which the call reads and normalizes.
    let utc = widen(unsafe { libc::mktime(&raw mut fields) });
    (utc != -1).then_some(utc)
}

/// `RTC_VL_READ` of linux/rtc.h: `_IOR('p', 0x13, unsigned int)`.
const RTC_VL_READ: libc::Ioctl = libc::_IOR::<libc::c_uint>(b'p' as u32, 0x13);

/// Bits of its answer: the time is lost, and the battery is empty (`RTC_VL_DATA_INVALID`, `RTC_VL_BACKUP_EMPTY`). A battery
/// that is merely low still keeps the time.
const VOLTAGE_LOST: libc::c_uint = 1 | 4;

/// Whether a hardware clock says that it lost its time for want of power. Many cannot say.
pub(crate) fn voltage_low(device: &File) -> bool {
    let mut answer: libc::c_uint = 0;
    // SAFETY: the call writes one unsigned integer, to which the pointer leads.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), RTC_VL_READ, &raw mut answer) };
    result == 0 && answer & VOLTAGE_LOST != 0
}
