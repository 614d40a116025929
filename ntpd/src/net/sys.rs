//! Batched system calls. The only file of this crate that is not checked by the compiler alone.
#![expect(unsafe_code, reason = "recvmmsg, sendmmsg and control messages have no safe form that does not allocate")]

use std::{
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    ptr,
};

use ntp_proto::{
    ids::StampKind,
    time::{NtpTimestamp, UnixTime},
};

use tokio::io::{Interest, unix::AsyncFd};

use super::{
    batch::{Control, MAX_BATCH, NOWHERE, RxBatch, RxSlot, TxBatch, TxSlot},
    linux::ClientSocket,
};

/// What control messages of a received packet say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ancillary {
    pub(super) software: Option<NtpTimestamp>,
    pub(super) hardware: Option<NtpTimestamp>,
    pub(super) local: Option<IpAddr>,
    pub(super) interface: u32,
}

/// The kernel's `struct scm_timestamping`: software, unused, raw hardware.
type ScmTimestamping = [libc::timespec; 3];

fn zeroed_name() -> libc::sockaddr_storage {
    // SAFETY: all bytes zero is a valid `sockaddr_storage`: it holds integers only.
    unsafe { mem::zeroed() }
}

fn zeroed_header() -> libc::mmsghdr {
    // SAFETY: all bytes zero is a valid `mmsghdr`: integers and null pointers.
    unsafe { mem::zeroed() }
}

/// Sets an integer socket option.
pub(super) fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and length describe `value`, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            ptr::from_ref(&value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Columns and rows of the terminal behind standard output; `None` if it is none.
pub(crate) fn window_size() -> Option<(u16, u16)> {
    let mut size = mem::MaybeUninit::<libc::winsize>::zeroed();
    // SAFETY: tty_ioctl(4): TIOCGWINSZ writes one `winsize`, for which there is room, and every value of it is one.
    let size = unsafe {
        if libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, size.as_mut_ptr()) != 0 {
            return None;
        }
        size.assume_init()
    };
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// Registers a descriptor with the runtime of the calling task, for reading.
pub(crate) fn watch_descriptor(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps its descriptor open until it is dropped, which `AsyncFd` does only after it has taken the
    // descriptor out of the runtime's set.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

/// Registers a socket with the runtime of the calling task, for reading and for its error queue.
pub(super) fn watch(socket: ClientSocket) -> io::Result<AsyncFd<ClientSocket>> {
    // SAFETY: a `ClientSocket` owns its descriptor: it is the same and stays open until the socket is dropped, which
    // `AsyncFd` does only after it has taken the descriptor out of the runtime's set.
    let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE | Interest::ERROR) };
    watched.map_err(|refused| refused.into_parts().1)
}

/// Receives as many packets as are waiting and fit. `now` stands in where the kernel gave no timestamp.
pub(super) fn recv_batch(
    socket: BorrowedFd<'_>,
    batch: &mut RxBatch,
    flags: i32,
    now: impl Fn() -> NtpTimestamp,
) -> io::Result<usize> {
    let size = batch.slots.len();
    batch.len = 0;
    let mut names = [zeroed_name(); MAX_BATCH];
    let mut vectors = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; MAX_BATCH];
    let mut headers = [zeroed_header(); MAX_BATCH];
    for (index, (slot, control)) in batch.slots.iter_mut().zip(&mut batch.controls).enumerate() {
        vectors[index] = libc::iovec { iov_base: slot.bytes.as_mut_ptr().cast(), iov_len: slot.bytes.len() };
        let header = &mut headers[index].msg_hdr;
        header.msg_name = ptr::from_mut(&mut names[index]).cast();
        header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        header.msg_iov = &raw mut vectors[index];
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len() as _;
    }
    // SAFETY: the first `size` headers point to buffers that live through the call, with their true lengths.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            size as libc::c_uint,
            (flags | libc::MSG_DONTWAIT) as _,
            ptr::null_mut(),
        )
    };
    let Ok(received) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
    for index in 0..received.min(size) {
        let slot = &mut batch.slots[index];
        let cut = headers[index].msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        slot.len = if cut { 0 } else { (headers[index].msg_len as usize).min(slot.bytes.len()) };
        slot.peer = from_storage(&names[index]).unwrap_or(NOWHERE);
        fill(slot, ancillary(&headers[index].msg_hdr), &now);
    }
    batch.len = received.min(size);
    Ok(batch.len)
}

fn fill(slot: &mut RxSlot, ancillary: Ancillary, now: &impl Fn() -> NtpTimestamp) {
    slot.local = ancillary.local;
    slot.interface = ancillary.interface;
    slot.hardware = ancillary.hardware;
    (slot.received, slot.kind) = match ancillary.software {
        Some(stamp) => (stamp, StampKind::Kernel),
        None => (now(), StampKind::Daemon),
    };
}

/// Reads the control messages of a received message.
fn ancillary(header: &libc::msghdr) -> Ancillary {
    let mut found = Ancillary::default();
    // SAFETY: `header` was filled by the kernel and its control buffer is still there; the macros stay inside
    // `msg_controllen`.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: not null, so it points to a whole header inside the control buffer.
        let (level, kind, len) = unsafe { ((*next).cmsg_level, (*next).cmsg_type, (*next).cmsg_len as usize) };
        // SAFETY: the data follows the header; `read` checks that enough of it is there.
        let data = unsafe { libc::CMSG_DATA(next) };
        // SAFETY: `CMSG_LEN` only computes.
        let room = len.saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SO_TIMESTAMPING) => {
                if let Some([software, _, hardware]) = read::<ScmTimestamping>(data, room) {
                    (found.software, found.hardware) = (stamp(software), stamp(hardware));
                }
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                if let Some(info) = read::<libc::in_pktinfo>(data, room) {
                    found.local = Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr))));
                    found.interface = info.ipi_ifindex.unsigned_abs();
                }
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                if let Some(info) = read::<libc::in6_pktinfo>(data, room) {
                    found.local = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                    found.interface = info.ipi6_ifindex;
                }
            }
            _ => {}
        }
        // SAFETY: as for the first header; `next` came from the same message.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    found
}

