//! chrony.conf, with the files that it includes, and `.sources` files.
//!
//! The grammar is that of chrony.conf(5): one directive on a line, words between blanks, and comments on lines of their
//! own. What chronyd would not start with is an error here too.

use std::path::Path;

use super::{
    Parts,
    input::{Comments, Fault, Input, Line, Place, lines},
    keys::Dialect,
    plan::{Directive, Dropped, Plan, quote},
    settle::{self, Keys, Roots},
    source::{Protection, canonical},
    words::{self, one},
};
use crate::leap_file;

mod commands;
mod interfaces;
mod logs;
mod refclocks;
mod serve;
mod settings;
mod sources;
mod table;

use table::DIRECTIVES;

/// Longest line.
const MAX_LINE: usize = 2_047;

/// How deep includes may be nested.
const MAX_DEPTH: usize = 10;

/// Most directories of a `confdir` or `sourcedir`.
const MAX_DIRECTORIES: usize = 10;

/// Most faults that are told.
const MAX_FAULTS: usize = 64;

/// The reader of a configuration.
pub(super) struct Chrony<'i> {
    input: &'i mut Input,
    plan: Plan,
    faults: Vec<Fault>,
    access: serve::Access,
    settings: settings::Settings,
    commands: commands::Commands,
    logs: logs::Logs,
    roots: Roots,
    keys: Option<Keys>,
    drift: Option<(Directive, String)>,
    /// Reference clocks so far, carried over or not.
    refclocks: usize,
    /// Names in lines that ask for authentication.
    protected: Vec<String>,
}

/// Reads a file and all that it includes.
///
/// # Errors
///
/// Everything that chronyd would not start with, up to a limit.
pub(super) fn read(input: &mut Input, files: &[(String, String)]) -> Result<Parts, Vec<Fault>> {
    let mut chrony = Chrony::new(input);
    for (name, text) in files {
        let is_sources = Path::new(name).extension().is_some_and(|extension| extension == "sources");
        chrony.text(name, text, 0, is_sources);
    }
    if !chrony.faults.is_empty() {
        return Err(chrony.faults);
    }
    let Chrony { mut plan, access, settings, commands, logs, roots, keys, drift, protected, .. } = chrony;
    let serving = access.finish(&mut plan);
    settings.finish(&mut plan);
    commands.finish(&mut plan);
    logs.finish(&mut plan);
    Ok(Parts { plan, serving, roots, keys, drift, protected })
}

/// Reads a `.sources` file while the daemon runs, as chronyd does: what cannot be used of it is said and passed over, and
/// a line that is not ended yet is one that somebody is still writing. What the rest says is a file of ours with nothing
/// but sources.
///
/// Other than for chrony.conf as a whole, a line without `nts` or `key` is plain NTP and no more: whoever names servers to
/// a network, as by DHCP, must not be able to name some that would vote as authenticated ones.
#[must_use]
pub fn read_sources(name: &str, text: &str) -> (String, Vec<Dropped>) {
    let mut input = Input::default();
    let mut chrony = Chrony::new(&mut input);
    chrony.text(name, text, 0, true);
    let Chrony { mut plan, faults, protected, .. } = chrony;
    plan.settle_sources(&protected);
    super::limit(&mut plan);
    settle::roots(&mut plan, Roots::default());
    let mut sources = String::new();
    for source in plan.sources() {
        sources.push_str(&source.table());
        if source.protection == Protection::Plain {
            sources.push_str("nts = \"off\"\n");
        }
    }
    let of_fault = |Fault { place, what }| Dropped { place, what: "this line".to_owned(), why: what };
    (sources, plan.into_dropped().into_iter().chain(faults.into_iter().map(of_fault)).collect())
}

impl<'i> Chrony<'i> {
    fn new(input: &'i mut Input) -> Self {
        Self {
            input,
            plan: Plan::default(),
            faults: Vec::new(),
            access: serve::Access::default(),
            settings: settings::Settings::default(),
            commands: commands::Commands::default(),
            logs: logs::Logs::default(),
            roots: Roots::default(),
            keys: None,
            drift: None,
            refclocks: 0,
            protected: Vec::new(),
        }
    }
}

