//! Key exchange over TCP.

pub mod accept;
pub mod admission;
pub mod pair;
