//! The targets in an answer: drawn by weight for each region, signed once for many clients.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use ntp_proto::time::Monotonic;
use prefix_trie::PrefixSet;
use rand_core::Rng;

use super::{
    draws::{DrawSecret, Kept},
    name::WireName,
    query::HEADER,
    record::{Data, FIXED},
    zone::{RrSet, Zone},
};
use crate::directory::{Directory, Health, Member, Roster, Wish, mapped};

/// Fewest and most targets of an answer.
pub const TARGETS: core::ops::RangeInclusive<usize> = 4..=8;

/// Largest answer by UDP: it fits into one packet everywhere (DNS flag day 2020).
pub const MAX_UDP: usize = 1_232;

/// Largest answer by UDP to a client without EDNS (RFC 1035 section 4.2.1).
pub const MAX_PLAIN: usize = 512;

/// Most octets of EDNS in an answer: the record, Client Subnet of an IPv6 address, a cookie.
pub(super) const MAX_EDNS: usize = 11 + 4 + 20 + 4 + 24;

/// Octets of a question behind its name.
const QUESTION_FIXED: usize = 4;

/// Octets of a pointer that stands for a name.
const POINTER: usize = 2;

/// Octets of SRV data in front of the target.
const SRV_FIXED: usize = 6;

/// Draws a second for single clients, which cost a signature each: beyond, they get what others get.
const SINGLE_RATE: u64 = 500;

/// Who can be drawn for a zone.
#[derive(Debug)]
pub struct Candidates {
    /// By priority, the lowest first; never empty.
    tiers: Vec<Roster>,
    directory: Arc<Directory>,
    /// Where members are that are only for some.
    reserved: PrefixSet<ipnet::Ipv6Net>,
    kept: Kept,
}

impl Candidates {
    /// Takes a directory and the health of its members.
    #[must_use]
    pub fn new(directory: &Arc<Directory>, health: impl Fn(&Member) -> Health) -> Self {
        let prefixes = directory.members().iter().flat_map(|member| member.prefixes.iter().copied());
        Self {
            tiers: Roster::by_priority(directory, health),
            directory: Arc::clone(directory),
            reserved: prefixes.map(mapped).collect(),
            // One more for clients that are in none.
            kept: Kept::new(directory.region_count().saturating_add(1)),
        }
    }

    /// How many members can be drawn.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tiers.iter().map(Roster::len).sum()
    }

    /// Whether nobody can be drawn.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How far around a client the answer would be the same, in bits; `known` of its address are known (RFC 7871).
    pub(super) fn scope(&self, client: IpAddr, known: u8) -> u8 {
        if known == 0 || !self.directory.is_regional() && self.reserved.is_empty() {
            return 0;
        }
        let scope = self.reserved.is_empty().then(|| self.directory.scope_of(client)).flatten();
        scope.unwrap_or(known)
    }

    fn is_reserved(&self, client: IpAddr) -> bool {
        !self.reserved.is_empty() && self.reserved.get_lpm(&mapped(IpNet::from(client.to_canonical()))).is_some()
    }

    /// Draws targets: those of the lowest priority first, near ones before others, each with its weight among them.
    /// Where all are for other clients only, those are drawn: an answer without records could not be proved.
    pub(super) fn draw(&self, client: Option<IpAddr>, count: usize, random: &mut impl Rng) -> Vec<Data> {
        let targets = self.draw_for(client, count, Vec::new(), random);
        if targets.is_empty() { self.draw_for(None, count, Vec::new(), random) } else { targets }
    }

    /// Draws targets for everybody alike, without members that are for some clients only, as long as there are others.
    pub(super) fn draw_for_all(&self, count: usize, random: &mut impl Rng) -> Vec<Data> {
        let members = self.directory.members().iter().enumerate();
        let for_some = members.filter(|(_, member)| !member.prefixes.is_empty()).map(|(place, _)| place).collect();
        let targets = self.draw_for(None, count, for_some, random);
        if targets.is_empty() { self.draw_for(None, count, Vec::new(), random) } else { targets }
    }

    fn draw_for(&self, client: Option<IpAddr>, count: usize, excluded: Vec<usize>, random: &mut impl Rng) -> Vec<Data> {
        let mut drawn = excluded;
        let mut targets = Vec::with_capacity(count);
        for tier in &self.tiers {
            let wish = Wish { client, has_some: false, excluded: &drawn };
            let region = tier.regions(&wish).first().copied().flatten();
            let seats = count.saturating_sub(targets.len());
            let more = tier.draw(&wish, seats, random);
            for place in &more {
                let Some(member) = self.directory.members().get(*place) else { continue };
                targets.push(Data::Srv {
                    priority: member.priority,
                    weight: tier.weight_in_draw(region, seats, *place),
                    port: member.port,
                    target: WireName::of(&member.name),
                });
            }
            drawn.extend(more);
        }
        targets
    }
}

