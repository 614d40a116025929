//! What is wrong with a file, and where.

use core::fmt;
use std::path::{Path, PathBuf};

use crate::files::Fault;

/// Line and column of a file, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Place {
    /// Where an octet of a text stands.
    #[must_use]
    pub fn of(text: &str, octet: usize) -> Self {
        let before = text.get(..octet).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |end| end.saturating_add(1));
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        Self { line: before.matches('\n').count().saturating_add(1), column: column.saturating_add(1) }
    }
}

/// Why a file cannot be used. Its text names the file, the line, the key and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Where in it; `None` for the file as a whole.
    pub place: Option<Place>,
    /// What is wrong, and what would be right.
    pub what: String,
    /// Whether the system failed, and not the file: it may be well the next time.
    pub is_passing: bool,
}

impl Problem {
    /// A problem of a file as a whole.
    #[must_use]
    pub fn whole(file: &Path, what: impl fmt::Display) -> Self {
        Self { file: file.to_owned(), place: None, what: what.to_string(), is_passing: false }
    }

    /// A problem at an octet of the file's text.
    #[must_use]
    pub fn at(file: &Path, text: &str, octet: usize, what: impl fmt::Display) -> Self {
        Self { file: file.to_owned(), place: Some(Place::of(text, octet)), what: what.to_string(), is_passing: false }
    }

    /// A problem in a line of the file.
    #[must_use]
    pub fn in_line(file: &Path, line: usize, what: impl fmt::Display) -> Self {
        Self { place: Some(Place { line, column: 1 }), ..Self::whole(file, what) }
    }

    /// The file cannot be used.
    #[must_use]
    pub fn unreadable(file: &Path, fault: &Fault) -> Self {
        Self { is_passing: fault.is_passing(), ..Self::whole(file, fault) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(Place { line, column }) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl core::error::Error for Problem {}
