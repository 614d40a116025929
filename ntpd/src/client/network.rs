//! Asking again whom nobody could reach: when the machine has another address, and now and then while it does not know the
//! time. Waits after failures grow to more than a day, which is too long for a network that was not there yet.

use std::{collections::BTreeSet, time::Duration};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags, sys::socket::SockProtocol};
use ntp_proto::time::Monotonic;
use tokio::time::Instant;

use super::{Client, netlink::Netlink};
use crate::now;

/// `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR` (rtnetlink(7)).
const ADDRESSES: u32 = 0x10 | 0x100;
/// `RTM_NEWADDR` and `RTM_DELADDR`.
const NEW_ADDRESS: u16 = 20;
const DELETED_ADDRESS: u16 = 21;
/// Octets of `struct nlmsghdr` and `struct ifaddrmsg`.
const HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
/// `IFA_F_TENTATIVE`: another message comes when it may be used.
const TENTATIVE: u8 = 0x40;
/// `RT_SCOPE_LINK`: from here on an address leads to nobody further away.
const LINK_SCOPE: u8 = 253;
/// `IFA_ADDRESS`.
const ADDRESS: u16 = 1;
/// Most addresses that are remembered: routers announce those that exist again and again.
const MAX_KNOWN: usize = 64;
/// Time for routes and resolvers to follow an address.
const SETTLE: Duration = Duration::from_secs(1);
/// Shortest time between two looks: whoever is near can give a machine any number of addresses.
const SPACING: Duration = Duration::from_secs(16);
/// Longest wait for whom nobody could reach, while the time is not known.
const LONGEST: Duration = Duration::from_secs(1_024);

/// Wakes when this machine has another address.
#[derive(Debug)]
pub(super) struct Addresses {
    netlink: Netlink,
    known: BTreeSet<Vec<u8>>,
    due: Option<Instant>,
    /// When the last look was due.
    last: Option<Instant>,
}

impl Default for Addresses {
    fn default() -> Self {
        let netlink = Netlink::new(SockProtocol::NetlinkRoute, ADDRESSES, "when this machine has another address");
        Self { netlink, known: BTreeSet::new(), due: None, last: None }
    }
}

impl Addresses {
    /// Waits for the next one. Cancelling the wait loses nothing.
    pub(super) async fn appears(&mut self) {
        let due = match self.due {
            Some(due) => due,
            None => {
                self.netlink.next(|message| is_another(&mut self.known, message)).await;
                let settled = Instant::now() + SETTLE;
                *self.due.insert(self.last.map_or(settled, |last| settled.max(last + SPACING)))
            }
        };
        tokio::time::sleep_until(due).await;
        self.last = self.due.take();
    }
}

/// Takes note of what became of an address; whether one has come by which others can be reached.
fn is_another(known: &mut BTreeSet<Vec<u8>>, message: &[u8]) -> bool {
    let Some(change) = Change::read(message) else { return false };
    if !change.is_there {
        known.remove(&change.address);
        return false;
    }
    if known.len() >= MAX_KNOWN {
        known.clear();
    }
    known.insert(change.address)
}

#[derive(Debug, PartialEq, Eq)]
struct Change {
    is_there: bool,
    address: Vec<u8>,
}

impl Change {
    /// Reads a message of the kernel (rtnetlink(7)); `None` if it is not about an address that matters.
    fn read(message: &[u8]) -> Option<Self> {
        let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
        let [_, _, flags, scope] = *message.get(HEADER..HEADER + 4)? else { return None };
        let is_about = matches!(kind, NEW_ADDRESS | DELETED_ADDRESS) && flags & TENTATIVE == 0 && scope < LINK_SCOPE;
        let mut rest = message.get(HEADER + ADDRESS_HEADER..).filter(|_| is_about)?;
        loop {
            let octets =
                |range| rest.get(range).and_then(|octets: &[u8]| octets.try_into().ok()).map(u16::from_ne_bytes);
            let (len, attribute) = (usize::from(octets(0..2)?), octets(2..4)?);
            let value = rest.get(4..len)?;
            if attribute == ADDRESS {
                return Some(Self { is_there: kind == NEW_ADDRESS, address: value.to_vec() });
            }
            rest = rest.get(len.next_multiple_of(4)..)?;
        }
    }
}

impl Client {
    /// The machine has another address, by which those can be there who were not.
    pub(super) fn handle_address(&mut self) {
        if self.ask_again() {
            tracing::info!("this machine has another address; asking servers that were not reached again");
        }
    }

