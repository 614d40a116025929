//! Pools by load-balanced key exchange.
#![forbid(unsafe_code)]
