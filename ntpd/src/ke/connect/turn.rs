//! Whose turn it is to send a request: of several sessions with one server one at a time, so that one exports keys.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::{Instant, sleep_until, timeout_at},
};

/// How long a server may take for its answer while another address of it is ready to be asked: long enough for one lost
/// packet.
const HOLD: Duration = Duration::from_secs(2);

/// The turn of the sessions with one server.
#[derive(Debug)]
pub(super) struct Turn {
    place: Semaphore,
    waiting: AtomicUsize,
    changed: Notify,
}

/// Somebody has the turn. It passes on when this is dropped.
#[derive(Debug)]
pub(super) struct Held<'a> {
    turn: &'a Turn,
    _place: SemaphorePermit<'a>,
    until: Instant,
}

/// One that waits for its turn; no longer, once this is dropped.
struct Waiting<'a>(&'a Turn);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Turn {
    pub(super) fn new() -> Self {
        Self { place: Semaphore::new(1), waiting: AtomicUsize::new(0), changed: Notify::new() }
    }

    /// Waits for the turn; `None` if it does not come before `end`.
    pub(super) async fn take(&self, end: Instant) -> Option<Held<'_>> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(self);
        self.changed.notify_one();
        let place = timeout_at(end, self.place.acquire()).await.ok()?.ok()?;
        Some(Held { turn: self, _place: place, until: Instant::now() + HOLD })
    }
}

impl Held<'_> {
    /// Returns when it was held for long and somebody else waits for it.
    pub(super) async fn is_wanted(&self) {
        sleep_until(self.until).await;
        // Ends with the session, or when somebody waits.
        while self.turn.waiting.load(Ordering::Relaxed) == 0 {
            self.turn.changed.notified().await;
        }
    }
}
