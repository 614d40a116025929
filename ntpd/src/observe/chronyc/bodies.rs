//! What requests and replies carry, field by field.
//!
//! Offsets of a source are positive if this clock is ahead of it; frequencies are positive if this clock gains.

use super::codec::{Address, Timespec, body};

mod served;

pub(crate) use served::{ClientEntry, ClientsBody, ClientsData, LocalBody, LocalBody45, LocalBody46};

/// Number for an age that is not known.
pub(crate) const NEVER: u32 = u32::MAX;

/// Stands for an interval that is not known.
pub(crate) const NO_INTERVAL: i8 = i8::MAX;

/// Clients in one reply.
pub(crate) const CLIENTS: usize = 8;

/// Manual entries in one reply.
pub(crate) const MANUAL_ENTRIES: usize = 16;

/// Octets of a name with its end.
pub(crate) const NAME_LEN: usize = 256;

body! {
    /// Sources on a network.
    Subnet {
        /// Ones where addresses must agree.
        mask: Address,
        address: Address,
    }
}

body! {
    /// Several requests in a row, to sources on a network.
    BurstBody {
        which: Subnet,
        /// Good measurements wanted.
        good: i32,
        /// Requests at most.
        total: i32,
    }
}

body! {
    /// When the clock is stepped.
    MakeStepBody {
        /// Updates that may step; negative: all.
        limit: i32,
        threshold_seconds: f64,
    }
}

body! {
    /// A network whose hosts may have something.
    AccessBody {
        address: Address,
        prefix_length: i32,
    }
}

body! {
    /// A setting of one source.
    SettingBody {
        address: Address,
        value: i32,
    }
}

body! {
    /// A setting of one source, with a fraction.
    NumberBody {
        address: Address,
        value: f64,
    }
}

body! {
    /// Selection options of one source.
    SelectOptionsBody {
        address: Address,
        reference_id: u32,
        mask: u32,
        options: u32,
    }
}

body! {
    /// A constant correction for one source.
    OffsetBody {
        address: Address,
        reference_id: u32,
        offset_seconds: f64,
    }
}

body! {
    /// A new source.
    AddSourceBody {
        /// 1 a server, 2 a peer, 3 a pool.
        kind: u32,
        name: [u8; NAME_LEN],
        port: u32,
        min_poll: i32,
        max_poll: i32,
        presend_min_poll: i32,
        min_stratum: u32,
        poll_target: u32,
        version: u32,
        max_sources: u32,
        min_samples: i32,
        max_samples: i32,
        key: u32,
        nts_port: u32,
        max_delay_seconds: f64,
        max_delay_ratio: f64,
        max_delay_deviation_ratio: f64,
        min_delay_seconds: f64,
        asymmetry: f64,
        offset_seconds: f64,
        flags: u32,
        filter_length: i32,
        certificate_set: u32,
        max_delay_quantile: f64,
        max_unreach: i32,
    }
}

/// Bits of [`AddSourceBody::flags`].
pub(crate) mod flags {
    pub(crate) const ONLINE: u32 = 0x1;
    pub(crate) const AUTO_OFFLINE: u32 = 0x2;
    pub(crate) const IBURST: u32 = 0x4;
    pub(crate) const PREFER: u32 = 0x8;
    pub(crate) const NOSELECT: u32 = 0x10;
    pub(crate) const TRUST: u32 = 0x20;
    pub(crate) const REQUIRE: u32 = 0x40;
    pub(crate) const INTERLEAVED: u32 = 0x80;
    pub(crate) const BURST: u32 = 0x100;
    pub(crate) const NTS: u32 = 0x200;
    pub(crate) const COPY: u32 = 0x400;
    pub(crate) const EXT_MONO_ROOT: u32 = 0x800;
    pub(crate) const EXT_CORRECTION: u32 = 0x1000;
    pub(crate) const IPV4: u32 = 0x2000;
    pub(crate) const IPV6: u32 = 0x4000;
}

