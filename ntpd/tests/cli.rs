//! The program as it is called from a shell.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

fn ntpd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ntpd")).args(arguments).output().unwrap()
}

fn write(directory: &TempDir, text: &str) -> String {
    let path = directory.path().join("ntpd.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    path.display().to_string()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn check_says_what_is_wrong_and_where() {
    let directory = TempDir::new().unwrap();
    let file = write(&directory, "pool = \"time.example\"\n");
    let good = ntpd(&["check", "-c", &file]);
    assert_eq!((good.status.code(), text(&good.stdout)), (Some(0), "the configuration is valid\n"));

    let file = write(&directory, "pool = \"time.example\"\n[clock]\nmin-sources = 0\n");
    let bad = ntpd(&["check", "-c", &file]);
    let message = format!("{file}:3:15: clock.min-sources: 0 is out of range; accepted: 1 to 16\n");
    assert_eq!((bad.status.code(), text(&bad.stdout), text(&bad.stderr)), (Some(1), "", message.as_str()));
}

#[test]
fn explain_prints_what_check_accepts() {
    let directory = TempDir::new().unwrap();
    let file = write(&directory, "pool = \"time.example\"\n");
    let first = ntpd(&["explain", "-c", &file]);
    assert_eq!(first.status.code(), Some(0));
    assert!(text(&first.stdout).contains("name = \"time.example\"\nmode = \"auto\"\ncount = 4\n"));
    let file = write(&directory, text(&first.stdout));
    assert_eq!(ntpd(&["check", "-c", &file]).status.code(), Some(0));
    assert_eq!(ntpd(&["explain", "-c", &file]).stdout, first.stdout);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing was written");
}

#[test]
fn usage_errors_have_a_code_of_their_own() {
    assert_eq!(ntpd(&["chekc"]).status.code(), Some(2));
    assert_eq!(ntpd(&["--version"]).status.code(), Some(0));
    let missing = ntpd(&["check", "-c", "/nonexistent/ntpd.toml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).starts_with("/nonexistent/ntpd.toml: cannot read this file"));
    assert!(!Path::new("/nonexistent").exists());
}

#[cfg(feature = "demo")]
#[test]
fn an_interrupted_demonstration_leaves_nothing_behind() {
    use std::{
        process::Stdio,
        thread::sleep,
        time::{Duration, Instant},
    };

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let directory = TempDir::new().unwrap();
        let mut demo = Command::new(env!("CARGO_BIN_EXE_ntpd"))
            .args(["demo", "--json"])
            .env("TMPDIR", directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let folder = loop {
            assert!(started.elapsed() < Duration::from_secs(10), "no folder is made");
            let made = fs::read_dir(directory.path()).unwrap().next();
            if let Some(folder) = made.map(|entry| entry.unwrap().path()).filter(|path| path.join("ntpd.toml").exists())
            {
                break folder;
            }
            sleep(Duration::from_millis(5));
        };
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(!folder.display().to_string().contains(&demo.id().to_string()), "nobody can foresee {folder:?}");
        kill(Pid::from_raw(demo.id().try_into().unwrap()), signal).unwrap();
        assert_eq!(demo.wait().unwrap().code(), Some(1), "{signal}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{signal}");
    }
}
