//! What happened, counted.

use core::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

/// One thing that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Queries by UDP.
    Udp,
    /// Queries by TCP.
    Tcp,
    /// Connections by TCP.
    Connections,
    /// Connections refused because there were too many.
    Crowded,
    /// Questions for service records.
    Srv,
    /// Questions for addresses.
    Address,
    /// Questions for what certificates are pinned to.
    Tlsa,
    /// Questions for keys, and for what the parent should have of them.
    Keys,
    /// Other questions.
    Other,
    /// Answers with records.
    Answered,
    /// Answers that a name has no such records.
    NoData,
    /// Answers that a name does not exist.
    NxDomain,
    /// Answers that this is none of our business.
    Refused,
    /// Messages that are no query.
    Malformed,
    /// Answers that were cut because they were too long.
    Truncated,
    /// Answers that were cut because a prefix had too many.
    LimitedShort,
    /// Answers not given because a prefix had too many.
    LimitedDropped,
    /// Queries with a good cookie.
    GoodCookie,
    /// Zones, or their serial numbers, given to who has their key.
    Transfers,
    /// Files read again.
    Reloads,
    /// Files that could not be used.
    ReloadFailures,
}

/// Name, labels and help of each, in the order of [`Count`].
const NAMES: [(&str, &str, &str); 21] = [
    ("queries", "transport=\"udp\"", "Queries by transport."),
    ("queries", "transport=\"tcp\"", ""),
    ("connections", "outcome=\"accepted\"", "Connections by TCP."),
    ("connections", "outcome=\"crowded\"", ""),
    ("questions", "type=\"srv\"", "Questions by type."),
    ("questions", "type=\"address\"", ""),
    ("questions", "type=\"tlsa\"", ""),
    ("questions", "type=\"keys\"", ""),
    ("questions", "type=\"other\"", ""),
    ("answers", "outcome=\"records\"", "Answers by outcome."),
    ("answers", "outcome=\"nodata\"", ""),
    ("answers", "outcome=\"nxdomain\"", ""),
    ("answers", "outcome=\"refused\"", ""),
    ("answers", "outcome=\"malformed\"", ""),
    ("truncated", "", "Answers that were cut because they were too long."),
    ("limited", "outcome=\"short\"", "Answers that were withheld because a prefix had too many."),
    ("limited", "outcome=\"dropped\"", ""),
    ("cookies", "", "Queries with a good cookie."),
    ("transfers", "", "Zones, or their serial numbers, given to who has their key."),
    ("reloads", "outcome=\"done\"", "Files read again."),
    ("reloads", "outcome=\"failed\"", ""),
];

/// All counters.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; NAMES.len()]);

impl Counters {
    /// Counts one.
    pub fn add(&self, what: Count) {
        if let Some(counter) = self.0.get(what as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were.
    #[must_use]
    pub fn get(&self, what: Count) -> u64 {
        self.0.get(what as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// All of them as Prometheus reads them.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (counter, (name, label, help)) in self.0.iter().zip(NAMES) {
            let name = format!("nts_pool_srv_{name}_total");
            let mut written = Ok(());
            if !help.is_empty() {
                written = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
            }
            let label = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
            // Writing to a string does not fail.
            let _: Result<(), _> =
                written.and_then(|()| writeln!(text, "{name}{label} {}", counter.load(Ordering::Relaxed)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_their_names() {
        let counters = Counters::default();
        counters.add(Count::ReloadFailures);
        counters.add(Count::Udp);
        counters.add(Count::Udp);
        let text = counters.to_text();
        assert!(text.contains("nts_pool_srv_queries_total{transport=\"udp\"} 2\n"), "{text}");
        assert!(text.contains("nts_pool_srv_reloads_total{outcome=\"failed\"} 1\n"), "{text}");
        assert!(text.contains("# TYPE nts_pool_srv_cookies_total counter\nnts_pool_srv_cookies_total 0\n"), "{text}");
        assert_eq!(counters.get(Count::Udp), 2);
    }
}
