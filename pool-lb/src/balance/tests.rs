//! A balancer without sockets of its own, and what its parts make of members that fail.

use std::{fs, io, path::Path, rc::Rc, sync::Arc};

use arc_swap::{ArcSwap, ArcSwapOption};
use nts_ke::{client::ClientConfig, verify::TrustRoots};
use pool_srv::directory::{Health, Roster, parse};
use tokio::{
    runtime::Builder,
    sync::{Semaphore, mpsc},
    task::LocalSet,
};

use super::{
    Core, Event, MAX_EVENTS, Shared,
    assign::{Aliases, Assignments},
    config,
    dials::{Dials, MAX_DIALS},
    health::Sample,
    metrics::{Counter, Metrics},
    now,
    trouble::Trouble,
    upstream::{Link, Zeal},
};
use crate::acceptor::Complaint;

/// Runs what needs a runtime.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> T {
    LocalSet::new().block_on(&Builder::new_current_thread().enable_all().build().unwrap(), work)
}

/// What all threads of a balancer see that has these members, and what its judge hears.
pub(super) fn shared(members: &str) -> (Shared, mpsc::Receiver<Event>) {
    shared_with(members, "")
}

/// The same, with these settings besides.
pub(super) fn shared_with(members: &str, settings: &str) -> (Shared, mpsc::Receiver<Event>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lb.toml");
    let usual = "certificate = \"c\"\nprivate-key = \"k\"\nmembers = \"m\"\nallow-private = true\n";
    fs::write(&file, format!("{usual}{settings}")).unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec![]).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let client = ClientConfig::new(&TrustRoots::new(vec![ca.der().clone()]).unwrap()).unwrap();
    let directory = parse(Path::new("members.toml"), members).unwrap();
    let (events, heard) = mpsc::channel(MAX_EVENTS);
    let core = Core {
        config: config::load(&file).unwrap(),
        server: ArcSwapOption::empty(),
        client: ArcSwap::from_pointee(client),
        assignments: ArcSwap::from_pointee(Assignments::new(Roster::new(directory, |_| Health::Up))),
        aliases: ArcSwap::from_pointee(Aliases::default()),
        metrics: Metrics::default(),
        complaint: Complaint::default(),
        dials: Dials::default(),
        events,
    };
    (Shared(Arc::new(core)), heard)
}

/// Members at whose port nobody listens.
pub(super) fn absent(count: usize) -> String {
    let entry =
        |n| format!("[[member]]\nname = \"m{n}.test\"\nport = 1\naddresses = [\"127.0.0.1\"]\ntoken = \"{TOKEN}\"\n");
    (0..count).map(entry).collect()
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn ours() -> Trouble {
    Trouble::from(io::Error::from_raw_os_error(libc::EMFILE))
}

#[test]
fn our_own_failures_open_no_members_breaker_and_condemn_nobody() {
    let (shared, mut heard) = shared(&absent(1));
    let shared = Rc::new(shared);
    let member = shared.assignments.load().roster.directory().members()[0].clone();
    let link = Rc::new(Link::new(member, 1, Arc::new(Semaphore::new(MAX_DIALS))));
    for _ in 0..100 {
        link.failed(&shared, &ours());
    }
    assert_eq!(shared.metrics.get(Counter::OwnFaults), 100);
    assert!(heard.try_recv().is_err(), "the judge hears nothing of it");
    let ask = || {
        let by = now::monotonic() + std::time::Duration::from_secs(20);
        block_on(link.prepare(&shared, by, Zeal::Usual)).map(|_| ()).unwrap_err()
    };
    // It is asked still; its own failures open the breaker, not ours in between.
    for _ in 0..3 {
        assert!(matches!(ask(), Trouble::Member(_)));
        let heard = heard.try_recv().unwrap();
        assert!(heard.member.as_str() == "m0.test" && matches!(heard.sample, Sample::Failed(_)));
        link.failed(&shared, &ours());
    }
    assert!(matches!(ask(), Trouble::Broken));
    assert!(heard.try_recv().is_err(), "who is not asked does not fail");
}
