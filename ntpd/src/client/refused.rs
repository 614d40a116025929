//! Servers that a name leads to and that were refused, because what vouches for them is missing or forged.

use std::collections::VecDeque;

use super::{Group, members::Configured};
use crate::observe::Unresolved;

/// Most servers of one name that are told.
const MAX_REFUSED: usize = 16;

/// Servers that were refused, with the reasons; the one that was refused last comes last.
#[derive(Debug, Default)]
pub(super) struct Refused(VecDeque<(String, String)>);

impl Refused {
    /// Takes note of a server; if there are too many, the oldest is forgotten. A reason begins with the server's name.
    pub(super) fn add(&mut self, server: &str, why: &str) {
        self.remove(server);
        if self.0.len() >= MAX_REFUSED {
            self.0.pop_front();
        }
        let why = why.strip_prefix(server).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(why);
        self.0.push_back((server.to_owned(), why.to_owned()));
    }

    /// Forgets a server: it is refused no more.
    pub(super) fn remove(&mut self, server: &str) {
        self.0.retain(|(known, _)| known != server);
    }
}

impl Group {
    /// Its name if that has no source, and the servers that were refused.
    pub(super) fn unresolved(&self) -> impl Iterator<Item = Unresolved> {
        let name = self.configured.name();
        let missing = self.is_empty().then(|| Unresolved {
            name: name.clone(),
            reason: match &self.problem {
                _ if self.offline => "offline".into(),
                Some(problem) => problem.clone(),
                None => "waiting for its first answer".into(),
            },
        });
        // What is wrong with a server that was named itself is told there, or at its source.
        let is_told = missing.is_some() || matches!(self.configured, Configured::Server(_));
        let refused = self.refused.0.iter().filter(move |(server, _)| !is_told || *server != name);
        let refused = refused.map(|(server, why)| Unresolved { name: server.clone(), reason: why.clone() });
        missing.into_iter().chain(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_told_once_and_the_oldest_is_forgotten() {
        let mut refused = Refused::default();
        for number in 0..20 {
            refused.add(&format!("s{number}"), "s0: x");
        }
        refused.add("s4", "s4: refused: y");
        refused.remove("s5");
        let servers: Vec<&str> = refused.0.iter().map(|(server, _)| server.as_str()).collect();
        let expected = (6..20).map(|number| format!("s{number}")).chain(["s4".to_owned()]).collect::<Vec<_>>();
        assert_eq!(servers, expected);
        assert_eq!(refused.0.back().unwrap().1, "refused: y");
    }
}
