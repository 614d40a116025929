//! Every table and its JSON, to the letter.

use std::{fs, path::Path};

use ntp_proto::counters::ServerCounters;

use super::*;
use crate::observe::{
    ControlCounters, KeCounters,
    report::{
        AuthDataRow, Judged, LeapFileReport, Measurement, NtpDataReport, NtpDataRow, NtpServerCounters, PoolMember,
        PoolRow, Reply as ServerReply, SelectDataRow, ServerStatsReport, SourceRow, SourceStatsRow, StampWord,
        TimeReport, TimeState, tests::Bench,
    },
};

/// Compares with `golden/NAME.txt` and `golden/NAME.json`; with `NTPD_BLESS` set, writes them.
fn golden(name: &str, reply: &Reply) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/observe/table/golden");
    for (extension, text) in [("txt", render(reply, false)), ("json", reply.to_json().unwrap() + "\n")] {
        let file = directory.join(format!("{name}.{extension}"));
        if std::env::var_os("NTPD_BLESS").is_some() {
            fs::create_dir_all(&directory).unwrap();
            fs::write(&file, &text).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(text == expected, "{} differs; it is now\n{text}", file.display());
    }
}

fn source(name: &str, number: u8, pool: Option<&str>) -> SourceName {
    SourceName {
        name: name.to_owned(),
        address: (number > 0).then(|| ([192, 0, 2, number], 123).into()),
        pool: pool.map(str::to_owned),
        refclock: None,
    }
}

fn tracking_report() -> TrackingReport {
    TrackingReport {
        synchronized: true,
        reference_id: "C0000201".to_owned(),
        reference: Some(source("ntp1.example", 1, None)),
        stratum: 2,
        reference_time_unix_seconds: Some(1_795_478_400.25),
        pending_seconds: 0.000_006_523,
        last_offset_seconds: 0.000_006_747,
        rms_offset_seconds: 0.000_035_822,
        frequency_ppm: 3.225,
        residual_frequency_ppm: 0.000_2,
        skew_ppm: 0.129,
        root_delay_seconds: 0.013_639_022,
        root_dispersion_seconds: 0.001_100_737,
        update_interval_seconds: 64.2,
        updates: 17,
        leap: LeapWord::Normal,
        reason: None,
        time: None,
        local_stratum: None,
        leap_file: None,
    }
}

#[test]
fn tracking() {
    golden("tracking", &Reply::Tracking(tracking_report()));
}

#[test]
fn tracking_of_a_clock_that_follows_nothing() {
    let report = TrackingReport {
        synchronized: false,
        reference_id: "00000000".to_owned(),
        reference: None,
        stratum: 16,
        reference_time_unix_seconds: None,
        pending_seconds: -0.5,
        last_offset_seconds: 0.0,
        rms_offset_seconds: 0.0,
        frequency_ppm: -12.5,
        residual_frequency_ppm: 0.0,
        skew_ppm: 2000.0,
        root_delay_seconds: 0.0,
        root_dispersion_seconds: 0.0,
        update_interval_seconds: 0.0,
        updates: 0,
        leap: LeapWord::NotSynchronized,
        reason: Some("the only source, ntp1.example, cannot be used: does not answer".to_owned()),
        time: Some(TimeReport {
            state: TimeState::Unknown,
            distrust: Some("this machine has no hardware clock".to_owned()),
            dates_deferred: true,
            earliest_unix_seconds: 1_795_478_400,
            missing: Some("operators that agree on the time: 1 of 2 needed, 3 are configured".to_owned()),
        }),
        local_stratum: None,
        leap_file: None,
    };
    golden("tracking-unsynchronized", &Reply::Tracking(report));
}

#[test]
fn tracking_of_a_verified_time() {
    let time = TimeReport {
        state: TimeState::Verified,
        distrust: Some("the clock was earlier than a time that has passed".to_owned()),
        dates_deferred: false,
        earliest_unix_seconds: 1_795_478_400,
        missing: None,
    };
    golden("tracking-verified", &Reply::Tracking(TrackingReport { time: Some(time), ..tracking_report() }));
}

