//! Extension fields (RFC 7822).

use super::Reader;
use crate::error::WireError;

/// Most extension fields one packet may carry. A request for eight cookies has ten.
pub const MAX_FIELDS: usize = 16;

/// Shortest extension field, its own header included (RFC 7822).
pub const MIN_FIELD: usize = 16;

/// Shortest last extension field of a packet without MAC (RFC 7822: so that it is longer than any MAC).
pub const MIN_LAST_FIELD: usize = 28;

/// Bytes of type and length in front of the body.
pub(super) const HEADER_LEN: usize = 4;

/// Field types (RFC 8915 section 7.4).
pub mod field {
    /// NTS Unique Identifier (RFC 8915 section 5.3).
    pub const UNIQUE_IDENTIFIER: u16 = 0x0104;
    /// NTS Cookie (RFC 8915 section 5.4).
    pub const COOKIE: u16 = 0x0204;
    /// NTS Cookie Placeholder (RFC 8915 section 5.5).
    pub const COOKIE_PLACEHOLDER: u16 = 0x0304;
    /// NTS Authenticator and Encrypted Extension Fields (RFC 8915 section 5.6).
    pub const AUTHENTICATOR: u16 = 0x0404;
}

/// One extension field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its type, see [`field`].
    pub kind: u16,
    /// What follows type and length, padding included.
    pub body: &'a [u8],
    /// Where the field starts, counted from the start of the packet.
    pub offset: usize,
}

/// Takes one field of at least `minimum` bytes from the front of `reader`.
fn take<'a>(reader: &mut Reader<'a>, minimum: usize) -> Result<(u16, &'a [u8]), WireError> {
    let kind = reader.u16()?;
    let len = usize::from(reader.u16()?);
    // RFC 5905 section 7.5: the length is that of the whole field, padding to whole words included.
    if len < minimum || !len.is_multiple_of(4) {
        return Err(WireError::Length);
    }
    let body = reader.bytes(len.saturating_sub(HEADER_LEN)).map_err(|_| WireError::Length)?;
    Ok((kind, body))
}

/// Counts fields that fill `bytes` until at most `left` bytes remain, and returns how many bytes they take.
///
/// # Errors
/// [`WireError::Length`] for a field that is shorter than `minimum` or does not fit, [`WireError::Value`] for more than
/// [`MAX_FIELDS`] of them.
pub(super) fn check(bytes: &[u8], left: usize, minimum: usize) -> Result<usize, WireError> {
    let mut reader = Reader::new(bytes);
    for _ in 0..MAX_FIELDS {
        if reader.rest().len() <= left {
            break;
        }
        take(&mut reader, minimum)?;
    }
    if reader.rest().len() > left {
        return Err(WireError::Value);
    }
    Ok(bytes.len().saturating_sub(reader.rest().len()))
}

/// Checks that `bytes`, the encrypted part of a packet, are extension fields and nothing else.
///
/// # Errors
/// Those of [`check`]. Fields shorter than [`MIN_FIELD`] pass: no MAC can be mistaken for them here.
pub(crate) fn fields_fill(bytes: &[u8]) -> Result<(), WireError> {
    check(bytes, 0, HEADER_LEN).map(|_| ())
}

/// The extension fields of a packet, in order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    reader: Reader<'a>,
    end: usize,
}

impl<'a> Fields<'a> {
    /// Walks over `bytes`, which [`check`] has found to be whole fields and which end at `end` in their packet.
    pub(crate) const fn new(bytes: &'a [u8], end: usize) -> Self {
        Self { reader: Reader::new(bytes), end }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let offset = self.end.saturating_sub(self.reader.rest().len());
        let (kind, body) = take(&mut self.reader, HEADER_LEN).ok()?;
        Some(Field { kind, body, offset })
    }
}
