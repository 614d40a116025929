//! The loop of one server thread.

use std::{
    io::{self, Read as _},
    net::IpAddr,
    os::{fd::AsFd as _, unix::net::UnixStream},
    sync::{Arc, atomic::Ordering::Acquire},
    thread,
    time::Duration,
};

use arc_swap::{ArcSwap, Cache};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use ntp_proto::{
    server::{AccessTable, InterleaveTable, RateTable, Responder, RxMeta, Verdict},
    status::Status,
};

use super::{
    ClientLog, Settings, Shared,
    outstanding::Outstanding,
    published::{Published, SendCounters},
};
use crate::{
    net::{MAX_BATCH, RxBatch, RxSlot, ServerSocket, TxBatch},
    now,
};

/// How long a thread rests after an error other than that nothing is waiting, so that it does not spin on it.
const REST: Duration = Duration::from_millis(1);

/// Wakes that are read at one go.
const WAKES: usize = 64;

/// One server thread, ready to run.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) sockets: Vec<ServerSocket>,
    pub(super) wake: UnixStream,
    pub(super) seed: [u8; 32],
}

impl Worker {
    /// Serves until told to stop.
    ///
    /// Every round serves each socket that is ready with one batch, so that a flooded one does not starve the others.
    /// Once in the loop nothing is allocated, and no lock is taken.
    pub(super) fn run(self) {
        let Self { index, shared, sockets, wake, seed } = self;
        let Some(published) = shared.published.get(index) else { return };
        let mut desk = Desk::new(&shared, seed);
        // Waking comes first. Transmit timestamps are told of as errors, which need not be asked for.
        let watched = std::iter::once(wake.as_fd()).chain(sockets.iter().map(ServerSocket::as_fd));
        let mut descriptors: Vec<PollFd<'_>> = watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        while !shared.stopping.load(Acquire) {
            match poll(&mut descriptors, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(_) => thread::sleep(REST),
            }
            let mut events = descriptors.iter().map(|descriptor| descriptor.revents().unwrap_or(PollFlags::empty()));
            if events.next().is_some_and(|events| !events.is_empty()) {
                let _ = (&wake).read(&mut [0; WAKES]);
                desk.renew();
            }
            for (events, socket) in events.zip(&sockets) {
                if events.contains(PollFlags::POLLERR) {
                    desk.take_stamps(socket);
                }
                if !events.is_empty() && desk.serve(socket).is_err() {
                    thread::sleep(REST);
                }
            }
            desk.publish(published);
        }
    }
}

/// What a thread works with; all of it is allocated before the first packet.
struct Desk<'t> {
    shared: &'t Shared,
    settings: Cache<&'t ArcSwap<Settings>, Arc<Settings>>,
    applied: Arc<Settings>,
    status: Cache<&'t ArcSwap<Status>, Arc<Status>>,
    responder: Responder<'t>,
    rx: RxBatch,
    tx: TxBatch,
    outstanding: Outstanding,
    sending: SendCounters,
}

impl<'t> Desk<'t> {
    fn new(shared: &'t Shared, seed: [u8; 32]) -> Self {
        let mut settings = Cache::new(&shared.settings);
        let applied = Arc::clone(settings.load());
        let mut responder = Responder::new(AccessTable::new(), seed);
        responder.set_interleave_table(Some(InterleaveTable::new(&shared.interleave)));
        responder.set_rate_table(rate_table(&applied, shared));
        responder.set_client_table(shared.clients.as_deref().map(ClientLog::table));
        applied.apply(&mut responder);
        Self {
            shared,
            settings,
            applied,
            status: shared.status.view(),
            responder,
            rx: RxBatch::new(MAX_BATCH),
            tx: TxBatch::new(MAX_BATCH),
            outstanding: Outstanding::new(),
            sending: SendCounters::default(),
        }
    }

    /// Applies settings that have changed.
    fn renew(&mut self) {
        let current = self.settings.load();
        if Arc::ptr_eq(current, &self.applied) {
            return;
        }
        self.applied = Arc::clone(current);
        self.responder.set_rate_table(rate_table(&self.applied, self.shared));
        self.applied.apply(&mut self.responder);
    }

    /// Answers one batch.
    fn serve(&mut self, socket: &ServerSocket) -> io::Result<()> {
        match socket.recv_batch(&mut self.rx) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        // After the requests are here and before they are read: whoever sends a cookie made under new keys finds them
        // known, whichever thread receives it.
        self.renew();
        let status = **self.status.load();
        let monotonic = now::monotonic();
        let Self { responder, rx, tx, outstanding, .. } = self;
        for request in rx.packets() {
            let Some(slot) = tx.free() else { break };
            let meta = RxMeta {
                peer: request.peer.ip(),
                peer_port: request.peer.port(),
                received: request.received,
                kind: request.kind,
                monotonic,
            };
            let verdict = responder.respond(request.bytes_mut(), &meta, &status, now::kernel, &mut slot.bytes);
            let Verdict::Reply { len, want_transmit_stamp, .. } = verdict else { continue };
            slot.len = len;
            slot.peer = request.peer;
            (slot.local, slot.interface) = way_back(request);
            // Should the kernel not tell, the table goes on holding our own reading of the clock, taken just before the
            // reply was sealed; the next reply in interleaved mode then carries that.
            slot.stamp = want_transmit_stamp
                .is_some_and(|token| outstanding.add(slot.bytes.get(..len).unwrap_or_default(), now::kernel(), token));
            tx.push();
        }
        let replies = tx.packets().len();
        if replies > 0 {
            let sent = socket.send_batch(tx);
            self.sending.unsent += replies.saturating_sub(sent) as u64;
        }
        Ok(())
    }

    /// Takes the transmit timestamps that have come.
    fn take_stamps(&mut self, socket: &ServerSocket) {
        let Self { responder, rx, outstanding, sending, .. } = self;
        socket.sent_stamps(rx, |stamp| {
            if let Some(token) = outstanding.take(stamp.frame, stamp.at) {
                sending.stamped += 1;
                responder.transmitted(&token, stamp.at);
            }
        });
    }

    fn publish(&self, published: &Published) {
        published.store(self.responder.counters(), self.sending);
    }
}

fn rate_table<'t>(settings: &Settings, shared: &'t Shared) -> Option<RateTable<'t>> {
    settings.rate_limit().map(|limit| RateTable::new(&shared.rate, limit, &shared.rate_key))
}

/// Source address and interface of a reply: the address that was asked. A link-local address means nothing without its
/// interface; otherwise the routes decide.
const fn way_back(request: &RxSlot) -> (Option<IpAddr>, u32) {
    match request.local {
        Some(IpAddr::V6(local)) if local.is_unicast_link_local() => (request.local, request.interface),
        local => (local, 0),
    }
}
