//! A key-exchange server outlives that the process has no descriptor left.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    fs::File,
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use ntp_proto::nts::{AeadAlgorithm, Keyring};
use ntpd::ke::{
    accept::{KeServer, Options},
    admission::Limits,
    pair::Identity,
};
use nts_ke::server::Deadlines;
use tempfile::TempDir;

/// Tells the copy of this program that runs with few descriptors from the one that starts it.
const LIMITED: &str = "NTPD_TEST_FEW_DESCRIPTORS";

/// Limits apply to processes, so the test runs itself again in one of its own.
#[test]
fn accepting_goes_on_once_there_are_descriptors_again() {
    if std::env::var_os(LIMITED).is_some() {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(without_descriptors());
        return;
    }
    let limited = Command::new("sh")
        .args(["-c", "ulimit -n 60 && exec \"$0\" --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .env(LIMITED, "1")
        .output()
        .unwrap();
    assert!(limited.status.success(), "{}", String::from_utf8_lossy(&limited.stderr));
}

async fn without_descriptors() {
    let directory = TempDir::new().unwrap();
    let pair = rcgen::generate_simple_self_signed(vec!["ke.test".into()]).unwrap();
    let (certificate, private_key) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
    std::fs::write(&certificate, pair.cert.pem()).unwrap();
    std::fs::write(&private_key, pair.signing_key.serialize_pem()).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&private_key, mode).unwrap();
    let options = Options {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        identity: Identity {
            certificate,
            private_key,
            ntp_server: None,
            ntp_port: None,
            aeads: AeadAlgorithm::ALL.to_vec(),
            pool_tokens: None,
        },
        limits: Limits::default(),
        deadlines: Deadlines::default(),
    };
    let server = KeServer::start(options, Keyring::new(&[1; 32]), None).unwrap();

    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
        assert!(hoard.len() < 60, "the limit is not in force");
    }
    // One for the client, none for the server.
    hoard.pop();
    let client = TcpStream::connect(server.addresses()[0]).unwrap();
    let started = Instant::now();
    tokio::time::sleep(Duration::from_millis(450)).await;
    let errors = server.counters().accept_errors;
    let most = started.elapsed().as_millis() / 100 + 1;
    assert!((2..=most).contains(&u128::from(errors)), "{errors} errors");
    assert_eq!(server.counters().accepted, 0);

    hoard.clear();
    let started = Instant::now();
    while server.counters().accepted == 0 {
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", server.counters());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(client);
}
