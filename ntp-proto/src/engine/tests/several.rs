//! Several servers played by hand.

use super::*;

impl Bench {
    /// One engine that begins at `start` with these sources, each asked for the first time a little after the one before.
    pub(super) fn of(config: EngineConfig, start: f64, sources: Vec<SourceConfig>) -> Self {
        let mut engine = Engine::new(config, now(start));
        let mut first = start;
        for source in sources {
            first += 0.1;
            engine.add_source(source, now(first).monotonic).unwrap();
        }
        let token = TxToken { source: SourceId(1), sequence: 0 };
        let request = (Vec::new(), 0.0, token);
        Self { engine, id: token.source, seconds: start, request, replied: 0.0, outputs: Vec::new() }
    }

    /// Goes on for so many seconds, in which each source gets this answer, if any; returns who was asked, and when.
    pub(super) fn go_on(
        &mut self,
        seconds: f64,
        mut answer: impl FnMut(SourceId) -> Option<Answer>,
    ) -> Vec<(SourceId, f64)> {
        let (end, mut asked) = (self.seconds + seconds, Vec::new());
        loop {
            let mut requests = Vec::new();
            let deadline = loop {
                match self.engine.poll_output() {
                    Output::Transmit(token, bytes) => {
                        self.engine.handle_transmitted(token, at(self.seconds), StampKind::Daemon, 0.0);
                        requests.push((bytes, self.seconds, token));
                    }
                    Output::Steer(command) => {
                        self.engine.handle_steered(&Applied { command, at: at(self.seconds) });
                        self.outputs.push(Output::Steer(command));
                    }
                    Output::Timeout(deadline, _) => break deadline,
                    other @ (Output::NeedKeys(..) | Output::Lost(..) | Output::Notice(_)) => self.outputs.push(other),
                }
            };
            let mut is_idle = true;
            for request in requests {
                asked.push((request.2.source, request.1));
                (self.id, self.request) = (request.2.source, request);
                if let Some(answer) = answer(self.id) {
                    let (bytes, received) = self.reply(answer);
                    self.deliver(bytes, received);
                    is_idle = false;
                }
            }
            if is_idle {
                let next = deadline.map_or(end, |d| d.since(Monotonic::default()).as_secs_f64() + 1e-6);
                self.seconds = self.seconds.max(next.min(end));
                if self.seconds >= end {
                    return asked;
                }
                self.engine.handle_timeout(now(self.seconds));
            }
        }
    }
}

/// One that counts as authenticated.
fn trusted() -> SourceConfig {
    SourceConfig { options: SelectOptions { trust: true, ..SelectOptions::default() }, ..plain() }
}

/// The last day of 2026, in seconds from where tests begin.
const LEAP_DAY: f64 = (1_798_675_200 - (4_000_000_000_i64 - 2_208_988_800)) as f64;

#[test]
fn only_those_who_decide_on_the_time_announce_a_leap_second() {
    const WARNS: Answer = Answer { leap: 1, ..GOOD };
    let told = |sources: Vec<SourceConfig>, answers: &[Answer]| {
        let mut bench = Bench::of(config(), LEAP_DAY, sources);
        bench.go_on(200.0, |id| answers.get(id.0 as usize - 1).copied());
        assert_eq!(bench.engine.status().stratum, 2);
        bench.engine.status().leap
    };
    // The plain ones are confirmed and used, and outnumber the other.
    assert_eq!(told(vec![trusted(), plain(), plain()], &[GOOD, WARNS, WARNS]), Leap::None);
    assert_eq!(told(vec![trusted(), plain(), plain()], &[WARNS, GOOD, GOOD]), Leap::Insert);
    // Where nobody is trusted the majority counts.
    assert_eq!(told(vec![plain(), plain(), plain()], &[GOOD, WARNS, WARNS]), Leap::Insert);
    // Whoever agrees has a say, though another one's time is preferred, or its own is not good enough to be combined.
    let preferred = SourceConfig { options: SelectOptions { prefer: true, ..SelectOptions::default() }, ..plain() };
    assert_eq!(told(vec![preferred, plain(), plain()], &[GOOD, WARNS, WARNS]), Leap::Insert);
    let far = Answer { delay: 0.2, ..WARNS };
    assert_eq!(told(vec![plain(), plain(), plain()], &[GOOD, far, far]), Leap::Insert);
    // Who disagrees on the time has none.
    let wrong = Answer { offset: 0.5, ..GOOD };
    assert_eq!(told(vec![plain(), plain(), plain()], &[WARNS, wrong, WARNS]), Leap::Insert);
    assert_eq!(
        told(vec![plain(), plain(), plain(), plain()], &[GOOD, GOOD, WARNS, Answer { offset: 0.5, ..WARNS }]),
        Leap::None
    );
}

