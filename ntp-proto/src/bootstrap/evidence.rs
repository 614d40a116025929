//! Dates that have passed, because somebody signed them.

use super::{MAX_SEEN, operators::Identity, operators::operators};

/// What one server's signatures say.
#[derive(Clone, Debug)]
struct Signed {
    /// Whom the certificate is for.
    server: String,
    identity: Identity,
    /// The latest date, in Unix seconds.
    at: i64,
}

/// The latest date that each server has shown to be signed. Time passes, so none is ever taken back: whoever shows an older
/// certificate, or none, changes nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence(Vec<Signed>);

impl Evidence {
    /// Takes dates that a server showed. Later ones than `latest` nobody would believe: they are no evidence, or one liar's
    /// date of 9999 would weigh as much as any.
    pub(super) fn add(&mut self, server: &str, identity: &Identity, dates: &[i64], latest: i64) {
        let Some(at) = dates.iter().copied().filter(|at| *at <= latest).max() else { return };
        if let Some(known) = self.0.iter_mut().find(|known| known.server == server) {
            known.at = known.at.max(at);
            return;
        }
        if self.0.len() >= MAX_SEEN {
            let Some((place, oldest)) = self.0.iter().enumerate().min_by_key(|(_, known)| known.at) else { return };
            if oldest.at >= at {
                return;
            }
            self.0.swap_remove(place);
        }
        self.0.push(Signed { server: server.to_owned(), identity: identity.clone(), at });
    }

    /// The latest date that two operators at least have signed to have passed.
    pub(super) fn signed_by_two(&self) -> Option<i64> {
        let identities: Vec<&Identity> = self.0.iter().map(|signed| &signed.identity).collect();
        let mut of_each: Vec<(usize, i64)> = Vec::new();
        for (operator, signed) in operators(&identities).into_iter().zip(&self.0) {
            match of_each.iter_mut().find(|(known, _)| *known == operator) {
                Some((_, kept)) => *kept = signed.at.max(*kept),
                None => of_each.push((operator, signed.at)),
            }
        }
        of_each.sort_by_key(|(_, at)| *at);
        of_each.iter().rev().nth(1).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATEST: i64 = 1_000;

    fn identity(domain: &str) -> Identity {
        Identity { domain: domain.into(), key: None }
    }

    #[test]
    fn the_second_latest_counts_and_is_never_taken_back() {
        let mut evidence = Evidence::default();
        let mut add = |server: &str, at: i64| {
            evidence.add(server, &identity(server), &[at], LATEST);
            evidence.signed_by_two()
        };
        assert_eq!(add("a", 50), None);
        assert_eq!(add("b", 40), Some(40));
        assert_eq!(add("b", 45), Some(45));
        assert_eq!(add("b", 10), Some(45), "an old certificate changes nothing");
        assert_eq!(add("c", LATEST + 1), Some(45), "what nobody would believe is no evidence");
        assert_eq!(add("c", 48), Some(48));
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let mut evidence = Evidence::default();
        for at in (0..2 * i64::try_from(MAX_SEEN).unwrap()).rev() {
            evidence.add(&at.to_string(), &identity(&at.to_string()), &[at], LATEST);
        }
        assert_eq!((evidence.0.len(), evidence.signed_by_two()), (MAX_SEEN, Some(126)));
        evidence.add("late", &identity("late"), &[500], LATEST);
        evidence.add("later", &identity("later"), &[501], LATEST);
        assert_eq!((evidence.0.len(), evidence.signed_by_two()), (MAX_SEEN, Some(500)));
    }
}
