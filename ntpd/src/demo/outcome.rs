//! What came of it, and whether that is what the mode promises.

use std::{fmt::Write as _, net::SocketAddr};

use ntp_proto::{select::Verdict, time::NtpDuration};
use serde::Serialize;

use super::plan::{Plan, SERVERS, address};
use crate::{client::Client, observe::report::SourceRow};

/// The clock must be this near to true time at the end, in seconds.
pub(super) const GOAL: f64 = 1e-3;

/// The result, as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Outcome {
    /// The mode in force.
    mode: String,
    /// What vouches for every member.
    trust: &'static str,
    clock_error_seconds: f64,
    liar_rejected: bool,
    pub(super) passed: bool,
    /// What does not hold of that which the mode promises.
    failures: Vec<String>,
    members: Vec<Member>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Member {
    name: String,
    address: Option<SocketAddr>,
    trust: String,
    offset_seconds: Option<f64>,
    verdict: String,
    liar: bool,
    #[serde(skip)]
    rejected: bool,
}

impl Outcome {
    /// Looks at a client at the end.
    pub(super) fn of(plan: &Plan, client: &mut Client) -> Self {
        let error = true_error(client);
        let members =
            client.sources().sources.into_iter().filter(|row| row.judged.source.address.is_some()).map(Member::of);
        let mut members: Vec<_> = members.collect();
        members.sort_by_key(|member| member.address);
        Self::judge(plan, client.modes().join(", "), error, members)
    }

    fn judge(plan: &Plan, mode: String, clock_error_seconds: f64, members: Vec<Member>) -> Self {
        let trust = plan.trust.name();
        let liar_rejected = members.iter().any(|member| member.liar && member.rejected);
        let mut failures = Vec::new();
        if mode != plan.outcome {
            failures.push(format!("the mode is {mode}, not {}", plan.outcome));
        }
        let mut addresses: Vec<_> = members.iter().map(|member| member.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.len() != usize::from(SERVERS) || members.len() != addresses.len() {
            failures.push(format!("{} members at {} addresses, not {SERVERS}", members.len(), addresses.len()));
        }
        for member in members.iter().filter(|member| member.trust != trust) {
            failures.push(format!("{} is vouched for by {}, not {trust}", member.name, member.trust));
        }
        if !liar_rejected {
            failures.push("the liar is not rejected".to_owned());
        }
        for member in members.iter().filter(|member| member.rejected && !member.liar) {
            failures.push(format!("{} is rejected and does not lie", member.name));
        }
        // Not a number is no good either.
        if !matches!(clock_error_seconds.abs().partial_cmp(&GOAL), Some(std::cmp::Ordering::Less)) {
            failures.push(format!("the clock is off by {clock_error_seconds:+.6} s, not less than {GOAL} s"));
        }
        let passed = failures.is_empty();
        Self { mode, trust, clock_error_seconds, liar_rejected, passed, failures, members }
    }

    /// For people.
    pub(super) fn to_text(&self) -> String {
        let mut text =
            format!("\n{:<15} {:<10} {:<7} {:>12}  {}\n", "member", "address", "trust", "offset", "what is made of it");
        for member in &self.members {
            let offset = member.offset_seconds.map_or_else(|| "-".into(), |offset| format!("{offset:+.6} s"));
            let address = member.address.map(|address| address.ip().to_string()).unwrap_or_default();
            let liar = if member.liar { "  <- the liar" } else { "" };
            let Member { name, trust, verdict, .. } = member;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<15} {address:<10} {trust:<7} {offset:>12}  {verdict}{liar}");
        }
        let _ = writeln!(
            text,
            "\nmode {}; clock off by {:+.1} us (wanted: less than {} us)",
            self.mode,
            self.clock_error_seconds * 1e6,
            GOAL * 1e6
        );
        for failure in &self.failures {
            let _ = writeln!(text, "wrong: {failure}");
        }
        text.push_str(if self.passed { "passed\n" } else { "FAILED\n" });
        text
    }
}

impl Member {
    fn of(row: SourceRow) -> Self {
        let ip = row.judged.source.address.map(|address| address.ip());
        Self {
            name: row.judged.source.name,
            address: row.judged.source.address,
            trust: row.judged.trust,
            offset_seconds: row.offset_seconds,
            verdict: row.judged.reason,
            liar: ip == Some(address(SERVERS).into()),
            rejected: row.judged.verdict == Verdict::Falseticker.name(),
        }
    }
}

/// How far the client's clock is ahead of true time, in seconds.
pub(super) fn true_error(client: &mut Client) -> f64 {
    client.clock_mut().true_error().map_or(f64::NAN, NtpDuration::to_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PoolModeName;

    fn member(number: u8) -> Member {
        Member {
            name: super::super::plan::host(number),
            address: Some(SocketAddr::new(address(number).into(), 123)),
            trust: "dane".to_owned(),
            offset_seconds: Some(0.0),
            verdict: String::new(),
            liar: number == SERVERS,
            rejected: number == SERVERS,
        }
    }

    #[test]
    fn whatever_does_not_hold_is_told() {
        let plan = Plan::of(PoolModeName::Auto);
        let all = || (1..=SERVERS).map(member).collect::<Vec<_>>();
        let failures = |mode: &str, error, members| {
            let outcome = Outcome::judge(&plan, mode.to_owned(), error, members);
            assert_eq!(outcome.passed, outcome.failures.is_empty());
            outcome.failures
        };
        let good = "auto (srv)";
        assert_eq!(failures(good, -0.000_9, all()), Vec::<String>::new());
        assert_eq!(failures("auto (lb)", 0.0, all()), ["the mode is auto (lb), not auto (srv)"]);
        for error in [0.001, -0.001, f64::NAN, f64::INFINITY] {
            assert!(matches!(&failures(good, error, all())[..], [one] if one.starts_with("the clock is off by")));
        }
        assert_eq!(failures(good, 0.0, all().split_off(1)), ["3 members at 3 addresses, not 4"]);
        let mut twice = all();
        twice[0] = member(2);
        assert_eq!(failures(good, 0.0, twice), ["4 members at 3 addresses, not 4"]);
        let mut weak = all();
        weak[1].trust = "dnssec".to_owned();
        assert_eq!(failures(good, 0.0, weak), ["ntp2.pool.demo is vouched for by dnssec, not dane"]);
        let mut believed = all();
        believed[3].rejected = false;
        assert_eq!(failures(good, 0.0, believed), ["the liar is not rejected"]);
        let mut outvoted = all();
        outvoted[0].rejected = true;
        assert_eq!(failures(good, 0.0, outvoted), ["ntp1.pool.demo is rejected and does not lie"]);
        assert_eq!(
            failures("auto", f64::NAN, vec![]),
            [
                "the mode is auto, not auto (srv)",
                "0 members at 0 addresses, not 4",
                "the liar is not rejected",
                "the clock is off by NaN s, not less than 0.001 s"
            ]
        );
    }
}
