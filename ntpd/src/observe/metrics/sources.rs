//! The sources and the pools. A source without an address is only counted.

use std::collections::BTreeSet;

use ntp_proto::source::Refusal;

use super::{Family, Samples, count, counter, flag, gauge};
use crate::observe::report::{AuthDataRow, AuthMode, NtpDataRow, SourceName, SourceRow, SourceStatsRow, StatusReport};

pub(super) const FAMILIES: &[Family] = &[
    gauge("ntpd_sources", "Sources by whether and how they are asked.", |report, out| {
        let activity = &report.activity;
        for (state, number) in [
            ("online", activity.online),
            ("burst", activity.burst),
            ("offline", activity.offline),
            ("no-keys", activity.no_keys),
            ("unresolved", activity.unresolved),
        ] {
            out.add(&[("state", state)], count(number as u64));
        }
    }),
    gauge("ntpd_sources_reachable", "Sources that answered one of the last eight requests.", |report, out| {
        out.one(number(report, |row| row.reach != 0));
    }),
    gauge("ntpd_sources_used", "Sources whose time reaches the clock, by what vouches for them.", |report, out| {
        for trust in ["dane", "dnssec", "pki", "key", "none"] {
            out.add(&[("trust", trust)], number(report, |row| is_used(row) && row.judged.trust == trust));
        }
    }),
    gauge("ntpd_source_info", "What is known of the source; always 1.", |report, out| {
        each(report, out, |row, (source, address), out| {
            let (pool, trust) = (row.judged.source.pool.as_deref().unwrap_or_default(), row.judged.trust.as_str());
            out.add(&[("source", source), ("address", address), ("pool", pool), ("trust", trust)], 1.0);
        });
    }),
    gauge("ntpd_source_verdict", "1 for what selection makes of the source now.", |report, out| {
        each(report, out, |row, (source, address), out| {
            out.add(&[("source", source), ("address", address), ("verdict", &row.judged.verdict)], 1.0);
        });
    }),
    gauge("ntpd_source_used", "1 if the source's time reaches the clock.", |report, out| {
        of_sources(report, out, |row| Some(flag(is_used(row))));
    }),
    gauge("ntpd_source_reach_ratio", "Share of the last eight requests that were answered.", |report, out| {
        of_sources(report, out, |row| Some(f64::from(row.reach.count_ones()) / 8.0));
    }),
    gauge("ntpd_source_stratum", "Stratum of the source.", |report, out| {
        of_sources(report, out, |row| row.stratum.map(f64::from));
    }),
    gauge("ntpd_source_poll_interval_seconds", "Time between requests.", |report, out| {
        of_sources(report, out, |row| Some(f64::from(row.poll_log2_seconds).exp2()));
    }),
    gauge("ntpd_source_last_reply_age_seconds", "Time since the last good reply.", |report, out| {
        of_sources(report, out, |row| row.last_reply_age_seconds);
    }),
    gauge(
        "ntpd_source_offset_seconds",
        "Offset of the source; positive if it is ahead of the clock.",
        |report, out| {
            of_sources(report, out, |row| row.offset_seconds);
        },
    ),
    gauge("ntpd_source_error_seconds", "Largest error of that against true time.", |report, out| {
        of_sources(report, out, |row| row.error_seconds);
    }),
    gauge("ntpd_source_jitter_seconds", "Standard deviation of single measurements.", |report, out| {
        let row = |row: &SourceStatsRow| row.deviation_seconds;
        of(report.sourcestats.sources.iter().map(|each| (&each.source, row(each))), out);
    }),
    gauge("ntpd_source_delay_seconds", "Round trip of the last measurement.", |report, out| {
        of_packets(report, out, |row| row.measurement.map(|measured| measured.delay_seconds));
    }),
    counter("ntpd_source_requests_total", "Requests sent.", |report, out| {
        of_packets(report, out, |row| Some(count(row.sent)));
    }),
    counter("ntpd_source_packets_received_total", "Packets received.", |report, out| {
        of_packets(report, out, |row| Some(count(row.received)));
    }),
    counter("ntpd_source_replies_total", "Packets that were replies to our requests.", |report, out| {
        of_packets(report, out, |row| Some(count(row.valid)));
    }),
    counter("ntpd_source_measurements_total", "Replies that gave a measurement.", |report, out| {
        of_packets(report, out, |row| Some(count(row.good)));
    }),
    counter("ntpd_source_refused_total", "Packets that failed a test, by the test.", |report, out| {
        let mut seen = Seen::default();
        for row in &report.ntpdata.sources {
            let Some((source, address)) = seen.place(&row.source) else { continue };
            // What has not happened yet counts as well: a series that begins above zero has no increase.
            for reason in Refusal::ALL.into_iter().map(Refusal::name) {
                let refused = row.refused.get(reason).copied().unwrap_or(0);
                out.add(&[("source", source), ("address", &address), ("reason", reason)], count(refused));
            }
        }
    }),
    gauge("ntpd_source_authenticated", "1 if packets of the source are authenticated.", |report, out| {
        of_packets(report, out, |row| Some(flag(row.authenticated)));
    }),
    gauge("ntpd_source_nts_cookies", "Cookies held.", |report, out| {
        of_nts(report, out, |row| Some(count(row.cookies as u64)));
    }),
    gauge("ntpd_source_nts_key_age_seconds", "Time since the last key exchange.", |report, out| {
        of_nts(report, out, |row| row.key_age_seconds);
    }),
    gauge("ntpd_source_nts_failed_key_exchanges", "Key exchanges that failed since one succeeded.", |report, out| {
        of_nts(report, out, |row| Some(row.key_attempts.into()));
    }),
    counter("ntpd_source_nts_naks_total", "NTS negative acknowledgments believed.", |report, out| {
        of_nts(report, out, |row| Some(count(row.naks)));
    }),
    gauge("ntpd_pool_info", "What the pool was configured as and turned out to be; always 1.", |report, out| {
        for pool in &report.pools.pools {
            let settled = pool.settled.as_deref().unwrap_or_default();
            out.add(&[("pool", &pool.name), ("mode", &pool.mode), ("settled", settled)], 1.0);
        }
    }),
    gauge("ntpd_pool_members", "Members that the pool has.", |report, out| {
        report.pools.pools.iter().for_each(|pool| out.add(&[("pool", &pool.name)], count(pool.members.len() as u64)));
    }),
    gauge("ntpd_pool_members_wanted", "Members that the pool is to have.", |report, out| {
        report.pools.pools.iter().for_each(|pool| out.add(&[("pool", &pool.name)], count(pool.wanted as u64)));
    }),
    gauge("ntpd_pool_nts_remembered", "1 if plain NTP is never used with the pool's name.", |report, out| {
        report.pools.pools.iter().for_each(|pool| out.add(&[("pool", &pool.name)], flag(pool.nts_remembered)));
    }),
];

