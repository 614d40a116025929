//! Sockets with kernel timestamps.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use ntp_proto::{ids::StampKind, time::NtpTimestamp};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::{
    batch::{RxBatch, RxSlot, TxBatch},
    sys,
};
use crate::now;

/// Messages read from an error queue at one go; the rest waits for the next.
const MAX_ERROR_MESSAGES: usize = 64;
/// Receive buffer of a server socket, in bytes: some thousand requests.
const SERVER_BUFFER: usize = 1 << 20;
/// Receive buffer of a client socket: room for what others may send in place of the one reply.
const CLIENT_BUFFER: usize = 1 << 18;

/// Stamps of the kernel. One request per socket: the only transmit timestamp is its own.
const SOFTWARE: u32 = libc::SOF_TIMESTAMPING_SOFTWARE
    | libc::SOF_TIMESTAMPING_RX_SOFTWARE
    | libc::SOF_TIMESTAMPING_TX_SOFTWARE
    | libc::SOF_TIMESTAMPING_OPT_TSONLY;

/// When a request left, as far as that has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentStamps {
    /// By the kernel's clock.
    pub kernel: Option<NtpTimestamp>,
    /// By that of the interface.
    pub hardware: Option<NtpTimestamp>,
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn not_internet() -> io::Error {
    io::Error::other("not an internet address")
}

/// Asks for timestamps; without them the daemon's own reading is used.
fn ask_for_stamps(socket: &Socket, flags: u32) -> io::Result<()> {
    sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPING, flags.cast_signed())
}

/// A socket for one request: connected, so that the kernel drops what others send, with a port that the kernel draws at
/// random for each (RFC 9109 section 3).
#[derive(Debug)]
pub struct ClientSocket {
    socket: Socket,
    local: IpAddr,
}

impl ClientSocket {
    /// Connects to `peer`.
    ///
    /// # Errors
    ///
    /// If there is no route, no port or no descriptor left.
    pub fn connect(peer: SocketAddr) -> io::Result<Self> {
        let socket = open(peer)?;
        // Connecting draws the port: a socket bound before would take packets of others until it is connected.
        socket.connect(&peer.into())?;
        let _ = socket.set_recv_buffer_size(CLIENT_BUFFER);
        let _ = ask_for_stamps(&socket, SOFTWARE);
        let local = socket.local_addr()?.as_socket().ok_or_else(not_internet)?.ip();
        Ok(Self { socket, local })
    }

    /// Asks for timestamps of the interface too; where it makes none, none come.
    ///
    /// # Errors
    ///
    /// If the kernel knows no such stamps.
    pub fn ask_for_hardware(&self) -> io::Result<()> {
        let flags = SOFTWARE
            | libc::SOF_TIMESTAMPING_RAW_HARDWARE
            | libc::SOF_TIMESTAMPING_RX_HARDWARE
            | libc::SOF_TIMESTAMPING_TX_HARDWARE
            | libc::SOF_TIMESTAMPING_OPT_TX_SWHW;
        ask_for_stamps(&self.socket, flags)
    }

    /// Registers the socket with the runtime of the calling task. A reply makes it readable; a transmit timestamp, or
    /// word that nobody listens, makes it ready for [`Interest::ERROR`](tokio::io::Interest::ERROR) alone.
    ///
    /// # Errors
    ///
    /// If the runtime's set takes no more.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with IO.
    pub fn watch(self) -> io::Result<AsyncFd<Self>> {
        sys::watch(self)
    }

    /// Our own address on this path.
    #[must_use]
    pub const fn local(&self) -> IpAddr {
        self.local
    }

    /// Sends the request and returns the time just before, by the kernel's clock.
    ///
    /// # Errors
    ///
    /// If the kernel does not take it.
    pub fn send(&self, bytes: &[u8]) -> io::Result<NtpTimestamp> {
        let before = now::kernel();
        self.socket.send(bytes)?;
        Ok(before)
    }

