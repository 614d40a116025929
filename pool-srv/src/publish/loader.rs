//! From files to zones that can be served, and again when files change.

use std::{path::Path, sync::Arc};

use tracing::warn;

use super::{
    answer::{Rules, Served, State},
    config::{Config, ZoneConfig},
    sign::{Signer, Window, ZoneKey},
    targets::Candidates,
    zone::{Zone, ZoneSettings, unpublished},
};
use crate::directory::{Directory, Health, HealthReport, Member, Problem, Watched, read_secret};

/// Signatures are made anew after this part of their time.
const REFRESH_PARTS: u64 = 4;

/// The members of a zone and how they are.
#[derive(Debug)]
pub struct Pool {
    watched: Watched,
    health: Option<std::path::PathBuf>,
    report: Option<HealthReport>,
}

impl Pool {
    /// Reads the files of a zone.
    ///
    /// # Errors
    ///
    /// [`Problem`] of the members' file; a report that is absent or no report is none.
    pub fn open(config: &ZoneConfig) -> Result<Self, Problem> {
        let watched = Watched::open(&config.settings.members)?;
        let mut pool = Self { watched, health: config.health.clone(), report: None };
        pool.read_report();
        Ok(pool)
    }

    /// The members.
    #[must_use]
    pub fn directory(&self) -> &Arc<Directory> {
        self.watched.current()
    }

    /// How a member is at a time in seconds since 1970.
    #[must_use]
    pub fn health(&self, member: &Member, now: u64) -> Health {
        self.report.as_ref().map_or(Health::Up, |report| report.state(member.name.as_str(), now))
    }

    /// Who can be drawn at a time.
    #[must_use]
    pub fn candidates(&self, now: u64) -> Candidates {
        Candidates::new(self.directory(), |member| self.health(member, now))
    }

    fn states(&self, directory: &Directory, now: u64) -> Vec<Health> {
        directory.members().iter().map(|member| self.health(member, now)).collect()
    }

    fn read_report(&mut self) {
        let Some(path) = &self.health else { return };
        // A report that cannot be read leaves the last one in force, until that is too old to say anything.
        if let Some(report) = HealthReport::load(path) {
            self.report = Some(report);
        }
    }

    /// Reads changed files again; whether members changed.
    ///
    /// # Errors
    ///
    /// [`Problem`]; the last good members stay in force then.
    pub fn refresh(&mut self) -> Result<bool, Problem> {
        self.read_report();
        self.watched.refresh().map(|new| new.is_some())
    }
}

/// One zone with its files.
#[derive(Debug)]
struct Loaded {
    config: ZoneConfig,
    keys: Vec<Arc<ZoneKey>>,
    pool: Pool,
    /// The last members that the zone can hold.
    directory: Arc<Directory>,
    /// How members were when the candidates were made.
    states: Vec<Health>,
    built_at: u64,
    serial: u64,
    served: Served,
}

/// All zones that are served here, with their files.
#[derive(Debug)]
pub struct Loader {
    zones: Vec<Loaded>,
    rules: Rules,
}

/// Reads the keys of a zone, the one that signs first; none for a zone that is not served.
///
/// # Errors
///
/// [`Problem`] of the first key that cannot be used.
pub fn keys(config: &ZoneConfig) -> Result<Vec<Arc<ZoneKey>>, Problem> {
    let load = |path: &Path| {
        let text = read_secret(path)?;
        ZoneKey::from_pem(path, text.as_bytes()).map(Arc::new)
    };
    config.key.iter().chain(&config.standby).map(|path| load(path)).collect()
}

