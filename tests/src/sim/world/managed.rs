//! Clients whose sources and keys somebody outside the world looks after, as a daemon does.

use std::time::Duration;

use ntp_proto::{
    engine::{Engine, Now},
    ids::{SourceId, Trust},
    nts::{AeadKey, CookieJar, SessionKeys},
    source::{KeysReason, Loss, NtsKeys},
    time::{Monotonic, Rate},
};

use super::{Client, ClientSpec, ServerId, SourceSpec, World, engine_config, monotonic_at, source_config};

/// What an engine wants of whoever looks after its sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Keys for this source.
    Keys(SourceId, KeysReason),
    /// Another server in this one's place.
    Another(SourceId, Loss),
}

/// NTP packets of a client. Octets are those of NTP, without UDP and IP headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests sent.
    pub requests: u64,
    /// Their octets.
    pub request_octets: u64,
    /// Replies that servers sent, whether or not they arrived.
    pub replies: u64,
    /// Their octets.
    pub reply_octets: u64,
}

impl Traffic {
    pub(super) const fn add_request(&mut self, octets: usize) {
        self.requests += 1;
        self.request_octets += octets as u64;
    }

    pub(super) const fn add_reply(&mut self, octets: usize) {
        self.replies += 1;
        self.reply_octets += octets as u64;
    }
}

impl Client {
    /// The monotonic clock of this client, which stands still while it sleeps.
    pub(super) fn monotonic(&self, world: Duration) -> Monotonic {
        monotonic_at(world.saturating_sub(self.slept))
    }

    /// When that clock will read `at`.
    pub(super) const fn world_time(&self, at: Monotonic) -> Duration {
        Duration::from_nanos(at.to_nanos()).saturating_add(self.slept)
    }
}

impl World {
    /// Keeps no traces of clocks: they cost more than all else where nobody looks at them.
    #[must_use]
    pub const fn without_traces(mut self) -> Self {
        self.traced = false;
        self
    }

    /// Adds a client that is off: [`boot`](Self::boot) starts it.
    pub fn add_managed(&mut self, spec: ClientSpec) -> usize {
        let number = self.add_client(ClientSpec { sources: Vec::new(), ..spec });
        self.clients[number].managed = true;
        self.suspend(number);
        number
    }

    /// Leaves the sources and keys of a client that runs to whoever calls.
    pub fn look_after(&mut self, number: usize) {
        self.clients[number].managed = true;
    }

    /// When the world goes on: nothing happens in it before.
    #[must_use]
    pub fn next_at(&self) -> Option<Duration> {
        self.next_event()
    }

    /// The present, in time since the beginning.
    #[must_use]
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// Lets one thing happen, which must be due by `until`; `false`, at that time, if nothing is.
    pub fn advance(&mut self, until: Duration) -> bool {
        if self.next_event().is_some_and(|at| at <= until) {
            self.step();
            return true;
        }
        self.now = until;
        false
    }

    /// The next want of a managed client.
    pub fn take_want(&mut self) -> Option<(usize, Want)> {
        self.wants.pop_front()
    }

    /// Takes note of a want; `false` if nobody outside looks after the client.
    pub(super) fn tell(&mut self, number: usize, want: Want) -> bool {
        let managed = self.clients[number].managed;
        self.wants.extend(managed.then_some((number, want)));
        managed
    }

    /// A client's present by its own monotonic clock.
    #[must_use]
    pub fn monotonic_of(&self, number: usize) -> Monotonic {
        self.clients[number].monotonic(self.now)
    }

    /// When, since the beginning, that clock reads `at`, if the client does not sleep meanwhile.
    #[must_use]
    pub fn world_time(&self, number: usize, at: Monotonic) -> Duration {
        self.clients[number].world_time(at)
    }

    /// Adds a source; the engine refuses more than it has room for.
    pub fn add_source(&mut self, number: usize, spec: SourceSpec, wait: Duration) -> Option<SourceId> {
        let first = self.monotonic_of(number) + wait;
        let client = &mut self.clients[number];
        let id = client.engine.add_source(source_config(&spec), first)?;
        client.sources.insert(id, spec);
        self.drain(number);
        Some(id)
    }

    /// Forgets a source.
    pub fn remove_source(&mut self, number: usize, source: SourceId) {
        self.clients[number].sources.remove(&source);
        self.command(number, |engine, now| engine.remove_source(now, source));
    }

    /// Exchanges keys with a server, at once; `None` if it gives none.
    pub fn exchange_keys(&mut self, server: ServerId) -> Option<NtsKeys> {
        let spec = self.servers[server.0].spec;
        let seconds = self.now.as_secs_f64();
        (seconds < spec.keyless_from && seconds < spec.silent_from).then(|| self.issue(server))
    }

    /// Gives a source keys.
    pub fn set_keys(&mut self, number: usize, source: SourceId, keys: NtsKeys) {
        self.command(number, |engine, now| engine.set_keys(now.monotonic, source, keys, Trust::Pki));
    }

    /// A copy of a source's keys and cookies, for a restart.
    #[must_use]
    pub fn copy_keys(&self, number: usize, source: SourceId) -> Option<NtsKeys> {
        let (engine, now) = self.engine(number);
        let report = engine.source(now, source)?;
        let old = report.source.association().nts_keys()?;
        let key = |key: &AeadKey| AeadKey::new(key.algorithm(), key.as_bytes()).ok();
        let keys = SessionKeys { c2s: key(&old.keys.c2s)?, s2c: key(&old.keys.s2c)? };
        let mut cookies = CookieJar::new();
        for cookie in old.cookies.iter() {
            cookies.put(cookie.as_bytes());
        }
        Some(NtsKeys { keys, fallback: None, cookies })
    }

    /// The client sleeps, or is switched off: nothing happens in it, and nothing reaches it.
    pub fn suspend(&mut self, number: usize) {
        let client = &mut self.clients[number];
        client.away = Some(self.now);
        if let Some(wake) = client.wake.take() {
            self.events.remove(&wake);
        }
    }

    /// The client wakes up, notices that it slept, and measures anew.
    pub fn resume(&mut self, number: usize) {
        let now = self.now;
        let client = &mut self.clients[number];
        let Some(since) = client.away.take() else { return };
        client.slept += now - since;
        self.command(number, Engine::handle_interruption);
    }

    /// The client starts, without sources; `saved` is its frequency and the error bound of that from an earlier run.
    pub fn boot(&mut self, number: usize, saved: Option<(Rate, f64)>) {
        let seed = self.random.seed();
        let now = self.present(number);
        let client = &mut self.clients[number];
        let spec = ClientSpec { saved_frequency: saved, ..client.spec.clone() };
        client.engine = Engine::new(engine_config(&spec, self.start, seed), now);
        client.sources.clear();
        client.away = None;
        self.wants.retain(|(client, _)| *client != number);
        self.drain(number);
    }

    /// Frequency and its error bound, if the client has ever measured them.
    #[must_use]
    pub fn frequency(&self, number: usize) -> Option<(Rate, f64)> {
        let (engine, now): (&Engine, Now) = self.engine(number);
        let tracking = engine.tracking(now);
        (tracking.updates > 0 && tracking.synchronized).then_some((tracking.frequency, tracking.skew))
    }

    /// NTP packets of a client, in all its runs.
    #[must_use]
    pub fn traffic(&self, number: usize) -> Traffic {
        self.clients[number].traffic
    }
}
