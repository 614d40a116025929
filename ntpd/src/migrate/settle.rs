//! What can only be said when all has been read: by which roots and keys sources are authenticated.

use std::path::Path;

use ntp_proto::server::Responder;
use zeroize::Zeroizing;

use super::{
    input::Input,
    keys::{self, Dialect, KeyFile},
    plan::{Directive, Plan, quote},
    source::{Judges, Protection, Source},
};

/// Where the new file of keys is, unless it is written now.
const KEY_FILE: &str = "/etc/ntpd/keys.toml";

/// What is said of a set of roots, or of all, that has more than one file.
const ONE_FILE: &str = "one file of roots is possible: put all of them into the first";

/// Roots that certificates are judged by.
#[derive(Debug, Default)]
pub(super) struct Roots {
    /// Roots of the system do not count.
    pub(super) only_files: Option<Directive>,
    /// Files of roots.
    pub(super) files: Vec<(Directive, String)>,
    /// Those of sets that single sources are judged by.
    pub(super) sets: Vec<(u32, Directive, String)>,
}

/// Says by which roots certificates are judged. What the daemon would judge by more roots than before is dropped.
pub(super) fn roots(plan: &mut Plan, given: Roots) {
    sets(plan, given.sets);
    let is_common = |source: &Source| source.protection == Protection::Nts && source.roots.is_none();
    let mut comments = given.only_files.as_ref().map_or_else(Vec::new, |only| only.comments.clone());
    let mut files = given.files.into_iter();
    if let Some((directive, file)) = files.next() {
        comments.extend(directive.comments);
        let roots = if given.only_files.is_some() { "file" } else { "both" };
        plan.put("trust", "certificates", quote(roots), comments);
        plan.put("trust", "certificate-file", quote(&file), Vec::new());
    } else if let Some(only) = given.only_files {
        plan.drop(&only, "no file of roots is carried over, so there is nothing to judge certificates by");
        plan.drop_sources(|source| {
            is_common(source).then(|| "its certificate was to be judged by roots that are not carried over".to_owned())
        });
    }
    for (directive, _) in files {
        plan.drop(&directive, ONE_FILE);
    }
}

/// Gives each source that is judged by a set of roots the file of that set.
fn sets(plan: &mut Plan, sets: Vec<(u32, Directive, String)>) {
    let file_of = |id: u32| sets.iter().find(|(known, ..)| *known == id).map(|(_, _, file)| file.clone());
    let mut used = Vec::new();
    for source in plan.sources_mut() {
        let Some(Judges::Set(id)) = source.roots else { continue };
        used.push(id);
        if let Some(file) = file_of(id) {
            source.roots = Some(Judges::File(file, false));
        }
    }
    plan.drop_sources(|source| match source.roots {
        Some(Judges::Set(id)) => {
            Some(format!("it is judged by the set of roots {id}, of which no file is carried over"))
        }
        Some(Judges::File(..)) | None => None,
    });
    let mut seen = Vec::new();
    for (id, directive, _) in &sets {
        if seen.contains(id) {
            plan.drop(directive, ONE_FILE);
        } else if used.contains(id) {
            plan.note(directive, "`certificate-file` of the sources that are judged by it");
        } else {
            plan.note(directive, "no source is judged by it");
        }
        seen.push(*id);
    }
}

/// A file of keys that a configuration names.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) directive: Directive,
    pub(super) file: String,
    pub(super) dialect: Dialect,
    /// The keys that count, if not all do.
    pub(super) trusted: Option<Vec<u32>>,
}

/// Says by which keys sources and clients are authenticated. What the new file of keys is to hold, if it is written.
pub(super) fn keys(
    plan: &mut Plan,
    input: &mut Input,
    given: Option<Keys>,
    out: Option<&Path>,
    is_serving: bool,
) -> Option<Zeroizing<String>> {
    let used = used(plan);
    let Some(Keys { directive, file, dialect, trusted }) = given else {
        plan.drop_sources(|source| key_of(source).map(|id| format!("no file of keys is named that has key {id}")));
        return None;
    };
    if used.is_empty() && !is_serving {
        plan.note(&directive, "no source uses a key");
        return None;
    }
    let mut read = match keys::read(input, &file, dialect) {
        Ok(read) => read,
        Err(_) if used.is_empty() => {
            plan.note(&directive, "no source uses a key");
            return None;
        }
        Err(why) => {
            plan.put("keys", "file", quote(KEY_FILE), Vec::new());
            plan.drop(&directive, format!("{why}; its keys belong into {KEY_FILE}, as --keys-out writes them"));
            return None;
        }
    };
    refuse(plan, &read, &file, &used);
    let counts = |id: u32| trusted.as_ref().is_none_or(|ids| ids.contains(&id)) || used.contains(&id);
    read.keys.retain(|key| counts(key.id));
    if read.keys.len() > Responder::MAX_KEYS {
        let why =
            format!("{} keys, at most {} are possible: only those of sources", read.keys.len(), Responder::MAX_KEYS);
        plan.drop_part(&directive, &file, why);
        read.keys.retain(|key| used.contains(&key.id));
    }
    if read.keys.is_empty() {
        plan.note(&directive, "it holds no keys");
        return None;
    }
    let (comments, text) = (directive.comments.clone(), keys::write(&read.keys));
    if let Some(out) = out {
        let path = std::path::absolute(out).unwrap_or_else(|_| out.to_path_buf());
        plan.put("keys", "file", quote(&path.display().to_string()), comments);
        return Some(text);
    }
    plan.put("keys", "file", quote(KEY_FILE), comments);
    let keys = if read.keys.len() == 1 { "its key" } else { &format!("its {} keys", read.keys.len()) };
    plan.drop_part(&directive, &file, format!("--keys-out {KEY_FILE} writes {keys}"));
    None
}

/// Sources whose key cannot be had are dropped: without it they would be plain.
fn refuse(plan: &mut Plan, read: &KeyFile, file: &str, used: &[u32]) {
    plan.drop_sources(|source| {
        let id = key_of(source)?;
        if read.keys.iter().any(|key| key.id == id) {
            return None;
        }
        let refused = read.refused.iter().find(|(_, refused, _)| *refused == Some(id));
        Some(match refused {
            Some((place, _, why)) => format!("its key cannot be used, {place}: {why}"),
            None => format!("{file} has no key {id}"),
        })
    });
    // Those of sources are told with their source.
    for (place, id, why) in read.refused.iter().filter(|(_, id, _)| id.is_none_or(|id| !used.contains(&id))) {
        let text = id.map_or_else(|| "a key".to_owned(), |id| format!("key {id}"));
        plan.drop(&Directive { place: place.clone(), text, comments: Vec::new() }, why.clone());
    }
}

const fn key_of(source: &Source) -> Option<u32> {
    match source.protection {
        Protection::Key(id) => Some(id),
        Protection::Plain | Protection::Nts => None,
    }
}

fn used(plan: &Plan) -> Vec<u32> {
    plan.sources().iter().filter_map(key_of).collect()
}
