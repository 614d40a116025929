//! Names that nobody is asked for.

use super::*;

const PLAIN: &str = "[[server]]\naddress = \"192.0.2.1\"\noffline = true\n\
                     [[server]]\naddress = \"192.0.2.2\"\n";

fn change(bench: &mut Bench, change: Change) {
    bench.with(|client| client.change(&change).unwrap());
}

/// The places that are asked.
fn asked(bench: &mut Bench) -> Vec<String> {
    let present = bench.client.clock.now();
    let mut asked = Vec::new();
    for (id, info) in &bench.client.info {
        if bench.client.engine.source(present, *id).unwrap().state != SourceState::Offline {
            asked.push(info.address.unwrap().ip().to_string());
        }
    }
    asked
}

#[test]
fn what_starts_offline_waits_for_a_word() {
    let mut bench = Bench::new(PLAIN);
    assert_eq!(asked(&mut bench), ["192.0.2.2"]);
    let told = bench.with(|client| client.sources()).sources;
    let row = told.iter().find(|row| row.judged.source.name == "192.0.2.1").unwrap();
    assert_eq!(row.judged.reason, "offline");
    assert!(!bench.with(|client| client.has_measured_all()), "the other one is not measured yet");
    change(&mut bench, Change::Online { source: Some("192.0.2.1".to_owned()) });
    assert_eq!(asked(&mut bench), ["192.0.2.2", "192.0.2.1"]);
    change(&mut bench, Change::Offline { source: None });
    assert_eq!(asked(&mut bench), Vec::<String>::new());
    change(&mut bench, Change::Online { source: None });
    assert_eq!(asked(&mut bench), ["192.0.2.2", "192.0.2.1"]);
    let nobody = bench.with(|client| client.change(&Change::Online { source: Some("192.0.2.3".to_owned()) }));
    assert!(nobody.is_err());
}

#[test]
fn a_name_that_is_offline_finds_no_servers() {
    let text = "[[server]]\naddress = \"ntp.invalid\"\nnts = \"off\"\n";
    let mut bench = Bench::new(text);
    change(&mut bench, Change::Offline { source: Some("ntp.invalid".to_owned()) });
    bench.with(|client| client.handle_answered(0, addresses(0, &["127.0.0.1:9"])));
    assert_eq!(bench.sources(), []);
    // A reload of what it says already changes nothing about it.
    let config = Config::parse("test", text).unwrap();
    bench.with(|client| client.set_sources(&config, &[]));
    assert_eq!(bench.sources(), []);
    change(&mut bench, Change::Online { source: Some("ntp.invalid".to_owned()) });
    assert_eq!(bench.sources().len(), 1);
}

#[test]
fn with_a_route_everybody_is_asked() {
    // To this machine itself there always is one.
    let mut bench = Bench::new("[[server]]\naddress = \"127.0.0.1\"\noffline = true\n");
    assert_eq!(asked(&mut bench), Vec::<String>::new());
    change(&mut bench, Change::OnOffline);
    assert_eq!(asked(&mut bench), ["127.0.0.1"]);
}
