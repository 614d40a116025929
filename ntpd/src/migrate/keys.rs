//! Files of symmetric keys: those of chrony, and those of ntp.org and NTPsec.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use ntp_proto::{
    ids::KeyId,
    wire::mac::{MacAlgorithm, SymmetricKey},
};
use zeroize::Zeroizing;

use super::input::{Input, Line, Place, lines};
use crate::hex;

/// Longest line of chrony's file.
const MAX_LINE: usize = 2_047;

/// A longer secret is hexadecimal, in the files of ntp.org and NTPsec.
const MAX_TEXT_SECRET: usize = 20;

/// Types that the daemon does not have.
const UNSUPPORTED: [&str; 14] = [
    "SHA224",
    "SHA-224",
    "SHA384",
    "SHA-384",
    "SHA512",
    "SHA-512",
    "SHA3-224",
    "SHA3-256",
    "SHA3-384",
    "SHA3-512",
    "TIGER",
    "WHIRLPOOL",
    "RIPEMD160",
    "AES-192",
];

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `ID [TYPE] [ASCII:|HEX:]KEY`
    Chrony,
    /// `ID TYPE KEY`
    Ntp,
}

/// A file of keys.
#[derive(Debug, Default)]
pub(super) struct KeyFile {
    /// Keys that the daemon can use.
    pub(super) keys: Vec<Key>,
    /// Lines it cannot use, and why; the number of the key, if there is one.
    pub(super) refused: Vec<(Place, Option<u32>, String)>,
}

/// A key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) id: u32,
    kind: &'static str,
    secret: Zeroizing<Vec<u8>>,
}

/// Reads a file; messages never repeat the secrets.
pub(super) fn read(input: &mut Input, name: &str, dialect: Dialect) -> Result<KeyFile, String> {
    let text = Zeroizing::new(input.text(name).map_err(|fault| fault.what)?);
    let mut file = KeyFile::default();
    for line in lines(name, &text) {
        match key(&line, dialect) {
            Ok(None) => {}
            // As in chrony and ntp.org, a later key takes the place of an earlier one.
            Ok(Some(key)) => {
                file.keys.retain(|known| known.id != key.id);
                file.keys.push(key);
            }
            Err((id, why)) => file.refused.push((line.place, id, why)),
        }
    }
    Ok(file)
}

fn key(line: &Line, dialect: Dialect) -> Result<Option<Key>, (Option<u32>, String)> {
    if line.text.len() > MAX_LINE {
        return Err((None, format!("longer than {MAX_LINE} bytes")));
    }
    let text = match dialect {
        Dialect::Chrony if line.text.trim_start().starts_with(['!', ';', '#', '%']) => "",
        Dialect::Chrony => &line.text,
        Dialect::Ntp => line.text.split('#').next().unwrap_or_default(),
    };
    let mut words = text.split_ascii_whitespace();
    let Some(first) = words.next() else { return Ok(None) };
    let id: u32 = first.parse().ok().filter(|&id| id != 0).ok_or_else(|| (None, "not a number of a key".to_owned()))?;
    let refuse = |why: &str| (Some(id), why.to_owned());
    let (kind, written) = match (words.next(), words.next(), words.next(), dialect) {
        (Some(secret), None, None, Dialect::Chrony) => ("MD5", secret),
        (Some(kind), Some(secret), None, _) => (kind, secret),
        _ => return Err(refuse("not a number, a type and a key")),
    };
    let (kind, algorithm) = algorithm(kind, dialect).ok_or_else(|| {
        // What is no type may be a secret in the wrong place.
        let known = UNSUPPORTED.iter().find(|known| kind.eq_ignore_ascii_case(known));
        known.map_or_else(
            || refuse("its type is not known"),
            |known| refuse(&format!("keys of the type {known} are not supported")),
        )
    })?;
    let secret = secret(written, dialect).ok_or_else(|| refuse("the key is not hexadecimal"))?;
    if SymmetricKey::new(KeyId(id), algorithm, &secret).is_err() {
        return Err(refuse("the key is too short or too long for its type"));
    }
    Ok(Some(Key { id, kind, secret }))
}

