//! The verdict on members, as the balancer publishes it and the DNS server and other balancers read it.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::file::read;

/// Seconds after which a report says nothing any more: what was true then need not be true now.
pub const MAX_REPORT_AGE: u64 = 900;

/// How a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It serves.
    #[default]
    Up,
    /// It failed lately; it gets a small share.
    Suspect,
    /// It does not serve, or serves wrong time.
    Down,
    /// Its operator takes it out.
    Draining,
}

/// One member in a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemberHealth {
    /// How it is.
    pub state: Health,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// Its clock against that of the judge in seconds, positive if it is ahead; the last that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset_seconds: Option<f64>,
    /// Why it is not up, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A published verdict: a JSON document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HealthReport {
    /// When it was made, in seconds since 1970.
    pub made_at: u64,
    /// The members by name.
    pub members: BTreeMap<String, MemberHealth>,
}

impl HealthReport {
    /// Takes a report from its JSON text; `None` if it is none.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Reads a report from a file; `None` if there is none.
    #[must_use]
    pub fn load(path: &Path) -> Option<Self> {
        Self::from_json(&read(path).ok()?)
    }

    /// The report as JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// What it says of a member at a time in seconds since 1970. An old report, one from the future and one that does
    /// not know the member say that it is up: absence of a report never empties a pool.
    #[must_use]
    pub fn state(&self, name: &str, now: u64) -> Health {
        if now.abs_diff(self.made_at) > MAX_REPORT_AGE {
            return Health::Up;
        }
        self.members.get(name).map_or(Health::Up, |member| member.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> HealthReport {
        let member = |state| MemberHealth { state, since: 900, offset_seconds: None, reason: None };
        let members = [("a.example", Health::Down), ("b.example", Health::Suspect)];
        let members = members.map(|(name, state)| (name.to_owned(), member(state)));
        HealthReport { made_at: 1_000, members: members.into() }
    }

    #[test]
    fn reports_survive_the_round_trip_and_rubbish_is_none() {
        let report = report();
        assert_eq!(HealthReport::from_json(&report.to_json()), Some(report.clone()));
        assert!(report.to_json().contains("\"state\": \"down\""), "{}", report.to_json());
        for rubbish in ["", "{}", "[1]", "{\"made-at\": -1, \"members\": {}}"] {
            assert_eq!(HealthReport::from_json(rubbish), None, "{rubbish}");
        }
    }

    #[test]
    fn old_reports_and_unknown_members_are_no_verdict() {
        let report = report();
        assert_eq!(report.state("a.example", 1_000), Health::Down);
        assert_eq!(report.state("b.example", 1_000 + MAX_REPORT_AGE), Health::Suspect);
        assert_eq!(report.state("a.example", 1_001 + MAX_REPORT_AGE), Health::Up);
        assert_eq!(report.state("a.example", 0), Health::Up);
        assert_eq!(report.state("c.example", 1_000), Health::Up);
    }
}
