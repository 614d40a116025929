//! `ntpd migrate` on configurations that distributions, clouds and sites have.
//!
//! Each folder below `migrate` holds a configuration, what it names below `root`, and what it becomes: `ntpd.toml` and
//! `dropped.txt`. `NTPD_BLESS=1` writes the latter two, and the table of the guide, anew; read the difference.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use ntp_proto::select::AuthSelect;
use ntpd::{
    config::{self, Config, Loaded, NtsUse, Origin},
    migrate::{Format, Migrated, Request, migrate},
    state::{Drift, StateDirectory},
};
use tempfile::TempDir;

/// Marks of the table in the guide.
const TABLE_HEAD: &str = "| configuration | carried over | not carried over |\n|---|---|---|\n";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/migrate")
}

fn is_blessing() -> bool {
    std::env::var_os("NTPD_BLESS").is_some()
}

/// The folders of configurations, by name.
fn corpus() -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert!(found.len() >= 22);
    found
}

/// The files of a configuration, the main one first.
fn files(case: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(case)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !["root", "ntpd.toml", "dropped.txt"].contains(&name.as_str()))
        .collect();
    names.sort_by_key(|name| !["chrony.conf", "ntp.conf", "timesyncd.conf", "ntp.toml"].contains(&name.as_str()));
    names
}

/// Everything that a configuration is made of.
fn texts(case: &Path) -> Vec<(PathBuf, String)> {
    let mut all: Vec<_> = files(case).iter().map(|name| case.join(name)).collect();
    let mut folders = vec![case.join("root")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() { folders.push(path) } else { all.push(path) }
        }
    }
    all.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

fn ntpd(case: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ntpd")).current_dir(case).args(args).output().unwrap()
}

fn run(case: &Path) -> Output {
    let names = files(case);
    let args: Vec<_> = ["migrate", "--root", "root"].into_iter().chain(names.iter().map(String::as_str)).collect();
    ntpd(case, &args)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn agrees(path: &Path, found: &str) {
    if is_blessing() {
        fs::write(path, found).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap_or_default(), found, "{}", path.display());
}

#[test]
fn configurations_become_what_is_expected_of_them() {
    for case in corpus() {
        let output = run(&case);
        let (out, errors) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(if errors.is_empty() { 0 } else { 2 }), "{}: {errors}", case.display());
        agrees(&case.join("ntpd.toml"), &out);
        agrees(&case.join("dropped.txt"), &errors);
    }
}

/// Migrates a configuration with its keys, and puts files in place of those it names.
fn load(case: &Path, directory: &Path) -> (Migrated, Loaded) {
    let keys = directory.join("keys.toml");
    let request = Request {
        files: files(case).iter().map(|name| case.join(name)).collect(),
        root: Some(case.join("root")),
        keys_out: Some(keys.clone()),
        ..Request::default()
    };
    let migrated = migrate(&request).unwrap();
    if let Some(text) = &migrated.keys {
        ntpd::migrate::save_keys(&keys, text).unwrap();
    }
    let mut text = migrated.text.clone();
    for (path, name) in [
        ("/etc/chrony/site-ca.pem", "cert.pem"),
        ("/etc/chrony/cert.pem", "cert.pem"),
        ("/etc/chrony/nts-bootstrap-ubuntu.crt", "cert.pem"),
        ("/etc/chrony/key.pem", "key.pem"),
        ("/etc/ntp/ca.pem", "cert.pem"),
        ("/etc/ntpd-rs/ca.pem", "cert.pem"),
        ("/etc/ntpd-rs/own.pem", "cert.pem"),
        ("/etc/ntpd-rs/chain.pem", "cert.pem"),
        ("/etc/ntpd-rs/key.pem", "key.pem"),
    ] {
        text = text.replace(path, &directory.join(name).display().to_string());
    }
    let file = directory.join("ntpd.toml");
    fs::write(&file, text).unwrap();
    let loaded = config::load(&Origin::File(file)).unwrap_or_else(|problems| panic!("{}: {problems}", case.display()));
    (migrated, loaded)
}

