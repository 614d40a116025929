//! The engine against a server played by hand: which replies count, and what the others do.

use super::*;
use crate::{
    discipline::{CORRECTION_TIME_RATIO, LeapMode, MAX_UPDATE_SKEW},
    ids::{Leap, Trust},
    nts::{AeadAlgorithm, AeadKey, CookieJar, Keyring, SessionKeys},
    select::SelectOptions,
    source::{Authentication, Bursts, Refusal, SampleRules},
    steer::{ClockStatus, Foreign},
    time::PollInterval,
    wire::Header,
};

mod cookies;
mod interleaved;
mod orphan;
mod rules;
mod several;

fn at(seconds: f64) -> NtpTimestamp {
    NtpTimestamp::from_bits(4_000_000_000 << 32) + NtpDuration::from_seconds(seconds)
}

fn now(seconds: f64) -> Now {
    Now { monotonic: Monotonic::default() + Duration::from_secs_f64(seconds), clock: at(seconds) }
}

fn config() -> EngineConfig {
    EngineConfig {
        select: SelectConfig::default(),
        step_threshold: 1.0,
        step_limit: StepLimit::Updates(3),
        max_slew: Rate::from_ppm(80_000.0),
        max_frequency: Rate::from_ppm(500.0),
        max_update_skew: MAX_UPDATE_SKEW,
        correction_time_ratio: CORRECTION_TIME_RATIO,
        change_limit: None,
        notable_offset: 1.0,
        leap_mode: LeapMode::System,
        applied: Rate::ZERO,
        saved_frequency: None,
        precision: -24,
        era: UnixTime { seconds: 1_795_478_400, nanos: 0 },
        key_age: KEY_AGE,
        seed: [1; 32],
    }
}

fn plain() -> SourceConfig {
    SourceConfig {
        reference_id: ReferenceId([192, 0, 2, 1]),
        min_poll: PollInterval::new(6).unwrap(),
        max_poll: PollInterval::new(10).unwrap(),
        bursts: Bursts::Never,
        interleaved: false,
        version: 4,
        authentication: Authentication::None,
        trust: Trust::None,
        options: SelectOptions::default(),
        rules: SampleRules::default(),
    }
}

/// What a server answers.
#[derive(Clone, Copy)]
struct Answer {
    stratum: u8,
    code: [u8; 4],
    /// How far its clock is ahead, in seconds.
    offset: f64,
    /// Time on the way, each way.
    delay: f64,
    /// It answers in interleaved mode, with this much added to the time at which its last reply left.
    interleaved: Option<f64>,
    /// Its leap indicator.
    leap: u8,
}

const GOOD: Answer = Answer { stratum: 1, code: *b"GPS\0", offset: 0.0, delay: 0.001, interleaved: None, leap: 0 };

const fn kiss(code: [u8; 4]) -> Answer {
    Answer { stratum: 0, code, ..GOOD }
}

/// Deterministic bits.
struct Bits(ChaCha12Rng);

impl Bits {
    fn next(&mut self) -> u64 {
        rand_core::Rng::next_u64(&mut self.0)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.next().is_multiple_of(count)
    }
}

/// One engine with one source.
struct Bench {
    engine: Engine,
    id: SourceId,
    seconds: f64,
    /// The last request, when it left, and what names it.
    request: (Vec<u8>, f64, TxToken),
    /// When the last reply left.
    replied: f64,
    outputs: Vec<Output>,
}

impl Bench {
    fn new(source: SourceConfig) -> Self {
        Self::with(config(), source)
    }

    fn with(config: EngineConfig, source: SourceConfig) -> Self {
        let mut engine = Engine::new(config, now(0.0));
        let id = engine.add_source(source, now(0.1).monotonic).unwrap();
        let token = TxToken { source: id, sequence: 0 };
        Self { engine, id, seconds: 0.1, request: (Vec::new(), 0.0, token), replied: 0.0, outputs: Vec::new() }
    }

