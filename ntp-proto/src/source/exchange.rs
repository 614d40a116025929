//! Pairing requests with replies.

use crate::{
    ids::StampKind,
    sample::{Exchange, ServerState},
    time::{NtpDuration, NtpTimestamp},
};

use super::{request::TxToken, residence::Usual};

/// Requests in interleaved mode without an answer after which basic mode is used again (RFC 9769 section 2).
pub(super) const MAX_INTERLEAVED_MISSES: u8 = 4;

/// Interleaved replies in a row with timestamps that cannot be right after which the server is no more asked for them.
pub(super) const MAX_INTERLEAVED_FAILURES: u8 = 3;
/// Longest time a packet may wait between the program and the wire, in seconds.
const MAX_SEND_DELAY: f64 = 1.0;

/// When a request left, and who says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) at: NtpTimestamp,
    pub(super) stamp: StampKind,
}

impl Sent {
    /// Whether `better` can be a better stamp of the same departure: not before the program sent the packet, and not
    /// long after.
    pub(super) fn is_improved_by(&self, better: &Self) -> bool {
        let later = (better.at - self.at).to_seconds();
        // The kernel and the interface may differ either way, by the error of their clocks' comparison.
        let earliest = if self.stamp == StampKind::Daemon { 0.0 } else { -MAX_SEND_DELAY };
        better.stamp > self.stamp && (earliest..=MAX_SEND_DELAY).contains(&later)
    }
}

/// The request that has no answer yet. There is at most one: a new request ends the wait for the last.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) token: TxToken,
    /// Transmit timestamp of the request: 64 random bits that a reply in basic mode must return.
    pub(super) nonce: NtpTimestamp,
    /// Receive timestamp of a request in interleaved mode, random too, that a reply in that mode must return.
    pub(super) interleaved_nonce: Option<NtpTimestamp>,
    /// Unique identifier of an NTS request.
    pub(super) unique_id: [u8; 32],
    pub(super) sent: Option<Sent>,
    /// An NTS NAK came in; it is not believed before the next poll.
    pub(super) nak: bool,
}

/// An exchange whose reply has come. In interleaved mode the next reply tells when that really left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Previous {
    pub(super) token: TxToken,
    pub(super) sent: Sent,
    pub(super) server_received: NtpTimestamp,
    pub(super) received: NtpTimestamp,
    pub(super) stamp: StampKind,
    pub(super) server: ServerState,
    /// Its sample is the newest in the filter.
    pub(super) is_sampled: bool,
    /// Requests since then that stayed without an answer.
    pub(super) missed: u8,
}

/// An exchange of which the server told with a later reply when its own reply left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refined {
    /// The exchange, all of it known now.
    pub exchange: Exchange,
    /// Who stamped its request.
    pub sent_stamp: StampKind,
    /// Who stamped its reply.
    pub received_stamp: StampKind,
    /// Whether the measurement made of it counts: it was taken when its reply came, and still is fit for use.
    pub is_kept: bool,
}

impl Previous {
    /// Completes the exchange with the server's transmit timestamp. All four timestamps are of this exchange: RFC 9769
    /// section 2 allows to pair those of two as well, but then the ways there and back are a poll interval apart.
    pub(super) fn complete(&self, server_sent: NtpTimestamp) -> Exchange {
        Exchange {
            sent: self.sent.at,
            server_received: self.server_received,
            server_sent,
            received: self.received,
            server: self.server,
            local_error: stamp_error(self.sent.stamp).max(stamp_error(self.stamp)),
            residence_error: 0.0,
        }
    }

    /// Completes the exchange for now with what the server usually takes.
    pub(super) fn provisional(&self, usual: Usual) -> Exchange {
        let server_sent = self.server_received + NtpDuration::from_seconds(usual.seconds);
        Exchange { residence_error: usual.error, ..self.complete(server_sent) }
    }
}

/// Error of a local timestamp in seconds: what a scheduler may do to a program, or an interrupt to the kernel.
pub(super) const fn stamp_error(stamp: StampKind) -> f64 {
    match stamp {
        StampKind::Daemon => 2e-6,
        StampKind::Kernel => 1e-7,
        StampKind::Hardware => 1e-8,
    }
}