/// A folder with a certificate and its key.
fn pki() -> TempDir {
    let directory = TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    fs::write(directory.path().join("cert.pem"), made.cert.pem()).unwrap();
    let key = directory.path().join("key.pem");
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    directory
}

#[test]
fn what_comes_out_is_a_configuration() {
    for case in corpus() {
        let directory = pki();
        let (_, loaded) = load(&case, directory.path());
        assert!(!loaded.config.pools.is_empty() || !loaded.config.servers.is_empty(), "{}", case.display());
        let explained = directory.path().join("explained.toml");
        fs::write(&explained, loaded.config.explain()).unwrap();
        let again = config::load(&Origin::File(explained)).unwrap();
        assert_eq!(again.config, loaded.config, "{}", case.display());
    }
}

#[test]
fn a_server_of_a_site_says_what_chronyd_did() {
    let directory = pki();
    let (migrated, Loaded { config, keys, .. }) = load(&folder().join("site-chrony"), directory.path());
    let server = |name: &str| config.servers.iter().find(|server| server.host.to_string() == name);
    for name in ["time.example", "ptbtime1.example"] {
        assert_eq!(server(name).unwrap().nts, NtsUse::Require, "{name}");
    }
    let time = server("time.example").unwrap();
    let polls = |options: &config::SourceOptions| (options.min_poll.log2_seconds(), options.max_poll.log2_seconds());
    assert_eq!((time.ke_port, polls(&time.options), time.options.iburst), (4461, (5, 9), true));
    assert_eq!(server("ntp.site.example").unwrap().key.map(|key| key.0), Some(20));
    assert_eq!(keys.iter().map(|key| key.id().0).collect::<Vec<_>>(), [10, 20, 30]);
    assert!(server("sha512.site.example").is_none() && server("twin.site.example").is_none());
    let pool = &config.pools[0];
    assert_eq!((pool.nts, pool.count, pool.mode), (NtsUse::Require, 3, config::PoolModeName::SharedCert));
    assert_eq!(config.clock.select.auth, AuthSelect::Require);
    assert!(server("watched.example").unwrap().options.select.noselect);
    let clock = &config.clock;
    assert!((clock.select.max_distance - 1.5).abs() < 1e-9 && (clock.select.max_jitter - 0.25).abs() < 1e-9);
    assert!(
        (clock.max_slew_rate.to_ppm() - 1_000.0).abs() < 1e-6 && (clock.max_frequency.to_ppm() - 400.0).abs() < 1e-6
    );
    assert_eq!((clock.select.min_sources, clock.leap), (Some(2), ntp_proto::discipline::LeapMode::Ignore));
    assert_eq!(clock.step_threshold.as_millis(), 100);
    let serve = config.serve.as_ref().unwrap();
    let nets = |nets: &[ipnet::IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(nets(&serve.access.allow), ["10.0.0.0/8", "10.1.2.0/24", "2001:db8::/32"]);
    assert_eq!(nets(&serve.access.deny), ["10.1.0.0/16"]);
    assert_eq!(serve.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1:123", "[::]:123"]);
    let limit = serve.rate_limit.unwrap();
    assert_eq!((limit.interval.log2_seconds(), limit.burst, limit.leak_log2, limit.kiss), (1, 16, Some(3), true));
    assert_eq!(serve.nts.as_ref().unwrap().listen.last().unwrap().port(), 4462);
    assert_eq!(config.trust.certificates, config::TrustRoots::File);
    assert!(migrated.dropped.iter().any(|dropped| dropped.why.contains("SHA512")));
}

/// Names that are used without authentication.
fn plain_names(text: &str) -> Vec<String> {
    let table: toml::Table = text.parse().unwrap();
    let mut names = Vec::new();
    for (kind, naming) in [("pool", "name"), ("server", "address")] {
        let Some(toml::Value::Array(sources)) = table.get(kind) else { continue };
        for source in sources {
            let is_required = source.get("nts").and_then(toml::Value::as_str) == Some("require");
            if !is_required && source.get("key").is_none() {
                let name = source[naming].as_str().unwrap();
                names.push(name.rsplit_once(':').map_or(name, |(host, _)| host).to_owned());
            }
        }
    }
    names
}

/// Names in lines that ask for authentication.
fn authentic_names(format: Format, text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    if format == Format::NtpdRs {
        let Ok(table) = text.parse::<toml::Table>() else { return Vec::new() };
        let sources = table.get("source").and_then(toml::Value::as_array).cloned().unwrap_or_default();
        let is_nts = |source: &toml::Value| {
            source.get("mode").and_then(toml::Value::as_str).is_some_and(|mode| mode.starts_with("nts"))
        };
        let names = sources.iter().filter(|source| is_nts(source)).filter_map(|source| source.get("address")?.as_str());
        return names.map(|name| name.split(':').next().unwrap().to_lowercase()).collect();
    }
    lower
        .lines()
        .filter_map(|line| {
            // Only chrony.conf has no comments behind directives.
            let line = if format == Format::Ntp { line.split('#').next()? } else { line };
            let words: Vec<_> = line.split_ascii_whitespace().map(|word| word.trim_matches('"')).collect();
            let is_source = ["server", "pool", "peer"].contains(words.first()?);
            let asks = words.iter().skip(2).any(|word| ["nts", "key", "autokey"].contains(word));
            (is_source && asks).then(|| words.get(1).map(|name| name.trim_end_matches('.').to_owned())).flatten()
        })
        .collect()
}

/// A small generator, so that a failure can be had again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % sides.max(1)
    }
}

