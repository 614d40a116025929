//! The keys that DNSSEC is validated by, from a file.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use hickory_resolver::proto::{dnssec::TrustAnchors, serialize::txt::ParseError};
use sha2::{Digest as _, Sha256};

/// Most octets of a file of trust anchors.
const MAX_BYTES: u64 = 1 << 20;

/// The keys of a file.
#[derive(Clone)]
pub(crate) struct Anchors {
    pub(super) keys: TrustAnchors,
    /// Tells whether another file has the same ones.
    pub(super) fingerprint: [u8; 32],
}

/// Why a file of trust anchors cannot be used.
#[derive(Debug)]
pub struct AnchorError {
    file: PathBuf,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Io(io::Error),
    /// In words.
    Syntax(String),
    Empty {
        has_ds: bool,
    },
}

impl fmt::Display for AnchorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        match &self.why {
            Why::Io(error) => write!(f, "cannot be read: {error}"),
            Why::Syntax(why) => write!(f, "not a file of trust anchors: {why}; accepted: lines of DNSKEY records"),
            Why::Empty { has_ds: true } => f.write_str("DS records cannot be used; accepted: lines of DNSKEY records"),
            Why::Empty { has_ds: false } => {
                f.write_str("no trust anchor in this file; accepted: lines of DNSKEY records")
            }
        }
    }
}

impl std::error::Error for AnchorError {}

/// Reads DNSKEY records as `unbound-anchor` and `dig` write them. DS records are left out.
///
/// # Errors
///
/// [`AnchorError`] if the file cannot be read or holds no key.
pub(crate) fn read(file: &Path) -> Result<Anchors, AnchorError> {
    let problem = |why| AnchorError { file: file.to_owned(), why };
    let mut text = String::new();
    let opened = File::open(file).map_err(|error| problem(Why::Io(error)))?;
    opened.take(MAX_BYTES).read_to_string(&mut text).map_err(|error| problem(Why::Io(error)))?;
    let is_ds = |line: &str| {
        let words = line.split(';').next().unwrap_or_default().split_ascii_whitespace();
        words.take(4).any(|word| word.eq_ignore_ascii_case("DS"))
    };
    let has_ds = text.lines().any(is_ds);
    let keys: String = text.lines().filter(|line| !is_ds(line)).flat_map(|line| [line, "\n"]).collect();
    // The parser has its own idea of a file without records.
    if keys.lines().all(|line| line.split(';').next().unwrap_or_default().trim().is_empty()) {
        return Err(problem(Why::Empty { has_ds }));
    }
    let parsed = keys.parse();
    let parsed = parsed.map_err(|error: ParseError| problem(Why::Syntax(error.to_string())))?;
    Ok(Anchors { keys: parsed, fingerprint: fingerprint(&keys) })
}

/// SHA-256 over the sorted lines without their comments, in which `unbound-anchor` notes when it was there last.
fn fingerprint(lines: &str) -> [u8; 32] {
    let bare = |line: &str| {
        let words = line.split(';').next().unwrap_or_default().split_ascii_whitespace();
        words.collect::<Vec<_>>().join(" ")
    };
    let mut lines: Vec<String> = lines.lines().map(bare).filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    Sha256::digest(lines.join("\n")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = ". 172800 IN DNSKEY 257 3 13 \
        mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==";

    fn read_text(text: &str) -> Result<usize, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path()).map(|anchors| anchors.keys.len()).map_err(|error| {
            let text = error.to_string();
            assert!(text.starts_with(&*file.path().to_string_lossy()), "{text}");
            text
        })
    }

    #[test]
    fn the_same_keys_have_the_same_fingerprint_whatever_is_said_beside_them() {
        let other = KEY.replace("257 3 13", "256 3 13");
        let one = fingerprint(&format!("{KEY}\n{other}\n"));
        assert_eq!(one, fingerprint(&format!("; a comment\n\n{other}\n  {KEY} ;;lastchange=1 \n")));
        assert_ne!(one, fingerprint(KEY));
        assert_ne!(one, fingerprint(&format!("{KEY}\n{KEY}\n")));
    }

    #[test]
    fn keys_are_read_and_everything_else_is_told() {
        let ds = ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D";
        assert_eq!(read_text(&format!("; a comment\n{KEY} ;;state=2 [  VALID  ]\n")), Ok(1));
        assert_eq!(read_text(&format!("{ds}\n{KEY}\n")), Ok(1));
        for (text, expected) in [
            ("", "no trust anchor"),
            ("; nothing\n\n", "no trust anchor"),
            (ds, "DS records cannot be used"),
            ("<TrustAnchor/>", "not a file of trust anchors"),
            (". IN DNSKEY 257 3 13 !!", "not a file of trust anchors"),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(error.contains(expected) && error.contains("DNSKEY"), "{text:?}: {error}");
        }
        assert!(read(Path::new("/nowhere/root.key")).err().unwrap().to_string().contains("No such file"));
    }
}
