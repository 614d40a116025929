//! `ntpd query` and `ntpd once`.

use crate::world::{Place, plain_entry, plain_server, reserved_port};

#[test]
fn query_measures_and_prints() {
    let (_server, address) = plain_server();
    let place = Place::new("");
    let ended = place.run(env!("CARGO_BIN_EXE_ntpd"), &["query", &address.to_string()]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines.len(), 2, "{}", ended.out);
    assert!(lines[0].starts_with("server ") && lines[0].ends_with(" reason"), "{}", ended.out);
    assert!(lines[1].starts_with("127.0.0.1 (127.0.0.1)") && lines[1].ends_with("best source"), "{}", ended.out);
    assert_eq!(place.others(), Vec::<String>::new(), "nothing was written");
}

#[test]
fn query_without_an_answer_fails_and_says_so() {
    let place = Place::new("");
    let silent = format!("127.0.0.1:{}", reserved_port());
    let ended = place.run(env!("CARGO_BIN_EXE_ntpd"), &["query", &silent, "ntp.invalid"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let told: Vec<&str> = ended.err.lines().collect();
    assert!(told[0].starts_with("no time was had in 1"), "{}", ended.err);
    assert_eq!(told[1], format!("  127.0.0.1 ({silent}): does not answer"), "{}", ended.err);
    assert!(told[2].starts_with("  ntp.invalid: ") && told[2].contains("(is "), "{}", ended.err);
    assert_eq!(told.len(), 3, "{}", ended.err);
    assert!(ended.out.contains("127.0.0.1 (127.0.0.1)"), "{}", ended.out);
    assert!(ended.out.contains("ntp.invalid: "), "{}", ended.out);
}

#[test]
fn query_of_what_is_no_name_is_a_usage_error() {
    let place = Place::new("");
    for arguments in [&["query"][..], &["query", "a b"], &["query", "127.0.0.1:99999"]] {
        let ended = place.run(env!("CARGO_BIN_EXE_ntpd"), arguments);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{ended:?}");
        assert!(ended.err.ends_with('\n'), "{ended:?}");
    }
}

#[test]
fn once_says_how_wrong_the_clock_is_and_leaves_it_alone() {
    let (_server, address) = plain_server();
    let place = Place::new(&plain_entry(address));
    let ended = place.ntpd(&["once", "-x"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.starts_with("clock left alone (-x); it is "), "{}", ended.out);
    assert!(ended.out.ends_with(" s\n"), "{}", ended.out);
    assert_eq!(place.others(), Vec::<String>::new(), "nothing was written");
}

#[test]
fn once_without_an_answer_fails() {
    let place = Place::new(&plain_entry(([127, 0, 0, 1], reserved_port()).into()));
    let ended = place.ntpd(&["once", "-x"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("no time was had in 30.0 s\n  127.0.0.1 (127.0.0.1:"), "{}", ended.err);
}
