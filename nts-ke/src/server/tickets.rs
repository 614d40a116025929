//! TLS session tickets that all nodes of one service can read.
//!
//! The nodes share a secret. The keys of an epoch follow from it, so that they change without the nodes talking to each
//! other; tickets of the epoch before are still taken, and those of the next, for no two nodes go on at the same moment.

use core::fmt;
use std::sync::Arc;

use ntp_proto::nts::{AeadAlgorithm, AeadKey, TAG_LEN};
use rustls::{crypto::SecureRandom, server::ProducesTickets};
use zeroize::Zeroizing;

use crate::tls;

/// Octets of a nonce.
const NONCE_LEN: usize = 16;

/// Octets before the text of a ticket.
const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// Longest ticket that is looked at.
const MAX_TICKET: usize = 16 << 10;

/// What the derived keys and the tickets are for.
const PURPOSE: &[u8] = b"ntske/1 ticket";

/// Ticket keys of one epoch, the one before, and the next.
#[derive(Clone)]
pub struct TicketKeys {
    /// The current one first.
    keys: [AeadKey; 3],
    lifetime: u32,
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl TicketKeys {
    /// Derives the keys of an epoch, each of which lasts `lifetime` seconds.
    #[must_use]
    pub fn derive(secret: &[u8; 32], epoch: u64, lifetime: u32) -> Self {
        let master = key(secret);
        let derive = |epoch: u64| {
            // AES-SIV is a pseudorandom function of what is sealed and what goes with it (RFC 5297 section 1.3.1): each
            // epoch gets a key that tells nothing of the others.
            let mut derived = Zeroizing::new([0; 32]);
            let mut nonce = [0; NONCE_LEN];
            for (octet, of_epoch) in nonce.iter_mut().zip(epoch.to_be_bytes()) {
                *octet = of_epoch;
            }
            let _tag = master.seal_in_place(&nonce, PURPOSE, derived.as_mut_slice());
            key(&derived)
        };
        Self { keys: [epoch, epoch.wrapping_sub(1), epoch.wrapping_add(1)].map(derive), lifetime }
    }
}

fn key(secret: &[u8; 32]) -> AeadKey {
    #[expect(clippy::expect_used, reason = "the array has the algorithm's length")]
    AeadKey::new(AeadAlgorithm::AesSivCmac256, secret).expect("32 octets")
}

/// [`TicketKeys`] for the TLS library, which draws nonces from its own source.
pub(super) struct Tickets {
    keys: TicketKeys,
    random: &'static dyn SecureRandom,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.keys.fmt(f)
    }
}

impl Tickets {
    pub(super) fn new(keys: TicketKeys) -> Arc<Self> {
        Arc::new(Self { keys, random: tls::provider().secure_random })
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.keys.lifetime
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut text = plain.to_vec();
        let [current, ..] = &self.keys.keys;
        let tag = current.seal_in_place(&nonce, PURPOSE, &mut text);
        Some([&nonce[..], &tag, &text].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > MAX_TICKET {
            return None;
        }
        let (head, sealed) = ticket.split_first_chunk::<OVERHEAD>()?;
        let (nonce, tag) = head.split_first_chunk::<NONCE_LEN>()?;
        let tag = tag.first_chunk::<TAG_LEN>()?;
        self.keys.keys.iter().find_map(|key| {
            let mut text = sealed.to_vec();
            key.open_in_place(nonce, PURPOSE, &mut text, tag).ok().map(|()| text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    fn tickets(secret: &[u8; 32], epoch: u64) -> Arc<Tickets> {
        Tickets::new(TicketKeys::derive(secret, epoch, 100))
    }

    #[test]
    fn nodes_read_each_others_tickets_of_the_epoch_before_and_the_next() {
        let ticket = tickets(&SECRET, 10).encrypt(b"a session").unwrap();
        for (epoch, readable) in [(8, false), (9, true), (10, true), (11, true), (12, false)] {
            let read = tickets(&SECRET, epoch).decrypt(&ticket);
            assert_eq!(read.as_deref(), readable.then_some(&b"a session"[..]), "{epoch}");
        }
        assert_eq!(tickets(&[8; 32], 10).decrypt(&ticket), None);
    }

    #[test]
    fn changed_tickets_are_none() {
        let node = tickets(&SECRET, 10);
        let ticket = node.encrypt(b"a session").unwrap();
        assert_ne!(node.encrypt(b"a session").unwrap(), ticket);
        for place in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[place] ^= 1;
            assert_eq!(node.decrypt(&changed), None, "{place}");
            assert_eq!(node.decrypt(&ticket[..place]), None, "{place}");
        }
        assert_eq!(node.decrypt(&vec![0; MAX_TICKET + 1]), None);
    }
}
