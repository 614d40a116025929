//! Pictures of a run.

use std::{fmt::Write as _, fs, io, path::Path as FilePath};

use super::{Point, Trace};

mod frontier;

pub use frontier::Frontier;

/// A plot of clock error over time as SVG, the y axis symmetric and logarithmic so that nanoseconds and seconds share it.
#[derive(Debug)]
pub struct Plot<'a> {
    title: &'a str,
    traces: Vec<(&'a str, &'a Trace)>,
}

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 500.0;
const MARGIN: f64 = 60.0;
/// Errors below this are drawn on the axis, in seconds.
const LEAST: f64 = 1e-8;
/// Errors above this are drawn at the edge, in seconds.
const MOST: f64 = 100.0;
const COLOURS: [&str; 6] = ["#1b6ca8", "#c0392b", "#27803a", "#8e44ad", "#b9770e", "#34495e"];

impl<'a> Plot<'a> {
    /// Starts an empty plot.
    #[must_use]
    pub const fn new(title: &'a str) -> Self {
        Self { title, traces: Vec::new() }
    }

    /// Adds a line.
    #[must_use]
    pub fn with(mut self, label: &'a str, trace: &'a Trace) -> Self {
        self.traces.push((label, trace));
        self
    }

    /// Where an error lies between the edges, -1 to 1.
    fn scale(error: f64) -> f64 {
        let decades = (MOST / LEAST).log10();
        let magnitude = (error.abs().clamp(LEAST, MOST) / LEAST).log10() / decades;
        magnitude.copysign(error)
    }

    /// The picture.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let end = self.traces.iter().flat_map(|(_, t)| t.points.last()).map(|p| p.at).fold(1.0, f64::max);
        let x = |at: f64| MARGIN + at / end * (WIDTH - 2.0 * MARGIN);
        let y = |error: f64| HEIGHT / 2.0 - Self::scale(error) * (HEIGHT / 2.0 - MARGIN);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{MARGIN}\" y=\"30\" font-size=\"16\">{}</text>\n",
            self.title
        );
        let mut text = |x: f64, y: f64, content: &str| {
            let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\">{content}</text>");
        };
        text(WIDTH - MARGIN - 60.0, HEIGHT - 20.0, &format!("{end:.0} s"));
        for (error, label) in [(1e-6, "1 us"), (1e-3, "1 ms"), (1.0, "1 s")] {
            text(5.0, y(error), label);
            text(5.0, y(-error), &format!("-{label}"));
        }
        for error in [-1.0, -1e-3, -1e-6, 0.0, 1e-6, 1e-3, 1.0] {
            let at = y(error);
            let _ = writeln!(
                svg,
                "<line x1=\"{MARGIN}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>",
                WIDTH - MARGIN
            );
        }
        for ((label, trace), (index, colour)) in self.traces.iter().zip(COLOURS.iter().cycle().enumerate()) {
            let points: String = outline(trace, end).fold(String::new(), |mut line, p| {
                let _ = write!(line, "{:.1},{:.1} ", x(p.at), y(p.error));
                line
            });
            let _ = writeln!(svg, "<polyline fill=\"none\" stroke=\"{colour}\" points=\"{points}\"/>");
            #[expect(clippy::cast_precision_loss, reason = "a handful of lines")]
            let down = 50.0 + 16.0 * index as f64;
            let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{down:.1}\" fill=\"{colour}\">{label}</text>", WIDTH - 200.0);
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// Writes the picture to a file.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn save(&self, file: &FilePath) -> io::Result<()> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, self.to_svg())
    }
}

/// Of each column of the picture the least and the largest error, in order of time: more cannot be seen.
fn outline(trace: &Trace, end: f64) -> impl Iterator<Item = Point> {
    let column = end / (WIDTH - 2.0 * MARGIN);
    let columns = trace.points.chunk_by(move |a, b| (a.at / column).floor() >= (b.at / column).floor());
    columns.flat_map(|points| {
        let least = points.iter().min_by(|a, b| a.error.total_cmp(&b.error));
        let most = points.iter().max_by(|a, b| a.error.total_cmp(&b.error));
        let mut both = [least, most];
        both.sort_by(|a, b| a.map(|p| p.at).partial_cmp(&b.map(|p| p.at)).unwrap_or(core::cmp::Ordering::Equal));
        both.into_iter().flatten().copied()
    })
}
