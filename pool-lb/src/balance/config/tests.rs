use std::fs;

use super::*;

const LEAST: &str = "certificate = \"c.pem\"\nprivate-key = \"/k.pem\"\nmembers = \"m.toml\"\n";

fn load_text(text: &str) -> Result<Config, Problem> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lb.toml");
    fs::write(&path, text).unwrap();
    load(&path)
}

#[test]
fn three_lines_are_enough() {
    let config = load_text(LEAST).unwrap();
    let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["0.0.0.0:4460", "[::]:4460"]);
    assert!(config.certificate.is_absolute() && config.certificate.ends_with("c.pem"));
    assert_eq!(config.private_key, Path::new("/k.pem"));
    assert_eq!(config.control_socket, Path::new("/run/nts-pool-lb/control.sock"));
    assert_eq!((config.trust, config.allow_private, config.metrics), (Trust::System, false, None));
    assert_eq!(config.hand_out, HandOut::Name);
    assert_eq!(config.probing, Probing { interval: Duration::from_secs(60), max_offset: 0.1 });
    assert!(config.limits.total * config.workers >= 4096);
}

#[test]
fn a_zone_may_say_who_the_members_are() {
    let more =
        "[zone]\nname = \"Time.example\"\nservers = [\"192.0.2.53\", \"2001:db8::53\", \"[2001:db8::54]:5300\"]\n";
    let zone = load_text(&format!("{LEAST}{more}tsig-key = \"/lists.key\"\n")).unwrap().zone.unwrap();
    assert_eq!(zone.name.as_str(), "time.example");
    let servers: Vec<_> = zone.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["192.0.2.53:53", "[2001:db8::53]:53", "[2001:db8::54]:5300"]);
    assert_eq!(zone.list, Path::new("/var/lib/nts-pool-lb/time.example.members"));
    assert!(zone.source().unwrap_err().to_string().starts_with("/lists.key: "));
}

#[test]
fn the_packaged_file_is_right() {
    let text = include_str!("../../../../packaging/pool/nts-pool-lb.toml");
    let config = load_text(text).unwrap();
    assert_eq!(config.members, Path::new("/etc/nts-pool/members.toml"));
    // Each setting that is commented out is a setting.
    let all: String = text.lines().map(|line| line.strip_prefix("# = ").unwrap_or(line).to_owned() + "\n").collect();
    assert_ne!(all, text);
    load_text(&all).unwrap();
}

#[test]
fn mistakes_are_told_with_place_and_what_is_accepted() {
    for (line, words) in [
        ("listen = [\"4460\"]", ":4:11: listen: \"4460\" is no address with port; accepted: such as"),
        ("listen = []", "listen is empty"),
        ("workers = 0", ":4:11: workers = 0 is out of range; accepted: 1 to 64"),
        ("wrokers = 1", ":4:1: unknown field `wrokers`"),
        ("proxies = [\"10.0.0.0/33\"]", ":4:12: proxies: \"10.0.0.0/33\" is no prefix"),
        ("hand-out = \"ip\"", ":4:12: unknown variant `ip`, expected `name` or `address`"),
        ("trust = \"none\"", ":4:9: unknown variant `none`"),
        ("trust = \"file\"", "need trust-file"),
        ("trust-file = \"ca.pem\"", ":4:14: trust-file is not used; accepted: trust = \"file\" or \"both\""),
        ("metrics = \"9\"", ":4:11: metrics: \"9\""),
        ("[limits]\nburst = 0", ":5:9: burst = 0 is out of range"),
        ("[probe]\nmax-offset = nan", ":5:14: max-offset = NaN is out of range; accepted: 0.001 to 10"),
        (
            "[zone]\nname = \"192.0.2.1\"\nservers = [\"192.0.2.53\"]\ntsig-key = \"k\"",
            ":5:8: name: \"192.0.2.1\" is not a name; accepted: such as \"time.example\"",
        ),
        (
            "[zone]\nname = \"a.example\"\nservers = []\ntsig-key = \"k\"",
            ":6:11: servers: 0 addresses; accepted: 1 to 8",
        ),
        (
            "[zone]\nname = \"a.example\"\nservers = [\"::1\", \"::2\", \"::3\", \"::4\", \"::5\", \"::6\", \"::7\", \"::8\", \"::9\"]\n\
             tsig-key = \"k\"",
            ":6:11: servers: 9 addresses; accepted: 1 to 8",
        ),
        (
            "[zone]\nname = \"a.example\"\nservers = [\"ns1\"]\ntsig-key = \"k\"",
            ":6:12: servers: \"ns1\" is no address; accepted: such as \"192.0.2.53\"",
        ),
        ("[zone]\nname = \"a.example\"\nservers = [\"192.0.2.53\"]", ":4:1: missing field `tsig-key`"),
        ("[probe]\ninterval = -1.0", ":5:12: interval = -1"),
    ] {
        let text = load_text(&format!("{LEAST}{line}\n")).unwrap_err().to_string();
        assert!(text.contains("lb.toml") && text.contains(words), "{line}: {text}");
    }
    assert!(load_text("").unwrap_err().to_string().contains("missing field `certificate`"));
}
