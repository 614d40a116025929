//! Storage for batches of packets, allocated once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ntp_proto::{ids::StampKind, time::NtpTimestamp};

/// Most packets of one system call.
pub const MAX_BATCH: usize = 32;
/// Most bytes of a packet; of a longer one nothing is kept.
pub const MAX_DATAGRAM: usize = 2048;
/// Bytes for control messages of one packet.
pub(super) const CONTROL_LEN: usize = 512;

/// A control buffer, aligned as control message headers must be.
#[derive(Clone, Copy, Debug)]
#[repr(align(8))]
pub(super) struct Control(pub(super) [u8; CONTROL_LEN]);

/// One received packet.
#[derive(Clone, Debug)]
pub struct RxSlot {
    pub(super) bytes: [u8; MAX_DATAGRAM],
    pub(super) len: usize,
    /// Who sent it.
    pub peer: SocketAddr,
    /// The address it was sent to.
    pub local: Option<IpAddr>,
    /// The interface it came in on, 0 if unknown.
    pub interface: u32,
    /// When it arrived, by the kernel's clock.
    pub received: NtpTimestamp,
    /// Who says so.
    pub kind: StampKind,
    /// When, by the clock of the interface, if that stamped it.
    pub hardware: Option<NtpTimestamp>,
}

/// Somebody's address until the true one is known.
pub(super) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl RxSlot {
    /// The packet.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

/// Room for one batch of received packets.
#[derive(Debug)]
pub struct RxBatch {
    pub(super) slots: Box<[RxSlot]>,
    pub(super) controls: Box<[Control]>,
    pub(super) len: usize,
}

impl RxBatch {
    /// Room for `size` packets, at least one and at most [`MAX_BATCH`].
    #[must_use]
    pub fn new(size: usize) -> Self {
        let size = size.clamp(1, MAX_BATCH);
        let slot = RxSlot {
            bytes: [0; MAX_DATAGRAM],
            len: 0,
            peer: NOWHERE,
            local: None,
            interface: 0,
            received: NtpTimestamp::ZERO,
            kind: StampKind::Daemon,
            hardware: None,
        };
        Self { slots: vec![slot; size].into(), controls: vec![Control([0; CONTROL_LEN]); size].into(), len: 0 }
    }

    /// The packets of the last batch.
    pub fn packets(&mut self) -> &mut [RxSlot] {
        &mut self.slots[..self.len]
    }
}

/// One packet to be sent.
#[derive(Clone, Debug)]
pub struct TxSlot {
    /// Room for the packet.
    pub bytes: [u8; MAX_DATAGRAM],
    /// How much of it is the packet.
    pub len: usize,
    /// Where to.
    pub peer: SocketAddr,
    /// From which of our addresses; the one the request was sent to.
    pub local: Option<IpAddr>,
    /// Through which interface, 0 for any.
    pub interface: u32,
    /// Whether the kernel is to say when it left.
    pub stamp: bool,
}

/// Room for one batch of packets to be sent.
#[derive(Debug)]
pub struct TxBatch {
    pub(super) slots: Box<[TxSlot]>,
    pub(super) controls: Box<[Control]>,
    pub(super) len: usize,
}

impl TxBatch {
    /// Room for `size` packets, at least one and at most [`MAX_BATCH`].
    #[must_use]
    pub fn new(size: usize) -> Self {
        let size = size.clamp(1, MAX_BATCH);
        let slot = TxSlot { bytes: [0; MAX_DATAGRAM], len: 0, peer: NOWHERE, local: None, interface: 0, stamp: false };
        Self { slots: vec![slot; size].into(), controls: vec![Control([0; CONTROL_LEN]); size].into(), len: 0 }
    }

    /// The next free slot; it counts once [`push`](Self::push) is called.
    pub fn free(&mut self) -> Option<&mut TxSlot> {
        self.slots.get_mut(self.len)
    }

    /// Adds the slot last returned by [`free`](Self::free).
    pub fn push(&mut self) {
        self.len = (self.len + 1).min(self.slots.len());
    }

    /// Forgets all packets.
    pub const fn clear(&mut self) {
        self.len = 0;
    }

    /// Packets waiting.
    #[must_use]
    pub fn packets(&self) -> &[TxSlot] {
        &self.slots[..self.len]
    }
}
