//! Reports with one value a line.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
};

use super::{
    format::{clean, date, negated},
    show_name,
};
use crate::observe::report::{
    LeapFileReport, LeapWord, NtpDataReport, NtpDataRow, ServerStatsReport, StampWord, TimeReport, TimeState,
    TrackingReport,
};

/// Lines of a label, a colon and a value.
struct Lines {
    text: String,
    width: usize,
}

impl Lines {
    const fn new(width: usize) -> Self {
        Self { text: String::new(), width }
    }

    fn add(&mut self, label: &str, value: impl Display) {
        self.text.push_str(&format!("{label:<width$}: {value}\n", width = self.width));
    }
}

pub(super) fn tracking(report: &TrackingReport, numeric: bool) -> String {
    let reference = report.reference.as_ref().map_or_else(String::new, |source| show_name(source, numeric));
    let direction = |is_slow| if is_slow { "slow" } else { "fast" };
    let mut lines = Lines::new(16);
    lines.add("Reference ID", format!("{} ({reference})", clean(&report.reference_id)));
    // chronyc writes 0 where packets have 16.
    lines.add("Stratum", if report.stratum >= 16 { 0 } else { report.stratum });
    lines.add("Ref time (UTC)", date(report.reference_time_unix_seconds));
    let pending = report.pending_seconds;
    lines.add("System time", format!("{:.9} seconds {} of NTP time", pending.abs(), direction(pending >= 0.0)));
    lines.add("Last offset", format!("{:+.9} seconds", negated(report.last_offset_seconds, 9)));
    lines.add("RMS offset", format!("{:.9} seconds", report.rms_offset_seconds));
    let frequency = report.frequency_ppm;
    lines.add("Frequency", format!("{:.3} ppm {}", frequency.abs(), direction(frequency >= 0.0)));
    lines.add("Residual freq", format!("{:+.3} ppm", negated(report.residual_frequency_ppm, 3)));
    lines.add("Skew", format!("{:.3} ppm", report.skew_ppm));
    lines.add("Root delay", format!("{:.9} seconds", report.root_delay_seconds));
    lines.add("Root dispersion", format!("{:.9} seconds", report.root_dispersion_seconds));
    lines.add("Update interval", format!("{:.1} seconds", report.update_interval_seconds));
    lines.add("Leap status", leap(report.leap));
    if let Some(stratum) = report.local_stratum {
        lines.add("Local clock", format!("served at stratum {stratum}"));
    }
    if let Some(file) = &report.leap_file {
        lines.add("Leap file", leap_file(file));
    }
    if let Some(time) = &report.time {
        lines.add("Time", time_of(time));
    }
    if let Some(reason) = &report.reason {
        lines.add("Reason", clean(reason));
    }
    lines.text
}

fn leap_file(file: &LeapFileReport) -> String {
    #[expect(clippy::cast_precision_loss, reason = "exact for millions of years")]
    let expires = file.expires_unix_seconds.map(|seconds| date(Some(seconds as f64)));
    let mut text = match expires {
        Some(date) if !file.expired => format!("good until {date}"),
        Some(date) => format!("expired on {date}; sources say when leap seconds come"),
        None => "not read; sources say when leap seconds come".to_owned(),
    };
    if let Some(fault) = &file.fault {
        text.push_str(&format!(" ({})", clean(fault)));
    }
    text
}

fn time_of(time: &TimeReport) -> String {
    let (state, obstacles) = (time.state.name(), clean(&time.obstacles()));
    if time.state == TimeState::Verified || obstacles.is_empty() {
        state.to_owned()
    } else {
        format!("{state}; {obstacles}")
    }
}

const fn leap(leap: LeapWord) -> &'static str {
    match leap {
        LeapWord::Normal => "Normal",
        LeapWord::InsertSecond => "Insert second",
        LeapWord::DeleteSecond => "Delete second",
        LeapWord::NotSynchronized => "Not synchronised",
    }
}

pub(super) fn ntp_data(report: &NtpDataReport) -> String {
    report.sources.iter().map(|row| format!("\n{}", ntp_row(row))).collect()
}

