//! The time daemon: everything that touches the machine.

pub mod net;
pub mod now;
