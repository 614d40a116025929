//! What is kept over a restart.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ntp_proto::{
    bootstrap::Chain,
    ids::Trust,
    nts::{AeadAlgorithm, AeadKey, CookieJar, SessionKeys},
    pool::{KeyExchange, MAX_MEMBERS, Name, Negotiated, Service, auto::Route},
    source::NtsKeys,
    time::{Monotonic, Rate, UnixTime},
};

use super::{BUILT, Client, absent::Roll, members::Configured};
use crate::{
    clock::LocalClock,
    ke::connect::KeyExchanger,
    now,
    state::{
        Drift, LastTime, Places, PoolMemory, PoolRecord, Record, Recovered, SavedSource, SoftDrift, Sources,
        StateDirectory,
    },
};

/// Time between two saves.
const INTERVAL: Duration = Duration::from_secs(3600);
/// The same after one that came too early.
const RETRY: Duration = Duration::from_secs(16);
/// Saved keys older than this are not used: servers forget theirs after some days.
const MAX_KEY_AGE: i64 = 3 * 86_400;
/// Nanoseconds in a second.
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Keys, and where they are from.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) keys: NtsKeys,
    pub(super) origin: Origin,
    /// What vouched for the server says of the time; `None` of an earlier run.
    pub(super) chain: Option<Chain>,
    /// Where they were exchanged; `None` of an earlier run.
    pub(super) place: Option<SocketAddr>,
}

/// Where keys are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// The server that they were exchanged with, and its port.
    pub(super) server: Name,
    pub(super) port: u16,
    /// Digest of the certificates, and of the keys of DNSSEC, that were trusted.
    pub(super) trusted: [u8; 32],
    pub(super) at: ExchangedAt,
}

/// When keys were exchanged. The time of day may not have been known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExchangedAt {
    /// In this run, by nanoseconds since the machine started.
    Boot(i64),
    /// In an earlier run, in Unix seconds.
    Unix(i64),
}

impl Origin {
    /// Takes note of an exchange that ends now.
    pub(super) fn now(question: &KeyExchange, trusted: [u8; 32]) -> Self {
        let at = ExchangedAt::Boot(now::boot_nanos());
        Self { server: question.server.clone(), port: question.port, trusted, at }
    }

    /// How old the keys are, in seconds, when this long after the start the time of day is `unix`.
    pub(super) const fn age(&self, boot_nanos: i64, unix: i64) -> i64 {
        match self.at {
            ExchangedAt::Boot(at) => boot_nanos.saturating_sub(at) / NANOS_PER_SECOND,
            ExchangedAt::Unix(at) => unix.saturating_sub(at),
        }
    }

    /// The keys of a record, if they are for this question and not too old.
    fn of_record(saved: &SavedSource, question: &KeyExchange, trusted: [u8; 32], unix: i64) -> Option<Self> {
        let same = saved.key_exchange == question.server.as_str()
            && saved.key_exchange_port == question.port
            && saved.trusted == trusted;
        let origin = Self {
            server: question.server.clone(),
            port: question.port,
            trusted,
            at: ExchangedAt::Unix(saved.exchanged_at),
        };
        (same && !question.denied.contains(&saved.server) && origin.age(0, unix) <= MAX_KEY_AGE).then_some(origin)
    }
}