    /// Obeys until the engine waits; returns the deadline.
    fn drain(&mut self) -> Option<Monotonic> {
        loop {
            match self.engine.poll_output() {
                Output::Transmit(token, bytes) => {
                    self.engine.handle_transmitted(token, at(self.seconds), StampKind::Daemon, 0.0);
                    self.request = (bytes, self.seconds, token);
                }
                Output::Steer(command) => {
                    self.engine.handle_steered(&Applied { command, at: at(self.seconds) });
                    self.outputs.push(Output::Steer(command));
                }
                Output::Timeout(deadline, _) => return deadline,
                other @ (Output::NeedKeys(..) | Output::Lost(..) | Output::Notice(_)) => self.outputs.push(other),
            }
        }
    }

    /// Waits for the next request, at most a week.
    fn next_request(&mut self) {
        let last = self.request.2;
        let end = self.seconds + 7.0 * 86_400.0;
        while self.request.2 == last {
            let deadline = self.drain().expect("something to wait for");
            if self.request.2 != last {
                return;
            }
            self.seconds = self.seconds.max(deadline.since(Monotonic::default()).as_secs_f64() + 1e-6);
            assert!(self.seconds < end, "no request in a week");
            self.engine.handle_timeout(now(self.seconds));
        }
    }

    /// Lets `seconds` pass without an answer.
    fn wait(&mut self, seconds: f64) {
        let end = self.seconds + seconds;
        loop {
            let deadline = self.drain().map_or(end, |d| d.since(Monotonic::default()).as_secs_f64() + 1e-6);
            self.seconds = self.seconds.max(deadline.min(end));
            if self.seconds >= end {
                return;
            }
            self.engine.handle_timeout(now(self.seconds));
        }
    }

    /// The reply to the last request, received at `1`.
    fn reply(&mut self, answer: Answer) -> (Vec<u8>, f64) {
        let (request, sent, _) = &self.request;
        let received = sent + 2.0 * answer.delay;
        let transmit = match answer.interleaved {
            Some(error) => self.replied + error,
            None => sent + answer.delay + answer.offset,
        };
        let mut bytes = vec![0; Header::LEN];
        bytes[0] = answer.leap << 6 | 0x24;
        bytes[1] = answer.stratum;
        bytes[3] = 0_u8.wrapping_sub(24);
        bytes[12..16].copy_from_slice(&answer.code);
        bytes[16..24].copy_from_slice(&at(-100.0).to_bits().to_be_bytes());
        let origin = if answer.interleaved.is_some() { 32..40 } else { 40..48 };
        bytes[24..32].copy_from_slice(&request[origin]);
        bytes[32..40].copy_from_slice(&at(sent + answer.delay + answer.offset).to_bits().to_be_bytes());
        bytes[40..48].copy_from_slice(&at(transmit).to_bits().to_be_bytes());
        (bytes, received)
    }

    fn deliver(&mut self, mut bytes: Vec<u8>, received: f64) {
        self.seconds = self.seconds.max(received);
        self.replied = 0.5 * (self.request.1 + received);
        let info = RxInfo {
            received: at(received),
            stamp: StampKind::Daemon,
            interface: None,
            own_reference: ReferenceId([9; 4]),
        };
        self.engine.handle_datagram(now(self.seconds), self.id, &info, &mut bytes);
        self.drain();
    }

    /// Waits for a request and answers it.
    fn round(&mut self, answer: Answer) {
        self.next_request();
        let (bytes, received) = self.reply(answer);
        self.deliver(bytes, received);
    }

    fn report(&self) -> SourceReport<'_> {
        self.engine.source(now(self.seconds), self.id).unwrap()
    }

    fn good(&self) -> u64 {
        self.report().source.counts().good
    }

    fn lost(&self) -> Vec<Loss> {
        let loss = |output: &Output| if let Output::Lost(_, loss) = output { Some(*loss) } else { None };
        self.outputs.iter().filter_map(loss).collect()
    }

    fn wishes(&self) -> usize {
        self.outputs.iter().filter(|output| matches!(output, Output::NeedKeys(..))).count()
    }
}

