//! Reports in words and columns, as an administrator of chrony knows them.
//!
//! Columns and labels, state letters and signs are chronyc's: in tables an offset is positive if this clock is ahead of the
//! source, save in `ntpdata`. What chronyc does not know (trust, and the reason why a source is used or not) comes last.

use super::{
    control::Reply,
    report::{
        ActivityReport, Asked, AuthDataReport, AuthMode, ClientRequests, ClientsReport, LeapWord, Options, PoolsReport,
        SelectDataReport, SourceName, SourceStatsReport, SourcesReport, TrackingReport,
    },
};

mod columns;
mod format;
mod labels;
#[cfg(test)]
mod tests;

use columns::{Column, Table};
pub(in crate::observe) use format::clean;
pub use format::printable;
use format::{Offset, Span};
pub(crate) use format::{age, date, timestamp};

/// Puts a reply into words. With `numeric`, sources are shown by their addresses.
#[must_use]
pub fn render(reply: &Reply, numeric: bool) -> String {
    match reply {
        Reply::Tracking(report) => labels::tracking(report, numeric),
        Reply::Sources(report) => sources(report, numeric),
        Reply::SourceStats(report) => source_stats(report, numeric),
        Reply::SelectData(report) => select_data(report, numeric),
        Reply::AuthData(report) => auth_data(report, numeric),
        Reply::NtpData(report) => labels::ntp_data(report),
        Reply::ServerStats(report) => labels::server_stats(report),
        Reply::Activity(report) => activity(report),
        Reply::Pools(report) => pools(report, numeric),
        Reply::Clients(report) => clients(report),
        Reply::Done(what) => format!("{}\n", printable(what)),
    }
}

/// One line of `waitsync`.
#[must_use]
pub fn wait_line(attempt: u32, report: &TrackingReport) -> String {
    format!(
        "try: {attempt}, refid: {}, correction: {:.9}, skew: {:.3}",
        clean(&report.reference_id),
        report.pending_seconds.abs(),
        report.skew_ppm
    )
}

/// An amount of time without a sign, in at most four digits and a unit.
#[must_use]
pub(crate) fn span(seconds: f64) -> String {
    Span(seconds).to_string()
}

/// A second of Unix time in the form of `date`.
#[must_use]
pub(crate) fn date_of(unix_seconds: i64) -> String {
    date(Some(seconds(unix_seconds)))
}

/// Whole seconds as a number like all others.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a date of the calendar is far below 2^53")]
pub(crate) const fn seconds(unix_seconds: i64) -> f64 {
    unix_seconds as f64
}

/// An offset with its sign: positive if this clock is ahead of the source, which is negative in reports.
#[must_use]
pub(crate) fn offset(seconds: f64) -> String {
    Offset::ahead_here(seconds).to_string()
}

/// A source by its name, or by its address.
#[must_use]
pub(crate) fn show_name(source: &SourceName, numeric: bool) -> String {
    match source.address {
        Some(address) if numeric => address.ip().to_string(),
        _ => clean(&source.name),
    }
}

/// At least as wide as chronyc's.
const NAME: Column = Column::left("Name/IP address", 26);

fn sources(report: &SourcesReport, numeric: bool) -> String {
    let mut table = Table::new(&[
        Column::left("MS", 2),
        NAME,
        Column::right("Stratum", 7),
        Column::right("Poll", 4),
        Column::right("Reach", 5),
        Column::right("LastRx", 6),
        Column::left("Last sample", 27),
        Column::left("Trust", 6),
        Column::left("Reason", 6),
    ]);
    for row in &report.sources {
        let offset = |seconds: Option<f64>| Offset::ahead_here(seconds.unwrap_or(0.0));
        let sample = format!(
            "{:>7}[{:>7}] +/- {:>6}",
            offset(row.offset_seconds).to_string(),
            offset(row.measured_offset_seconds).to_string(),
            Span(row.error_seconds.unwrap_or(0.0)).to_string()
        );
        table.row([
            format!("{}{}", if row.judged.source.refclock.is_some() { '#' } else { '^' }, row.judged.state),
            show_name(&row.judged.source, numeric),
            row.stratum.unwrap_or(0).to_string(),
            row.poll_log2_seconds.to_string(),
            format!("{:o}", row.reach),
            age(row.last_reply_age_seconds),
            sample,
            clean(&row.judged.trust),
            clean(&row.judged.reason),
        ]);
    }
    table.render()
}

