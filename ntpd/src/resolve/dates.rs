//! The times at which DNSSEC signatures are judged.
//!
//! The library validates at one time. While nobody knows how late it is, answers are judged at several, until they hold at
//! one; when they hold altogether is read from their signatures.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{
    StreamExt as _, future,
    stream::{self, BoxStream},
};
use hickory_resolver::{
    net::{DnsError, DnsHandle, NetError, NoRecords},
    proto::{
        dnssec::rdata::{DNSSECRData, RRSIG},
        op::{DnsRequest, DnsResponse, Query},
        rr::{RData, Record, SerialNumber},
    },
};
use ntp_proto::bootstrap::{Judgement, Signatures, Window, keep_latest};

/// Most queries that one question leads to.
const MAX_QUERIES: usize = 128;

/// Most signatures of one question that are looked at.
const MAX_SIGNATURES: usize = 512;

/// Most times at which the answers to one question are judged.
const MAX_TIMES: usize = 16;

/// Seconds in which serial numbers can tell earlier from later (RFC 1982 section 3.2).
const SPAN: i64 = 0x7fff_ffff;

/// The times at which the answers to one question are judged.
#[derive(Debug)]
pub(super) struct Times {
    judgement: Judgement,
    tried: Vec<i64>,
}

impl Times {
    pub(super) const fn new(judgement: Judgement) -> Self {
        Self { judgement, tried: Vec::new() }
    }

    /// Those after a time that was told, at which the answers did not hold; `None` if they were judged at several already.
    pub(super) fn after(judgement: Judgement) -> Option<Self> {
        let Judgement::At(at) = judgement else { return None };
        let judgement = Judgement::Deferred { now: at.seconds, floor: at.seconds };
        Some(Self { judgement, tried: vec![at.seconds] })
    }

    /// From what time on signatures have to be valid, and the time that is best.
    fn floor_and_best(&self) -> (i64, i64) {
        match self.judgement {
            Judgement::At(at) => (at.seconds, at.seconds),
            // Further from the floor than serial numbers go there is no telling which time is meant.
            Judgement::Deferred { now, floor } => (floor, now.max(floor).min(floor.saturating_add(SPAN))),
        }
    }

    /// The next, if the answers have these signatures: what our clock says; then the time nearest to it at which all
    /// signatures are valid; then when each begins to be, the nearest first. If those that matter are ever valid together, they are
    /// when the last of them begins to be, or at the floor.
    pub(super) fn next(&mut self, signatures: &[(SerialNumber, SerialNumber)]) -> Option<i64> {
        let (floor, best) = self.floor_and_best();
        let is_deferred = matches!(self.judgement, Judgement::Deferred { .. });
        if self.tried.len() >= MAX_TIMES || (!is_deferred && !self.tried.is_empty()) {
            return None;
        }
        let windows = || signatures.iter().map(|pair| self.window(*pair)).filter(|window| window.not_after >= floor);
        let open = Window { not_before: floor, not_after: i64::MAX };
        let all = windows().fold(open, |all, one| all.and(&one));
        let is_new = |at: &i64| !self.tried.contains(at);
        let next = Some(best)
            .filter(is_new)
            .or_else(|| Some(all.nearest(best)).filter(|at| !all.is_empty() && is_new(at)))
            .or_else(|| {
                let beginnings = windows().map(|window| window.not_before.max(floor)).filter(is_new);
                beginnings.min_by_key(|at| at.abs_diff(best))
            })?;
        self.tried.push(next);
        Some(next)
    }

    /// What signatures that hold `at` a time say of the time: those of the records themselves, of which it is known that they
    /// hold, and all that was looked at to find that out. Of the latter those that are not valid then had no part in it, and
    /// any of the others may have had.
    pub(super) fn said(
        &self,
        at: i64,
        own: impl Iterator<Item = (SerialNumber, SerialNumber)>,
        all: &[(SerialNumber, SerialNumber)],
    ) -> Signatures {
        let windows = all.iter().map(|pair| self.window(*pair)).filter(|window| window.contains(at, 0));
        let window = windows.fold(Window::ALWAYS, |all, one| all.and(&one));
        let mut signed: Vec<i64> = own.map(|pair| self.window(pair).not_before).collect();
        keep_latest(&mut signed);
        Signatures { window, signed }
    }

    /// The years of serial numbers follow from what is known of the time (RFC 4034 section 3.1.5).
    fn window(&self, (inception, expiration): (SerialNumber, SerialNumber)) -> Window {
        let (floor, _) = self.floor_and_best();
        Window { not_before: unfold(floor, inception), not_after: unfold(floor, expiration) }
    }
}

/// The time with this serial number that is nearest to another one.
fn unfold(near: i64, serial: SerialNumber) -> i64 {
    // The last 32 bits, which is what serial numbers are, wrap on purpose.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap, reason = "RFC 1982")]
    let ahead = serial.get().wrapping_sub(near as u32) as i32;
    near.saturating_add(i64::from(ahead))
}

/// When a signature begins and ends to be valid, if a record is one.
pub(super) fn validity(record: &Record) -> Option<(SerialNumber, SerialNumber)> {
    signature(record).map(|signature| (signature.input().sig_inception, signature.input().sig_expiration))
}

/// The signature that a record is.
pub(super) fn signature(record: &Record) -> Option<&RRSIG> {
    if let RData::DNSSEC(DNSSECRData::RRSIG(signature)) = &record.data { Some(signature) } else { None }
}

type Outcome = Result<DnsResponse, NetError>;

