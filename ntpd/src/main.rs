//! The time daemon.

fn main() {}
