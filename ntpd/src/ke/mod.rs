//! Key exchange over TCP.

pub mod accept;
pub mod connect;
pub mod pair;
pub mod roots;

pub use nts_ke::admission;