    /// Transmit timestamps that have come. Of several of the kernel the first counts: devices on the way, such as bridges, make
    /// others for the same packet.
    pub fn sent_stamps(&self, batch: &mut RxBatch) -> SentStamps {
        let read = sys::recv_batch(self.socket.as_fd(), batch, libc::MSG_ERRQUEUE, now::kernel);
        let slots = || batch.slots.iter().take(read.as_ref().map_or(0, |count| *count));
        SentStamps {
            kernel: slots().find(|slot| slot.kind == StampKind::Kernel).map(|slot| slot.received),
            hardware: slots().find_map(|slot| slot.hardware),
        }
    }

    /// Receives what is waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is; `ConnectionRefused` and the like if an ICMP message says so.
    pub fn recv(&self, batch: &mut RxBatch) -> io::Result<usize> {
        sys::recv_batch(self.socket.as_fd(), batch, 0, now::kernel)
    }
}

impl AsRawFd for ClientSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// A transmit timestamp of a server socket, with the end of the packet it belongs to.
#[derive(Debug)]
pub struct SentStamp<'a> {
    /// The looped packet, link and network headers in front.
    pub frame: &'a [u8],
    /// When it left, by the kernel's clock.
    pub at: NtpTimestamp,
}

/// A socket that many clients send to. Several of them may share one address, one per thread.
#[derive(Debug)]
pub struct ServerSocket {
    socket: Socket,
}

impl ServerSocket {
    /// Binds to `address`.
    ///
    /// # Errors
    ///
    /// If the address is taken, not ours, or needs a privilege.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = open(address)?;
        socket.set_reuse_port(true)?;
        let _ = socket.set_recv_buffer_size(SERVER_BUFFER);
        let fd = socket.as_fd();
        match address {
            SocketAddr::V4(_) => sys::set_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?,
            SocketAddr::V6(_) => sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?,
        }
        // Transmit timestamps are asked for packet by packet, and come with the packet itself, by which they are told
        // apart.
        let _ = ask_for_stamps(&socket, libc::SOF_TIMESTAMPING_SOFTWARE | libc::SOF_TIMESTAMPING_RX_SOFTWARE);
        socket.bind(&address.into())?;
        Ok(Self { socket })
    }

    /// The address bound to.
    ///
    /// # Errors
    ///
    /// If the kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()?.as_socket().ok_or_else(not_internet)
    }

    /// Receives what is waiting, without allocating.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is.
    pub fn recv_batch(&self, batch: &mut RxBatch) -> io::Result<usize> {
        sys::recv_batch(self.socket.as_fd(), batch, 0, now::kernel)
    }

    /// Sends all packets of a batch, without allocating, and empties it. A packet that the kernel refuses is skipped, so
    /// that it takes no others with it; returns how many were sent.
    pub fn send_batch(&self, batch: &mut TxBatch) -> usize {
        let (mut from, mut sent) = (0, 0);
        while from < batch.len {
            match sys::send_batch(self.socket.as_fd(), batch, from) {
                Ok(0) | Err(_) => from += 1,
                Ok(count) => {
                    from += count;
                    sent += count;
                }
            }
        }
        batch.clear();
        sent
    }

    /// Reads transmit timestamps that have come, a bounded number at one go.
    pub fn sent_stamps(&self, batch: &mut RxBatch, mut handle: impl FnMut(SentStamp<'_>)) {
        let mut left = MAX_ERROR_MESSAGES;
        while left > 0 {
            let Ok(count) = sys::recv_batch(self.socket.as_fd(), batch, libc::MSG_ERRQUEUE, now::kernel) else {
                return;
            };
            if count == 0 {
                return;
            }
            left = left.saturating_sub(count);
            let stamped = |slot: &&mut RxSlot| slot.kind == StampKind::Kernel;
            for slot in batch.packets().iter_mut().filter(stamped) {
                let at = slot.received;
                handle(SentStamp { frame: slot.bytes_mut(), at });
            }
        }
    }
}

