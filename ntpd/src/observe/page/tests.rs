use std::sync::Arc;

use ntp_proto::time::Monotonic;
use proptest::prelude::*;

use super::*;
use crate::observe::{history::History, report::tests::busy_status};

/// A busy daemon whose clock was corrected for `hours`.
fn observed(hours: u64) -> Observed {
    let mut history = History::default();
    let at = |second: u64| Monotonic::from_nanos(second * 1_000_000_000);
    for number in 1..=hours * 225 {
        let offset = f64::from(u8::try_from(number * number % 7).unwrap()) * 1e-5 - 3e-5;
        history.record(at(number * 16), number, offset, 12.3);
    }
    Observed { status: Arc::new(busy_status()), history: Some(history), now: at(hours * 3_600) }
}

/// The page without what it may have: the elements and attributes of this program. Nothing is left of a page in which a name has
/// become markup.
fn strange_markup(page: &str) -> Vec<String> {
    const ELEMENTS: [&str; 37] = [
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "h1",
        "h2",
        "p",
        "main",
        "section",
        "dl",
        "div",
        "dt",
        "dd",
        "bdi",
        "figure",
        "figcaption",
        "strong",
        "span",
        "svg",
        "path",
        "table",
        "thead",
        "tr",
        "th",
        "tbody",
        "td",
        "i",
        "footer",
        "a",
        "!DOCTYPE",
        "br",
        "em",
        "b",
        "small",
    ];
    let body = page.split_once("</style>").unwrap().1;
    let tags = body.split('<').skip(1).map(|tag| tag.split('>').next().unwrap_or_default());
    tags.filter(|tag| {
        let name = tag.trim_start_matches('/').split(' ').next().unwrap_or_default();
        let attributes = tag.split('"').step_by(2).collect::<String>();
        !ELEMENTS.contains(&name)
            || attributes.contains("on") && attributes.contains("on=")
            || attributes.contains(" src")
    })
    .map(str::to_owned)
    .collect()
}

#[test]
fn everything_that_is_known_is_on_it() {
    let page = render(&observed(24));
    for text in [
        "<title>ntpd: synchronized</title>",
        "liar.example",
        "not confirmed by authenticated sources",
        "no such name",
        "certificate expired",
        "auto: lb",
        "NTP requests",
        "1.2.3",
        "24 h ago",
        "class=\"line\"",
        "class=\"band\"",
        "+12.300 ppm",
        "of 8 answered",
    ] {
        assert!(page.contains(text), "{text} is not on it");
    }
    assert_eq!(strange_markup(&page), Vec::<String>::new());
    for (hours, text) in [(1, "30 min ago"), (2, "1.5 h ago"), (11, "6 h ago")] {
        assert!(render(&observed(hours)).contains(text), "{text}");
    }
    // Every table's row has as many cells as its table has titles.
    for table in page.split("<table>").skip(1) {
        let table = table.split("</table>").next().unwrap();
        let titles = table.matches("<th ").count();
        for row in table.split("<tbody>").nth(1).unwrap().split("<tr>").skip(1) {
            assert_eq!(row.matches("<td ").count(), titles, "{row}");
        }
    }
}

#[test]
fn nothing_is_loaded_and_nothing_runs() {
    let page = render(&observed(1));
    for word in [
        "<script",
        "<link",
        "<img",
        "<iframe",
        "<form",
        "http://",
        "https://",
        "url(",
        "@import",
        " style=",
        "javascript:",
    ] {
        assert!(!page.contains(word), "{word}");
    }
    let style = page.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    let hash = BASE64.encode(&Sha256::digest(style));
    assert!(policy().contains(&format!("style-src 'sha256-{hash}'")) && policy().starts_with("default-src 'none'"));
    assert!(policy().is_ascii());
}

#[test]
fn a_daemon_that_knows_nothing_has_a_page() {
    let mut empty = observed(0);
    let status = Arc::make_mut(&mut empty.status);
    status.sources.sources.clear();
    status.pools.pools.clear();
    status.serverstats.ntp = None;
    status.serverstats.key_exchange = None;
    status.tracking.synchronized = false;
    status.tracking.reason = Some("no source of time is configured".to_owned());
    status.tracking.root_dispersion_seconds = f64::NAN;
    let page = render(&empty);
    assert!(page.contains("Not synchronized") && page.contains("no source of time is configured"));
    assert!(page.contains("Nothing was measured yet.") && !page.contains("Pools") && !page.contains("Served"));
    assert!(page.contains("unknown"));
}

#[test]
fn amounts_have_three_digits_a_unit_and_a_sign() {
    for (seconds, expected) in [
        (0.0, "0 s"),
        (1.234e-9, "+1.23 ns"),
        (-12.34e-6, "−12.3 µs"),
        (999.6e-6, "+1.00 ms"),
        (0.25, "+250 ms"),
        (-90.0, "−90.0 s"),
        (7_000.0, "+117 min"),
        (-1e6, "−12 d"),
        (f64::NAN, "unknown"),
    ] {
        assert_eq!(offset(seconds), expected);
    }
    assert_eq!((signed_ppm(-3.456_7).as_str(), signed_ppm(-0.000_1).as_str()), ("−3.457 ppm", "+0.000 ppm"));
    assert_eq!((coarse(64.0).as_str(), coarse(0.5).as_str(), coarse(3_600.0).as_str()), ("64 s", "500 ms", "60 min"));
}

proptest! {
    #[test]
    fn no_name_becomes_markup(name in "[<>&\"'/= a-z\\PC]{0,60}", attack in 0..4_usize) {
        let name = [
            name.clone(),
            format!("<script>alert(1)</script>{name}"),
            format!("\"><img src=x onerror=alert(1)>{name}"),
            format!("'></td></bdi><style>*{{}}</style>{name}"),
        ][attack].clone();
        let mut hostile = observed(1);
        let status = Arc::make_mut(&mut hostile.status);
        let row = &mut status.sources.sources[0];
        (row.judged.source.name, row.judged.reason, row.judged.trust) = (name.clone(), name.clone(), name.clone());
        (row.judged.source.pool, row.judged.verdict) = (Some(name.clone()), name.clone());
        let pool = &mut status.pools.pools[0];
        (pool.name, pool.mode, pool.settled, pool.note) = (name.clone(), name.clone(), Some(name.clone()), Some(name.clone()));
        status.tracking.reason = Some(name.clone());
        status.tracking.reference.iter_mut().for_each(|source| source.name = name.clone());
        status.daemon.version = name;
        let page = render(&hostile);
        prop_assert_eq!(strange_markup(&page), Vec::<String>::new());
        prop_assert_eq!(page.matches("<style>").count(), 1);
    }
}
