//! The file of symmetric keys.

use std::{collections::BTreeMap, path::Path};

use ntp_proto::{
    ids::KeyId,
    server::Responder,
    wire::mac::{MacAlgorithm, SymmetricKey},
};

use super::{
    problem::{Place, Report, Wrong},
    raw::{self, Data},
    section::{Found, Section},
    values,
};
use crate::hex;

/// Most keys in a file.
const MAX_KEYS: usize = Responder::MAX_KEYS;

const SECRET: &str = "\"hex:…\" or \"ascii:…\"";

/// Words for [`MacAlgorithm`].
const TYPES: &[(&str, MacAlgorithm)] = &[
    ("aes128", MacAlgorithm::AesCmac128),
    ("aes256", MacAlgorithm::AesCmac256),
    ("sha256", MacAlgorithm::Sha256),
    ("sha1", MacAlgorithm::Sha1),
    ("md5", MacAlgorithm::Md5),
];

/// Reads the keys of a file.
pub(super) fn parse(file: &Path, text: &str, report: &Report) -> Vec<SymmetricKey> {
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
        if let Some(first) = seen.get(&value.id()) {
            report.error(&place, "key.id", Wrong::new(format!("{} was given before, at {first}", value.id().0)));
        } else {
            seen.insert(value.id(), place);
            keys.push(value);
        }
    }
    keys
}

fn key(mut section: Section<'_>) -> Option<Found<SymmetricKey>> {
    let id = section.required("id", values::integer(1..=u32::MAX));
    let kind = section.required("type", values::word(TYPES));
    let secret = section.required("secret", secret);
    let entry = (|| {
        let (id, kind, secret) = (id?, kind?.value, secret?);
        match SymmetricKey::new(KeyId(id.value), kind, &secret.value) {
            Ok(key) => Some(Found { value: key, place: id.place }),
            Err(_) => {
                let (least, most) = kind.key_len();
                let accepted =
                    if least == most { format!("{least} bytes") } else { format!("{least} to {most} bytes") };
                let what = format!("{} bytes are not right for the type", secret.value.len());
                section.error(&secret.place, "secret", Wrong::new(what).accepted(accepted));
                None
            }
        }
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
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<SymmetricKey>, String> {
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
        let mac = |key: &SymmetricKey| {
            let mut packet = [0; 84];
            let length = key.append(&mut packet, 48).unwrap();
            packet[48..length].to_vec()
        };
        let same = |key: &SymmetricKey, id, algorithm, secret: &[u8]| {
            mac(key) == mac(&SymmetricKey::new(KeyId(id), algorithm, secret).unwrap())
        };
        assert!(same(&keys[0], 1, MacAlgorithm::Sha256, b"a:b"));
        let secret = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255];
        assert!(same(&keys[1], 20, MacAlgorithm::AesCmac128, &secret));
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
                "keys.toml:4:10: key.secret: 7 bytes are not right for the type; accepted: 16 bytes",
            ),
            (
                key("type = \"sha1\"\nsecret = \"hex:\""),
                "keys.toml:4:10: key.secret: 0 bytes are not right for the type; accepted: 1 to 128 bytes",
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