/// Changes lines, words or bytes.
fn mutate(text: &str, dice: &mut Dice) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "nts",
        "key",
        "7",
        "-1",
        "99999999999",
        "iburst",
        "offline",
        "certset",
        "1",
        "server",
        "pool",
        "include",
        "#",
        "x\u{0}y",
        "minpoll",
        "\u{202e}",
    ];
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    for _ in 0..=dice.roll(4) {
        let (at, other) = (dice.roll(lines.len()), dice.roll(lines.len()));
        if lines.is_empty() {
            break;
        }
        let mut words: Vec<String> = lines[at].split(' ').map(ToOwned::to_owned).collect();
        let word = dice.roll(words.len());
        match dice.roll(10) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[other].clone()),
            2 => lines.swap(at, other),
            3 => {
                words[word] = WORDS[dice.roll(WORDS.len())].to_owned();
                lines[at] = words.join(" ");
            }
            4 => {
                words.insert(word, WORDS[dice.roll(WORDS.len())].to_owned());
                lines[at] = words.join(" ");
            }
            5 => {
                words.remove(word);
                lines[at] = words.join(" ");
            }
            6 => lines[at] = lines[at].to_uppercase(),
            // The same name without its options.
            8 => lines.insert(other, words[..words.len().min(2)].join(" ")),
            7 => lines[at] = lines[at].repeat(1 + dice.roll(60)),
            _ => lines[at] = format!("{}{}", lines[at], lines[other]),
        }
    }
    let mut bytes = lines.join("\n").into_bytes();
    bytes.push(b'\n');
    match dice.roll(6) {
        0 => bytes.truncate(dice.roll(bytes.len())),
        1 => {
            let at = dice.roll(bytes.len());
            bytes[at] = u8::try_from(dice.roll(256)).unwrap();
        }
        _ => {}
    }
    bytes
}

/// What the new file says without what names other files.
fn without_files(text: &str) -> String {
    let mut table: toml::Table = text.parse().unwrap();
    table.remove("keys");
    table.remove("trust");
    if let Some(serve) = table.get_mut("serve").and_then(toml::Value::as_table_mut) {
        serve.remove("nts");
    }
    for kind in ["pool", "server"] {
        for source in table.get_mut(kind).and_then(toml::Value::as_array_mut).into_iter().flatten() {
            for file in ["key", "certificate-file", "certificates"] {
                source.as_table_mut().unwrap().remove(file);
            }
        }
    }
    table.to_string()
}

