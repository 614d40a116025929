//! Sockets and batches.
//!
//! The kernel numbers the packets of a socket from 0 and returns the time each of them left with its number, by the
//! socket's error queue. Packet contents are not returned with it, so this works without privilege everywhere.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

use nix::sys::socket::{
    TimestampingFlag, setsockopt,
    sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo, Timestamping},
};
use ntp_proto::{ids::StampKind, time::NtpTimestamp};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    control,
    sys::{self, Datagram, MAX_BATCH, MAX_DATAGRAM},
};
use crate::now;

/// Most times of sent packets that are read at once.
const MAX_STAMPS: usize = 64;

/// Messages of the error queue that are read in one call.
const STAMPS_PER_CALL: usize = 16;

/// What all sockets are stamped with.
const STAMPING: TimestampingFlag = TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE
    .union(TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE)
    .union(TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE);

/// How times of sent packets are told.
const NUMBERED: TimestampingFlag =
    TimestampingFlag::SOF_TIMESTAMPING_OPT_ID.union(TimestampingFlag::SOF_TIMESTAMPING_OPT_TSONLY);

/// A received datagram.
#[derive(Debug)]
pub struct RxSlot<'b> {
    /// Its contents; empty if it was longer than [`MAX_DATAGRAM`].
    pub bytes: &'b mut [u8],
    /// Who sent it.
    pub peer: SocketAddr,
    /// To which of our addresses.
    pub local: Option<IpAddr>,
    /// Number of the interface it came in by; 0 if unknown.
    pub iface: u32,
    /// When it came, on the kernel's clock.
    pub received: NtpTimestamp,
    /// Who stamped it.
    pub kind: StampKind,
}

/// Room for received datagrams.
pub struct RxBatch {
    raw: Box<[Datagram]>,
    filled: usize,
    /// When the last call returned, for what the kernel did not stamp.
    returned: NtpTimestamp,
}

impl RxBatch {
    /// Makes room for `capacity` datagrams, 1 to 64.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let raw = vec![Datagram::EMPTY; capacity.clamp(1, MAX_BATCH)].into_boxed_slice();
        Self { raw, filled: 0, returned: NtpTimestamp::ZERO }
    }

    /// What was received last, in the order in which it came. Datagrams without an internet address are left out.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = RxSlot<'_>> {
        let returned = self.returned;
        self.raw.iter_mut().take(self.filled).filter_map(move |raw| {
            let found = control::parse(raw.control.0.get(..raw.control_len).unwrap_or_default());
            let peer = control::read_address(raw.name.get(..raw.name_len).unwrap_or_default())?;
            let cut = raw.flags & libc::MSG_TRUNC != 0;
            let length = if cut { 0 } else { raw.payload_len };
            let (local, iface) = found.local.map_or((None, 0), |(local, iface)| (Some(local), iface));
            let kind = if found.software.is_some() { StampKind::Kernel } else { StampKind::Daemon };
            let received = found.software.unwrap_or(returned);
            Some(RxSlot { bytes: raw.payload.get_mut(..length)?, peer, local, iface, received, kind })
        })
    }

    /// Receives from `socket`; an interrupted wait counts as nothing received.
    fn fill(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.filled = 0;
        let received = sys::receive(socket, &mut self.raw, libc::MSG_WAITFORONE);
        self.returned = now::realtime();
        self.filled = received?;
        Ok(self.filled)
    }
}

/// Datagrams to be sent.
pub struct TxBatch {
    raw: Box<[Datagram]>,
    ids: Box<[Option<u32>]>,
    filled: usize,
}

