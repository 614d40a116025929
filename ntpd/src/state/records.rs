//! The kinds of records.

use std::{collections::BTreeMap, net::SocketAddr};

use ntp_proto::{
    ids::Trust,
    time::{Rate, UnixTime},
};
use serde::{Deserialize, Serialize};

use super::Record;

/// Largest frequency that is believed of a record: a wrong one must not send a good clock astray.
const MAX_DRIFT: Rate = Rate::from_ppm(500.0);

/// Most sources in a record.
const MAX_SOURCES: usize = 512;

/// Cookies a client holds of each source (RFC 8915 section 4.1.6 lets servers send eight).
const MAX_COOKIES: usize = 8;

/// Longest cookie.
const MAX_COOKIE_BYTES: usize = 512;

/// Longest key of an AEAD algorithm.
const MAX_KEY_BYTES: usize = 64;

/// Longest digest.
const MAX_DIGEST_BYTES: usize = 64;

/// Longest state of a cookie keyring.
const MAX_KEYRING_BYTES: usize = 4_096;

/// Most pool names in a record.
const MAX_POOL_NAMES: usize = 1_024;

/// Longest name (RFC 1035 section 3.1).
pub(super) const MAX_NAME_BYTES: usize = 255;

/// How fast the undisciplined clock runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Drift {
    frequency_ppm: f64,
    skew_ppm: f64,
}

impl Drift {
    /// Takes the frequency to steer by and the bound of its error.
    #[must_use]
    pub const fn new(frequency: Rate, skew: Rate) -> Self {
        Self { frequency_ppm: frequency.to_ppm(), skew_ppm: skew.to_ppm() }
    }

    /// The frequency to steer by, within ±500 ppm.
    #[must_use]
    pub const fn frequency(&self) -> Rate {
        Rate::from_ppm(self.frequency_ppm)
    }

    /// The bound of its error, never negative.
    #[must_use]
    pub const fn skew(&self) -> Rate {
        Rate::from_ppm(self.skew_ppm)
    }
}

impl Record for Drift {
    const KIND: &'static str = "drift";

    fn sanitize(self) -> Option<Self> {
        if !self.frequency_ppm.is_finite() || !self.skew_ppm.is_finite() || self.skew_ppm < 0.0 {
            return None;
        }
        Some(Self::new(self.frequency().clamp(MAX_DRIFT), self.skew()))
    }
}

/// How fast the machine's clock runs against the timescale that a run with `-x` keeps beside it. Whatever steered that
/// clock meanwhile is in it too, so that it says nothing of the machine's own drift.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SoftDrift(pub Drift);

impl Record for SoftDrift {
    const KIND: &'static str = "soft-drift";

    fn sanitize(self) -> Option<Self> {
        self.0.sanitize().map(Self)
    }
}

/// A time that has surely passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LastTime {
    unix_seconds: i64,
    /// Since which start of the machine its clock is the one that this was read from; `None` if it was another clock, or that
    /// is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
}

impl LastTime {
    /// Takes the time, to the second, and what tells this start of the machine from others, if its clock said so.
    #[must_use]
    pub const fn new(time: UnixTime, boot: Option<String>) -> Self {
        Self { unix_seconds: time.seconds, boot }
    }

    /// Whether the machine's clock was verified since the start that is called `boot`.
    #[must_use]
    pub fn is_since(&self, boot: Option<&str>) -> bool {
        boot.is_some() && self.boot.as_deref() == boot
    }

    /// The time.
    #[must_use]
    pub const fn time(&self) -> UnixTime {
        UnixTime { seconds: self.unix_seconds, nanos: 0 }
    }
}

impl Record for LastTime {
    const KIND: &'static str = "last-time";

    /// Years 1970 to 9999: the rest of the range would only overflow somewhere.
    fn sanitize(self) -> Option<Self> {
        (0..253_402_300_800).contains(&self.unix_seconds).then_some(self)
    }
}

/// Keys and cookies of NTS sources, so that a restart needs no key exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// One entry for each source.
    pub sources: Vec<SavedSource>,
}

