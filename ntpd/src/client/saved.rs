//! What is kept over a restart.

use std::{sync::Arc, time::Duration};

use ntp_proto::{
    ids::Trust,
    nts::{AeadAlgorithm, AeadKey, CookieJar, SessionKeys},
    pool::{Negotiated, auto::Route},
    source::NtsKeys,
    time::{Monotonic, Rate, UnixTime},
};

use super::{BUILT, Client};
use crate::{
    clock::LocalClock,
    now,
    state::{
        Drift, LastTime, PoolMemory, PoolRecord, Record, Recovered, SavedSource, SoftDrift, Sources, StateDirectory,
    },
};

/// Time between two saves.
const INTERVAL: Duration = Duration::from_secs(3600);
/// Saved keys older than this are not used: servers forget theirs after some days.
const MAX_KEY_AGE: i64 = 3 * 86_400;
/// Most names whose way is remembered.
const MAX_NAMES: usize = 1024;

/// The state directory, and what was in it at the start.
#[derive(Debug)]
pub(super) struct Store {
    directory: Option<Arc<StateDirectory>>,
    drift: Option<Drift>,
    sources: Vec<SavedSource>,
    memory: PoolMemory,
    next: Monotonic,
    complained: bool,
}

impl Store {
    /// Reads what is there; what is damaged counts as absent, and is told.
    pub(super) fn open(directory: Option<Arc<StateDirectory>>, clock: &LocalClock) -> Self {
        let mut store = Self {
            directory,
            drift: None,
            sources: Vec::new(),
            memory: PoolMemory::default(),
            next: now::monotonic() + INTERVAL,
            complained: false,
        };
        let Some(directory) = &store.directory else { return store };
        store.drift = if clock.is_machines() {
            found(directory.load())
        } else {
            found(directory.load()).map(|SoftDrift(drift)| drift)
        };
        store.sources = found(directory.load::<Sources>()).unwrap_or_default().sources;
        store.memory = found(directory.load()).unwrap_or_default();
        store
    }

    /// Frequency and its error bound from the last run.
    pub(super) fn drift(&self) -> Option<(Rate, f64)> {
        self.drift.map(|drift| (drift.frequency(), drift.skew().get()))
    }

    /// The way that a name last worked.
    pub(super) fn remembered(&self, name: &str) -> Option<Route> {
        let record = self.memory.names.get(name)?;
        let route = Route::from_label(&record.mode);
        // Whatever else the record says: a name that offered NTS once is not used without it.
        if record.nts { route.filter(|route| route.is_nts()).or(Some(Route::Lb)) } else { route }
    }

    /// Remembers the way that a name works, on the disk at once: it protects against a downgrade.
    pub(super) fn remember(&mut self, name: &str, route: Route) {
        let old = self.memory.names.get(name);
        let nts = route.is_nts() || old.is_some_and(|old| old.nts);
        if old.is_some_and(|old| old.mode == route.label() && old.nts == nts) || self.memory.names.len() >= MAX_NAMES {
            return;
        }
        let record = PoolRecord { nts, mode: route.label().to_owned(), seen_at: now::unix().seconds };
        self.memory.names.insert(name.to_owned(), record);
        self.save_memory();
    }

    /// Forgets the keys of the last run: those who vouched for them may not be trusted any more.
    pub(super) fn distrust(&mut self) {
        self.sources.clear();
    }

    /// Forgets what a name turned out to be; whether anything was known.
    pub(super) fn forget(&mut self, name: &str) -> bool {
        let known = self.memory.names.remove(name).is_some();
        if known {
            self.save_memory();
        }
        known
    }

    fn save_memory(&mut self) {
        let memory = self.memory.clone();
        self.save(&memory);
    }

    /// Writes a record, and says whether that worked. A disk that fails does not stop the daemon; it is told once, and tried
    /// again next time.
    fn save<T: Record>(&mut self, record: &T) -> bool {
        let Some(directory) = &self.directory else { return false };
        let saved = directory.save(record);
        if let Some(error) = saved.as_ref().err().filter(|_| !self.complained) {
            tracing::warn!("state not saved: {error}");
        }
        self.complained = saved.is_err();
        saved.is_ok()
    }
}

/// The record, if there is one; what was wrong with it is told.
fn found<T: Record>(recovered: Recovered<T>) -> Option<T> {
    if let Some(complaint) = recovered.complaint {
        tracing::warn!("{complaint}");
    }
    recovered.value
}

impl Client {
    /// Keys from the last run for a member of this group that is not denied, if there are any.
    pub(super) fn take_saved(&mut self, group: usize, denied: &[String]) -> Option<(Negotiated, NtsKeys)> {
        let name = self.groups.get(&group)?.configured.name();
        let oldest = now::unix().seconds - MAX_KEY_AGE;
        let fits = |saved: &SavedSource| {
            saved.configured == name && saved.exchanged_at >= oldest && !denied.contains(&saved.server)
        };
        let index = self.store.sources.iter().position(fits)?;
        let saved = self.store.sources.remove(index);
        let algorithm = AeadAlgorithm::from_id(saved.algorithm)?;
        let key = |secret: &[u8]| AeadKey::new(algorithm, secret).ok();
        let keys = SessionKeys { c2s: key(&saved.client_key)?, s2c: key(&saved.server_key)? };
        let mut cookies = CookieJar::new();
        saved.cookies.iter().for_each(|cookie| {
            cookies.put(cookie);
        });
        let negotiated = Negotiated { ntp_server: saved.server, addresses: vec![saved.address], trust: Trust::Pki };
        (!cookies.is_empty()).then_some((negotiated, NtsKeys { keys, fallback: None, cookies }))
    }

    pub(super) fn save_if_due(&mut self) {
        if now::monotonic() >= self.store.next {
            self.store.next = now::monotonic() + INTERVAL;
            self.save_clock();
        }
    }

    /// Saves frequency and time.
    fn save_clock(&mut self) {
        let present = self.clock.now();
        let tracking = self.engine.tracking(present);
        if tracking.updates == 0 || !tracking.synchronized {
            return;
        }
        let drift = Drift::new(tracking.frequency, Rate::new(tracking.skew));
        if self.clock.is_machines() {
            self.store.save(&drift);
        } else {
            self.store.save(&SoftDrift(drift));
        }
        let time: UnixTime = self.engine.map().apply(present.clock).to_unix(BUILT);
        self.store.save(&LastTime::new(time));
    }

    /// Saves everything, cookies too: they will not be used by this process any more.
    pub(super) fn save_all(&mut self) {
        self.save_clock();
        let present = self.clock.now();
        let mut sources = Vec::new();
        for group in self.groups.values() {
            for active in group.members.values() {
                let report = self.engine.source(present, active.source);
                let Some(keys) = report.and_then(|report| report.source.association().nts_keys()) else { continue };
                let Some(info) = self.info.get(&active.source) else { continue };
                sources.push(SavedSource {
                    configured: group.configured.name(),
                    server: active.label.clone(),
                    address: info.address,
                    algorithm: keys.keys.c2s.algorithm().id(),
                    client_key: keys.keys.c2s.as_bytes().to_vec(),
                    server_key: keys.keys.s2c.as_bytes().to_vec(),
                    cookies: keys.cookies.iter().map(|cookie| cookie.as_bytes().to_vec()).collect(),
                    exchanged_at: now::unix().seconds,
                });
            }
        }
        self.store.save(&Sources { sources });
    }
}
