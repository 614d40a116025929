//! A directory that is read again when its files change.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Directory, Member, Problem, load, load_foreign};
use crate::files::{Look, look};

/// A directory file that is read again when it changes. The last good state stays in force.
///
/// With a list beside it, who belongs to the pool is what the list says, and the file says what the list does not.
#[derive(Debug)]
pub struct Watched {
    path: PathBuf,
    list: Option<PathBuf>,
    looks: [Look; 2],
    current: Arc<Directory>,
}

impl Watched {
    /// Reads the file for the first time.
    ///
    /// # Errors
    ///
    /// [`Problem`] with the line of the first mistake.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        Self::read(path, None)
    }

    /// Reads the file and the list beside it, which another machine made, for the first time.
    ///
    /// # Errors
    ///
    /// [`Problem`] with the line of the first mistake.
    pub fn open_listed(path: &Path, list: &Path) -> Result<Self, Problem> {
        Self::read(path, Some(list))
    }

    fn read(path: &Path, list: Option<&Path>) -> Result<Self, Problem> {
        let looks = looks(path, list);
        Ok(Self { path: path.to_owned(), list: list.map(Path::to_owned), looks, current: both(path, list)? })
    }

    /// The last good state.
    #[must_use]
    pub fn current(&self) -> &Arc<Directory> {
        &self.current
    }

    /// Reads the files again if they look changed. Each change is tried until it could be read: one with a mistake is told
    /// once, what the system had no file for at the time is not lost.
    ///
    /// # Errors
    ///
    /// [`Problem`]; the last good state stays in force then.
    pub fn refresh(&mut self) -> Result<Option<&Arc<Directory>>, Problem> {
        let looks = looks(&self.path, self.list.as_deref());
        if looks == self.looks {
            return Ok(None);
        }
        let outcome = both(&self.path, self.list.as_deref());
        if outcome.as_ref().err().is_none_or(|problem| !problem.is_passing) {
            self.looks = looks;
        }
        self.current = outcome?;
        Ok(Some(&self.current))
    }

    /// Reads the files again. Token files are read too, which [`refresh`](Self::refresh) does not watch.
    ///
    /// # Errors
    ///
    /// [`Problem`]; the last good state stays in force then.
    pub fn reload(&mut self) -> Result<&Arc<Directory>, Problem> {
        self.current = both(&self.path, self.list.as_deref())?;
        Ok(&self.current)
    }
}

fn looks(path: &Path, list: Option<&Path>) -> [Look; 2] {
    [look(path), list.and_then(look)]
}

fn both(path: &Path, list: Option<&Path>) -> Result<Arc<Directory>, Problem> {
    let said = load(path)?;
    list.map_or_else(|| Ok(Arc::clone(&said)), |list| Ok(Arc::new(joined(&said, load_foreign(list)?.members()))))
}

/// The members of a list, with what a file says of them: tokens, and what a zone has no records for. Where both say
/// something, the list goes before, but whoever drains in either does.
fn joined(said: &Directory, list: &[Member]) -> Directory {
    let by_name: BTreeMap<_, _> = said.members().iter().map(|member| (&member.name, member)).collect();
    let member = |listed: &Member| {
        let Some(said) = by_name.get(&listed.name) else { return listed.clone() };
        let or_said = |listed: &Vec<_>, said: &Vec<_>| if listed.is_empty() { said.clone() } else { listed.clone() };
        Member {
            port: listed.port,
            priority: listed.priority,
            weight: listed.weight,
            addresses: or_said(&listed.addresses, &said.addresses),
            tlsa: if listed.tlsa.is_empty() { said.tlsa.clone() } else { listed.tlsa.clone() },
            drain: listed.drain || said.drain,
            ..Member::clone(said)
        }
    };
    Directory { members: list.iter().map(member).collect(), ..said.clone() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::publish::private;

    #[test]
    fn a_list_says_who_belongs_and_the_file_what_it_knows_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let (file, list) = (folder.path().join("members.toml"), folder.path().join("list"));
        let token = "0123456789abcdef012345";
        let region = "[[region]]\nname = \"north\"\nprefixes = [\"192.0.2.0/24\"]\n";
        let said = |name: &str, more: &str| format!("[[member]]\nname = \"{name}\"\ntoken = \"{token}\"\n{more}");
        let a = "capacity = 5\nregions = [\"north\"]\noperator = \"A\"\nweight = 7\nport = 1\naddresses = [\"192.0.2.9\"]\n";
        private(
            &file,
            &(region.to_owned()
                + &said("a.example", a)
                + &said("gone.example", "")
                + &said("b.example", "drain = true")),
        );
        fs::write(
            &list,
            "[[member]]\nname = \"A.example\"\nport = 4446\nweight = 30\naddresses = [\"192.0.2.1\"]\n\
             [[member]]\nname = \"b.example\"\n[[member]]\nname = \"new.example\"\n",
        )
        .unwrap();
        let mut watched = Watched::open_listed(&file, &list).unwrap();
        let [a, b, new] = watched.current().members() else { panic!("{watched:?}") };
        assert_eq!((a.name.as_str(), a.port, a.weight, a.capacity), ("a.example", 4446, 30, Some(5)));
        assert_eq!((a.operator.as_str(), a.regions.len()), ("A", 1));
        assert_eq!(a.addresses, ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
        assert!(a.token.is_some() && b.token.is_some() && b.drain && !a.drain);
        assert_eq!((new.token.as_ref(), new.weight, new.operator.as_str()), (None, 10, "new.example"));
        assert!(watched.current().is_regional());
        assert!(watched.refresh().unwrap().is_none());
        // Both are watched, and a mistake in either changes nothing.
        fs::write(&list, "[[member]]\nname = \"gone.example\"\n").unwrap();
        assert_eq!(watched.refresh().unwrap().unwrap().members()[0].name.as_str(), "gone.example");
        fs::write(&list, "").unwrap();
        assert!(watched.refresh().unwrap_err().to_string().contains("list: no members"));
        assert_eq!(watched.current().members().len(), 1);
        fs::write(&list, "[[member]]\nname = \"b.example\"\ntoken-file = \"/etc/shadow\"\n").unwrap();
        assert!(watched.refresh().unwrap_err().to_string().contains("names no files"));
        fs::write(&list, "[[member]]\nname = \"b.example\"\n").unwrap();
        private(&file, &said("b.example", "capacity = 0\n"));
        let told = watched.refresh().unwrap_err().to_string();
        assert!(told.contains("members.toml:4:12: capacity must not be 0"), "{told}");
        private(&file, &said("b.example", "capacity = 9\n"));
        assert_eq!(watched.refresh().unwrap().unwrap().members()[0].capacity, Some(9));
    }
}