impl Loader {
    /// Reads everything a configuration names.
    ///
    /// # Errors
    ///
    /// [`Problem`] of the first file that cannot be used.
    pub fn open(config: &Config, now: u64) -> Result<Self, Problem> {
        let served = config.zones.iter().filter(|zone| zone.key.is_some());
        let zones: Vec<_> = served.map(|zone| Loaded::open(zone, now)).collect::<Result<_, _>>()?;
        if zones.is_empty() {
            return Err(Problem::whole(&config.file, "no zone has a key; accepted: key = \"FILE\" in one at least"));
        }
        let rules = Rules { limit: Some(config.limit), secrets: config.cookie_secrets.clone() };
        Ok(Self { zones, rules })
    }

    /// The zones as they are now.
    #[must_use]
    pub fn state(&self) -> State {
        State { zones: self.zones.iter().map(|zone| zone.served.clone()).collect(), rules: self.rules.clone() }
    }

    /// Reads what changed; whether the state is another. What cannot be used is told, and the last good stays in force.
    pub fn refresh(&mut self, now: u64) -> (bool, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut changed = false;
        for zone in &mut self.zones {
            match zone.refresh(now) {
                Ok(new) => changed |= new,
                Err(problem) => problems.push(problem),
            }
        }
        (changed, problems)
    }
}

impl Loaded {
    fn open(config: &ZoneConfig, now: u64) -> Result<Self, Problem> {
        let pool = Pool::open(config)?;
        let keys = keys(config)?;
        let zone = build(config, &keys, pool.directory(), now, now)?;
        remark(&config.settings, pool.directory());
        let served = Served { zone: Arc::new(zone), candidates: Arc::new(pool.candidates(now)) };
        let directory = Arc::clone(pool.directory());
        let states = pool.states(&directory, now);
        Ok(Self { config: config.clone(), keys, pool, directory, states, built_at: now, serial: now, served })
    }

    fn refresh(&mut self, now: u64) -> Result<bool, Problem> {
        let read = self.pool.refresh();
        let aged = now.abs_diff(self.built_at) >= self.config.valid.as_secs() / REFRESH_PARTS;
        let new_members = matches!(read, Ok(true));
        let directory = Arc::clone(if new_members { self.pool.directory() } else { &self.directory });
        let mut built = Ok(());
        if new_members || aged {
            // Two zones have two serial numbers, even within a second or if the clock is set back.
            let serial = now.max(self.serial.saturating_add(1));
            built = build(&self.config, &self.keys, &directory, now, serial).map(|zone| {
                self.served.zone = Arc::new(zone);
                self.built_at = now;
                self.serial = serial;
                self.directory = directory;
            });
        }
        if new_members && built.is_ok() {
            remark(&self.config.settings, &self.directory);
        }
        let states = self.pool.states(&self.directory, now);
        let new_states = states != self.states;
        if new_states || (new_members && built.is_ok()) {
            let health = |member: &Member| self.pool.health(member, now);
            self.served.candidates = Arc::new(Candidates::new(&self.directory, health));
            self.states = states;
        }
        read?;
        built.map(|()| new_members || aged || new_states)
    }
}

/// Tells what of a directory is of no effect in the zone.
pub(super) fn remark(settings: &ZoneSettings, directory: &Directory) {
    unpublished(settings, directory).iter().for_each(|remark| warn!("{remark}"));
}

fn build(
    config: &ZoneConfig,
    keys: &[Arc<ZoneKey>],
    directory: &Directory,
    now: u64,
    serial: u64,
) -> Result<Zone, Problem> {
    let settings = &config.settings;
    let [key, ..] = keys else {
        return Err(Problem::whole(&settings.members, format!("zone {} has no key", settings.name)));
    };
    let window = Window {
        inception: now.saturating_sub(config.backdated.as_secs()),
        expiration: now.saturating_add(config.valid.as_secs()),
    };
    let signer = Signer::new(Arc::clone(key), settings.origin(), window);
    // The time is a serial number that grows (RFC 1982 lets it wrap).
    let serial = u32::try_from(serial & u64::from(u32::MAX)).unwrap_or(0);
    Zone::build(settings, directory, keys, signer, serial)
}

#[cfg(test)]
mod tests;
