//! Pools by DNS SRV records.
#![forbid(unsafe_code)]
