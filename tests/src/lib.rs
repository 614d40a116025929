//! Simulated world, contracts and interoperability tests.
