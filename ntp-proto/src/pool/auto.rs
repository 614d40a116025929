//! Which mode a name turns out to need, when nobody said so.
//!
//! Service records that DNSSEC vouches for come first, then a key exchange with the name itself, then plain NTP, and
//! that only where nothing is lost by it. This is the table alone: whoever runs the modes shows it every answer.

use super::{Answer, Failure};

/// A way from a name to its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// Service records.
    Srv,
    /// Key exchange with the name itself.
    Lb,
    /// Plain NTP.
    Classic,
}

impl Route {
    /// Whether the servers on it are authenticated.
    #[must_use]
    pub const fn is_nts(self) -> bool {
        match self {
            Self::Srv | Self::Lb => true,
            Self::Classic => false,
        }
    }

    /// The word for it: that of the mode.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Srv => "srv",
            Self::Lb => "lb",
            Self::Classic => "classic",
        }
    }

    /// The route that [`label`](Self::label) stands for.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        [Self::Srv, Self::Lb, Self::Classic].into_iter().find(|route| route.label() == label)
    }
}

/// What the administrator wants of NTS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NtsPolicy {
    /// Wherever it is offered.
    Auto,
    /// Always.
    Require,
    /// Never.
    Off,
}

/// What follows from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The route works: keep it, and remember that it did.
    Keep(Route),
    /// Nothing follows: ask again later on the same route.
    Wait,
    /// The route leads nowhere: try this one.
    Try(Route),
}

/// The route to begin with. What is remembered does not shorten the way: a name may have gained service records since.
#[must_use]
pub const fn first(policy: NtsPolicy) -> Route {
    match policy {
        NtsPolicy::Auto | NtsPolicy::Require => Route::Srv,
        NtsPolicy::Off => Route::Classic,
    }
}

/// What follows from the `answer` to a question asked on route `at`. `remembered` is the last [`Step::Keep`] of this
/// name, in this run or an earlier one.
#[must_use]
pub fn next(policy: NtsPolicy, remembered: Option<Route>, at: Route, answer: &Answer) -> Step {
    match (at, answer) {
        (Route::Srv, Answer::Services { .. }) => Step::Keep(Route::Srv),
        // Only the proof that there is no record may lead on: an attacker can make everything else.
        (Route::Srv, Answer::NoRecord) => Step::Try(Route::Lb),
        (Route::Lb, Answer::KeyExchange(_)) => Step::Keep(Route::Lb),
        // That nobody listens at its port is all that a host without NTS ever says of it.
        (Route::Lb, Answer::Failed(Failure::Connect)) if may_go_plain(policy, remembered) => Step::Try(Route::Classic),
        (Route::Classic, Answer::Addresses { .. }) => Step::Keep(Route::Classic),
        (
            Route::Srv | Route::Lb | Route::Classic,
            Answer::Addresses { .. }
            | Answer::KeyExchange(_)
            | Answer::Services { .. }
            | Answer::NoRecord
            | Answer::Failed(_)
            | Answer::Insecure
            | Answer::Bogus,
        ) => Step::Wait,
    }
}

fn may_go_plain(policy: NtsPolicy, remembered: Option<Route>) -> bool {
    policy == NtsPolicy::Auto && !remembered.is_some_and(Route::is_nts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::Trust,
        pool::{Name, Negotiated, Service},
        time::Monotonic,
    };

    const POLICIES: [NtsPolicy; 3] = [NtsPolicy::Auto, NtsPolicy::Require, NtsPolicy::Off];
    const ROUTES: [Route; 3] = [Route::Srv, Route::Lb, Route::Classic];

    fn answers() -> Vec<Answer> {
        let target = Name::parse("a.example").unwrap();
        let until = Monotonic::default();
        let address = "192.0.2.1:123".parse().unwrap();
        let mut all = vec![
            Answer::Addresses { addresses: vec![address], until },
            Answer::KeyExchange(Negotiated {
                ntp_server: "a.example".into(),
                addresses: vec![address],
                trust: Trust::Pki,
            }),
            Answer::Services { records: vec![Service { priority: 0, weight: 0, port: 4460, target }], until },
            Answer::NoRecord,
            Answer::Insecure,
            Answer::Bogus,
        ];
        let failures = [
            Failure::Resolver,
            Failure::Network,
            Failure::Connect,
            Failure::Tls,
            Failure::Protocol,
            Failure::Unsupported,
        ];
        all.extend(failures.map(Answer::Failed));
        all
    }

    #[test]
    fn the_whole_table_holds() {
        for policy in POLICIES {
            for remembered in [None, Some(Route::Srv), Some(Route::Lb), Some(Route::Classic)] {
                for at in ROUTES {
                    for answer in answers() {
                        let step = next(policy, remembered, at, &answer);
                        let never_nts = remembered.is_none_or(|route| route == Route::Classic);
                        let expected = match (at, &answer) {
                            (Route::Srv, Answer::Services { .. }) => Step::Keep(Route::Srv),
                            (Route::Srv, Answer::NoRecord) => Step::Try(Route::Lb),
                            (Route::Lb, Answer::KeyExchange(_)) => Step::Keep(Route::Lb),
                            (Route::Lb, Answer::Failed(Failure::Connect)) if policy == NtsPolicy::Auto && never_nts => {
                                Step::Try(Route::Classic)
                            }
                            (Route::Classic, Answer::Addresses { .. }) => Step::Keep(Route::Classic),
                            _ => Step::Wait,
                        };
                        assert_eq!(step, expected, "{policy:?} {remembered:?} {at:?} {answer:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn no_answer_leads_a_name_that_had_nts_to_plain_ntp() {
        for policy in [NtsPolicy::Auto, NtsPolicy::Require] {
            for remembered in [Route::Srv, Route::Lb] {
                let mut reached = vec![first(policy)];
                for _ in ROUTES {
                    for at in reached.clone() {
                        for answer in answers() {
                            if let Step::Try(route) = next(policy, Some(remembered), at, &answer) {
                                reached.push(route);
                            }
                        }
                    }
                    reached.dedup();
                }
                assert!(reached.iter().all(|route| route.is_nts()), "{reached:?}");
            }
        }
    }

    #[test]
    fn labels_are_read_back() {
        for route in ROUTES {
            assert_eq!(Route::from_label(route.label()), Some(route));
        }
        assert_eq!(Route::from_label("auto"), None);
    }

    #[test]
    fn without_nts_nothing_but_plain_ntp_is_tried() {
        assert_eq!(first(NtsPolicy::Off), Route::Classic);
        for answer in answers() {
            assert!(!matches!(next(NtsPolicy::Off, None, Route::Classic, &answer), Step::Try(_)));
        }
    }
}