body! {
    /// How many sources there are.
    SourceCount {
        count: u32,
    }
}

body! {
    /// One source in one glance.
    SourceData {
        address: Address,
        poll: i16,
        stratum: u16,
        /// `*?x~+-`, from 0.
        state: u16,
        /// `^=#`, from 0.
        mode: u16,
        flags: u16,
        reach: u16,
        last_sample_age_seconds: u32,
        measured_offset_seconds: f64,
        offset_seconds: f64,
        error_seconds: f64,
    }
}

body! {
    /// The state of the clock.
    TrackingData {
        reference_id: u32,
        address: Address,
        stratum: u16,
        leap: u16,
        reference_time: Timespec,
        /// Positive if the clock is slow.
        correction_seconds: f64,
        /// The last correction; positive if the clock was ahead.
        last_offset_seconds: f64,
        rms_offset_seconds: f64,
        frequency_ppm: f64,
        residual_frequency_ppm: f64,
        skew_ppm: f64,
        root_delay_seconds: f64,
        root_dispersion_seconds: f64,
        update_interval_seconds: f64,
    }
}

body! {
    /// What the measurements of one source say together.
    SourceStatsData {
        reference_id: u32,
        address: Address,
        samples: u32,
        runs: u32,
        span_seconds: u32,
        deviation_seconds: f64,
        frequency_ppm: f64,
        skew_ppm: f64,
        offset_seconds: f64,
        offset_error_seconds: f64,
    }
}

body! {
    /// The real-time clock.
    RtcData {
        reference_time: Timespec,
        samples: u16,
        runs: u16,
        span_seconds: u32,
        fast_seconds: f64,
        gain_ppm: f64,
    }
}

body! {
    /// How many sources are asked.
    ActivityData {
        online: i32,
        offline: i32,
        burst_online: i32,
        burst_offline: i32,
        unresolved: i32,
    }
}

body! {
    /// How served time is smoothed.
    SmoothingData {
        /// 1 active, 2 leap seconds only.
        flags: u32,
        offset_seconds: f64,
        frequency_ppm: f64,
        wander_ppm_per_second: f64,
        last_update_age_seconds: f64,
        remaining_seconds: f64,
    }
}

body! {
    /// What came of a time set by hand.
    ManualTimeData {
        offset_seconds: f64,
        frequency_change_ppm: f64,
        frequency_ppm: f64,
    }
}

body! {
    /// A time set by hand.
    ManualEntry {
        at: Timespec,
        slewed_offset_seconds: f64,
        offset_seconds: f64,
        residual_seconds: f64,
    }
}

impl ManualEntry {
    /// Where there is none.
    pub(crate) const NONE: Self = Self {
        at: Timespec { seconds: 0, nanos: 0 },
        slewed_offset_seconds: 0.0,
        offset_seconds: 0.0,
        residual_seconds: 0.0,
    };
}

body! {
    /// Times set by hand.
    ManualListData {
        count: u32,
        entries: [ManualEntry; MANUAL_ENTRIES],
    }
}

body! {
    /// The name of a source as it was configured, with zeros to the end.
    SourceNameData {
        name: [u8; NAME_LEN],
    }
}

body! {
    /// How the packets of a source are authenticated.
    AuthData {
        /// 0 not, 1 by a symmetric key, 2 by NTS.
        mode: u16,
        algorithm: u16,
        key_id: u32,
        key_bits: u16,
        attempts: u16,
        key_age_seconds: u32,
        cookies: u16,
        cookie_len: u16,
        naks: u16,
        reserved: u16,
    }
}

impl AuthData {
    /// Of a source that was never asked.
    pub(crate) const NONE: Self = Self {
        mode: 0,
        algorithm: 0,
        key_id: 0,
        key_bits: 0,
        attempts: 0,
        key_age_seconds: NEVER,
        cookies: 0,
        cookie_len: 0,
        naks: 0,
        reserved: 0,
    };
}

