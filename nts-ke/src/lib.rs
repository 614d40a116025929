//! NTS key establishment.
#![forbid(unsafe_code)]
