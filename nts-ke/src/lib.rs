//! NTS key establishment (RFC 8915 section 4) without IO.
//!
//! Octets, times and random numbers go in; octets, keys and errors come out. Nothing here opens a socket or reads a
//! clock: the time at which a certificate is judged is an argument.
//!
//! A [`client::ClientSession`] or [`server::ServerSession`] lives as long as one connection. Only `tls`,
//! `judge`, `path`, `verify`, `dane`, `export` and the constructor of [`server::ServerConfig`] speak to the TLS library.
#![forbid(unsafe_code)]

pub mod admission;
pub mod cert_time;
pub mod client;
pub mod dane;
mod der;
pub mod error;
mod export;
mod judge;
pub mod message;
mod path;
pub mod pool;
pub mod pressure;
pub mod reach;
pub mod record;
mod sct;
pub mod server;
mod tls;
pub mod upstream;
pub mod verify;