#[test]
fn an_orphan_that_is_followed_announces_a_leap_second() {
    let orphan = Answer { stratum: 10, code: [127, 127, 1, 1], leap: 1, ..GOOD };
    let mut bench = Bench::of(config(), LEAP_DAY, vec![plain()]);
    bench.engine.set_orphan_stratum(now(LEAP_DAY), Some(10));
    // Its name comes before ours.
    bench.id = SourceId(1);
    bench.engine.move_source(now(LEAP_DAY), SourceId(1), ReferenceId([1, 2, 3, 4]));
    bench.go_on(200.0, |_| Some(orphan));
    assert_eq!((bench.engine.status().stratum, bench.engine.status().leap), (11, Leap::Insert));
}

/// Four sources that have been asked for an hour, with these bursts.
fn settled(bursts: Bursts) -> Bench {
    let max_poll = PollInterval::new(10).unwrap();
    let sources = (0..4).map(|_| SourceConfig { bursts, max_poll, ..plain() }).collect();
    let mut bench = Bench::of(config(), 0.0, sources);
    bench.go_on(3600.0, |_| Some(GOOD));
    bench
}

/// How often the source that was asked most often was.
fn most(asked: &[(SourceId, f64)]) -> usize {
    (1..=4).map(|id| asked.iter().filter(|(source, _)| source.0 == id).count()).max().unwrap()
}

fn jump(bench: &mut Bench, by: f64) {
    let now = now(bench.seconds);
    bench.engine.handle_jump(now, now.clock, NtpDuration::from_seconds(by));
}

#[test]
fn after_a_jump_sources_are_soon_asked_and_not_all_at_once() {
    for (bursts, each) in [(Bursts::Never, 1), (Bursts::AtStart, 4)] {
        for slept in [false, true] {
            let mut bench = settled(bursts);
            let from = bench.seconds;
            if slept {
                bench.engine.handle_interruption(now(from));
            } else {
                jump(&mut bench, 0.0);
            }
            let asked = bench.go_on(10.0, |_| Some(GOOD));
            assert_eq!((asked.len(), most(&asked)), (4 * each, each), "{bursts:?} {slept}");
            let mut first: Vec<f64> =
                (1..=4).map(|id| asked.iter().find(|(source, _)| source.0 == id).unwrap().1 - from).collect();
            first.sort_by(f64::total_cmp);
            assert!(first[3] <= 2.1 && first.windows(2).all(|pair| pair[1] - pair[0] > 1e-3), "{first:?}");
        }
    }
}

/// How long after the first of `bench`'s sources says that the clock is off it is believed, in seconds, where some sources do not
/// answer.
fn believed_after(bench: &mut Bench, silent: &[SourceId]) -> f64 {
    let off = Answer { offset: 0.05, ..GOOD };
    let (mut first, mut seconds) = (None, bench.seconds);
    while seconds < 9000.0 {
        seconds += 0.1;
        let asked = bench.go_on(seconds - bench.seconds, |id| Some(off).filter(|_| !silent.contains(&id)));
        first = first.or_else(|| asked.iter().find(|(id, _)| !silent.contains(id)).map(|(_, at)| *at));
        if bench.engine.tracking(now(bench.seconds)).last_offset > 0.02 {
            break;
        }
    }
    bench.seconds - first.unwrap()
}

