//! Who was served: the memory of the table that all threads and the key-exchange server write to.

use std::{fmt, net::IpAddr, ops::Range, sync::Arc};

use ntp_proto::server::{Asked, ClientRow, ClientSlot, ClientTable};

use crate::now;

/// Who was served.
pub struct ClientLog {
    slots: Vec<ClientSlot>,
    key: [u8; 16],
}

impl fmt::Debug for ClientLog {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientLog").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

impl ClientLog {
    /// Room for this many clients; `None` for none at all.
    ///
    /// # Errors
    ///
    /// The system gives no random bytes.
    pub fn new(clients: usize) -> Result<Option<Arc<Self>>, getrandom::Error> {
        if clients == 0 {
            return Ok(None);
        }
        let mut key = [0; 16];
        getrandom::fill(&mut key)?;
        let slots = std::iter::repeat_with(ClientSlot::default).take(clients.next_multiple_of(8)).collect();
        Ok(Some(Arc::new(Self { slots, key })))
    }

    /// What a server thread writes to.
    pub(super) fn table(&self) -> ClientTable<'_> {
        ClientTable::new(&self.slots, &self.key)
    }

    /// Takes note of a key exchange.
    pub fn note_key_exchange(&self, peer: IpAddr, is_answered: bool) {
        self.table().note(peer, now::monotonic(), Asked::KeyExchange, is_answered);
    }

    /// How many clients there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.table().capacity()
    }

    /// Clients by their places, of those in `places`.
    pub fn rows(&self, places: Range<usize>) -> impl Iterator<Item = (usize, ClientRow)> + '_ {
        let (table, present) = (self.table(), now::monotonic());
        (places.start..places.end.min(table.capacity()))
            .filter_map(move |index| Some((index, table.row(index, present)?)))
    }

    /// Begins to count anew for the client in this place.
    pub fn reset(&self, index: usize) {
        self.table().reset(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_servers_write_to_one_table() {
        assert!(ClientLog::new(0).unwrap().is_none());
        let log = ClientLog::new(9).unwrap().unwrap();
        assert_eq!(log.capacity(), 16);
        let peer = "192.0.2.1".parse().unwrap();
        log.table().note(peer, now::monotonic(), Asked::Ntp, true);
        log.note_key_exchange(peer, true);
        log.note_key_exchange(peer, false);
        let rows: Vec<_> = log.rows(0..usize::MAX).collect();
        let [(index, row)] = rows[..] else { panic!("{rows:?}") };
        assert_eq!((row.address, row.ntp.hits, row.key_exchange.hits, row.key_exchange.drops), (peer, 1, 2, 1));
        assert_eq!(log.rows(index + 1..usize::MAX).count(), 0);
        log.reset(index);
        assert_eq!(log.rows(index..usize::MAX).next().unwrap().1.ntp.hits, 0);
    }
}
