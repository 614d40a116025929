//! Reports as replies have them.

use std::net::{IpAddr, Ipv4Addr};

use ntp_proto::server::{ClientRow, LOCAL_REFERENCE};

use super::{
    bodies::{
        ActivityData, AuthData, ClientEntry, NAME_LEN, NEVER, NO_INTERVAL, NtpData, NtpReplyData, OldNtpData,
        SelectData, ServerStatsData, SourceData, SourceStatsData, TrackingData, ntp_flags, options,
    },
    codec::{Address, Timespec},
};
use crate::observe::report::{
    ActivityReport, AuthDataRow, AuthMode, LeapWord, NtpDataRow, Options, SelectDataRow, ServerStatsReport, SourceName,
    SourceRow, SourceStatsRow, StampWord, TrackingReport,
};

/// The order in which `sources` states are numbered.
const STATES: [char; 6] = ['*', '?', 'x', '~', '+', '-'];
/// Frequency error bound of a source without measurements, in ppm, and their deviation, in seconds.
const UNKNOWN_SKEW_PPM: f64 = 2000.0;
const UNKNOWN_DEVIATION: f64 = 4.0;
/// What a source is, in `sources`.
const SERVER: u16 = 0;
const REFERENCE_CLOCK: u16 = 2;
/// NTP mode of a server (RFC 5905 figure 10).
const MODE_SERVER: u8 = 4;

/// Where a source is; one that has no address yet is told by a number made of its name, and a reference clock by its
/// [reference identifier](refclock).
pub(super) fn address(source: &SourceName) -> Address {
    if source.refclock.is_some() {
        return Address::Unspecified;
    }
    source.address.map_or_else(
        || Address::Id(crc32fast::hash(source.name.as_bytes())),
        |address| Address::Ip(address.ip().to_canonical()),
    )
}

/// The reference identifier of a reference clock, whose letters are its name; 0 for servers.
fn refclock(source: &SourceName) -> u32 {
    let mut letters = [0; 4];
    if source.refclock.is_some() {
        letters.iter_mut().zip(source.name.bytes()).for_each(|(to, from)| *to = from);
    }
    u32::from_be_bytes(letters)
}

/// The name of a source with zeros to the end; what is too long is cut.
pub(super) fn name(source: &SourceName) -> [u8; NAME_LEN] {
    // chronyc prints what the configuration said, which is the pool's name for its members.
    let text = source.pool.as_deref().unwrap_or(&source.name).as_bytes();
    let len = text.len().min(NAME_LEN - 1);
    let mut out = [0; NAME_LEN];
    out[..len].copy_from_slice(&text[..len]);
    out
}

/// Whole seconds of an age.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn seconds(age: Option<f64>) -> u32 {
    age.map_or(NEVER, |age| (age.max(0.0) as u32).min(NEVER - 1))
}

fn cut<T: TryInto<U>, U: From<u8>>(number: T, largest: U) -> U {
    number.try_into().unwrap_or(largest)
}

const fn leap(leap: LeapWord) -> u8 {
    match leap {
        LeapWord::Normal => 0,
        LeapWord::InsertSecond => 1,
        LeapWord::DeleteSecond => 2,
        LeapWord::NotSynchronized => 3,
    }
}

fn reference_id(digits: &str) -> u32 {
    u32::from_str_radix(digits, 16).unwrap_or(0)
}

pub(super) fn tracking(report: &TrackingReport) -> TrackingData {
    let ever = report.reference_time_unix_seconds;
    let local = report.local_stratum;
    TrackingData {
        reference_id: if local.is_some() {
            u32::from_be_bytes(LOCAL_REFERENCE.0)
        } else if ever.is_some() {
            reference_id(&report.reference_id)
        } else {
            0
        },
        address: report.reference.as_ref().filter(|_| local.is_none()).map_or(Address::Unspecified, address),
        // chronyd shows stratum 0 before the first update.
        stratum: match local {
            Some(stratum) => stratum.into(),
            None if ever.is_some() && report.stratum < 16 => report.stratum.into(),
            None => 0,
        },
        leap: leap(if local.is_some() { LeapWord::Normal } else { report.leap }).into(),
        reference_time: ever.map(Timespec::from_seconds).unwrap_or_default(),
        correction_seconds: report.pending_seconds,
        last_offset_seconds: -report.last_offset_seconds,
        rms_offset_seconds: report.rms_offset_seconds,
        frequency_ppm: -report.frequency_ppm,
        residual_frequency_ppm: -report.residual_frequency_ppm,
        skew_ppm: report.skew_ppm,
        root_delay_seconds: report.root_delay_seconds,
        root_dispersion_seconds: report.root_dispersion_seconds,
        update_interval_seconds: report.update_interval_seconds,
    }
}