impl Chrony<'_> {
    fn fault(&mut self, place: &Place, what: impl Into<String>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault::new(place, what));
        }
    }

    fn file(&mut self, name: &str, from: &Place, depth: usize, is_sources: bool) {
        match self.input.text(name) {
            Ok(text) => self.text(name, &text, depth, is_sources),
            Err(fault) if fault.place.line == 0 => self.fault(from, format!("{}: {}", fault.place.file, fault.what)),
            Err(fault) => self.fault(&fault.place, fault.what),
        }
    }

    fn text(&mut self, name: &str, text: &str, depth: usize, is_sources: bool) {
        let mut comments = Comments::default();
        for line in lines(name, text) {
            let text = line.text.trim();
            if self.faults.len() >= MAX_FAULTS {
                return;
            }
            if text.is_empty() {
                self.plan.block(comments.take());
            } else if let Some(comment) = text.strip_prefix(['!', ';', '#', '%']) {
                comments.add(comment);
            } else {
                self.line(&line, comments.take(), depth, is_sources);
            }
        }
        self.plan.block(comments.take());
    }

    fn line(&mut self, line: &Line, comments: Vec<String>, depth: usize, is_sources: bool) {
        if line.text.len() > MAX_LINE {
            return self.fault(&line.place, format!("this line is longer than {MAX_LINE} bytes"));
        }
        if line.text.chars().any(|c| c == char::REPLACEMENT_CHARACTER || (c.is_control() && c != '\t')) {
            return self.fault(&line.place, "this is not text");
        }
        let words: Vec<_> = line.text.split_ascii_whitespace().collect();
        let directive = Directive { place: line.place.clone(), text: words.join(" "), comments };
        let Some(name) = words.first().map(|word| word.to_ascii_lowercase()) else { return };
        let is_source = ["server", "pool", "peer"].contains(&name.as_str());
        if let (true, Some(host)) = (is_source, words.get(1))
            && words.iter().skip(2).any(|word| ["nts", "key"].contains(&word.to_ascii_lowercase().as_str()))
        {
            self.protected.push(canonical(host));
        }
        // What another program is still writing ends in the middle of a line.
        if is_sources && !line.is_ended {
            return self.plan.drop(&directive, "the line is not ended, so the file may not be complete");
        }
        if is_source {
            let read = sources::read(&mut self.plan, &directive, &words);
            return match read {
                Err(wrong) if is_sources => self.plan.drop(&directive, wrong),
                Err(wrong) => self.fault(&line.place, format!("`{name}`: {wrong}")),
                Ok(()) => {}
            };
        }
        if is_sources {
            return self.plan.drop(&directive, "only server, pool and peer may stand in such a file");
        }
        if let Err(wrong) = self.directive(&name, words.get(1..).unwrap_or_default(), &directive, depth) {
            self.fault(&line.place, format!("`{name}`: {wrong}"));
        }
    }

    fn directive(&mut self, name: &str, words: &[&str], directive: &Directive, depth: usize) -> Result<(), String> {
        match name {
            "include" => self.include(one(words)?, directive, depth),
            "confdir" | "sourcedir" => self.directories(name, words, directive, depth),
            "driftfile" => {
                let [file, rest @ ..] = words else { return Err("the name of a file is missing".to_owned()) };
                match rest {
                    [] => {}
                    ["interval", seconds] => drop(words::number(seconds)?),
                    _ => return Err("too many arguments".to_owned()),
                }
                self.plan.note(directive, "kept in state.directory; `ntpd migrate --state` takes over what it holds");
                self.drift = Some((directive.clone(), (*file).to_owned()));
                Ok(())
            }
            "refclock" => {
                refclocks::read(&mut self.plan, directive, words, self.refclocks)?;
                self.refclocks += 1;
                Ok(())
            }
            "hwtimestamp" => interfaces::read(&mut self.plan, directive, words),
            "keyfile" => {
                let file = one(words)?.to_owned();
                self.keys = Some(Keys { directive: directive.clone(), file, dialect: Dialect::Chrony, trusted: None });
                Ok(())
            }
            "leapseclist" => {
                self.plan.set(directive, "clock", "leap-file", quote(one(words)?));
                Ok(())
            }
            "leapsectz" => {
                one(words)?;
                self.leap_zone(directive);
                Ok(())
            }
            "ntstrustedcerts" => self.trusted(words, directive),
            "nosystemcert" => {
                words::has_form("", words)?;
                self.roots.only_files = Some(directive.clone());
                Ok(())
            }
            _ if serve::KNOWN.contains(&name) => self.access.read(name, words, directive, &mut self.plan),
            _ if settings::KNOWN.contains(&name) => self.settings.read(name, words, directive, &mut self.plan),
            _ if logs::KNOWN.contains(&name) => self.logs.read(name, words, directive, &mut self.plan),
            _ if commands::KNOWN.contains(&name) => self.commands.read(name, words, directive, &mut self.plan),
            _ => self.plan.simple(DIRECTIVES, name, words, directive),
        }
    }

    /// A time zone with leap seconds holds what a file beside it says.
    fn leap_zone(&mut self, directive: &Directive) {
        if !self.input.locate(leap_file::STANDARD).is_file() {
            let why =
                format!("tzdata has no {} here; leap seconds are those that servers announce", leap_file::STANDARD);
            return self.plan.drop(directive, why);
        }
        let mut directive = directive.clone();
        directive.comments.push(format!("{}: the same leap seconds, from the file of tzdata.", directive.text));
        self.plan.set(&directive, "clock", "leap-file", quote(leap_file::STANDARD));
    }

    fn trusted(&mut self, words: &[&str], directive: &Directive) -> Result<(), String> {
        match words {
            [file] | [_, file] if self.input.locate(file).is_dir() => {
                self.plan.drop(directive, "a directory of roots is not read: name a file that holds all of them");
            }
            [file] | ["0", file] => self.roots.files.push((directive.clone(), (*file).to_owned())),
            [set, file] => {
                let set = set.parse().map_err(|_| format!("`{set}` is not the number of a set"))?;
                self.roots.sets.push((set, directive.clone(), (*file).to_owned()));
            }
            _ => return Err("the name of a file is needed, with or without the number of a set".to_owned()),
        }
        Ok(())
    }

    fn include(&mut self, pattern: &str, directive: &Directive, depth: usize) -> Result<(), String> {
        if depth >= MAX_DEPTH {
            return Err(format!("includes are nested more than {MAX_DEPTH} deep"));
        }
        self.plan.block(directive.comments.clone());
        for file in self.input.expand(pattern) {
            self.file(&file, &directive.place, depth + 1, false);
        }
        Ok(())
    }

    fn directories(&mut self, name: &str, words: &[&str], directive: &Directive, depth: usize) -> Result<(), String> {
        if words.is_empty() || words.len() > MAX_DIRECTORIES {
            return Err(format!("1 to {MAX_DIRECTORIES} directories are needed"));
        }
        if depth >= MAX_DEPTH {
            return Err(format!("includes are nested more than {MAX_DEPTH} deep"));
        }
        let is_sources = name == "sourcedir";
        // What stands there now comes and goes with a network.
        let is_of_now =
            |directory: &&&str| is_sources && (directory.starts_with("/run/") || directory.starts_with("/var/run/"));
        for watched in words.iter().filter(is_of_now) {
            self.plan.watch(directive, watched);
        }
        let words: Vec<&str> = words.iter().filter(|directory| !is_of_now(directory)).copied().collect();
        if !words.is_empty() {
            let later = if is_sources { "sources.d" } else { "conf.d" };
            self.plan.note(directive, &format!("read now; later ones belong into /etc/ntpd/{later}, as *.toml"));
        }
        let extension = if is_sources { "sources" } else { "conf" };
        // Of files of the same name, that of the first directory counts.
        let mut found: Vec<(String, &str)> = Vec::new();
        for directory in words {
            for file in self.input.list(directory, extension) {
                if !found.iter().any(|(known, _)| *known == file) {
                    found.push((file, directory));
                }
            }
        }
        found.sort();
        for (file, directory) in found {
            let path = format!("{}/{file}", directory.trim_end_matches('/'));
            self.file(&path, &directive.place, depth + 1, is_sources);
        }
        Ok(())
    }
}
