//! Pictures of error against packets.

use std::fmt::Write as _;

use super::{COLOURS, HEIGHT, MARGIN, WIDTH};

/// A plot of error against packets as SVG, both axes logarithmic: the lower line is the better client.
#[derive(Debug)]
pub struct Frontier<'a> {
    title: &'a str,
    points: Vec<(bool, [(f64, f64); 2])>,
}

impl<'a> Frontier<'a> {
    /// Starts an empty plot.
    #[must_use]
    pub const fn new(title: &'a str) -> Self {
        Self { title, points: Vec::new() }
    }

    /// Adds our packets and error in seconds, and chronyd's, for a `fixed` poll interval or for the default ones.
    pub fn add(&mut self, fixed: bool, ours: (f64, f64), chronyd: (f64, f64)) {
        self.points.push((fixed, [ours, chronyd]));
    }

    /// The picture.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let all = || self.points.iter().flat_map(|(_, pair)| pair.iter().copied());
        let range = |value: fn((f64, f64)) -> f64| {
            let (low, high) = all().map(value).fold((f64::INFINITY, 0.0_f64), |(l, h), v| (l.min(v), h.max(v)));
            (low.ln() - 0.2, high.ln() + 0.2)
        };
        let (packets, errors) = (range(|p| p.0), range(|p| p.1));
        let place = |value: f64, (low, high): (f64, f64)| (value.ln() - low) / (high - low);
        let x = |value: f64| MARGIN + place(value, packets) * (WIDTH - 2.0 * MARGIN);
        let y = |value: f64| HEIGHT - MARGIN - place(value, errors) * (HEIGHT - 2.0 * MARGIN);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{MARGIN}\" y=\"30\" font-size=\"16\">{}: RMS error against packets; circles: default poll intervals</text>\n",
            self.title
        );
        for (client, (name, colour)) in [("ntpd", COLOURS[0]), ("chronyd", COLOURS[1])].into_iter().enumerate() {
            let mut line = String::new();
            for (fixed, pair) in &self.points {
                let (count, error) = pair[client];
                let (x, y) = (x(count), y(error));
                if *fixed {
                    let _ = write!(line, "{x:.1},{y:.1} ");
                    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{:.1}\">{} us</text>", y - 6.0, three(error * 1e6));
                } else {
                    let _ = writeln!(
                        svg,
                        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"6\" fill=\"none\" stroke=\"{colour}\"/>"
                    );
                }
                if client == 0 && *fixed {
                    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{:.1}\">{count:.0}</text>", HEIGHT - 20.0);
                }
            }
            let _ = writeln!(svg, "<polyline fill=\"none\" stroke=\"{colour}\" points=\"{line}\"/>");
            let down = if client == 0 { 50.0 } else { 66.0 };
            let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{down}\" fill=\"{colour}\">{name}</text>", WIDTH - 200.0);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// A number with three digits that count.
fn three(value: f64) -> String {
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$}")
}