pub(super) fn source(row: &SourceRow) -> SourceData {
    let refclock = refclock(&row.judged.source);
    let state = STATES.iter().position(|state| *state == row.judged.state).unwrap_or(1);
    SourceData {
        // The letters of a reference clock stand in the place of an address.
        address: if refclock == 0 { address(&row.judged.source) } else { Address::Ip(Ipv4Addr::from(refclock).into()) },
        poll: row.poll_log2_seconds.into(),
        stratum: row.stratum.unwrap_or(0).into(),
        state: cut(state, 1),
        mode: if refclock == 0 { SERVER } else { REFERENCE_CLOCK },
        flags: 0,
        reach: row.reach.into(),
        last_sample_age_seconds: seconds(row.last_reply_age_seconds),
        measured_offset_seconds: -row.measured_offset_seconds.unwrap_or(0.0),
        offset_seconds: -row.offset_seconds.unwrap_or(0.0),
        error_seconds: row.error_seconds.unwrap_or(0.0),
    }
}

pub(super) fn source_stats(source: &SourceName, row: Option<&SourceStatsRow>) -> SourceStatsData {
    let row = row.filter(|row| row.samples > 0);
    SourceStatsData {
        reference_id: refclock(source),
        address: address(source),
        samples: row.map_or(0, |row| cut(row.samples, u32::MAX)),
        runs: row.map_or(0, |row| cut(row.runs, u32::MAX)),
        span_seconds: row.map_or(0, |row| seconds(Some(row.span_seconds))),
        deviation_seconds: row.and_then(|row| row.deviation_seconds).unwrap_or(UNKNOWN_DEVIATION),
        frequency_ppm: row.and_then(|row| row.frequency_ppm).map_or(0.0, |frequency| -frequency),
        skew_ppm: row.and_then(|row| row.skew_ppm).unwrap_or(UNKNOWN_SKEW_PPM),
        offset_seconds: row.and_then(|row| row.offset_seconds).map_or(0.0, |offset| -offset),
        offset_error_seconds: row.and_then(|row| row.deviation_seconds).unwrap_or(0.0),
    }
}

fn option_bits(given: Options) -> u16 {
    [
        (given.noselect, options::NOSELECT),
        (given.prefer, options::PREFER),
        (given.trust, options::TRUST),
        (given.require, options::REQUIRE),
    ]
    .into_iter()
    .filter_map(|(given, bit)| given.then_some(bit))
    .sum()
}

pub(super) fn select(source: &SourceName, row: Option<&SelectDataRow>) -> SelectData {
    let none = Options::default();
    SelectData {
        reference_id: refclock(source),
        address: address(source),
        state: row.map_or(b'M', |row| u8::try_from(row.judged.state).unwrap_or(b'M')),
        authenticated: row.is_some_and(|row| row.authenticated).into(),
        leap: row.map_or(3, |row| leap(row.leap)),
        reserved: 0,
        configured: option_bits(row.map_or(none, |row| row.configured)),
        effective: option_bits(row.map_or(none, |row| row.effective)),
        last_sample_age_seconds: row.map_or(0, |row| row.last_sample_age_seconds.map_or(0, |age| seconds(Some(age)))),
        score: 1.0,
        low_seconds: row.and_then(|row| row.high_seconds).map_or(0.0, |high| -high),
        high_seconds: row.and_then(|row| row.low_seconds).map_or(0.0, |low| -low),
    }
}

pub(super) fn auth(row: &AuthDataRow) -> AuthData {
    let key_id = row.key_id.map_or(0, |id| cut(id, u32::MAX));
    AuthData {
        mode: match row.mode {
            AuthMode::None => 0,
            AuthMode::SymmetricKey => 1,
            AuthMode::Nts => 2,
        },
        algorithm: row.algorithm_number.unwrap_or(0),
        key_id,
        key_bits: row.key_bits.map_or(0, |bits| cut(bits, u16::MAX)),
        attempts: cut(row.key_attempts, u16::MAX),
        key_age_seconds: seconds(row.key_age_seconds),
        cookies: cut(row.cookies, u16::MAX),
        cookie_len: cut(row.cookie_bytes, u16::MAX),
        naks: cut(row.naks, u16::MAX),
        reserved: 0,
    }
}

pub(super) fn ntp(row: &NtpDataRow) -> Option<NtpData> {
    let count = |count: u64| cut(count, u32::MAX);
    Some(NtpData {
        reply: ntp_reply(row)?,
        kernel_sent: count(row.stamped_sent),
        kernel_received: count(row.stamped_received),
        hardware_sent: count(row.hardware_sent),
        hardware_received: count(row.hardware_received),
        reserved: [u32::MAX; 4],
    })
}

pub(super) fn old_ntp(row: &NtpDataRow) -> Option<OldNtpData> {
    Some(OldNtpData { reply: ntp_reply(row)?, reserved: [u32::MAX; 3] })
}