#[test]
fn tracking_with_a_file_of_leap_seconds() {
    let file = LeapFileReport {
        path: "/usr/share/zoneinfo/leap-seconds.list".to_owned(),
        expires_unix_seconds: Some(1_814_140_800),
        expired: false,
        fault: None,
    };
    let text = |file: &LeapFileReport| {
        let report = TrackingReport { leap_file: Some(file.clone()), ..tracking_report() };
        render(&Reply::Tracking(report), false).lines().find(|line| line.starts_with("Leap file")).unwrap().to_owned()
    };
    assert_eq!(text(&file), "Leap file       : good until Mon Jun 28 00:00:00 2027");
    let expired = LeapFileReport { expired: true, ..file.clone() };
    assert_eq!(
        text(&expired),
        "Leap file       : expired on Mon Jun 28 00:00:00 2027; sources say when leap seconds come"
    );
    let unread =
        LeapFileReport { expires_unix_seconds: None, expired: true, fault: Some("/x: gone".to_owned()), ..file };
    assert_eq!(text(&unread), "Leap file       : not read; sources say when leap seconds come (/x: gone)");
    golden("tracking-leap-file", &Reply::Tracking(TrackingReport { leap_file: Some(expired), ..tracking_report() }));
}

fn judged(source: SourceName, state: char, verdict: &str, trust: &str, reason: &str) -> Judged {
    let [verdict, trust, reason] = [verdict, trust, reason].map(str::to_owned);
    Judged { source, state, verdict, trust, reason }
}

fn source_row(source: SourceName, state: char, verdict: &str, trust: &str, reason: &str) -> SourceRow {
    SourceRow {
        judged: judged(source, state, verdict, trust, reason),
        asked: Asked::Online,
        last_refusal: None,
        stratum: Some(1),
        poll_log2_seconds: 6,
        reach: 0o377,
        last_reply_age_seconds: Some(23.4),
        offset_seconds: Some(0.000_923),
        measured_offset_seconds: Some(0.000_924),
        error_seconds: Some(0.043),
    }
}

fn silent(row: SourceRow, asked: Asked) -> SourceRow {
    SourceRow {
        asked,
        stratum: None,
        reach: 0,
        last_reply_age_seconds: None,
        offset_seconds: None,
        measured_offset_seconds: None,
        error_seconds: None,
        ..row
    }
}

#[test]
fn sources() {
    let pool = Some("pool.example");
    let liar = source_row(source("liar.example", 3, None), 'x', "falseticker", "none", "disagrees with the majority");
    let waiting = "waits for keys; key exchange failed: certificate expired on 2026-11-01";
    let waiting =
        source_row(source("a-very-long-name-of-a-server.pool.example", 4, pool), '?', "no-samples", "pki", waiting);
    let lost = source_row(source("lost.example", 0, None), '?', "no-samples", "none", "the name does not exist");
    let report = SourcesReport {
        sources: vec![
            source_row(source("ntp1.example", 1, None), '*', "selected", "dane", "best source"),
            source_row(source("ntp2.example", 2, pool), '+', "combined", "pki", "agrees; combined with the best"),
            SourceRow {
                stratum: Some(3),
                poll_log2_seconds: 10,
                reach: 0o17,
                last_reply_age_seconds: Some(1500.0),
                offset_seconds: Some(-0.5),
                measured_offset_seconds: Some(-12.5),
                error_seconds: Some(0.000_000_134),
                last_refusal: Some("forged".to_owned()),
                ..liar
            },
            silent(waiting, Asked::NoKeys),
            silent(SourceRow { poll_log2_seconds: 0, ..lost }, Asked::Unresolved),
        ],
    };
    let reply = Reply::Sources(report);
    golden("sources", &reply);
    let numeric = render(&reply, true);
    assert!(numeric.contains("^* 192.0.2.1  ") && numeric.contains("^? lost.example  "), "{numeric}");
}

