//! Replies whose transmit timestamp has not come yet.

use ntp_proto::{server::TransmitToken, time::NtpTimestamp};

/// Most replies remembered; a later one takes the place of the oldest.
const CAPACITY: usize = 128;

/// Where the receive timestamp stands in a packet (RFC 5905 section 7.3).
const RECEIVE: std::ops::Range<usize> = 32..40;

/// Longest way from our own reading of the clock to the network, in seconds. What takes longer was not stamped on the
/// same timescale: the clock was stepped in between.
const MAX_WAY: f64 = 1.0;

#[derive(Clone, Copy, Debug)]
struct Reply {
    len: usize,
    receive: [u8; 8],
    read_at: NtpTimestamp,
    token: TransmitToken,
}

/// A ring of replies. A timestamp comes back with the packet as it left, network headers in front; the packet is told by
/// its length and its receive timestamp, which the responder makes unique.
#[derive(Debug)]
pub(super) struct Outstanding {
    replies: [Option<Reply>; CAPACITY],
    next: usize,
}

impl Outstanding {
    pub(super) const fn new() -> Self {
        Self { replies: [None; CAPACITY], next: 0 }
    }

    /// Remembers a reply that is about to be sent, with the time by the kernel's clock; false if it has no whole header.
    pub(super) fn add(&mut self, reply: &[u8], read_at: NtpTimestamp, token: TransmitToken) -> bool {
        let Some(Ok(receive)) = reply.get(RECEIVE).map(<[u8; 8]>::try_from) else { return false };
        self.replies[self.next] = Some(Reply { len: reply.len(), receive, read_at, token });
        self.next = (self.next + 1) % CAPACITY;
        true
    }

    /// Takes out the reply that `frame` ends with, if it left at a possible time.
    pub(super) fn take(&mut self, frame: &[u8], left_at: NtpTimestamp) -> Option<TransmitToken> {
        let is_in = |reply: &Reply| {
            let start = frame.len().checked_sub(reply.len)?;
            Some(frame.get(start..)?.get(RECEIVE)? == reply.receive)
        };
        let found = |slot: &&mut Option<Reply>| slot.as_ref().and_then(is_in) == Some(true);
        let reply = self.replies.iter_mut().find(found)?.take()?;
        let way = left_at.since(reply.read_at).to_seconds();
        (0.0..=MAX_WAY).contains(&way).then_some(reply.token)
    }
}

#[cfg(test)]
mod tests {
    use ntp_proto::{
        ids::StampKind,
        server::{Access, AccessTable, InterleaveSlot, InterleaveTable, Prefix, Responder, RxMeta, Verdict},
        status::Status,
        time::{Monotonic, NtpDuration},
    };

    use super::*;

    const NOW: NtpTimestamp = NtpTimestamp::from_bits(0xe000_0000 << 32);

    fn later(seconds: f64) -> NtpTimestamp {
        NOW + NtpDuration::from_seconds(seconds)
    }

    /// Replies of a responder that wants their transmit timestamps.
    fn replies(count: u32) -> Vec<([u8; 48], TransmitToken)> {
        let mut access = AccessTable::new();
        access.add(Prefix::ALL_V4, Access::Allow).unwrap();
        let slots: Vec<InterleaveSlot> = (0..1 << 12).map(|_| InterleaveSlot::new()).collect();
        let mut responder = Responder::new(access, [1; 32]);
        responder.set_interleave_table(Some(InterleaveTable::new(&slots)));
        let reply = |n: u32| {
            let mut request = [0; 48];
            request[0] = 4 << 3 | 3;
            // An odd origin timestamp, and a receive timestamp other than the transmit timestamp: interleaved mode.
            request[31] = 1;
            request[40..44].copy_from_slice(&n.to_be_bytes());
            let meta = RxMeta {
                peer: [192, 0, 2, 1].into(),
                peer_port: 1_123,
                received: later(f64::from(n)),
                kind: StampKind::Kernel,
                monotonic: Monotonic::from_nanos(0),
            };
            let mut out = [0; 48];
            match responder.respond(&mut request, &meta, &Status::UNSYNCHRONIZED, || NOW, &mut out) {
                Verdict::Reply { want_transmit_stamp, .. } => (out, want_transmit_stamp.unwrap()),
                Verdict::Drop(reason) => panic!("{reason}"),
            }
        };
        (1..=count).map(reply).collect()
    }

    fn frame(reply: &[u8]) -> Vec<u8> {
        [&[0x45; 28], reply].concat()
    }

    #[test]
    fn a_frame_finds_its_own_reply_once() {
        let replies = replies(3);
        let mut outstanding = Outstanding::new();
        for (reply, token) in &replies {
            assert!(outstanding.add(reply, NOW, *token));
        }
        for n in [1, 0, 2] {
            let (reply, token) = &replies[n];
            assert_eq!(outstanding.take(&frame(reply)[1..], later(0.001)), Some(*token), "headers of any length");
            assert_eq!(outstanding.take(&frame(reply), later(0.001)), None);
        }
    }

    #[test]
    fn other_frames_and_impossible_times_find_nothing() {
        let [(reply, token), (other, _)] = replies(2)[..] else { panic!("two replies") };
        let mut outstanding = Outstanding::new();
        assert!(!outstanding.add(&reply[..39], NOW, token));
        outstanding.add(&reply, NOW, token);
        for bad in [frame(&other), frame(&reply[..47]), frame(&[&reply[..], &[0]].concat()), Vec::new()] {
            assert_eq!(outstanding.take(&bad, later(0.001)), None);
        }
        assert_eq!(outstanding.take(&frame(&reply), later(-0.001)), None);
        outstanding.add(&reply, NOW, token);
        assert_eq!(outstanding.take(&frame(&reply), later(1.001)), None);
        outstanding.add(&reply, NOW, token);
        assert_eq!(outstanding.take(&frame(&reply), later(1.0)), Some(token));
    }

    #[test]
    fn the_oldest_gives_way_at_the_capacity() {
        let replies = replies(u32::try_from(CAPACITY).unwrap() + 1);
        let mut outstanding = Outstanding::new();
        for (reply, token) in &replies {
            outstanding.add(reply, NOW, *token);
        }
        assert_eq!(outstanding.take(&frame(&replies[0].0), NOW), None);
        for (reply, token) in &replies[1..] {
            assert_eq!(outstanding.take(&frame(reply), NOW), Some(*token));
        }
    }
}
