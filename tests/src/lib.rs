//! Simulated world, contracts and interoperability tests.

pub mod contract;
