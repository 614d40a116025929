//! `ntpctl` as it is called from a shell, against a control socket with a small daemon behind it.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command as Process, Output},
    thread,
};

use ntpd::observe::{
    control::{Change, Command, ControlError, ControlRequest, ControlServer, ErrorKind, QUEUE, Reply, Show},
    report::{ActivityReport, LeapWord, TrackingReport},
};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

/// Somebody who is neither the superuser nor runs the daemon.
const NOBODY: u32 = 65_534;

fn tracking(updates: u64) -> TrackingReport {
    TrackingReport {
        synchronized: updates >= 3,
        reference_id: "C0000201".to_owned(),
        reference: None,
        stratum: 2,
        reference_time_unix_seconds: None,
        pending_seconds: 0.001,
        last_offset_seconds: 0.0,
        rms_offset_seconds: 0.0,
        frequency_ppm: 0.0,
        residual_frequency_ppm: 0.0,
        skew_ppm: 1.5,
        root_delay_seconds: 0.0,
        root_dispersion_seconds: 0.0,
        update_interval_seconds: 0.0,
        updates,
        leap: LeapWord::NotSynchronized,
        reason: None,
        time: None,
        local_stratum: None,
        leap_file: None,
    }
}

/// Is synchronized from the third question on, and cannot step.
async fn answer_all(mut requests: mpsc::Receiver<ControlRequest>) {
    let mut updates = 0;
    while let Some(ControlRequest { command, reply }) = requests.recv().await {
        let answer = match command {
            Command::Show(Show::Tracking) => {
                updates += 1;
                Ok(Reply::Tracking(tracking(updates)))
            }
            Command::Show(_) => Ok(Reply::Activity(ActivityReport { online: 4, ..ActivityReport::default() })),
            Command::Change(Change::Burst { source }) => Ok(Reply::Done(format!("burst for {source:?}"))),
            Command::Change(_) => Err(ControlError::new(ErrorKind::Failed, "the clock is left alone (-x)")),
        };
        let _ = reply.send(answer);
    }
}

struct Daemon {
    directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Daemon {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let server = ControlServer::bind(&directory.path().join("control.sock")).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let (sender, receiver) = mpsc::channel(QUEUE);
                tokio::select! {
                    ended = server.run(sender) => panic!("the server ended: {ended:?}"),
                    () = answer_all(receiver) => panic!("the queue ended"),
                    _ = stopped => {}
                }
            });
        });
        Self { directory, stop: Some(stop), thread: Some(thread) }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("control.sock")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(process: &mut Process) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = process.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn ntpctl(socket: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    run(Process::new(env!("CARGO_BIN_EXE_ntpctl")).args(arguments).arg("--socket").arg(socket))
}

#[test]
fn reports_and_changes_come_back() {
    let daemon = Daemon::start();
    let socket = daemon.socket();
    let (code, out, err) = ntpctl(&socket, &["activity"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("200 OK\n4 sources online\n"), "{out}");
    let (code, out, _) = ntpctl(&socket, &["activity", "--json"]);
    let report: ActivityReport = serde_json::from_str(&out).unwrap();
    assert_eq!((code, report.online), (Some(0), 4));
    assert_eq!(ntpctl(&socket, &["burst", "a"]), (Some(0), "burst for Some(\"a\")\n".to_owned(), String::new()));
    let refused = (Some(1), String::new(), "ntpctl: the clock is left alone (-x)\n".to_owned());
    assert_eq!(ntpctl(&socket, &["makestep"]), refused);
}

#[test]
fn waitsync_waits_and_gives_up() {
    let daemon = Daemon::start();
    let (code, out, err) = ntpctl(&daemon.socket(), &["waitsync", "2", "0", "0", "0.1"]);
    assert_eq!((code, out.lines().count(), err.as_str()), (Some(1), 2, ""));
    let (code, out, _) = ntpctl(&daemon.socket(), &["waitsync", "50", "0.01", "2", "0.1"]);
    assert_eq!((code, out.as_str()), (Some(0), "try: 1, refid: C0000201, correction: 0.001000000, skew: 1.500\n"));
    let (code, _, err) = ntpctl(&daemon.directory.path().join("none"), &["waitsync", "2", "0", "0", "0.1"]);
    assert_eq!((code, err.lines().count()), (Some(1), 2), "a daemon that is yet to start is waited for");
}

#[test]
fn faults_are_one_line() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("control.sock");
    let expected = format!("ntpctl: ntpd is not running: nobody answers at {}\n", path.display());
    assert_eq!(ntpctl(&path, &["tracking"]), (Some(1), String::new(), expected));
    assert_eq!(ntpctl(&path, &["trakcing"]).0, Some(2));
    assert_eq!(ntpctl(&path, &[]).0, Some(2));
}

/// Only the superuser can become somebody else; for others the rule itself is tested beside it.
#[test]
fn other_users_may_look_and_not_touch() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let daemon = Daemon::start();
    fs::set_permissions(daemon.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = daemon.directory.path().join("ntpctl");
    // Copied by another: while a file is open for writing here, a process that is started just then has it open too, and it
    // cannot be run.
    assert!(Process::new("cp").arg(env!("CARGO_BIN_EXE_ntpctl")).arg(&program).status().unwrap().success());
    let nobody =
        |word: &str| run(Process::new(&program).arg(word).arg("--socket").arg(daemon.socket()).uid(NOBODY).gid(NOBODY));
    let (code, out, err) = nobody("tracking");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("ntpctl: no permission to use ") && err.lines().count() == 1, "{err}");

    fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(nobody("tracking").0, Some(0));
    let expected = "ntpctl: only the superuser and the daemon's own user may use \"burst\"\n";
    assert_eq!(nobody("burst"), (Some(1), String::new(), expected.to_owned()));
}
