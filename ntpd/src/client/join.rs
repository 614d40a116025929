//! Sources of members: started, taken over and dropped.

use std::{net::SocketAddr, time::Duration};

use ntp_proto::{
    ids::{ReferenceId, SourceId, Trust},
    pool::{Leave, Member, MemberId, Name, PoolMode as _},
    source::{Authentication, Bursts, SourceConfig},
};

use super::{
    Client,
    members::{Active, Configured},
};
use crate::{config::SourceOptions, now, observe::SourceInfo, resolve::Hints};

/// Time between the first requests of two sources, so that they do not leave in one burst.
const STAGGER: Duration = Duration::from_millis(20);

impl Client {
    /// Where a server can be found without DNS.
    pub(super) fn hints(&self, number: usize, name: &Name, port: u16) -> Hints {
        let group = self.groups.get(&number);
        let hints = group.map_or(&[][..], |group| group.configured.hints(name));
        let configured = hints.iter().map(|hint| SocketAddr::new(*hint, port)).collect();
        let in_vain = group.is_some_and(|group| group.in_vain || group.silent);
        Hints { saved: self.store.places(name.as_str(), port), configured, in_vain }
    }

    /// The member that a source is.
    pub(super) fn member_of(&self, source: SourceId) -> Option<(usize, MemberId)> {
        self.groups.iter().find_map(|(number, group)| {
            let member = group.members.iter().find(|(_, active)| active.source == source)?;
            Some((*number, *member.0))
        })
    }

    /// Gives a member a source: the one it replaces if that asks the same server, a fresh one otherwise.
    pub(super) fn join(&mut self, number: usize, member: Member) {
        let Some(group) = self.groups.get_mut(&number) else { return };
        let keys = member.keys.and_then(|question| group.keys.remove(&question));
        if member.keys.is_some() && keys.is_none() {
            // Without its keys it would have to be asked without authentication, and that it is not. The one whose place it
            // should take goes on in its name.
            if let Some(active) = member.replaces.and_then(|old| group.members.remove(&old)) {
                group.members.insert(member.id, active);
            }
            group.mode.handle_leave(now::monotonic(), member.id, Leave::KeysLost);
            return;
        }
        let replaced = member.replaces.and_then(|id| group.members.remove(&id)).map(|active| active.source);
        let at = |source: &SourceId| {
            self.info.get(source).and_then(|info| info.address).is_some_and(|own| member.addresses.contains(&own))
        };
        let authenticated = keys.is_some();
        let returning = group.retiring.iter().copied().find(at);
        let retired = returning.or_else(|| group.retiring.front().copied());
        // The same server goes on with all that was measured, if it is asked in the same way.
        let same = |source: &SourceId| at(source) && self.engine.uses_nts(*source) == Some(authenticated);
        let kept = replaced.filter(same).or_else(|| returning.filter(same));
        group.retiring.extend(replaced.filter(|source| kept != Some(*source)));
        let Some(source) = kept.or_else(|| self.start(number, &member, keys.is_some())) else {
            if let Some(group) = self.groups.get_mut(&number) {
                group.mode.handle_leave(now::monotonic(), member.id, Leave::Unusable);
            }
            return;
        };
        let mut origin = None;
        if let Some(fresh) = keys {
            let exchanged = self.exchanged(&fresh.origin);
            self.vouch(number, &fresh, source);
            self.engine.set_keys(now::monotonic(), source, fresh.keys, member.trust);
            if let Some(info) = self.info.get_mut(&source) {
                (info.keys_at, info.key_attempts, info.note) = (exchanged, 0, None);
            }
            origin = Some(fresh.origin);
        } else if self.groups.get(&number).is_some_and(|group| group.key.is_some()) {
            self.vouch_by_key(number, source);
        }
        let Some(group) = self.groups.get_mut(&number) else { return };
        if let Some(origin) = &origin {
            group.refused.remove(origin.server.as_str());
        }
        let in_use = self.info.get(&source).and_then(|info| info.address);
        let current = member.addresses.iter().position(|address| Some(*address) == in_use).unwrap_or(0);
        let active = Active {
            source,
            label: member.label,
            addresses: member.addresses,
            current,
            moves: 0,
            origin,
            wants_keys: false,
        };
        group.members.insert(member.id, active);
        group.retiring.retain(|other| *other != source);
        // One source that waits to be replaced makes room for a fresh one.
        if let Some(gone) = retired.or_else(|| group.retiring.front().copied()).filter(|_| kept.is_none()) {
            group.retiring.retain(|source| *source != gone);
            self.drop_source(gone);
        }
    }

    /// Starts a source for a member.
    fn start(&mut self, number: usize, member: &Member, nts: bool) -> Option<SourceId> {
        let group = self.groups.get(&number)?;
        let address = *member.addresses.first()?;
        let (authentication, trust) = match &group.key {
            Some(key) => (Authentication::Symmetric(key.clone()), Trust::Key),
            None if nts => (Authentication::Nts, member.trust),
            None => (Authentication::None, Trust::None),
        };
        let config = source_config(group.configured.options(), address, authentication, trust);
        let stagger = STAGGER.saturating_mul(u32::try_from(self.info.len()).unwrap_or(0));
        let Some(source) = self.engine.add_source(config, now::monotonic() + stagger) else {
            let name = group.configured.name();
            tracing::warn!(source = %name, "too many sources; this one is left out until another goes");
            return None;
        };
        let pool = match &group.configured {
            Configured::Pool(pool) => Some(pool.name.to_string()),
            Configured::Server(_) => None,
        };
        let info = SourceInfo { pool, ..SourceInfo::new(member.label.clone(), address) };
        tracing::info!(source = %info.name, %address, "added source");
        self.info.insert(source, info);
        Some(source)
    }
}

fn source_config(
    options: &SourceOptions,
    address: SocketAddr,
    authentication: Authentication,
    trust: Trust,
) -> SourceConfig {
    SourceConfig {
        reference_id: ReferenceId::of_address(address.ip()),
        min_poll: options.min_poll,
        max_poll: options.max_poll,
        bursts: match (options.iburst, options.burst) {
            (_, true) => Bursts::AtEveryPoll,
            (true, false) => Bursts::AtStart,
            (false, false) => Bursts::Never,
        },
        interleaved: options.interleaved,
        version: options.version,
        authentication,
        trust,
        options: options.select,
        rules: options.rules,
    }
}