/// Leaves out targets that would make an answer too long: signed, it must fit into [`MAX_UDP`]; and with at least as
/// many as the fewest allowed, unsigned into [`MAX_PLAIN`]. `rrsig_len` octets are for the signature.
pub(super) fn fitting(service: &WireName, rrsig_len: usize, targets: Vec<Data>) -> Vec<Data> {
    let head = HEADER + service.wire_len() + QUESTION_FIXED;
    let signed = MAX_UDP.saturating_sub(head + MAX_EDNS + POINTER + rrsig_len);
    let plain = MAX_PLAIN.saturating_sub(head);
    let (mut used, mut kept) = (0_usize, Vec::new());
    for target in targets {
        let Data::Srv { target: host, .. } = &target else { continue };
        let next = used.saturating_add(POINTER + FIXED + SRV_FIXED + host.wire_len());
        if next <= signed && (kept.len() < *TARGETS.start() || next <= plain) {
            used = next;
            kept.push(target);
        }
    }
    kept
}

/// What draws follow from, and how many of them for single clients one thread may still make.
#[derive(Debug)]
pub(super) struct Draws {
    secret: DrawSecret,
    /// When what may be drawn for single clients is used up, in nanoseconds.
    single_until: u64,
}

impl Draws {
    pub(super) fn new(secret: DrawSecret) -> Self {
        Self { secret, single_until: 0 }
    }

    /// The targets for a client, with their turn; `None` if too many were drawn for single clients lately. `unix` is the
    /// time in seconds since 1970, and `now` that on the machine's own clock.
    pub(super) fn targets(
        &mut self,
        zone: &Zone,
        candidates: &Candidates,
        client: IpAddr,
        now: Monotonic,
        unix: u64,
    ) -> Option<Arc<(u64, RrSet)>> {
        let turn = self.secret.turn(client, unix);
        let drawn = |secret: &DrawSecret, whose: &str| {
            let mut random = secret.random(&zone.origin, turn, whose);
            let targets = candidates.draw(Some(client), zone.settings.targets, &mut random);
            RrSet::new(zone.settings.ttl, &fitting(&zone.service, zone.signer.rrsig_len(), targets))
        };
        if candidates.is_reserved(client) {
            let whose = || format!("client {}", client.to_canonical());
            return self.may_single(now).then(|| Arc::new((0, drawn(&self.secret, &whose()))));
        }
        let region = candidates.directory.regions_of(client).first().copied();
        let number = region.map_or(0, |region| region.number().saturating_add(1));
        let name =
            || region.map_or_else(String::new, |region| format!("region {}", candidates.directory.region_name(region)));
        // What is drawn for one client outside all reserved prefixes holds for all of its region that are so.
        Some(candidates.kept.draw(number, turn, || drawn(&self.secret, &name())))
    }

    fn may_single(&mut self, now: Monotonic) -> bool {
        let second = 1_000_000_000;
        let next = self.single_until.max(now.to_nanos()).saturating_add(second / SINGLE_RATE);
        let may = next.saturating_sub(now.to_nanos()) <= second;
        if may {
            self.single_until = next;
        }
        may
    }
}

#[cfg(test)]
mod tests;
