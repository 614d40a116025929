//! A server that passes the machine's clock off as a reference clock.

use std::{net::SocketAddr, sync::Arc};

use ntp_proto::{
    ids::{Leap, ReferenceId},
    nts::Keyring,
    server::{Access, AccessTable, Prefix},
    status::Status,
    time::{ClockMap, NtpDuration},
};

use super::{Server, Settings, StartError, StatusCell};
use crate::now;

impl Server {
    /// Serves this machine's time at stratum 1 to everybody, `ahead` of what it is: for demonstrations and tests, where
    /// that time stands for the true one.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn reference(listen: SocketAddr, keyring: Option<Keyring>, ahead: NtpDuration) -> Result<Self, StartError> {
        let status = Status {
            leap: Leap::None,
            stratum: 1,
            precision: -24,
            root_dispersion: NtpDuration::from_seconds(1e-6),
            max_distance: NtpDuration::from_seconds(3.0),
            reference_id: ReferenceId(*b"LOCL"),
            reference_time: now::kernel() + ahead,
            from_kernel: ClockMap { offset: ahead, ..ClockMap::IDENTITY },
            ..Status::UNSYNCHRONIZED
        };
        let mut access = AccessTable::new();
        for all in [Prefix::ALL_V4, Prefix::ALL_V6] {
            // An empty table has room for two.
            let _ = access.add(all, Access::Allow);
        }
        let settings = Settings::new(access).with_keyring(keyring);
        Self::start(&[listen], 1, settings, Arc::new(StatusCell::new(status)))
    }
}
