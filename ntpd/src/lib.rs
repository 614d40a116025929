//! The time daemon: everything that touches the outside world.
//!
//! Decisions about time are made in `ntp-proto` and the other protocol crates; this crate carries packets, answers and
//! commands between them and the machine.

pub mod cli;
pub mod config;
pub mod ke;
pub mod net;
pub mod now;
pub mod observe;
pub mod pool;
pub mod resolve;
pub mod serve;
pub mod state;

mod hex;
