//! UDP sockets that tell when a packet came and went.
//!
//! A batch is made once and then filled and emptied over and over; neither receiving nor sending allocates.

mod control;
mod linux;
mod sys;
#[cfg(test)]
mod tests;

pub use linux::{Arrived, ClientSocket, RxBatch, RxSlot, SentStamp, SentStamps, ServerSocket, TxBatch};
pub use sys::MAX_DATAGRAM;
