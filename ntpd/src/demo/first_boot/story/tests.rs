use ntp_proto::bootstrap::{Distrust, Standing};

use super::*;
use crate::demo::first_boot::outcome::Outcome;

const NEEDED: usize = 3;

fn view(seconds: u64, state: State, agreeing: usize, error: f64) -> View {
    let missing = match state {
        State::Verified => Missing::Nothing,
        State::Unknown | State::Provisional => Missing::Operators { agreeing, needed: NEEDED, all: OPERATORS.len() },
    };
    let standing = Standing::Untrusted(Distrust::BehindFloor);
    let report = Report { state, standing, deferred: state == State::Unknown, earliest: 0, missing };
    let operators = vec![Known::default(); OPERATORS.len()];
    #[expect(clippy::cast_possible_truncation, reason = "some years")]
    let clock = TRUE + error as i64;
    View { elapsed: Duration::from_secs(seconds), report: Some(report), error, clock, operators }
}

/// What each operator has shown when all have given keys and answered.
fn all_answer(mut view: View) -> View {
    for (operator, known) in view.operators.iter_mut().enumerate() {
        *known = Known {
            window: Some(life(operator)),
            has_keys: true,
            says: Some(said(operator)),
            used: true,
            problem: None,
        };
    }
    view
}

/// The same when the impostor is refused.
fn impostor_refused(view: View) -> View {
    let mut view = all_answer(view);
    let last = view.operators.last_mut().unwrap();
    *last = Known {
        has_keys: false,
        says: None,
        used: false,
        problem: Some("certificate expired".to_owned()),
        ..last.clone()
    };
    view
}

const BEHIND: f64 = -300.0 * 86_400.0;

fn whole_story() -> (Story, Vec<String>) {
    let mut story = Story::default();
    let mut lines = Vec::new();
    for view in [
        view(0, State::Unknown, 0, BEHIND),
        all_answer(view(1, State::Unknown, 0, BEHIND)),
        all_answer(view(2, State::Unknown, 2, BEHIND)),
        view(3, State::Provisional, 0, 0.000_1),
        impostor_refused(view(4, State::Provisional, 0, 0.000_1)),
        impostor_refused(view(7, State::Verified, 0, 0.000_1)),
        impostor_refused(view(8, State::Verified, 0, 0.000_1)),
    ] {
        lines.extend(story.tell(&view));
    }
    (story, lines)
}

#[test]
fn each_thing_is_told_once_and_in_order() {
    let (story, lines) = whole_story();
    let text = lines.join("\n");
    let mut rest = text.as_str();
    for words in [
        "UNKNOWN: the clock was earlier than a time that has passed",
        "0 of 3 needed, 5 are configured",
        "time.alder.demo has given keys; it may be any time from",
        "time.fir.demo, the impostor, says that it is",
        "2 of 3 needed",
        "PROVISIONAL: ",
        "The clock is set, once, by +25920000.0 s",
        "time.alder.demo has given keys; its certificate is valid at the time that was agreed on",
        "time.fir.demo, the impostor, is refused: certificate expired",
        "VERIFIED: ",
    ] {
        let at = rest.find(words).unwrap_or_else(|| panic!("{words:?} is not in what follows: {rest}"));
        rest = &rest[at + words.len()..];
    }
    assert_eq!(text.matches("time.birch.demo has given keys").count(), 2, "once in each state: {text}");
    assert_eq!(text.matches("the impostor, is refused").count(), 1);
    assert_eq!((story.steps, story.reached(State::Verified)), (1, Some(Duration::from_secs(7))));
}

#[test]
fn whatever_does_not_hold_is_a_failure() {
    let (story, _) = whole_story();
    let failures = |last: &View| {
        let outcome = serde_json::to_value(Outcome::of(&story, last)).unwrap();
        assert_eq!(outcome["passed"], outcome["failures"].as_array().unwrap().is_empty());
        outcome["failures"].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let good = impostor_refused(view(17, State::Verified, 0, -0.000_9));
    assert_eq!(failures(&good), Vec::<String>::new());
    assert!(Outcome::of(&story, &good).to_text().ends_with("passed\n"));
    assert_eq!(failures(&impostor_refused(view(17, State::Provisional, 2, 0.0))), ["the time is not verified"]);
    assert_eq!(failures(&all_answer(view(17, State::Verified, 0, 0.0))), ["the impostor is not rejected"]);
    for error in [0.001, -0.001, f64::NAN] {
        let failures = failures(&impostor_refused(view(17, State::Verified, 0, error)));
        assert!(matches!(&failures[..], [one] if one.starts_with("the clock is off by")), "{failures:?}");
    }
    let mut refused = good;
    refused.operators[0].problem = Some("expired".to_owned());
    assert_eq!(failures(&refused), ["time.alder.demo is refused and is no impostor"]);
    let nothing = serde_json::to_value(Outcome::of(&Story::default(), &refused)).unwrap();
    let failures = nothing["failures"].as_array().unwrap();
    assert!(failures.iter().any(|one| one == "the clock was set 0 times, not once"), "{failures:?}");
}
