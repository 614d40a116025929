//! How many connections to one member are made at a time, by all threads together.
//!
//! Members limit what one host may open until they have seen a token of theirs. All threads are one host to them, and all
//! of them want connections at the same time when a balancer starts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use ntp_proto::pool::Name;
use tokio::sync::Semaphore;

/// Connections to one member that are made at a time: members allow a host few more.
pub(super) const MAX_DIALS: usize = 2;

/// Places for connections that are being made, by member.
#[derive(Debug, Default)]
pub(super) struct Dials(Mutex<BTreeMap<Name, Arc<Semaphore>>>);

impl Dials {
    /// The places of a member. One is held from the first packet until the member has taken the token.
    pub(super) fn of(&self, member: &Name) -> Arc<Semaphore> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(places.entry(member.clone()).or_insert_with(|| Arc::new(Semaphore::new(MAX_DIALS))))
    }

    /// Forgets all members but these.
    pub(super) fn retain(&self, members: &BTreeSet<&Name>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| members.contains(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_two_places_however_many_ask_for_them() {
        let dials = Dials::default();
        let [one, two] = ["m1.test", "m2.test"].map(|name| Name::parse(name).unwrap());
        let held: Vec<_> = (0..3).map(|_| dials.of(&one).try_acquire_owned()).collect();
        assert_eq!(held.iter().filter(|place| place.is_ok()).count(), MAX_DIALS);
        assert!(dials.of(&two).try_acquire_owned().is_ok(), "each member has its own");
        dials.retain(&BTreeSet::from([&one]));
        assert!(dials.of(&one).try_acquire_owned().is_err(), "still held");
        drop(held);
        assert!(dials.of(&one).try_acquire_owned().is_ok());
    }
}