fn source_stats(report: &SourceStatsReport, numeric: bool) -> String {
    let mut table = Table::new(&[
        NAME,
        Column::right("NP", 3),
        Column::right("NR", 3),
        Column::right("Span", 5),
        Column::right("Frequency", 10),
        Column::right("Freq Skew", 10),
        Column::right("Offset", 7),
        Column::right("Std Dev", 7),
    ]);
    for row in &report.sources {
        let decimal = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        table.row([
            show_name(&row.source, numeric),
            row.samples.to_string(),
            row.runs.to_string(),
            age(Some(row.span_seconds)),
            row.frequency_ppm.map_or_else(|| "-".to_owned(), |ppm| format!("{:+.3}", format::negated(ppm, 3))),
            decimal(row.skew_ppm),
            row.offset_seconds.map_or_else(|| "-".to_owned(), |offset| Offset::ahead_here(offset).to_string()),
            row.deviation_seconds.map_or_else(|| "-".to_owned(), |deviation| Span(deviation).to_string()),
        ]);
    }
    table.render()
}

fn select_data(report: &SelectDataReport, numeric: bool) -> String {
    let mut table = Table::new(&[
        Column::left("S", 1),
        NAME,
        Column::left("Auth", 4),
        Column::left("COpts", 5),
        Column::left("EOpts", 5),
        Column::right("Last", 4),
        Column::right("Score", 5),
        Column::left("Interval", 15),
        Column::left("Leap", 4),
        Column::left("Trust", 6),
        Column::left("Reason", 6),
    ]);
    for row in &report.sources {
        // From the point of view of this clock the two ends change places.
        let interval = match (row.low_seconds, row.high_seconds) {
            (Some(low), Some(high)) => {
                format!("{:>7} {:>7}", Offset::ahead_here(high).to_string(), Offset::ahead_here(low).to_string())
            }
            _ => format!("{:>7} {:>7}", "-", "-"),
        };
        table.row([
            row.judged.state.to_string(),
            show_name(&row.judged.source, numeric),
            if row.authenticated { "Y" } else { "N" }.to_owned(),
            option_letters(row.configured),
            option_letters(row.effective),
            age(row.last_sample_age_seconds),
            // Our selection keeps no score; the column keeps its place.
            "-".to_owned(),
            interval,
            leap_letter(row.leap).to_owned(),
            clean(&row.judged.trust),
            clean(&row.judged.reason),
        ]);
    }
    table.render()
}

fn clients(report: &ClientsReport) -> String {
    let mut table = Table::new(&[
        Column::left("Hostname", 25),
        Column::right("NTP", 7),
        Column::right("Drop", 6),
        Column::right("Int", 3),
        Column::right("Last", 4),
        Column::right("NTS-KE", 7),
        Column::right("Drop", 6),
        Column::right("Int", 3),
        Column::right("Last", 4),
    ]);
    for row in &report.clients {
        let cells = |of: &ClientRequests| {
            let interval = of.interval_log2_seconds.map_or_else(|| "-".to_owned(), |log2| log2.to_string());
            [of.requests.to_string(), of.dropped.to_string(), interval, age(of.last_age_seconds.map(f64::from))]
        };
        let [ntp, key_exchange] = [cells(&row.ntp), cells(&row.key_exchange)];
        let [(a, b, c, d), (e, f, g, h)] = [ntp, key_exchange].map(|[a, b, c, d]| (a, b, c, d));
        table.row([row.address.to_string(), a, b, c, d, e, f, g, h]);
    }
    let mut text = table.render();
    if report.known > report.clients.len() {
        text.push_str(&format!("{} of {} clients\n", report.clients.len(), report.known));
    }
    text
}

