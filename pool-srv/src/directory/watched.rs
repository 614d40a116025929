//! A directory that is read again when its files change.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Directory, Mark, Member, Problem, load, load_list};
use crate::files::{Look, look};

/// Which addresses of a list are taken.
pub type Takes = fn(IpAddr) -> bool;

/// A directory file that is read again when it changes. The last good state stays in force.
///
/// With a list beside it, who belongs to the pool is what the list says, and the file says what the list does not.
#[derive(Debug)]
pub struct Watched {
    path: PathBuf,
    list: Option<(PathBuf, Takes)>,
    looks: [Look; 2],
    current: Arc<Directory>,
    mark: Option<Mark>,
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
    pub fn open_listed(path: &Path, list: (&Path, Takes)) -> Result<Self, Problem> {
        Self::read(path, Some(list))
    }

    fn read(path: &Path, list: Option<(&Path, Takes)>) -> Result<Self, Problem> {
        let looks = [look(path), list.and_then(|(list, _)| look(list))];
        let (current, mark) = both(path, list)?;
        let list = list.map(|(list, takes)| (list.to_owned(), takes));
        Ok(Self { path: path.to_owned(), list, looks, current, mark })
    }

    /// The last good state.
    #[must_use]
    pub fn current(&self) -> &Arc<Directory> {
        &self.current
    }

    /// The list that is in force, if there is one.
    #[must_use]
    pub fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    /// Reads the files again if they look changed. Each change is tried until it could be read: one with a mistake is told
    /// once, what the system had no file for at the time is not lost.
    ///
    /// # Errors
    ///
    /// [`Problem`]; the last good state stays in force then.
    pub fn refresh(&mut self) -> Result<Option<&Arc<Directory>>, Problem> {
        let looks = [look(&self.path), self.list.as_ref().and_then(|(list, _)| look(list))];
        if looks == self.looks {
            return Ok(None);
        }
        let outcome = self.reload().map(drop);
        if outcome.as_ref().err().is_none_or(|problem| !problem.is_passing) {
            self.looks = looks;
        }
        outcome.map(|()| Some(&self.current))
    }

    /// Reads the files again. Token files are read too, which [`refresh`](Self::refresh) does not watch.
    ///
    /// # Errors
    ///
    /// [`Problem`]; the last good state stays in force then.
    pub fn reload(&mut self) -> Result<&Arc<Directory>, Problem> {
        let list = self.list.as_ref().map(|(list, takes)| (list.as_path(), *takes));
        let (new, mark) = both(&self.path, list)?;
        let has_tokens = |directory: &Directory| directory.members().iter().any(|member| member.token.is_some());
        if let Some((list, _)) = list.filter(|_| has_tokens(&self.current) && !has_tokens(&new)) {
            let what =
                format!("no member of it has a token in {}, and some of the one before had", self.path.display());
            return Err(Problem::whole(list, what));
        }
        (self.current, self.mark) = (new, mark);
        Ok(&self.current)
    }
}

fn both(path: &Path, list: Option<(&Path, Takes)>) -> Result<(Arc<Directory>, Option<Mark>), Problem> {
    let said = load(path)?;
    let Some((list, takes)) = list else { return Ok((said, None)) };
    let (listed, mark) = load_list(list)?;
    Ok((Arc::new(joined(&said, listed.members(), takes)), Some(mark)))
}

