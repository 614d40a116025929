//! NTS key establishment (RFC 8915 section 4) without IO.
//!
//! Octets, times and random numbers go in; octets, keys and errors come out. Nothing here opens a socket or reads a
//! clock: the time at which a certificate is judged is an argument.
#![forbid(unsafe_code)]

pub mod cert_time;
pub mod error;
pub mod message;
pub mod record;
