//! Putting bytes into a slice.

use core::fmt;

use super::extension::HEADER_LEN;

/// The caller's buffer is too small for what should be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSpace;

impl fmt::Display for NoSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the buffer is too small")
    }
}

impl core::error::Error for NoSpace {}

/// Appends to a slice of the caller's; what does not fit as a whole is not written at all.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// Appends behind the first `len` bytes of `buffer`, which stay as they are.
    ///
    /// # Errors
    /// [`NoSpace`] if the buffer is shorter than that.
    pub const fn after(buffer: &'a mut [u8], len: usize) -> Result<Self, NoSpace> {
        if len > buffer.len() { Err(NoSpace) } else { Ok(Self { buffer, len }) }
    }

    /// Bytes in the buffer so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the buffer holds nothing yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reserves `len` bytes and returns them.
    fn claim(&mut self, len: usize) -> Result<&mut [u8], NoSpace> {
        let end = self.len.checked_add(len).ok_or(NoSpace)?;
        let claimed = self.buffer.get_mut(self.len..end).ok_or(NoSpace)?;
        self.len = end;
        Ok(claimed)
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`NoSpace`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), NoSpace> {
        self.claim(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Appends 16 bits in network byte order.
    ///
    /// # Errors
    /// [`NoSpace`].
    pub fn u16(&mut self, value: u16) -> Result<(), NoSpace> {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends 32 bits in network byte order.
    ///
    /// # Errors
    /// [`NoSpace`].
    pub fn u32(&mut self, value: u32) -> Result<(), NoSpace> {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends `len` zero bytes.
    ///
    /// # Errors
    /// [`NoSpace`].
    pub fn zeros(&mut self, len: usize) -> Result<(), NoSpace> {
        self.claim(len)?.fill(0);
        Ok(())
    }

    /// Appends an extension field (RFC 7822) with `body`, padded with zeros to a multiple of four bytes
    /// and to at least `minimum` bytes in all ([`MIN_FIELD`](super::MIN_FIELD), or
    /// [`MIN_LAST_FIELD`](super::MIN_LAST_FIELD) for the last field of a packet without MAC).
    ///
    /// # Errors
    /// [`NoSpace`], also for a body that no length field can describe.
    pub fn field(&mut self, kind: u16, body: &[u8], minimum: usize) -> Result<(), NoSpace> {
        let len = field_len(body.len(), minimum).ok_or(NoSpace)?;
        let claimed = self.claim(usize::from(len))?;
        claimed.fill(0);
        let mut field = Writer { buffer: claimed, len: 0 };
        field.u16(kind)?;
        field.u16(len)?;
        field.bytes(body)
    }
}

/// Length of an extension field around a body of `body` bytes, at least `minimum`; `None` if it exceeds 16 bits.
fn field_len(body: usize, minimum: usize) -> Option<u16> {
    let len = body.checked_add(HEADER_LEN)?.max(minimum).checked_next_multiple_of(4)?;
    u16::try_from(len).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_padded_to_words_and_to_the_minimum() {
        let mut buffer = [0xff; 64];
        let mut writer = Writer::after(&mut buffer, 4).unwrap();
        writer.field(0x0104, &[1, 2, 3, 4, 5], 16).unwrap();
        assert_eq!(writer.len(), 20);
        writer.field(0x0204, &[9; 13], 16).unwrap();
        assert_eq!(writer.len(), 40);
        assert_eq!(buffer.first_chunk(), Some(&[0xff; 4]));
        assert_eq!(buffer.get(4..20), Some(&[1, 4, 0, 16, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0, 0][..]));
        assert_eq!(buffer.get(20..40).and_then(|field| field.last_chunk()), Some(&[9, 0, 0, 0]));
    }

    #[test]
    fn what_does_not_fit_leaves_no_trace() {
        let mut buffer = [7; 20];
        let mut writer = Writer::after(&mut buffer, 8).unwrap();
        assert_eq!(writer.field(1, &[], 16), Err(NoSpace));
        assert_eq!(writer.bytes(&[0; 13]), Err(NoSpace));
        assert_eq!(writer.len(), 8);
        assert_eq!(buffer, [7; 20]);
        assert_eq!(Writer::after(&mut buffer, 21).err(), Some(NoSpace));
        assert_eq!(field_len(65_532, 16), None);
        assert_eq!(field_len(65_528, 16), Some(65_532));
    }
}