body! {
    /// What selection went by with one source.
    SelectData {
        reference_id: u32,
        address: Address,
        state: u8,
        authenticated: u8,
        leap: u8,
        reserved: u8,
        configured: u16,
        effective: u16,
        last_sample_age_seconds: u32,
        score: f64,
        low_seconds: f64,
        high_seconds: f64,
    }
}

/// Bits of [`SelectData::configured`] and [`SelectData::effective`], and of [`SelectOptionsBody::mask`].
pub(crate) mod options {
    pub(crate) const NOSELECT: u16 = 1;
    pub(crate) const PREFER: u16 = 2;
    pub(crate) const TRUST: u16 = 4;
    pub(crate) const REQUIRE: u16 = 8;
}

body! {
    /// What was served.
    ServerStatsData {
        ntp_hits: u64,
        ke_hits: u64,
        command_hits: u64,
        ntp_drops: u64,
        ke_drops: u64,
        command_drops: u64,
        log_drops: u64,
        authenticated_hits: u64,
        interleaved_hits: u64,
        timestamps_held: u64,
        timestamp_span_seconds: u64,
        daemon_rx: u64,
        daemon_tx: u64,
        kernel_rx: u64,
        kernel_tx: u64,
        hardware_rx: u64,
        hardware_tx: u64,
        reserved: [u64; 4],
    }
}

body! {
    /// What was served, as chrony up to 4.3 has it.
    OldServerStatsData {
        /// The first of [`ServerStatsData`], in their order.
        counts: [u32; OLD_COUNTS],
    }
}

/// Counts that chrony up to 4.3 has.
pub(crate) const OLD_COUNTS: usize = 11;

impl From<ServerStatsData> for OldServerStatsData {
    /// What is too large for these versions stays at their largest.
    fn from(new: ServerStatsData) -> Self {
        let counts = [
            new.ntp_hits,
            new.ke_hits,
            new.command_hits,
            new.ntp_drops,
            new.ke_drops,
            new.command_drops,
            new.log_drops,
            new.authenticated_hits,
            new.interleaved_hits,
            new.timestamps_held,
            new.timestamp_span_seconds,
        ];
        Self { counts: counts.map(|count| u32::try_from(count).unwrap_or(u32::MAX)) }
    }
}

body! {
    /// What a reply said, and how it was measured.
    NtpReplyData {
        remote: Address,
        local: Address,
        port: u16,
        leap: u8,
        version: u8,
        mode: u8,
        stratum: u8,
        poll: i8,
        precision: i8,
        root_delay_seconds: f64,
        root_dispersion_seconds: f64,
        reference_id: u32,
        reference_time: Timespec,
        /// As in NTP: negative if this clock is ahead.
        offset_seconds: f64,
        delay_seconds: f64,
        dispersion_seconds: f64,
        response_seconds: f64,
        asymmetry: f64,
        flags: u16,
        /// `D`, `K`, `H`, or 0.
        sent_stamp: u8,
        received_stamp: u8,
        sent: u32,
        received: u32,
        valid: u32,
        good: u32,
    }
}

body! {
    /// The last reply of a source.
    NtpData {
        reply: NtpReplyData,
        kernel_sent: u32,
        kernel_received: u32,
        hardware_sent: u32,
        hardware_received: u32,
        reserved: [u32; 4],
    }
}

body! {
    /// The last reply of a source, as chrony up to 4.5 has it.
    OldNtpData {
        reply: NtpReplyData,
        reserved: [u32; 3],
    }
}

/// Bits of [`NtpReplyData::flags`].
pub(crate) mod ntp_flags {
    pub(crate) const AUTHENTICATED: u16 = 0x8000;
    pub(crate) const INTERLEAVED: u16 = 0x4000;
    /// Tests 1, 2, 3, 5, 6, 7, A, B, C and D, the first highest.
    pub(crate) const TESTS: u16 = 0x03ff;
}