#[test]
fn a_reply_must_return_what_only_the_request_held() {
    let mut bench = Bench::new(plain());
    bench.round(GOOD);
    assert_eq!(bench.good(), 1);
    bench.next_request();
    let (reply, received) = bench.reply(GOOD);
    let nonce = u64::from_be_bytes(bench.request.0[40..48].try_into().unwrap());
    let sent = at(bench.request.1).to_bits();
    let origins = [0, sent, at(received).to_bits(), nonce.wrapping_add(1), nonce.wrapping_sub(1), !nonce];
    for origin in origins {
        let mut forged = reply.clone();
        forged[24..32].copy_from_slice(&origin.to_be_bytes());
        bench.deliver(forged, received);
        assert_eq!(bench.report().source.last_refusal(), Some(Refusal::Origin), "{origin:x}");
    }
    assert_eq!(bench.good(), 1);
    // None of it kept the true reply out, and that counts once.
    (0..10).for_each(|_| bench.deliver(reply.clone(), received));
    assert_eq!(bench.good(), 2);
    assert_eq!(bench.report().source.refusals().get(Refusal::NotAsked), 9);
}

#[test]
fn a_thousand_bogus_packets_do_not_keep_the_true_reply_out() {
    let mut bench = Bench::new(plain());
    for round in 0..20_u32 {
        bench.next_request();
        let (reply, received) = bench.reply(GOOD);
        for index in 0..1000_u32 {
            let mut bogus = reply.clone();
            // Something else is wrong each time: the origin always, and a byte of the rest.
            bogus[24..32].copy_from_slice(&u64::from(index * 7 + round).to_be_bytes());
            bogus[(index % 24) as usize] ^= 1 << (index % 8);
            bogus.truncate(if index % 10 == 0 { (index % 48) as usize } else { 48 });
            bench.deliver(bogus, received);
        }
        bench.deliver(reply, received);
        assert_eq!(bench.good(), u64::from(round) + 1);
    }
}

#[test]
fn no_header_byte_breaks_anything() {
    for position in 0..Header::LEN {
        let mut bench = Bench::new(plain());
        for value in 0..=u8::MAX {
            bench.next_request();
            let (mut reply, received) = bench.reply(GOOD);
            reply[position] = value;
            bench.deliver(reply, received);
            let report = bench.report();
            if let Some(estimate) = report.estimate {
                assert!(estimate.offset.is_finite() && estimate.skew.is_finite(), "{position} {value} {estimate:?}");
                assert!(estimate.peer_distance >= 0.0 && estimate.root_distance >= 0.0, "{position} {value}");
            }
            if let Some(sample) = crate::filter::Filter::latest(report.source.filter()) {
                assert!(sample.delay >= 0.0 && sample.dispersion > 0.0, "{position} {value} {sample:?}");
            }
            let tracking = bench.engine.tracking(now(bench.seconds));
            assert!(tracking.frequency.get().is_finite() && tracking.skew.is_finite(), "{position} {value}");
            // What came before is not to count: a fresh start.
            if value % 16 == 15 {
                bench = Bench::new(plain());
            }
        }
    }
}

#[test]
fn nothing_that_servers_and_clocks_do_breaks_the_numbers() {
    for seed in 0..40 {
        let mut bits = Bits(ChaCha12Rng::from_seed([seed; 32]));
        let mut bench = Bench::new(SourceConfig {
            interleaved: bits.one_in(2),
            bursts: if bits.one_in(2) { Bursts::AtStart } else { Bursts::Never },
            ..plain()
        });
        for _ in 0..150 {
            bench.next_request();
            let interleaved = bits.one_in(3).then_some(0.0);
            let (mut reply, mut received) = bench.reply(Answer { interleaved, ..GOOD });
            // A few bytes of what is not the origin, or whole timestamps.
            for _ in 0..bits.next() % 3 {
                let position = [1, 2, 3, 4, 7, 8, 11, 20, 35, 36, 43, 44][(bits.next() % 12) as usize];
                reply[position] = bits.next().to_be_bytes()[0];
            }
            if bits.one_in(8) {
                reply[32..40].copy_from_slice(&bits.next().to_be_bytes());
                reply[40..48].copy_from_slice(&bits.next().to_be_bytes());
            }
            if bits.one_in(20) {
                received += 1e-3 * f64::from(bits.next().to_be_bytes()[0]);
            }
            bench.deliver(reply, received);
            if bits.one_in(50) {
                let by = NtpDuration::from_bits(bits.next().cast_signed() >> (bits.next() % 40));
                bench.engine.handle_jump(now(bench.seconds), at(bench.seconds), by);
            }
            if bits.one_in(80) {
                bench.engine.handle_interruption(now(bench.seconds));
            }
            bench.drain();
            let t = bench.engine.tracking(now(bench.seconds));
            let told =
                [t.skew, t.frequency.get(), t.residual_frequency, t.rms_offset, t.last_offset, t.update_interval];
            assert!(told.iter().all(|number| number.is_finite()), "seed {seed}: {t:?}");
            assert!(t.frequency.to_ppm().abs() <= 500.000_001, "seed {seed}: {t:?}");
            if let Some(estimate) = bench.report().estimate {
                let told = [estimate.offset, estimate.skew, estimate.frequency, estimate.jitter];
                assert!(told.iter().all(|number| number.is_finite()), "seed {seed}: {estimate:?}");
                assert!(estimate.distance() >= 0.0 && estimate.offset_deviation > 0.0, "seed {seed}: {estimate:?}");
            }
        }
    }
}

