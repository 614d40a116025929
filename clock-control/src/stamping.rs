//! Network interfaces that stamp packets with a clock of their own.

use std::{fmt, io};

use crate::sys;

/// Which received packets an interface stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RxFilter {
    /// All of them.
    All,
    /// Those of NTP.
    Ntp,
    /// Those of PTP alone: NTP is stamped where it is sent over PTP's ports.
    Ptp,
    /// None; only what is sent is stamped.
    None,
}

/// Those that suit NTP, the best first.
const SUITABLE: [RxFilter; 3] = [RxFilter::All, RxFilter::Ntp, RxFilter::None];

/// `HWTSTAMP_FILTER_NTP_ALL` of linux/net_tstamp.h.
const NTP_ALL: i32 = 15;
/// `HWTSTAMP_FILTER_ALL` and `HWTSTAMP_FILTER_NONE`.
const ALL: i32 = 1;
const NONE: i32 = 0;
/// `HWTSTAMP_TX_ON`.
const TX_ON: u32 = 1;

impl RxFilter {
    /// The kernel's numbers for it, the wider first.
    const fn numbers(self) -> &'static [i32] {
        match self {
            Self::All => &[ALL],
            Self::Ntp => &[NTP_ALL],
            // HWTSTAMP_FILTER_PTP_V2_EVENT and HWTSTAMP_FILTER_PTP_V2_L4_EVENT
            Self::Ptp => &[12, 6],
            Self::None => &[NONE],
        }
    }
}

/// Why an interface does not stamp packets.
#[derive(Debug)]
pub enum NoStamps {
    /// There is no such interface.
    NoInterface,
    /// It cannot.
    Unsupported,
    /// It cannot stamp these packets.
    NoFilter,
    /// It may not be told to.
    NotPermitted,
    /// The operating system refused for another reason.
    System(io::Error),
}

impl fmt::Display for NoStamps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInterface => f.write_str("there is no such interface"),
            Self::Unsupported => f.write_str("the interface does not support hardware timestamps"),
            Self::NoFilter => f.write_str("the interface does not support this filter of received packets"),
            Self::NotPermitted => f.write_str("no permission to set up the interface (needs CAP_NET_ADMIN)"),
            Self::System(error) => write!(f, "system call failed: {error}"),
        }
    }
}

impl std::error::Error for NoStamps {}

impl From<io::Error> for NoStamps {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENODEV) => Self::NoInterface,
            Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL) => Self::Unsupported,
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted,
            Some(_) | None => Self::System(error),
        }
    }
}

/// Has an interface stamp all that is sent, and of what is received as much as `wanted`, or as suits NTP best.
///
/// # Errors
///
/// [`NoStamps`] if it does not stamp packets afterwards, or not those.
pub fn stamp_packets(interface: &str, wanted: Option<RxFilter>) -> Result<RxFilter, NoStamps> {
    /// `SOF_TIMESTAMPING_TX_HARDWARE`, `_RX_HARDWARE` and `_RAW_HARDWARE`.
    const HARDWARE: u32 =
        libc::SOF_TIMESTAMPING_TX_HARDWARE | libc::SOF_TIMESTAMPING_RX_HARDWARE | libc::SOF_TIMESTAMPING_RAW_HARDWARE;
    let info = sys::timestamping_info(interface)?;
    if info.so_timestamping & HARDWARE != HARDWARE || info.clock < 0 || info.tx_types & (1 << TX_ON) == 0 {
        return Err(NoStamps::Unsupported);
    }
    let wanted = wanted.map_or_else(|| SUITABLE.to_vec(), |wanted| vec![wanted]);
    let able = |number: &&i32| info.rx_filters & (1 << **number) != 0;
    let chosen = wanted.into_iter().find_map(|filter| Some((filter, *filter.numbers().iter().find(able)?)));
    let (filter, number) = chosen.ok_or(NoStamps::NoFilter)?;
    // Somebody who may may have set it up already.
    if sys::stamped_packets(interface).is_ok_and(|now| now == (TX_ON.cast_signed(), number)) {
        return Ok(filter);
    }
    sys::stamp_packets(interface, number)?;
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_stamp_says_so() {
        assert!(matches!(stamp_packets("lo", None), Err(NoStamps::Unsupported)));
        assert!(matches!(stamp_packets("none0", None), Err(NoStamps::NoInterface)));
        assert!(matches!(stamp_packets("", Some(RxFilter::All)), Err(NoStamps::NoInterface)));
        assert!(matches!(stamp_packets("a-name-that-is-too-long", None), Err(NoStamps::NoInterface)));
    }
}
