//! The keys of NTS cookies over time.
//!
//! A new key is made every day, and saved before it is used, so that after a restart every cookie is still known.

use std::{path::PathBuf, time::Duration};

use ntp_proto::{nts::Keyring, time::UnixTime};

use crate::state::{self, Record as _, StateDirectory, StateError, StateFault};

/// How long cookies are made with one key. A cookie is good for seven times as long at least.
pub const PERIOD: Duration = Duration::from_secs(24 * 3_600);

/// When saving is tried again after it failed.
const RETRY: Duration = Duration::from_secs(3_600);

/// The keyring, when its newest key was made, and whether both are on the disk.
#[derive(Debug)]
pub struct CookieKeys {
    keyring: Keyring,
    rotated_at: i64,
    saved: bool,
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
            Ok(keyring) => Ok((Self { keyring, rotated_at: record.rotated_at, saved: true }, found.complaint)),
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
        Ok(Self { keyring: Keyring::new(&random()?), rotated_at: now.seconds, saved: false })
    }

    /// The keys in use.
    #[must_use]
    pub const fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// How long [`tend`](Self::tend) need not be called, nothing at all if it should be now.
    #[must_use]
    pub fn rest(&self, now: UnixTime) -> Duration {
        let age = now.seconds.saturating_sub(self.rotated_at);
        let left = PERIOD.as_secs().saturating_sub(u64::try_from(age).unwrap_or(0));
        let left = Duration::from_secs(left);
        if self.saved { left } else { left.min(RETRY) }
    }

    /// Makes a new key if it is time, and saves what is not saved; returns whether there is a new key.
    ///
    /// The time may be wrong by any amount, as after a start: too early a time only waits, at most one period, and too
    /// late a time makes one key.
    ///
    /// If saving fails, the new key is used all the same: old keys must not live on because a disk is full. Cookies made
    /// with it will not be known after a restart, and their clients then exchange keys once more.
    ///
    /// # Errors
    ///
    /// If the system gives no random bytes; nothing is changed then.
    pub fn tend(&mut self, state: &StateDirectory, now: UnixTime) -> Result<Tended, getrandom::Error> {
        let age = now.seconds.saturating_sub(self.rotated_at);
        let rotated = self.is_due(now);
        if rotated {
            self.keyring.rotate(&random()?);
        }
        if rotated || age < 0 {
            self.rotated_at = now.seconds;
            self.saved = false;
        }
        let complaint = if self.saved { None } else { self.save(state).err() };
        self.saved = complaint.is_none();
        Ok(Tended { rotated, complaint })
    }

    /// Whether the newest key is as old as keys may get.
    #[must_use]
    pub fn is_due(&self, now: UnixTime) -> bool {
        now.seconds.saturating_sub(self.rotated_at) >= i64::try_from(PERIOD.as_secs()).unwrap_or(i64::MAX)
    }

    /// Makes a new key at once; [`tend`](Self::tend) saves it.
    ///
    /// # Errors
    ///
    /// If the system gives no random bytes; nothing is changed then.
    pub fn rotate(&mut self, now: UnixTime) -> Result<(), getrandom::Error> {
        self.keyring.rotate(&random()?);
        self.rotated_at = now.seconds;
        self.saved = false;
        Ok(())
    }

    fn save(&self, state: &StateDirectory) -> Result<(), StateError> {
        state.save(&state::Keyring { state: self.keyring.to_bytes().to_vec(), rotated_at: self.rotated_at })
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
        assert!(!keys.tend(&state, at(0)).unwrap().rotated);
        let old = cookie(&keys);
        for day in 1..=8 {
            assert!(!keys.tend(&state, at(day * DAY - 1)).unwrap().rotated);
            assert_eq!(keys.rest(at(day * DAY - 1)), Duration::from_secs(1));
            let tended = keys.tend(&state, at(day * DAY)).unwrap();
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
        assert!(!keys.tend(&state, at(-START)).unwrap().rotated, "a start in 1970");
        assert!(keys.rest(at(-START)) <= PERIOD);
        assert!(keys.tend(&state, at(0)).unwrap().rotated);
        assert!(keys.tend(&state, at(99 * 365 * DAY)).unwrap().rotated);
        assert!(keys.keyring().open(&old).is_ok());
    }

    #[test]
    fn what_cannot_be_saved_is_used_and_tried_again() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("state");
        let state = StateDirectory::open(&path).unwrap();
        let (mut keys, _) = CookieKeys::load(&state, at(0)).unwrap();
        fs::create_dir(path.join("keyring.new")).unwrap();
        assert!(keys.tend(&state, at(0)).unwrap().complaint.is_some());
        assert_eq!(keys.rest(at(1)), RETRY);
        let tended = keys.tend(&state, at(DAY)).unwrap();
        assert!(tended.rotated && tended.complaint.is_some());
        fs::remove_dir(path.join("keyring.new")).unwrap();
        let tended = keys.tend(&state, at(DAY + 3_600)).unwrap();
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
        assert!(keys.tend(&state, at(0)).unwrap().complaint.is_none());
        assert!(CookieKeys::load(&state, at(0)).unwrap().1.is_none());
    }
}
