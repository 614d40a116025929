//! Key exchange over TCP.

pub mod accept;
pub mod admission;
pub mod connect;
pub mod pair;
pub mod roots;
