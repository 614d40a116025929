//! The time daemon: everything that touches the outside world.
//!
//! Decisions about time are made in `ntp-proto` and the other protocol crates; this crate carries packets, answers and
//! commands between them and the machine.

pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod ke;
pub mod leap_file;
pub mod log;
pub mod log_files;
pub mod lookup;
pub mod migrate;
pub mod net;
pub mod now;
pub mod observe;
pub mod oneshot;
pub mod pool;
pub mod privilege;
pub mod resolve;
pub mod serve;
pub mod serving;
pub mod source_files;
pub mod start;
pub mod state;

mod hex;
