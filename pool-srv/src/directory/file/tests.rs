use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;
use crate::directory::Watched;

const GOOD: &str = r#"
[[region]]
name = "europe"
prefixes = ["192.0.2.0/24", "2001:db8::/32"]

[[region]]
name = "sweden"
within = "europe"
prefixes = ["192.0.2.128/25"]

[[member]]
name = "NTP1.example."
regions = ["sweden"]
token = "0123456789abcdef0123456789abcdef"

[[member]]
name = "ntp2.example"
port = 4446
priority = 2
weight = 65535
capacity = 200
prefixes = ["198.51.100.7"]
operator = "somebody"
addresses = ["192.0.2.7", "2001:db8::7"]
drain = true
"#;

fn parsed(text: &str) -> Result<Arc<Directory>, String> {
    parse(Path::new("members.toml"), text).map_err(|problem| problem.to_string())
}

#[test]
fn a_directory_is_read_with_its_defaults() {
    let directory = parsed(GOOD).unwrap();
    let [first, second] = directory.members() else { panic!("{directory:?}") };
    assert_eq!((first.name.as_str(), first.port, first.weight), ("ntp1.example", KE_PORT, DEFAULT_WEIGHT));
    assert_eq!((first.operator.as_str(), first.capacity, first.drain), ("ntp1.example", None, false));
    assert_eq!(first.token.as_ref().unwrap().reveal(), "0123456789abcdef0123456789abcdef");
    assert_eq!((second.port, second.priority, second.weight, second.capacity), (4446, 2, 65535, Some(200)));
    assert_eq!((second.operator.as_str(), second.drain, second.addresses.len()), ("somebody", true, 2));
    assert!(second.takes("::ffff:198.51.100.7".parse().unwrap()) && !second.takes("198.51.100.8".parse().unwrap()));
    let regions = |client: &str| -> Vec<_> {
        let regions = directory.regions_of(client.parse().unwrap());
        regions.into_iter().map(|region| directory.region_name(region)).collect()
    };
    assert_eq!(regions("192.0.2.129"), ["sweden", "europe"]);
    assert_eq!(regions("::ffff:192.0.2.1"), ["europe"]);
    assert_eq!(regions("2001:db8::1"), ["europe"]);
    assert!(regions("203.0.113.1").is_empty());
    assert_eq!(directory.find(&Name::parse("ntp2.example").unwrap()).map(|(place, _)| place), Some(1));
}

#[test]
fn tokens_are_not_shown() {
    let text = format!("{:?}", parsed(GOOD).unwrap());
    assert!(!text.contains("0123456789abcdef"), "{text}");
}