/// Copies a plain value out of a control message of `room` bytes.
fn read<T: Copy>(data: *const u8, room: usize) -> Option<T> {
    if room < size_of::<T>() {
        return None;
    }
    // SAFETY: `room` bytes can be read at `data`, and every `T` used here is made of integers.
    Some(unsafe { ptr::read_unaligned(data.cast::<T>()) })
}

fn stamp(time: libc::timespec) -> Option<NtpTimestamp> {
    let nanos = u32::try_from(time.tv_nsec).ok()?;
    // All zero means that the kernel has no such timestamp.
    (time.tv_sec != 0 || nanos != 0).then(|| NtpTimestamp::from_unix(UnixTime { seconds: time.tv_sec, nanos }))
}

/// Sends the packets of a batch from the first one on; returns how many were taken.
pub(super) fn send_batch(socket: BorrowedFd<'_>, batch: &mut TxBatch, from: usize) -> io::Result<usize> {
    let count = batch.len.saturating_sub(from);
    let mut names = [zeroed_name(); MAX_BATCH];
    let mut vectors = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; MAX_BATCH];
    let mut headers = [zeroed_header(); MAX_BATCH];
    let pairs = batch.slots.iter_mut().zip(&mut batch.controls).skip(from).take(count);
    for (index, (slot, control)) in pairs.enumerate() {
        let len = slot.len.min(slot.bytes.len());
        vectors[index] = libc::iovec { iov_base: slot.bytes.as_mut_ptr().cast(), iov_len: len };
        let name_len = to_storage(slot.peer, &mut names[index]);
        let control_len = write_control(slot, control);
        let header = &mut headers[index].msg_hdr;
        header.msg_name = ptr::from_mut(&mut names[index]).cast();
        header.msg_namelen = name_len;
        header.msg_iov = &raw mut vectors[index];
        header.msg_iovlen = 1;
        if control_len > 0 {
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = control_len as _;
        }
    }
    // SAFETY: the first `count` headers point to buffers that live through the call, with their true lengths.
    let sent = unsafe {
        libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as libc::c_uint, libc::MSG_DONTWAIT as _)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Writes the control messages of a packet and returns their length.
fn write_control(slot: &TxSlot, control: &mut Control) -> usize {
    let mut used = 0;
    match slot.local {
        Some(IpAddr::V4(local)) if slot.peer.is_ipv4() => {
            let info = libc::in_pktinfo {
                ipi_ifindex: slot.interface.cast_signed(),
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(local).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            used += put(control, used, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        Some(IpAddr::V6(local)) if slot.peer.is_ipv6() => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: local.octets() },
                ipi6_ifindex: slot.interface,
            };
            used += put(control, used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
        Some(_) | None => {}
    }
    if slot.stamp {
        used += put(control, used, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, libc::SOF_TIMESTAMPING_TX_SOFTWARE);
    }
    used
}

/// Writes one control message at `at` and returns its length with padding.
fn put<T: Copy>(control: &mut Control, at: usize, level: i32, kind: i32, value: T) -> usize {
    let size = size_of::<T>() as libc::c_uint;
    // SAFETY: these only compute.
    let (space, len) = unsafe { (libc::CMSG_SPACE(size) as usize, libc::CMSG_LEN(size) as usize) };
    let Some(room) = control.0.get_mut(at..at + space) else { return 0 };
    room.fill(0);
    let header = libc::cmsghdr { cmsg_len: len as _, cmsg_level: level, cmsg_type: kind };
    // SAFETY: `room` has `space` bytes, enough for the header, padding and value; unaligned writes are asked for.
    unsafe {
        ptr::write_unaligned(room.as_mut_ptr().cast::<libc::cmsghdr>(), header);
        ptr::write_unaligned(room.as_mut_ptr().add(libc::CMSG_LEN(0) as usize).cast::<T>(), value);
    }
    space
}

fn from_storage(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says so, and a `sockaddr_storage` is large and aligned enough for every address.
            let name = unsafe { &*ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            let address = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddrV4::new(address, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { &*ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let address = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(address, u16::from_be(name.sin6_port), 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn to_storage(address: SocketAddr, storage: &mut libc::sockaddr_storage) -> libc::socklen_t {
    match address {
        SocketAddr::V4(address) => {
            // SAFETY: a `sockaddr_storage` is large and aligned enough for every address.
            let name = unsafe { &mut *ptr::from_mut(storage).cast::<libc::sockaddr_in>() };
            name.sin_family = libc::AF_INET as libc::sa_family_t;
            name.sin_port = address.port().to_be();
            name.sin_addr = libc::in_addr { s_addr: u32::from(*address.ip()).to_be() };
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(address) => {
            // SAFETY: as above.
            let name = unsafe { &mut *ptr::from_mut(storage).cast::<libc::sockaddr_in6>() };
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_port = address.port().to_be();
            name.sin6_addr = libc::in6_addr { s6_addr: address.ip().octets() };
            name.sin6_scope_id = address.scope_id();
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}
