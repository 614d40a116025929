use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use ntp_proto::{
    bootstrap::Policy,
    discipline::{ChangeLimit, LeapMode, StepLimit},
    ids::KeyId,
    pool::Name,
    select::{AuthSelect, SelectConfig, SelectOptions},
    source::SampleRules,
    time::{PollInterval, Rate},
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::log_files::LogFile;

mod options;
mod refclock;

/// A directory of configuration files.
struct Etc(TempDir);

impl Etc {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join("conf.d")).unwrap();
        Self(directory)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn with(self, name: &str, text: &str) -> Self {
        self.write(name, text, 0o600);
        self
    }

    fn load(&self) -> Result<Loaded, String> {
        files::load_directory(self.0.path()).map_err(|problems| self.shorten(&problems.to_string()))
    }

    /// The directory is not of interest.
    fn shorten(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }

    fn warnings(&self) -> Vec<String> {
        self.load().unwrap().warnings.iter().map(|problem| self.shorten(&problem.to_string())).collect()
    }
}

pub(super) fn load(text: &str) -> Result<Config, String> {
    Etc::new().with("ntpd.toml", text).load().map(|loaded| loaded.config)
}

fn certificate_and_key() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["time.example".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn the_shortest_useful_file() {
    let config = load("pool = \"Time.Example\"").unwrap();
    let [pool] = config.pools.as_slice() else { panic!("{config:?}") };
    assert_eq!(pool.name.as_str(), "time.example");
    assert_eq!((pool.mode, pool.count, pool.nts), (PoolModeName::Auto, 4, NtsUse::Auto));
    assert_eq!((pool.port, pool.ke_port), (123, 4460));
    assert_eq!((pool.options.min_poll.log2_seconds(), pool.options.max_poll.log2_seconds()), (6, 10));
    assert_eq!((pool.options.iburst, pool.options.burst, pool.options.interleaved), (true, false, true));
    assert_eq!((config.clock.step_threshold, config.clock.step_limit), (Duration::from_secs(1), StepLimit::Updates(3)));
    assert_eq!(config.state_directory, Path::new("/var/lib/ntpd"));
    assert!(config.serve.is_none() && config.servers.is_empty());
}

#[test]
fn the_packaged_file_is_right() {
    let text = include_str!("../../../packaging/config/ntpd.toml");
    assert_eq!(load(text).unwrap().pools.len(), 1);
    let is_setting =
        |line: &str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let uncommented = |line: &'static str| line.strip_prefix("# ").filter(|line| is_setting(line));
    // Each table that is commented out is one: alone, and with the others.
    let mut examples: Vec<String> = Vec::new();
    for line in text.lines() {
        match (uncommented(line), examples.last_mut()) {
            (Some(line), _) if line.starts_with('[') => examples.push(format!("{line}\n")),
            (Some(line), Some(example)) => *example += &format!("{line}\n"),
            (Some(line), None) => panic!("{line} is of no table"),
            (None, _) => {}
        }
    }
    assert_eq!(examples.len(), 3, "{examples:?}");
    examples.push(examples.concat());
    for example in examples {
        assert_eq!(Etc::new().with("ntpd.toml", &format!("{text}{example}")).warnings(), [""; 0], "{example}");
    }
}

#[test]
fn where_chronyc_is_answered_is_said_in_words_there_are() {
    for (text, message) in [
        (
            "[control]\nchronyc = 1",
            "ntpd.toml:2:11: control.chronyc: expected a boolean, found an integer; accepted: true, false",
        ),
        (
            "[control]\nchronyc-open = \"shutdown\"",
            "ntpd.toml:2:16: control.chronyc-open: unknown value `shutdown`; accepted: activity, authdata, clients, manual, ntpdata, rtcdata, selectdata, serverstats, smoothing, sourcename, sources, sourcestats, tracking",
        ),
    ] {
        assert_eq!(load(text).unwrap_err(), message, "{text}");
    }
    let off = load("[control]\nsocket = \"/run/own.sock\"").unwrap();
    assert_eq!(off.chronyc, None, "a daemon beside the machine's own");
    let on = load("[control]\nsocket = \"/run/own.sock\"\nchronyc-listen = \"127.0.0.1:1323\"").unwrap();
    assert_eq!(on.chronyc.map(|chronyc| chronyc.listen), Some(vec!["127.0.0.1:1323".parse().unwrap()]));
    assert_eq!(load("").unwrap().chronyc, Some(ChronycSettings::default()));
}

#[test]
fn a_pool_has_four_forms() {
    let two = load("pool = [\"a.example\", { name = \"b.example\", count = 2 }]").unwrap();
    assert_eq!(two.pools.iter().map(|pool| pool.count).collect::<Vec<_>>(), [4, 2]);
    assert_eq!(load("[pool]\nname = \"a.example\"\ncount = 1").unwrap().pools[0].count, 1);
    assert_eq!(load("[[pool]]\nname = \"a.example\"\n[[pool]]\nname = \"b.example\"").unwrap().pools.len(), 2);
}

#[test]
fn servers_say_how_they_are_used() {
    let text = "[[server]]\naddress = \"[2001:db8::1]:1123\"\nnts = \"off\"\nselect = [\"prefer\", \"trust\"]\n\
                min-poll = -3\nversion = 3\n[[server]]\naddress = \"ntp1.example\"\nmax-poll = 4\nselect = \"noselect\"";
    let servers = load(text).unwrap().servers;
    assert_eq!((servers[0].host.to_string().as_str(), servers[0].port), ("2001:db8::1", 1123));
    assert!(servers[0].options.select.prefer && servers[0].options.select.trust && !servers[0].options.select.require);
    assert_eq!((servers[0].options.min_poll.log2_seconds(), servers[0].options.max_poll.log2_seconds()), (-3, 10));
    assert_eq!((servers[1].options.min_poll.log2_seconds(), servers[1].options.max_poll.log2_seconds()), (4, 4));
    assert_eq!((servers[0].options.version, servers[1].options.version), (3, 4));
    assert!(servers[1].options.select.noselect);
}

#[test]
fn hints_are_addresses_of_servers_that_have_names() {
    let hints = |text: &str| load(text).unwrap().servers[0].address_hints.clone();
    let both: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    assert_eq!(hints("[[server]]\naddress = \"a\"\naddress-hints = [\"192.0.2.1\", \"2001:db8::1\"]"), both);
    assert_eq!(hints("[[server]]\naddress = \"a\"\naddress-hints = \"192.0.2.1\""), both[..1]);
    for (text, message) in [
        (
            "[[server]]\naddress = \"192.0.2.1\"\naddress-hints = [\"192.0.2.2\"]",
            "ntpd.toml:3:18: server.address-hints: `address` is an address itself; accepted: hints for a server that has a name",
        ),
        (
            "[[pool]]\nname = \"a\"\naddress-hints = [\"192.0.2.1:123\"]",
            "ntpd.toml:3:18: pool.address-hints: `192.0.2.1:123` is not the address of a server; accepted: an address without a port, such as \"192.0.2.1\" or \"2001:db8::1\"",
        ),
        (
            "[[pool]]\nname = \"a\"\naddress-hints = \"0.0.0.0\"",
            "ntpd.toml:3:17: pool.address-hints: `0.0.0.0` is not the address of a server; accepted: an address without a port, such as \"192.0.2.1\" or \"2001:db8::1\"",
        ),
    ] {
        assert_eq!(load(text).unwrap_err(), message, "{text}");
    }
}

#[test]
fn mistakes_name_place_key_and_what_is_accepted() {
    let both = "a table with `name`, or a list of them";
    for (text, message) in [
        ("pool = 1", format!("ntpd.toml:1:8: pool: expected a string or a table, found an integer; accepted: \"name\", {both}")),
        ("pool = [\"a\", 2]", format!("ntpd.toml:1:14: pool: expected a string or a table, found an integer; accepted: \"name\", {both}")),
        ("pool = \"a b\"", "ntpd.toml:1:8: pool.name: `a b` is not a host name: labels of 1 to 63 letters, digits, `-` or `_`, separated by dots, 253 characters in all".into()),
        ("pool = \"192.0.2.1\"", "ntpd.toml:1:8: pool.name: `192.0.2.1` is an address, not a name: use `[[server]]` for single servers".into()),
        ("[[pool]]\ncount = 3", "ntpd.toml:1:1: pool.name: missing".into()),
        ("[[pool]]\nname = \"a\"\ncount = 17", "ntpd.toml:3:9: pool.count: 17 is out of range; accepted: 1 to 16".into()),
        ("[[pool]]\nname = \"a\"\nmode = \"lbb\"", "ntpd.toml:3:8: pool.mode: unknown value `lbb`; accepted: auto, srv, lb, shared-cert, ip-cert, classic".into()),
        ("[[pool]]\nname = \"a\"\nmode = \"classic\"\nnts = \"require\"", "ntpd.toml:4:7: pool.nts: mode \"classic\" is plain NTP; accepted: off, or another mode".into()),
        ("[[pool]]\nname = \"a\"\nmode = \"lb\"\nnts = \"off\"", "ntpd.toml:4:7: pool.nts: mode \"lb\" needs NTS; accepted: auto, require, or mode \"classic\"".into()),
        ("[[pool]]\nname = \"a\"\nmode = \"srv\"\nnts = \"off\"", "ntpd.toml:4:7: pool.nts: mode \"srv\" needs NTS; accepted: auto, require, or mode \"classic\"".into()),
        ("[[pool]]\nname = \"a\"\nnts = true", "ntpd.toml:3:7: pool.nts: expected a string, found a boolean; accepted: auto, require, off".into()),
        ("[[pool]]\nname = \"a\"\nminpoll = 3", "ntpd.toml:3:1: pool.minpoll: unknown key (did you mean `min-poll`?); accepted: address-hints, burst, certificate-file, certificates, count, family, iburst, interleaved, ke-port, max-delay, max-delay-dev-ratio, max-delay-ratio, max-poll, max-samples, min-poll, min-samples, min-stratum, mode, name, nts, offline, offset, poll-target, port, require, select, version".into()),
        ("[[pool]]\nname = \"a\"\nmin-poll = 18", "ntpd.toml:3:12: pool.min-poll: 18 is out of range; accepted: -4 to 17 (log2 of seconds)".into()),
        ("[[pool]]\nname = \"a\"\nmin-poll = 8\nmax-poll = 7", "ntpd.toml:4:12: pool.max-poll: 7 is less than `min-poll`, which is 8".into()),
        ("[[pool]]\nname = \"a\"\niburst = 1", "ntpd.toml:3:10: pool.iburst: expected a boolean, found an integer; accepted: true, false".into()),
        ("[[pool]]\nname = \"a\"\nrequire = [\"tls\"]", "ntpd.toml:3:12: pool.require: unknown value `tls`; accepted: dnssec, dane".into()),
        ("[[pool]]\nname = \"a\"\nnts = \"off\"\nrequire = \"dnssec\"", "ntpd.toml:4:11: pool.require: plain NTP, which nts = \"off\" means, has nothing that DNSSEC could vouch for".into()),
        ("[[pool]]\nname = \"a\"\nmode = \"classic\"\nrequire = [\"dane\"]", "ntpd.toml:4:12: pool.require: plain NTP, which mode \"classic\" is, has nothing that DNSSEC could vouch for".into()),
        ("[[pool]]\nname = \"a\"\nmode = \"ip-cert\"\nrequire = [\"dane\"]", "ntpd.toml:4:12: pool.require: an address, of which mode \"ip-cert\" asks a certificate, has nothing that DNSSEC could vouch for".into()),
        ("[[server]]\naddress = \"192.0.2.1\"\nrequire = \"dane\"", "ntpd.toml:3:11: server.require: an address has nothing that DNSSEC could vouch for".into()),
        ("pool = [\"a.example\",\n \"A.example.\"]", "ntpd.toml:2:2: pool.name: `a.example` was given before, at ntpd.toml:1:9".into()),
        ("[[server]]\naddress = \"a:b\"", "ntpd.toml:2:11: server.address: `a:b` is not a server's name or address; accepted: a host name or an address, also with a port, such as \"ntp1.example:123\" or \"[2001:db8::1]:123\"".into()),
        ("[[server]]\naddress = \"a\"\n[[server]]\naddress = \"a:123\"", "ntpd.toml:4:11: server.address: `a port 123` was given before, at ntpd.toml:2:11".into()),
        ("[[server]]\naddress = \"a\"\nselect = [\"prefer\", \"noselect\"]", "ntpd.toml:1:1: server.select: `noselect` excludes the other words".into()),
        ("[[server]]\naddress = \"a\"\nselect = \"never\"", "ntpd.toml:3:10: server.select: unknown value `never`; accepted: prefer, trust, require, noselect".into()),
        ("[[server]]\naddress = \"a\"\nversion = 5", "ntpd.toml:3:11: server.version: 5 is out of range; accepted: 3 to 4".into()),
        ("[[server]]\naddress = \"a\"\nkey = 7", "ntpd.toml:2:11: server.key: there is no file of keys: set `file` in `[keys]`".into()),
        ("[[server]]\naddress = \"a\"\nkey = 0", "ntpd.toml:3:7: server.key: 0 is out of range; accepted: 1 to 4294967295".into()),
        ("[clock]\nstep = { threshold = 1 }", "ntpd.toml:2:22: clock.step.threshold: expected a duration, found an integer; accepted: a number with a unit (ns, us, ms, s, min, h, d), such as \"1s\" or \"100ms\"".into()),
        ("[clock]\nstep = { threshold = \"0s\" }", "ntpd.toml:2:22: clock.step.threshold: `0s` is out of range; accepted: 1us to 365d".into()),
        ("[clock]\nstep = { updates = \"ever\" }", "ntpd.toml:2:20: clock.step.updates: unknown value `ever`; accepted: 0 to 1000000, or \"always\"".into()),
        ("[clock]\nstep = { updates = -1 }", "ntpd.toml:2:20: clock.step.updates: -1 is out of range; accepted: 0 to 1000000, or \"always\"".into()),
        ("[clock]\nmax-slew-rate = 1e6", "ntpd.toml:2:17: clock.max-slew-rate: 1000000 is out of range; accepted: 1 to 100000 (parts per million)".into()),
        ("[clock]\nmax-slew-rate = nan", "ntpd.toml:2:17: clock.max-slew-rate: NaN is out of range; accepted: 1 to 100000 (parts per million)".into()),
        ("[clock]\nmakestep = 1", "ntpd.toml:2:1: clock.makestep: unknown key (did you mean `clock.step`?); accepted: auth-select-mode, correction-time-ratio, leap, leap-file, log-change, max-change, max-distance, max-frequency, max-jitter, max-slew-rate, max-update-skew, min-sources, step".into()),
        ("clock = 3", "ntpd.toml:1:9: clock: expected a table, found an integer".into()),
        ("[serve]\nallow = \"all\"\nlisten = \"0.0.0.0\"", "ntpd.toml:3:10: serve.listen: `0.0.0.0` cannot be listened on; accepted: an address with a port, such as \"0.0.0.0:123\" or \"[::]:123\"".into()),
        ("[serve]\nallow = \"all\"\nlisten = [\"[::]:123\", \"[::]:123\"]", "ntpd.toml:3:23: serve.listen: `[::]:123` was given before".into()),
        ("[serve]\nallow = [\"10.0.0.1/8\"]", "ntpd.toml:2:10: serve.allow: `10.0.0.1/8` has address bits beyond its length: is `10.0.0.0/8` meant?; accepted: an address or a prefix, such as \"192.0.2.0/24\" or \"2001:db8::/32\", or \"all\"".into()),
        ("[serve]\nallow = \"all\"\nsmear = true", "ntpd.toml:3:9: serve.smear: leap seconds are spread by a list; accepted: beside `leap-file` in [clock], where `leap` is not \"ignore\"".into()),
        ("[serve]\nallow = \"all\"\nrate-limit = 5", "ntpd.toml:3:14: serve.rate-limit: expected a table, found an integer; accepted: { interval = 0, burst = 32, leak = 1, kiss = false }, or false".into()),
        ("[serve]\nallow = \"all\"\nrate-limit = { leak = 9 }", "ntpd.toml:3:23: serve.rate-limit.leak: 9 is out of range; accepted: 1 to 8, or false".into()),
        ("[serve]\nallow = \"all\"\n[serve.nts]\nprivate-key = \"/x\"", "ntpd.toml:3:8: serve.nts.certificate: missing".into()),
        ("[serve.nts]\ncertificate = \"/nowhere/c.pem\"\nprivate-key = \"/nowhere/k.pem\"\n[serve]\nallow = \"all\"", "ntpd.toml:2:15: serve.nts.certificate: /nowhere/c.pem: cannot read this file: No such file or directory (os error 2)".into()),
        ("[trust]\ncertificates = \"file\"", "ntpd.toml:2:16: trust.certificates: needs `certificate-file`".into()),
        ("[trust]\naeads = [30, 31]", format!("ntpd.toml:2:14: trust.aeads: unknown AEAD algorithm `31`; accepted: {AEADS}")),
        ("[trust]\naeads = \"AES\"", format!("ntpd.toml:2:9: trust.aeads: unknown AEAD algorithm `AES`; accepted: {AEADS}")),
        ("[trust]\naeads = [true]", format!("ntpd.toml:2:10: trust.aeads: expected an integer or a string, found a boolean; accepted: {AEADS}")),
        ("[trust]\naeads = []", format!("ntpd.toml:1:2: trust.aeads: without any algorithm there is no NTS; accepted: {AEADS}")),
        ("[trust]\naeads = [15, \"aead_aes_siv_cmac_256\"]", "ntpd.toml:2:14: trust.aeads: 15 was given before".into()),
        ("[trust]\nbootstrap = \"always\"", "ntpd.toml:2:13: trust.bootstrap: unknown value `always`; accepted: quorum, strict".into()),
        ("[trust]\ndnssec = \"off\"", "ntpd.toml:2:10: trust.dnssec: unknown value `off`; accepted: validate, trust-resolver".into()),
        ("[trust]\ndnssec-anchor = \"/nowhere/root.key\"", "ntpd.toml:2:17: trust.dnssec-anchor: /nowhere/root.key: cannot be read: No such file or directory (os error 2)".into()),
        ("[trust]\nresolver = \"dns.example\"", "ntpd.toml:2:12: trust.resolver: `dns.example` is not the address of a name server; accepted: an address, with or without a port: 192.0.2.53, 192.0.2.53:5353, [2001:db8::53]:5353".into()),
        ("[log]\nlevel = \"loud\"", "ntpd.toml:2:9: log.level: unknown value `loud`; accepted: error, warn, info, debug, trace".into()),
        ("[keys]", "ntpd.toml:1:2: keys.file: missing".into()),
        ("remove = \"a\"", "ntpd.toml:1:10: remove: expected a list, found a string; accepted: a list of names of pools, addresses of servers, and devices or refids of reference clocks".into()),
        ("poool = \"a\"", "ntpd.toml:1:1: poool: unknown key (did you mean `pool`?); accepted: clock, control, hwtimestamp, keys, log, observe, pool, refclock, serve, server, source-directories, state, trust".into()),
    ] {
        match load(text) {
            Ok(config) => panic!("{text}\n{config:?}"),
            Err(found) => assert_eq!(found, message, "{text}"),
        }
    }
}

const AEADS: &str = "15 (AEAD_AES_SIV_CMAC_256), 17 (AEAD_AES_SIV_CMAC_512), 30 (AEAD_AES_128_GCM_SIV)";

#[test]
fn what_to_do_without_the_time_can_be_chosen() {
    let first_boot = |text: &str| load(text).unwrap().trust.first_boot;
    assert_eq!(first_boot("[trust]"), FirstBoot { policy: Policy::Quorum, single: false, min_agreeing: None });
    let all = first_boot("[trust]\nbootstrap = \"quorum\"\nfirst-boot-quorum = 1\nmin-agreeing = 3");
    assert_eq!(all, FirstBoot { policy: Policy::Quorum, single: true, min_agreeing: Some(3) });
    assert_eq!(first_boot("[trust]\nbootstrap = \"strict\"").policy, Policy::Strict);
    let etc = Etc::new().with("ntpd.toml", "pool = \"a\"\n[trust]\nbootstrap = \"strict\"\nfirst-boot-quorum = 1");
    let what = "ntpd.toml:4:21: trust.first-boot-quorum: not used, because `bootstrap` is \"strict\"";
    assert_eq!(etc.warnings(), [what]);
    let one = "accepted: 1, where one operator is configured and is to be believed; without it, a majority";
    for (line, message) in [
        ("first-boot-quorum = 2", format!("2:21: trust.first-boot-quorum: 2 is out of range; {one}")),
        (
            "first-boot-quorum = true",
            format!("2:21: trust.first-boot-quorum: expected an integer, found a boolean; {one}"),
        ),
        ("min-agreeing = 0", "2:16: trust.min-agreeing: 0 is out of range; accepted: 1 to 16".to_owned()),
    ] {
        assert_eq!(load(&format!("[trust]\n{line}")).unwrap_err(), format!("ntpd.toml:{message}"));
    }
}

#[test]
fn aead_algorithms_are_numbers_or_names_best_first() {
    let aeads =
        |text: &str| -> Vec<u16> { load(text).unwrap().trust.aeads.into_iter().map(AeadAlgorithm::id).collect() };
    assert_eq!(aeads("[trust]\naeads = [30, 15]"), [30, 15]);
    assert_eq!(aeads("[trust]\naeads = [\"AEAD_AES_SIV_CMAC_512\", 30]"), [17, 30]);
    assert_eq!(aeads("[trust]\naeads = 17"), [17]);
    for unsaid in ["", "[trust]\ncertificates = \"system\""] {
        assert_eq!(aeads(unsaid), [15, 30, 17]);
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let found = load("pool = 1\n[clock]\nleap = \"smear\"\nx = 1\n[log]\nformat = 3").unwrap_err();
    let keys: Vec<_> = found.lines().filter_map(|line| line.split(": ").nth(1)).collect();
    assert_eq!(keys, ["pool", "clock.leap", "clock.x", "log.format"], "{found}");
}

#[test]
fn what_is_no_toml_is_told_with_its_place() {
    for (text, start) in [
        ("pool = \"a\"\n[clock\n", "ntpd.toml:2:7: "),
        ("pool = \n", "ntpd.toml:1:"),
        ("pool = \"a\"\npool = \"b\"\n", "ntpd.toml:2:1: duplicate key"),
        ("[log]\n[log]\n", "ntpd.toml:2:"),
        ("pool = 99999999999999999999999999", "ntpd.toml:1:8: integer of more than 64 bits"),
    ] {
        let found = load(text).unwrap_err();
        assert!(found.starts_with(start), "{text}: {found}");
    }
}

#[test]
fn later_files_replace_keys_and_add_sources() {
    let etc = Etc::new()
        .with("ntpd.toml", "pool = \"vendor.example\"\n[clock]\nmin-sources = 2\nstep = { threshold = \"2s\" }")
        .with("conf.d/20-site.toml", "remove = [\"Vendor.example.\"]\n[[server]]\naddress = \"ntp1.example\"")
        .with("conf.d/10-dhcp.toml", "server = [\"192.0.2.1\"]\n[clock]\nmin-sources = 3\nstep = { updates = 7 }")
        .with("conf.d/30-late.toml", "pool = [\"site.example\"]")
        .with("conf.d/.hidden.toml", "nonsense")
        .with("conf.d/readme.txt", "nonsense");
    let config = etc.load().unwrap().config;
    let servers: Vec<_> = config.servers.iter().map(|server| server.host.to_string()).collect();
    assert_eq!(servers, ["192.0.2.1", "ntp1.example"]);
    assert_eq!(config.pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>(), ["site.example"]);
    assert_eq!(config.clock.select.min_sources, Some(3));
    assert_eq!((config.clock.step_threshold, config.clock.step_limit), (Duration::from_secs(2), StepLimit::Updates(7)));

    let etc = etc.with("conf.d/40-again.toml", "# where\n\npool = \"site.example\"");
    let found = etc.load().unwrap_err();
    let message = "conf.d/40-again.toml:3:8: pool.name: `site.example` was given before, at conf.d/30-late.toml:1:9";
    assert_eq!(found, message);
}

#[test]
fn doubtful_things_are_warned_of() {
    let etc = Etc::new().with("ntpd.toml", "remove = [\"gone.example\"]\n[serve]");
    assert_eq!(
        etc.warnings(),
        [
            "ntpd.toml:1:11: remove: no earlier file has a pool, server or refclock `gone.example`",
            "ntpd.toml:2:2: serve.allow: no client is allowed, so none will be answered; accepted: prefixes, or \"all\"",
            "ntpd.toml: no source of time, the clock will not be set; accepted: for example `pool = \"time.example\"`",
        ]
    );
}

#[test]
fn a_file_that_others_may_write_is_refused() {
    let etc = Etc::new();
    for mode in [0o620, 0o602, 0o666] {
        etc.write("ntpd.toml", "pool = \"a\"", mode);
        let message = format!(
            "ntpd.toml: others than its owner may write this file (mode {mode:04o}); accepted: a file after `chmod go-w`"
        );
        assert_eq!(etc.load().unwrap_err(), message);
    }
    etc.write("ntpd.toml", "pool = \"a\"", 0o644);
    assert!(etc.load().is_ok());
    etc.write("conf.d/x.toml", "", 0o666);
    assert!(etc.load().unwrap_err().starts_with("conf.d/x.toml: others"));
}

#[test]
fn files_that_cannot_be_read_are_named() {
    assert_eq!(
        Etc::new().load().unwrap_err(),
        "ntpd.toml: cannot read this file: No such file or directory (os error 2)"
    );
    let directory = super::load(&Origin::File("/".into())).unwrap_err().to_string();
    assert_eq!(directory, "/: this is no file");
    let long = "#".repeat((1 << 20) + 1);
    assert!(Etc::new().with("ntpd.toml", &long).load().unwrap_err().contains("longer than 1048576 bytes"));
    let etc = Etc::new();
    fs::write(etc.0.path().join("ntpd.toml"), [0x70, 0xff]).unwrap();
    assert_eq!(etc.load().unwrap_err(), "ntpd.toml: this file is not UTF-8 text");
}

#[test]
fn keys_are_looked_up_and_protected() {
    let main = "[keys]\nfile = \"keys.toml\"\n[[server]]\naddress = \"a\"\nkey = 7";
    let key = "[[key]]\nid = 7\ntype = \"sha1\"\nsecret = \"ascii:x\"";
    let etc = Etc::new().with("ntpd.toml", main).with("keys.toml", key);
    let loaded = etc.load().unwrap();
    assert_eq!((loaded.keys[0].id(), loaded.config.servers[0].nts), (KeyId(7), NtsUse::Off));
    assert_eq!(loaded.config.key_file, Some(etc.0.path().join("keys.toml")), "relative to the file that names it");

    etc.write("keys.toml", key, 0o644);
    assert_eq!(etc.warnings(), ["ntpd.toml:2:8: keys.file: everybody may read or write keys.toml"]);
    etc.write("keys.toml", key, 0o660);
    assert!(etc.load().unwrap_err().starts_with("ntpd.toml:2:8: keys.file: keys.toml: others than its owner"));
    etc.write("keys.toml", "", 0o600);
    assert_eq!(etc.load().unwrap_err(), "ntpd.toml:4:11: server.key: no key 7 in the file of keys");
    let etc = etc.with("ntpd.toml", &format!("{main}\nnts = \"require\"")).with("keys.toml", key);
    let message = "ntpd.toml:6:7: server.nts: a server has a symmetric key or NTS, not both; accepted: off";
    assert_eq!(etc.load().unwrap_err(), message);
}

#[test]
fn certificates_and_keys_are_tried() {
    let main = "[serve]\nallow = \"all\"\n[serve.nts]\ncertificate = \"cert.pem\"\nprivate-key = \"key.pem\"";
    let (certificate, key) = certificate_and_key();
    let (_, other_key) = certificate_and_key();
    let etc = Etc::new().with("ntpd.toml", main).with("cert.pem", &certificate).with("key.pem", &key);
    assert!(etc.load().unwrap().config.serve.is_some_and(|serve| serve.nts.is_some()));

    let etc = etc.with("key.pem", &other_key);
    let found = etc.load().unwrap_err();
    assert!(
        found.starts_with("ntpd.toml:5:15: serve.nts.private-key: key.pem: not the key of the certificate"),
        "{found}"
    );
    let etc = etc.with("key.pem", "");
    let message = "ntpd.toml:5:15: serve.nts.private-key: key.pem: no private key in this file; accepted: PEM";
    assert_eq!(etc.load().unwrap_err(), message);
    let etc = etc.with("cert.pem", "");
    let message = "ntpd.toml:4:15: serve.nts.certificate: cert.pem: no certificate in this file; accepted: PEM";
    assert_eq!(etc.load().unwrap_err(), message);
    etc.write("key.pem", &key, 0o604);
    let etc = etc.with("cert.pem", &certificate);
    let message =
        "ntpd.toml:5:15: serve.nts.private-key: everybody may read or write key.pem; accepted: mode 0600 or 0640";
    assert_eq!(etc.load().unwrap_err(), message, "as the server that would use it");
}

fn arb_options() -> impl Strategy<Value = SourceOptions> {
    let select = prop_oneof![
        Just(SelectOptions { noselect: true, ..SelectOptions::default() }),
        any::<(bool, bool, bool)>().prop_map(|(prefer, trust, require)| SelectOptions {
            noselect: false,
            prefer,
            trust,
            require
        }),
    ];
    let family = prop_oneof![Just(None), Just(Some(Family::Ipv4)), Just(Some(Family::Ipv6))];
    let flags = any::<(bool, bool, bool, bool)>();
    ((-4..=17_i8, -4..=17_i8), flags, 3..=4_u8, family, arb_rules(), select).prop_map(
        |((a, b), (iburst, burst, interleaved, offline), version, family, rules, select)| SourceOptions {
            min_poll: PollInterval::new(a.min(b)).unwrap(),
            max_poll: PollInterval::new(a.max(b)).unwrap(),
            iburst,
            burst,
            interleaved,
            version,
            offline,
            family,
            rules,
            roots: None,
            select,
        },
    )
}

fn arb_rules() -> impl Strategy<Value = SampleRules> {
    let ratio = || prop_oneof![Just(None), (1..1_000_u16).prop_map(|ratio| Some(f64::from(ratio) + 0.25))];
    let nanos = -3_600_000_000_000_i64..=3_600_000_000_000;
    (nanos, 0..=15_u8, 1..=8_000_000_u32, ratio(), ratio(), (1..=64_usize, 1..=64_usize), 1..=64_u8).prop_map(
        |(nanos, min_stratum, delay, max_delay_ratio, max_delay_deviations, (a, b), poll_target)| SampleRules {
            correction: Duration::from_nanos(nanos.unsigned_abs()).as_secs_f64().copysign(nanos as f64),
            min_stratum,
            max_delay: Duration::from_micros(delay.into()).as_secs_f64(),
            max_delay_ratio,
            max_delay_deviations,
            min_samples: a.min(b),
            max_samples: a.max(b),
            poll_target,
        },
    )
}

fn arb_nts() -> impl Strategy<Value = NtsUse> {
    prop_oneof![Just(NtsUse::Auto), Just(NtsUse::Require), Just(NtsUse::Off)]
}

fn hints(some: u16) -> Vec<IpAddr> {
    let all = ["192.0.2.1", "2001:db8::1"].map(|hint| hint.parse().unwrap());
    all.into_iter().take(usize::from(some % 3)).collect()
}

fn arb_pool() -> impl Strategy<Value = Pool> {
    let modes = [
        PoolModeName::Auto,
        PoolModeName::Srv,
        PoolModeName::Lb,
        PoolModeName::SharedCert,
        PoolModeName::IpCert,
        PoolModeName::Classic,
    ];
    let mode = prop::sample::select(modes.to_vec());
    (0..99_u8, mode, 1..=16_usize, arb_nts(), any::<(u16, u16)>(), arb_options()).prop_map(
        |(name, mode, count, nts, (port, ke_port), options)| Pool {
            name: Name::parse(&format!("p{name}.example")).unwrap(),
            mode,
            count,
            nts: match (mode, nts) {
                (PoolModeName::Classic, _) => NtsUse::Off,
                (PoolModeName::Auto, nts) => nts,
                (_, NtsUse::Off) => NtsUse::Auto,
                (_, nts) => nts,
            },
            require: match (mode, nts) {
                (PoolModeName::Classic | PoolModeName::IpCert, _) => Require::default(),
                (_, NtsUse::Require) => Require { dnssec: port % 2 == 0, dane: ke_port % 2 == 0 },
                (_, NtsUse::Auto | NtsUse::Off) => Require::default(),
            },
            port: port.max(1),
            ke_port: ke_port.max(1),
            address_hints: hints(port),
            options,
        },
    )
}

fn arb_server() -> impl Strategy<Value = Server> {
    let host = prop_oneof![
        any::<[u8; 4]>().prop_map(|[_, b, c, d]| Host::Address([192, b, c, d].into())),
        any::<u16>().prop_map(|last| Host::Address([0x2001, 0xdb8, 0, 0, 0, 0, 0, last].into())),
        (0..99_u8).prop_map(|name| Host::Name(Name::parse(&format!("s{name}.example")).unwrap())),
    ];
    let own = any::<bool>();
    (host, any::<(u16, u16)>(), arb_nts(), own, arb_options()).prop_map(|(host, (port, ke_port), nts, own, options)| {
        Server {
            options: SourceOptions {
                family: options.family.filter(|family| !matches!(host, Host::Address(ip) if !family.has(ip))),
                roots: (own && nts == NtsUse::Require).then_some(SourceRoots { which: TrustRoots::System, file: None }),
                ..options
            },
            address_hints: if matches!(host, Host::Name(_)) { hints(ke_port) } else { Vec::new() },
            host,
            port: port.max(1),
            ke_port: ke_port.max(1),
            nts,
            key: None,
            require: Require::default(),
        }
    })
}

fn arb_clock() -> impl Strategy<Value = ClockSettings> {
    let limit = prop_oneof![Just(StepLimit::Always), (0..1_000_000_u32).prop_map(StepLimit::Updates)];
    (
        (1_000..1_u64 << 40, limit),
        (1..=100_000_u32, 1..=100_000_u32),
        (1..3_600_000_u64, 1..3_600_000_u64),
        1..=16_usize,
        any::<bool>(),
    )
        .prop_map(|((threshold, step_limit), (slew, frequency), (distance, jitter), min_sources, ignore)| {
            let offset = Duration::from_millis(distance).as_secs_f64();
            ClockSettings {
                max_update_skew: Rate::from_ppm(f64::from(slew)),
                max_change: ignore.then(|| ChangeLimit {
                    offset,
                    start: jitter % 1000,
                    ignore: (slew > 50_000).then_some(slew),
                }),
                log_change: Duration::from_millis(jitter),
                leap_file: ignore.then(|| "/nonexistent/leap \"list\"".into()),
                step_threshold: Duration::from_nanos(threshold),
                step_limit,
                max_slew_rate: Rate::from_ppm(f64::from(slew)),
                correction_time_ratio: f64::from(slew) / 1000.0,
                max_frequency: Rate::from_ppm(f64::from(frequency)),
                select: SelectConfig {
                    min_sources: (min_sources > 8).then_some(min_sources),
                    max_distance: Duration::from_millis(distance).as_secs_f64(),
                    max_jitter: Duration::from_millis(jitter).as_secs_f64(),
                    auth: if ignore { AuthSelect::Prefer } else { AuthSelect::Ignore },
                },
                leap: if ignore && min_sources % 2 == 0 { LeapMode::Ignore } else { LeapMode::Step },
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_explained_is_read_back_as_it_was(
        mut pools in prop::collection::vec(arb_pool(), 0..4),
        mut servers in prop::collection::vec(arb_server(), 0..4),
        clock in arb_clock(),
        serve in any::<(bool, bool, bool, u8)>(),
        (strict, single, agreeing) in any::<(bool, bool, bool)>(),
    ) {
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        pools.dedup_by(|a, b| a.name == b.name);
        servers.sort_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
        servers.dedup_by(|a, b| (&a.host, a.port) == (&b.host, b.port));
        let (certificate, key) = certificate_and_key();
        let etc = Etc::new().with("cert.pem", &certificate).with("key \"1\".pem", &key);
        let etc = etc.with("tokens", "0123456789abcdef0123456789abcdef\n").with("secret", "fedcba9876543210fedcba9876543210\n");
        let policy = if strict { Policy::Strict } else { Policy::Quorum };
        let first_boot = FirstBoot { policy, single, min_agreeing: agreeing.then_some(3) };
        let (with_serve, with_nts, limited, threads) = serve;
        let nts = ServeNts {
            listen: vec!["[::1]:4460".parse().unwrap()],
            certificate: etc.0.path().join("cert.pem"),
            private_key: etc.0.path().join("key \"1\".pem"),
            ntp_server: Some(Host::Name(Name::parse("ntp.example").unwrap())),
            ntp_port: Some(1123),
            pool_tokens: Some(etc.0.path().join("tokens")),
            cookie_secret: Some(etc.0.path().join("secret")),
            cookie_period: Duration::from_secs(3_600),
        };
        let smears = clock.leap_file.is_some() && clock.leap != LeapMode::Ignore;
        let config = Config {
            source_directories: ["/etc/ntpd/sources.d", "/run/a b"].map(PathBuf::from).to_vec(),
            pools,
            servers,
            refclocks: refclock::every(threads),
            hwtimestamp: refclock::interfaces(),
            clock,
            serve: with_serve.then(|| Serve {
                listen: vec!["0.0.0.0:123".parse().unwrap(), "[fe80::1%2]:123".parse().unwrap()],
                local: limited.then(|| LocalConfig { stratum: threads % 15 + 1, orphan: strict, wait_synced: Duration::from_millis(threads.into()), ..LocalConfig::DEFAULT }),
                smear: strict && smears,
                client_log: usize::from(threads) * 99,
                access: AccessRules { allow: vec!["10.0.0.0/8".parse().unwrap(), "::/0".parse().unwrap()], deny: vec!["10.1.0.0/16".parse().unwrap()] },
                rate_limit: limited.then_some(RateLimit { interval: PollInterval::new(-3).unwrap(), burst: 9, leak_log2: None, kiss: true }),
                threads: usize::from(threads % 64 + 1),
                nts: with_nts.then_some(nts),
            }),
            trust: TrustSettings { certificates: TrustRoots::Both, certificate_file: Some(etc.0.path().join("cert.pem")), aeads: vec![AeadAlgorithm::AesGcmSiv128, AeadAlgorithm::AesSivCmac256], dnssec: DnssecUse::TrustResolver, dnssec_anchor: None, resolvers: vec!["127.0.0.53:53".parse().unwrap(), "[2001:db8::53]:5353".parse().unwrap()], first_boot },
            key_file: None,
            state_directory: "/var/lib/nt\\pd".into(),
            control_socket: "/run/ntpd/control.sock".into(),
            chronyc: limited.then(|| ChronycSettings { listen: vec!["127.0.0.1:1323".parse().unwrap()], allow: vec!["10.0.0.0/8".parse().unwrap()], open: vec![], ..ChronycSettings::default() }),
            observe: vec!["127.0.0.1:9975".parse().unwrap(), "[::1]:9975".parse().unwrap()],
            log: LogSettings { level: LogLevel::Debug, format: LogFormat::Json },
            log_files: strict.then(|| LogFiles { directory: "/var/log/a b".into(), write: vec![LogFile::Measurements, LogFile::Tracking], banner: 0 }),
        };
        let explained = config.explain();
        let read = etc.with("ntpd.toml", &explained).load();
        prop_assert_eq!(read.map(|loaded| loaded.config), Ok(config), "{}", explained);
    }

    #[test]
    fn no_text_makes_it_panic(text in "(pool|server|\\[clock\\]|\\[\\[pool\\]\\]|step|=|\\{|\\}|\"|[a-z.-]|\n| |[0-9]|\\PC){0,60}") {
        let report = problem::Report::default();
        let table = raw::parse(Path::new("x"), &text, &report);
        let _ = check::check(table, &Place::whole(Path::new("x")), &[], &report);
    }
}
