//! The files that are read. Nothing is trusted of them, and nothing is changed.

use std::{
    fmt,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Longest file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Most files in all, with those that are included.
const MAX_FILES: usize = 512;

/// Most entries of a directory that are looked at.
const MAX_ENTRIES: usize = 4_096;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// Counted from 1; 0 for the file as a whole.
    pub line: usize,
}

impl Place {
    /// A file as a whole.
    pub(super) fn whole(file: &str) -> Self {
        Self { file: file.into(), line: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.file))?;
        if self.line == 0 { Ok(()) } else { write!(f, ":{}", self.line) }
    }
}

/// Why a file cannot be read, or not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub what: String,
}

impl Fault {
    pub(super) fn new(place: &Place, what: impl Into<String>) -> Self {
        Self { place: place.clone(), what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, printable(&self.what))
    }
}

/// One line of text.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) text: String,
    /// Whether a line feed ended it.
    pub(super) is_ended: bool,
}

/// The files of a configuration, below a root.
#[derive(Debug, Default)]
pub(super) struct Input {
    root: Option<PathBuf>,
    read: usize,
}

impl Input {
    pub(super) fn new(root: Option<&Path>) -> Self {
        Self { root: root.map(Path::to_path_buf), read: 0 }
    }

    /// Where a path that a configuration names is found.
    pub(super) fn locate(&self, path: &str) -> PathBuf {
        match &self.root {
            Some(root) if path.starts_with('/') => root.join(path.trim_start_matches('/')),
            _ => PathBuf::from(path),
        }
    }

    /// The text of the file that a configuration calls `name`.
    pub(super) fn text(&mut self, name: &str) -> Result<String, Fault> {
        let path = self.locate(name);
        self.text_at(name, &path)
    }

    /// The text of the file at `path`, which messages call `name`.
    pub(super) fn text_at(&mut self, name: &str, path: &Path) -> Result<String, Fault> {
        let whole = Place::whole(name);
        let fault = |what: String| Fault::new(&whole, what);
        self.read += 1;
        if self.read > MAX_FILES {
            return Err(fault(format!("more than {MAX_FILES} files are included")));
        }
        let unreadable = |error: std::io::Error| fault(format!("cannot read this file: {error}"));
        // What is no file may block when it is opened.
        if !fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(fault("this is no file".to_owned()));
        }
        let mut bytes = Vec::new();
        File::open(path).map_err(unreadable)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(fault(format!("this file is longer than {MAX_FILE_BYTES} bytes")));
        }
        if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
            let line = bytes.iter().take(at).filter(|&&byte| byte == b'\n').count() + 1;
            return Err(Fault::new(&Place { line, ..whole }, "this is not text"));
        }
        // Comments may be in the character set of another time.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The files of a directory whose names end with `.extension`, sorted; none if it cannot be read.
    pub(super) fn list(&self, directory: &str, extension: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.locate(directory)) else { return Vec::new() };
        let end = format!(".{extension}");
        let names = entries.take(MAX_ENTRIES).flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = names.filter(|name| name.ends_with(&end) && !name.starts_with('.')).collect();
        names.sort();
        names
    }

    /// The paths that a pattern with `*` and `?` stands for, sorted; without either it stands for itself.
    pub(super) fn expand(&self, pattern: &str) -> Vec<String> {
        if !pattern.contains(['*', '?']) {
            return vec![pattern.to_owned()];
        }
        let mut found = vec![if pattern.starts_with('/') { String::new() } else { ".".to_owned() }];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let mut next = Vec::new();
            for base in found {
                if !part.contains(['*', '?']) {
                    next.push(format!("{base}/{part}"));
                    continue;
                }
                let directory = if base.is_empty() { "/" } else { &base };
                let Ok(entries) = fs::read_dir(self.locate(directory)) else { continue };
                let names =
                    entries.take(MAX_ENTRIES).flatten().filter_map(|entry| entry.file_name().into_string().ok());
                let hidden = part.starts_with('.');
                next.extend(
                    names
                        .filter(|name| (hidden || !name.starts_with('.')) && matches(part.as_bytes(), name.as_bytes()))
                        .map(|name| format!("{base}/{name}")),
                );
            }
            found = next;
        }
        found.retain(|path| self.locate(path).exists());
        found.sort();
        found.into_iter().map(|path| path.strip_prefix("./").map(ToOwned::to_owned).unwrap_or(path)).collect()
    }
}

/// Whether a name is one that a pattern stands for.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // The last `*` and how far it reaches: more need not be remembered, as later ones can take what earlier ones leave.
    let (mut at, mut read, mut star) = (0, 0, None);
    while let Some(byte) = name.get(read) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => (at, read) = (at + 1, read + 1),
            _ => match star {
                Some((from, reach)) => {
                    star = Some((from, reach + 1));
                    (at, read) = (from + 1, reach + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|&byte| byte == b'*')
}

/// Splits a text into lines.
pub(super) fn lines(name: &str, text: &str) -> Vec<Line> {
    let file: Arc<str> = name.into();
    text.split_inclusive('\n')
        .enumerate()
        .map(|(index, line)| Line {
            place: Place { file: Arc::clone(&file), line: index + 1 },
            is_ended: line.ends_with('\n'),
            text: line.trim_end_matches(['\n', '\r']).to_owned(),
        })
        .collect()
}

/// Without what a terminal would obey, or a comment of TOML must not hold.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_invisible(c) { ' ' } else { c }).collect()
}

/// Characters that change the direction or the order of text around them.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Collects the block of comments that stands before a directive.
#[derive(Debug, Default)]
pub(super) struct Comments {
    block: Vec<String>,
}

impl Comments {
    /// One more line of comment, without its mark.
    pub(super) fn add(&mut self, text: &str) {
        self.block.push(printable(text.trim()));
    }

    /// Ends the block; what it held.
    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_a_shell() {
        for (pattern, name, is_match) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", true),
            ("*.conf", "a.conf.old", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("?.conf", "a.conf", true),
            ("?.conf", "ab.conf", false),
            ("*", "", true),
            ("a", "", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), is_match, "{pattern} {name}");
        }
    }
}
