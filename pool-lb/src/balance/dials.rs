//! How many connections to one member are made at a time, by all threads together.
//!
//! Members limit what one host may open until they have seen a token of theirs. All threads are one host to them, and all
//! of them want connections at the same time when a balancer starts.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use ntp_proto::pool::Name;
use tokio::sync::Semaphore;

/// Connections to one member that are made at a time: members allow a host few more.
pub(super) const MAX_DIALS: usize = 2;

/// Places for connections that are being made, by member.
#[derive(Debug, Default)]
pub(super) struct Dials(ArcSwap<BTreeMap<Name, Arc<Semaphore>>>);

impl Dials {
    /// Takes the members, before any thread hears of them. Places of those that stay remain held.
    pub(super) fn set_members<'a>(&self, members: impl Iterator<Item = &'a Name>) {
        let old = self.0.load();
        let of = |name| old.get(name).map_or_else(|| Arc::new(Semaphore::new(MAX_DIALS)), Arc::clone);
        self.0.store(Arc::new(members.map(|name| (name.clone(), of(name))).collect()));
    }

    /// The places of a member. One is held from the first packet until the member has taken the token.
    pub(super) fn of(&self, member: &Name) -> Arc<Semaphore> {
        // One that is no member any more, and still has users, has places that are not shared.
        self.0.load().get(member).map_or_else(|| Arc::new(Semaphore::new(MAX_DIALS)), Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_two_places_however_many_ask_for_them() {
        let dials = Dials::default();
        let [one, two] = ["m1.test", "m2.test"].map(|name| Name::parse(name).unwrap());
        dials.set_members([&one, &two].into_iter());
        let held: Vec<_> = (0..3).map(|_| dials.of(&one).try_acquire_owned()).collect();
        assert_eq!(held.iter().filter(|place| place.is_ok()).count(), MAX_DIALS);
        assert!(dials.of(&two).try_acquire_owned().is_ok(), "each member has its own");
        dials.set_members([&one].into_iter());
        assert!(dials.of(&one).try_acquire_owned().is_err(), "still held");
        drop(held);
        assert!(dials.of(&one).try_acquire_owned().is_ok());
    }
}
