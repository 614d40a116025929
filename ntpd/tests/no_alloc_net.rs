//! Receiving and sending batches allocates nothing.
#![expect(unsafe_code, reason = "a test with an allocator of its own")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::UdpSocket,
    time::Duration,
};

use ntpd::net::{RxBatch, SentStamps, ServerSocket, TxBatch};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

#[test]
fn a_round_of_requests_and_replies_allocates_nothing() {
    let mut server = ServerSocket::bind("127.0.0.1:0".parse().unwrap(), Duration::from_secs(5)).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    let (mut rx, mut tx, mut stamps) = (RxBatch::new(64), TxBatch::new(64), SentStamps::new());
    let before = allocations();
    drop(Box::new(1_u8));
    assert_eq!(allocations(), before + 1, "the counter counts");

    let before = allocations();
    let mut answered = 0;
    for _ in 0..50 {
        for _ in 0..8 {
            client.send_to(&[1; 48], to).unwrap();
        }
        server.recv_batch(&mut rx).unwrap();
        tx.clear();
        for request in rx.iter_mut() {
            tx.push(request.peer, request.local, request.iface, |reply| {
                reply[..request.bytes.len()].copy_from_slice(request.bytes);
                request.bytes.len()
            });
        }
        answered += server.send_batch(&mut tx);
        server.recv_sent(&mut stamps).unwrap();
    }
    assert_eq!((allocations(), answered), (before, 400));
}
