//! The keys of NTS cookies over time.
//!
//! A new key is made every day, and saved before it is used, so that after a restart every cookie is still known. Servers that
//! take each other's cookies derive their keys from a secret and the time instead.

use std::{fmt, path::PathBuf, time::Duration};

use ntp_proto::{nts::Keyring, time::UnixTime};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::state::{self, Record as _, StateDirectory, StateError, StateFault};

/// How long cookies are made with one key, unless the configuration says otherwise. A cookie is good for six times as long
/// at least; while servers share two secrets, for twice as long.
pub const PERIOD: Duration = Duration::from_secs(24 * 3_600);

/// When saving is tried again after it failed.
const RETRY: Duration = Duration::from_secs(3_600);

/// The keyring, and where its keys are from.
#[derive(Debug)]
pub struct CookieKeys {
    keyring: Keyring,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Keys of this server alone: when the newest was made, and whether all are on the disk.
    Own { rotated_at: i64, saved: bool },
    /// Keys that all servers with the same secrets derive for themselves, of this epoch.
    Shared { secrets: Secrets, epoch: u64 },
}

/// Secrets that several servers share, and how long cookies are made with one key.
#[derive(Clone)]
pub struct Secrets {
    secrets: Zeroizing<Vec<[u8; Keyring::KEY_LEN]>>,
    period: Duration,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("period", &self.period).finish_non_exhaustive()
    }
}

impl Secrets {
    /// Fewest characters of a secret.
    pub const MIN_LEN: usize = 32;

    /// Takes the secrets from a text: one a line, the one in use first.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, with the line.
    pub fn parse(text: &str, period: Duration) -> Result<Self, String> {
        let mut secrets = Zeroizing::new(Vec::with_capacity(Keyring::MAX_SECRETS));
        for (line, secret) in (1..).zip(text.lines()).map(|(line, text)| (line, text.trim())) {
            if secret.is_empty() || secret.starts_with('#') {
                continue;
            }
            if secret.len() < Self::MIN_LEN {
                return Err(format!(
                    "line {line}: too short; accepted: {} characters and more, at random",
                    Self::MIN_LEN
                ));
            }
            if secrets.len() == Keyring::MAX_SECRETS {
                return Err(format!(
                    "line {line}: one secret too many; accepted: the one in use, and one that comes or goes"
                ));
            }
            secrets.push(Sha256::digest(secret).into());
        }
        if secrets.is_empty() {
            return Err(format!(
                "no secret in it; accepted: a line of {} characters and more, at random",
                Self::MIN_LEN
            ));
        }
        Ok(Self { secrets, period })
    }

    fn epoch(&self, now: UnixTime) -> u64 {
        u64::try_from(now.seconds).unwrap_or(0) / self.period.as_secs().max(1)
    }

    fn keyring(&self, epoch: u64) -> Keyring {
        #[expect(clippy::expect_used, reason = "`parse` takes no text without secrets")]
        Keyring::shared(&self.secrets, epoch).expect("there is a secret")
    }
}

impl CookieKeys {
    /// Takes the saved keyring, or makes a new one if there is none that can be used; also says what was wrong with it.
    ///
    /// # Errors
    ///
    /// If the system gives no random bytes.
    pub fn load(state: &StateDirectory, now: UnixTime) -> Result<(Self, Option<StateError>), getrandom::Error> {
        let found = state.load::<state::Keyring>();
        let Some(record) = found.value else {
            return Ok((Self::fresh(now)?, found.complaint));
        };
        match Keyring::from_bytes(&record.state) {
            Ok(keyring) => {
                let source = Source::Own { rotated_at: record.rotated_at, saved: true };
                Ok((Self { keyring, source }, found.complaint))
            }
            Err(_) => {
                let fault = StateFault::Damaged { previous_used: false };
                let complaint = StateError { path: PathBuf::from(state::Keyring::KIND), fault };
                Ok((Self::fresh(now)?, Some(complaint)))
            }
        }
    }

    /// Makes a new keyring.
    ///
    /// # Errors
    ///
    /// If the system gives no random bytes.
    pub fn fresh(now: UnixTime) -> Result<Self, getrandom::Error> {
        let source = Source::Own { rotated_at: now.seconds, saved: false };
        Ok(Self { keyring: Keyring::new(&random()?), source })
    }

    /// Derives the keyring that all servers with these secrets have now.
    #[must_use]
    pub fn shared(secrets: Secrets, now: UnixTime) -> Self {
        let epoch = secrets.epoch(now);
        Self { keyring: secrets.keyring(epoch), source: Source::Shared { secrets, epoch } }
    }