#[test]
fn broken_files_are_told_and_nothing_becomes_weaker() {
    let cases = corpus();
    let mut dice = Dice(0x5eed);
    let (mut refused, mut taken) = (0, 0);
    let rounds = std::env::var("NTPD_MUTATIONS").map_or(500, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let case = &cases[round % cases.len()];
        let mut all = texts(case);
        let names = files(case);
        let chosen = dice.roll(all.len());
        let directory = TempDir::new().unwrap();
        let mutated = mutate(&all[chosen].1, &mut dice);
        for (index, (path, text)) in all.iter_mut().enumerate() {
            let bytes = if index == chosen { mutated.clone() } else { text.clone().into_bytes() };
            let at = directory.path().join(path.strip_prefix(case).unwrap());
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            *text = String::from_utf8_lossy(&bytes).into_owned();
            fs::write(at, bytes).unwrap();
        }
        let format = match names[0].as_str() {
            "chrony.conf" => Format::Chrony,
            "ntp.conf" => Format::Ntp,
            "timesyncd.conf" => Format::Timesyncd,
            _ => Format::NtpdRs,
        };
        let request = Request {
            files: names.iter().map(|name| directory.path().join(name)).collect(),
            root: Some(directory.path().join("root")),
            keys_out: Some(directory.path().join("keys.toml")),
            from: Some(format),
            ..Request::default()
        };
        let Ok(migrated) = migrate(&request).inspect_err(|faults| {
            assert!(!faults.0.is_empty() && faults.0.iter().all(|fault| !fault.what.is_empty()));
        }) else {
            refused += 1;
            continue;
        };
        taken += 1;
        Config::parse("new", &without_files(&migrated.text))
            .unwrap_or_else(|problems| panic!("round {round}: {problems}\n{}", migrated.text));
        let plain = plain_names(&migrated.text);
        for name in all.iter().flat_map(|(_, text)| authentic_names(format, text)) {
            assert!(!plain.contains(&name), "round {round}: {name} became plain\n{}", migrated.text);
        }
    }
    assert!(refused > 50 && taken > 50, "{refused} refused, {taken} taken");
}