#[test]
fn a_surprise_waits_for_those_who_may_answer_and_no_longer() {
    let answering = believed_after(&mut settled(Bursts::Never), &[]);
    assert!((0.1..2.3).contains(&answering), "all are asked within 2 s: {answering}");
    let mut bench = settled(Bursts::Never);
    bench.go_on(3600.0, |id| Some(GOOD).filter(|_| id.0 > 1));
    let gone = believed_after(&mut bench, &[SourceId(1)]);
    assert!((0.1..2.3).contains(&gone), "who has not answered for an hour is not waited for: {gone}");
    let lost = believed_after(&mut settled(Bursts::Never), &[SourceId(1)]);
    assert!((0.1..4.3).contains(&lost), "nor anybody for longer than an answer takes: {lost}");
}

#[test]
fn what_another_program_may_have_done_to_the_clock_is_in_the_bound_until_sources_say() {
    for (foreign, expected) in [
        (Foreign::Frequency(Rate::from_ppm(-300.0)), 0.0192),
        (Foreign::Slew(NtpDuration::from_seconds(0.001)), 0.032),
        (Foreign::Loop(NtpDuration::ZERO), 0.532),
    ] {
        let mut bench = settled(Bursts::Never);
        let bound = |bench: &Bench| bench.engine.status().root_dispersion_at(at(bench.seconds)).to_seconds();
        let before = bound(&bench);
        bench.engine.handle_foreign(now(bench.seconds), foreign, true);
        let grown = bound(&bench) - before;
        assert!((grown - expected).abs() < 1e-6, "{foreign:?}: {grown}");
        let asked = bench.go_on(2.5, |_| Some(GOOD));
        assert_eq!((asked.len(), most(&asked)), (4, 1), "{foreign:?}");
        assert!(bound(&bench) < before + 1e-3, "{foreign:?}: {} {before}", bound(&bench));
    }
}

#[test]
fn a_clock_that_jumps_all_the_time_makes_nobody_ask_all_the_time() {
    for bursts in [Bursts::Never, Bursts::AtStart] {
        for (every, sleeps) in [(1.0, false), (1.0, true), (60.0, true)] {
            let mut bench = settled(bursts);
            let mut asked = Vec::new();
            while bench.seconds < 7200.0 {
                if sleeps {
                    bench.engine.handle_interruption(now(bench.seconds));
                } else {
                    jump(&mut bench, 0.0);
                }
                asked.extend(bench.go_on(every, |_| Some(GOOD)));
            }
            // As many in turn at the shortest interval, and as many out of turn.
            assert!(most(&asked) <= 2 * 3600 / 64 + 8, "{bursts:?} {every} {sleeps}: {}", most(&asked));
        }
    }
}

#[test]
fn nobody_is_asked_because_of_a_leap_second() {
    for mode in [LeapMode::System, LeapMode::Step] {
        let midnight = LEAP_DAY + 86_400.0;
        let sources = (0..3).map(|_| SourceConfig { bursts: Bursts::AtStart, ..plain() }).collect();
        let mut bench = Bench::of(EngineConfig { leap_mode: mode, ..config() }, midnight - 3600.0, sources);
        bench.go_on(3590.0, |_| Some(Answer { leap: 1, ..GOOD }));
        assert_eq!(bench.engine.status().leap, Leap::Insert);
        let turns: Vec<_> = bench.engine.sources(now(bench.seconds)).map(|r| r.source.schedule().next()).collect();
        bench.go_on(10.5, |_| None);
        if mode == LeapMode::System {
            jump(&mut bench, -1.0);
        }
        assert_eq!(bench.engine.status().leap, Leap::None, "it was made");
        let after = bench.engine.sources(now(bench.seconds)).map(|r| r.source.schedule().next());
        let mut waiting: Vec<_> = turns.into_iter().zip(after).collect();
        // Some may have had their turn meanwhile.
        waiting.retain(|(turn, _)| turn.is_some_and(|turn| turn > now(bench.seconds).monotonic));
        assert!(!waiting.is_empty() && waiting.iter().all(|(turn, after)| turn == after), "{waiting:?}");
    }
}

