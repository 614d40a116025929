//! Sources that fall silent, turn out useless or need keys.
//!
//! A pool finds another server in the place of a lost one. A `[[server]]` is that one server: its source stays, and shows
//! why it is of no use, while all its addresses are tried and where it is is asked ever less often.

use ntp_proto::{
    ids::{ReferenceId, SourceId},
    pool::{Leave, PoolMode as _},
    source::{KeysReason, Loss},
};

use super::{
    Client,
    members::{Active, Configured},
    tell::Place,
};
use crate::now;

impl Client {
    pub(super) fn handle_keys_needed(&mut self, source: SourceId, reason: KeysReason) {
        let Place { name, address } = self.place(source);
        tracing::debug!(source = %name, %address, %reason, "keys wanted");
        let Some((number, member)) = self.member_of(source) else { return };
        if let Some(group) = self.groups.get_mut(&number) {
            if let Some(active) = group.members.get_mut(&member) {
                active.wants_keys = true;
            }
            group.mode.handle_leave(now::monotonic(), member, Leave::KeysLost);
        }
        self.drain_pools();
    }

    /// A source is lost: the server's next address is tried, and when there is none left, another server.
    pub(super) fn handle_lost(&mut self, source: SourceId, loss: Loss) {
        let Some((number, member)) = self.member_of(source) else { return };
        let Some(group) = self.groups.get_mut(&number) else { return };
        let silent = group.silent;
        if loss == Loss::Unreachable && group.members.get_mut(&member).is_some_and(Active::turn) {
            self.move_to_current(source, silent);
            return;
        }
        match &group.configured {
            Configured::Server(_) => self.handle_server_lost(number, source, loss),
            Configured::Pool(_) => {
                group.mode.handle_leave(now::monotonic(), member, leave(loss));
                group.retire(member);
                let Place { name, address } = self.place(source);
                let reason = lost_because(loss);
                tracing::warn!(source = %name, %address, %reason, "source is lost; looking for another server");
            }
        }
        self.drain_pools();
    }

    fn handle_server_lost(&mut self, number: usize, source: SourceId, loss: Loss) {
        let present = now::monotonic();
        let Some(group) = self.groups.get_mut(&number) else { return };
        let (silent, due) = (group.silent, group.not_before.is_none_or(|at| at <= present));
        group.silent |= loss == Loss::Unreachable;
        if due {
            group.not_before = Some(group.pace.trouble(present));
        }
        if !silent {
            let Place { name, address } = self.place(source);
            let reason = lost_because(loss);
            tracing::warn!(source = %name, %address, %reason, "source is lost; it is asked again by itself");
        }
        // One that refuses us has said where it is.
        if !due || loss == Loss::Denied {
            return;
        }
        self.refresh_group(number);
        let Some(group) = self.groups.get_mut(&number) else { return };
        let active = group.members.values_mut().find(|active| active.source == source);
        if loss == Loss::Unreachable && active.is_some_and(Active::rewind) {
            self.move_to_current(source, true);
        }
    }

    /// Asks a source at the address that its member has come to.
    fn move_to_current(&mut self, source: SourceId, silent: bool) {
        let Some((number, member)) = self.member_of(source) else { return };
        let active = self.groups.get(&number).and_then(|group| group.members.get(&member));
        let Some(address) = active.and_then(|active| active.addresses.get(active.current)).copied() else { return };
        if let Some(info) = self.info.get_mut(&source) {
            if !silent {
                tracing::info!(source = %info.name, %address, "no answer; trying the server's next address");
            }
            info.address = Some(address);
        }
        let present = self.clock.now();
        self.engine.move_source(present, source, ReferenceId::of_address(address.ip()));
    }

    /// Finds out anew, at once, where the servers of a name are.
    pub(super) fn refresh_group(&mut self, number: usize) {
        let Some(group) = self.groups.get_mut(&number) else { return };
        for active in group.members.values_mut() {
            // What goes wrong with the key exchange is told at the source.
            active.wants_keys |= self.engine.uses_nts(active.source) == Some(true);
        }
        group.mode.handle_refresh(now::monotonic());
    }

    /// A datagram has come for a source: it may be back.
    pub(super) fn handle_heard(&mut self, source: SourceId) {
        let Some((number, member)) = self.member_of(source) else { return };
        let present = self.clock.now();
        if !self.engine.source(present, source).is_some_and(|report| report.source.reach().is_reachable()) {
            return;
        }
        let Some(group) = self.groups.get_mut(&number) else { return };
        if let Some(active) = group.members.get_mut(&member) {
            active.moves = 0;
        }
        if std::mem::take(&mut group.silent) {
            let Place { name, address } = self.place(source);
            tracing::info!(source = %name, %address, "answers again");
        }
    }
}

impl Active {
    /// Goes on to the next address of this server, if there is one that was not tried since it last answered; after the
    /// last comes the first.
    fn turn(&mut self) -> bool {
        let more = self.moves + 1 < self.addresses.len();
        if more {
            self.moves += 1;
            self.current = (self.current + 1) % self.addresses.len();
        }
        more
    }

    /// Begins the round anew, if it has other addresses.
    fn rewind(&mut self) -> bool {
        let others = self.addresses.len() > 1;
        if others {
            self.moves = 0;
            self.current = (self.current + 1) % self.addresses.len();
        }
        others
    }
}

/// A loss in words.
const fn lost_because(loss: Loss) -> &'static str {
    match loss {
        Loss::Unreachable => "it does not answer",
        Loss::Denied => "it refuses to serve us",
        Loss::Unusable => "its time cannot be used",
    }
}

/// A loss in the terms of a pool.
const fn leave(loss: Loss) -> Leave {
    match loss {
        Loss::Unreachable => Leave::Unreachable,
        Loss::Denied => Leave::Denied,
        Loss::Unusable => Leave::Unusable,
    }
}
