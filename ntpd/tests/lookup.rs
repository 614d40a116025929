//! `ntpctl lookup` as it is called from a shell, without a daemon and without a network.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    process::{Command, Output},
    thread,
};

fn look_up(arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("ntpd.toml");
    // Nobody listens there.
    fs::write(&config, "[trust]\nresolver = \"127.2.3.4\"\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ntpctl"));
    command.arg("lookup").arg("--config").arg(&config).args(["--socket", "/nowhere/control.sock"]);
    command.args(arguments).output().unwrap()
}

#[test]
fn a_name_that_offers_nothing_is_a_failure_in_every_form() {
    // Each waits for the same name servers that do not answer.
    thread::scope(|scope| {
        for (arguments, expected) in [
            (&["no-such-host.invalid"][..], "in all: nothing\n"),
            (&["no-such-host.invalid", "--chrony"], "# no-such-host.invalid: nothing\n"),
            (&["no-such-host.invalid", "--json"], "\"offer\":\"nothing\""),
        ] {
            scope.spawn(move || {
                let output = look_up(arguments);
                let text = String::from_utf8(output.stdout).unwrap();
                assert_eq!(output.status.code(), Some(1), "{text}");
                assert!(text.contains(expected), "{text}");
            });
        }
    });
}

#[test]
fn an_address_without_nts_may_be_a_plain_server() {
    let output = look_up(&["127.0.0.1:1", "--chrony"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().ends_with("\nserver 127.0.0.1 iburst\n"));
}

#[test]
fn a_name_whose_service_records_have_no_answer_is_no_plain_server() {
    let output = look_up(&["localhost:1", "--chrony"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
    assert!(text.contains("service records for NTS are not used: no answer"), "{text}");
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for arguments in [&["a b"][..], &["time.example:0"], &["time.example", "--chrony", "--json"]] {
        let output = look_up(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8(output.stderr).unwrap().starts_with("ntpctl: "));
    }
    let missing = Command::new(env!("CARGO_BIN_EXE_ntpctl"))
        .args(["lookup", "time.example", "-c", "/nowhere/ntpd.toml"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("/nowhere/ntpd.toml"));
}
