//! Users and proxies that do not behave, and a system that runs out of files.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use ntp_proto::nts::AeadAlgorithm;
use pool_lb::balance::metrics::Counter;

use super::scene::{Manner, Scene, wait_until};

const SIV: [AeadAlgorithm; 1] = [AeadAlgorithm::AesSivCmac256];

/// The header of a proxy that speaks for 192.0.2.7.
fn header() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([192, 0, 2, 7, 127, 0, 0, 1, 0x30, 0x39, 0x11, 0x6c]);
    header
}

#[test]
fn proxies_are_believed_if_they_are_ours() {
    let scene = Scene::with(
        &[(Manner::Good, &[15][..], None)],
        "proxies = [\"127.0.0.0/8\"]\n[limits]\nburst = 2\ninterval = 3600",
    );
    let served = (0..12).filter(|_| scene.user_with(&SIV, &[], &header()).is_ok()).count();
    // Each of the two workers has a bucket of its own.
    assert!((2..=4).contains(&served), "{served}");
    assert!(scene.balancer().metrics().get(Counter::RefusedPeer) > 0, "the limits are those of the user");
    assert!(scene.user().is_err(), "no header");
    let mut cut = TcpStream::connect(scene.address).unwrap();
    cut.write_all(&header()[..19]).unwrap();
    cut.shutdown(Shutdown::Write).unwrap();
    assert_eq!(cut.read(&mut [0; 8]).unwrap_or(0), 0);
    let plain = Scene::with(&[(Manner::Good, &[15][..], None)], "proxies = [\"192.0.2.0/24\"]");
    assert!(plain.user_with(&SIV, &[], &header()).is_err(), "whoever is no proxy of ours does not speak for others");
    assert_eq!(plain.all_keys(), 0);
    plain.user().unwrap();
}

#[test]
fn a_proxy_that_stops_within_its_header_is_dropped_and_disturbs_nobody() {
    let scene = Scene::with(&[(Manner::Good, &[15][..], None)], "proxies = [\"127.0.0.0/8\"]");
    let header = header();
    let cuts = [0, 1, 11, 12, 15, 16, 20, 27];
    let stalled = cuts.map(|cut| {
        let mut stream = TcpStream::connect(scene.address).unwrap();
        stream.write_all(&header[..cut]).unwrap();
        stream
    });
    for _ in 0..8 {
        scene.owner(&scene.user_with(&SIV, &[], &header).unwrap());
    }
    for (mut stream, cut) in stalled.into_iter().zip(cuts) {
        // Until the balancer gives up: the connection ends, and nothing was said on it.
        assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0, "{cut}");
    }
    assert_eq!(scene.balancer().metrics().get(Counter::BadProxies), 8);
    assert_eq!(scene.all_keys(), 8);
}

/// The program itself.
struct Program {
    child: Child,
    log: std::path::PathBuf,
}

impl Program {
    /// `limit` is what the shell does before. With `held` it finds that listener as a service manager passes it on.
    fn start(scene: &Scene, limit: &str, held: Option<&TcpListener>) -> Self {
        let text = fs::read_to_string(scene.path("lb.toml")).unwrap().replace("lb.sock", "program.sock");
        fs::write(scene.path("program.toml"), text.replace("lb.json", "program.json")).unwrap();
        let log = scene.path("program.log");
        let held = held.map(|held| Stdio::from(OwnedFd::from(held.try_clone().unwrap())));
        // sd_listen_fds(3): the first is number 3.
        let take = if held.is_some() { "export LISTEN_FDS=1 LISTEN_PID=$$; exec 3<&0 0</dev/null" } else { ":" };
        let child = Command::new("sh")
            .args(["-c", &format!("{take}; {limit}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_nts-pool-lb"), "-c"])
            .arg(scene.path("program.toml"))
            .env_remove("RUST_LOG")
            .stdin(held.unwrap_or_else(Stdio::null))
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// Asks it to end, and waits until it has.
    fn terminate(&mut self) {
        let sent = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success() && self.child.wait().unwrap().success(), "{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn address(&self) -> SocketAddr {
        let mut address = None;
        wait_until("an address", || {
            let log = self.log();
            let told = log.split_once("serving users on ").and_then(|(_, rest)| rest.split_once('\n'));
            address = told.and_then(|(address, _)| address.trim().parse().ok());
            address.is_some()
        });
        address.unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_system_without_files_costs_idle_connections_and_no_users() {
    let scene = Scene::new(&[Manner::Good, Manner::Good]);
    let mut program = Program::start(&scene, "ulimit -n 64", None);
    let address = program.address();
    let tls = scene.user_tls(None);
    let complaints = |log: &str| log.matches("cannot accept connections").count();
    let serve = || scene.told(&tls, address).is_ok_and(|told| !scene.holders(&told.keys).is_empty());
    for round in 0..3 {
        let idle: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
        wait_until("users to be served beside idle connections", serve);
        assert_eq!(program.child.try_wait().unwrap(), None, "round {round}: it goes on");
        drop(idle);
    }
    for _ in 0..8 {
        assert!(serve(), "{}", program.log());
    }
    let log = program.log();
    assert_eq!(complaints(&log), 1, "{log}");
    scene.all_keys();
}

#[test]
fn no_user_is_lost_when_one_balancer_follows_another_on_a_port_that_stays_open() {
    let scene = Scene::new(&[Manner::Good, Manner::Good]);
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let over = AtomicBool::new(false);
    let served = thread::scope(|scope| {
        let user = || {
            let tls = scene.user_tls(None);
            let mut served = 0;
            while !over.load(Ordering::SeqCst) {
                let told = scene.told(&tls, address).unwrap();
                assert_eq!(scene.holders(&told.keys).len(), 1);
                served += 1;
            }
            served
        };
        // The first of them come before anybody serves.
        let users: Vec<_> = (0..3).map(|_| scope.spawn(user)).collect();
        for _ in 0..3 {
            let mut program = Program::start(&scene, ":", Some(&held));
            assert_eq!(program.address(), address);
            program.terminate();
        }
        let mut last = Program::start(&scene, ":", Some(&held));
        last.address();
        over.store(true, Ordering::SeqCst);
        let served: usize = users.into_iter().map(|user| user.join().unwrap()).sum();
        last.terminate();
        served
    });
    assert_eq!(scene.all_keys(), served);
}