    /// The keys in use.
    #[must_use]
    pub const fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Whether other servers have the same keys.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self.source, Source::Shared { .. })
    }

    /// How long [`tend`](Self::tend) need not be called, nothing at all if it should be now.
    #[must_use]
    pub fn rest(&self, now: UnixTime) -> Duration {
        match &self.source {
            Source::Own { rotated_at, saved } => {
                let age = now.seconds.saturating_sub(*rotated_at);
                let left = PERIOD.as_secs().saturating_sub(u64::try_from(age).unwrap_or(0));
                let left = Duration::from_secs(left);
                if *saved { left } else { left.min(RETRY) }
            }
            Source::Shared { secrets, epoch } if secrets.epoch(now) != *epoch => Duration::ZERO,
            Source::Shared { secrets, .. } => {
                let period = secrets.period.as_secs().max(1);
                Duration::from_secs(period - u64::try_from(now.seconds).unwrap_or(0) % period)
            }
        }
    }

    /// Makes a new key if it is time, and saves what is not saved, if there is where to; returns whether there is a new key.
    ///
    /// The time may be wrong by any amount, as after a start: too early a time only waits, at most one period, and too
    /// late a time makes one key. Shared keys follow the time wherever it goes.
    ///
    /// If saving fails, the new key is used all the same: old keys must not live on because a disk is full. Cookies made
    /// with it will not be known after a restart, and their clients then exchange keys once more.
    ///
    /// # Errors
    ///
    /// If the system gives no random bytes; nothing is changed then.
    pub fn tend(&mut self, state: Option<&StateDirectory>, now: UnixTime) -> Result<Tended, getrandom::Error> {
        match &mut self.source {
            Source::Own { rotated_at, saved } => {
                let age = now.seconds.saturating_sub(*rotated_at);
                let rotated = age >= i64::try_from(PERIOD.as_secs()).unwrap_or(i64::MAX);
                if rotated {
                    self.keyring.rotate(&random()?);
                }
                if rotated || age < 0 {
                    (*rotated_at, *saved) = (now.seconds, false);
                }
                let record = state::Keyring { state: self.keyring.to_bytes().to_vec(), rotated_at: *rotated_at };
                let unsaved = state.filter(|_| !*saved);
                let complaint = unsaved.and_then(|state| state.save(&record).err());
                *saved = complaint.is_none();
                Ok(Tended { rotated, complaint })
            }
            Source::Shared { secrets, epoch } => {
                let current = secrets.epoch(now);
                let rotated = current != *epoch;
                if rotated {
                    (self.keyring, *epoch) = (secrets.keyring(current), current);
                }
                Ok(Tended { rotated, complaint: None })
            }
        }
    }

    /// Makes a new key at once; [`tend`](Self::tend) saves it. Shared keys stay as they are: they are of the time.
    ///
    /// # Errors
    ///
    /// If the system gives no random bytes; nothing is changed then.
    pub fn rotate(&mut self, now: UnixTime) -> Result<(), getrandom::Error> {
        if let Source::Own { rotated_at, saved } = &mut self.source {
            self.keyring.rotate(&random()?);
            (*rotated_at, *saved) = (now.seconds, false);
        }
        Ok(())
    }
}

/// What [`CookieKeys::tend`] did.
#[derive(Debug)]
#[must_use]
pub struct Tended {
    /// There is a new key. Tell the NTP server first and the key-exchange server then, so that no cookie is handed out
    /// before it is known.
    pub rotated: bool,
    /// The keyring could not be saved.
    pub complaint: Option<StateError>,
}