#[test]
fn sourcestats() {
    let report = SourceStatsReport {
        sources: vec![
            SourceStatsRow {
                source: source("ntp1.example", 1, None),
                samples: 11,
                runs: 5,
                span_seconds: 46.0 * 60.0,
                frequency_ppm: Some(0.001),
                skew_ppm: Some(0.045),
                offset_seconds: Some(-0.000_001),
                deviation_seconds: Some(0.000_025),
            },
            SourceStatsRow {
                source: source("ntp2.example", 2, None),
                samples: 0,
                runs: 0,
                span_seconds: 0.0,
                frequency_ppm: None,
                skew_ppm: None,
                offset_seconds: None,
                deviation_seconds: None,
            },
        ],
    };
    golden("sourcestats", &Reply::SourceStats(report));
}

#[test]
fn selectdata() {
    let none = Options { noselect: false, prefer: false, trust: false, require: false };
    let row = SelectDataRow {
        judged: judged(source("ntp1.example", 1, None), '*', "selected", "pki", "best source"),
        authenticated: true,
        configured: Options { prefer: true, require: true, ..none },
        effective: Options { prefer: true, require: true, trust: true, ..none },
        last_sample_age_seconds: Some(5.0),
        low_seconds: Some(-0.001_234),
        high_seconds: Some(0.001_534),
        leap: LeapWord::Normal,
    };
    let report = SelectDataReport {
        sources: vec![
            row.clone(),
            SelectDataRow {
                judged: judged(source("ntp2.example", 2, None), 'M', "unreachable", "none", "does not answer"),
                authenticated: false,
                configured: Options { noselect: true, ..none },
                effective: Options { noselect: true, ..none },
                last_sample_age_seconds: None,
                low_seconds: None,
                high_seconds: None,
                leap: LeapWord::NotSynchronized,
            },
        ],
    };
    golden("selectdata", &Reply::SelectData(report));
}

#[test]
fn authdata() {
    let plain = AuthDataRow {
        source: source("ntp1.example", 1, None),
        mode: AuthMode::None,
        trust: "none".to_owned(),
        key_id: None,
        algorithm: None,
        algorithm_number: None,
        key_bits: None,
        key_age_seconds: None,
        key_attempts: 0,
        naks: 0,
        cookies: 0,
        cookie_bytes: 0,
        note: None,
    };
    let report = AuthDataReport {
        sources: vec![
            AuthDataRow {
                source: source("ntp2.example", 2, None),
                mode: AuthMode::SymmetricKey,
                trust: "key".to_owned(),
                key_id: Some(30),
                algorithm: Some("AES128".to_owned()),
                algorithm_number: Some(13),
                key_bits: Some(128),
                ..plain.clone()
            },
            AuthDataRow {
                source: source("ntp3.example", 3, None),
                mode: AuthMode::Nts,
                trust: "pki".to_owned(),
                key_id: Some(2),
                algorithm: Some("AEAD_AES_SIV_CMAC_256".to_owned()),
                algorithm_number: Some(15),
                key_bits: Some(256),
                key_age_seconds: Some(33.0 * 60.0),
                key_attempts: 3,
                naks: 1,
                cookies: 8,
                cookie_bytes: 100,
                note: Some("key exchange failed: no connection".to_owned()),
            },
            plain,
        ],
    };
    golden("authdata", &Reply::AuthData(report));
}

