//! The system calls behind [`SystemClock`](crate::SystemClock) and [`SoftClock`](crate::SoftClock).
#![expect(unsafe_code, reason = "these calls have no safe wrappers; every block says why it is sound")]

use std::{
    fs::File,
    io,
    mem::MaybeUninit,
    net::UdpSocket,
    os::fd::{AsRawFd as _, RawFd},
    ptr::{self, NonNull},
    sync::atomic::{Ordering, fence},
};

use ntp_proto::time::{NtpTimestamp, UnixTime};

/// The fields of `struct timex` that we read or write, in the kernel's own units (adjtimex(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timex {
    /// Which of the fields are to be written (`ADJ_*`); 0 only reads.
    pub(crate) modes: u32,
    /// What the kernel's loop has left, in nanoseconds if `STA_NANO` says so, microseconds otherwise; of adjtime(3) instead,
    /// always in microseconds, if that is what `modes` is about.
    pub(crate) offset: i64,
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
    raw.offset = narrow(request.offset)?;
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
        offset: widen(raw.offset),
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

/// Carries out a control call that reads or writes one value. `T` is made of integers and of the size that `request` means.
fn control<T>(descriptor: RawFd, request: libc::Ioctl, value: &mut T) -> io::Result<()> {
    // SAFETY: `value` is live and exclusively borrowed, and the callers below pass the type that the request is about.
    if unsafe { libc::ioctl(descriptor, request, ptr::from_mut(value)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A value of all zeros, for structures of integers that the kernel fills.
fn zeroed<T: Copy>() -> T {
    // SAFETY: used with C structures of integers alone, for which all zeros is a valid value.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// `struct pps_ktime` of linux/pps.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct PpsTime {
    pub(crate) seconds: i64,
    pub(crate) nanos: i32,
    pub(crate) flags: u32,
}

/// `struct pps_fdata` of linux/pps.h, `struct pps_kinfo` in front.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct PpsFetch {
    pub(crate) assert_sequence: u32,
    pub(crate) clear_sequence: u32,
    pub(crate) assert: PpsTime,
    pub(crate) clear: PpsTime,
    pub(crate) mode: i32,
    /// None at all: the last edge is wanted, and no other is waited for.
    pub(crate) timeout: PpsTime,
}

/// `struct pps_kparams` of linux/pps.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
struct PpsParameters {
    api_version: i32,
    mode: i32,
    assert_offset: PpsTime,
    clear_offset: PpsTime,
}

/// The numbers of linux/pps.h are made with the size of a pointer.
const PPS_GETPARAMS: libc::Ioctl = libc::_IOR::<*mut PpsParameters>(b'p' as u32, 0xa1);
const PPS_SETPARAMS: libc::Ioctl = libc::_IOW::<*mut PpsParameters>(b'p' as u32, 0xa2);
const PPS_FETCH: libc::Ioctl = libc::_IOWR::<*mut PpsFetch>(b'p' as u32, 0xa4);

/// Edges that are captured (`PPS_CAPTUREASSERT`, `PPS_CAPTURECLEAR`), and the format of times (`PPS_TSFMT_TSPEC`).
pub(crate) const PPS_ASSERT: i32 = 0x01;
pub(crate) const PPS_CLEAR: i32 = 0x02;
const PPS_TIMESPEC: i32 = 0x1000;

/// Has a device capture an edge, unless it does already: to change that takes CAP_SYS_TIME.
pub(crate) fn capture_pulses(device: &File, edge: i32) -> io::Result<()> {
    let mut parameters = PpsParameters::default();
    control(device.as_raw_fd(), PPS_GETPARAMS, &mut parameters)?;
    if parameters.mode & edge != 0 {
        return Ok(());
    }
    let mut wanted = PpsParameters { api_version: 1, mode: parameters.mode | edge | PPS_TIMESPEC, ..parameters };
    control(device.as_raw_fd(), PPS_SETPARAMS, &mut wanted)
}

/// The last pulse of a device.
pub(crate) fn fetch_pulse(device: &File) -> io::Result<PpsFetch> {
    let mut fetched = PpsFetch::default();
    control(device.as_raw_fd(), PPS_FETCH, &mut fetched)?;
    Ok(fetched)
}

/// A device's clock and the system's at one moment, as the hardware itself took them.
pub(crate) fn cross_timestamp(device: &File) -> io::Result<libc::ptp_sys_offset_precise> {
    let mut answer: libc::ptp_sys_offset_precise = zeroed();
    control(device.as_raw_fd(), libc::PTP_SYS_OFFSET_PRECISE, &mut answer)?;
    Ok(answer)
}

/// Readings of a device's clock, each between two of the system's.
pub(crate) fn enclosed_readings(device: &File, count: u32) -> io::Result<libc::ptp_sys_offset_extended> {
    let mut answer: libc::ptp_sys_offset_extended = zeroed();
    answer.n_samples = count;
    control(device.as_raw_fd(), libc::PTP_SYS_OFFSET_EXTENDED, &mut answer)?;
    Ok(answer)
}

/// Readings of the system's clock and a device's in turn.
pub(crate) fn alternate_readings(device: &File, count: u32) -> io::Result<libc::ptp_sys_offset> {
    let mut answer: libc::ptp_sys_offset = zeroed();
    answer.n_samples = count;
    control(device.as_raw_fd(), libc::PTP_SYS_OFFSET, &mut answer)?;
    Ok(answer)
}

/// `struct ethtool_ts_info` of linux/ethtool.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct TimestampingInfo {
    command: u32,
    pub(crate) so_timestamping: u32,
    /// The number of the clock that stamps, or -1.
    pub(crate) clock: i32,
    pub(crate) tx_types: u32,
    tx_reserved: [u32; 3],
    pub(crate) rx_filters: u32,
    rx_reserved: [u32; 3],
}

/// `ETHTOOL_GET_TS_INFO` and `SIOCETHTOOL`.
const GET_TS_INFO: u32 = 0x41;
const SIOCETHTOOL: libc::Ioctl = 0x8946 as libc::Ioctl;
const SIOCSHWTSTAMP: libc::Ioctl = libc::SIOCSHWTSTAMP as libc::Ioctl;
const SIOCGHWTSTAMP: libc::Ioctl = libc::SIOCGHWTSTAMP as libc::Ioctl;

/// Carries out a control call on an interface, whose argument is a value behind a pointer.
fn control_interface<T>(interface: &str, request: libc::Ioctl, value: &mut T) -> io::Result<()> {
    let mut named: libc::ifreq = {
        // SAFETY: an `ifreq` is made of integers and pointers, for which all zeros is a valid value.
        unsafe { MaybeUninit::zeroed().assume_init() }
    };
    // The last byte stays zero.
    if interface.is_empty() || interface.len() >= named.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in named.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    named.ifr_ifru.ifru_data = ptr::from_mut(value).cast();
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    control(socket.as_raw_fd(), request, &mut named)
}

/// What an interface can stamp.
pub(crate) fn timestamping_info(interface: &str) -> io::Result<TimestampingInfo> {
    let mut info = TimestampingInfo { command: GET_TS_INFO, ..TimestampingInfo::default() };
    control_interface(interface, SIOCETHTOOL, &mut info)?;
    Ok(info)
}

/// What an interface stamps now: `tx_type` and `rx_filter` of linux/net_tstamp.h.
pub(crate) fn stamped_packets(interface: &str) -> io::Result<(i32, i32)> {
    let mut config: libc::hwtstamp_config = zeroed();
    control_interface(interface, SIOCGHWTSTAMP, &mut config)?;
    Ok((config.tx_type, config.rx_filter))
}

/// Has an interface stamp packets, which takes CAP_NET_ADMIN. The filter that it settled on, which may stamp more.
pub(crate) fn stamp_packets(interface: &str, filter: i32) -> io::Result<i32> {
    /// `HWTSTAMP_TX_ON` of linux/net_tstamp.h.
    const TX_ON: i32 = 1;
    let mut config: libc::hwtstamp_config = zeroed();
    (config.tx_type, config.rx_filter) = (TX_ON, filter);
    control_interface(interface, SIOCSHWTSTAMP, &mut config)?;
    Ok(config.rx_filter)
}

/// The segment through which programs hand times to each other, as ntpd and gpsd lay it out (driver 28 of ntpd).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct ShmTime {
    pub(crate) mode: libc::c_int,
    pub(crate) count: libc::c_int,
    pub(crate) clock_seconds: libc::time_t,
    pub(crate) clock_micros: libc::c_int,
    pub(crate) receive_seconds: libc::time_t,
    pub(crate) receive_micros: libc::c_int,
    pub(crate) leap: libc::c_int,
    pub(crate) precision: libc::c_int,
    pub(crate) samples: libc::c_int,
    pub(crate) valid: libc::c_int,
    pub(crate) clock_nanos: libc::c_uint,
    pub(crate) receive_nanos: libc::c_uint,
    pub(crate) reserved: [libc::c_int; 8],
}

