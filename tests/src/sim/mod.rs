//! The virtual world: many clients and servers, their clocks, and the network between them, in simulated time.
//!
//! The clients are the real engine, the servers the real responder; only clocks and network are made up. A world is
//! a function of its seed: the same seed gives the same run to the last bit.

pub mod accuracy;
pub mod boot;
mod net;
mod plot;
pub mod population;
mod random;
pub mod truth;
mod world;

pub use net::Path;
pub use plot::{Frontier, Plot};
pub use random::Random;
pub use world::{
    ClientSpec, KernelFaults, Lie, Point, ServerId, ServerSpec, SourceSpec, Trace, Traffic, Want, World, run_seeds,
};