fn algorithm(kind: &str, dialect: Dialect) -> Option<(&'static str, MacAlgorithm)> {
    let kind = kind.to_ascii_lowercase().replace('-', "");
    Some(match (kind.as_str(), dialect) {
        ("md5", _) | ("m", Dialect::Ntp) => ("md5", MacAlgorithm::Md5),
        ("sha1" | "sha", _) => ("sha1", MacAlgorithm::Sha1),
        ("sha256", _) => ("sha256", MacAlgorithm::Sha256),
        ("aes128", _) | ("aes" | "aes128cmac", Dialect::Ntp) => ("aes128", MacAlgorithm::AesCmac128),
        ("aes256", _) => ("aes256", MacAlgorithm::AesCmac256),
        _ => return None,
    })
}

fn secret(written: &str, dialect: Dialect) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = match dialect {
        Dialect::Chrony => match written.split_once(':') {
            Some((mark, digits)) if mark.eq_ignore_ascii_case("hex") => hex::decode(digits)?,
            Some((mark, text)) if mark.eq_ignore_ascii_case("ascii") => text.as_bytes().to_vec(),
            _ => written.as_bytes().to_vec(),
        },
        Dialect::Ntp if written.len() > MAX_TEXT_SECRET => hex::decode(written)?,
        Dialect::Ntp => written.as_bytes().to_vec(),
    };
    Some(Zeroizing::new(bytes))
}

/// The file that the daemon reads.
pub(super) fn write(keys: &[Key]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::from("# Made by `ntpd migrate`.\n"));
    for key in keys {
        let digits = Zeroizing::new(hex::encode(&key.secret));
        // Writing to a string cannot fail.
        let _ = write!(text, "\n[[key]]\nid = {}\ntype = \"{}\"\nsecret = \"hex:{}\"\n", key.id, key.kind, *digits);
    }
    text
}

/// Makes a file that only its owner can read; one that exists stays as it is.
///
/// # Errors
///
/// The operating system says so, or there is such a file.
pub fn save(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_text(text: &str, dialect: Dialect) -> KeyFile {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("keys"), text).unwrap();
        read(&mut Input::new(Some(directory.path())), "/keys", dialect).unwrap()
    }

    #[test]
    fn both_kinds_of_files_are_read() {
        for (text, dialect, kind, secret) in [
            ("10 tulip", Dialect::Chrony, "md5", "74756c6970"),
            ("20 MD5 ASCII:crocus", Dialect::Chrony, "md5", "63726f637573"),
            ("25 SHA1 HEX:933F62BE", Dialect::Chrony, "sha1", "933f62be"),
            ("1 sha256 hex:00", Dialect::Chrony, "sha256", "00"),
            ("7 M tulip # comment", Dialect::Ntp, "md5", "74756c6970"),
            (
                "7 SHA1 933f62be1d604e68a81b557f18cfa200483f5b70",
                Dialect::Ntp,
                "sha1",
                "933f62be1d604e68a81b557f18cfa200483f5b70",
            ),
            ("7 AES 000102030405060708090a0b0c0d0e0f", Dialect::Ntp, "aes128", "000102030405060708090a0b0c0d0e0f"),
        ] {
            let file = read_text(text, dialect);
            let written = write(&file.keys);
            assert!(written.contains(&format!("type = \"{kind}\"\nsecret = \"hex:{secret}\"")), "{text}: {}", *written);
        }
        // The later one counts.
        let file = read_text("; x\n1 a\n1 b\n", Dialect::Chrony);
        assert_eq!((file.keys.len(), file.keys[0].secret.as_slice()), (1, b"b".as_slice()));
    }

    #[test]
    fn secrets_are_never_repeated() {
        for text in [
            "0 hunter2",
            "hunter2",
            "hunter2 hunter2",
            "7 hunter2 # comment",
            "7 hunter2 secret",
            "7 SHA512 hunter2",
            "7 SHA1 HEX:hunter2",
            "7 AES128 hunter2",
            "7",
        ] {
            for dialect in [Dialect::Chrony, Dialect::Ntp] {
                let file = read_text(text, dialect);
                // To ntp.org that is a key of eleven letters.
                let is_key = (text, dialect) == ("7 SHA1 HEX:hunter2", Dialect::Ntp);
                assert_eq!((file.keys.len(), file.refused.len()), if is_key { (1, 0) } else { (0, 1) }, "{text}");
                assert!(file.refused.iter().all(|(_, _, why)| !why.contains("hunter2")), "{text}");
            }
        }
    }
}
