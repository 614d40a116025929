//! How a source is asked, judged and used, and where more of them are found.

use super::*;

#[test]
#[rustfmt::skip]
fn mistakes_about_a_source_say_what_is_accepted() {
    for (text, message) in [
        ("[[server]]\naddress = \"a:1123\"\nport = 123", "ntpd.toml:3:8: server.port: `address` names a port already, 1123"),
        ("[[server]]\naddress = \"192.0.2.1\"\nfamily = \"ipv6\"", "ntpd.toml:1:1: server.family: `address` is an address of the other family"),
        ("[[server]]\naddress = \"a\"\nfamily = \"inet\"", "ntpd.toml:3:10: server.family: unknown value `inet`; accepted: ipv4, ipv6"),
        ("[[server]]\naddress = \"a\"\noffset = 0.1", "ntpd.toml:3:10: server.offset: expected a duration, found a number; accepted: a number with a unit, also with a sign, such as \"1ms\" or \"-250us\""),
        ("[[server]]\naddress = \"a\"\noffset = \"-2h\"", "ntpd.toml:3:10: server.offset: `-2h` is out of range; accepted: -1h to 1h"),
        ("[[server]]\naddress = \"a\"\noffset = \"+-1ms\"", "ntpd.toml:3:10: server.offset: `+-1ms` is no duration; accepted: a number with a unit, also with a sign, such as \"1ms\" or \"-250us\""),
        ("[[server]]\naddress = \"a\"\nmax-delay = \"9s\"", "ntpd.toml:3:13: server.max-delay: `9s` is out of range; accepted: 1us to 8s"),
        ("[[server]]\naddress = \"a\"\nmax-delay-ratio = 0.5", "ntpd.toml:3:19: server.max-delay-ratio: 0.5 is out of range; accepted: 1 to 1000000"),
        ("[[server]]\naddress = \"a\"\nmin-stratum = 16", "ntpd.toml:3:15: server.min-stratum: 16 is out of range; accepted: 0 to 15"),
        ("[[server]]\naddress = \"a\"\nmin-samples = 9\nmax-samples = 8", "ntpd.toml:4:15: server.max-samples: 8 is less than `min-samples`, which is 9"),
        ("[[server]]\naddress = \"a\"\ncertset = 1", "ntpd.toml:3:1: server.certset: unknown key (did you mean `certificate-file`?); accepted: address, address-hints, burst, certificate-file, certificates, family, iburst, interleaved, ke-port, key, max-delay, max-delay-dev-ratio, max-delay-ratio, max-poll, max-samples, min-poll, min-samples, min-stratum, nts, offline, offset, poll-target, port, require, select, version"),
        ("[[server]]\naddress = \"a\"\ncertificates = \"file\"", "ntpd.toml:3:16: server.certificates: needs `certificate-file`"),
        ("[[server]]\naddress = \"a\"\ncertificates = \"system\"\nnts = \"off\"", "ntpd.toml:3:16: server.certificates: nts = \"off\" is plain NTP: no certificate is asked for"),
        ("[[pool]]\nname = \"a\"\nmode = \"classic\"\ncertificates = \"system\"", "ntpd.toml:4:16: pool.certificates: mode \"classic\" is plain NTP: no certificate is asked for"),
        ("[[pool]]\nname = \"a\"\ncertificate-file = \"/nowhere/ca.pem\"", "ntpd.toml:3:20: pool.certificate-file: /nowhere/ca.pem: cannot read this file: No such file or directory (os error 2)"),
        ("[clock]\nauth-select-mode = \"all\"", "ntpd.toml:2:20: clock.auth-select-mode: unknown value `all`; accepted: require, prefer, mix, ignore"),
        ("source-directories = [1]", "ntpd.toml:1:23: source-directories: expected a string, found an integer"),
    ] {
        assert_eq!(load(text).unwrap_err(), message, "{text}");
    }
}

#[test]
#[rustfmt::skip]
fn what_public_servers_do_not_permit_is_said_of_pools_and_of_nothing_else() {
    let often = "accepted: 6 (64 s) or more; less for servers of your own";
    for (text, warnings) in [
        ("[[pool]]\nname = \"a\"\nmin-poll = 4", vec![format!("ntpd.toml:3:12: pool.min-poll: 4 is more often than public servers permit; {often}")]),
        ("[[pool]]\nname = \"a\"\nmax-poll = -1", vec![format!("ntpd.toml:3:12: pool.max-poll: -1 is more often than public servers permit; {often}")]),
        ("[[pool]]\nname = \"a\"\nburst = true", vec!["ntpd.toml:3:9: pool.burst: public servers permit bursts at the start alone; accepted: false; true for servers of your own".to_owned()]),
        ("[[pool]]\nname = \"a\"\nmin-poll = 6\nmax-poll = 6\niburst = true\nburst = false", Vec::new()),
        ("[[server]]\naddress = \"a\"\nmin-poll = 0\nmax-poll = 4\nburst = true", Vec::new()),
    ] {
        let etc = Etc::new().with("ntpd.toml", text);
        assert_eq!(etc.warnings(), warnings, "{text}");
    }
}

#[test]
fn a_source_can_have_roots_and_rules_of_its_own() {
    let (certificate, _) = certificate_and_key();
    let etc = Etc::new().with("ca.pem", &certificate).with(
        "ntpd.toml",
        "[[server]]\naddress = \"a\"\ncertificate-file = \"ca.pem\"\nport = 1123\noffset = \"-1.5ms\"\nmax-samples = 3\n\
         [[pool]]\nname = \"b\"\ncertificate-file = \"ca.pem\"\ncertificates = \"both\"\n\
         [[server]]\naddress = \"c\"\ncertificates = \"system\"\n",
    );
    let Config { servers, pools, .. } = etc.load().unwrap().config;
    let file = || Some(etc.0.path().join("ca.pem"));
    let own = |which, file| Some(SourceRoots { which, file });
    assert_eq!(servers[0].options.roots, own(TrustRoots::File, file()), "these and no others");
    assert_eq!(pools[0].options.roots, own(TrustRoots::Both, file()));
    assert_eq!(servers[1].options.roots, own(TrustRoots::System, None));
    let nts = [servers[0].nts, servers[1].nts, pools[0].nts];
    assert_eq!(nts, [NtsUse::Require; 3], "whoever says who vouches for it wants it vouched for");
    let rules = SampleRules { correction: -0.0015, max_samples: 3, ..SampleRules::default() };
    assert_eq!((servers[0].port, servers[0].options.rules), (1123, rules));
}

#[test]
fn directories_of_sources_are_those_of_the_system_unless_a_file_stands_alone() {
    let etc = Etc::new().with("ntpd.toml", "pool = \"a\"");
    assert_eq!(etc.load().unwrap().config.source_directories, SOURCE_DIRECTORIES.map(PathBuf::from));
    let alone = files::load(&Origin::File(etc.0.path().join("ntpd.toml"))).unwrap();
    assert_eq!(alone.config.source_directories, Vec::<PathBuf>::new());
    let etc = etc.with("ntpd.toml", "source-directories = [\"more\", \"/run/chrony-dhcp\"]");
    let own = [etc.0.path().join("more"), "/run/chrony-dhcp".into()];
    assert_eq!(etc.load().unwrap().config.source_directories, own);
    assert_eq!(etc.warnings(), Vec::<String>::new(), "sources may yet come");
    let etc = etc.with("conf.d/none.toml", "source-directories = []");
    assert_eq!(etc.load().unwrap().config.source_directories, Vec::<PathBuf>::new());
}