/// Keeps the answers to the queries of one question, to judge them again without asking again.
#[derive(Clone)]
pub(super) struct Kept<H> {
    handle: H,
    answers: Arc<Mutex<HashMap<Query, Outcome>>>,
}

impl<H> Kept<H> {
    pub(super) fn new(handle: H) -> Self {
        Self { handle, answers: Arc::default() }
    }

    /// The signatures of all answers; where there are none, of the proof of that.
    pub(super) fn signatures(&self) -> Vec<(SerialNumber, SerialNumber)> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.values().flat_map(|outcome| records(outcome).iter().filter_map(validity)).take(MAX_SIGNATURES).collect()
    }
}

fn records(outcome: &Outcome) -> &[Record] {
    match outcome {
        Ok(response) if response.answers.is_empty() => &response.authorities,
        Ok(response) => &response.answers,
        Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords { authorities, .. }))) => {
            authorities.as_deref().unwrap_or_default()
        }
        Err(_) => &[],
    }
}

/// Whether the same would be answered again: a lack of records is an answer, a lack of answers is none.
const fn is_answer(outcome: &Outcome) -> bool {
    matches!(outcome, Ok(_) | Err(NetError::Dns(DnsError::NoRecordsFound(_))))
}

impl<H: DnsHandle> DnsHandle for Kept<H> {
    type Response = BoxStream<'static, Outcome>;
    type Runtime = H::Runtime;

    fn is_using_edns(&self) -> bool {
        self.handle.is_using_edns()
    }

    fn send(&self, request: DnsRequest) -> Self::Response {
        let Some(query) = request.queries.first().cloned() else { return self.handle.send(request).boxed() };
        {
            let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(outcome) = answers.get(&query) {
                return stream::once(future::ready(outcome.clone())).boxed();
            }
            if answers.len() >= MAX_QUERIES {
                let outcome = Err(NetError::from("too many queries for one question"));
                return stream::once(future::ready(outcome)).boxed();
            }
        }
        let answers = self.answers.clone();
        let keep = move |outcome: &Outcome| {
            if is_answer(outcome) {
                let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                answers.insert(query.clone(), outcome.clone());
            }
        };
        self.handle.send(request).inspect(keep).boxed()
    }
}

#[cfg(test)]
mod tests {
    use ntp_proto::time::UnixTime;

    use super::*;

    /// 2026-11-24.
    const FLOOR: i64 = 1_795_478_400;
    const DAY: i64 = 86_400;

    /// In days after the floor.
    fn pair(begin: i64, end: i64) -> (SerialNumber, SerialNumber) {
        let serial = |days: i64| SerialNumber::new(u32::try_from((FLOOR + days * DAY) & 0xffff_ffff).unwrap());
        (serial(begin), serial(end))
    }

    fn days(mut times: Times, signatures: &[(SerialNumber, SerialNumber)]) -> Vec<i64> {
        let all: Vec<i64> = std::iter::from_fn(|| times.next(signatures)).take(MAX_TIMES + 1).collect();
        assert!(all.len() <= MAX_TIMES);
        all.iter().map(|at| (at - FLOOR).div_euclid(DAY)).collect()
    }

    fn later(now: i64) -> Times {
        Times::new(Judgement::Deferred { now: FLOOR + now * DAY, floor: FLOOR })
    }

    #[test]
    fn a_time_that_is_told_is_the_only_one() {
        let at = UnixTime { seconds: FLOOR, nanos: 0 };
        assert_eq!(days(Times::new(Judgement::At(at)), &[pair(5, 9)]), [0]);
    }

    #[test]
    fn times_that_are_tried_are_those_at_which_signatures_may_hold() {
        let two = [pair(10, 30), pair(20, 40)];
        assert_eq!(days(later(-9000), &two), [0, 20, 10]);
        assert_eq!(days(later(22), &two), [22, 20, 10]);
        assert_eq!(days(later(99), &two), [99, 30, 20, 10]);
        // One that is over does not matter, and of one that began before the floor the rest does.
        assert_eq!(days(later(-9000), &[pair(-40, -10), pair(-5, 5), pair(3, 9)]), [0, 3]);
        assert_eq!(days(later(99), &[pair(-40, -10), pair(3, 30), pair(8, 20)]), [99, 20, 8, 3]);
        // Never valid together: whichever matters.
        assert_eq!(days(later(0), &[pair(10, 20), pair(30, 40)]), [0, 10, 30]);
        assert_eq!(days(later(0), &[]), [0]);
        let many: Vec<_> = (1..99).map(|day| pair(day, day)).collect();
        assert_eq!(days(later(0), &many).len(), MAX_TIMES);
        // Within what serial numbers can tell; and after 2106 they begin anew.
        assert_eq!(days(later(i64::from(u32::MAX)), &[]), [SPAN / DAY]);
        assert_eq!(days(later(20_000), &[pair(20_100, 20_200)]), [20_000, 20_100]);
        const { assert!(FLOOR + 20_100 * DAY > 1 << 31) };
    }

    #[test]
    fn all_that_hold_bound_the_time_and_only_our_own_are_evidence() {
        let all = [pair(10, 30), pair(20, 40), pair(50, 60), pair(1, 25)];
        let days = |days| FLOOR + days * DAY;
        let said = later(0).said(days(22), [pair(10, 30)].into_iter(), &all);
        assert_eq!(
            said,
            Signatures { window: Window { not_before: days(20), not_after: days(25) }, signed: vec![days(10)] }
        );
        let none = later(0).said(days(99), [].into_iter(), &all);
        assert_eq!(none, Signatures { window: Window::ALWAYS, signed: vec![] });
    }
}
