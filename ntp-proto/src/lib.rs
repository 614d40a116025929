//! NTP and NTS without IO.
//!
//! Everything in this crate is a value or a state machine: bytes, times, timestamps and random seeds go in,
//! bytes and decisions come out. It knows no clock, no socket and no randomness of its own, so that a
//! recorded or simulated run behaves as the real one does.
//!
//! Layers, each using only itself and the ones above it in this list:
//!
//! 0. values: [`time`], [`ids`], [`steer`], [`status`], [`smear`], [`counters`], [`error`]
//! 1. bytes: [`wire`]
//! 2. NTS fields: [`nts`]
//! 3. the client: `source`, `refclock`, `stamping`, `sample`, `filter`, `select`, `discipline`, `engine`, and `bootstrap` beside it (feature `std`)
//! 4. the server: [`server`]
//! 5. contracts: `pool` (feature `std`)
#![forbid(unsafe_code)]
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "std")]
pub mod bootstrap;
pub mod counters;
#[cfg(feature = "std")]
pub mod discipline;
#[cfg(feature = "std")]
pub mod engine;
pub mod error;
#[cfg(feature = "std")]
pub mod filter;
pub mod ids;
pub mod nts;
#[cfg(feature = "std")]
pub mod pool;
#[cfg(feature = "std")]
pub mod refclock;
#[cfg(feature = "std")]
pub mod sample;
mod secret;
#[cfg(feature = "std")]
pub mod select;
pub mod server;
pub mod smear;
#[cfg(feature = "std")]
pub mod source;
#[cfg(feature = "std")]
pub mod stamping;
pub mod status;
pub mod steer;
pub mod time;
pub mod wire;
