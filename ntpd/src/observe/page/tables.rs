//! Sources, pools and what is served, as tables. On a narrow screen each row becomes a card, with the titles in it.

use super::html::{Html, coarse, offset, span};
use crate::observe::report::{Asked, NtpServerCounters, PoolRow, SourceName, SourceRow, StatusReport};

/// A table under its heading.
struct Table<'o> {
    out: &'o mut Html,
    titles: &'static [&'static str],
    place: usize,
}

impl<'o> Table<'o> {
    fn begin(heading: &str, titles: &'static [&'static str], out: &'o mut Html) -> Self {
        out.raw("<section>\n");
        out.element("h2", "", heading);
        out.raw("\n<table>\n<thead><tr>");
        titles.iter().for_each(|title| out.raw(&format!("<th scope=\"col\">{title}</th>")));
        out.raw("</tr></thead>\n<tbody>\n");
        Self { out, titles, place: 0 }
    }

    fn row(&mut self) {
        self.out.raw("<tr>");
        self.place = 0;
    }

    fn end_row(&mut self) {
        self.out.raw("</tr>\n");
    }

    /// A cell with what `fill` puts there.
    fn cell(&mut self, class: &str, fill: impl FnOnce(&mut Html)) {
        let title = self.titles.get(self.place).copied().unwrap_or_default();
        self.place += 1;
        self.out.raw(&format!("<td class=\"{class}\" data-title=\"{title}\">"));
        fill(self.out);
        self.out.raw("</td>");
    }

    /// A number, if there is one.
    fn number(&mut self, text: Option<String>) {
        match text {
            Some(text) => self.text("number", &text),
            None => self.text("none", "\u{2013}"),
        }
    }

    fn text(&mut self, class: &str, text: &str) {
        self.cell(class, |out| out.element("span", "", text));
    }

    fn end(self) {
        self.out.raw("</tbody>\n</table>\n</section>\n");
    }
}

/// How good a verdict is.
fn class(row: &SourceRow) -> &'static str {
    match row.judged.state {
        '*' | '+' => "good",
        '-' => "fair",
        'x' | '~' => "bad",
        _ => "idle",
    }
}

/// All sources, and why each is used or not.
pub(super) fn sources(status: &StatusReport, out: &mut Html) {
    const TITLES: &[&str] =
        &["State", "Source", "Trust", "Offset", "Jitter", "Delay", "Reach", "Poll", "Last reply", "Why"];
    let mut table = Table::begin("Sources", TITLES, out);
    for row in &status.sources.sources {
        let source = &row.judged.source;
        let jitter = status.sourcestats.sources.iter().find(|each| each.source == *source);
        let packets = status.ntpdata.sources.iter().find(|each| each.source == *source);
        table.row();
        table.cell("", |out| out.element("span", &format!("badge {}", class(row)), &row.judged.verdict));
        table.cell("name", |out| name(source, out));
        table.text(if row.judged.trust == "none" { "dim" } else { "" }, &row.judged.trust);
        match row.offset_seconds {
            None => table.number(None),
            Some(seconds) => table.cell("number", |out| {
                out.element("span", "", &offset(seconds));
                row.error_seconds.iter().for_each(|error| out.element("span", "note", &format!("± {}", span(*error))));
            }),
        }
        table.number(jitter.and_then(|each| each.deviation_seconds).map(span));
        table.number(packets.and_then(|each| each.measurement).map(|measured| span(measured.delay_seconds)));
        table.cell("", |out| reach(row, out));
        let polled = row.asked != Asked::Unresolved;
        table.number(polled.then(|| coarse(f64::from(row.poll_log2_seconds).exp2())));
        table.number(row.last_reply_age_seconds.map(|age| format!("{} ago", coarse(age))));
        table.text("why", &row.judged.reason);
        table.end_row();
    }
    table.end();
}

fn name(source: &SourceName, out: &mut Html) {
    out.element("strong", "", &source.name);
    let address = source.address.map(|address| address.ip().to_string());
    if let Some(address) = address.filter(|address| *address != source.name) {
        out.element("span", "note", &address);
    }
    source.refclock.iter().for_each(|device| out.element("span", "note", device));
    if let Some(pool) = &source.pool {
        out.element("span", "note", &format!("of {pool}"));
    }
}

/// The last eight requests, the newest at the right.
fn reach(row: &SourceRow, out: &mut Html) {
    let answered = row.reach.count_ones();
    out.raw(&format!("<span class=\"reach\" title=\"{answered} of 8 answered\">"));
    for bit in (0..8).rev() {
        out.raw(if row.reach >> bit & 1 == 1 { "<i class=\"yes\"></i>" } else { "<i></i>" });
    }
    out.raw(&format!("<span class=\"unseen\">{answered} of 8 answered</span></span>"));
}

/// All pools, if there are any.
pub(super) fn pools(status: &StatusReport, out: &mut Html) {
    const TITLES: &[&str] = &["Pool", "Mode", "Members", "NTS", "Why"];
    if status.pools.pools.is_empty() {
        return;
    }
    let mut table = Table::begin("Pools", TITLES, out);
    for pool in &status.pools.pools {
        table.row();
        table.cell("name", |out| out.element("strong", "", &pool.name));
        table.text("", &mode(pool));
        let have = if pool.members.len() < pool.wanted { "bad-text" } else { "" };
        table.text(have, &format!("{} of {}", pool.members.len(), pool.wanted));
        table.text("", if pool.nts_remembered { "always" } else { "\u{2013}" });
        table.text(if pool.note.is_some() { "why" } else { "none" }, pool.note.as_deref().unwrap_or_default());
        table.end_row();
    }
    table.end();
}

fn mode(pool: &PoolRow) -> String {
    match &pool.settled {
        Some(settled) if *settled != pool.mode => format!("{}: {settled}", pool.mode),
        _ => pool.mode.clone(),
    }
}

/// What was served, if anything is.
pub(super) fn server(status: &StatusReport, out: &mut Html) {
    const TITLES: &[&str] = &["What", "Since the start", "A second, on average"];
    if status.serverstats.ntp.is_none() && status.serverstats.key_exchange.is_none() {
        return;
    }
    let up = status.daemon.now_unix_seconds - crate::observe::table::seconds(status.daemon.started_unix_seconds);
    let mut table = Table::begin("Served", TITLES, out);
    let mut line = |what: &str, count: u64| {
        #[expect(clippy::cast_precision_loss, reason = "a rate of three digits")]
        let rate = count as f64 / up.max(1.0);
        table.row();
        table.text("name", what);
        table.text("number", &count.to_string());
        table.text("number", &format!("{rate:.2}"));
        table.end_row();
    };
    if let Some(NtpServerCounters(ntp)) = &status.serverstats.ntp {
        line("NTP requests", ntp.received);
        line("NTP replies", ntp.replied());
        line("of these with NTS", ntp.replies_nts);
        line("NTP requests dropped", ntp.dropped());
        line("of these for the rate limit", ntp.dropped_rate);
        line("of these from addresses not served", ntp.dropped_access);
    }
    if let Some(exchange) = &status.serverstats.key_exchange {
        line("key exchanges completed", exchange.completed);
        line("key exchanges failed", exchange.failed);
        line("key exchange connections refused", exchange.refused);
    }
    table.end();
}