impl TxBatch {
    /// Makes room for `capacity` datagrams, 1 to 64.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, MAX_BATCH);
        Self {
            raw: vec![Datagram::EMPTY; capacity].into_boxed_slice(),
            ids: vec![None; capacity].into_boxed_slice(),
            filled: 0,
        }
    }

    /// Forgets everything.
    pub const fn clear(&mut self) {
        self.filled = 0;
    }

    /// Adds a datagram from `local` (an address of ours, or the kernel's choice) to `peer`. `fill` writes it and says
    /// how long it is; 0 adds nothing. `false` if the batch is full or nothing was added.
    pub fn push(
        &mut self,
        peer: SocketAddr,
        local: Option<IpAddr>,
        iface: u32,
        fill: impl FnOnce(&mut [u8; MAX_DATAGRAM]) -> usize,
    ) -> bool {
        let Some(raw) = self.raw.get_mut(self.filled) else { return false };
        raw.payload_len = fill(&mut raw.payload).min(MAX_DATAGRAM);
        if raw.payload_len == 0 {
            return false;
        }
        raw.name_len = control::write_address(&mut raw.name, peer);
        raw.control_len = local.map_or(0, |local| control::pin_source(&mut raw.control, local, iface));
        self.filled += 1;
        true
    }

    /// How many datagrams are to be sent.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.filled
    }

    /// Whether there is nothing to be sent.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// The kernel's number for each datagram of the last sending, in the order they were added; `None` for one that was
    /// not sent, or will not be stamped.
    #[must_use]
    pub fn ids(&self) -> &[Option<u32>] {
        self.ids.get(..self.filled).unwrap_or_default()
    }
}

/// When a packet left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SentStamp {
    /// The kernel's number of the packet on its socket.
    pub id: u32,
    /// When it went to the device, on the kernel's clock.
    pub sent: NtpTimestamp,
}

/// Room for the times of sent packets.
pub struct SentStamps {
    raw: Box<[Datagram]>,
    stamps: Vec<SentStamp>,
}

impl Default for SentStamps {
    fn default() -> Self {
        Self::new()
    }
}

impl SentStamps {
    /// Makes room.
    #[must_use]
    pub fn new() -> Self {
        let raw = vec![Datagram::EMPTY; STAMPS_PER_CALL].into_boxed_slice();
        Self { raw, stamps: Vec::with_capacity(MAX_STAMPS) }
    }

    /// What was read last.
    #[must_use]
    pub fn as_slice(&self) -> &[SentStamp] {
        &self.stamps
    }

    /// Reads at most [`MAX_STAMPS`] messages of the error queue.
    fn fill(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.stamps.clear();
        for _ in 0..MAX_STAMPS / STAMPS_PER_CALL {
            let read = match sys::receive(socket, &mut self.raw, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let found = self.raw.iter().take(read).filter_map(|raw| {
                let found = control::parse(raw.control.0.get(..raw.control_len)?);
                Some(SentStamp { id: found.sent_id?, sent: found.software? })
            });
            self.stamps.extend(found);
            if read < STAMPS_PER_CALL {
                break;
            }
        }
        Ok(self.stamps.len())
    }
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
    } else {
        setsockopt(&socket, Ipv4PacketInfo, &true)?;
    }
    Ok(socket)
}

/// Asks for timestamps with numbers from 0; whether the kernel gives them.
fn stamp(socket: &Socket) -> bool {
    // The numbers start again only if they were off.
    setsockopt(socket, Timestamping, &STAMPING).is_ok()
        && setsockopt(socket, Timestamping, &(STAMPING | NUMBERED)).is_ok()
}

/// A socket that takes requests. Several may be bound to one address; the kernel then spreads clients over them.
#[derive(Debug)]
pub struct ServerSocket {
    socket: Socket,
    stamped: bool,
    next_id: u32,
}

impl ServerSocket {
    /// Binds to `address`. Receiving waits for at most `patience`.
    ///
    /// # Errors
    ///
    /// If the address is not ours, taken, or needs a privilege.
    pub fn bind(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let socket = open(address)?;
        socket.set_reuse_port(true)?;
        socket.set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        socket.bind(&address.into())?;
        let stamped = stamp(&socket);
        Ok(Self { socket, stamped, next_id: 0 })
    }