#[test]
fn absurd_fields_are_refused() {
    type Spoil = fn(&mut Vec<u8>);
    let table: [(&str, Spoil, Refusal); 9] = [
        ("version 3", |b| b[0] = 0x1c, Refusal::Mode),
        ("mode client", |b| b[0] = 0x23, Refusal::Mode),
        ("one byte short", |b| b.truncate(47), Refusal::Malformed),
        ("leap 3", |b| b[0] = 0xe4, Refusal::Unsynchronized),
        ("stratum 16", |b| b[1] = 16, Refusal::Unsynchronized),
        ("root delay 32 s", |b| b[5] = 32, Refusal::RootDistance),
        ("root dispersion 16 s", |b| b[9] = 16, Refusal::RootDistance),
        (
            "set after it answered",
            |b| b[16..24].copy_from_slice(&at(1e6).to_bits().to_be_bytes()),
            Refusal::RootDistance,
        ),
        ("sent before received", |b| b[43] = b[43].wrapping_sub(1), Refusal::ServerInterval),
    ];
    for (name, spoil, refusal) in table {
        let mut bench = Bench::new(plain());
        bench.next_request();
        let (mut reply, received) = bench.reply(GOOD);
        spoil(&mut reply);
        bench.deliver(reply, received);
        assert_eq!(bench.report().source.last_refusal(), Some(refusal), "{name}");
        assert_eq!(bench.good(), 0, "{name}");
    }
}

#[test]
fn a_refusal_to_serve_is_believed_when_repeated_and_not_forgotten_by_a_jump() {
    for code in [*b"DENY", *b"RSTR"] {
        let mut bench = Bench::new(plain());
        bench.round(kiss(code));
        bench.round(kiss(code));
        assert!(!bench.report().source.is_denied() && bench.lost().is_empty());
        bench.round(kiss(code));
        assert_eq!(bench.lost(), [Loss::Denied]);
        assert_eq!(bench.report().verdict, Verdict::Denied);
        let rests = bench.report().source.schedule().next().unwrap().since(now(bench.seconds).monotonic);
        assert!(rests.as_secs() > 23 * 3600);

        bench.engine.handle_jump(now(bench.seconds), at(bench.seconds), NtpDuration::from_seconds(0.01));
        bench.engine.handle_interruption(now(bench.seconds));
        let last = bench.request.2;
        bench.wait(3600.0);
        assert_eq!(bench.request.2, last, "left alone");
        bench.engine.refresh_source(now(bench.seconds).monotonic, bench.id, false);
        bench.wait(1.0);
        assert_ne!(bench.request.2, last, "an administrator may ask");
    }
}

#[test]
fn an_authenticated_refusal_is_believed_at_once() {
    let mut bench = Bench::new(SourceConfig { trust: Trust::Key, ..plain() });
    bench.round(kiss(*b"DENY"));
    assert_eq!(bench.lost(), [Loss::Denied]);
}

