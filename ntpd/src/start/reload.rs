//! Reading the configuration again, and the directories of sources.

use ntp_proto::wire::SymmetricKey;

use super::{Daemon, StartError, notify};
use crate::{
    config::{Config, Loaded, Problems, TrustSettings, load},
    ke::connect::KeyExchanger,
    resolve::Resolver,
    source_files::SourceFiles,
};

impl Daemon {
    /// Reads the configuration again and applies all of it, or nothing. The text says so, and what has to wait for a
    /// restart.
    pub(super) fn reload(&mut self) -> Result<String, StartError> {
        notify(&[
            sd_notify::NotifyState::Reloading,
            sd_notify::NotifyState::monotonic_usec_now().map_err(StartError::new)?,
        ]);
        let result = self.apply();
        notify(&[sd_notify::NotifyState::Ready]);
        result
    }

    fn apply(&mut self) -> Result<String, StartError> {
        let Loaded { config, keys, warnings } =
            load(&self.origin).map_err(|problems: Problems| StartError(problems.to_string()))?;
        if config.control_socket != self.config.control_socket || config.state_directory != self.config.state_directory
        {
            return Err(StartError("`control.socket` and `state.directory` only change with a restart".into()));
        }
        // What can fail comes first and replaces nothing yet.
        let resolver = Resolver::new(&config.trust).map_err(StartError::new)?;
        let exchanger = KeyExchanger::new(&config.trust, resolver).map_err(StartError::new)?;
        let watched = self.watched.prepare(&config.observe).map_err(StartError::new)?;
        let serving = self.serving.prepare(&config, &keys)?;
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        self.serving.commit(serving);
        self.watched.commit(&config.observe, watched);
        // The files that are trusted may have changed under the same names, which is a reason to read them, not to begin
        // anew.
        let first_boot = self.config.trust.first_boot;
        let other_trust = TrustSettings { first_boot, ..config.trust.clone() } != self.config.trust;
        let later = changed_with_restart(&self.config, &config);
        // What waits stays as it is, so that the next reload tells it again.
        let trust = TrustSettings { first_boot, ..config.trust };
        let (log, clock, chronyc) = (self.config.log, self.config.clock.clone(), self.config.chronyc.clone());
        let new_clock = config.clock.clone();
        self.config = Config { log, clock, chronyc, trust, ..config };
        self.keys = keys;
        self.read_source_files();
        let mut sources = self.sources();
        sources.clock = new_clock;
        self.client.reconfigure(&sources, &self.keys, exchanger, other_trust);
        Ok(if later.is_empty() {
            "configuration applied".to_owned()
        } else {
            format!("configuration applied; what changes with a restart only: {}", later.join(", "))
        })
    }

    /// Reads the directories of sources again, and nothing else. What is wrong there stops nothing else.
    pub(super) fn reload_sources(&mut self) -> String {
        let complaints = self.read_source_files();
        let sources = self.sources();
        self.client.set_sources(&sources, &self.keys);
        match complaints.as_slice() {
            [] => "sources applied".to_owned(),
            [one] => format!("sources applied, but for: {one}"),
            [first, others @ ..] => {
                format!("sources applied, but for: {first} (and {} more, see the log)", others.len())
            }
        }
    }

    fn read_source_files(&mut self) -> Vec<String> {
        let complaints = read_source_files(&mut self.source_files, &self.config, &self.keys);
        let configured = self.configured();
        self.amendments.handle_files(&configured);
        complaints
    }

    /// All sources: of the configuration, of the directories, and those that came at run time.
    pub(super) fn sources(&self) -> Config {
        self.amendments.apply(&self.configured())
    }

    /// Those that stand in a file.
    pub(super) fn configured(&self) -> Config {
        self.source_files.add_to(&self.config, &self.keys).0
    }
}

/// Reads the directories of a configuration. What is wrong is told.
pub(super) fn read_source_files(files: &mut SourceFiles, config: &Config, keys: &[SymmetricKey]) -> Vec<String> {
    let mut complaints = files.read(&config.source_directories);
    complaints.extend(files.add_to(config, keys).1);
    complaints.iter().for_each(|complaint| tracing::warn!("{complaint}"));
    complaints
}

/// Keys that differ, and that a running daemon does not take up.
fn changed_with_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (was, is) = (&old.clock, &new.clock);
    let step = (was.step_threshold, was.step_limit) != (is.step_threshold, is.step_limit);
    [
        ("clock.step", step),
        ("clock.max-slew-rate", was.max_slew_rate != is.max_slew_rate),
        ("clock.correction-time-ratio", was.correction_time_ratio.total_cmp(&is.correction_time_ratio).is_ne()),
        ("clock.max-frequency", was.max_frequency != is.max_frequency),
        ("clock.max-update-skew", was.max_update_skew != is.max_update_skew),
        ("clock.max-change", was.max_change != is.max_change),
        ("clock.log-change", was.log_change != is.log_change),
        ("clock.leap", was.leap != is.leap),
        ("control", old.chronyc != new.chronyc),
        ("trust.bootstrap", old.trust.first_boot != new.trust.first_boot),
        ("log", old.log != new.log),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}
