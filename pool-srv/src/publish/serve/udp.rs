//! Queries by UDP. Each thread has a socket of its own, among which the kernel spreads clients; an answer leaves from the
//! address that was asked.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd as _,
    sync::Arc,
};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use super::States;
use crate::publish::{answer::Responder, answer::Transport, now};

/// Longest query that is looked at; a longer one cannot be read to its end, and is answered so.
const MAX_QUERY: usize = 1_500;

/// Queries that are answered before others have their turn.
const BATCH: usize = 64;

/// Octets of the kernel's buffer of waiting queries.
const BUFFER: usize = 1 << 20;

/// A socket that shares its address with those of the other threads.
pub(super) fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    }
    socket.set_reuse_port(true)?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A query as it came in.
struct Incoming {
    len: usize,
    from: SockaddrStorage,
    peer: IpAddr,
    local: Option<Local>,
}

/// The address that was asked.
enum Local {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

fn receive(socket: &UdpSocket, buffer: &mut [u8], control: &mut [u8]) -> io::Result<Incoming> {
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(control), MsgFlags::MSG_DONTWAIT)?;
    let from = message.address.ok_or_else(|| io::Error::other("a query without a sender"))?;
    let v4 = from.as_sockaddr_in().map(|name| IpAddr::from(name.ip()));
    let peer = v4.or_else(|| from.as_sockaddr_in6().map(|name| IpAddr::from(name.ip())));
    let peer = peer.ok_or_else(|| io::Error::other("a query of another family"))?;
    let local = message.cmsgs()?.find_map(|control| {
        if let ControlMessageOwned::Ipv4PacketInfo(info) = control {
            // The address within the header is the one that was asked; it becomes the one to answer from.
            let nobody = libc::in_addr { s_addr: 0 };
            Some(Local::V4(libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: info.ipi_addr, ipi_addr: nobody }))
        } else if let ControlMessageOwned::Ipv6PacketInfo(info) = control {
            Some(Local::V6(info))
        } else {
            None
        }
    });
    Ok(Incoming { len: message.bytes, from, peer, local })
}

fn send(socket: &UdpSocket, answer: &[u8], incoming: &Incoming) -> io::Result<usize> {
    let control = match &incoming.local {
        Some(Local::V4(info)) => &[ControlMessage::Ipv4PacketInfo(info)][..],
        Some(Local::V6(info)) => &[ControlMessage::Ipv6PacketInfo(info)],
        None => &[],
    };
    let slices = [IoSlice::new(answer)];
    Ok(sendmsg(socket.as_raw_fd(), &slices, control, MsgFlags::MSG_DONTWAIT, Some(&incoming.from))?)
}

/// Answers queries for as long as the process lives.
pub(super) async fn answer(socket: UdpSocket, mut responder: Responder, mut states: States) {
    let mut buffer = [0; MAX_QUERY];
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let mut out = Vec::with_capacity(MAX_QUERY);
    while socket.readable().await.is_ok() {
        if states.has_changed().unwrap_or(false) {
            responder.set_state(Arc::clone(&states.borrow_and_update()));
        }
        for _ in 0..BATCH {
            let incoming = socket.try_io(Interest::READABLE, || receive(&socket, &mut buffer, &mut control));
            let incoming = match incoming {
                Ok(incoming) => incoming,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What the network says of earlier answers, or a sender that cannot be: neither stops us.
                Err(_) => continue,
            };
            let message = buffer.get(..incoming.len).unwrap_or_default();
            if responder.respond(message, incoming.peer, Transport::Udp, now::moment(), &mut out) {
                // An answer that cannot be sent is lost, as others are on the way; the client asks again.
                drop(send(&socket, &out, &incoming));
            }
        }
    }
}
