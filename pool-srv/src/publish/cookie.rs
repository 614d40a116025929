//! DNS cookies (RFC 7873) in the form that all servers share (RFC 9018), and the hash they need.

use std::net::IpAddr;

/// Octets of the secret.
pub const SECRET: usize = 16;

/// Octets of a server cookie.
pub(super) const SERVER_COOKIE: usize = 16;

/// RFC 9018 section 4.3: a cookie is good for an hour, and five minutes into the future for servers whose clocks differ.
const MAX_AGE: u32 = 3_600;
const MAX_AHEAD: u32 = 300;

/// The secret behind server cookies.
#[derive(Clone)]
pub struct CookieSecret([u8; SECRET]);

impl core::fmt::Debug for CookieSecret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("CookieSecret(…)")
    }
}

impl CookieSecret {
    /// Takes a secret; servers that share an address share it.
    #[must_use]
    pub fn new(secret: [u8; SECRET]) -> Self {
        Self(secret)
    }

    /// The server cookie for a client at a time in seconds since 1970.
    pub(super) fn make(&self, client: [u8; 8], address: IpAddr, now: u64) -> [u8; SERVER_COOKIE] {
        self.with_time(client, address, u32::try_from(now & u64::from(u32::MAX)).unwrap_or(0))
    }

    /// Whether a server cookie is ours, for this client, and not too old.
    pub(super) fn is_good(&self, client: [u8; 8], server: &[u8], address: IpAddr, now: u64) -> bool {
        let Some(&[1, 0, 0, 0, a, b, c, d]) = server.first_chunk() else { return false };
        let time = u32::from_be_bytes([a, b, c, d]);
        // Serial arithmetic (RFC 1982): the time has 32 bits.
        let age = u32::try_from(now & u64::from(u32::MAX)).unwrap_or(0).wrapping_sub(time);
        let fresh = age <= MAX_AGE || age.wrapping_neg() <= MAX_AHEAD;
        fresh && server == self.with_time(client, address, time)
    }

    fn with_time(&self, client: [u8; 8], address: IpAddr, time: u32) -> [u8; SERVER_COOKIE] {
        let mut cookie = [0; SERVER_COOKIE];
        let [version, _, _, _, t0, t1, t2, t3, hash @ ..] = &mut cookie;
        *version = 1;
        [*t0, *t1, *t2, *t3] = time.to_be_bytes();
        let fixed = [1, 0, 0, 0, *t0, *t1, *t2, *t3];
        let sum = match address.to_canonical() {
            IpAddr::V4(address) => siphash(&self.0, &[&client, &fixed, &address.octets()]),
            IpAddr::V6(address) => siphash(&self.0, &[&client, &fixed, &address.octets()]),
        };
        *hash = sum.to_le_bytes();
        cookie
    }

    /// A hash that strangers cannot foresee.
    pub(super) fn hash(&self, octets: &[u8]) -> u64 {
        self.hash_parts(&[octets])
    }

    /// The same of parts put together.
    pub(super) fn hash_parts(&self, parts: &[&[u8]]) -> u64 {
        siphash(&self.0, parts)
    }
}

/// The secret that makes cookies, and one whose cookies are accepted besides: RFC 7873 section 7.1 wants a secret that was
/// replaced to be good for a while, and servers that share an address must know the next one before any of them uses it.
#[derive(Clone, Debug)]
pub struct CookieSecrets {
    makes: CookieSecret,
    accepted: Option<CookieSecret>,
}

impl From<CookieSecret> for CookieSecrets {
    fn from(makes: CookieSecret) -> Self {
        Self { makes, accepted: None }
    }
}

impl CookieSecrets {
    /// Takes them from a text, each a line of hexadecimal digits; the first makes cookies.
    ///
    /// # Errors
    ///
    /// What is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.split_ascii_whitespace().map(parse);
        let (makes, accepted, none) = (lines.next().flatten(), lines.next(), lines.next());
        let wrong = || format!("accepted: one or two lines of {} hexadecimal digits", 2 * SECRET);
        match (makes, accepted, none) {
            (Some(makes), None, None) => Ok(makes.into()),
            (Some(makes), Some(accepted @ Some(_)), None) => Ok(Self { makes, accepted }),
            _ => Err(wrong()),
        }
    }

    /// The server cookie for a client at a time in seconds since 1970.
    pub(super) fn make(&self, client: [u8; 8], address: IpAddr, now: u64) -> [u8; SERVER_COOKIE] {
        self.makes.make(client, address, now)
    }

    /// Whether a server cookie is ours, for this client, and not too old.
    pub(super) fn is_good(&self, client: [u8; 8], server: &[u8], address: IpAddr, now: u64) -> bool {
        core::iter::once(&self.makes).chain(&self.accepted).any(|secret| secret.is_good(client, server, address, now))
    }

    /// What tables are keyed with.
    pub(super) fn hashing(&self) -> CookieSecret {
        self.makes.clone()
    }
}