fn is_used(row: &SourceRow) -> bool {
    matches!(row.judged.verdict.as_str(), "selected" | "combined")
}

fn number(report: &StatusReport, matches: impl Fn(&SourceRow) -> bool) -> f64 {
    count(report.sources.sources.iter().filter(|row| matches(row)).count() as u64)
}

/// Sources that had their sample: two of one name and address would be one series with two values, which is none.
#[derive(Default)]
struct Seen<'r>(BTreeSet<(&'r str, String)>);

impl<'r> Seen<'r> {
    fn place(&mut self, source: &'r SourceName) -> Option<(&'r str, String)> {
        // A reference clock has a device in the place of an address.
        let address = source.address.map(|address| address.to_string()).or_else(|| source.refclock.clone())?;
        let place = (source.name.as_str(), address);
        self.0.insert(place.clone()).then_some(place)
    }
}

fn each(report: &StatusReport, out: &mut Samples, add: impl Fn(&SourceRow, (&str, &str), &mut Samples)) {
    let mut seen = Seen::default();
    for row in &report.sources.sources {
        if let Some((source, address)) = seen.place(&row.judged.source) {
            add(row, (source, &address), out);
        }
    }
}

fn of<'r>(rows: impl Iterator<Item = (&'r SourceName, Option<f64>)>, out: &mut Samples) {
    let mut seen = Seen::default();
    for (source, value) in rows {
        if let (Some((source, address)), Some(value)) = (seen.place(source), value) {
            out.add(&[("source", source), ("address", &address)], value);
        }
    }
}

fn of_sources(report: &StatusReport, out: &mut Samples, value: impl Fn(&SourceRow) -> Option<f64>) {
    of(report.sources.sources.iter().map(|row| (&row.judged.source, value(row))), out);
}

fn of_packets(report: &StatusReport, out: &mut Samples, value: impl Fn(&NtpDataRow) -> Option<f64>) {
    of(report.ntpdata.sources.iter().map(|row| (&row.source, value(row))), out);
}

fn of_nts(report: &StatusReport, out: &mut Samples, value: impl Fn(&AuthDataRow) -> Option<f64>) {
    let rows = report.authdata.sources.iter().filter(|row| row.mode == AuthMode::Nts);
    of(rows.map(|row| (&row.source, value(row))), out);
}
