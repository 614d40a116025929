//! State that is saved by a process which is killed at any moment.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use ntp_proto::time::UnixTime;
use ntpd::state::{LastTime, SavedSource, Sources, StateDirectory};
use tempfile::TempDir;

/// How often a process is killed, unless `NTPD_TEST_KILLS` says otherwise.
const KILLS: u32 = 1_000;
/// Where a process that is to be killed saves.
const FOLDER: &str = "NTPD_TEST_SAVES_HERE";

fn record(number: i64) -> (LastTime, Sources) {
    let source = SavedSource {
        configured: "time.example".to_owned(),
        key_exchange: "time.example".to_owned(),
        key_exchange_port: 4460,
        trusted: vec![5; 32],
        server: "a.time.example".to_owned(),
        address: SocketAddr::from(([192, 0, 2, 1], 123)),
        trust: ntp_proto::ids::Trust::Dnssec,
        algorithm: 15,
        client_key: vec![1; 32],
        server_key: vec![2; 32],
        cookies: vec![vec![3; 100]; 8],
        exchanged_at: number,
    };
    (LastTime::new(UnixTime { seconds: number, nanos: 0 }, None), Sources { sources: vec![source; 8] })
}

/// Saves numbers from `FOLDER`'s last one on, and tells each that is on the disk, until it is killed.
#[test]
#[ignore = "runs until it is killed, by the other test"]
fn saver() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let state = StateDirectory::open(Path::new(&folder)).unwrap();
    let last = state.load::<LastTime>().value.map_or(0, |last| last.time().seconds);
    for number in last + 1.. {
        let (last, sources) = record(number);
        state.save(&last).unwrap();
        state.save(&sources).unwrap();
        println!("{number}");
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn a_process_killed_at_any_moment_leaves_what_it_has_saved() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    let state = StateDirectory::open(&path).unwrap();
    let (mut known, mut random, mut midway) = (0, 1_u64, 0_u32);
    let kills = env::var("NTPD_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    for round in 0..kills {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "saver", "--nocapture", "--test-threads=1"])
            .env(FOLDER, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let number = |line: String| line.trim().parse::<i64>().ok();
        known = told.by_ref().find_map(number).unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        thread::sleep(Duration::from_micros((random >> 33) % 4_000));
        child.kill().unwrap();
        child.wait().unwrap();
        known = told.filter_map(number).last().unwrap_or(known);

        let (last, sources) = (state.load::<LastTime>(), state.load::<Sources>());
        assert!(last.complaint.is_none() && sources.complaint.is_none(), "round {round}: {last:?} {sources:?}");
        let last = last.value.unwrap().time().seconds;
        let saved = sources.value.unwrap().sources[0].exchanged_at;
        // What was told is on the disk; one more may be.
        assert!((known..=known + 1).contains(&last) && (known..=known + 1).contains(&saved), "{known} {last} {saved}");
        midway += u32::from(last != known || saved != known);
    }
    println!("{known} saves, {midway} of {kills} kills between the beginning of one and word of its end");
    assert!(midway > 0, "no kill came while a record was replaced");
}