#[test]
fn a_source_that_answers_nothing_of_use_is_lost() {
    let slow = Answer { delay: 1.8, ..GOOD };
    let answers = [kiss(*b"INIT"), kiss(*b"\0\0\0\0"), kiss(*b"RATE"), Answer { stratum: 16, ..GOOD }, slow];
    for (case, answer) in answers.into_iter().enumerate() {
        let mut bench = Bench::new(plain());
        for _ in 0..20 {
            bench.round(answer);
        }
        assert_eq!(bench.lost(), [Loss::Unusable], "case {case}");
    }
    let mut silent = Bench::new(plain());
    silent.wait(3.0 * 3600.0);
    assert_eq!(silent.lost().first(), Some(&Loss::Unreachable));
    assert_eq!(silent.report().verdict, Verdict::Unreachable);
}

#[test]
fn a_source_that_says_it_is_not_synchronized_is_dropped_at_once() {
    for answer in [kiss(*b"STEP"), Answer { stratum: 16, ..GOOD }] {
        let mut bench = Bench::new(plain());
        (0..8).for_each(|_| bench.round(GOOD));
        assert_eq!(bench.report().verdict, Verdict::Selected);
        bench.round(answer);
        assert_eq!(bench.report().verdict, Verdict::Unsynchronized);
        assert_eq!(bench.engine.tracking(now(bench.seconds)).selected, None);
        bench.round(GOOD);
        assert_eq!(bench.report().verdict, Verdict::Selected);
    }
}

/// The kernel stamped the reply before the jump, or after: nobody can tell.
#[test]
fn an_exchange_across_a_jump_gives_no_sample() {
    for by in [0.4, -0.4, 2.0] {
        let mut bench = Bench::new(plain());
        (0..8).for_each(|_| bench.round(GOOD));
        bench.next_request();
        let (reply, received) = bench.reply(Answer { delay: 0.05, ..GOOD });
        let jump = NtpDuration::from_seconds(by);
        bench.engine.handle_jump(now(bench.seconds), at(bench.seconds), jump);
        let before = bench.good();
        bench.deliver(reply, received);
        assert_eq!(bench.good(), before, "{by}");
    }
}

#[test]
fn a_stopped_source_is_not_used_and_not_woken_by_a_jump() {
    let mut bench = Bench::new(plain());
    (0..8).for_each(|_| bench.round(GOOD));
    bench.engine.stop_source(now(bench.seconds), bench.id);
    assert_eq!(bench.report().state, SourceState::Offline);
    assert_eq!(bench.engine.tracking(now(bench.seconds)).selected, None);
    let last = bench.request.2;
    bench.engine.handle_jump(now(bench.seconds), at(bench.seconds), NtpDuration::from_seconds(5.0));
    bench.engine.handle_interruption(now(bench.seconds));
    bench.wait(3600.0);
    assert_eq!(bench.request.2, last);
}

#[test]
fn after_an_interruption_nothing_is_promised_until_the_next_update() {
    let mut bench = Bench::new(plain());
    (0..8).for_each(|_| bench.round(GOOD));
    assert!(bench.engine.tracking(now(bench.seconds)).synchronized);
    bench.engine.handle_interruption(now(bench.seconds));
    assert!(!bench.engine.tracking(now(bench.seconds)).synchronized);
    assert_eq!(bench.engine.status().leap, Leap::Unsynchronized);
    (0..4).for_each(|_| bench.round(GOOD));
    assert!(bench.engine.tracking(now(bench.seconds)).synchronized);
}

#[test]
fn the_expected_error_is_never_nothing_and_never_above_the_bound() {
    // The largest offset comes when the bound is already small.
    for offsets in [[0.0; 8], [0.4, 0.4, 0.41, 0.41, 0.2, 0.2, 0.2, 0.2]] {
        let mut bench = Bench::new(plain());
        for offset in offsets {
            bench.round(Answer { offset, ..GOOD });
        }
        bench.drain();
        let told = bench
            .outputs
            .iter()
            .filter_map(|output| if let Output::Steer(Steer::Status(status)) = output { Some(*status) } else { None });
        let told: Vec<ClockStatus> = told.filter(|status| status.synchronized).collect();
        assert!(told.len() >= 8, "{told:?}");
        for status in told {
            assert!(status.estimated_error > NtpDuration::ZERO, "{status:?}");
            assert!(status.estimated_error <= status.max_error, "{status:?}");
        }
    }
}