/// Keys and cookies of one NTS source.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SavedSource {
    /// The pool or server of the configuration that it belongs to.
    pub configured: String,
    /// The server that keys were exchanged with.
    pub key_exchange: String,
    /// Its TCP port.
    pub key_exchange_port: u16,
    /// Digest of the certificates, and of the keys of DNSSEC, that were trusted then.
    #[serde(with = "hex")]
    pub trusted: Vec<u8>,
    /// The server's name as the key exchange gave it.
    pub server: String,
    /// Where it answers NTP.
    pub address: SocketAddr,
    /// What vouched for it when the keys were exchanged: `Pki`, `Dnssec` or `Dane`.
    #[serde(with = "trust", default = "trust::of_older_files")]
    pub trust: Trust,
    /// AEAD algorithm (IANA number).
    pub algorithm: u16,
    /// Key from client to server.
    #[serde(with = "hex")]
    pub client_key: Vec<u8>,
    /// Key from server to client.
    #[serde(with = "hex")]
    pub server_key: Vec<u8>,
    /// Unused cookies, oldest first.
    #[serde(with = "hex_list")]
    pub cookies: Vec<Vec<u8>>,
    /// When the keys were exchanged, in Unix seconds.
    pub exchanged_at: i64,
}

impl std::fmt::Debug for SavedSource {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SavedSource({} at {}, {} cookies)", self.server, self.address, self.cookies.len())
    }
}

impl SavedSource {
    fn is_sane(&self) -> bool {
        let key = |bytes: &[u8]| (1..=MAX_KEY_BYTES).contains(&bytes.len());
        let cookie = |bytes: &Vec<u8>| (1..=MAX_COOKIE_BYTES).contains(&bytes.len());
        key(&self.client_key)
            && key(&self.server_key)
            && self.cookies.len() <= MAX_COOKIES
            && self.cookies.iter().all(cookie)
            && self.configured.len() <= MAX_NAME_BYTES
            && self.key_exchange.len() <= MAX_NAME_BYTES
            && self.trusted.len() <= MAX_DIGEST_BYTES
            && self.server.len() <= MAX_NAME_BYTES
    }
}

impl Record for Sources {
    const KIND: &'static str = "sources";
    // RFC 8915 section 5.7: a cookie is used once.
    const USED_ONCE: bool = true;

    fn sanitize(mut self) -> Option<Self> {
        self.sources.truncate(MAX_SOURCES);
        self.sources.iter().all(SavedSource::is_sane).then_some(self)
    }
}

/// The keys that the server's cookies are made with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Keyring {
    /// The keyring as it writes itself.
    #[serde(with = "hex")]
    pub state: Vec<u8>,
    /// When the newest key was made, in Unix seconds.
    pub rotated_at: i64,
}

impl std::fmt::Debug for Keyring {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring({} bytes)", self.state.len())
    }
}

impl Record for Keyring {
    const KIND: &'static str = "keyring";

    fn sanitize(self) -> Option<Self> {
        (1..=MAX_KEYRING_BYTES).contains(&self.state.len()).then_some(self)
    }
}

/// What each pool and server name turned out to be: a name that once offered NTS is never used without it again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolMemory {
    /// By name.
    pub names: BTreeMap<String, PoolRecord>,
}

/// What one name turned out to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PoolRecord {
    /// Whether it offered NTS.
    pub nts: bool,
    /// The mode that worked.
    pub mode: String,
    /// When that was last so, in Unix seconds.
    pub seen_at: i64,
}

impl PoolMemory {
    /// Writes down what a name turned out to be, and says whether that was news. If there are too many names, the one that
    /// has been known the longest gives way, but never one that offered NTS: that would undo its protection.
    pub fn remember(&mut self, name: &str, fresh: PoolRecord) -> bool {
        let old = self.names.get(name);
        let record = PoolRecord { nts: fresh.nts || old.is_some_and(|old| old.nts), ..fresh };
        if old.is_some_and(|old| old.mode == record.mode && old.nts == record.nts) {
            return false;
        }
        if old.is_none() && self.names.len() >= MAX_POOL_NAMES {
            let plain = self.names.iter().filter(|(_, record)| !record.nts).min_by_key(|(_, record)| record.seen_at);
            let Some(gone) = plain.map(|(name, _)| name.clone()) else { return false };
            self.names.remove(&gone);
        }
        self.names.insert(name.to_owned(), record);
        true
    }
}

