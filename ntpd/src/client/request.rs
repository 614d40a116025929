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
use tokio::{io::Interest, sync::mpsc, task::JoinHandle, time::timeout};

use super::Event;
use crate::net::{ClientSocket, RxBatch};

/// How long a reply is waited for: longer round trips are refused anyway.
const PATIENCE: Duration = Duration::from_secs(8);
/// Most datagrams taken for one request: the reply, and what others send in its place.
const MAX_DATAGRAMS: usize = 64;
/// Most wake-ups for one request, whatever causes them.
const MAX_WAKES: usize = 256;
/// Datagrams taken with one system call.
const BATCH: usize = 4;

/// A datagram that came in for a source.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) source: SourceId,
    pub(super) bytes: Vec<u8>,
    pub(super) at: NtpTimestamp,
    pub(super) stamp: StampKind,
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

/// Sends a request from a fresh socket and waits for what comes back.
pub(super) fn send(peer: SocketAddr, token: TxToken, bytes: &[u8], events: mpsc::Sender<Event>) -> io::Result<Sent> {
    let socket = ClientSocket::connect(peer)?;
    let at = socket.send(bytes)?;
    let local = socket.local();
    let task = tokio::spawn(async move {
        // An error of the socket says no more than silence would.
        let _ = timeout(PATIENCE, wait(socket, token, events)).await;
    });
    Ok(Sent { task: Waiting(task), at, local })
}

async fn wait(socket: ClientSocket, token: TxToken, events: mpsc::Sender<Event>) -> io::Result<()> {
    let local = socket.local();
    let socket = socket.watch()?;
    let mut batch = RxBatch::new(BATCH);
    let (mut datagrams, mut wakes) = (0, 0);
    while datagrams < MAX_DATAGRAMS && wakes < MAX_WAKES {
        wakes += 1;
        let mut ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        // The transmit timestamp first: the engine needs it to understand the reply.
        if let Some(at) = socket.get_ref().sent_stamp(&mut batch) {
            let _ = events.send(Event::Stamped { token, at }).await;
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
            datagrams += 1;
            let (at, stamp) = (slot.received, slot.kind);
            let received = Received { source: token.source, bytes: slot.bytes_mut().to_vec(), at, stamp, local };
            if events.send(Event::Received(received)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
