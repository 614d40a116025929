//! The daemon itself against bad input and faults: what it says, and that time keeping goes on.
//!
//! Everything happens on loopback, with `-x`, so that no clock is touched, and without privileges.
#![expect(clippy::unwrap_used, reason = "a test")]

mod configuration;
mod control;
mod directories;
mod exchange;
mod first_boot;
mod given_up;
mod mutations;
mod oneshot;
mod replies;
mod restart;
mod world;
