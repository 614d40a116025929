//! Interleaved mode: samples that count at once, and become exact with the next reply.

use super::*;
use crate::{filter::Filter, sample::Sample};

/// One exchange as it really was, in seconds.
#[derive(Clone, Copy)]
struct Real {
    /// Time on the way, each way.
    way: f64,
    /// From receipt to departure.
    residence: f64,
    /// Of that, until the server read its clock for a reply in basic mode.
    work: f64,
}

const REAL: Real = Real { way: 1e-3, residence: 80e-6, work: 30e-6 };

/// A server that keeps when its replies left, and a client that asks for it.
struct Pair {
    bench: Bench,
    /// By the receive timestamp in the reply.
    departures: BTreeMap<[u8; 8], f64>,
}

impl Pair {
    fn new(rules: SampleRules) -> Self {
        Self { bench: Bench::new(SourceConfig { interleaved: true, rules, ..plain() }), departures: BTreeMap::new() }
    }

    fn asks_interleaved(&self) -> bool {
        self.bench.request.0[24..32].iter().any(|byte| *byte != 0)
    }

    /// The reply to the next request, in interleaved mode if that is asked for and `remembers`, and when it comes.
    fn reply(&mut self, real: Real, remembers: bool) -> (Vec<u8>, f64) {
        self.bench.next_request();
        let asked: [u8; 8] = self.bench.request.0[24..32].try_into().unwrap();
        let kept = self.departures.get(&asked).copied().filter(|_| remembers);
        let (mut bytes, _) = self.bench.reply(Answer { interleaved: kept.map(|_| 0.0), ..GOOD });
        let received = self.bench.request.1 + real.way;
        let receive = at(received).to_bits().to_be_bytes();
        bytes[32..40].copy_from_slice(&receive);
        bytes[40..48].copy_from_slice(&at(kept.unwrap_or(received + real.work)).to_bits().to_be_bytes());
        let departed = received + real.residence;
        self.departures.insert(receive, departed);
        (bytes, departed + real.way)
    }

    fn round(&mut self, real: Real) {
        let (bytes, received) = self.reply(real, true);
        self.bench.deliver(bytes, received);
    }

    fn latest(&self) -> Sample {
        *self.bench.report().source.filter().latest().unwrap()
    }

    fn samples(&self) -> usize {
        self.bench.report().estimate.unwrap().samples
    }

    /// The exchange that the last reply made exact: its delay, and whether its measurement counts.
    fn refined(&self) -> (f64, bool) {
        let refined = self.bench.report().source.last_reply().unwrap().refined.unwrap();
        (refined.exchange.sample().delay, refined.is_kept)
    }
}

fn assert_near(value: f64, expected: f64) {
    assert!((value - expected).abs() < 2e-8, "{value} is not {expected}");
}

#[test]
fn every_reply_is_one_measurement_of_its_own_exchange() {
    let mut pair = Pair::new(SampleRules::default());
    for round in 1..=20_usize {
        pair.round(REAL);
        assert_eq!((pair.bench.good(), pair.samples()), (round as u64, round));
        let middle = pair.bench.request.1 + REAL.way + 0.5 * REAL.residence;
        assert!((pair.latest().at - at(middle)).to_seconds().abs() < 1e-3, "no older exchange");
        assert!(pair.bench.report().source.last_reply().unwrap().interleaved == (round > 1));
    }
    let report = pair.bench.report();
    assert_eq!((report.source.counts().interleaved, report.source.reach().bits()), (19, 0xff));
}

#[test]
fn what_was_estimated_is_replaced_by_what_was() {
    let mut pair = Pair::new(SampleRules::default());
    pair.round(REAL);
    // In basic mode what came after the server read its clock seems to be on the way.
    assert_near(pair.latest().delay, 2.0 * REAL.way + REAL.residence - REAL.work);
    (0..8).for_each(|_| pair.round(REAL));
    assert_near(pair.latest().delay, 2.0 * REAL.way);
    assert!(pair.latest().dispersion < 5e-6, "it always takes as long: {:?}", pair.latest());
    // This one takes longer, which is on the way for all that is known.
    pair.round(Real { residence: 180e-6, ..REAL });
    assert_near(pair.latest().delay, 2.0 * REAL.way + 100e-6);
    let samples = pair.samples();
    pair.round(REAL);
    assert_near(pair.refined().0, 2.0 * REAL.way);
    assert_eq!((pair.samples(), pair.refined().1), (samples + 1, true));
    let estimate = pair.bench.report().estimate.unwrap();
    assert!(estimate.offset.abs() < 1e-6, "{estimate:?}");
}

