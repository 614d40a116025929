//! Several nodes that serve one name.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
    time::Duration,
};

use ntp_proto::time::UnixTime;
use rustls::{
    HandshakeKind, NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
    pki_types::ServerName,
};

use super::scene::{Manner, Scene, wait_until};

/// What all nodes take for the time of day.
static CLOCK: AtomicI64 = AtomicI64::new(1_894_000_000);

/// As long as the keys of tickets last.
const EPOCH: i64 = 6 * 3600;

fn clock() -> UnixTime {
    UnixTime { seconds: CLOCK.load(Ordering::SeqCst), nanos: 0 }
}

/// Tickets of a client: it gathers some, and then comes with one of them each time. Newer ones are not kept.
#[derive(Debug, Default)]
struct Tickets {
    kept: Mutex<Vec<Tls13ClientSessionValue>>,
    complete: AtomicBool,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        if !self.complete.load(Ordering::SeqCst) {
            self.kept.lock().unwrap().push(value);
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let complete = self.complete.load(Ordering::SeqCst);
        complete.then(|| self.kept.lock().unwrap().pop().expect("enough tickets are gathered"))
    }
}

#[test]
fn a_session_of_one_node_is_resumed_by_another_until_its_keys_are_two_times_old() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (name, octet) in [("secret", "s"), ("other", "o")] {
        fs::write(path(name), octet.repeat(40)).unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let settings = |name| format!("ticket-secret = \"{}\"", path(name));
    let scene = Scene::at(clock, &[(Manner::Good, &[15], None)], &settings("secret"));
    let second = scene.another("second", clock, &settings("secret"));
    let stranger = scene.another("stranger", clock, &settings("other"));
    let (a, b) = (scene.address, second.addresses()[0]);
    let visit = |tls: &Arc<rustls::ClientConfig>, node: SocketAddr| {
        let told = scene.told(tls, node).unwrap();
        assert!(told.plain.len() > 500 && scene.holders(&told.keys).len() == 1, "resumed or not, users are served");
        told.kind
    };
    let (full, resumed) = (HandshakeKind::Full, HandshakeKind::Resumed);
    // A user with so many tickets of the first node.
    let user = |tickets| {
        let store = Arc::new(Tickets::default());
        let tls = scene.user_tls(Some(Arc::<Tickets>::clone(&store)));
        for _ in 0..tickets {
            assert_eq!(visit(&tls, a), full);
        }
        store.complete.store(true, Ordering::SeqCst);
        tls
    };

    let old = user(100);
    assert_eq!((visit(&old, b), visit(&old, a), visit(&old, b)), (resumed, resumed, resumed));
    assert_eq!(visit(&old, stranger.addresses()[0]), full, "who has another secret reads no ticket of ours");

    // The nodes notice by themselves that time goes on; `reload` only says when they have.
    CLOCK.fetch_add(EPOCH, Ordering::SeqCst);
    scene.command("reload").unwrap();
    assert_eq!(visit(&old, a), resumed, "the keys of the time before are still taken");
    assert_eq!(visit(&old, b), resumed, "whether this node has gone on or not");
    let new = user(4);
    assert_eq!((visit(&new, a), visit(&new, b)), (resumed, resumed), "a node may be ahead of the other a little");

    CLOCK.fetch_add(EPOCH, Ordering::SeqCst);
    for node in [a, b] {
        wait_until("keys older than that to be forgotten", || {
            thread::sleep(Duration::from_millis(200));
            visit(&old, node) == full
        });
    }
    assert_eq!((visit(&new, a), visit(&new, b)), (resumed, resumed));
    scene.all_keys();
    second.stop();
    stranger.stop();
}
