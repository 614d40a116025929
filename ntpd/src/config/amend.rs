//! Sources that are added and taken out while the daemon runs, on top of what the files say.

use std::collections::BTreeSet;

use super::{Config, Host, MAX_POOLS, MAX_SERVERS, Pool, Server};

/// What is added and taken out. A reload keeps it, a restart does not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amendments {
    added: Vec<Added>,
    /// Names of servers and pools of the files, lower case.
    removed: BTreeSet<String>,
}

/// Something added.
#[derive(Clone, Debug, PartialEq)]
pub enum Added {
    /// A server.
    Server(Server),
    /// A pool.
    Pool(Pool),
}

/// Why it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddFault {
    /// It is there.
    Present,
    /// There are as many as there may be.
    TooMany,
    /// It names a symmetric key that there is not.
    UnknownKey,
}

impl Added {
    /// Its name, lower case.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Server(server) => server.host.to_string(),
            Self::Pool(pool) => pool.name.to_string(),
        }
        .to_ascii_lowercase()
    }
}

impl Amendments {
    /// What comes of the files with these.
    #[must_use]
    pub fn apply(&self, files: &Config) -> Config {
        let mut config = files.clone();
        let stays = |name: String| !self.removed.contains(&name.to_ascii_lowercase());
        config.servers.retain(|server| stays(server.host.to_string()));
        config.pools.retain(|pool| stays(pool.name.to_string()));
        for added in &self.added {
            match added {
                // The files may have come to name it since.
                Added::Server(server) if !has_server(&config, &server.host) => config.servers.push(server.clone()),
                Added::Pool(pool) if config.pools.iter().all(|known| known.name != pool.name) => {
                    config.pools.push(pool.clone());
                }
                Added::Server(_) | Added::Pool(_) => {}
            }
        }
        config
    }

    /// Forgets what was taken out and no file names any more: a server that DHCP brings again is another matter.
    pub fn handle_files(&mut self, files: &Config) {
        let named: BTreeSet<String> = names(files).collect();
        self.removed.retain(|name| named.contains(name));
    }

    /// Adds a source to what `files` say.
    ///
    /// # Errors
    ///
    /// [`AddFault`]; nothing has changed then.
    pub fn add(&mut self, files: &Config, source: Added) -> Result<(), AddFault> {
        let config = self.apply(files);
        let (is_present, is_full) = match &source {
            Added::Server(server) => (has_server(&config, &server.host), config.servers.len() >= MAX_SERVERS),
            Added::Pool(pool) => {
                (config.pools.iter().any(|known| known.name == pool.name), config.pools.len() >= MAX_POOLS)
            }
        };
        if is_present {
            return Err(AddFault::Present);
        }
        if is_full {
            return Err(AddFault::TooMany);
        }
        self.added.push(source);
        Ok(())
    }

    /// Takes out what has this name; whether there was anything.
    pub fn remove(&mut self, files: &Config, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let was_there = names(&self.apply(files)).any(|known| known == name);
        self.added.retain(|added| added.name() != name);
        if was_there && names(files).any(|known| known == name) {
            self.removed.insert(name);
        }
        was_there
    }
}

/// Names of what files say, lower case.
fn names(files: &Config) -> impl Iterator<Item = String> {
    let servers = files.servers.iter().map(|server| server.host.to_string());
    servers.chain(files.pools.iter().map(|pool| pool.name.to_string())).map(|name| name.to_ascii_lowercase())
}

fn has_server(config: &Config, host: &Host) -> bool {
    config.servers.iter().any(|server| server.host == *host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::load;

    fn server(address: &str) -> Added {
        let config = load(&format!("[[server]]\naddress = \"{address}\"")).unwrap();
        Added::Server(config.servers.into_iter().next().unwrap())
    }

    fn servers(config: &Config) -> Vec<String> {
        config.servers.iter().map(|server| server.host.to_string()).collect()
    }

    #[test]
    fn sources_come_and_go_and_files_change_below_them() {
        let files = load("[[server]]\naddress = \"a.example\"\n[[server]]\naddress = \"192.0.2.1\"").unwrap();
        let mut amendments = Amendments::default();
        assert_eq!(amendments.apply(&files), files);
        assert_eq!(amendments.add(&files, server("A.example")), Err(AddFault::Present));
        assert_eq!(amendments.add(&files, server("b.example")), Ok(()));
        assert_eq!(servers(&amendments.apply(&files)), ["a.example", "192.0.2.1", "b.example"]);
        assert!(amendments.remove(&files, "A.EXAMPLE") && !amendments.remove(&files, "a.example"));
        assert_eq!(servers(&amendments.apply(&files)), ["192.0.2.1", "b.example"]);
        assert_eq!(amendments.add(&files, server("a.example")), Ok(()), "it may come back");
        assert_eq!(servers(&amendments.apply(&files)), ["192.0.2.1", "b.example", "a.example"]);
        // The files come to name it.
        let later = load("[[server]]\naddress = \"b.example\"").unwrap();
        assert_eq!(servers(&amendments.apply(&later)), ["b.example", "a.example"]);
        assert!(amendments.remove(&later, "b.example"));
        assert_eq!(servers(&amendments.apply(&later)), ["a.example"]);
        assert!(!amendments.remove(&later, "c.example"));
    }

    #[test]
    fn a_server_that_was_taken_out_may_come_back_once_it_was_gone_from_the_files() {
        let with = load("[[server]]\naddress = \"a.example\"\n[[server]]\naddress = \"192.0.2.1\"").unwrap();
        let without = load("[[server]]\naddress = \"a.example\"").unwrap();
        let mut amendments = Amendments::default();
        assert!(amendments.remove(&with, "192.0.2.1"));
        amendments.handle_files(&with);
        assert_eq!(servers(&amendments.apply(&with)), ["a.example"], "it is there still, and stays out");
        amendments.handle_files(&without);
        assert_eq!(servers(&amendments.apply(&with)), ["a.example", "192.0.2.1"]);
        // What was never in a file is not remembered.
        assert_eq!(amendments.add(&without, server("b.example")), Ok(()));
        assert!(amendments.remove(&without, "b.example"));
        assert_eq!(amendments, Amendments::default());
    }

    #[test]
    fn there_are_no_more_than_files_may_name() {
        let files = load("pool = \"a.example\"").unwrap();
        let mut amendments = Amendments::default();
        for number in 0..MAX_SERVERS {
            assert_eq!(amendments.add(&files, server(&format!("192.0.2.{number}"))), Ok(()));
        }
        assert_eq!(amendments.add(&files, server("b.example")), Err(AddFault::TooMany));
    }
}
