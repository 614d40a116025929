//! The protocol by which chronyc, and programs that watch chronyd, ask for reports and change things (version 6): datagrams
//! of fixed layout over a Unix socket, and over UDP for reports that everybody may see.
//!
//! It is another face of the control socket: `answer` asks for the same reports and changes, and puts them into the places
//! where these programs look for them. No reply is longer than its request, and no request takes more work than the report
//! it asks for.

mod add;
mod answer;
mod bodies;
pub(crate) mod client;
mod codec;
mod float;
mod packet;
mod rows;
mod server;
pub(crate) mod table;
#[cfg(test)]
mod tests;
mod tune;

pub use answer::{Answer, Host};
pub use server::{ChronycCounts, ChronycRequest, ChronycServer, QUEUE, may_ask};
pub use table::Access;
pub(crate) use table::OPEN;