impl AsFd for ServerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::Interest;

    use super::*;
    use crate::net::MAX_DATAGRAM;

    fn loopback(v6: bool) -> SocketAddr {
        if v6 { "[::1]:0" } else { "127.0.0.1:0" }.parse().unwrap()
    }

    /// Waits until `ready` gives something, a second at most.
    fn wait<T>(mut ready: impl FnMut() -> Option<T>) -> T {
        for _ in 0..1000 {
            if let Some(value) = ready() {
                return value;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("nothing came within a second");
    }

    #[test]
    fn a_request_and_its_reply_are_stamped_on_both_sides() {
        for v6 in [false, true] {
            let server = ServerSocket::bind(loopback(v6)).unwrap();
            let address = server.local_addr().unwrap();
            let client = ClientSocket::connect(address).unwrap();
            let (mut rx, mut tx) = (RxBatch::new(8), TxBatch::new(8));

            let before = client.send(&[7; 48]).unwrap();
            wait(|| server.recv_batch(&mut rx).ok());
            let request = rx.packets()[0].clone();
            assert_eq!(request.bytes[..request.len], [7; 48]);
            assert_eq!(request.local, Some(address.ip()));

            let slot = tx.free().unwrap();
            slot.bytes[..48].fill(9);
            (slot.len, slot.peer, slot.local, slot.stamp) = (48, request.peer, request.local, true);
            slot.interface = 0;
            tx.push();
            assert_eq!(server.send_batch(&mut tx), 1);

            wait(|| client.recv(&mut rx).ok());
            let reply = rx.packets()[0].clone();
            assert_eq!((reply.bytes[..reply.len].to_vec(), reply.peer), (vec![9; 48], address));
            let sent = wait(|| client.sent_stamps(&mut rx).kernel);
            assert!(sent.since(before).to_seconds() >= 0.0 && reply.received.since(sent).to_seconds() >= 0.0);

            let mut replied = None;
            wait(|| {
                server.sent_stamps(&mut rx, |stamp| {
                    assert!(stamp.frame.ends_with(&[9; 48]));
                    replied = Some(stamp.at);
                });
                replied
            });
        }
    }

    #[test]
    fn an_interface_that_stamps_nothing_leaves_the_kernels_stamps() {
        let server = ServerSocket::bind(loopback(false)).unwrap();
        let client = ClientSocket::connect(server.local_addr().unwrap()).unwrap();
        client.ask_for_hardware().unwrap();
        client.send(&[7; 48]).unwrap();
        let mut rx = RxBatch::new(8);
        let stamps = wait(|| Some(client.sent_stamps(&mut rx)).filter(|stamps| stamps.kernel.is_some()));
        assert_eq!(stamps.hardware, None);
        wait(|| server.recv_batch(&mut rx).ok());
        assert_eq!(rx.packets()[0].hardware, None);
    }

    #[test]
    fn a_batch_is_taken_whole_and_its_order_kept() {
        let server = ServerSocket::bind(loopback(false)).unwrap();
        let client = ClientSocket::connect(server.local_addr().unwrap()).unwrap();
        for n in 0..5 {
            client.send(&[n; 48]).unwrap();
        }
        let mut rx = RxBatch::new(8);
        wait(|| server.recv_batch(&mut rx).ok());
        let firsts: Vec<u8> = rx.packets().iter_mut().map(|slot| slot.bytes_mut()[0]).collect();
        assert_eq!(firsts, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn every_request_leaves_from_another_port() {
        let server = ServerSocket::bind(loopback(false)).unwrap();
        let address = server.local_addr().unwrap();
        let port = |_| {
            let client = ClientSocket::connect(address).unwrap();
            client.socket.local_addr().unwrap().as_socket().unwrap().port()
        };
        let ports: std::collections::BTreeSet<u16> = (0..20).map(port).collect();
        assert!(ports.len() > 15, "{ports:?}");
    }

    #[tokio::test]
    async fn stamps_and_refusals_wake_a_task_too() {
        let peer = std::net::UdpSocket::bind(loopback(false)).unwrap();
        let client = ClientSocket::connect(peer.local_addr().unwrap()).unwrap().watch().unwrap();
        let mut rx = RxBatch::new(1);
        let patience = Duration::from_secs(5);

        client.get_ref().send(&[7; 48]).unwrap();
        let mut ready = tokio::time::timeout(patience, client.ready(Interest::ERROR)).await.unwrap().unwrap();
        assert!(client.get_ref().sent_stamps(&mut rx).kernel.is_some());
        ready.clear_ready();

        drop(peer);
        client.get_ref().send(&[7; 48]).unwrap();
        let refused = async {
            loop {
                let mut ready = client.ready(Interest::READABLE | Interest::ERROR).await.unwrap();
                let _ = client.get_ref().sent_stamps(&mut rx);
                let kind = client.get_ref().recv(&mut rx).unwrap_err().kind();
                if kind != io::ErrorKind::WouldBlock {
                    return kind;
                }
                ready.clear_ready();
            }
        };
        assert_eq!(tokio::time::timeout(patience, refused).await.unwrap(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn replies_leave_from_the_address_that_was_asked() {
        let server = ServerSocket::bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let asked = SocketAddr::from(([127, 0, 0, 77], server.local_addr().unwrap().port()));
        let client = ClientSocket::connect(asked).unwrap();
        client.send(&[7; 48]).unwrap();
        let (mut rx, mut tx) = (RxBatch::new(1), TxBatch::new(1));
        wait(|| server.recv_batch(&mut rx).ok());
        let request = rx.packets()[0].clone();
        assert_eq!(request.local, Some(asked.ip()));
        let slot = tx.free().unwrap();
        (slot.len, slot.peer, slot.local) = (48, request.peer, request.local);
        tx.push();
        assert_eq!(server.send_batch(&mut tx), 1);
        wait(|| client.recv(&mut rx).ok());
        assert_eq!(rx.packets()[0].peer, asked);
    }

    #[test]
    fn what_is_too_long_is_empty_and_the_next_is_whole() {
        let server = ServerSocket::bind(loopback(false)).unwrap();
        let client = std::net::UdpSocket::bind(loopback(false)).unwrap();
        for length in [MAX_DATAGRAM + 1, 9_000, MAX_DATAGRAM, 0, 48] {
            client.send_to(&vec![1; length], server.local_addr().unwrap()).unwrap();
        }
        let mut rx = RxBatch::new(8);
        wait(|| server.recv_batch(&mut rx).ok());
        let lengths: Vec<_> = rx.packets().iter().map(|slot| slot.len).collect();
        assert_eq!(lengths, [0, 0, MAX_DATAGRAM, 0, 48]);
    }

    #[test]
    fn what_cannot_be_sent_takes_no_others_with_it() {
        let server = ServerSocket::bind(loopback(false)).unwrap();
        let peer = std::net::UdpSocket::bind(loopback(false)).unwrap().local_addr().unwrap();
        let other_family: SocketAddr = "[2001:db8::1]:123".parse().unwrap();
        let not_ours = Some(IpAddr::from([192, 0, 2, 1]));
        let mut tx = TxBatch::new(8);
        for (to, from) in [(peer, None), (other_family, None), (peer, not_ours), (peer, None)] {
            let slot = tx.free().unwrap();
            (slot.len, slot.peer, slot.local) = (48, to, from);
            tx.push();
        }
        assert_eq!(server.send_batch(&mut tx), 2);
    }

    #[test]
    fn a_taken_port_is_an_error() {
        let taken = std::net::UdpSocket::bind(loopback(false)).unwrap();
        let error = ServerSocket::bind(taken.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