/// What is wanted of a source, as chronyc writes it.
pub(crate) fn option_letters(options: Options) -> String {
    let letter = |set, letter| if set { letter } else { '-' };
    let Options { noselect, prefer, trust, require } = options;
    [letter(noselect, 'N'), letter(prefer, 'P'), letter(trust, 'T'), letter(require, 'R'), '-'].iter().collect()
}

const fn leap_letter(leap: LeapWord) -> &'static str {
    match leap {
        LeapWord::Normal => "N",
        LeapWord::InsertSecond => "+",
        LeapWord::DeleteSecond => "-",
        LeapWord::NotSynchronized => "?",
    }
}

fn auth_data(report: &AuthDataReport, numeric: bool) -> String {
    let mut table = Table::new(&[
        NAME,
        Column::right("Mode", 4),
        Column::right("KeyID", 5),
        Column::right("Type", 4),
        Column::right("KLen", 4),
        Column::right("Last", 4),
        Column::right("Atmp", 4),
        Column::right("NAK", 4),
        Column::right("Cook", 4),
        Column::right("CLen", 4),
        Column::left("Trust", 6),
        Column::left("Reason", 6),
    ]);
    for row in &report.sources {
        let mode = match row.mode {
            AuthMode::None => "-",
            AuthMode::SymmetricKey => "SK",
            AuthMode::Nts => "NTS",
        };
        table.row([
            show_name(&row.source, numeric),
            mode.to_owned(),
            row.key_id.unwrap_or(0).to_string(),
            row.algorithm_number.unwrap_or(0).to_string(),
            row.key_bits.unwrap_or(0).to_string(),
            age(row.key_age_seconds),
            row.key_attempts.to_string(),
            row.naks.to_string(),
            row.cookies.to_string(),
            row.cookie_bytes.to_string(),
            clean(&row.trust),
            row.note.as_deref().map_or_else(String::new, clean),
        ]);
    }
    table.render()
}

fn activity(report: &ActivityReport) -> String {
    let ActivityReport { online, offline, burst, no_keys, unresolved } = report;
    format!(
        "200 OK\n\
         {online} sources online\n\
         {offline} sources offline\n\
         {burst} sources doing burst (return to online)\n\
         0 sources doing burst (return to offline)\n\
         {unresolved} sources with unknown address\n\
         {no_keys} sources waiting for keys\n"
    )
}

fn pools(report: &PoolsReport, numeric: bool) -> String {
    let mut table = Table::new(&[
        Column::left("Pool", 20),
        Column::left("Mode", 12),
        Column::right("Have", 4),
        Column::right("Want", 4),
        Column::left("NTS", 10),
        Column::left("Reason", 6),
    ]);
    let mut members = Table::new(&[
        Column::left("S", 1),
        NAME,
        Column::left("Pool", 20),
        Column::left("Asked", 10),
        Column::left("Trust", 6),
        Column::left("Reason", 6),
    ]);
    for pool in &report.pools {
        let mode = match &pool.settled {
            Some(settled) if *settled != pool.mode => format!("{}: {}", clean(&pool.mode), clean(settled)),
            _ => clean(&pool.mode),
        };
        table.row([
            clean(&pool.name),
            mode,
            pool.members.len().to_string(),
            pool.wanted.to_string(),
            if pool.nts_remembered { "remembered" } else { "-" }.to_owned(),
            pool.note.as_deref().map_or_else(String::new, clean),
        ]);
        for member in &pool.members {
            members.row([
                member.state.to_string(),
                show_name(&member.source, numeric),
                clean(&pool.name),
                asked(member.asked).to_owned(),
                clean(&member.trust),
                clean(&member.reason),
            ]);
        }
    }
    if members.is_empty() { table.render() } else { format!("{}\n{}", table.render(), members.render()) }
}

const fn asked(asked: Asked) -> &'static str {
    match asked {
        Asked::Online => "online",
        Asked::Burst => "burst",
        Asked::Offline => "offline",
        Asked::NoKeys => "no keys",
        Asked::Unresolved => "unresolved",
    }
}
