//! The time daemon: everything that touches the machine.

pub mod cli;
pub mod config;
pub mod net;
pub mod now;
pub mod state;
