//! One picture: reports, a window's size, and the lines that fit.

use super::{
    Look,
    trail::{LONGEST, Trail, Trails, bars},
};
use crate::observe::{
    report::{Asked, SourceRow, SourceStatsRow},
    table,
};

/// Lines are no wider than this, so that those that are read by programs have an end.
pub(super) const WIDEST: usize = 200;
/// Fewest characters of a line of bars.
const LEAST_TREND: usize = 8;
/// Fewest characters of a reason.
const LEAST_REASON: usize = 20;

/// Characters of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: usize,
    pub(super) height: usize,
}

/// How a line looks, where there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    /// Titles of columns.
    Title,
    /// What is used.
    Good,
    /// What is wrong.
    Bad,
    /// What is not used.
    Dim,
}

/// One line, no wider than the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) style: Style,
    pub(super) text: String,
}

/// What is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picture<'p> {
    pub(super) look: &'p Look,
    pub(super) trails: &'p Trails,
    /// Addresses instead of names.
    pub(super) numeric: bool,
    /// Why the last look gave nothing; then the one before is shown.
    pub(super) error: Option<&'p str>,
}

/// A column with a title; numbers stand at its right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    State,
    Source,
    Offset,
    Jitter,
    Reach,
    Age,
    Trust,
    Offsets,
    Jitters,
    Reason,
}

impl Column {
    const fn title(self) -> &'static str {
        match self {
            Self::State => "S",
            Self::Source => "Source",
            Self::Offset => "Offset",
            Self::Jitter => "Jitter",
            Self::Reach => "Reach",
            Self::Age => "Age",
            Self::Trust => "Trust",
            Self::Offsets => "Offsets",
            Self::Jitters => "Jitters",
            Self::Reason => "Reason",
        }
    }

    const fn is_number(self) -> bool {
        matches!(self, Self::Offset | Self::Jitter | Self::Reach | Self::Age)
    }
}

