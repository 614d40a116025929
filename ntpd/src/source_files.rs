//! Sources in files that come and go while the daemon runs: those of `source-directories`.
//!
//! `*.toml` may hold `pool` and `server`, and a file that makes no sense stays as it last was. `*.sources` are those of
//! chrony, line by line. What is wrong is said and stops nothing else: other programs write here.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use ntp_proto::wire::SymmetricKey;

use crate::{
    config::{self, Added, Config, Host, MAX_POOLS, MAX_SERVERS, NtsUse, SourceOptions},
    migrate,
};

/// Most complaints that are told of one look at all files.
const MAX_COMPLAINTS: usize = 64;

/// What the files said when they last made sense, in the order in which they count.
#[derive(Clone, Debug, Default)]
pub struct SourceFiles {
    files: Vec<(PathBuf, Vec<Added>)>,
}

impl SourceFiles {
    /// A configuration with what the directories that it names add to it now, and what is wrong there, a line each.
    #[must_use]
    pub fn of(config: &Config, keys: &[SymmetricKey]) -> (Config, Vec<String>) {
        let mut files = Self::default();
        let mut complaints = files.read(&config.source_directories);
        let (config, more) = files.add_to(config, keys);
        complaints.extend(more);
        (config, complaints)
    }

    /// Reads the directories again. Of files of the same name, that of the first directory counts. Returns what is wrong, a
    /// line each.
    pub fn read(&mut self, directories: &[PathBuf]) -> Vec<String> {
        let mut complaints = Vec::new();
        let before = std::mem::take(&mut self.files);
        let mut names = BTreeSet::new();
        for directory in directories {
            let paths = config::list(directory, &["toml", "sources"]).unwrap_or_else(|error: io::Error| {
                complaints.push(format!(
                    "{}: cannot read this directory: {error}; sources that came from it before stay",
                    directory.display()
                ));
                let known = before.iter().map(|(path, _)| path).filter(|path| path.parent() == Some(directory));
                known.cloned().collect()
            });
            for path in paths {
                if !path.file_name().is_some_and(|name| names.insert(name.to_owned())) {
                    continue;
                }
                let sources = read_file(&path, &mut complaints).unwrap_or_else(|| {
                    before
                        .iter()
                        .find(|(known, _)| *known == path)
                        .map(|(_, sources)| sources.clone())
                        .unwrap_or_default()
                });
                self.files.push((path, sources));
            }
        }
        let more = complaints.len().saturating_sub(MAX_COMPLAINTS);
        complaints.truncate(MAX_COMPLAINTS);
        complaints.extend((more > 0).then(|| format!("{more} more lines cannot be used")));
        complaints
    }

    /// The configuration with what the files add to it. It wins over them, and so do its limits; what is not added for
    /// another reason than that it is there comes back in words.
    #[must_use]
    pub fn add_to(&self, config: &Config, keys: &[SymmetricKey]) -> (Config, Vec<String>) {
        let mut config = config.clone();
        let mut complaints = Vec::new();
        for (path, sources) in &self.files {
            for source in sources {
                if let Err(why) = add(&mut config, source, keys) {
                    complaints.push(format!("{}: {}: {why}", path.display(), source.name()));
                }
            }
        }
        (config, complaints)
    }
}

/// What a file says; `None` if that is not to be known.
fn read_file(path: &Path, complaints: &mut Vec<String>) -> Option<Vec<Added>> {
    let text = match config::read_text(path) {
        Ok((text, _)) => text,
        Err(wrong) => {
            complaints.push(format!("{}: {wrong}", path.display()));
            return None;
        }
    };
    let text = if path.extension().is_some_and(|extension| extension == "sources") {
        let (sources, dropped) = migrate::read_sources(&path.display().to_string(), &text);
        complaints.extend(dropped.iter().map(ToString::to_string));
        sources
    } else {
        text
    };
    match config::parse_sources(path, &text) {
        Ok(mut sources) => {
            for source in &mut sources {
                complaints
                    .extend(without_a_vote(source).map(|why| format!("{}: {}: {why}", path.display(), source.name())));
            }
            Some(sources)
        }
        Err(problems) => {
            complaints.extend(problems.0.iter().map(ToString::to_string));
            None
        }
    }
}

/// Takes what would let a plain source decide more than its time is worth: these files are written by programs that were
/// told of servers by others.
fn without_a_vote(source: &mut Added) -> Option<&'static str> {
    let (options, nts, has_key): (&mut SourceOptions, &mut NtsUse, bool) = match source {
        Added::Server(server) => (&mut server.options, &mut server.nts, server.key.is_some()),
        Added::Pool(pool) => (&mut pool.options, &mut pool.nts, false),
    };
    if has_key || *nts == NtsUse::Require {
        return None;
    }
    // Whoever may name a server has a certificate for it, and would have a vote by that.
    *nts = NtsUse::Off;
    let select = &mut options.select;
    if !(select.trust || select.require || select.prefer) {
        return None;
    }
    (select.trust, select.require, select.prefer) = (false, false, false);
    Some(
        "`prefer`, `trust` and `require` of a source without authentication belong into conf.d; here they do not count",
    )
}

fn add(config: &mut Config, source: &Added, keys: &[SymmetricKey]) -> Result<(), String> {
    match source {
        Added::Server(server) => {
            // The same server at another port is another one only to the administrator.
            let same_pool = |host: &Host| config.pools.iter().any(|pool| Host::Name(pool.name.clone()) == *host);
            if config.servers.iter().any(|known| known.host == server.host) || same_pool(&server.host) {
                return Ok(());
            }
            if let Some(id) = server.key.filter(|id| keys.iter().all(|key| key.id() != *id)) {
                return Err(format!("no key {} in the file of keys", id.0));
            }
            if config.servers.len() >= MAX_SERVERS {
                return Err(format!("more than {MAX_SERVERS} servers"));
            }
            config.servers.push(server.clone());
        }
        Added::Pool(pool) => {
            let same_server = config.servers.iter().any(|known| known.host == Host::Name(pool.name.clone()));
            if config.pools.iter().any(|known| known.name == pool.name) || same_server {
                return Ok(());
            }
            if config.pools.len() >= MAX_POOLS {
                return Err(format!("more than {MAX_POOLS} pools"));
            }
            config.pools.push(pool.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
