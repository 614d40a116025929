//! Records about the servers of names.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Record, records::MAX_NAME_BYTES};

/// Most names in a record.
const MAX_NAMES: usize = 1_024;

/// Most addresses of a name.
const MAX_PLACES: usize = 4;

/// Where servers were found whose keys are exchanged: a start needs no DNS for them. Whoever is there now has to prove who
/// it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Places(BTreeMap<String, Vec<SocketAddr>>);

impl Places {
    /// Where a server was, the latest first.
    #[must_use]
    pub fn of(&self, name: &str) -> &[SocketAddr] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Takes note of where a server is, and says whether that was news. If there are too many names, no more are taken: the
    /// rest is found as ever.
    pub fn note(&mut self, name: &str, place: SocketAddr) -> bool {
        if self.of(name).first() == Some(&place) || (self.0.len() >= MAX_NAMES && !self.0.contains_key(name)) {
            return false;
        }
        let places = self.0.entry(name.to_owned()).or_default();
        places.retain(|known| *known != place);
        places.insert(0, place);
        places.truncate(MAX_PLACES);
        true
    }
}

impl Record for Places {
    const KIND: &'static str = "places";

    fn sanitize(mut self) -> Option<Self> {
        self.0.values_mut().for_each(|places| places.truncate(MAX_PLACES));
        (self.0.len() <= MAX_NAMES && self.0.keys().all(|name| name.len() <= MAX_NAME_BYTES)).then_some(self)
    }
}

/// For how many seconds, in which the time was verified, servers of the configuration have not answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Absences(pub BTreeMap<String, u64>);

impl Record for Absences {
    const KIND: &'static str = "absences";

    fn sanitize(self) -> Option<Self> {
        (self.0.len() <= MAX_NAMES && self.0.keys().all(|name| name.len() <= MAX_NAME_BYTES)).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_places_are_kept_and_no_more_names_than_there_is_room_for() {
        let at = |host: u8| SocketAddr::from(([192, 0, 2, host], 4460));
        let mut places = Places::default();
        assert!(places.note("a", at(1)) && !places.note("a", at(1)) && places.note("a", at(2)));
        assert_eq!(places.of("a"), [at(2), at(1)]);
        assert!(places.note("a", at(1)));
        assert_eq!(places.of("a"), [at(1), at(2)]);
        (3..9).for_each(|host| assert!(places.note("a", at(host))));
        assert_eq!(places.of("a"), [at(8), at(7), at(6), at(5)]);
        (1..MAX_NAMES).for_each(|number| assert!(places.note(&number.to_string(), at(1))));
        assert!(!places.note("one too many", at(1)) && places.note("a", at(1)));
        assert_eq!(places.of("one too many"), []);
        assert!(places.clone().sanitize().is_some());
        places.0.insert("one too many".to_owned(), Vec::new());
        assert_eq!(places.sanitize(), None);
        assert_eq!(Absences(BTreeMap::from([("a".repeat(256), 1)])).sanitize(), None);
    }
}
