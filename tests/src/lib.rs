//! Simulated world, contracts and interoperability tests.

pub mod contract;
pub mod exchange;
pub mod fuzz;
pub mod sim;
