//! Files of measurements in the columns of chronyd's, so that what reads those reads these.
//!
//! `rows.rs` puts values into columns, `writer.rs` writes lines without making anybody wait.

use std::path::PathBuf;

mod rows;
mod writer;

pub(crate) use rows::{Estimated, Measured, Selected, Tracked, Who};
pub(crate) use writer::LogWriter;

/// Entries between two banners, as in chrony.
pub(crate) const BANNER: u32 = 32;

/// What can be written; the words are those of chrony's `log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogFile {
    /// Each reply that told a time.
    RawMeasurements,
    /// Each reply that gave a measurement.
    Measurements,
    /// What the measurements of a source come to.
    Statistics,
    /// Each correction of the clock.
    Tracking,
    /// What was made of each source, each time one was measured.
    Selection,
}

/// Which files are written, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFiles {
    /// Where.
    pub directory: PathBuf,
    /// Which, none twice.
    pub write: Vec<LogFile>,
    /// Entries between two banners; 0 is none.
    pub banner: u32,
}

impl LogFiles {
    /// Whether this is written.
    #[must_use]
    pub fn has(&self, file: LogFile) -> bool {
        self.write.contains(&file)
    }
}

/// A file as it is written: its name, and its banner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Measurements,
    Statistics,
    Tracking,
    Selection,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Measurements, Self::Statistics, Self::Tracking, Self::Selection];

    const fn file_name(self) -> &'static str {
        match self {
            Self::Measurements => "measurements.log",
            Self::Statistics => "statistics.log",
            Self::Tracking => "tracking.log",
            Self::Selection => "selection.log",
        }
    }

    /// What stands above the columns, at the places where programs look for it.
    const fn titles(self) -> &'static str {
        match self {
            Self::Measurements => rows::MEASUREMENTS,
            Self::Statistics => rows::STATISTICS,
            Self::Tracking => rows::TRACKING,
            Self::Selection => rows::SELECTION,
        }
    }
}
