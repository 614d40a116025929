//! What the new file will say, and what it will not.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
};

use super::{
    input::{Place, printable},
    refclock::Refclock,
    source::{Kind, Protection, Source},
    words::{self, Fate, Simple},
};
use crate::config::{Config, MAX_INTERFACES, MAX_SOURCE_DIRECTORIES, SOURCE_DIRECTORIES};

/// Tables of the new file, in their order.
const TABLES: [&str; 9] = ["clock", "serve", "serve.nts", "trust", "keys", "control", "observe", "log", "log.files"];

/// Most lines of comments that are kept.
const MAX_COMMENTS: usize = 2_000;

/// Most sources that are looked at; far fewer can be configured.
const MAX_SOURCES: usize = 1_024;

/// What is not carried over, or not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Where it stands.
    pub place: Place,
    /// The directive, as it was written.
    pub what: String,
    /// Why not.
    pub why: String,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}`: {}", self.place, printable(&self.what), printable(&self.why))
    }
}

/// A directive that is read: where it stands, what it says, and the comment before it.
#[derive(Clone, Debug)]
pub(super) struct Directive {
    pub(super) place: Place,
    pub(super) text: String,
    pub(super) comments: Vec<String>,
}

/// A key of a table.
#[derive(Clone, Debug)]
struct Setting {
    table: &'static str,
    key: &'static str,
    value: String,
    comments: Vec<String>,
}

/// What the new file will say, and what it will not.
#[derive(Debug, Default)]
pub(super) struct Plan {
    blocks: Vec<Vec<String>>,
    sources: Vec<Source>,
    refclocks: Vec<Refclock>,
    /// Interfaces that stamp packets: the name, the lines of the table, and the comments before it.
    interfaces: Vec<(String, String, Vec<String>)>,
    /// Directories of sources, with the comments before them.
    directories: Vec<(String, Vec<String>)>,
    settings: Vec<Setting>,
    dropped: Vec<Dropped>,
}

/// A TOML string.
pub(super) fn quote(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A list of TOML strings.
pub(super) fn list(texts: &[impl AsRef<str>]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| quote(text.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

/// What the daemon's own reader says of a piece of configuration.
pub(super) fn judge(text: &str) -> Result<Config, String> {
    Config::parse("", text)
        .map_err(|problems| problems.0.first().map_or_else(String::new, |problem| problem.wrong.to_string()))
}

impl Plan {
    /// A comment that belongs to nothing.
    pub(super) fn block(&mut self, comments: Vec<String>) {
        if !comments.is_empty() {
            self.blocks.push(comments);
        }
    }

    /// Something that needs no line of its own, because the daemon does it anyway.
    pub(super) fn note(&mut self, directive: &Directive, why: &str) {
        let mut block = directive.comments.clone();
        block.push(format!("{}: {why}", directive.text));
        self.blocks.push(block);
    }

    /// Something that is not carried over.
    pub(super) fn drop(&mut self, directive: &Directive, why: impl Into<String>) {
        let why = why.into();
        let mut block = directive.comments.clone();
        block.push(format!("Not carried over: {}: {why}", directive.text));
        self.blocks.push(block);
        self.dropped.push(Dropped { place: directive.place.clone(), what: directive.text.clone(), why });
    }

    /// Something of a directive that is not carried over, while the rest of it is.
    pub(super) fn drop_part(&mut self, directive: &Directive, part: &str, why: impl Into<String>) {
        let what = format!("{}: {part}", directive.text);
        self.dropped.push(Dropped { place: directive.place.clone(), what, why: why.into() });
    }

    /// Does what `table` says of a directive.
    ///
    /// # Errors
    ///
    /// There is no such directive, or it has other arguments.
    pub(super) fn simple(
        &mut self,
        table: &[Simple],
        name: &str,
        words: &[&str],
        directive: &Directive,
    ) -> Result<(), String> {
        let &(_, form, fate) = table.iter().find(|(known, ..)| *known == name).ok_or("there is no such directive")?;
        words::has_form(form, words)?;
        match fate {
            Fate::Needless(why) => self.note(directive, why),
            Fate::Dropped(why) => self.drop(directive, why),
            Fate::Default(values, why) => {
                let given: Vec<_> = words.iter().filter_map(|word| words::number(word).ok()).collect();
                if given == values {
                    self.note(directive, "the default");
                } else {
                    self.drop(directive, why);
                }
            }
        }
        Ok(())
    }

    /// Sets a key, if its table takes the value; a later value takes the place of an earlier one.
    pub(super) fn set(&mut self, directive: &Directive, table: &'static str, key: &'static str, value: String) {
        match judge(&format!("[{table}]\n{key} = {value}\n")) {
            Err(wrong) => self.drop(directive, wrong),
            Ok(config) if Some(&config) == judge("").ok().as_ref() => {
                self.unset(table, key);
                self.note(directive, "the default");
            }
            Ok(_) => self.put(table, key, value, directive.comments.clone()),
        }
    }

    /// How many sources have to agree. Files say 1 where it is the default there; here it would end a protection.
    pub(super) fn set_min_sources(&mut self, directive: &Directive, count: String) {
        if count == "1" {
            self.note(directive, "the default; here two of three or more have to agree");
        } else {
            self.set(directive, "clock", "min-sources", count);
        }
    }

    /// Sets a key whose value cannot be checked yet.
    pub(super) fn put(&mut self, table: &'static str, key: &'static str, value: String, mut comments: Vec<String>) {
        if let Some(at) = self.settings.iter().position(|known| known.table == table && known.key == key) {
            let mut all = self.settings.remove(at).comments;
            all.append(&mut comments);
            comments = all;
        }
        self.settings.push(Setting { table, key, value, comments });
    }

    /// Whether a key was set.
    pub(super) fn has(&self, table: &str, key: &str) -> bool {
        self.settings.iter().any(|known| known.table == table && known.key == key)
    }

    /// What a key is set to, as it is written.
    pub(super) fn value(&self, table: &str, key: &str) -> Option<&str> {
        let setting = self.settings.iter().find(|known| known.table == table && known.key == key);
        setting.map(|setting| setting.value.as_str())
    }

    fn unset(&mut self, table: &str, key: &str) {
        self.settings.retain(|known| known.table != table || known.key != key);
    }

    /// Adds a source; beyond any number that makes sense, it is dropped.
    pub(super) fn add_source(&mut self, source: Source) {
        if self.sources.len() < MAX_SOURCES {
            self.sources.push(source);
        } else {
            self.drop(&source.directive, format!("more than {MAX_SOURCES} sources"));
        }
    }

    /// Has a directory of sources read while the daemon runs.
    pub(super) fn watch(&mut self, directive: &Directive, directory: &str) {
        if self.directories.iter().any(|(known, _)| known == directory) {
            return;
        }
        if SOURCE_DIRECTORIES.contains(&directory) {
            return self.note(directive, &format!("{directory} is read by default"));
        }
        if self.directories.len() + SOURCE_DIRECTORIES.len() >= MAX_SOURCE_DIRECTORIES {
            self.drop_part(directive, directory, format!("at most {MAX_SOURCE_DIRECTORIES} of these are possible"));
        } else {
            self.directories.push((directory.to_owned(), directive.comments.clone()));
        }
    }

    /// Takes over what was said elsewhere of what is not carried over.
    pub(super) fn absorb(&mut self, other: Self) {
        self.dropped.extend(other.dropped);
    }

    pub(super) fn add_refclock(&mut self, refclock: Refclock) {
        if self.refclocks.len() < MAX_SOURCES {
            self.refclocks.push(refclock);
        } else {
            self.drop(&refclock.directive, format!("more than {MAX_SOURCES} reference clocks"));
        }
    }

    /// An interface that stamps packets; of the same the later counts.
    pub(super) fn add_interface(&mut self, directive: &Directive, name: &str, lines: String) {
        let mut comments = directive.comments.clone();
        if let Some(at) = self.interfaces.iter().position(|(known, ..)| known == name) {
            comments.extend(self.interfaces.remove(at).2);
        }
        if self.interfaces.len() < MAX_INTERFACES {
            self.interfaces.push((name.to_owned(), lines, comments));
        } else {
            self.drop(directive, format!("at most {MAX_INTERFACES} of these are possible"));
        }
    }

    pub(super) fn take_refclocks(&mut self) -> Vec<Refclock> {
        std::mem::take(&mut self.refclocks)
    }

    pub(super) fn set_refclocks(&mut self, refclocks: Vec<Refclock>) {
        self.refclocks = refclocks;
    }

    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    pub(super) fn sources_mut(&mut self) -> &mut [Source] {
        &mut self.sources
    }

    /// Drops the sources for which there is a reason to.
    pub(super) fn drop_sources(&mut self, why: impl Fn(&Source) -> Option<String>) {
        for source in std::mem::take(&mut self.sources) {
            match why(&source) {
                Some(why) => self.drop(&source.directive.clone(), why),
                None => self.sources.push(source),
            }
        }
    }

    /// One source for each name, and never a plain one for a name that is to be authenticated: `protected` are those of
    /// directives that could not be carried over.
    pub(super) fn settle_sources(&mut self, protected: &[String]) {
        let all = self.sources.clone();
        let plain = |source: &Source| source.protection == Protection::Plain;
        self.drop_sources(|source| {
            let authentic = all.iter().find(|other| other.host == source.host && !plain(other));
            if plain(source) && protected.contains(&source.host) {
                return Some("this name is to be authenticated, which is not carried over".to_owned());
            }
            authentic
                .filter(|_| plain(source))
                .map(|other| format!("this name is used with authentication, at {}", other.directive.place))
        });
        for source in std::mem::take(&mut self.sources) {
            let first = self.sources.iter().find(|known| known.is_same(&source));
            match first.map(|first| format!("it was given before, at {}", first.directive.place)) {
                Some(why) => self.drop_part(&source.directive, &source.host, why),
                None => self.sources.push(source),
            }
        }
    }

    /// What is not carried over, in the order of the files.
    pub(super) fn into_dropped(mut self) -> Vec<Dropped> {
        let mut files: Vec<_> = self.dropped.iter().map(|dropped| Arc::clone(&dropped.place.file)).collect();
        let mut seen = Vec::new();
        files.retain(|file| {
            !seen.contains(file) && {
                seen.push(Arc::clone(file));
                true
            }
        });
        let rank = |place: &Place| (files.iter().position(|file| *file == place.file), place.line);
        self.dropped.sort_by_key(|dropped| rank(&dropped.place));
        self.dropped
    }

    /// The new file.
    pub(super) fn write(&self, origin: &str) -> String {
        let mut out = Writer { text: String::new(), comments: 0 };
        out.comment(&[format!("Made from {} by `ntpd migrate`.", printable(origin))]);
        for block in &self.blocks {
            out.comment(&["".to_owned()]);
            out.comment(block);
        }
        if self.sources.iter().any(Source::looks_for_nts) {
            out.comment(&["".to_owned()]);
            out.comment(&[
                "Sources without `nts` are used with NTS where they offer it, and with plain NTP otherwise;".to_owned(),
                "interleaved mode is used where they can.".to_owned(),
            ]);
        }
        if !self.directories.is_empty() {
            out.text.push('\n');
            self.directories.iter().for_each(|(_, comments)| out.comment(comments));
            let all = SOURCE_DIRECTORIES.into_iter().chain(self.directories.iter().map(|(path, _)| path.as_str()));
            out.line(format_args!("source-directories = {}", list(&all.collect::<Vec<_>>())));
        }
        for kind in [Kind::Pool, Kind::Server] {
            for source in self.sources.iter().filter(|source| source.kind == kind) {
                out.text.push('\n');
                out.comment(&source.directive.comments);
                out.text.push_str(&source.table());
            }
        }
        for (_, lines, comments) in &self.interfaces {
            out.text.push('\n');
            out.comment(comments);
            out.text.push_str("[[hwtimestamp]]\n");
            out.text.push_str(lines);
        }
        for refclock in &self.refclocks {
            out.text.push('\n');
            out.comment(&refclock.directive.comments);
            out.text.push_str(&refclock.table());
        }
        for table in TABLES {
            let settings: Vec<_> = self.settings.iter().filter(|setting| setting.table == table).collect();
            if settings.is_empty() {
                continue;
            }
            out.line(format_args!("\n[{table}]"));
            for Setting { key, value, comments, .. } in settings {
                out.comment(comments);
                out.line(format_args!("{key} = {value}"));
            }
        }
        out.text
    }
}

struct Writer {
    text: String,
    comments: usize,
}

impl Writer {
    fn line(&mut self, line: impl fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn comment(&mut self, lines: &[String]) {
        for line in lines {
            self.comments += 1;
            if self.comments <= MAX_COMMENTS {
                let line = printable(line);
                let _ = writeln!(self.text, "{}", format_args!("# {line}").to_string().trim_end());
            }
        }
    }
}