fn random() -> Result<[u8; Keyring::KEY_LEN], getrandom::Error> {
    let mut bytes = [0; Keyring::KEY_LEN];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ntp_proto::nts::{AeadAlgorithm, AeadKey, SessionKeys};
    use tempfile::TempDir;

    use super::*;

    const DAY: i64 = 86_400;
    const START: i64 = 2_000_000_000;

    fn at(seconds: i64) -> UnixTime {
        UnixTime { seconds: START + seconds, nanos: 0 }
    }

    fn cookie(keys: &CookieKeys) -> Vec<u8> {
        let key = AeadKey::new(AeadAlgorithm::AesSivCmac256, &[1; 32]).unwrap();
        let mut cookie = [0; 200];
        let session = SessionKeys { c2s: key.clone(), s2c: key };
        let len = keys.keyring().issue(&session, &[4; 16], &mut cookie).unwrap();
        cookie[..len].to_vec()
    }

    #[test]
    fn cookies_outlive_restarts_and_seven_rotations() {
        let directory = TempDir::new().unwrap();
        let state = StateDirectory::open(directory.path()).unwrap();
        let (mut keys, complaint) = CookieKeys::load(&state, at(0)).unwrap();
        assert!(complaint.is_none());
        assert!(!keys.tend(Some(&state), at(0)).unwrap().rotated);
        let old = cookie(&keys);
        for day in 1..=8 {
            assert!(!keys.tend(Some(&state), at(day * DAY - 1)).unwrap().rotated);
            assert_eq!(keys.rest(at(day * DAY - 1)), Duration::from_secs(1));
            let tended = keys.tend(Some(&state), at(day * DAY)).unwrap();
            assert!(tended.rotated && tended.complaint.is_none());
            let new = cookie(&keys);
            (keys, _) = CookieKeys::load(&state, at(day * DAY)).unwrap();
            assert!(keys.keyring().open(&new).is_ok(), "day {day}");
            assert_eq!(keys.keyring().open(&old).is_ok(), day <= 7, "day {day}");
        }
    }

    #[test]
    fn wrong_times_cost_no_keys() {
        let directory = TempDir::new().unwrap();
        let state = StateDirectory::open(directory.path()).unwrap();
        let (mut keys, _) = CookieKeys::load(&state, at(0)).unwrap();
        let old = cookie(&keys);
        assert!(!keys.tend(Some(&state), at(-START)).unwrap().rotated, "a start in 1970");
        assert!(keys.rest(at(-START)) <= PERIOD);
        assert!(keys.tend(Some(&state), at(0)).unwrap().rotated);
        assert!(keys.tend(Some(&state), at(99 * 365 * DAY)).unwrap().rotated);
        assert!(keys.keyring().open(&old).is_ok());
    }

    #[test]
    fn what_cannot_be_saved_is_used_and_tried_again() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("state");
        let state = StateDirectory::open(&path).unwrap();
        let (mut keys, _) = CookieKeys::load(&state, at(0)).unwrap();
        fs::create_dir(path.join("keyring.new")).unwrap();
        assert!(keys.tend(Some(&state), at(0)).unwrap().complaint.is_some());
        assert_eq!(keys.rest(at(1)), RETRY);
        let tended = keys.tend(Some(&state), at(DAY)).unwrap();
        assert!(tended.rotated && tended.complaint.is_some());
        fs::remove_dir(path.join("keyring.new")).unwrap();
        let tended = keys.tend(Some(&state), at(DAY + 3_600)).unwrap();
        assert!(!tended.rotated && tended.complaint.is_none());
        let (read, _) = CookieKeys::load(&state, at(DAY)).unwrap();
        assert!(read.keyring().open(&cookie(&keys)).is_ok());
    }

    #[test]
    fn a_record_that_is_no_keyring_is_replaced() {
        let directory = TempDir::new().unwrap();
        let state = StateDirectory::open(directory.path()).unwrap();
        state.save(&state::Keyring { state: vec![0; Keyring::STATE_LEN], rotated_at: START }).unwrap();
        let (mut keys, complaint) = CookieKeys::load(&state, at(0)).unwrap();
        assert_eq!(complaint.unwrap().to_string(), "keyring: damaged, starting without it");
        assert!(keys.tend(Some(&state), at(0)).unwrap().complaint.is_none());
        assert!(CookieKeys::load(&state, at(0)).unwrap().1.is_none());
    }

    #[test]
    fn servers_with_one_secret_make_and_take_the_same_cookies() {
        let text = "# of all servers\n0123456789abcdef0123456789abcdef\n";
        let secrets = Secrets::parse(text, Duration::from_secs(10)).unwrap();
        let mut here = CookieKeys::shared(secrets.clone(), at(0));
        let there = CookieKeys::shared(secrets, at(9));
        assert_eq!(cookie(&here), cookie(&there));
        let old = cookie(&here);
        assert_eq!(here.rest(at(3)), Duration::from_secs(7));
        assert!(!here.tend(None, at(9)).unwrap().rotated && here.tend(None, at(10)).unwrap().rotated);
        assert_ne!(cookie(&here), cookie(&there));
        assert!(here.keyring().open(&old).is_ok() && there.keyring().open(&cookie(&here)).is_ok());
        // The clock is set back: so are the keys.
        assert_eq!(here.rest(at(5)), Duration::ZERO);
        assert!(here.tend(None, at(5)).unwrap().rotated);
        assert_eq!(cookie(&here), old);
        here.rotate(at(5)).unwrap();
        assert_eq!(cookie(&here), old);
    }

    #[test]
    fn a_secret_that_is_none_is_refused_with_its_line() {
        let error = |text: &str| Secrets::parse(text, PERIOD).unwrap_err();
        assert!(error("\n# nothing\n").starts_with("no secret in it"));
        assert!(error("\nshort\n").starts_with("line 2: too short; accepted: 32"));
        let three = "0123456789abcdef0123456789abcdef\n".repeat(3);
        assert!(error(&three).starts_with("line 3: one secret too many"));
        let told = format!("{:?}", Secrets::parse(&three[..33], PERIOD).unwrap());
        assert!(!told.contains("0123") && told.contains("period"), "{told}");
    }
}
