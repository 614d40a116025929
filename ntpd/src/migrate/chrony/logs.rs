//! Directives about files of measurements.

use crate::migrate::{
    plan::{Directive, Plan, list, quote},
    words::one,
};

/// The directives that are read here.
pub(super) const KNOWN: [&str; 3] = ["log", "logdir", "logbanner"];

/// What has the same name here.
const SAME: [&str; 5] = ["rawmeasurements", "measurements", "statistics", "tracking", "selection"];

/// Where chronyd writes on most systems, and the daemon may not.
const USUAL: &str = "/var/log/chrony";

/// What the directives say.
#[derive(Default)]
pub(super) struct Logs {
    files: Vec<&'static str>,
    log: Option<Directive>,
    directory: Option<(Directive, String)>,
    banner: Option<(Directive, String)>,
}

impl Logs {
    /// Reads a directive.
    ///
    /// # Errors
    ///
    /// What chronyd would not accept either.
    pub(super) fn read(
        &mut self,
        name: &str,
        words: &[&str],
        directive: &Directive,
        plan: &mut Plan,
    ) -> Result<(), String> {
        match name {
            "log" => return self.files(words, directive, plan),
            "logdir" => self.directory = Some((directive.clone(), one(words)?.to_owned())),
            _ => {
                let entries = one(words)?;
                entries.parse::<u32>().map_err(|_| format!("`{entries}` is not a number of entries"))?;
                self.banner = Some((directive.clone(), entries.to_owned()));
            }
        }
        Ok(())
    }

    fn files(&mut self, words: &[&str], directive: &Directive, plan: &mut Plan) -> Result<(), String> {
        if words.is_empty() {
            return Err("the name of a log is missing".to_owned());
        }
        let mut comments = self.log.take().map(|log| log.comments).unwrap_or_default();
        comments.extend(directive.comments.iter().cloned());
        for word in words {
            match (word.to_ascii_lowercase().as_str(), SAME.iter().find(|same| word.eq_ignore_ascii_case(same))) {
                (_, Some(same)) => self.files.push(same),
                ("rtc", _) => plan.drop_part(directive, word, "the drift of the hardware clock is not measured"),
                ("refclocks", _) => plan.drop_part(directive, word, "reference clocks are not written to a file"),
                ("tempcomp", _) => plan.drop_part(directive, word, "temperature is not compensated"),
                _ => return Err(format!("there is no log `{word}`")),
            }
        }
        self.files.sort_unstable_by_key(|file| SAME.iter().position(|same| same == file));
        self.files.dedup();
        self.log = Some(Directive { comments, ..directive.clone() });
        Ok(())
    }

    /// Says what depends on the rest.
    pub(super) fn finish(self, plan: &mut Plan) {
        let Some(log) = self.log.filter(|_| !self.files.is_empty()) else {
            for (directive, _) in self.directory.iter().chain(&self.banner) {
                plan.note(directive, "measurements are not written to files without [log.files]");
            }
            return;
        };
        if let Some((directive, directory)) = self.directory {
            if directory.trim_end_matches('/') == USUAL {
                plan.note(&directive, "these files are written to /var/log/ntpd, where the user `ntpd` may write");
            } else {
                let mut comments = directive.comments;
                comments.push("The user `ntpd` must be able to write there.".to_owned());
                plan.put("log.files", "directory", quote(&directory), comments);
            }
        }
        plan.put("log.files", "write", list(&self.files), log.comments);
        if let Some((directive, entries)) = self.banner {
            plan.set(&directive, "log.files", "banner", entries);
        }
    }
}
