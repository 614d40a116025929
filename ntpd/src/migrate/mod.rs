//! `ntpd migrate`: from the configuration of another daemon to one of ours.
//!
//! A file goes through three steps: the reader of its format turns directives into a plan and its companions;
//! `settle` says what depends on all of them; the plan writes the new file. A directive that is not carried over is
//! said with its place and the reason, and an authenticated source never becomes a plain one.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{
    config::{MAX_POOLS, MAX_SERVERS},
    state::Drift,
};

mod access;
mod chrony;
mod drift;
mod format;
mod input;
mod keys;
mod ntp;
mod ntpd_rs;
mod plan;
mod refclock;
mod serving;
mod settle;
mod source;
mod timesyncd;
mod words;

pub use chrony::read_sources;
pub use format::Format;
use input::Input;
pub use input::{Fault, Place};
pub use keys::save as save_keys;
pub use plan::Dropped;
use plan::{Directive, Plan};
use source::Kind;

/// What is to be migrated.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The file, and drop-ins that add to it.
    pub files: Vec<PathBuf>,
    /// Its format, if it is not to be found out.
    pub from: Option<Format>,
    /// Where the paths that it names are looked for.
    pub root: Option<PathBuf>,
    /// Where the new file of keys will be, if there is to be one.
    pub keys_out: Option<PathBuf>,
    /// Whether the frequency of the clock is wanted too.
    pub with_drift: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Migrated {
    /// The new file.
    pub text: String,
    /// What is not carried over.
    pub dropped: Vec<Dropped>,
    /// What the new file of keys is to hold.
    pub keys: Option<Zeroizing<String>>,
    /// The frequency of the clock.
    pub drift: Option<Drift>,
}

/// Why nothing came of it, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// What the reader of a format found.
struct Parts {
    plan: Plan,
    serving: serving::Serving,
    roots: settle::Roots,
    keys: Option<settle::Keys>,
    drift: Option<(Directive, String)>,
    /// Names that are to be authenticated.
    protected: Vec<String>,
}

/// Reads files and makes a new one. Nothing is written.
///
/// # Errors
///
/// [`Faults`] if the files cannot be read, or are not what they should be.
pub fn migrate(request: &Request) -> Result<Migrated, Faults> {
    let mut input = Input::new(request.root.as_deref());
    let mut files = Vec::new();
    for path in &request.files {
        let name = path.display().to_string();
        let text = input.text_at(&name, path).map_err(|fault| Faults(vec![fault]))?;
        files.push((name, text));
    }
    let format = match (request.from, files.first()) {
        (Some(format), _) => format,
        (None, Some((name, text))) => format::recognise(name, text)
            .ok_or_else(|| Faults(vec![Fault::new(&Place::whole(name), "the format is not recognised: use --from")]))?,
        (None, None) => return Err(Faults(vec![Fault::new(&Place::whole("-"), "no file is named")])),
    };
    let parts = match format {
        Format::Chrony => chrony::read(&mut input, &files),
        Format::Ntp => ntp::read(&mut input, &files),
        Format::Timesyncd => timesyncd::read(&files),
        Format::NtpdRs => ntpd_rs::read(&files),
    };
    let names: Vec<_> = files.into_iter().map(|(name, _)| name).collect();
    parts.map(|parts| finish(parts, &mut input, request, &names.join(", "))).map_err(Faults)
}

fn finish(parts: Parts, input: &mut Input, request: &Request, origin: &str) -> Migrated {
    let Parts { mut plan, serving, roots, keys, drift, protected } = parts;
    plan.settle_sources(&protected);
    limit(&mut plan);
    refclock::settle(&mut plan);
    settle::roots(&mut plan, roots);
    let out: Option<&Path> = request.keys_out.as_deref();
    let keys = settle::keys(&mut plan, input, keys, out, serving.is_on());
    serving.finish(&mut plan);
    let drift = drift.filter(|_| request.with_drift).and_then(|(directive, file)| match drift::read(input, &file) {
        Ok(drift) => Some(drift),
        Err(why) => {
            plan.drop_part(&directive, &file, why);
            None
        }
    });
    Migrated { text: plan.write(origin), dropped: plan.into_dropped(), keys, drift }
}

/// Drops the sources that are too many.
fn limit(plan: &mut Plan) {
    for (kind, most) in [(Kind::Pool, MAX_POOLS), (Kind::Server, MAX_SERVERS)] {
        let beyond: Vec<_> =
            plan.sources().iter().filter(|source| source.kind == kind).skip(most).map(source::Source::id).collect();
        plan.drop_sources(|source| {
            beyond.contains(&source.id()).then(|| format!("at most {most} of these are possible"))
        });
    }
}
