//! The cookies a client holds.

use core::fmt;

use arrayvec::ArrayVec;

/// A cookie as a server gave it.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie(ArrayVec<u8, { Self::MAX_LEN }>);

impl Cookie {
    /// Most bytes of a cookie that we keep; those of known servers have 64 to 180.
    pub const MAX_LEN: usize = 512;

    /// Copies a cookie; `None` if it is empty or too long.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        ArrayVec::try_from(bytes).ok().map(Self)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Cookie {
    /// Only the length: who sees a cookie can recognise its next use.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cookie({} bytes)", self.0.len())
    }
}

/// Unused cookies, each to be used once (RFC 8915 section 5.7: so that an observer cannot link requests).
#[derive(Clone, Debug, Default)]
pub struct CookieJar {
    /// Oldest first.
    cookies: ArrayVec<Cookie, { Self::CAPACITY }>,
}

impl CookieJar {
    /// Most cookies; RFC 8915 section 5.7 wants eight held.
    pub const CAPACITY: usize = 8;

    /// An empty jar.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps a cookie; false if the jar is full or the cookie is empty or too long.
    pub fn put(&mut self, cookie: &[u8]) -> bool {
        Cookie::new(cookie).is_some_and(|cookie| self.cookies.try_push(cookie).is_ok())
    }

    /// Takes out the oldest cookie.
    pub fn take(&mut self) -> Option<Cookie> {
        self.cookies.pop_at(0)
    }

    /// How many cookies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cookies.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cookies.is_empty()
    }

    /// Throws all cookies away.
    pub fn clear(&mut self) {
        self.cookies.clear();
    }

    /// The cookies from the oldest to the newest, to save them.
    pub fn iter(&self) -> impl Iterator<Item = &Cookie> {
        self.cookies.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_come_out_once_and_in_order() {
        let mut jar = CookieJar::new();
        for n in 0..8 {
            assert!(jar.put(&[n; 100]));
        }
        assert!(!jar.put(&[8; 100]));
        assert_eq!(jar.iter().count(), CookieJar::CAPACITY);
        for n in 0..8 {
            assert_eq!(jar.take().unwrap().as_bytes(), [n; 100]);
        }
        assert_eq!(jar.take(), None);
    }

    #[test]
    fn lengths_are_checked_at_their_bounds() {
        let mut jar = CookieJar::new();
        assert!(!jar.put(&[]));
        assert!(jar.put(&[1]));
        assert!(jar.put(&[1; Cookie::MAX_LEN]));
        assert!(!jar.put(&[1; Cookie::MAX_LEN + 1]));
        assert_eq!(jar.len(), 2);
        jar.clear();
        assert!(jar.is_empty());
    }
}
