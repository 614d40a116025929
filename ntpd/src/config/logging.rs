//! `[log]`.

use super::{
    LogFormat, LogLevel, LogSettings,
    check::{path, path_text},
    problem::Wrong,
    section::Section,
    values,
};
use crate::log_files::{BANNER, LogFile, LogFiles};

/// Where files of measurements are written.
const DIRECTORY: &str = "/var/log/ntpd";
/// Most entries between two banners.
const MAX_BANNER: u32 = 1_000_000;

/// Words for [`LogLevel`].
pub(super) const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// Words for [`LogFormat`].
pub(super) const FORMATS: &[(&str, LogFormat)] = &[
    ("auto", LogFormat::Auto),
    ("text", LogFormat::Text),
    ("json", LogFormat::Json),
    ("journald", LogFormat::Journald),
];

/// Words for [`LogFile`], those of chrony's `log`.
pub(super) const WRITTEN: &[(&str, LogFile)] = &[
    ("rawmeasurements", LogFile::RawMeasurements),
    ("measurements", LogFile::Measurements),
    ("statistics", LogFile::Statistics),
    ("tracking", LogFile::Tracking),
    ("selection", LogFile::Selection),
];

/// What is logged, and what measurements are written to files.
pub(super) fn log(section: Option<Section<'_>>) -> (LogSettings, Option<LogFiles>) {
    let mut settings = LogSettings { level: LogLevel::Info, format: LogFormat::Auto };
    let Some(mut section) = section else { return (settings, None) };
    settings.level = section.field("level", values::word(LEVELS)).map_or(settings.level, |found| found.value);
    settings.format = section.field("format", values::word(FORMATS)).map_or(settings.format, |found| found.value);
    let files = section.section("files").map(log_files);
    section.finish();
    (settings, files)
}

fn log_files(mut section: Section<'_>) -> LogFiles {
    let directory = path(section.field("directory", path_text)).map_or_else(|| DIRECTORY.into(), |path| path.value);
    let given = section.list("write", WRITTEN.len(), values::word(WRITTEN)).unwrap_or_default();
    let mut write: Vec<LogFile> = given.into_iter().map(|found| found.value).collect();
    write.sort_unstable();
    write.dedup();
    if write.is_empty() {
        let words: Vec<_> = WRITTEN.iter().map(|(word, _)| *word).collect();
        let wrong = Wrong::new("no file is named, so none is written").accepted(words.join(", "));
        section.warning(&section.place().clone(), "write", wrong);
    }
    let banner = section.field("banner", values::integer(0..=MAX_BANNER)).map_or(BANNER, |found| found.value);
    section.finish();
    LogFiles { directory, write, banner }
}

/// The words for these.
pub(super) fn written(files: &LogFiles) -> Vec<&'static str> {
    files.write.iter().map(|file| values::word_for(WRITTEN, file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::load;

    fn files(text: &str) -> Result<Option<LogFiles>, String> {
        load(&format!("pool = \"a.example\"\n{text}\n")).map(|config| config.log_files)
    }

    #[test]
    fn words_are_those_of_chrony() {
        assert_eq!(files(""), Ok(None));
        let given = files("[log.files]\nwrite = [\"tracking\", \"Measurements\", \"tracking\"]").unwrap().unwrap();
        assert_eq!(given.write, [LogFile::Measurements, LogFile::Tracking]);
        assert_eq!((given.directory.as_path(), given.banner), (std::path::Path::new(DIRECTORY), 32));
        let one = files("[log.files]\ndirectory = \"/var/log/x\"\nwrite = \"selection\"\nbanner = 0").unwrap().unwrap();
        assert_eq!((one.directory.as_path(), one.banner), (std::path::Path::new("/var/log/x"), 0));
        assert_eq!(
            files("[log.files]\nwrite = [\"rtc\"]").unwrap_err(),
            "ntpd.toml:3:10: log.files.write: unknown value `rtc`; accepted: rawmeasurements, measurements, statistics, tracking, selection"
        );
    }
}