    /// Tells the bootstrap if others can be reached, so that somebody should answer.
    pub(super) fn look_for_network(&mut self) {
        if self.boot.holds() && has_address() {
            self.boot.handle_network(now::monotonic());
        }
    }

    /// As long as the time is not known, nobody is waited for longer than this.
    pub(super) fn ask_again_if_due(&mut self) {
        let present = now::monotonic();
        let at = *self.ask_again_at.get_or_insert(present + LONGEST);
        if self.boot.holds() && is_due(&mut self.ask_again_at, at, present) {
            self.ask_again();
        }
    }

    /// Looks at once for servers of names that have none; whether there are such names.
    fn ask_again(&mut self) -> bool {
        let empty: Vec<usize> =
            self.groups.iter().filter(|(_, group)| group.members.is_empty()).map(|(number, _)| *number).collect();
        empty.iter().for_each(|number| self.refresh_group(*number));
        !empty.is_empty()
    }
}

/// Whether this machine has an address by which others can be reached.
fn has_address() -> bool {
    let up = |flags: InterfaceFlags| {
        flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING)
            && !flags.contains(InterfaceFlags::IFF_LOOPBACK)
    };
    let Ok(interfaces) = getifaddrs() else { return false };
    interfaces.filter(|interface| up(interface.flags)).filter_map(|interface| interface.address).any(|address| {
        let v4 = address.as_sockaddr_in().is_some_and(|address| !address.ip().is_link_local());
        v4 || address.as_sockaddr_in6().is_some_and(|address| !address.ip().is_unicast_link_local())
    })
}

fn is_due(next: &mut Option<Monotonic>, at: Monotonic, present: Monotonic) -> bool {
    let due = at <= present;
    if due {
        *next = Some(present + LONGEST);
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message about an address, with another attribute before it.
    fn message(kind: u16, flags: u8, scope: u8, address: &[u8]) -> Vec<u8> {
        let mut message = vec![0; HEADER];
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message.extend([2, 24, flags, scope, 1, 0, 0, 0]);
        for (attribute, value) in [(3, b"eth0\0".as_slice()), (ADDRESS, address)] {
            message.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
            message.extend(attribute.to_ne_bytes());
            message.extend(value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        message
    }

    #[test]
    fn an_address_counts_once_until_it_is_gone() {
        let mut known = BTreeSet::new();
        let mut another =
            |kind, flags, scope, address: &[u8]| is_another(&mut known, &message(kind, flags, scope, address));
        assert!(another(NEW_ADDRESS, 0x80, 0, &[192, 0, 2, 1]));
        assert!(!another(NEW_ADDRESS, 0x80, 0, &[192, 0, 2, 1]), "a router announces it again");
        assert!(another(NEW_ADDRESS, 0x80, 0, &[192, 0, 2, 2]));
        assert!(!another(DELETED_ADDRESS, 0x80, 0, &[192, 0, 2, 1]));
        assert!(another(NEW_ADDRESS, 0x80, 0, &[192, 0, 2, 1]));
        assert!(!another(NEW_ADDRESS, TENTATIVE, 0, &[9; 16]), "nobody knows yet whether it may be used");
        assert!(another(NEW_ADDRESS, 0, 0, &[9; 16]));
        for scope in [LINK_SCOPE, 254] {
            assert!(!another(NEW_ADDRESS, 0x80, scope, &[127, 0, 0, 1]));
        }
        assert!(!another(24, 0, 0, &[192, 0, 2, 3]), "a route");
    }

    #[test]
    fn whatever_is_received_is_read_within_its_bounds() {
        let whole = message(NEW_ADDRESS, 0, 0, &[192, 0, 2, 1]);
        for len in 0..whole.len() {
            assert_eq!(Change::read(&whole[..len]), None, "{len}");
        }
        let mut endless = whole.clone();
        endless[24..26].fill(0);
        assert_eq!(Change::read(&endless), None, "an attribute without even a length");
        assert!(Change::read(&whole).is_some());
    }

    #[test]
    fn while_the_time_is_not_known_nobody_is_waited_for_for_long() {
        let at = |seconds: u64| Monotonic::from_nanos(seconds * 1_000_000_000);
        let mut next = Some(at(1_024));
        assert!(!is_due(&mut next, at(1_024), at(1_023)));
        assert!(is_due(&mut next, at(1_024), at(1_030)));
        assert_eq!(next, Some(at(2_054)));
    }
}