    /// The address that is listened on.
    ///
    /// # Errors
    ///
    /// If the kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(&self.socket)
    }

    /// Whether the kernel stamps packets, as far as it has said.
    #[must_use]
    pub const fn is_stamped(&self) -> bool {
        self.stamped
    }

    /// Waits for requests and takes those that are there; returns how many.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if none came in time, or what the kernel says.
    pub fn recv_batch(&self, batch: &mut RxBatch) -> io::Result<usize> {
        batch.fill(self.socket.as_fd())
    }

    /// Sends a batch and returns how many of its datagrams went. One that cannot be sent is passed over; if the
    /// socket's buffer is full, so are all that follow it.
    pub fn send_batch(&mut self, batch: &mut TxBatch) -> usize {
        let TxBatch { raw, ids, filled } = batch;
        let total = *filled;
        if let Some(ids) = ids.get_mut(..total) {
            ids.fill(None);
        }
        let (mut at, mut sent) = (0, 0);
        // Every round sends or passes over at least one.
        while let Some(rest) = raw.get_mut(at..total).filter(|rest| !rest.is_empty()) {
            match sys::send(self.socket.as_fd(), rest, libc::MSG_DONTWAIT) {
                Ok(0) => break,
                Ok(went) => {
                    self.number(ids.get_mut(at..at + went).unwrap_or_default());
                    at += went;
                    sent += went;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    at += 1;
                    // Whether the kernel has numbered the failed one depends on where it failed: start again.
                    self.stamped = self.stamped && stamp(&self.socket);
                    self.next_id = 0;
                    // Numbers from before would be taken for new ones.
                    if let Some(ids) = ids.get_mut(..at) {
                        ids.fill(None);
                    }
                }
            }
        }
        sent
    }

    fn number(&mut self, ids: &mut [Option<u32>]) {
        for id in ids {
            *id = self.stamped.then_some(self.next_id);
            self.next_id = self.next_id.wrapping_add(1);
        }
    }

    /// Reads when earlier replies left; returns how many are told, at most 64.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn recv_sent(&self, stamps: &mut SentStamps) -> io::Result<usize> {
        stamps.fill(self.socket.as_fd())
    }
}

/// A socket for one request to one server: its port is new and the kernel's random choice, so that an answer cannot be
/// forged without knowing it (RFC 9109), and packets of others do not reach it.
#[derive(Debug)]
pub struct ClientSocket {
    socket: AsyncFd<Socket>,
    stamped: bool,
}

/// What came to a [`ClientSocket`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Datagrams in the [`RxBatch`].
    pub replies: usize,
    /// Times in the [`SentStamps`].
    pub stamps: usize,
}

impl ClientSocket {
    /// Connects to `peer` from whatever address and port the kernel chooses.
    ///
    /// # Errors
    ///
    /// If there is no way to `peer`, or no socket to be had.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with IO.
    pub fn connect(peer: SocketAddr) -> io::Result<Self> {
        let socket = open(peer)?;
        socket.set_nonblocking(true)?;
        socket.connect(&peer.into())?;
        let stamped = stamp(&socket);
        Ok(Self { socket: sys::watch(socket)?, stamped })
    }

    /// Our address and port.
    ///
    /// # Errors
    ///
    /// If the kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(self.socket.get_ref())
    }

    /// Whether the kernel stamps packets, as far as it has said.
    #[must_use]
    pub const fn is_stamped(&self) -> bool {
        self.stamped
    }

    /// Sends a request. The first one has number 0, and so on.
    ///
    /// # Errors
    ///
    /// What the kernel says, perhaps of an earlier request: [`io::ErrorKind::ConnectionRefused`] if nobody listens.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = self.socket.get_ref().send(bytes)?;
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Waits until replies came, or requests have left, and takes both. It may be dropped while it waits.
    ///
    /// # Errors
    ///
    /// What the kernel says of the request: [`io::ErrorKind::ConnectionRefused`] if nobody listens.
    pub async fn recv(&self, batch: &mut RxBatch, stamps: &mut SentStamps) -> io::Result<Arrived> {
        loop {
            let mut ready = self.socket.ready(Interest::READABLE | Interest::ERROR).await?;
            let sent = stamps.fill(self.socket.as_fd())?;
            let replies = match batch.fill(self.socket.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                other => other?,
            };
            if replies > 0 || sent > 0 {
                return Ok(Arrived { replies, stamps: sent });
            }
            ready.clear_ready();
        }
    }
}

fn local_addr(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
}
