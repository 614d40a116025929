//! Names that are begun anew, and what exchanges the keys of those that have roots of their own.

use super::{
    Client,
    members::{Configured, Group},
};
use crate::ke::connect::KeyExchanger;

impl Client {
    /// Reads the roots again that only one name is judged by.
    pub(super) fn renew_exchangers(&mut self) {
        for group in self.groups.values_mut() {
            group.exchanger = own_exchanger(&self.exchanger, &group.configured);
        }
    }

    /// Begins anew with every name whose sources have NTS.
    pub(super) fn restart_authenticated(&mut self) {
        let has_nts = |group: &Group| group.sources().iter().any(|id| self.engine.uses_nts(*id) == Some(true));
        let names: Vec<String> =
            self.groups.values().filter(|group| has_nts(group)).map(|group| group.configured.name()).collect();
        names.iter().for_each(|name| self.restart_group(name));
    }

    /// Begins anew with a name.
    pub(super) fn restart_group(&mut self, name: &str) {
        let named = |(_, group): &(&usize, &Group)| group.configured.name() == name;
        let found = self.groups.iter().find(named).map(|(number, _)| *number);
        found.into_iter().for_each(|number| self.restart(number));
    }

    /// The same by its number, which changes: answers to what it has asked are for nobody.
    pub(super) fn restart(&mut self, number: usize) {
        let Some(group) = self.groups.remove(&number) else { return };
        group.sources().into_iter().for_each(|source| self.drop_source(source));
        let restarted = self.next_group;
        self.add_group(group.entry, group.configured, group.key);
        self.groups.get_mut(&restarted).into_iter().for_each(|again| again.offline = group.offline);
    }
}

/// What exchanges the keys of a name whose certificates are judged by roots of its own.
pub(super) fn own_exchanger(common: &KeyExchanger, configured: &Configured) -> Option<KeyExchanger> {
    configured.options().roots.as_ref().map(|roots| common.judging_by(roots))
}