#[test]
fn broken_interleaved_mode_is_given_up() {
    let mut bench = Bench::new(SourceConfig { interleaved: true, ..plain() });
    let (mut interleaved, mut last_refused) = (0, false);
    for _ in 0..40 {
        bench.next_request();
        let asked = bench.request.0[24..32].iter().any(|byte| *byte != 0);
        interleaved += u32::from(asked);
        // It stored the times of its replies by another clock.
        let (bytes, received) = bench.reply(Answer { interleaved: asked.then_some(-10.0), ..GOOD });
        let refused = bench.report().source.refusals().get(Refusal::ServerInterval);
        bench.deliver(bytes, received);
        let refused = bench.report().source.refusals().get(Refusal::ServerInterval) > refused;
        assert!(!(refused && last_refused), "basic mode is next");
        last_refused = refused;
    }
    assert!(interleaved <= 6, "{interleaved}");
    assert!(bench.good() >= 34, "{}", bench.good());
}

#[test]
fn a_lost_interleaved_reply_costs_one_sample() {
    let mut bench = Bench::new(SourceConfig { interleaved: true, ..plain() });
    let mut asked = 0;
    for round in 0..20 {
        bench.next_request();
        let interleaved = bench.request.0[24..32].iter().any(|byte| *byte != 0);
        asked += u32::from(interleaved);
        let (bytes, received) = bench.reply(Answer { interleaved: interleaved.then_some(0.0), ..GOOD });
        if round != 10 {
            bench.deliver(bytes, received);
        }
    }
    let counts = bench.report().source.counts();
    assert_eq!((asked, counts.valid), (19, 19));
    assert!(counts.good >= 17, "{counts:?}");
    assert_eq!(counts.sent - counts.valid, 1);
}

#[test]
fn better_stamps_of_the_same_departure_count_even_late() {
    let mut bench = Bench::new(SourceConfig { interleaved: true, ..plain() });
    bench.next_request();
    let (_, sent, token) = bench.request.clone();
    // Before the program sent it, and long after: not the same packet.
    for wrong in [-0.001, 1.5] {
        bench.engine.handle_transmitted(token, at(sent + wrong), StampKind::Hardware, 0.0);
    }
    let counted = |bench: &Bench| {
        let counts = bench.report().source.counts();
        (counts.stamped_sent, counts.hardware_sent)
    };
    assert_eq!(counted(&bench), (0, 0));
    let (bytes, received) = bench.reply(GOOD);
    bench.deliver(bytes, received);
    bench.engine.handle_transmitted(token, at(sent + 1e-4), StampKind::Kernel, 0.0);
    bench.engine.handle_transmitted(token, at(sent + 2e-4), StampKind::Hardware, 0.0);
    bench.engine.handle_transmitted(token, at(sent + 3e-4), StampKind::Kernel, 0.0);
    assert_eq!(counted(&bench), (1, 1));
}

#[test]
fn a_saved_frequency_is_limited_too() {
    let saved_frequency = Some((Rate::from_ppm(9000.0), 1e-6));
    let bench = Bench::with(EngineConfig { saved_frequency, ..config() }, plain());
    assert!((bench.engine.tracking(now(0.0)).frequency.to_ppm() - 500.0).abs() < 1e-6);
}

fn session(byte: u8) -> SessionKeys {
    let key = || AeadKey::new(AeadAlgorithm::AesSivCmac256, &[byte; 32]).unwrap();
    SessionKeys { c2s: key(), s2c: key() }
}

fn nts_keys(keys: SessionKeys, fallback: Option<SessionKeys>, cookies: u8) -> NtsKeys {
    let mut jar = CookieJar::new();
    let mut cookie = [0; 256];
    for number in 0..cookies {
        let len = Keyring::new(&[3; 32]).issue(&session(7), &[number; 16], &mut cookie).unwrap();
        jar.put(&cookie[..len]);
    }
    NtsKeys { keys, fallback, cookies: jar }
}

