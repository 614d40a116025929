//! Noticing that this machine was put back to an earlier state, or copied, while it ran.
//!
//! The kernel tells who listens (`drivers/virt/vmgenid.c`): the host has given the machine another
//! generation number. What that number is, it tells nobody, so that a change while no daemon ran goes unnoticed.

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

/// The group to which the kernel sends its own events; device managers pass them on in another.
const FROM_KERNEL: u32 = 1;
/// The longest event there is (`UEVENT_BUFFER_SIZE`), with room.
const MAX_EVENT: usize = 8_192;
/// What the event says.
const NEW_GENERATION: &[u8] = b"NEW_VMGENID=1";

/// Wakes when the machine has another generation number.
#[derive(Debug, Default)]
pub(super) struct Restores {
    socket: Option<AsyncFd<OwnedFd>>,
    given_up: bool,
}

impl Restores {
    /// Waits for the next one. Where the kernel has no means to tell, waits for ever.
    pub(super) async fn next(&mut self) {
        if self.socket.is_none() && !self.given_up {
            match listen() {
                Ok(socket) => self.socket = Some(socket),
                Err(error) => {
                    self.given_up = true;
                    tracing::debug!(%error, "the kernel does not tell when this machine is put back to an earlier state");
                }
            }
        }
        let Some(socket) = &self.socket else { return future::pending().await };
        while let Ok(mut ready) = socket.readable().await {
            match receive(ready.get_inner()) {
                Ok(true) => return,
                Ok(false) => {}
                Err(Errno::EAGAIN) => ready.clear_ready(),
                // Events were lost: devices come and go faster than we read.
                Err(Errno::ENOBUFS | Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        (self.socket, self.given_up) = (None, true);
        future::pending().await
    }
}

fn listen() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkKObjectUEvent;
    let socket = socket(AddressFamily::Netlink, SockType::Datagram, flags, protocol)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, FROM_KERNEL))?;
    watch_descriptor(socket)
}

/// Takes one event; whether it is the one that is waited for.
fn receive(socket: &OwnedFd) -> nix::Result<bool> {
    let mut event = [0; MAX_EVENT];
    let (len, sender) = recvfrom::<NetlinkAddr>(socket.as_raw_fd(), &mut event)?;
    // Others than the kernel have a number (netlink(7)).
    Ok(sender.is_some_and(|sender| sender.pid() == 0) && is_new_generation(event.get(..len).unwrap_or_default()))
}

/// An event is a header and settings, each with a zero after it.
fn is_new_generation(event: &[u8]) -> bool {
    event.split(|byte| *byte == 0).any(|setting| setting == NEW_GENERATION)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_event_is_told_from_others() {
        let event =
            b"change@/devices/platform/QEMUVGID:00\0ACTION=change\0SUBSYSTEM=platform\0NEW_VMGENID=1\0SEQNUM=9\0";
        assert!(is_new_generation(event));
        assert!(!is_new_generation(b"change@/devices/NEW_VMGENID=1x\0ACTION=change\0"));
        assert!(!is_new_generation(b""));
    }

    #[tokio::test]
    async fn nothing_wakes_while_the_machine_goes_on() {
        let mut restores = Restores::default();
        assert!(tokio::time::timeout(Duration::from_millis(100), restores.next()).await.is_err());
    }
}