/// An attached segment.
#[derive(Debug)]
pub(crate) struct Segment(NonNull<ShmTime>);

// SAFETY: the mapping belongs to the process, not to a thread, and is only read and written as a whole by its one owner.
unsafe impl Send for Segment {}

impl Segment {
    /// Attaches the segment with this key, which is made if there is none.
    pub(crate) fn attach(key: i32, permissions: u32) -> io::Result<Self> {
        let flags = libc::IPC_CREAT | (permissions & 0o777).cast_signed();
        // SAFETY: the call takes integers and touches no memory of ours.
        let id = unsafe { libc::shmget(key, size_of::<ShmTime>(), flags) };
        if id < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel chooses where to put the segment, which is at least as large as was asked for.
        let address = unsafe { libc::shmat(id, ptr::null(), 0) };
        // On failure it returns -1, and never null.
        if address.addr() == usize::MAX {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast()).map(Self).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// What it says now. The writer is another program, which may be in the middle of it.
    pub(crate) fn read(&self) -> ShmTime {
        fence(Ordering::Acquire);
        // SAFETY: the segment is attached, large enough, aligned to a page and made of integers; another program may write
        // meanwhile, which a volatile read allows for, and the caller finds out by `count`.
        let read = unsafe { self.0.read_volatile() };
        fence(Ordering::Acquire);
        read
    }

    /// The `count` alone.
    pub(crate) fn count(&self) -> libc::c_int {
        // SAFETY: as for `read`; the field lies inside the segment.
        unsafe { (&raw const (*self.0.as_ptr()).count).read_volatile() }
    }

    /// Says that what was read was taken.
    pub(crate) fn take(&self) {
        // SAFETY: as for `count`.
        unsafe { (&raw mut (*self.0.as_ptr()).valid).write_volatile(0) }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: the address is that of an attached segment, and is used no more.
        let _ = unsafe { libc::shmdt(self.0.as_ptr().cast()) };
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Sizes and numbers of the kernel's headers, as `gcc` has them for 64 bits.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn structures_are_laid_out_as_the_kernels() {
        assert_eq!((size_of::<PpsTime>(), size_of::<PpsParameters>(), size_of::<PpsFetch>()), (16, 40, 64));
        assert_eq!((PPS_GETPARAMS, PPS_SETPARAMS, PPS_FETCH), (0x8008_70a1, 0x4008_70a2, 0xc008_70a4));
        assert_eq!((size_of::<TimestampingInfo>(), size_of::<ShmTime>()), (44, 96));
        let offsets = [
            std::mem::offset_of!(ShmTime, clock_seconds),
            std::mem::offset_of!(ShmTime, receive_seconds),
            std::mem::offset_of!(ShmTime, valid),
            std::mem::offset_of!(ShmTime, clock_nanos),
        ];
        assert_eq!(offsets, [8, 24, 48, 52]);
        assert_eq!(size_of::<libc::ptp_sys_offset>(), 832);
        assert_eq!(size_of::<libc::ptp_sys_offset_extended>(), 1_216);
        assert_eq!(size_of::<libc::ptp_sys_offset_precise>(), 64);
        assert_eq!(libc::PTP_SYS_OFFSET_PRECISE, 0xc040_3d08);
        assert_eq!(libc::PTP_SYS_OFFSET_EXTENDED, 0xc4c0_3d09);
        assert_eq!(libc::PTP_SYS_OFFSET, 0x4340_3d05);
    }

    /// Takes a segment away when a test is over.
    pub(crate) struct Removal(pub(crate) i32);

    impl Drop for Removal {
        fn drop(&mut self) {
            // SAFETY: these calls take integers alone, but for a pointer that may be null.
            unsafe { libc::shmctl(libc::shmget(self.0, 0, 0), libc::IPC_RMID, ptr::null_mut()) };
        }
    }

    /// Writes as the other program does.
    pub(crate) fn write(segment: &Segment, time: ShmTime) {
        // SAFETY: as for `read`.
        unsafe { segment.0.write_volatile(time) }
    }
}
