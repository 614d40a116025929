//! What the kernel tells whoever listens.

use std::{
    future, io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket},
};
use tokio::io::unix::AsyncFd;

use crate::net::watch_descriptor;

/// The longest message there is (`UEVENT_BUFFER_SIZE`, `NLMSG_GOODSIZE`), with room.
const MAX_MESSAGE: usize = 8_192;

/// Messages of one kind.
#[derive(Debug)]
pub(super) struct Netlink {
    protocol: SockProtocol,
    /// The groups to which the kernel sends them, one bit each.
    groups: u32,
    /// What is not heard of if there are none, for people.
    what: &'static str,
    socket: Option<AsyncFd<OwnedFd>>,
    given_up: bool,
}

impl Netlink {
    pub(super) const fn new(protocol: SockProtocol, groups: u32, what: &'static str) -> Self {
        Self { protocol, groups, what, socket: None, given_up: false }
    }

    /// Waits for the next message that is meant. Where the kernel has no means to tell, waits for ever.
    pub(super) async fn next(&mut self, mut is_meant: impl FnMut(&[u8]) -> bool) {
        if self.socket.is_none() && !self.given_up {
            match self.listen() {
                Ok(socket) => self.socket = Some(socket),
                Err(error) => {
                    self.given_up = true;
                    tracing::debug!(%error, "the kernel does not tell {}", self.what);
                }
            }
        }
        let Some(socket) = &self.socket else { return future::pending().await };
        while let Ok(mut ready) = socket.readable().await {
            match receive(ready.get_inner(), &mut is_meant) {
                Ok(true) => return,
                Ok(false) => {}
                Err(Errno::EAGAIN) => ready.clear_ready(),
                // Messages were lost: they come faster than we read.
                Err(Errno::ENOBUFS | Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        (self.socket, self.given_up) = (None, true);
        future::pending().await
    }

    fn listen(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Datagram, flags, self.protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, self.groups))?;
        watch_descriptor(socket)
    }
}

/// Takes one message; whether it is one that is waited for.
fn receive(socket: &OwnedFd, is_meant: &mut impl FnMut(&[u8]) -> bool) -> nix::Result<bool> {
    let mut message = [0; MAX_MESSAGE];
    let (len, sender) = recvfrom::<NetlinkAddr>(socket.as_raw_fd(), &mut message)?;
    // Others than the kernel have a number (netlink(7)).
    Ok(sender.is_some_and(|sender| sender.pid() == 0) && is_meant(message.get(..len).unwrap_or_default()))
}