fn ntp_row(row: &NtpDataRow) -> String {
    let mut lines = Lines::new(16);
    lines.add("Remote address", address(row.source.address.as_ref().map(SocketAddr::ip)));
    lines.add("Remote port", row.source.address.map_or(0, |address| address.port()));
    lines.add("Local address", address(row.local_address));
    lines.add("Source name", clean(&row.source.name));
    match &row.reply {
        None => lines.add("Last reply", "none yet"),
        Some(reply) => {
            lines.add("Leap status", leap(reply.leap));
            lines.add("Version", row.version);
            lines.add("Mode", "Server");
            lines.add("Stratum", reply.stratum);
            lines.add("Poll interval", log2(reply.poll_log2_seconds, 0));
            lines.add("Precision", log2(reply.precision_log2_seconds, 9));
            lines.add("Root delay", format!("{:.6} seconds", reply.root_delay_seconds));
            lines.add("Root dispersion", format!("{:.6} seconds", reply.root_dispersion_seconds));
            let name = reply.reference_name.as_deref().map_or_else(String::new, clean);
            lines.add("Reference ID", format!("{} ({name})", clean(&reply.reference_id)));
            lines.add("Reference time", date(Some(reply.reference_time_unix_seconds)));
        }
    }
    if let Some(measured) = &row.measurement {
        lines.add("Offset", format!("{:+.9} seconds", measured.offset_seconds));
        lines.add("Peer delay", format!("{:.9} seconds", measured.delay_seconds));
        lines.add("Peer dispersion", format!("{:.9} seconds", measured.dispersion_seconds));
        lines.add("Response time", format!("{:.9} seconds", measured.response_seconds));
    }
    lines.add("Last refusal", row.last_refusal.as_deref().map_or_else(|| "none".to_owned(), clean));
    lines.add("Refused packets", refused(row));
    lines.add("Interleaved", yes(row.reply.as_ref().is_some_and(|reply| reply.interleaved)));
    lines.add("Authenticated", yes(row.authenticated));
    if let Some(reply) = &row.reply {
        lines.add("TX timestamping", stamp(reply.sent_stamp));
        lines.add("RX timestamping", stamp(reply.received_stamp));
    }
    lines.add("Total TX", row.sent);
    lines.add("Total RX", row.received);
    lines.add("Total valid RX", row.valid);
    lines.add("Total good RX", row.good);
    lines.add("Total stamped TX", row.stamped_sent);
    lines.add("Total stamped RX", row.stamped_received);
    if row.hardware_sent + row.hardware_received > 0 {
        lines.add("Total HW TX", row.hardware_sent);
        lines.add("Total HW RX", row.hardware_received);
    }
    lines.text
}

/// An address, and an IPv4 address also as it would stand in a reference identifier.
fn address(address: Option<IpAddr>) -> String {
    match address {
        Some(IpAddr::V4(v4)) => format!("{v4} ({:08X})", u32::from(v4)),
        Some(IpAddr::V6(v6)) => v6.to_string(),
        None => "[UNSPEC]".to_owned(),
    }
}

fn log2(log2_seconds: i8, decimals: usize) -> String {
    format!("{log2_seconds} ({:.decimals$} seconds)", f64::from(log2_seconds).exp2())
}

fn refused(row: &NtpDataRow) -> String {
    let list: Vec<String> = row.refused.iter().map(|(test, count)| format!("{} {count}", clean(test))).collect();
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}

const fn yes(is: bool) -> &'static str {
    if is { "Yes" } else { "No" }
}

const fn stamp(stamp: StampWord) -> &'static str {
    match stamp {
        StampWord::Daemon => "Daemon",
        StampWord::Kernel => "Kernel",
        StampWord::Hardware => "Hardware",
    }
}

pub(super) fn server_stats(report: &ServerStatsReport) -> String {
    // What is not served has zeros, as with chronyc; the lines below them are ours.
    let (ntp, exchange) = (report.ntp.unwrap_or_default().0, report.key_exchange.unwrap_or_default());
    let mut lines = Lines::new(27);
    lines.add("NTP packets received", ntp.received);
    lines.add("NTP packets dropped", ntp.dropped());
    lines.add("Command packets received", report.control.received);
    lines.add("Command packets dropped", report.control.refused);
    lines.add("NTS-KE connections accepted", exchange.accepted);
    lines.add("NTS-KE connections dropped", exchange.refused);
    lines.add("Authenticated NTP packets", ntp.replies_symmetric + ntp.replies_nts);
    lines.add("Interleaved NTP packets", ntp.interleaved);
    lines.add("NTP daemon RX timestamps", ntp.stamped_by_daemon);
    lines.add("NTP kernel RX timestamps", ntp.stamped_by_kernel);
    lines.add("NTP hardware RX timestamps", ntp.stamped_by_hardware);
    if report.key_exchange.is_some() {
        lines.add("NTS-KE sessions completed", exchange.completed);
        lines.add("NTS-KE pool requests", exchange.pool_requests);
        lines.add("NTS-KE sessions failed", exchange.failed);
    }
    if report.ntp.is_none() {
        lines.add("NTP service", "off (no [serve] in the configuration)");
        return lines.text;
    }
    for (label, count) in [
        ("Dropped as malformed", ntp.dropped_malformed),
        ("Dropped as no request", ntp.dropped_mode),
        ("Dropped by access", ntp.dropped_access),
        ("Dropped by key", ntp.dropped_key),
        ("Dropped by NTS fields", ntp.dropped_nts),
        ("Dropped by rate limit", ntp.dropped_rate),
        ("Dropped for want of space", ntp.dropped_no_space),
        ("Dropped in a leap second", ntp.dropped_leap),
        ("Replies without key", ntp.replies_plain),
        ("Replies with symmetric key", ntp.replies_symmetric),
        ("Replies with NTS", ntp.replies_nts),
        ("NTS NAKs", ntp.replies_nts_nak),
        ("Kiss codes RATE", ntp.replies_kiss),
        ("NTS cookies issued", ntp.cookies),
    ] {
        lines.add(label, count);
    }
    lines.text
}
