//! Keys of transaction signatures (RFC 8945), in the file format that `tsig-keygen` and `nsupdate -k` share.

use core::fmt;
use std::path::Path;

use data_encoding::BASE64;
use ntp_proto::pool::Name;
use zeroize::Zeroizing;

use crate::directory::{Problem, read_secret};

/// Longest secret, as long as what the hash takes at once.
const MAX_SECRET: usize = 64;

/// The one algorithm: all servers know it (RFC 8945 section 6 requires it).
const ALGORITHM: &str = "hmac-sha256";

/// A secret that is shared with a server.
#[derive(Clone, PartialEq, Eq)]
pub struct TsigKey {
    /// What the server calls it.
    pub name: Name,
    secret: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for TsigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TsigKey({})", self.name)
    }
}

impl TsigKey {
    /// Reads a key file.
    ///
    /// # Errors
    ///
    /// [`Problem`] with what is accepted.
    pub fn load(path: &Path) -> Result<Self, Problem> {
        let text = read_secret(path)?;
        Self::parse(&text).map_err(|what| Problem::whole(path, what))
    }

    /// Takes a key from the text `key "NAME" { algorithm hmac-sha256; secret "BASE64"; };`.
    ///
    /// # Errors
    ///
    /// What is wrong and what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let accepted = "accepted: key \"NAME\" { algorithm hmac-sha256; secret \"BASE64\"; }; as tsig-keygen prints it";
        let lines = text.lines().map(|line| line.split(['#']).next().unwrap_or_default());
        let lines = lines.map(|line| line.split("//").next().filter(|_| !line.contains("secret")).unwrap_or(line));
        let joined = Zeroizing::new(lines.collect::<Vec<_>>().join(" "));
        let spaced = Zeroizing::new(joined.replace('{', " { ").replace('}', " } ").replace(';', " ; "));
        let words: Vec<&str> = spaced.split_ascii_whitespace().map(|word| word.trim_matches('"')).collect();
        let ["key", name, "{", settings @ ..] = words.as_slice() else {
            return Err(format!("no key; {accepted}"));
        };
        let name = Name::parse(name).map_err(|error| format!("name of the key: {error}"))?;
        let value = |key: &str| {
            settings.windows(3).find(|w| w.first() == Some(&key) && w.get(2) == Some(&";"))?.get(1).copied()
        };
        if !value("algorithm").is_some_and(|algorithm| algorithm.eq_ignore_ascii_case(ALGORITHM)) {
            return Err(format!("no algorithm {ALGORITHM}; {accepted}"));
        }
        let secret = value("secret").and_then(|text| BASE64.decode(text.as_bytes()).ok()).map(Zeroizing::new);
        let secret = secret.filter(|secret| (16..=MAX_SECRET).contains(&secret.len()));
        let secret = secret.ok_or_else(|| format!("no secret of 16 to {MAX_SECRET} octets in Base64; {accepted}"))?;
        Ok(Self { name, secret })
    }

    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_are_read_as_tools_write_them() {
        let text = "# made by tsig-keygen\nkey \"Update.Example\" {\n\talgorithm hmac-sha256;\n\tsecret \"AAECAwQFBgcICQoLDA0ODw==\";\n};\n";
        let key = TsigKey::parse(text).unwrap();
        assert_eq!((key.name.as_str(), key.reveal()), ("update.example", &(0..16).collect::<Vec<u8>>()[..]));
        assert!(!format!("{key:?}").contains("AAEC"));
        let one_line = "key u{algorithm HMAC-SHA256;secret AAECAwQFBgcICQoLDA0O//==;};";
        assert!(TsigKey::parse(one_line).unwrap_err().contains("no secret"));
        let one_line = "key u{algorithm HMAC-SHA256;secret AA//AwQFBgcICQoLDA0ODw==;};";
        assert_eq!(TsigKey::parse(one_line).unwrap().reveal().len(), 16);
    }

    #[test]
    fn what_is_no_key_is_told() {
        for (text, wanted) in [
            ("", "no key"),
            ("key u { algorithm hmac-md5; secret \"AAECAwQFBgcICQoLDA0ODw==\"; };", "no algorithm hmac-sha256"),
            ("key u { algorithm hmac-sha256; secret \"AAEC\"; };", "no secret of 16 to 64 octets"),
            ("key u { algorithm hmac-sha256; secret \"***\"; };", "no secret"),
            ("key u..x { algorithm hmac-sha256; secret \"AAECAwQFBgcICQoLDA0ODw==\"; };", "name of the key"),
        ] {
            assert!(TsigKey::parse(text).unwrap_err().contains(wanted), "{text}");
        }
    }
}
