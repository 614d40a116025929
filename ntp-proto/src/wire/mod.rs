//! Bytes of NTP packets, versions 1 to 4.
//!
//! [`Packet::parse`] takes any bytes and gives either a packet whose every byte is accounted for or a
//! [`WireError`](crate::error::WireError); nothing here allocates, and every walk over a packet is bounded by
//! [`MAX_FIELDS`].
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]

mod extension;
mod header;
mod kiss;
pub mod mac;
mod packet;
mod reader;
mod writer;

pub(crate) use extension::fields_fill;
pub use extension::{Field, Fields, MAX_FIELDS, MIN_FIELD, MIN_LAST_FIELD, field};
pub use header::{Header, Mode};
pub use kiss::Kiss;
pub use mac::{MacAlgorithm, SymmetricKey};
pub use packet::{Mac, Packet};
pub use reader::Reader;
pub use writer::{NoSpace, Writer};