#[test]
fn ntpdata() {
    let row = NtpDataRow {
        source: source("ntp1.example", 1, None),
        local_address: Some([192, 0, 2, 100].into()),
        version: 4,
        reply: Some(ServerReply {
            age_seconds: 3.0,
            leap: LeapWord::Normal,
            stratum: 1,
            poll_log2_seconds: 6,
            precision_log2_seconds: -23,
            root_delay_seconds: 0.0,
            root_dispersion_seconds: 0.000_244,
            reference_id: "50505300".to_owned(),
            reference_name: Some("PPS".to_owned()),
            reference_time_unix_seconds: 1_795_478_400.0,
            interleaved: true,
            sent_stamp: StampWord::Hardware,
            received_stamp: StampWord::Kernel,
        }),
        measurement: Some(Measurement {
            offset_seconds: -0.000_000_534,
            delay_seconds: 0.000_193,
            dispersion_seconds: 0.000_000_2,
            response_seconds: 0.000_02,
        }),
        authenticated: true,
        last_refusal: Some("origin".to_owned()),
        refused: [("forged".to_owned(), 2), ("origin".to_owned(), 1)].into(),
        sent: 30,
        received: 33,
        valid: 30,
        good: 29,
        interleaved: 28,
        stamped_sent: 30,
        stamped_received: 33,
        hardware_sent: 0,
        hardware_received: 0,
    };
    let silent = NtpDataRow {
        source: SourceName { address: Some("[2001:db8::2]:123".parse().unwrap()), ..source("ntp2.example", 2, None) },
        local_address: None,
        reply: None,
        measurement: None,
        authenticated: false,
        last_refusal: None,
        refused: [].into(),
        received: 0,
        valid: 0,
        good: 0,
        interleaved: 0,
        stamped_received: 0,
        hardware_sent: 0,
        hardware_received: 0,
        ..row.clone()
    };
    golden("ntpdata", &Reply::NtpData(NtpDataReport { sources: vec![row, silent] }));
}

#[test]
fn serverstats() {
    let control = ControlCounters { received: 19, refused: 1 };
    let ntp = NtpServerCounters(ServerCounters {
        received: 1598,
        dropped_rate: 8,
        replies_plain: 1400,
        replies_nts: 189,
        replies_kiss: 1,
        interleaved: 43,
        cookies: 189,
        stamped_by_kernel: 1590,
        stamped_by_daemon: 8,
        ..ServerCounters::default()
    });
    let key_exchange = KeCounters { accepted: 3, refused: 1, failed: 1, completed: 2, pool_requests: 4 };
    let report = ServerStatsReport { ntp: Some(ntp), key_exchange: Some(key_exchange), control };
    golden("serverstats", &Reply::ServerStats(report));
    golden("serverstats-off", &Reply::ServerStats(ServerStatsReport { ntp: None, key_exchange: None, control }));
}

#[test]
fn activity() {
    let report = ActivityReport { online: 5, offline: 1, burst: 2, no_keys: 3, unresolved: 4 };
    golden("activity", &Reply::Activity(report));
}

#[test]
fn pools() {
    let member = PoolMember {
        source: source("ntp2.example", 2, Some("pool.example")),
        state: '*',
        trust: "pki".to_owned(),
        asked: Asked::Burst,
        reason: "best source".to_owned(),
    };
    let report = PoolsReport {
        pools: vec![
            PoolRow {
                name: "pool.example".to_owned(),
                mode: "auto".to_owned(),
                settled: Some("lb".to_owned()),
                wanted: 4,
                members: vec![member],
                nts_remembered: true,
                note: Some("the server offers no more than 1 distinct member".to_owned()),
            },
            PoolRow {
                name: "plain.example".to_owned(),
                mode: "classic".to_owned(),
                settled: None,
                wanted: 4,
                members: Vec::new(),
                nts_remembered: false,
                note: None,
            },
        ],
    };
    golden("pools", &Reply::Pools(report));
}

#[test]
fn done_and_wait_lines() {
    assert_eq!(render(&Reply::Done("stepped by 0.5 s\u{7}".to_owned()), false), "stepped by 0.5 s\\u{7}\n");
    let line = "try: 3, refid: C0000201, correction: 0.000006523, skew: 0.129";
    assert_eq!(wait_line(3, &tracking_report()), line);
}

/// From request to words, with a real engine.
#[test]
fn a_measured_offset_has_the_sign_of_chronyc() {
    let mut bench = Bench::new();
    bench.plain("ahead.example", Some(0.25));
    bench.run(1);
    let text = render(&Reply::show(&crate::observe::control::Show::Sources, &bench.view()).unwrap(), false);
    let row = text.lines().nth(2).unwrap();
    assert!(row.starts_with("^? ahead.example") || row.starts_with("^- ahead.example"), "{row}");
    // The server is ahead, so this clock is behind.
    assert!(row.contains(" -250ms[ -250ms] +/- "), "{row}");
}
