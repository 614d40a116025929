//! What is served. Where nothing is, there are no series.

use ntp_proto::counters::ServerCounters;

use super::{Family, Samples, count, counter, gauge};
use crate::observe::{KeCounters, report::StatusReport, table::seconds};

pub(super) const FAMILIES: &[Family] = &[
    counter("ntpd_server_requests_total", "Packets received by the NTP server.", |report, out| {
        out.some(report.serverstats.ntp.map(|ntp| count(ntp.0.received)));
    }),
    counter("ntpd_server_stamped_total", "Of these, by who stamped them.", |report, out| {
        by(report, out, "stamped_by_", "by");
    }),
    counter("ntpd_server_dropped_total", "Packets without a reply, by reason.", |report, out| {
        by(report, out, "dropped_", "reason");
    }),
    counter("ntpd_server_replies_total", "Replies, by how they are authenticated.", |report, out| {
        by(report, out, "replies_", "kind");
    }),
    counter("ntpd_server_interleaved_replies_total", "Replies in interleaved mode.", |report, out| {
        out.some(report.serverstats.ntp.map(|ntp| count(ntp.0.interleaved)));
    }),
    counter("ntpd_server_nts_cookies_total", "NTS cookies issued in replies.", |report, out| {
        out.some(report.serverstats.ntp.map(|ntp| count(ntp.0.cookies)));
    }),
    counter(
        "ntpd_key_exchange_connections_total",
        "Connections for key exchange that were accepted.",
        |report, out| {
            exchanges(report, out, |counted| counted.accepted);
        },
    ),
    counter(
        "ntpd_key_exchange_refused_total",
        "Connections for key exchange that were closed at once.",
        |report, out| {
            exchanges(report, out, |counted| counted.refused);
        },
    ),
    counter("ntpd_key_exchange_failed_total", "Key exchanges that ended in an error.", |report, out| {
        exchanges(report, out, |counted| counted.failed);
    }),
    counter("ntpd_key_exchange_completed_total", "Key exchanges that gave keys and cookies.", |report, out| {
        exchanges(report, out, |counted| counted.completed);
    }),
    counter("ntpd_key_exchange_pool_requests_total", "Requests of pools that were answered.", |report, out| {
        exchanges(report, out, |counted| counted.pool_requests);
    }),
    gauge(
        "ntpd_certificate_expiry_timestamp_seconds",
        "When the certificate of the key exchange server expires, in seconds since 1970.",
        |report, out| {
            out.some(report.daemon.certificate_expires_unix_seconds.map(seconds));
        },
    ),
    counter("ntpd_control_requests_total", "Requests on the control socket.", |report, out| {
        out.one(count(report.serverstats.control.received));
    }),
    counter("ntpd_control_refused_total", "Of these, those that were refused.", |report, out| {
        out.one(count(report.serverstats.control.refused));
    }),
];

/// Counts whose name begins with `prefix`, with the rest of it as a label.
fn by(report: &StatusReport, out: &mut Samples, prefix: &str, label: &'static str) {
    let Some(ntp) = &report.serverstats.ntp else { return };
    for (name, value) in ServerCounters::NAMES.into_iter().zip(ntp.0.to_array()) {
        if let Some(rest) = name.strip_prefix(prefix) {
            out.add(&[(label, &rest.replace('_', "-"))], count(value));
        }
    }
}

fn exchanges(report: &StatusReport, out: &mut Samples, value: fn(&KeCounters) -> u64) {
    out.some(report.serverstats.key_exchange.as_ref().map(|counted| count(value(counted))));
}