/// The state directory, and what was in it at the start.
#[derive(Debug)]
pub(super) struct Store {
    directory: Option<Arc<StateDirectory>>,
    drift: Option<Drift>,
    sources: Vec<SavedSource>,
    memory: PoolMemory,
    places: Places,
    /// Whether they are not on the disk yet.
    new_places: bool,
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
            places: Places::default(),
            new_places: false,
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
        store.places = found(directory.load()).unwrap_or_default();
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
        let record = PoolRecord { nts: route.is_nts(), mode: route.label().to_owned(), seen_at: now::unix().seconds };
        if self.memory.remember(name, record) {
            self.save_memory();
        }
    }

    /// Takes note of where keys were exchanged.
    pub(super) fn note_place(&mut self, name: &str, place: SocketAddr) {
        self.new_places |= self.places.note(name, place);
    }

    /// Where a server was found whose keys were exchanged at this port.
    pub(super) fn places(&self, name: &str, port: u16) -> Vec<SocketAddr> {
        self.places.of(name).iter().copied().filter(|place| place.port() == port).collect()
    }

    /// Who was absent when it was last saved.
    pub(super) fn absences(&self) -> Roll {
        let record = self.directory.as_ref().and_then(|directory| found(directory.load()));
        record.map(Roll::of_record).unwrap_or_default()
    }

    /// Saves who is absent.
    pub(super) fn save_absences(&mut self, roll: &Roll) {
        self.save(&roll.to_record());
    }

    /// Forgets the keys of the last run: those who vouched for them may not be trusted any more.
    pub(super) fn distrust(&mut self) {
        self.sources.clear();
    }

    /// Saves at the next occasion, not in an hour.
    pub(super) fn save_soon(&mut self) {
        self.next = now::monotonic();
    }

    /// Forgets the last verified time.
    pub(super) fn forget_time(&self) {
        if let Some(Err(error)) = self.directory.as_ref().map(|directory| directory.forget::<LastTime>()) {
            tracing::error!("{error}");
        }
    }

    /// Forgets what a name turned out to be; whether anything was known.
    pub(super) fn forget(&mut self, name: &str) -> bool {
        let known = self.memory.names.remove(name).is_some();
        if known {
            self.save_memory();
        }
        known
    }

    pub(super) fn save_places(&mut self) {
        if self.new_places {
            let places = self.places.clone();
            self.new_places = !self.save(&places);
        }
    }

    fn save_memory(&mut self) {
        let memory = self.memory.clone();
        self.save(&memory);
    }

    /// Writes a record, and says whether that worked. A disk that fails does not stop the daemon; it is told once, and tried
    /// again next time.
    pub(super) fn save<T: Record>(&mut self, record: &T) -> bool {
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
    /// Targets of service records that keys from the last run are for. A restart goes on with them as if the daemon had not
    /// stopped: answers to the same question differ in large pools, and most of the keys would be wasted.
    pub(super) fn known_services(&mut self, configured: &Configured, own: Option<&KeyExchanger>) -> Vec<Service> {
        let (unix, pool) = (self.unix(), configured.name());
        if !configured.require().is_empty() {
            return Vec::new();
        }
        let service = |saved: &SavedSource| {
            let target = Name::parse(&saved.key_exchange).ok()?;
            // The pool's own name and addresses are those of other modes.
            let of_records = saved.key_exchange != pool && target.address().is_none();
            let (server, port) = (target.clone(), saved.key_exchange_port);
            let question = KeyExchange { server, port, addresses: None, validated: true, denied: Vec::new() };
            let fits = of_records && self.fit(saved, configured, own, &question, unix).is_some();
            fits.then_some(Service { priority: 0, weight: 0, port, target })
        };
        self.store.sources.iter().filter_map(service).take(MAX_MEMBERS).collect()
    }

    /// The origin of saved keys if they are for this configured name, had in answer to the same question, and of use still.
    fn fit(
        &self,
        saved: &SavedSource,
        configured: &Configured,
        own: Option<&KeyExchanger>,
        question: &KeyExchange,
        unix: i64,
    ) -> Option<Origin> {
        let exchanger = own.unwrap_or(&self.exchanger);
        let offered = AeadAlgorithm::from_id(saved.algorithm).is_some_and(|one| exchanger.offers(one));
        let in_family = configured.options().family.is_none_or(|family| family.has(saved.address.ip()));
        let wanted = saved.configured == configured.name() && offered && in_family;
        Origin::of_record(saved, question, exchanger.trusted(), unix).filter(|_| wanted)
    }

    /// Keys from the last run for a member of this group, had in answer to the same question, if there are any.
    pub(super) fn take_saved(&mut self, group: usize, question: &KeyExchange) -> Option<(Negotiated, Fresh)> {
        let unix = self.unix();
        let group = self.groups.get(&group)?;
        let fits = |(index, saved)| {
            Some((index, self.fit(saved, &group.configured, group.exchanger.as_ref(), question, unix)?))
        };
        let (index, origin) = self.store.sources.iter().enumerate().find_map(fits)?;
        let saved = self.store.sources.remove(index);
        // TLSA records are looked up at each exchange, for they may be withdrawn: they vouch for no keys of another run.
        let trust = saved.trust.min(Trust::Dnssec);
        let algorithm = AeadAlgorithm::from_id(saved.algorithm)?;
        let key = |secret: &[u8]| AeadKey::new(algorithm, secret).ok();
        let keys = SessionKeys { c2s: key(&saved.client_key)?, s2c: key(&saved.server_key)? };
        let mut cookies = CookieJar::new();
        saved.cookies.iter().for_each(|cookie| {
            cookies.put(cookie);
        });
        let negotiated = Negotiated { ntp_server: saved.server, addresses: vec![saved.address], trust };
        let keys = NtsKeys { keys, fallback: None, cookies };
        (!keys.cookies.is_empty()).then_some((negotiated, Fresh { keys, origin, chain: None, place: None }))
    }

    /// When keys were exchanged; `None` if the machine did not run yet, or slept, so that it cannot be said.
    pub(super) fn exchanged(&mut self, origin: &Origin) -> Option<Monotonic> {
        let age = u64::try_from(origin.age(now::boot_nanos(), self.unix())).unwrap_or(0);
        let at = now::monotonic().to_nanos().checked_sub(age.saturating_mul(NANOS_PER_SECOND.unsigned_abs()))?;
        Some(Monotonic::from_nanos(at))
    }

    /// The time believed in, in Unix seconds.
    fn unix(&mut self) -> i64 {
        let present = self.clock.now();
        self.engine.map().apply(present.clock).to_unix(BUILT).seconds
    }

    pub(super) fn save_if_due(&mut self) {
        if now::monotonic() >= self.store.next {
            let wait = if self.save_clock() { INTERVAL } else { RETRY };
            self.store.next = now::monotonic() + wait;
        }
    }

    /// Saves the frequency, and the time if it is verified: whatever nobody has confirmed must never become what has surely
    /// passed. Returns whether there was anything to save.
    fn save_clock(&mut self) -> bool {
        let present = self.clock.now();
        let tracking = self.engine.tracking(present);
        if tracking.updates == 0 || !tracking.synchronized {
            return false;
        }
        let drift = Drift::new(tracking.frequency, Rate::new(tracking.skew));
        if self.clock.is_machines() {
            self.store.save(&drift);
        } else {
            self.store.save(&SoftDrift(drift));
        }
        if self.boot.is_verified() {
            let bound = tracking.root_dispersion + tracking.pending.abs();
            #[expect(clippy::cast_possible_truncation, reason = "some seconds while the clock counts as synchronized")]
            let bound = (bound.to_seconds() + tracking.root_delay.to_seconds() / 2.0).ceil() as i64;
            let unix = self.unix();
            let at = self.boot.raise_floor(unix.saturating_sub(bound));
            let boot = self.clock.is_machines().then(now::boot_id).flatten();
            self.boot.vouched = boot.is_some();
            self.store.save(&LastTime::new(UnixTime { seconds: at, nanos: 0 }, boot));
            self.store.save_absences(&self.roll);
            self.store.save_places();
        }
        true
    }

    /// Saves everything, cookies too: they will not be used by this process any more.
    pub(super) fn save_all(&mut self) {
        self.save_clock();
        // As long as the time is not verified, nobody knows whether those who gave keys in this run could vouch for themselves.
        let unproven = self.boot.holds();
        let (present, unix, boot) = (self.clock.now(), self.unix(), now::boot_nanos());
        let mut sources = Vec::new();
        for group in self.groups.values() {
            for active in group.members.values() {
                let Some(report) = self.engine.source(present, active.source) else { continue };
                let Some(keys) = report.source.association().nts_keys() else { continue };
                let address = self.info.get(&active.source).and_then(|info| info.address);
                let (Some(address), Some(origin)) = (address, &active.origin) else { continue };
                if unproven && matches!(origin.at, ExchangedAt::Boot(_)) {
                    continue;
                }
                sources.push(SavedSource {
                    configured: group.configured.name(),
                    key_exchange: origin.server.to_string(),
                    key_exchange_port: origin.port,
                    trusted: origin.trusted.to_vec(),
                    server: active.label.clone(),
                    address,
                    trust: report.source.config().trust,
                    algorithm: keys.keys.c2s.algorithm().id(),
                    client_key: keys.keys.c2s.as_bytes().to_vec(),
                    server_key: keys.keys.s2c.as_bytes().to_vec(),
                    cookies: keys.cookies.iter().map(|cookie| cookie.as_bytes().to_vec()).collect(),
                    exchanged_at: unix.saturating_sub(origin.age(boot, unix)),
                });
            }
        }
        self.store.save(&Sources { sources });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn question() -> KeyExchange {
        let server = Name::parse("ke.time.example").unwrap();
        KeyExchange { server, port: 4460, addresses: None, validated: false, denied: vec!["b.time.example".to_owned()] }
    }

    fn saved() -> SavedSource {
        SavedSource {
            client_key: vec![1; 32],
            server_key: vec![2; 32],
            cookies: vec![vec![3; 100]],
            exchanged_at: NOW - MAX_KEY_AGE,
            ..SavedSource::example()
        }
    }

    #[test]
    fn saved_keys_are_for_the_same_server_and_the_same_trust_alone() {
        let found = |saved: &SavedSource| Origin::of_record(saved, &question(), [5; 32], NOW).is_some();
        assert!(found(&saved()));
        for spoil in [
            (|saved: &mut SavedSource| saved.key_exchange = "other.example".to_owned()) as fn(&mut SavedSource),
            |saved| saved.key_exchange_port = 4461,
            |saved| saved.trusted[31] ^= 1,
            |saved| saved.trusted.clear(),
            |saved| saved.server = "b.time.example".to_owned(),
            |saved| saved.exchanged_at -= 1,
        ] {
            let mut other = saved();
            spoil(&mut other);
            assert!(!found(&other), "{other:?}");
        }
    }

    #[test]
    fn keys_are_as_old_as_their_exchange_however_often_they_are_saved() {
        let at = |at| Origin { server: question().server, port: 4460, trusted: [5; 32], at };
        // The clock was set meanwhile: what counts is how long ago it was.
        assert_eq!(at(ExchangedAt::Boot(100 * NANOS_PER_SECOND)).age(160 * NANOS_PER_SECOND, NOW), 60);
        assert_eq!(at(ExchangedAt::Unix(NOW - 7)).age(160 * NANOS_PER_SECOND, NOW), 7);
        let again = Origin::of_record(&saved(), &question(), [5; 32], NOW).unwrap();
        assert_eq!(NOW - again.age(0, NOW), saved().exchanged_at);
    }
}
