//! The servers a client does not want from its balancer.

use core::time::Duration;

use ntp_proto::{
    pool::{Leave, Shunned},
    time::Monotonic,
};

/// Most names in one request; what is left out costs an exchange at worst.
pub(crate) const MAX_DENIED: usize = 16;

/// How long a server is not wanted that did not answer, or not with the time.
const SHUN: Duration = Duration::from_secs(2 * 3600);

/// How long a server is not wanted that told us to go away.
const SHUN_DENIED: Duration = Duration::from_secs(86_400);

/// Servers that were members and were no good, each until its time is over. Names as the key exchange gave them.
#[derive(Clone, Debug, Default)]
pub(crate) struct DenyList {
    useless: Shunned<String>,
    denied_us: Shunned<String>,
}

impl DenyList {
    /// Takes a member that left.
    pub(crate) fn insert(&mut self, now: Monotonic, name: String, reason: Leave) {
        match reason {
            Leave::Denied => self.denied_us.insert(name, now + SHUN_DENIED),
            Leave::Unreachable | Leave::Unusable => self.useless.insert(name, now + SHUN),
            // Still a member.
            Leave::KeysLost => {}
        }
    }

    /// Lets go whose time is over.
    pub(crate) fn expire(&mut self, now: Monotonic) {
        self.useless.expire(now);
        self.denied_us.expire(now);
    }

    /// Whether a server that the balancer gave nevertheless is refused. If `alone`, one that was no good is better than
    /// none: the balancer may have no other.
    pub(crate) fn refuses(&self, name: &str, alone: bool) -> bool {
        let listed = |list: &Shunned<String>| list.iter().any(|known| same_name(known, name));
        listed(&self.denied_us) || (!alone && listed(&self.useless))
    }

    /// The names to put into a request: the members held, then the servers listed here.
    pub(crate) fn names<'a>(&'a self, held: impl Iterator<Item = &'a str>) -> Vec<String> {
        let listed = self.denied_us.iter().chain(self.useless.iter()).map(String::as_str);
        let mut names: Vec<String> = Vec::new();
        for name in held.chain(listed) {
            if names.len() < MAX_DENIED && !names.iter().any(|known| same_name(known, name)) {
                names.push(name.to_owned());
            }
        }
        names
    }
}

/// Whether two names are one server's (RFC 1034 section 3.1: letters of either case are the same).
pub(crate) fn same_name(a: &str, b: &str) -> bool {
    let bare = |name| str::strip_suffix(name, ".").unwrap_or(name);
    bare(a).eq_ignore_ascii_case(bare(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_denied_once_however_its_name_is_written() {
        let mut list = DenyList::default();
        let now = Monotonic::from_nanos(1);
        for (name, reason) in [("NTP1.example.", Leave::Unreachable), ("ntp2.example", Leave::Denied)] {
            list.insert(now, name.to_owned(), reason);
        }
        let names = list.names(["ntp1.example", "ntp3.example", "NTP3.Example"].into_iter());
        assert_eq!(names, ["ntp1.example", "ntp3.example", "ntp2.example"]);
    }
}
