//! Noticing that this machine was put back to an earlier state, or copied, while it ran.
//!
//! The kernel tells who listens (`drivers/virt/vmgenid.c`): the host has given the machine another
//! generation number. What that number is, it tells nobody, so that a change while no daemon ran goes unnoticed.

use nix::sys::socket::SockProtocol;

use super::netlink::Netlink;

/// The group to which the kernel sends its own events; device managers pass them on in another.
const FROM_KERNEL: u32 = 1;
/// What the event says.
const NEW_GENERATION: &[u8] = b"NEW_VMGENID=1";

/// Wakes when the machine has another generation number.
#[derive(Debug)]
pub(super) struct Restores(Netlink);

impl Default for Restores {
    fn default() -> Self {
        let what = "when this machine is put back to an earlier state";
        Self(Netlink::new(SockProtocol::NetlinkKObjectUEvent, FROM_KERNEL, what))
    }
}

impl Restores {
    /// Waits for the next one. Where the kernel has no means to tell, waits for ever.
    pub(super) async fn next(&mut self) {
        self.0.next(is_new_generation).await;
    }
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
