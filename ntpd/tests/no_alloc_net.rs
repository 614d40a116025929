//! Receiving and sending batches allocates nothing.
#![expect(unsafe_code, reason = "a test with an allocator of its own")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::UdpSocket,
};

use ntpd::net::{RxBatch, ServerSocket, TxBatch};

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
    const ROUNDS: usize = 50;
    const REQUESTS: usize = 8;
    let server = ServerSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    let (mut rx, mut tx) = (RxBatch::new(REQUESTS), TxBatch::new(REQUESTS));
    let before = allocations();
    drop(Box::new(1_u8));
    assert_eq!(allocations(), before + 1, "the counter counts");

    let before = allocations();
    let (mut answered, mut stamped) = (0, 0);
    for _ in 0..ROUNDS {
        for _ in 0..REQUESTS {
            client.send_to(&[1; 48], to).unwrap();
        }
        server.recv_batch(&mut rx).unwrap();
        for request in rx.packets() {
            let (peer, local) = (request.peer, request.local);
            let reply = tx.free().unwrap();
            reply.bytes[..48].copy_from_slice(request.bytes_mut());
            (reply.len, reply.peer, reply.local, reply.stamp) = (48, peer, local, true);
            tx.push();
        }
        answered += server.send_batch(&mut tx);
        server.sent_stamps(&mut rx, |_| stamped += 1);
    }
    assert_eq!((allocations(), answered), (before, ROUNDS * REQUESTS));
    assert!(stamped > 0);
}