impl Picture<'_> {
    /// Lines that fit into a window of this size; the last of them says how many sources did not.
    pub(super) fn lines(&self, size: Size) -> Vec<Line> {
        let width = size.width.min(WIDEST);
        let mut lines = self.head();
        let columns = self.columns(width);
        let title = columns.iter().map(|(column, width)| pad(column.title(), *width, column.is_number()));
        lines.push(Line { style: Style::Title, text: join(title) });
        let rows = &self.look.sources.sources;
        let room = size.height.saturating_sub(lines.len());
        let shown = if rows.len() <= room { rows.len() } else { room.saturating_sub(1) };
        for row in rows.iter().take(shown) {
            let cells =
                columns.iter().map(|(column, width)| pad(&self.cell(row, *column, *width), *width, column.is_number()));
            lines.push(Line { style: style(row), text: join(cells) });
        }
        if shown < rows.len() {
            let text = format!("… {} more; the window is too small", rows.len() - shown);
            lines.push(Line { style: Style::Dim, text });
        }
        lines.truncate(size.height);
        for line in &mut lines {
            line.text = cut(&line.text, width);
        }
        lines
    }

    /// The clock.
    fn head(&self) -> Vec<Line> {
        let tracking = &self.look.tracking;
        let follows = tracking.reference.as_ref().map_or_else(|| "nothing".to_owned(), |source| self.name(source));
        let (style, state) =
            if tracking.synchronized { (Style::Good, "synchronized") } else { (Style::Bad, "not synchronized") };
        let direction = if tracking.pending_seconds >= 0.0 { "slow" } else { "fast" };
        let distance = tracking.root_delay_seconds / 2.0 + tracking.root_dispersion_seconds;
        let mut lines = vec![
            Line { style, text: format!("{state}, stratum {}, follows {follows}", tracking.stratum) },
            Line {
                style: Style::Plain,
                text: format!(
                    "clock {} {direction}, corrections {} usually, error bound {}",
                    table::span(tracking.pending_seconds),
                    table::span(tracking.rms_offset_seconds),
                    table::span(distance)
                ),
            },
            Line {
                style: Style::Plain,
                text: format!("frequency {:+.3} ppm, skew {:.3} ppm", tracking.frequency_ppm, tracking.skew_ppm),
            },
        ];
        let bad = |text: String| Line { style: Style::Bad, text };
        lines.extend(tracking.reason.as_deref().map(|reason| bad(table::printable(reason).replace('\n', " "))));
        lines.extend(
            self.error.map(|error| bad(format!("no answer now: {}", table::printable(error).replace('\n', " ")))),
        );
        lines.push(Line { style: Style::Plain, text: String::new() });
        lines
    }

    fn name(&self, source: &crate::observe::report::SourceName) -> String {
        table::show_name(source, self.numeric)
    }

    /// The columns that fit, with their widths: those that matter more come first, and what is left over is shared by bars and
    /// reasons.
    fn columns(&self, width: usize) -> Vec<(Column, usize)> {
        let longest = self.look.sources.sources.iter().map(|row| self.name(&row.judged.source).chars().count());
        let source = longest.max().unwrap_or(0).clamp(6, 32);
        let mut columns = vec![(Column::State, 1), (Column::Source, source), (Column::Offset, 7)];
        let used = |columns: &[(Column, usize)]| columns.iter().map(|(_, width)| width + 1).sum::<usize>();
        for (column, wanted) in [
            (Column::Reach, 5),
            (Column::Jitter, 7),
            (Column::Offsets, LEAST_TREND),
            (Column::Age, 4),
            (Column::Trust, 6),
            (Column::Jitters, LEAST_TREND),
            (Column::Reason, LEAST_REASON),
        ] {
            if used(&columns) + wanted > width {
                break;
            }
            columns.push((column, wanted));
        }
        let left = (width + 1).saturating_sub(used(&columns));
        let has = |wanted: Column| columns.iter().any(|(column, _)| *column == wanted);
        let takers: &[(Column, usize)] = match (has(Column::Reason), has(Column::Jitters)) {
            (true, _) => &[(Column::Reason, 2), (Column::Offsets, 1), (Column::Jitters, 1)],
            (false, true) => &[(Column::Offsets, 1), (Column::Jitters, 1)],
            (false, false) => &[(Column::Offsets, 1)],
        };
        let parts: usize = takers.iter().map(|(_, part)| part).sum();
        for (column, width) in &mut columns {
            let more = takers.iter().find(|(taker, _)| taker == column).map_or(0, |(_, part)| left * part / parts);
            *width += if *column == Column::Reason { more } else { more.min(LONGEST - LEAST_TREND) };
        }
        columns.sort_by_key(|(column, _)| *column as u8);
        columns
    }

    fn cell(&self, row: &SourceRow, column: Column, width: usize) -> String {
        let source = &row.judged.source;
        let trail = self.trails.of(source);
        match column {
            Column::State => row.judged.state.to_string(),
            Column::Source => self.name(source),
            Column::Offset => row.offset_seconds.map_or_else(|| "-".to_owned(), table::offset),
            Column::Jitter => self.jitter(row).map_or_else(|| "-".to_owned(), table::span),
            Column::Reach if row.asked == Asked::Unresolved => "-".to_owned(),
            Column::Reach => format!("{:o}", row.reach),
            Column::Age => table::age(row.last_reply_age_seconds),
            Column::Trust => table::printable(&row.judged.trust),
            Column::Offsets => trail.map_or_else(String::new, |trail| trend(trail, width)),
            Column::Jitters => trail.map_or_else(String::new, |trail| {
                bars(&trail.jitters, 0.0, trail.jitters.iter().copied().fold(0.0, f64::max), width)
            }),
            Column::Reason => table::printable(&row.judged.reason).replace('\n', " "),
        }
    }

    fn jitter(&self, row: &SourceRow) -> Option<f64> {
        let is_its = |each: &&SourceStatsRow| each.source == row.judged.source;
        self.look.sourcestats.sources.iter().find(is_its).and_then(|each| each.deviation_seconds)
    }
}

/// Bars of offsets as tables have them, higher where the clock is more ahead of the source.
fn trend(trail: &Trail, width: usize) -> String {
    let ahead = trail.offsets.iter().map(|offset| -offset).collect();
    let low = trail.offsets.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let high = trail.offsets.iter().copied().fold(f64::INFINITY, f64::min);
    bars(&ahead, -low, -high, width)
}

const fn style(row: &SourceRow) -> Style {
    match row.judged.state {
        '*' | '+' => Style::Good,
        'x' | '~' => Style::Bad,
        _ => Style::Dim,
    }
}

fn pad(text: &str, width: usize, right: bool) -> String {
    let text = cut(text, width);
    if right { format!("{text:>width$}") } else { format!("{text:<width$}") }
}

fn join(cells: impl Iterator<Item = String>) -> String {
    let line = cells.collect::<Vec<_>>().join(" ");
    line.trim_end().to_owned()
}

/// The beginning of what is too long.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut shown: String = text.chars().take(width.saturating_sub(1)).collect();
    shown.extend((width > 0).then_some('…'));
    shown
}