/// Writes files below a folder, migrates the first, and tells what is said.
fn complaint(files: &[(&str, &[u8])]) -> (Option<i32>, String, String) {
    let directory = TempDir::new().unwrap();
    for (name, bytes) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let output = ntpd(directory.path(), &["migrate", files[0].0, "--root", "."]);
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn mistakes_are_told_with_file_and_line() {
    let long = format!("# {}\nserver {}\n", "x".repeat(2_100), "y".repeat(2_048));
    let cases: &[(&str, &[u8], &str)] = &[
        ("chrony.conf", b"\nfoo bar\n", "chrony.conf:2: `foo`: there is no such directive\n"),
        ("chrony.conf", b"server a.example iburst # x\n", "chrony.conf:1: `server`: unknown option `#`\n"),
        ("chrony.conf", b"server\n", "chrony.conf:1: `server`: the name of a server is missing\n"),
        ("chrony.conf", b"server a.example key\n", "chrony.conf:1: `server`: a number is missing after `key`\n"),
        ("chrony.conf", b"server a.example key 0\n", "chrony.conf:1: `server`: there is no such key\n"),
        ("chrony.conf", b"makestep 1\n", "chrony.conf:1: `makestep`: a threshold and a number of updates are needed\n"),
        ("chrony.conf", b"rtcsync 1\n", "chrony.conf:1: `rtcsync`: too many arguments\n"),
        ("chrony.conf", b"maxdistance x\n", "chrony.conf:1: `maxdistance`: `x` is not a number\n"),
        ("chrony.conf", b"server a\0b\n", "chrony.conf:1: this is not text\n"),
        ("chrony.conf", b"rtcsync\nserver \xff\n", "chrony.conf:2: this is not text\n"),
        ("chrony.conf", long.as_bytes(), "chrony.conf:2: this line is longer than 2047 bytes\n"),
        (
            "chrony.conf",
            b"include /chrony.conf\n",
            "/chrony.conf:1: `include`: includes are nested more than 10 deep\n",
        ),
        (
            "chrony.conf",
            b"# x\ninclude /missing.conf\n",
            "chrony.conf:2: /missing.conf: cannot read this file: No such file or directory (os error 2)\n",
        ),
        ("ntp.conf", b"server a.example\nfoo\n", "ntp.conf:2: `foo`: there is no such directive\n"),
        ("ntp.conf", b"includefile /ntp.conf\n", "/ntp.conf:1: `includefile`: includes are nested more than 5 deep\n"),
        ("ntp.toml", b"[[source]\n", "ntp.toml:1: "),
        ("ntp.toml", b"\n[[source]]\nmode = \"x\"\naddress = \"a\"\n", "ntp.toml:2: unknown mode `x`\n"),
        ("other", b"server a\n", "other: the format is not recognised: use --from\n"),
    ];
    for (name, bytes, message) in cases {
        let (code, out, errors) = complaint(&[(name, bytes)]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{errors}");
        assert!(errors.starts_with(message), "{errors}");
    }
    let missing = ntpd(Path::new("/"), &["migrate", "/nonexistent/chrony.conf"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).starts_with("/nonexistent/chrony.conf: cannot read this file"));
}

#[test]
fn files_of_sources_are_read_up_to_what_is_being_written() {
    let (code, out, errors) = complaint(&[
        ("chrony.conf", b"makestep 1 3\nsourcedir /a /b\n"),
        ("a/1.sources", b"server one.example iburst\nfoo\nserver bad.example iburst nonsense\nserver half.exam"),
        ("b/1.sources", b"server hidden.example iburst\n"),
        ("b/2.sources", b"server two.example iburst nts nonsense\nserver two.example iburst\n"),
    ]);
    assert_eq!(code, Some(2));
    assert!(
        out.contains("one.example") && !out.contains("address = \"hidden") && !out.contains("address = \"two"),
        "{out}"
    );
    assert_eq!(
        errors,
        "/a/1.sources:2: `foo`: only server, pool and peer may stand in such a file\n\
         /a/1.sources:3: `server bad.example iburst nonsense`: unknown option `nonsense`\n\
         /a/1.sources:4: `server half.exam`: the line is not ended, so the file may not be complete\n\
         /b/2.sources:1: `server two.example iburst nts nonsense`: unknown option `nonsense`\n\
         /b/2.sources:2: `server two.example iburst`: this name is to be authenticated, which is not carried over\n"
    );
}

#[test]
fn what_restricts_is_never_left_out_alone() {
    for line in ["deny host.example", "binddevice eth0"] {
        let text = format!("server a.example iburst\nmakestep 1 3\nallow all\n{line}\n");
        let (code, out, errors) = complaint(&[("chrony.conf", text.as_bytes())]);
        assert_eq!(code, Some(2));
        assert!(!out.contains("[serve]") && errors.contains("nobody is"), "{out}{errors}");
    }
    let (code, out, _) = complaint(&[("chrony.conf", b"server a.example iburst nts\nmakestep 1 3\nnosystemcert\n")]);
    assert_eq!(code, Some(2));
    assert!(!out.contains("[[server]]"), "{out}");
}

#[test]
fn chronyc_is_answered_where_and_as_it_was() {
    let control = |lines: &str| {
        let text = format!("server a.example\n{lines}\n");
        let (code, out, errors) = complaint(&[("chrony.conf", text.as_bytes())]);
        let table = out.split_once("[control]\n").map_or("", |(_, table)| table);
        (code, table.trim_end().to_owned(), errors.lines().count())
    };
    let carried = |text: &str| (Some(0), text.to_owned(), 0);
    // chronyd neither steps nor bursts nor limits unless it is told to, which is said besides.
    for (lines, expected) in [
        ("cmdport 323\nbindcmdaddress 127.0.0.1\nbindcmdaddress ::1", carried("")),
        ("cmdport 0", carried("chronyc-listen = []")),
        ("cmdport 0\nbindcmdaddress /", carried("chronyc = false")),
        ("cmdport 1323", carried("chronyc-listen = [\"127.0.0.1:1323\", \"[::1]:1323\"]")),
        ("bindcmdaddress 0.0.0.0", carried("chronyc-listen = [\"0.0.0.0:323\", \"[::1]:323\"]")),
        ("bindcmdaddress /run/own.sock", carried("chronyc-socket = \"/run/own.sock\"")),
        ("cmdallow 192.0.2.0/24\ncmdallow 10.1", carried("chronyc-allow = [\"10.1.0.0/16\", \"192.0.2.0/24\"]")),
        ("cmdallow\ncmddeny 10/8", (Some(2), String::new(), 1)),
        ("cmddeny", carried("")),
        ("opencommands tracking NTPDATA", carried("chronyc-open = [\"tracking\", \"ntpdata\"]")),
        ("bindcmdaddress /", (Some(2), String::new(), 1)),
    ] {
        assert_eq!(control(lines), expected, "{lines}");
    }
    assert_eq!(control("cmdport x").0, Some(1));
}

#[test]
fn keys_and_frequency_are_taken_over() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("chrony.conf"), "server a.example iburst key 1\nmakestep 1 3\nkeyfile /k\ndriftfile /d\n").unwrap();
    fs::write(path("k"), "1 SHA1 HEX:000102030405060708090a0b0c0d0e0f10111213\n").unwrap();
    fs::write(path("d"), "            -3.500000             0.125000\n").unwrap();
    let args = ["migrate", "chrony.conf", "--root", ".", "--keys-out", "keys.toml", "--state", "state"];
    let output = ntpd(directory.path(), &args);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    assert_eq!(fs::metadata(path("keys.toml")).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(path("ntpd.toml"), output.stdout).unwrap();
    let loaded = config::load(&Origin::File(path("ntpd.toml"))).unwrap();
    assert_eq!((loaded.keys.len(), loaded.warnings.len()), (1, 0));
    let drift: Drift = StateDirectory::open(&path("state")).unwrap().load().value.unwrap();
    // A clock that loses time is to be run faster.
    assert!((drift.frequency().to_ppm() - 3.5).abs() < 1e-9 && (drift.skew().to_ppm() - 0.125).abs() < 1e-9);
    // What is there already is not touched.
    let again = ntpd(directory.path(), &args);
    assert_eq!((again.status.code(), again.stdout.len()), (Some(1), 0));
    assert!(text(&again.stderr).contains("keys.toml: File exists"), "{}", text(&again.stderr));
}

#[test]
fn the_guide_lists_what_is_lost() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/migration.md");
    let mut rows = String::new();
    for case in corpus() {
        let errors = text(&run(&case).stderr);
        let lost: Vec<_> = errors.lines().map(|line| line.split_once(": ").unwrap().1.replace('|', "\\|")).collect();
        let mut carried = Vec::new();
        for (path, text) in texts(&case) {
            let is_configuration = path.extension().is_some_and(|end| end != "keys") && !path.ends_with("ntp/keys");
            for line in text.lines().map(str::trim).filter(|_| is_configuration) {
                let word = line.split([' ', '=']).next().unwrap_or_default();
                let is_word = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '[');
                let is_lost = match path.extension().and_then(|end| end.to_str()) {
                    Some("toml") => errors.contains(&format!("{word}`: ")),
                    _ if line.contains('=') => errors.contains(&format!("`{line}")),
                    _ => errors.contains(&format!("`{line}`: ")),
                };
                if is_word && !is_lost && !carried.contains(&word.to_owned()) && !line.starts_with("[Time]") {
                    carried.push(word.to_owned());
                }
            }
        }
        let name = case.file_name().unwrap().to_str().unwrap();
        let carried: Vec<_> = carried.iter().map(|word| format!("`{word}`")).collect();
        rows += &format!("| {name} | {} | {} |\n", carried.join(", "), lost.join("<br>"));
    }
    let text = fs::read_to_string(&guide).unwrap();
    let (before, _) = text.split_once(TABLE_HEAD).unwrap();
    agrees(&guide, &format!("{before}{TABLE_HEAD}{rows}"));
}
