//! Single words of configuration files.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::{show_duration, show_signed_seconds};

/// Longest duration that is written.
const MAX_SECONDS: f64 = 1e9;

/// What becomes of a directive that is not looked at further.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    /// The daemon does it anyway.
    Needless(&'static str),
    /// It is dropped.
    Dropped(&'static str),
    /// It is needless with these numbers, which are the default, and dropped otherwise.
    Default(&'static [f64], &'static str),
}

/// A directive, what follows it (`n` a number, `s` a word, `*` any more), and its fate.
pub(super) type Simple = (&'static str, &'static str, Fate);

/// To the nanosecond; `None` for what is no duration.
pub(super) fn duration(seconds: f64) -> Option<String> {
    (0.0..=MAX_SECONDS).contains(&seconds).then(|| show_duration(Duration::from_secs_f64(seconds)))
}

/// The same, with a sign before it where it is negative.
pub(super) fn signed_duration(seconds: f64) -> Option<String> {
    (-MAX_SECONDS..=MAX_SECONDS).contains(&seconds).then(|| show_signed_seconds(seconds))
}

/// A number that TOML reads as one with a point.
pub(super) fn float(number: f64) -> String {
    toml::Value::Float(number).to_string()
}

/// The first word of each line that is no comment, in lower case.
pub(super) fn first_words(text: &str) -> impl Iterator<Item = String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with(['!', ';', '#', '%']));
    lines.filter_map(|line| line.split_ascii_whitespace().next()).map(str::to_ascii_lowercase)
}

/// A number.
///
/// # Errors
///
/// What is none, or none that can be used.
pub(super) fn number(word: &str) -> Result<f64, String> {
    word.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| format!("`{word}` is not a number"))
}

/// A port; 0 is none.
pub(super) fn port(word: &str) -> Result<u16, String> {
    word.parse().map_err(|_| format!("`{word}` is not a port"))
}

/// Whether what follows a directive is of a form: `n` a number, `s` a word, `*` any more.
pub(super) fn has_form(form: &str, words: &[&str]) -> Result<(), String> {
    let mut words = words.iter();
    for kind in form.chars() {
        if kind == '*' {
            return Ok(());
        }
        let word = words.next().ok_or("too few arguments")?;
        if kind == 'n' {
            number(word)?;
        }
    }
    if words.next().is_some() { Err("too many arguments".to_owned()) } else { Ok(()) }
}

/// The only argument.
pub(super) fn one<'w>(words: &[&'w str]) -> Result<&'w str, String> {
    match words {
        [word] => Ok(*word),
        _ => Err("one argument is needed".to_owned()),
    }
}

/// A range of addresses: those of chrony may be short, as 10.1 for 10.1.0.0/16. `None` is a name.
pub(super) fn subnet(word: &str) -> Result<Option<IpNet>, String> {
    let (address, length) = match word.split_once('/') {
        Some((address, length)) => {
            let length: u8 = length.parse().map_err(|_| format!("`{word}` has no length of a prefix"))?;
            (address, Some(length))
        }
        None => (word, None),
    };
    if let Ok(IpAddr::V6(address)) = address.parse() {
        let net = Ipv6Net::new(address, length.unwrap_or(128).min(128)).map_err(|_| "no prefix")?;
        return Ok(Some(net.trunc().into()));
    }
    let parts: Vec<_> = address.split('.').collect();
    let bytes: Option<Vec<u8>> = parts.iter().map(|part| part.parse().ok()).collect();
    let Some(bytes) = bytes.filter(|bytes| bytes.len() <= 4) else { return Ok(None) };
    let mut octets = [0; 4];
    for (octet, byte) in octets.iter_mut().zip(&bytes) {
        *octet = *byte;
    }
    let whole = u8::try_from(bytes.len() * 8).unwrap_or(32);
    let net = Ipv4Net::new(Ipv4Addr::from(octets), length.unwrap_or(whole).min(32)).map_err(|_| "no prefix")?;
    Ok(Some(net.trunc().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_may_be_short() {
        for (word, net) in [
            ("10", "10.0.0.0/8"),
            ("10.1", "10.1.0.0/16"),
            ("3.4.5", "3.4.5.0/24"),
            ("1.2.3.4", "1.2.3.4/32"),
            ("10/8", "10.0.0.0/8"),
            ("10.1/12", "10.0.0.0/12"),
            ("0/0", "0.0.0.0/0"),
            ("1.2.3.4/33", "1.2.3.4/32"),
            ("::/0", "::/0"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(subnet(word).unwrap(), Some(net.parse().unwrap()), "{word}");
        }
        assert_eq!(subnet("host.example"), Ok(None));
        assert_eq!(subnet("1.2.3.4.5"), Ok(None));
        assert!(subnet("1.2.3.4/x").is_err());
    }
}
