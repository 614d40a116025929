use std::fs;

use super::*;

const GOOD: &str = r#"
listen = ["192.0.2.53", "[2001:db8::53]:5353"]

[[zone]]
name = "Time.example"
key = "time.key"
members = "members.toml"
name-servers = [{ name = "ns1.time.example", addresses = ["192.0.2.53"] }, { name = "ns.example" }]
addresses = ["192.0.2.80"]
contact = "hostmaster@example"
ttl = "5m"

[limit]
responses-per-second = 50

[observe]
listen = "127.0.0.1"
"#;

fn parsed(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("/etc/pool/srv.toml"), text).map_err(|problem| problem.to_string())
}

#[test]
fn the_packaged_file_is_right() {
    let text = include_str!("../../../../packaging/pool/nts-pool-srv.toml");
    parsed(text).unwrap();
    // Each setting that is commented out is a setting, and what it names is read.
    let folder = tempfile::tempdir().unwrap();
    for name in ["balancer1", "balancer2", "update"] {
        let key = format!("key \"{name}\" {{ algorithm hmac-sha256; secret \"AAECAwQFBgcICQoLDA0ODw==\"; }};");
        crate::publish::private(&folder.path().join(name).with_extension("tsig"), &key);
    }
    crate::publish::private(&folder.path().join("cookie-secret"), "e5e973e5a6b2a43f48e7dc849e37bfcf\n");
    let is_setting =
        |line: &str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let uncommented = |line| str::strip_prefix(line, "# ").filter(|line| is_setting(line));
    assert!(text.lines().filter_map(uncommented).count() > 10);
    let all: String = text.lines().map(|line| uncommented(line).unwrap_or(line).to_owned() + "\n").collect();
    Config::parse(&folder.path().join("srv.toml"), &all).unwrap();
}

#[test]
fn a_file_is_read_with_its_defaults() {
    let config = parsed(GOOD).unwrap();
    assert_eq!(config.listen, ["192.0.2.53:53", "[2001:db8::53]:5353"].map(|text| text.parse().unwrap()));
    assert_eq!(config.observe, Some("127.0.0.1:9976".parse().unwrap()));
    assert_eq!(config.limit, LimitSettings { rate: 50, slip: 2 });
    assert_eq!(config.tcp, TcpSettings { connections: 256, idle: Duration::from_secs(10) });
    let [zone] = &config.zones[..] else { panic!("{config:?}") };
    assert_eq!(zone.key, Some("/etc/pool/time.key".into()));
    assert_eq!((zone.valid.as_secs(), zone.backdated.as_secs()), (12 * 86_400, 2 * 86_400));
    let settings = &zone.settings;
    assert_eq!((settings.name.as_str(), settings.contact.as_str()), ("time.example", "hostmaster.example"));
    assert_eq!((settings.targets, settings.ttl, settings.negative_ttl, settings.cds), (6, 300, 60, true));
    assert_eq!(settings.members, Path::new("/etc/pool/members.toml"));
    assert!(!settings.list && settings.transfer_keys.is_empty());
    let shortest = parsed("[[zone]]\nname = \"time.example\"\nmembers = \"m\"\n").unwrap();
    assert_eq!(shortest.listen.len(), 2);
    assert_eq!(shortest.zones[0].key, None);
}

#[test]
fn mistakes_are_told_with_their_place_and_what_is_accepted() {
    for (line, instead, wanted) in [
        ("ttl = \"5m\"", "ttl = \"0s\"", "11:7: \"0s\" does not do; accepted: \"30s\" to \"86400s\""),
        ("ttl = \"5m\"", "ttl = \"5 min\"", "11:7: \"5 min\" does not do"),
        ("ttl = \"5m\"", "tll = \"5m\"", "11:1: unknown field `tll`, expected one of"),
        ("ttl = \"5m\"", "targets = 20", "11:11: targets must be 4 to 8"),
        ("\"Time.example\"", "\"time..example\"", "5:8: \"time..example\" is not a name"),
        ("\"192.0.2.80\"", "\"192.0.2.800\"", "9:14: \"192.0.2.800\" is not an address"),
        ("\"hostmaster@example\"", "\"host.master@example\"", "10:11: \"host.master@example\" does not do as contact"),
        (
            ", addresses = [\"192.0.2.53\"]",
            "",
            "8:26: name server ns1.time.example lies in the zone and needs addresses",
        ),
        (
            "\"ns.example\"",
            "\"ns.example\", addresses = [\"192.0.2.1\"]",
            "name server ns.example does not lie in the zone",
        ),
        ("responses-per-second = 50", "responses-per-second = 5000000", "14:24: responses-per-second must be"),
        ("listen = \"127.0.0.1\"", "listen = \"here\"", "17:10: \"here\" is not an address and port"),
        ("[limit]", "[tcp]\nconnections = 1\n[limit]", "14:15: connections must be 8 to 10000"),
        ("[limit]", "[log]\nlevel = \"all\"\n[limit]", "unknown level \"all\"; accepted: error, warn"),
        (
            "[limit]",
            "[[zone]]\nname = \"time.example.\"\nmembers = \"m\"\n[limit]",
            "14:8: zone time.example is there already",
        ),
        (
            "[limit]",
            "[[zone]]\nname = \"sub.time.example.\"\nmembers = \"m\"\n[limit]",
            "14:8: zones sub.time.example and time.example lie in each other",
        ),
        ("\"ns.example\"", "\"time.example\"", "name server time.example is the zone itself"),
        ("[limit]", "[cookies]\nsecret-file = \"none\"\n[limit]", "/etc/pool/none: No such file"),
        (
            "key = \"time.key\"",
            "transfer-keys = [\"none\"]",
            "6:18: transfer-keys: zone time.example is not served here",
        ),
        ("ttl = \"5m\"", "transfer-keys = [\"none\"]", "11:18: /etc/pool/none: No such"),
        (
            "[limit]",
            "[zone.publish]\nserver = \"192.0.2.1\"\ntsig-key = \"none\"\n[limit]",
            "15:12: /etc/pool/none: No such",
        ),
    ] {
        assert!(GOOD.contains(line), "{line}");
        let told = parsed(&GOOD.replacen(line, instead, 1)).unwrap_err();
        assert!(told.starts_with("/etc/pool/srv.toml:") && told.contains(wanted), "{told}");
    }
    let told = parsed("").unwrap_err();
    assert!(told.contains("0 zones; accepted: 1 to 64 [[zone]] tables"), "{told}");
    let told = parsed(&GOOD.replace("name-servers", "# name-servers")).unwrap_err();
    assert!(told.contains("zone time.example is served and has no name-servers"), "{told}");
}

