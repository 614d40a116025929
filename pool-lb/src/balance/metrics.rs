//! What is counted, and its text for Prometheus.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Connections taken.
    Accepted,
    /// Connections refused because of what their host or network has already.
    RefusedPeer,
    /// Connections refused for want of places.
    RefusedFull,
    /// Connections refused because their turn would have come too late.
    RefusedBusy,
    /// Connections closed to make place.
    Evicted,
    /// Times that the system refused to hand out a connection.
    AcceptErrors,
    /// Connections of proxies without a proper header.
    BadProxies,
    /// Users that got cookies.
    Served,
    /// Users whose request was broken.
    BadRequests,
    /// Users that no member has anything in common with.
    NoOverlap,
    /// Users for whom no member was ready.
    NoMember,
    /// Users whose member failed after it had their keys.
    Lost,
    /// Users that did not get as far as a request.
    Unfinished,
    /// Members tried in place of others that failed.
    Failovers,
    /// Connections made to members.
    UpstreamConnections,
    /// Answers of members that were not passed on.
    Unfit,
    /// Failures that were this machine's.
    OwnFaults,
    /// Samples that the judge had no time for.
    SamplesDropped,
}

/// All counters with name, label and help.
const COUNTERS: [(Counter, &str, &str); 18] = [
    (Counter::Accepted, "connections_total{result=\"accepted\"}", "Connections of users."),
    (Counter::RefusedPeer, "connections_total{result=\"refused-peer\"}", ""),
    (Counter::RefusedFull, "connections_total{result=\"refused-full\"}", ""),
    (Counter::RefusedBusy, "connections_total{result=\"refused-busy\"}", ""),
    (Counter::Evicted, "connections_total{result=\"evicted\"}", ""),
    (Counter::AcceptErrors, "connections_total{result=\"system-error\"}", ""),
    (Counter::BadProxies, "connections_total{result=\"bad-proxy-header\"}", ""),
    (Counter::Served, "exchanges_total{result=\"served\"}", "Key exchanges of users."),
    (Counter::BadRequests, "exchanges_total{result=\"bad-request\"}", ""),
    (Counter::NoOverlap, "exchanges_total{result=\"no-overlap\"}", ""),
    (Counter::NoMember, "exchanges_total{result=\"no-member\"}", ""),
    (Counter::Lost, "exchanges_total{result=\"lost\"}", ""),
    (Counter::Unfinished, "exchanges_total{result=\"unfinished\"}", ""),
    (Counter::Failovers, "failovers_total", "Members tried in place of others that failed before they had keys."),
    (Counter::UpstreamConnections, "member_connections_total", "Connections made to members."),
    (Counter::Unfit, "unfit_answers_total", "Answers of members that were not passed on."),
    (Counter::OwnFaults, "own_faults_total", "Failures of this machine."),
    (Counter::SamplesDropped, "samples_dropped_total", "Samples of members that were not judged."),
];

/// Upper bounds of the classes of durations, in seconds.
const CLASSES: [f64; 10] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// Counters that all threads add to.
#[derive(Debug, Default)]
pub struct Metrics {
    counters: [AtomicU64; COUNTERS.len()],
    classes: [AtomicU64; CLASSES.len()],
    searches: AtomicU64,
    search_nanos: AtomicU64,
}

impl Metrics {
    /// Counts one.
    pub fn count(&self, counter: Counter) {
        if let Some(cell) = self.counters.get(counter as usize) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters.get(counter as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Takes how long a user waited for its member's answer.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        for (cell, bound) in self.classes.iter().zip(CLASSES) {
            if seconds <= bound {
                cell.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.searches.fetch_add(1, Ordering::Relaxed);
        self.search_nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The text for Prometheus (exposition format 0.0.4).
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (counter, series, help) in COUNTERS {
            if !help.is_empty() {
                let name = series.split('{').next().unwrap_or(series);
                let _ = write!(out, "# HELP nts_pool_lb_{name} {help}\n# TYPE nts_pool_lb_{name} counter\n");
            }
            let _ = writeln!(out, "nts_pool_lb_{series} {}", self.get(counter));
        }
        let name = "nts_pool_lb_member_answer_seconds";
        let _ = write!(out, "# HELP {name} From a user's request to its member's answer.\n# TYPE {name} histogram\n");
        for (cell, bound) in self.classes.iter().zip(CLASSES) {
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {}", cell.load(Ordering::Relaxed));
        }
        let count = self.searches.load(Ordering::Relaxed);
        let sum = Duration::from_nanos(self.search_nanos.load(Ordering::Relaxed)).as_secs_f64();
        let _ = write!(out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_own_series() {
        let metrics = Metrics::default();
        for (place, (counter, ..)) in COUNTERS.into_iter().enumerate() {
            assert_eq!(counter as usize, place);
            for _ in 0..=place {
                metrics.count(counter);
            }
        }
        metrics.observe(Duration::from_millis(15));
        let text = metrics.text();
        for line in [
            "nts_pool_lb_connections_total{result=\"accepted\"} 1\n",
            "nts_pool_lb_exchanges_total{result=\"lost\"} 12\n",
            "# TYPE nts_pool_lb_failovers_total counter\nnts_pool_lb_failovers_total 14\n",
            "nts_pool_lb_member_answer_seconds_bucket{le=\"0.01\"} 0\n",
            "nts_pool_lb_member_answer_seconds_bucket{le=\"0.02\"} 1\n",
            "nts_pool_lb_member_answer_seconds_sum 0.015\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert_eq!(text.matches("# TYPE").count(), 8);
    }
}