fn nts(fallback: Option<SessionKeys>, cookies: u8) -> Bench {
    let mut bench = Bench::new(SourceConfig { authentication: Authentication::Nts, trust: Trust::Pki, ..plain() });
    bench.wait(0.1);
    bench.engine.set_keys(now(bench.seconds).monotonic, bench.id, nts_keys(session(1), fallback, cookies), Trust::Pki);
    bench.outputs.clear();
    bench
}

impl Bench {
    /// An NTS NAK to the last request: a kiss code and the unique identifier, which comes first in a request.
    fn nak(&mut self) {
        let (mut bytes, received) = self.reply(kiss(*b"NTSN"));
        bytes.extend_from_slice(&self.request.0[48..48 + 36]);
        self.deliver(bytes, received);
    }
}

#[test]
fn a_nak_is_believed_at_the_next_poll_and_brings_one_key_exchange() {
    let mut bench = nts(None, 8);
    bench.next_request();
    bench.nak();
    assert_eq!((bench.wishes(), bench.report().source.association().naks()), (0, 0), "the true reply may still come");
    bench.next_request();
    assert_eq!((bench.wishes(), bench.report().source.association().naks()), (1, 1));
    // The answer to what the old keys sealed says nothing of new ones.
    bench.nak();
    bench.engine.set_keys(now(bench.seconds).monotonic, bench.id, nts_keys(session(1), None, 8), Trust::Pki);
    bench.next_request();
    assert_eq!((bench.wishes(), bench.report().source.association().naks()), (1, 1));
}

#[test]
fn what_vouches_for_a_source_is_what_did_so_at_its_last_key_exchange() {
    let mut bench = nts(None, 8);
    for trust in [Trust::Dane, Trust::Pki, Trust::Dnssec] {
        bench.engine.set_keys(now(bench.seconds).monotonic, bench.id, nts_keys(session(1), None, 8), trust);
        assert_eq!(bench.report().source.config().trust, trust);
    }
}

#[test]
fn other_keys_are_tried_before_an_exchange_and_neither_is_lost() {
    let mut bench = nts(Some(session(2)), 8);
    let sealed_with = |bench: &Bench| {
        let keys = bench.report().source.association().nts_keys();
        keys.map(|keys| keys.keys.c2s.as_bytes().to_vec())
    };
    bench.next_request();
    bench.nak();
    bench.next_request();
    assert_eq!((bench.wishes(), sealed_with(&bench)), (0, Some(vec![2; 32])), "the other keys come first");
    bench.nak();
    bench.next_request();
    assert_eq!((bench.wishes(), sealed_with(&bench)), (1, Some(vec![1; 32])));
    // Somebody may have made up the first NAK: the others are tried again, without another exchange before its time.
    bench.nak();
    bench.next_request();
    assert_eq!(sealed_with(&bench), Some(vec![2; 32]));
}

#[test]
fn old_keys_are_wanted_anew_and_used_meanwhile() {
    let ages = |bench: &Bench| {
        let is_age = |output: &&Output| matches!(output, Output::NeedKeys(_, KeysReason::Age));
        bench.outputs.iter().filter(is_age).count()
    };
    let max_poll = PollInterval::new(6).unwrap();
    let source = SourceConfig { authentication: Authentication::Nts, trust: Trust::Pki, max_poll, ..plain() };
    let mut bench = Bench::with(EngineConfig { key_age: Duration::from_secs(128), ..config() }, source);
    bench.wait(0.1);
    for _ in 0..3 {
        bench.engine.set_keys(now(bench.seconds).monotonic, bench.id, nts_keys(session(1), None, 8), Trust::Pki);
        bench.outputs.clear();
        let born = bench.seconds;
        while ages(&bench) == 0 {
            assert_eq!(bench.wishes(), 0, "they are neither refused nor used up");
            bench.next_request();
        }
        // It is noticed when the next request is due.
        assert!((128.0..145.0 + 70.0).contains(&(bench.seconds - born)), "{}", bench.seconds - born);
        let sent = bench.report().source.counts().sent;
        bench.next_request();
        assert_eq!(bench.report().source.counts().sent, sent + 1, "the old keys stay in use");
    }
}
