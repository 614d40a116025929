//! Columns of text.

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    title: &'static str,
    /// Fewest characters.
    width: usize,
    right: bool,
}

impl Column {
    /// Cells begin under each other.
    pub(super) const fn left(title: &'static str, width: usize) -> Self {
        Self { title, width, right: false }
    }

    /// Cells end under each other.
    pub(super) const fn right(title: &'static str, width: usize) -> Self {
        Self { title, width, right: true }
    }
}

/// Rows under titles.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    columns: [Column; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table without rows.
    pub(super) const fn new(columns: &[Column; N]) -> Self {
        Self { columns: *columns, rows: Vec::new() }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// Whether there are no rows.
    pub(super) const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The titles, a line under them, and the rows. Columns are as wide as their widest cell.
    pub(super) fn render(&self) -> String {
        let titles: [String; N] = self.columns.map(|column| column.title.to_owned());
        let mut widths = self.columns.map(|column| column.width);
        for cells in self.rows.iter().chain([&titles]) {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let head = self.line(&widths, &titles);
        let rule = "=".repeat(head.chars().count().max(79));
        let mut text = format!("{head}\n{rule}\n");
        for cells in &self.rows {
            text.push_str(&self.line(&widths, cells));
            text.push('\n');
        }
        text
    }

    fn line(&self, widths: &[usize; N], cells: &[String; N]) -> String {
        let mut line = String::new();
        for ((column, width), cell) in self.columns.iter().zip(widths).zip(cells) {
            if !line.is_empty() {
                line.push(' ');
            }
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, after) = if column.right { (pad.as_str(), "") } else { ("", pad.as_str()) };
            line.extend([before, cell, after]);
        }
        line.truncate(line.trim_end().len());
        line
    }
}
