//! One request on its way: a socket of its own until the reply has come.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ntp_proto::{
    ids::{SourceId, StampKind},
    source::TxToken,
    time::NtpTimestamp,
};
use tokio::{
    io::Interest,
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::Event;
use crate::net::{ClientSocket, RxBatch, SentStamps};

/// How long a reply is waited for: longer round trips are refused anyway.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long the interface's word on a request is waited for when the reply is there already, as in chrony.
const HARDWARE_PATIENCE: Duration = Duration::from_millis(1);
/// Most wake-ups for one request, whatever causes them. Nobody who sends less than this many datagrams in place of the
/// reply keeps it from being read.
const MAX_WAKES: usize = 16_384;
/// Datagrams taken with one system call.
const BATCH: usize = 8;

/// A datagram that came in for a source.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) source: SourceId,
    pub(super) bytes: Vec<u8>,
    pub(super) at: NtpTimestamp,
    pub(super) stamp: StampKind,
    /// When, by the clock of the interface, if that stamped it.
    pub(super) hardware: Option<NtpTimestamp>,
    pub(super) local: IpAddr,
}

/// A request that was sent.
#[derive(Debug)]
pub(super) struct Sent {
    /// Waits for the reply; dropping it ends the wait.
    pub(super) task: Waiting,
    /// The time just before, by the kernel's clock.
    pub(super) at: NtpTimestamp,
    /// The address of this machine that it left from.
    pub(super) local: IpAddr,
}

/// A task that ends with its handle.
#[derive(Debug)]
pub(super) struct Waiting(JoinHandle<()>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends a request from a fresh socket and waits for what comes back. Whether the interface stamps packets depends on the
/// address that it leaves from.
pub(super) fn send(
    peer: SocketAddr,
    token: TxToken,
    bytes: &[u8],
    events: mpsc::Sender<Event>,
    is_stamped: impl FnOnce(IpAddr) -> bool,
) -> io::Result<Sent> {
    let socket = ClientSocket::connect(peer)?;
    let hardware = is_stamped(socket.local()) && socket.ask_for_hardware().is_ok();
    let at = socket.send(bytes)?;
    let local = socket.local();
    let task = tokio::spawn(async move {
        // An error of the socket says no more than silence would.
        let _ = timeout(PATIENCE, wait(socket, token, events, hardware)).await;
    });
    Ok(Sent { task: Waiting(task), at, local })
}

/// Hands in what comes. If the interface stamps packets, its word on the request is waited for a moment, even if the reply is
/// there: without it that on the reply is no use.
async fn wait(socket: ClientSocket, token: TxToken, events: mpsc::Sender<Event>, mut hardware: bool) -> io::Result<()> {
    let local = socket.local();
    let socket = socket.watch()?;
    let mut batch = RxBatch::new(BATCH);
    for _ in 0..MAX_WAKES {
        let mut ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        // The transmit timestamp first: the engine needs it to understand the reply.
        let mut stamps = socket.get_ref().sent_stamps(&mut batch);
        if hardware && stamps.hardware.is_none() && ready.ready().is_readable() {
            sleep(HARDWARE_PATIENCE).await;
            let late = socket.get_ref().sent_stamps(&mut batch);
            stamps = SentStamps { kernel: stamps.kernel.or(late.kernel), hardware: late.hardware };
            hardware = false;
        }
        hardware &= stamps.hardware.is_none();
        if stamps != SentStamps::default() {
            let _ = events.send(Event::Stamped { token, stamps }).await;
        }
        match socket.get_ref().recv(&mut batch) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready.clear_ready();
                continue;
            }
            // An ICMP message may be forged: it only ends this read, not the wait.
            Err(_) => continue,
        }
        for slot in batch.packets() {
            let (at, stamp) = (slot.received, slot.kind);
            let (hardware, bytes) = (slot.hardware, slot.bytes_mut().to_vec());
            let received = Received { source: token.source, bytes, at, stamp, hardware, local };
            if events.send(Event::Received(received)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, thread};

    use tokio::runtime::Builder;

    use super::*;

    const FORGED: usize = 1_000;

    /// Somebody sends in the server's name, and knows the port: the reply is still read.
    #[test]
    fn a_thousand_forged_packets_do_not_hide_the_reply() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = server.local_addr().unwrap();
        let flood = thread::spawn(move || {
            let (_, client) = server.recv_from(&mut [0; 100]).unwrap();
            for number in 0..FORGED {
                server.send_to(&[0; 48], client).unwrap();
                // As fast as a socket's buffer allows: what it cannot hold is lost whoever sends it.
                if number % 50 == 0 {
                    thread::sleep(Duration::from_millis(2));
                }
            }
            server.send_to(b"the reply", client).unwrap();
        });
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let seen = runtime.block_on(async {
            let (events, mut inbox) = mpsc::channel(4);
            let token = TxToken { source: SourceId(1), sequence: 1 };
            let _sent = send(peer, token, &[1; 48], events, |_| false).unwrap();
            let mut seen = 0;
            while let Some(event) = inbox.recv().await {
                let Event::Received(received) = event else { continue };
                seen += 1;
                if received.bytes == b"the reply" {
                    return seen;
                }
            }
            panic!("the reply was not read, after {seen} datagrams");
        });
        flood.join().unwrap();
        assert!(seen > FORGED / 2, "{seen}");
    }
}
