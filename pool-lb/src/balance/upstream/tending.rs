//! What is done for connections to a member while nobody asks for one.

use std::{rc::Rc, time::Duration};

use tokio::task::spawn_local;
use tracing::debug;

use super::{BELIEVED, Link, MAX_IDLE_TIME, Turn, Zeal};
use crate::balance::{Shared, now};

/// For how long after its last user a connection is kept ready for the next.
const WARM: Duration = Duration::from_secs(60);

/// How long a connection that nobody waits for may wait for its turn to be made.
const WARMING: Duration = Duration::from_secs(30);

impl Link {
    /// Closes what is no longer of use, and gets ready what soon will be. To be called every second or so.
    pub(in crate::balance) fn tend(self: &Rc<Self>, shared: &Rc<Shared>) {
        let now = now::monotonic();
        self.idle.borrow_mut().retain(|kept| kept.is_alive() && kept.idle_for() < MAX_IDLE_TIME);
        let in_use = self.last_used.get().is_some_and(|at| now.since(at) < WARM);
        if !in_use {
            return;
        }
        let stale = self.resolved.borrow().as_ref().is_some_and(|(_, until)| *until <= now);
        if stale && !self.resolving.replace(true) {
            spawn_local(Rc::clone(self).resolve_again(Rc::clone(shared)));
        }
        let none = self.idle.borrow().is_empty() && self.waiting.borrow().is_empty();
        if none && self.breaker.get().is_closed() && !self.warming.replace(true) {
            spawn_local(Rc::clone(self).warm(Rc::clone(shared)));
        }
    }

    async fn resolve_again(self: Rc<Self>, shared: Rc<Shared>) {
        match self.resolve(&shared).await {
            Ok(addresses) => *self.resolved.borrow_mut() = Some((addresses, now::monotonic() + BELIEVED)),
            // The old ones stay, and may still serve.
            Err(trouble) => {
                debug!("member {}: {trouble}", self.member.name.as_str());
                if let Some((_, until)) = self.resolved.borrow_mut().as_mut() {
                    *until = now::monotonic() + BELIEVED / 10;
                }
            }
        }
        self.resolving.set(false);
    }

    /// Opens a connection before somebody needs it.
    pub(in crate::balance) async fn warm(self: Rc<Self>, shared: Rc<Shared>) {
        // Other threads want a connection too, and each has its turn. Nobody waits for this one meanwhile.
        if let Ok(place) = self.place(now::monotonic() + WARMING, true).await
            && let Ok(wait) = self.enter(Zeal::Usual)
        {
            let by = now::monotonic() + self.connects.borrow().wait() * 2;
            match self.connect(&shared, by, &wait, Turn::Now(place)).await {
                Ok((connection, _)) => self.put_idle(connection),
                Err(trouble) => self.failed(&shared, &trouble),
            }
        }
        self.warming.set(false);
    }

    /// Closes all connections without use: the files they hold are needed.
    pub(in crate::balance) fn release(&self) {
        self.idle.borrow_mut().clear();
    }
}
