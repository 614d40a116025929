//! Key bytes in fixed storage.

use zeroize::Zeroize;

/// Up to `N` secret bytes, wiped when dropped and never printed.
#[derive(Clone)]
pub(crate) struct Secret<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Secret<N> {
    /// Copies `bytes`; `None` if there are more than `N`.
    pub(crate) fn new(bytes: &[u8]) -> Option<Self> {
        let mut secret = Self { bytes: [0; N], len: bytes.len() };
        secret.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(secret)
    }

    /// Copies `bytes`, which are no more than `N`.
    pub(crate) fn from_array<const M: usize>(bytes: &[u8; M]) -> Self {
        const { assert!(M <= N, "the secret is longer than its storage") };
        let mut secret = Self { bytes: [0; N], len: M };
        for (to, from) in secret.bytes.iter_mut().zip(bytes) {
            *to = *from;
        }
        secret
    }

    /// The bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn the_longest_secret_fits_and_no_longer_one() {
        assert_eq!(Secret::<4>::new(&[1, 2, 3, 4]).unwrap().as_bytes(), [1, 2, 3, 4]);
        assert_eq!(Secret::<4>::new(&[]).unwrap().as_bytes(), [0; 0]);
        assert!(Secret::<4>::new(&[0; 5]).is_none());
    }
}
