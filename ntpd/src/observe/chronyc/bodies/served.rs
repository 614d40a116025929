//! What is served without sources, and to whom.

use super::{
    super::codec::{Address, body},
    CLIENTS, NEVER, NO_INTERVAL,
};

body! {
    /// Whether time is served without sources.
    LocalBody {
        on: i32,
        stratum: i32,
        distance_seconds: f64,
        orphan: i32,
        activate_seconds: f64,
        wait_synced_seconds: f64,
        wait_unsynced_seconds: f64,
    }
}

body! {
    /// The same of chrony 4.6.
    LocalBody46 {
        old: LocalBody45,
        activate_seconds: f64,
    }
}

body! {
    /// The same of older ones.
    LocalBody45 {
        on: i32,
        stratum: i32,
        distance_seconds: f64,
        orphan: i32,
    }
}

impl From<LocalBody45> for LocalBody {
    /// These versions of chrony do not wait.
    fn from(old: LocalBody45) -> Self {
        let LocalBody45 { on, stratum, distance_seconds, orphan } = old;
        Self {
            on,
            stratum,
            distance_seconds,
            orphan,
            activate_seconds: 0.0,
            wait_synced_seconds: 0.0,
            wait_unsynced_seconds: 0.0,
        }
    }
}

body! {
    /// Which clients are wanted.
    ClientsBody {
        first: u32,
        count: u32,
        min_hits: u32,
        reset: u32,
    }
}

body! {
    /// What a client asked.
    ClientEntry {
        address: Address,
        ntp_hits: u32,
        ke_hits: u32,
        command_hits: u32,
        ntp_drops: u32,
        ke_drops: u32,
        command_drops: u32,
        ntp_interval: i8,
        ke_interval: i8,
        command_interval: i8,
        ntp_timeout_interval: i8,
        ntp_age_seconds: u32,
        ke_age_seconds: u32,
        command_age_seconds: u32,
    }
}

impl ClientEntry {
    /// A place without a client.
    pub(crate) const NONE: Self = Self {
        address: Address::Unspecified,
        ntp_hits: 0,
        ke_hits: 0,
        command_hits: 0,
        ntp_drops: 0,
        ke_drops: 0,
        command_drops: 0,
        ntp_interval: NO_INTERVAL,
        ke_interval: NO_INTERVAL,
        command_interval: NO_INTERVAL,
        ntp_timeout_interval: NO_INTERVAL,
        ntp_age_seconds: NEVER,
        ke_age_seconds: NEVER,
        command_age_seconds: NEVER,
    };
}

body! {
    /// A part of the table of clients.
    ClientsData {
        table_size: u32,
        next: u32,
        count: u32,
        clients: [ClientEntry; CLIENTS],
    }
}
