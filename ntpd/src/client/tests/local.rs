//! The local clock, served where nobody tells the time.

use ntp_proto::{
    ids::Leap,
    server::{LOCAL_REFERENCE, LocalConfig},
};

use super::*;

/// A machine whose time is not verified, since nobody answers.
const TEXT: &str = "[[server]]\naddress = \"ke.invalid\"\nnts = \"require\"\n";

fn served(bench: &Bench) -> (u8, Leap) {
    let status = bench.client.status.get();
    assert_eq!(status.reference_id == LOCAL_REFERENCE, status.leap != Leap::Unsynchronized);
    (status.stratum, status.leap)
}

#[test]
fn time_that_is_not_verified_is_served_only_if_an_administrator_says_so() {
    let bench = Bench::new(TEXT);
    assert_eq!(served(&bench).1, Leap::Unsynchronized);
    let mut bench = Bench::new(&format!("{TEXT}[serve]\nallow = \"all\"\nlocal = {{ stratum = 5 }}\n"));
    assert_eq!(served(&bench), (5, Leap::None));
    bench.with(|client| {
        let present = client.clock.now();
        assert!(!client.engine.tracking(present).synchronized, "the machine's own programs are not told so");
    });
    bench.with(|client| client.change(&Change::Local(None)).unwrap());
    assert_eq!(served(&bench).1, Leap::Unsynchronized);
    bench.with(|client| client.change(&Change::Local(Some(LocalConfig::DEFAULT))).unwrap());
    assert_eq!(served(&bench), (10, Leap::None));
}