#[test]
fn mistakes_are_told_with_their_line_and_what_is_accepted() {
    let member = "[[member]]\nname = \"a.example\"\n";
    for (text, line, words) in [
        ("", None, "no members"),
        ("[[member]]\nname = \"a b\"", Some("2:8"), "not a host name"),
        ("[[member]]\nport = 1", Some("1:1"), "missing field `name`"),
        (&format!("{member}port = 0"), Some("3:8"), "accepted: 1 to 65535"),
        (&format!("{member}port = 70000"), Some("3:8"), "70000"),
        (&format!("{member}weight = 0"), Some("3:10"), "drain = true"),
        (&format!("{member}weight = \"many\""), Some("3:10"), "invalid type"),
        (&format!("{member}capacity = 0"), Some("3:12"), "accepted: 1 and more"),
        (&format!("{member}wieght = 1"), Some("3:1"), "expected one of"),
        (&format!("{member}regions = [\"mars\"]"), Some("3:12"), "unknown region \"mars\""),
        (&format!("{member}prefixes = [\"192.0.2.1/24\"]"), Some("3:13"), "accepted: \"192.0.2.0/24\""),
        (&format!("{member}prefixes = [\"here\"]"), Some("3:13"), "is not a prefix"),
        (&format!("{member}addresses = [\"a.example\"]"), Some("3:14"), "is not an address"),
        (&format!("{member}token = \"short\""), Some("3:9"), "22 to 128"),
        (&format!("{member}token = \"{}#\"", "t".repeat(22)), Some("3:9"), "without spaces and #"),
        (&format!("{member}token-file = \"/nowhere/token\""), Some("3:14"), "/nowhere/token"),
        (&format!("{member}token = \"{}\"\ntoken-file = \"x\"", "t".repeat(22)), Some("3:9"), "exclude each other"),
        (&format!("{member}\n{member}"), Some("5:8"), "already, in line 2"),
        (&format!("[[region]]\nname = \"r\"\nwithin = \"s\"\n{member}"), Some("3:10"), "unknown region \"s\""),
        (&format!("[[region]]\nname = \"r\"\n[[region]]\nname = \"r\"\n{member}"), Some("4:8"), "is there already"),
        ("[[member]]\nname = ", Some("2:8"), ""),
    ] {
        let told = parsed(text).unwrap_err();
        let place = line.map_or_else(|| "members.toml: ".to_owned(), |line| format!("members.toml:{line}: "));
        assert!(told.starts_with(&place) && told.contains(words), "{text}\n{told}");
        assert!(!told.contains(&"t".repeat(22)), "a secret in a message: {told}");
    }
    let mut nested = String::from("[[region]]\nname = \"r0\"\n");
    for depth in 1..=MAX_NESTING {
        nested.push_str(&format!("[[region]]\nname = \"r{depth}\"\nwithin = \"r{}\"\n", depth - 1));
    }
    assert!(parsed(&format!("{nested}{member}")).unwrap_err().contains("lies in more than"), "{nested}");
}

#[test]
fn secrets_that_everybody_may_read_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, token) = (folder.path().join("members.toml"), folder.path().join("token"));
    let secret = "a".repeat(22);
    fs::write(&token, &secret).unwrap();
    let inline = format!("[[member]]\nname = \"a.example\"\ntoken = \"{secret}\"\n");
    let named = "[[member]]\nname = \"a.example\"\ntoken-file = \"token\"\n";
    for (text, file, place) in [(inline.as_str(), &path, "3:9"), (named, &token, "3:14")] {
        fs::write(&path, text).unwrap();
        for mode in [0o644, 0o604, 0o602, 0o601] {
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
            let told = load(&path).unwrap_err().to_string();
            let place = format!("members.toml:{place}: ");
            assert!(told.contains(&place) && told.contains("0600 or 0640") && !told.contains(&secret), "{told}");
        }
        for mode in [0o600, 0o640] {
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
            assert!(load(&path).unwrap().members()[0].token.is_some());
        }
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    load(&path).expect("a directory without secrets may be read by everybody");
}

#[test]
fn a_watched_file_keeps_the_last_good_state() {
    let folder = tempfile::tempdir().unwrap();
    let (path, token) = (folder.path().join("members.toml"), folder.path().join("token"));
    fs::write(&token, format!("{}\n", "a".repeat(22))).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "[[member]]\nname = \"a.example\"\ntoken-file = \"token\"\n").unwrap();
    let mut watched = Watched::open(&path).unwrap();
    assert!(watched.refresh().unwrap().is_none());
    fs::write(&path, "[[member]]\nname = \"a.example\"\n[[member]]\nname = \"b_\"\nweight = -1\n").unwrap();
    let told = watched.refresh().unwrap_err().to_string();
    assert!(told.contains("members.toml:5:10"), "{told}");
    assert_eq!(watched.current().members().len(), 1);
    assert!(watched.refresh().unwrap().is_none(), "a mistake is told once");
    fs::write(&path, "[[member]]\nname = \"a.example\"\n[[member]]\nname = \"b.example\"\n").unwrap();
    assert_eq!(watched.refresh().unwrap().unwrap().members().len(), 2);
    fs::remove_file(&path).unwrap();
    assert!(watched.refresh().is_err());
    assert_eq!(watched.current().members().len(), 2);
}

