//! `ntpd migrate`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{FAILED, print};
use crate::{
    migrate::{self, Format, Migrated, Request},
    state::{Drift, StateDirectory},
};

/// Exit code if something is not carried over.
const PARTLY: u8 = 2;

/// Arguments of `ntpd migrate`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct MigrateArgs {
    /// chrony.conf, ntp.conf, timesyncd.conf or ntp.toml, and drop-ins that add to it
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Whose configuration it is, instead of finding out
    #[arg(long, value_enum, value_name = "DAEMON")]
    pub from: Option<Format>,
    /// Write the symmetric keys to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub keys_out: Option<PathBuf>,
    /// Write the frequency of chronyd's drift file to this state directory
    #[arg(long, value_name = "DIRECTORY")]
    pub state: Option<PathBuf>,
    /// Look for the paths in the file below this directory
    #[arg(long, value_name = "DIRECTORY")]
    pub root: Option<PathBuf>,
}

/// Prints the new file on standard output, and what is not in it on standard error.
pub(super) fn run(args: &MigrateArgs) -> ExitCode {
    let request = Request {
        files: args.files.clone(),
        from: args.from,
        root: args.root.clone(),
        keys_out: args.keys_out.clone(),
        with_drift: args.state.is_some(),
    };
    let migrated = match migrate::migrate(&request) {
        Ok(migrated) => migrated,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(FAILED);
        }
    };
    let is_saved = match save(args, &migrated) {
        Ok(is_saved) => is_saved,
        Err(wrong) => {
            eprintln!("ntpd: {wrong}");
            return ExitCode::from(FAILED);
        }
    };
    for dropped in &migrated.dropped {
        eprintln!("{dropped}");
    }
    let printed = print(&migrated.text);
    if (migrated.dropped.is_empty() && is_saved) || printed != ExitCode::SUCCESS {
        printed
    } else {
        ExitCode::from(PARTLY)
    }
}

/// Writes what does not belong into the configuration; whether all of it was.
fn save(args: &MigrateArgs, migrated: &Migrated) -> Result<bool, String> {
    if let (Some(path), Some(keys)) = (&args.keys_out, &migrated.keys) {
        migrate::save_keys(path, keys).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if let (Some(path), None) = (&args.state, &migrated.drift) {
        eprintln!("{}: no frequency is taken over, as no drift file of chronyd could be read", path.display());
        return Ok(false);
    }
    if let (Some(path), Some(drift)) = (&args.state, &migrated.drift) {
        let directory = StateDirectory::open(path).map_err(|error| error.to_string())?;
        // What the daemon measured itself is newer.
        if directory.load::<Drift>().value.is_some() {
            eprintln!("{}: a frequency is there already, which stays", path.display());
            return Ok(false);
        }
        directory.save(drift).map_err(|error| error.to_string())?;
    }
    Ok(true)
}
