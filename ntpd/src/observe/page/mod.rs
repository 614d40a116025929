//! The status page: one HTML document without scripts, forms or anything from elsewhere.
//!
//! Names in it come from configurations, name servers and key exchanges. All of them go through `Html::text`.

use data_encoding::BASE64;
use sha2::{Digest as _, Sha256};

use super::{history::Spread, report::TimeState, web::Observed};

mod chart;
mod html;
mod tables;
#[cfg(test)]
mod tests;

use chart::Levels;
use html::{Html, coarse, offset, ppm, signed_ppm, span};

/// Time between two loads, in seconds.
const REFRESH: u32 = 30;
/// How the page looks. The policy permits this style and no other.
const STYLE: &str = include_str!("style.css");

/// The Content-Security-Policy of the page (<https://www.w3.org/TR/CSP3/>): nothing is loaded, run, sent or framed.
#[must_use]
pub fn policy() -> String {
    let hash = BASE64.encode(&Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The page.
#[must_use]
pub fn render(observed: &Observed) -> String {
    let mut out = Html::default();
    out.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>");
    out.text(&title(observed));
    out.raw("</title>\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    out.raw(&format!("<meta http-equiv=\"refresh\" content=\"{REFRESH}\">\n<style>{STYLE}</style>\n</head>\n<body>\n"));
    header(observed, &mut out);
    out.raw("<main>\n");
    facts(observed, &mut out);
    charts(observed, &mut out);
    tables::sources(&observed.status, &mut out);
    tables::pools(&observed.status, &mut out);
    tables::server(&observed.status, &mut out);
    out.raw("</main>\n");
    footer(observed, &mut out);
    out.raw("</body>\n</html>\n");
    out.0
}

fn title(observed: &Observed) -> String {
    if observed.status.tracking.synchronized { "ntpd: synchronized" } else { "ntpd: not synchronized" }.to_owned()
}

fn header(observed: &Observed, out: &mut Html) {
    let tracking = &observed.status.tracking;
    let (class, word) = if tracking.synchronized { ("good", "Synchronized") } else { ("bad", "Not synchronized") };
    out.raw(&format!("<header>\n<h1>ntpd</h1>\n<p class=\"badge {class}\">{word}</p>\n"));
    if let Some(reason) = &tracking.reason {
        out.element("p", "reason", reason);
    }
    if let Some(time) = tracking.time.as_ref().filter(|time| time.state != TimeState::Verified) {
        out.element("p", "reason", &format!("The time is {}. {}", time.state.name(), time.obstacles()));
    }
    out.raw("</header>\n");
}

/// The clock: what most want to know, each in a box.
fn facts(observed: &Observed, out: &mut Html) {
    let tracking = &observed.status.tracking;
    let reference = tracking.reference.as_ref().map_or("none", |source| source.name.as_str());
    let distance = tracking.root_delay_seconds / 2.0 + tracking.root_dispersion_seconds;
    let (trusted, trust) = match &tracking.time {
        Some(time) => (time.state.name(), "what authenticated sources say of it"),
        None => ("unverified", "no authenticated source is expected to tell it"),
    };
    let since = tracking.reference_time_unix_seconds.map(|at| observed.status.daemon.now_unix_seconds - at);
    out.raw("<section>\n<h2>Clock</h2>\n<dl class=\"facts\">\n");
    for (name, value, note) in [
        ("Follows", reference.to_owned(), "the best source"),
        (
            "Error bound",
            since.map_or_else(|| "unknown".to_owned(), |_| span(distance)),
            "root distance: true time is no farther away than this",
        ),
        ("Last correction", offset(tracking.last_offset_seconds), "positive: the clock was slow"),
        ("Usual correction", span(tracking.rms_offset_seconds), "root mean square, long-term"),
        ("Still to be slewed", offset(tracking.pending_seconds), "positive: the clock is slow"),
        ("Frequency", signed_ppm(tracking.frequency_ppm), "positive: the oscillator is slow"),
        ("Skew", ppm(tracking.skew_ppm), "error bound of the frequency"),
        ("Stratum", tracking.stratum.to_string(), "steps to a reference clock; 16: never synchronized"),
        ("Time", trusted.to_owned(), trust),
        ("Corrected", since.map_or_else(|| "never".to_owned(), |ago| format!("{} ago", coarse(ago.max(0.0)))), ""),
    ] {
        out.raw("<div>");
        out.element("dt", "", name);
        out.element("dd", "", &value);
        if !note.is_empty() {
            out.element("dd", "note", note);
        }
        out.raw("</div>\n");
    }
    out.raw("</dl>\n</section>\n");
}

fn charts(observed: &Observed, out: &mut Html) {
    let points = |value: fn(&super::history::Point) -> Spread| -> Vec<(u64, Spread)> {
        let history = observed.history.iter();
        history.flat_map(|history| history.points(observed.now)).map(|(age, point)| (age, value(point))).collect()
    };
    out.raw("<section>\n<h2>History</h2>\n<div class=\"charts\">\n");
    let corrections = points(|point| point.offset_seconds);
    chart::draw(
        "Corrections",
        "what was wrong with the clock each time",
        &corrections,
        Levels::AroundZero,
        offset,
        out,
    );
    let frequencies = points(|point| point.frequency_ppm);
    chart::draw("Frequency", "the rate of correction", &frequencies, Levels::Near(0.01), signed_ppm, out);
    out.raw("</div>\n</section>\n");
}

fn footer(observed: &Observed, out: &mut Html) {
    let daemon = &observed.status.daemon;
    out.raw("<footer>\n<p>");
    let now = super::table::date(Some(daemon.now_unix_seconds));
    let up = coarse((daemon.now_unix_seconds - super::table::seconds(daemon.started_unix_seconds)).max(0.0));
    out.text(&format!("ntpd {}, running for {up}. Made at {now} UTC; again every {REFRESH} s.", daemon.version));
    out.raw(" Offsets of sources are positive if the source is ahead of this clock.</p>\n");
    out.raw("<p><a href=\"/metrics\">/metrics</a> <a href=\"/status.json\">/status.json</a></p>\n</footer>\n");
}
