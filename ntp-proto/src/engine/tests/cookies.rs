//! A source that has used up its cookies.

use super::*;

#[test]
fn a_source_out_of_cookies_is_missed_and_lost() {
    let mut bench = nts(None, 1);
    bench.wait(24.0 * 3600.0);
    let report = bench.report();
    assert_eq!(report.state, SourceState::NoKeys);
    assert_eq!(report.verdict, Verdict::Unreachable);
    assert_eq!(report.source.counts().sent, 1);
    assert_eq!(bench.lost().first(), Some(&Loss::Unreachable));
    let before = bench.wishes();
    // Wishes back off, until somebody asks.
    assert!(before <= 14);
    bench.engine.refresh_source(now(bench.seconds).monotonic, bench.id, false);
    bench.wait(1.0);
    assert_eq!(bench.wishes(), before + 1);
}
