//! A member's side: which pools may hand it the keys of their users.

use core::fmt;

use nts_ke::{record::MAX_TOKEN_LENGTH, server::Gate};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

/// Most tokens of one file.
pub const MAX_TOKENS: usize = 64;

/// Fewest characters of a token: 22 alphanumeric ones hold the 128 bits that
/// draft-ietf-ntp-nts-keyexchange-pool-01 recommends.
pub const MIN_TOKEN_LENGTH: usize = 22;

/// The tokens of the pools that a server belongs to. Only their hashes are kept.
///
/// While a token is being changed, the old and the new one stand beside each other.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens(Vec<[u8; 32]>);

/// Why a list of tokens cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidTokens {
    /// The token in this line, counted from 1, is no token.
    Line(usize),
    /// The token in the second of these lines stands in the first already.
    Twice(usize, usize),
    /// There are more than [`MAX_TOKENS`].
    TooMany,
    /// There is none.
    None,
}

impl fmt::Display for InvalidTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(
                f,
                "line {line}: not a token; accepted: {MIN_TOKEN_LENGTH} to {MAX_TOKEN_LENGTH} visible ASCII characters, one \
                 token a line, after # a comment"
            ),
            Self::Twice(first, second) => write!(f, "line {second}: the token of line {first} again"),
            Self::TooMany => write!(f, "more than {MAX_TOKENS} tokens"),
            Self::None => f.write_str("no token"),
        }
    }
}

impl core::error::Error for InvalidTokens {}

impl Tokens {
    /// Takes tokens from the text of a file: one a line; empty lines and what follows `#` do not count.
    ///
    /// # Errors
    ///
    /// [`InvalidTokens`] names the line. No message holds a token.
    pub fn parse(text: &str) -> Result<Self, InvalidTokens> {
        let mut hashes: Vec<([u8; 32], usize)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let number = index.saturating_add(1);
            let token = line.split('#').next().unwrap_or_default().trim();
            if token.is_empty() {
                continue;
            }
            let fits = (MIN_TOKEN_LENGTH..=MAX_TOKEN_LENGTH).contains(&token.len());
            if !fits || !token.bytes().all(|octet| octet.is_ascii_graphic()) {
                return Err(InvalidTokens::Line(number));
            }
            let hash = hash(token);
            if let Some((_, first)) = hashes.iter().find(|(other, _)| *other == hash) {
                return Err(InvalidTokens::Twice(*first, number));
            }
            if hashes.len() >= MAX_TOKENS {
                return Err(InvalidTokens::TooMany);
            }
            hashes.push((hash, number));
        }
        if hashes.is_empty() {
            return Err(InvalidTokens::None);
        }
        Ok(Self(hashes.into_iter().map(|(hash, _)| hash).collect()))
    }

    /// How many tokens there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none: never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.len())
    }
}

impl Gate for Tokens {
    /// Compares hashes, all of them, each in constant time: neither which token it is nor how much of it is right can be
    /// told from how long that takes.
    fn admits(&self, token: &str) -> bool {
        let given = hash(token);
        let mut found = Choice::from(0);
        for known in &self.0 {
            found |= known.ct_eq(&given);
        }
        found.into()
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "0123456789abcdef0123456789abcdef";
    const NEW: &str = "abcdefghijABCDEFGHIJ12";

    #[test]
    fn old_and_new_tokens_are_admitted_side_by_side() {
        let tokens = Tokens::parse(&format!("# pool.example\n{OLD}\n\n  {NEW}  # from today on\n")).unwrap();
        assert_eq!(tokens.len(), 2);
        assert!(tokens.admits(OLD) && tokens.admits(NEW));
        for other in ["", "0123456789abcdef0123456789abcdeX", &OLD[1..], &format!("{OLD}0"), "# pool.example"] {
            assert!(!tokens.admits(other), "{other}");
        }
        let later = Tokens::parse(NEW).unwrap();
        assert!(!later.admits(OLD) && later.admits(NEW));
    }

    #[test]
    fn mistakes_are_told_by_line_and_without_the_token() {
        for (text, line, words) in [
            ("", InvalidTokens::None, "no token"),
            ("# none\n\n", InvalidTokens::None, "no token"),
            ("\nshort", InvalidTokens::Line(2), "22 to 256"),
            ("0123456789 abcdef0123456789", InvalidTokens::Line(1), "visible"),
            (&"x".repeat(257), InvalidTokens::Line(1), "22 to 256"),
            (&format!("{OLD}\n{NEW}\n{OLD}"), InvalidTokens::Twice(1, 3), "line 3"),
        ] {
            let error = Tokens::parse(text).unwrap_err();
            assert_eq!(error, line, "{text}");
            assert!(error.to_string().contains(words) && !error.to_string().contains(OLD), "{error}");
        }
        let many = |count: usize| (0..count).map(|n| format!("{n:032}\n")).collect::<String>();
        assert_eq!(Tokens::parse(&many(MAX_TOKENS)).unwrap().len(), MAX_TOKENS);
        assert_eq!(Tokens::parse(&many(MAX_TOKENS + 1)), Err(InvalidTokens::TooMany));
    }

    #[test]
    fn hashes_are_not_shown() {
        assert_eq!(format!("{:?}", Tokens::parse(OLD).unwrap()), "Tokens(1)");
    }
}
