//! A server thread allocates nothing once it runs.
#![expect(unsafe_code, reason = "a test with an allocator of its own")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use ntp_proto::{
    server::{Access, AccessTable, Prefix, RateLimit},
    status::Status,
};
use ntpd::serve::{Server, Settings, StatusCell};

/// Counts the allocations of all threads but those of the test itself.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static MINE: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !MINE.get() {
            ALLOCATIONS.fetch_add(1, SeqCst);
        }
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

#[test]
fn a_server_thread_allocates_nothing_between_requests_and_changes_of_the_clock() {
    MINE.set(true);
    let mut access = AccessTable::new();
    access.add(Prefix::ALL_V4, Access::Allow).unwrap();
    let limit = RateLimit { burst: u8::MAX, ..RateLimit::DEFAULT };
    let settings = Settings::new(access).with_rate_limit(Some(limit));
    let status = Arc::new(StatusCell::default());
    let server = Server::start(&["127.0.0.1:0".parse().unwrap()], 1, settings, Arc::clone(&status)).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(server.addresses()[0]).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();

    let mut request = [0; 48];
    // An odd origin timestamp and a receive timestamp: interleaved mode, so that transmit timestamps are asked for.
    (request[0], request[31], request[39]) = (4 << 3 | 3, 1, 1);
    let ask = || {
        client.send(&request).unwrap();
        client.recv(&mut [0; 100]).unwrap();
    };
    // What a thread sets up at its start is no matter.
    ask();
    status.publish(Status { stratum: 2, ..Status::UNSYNCHRONIZED });
    ask();

    let before = ALLOCATIONS.load(SeqCst);
    for n in 0..100 {
        ask();
        status.publish(Status { precision: n, ..Status::UNSYNCHRONIZED });
    }
    assert_eq!(ALLOCATIONS.load(SeqCst), before);
    assert!(server.send_counters().stamped > 0);
    let counters = server.stop();
    assert_eq!((counters.received, counters.replies_plain), (102, 102));

    std::thread::spawn(|| drop(Box::new(1_u8))).join().unwrap();
    assert!(ALLOCATIONS.load(SeqCst) > before, "the counter counts");
}
