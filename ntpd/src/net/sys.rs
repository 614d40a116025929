//! The system calls that carry many datagrams at once.
#![expect(unsafe_code, reason = "recvmmsg and sendmmsg take raw pointers; every block says why they are valid")]

use std::{
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use socket2::Socket;
use tokio::io::{Interest, unix::AsyncFd};

/// Most datagrams in one call.
pub(super) const MAX_BATCH: usize = 64;

/// Longest datagram that is read whole; longer ones are no NTP. The longest reply of NTS, with eight cookies, has about
/// 1 100 bytes.
pub const MAX_DATAGRAM: usize = 2_048;

/// Longest socket address of the internet families (`sockaddr_in6`).
pub(super) const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// Room for control messages: timestamps, packet information and an extended error with its offender.
pub(super) const CONTROL_BYTES: usize = 256;

/// Control messages, aligned as their headers are.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control(pub(super) [u8; CONTROL_BYTES]);

/// One datagram with its address and its control messages, as the kernel reads or writes them.
#[derive(Clone, Copy)]
pub(super) struct Datagram {
    pub(super) payload: [u8; MAX_DATAGRAM],
    pub(super) payload_len: usize,
    pub(super) name: [u8; NAME_BYTES],
    pub(super) name_len: usize,
    pub(super) control: Control,
    pub(super) control_len: usize,
    /// `MSG_*`, when received.
    pub(super) flags: i32,
}

impl Datagram {
    pub(super) const EMPTY: Self = Self {
        payload: [0; MAX_DATAGRAM],
        payload_len: 0,
        name: [0; NAME_BYTES],
        name_len: 0,
        control: Control([0; CONTROL_BYTES]),
        control_len: 0,
        flags: 0,
    };

    fn io_vector(&mut self, len: usize) -> libc::iovec {
        libc::iovec { iov_base: self.payload.as_mut_ptr().cast(), iov_len: len.min(MAX_DATAGRAM) }
    }

    fn header(&mut self, vector: *mut libc::iovec, name_len: usize, control_len: usize) -> libc::mmsghdr {
        // SAFETY: `mmsghdr` is a C structure of integers and pointers, for which all zeros is a valid value.
        let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
        header.msg_hdr.msg_name = self.name.as_mut_ptr().cast();
        header.msg_hdr.msg_namelen = libc::socklen_t::try_from(name_len.min(NAME_BYTES)).unwrap_or(0);
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control = self.control.0.as_mut_ptr().cast();
        header.msg_hdr.msg_controllen = control_len.min(CONTROL_BYTES) as _;
        header
    }
}

/// The headers of one call. They point into the datagrams and do not outlive it.
struct Headers {
    vectors: [libc::iovec; MAX_BATCH],
    messages: [libc::mmsghdr; MAX_BATCH],
}

impl Headers {
    fn new() -> Self {
        // SAFETY: both are arrays of C structures of integers and pointers, for which all zeros is a valid value.
        unsafe { mem::zeroed() }
    }
}

/// The number of headers as the calls want it.
fn count(datagrams: &[Datagram]) -> libc::c_uint {
    libc::c_uint::try_from(datagrams.len().min(MAX_BATCH)).unwrap_or(0)
}

fn checked(done: libc::c_int) -> io::Result<usize> {
    usize::try_from(done).map_err(|_| io::Error::last_os_error())
}

/// Registers a socket with the runtime of the calling task, for reading and for its error queue.
pub(super) fn watch(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a `Socket` owns its descriptor: it is the same and stays open until the `Socket` is dropped, which
    // happens only after `AsyncFd` has taken it out of the runtime's set.
    let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE | Interest::ERROR) };
    watched.map_err(|refused| refused.into_parts().1)
}

/// A length from the kernel, whose type depends on the C library.
fn bounded(length: impl TryInto<usize>, most: usize) -> usize {
    length.try_into().unwrap_or(most).min(most)
}

/// Receives up to [`MAX_BATCH`] datagrams into `datagrams` and returns how many came.
pub(super) fn receive(socket: BorrowedFd<'_>, datagrams: &mut [Datagram], flags: i32) -> io::Result<usize> {
    let mut headers = Headers::new();
    let Headers { vectors, messages } = &mut headers;
    for ((datagram, vector), message) in datagrams.iter_mut().zip(vectors).zip(messages) {
        *vector = datagram.io_vector(MAX_DATAGRAM);
        *message = datagram.header(vector, NAME_BYTES, CONTROL_BYTES);
    }
    // SAFETY: the first `count` headers point to the buffers of as many datagrams, with the lengths of these buffers;
    // datagrams and I/O vectors are borrowed exclusively until the call returns.
    let done = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.messages.as_mut_ptr(),
            count(datagrams),
            flags as _,
            std::ptr::null_mut(),
        )
    };
    let received = checked(done)?;
    for (datagram, message) in datagrams.iter_mut().zip(&headers.messages).take(received) {
        datagram.payload_len = bounded(message.msg_len, MAX_DATAGRAM);
        datagram.name_len = bounded(message.msg_hdr.msg_namelen, NAME_BYTES);
        datagram.control_len = bounded(message.msg_hdr.msg_controllen, CONTROL_BYTES);
        datagram.flags = message.msg_hdr.msg_flags;
    }
    Ok(received)
}

/// Sends up to [`MAX_BATCH`] datagrams and returns how many went; the error is that of the first.
pub(super) fn send(socket: BorrowedFd<'_>, datagrams: &mut [Datagram], flags: i32) -> io::Result<usize> {
    let mut headers = Headers::new();
    let Headers { vectors, messages } = &mut headers;
    for ((datagram, vector), message) in datagrams.iter_mut().zip(vectors).zip(messages) {
        *vector = datagram.io_vector(datagram.payload_len);
        *message = datagram.header(vector, datagram.name_len, datagram.control_len);
    }
    // SAFETY: as for `receive`; the kernel only reads the buffers.
    let done =
        unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.messages.as_mut_ptr(), count(datagrams), flags as _) };
    checked(done)
}
