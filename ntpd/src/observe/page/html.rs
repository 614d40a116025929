//! HTML and numbers in it.

use crate::observe::table::clean;

/// A document as it grows.
#[derive(Debug, Default)]
pub(super) struct Html(pub(super) String);

impl Html {
    /// Adds markup of our own. Nothing from elsewhere may come here.
    pub(super) fn raw(&mut self, markup: &str) {
        self.0.push_str(markup);
    }

    /// Adds text from anywhere, as text. What could steer a terminal is written out; long text is cut.
    pub(super) fn text(&mut self, text: &str) {
        for character in clean(text).chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                other => self.0.push(other),
            }
        }
    }

    /// Adds an element with text from anywhere in it. Letters that run the other way do not turn what is beside them.
    pub(super) fn element(&mut self, tag: &'static str, class: &str, text: &str) {
        self.open(tag, class);
        self.raw("<bdi>");
        self.text(text);
        self.raw("</bdi>");
        self.raw(&format!("</{tag}>"));
    }

    /// Begins an element.
    pub(super) fn open(&mut self, tag: &'static str, class: &str) {
        self.raw("<");
        self.raw(tag);
        if !class.is_empty() {
            self.raw(" class=\"");
            self.text(class);
            self.raw("\"");
        }
        self.raw(">");
    }
}

/// An amount of time, in three digits and a unit.
pub(super) fn span(seconds: f64) -> String {
    let size = seconds.abs();
    match size {
        _ if !size.is_finite() => "unknown".to_owned(),
        0.0 => "0 s".to_owned(),
        s if s < 999.5e-9 => format!("{} ns", digits(s * 1e9)),
        s if s < 999.5e-6 => format!("{} µs", digits(s * 1e6)),
        s if s < 999.5e-3 => format!("{} ms", digits(s * 1e3)),
        s if s < 119.5 => format!("{} s", digits(s)),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

/// An amount of time with its sign.
pub(super) fn offset(seconds: f64) -> String {
    let sign = if seconds > 0.0 { "+" } else { "\u{2212}" };
    let size = span(seconds);
    if size.starts_with("0 ") || size.starts_with('u') { size } else { format!("{sign}{size}") }
}

/// An amount of time to the second, from a second on.
pub(super) fn coarse(seconds: f64) -> String {
    if (0.95..119.5).contains(&seconds) { format!("{seconds:.0} s") } else { span(seconds) }
}

/// Parts per million, to a thousandth.
pub(super) fn ppm(value: f64) -> String {
    format!("{value:.3} ppm")
}

/// Parts per million with their sign.
pub(super) fn signed_ppm(value: f64) -> String {
    // What rounds to nothing has no sign.
    let value = if value.abs() < 0.000_5 { 0.0 } else { value };
    format!("{value:+.3} ppm").replace('-', "\u{2212}")
}

/// Three digits that count.
fn digits(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}
