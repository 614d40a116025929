//! Host names.

use core::fmt;
use std::net::IpAddr;

/// Longest host name in its textual form without the final dot (RFC 1035 section 3.1).
const MAX_LENGTH: usize = 253;

/// A host or service name in lower-case ASCII, without a final dot.
///
/// An address may stand where a host is named; its certificate then has to be for that address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Text that is not a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidName;

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not a host name: labels of 1 to 63 letters, digits, `-` or `_`, separated by dots, 253 characters in all",
        )
    }
}

impl std::error::Error for InvalidName {}

impl Name {
    /// Takes a name; one final dot is dropped and letters are lowered.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] if it is empty, too long, or has a label that is empty, longer than 63, begins or ends with `-`, or
    /// holds anything but letters, digits, `-` and `_`.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let fits = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if text.len() > MAX_LENGTH || !text.split('.').all(fits) {
            return Err(InvalidName);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The address that stands for a name.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }

    /// The name as text; of an address, without brackets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<IpAddr> for Name {
    fn from(address: IpAddr) -> Self {
        Self(address.to_string())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lowered_and_checked() {
        assert_eq!(Name::parse("Time.Example.").unwrap().as_str(), "time.example");
        assert_eq!(Name::parse("_ntske._tcp.time.example").unwrap().as_str(), "_ntske._tcp.time.example");
        for address in ["192.0.2.1", "2001:db8::1"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(Name::from(address).address(), Some(address));
        }
        assert_eq!(Name::parse("192.0.2.1").unwrap().address(), Some([192, 0, 2, 1].into()));
        assert_eq!(Name::parse("time.example").unwrap().address(), None);
        let long = "a.".repeat(126) + "aa";
        for bad in ["", ".", "a..b", "-a.b", "a-.b", "a b", "ü.example", "[::1]", &"a".repeat(64), &long] {
            assert_eq!(Name::parse(bad), Err(InvalidName), "{bad}");
        }
    }
}
