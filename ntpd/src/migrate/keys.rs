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
