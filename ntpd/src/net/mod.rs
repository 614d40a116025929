//! Packets in and out, with the kernel's timestamps.

mod batch;
mod linux;
mod sys;

pub use batch::{MAX_BATCH, MAX_DATAGRAM, RxBatch, RxSlot, TxBatch, TxSlot};
pub use linux::{ClientSocket, SentStamp, SentStamps, ServerSocket};
pub(crate) use sys::{watch_descriptor, window_size};