#[test]
fn secrets_are_read_from_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("srv.toml");
    let text = format!(
        "{GOOD}[cookies]\nsecret-file = \"cookie\"\n[[zone]]\nname = \"b.example\"\nmembers = \"m\"\n[zone.publish]\nserver = \"192.0.2.1\"\ntsig-key = \"tsig\"\n"
    );
    let load = |cookie: &str, tsig: &str| {
        crate::publish::private(&folder.path().join("cookie"), cookie);
        crate::publish::private(&folder.path().join("tsig"), tsig);
        Config::parse(&file, &text).map_err(|problem| problem.to_string())
    };
    let tsig = "key \"u\" { algorithm hmac-sha256; secret \"AAECAwQFBgcICQoLDA0ODw==\"; };";
    let config = load("e5e973e5a6b2a43f48e7dc849e37bfcf\n", tsig).unwrap();
    assert!(config.cookie_secrets.is_some());
    let publish = config.zones[1].publish.as_ref().unwrap();
    assert_eq!((publish.server, publish.key.name.as_str()), ("192.0.2.1:53".parse().unwrap(), "u"));
    // Where the unit lets it write, unlike beside the configuration.
    let unit = fs::read_to_string("../packaging/systemd/nts-pool-publish.service").unwrap();
    assert!(
        unit.lines().any(|line| line == "StateDirectory=nts-pool") && unit.lines().any(|line| line == "User=nts-pool")
    );
    assert_eq!(publish.state, Path::new("/var/lib/nts-pool/b.example.published"));
    assert!(load("e5e9", tsig).unwrap_err().contains("accepted: one or two lines of 32 hexadecimal digits"));
    let cookie = "e5e973e5a6b2a43f48e7dc849e37bfcf\n445536bcd2513298075a5d379663c962\n";
    assert!(load(cookie, tsig).is_ok(), "the next secret is accepted before it is used");
    assert!(load(&format!("{cookie}{cookie}"), tsig).unwrap_err().contains("one or two lines"));
    for name in ["cookie", "tsig"] {
        load(cookie, tsig).unwrap();
        let path = folder.path().join(name);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let told = Config::parse(&file, &text).unwrap_err().to_string();
        assert!(told.contains(&format!("{}: everybody may read or write this secret", path.display())), "{told}");
    }
    assert!(load("e5e973e5a6b2a43f48e7dc849e37bfcf", "key u {}").unwrap_err().contains("no algorithm hmac-sha256"));
}

#[test]
fn a_zone_has_keys_for_many_balancers() {
    let folder = tempfile::tempdir().unwrap();
    let read = |names: &[String]| {
        for (place, name) in names.iter().enumerate() {
            let text = format!("key {name} {{ algorithm hmac-sha256; secret \"AAECAwQFBgcICQoLDA0ODw==\"; }};");
            crate::publish::private(&folder.path().join(place.to_string()), &text);
        }
        let files: Vec<_> = (0..names.len()).map(|place| format!("\"{place}\"")).collect();
        let text = GOOD.replace("ttl = \"5m\"", &format!("transfer-keys = [{}]", files.join(", ")));
        let config = Config::parse(&folder.path().join("c"), &text).map_err(|problem| problem.to_string());
        config.map(|mut config| config.zones.remove(0).settings)
    };
    let mut names: Vec<String> = (0..64).map(|n| format!("balancer{n}")).collect();
    assert!(read(&names).is_ok_and(|settings| settings.list && settings.transfer_keys.len() == 64));
    names.push("one.more".to_owned());
    assert!(read(&names).unwrap_err().contains("more than 64 transfer-keys"));
    let told = read(&["a".to_owned(), "a".to_owned()]).unwrap_err();
    assert!(told.contains("c:11:23: key a is there already; accepted: a name for each"), "{told}");
}