#[test]
fn what_a_server_took_before_makes_no_new_shortest_delay() {
    let mut pair = Pair::new(SampleRules::default());
    (0..9).for_each(|_| pair.round(Real { residence: 5e-3, ..REAL }));
    pair.round(REAL);
    let sample = pair.latest();
    assert!(sample.delay > 2.0 * REAL.way - 1e-6, "{sample:?}");
    assert!(sample.offset.abs() <= sample.peer_distance(), "{sample:?}");
    // A server that was slow all along, and a round trip that is shorter than that.
    let mut pair = Pair::new(SampleRules::default());
    (0..2).for_each(|_| pair.round(Real { residence: 0.5, ..REAL }));
    pair.round(REAL);
    let sample = pair.latest();
    assert!(sample.delay > 0.0 && sample.offset.abs() <= sample.peer_distance(), "{sample:?}");
}

#[test]
fn what_is_never_told_exactly_stays() {
    // The reply is lost; the server has forgotten; it tells something that cannot be.
    for case in 0..3 {
        let mut pair = Pair::new(SampleRules::default());
        (0..9).for_each(|_| pair.round(REAL));
        let (before, good) = (pair.latest(), pair.bench.good());
        let (mut bytes, received) = pair.reply(REAL, case != 1);
        match case {
            0 => {}
            1 => pair.bench.deliver(bytes, received),
            _ => {
                bytes[40..48].copy_from_slice(&at(pair.bench.seconds - 1000.0).to_bits().to_be_bytes());
                pair.bench.deliver(bytes, received);
                assert_eq!(pair.bench.report().source.last_refusal(), Some(Refusal::ServerInterval));
                assert_eq!((pair.latest().offset, pair.bench.good()), (before.offset, good));
                pair.bench.next_request();
                assert!(!pair.asks_interleaved(), "basic mode is next");
            }
        }
        (0..5).for_each(|_| pair.round(REAL));
        let new = if case == 1 { 6 } else { 5 };
        assert_eq!((pair.bench.good(), pair.samples() as u64), (good + new, good + new), "case {case}");
        assert!(pair.bench.report().source.last_reply().unwrap().interleaved, "case {case}");
    }
}

#[test]
fn no_reply_counts_twice_and_none_of_another_request_at_all() {
    let mut pair = Pair::new(SampleRules::default());
    (0..9).for_each(|_| pair.round(REAL));
    let (old, _) = pair.reply(REAL, true);
    let (reply, received) = pair.reply(REAL, true);
    let good = pair.bench.good();
    pair.bench.deliver(old.clone(), received);
    assert_eq!((pair.bench.report().source.last_refusal(), pair.bench.good()), (Some(Refusal::Origin), good));
    pair.bench.deliver(reply.clone(), received);
    let sample = pair.latest();
    for again in [reply, old] {
        pair.bench.deliver(again, received + 0.1);
        assert_eq!(pair.bench.report().source.last_refusal(), Some(Refusal::NotAsked));
    }
    assert_eq!((pair.bench.good(), pair.latest()), (good + 1, sample));
}

#[test]
fn a_measurement_that_turns_out_unfit_takes_only_itself_back() {
    let mut pair = Pair::new(SampleRules { max_delay: 0.1, ..SampleRules::default() });
    let slow = Real { residence: 0.05, ..REAL };
    (0..9).for_each(|_| pair.round(slow));
    // As long as 0.05 s of it are the server's it may be used.
    pair.round(Real { way: 0.06, residence: 1e-3, work: 0.0 });
    let (samples, good) = (pair.samples(), pair.bench.good());
    assert_eq!(good, 10);
    pair.round(slow);
    let (delay, is_kept) = pair.refined();
    assert_near(delay, 0.12);
    assert_eq!((is_kept, pair.samples(), pair.bench.good()), (false, samples, good + 1));
    // One that is too long in any case never counts, and its exact version changes nothing.
    pair.round(Real { way: 0.2, ..slow });
    assert_eq!((pair.bench.report().source.last_refusal(), pair.samples()), (Some(Refusal::Delay), samples));
    pair.round(slow);
    assert_eq!((pair.refined().1, pair.samples(), pair.bench.good()), (false, samples + 1, good + 2));
    assert!(pair.bench.report().source.last_reply().unwrap().interleaved, "none of it is the server's fault");
}
