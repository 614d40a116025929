//! Errors by fault: who has to mend what.

use core::fmt;

/// Bytes that do not follow the format they claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// Fewer bytes than the format needs.
    Truncated,
    /// A length field that contradicts the space it stands in, is too small, or no multiple of four.
    Length,
    /// A version this crate does not speak.
    Version,
    /// Bytes left over that are neither extension field nor MAC.
    Trailing,
    /// A value outside the range of its field.
    Value,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "truncated",
            Self::Length => "wrong length field",
            Self::Version => "unknown version",
            Self::Trailing => "unexplained bytes at the end",
            Self::Value => "value out of range",
        })
    }
}

impl core::error::Error for WireError {}
