//! Pairing requests with replies.

use crate::{
    ids::StampKind,
    sample::{Exchange, ServerState, Shift},
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
    /// What that may be wrong by, beside what its kind may, in seconds.
    error: f64,
    /// When by the kernel, if the interface says so too.
    kernel: Option<NtpTimestamp>,
}

impl Sent {
    pub(super) const fn new(at: NtpTimestamp, stamp: StampKind, error: f64) -> Self {
        Self { at, stamp, error, kernel: None }
    }

    /// Takes another stamp of the same departure if it is a better one; whether it was. Of two that differ in their clocks
    /// both are kept.
    pub(super) fn improve(&mut self, other: &Self) -> bool {
        match (self.stamp, other.stamp) {
            (StampKind::Hardware, StampKind::Kernel) if self.kernel.is_none() => {
                let apart = (other.at - self.at).to_seconds().abs();
                self.kernel = (apart <= MAX_SEND_DELAY).then_some(other.at);
                self.kernel.is_some()
            }
            _ if !self.is_improved_by(other) => false,
            (StampKind::Kernel, StampKind::Hardware) => {
                *self = Self { kernel: Some(self.at), ..*other };
                true
            }
            _ => {
                *self = *other;
                true
            }
        }
    }

    pub(super) fn shift(&mut self, shift: &Shift) {
        self.at = shift.apply(self.at);
        self.kernel = self.kernel.map(|kernel| shift.apply(kernel));
    }

    /// Whether `better` can be a better stamp of the same departure: not before the program sent the packet, and not
    /// long after.
    fn is_improved_by(&self, better: &Self) -> bool {
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
    /// When the reply came by the kernel, if the interface stamped it.
    pub(super) received_kernel: Option<NtpTimestamp>,
    /// What that of the interface may be wrong by, in seconds.
    pub(super) error: f64,
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
        let ((sent, sent_stamp), (received, received_stamp)) = self.stamps();
        let is_hardware = sent_stamp == StampKind::Hardware || received_stamp == StampKind::Hardware;
        Exchange {
            sent,
            server_received: self.server_received,
            server_sent,
            received,
            server: self.server,
            local_error: stamp_error(sent_stamp).max(stamp_error(received_stamp))
                + if is_hardware { self.error.max(self.sent.error) } else { 0.0 },
            residence_error: 0.0,
        }
    }

    /// Completes the exchange for now with what the server usually takes.
    pub(super) fn provisional(&self, usual: Usual) -> Exchange {
        let server_sent = self.server_received + NtpDuration::from_seconds(usual.seconds);
        Exchange { residence_error: usual.error, ..self.complete(server_sent) }
    }

    /// The stamps of both ends: those of the interface if it made both. One of the interface and one of the kernel would make the
    /// way in the kernel look like one in the network, so those of the kernel are taken then, where there are some.
    pub(super) fn stamps(&self) -> ((NtpTimestamp, StampKind), (NtpTimestamp, StampKind)) {
        let (sent, received) = ((self.sent.at, self.sent.stamp), (self.received, self.stamp));
        if sent.1 == received.1 {
            return (sent, received);
        }
        let by_kernel = |other: Option<NtpTimestamp>| other.map(|at| (at, StampKind::Kernel));
        (by_kernel(self.sent.kernel).unwrap_or(sent), by_kernel(self.received_kernel).unwrap_or(received))
    }

    pub(super) fn shift(&mut self, shift: &Shift) {
        self.sent.shift(shift);
        self.received = shift.apply(self.received);
        self.received_kernel = self.received_kernel.map(|kernel| shift.apply(kernel));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::SourceId, time::NtpDuration};

    fn at(micros: f64) -> NtpTimestamp {
        NtpTimestamp::from_bits(4_000_000_000 << 32) + NtpDuration::from_seconds(micros * 1e-6)
    }

    /// An exchange whose reply came at 1000 us by the interface and 15 us later by the kernel.
    fn exchange(stamps: &[(f64, StampKind)], received_kernel: Option<NtpTimestamp>) -> Previous {
        let mut sent = Sent::new(at(0.0), StampKind::Daemon, 0.0);
        stamps.iter().for_each(|(micros, stamp)| {
            sent.improve(&Sent::new(at(*micros), *stamp, 1e-7));
        });
        Previous {
            token: TxToken { source: SourceId(1), sequence: 1 },
            sent,
            server_received: at(0.0),
            received: at(1_000.0),
            stamp: StampKind::Hardware,
            received_kernel,
            error: 3e-7,
            server: ServerState::default(),
            is_sampled: true,
            missed: 0,
        }
    }

    #[test]
    fn stamps_of_the_two_ends_come_from_the_same_clock() {
        let (kernel, hardware) = ((20.0, StampKind::Kernel), (30.0, StampKind::Hardware));
        for order in [[kernel, hardware], [hardware, kernel]] {
            let complete = exchange(&order, Some(at(1_015.0))).complete(at(0.0));
            assert_eq!((complete.sent, complete.received), (at(30.0), at(1_000.0)), "both are the interface's");
            assert!((complete.local_error - (1e-8 + 3e-7)).abs() < 1e-12);
        }
        let late = exchange(&[kernel], Some(at(1_015.0)));
        assert_eq!(late.stamps(), ((at(20.0), StampKind::Kernel), (at(1_015.0), StampKind::Kernel)));
        assert!((late.complete(at(0.0)).local_error - 1e-7).abs() < 1e-12, "the interface has no part in it");
        let alone = exchange(&[hardware], None);
        assert_eq!(alone.stamps().0, (at(30.0), StampKind::Hardware));
        let unsure = Previous { error: 0.0, ..exchange(&[kernel, hardware], None) };
        assert!((unsure.complete(at(0.0)).local_error - (1e-8 + 1e-7)).abs() < 1e-12, "of the two the worse");
        // A reply that only the kernel stamped.
        let received = Previous { stamp: StampKind::Kernel, ..exchange(&[kernel, hardware], None) };
        assert_eq!(received.stamps().0, (at(20.0), StampKind::Kernel));
        let reversed = Previous { stamp: StampKind::Kernel, ..exchange(&[hardware, kernel], None) };
        assert_eq!(reversed.stamps().0, (at(20.0), StampKind::Kernel));
    }

    #[test]
    fn a_clock_that_lies_is_not_asked() {
        let far = exchange(&[(20.0, StampKind::Kernel), (2e6, StampKind::Hardware)], None);
        assert_eq!(far.stamps().0, (at(20.0), StampKind::Kernel));
    }
}
