//! `ntpd check` and `ntpd explain`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use super::FAILED;
use crate::{
    config::{self, Loaded, Origin},
    source_files::SourceFiles,
};

/// Says on standard error what is wrong or doubtful.
fn load(origin: &Origin) -> Option<Loaded> {
    match config::load(origin) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("warning: {warning}");
            }
            for complaint in SourceFiles::of(&loaded.config, &loaded.keys).1 {
                eprintln!("warning: {complaint}");
            }
            Some(loaded)
        }
        Err(problems) => {
            eprintln!("{problems}");
            None
        }
    }
}

/// Checks a configuration.
pub(super) fn check(origin: &Origin) -> ExitCode {
    load(origin).map_or_else(|| ExitCode::from(FAILED), |_| print("the configuration is valid\n"))
}

/// Prints a configuration with all defaults.
pub(super) fn explain(origin: &Origin) -> ExitCode {
    load(origin).map_or_else(|| ExitCode::from(FAILED), |loaded| print(&loaded.config.explain()))
}

/// A reader that went away, as `head` does, is no failure.
pub(crate) fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    }
}