fn ntp_reply(row: &NtpDataRow) -> Option<NtpReplyData> {
    let remote = row.source.address?;
    let reply = row.reply.as_ref();
    let measured = row.measurement;
    let stamp = |stamp: StampWord| match stamp {
        StampWord::Daemon => b'D',
        StampWord::Kernel => b'K',
        StampWord::Hardware => b'H',
    };
    let mut flags = if measured.is_some() { ntp_flags::TESTS } else { 0 };
    flags |= if row.authenticated && reply.is_some() { ntp_flags::AUTHENTICATED } else { 0 };
    flags |= if reply.is_some_and(|reply| reply.interleaved) { ntp_flags::INTERLEAVED } else { 0 };
    let count = |count: u64| cut(count, u32::MAX);
    Some(NtpReplyData {
        remote: Address::Ip(remote.ip().to_canonical()),
        local: row.local_address.filter(|_| reply.is_some()).map_or(Address::Unspecified, canonical),
        port: remote.port(),
        leap: reply.map_or(3, |reply| leap(reply.leap)),
        version: if reply.is_some() { row.version } else { 0 },
        mode: if reply.is_some() { MODE_SERVER } else { 0 },
        stratum: reply.map_or(0, |reply| reply.stratum),
        poll: reply.map_or(0, |reply| reply.poll_log2_seconds),
        precision: reply.map_or(0, |reply| reply.precision_log2_seconds),
        root_delay_seconds: reply.map_or(0.0, |reply| reply.root_delay_seconds),
        root_dispersion_seconds: reply.map_or(0.0, |reply| reply.root_dispersion_seconds),
        reference_id: reply.map_or(0, |reply| reference_id(&reply.reference_id)),
        reference_time: reply.map(|r| Timespec::from_seconds(r.reference_time_unix_seconds)).unwrap_or_default(),
        offset_seconds: measured.map_or(0.0, |measured| measured.offset_seconds),
        delay_seconds: measured.map_or(0.0, |measured| measured.delay_seconds),
        dispersion_seconds: measured.map_or(0.0, |measured| measured.dispersion_seconds),
        response_seconds: measured.map_or(0.0, |measured| measured.response_seconds),
        asymmetry: 0.0,
        flags,
        sent_stamp: reply.map_or(0, |reply| stamp(reply.sent_stamp)),
        received_stamp: reply.map_or(0, |reply| stamp(reply.received_stamp)),
        sent: count(row.sent),
        received: count(row.received),
        valid: count(row.valid),
        good: count(row.good),
    })
}

fn canonical(address: IpAddr) -> Address {
    Address::Ip(address.to_canonical())
}

pub(super) fn client(row: &ClientRow) -> ClientEntry {
    ClientEntry {
        address: canonical(row.address),
        ntp_hits: row.ntp.hits,
        ke_hits: row.key_exchange.hits,
        ntp_drops: row.ntp.drops,
        ke_drops: row.key_exchange.drops,
        ntp_interval: row.ntp.interval.unwrap_or(NO_INTERVAL),
        ke_interval: row.key_exchange.interval.unwrap_or(NO_INTERVAL),
        ntp_age_seconds: row.ntp.age_seconds.unwrap_or(NEVER),
        ke_age_seconds: row.key_exchange.age_seconds.unwrap_or(NEVER),
        // Requests of chronyc are not told apart by who sent them.
        ..ClientEntry::NONE
    }
}

pub(super) fn activity(report: &ActivityReport) -> ActivityData {
    let count = |count: usize| cut(count, i32::MAX);
    ActivityData {
        // A source without keys is asked as soon as it has some.
        online: count(report.online + report.no_keys),
        offline: count(report.offline),
        burst_online: count(report.burst),
        burst_offline: 0,
        unresolved: count(report.unresolved),
    }
}

pub(super) fn server_stats(report: &ServerStatsReport, commands: (u64, u64)) -> ServerStatsData {
    let ntp = report.ntp.map(|counters| counters.0).unwrap_or_default();
    let exchange = report.key_exchange.unwrap_or_default();
    let (command_hits, command_drops) = commands;
    ServerStatsData {
        ntp_hits: ntp.received,
        ke_hits: exchange.accepted,
        command_hits,
        // chronyd counts what it does not answer for its access or rate, not what is no request.
        ntp_drops: ntp.dropped_access + ntp.dropped_rate,
        ke_drops: exchange.refused,
        command_drops,
        log_drops: 0,
        authenticated_hits: ntp.replies_symmetric + ntp.replies_nts,
        interleaved_hits: ntp.interleaved,
        timestamps_held: 0,
        timestamp_span_seconds: 0,
        daemon_rx: ntp.stamped_by_daemon,
        daemon_tx: ntp.replied(),
        kernel_rx: ntp.stamped_by_kernel,
        kernel_tx: 0,
        hardware_rx: ntp.stamped_by_hardware,
        hardware_tx: 0,
        reserved: [u64::MAX; 4],
    }
}