fn parse(digits: &str) -> Option<CookieSecret> {
    let digits = digits.as_bytes();
    let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| pair.iter().try_fold(0_u8, |octet, next| Some(octet << 4 | digit(next)?));
    let octets: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
    octets.filter(|_| digits.len() == 2 * SECRET).and_then(|octets| octets.try_into().ok()).map(CookieSecret::new)
}

/// SipHash-2-4 (Aumasson and Bernstein 2012) of parts put together.
fn siphash(key: &[u8; SECRET], parts: &[&[u8]]) -> u64 {
    let mut halves = key.chunks_exact(8).map(|half| half.try_into().map_or(0, u64::from_le_bytes));
    let (k0, k1) = (halves.next().unwrap_or(0), halves.next().unwrap_or(0));
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let (mut word, mut held, mut len) = (0_u64, 0_u32, 0_u8);
    for octet in parts.iter().flat_map(|part| part.iter()) {
        word |= u64::from(*octet) << (8 * held);
        held += 1;
        len = len.wrapping_add(1);
        if held == 8 {
            absorb(&mut v, word);
            (word, held) = (0, 0);
        }
    }
    absorb(&mut v, word | u64::from(len) << 56);
    let [_, _, v2, _] = &mut v;
    *v2 ^= 0xff;
    (0..4).for_each(|_| round(&mut v));
    v.iter().fold(0, |sum, word| sum ^ word)
}

fn absorb(v: &mut [u64; 4], word: u64) {
    let [_, _, _, v3] = v;
    *v3 ^= word;
    round(v);
    round(v);
    let [v0, ..] = v;
    *v0 ^= word;
}

fn round([v0, v1, v2, v3]: &mut [u64; 4]) {
    *v0 = v0.wrapping_add(*v1);
    *v1 = v1.rotate_left(13) ^ *v0;
    *v0 = v0.rotate_left(32);
    *v2 = v2.wrapping_add(*v3);
    *v3 = v3.rotate_left(16) ^ *v2;
    *v0 = v0.wrapping_add(*v3);
    *v3 = v3.rotate_left(21) ^ *v0;
    *v2 = v2.wrapping_add(*v1);
    *v1 = v1.rotate_left(17) ^ *v2;
    *v2 = v2.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        core::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
    }

    #[test]
    fn the_hash_is_siphash() {
        // The vector of the paper: 00 01 … 0e under the key 00 01 … 0f.
        let key: [u8; 16] = core::array::from_fn(|at| u8::try_from(at).unwrap());
        assert_eq!(siphash(&key, &[&key[..7], &key[7..15]]), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn the_cookie_is_that_of_the_rfc() {
        // RFC 9018 appendix A.1.
        let secret = CookieSecret::new(bytes("e5e973e5a6b2a43f48e7dc849e37bfcf"));
        let client: [u8; 8] = bytes("2464c4abcf10c957");
        let address: IpAddr = "198.51.100.100".parse().unwrap();
        let cookie = secret.make(client, address, 1_559_731_985);
        assert_eq!(cookie, bytes("010000005cf79f111f8130c3eee29480"));
        let good = |server: &[u8], address, now| secret.is_good(client, server, address, now);
        assert!(good(&cookie, address, 1_559_731_985));
        assert!(good(&cookie, address, 1_559_731_985 + 3_600));
        assert!(good(&cookie, address, 1_559_731_985 - 300));
        assert!(!good(&cookie, address, 1_559_731_985 + 3_601));
        assert!(!good(&cookie, address, 1_559_731_985 - 301));
        assert!(!good(&cookie, "198.51.100.101".parse().unwrap(), 1_559_731_985));
        assert!(!good(&cookie[..15], address, 1_559_731_985));
        assert!(!good(&[], address, 1_559_731_985));
        let mut forged = cookie;
        forged[15] ^= 1;
        assert!(!good(&forged, address, 1_559_731_985));
    }

    #[test]
    fn a_secret_is_replaced_without_a_cookie_that_is_not_taken() {
        let (old, new) = ("445536bcd2513298075a5d379663c962", "e5e973e5a6b2a43f48e7dc849e37bfcf");
        let of = |lines: &[&str]| CookieSecrets::parse(&lines.join("\n")).unwrap();
        // Servers that share an address go from one to the next, not at the same moment.
        let steps = [of(&[old]), of(&[old, new]), of(&[new, old]), of(&[new])];
        let (client, address, now) = (bytes("2464c4abcf10c957"), "192.0.2.1".parse().unwrap(), 1_800_000_000);
        for pair in steps.windows(2) {
            let [before, after] = pair else { panic!() };
            let cookies = [before, after].map(|secrets| secrets.make(client, address, now));
            for secrets in [before, after] {
                for cookie in cookies {
                    assert!(secrets.is_good(client, &cookie, address, now));
                }
            }
        }
        let first = steps[0].make(client, address, now);
        assert!(steps[2].is_good(client, &first, address, now) && !steps[3].is_good(client, &first, address, now));
    }
}
