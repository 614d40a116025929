//! Configurations broken in five hundred ways, read again by a daemon that goes on as if nothing had happened.

use std::{collections::BTreeSet, fs, net::SocketAddr};

use ntpd::config::{Origin, load};

use crate::world::{Authority, Daemon, GOOD_YEARS, Place, plain_entry, plain_server, reserved_port};

/// Broken files that are tried.
const BROKEN: usize = 500;
const SEED: u64 = 0x0c0f_f1ce;

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

const WORDS: [&str; 20] = [
    "[",
    "]",
    "\"",
    "=",
    "-1",
    "99999999999999999999",
    "1e400",
    "nan",
    "true",
    "{}",
    "[]",
    "\"\"",
    "'\u{0}'",
    "\"always\"",
    "\"1\"",
    "[[server]]",
    "[serve]",
    "[nonsense]",
    "1979-05-27",
    "\"\u{202e}\"",
];

/// One to three changes of lines, words and characters.
fn broken(text: &str, dice: &mut Dice) -> Vec<u8> {
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    for _ in 0..=dice.roll(3) {
        let (at, other) = (dice.roll(lines.len()), dice.roll(lines.len()));
        let word = WORDS[dice.roll(WORDS.len())];
        let line = lines[at].clone();
        let place = line.char_indices().nth(dice.roll(line.chars().count())).map_or(0, |(place, _)| place);
        match dice.roll(8) {
            0 => lines.insert(at, lines[other].clone()),
            1 => lines[at] = line[..place].to_owned(),
            2 => lines[at].insert_str(place, word),
            3 => lines[at] = format!("{} = {word}", line.split('=').next().unwrap_or_default()),
            4 => lines[at] = line.replacen('-', "_", 1),
            5 => lines[at] = format!("{line}{}", lines[other]),
            6 => lines[at] = line.chars().rev().collect(),
            _ => lines.swap(at, other),
        }
    }
    let mut bytes = lines.join("\n").into_bytes();
    match dice.roll(8) {
        0 => bytes.truncate(dice.roll(bytes.len())),
        1 => {
            let at = dice.roll(bytes.len());
            bytes[at] = 0xff;
        }
        _ => {}
    }
    bytes
}

/// What a changed configuration would change: sources, what is kept of pools, and the sockets that are open at these ports.
fn state(daemon: &Daemon<'_>, ports: &[u16]) -> (Vec<String>, String, BTreeSet<String>) {
    let sources = daemon.json(&["sources"]);
    let names = sources["sources"].as_array().unwrap().iter().map(|row| format!("{} {}", row["name"], row["address"]));
    let kept = daemon.json(&["authdata"]);
    let keys = kept["sources"].as_array().unwrap().iter().map(|row| row["key_id"].to_string()).collect();
    let sockets = ["udp", "tcp"].into_iter().flat_map(|kind| {
        let table = fs::read_to_string(format!("/proc/net/{kind}")).unwrap();
        let rows = table.lines().skip(1).filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let port = u16::from_str_radix(words.get(1)?.rsplit(':').next()?, 16).ok()?;
            // State 0A is a listener of TCP; one of UDP that is bound is in 07. The tenth word is the socket itself.
            let is_open = matches!(*words.get(3)?, "07" | "0A") && ports.contains(&port);
            is_open.then(|| format!("{kind} {port} {}", words[9]))
        });
        rows.collect::<Vec<_>>()
    });
    (names.collect(), keys, sockets.collect())
}

#[test]
fn no_broken_configuration_changes_anything() {
    let (_server, address) = plain_server();
    let place = Place::new("");
    Authority::new(&place).issue(&place, "127.0.0.1", GOOD_YEARS);
    place.write("keys.toml", "[[key]]\nid = 7\ntype = \"aes128\"\nsecret = \"hex:000102030405060708090a0b0c0d0e0f\"\n");
    let [ntp, exchange, chronyc, keyed] = [reserved_port(), reserved_port(), reserved_port(), reserved_port()];
    let keyed = SocketAddr::from(([127, 0, 0, 1], keyed));
    fs::create_dir(place.path("sources.d")).unwrap();
    place.configure(&format!(
        "source-directories = \"sources.d\"\n{}[[server]]\naddress = \"{keyed}\"\nkey = 7\noffset = \"1ms\"\nmax-delay = \"100ms\"\nselect = [\"noselect\"]\n\
         [keys]\nfile = \"keys.toml\"\n\
         [log.files]\nwrite = [\"tracking\", \"selection\"]\ndirectory = \"logs\"\n\
         [clock]\nmax-change = {{ offset = \"100s\", start = 1, ignore = 2 }}\nlog-change = \"100ms\"\n\
         auth-select-mode = \"mix\"\nstep = {{ threshold = \"2s\", updates = 5 }}\nmax-slew-rate = 1000\nmin-sources = 1\n\
         [serve]\nlisten = [\"127.0.0.1:{ntp}\"]\nallow = [\"127.0.0.0/8\", \"192.0.2.0/24\"]\ndeny = \"192.0.2.7\"\n\
         local = {{ stratum = 12, activate = \"1s\" }}\nclient-log = 100\n\
         rate-limit = {{ interval = 1, burst = 16, leak = 2, kiss = true }}\n\
         [serve.nts]\nlisten = [\"127.0.0.1:{exchange}\"]\ncertificate = \"chain.pem\"\nprivate-key = \"key.pem\"\n\
         [trust]\naeads = [15, 30]\ncertificates = \"file\"\ncertificate-file = \"ca.pem\"\n",
        plain_entry(address)
    ));
    let good = fs::read_to_string(place.config()).unwrap().replace(
        "socket = \"control.sock\"\n",
        &format!("socket = \"control.sock\"\nchronyc = true\nchronyc-listen = \"127.0.0.1:{chronyc}\"\nchronyc-socket = \"c.sock\"\n"),
    );
    place.write("ntpd.toml", &good);
    let daemon = place.start();
    daemon.synchronized();
    let ports = [ntp, exchange, chronyc];
    let before = state(&daemon, &ports);
    assert!(before.2.len() >= 3, "{before:?}");

    let mut dice = Dice(SEED);
    let mut tried = 0;
    while tried < BROKEN {
        let bytes = broken(&good, &mut dice);
        place.write("ntpd.toml", &bytes);
        // What is a good configuration all the same may lead anywhere, and is none of this test.
        if load(&Origin::File(place.config())).is_ok() {
            continue;
        }
        tried += 1;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let answer = daemon.ctl(&["reload"]);
        assert_eq!((answer.code, answer.out.as_str()), (Some(1), ""), "seed {SEED:#x}, {tried}: {answer:?}\n{text}");
        let names_it =
            answer.err.starts_with("ntpctl: configuration not changed: ") && answer.err.contains("ntpd.toml");
        assert!(names_it && !answer.err.contains('\u{202e}'), "{tried}: {answer:?}\n{text}");
        if tried % 10 == 0 {
            assert_eq!(state(&daemon, &ports), before, "{tried}:\n{text}");
        }
    }
    assert_eq!(daemon.json(&["tracking"])["synchronized"], true);

    // And it was this file that it did not take.
    place.write("ntpd.toml", &good);
    let answer = daemon.ctl(&["reload"]);
    assert_eq!((answer.code, answer.out.as_str()), (Some(0), "configuration applied\n"), "{answer:?}");
    assert_eq!(state(&daemon, &ports).0, before.0);
    daemon.stop();
}