/// The members of a list, with what a file says of them: tokens, and what a zone has no records for. What certificates are
/// pinned to is the file's to say, addresses are the list's; whoever drains in either does.
fn joined(said: &Directory, list: &[Member], takes: Takes) -> Directory {
    let by_name: BTreeMap<_, _> = said.members().iter().map(|member| (&member.name, member)).collect();
    let member = |listed: &Member| {
        let mut listed = listed.clone();
        listed.addresses.retain(|address| takes(*address));
        let Some(said) = by_name.get(&listed.name) else { return listed };
        Member {
            port: listed.port,
            priority: listed.priority,
            weight: listed.weight,
            addresses: if listed.addresses.is_empty() { said.addresses.clone() } else { listed.addresses },
            tlsa: if said.tlsa.is_empty() { listed.tlsa } else { said.tlsa.clone() },
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
        let takes: Takes = |address| address != IpAddr::from([10, 0, 0, 1]);
        let region = "[[region]]\nname = \"north\"\nprefixes = [\"192.0.2.0/24\"]\n";
        let said = |name: &str, more: &str| format!("[[member]]\nname = \"{name}\"\ntoken = \"{token}\"\n{more}");
        let a = "capacity = 5\nregions = [\"north\"]\noperator = \"A\"\nweight = 7\nport = 1\naddresses = [\"192.0.2.9\"]\n\
                 tlsa = [\"3 1 1 cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd\"]\n";
        private(
            &file,
            &(region.to_owned()
                + &said("a.example", a)
                + &said("gone.example", "")
                + &said("b.example", "drain = true")),
        );
        let write = |text: &str| {
            let mark = crate::directory::parse(&list, text).map(|directory| directory.mark());
            let end = mark.map_or_else(|_| "\n".to_owned(), |mark| format!("\n# end: {mark}\n"));
            fs::write(&list, text.to_owned() + &end).unwrap();
        };
        write(
            "[[member]]\nname = \"A.example\"\nport = 4446\nweight = 30\naddresses = [\"192.0.2.1\"]\n\
             tlsa = [\"3 1 1 abababababababababababababababababababababababababababababababab\"]\n\
             [[member]]\nname = \"b.example\"\naddresses = [\"10.0.0.1\"]\n\
             tlsa = [\"3 1 1 abababababababababababababababababababababababababababababababab\"]\n\
             [[member]]\nname = \"new.example\"\naddresses = [\"10.0.0.1\", \"192.0.2.3\"]\n",
        );
        let mut watched = Watched::open_listed(&file, (&list, takes)).unwrap();
        let first = watched.mark().cloned();
        let [a, b, new] = watched.current().members() else { panic!("{watched:?}") };
        assert_eq!((a.name.as_str(), a.port, a.weight, a.capacity), ("a.example", 4446, 30, Some(5)));
        assert_eq!((a.operator.as_str(), a.regions.len()), ("A", 1));
        assert_eq!(a.addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        // What the file pins certificates to holds; addresses that are not to be had from a list are not.
        assert_eq!((a.tlsa[0].to_string(), b.tlsa.len()), (format!("3 1 1 {}", "cd".repeat(32)), 1));
        assert!(b.addresses.is_empty() && new.addresses == ["192.0.2.3".parse::<IpAddr>().unwrap()]);
        assert!(a.token.is_some() && b.token.is_some() && b.drain && !a.drain);
        assert_eq!((new.token.as_ref(), new.weight, new.operator.as_str()), (None, 10, "new.example"));
        assert!(watched.current().is_regional());
        assert!(watched.refresh().unwrap().is_none());
        // Both are watched, and a mistake in either changes nothing.
        write("[[member]]\nname = \"gone.example\"\n");
        assert_eq!(watched.refresh().unwrap().unwrap().members()[0].name.as_str(), "gone.example");
        let second = watched.mark().cloned();
        assert!(first.is_some() && second.is_some() && first != second);
        write("");
        assert!(
            watched.refresh().unwrap_err().to_string().contains("list: no list of members: it does not end as one")
        );
        assert_eq!((watched.current().members().len(), watched.mark()), (1, second.as_ref()));
        fs::write(
            &list,
            "[[member]]\nname = \"b.example\"\ntoken-file = \"/etc/shadow\"\n# end: generation=1 members=1\n",
        )
        .unwrap();
        assert!(watched.refresh().unwrap_err().to_string().contains("names no files"));
        // Nobody of a list without tokens could serve.
        write("[[member]]\nname = \"stranger.example\"\n");
        let told = watched.refresh().unwrap_err().to_string();
        assert!(
            told.contains("list: no member of it has a token in ") && told.ends_with("the one before had"),
            "{told}"
        );
        assert_eq!(watched.mark(), second.as_ref());
        write("[[member]]\nname = \"b.example\"\n");
        private(&file, &said("b.example", "capacity = 0\n"));
        let told = watched.refresh().unwrap_err().to_string();
        assert!(told.contains("members.toml:4:12: capacity must not be 0"), "{told}");
        private(&file, &said("b.example", "capacity = 9\n"));
        assert_eq!(watched.refresh().unwrap().unwrap().members()[0].capacity, Some(9));
    }
}