impl Record for PoolMemory {
    const KIND: &'static str = "pools";

    fn sanitize(self) -> Option<Self> {
        let sane = |(name, record): (&String, &PoolRecord)| {
            name.len() <= MAX_NAME_BYTES && record.mode.len() <= MAX_NAME_BYTES
        };
        (self.names.len() <= MAX_POOL_NAMES && self.names.iter().all(sane)).then_some(self)
    }
}

/// Bytes as text.
mod hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::hex;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(&String::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("not hexadecimal"))
    }
}

/// A list of bytes as text.
mod hex_list {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::hex;

    pub(super) fn serialize<S: Serializer>(list: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().map(|bytes| hex::encode(bytes)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
        let list = Vec::<String>::deserialize(deserializer)?;
        let decoded: Option<_> = list.iter().map(|text| hex::decode(text)).collect();
        decoded.ok_or_else(|| D::Error::custom("not hexadecimal"))
    }
}

/// What vouches for a source with NTS, as the word of reports.
mod trust {
    use ntp_proto::ids::Trust;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// NTS vouches for this at least.
    pub(super) const fn of_older_files() -> Trust {
        Trust::Pki
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde has it so")]
    pub(super) fn serialize<S: Serializer>(trust: &Trust, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(trust.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Trust, D::Error> {
        let word = String::deserialize(deserializer)?;
        let found = [Trust::Pki, Trust::Dnssec, Trust::Dane].into_iter().find(|trust| trust.name() == word);
        found.ok_or_else(|| D::Error::custom("not `pki`, `dnssec` or `dane`"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::state::{decode, encode};

    fn round_trip<T: Record>(record: &T) -> Option<T> {
        decode(T::KIND, &encode(T::KIND, &serde_json::to_vec(record).unwrap()))
    }

    fn read<T: Record>(json: &str) -> Option<T> {
        decode(T::KIND, &encode(T::KIND, json.as_bytes()))
    }

    impl SavedSource {
        /// One that tests change to their ends.
        pub(crate) fn example() -> Self {
            Self {
                configured: "time.example".to_owned(),
                key_exchange: "ke.time.example".to_owned(),
                key_exchange_port: 4460,
                trusted: vec![5; 32],
                server: "a.time.example".to_owned(),
                address: "[2001:db8::1]:123".parse().unwrap(),
                trust: Trust::Dnssec,
                algorithm: 15,
                client_key: vec![0, 255],
                server_key: vec![7; 64],
                cookies: vec![vec![9; 100]; 8],
                exchanged_at: 1_790_000_000,
            }
        }
    }

    #[test]
    fn records_come_back_as_they_were() {
        let drift = Drift::new(Rate::from_ppm(-12.345_678_9), Rate::from_ppm(0.01));
        assert_eq!(round_trip(&drift), Some(drift));
        assert_eq!(round_trip(&SoftDrift(drift)), Some(SoftDrift(drift)));
        let time = LastTime::new(UnixTime { seconds: 4_102_444_800, nanos: 5 }, Some("a boot".to_owned()));
        assert_eq!(round_trip(&time).as_ref(), Some(&time));
        let sources = Sources { sources: vec![SavedSource::example()] };
        assert_eq!(round_trip(&sources).as_ref(), Some(&sources));
        assert!(!format!("{sources:?}").contains("255"), "secrets are not shown");
        let keyring = Keyring { state: vec![1, 2, 3], rotated_at: 5 };
        assert_eq!(round_trip(&keyring), Some(keyring));
        let record = PoolRecord { nts: true, mode: "lb".to_owned(), seen_at: 1 };
        let pools = PoolMemory { names: BTreeMap::from([("time.example".to_owned(), record)]) };
        assert_eq!(round_trip(&pools).as_ref(), Some(&pools));
    }

    #[test]
    fn trust_is_kept_and_a_certificate_is_what_older_files_had() {
        let written = |trust| {
            let sources = Sources { sources: vec![SavedSource { trust, ..SavedSource::example() }] };
            serde_json::to_string(&sources).unwrap()
        };
        let trust = |json: &str| Some(read::<Sources>(json)?.sources[0].trust);
        for kept in [Trust::Pki, Trust::Dnssec, Trust::Dane] {
            assert_eq!(trust(&written(kept)), Some(kept));
        }
        let json = written(Trust::Dane);
        assert_eq!(trust(&json.replace("\"trust\":\"dane\",", "")), Some(Trust::Pki));
        for word in ["none", "key", "DANE", ""] {
            assert_eq!(trust(&json.replace("\"dane\"", &format!("\"{word}\""))), None, "{word}");
        }
    }

    #[test]
    fn values_out_of_range_are_limited_or_refused() {
        let far: Drift = read("{\"frequency-ppm\": 99999, \"skew-ppm\": 1}").unwrap();
        assert!((far.frequency().to_ppm() - 500.0).abs() < 1e-9);
        for json in [
            "{\"frequency-ppm\": null, \"skew-ppm\": 1}",
            "{\"frequency-ppm\": 1, \"skew-ppm\": -1}",
            "{\"frequency-ppm\": 1}",
            "[]",
            "",
        ] {
            assert_eq!(read::<Drift>(json), None, "{json}");
        }
        assert_eq!(read::<LastTime>("{\"unix-seconds\": -1}"), None);
        assert_eq!(read::<LastTime>("{\"unix-seconds\": 9223372036854775807}"), None);
        for spoil in [
            (|source: &mut SavedSource| source.cookies.push(vec![1])) as fn(&mut SavedSource),
            |source| source.cookies[0].clear(),
            |source| source.cookies[0] = vec![0; 513],
            |source| source.client_key.clear(),
            |source| source.server_key = vec![0; 65],
            |source| source.server = "x".repeat(256),
            |source| source.key_exchange = "x".repeat(256),
            |source| source.trusted = vec![0; 65],
        ] {
            let mut bad = SavedSource::example();
            spoil(&mut bad);
            assert_eq!(round_trip(&Sources { sources: vec![bad] }), None);
        }
        assert_eq!(round_trip(&Sources { sources: vec![SavedSource::example(); 600] }).unwrap().sources.len(), 512);
        assert_eq!(round_trip(&Keyring { state: Vec::new(), rotated_at: 0 }), None);
    }

    #[test]
    fn a_full_memory_forgets_plain_names_only() {
        let record = |nts, mode: &str, seen_at| PoolRecord { nts, mode: mode.to_owned(), seen_at };
        let mut memory = PoolMemory::default();
        for number in 0..MAX_POOL_NAMES {
            let nts = number != 7 && number != 9;
            let (mode, seen_at) = (if nts { "lb" } else { "classic" }, if number == 9 { 1 } else { 2 });
            assert!(memory.remember(&format!("n{number}"), record(nts, mode, seen_at)));
        }
        assert!(memory.remember("n7", record(true, "srv", 3)), "a known name is kept up to date");
        assert!(!memory.remember("n7", record(true, "srv", 4)), "no news");
        assert!(memory.remember("n7", record(false, "classic", 4)) && memory.names["n7"].nts, "once NTS, always NTS");
        assert!(memory.remember("new", record(true, "lb", 5)));
        assert!(!memory.names.contains_key("n9") && memory.names.contains_key("new"));
        assert!(!memory.remember("one too many", record(true, "lb", 6)));
        assert_eq!(memory.names.len(), MAX_POOL_NAMES);
        assert!(memory.names.values().all(|record| record.nts));
    }

    proptest! {
        #[test]
        fn no_payload_makes_it_panic(payload in prop::collection::vec(any::<u8>(), 0..200), json in "\\PC{0,80}") {
            let _ = decode::<Sources>("sources", &encode("sources", &payload));
            let _ = read::<PoolMemory>(&json);
            let _ = decode::<Drift>("drift", &payload);
        }
    }
}