#[test]
fn a_first_reply_that_may_be_late_by_more_than_is_stepped_waits_for_others() {
    // What is measured of a clock that is right to 5 ms: a reply that was long on its way, then others.
    let late = Answer { delay: 1.4, offset: 1.39, ..GOOD };
    let others = Answer { delay: 0.03, offset: 0.005, ..GOOD };
    let begin = |bursts, first: Answer, others: Answer, step_threshold| {
        let config = EngineConfig { step_threshold, ..config() };
        let mut bench = Bench::of(config, 0.0, vec![SourceConfig { bursts, ..plain() }]);
        bench.engine.expect_sources(now(0.0), 1, Vec::new());
        let mut replies = 0;
        let mut seen = Vec::new();
        while bench.seconds < 20.0 {
            bench.go_on(0.5, |_| {
                replies += 1;
                Some(if replies == 1 { first } else { others })
            });
            seen.push((replies, bench.engine.source(now(bench.seconds), SourceId(1)).unwrap().verdict));
        }
        let is_stepped = bench.outputs.iter().any(|output| matches!(output, Output::Notice(Notice::Step(_))));
        let used = seen.iter().find(|(_, verdict)| verdict.is_used()).unwrap().0;
        let waited = seen.iter().filter(|(_, verdict)| *verdict == Verdict::Waiting).count();
        (is_stepped, used, waited > 0)
    };
    let start = Bursts::AtStart;
    assert_eq!(begin(start, late, others, 0.1), (false, 3, true));
    // What is wrong by more than that in any case is stepped at once, and what is known well enough is believed.
    let far = |answer: Answer| Answer { offset: answer.offset + 100.0, ..answer };
    assert_eq!(begin(start, far(late), far(others), 0.1), (true, 1, false));
    assert_eq!(begin(start, others, others, 0.1), (false, 1, false));
    assert_eq!(begin(start, late, late, 3.0), (false, 1, false));
    // When the first measurements are over there is nothing to wait for.
    assert_eq!(begin(start, late, late, 0.1), (true, 4, true));
    assert_eq!(begin(Bursts::Never, late, others, 0.1).1, 1);
}

#[test]
fn sources_whose_names_are_not_resolved_count_as_those_that_are_silent() {
    let awaits = |count, trust, options| vec![Awaited { count, trust, options }];
    let none = SelectOptions::default();
    let noselect = SelectOptions { noselect: true, ..none };
    let followed = |source: fn() -> SourceConfig, awaited: Vec<Awaited>| {
        let mut bench = Bench::of(config(), 0.0, vec![source()]);
        bench.engine.expect_sources(now(0.0), 4, awaited);
        bench.go_on(300.0, |_| Some(Answer { offset: 5.0, ..GOOD }));
        (bench.engine.tracking(now(bench.seconds)).selected.is_some(), bench)
    };
    let (is_followed, mut bench) = followed(plain, awaits(3, Trust::None, none));
    assert!(!is_followed && bench.engine.source(now(300.0), SourceId(1)).unwrap().verdict == Verdict::TooFew);
    // There are fewer than were wanted.
    bench.engine.expect_sources(now(bench.seconds), 4, Vec::new());
    assert!(bench.engine.tracking(now(bench.seconds)).selected.is_some());

    assert!(followed(plain, awaits(1, Trust::None, none)).0, "one of two is followed");
    assert!(followed(plain, awaits(3, Trust::None, noselect)).0, "what is only measured does not vote");
    assert!(followed(trusted, awaits(3, Trust::None, none)).0, "nor what is only confirmed");
    assert!(!followed(trusted, awaits(2, Trust::Pki, none)).0);
}
