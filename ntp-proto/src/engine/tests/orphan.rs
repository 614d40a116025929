//! Sources that may have no better time than this machine, which calls itself 9.9.9.9.

use super::*;

const ORPHAN: Answer = Answer { stratum: 10, code: [127, 127, 1, 1], ..GOOD };

fn verdict(name: [u8; 4], answer: Answer, stratum: Option<u8>) -> (Verdict, u8) {
    let mut bench = Bench::new(SourceConfig { reference_id: ReferenceId(name), ..plain() });
    bench.engine.set_orphan_stratum(now(0.0), stratum);
    for _ in 0..4 {
        bench.round(answer);
    }
    (bench.report().verdict, bench.engine.status().stratum)
}

#[test]
fn an_orphan_is_followed_by_those_that_come_after_it() {
    assert_eq!(verdict([1, 2, 3, 4], ORPHAN, Some(10)), (Verdict::Selected, 11));
    assert_eq!(verdict([10, 2, 3, 4], ORPHAN, Some(10)), (Verdict::Orphan, 16));
    assert_eq!(
        verdict([10, 2, 3, 4], ORPHAN, None),
        (Verdict::Selected, 11),
        "it is nothing special without the setting"
    );
    // It follows another orphan, which is the one to be followed.
    assert_eq!(verdict([1, 2, 3, 4], Answer { stratum: 11, ..ORPHAN }, Some(10)), (Verdict::Orphan, 16));
    assert_eq!(verdict([10, 2, 3, 4], Answer { stratum: 9, ..ORPHAN }, Some(10)), (Verdict::Selected, 10));
}

#[test]
fn an_orphan_is_ignored_where_there_is_another_source() {
    let mut bench = Bench::new(SourceConfig { reference_id: ReferenceId([1, 2, 3, 4]), ..plain() });
    bench.engine.set_orphan_stratum(now(0.0), Some(10));
    bench.round(ORPHAN);
    assert_eq!(bench.engine.status().stratum, 11);
    let orphan = bench.id;
    bench.id = bench.engine.add_source(plain(), now(bench.seconds).monotonic).unwrap();
    while bench.good() < 2 {
        bench.next_request();
        bench.id = bench.request.2.source;
        let answer = if bench.id == orphan { ORPHAN } else { GOOD };
        let (bytes, received) = bench.reply(answer);
        bench.deliver(bytes, received);
        bench.id = SourceId(orphan.0 + 1);
    }
    assert_eq!((bench.report().verdict, bench.engine.status().stratum), (Verdict::Selected, 2));
    bench.id = orphan;
    assert_eq!(bench.report().verdict, Verdict::Orphan);
}