#[test]
fn a_change_that_the_system_could_not_read_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("members.toml");
    fs::write(&path, "[[member]]\nname = \"a.example\"\n").unwrap();
    let mut watched = Watched::open(&path).unwrap();
    // It can be opened, and reading it is an IO error.
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/proc/self/mem", &path).unwrap();
    for _ in 0..3 {
        let problem = watched.refresh().unwrap_err();
        assert!(problem.is_passing && problem.to_string().contains("os error"), "{problem}");
    }
    fs::remove_file(&path).unwrap();
    fs::write(&path, "[[member]]\n").unwrap();
    assert!(!watched.refresh().unwrap_err().is_passing);
    assert!(watched.refresh().unwrap().is_none());
}

#[test]
fn a_prefix_is_in_one_region() {
    let region =
        |name: &str, more: &str| format!("[[region]]\nname = \"{name}\"\nprefixes = [\"192.0.2.0/24\"]\n{more}");
    let member = "[[member]]\nname = \"a.example\"\n";
    let told = parsed(&(region("europe", "") + &region("asia", "") + member)).unwrap_err();
    assert!(told.starts_with("members.toml:6:13: ") && told.contains("\"europe\" already, in line 3"), "{told}");
    let mapped = region("asia", "").replace("192.0.2.0/24", "::ffff:192.0.2.0/120");
    assert!(parsed(&(region("europe", "") + &mapped + member)).unwrap_err().contains("already, in line 3"));
    // Within each other, the smaller one has it.
    let nested = parsed(&(region("europe", "") + &region("campus", "within = \"europe\"\n") + member)).unwrap();
    let regions = nested.regions_of("192.0.2.1".parse().unwrap());
    let names: Vec<_> = regions.iter().map(|region| nested.region_name(*region)).collect();
    assert_eq!(names, ["campus", "europe"]);
}

#[test]
fn five_thousand_members_are_read() {
    let mut text = String::new();
    for number in 0..5_000 {
        text.push_str(&format!("[[member]]\nname = \"m{number}.members.example\"\noperator = \"o{}\"\n", number % 900));
    }
    assert_eq!(parsed(&text).unwrap().members().len(), 5_000);
}

#[test]
fn certificates_are_pinned_in_all_forms_that_mean_something() {
    let hash = "ab".repeat(32);
    let with = |tlsa: &str| parsed(&format!("[[member]]\nname = \"a.example\"\ntlsa = [\"{tlsa}\"]\n"));
    let directory = with(&format!("3 1 1 {hash}")).unwrap();
    let [member] = directory.members() else { panic!() };
    let tlsa = Tlsa { usage: 3, selector: 1, matching: 1, data: vec![0xab; 32] };
    assert_eq!(member.tlsa, core::slice::from_ref(&tlsa));
    assert_eq!(member.line, 2);
    assert_eq!(Tlsa::parse(&tlsa.to_string()), Ok(tlsa));
    for (text, wanted) in [
        (format!("4 1 1 {hash}"), "usage must be 0 to 3"),
        (format!("3 2 1 {hash}"), "selector must be 0 to 1"),
        (format!("3 1 3 {hash}"), "matching type must be 0 to 2"),
        (format!("3 1 2 {hash}"), "64 octets (SHA-512), not 32"),
        // A hash that is called a certificate: what the first proposal of pools had in its example.
        (format!("3 0 0 {hash}"), "must be DER"),
        ("3 1 1 abc".to_owned(), "two digits for each octet"),
        ("3 1 1 zz".to_owned(), "hexadecimal"),
        (String::new(), "usage must be"),
    ] {
        let told = with(&text).unwrap_err();
        assert!(told.starts_with("members.toml:3:9: ") && told.contains(wanted), "{told}");
    }
}

#[test]
fn answers_hold_as_far_as_no_other_region_begins() {
    let directory = parsed(GOOD).unwrap();
    let scope = |address: &str| directory.scope_of(address.parse().unwrap());
    assert_eq!(scope("192.0.2.200"), Some(25));
    assert_eq!(scope("192.0.2.1"), None); // 192.0.2.128/25 lies in its prefix
    assert_eq!(scope("2001:db8::1"), Some(32));
    assert_eq!(scope("203.0.113.1"), None);
    assert!(directory.is_regional());
}
