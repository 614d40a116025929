//! The file of symmetric keys.

use std::{collections::BTreeMap, fmt, path::Path};

use ntp_proto::ids::KeyId;

use super::{
    problem::{Place, Report, Wrong},
    raw::{self, Data},
    section::{Found, Section},
    values,
};
use crate::hex;

/// Most keys in a file.
const MAX_KEYS: usize = 1_024;

/// Longest secret in bytes.
const MAX_SECRET: usize = 128;

const SECRET: &str = "\"hex:…\" or \"ascii:…\"";

/// How a key is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// AES-CMAC with a 128-bit key (RFC 8573).
    Aes128,
    /// AES-CMAC with a 256-bit key.
    Aes256,
    /// SHA-256 of key and packet.
    Sha256,
    /// SHA-1 of key and packet, for old peers.
    Sha1,
    /// MD5 of key and packet, for old peers.
    Md5,
}

/// Words for [`KeyType`].
const TYPES: &[(&str, KeyType)] = &[
    ("aes128", KeyType::Aes128),
    ("aes256", KeyType::Aes256),
    ("sha256", KeyType::Sha256),
    ("sha1", KeyType::Sha1),
    ("md5", KeyType::Md5),
];

impl KeyType {
    /// Bytes a secret must have, where the algorithm says so.
    const fn key_bytes(self) -> Option<usize> {
        match self {
            Self::Aes128 => Some(16),
            Self::Aes256 => Some(32),
            Self::Sha256 | Self::Sha1 | Self::Md5 => None,
        }
    }
}

/// A symmetric key. Its secret is not shown in messages.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyEntry {
    /// Its number, never 0.
    pub id: KeyId,
    /// How it is used.
    pub kind: KeyType,
    /// The secret, 1 to 128 bytes, of the length that `kind` needs.
    pub secret: Vec<u8>,
}

impl fmt::Debug for KeyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyEntry({}, {:?})", self.id.0, self.kind)
    }
}

/// Reads the keys of a file.
pub(super) fn parse(file: &Path, text: &str, report: &Report) -> Vec<KeyEntry> {
    let table = raw::parse(file, text, report);
    let mut section = Section::new(String::new(), Place::whole(file), table, report);
    let tables = section.raw("key").map_or_else(Vec::new, raw::Value::into_items);
    section.finish();
    if tables.len() > MAX_KEYS {
        let what = format!("{} keys, at most {MAX_KEYS} are possible", tables.len());
        report.error(&Place::whole(file), "key", Wrong::new(what));
    }
    let mut seen: BTreeMap<KeyId, Place> = BTreeMap::new();
    let mut keys = Vec::new();
    for raw::Value { place, data } in tables.into_iter().take(MAX_KEYS) {
        let Data::Table(table) = data else {
            report.error(&place, "key", Wrong::new(format!("expected a table, found {}", data.kind())));
            continue;
        };
        let Some(Found { value, place }) = key(Section::new("key".to_owned(), place, table, report)) else { continue };
        if let Some(first) = seen.get(&value.id) {
            report.error(&place, "key.id", Wrong::new(format!("{} was given before, at {first}", value.id.0)));
        } else {
            seen.insert(value.id, place);
            keys.push(value);
        }
    }
    keys
}

fn key(mut section: Section<'_>) -> Option<Found<KeyEntry>> {
    let id = section.required("id", values::integer(1..=u32::MAX));
    let kind = section.required("type", values::word(TYPES));
    let secret = section.required("secret", secret);
    let entry = (|| {
        let (id, kind, secret) = (id?, kind?.value, secret?);
        if let Some(bytes) = kind.key_bytes().filter(|&bytes| bytes != secret.value.len()) {
            let what = format!("{} bytes, the type needs {bytes}", secret.value.len());
            section.error(&secret.place, "secret", Wrong::new(what));
            return None;
        }
        Some(Found { value: KeyEntry { id: KeyId(id.value), kind, secret: secret.value }, place: id.place })
    })();
    section.finish();
    entry
}

/// Never repeats the text: it is a secret.
fn secret(data: &Data) -> Result<Vec<u8>, Wrong> {
    let wrong = |what: &str| Err(Wrong::new(what).accepted(SECRET));
    let Data::String(text) = data else { return wrong("expected a string") };
    let bytes = match text.split_once(':') {
        Some(("hex", digits)) => match hex::decode(digits) {
            Some(bytes) => bytes,
            None => return wrong("not pairs of hexadecimal digits"),
        },
        Some(("ascii", text)) if text.is_ascii() => text.as_bytes().to_vec(),
        Some(("ascii", _)) => return wrong("not only ASCII characters"),
        _ => return wrong("does not say how it is written"),
    };
    if bytes.is_empty() || bytes.len() > MAX_SECRET {
        return wrong("not 1 to 128 bytes long");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<KeyEntry>, String> {
        let report = Report::default();
        let keys = parse(Path::new("keys.toml"), text, &report);
        report.finish().map(|_| keys).map_err(|problems| problems.to_string())
    }

    #[test]
    fn keys_are_read() {
        let keys = read(
            "[[key]]\nid = 1\ntype = \"sha256\"\nsecret = \"ascii:a:b\"\n\
             [[key]]\nid = 20\ntype = \"aes128\"\nsecret = \"hex:000102030405060708090a0b0c0d0eFF\"\n",
        )
        .unwrap();
        assert_eq!(keys[0], KeyEntry { id: KeyId(1), kind: KeyType::Sha256, secret: b"a:b".to_vec() });
        assert_eq!((keys[1].id, keys[1].secret.len(), keys[1].secret[15]), (KeyId(20), 16, 0xff));
        assert!(!format!("{keys:?}").contains("97"), "the secret is not shown");
        assert!(read("").unwrap().is_empty());
    }

    #[test]
    fn mistakes_are_told_without_the_secret() {
        let key = |rest: &str| format!("[[key]]\nid = 1\n{rest}\n");
        for (text, message) in [
            (key("type = \"sha256\""), "keys.toml:1:1: key.secret: missing"),
            (
                key("type = \"sha512\"\nsecret = \"hex:00\""),
                "keys.toml:3:8: key.type: unknown value `sha512`; accepted: aes128, aes256, sha256, sha1, md5",
            ),
            (
                key("type = \"aes128\"\nsecret = \"ascii:hunter2\""),
                "keys.toml:4:10: key.secret: 7 bytes, the type needs 16",
            ),
            (
                key("type = \"md5\"\nsecret = \"hunter2\""),
                "keys.toml:4:10: key.secret: does not say how it is written; accepted: \"hex:…\" or \"ascii:…\"",
            ),
            (
                key("type = \"md5\"\nsecret = \"hex:123\""),
                "keys.toml:4:10: key.secret: not pairs of hexadecimal digits; accepted: \"hex:…\" or \"ascii:…\"",
            ),
            (
                key("type = \"md5\"\nsecret = \"ascii:a\"\n[[key]]\nid = 1\ntype = \"md5\"\nsecret = \"ascii:b\""),
                "keys.toml:6:6: key.id: 1 was given before, at keys.toml:2:6",
            ),
            (
                "[[key]]\nid = 0\ntype = \"md5\"\nsecret = \"ascii:a\"".to_owned(),
                "keys.toml:2:6: key.id: 0 is out of range; accepted: 1 to 4294967295",
            ),
        ] {
            let errors = read(&text).unwrap_err();
            assert_eq!(errors, message);
            assert!(!errors.contains("hunter2"));
        }
    }
}
