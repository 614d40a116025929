//! What keeps the daemon from starting: it says what and where, and ends with code 1.

use std::{fs, path::Path};

use crate::world::{Authority, GOOD_YEARS, Place, plain_entry, plain_server, reserved_port};

/// Both `check` and the daemon itself refuse this text with a line that ends so, and leave nothing behind.
fn refused(text: &str, at: &str, message: &str) {
    let place = Place::new(text);
    let expected = format!("{}:{at}: {message}\n", place.config().display());
    for arguments in [&["check"][..], &["-x"], &["once", "-x"]] {
        let ended = place.ntpd(arguments);
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{arguments:?} {ended:?}");
        assert_eq!(ended.err, expected, "{arguments:?}");
    }
    assert_eq!(place.others(), Vec::<String>::new());
}

#[test]
fn a_misspelt_key_is_named_with_the_one_that_is_meant() {
    refused(
        "pool = \"time.example\"\n[clock]\nmin-source = 2\n",
        "3:1",
        "clock.min-source: unknown key (did you mean `min-sources`?); accepted: auth-select-mode, correction-time-ratio, leap, leap-file, log-change, \
         max-change, max-distance, max-frequency, max-jitter, max-slew-rate, max-update-skew, min-sources, step",
    );
    refused(
        "[[pool]]\nname = \"time.example\"\nmode = \"clasic\"\n",
        "3:8",
        "pool.mode: unknown value `clasic`; accepted: auto, srv, lb, shared-cert, ip-cert, classic",
    );
    refused(
        "[[refclock]]\ndriver = \"gps\"\n",
        "2:10",
        "refclock.driver: unknown value `gps`; accepted: pps, phc, shm, sock",
    );
}

#[test]
fn a_wrong_type_is_named_with_the_right_one() {
    refused(
        "[[pool]]\nname = \"time.example\"\ncount = \"4\"\n",
        "3:9",
        "pool.count: expected an integer, found a string; accepted: 1 to 16",
    );
    refused(
        "server = 5\n",
        "1:10",
        "server: expected a string or a table, found an integer; accepted: \"address\", a table with `address`, or a list of them",
    );
}

#[test]
fn a_duplicate_is_named_with_the_place_of_the_first() {
    let place = Place::new("pool = [\"time.example\", \"Time.Example.\"]\n");
    let file = place.config().display().to_string();
    let ended = place.ntpd(&["check"]);
    let message = format!("{file}:1:25: pool.name: `time.example` was given before, at {file}:1:9\n");
    assert_eq!((ended.code, ended.err), (Some(1), message));
}

#[test]
fn broken_toml_is_named_with_its_place() {
    let place = Place::new("pool = \"time.example\n");
    let ended = place.ntpd(&["-x"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.starts_with(&format!("{}:1:", place.config().display())), "{}", ended.err);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let place = Place::new("");
    Authority::new(&place).issue(&place, "ntp.test", GOOD_YEARS);
    let nts = |certificate: &str, key: &str| {
        format!("[serve.nts]\ncertificate = \"{certificate}\"\nprivate-key = \"{key}\"\n[serve]\nallow = \"all\"\n")
    };
    place.write("empty.pem", "");
    place.write("broken.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    let before = place.others();
    for (text, at, file, message) in [
        (nts("none.pem", "key.pem"), "2:15: serve.nts.certificate", "none.pem", "cannot read this file: No such file"),
        (nts("empty.pem", "key.pem"), "2:15: serve.nts.certificate", "empty.pem", "no certificate in this file"),
        (nts("broken.pem", "key.pem"), "2:15: serve.nts.certificate", "broken.pem", "broken certificate"),
        (
            nts("chain.pem", "none.pem"),
            "3:15: serve.nts.private-key",
            "none.pem",
            "cannot read this file: No such file",
        ),
        (nts("chain.pem", "chain.pem"), "3:15: serve.nts.private-key", "chain.pem", "no private key in this file"),
        ("[keys]\nfile = \"keys.toml\"\n".to_owned(), "2:8: keys.file", "keys.toml", "cannot read this file: No such"),
        (
            "[trust]\ncertificate-file = \"roots.pem\"\n".to_owned(),
            "2:20: trust.certificate-file",
            "roots.pem",
            "cannot read this file: No such file",
        ),
    ] {
        place.configure(&text);
        for arguments in [&["check"][..], &["-x"]] {
            let ended = place.ntpd(arguments);
            let expected = format!("{}:{at}: {}: {message}", place.config().display(), place.path(file).display());
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert!(ended.err.starts_with(&expected), "{} instead of {expected}", ended.err);
        }
    }
    assert_eq!(place.others().len(), before.len(), "nothing was made");
}

#[test]
fn addresses_in_use_are_named() {
    let place = Place::new("");
    Authority::new(&place).issue(&place, "ntp.test", GOOD_YEARS);
    let (_server, ntp) = plain_server();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let exchange = taken.local_addr().unwrap();
    let nts = "certificate = \"chain.pem\"\nprivate-key = \"key.pem\"\n";
    for (text, message) in [
        (
            format!("[serve]\nlisten = \"{ntp}\"\nallow = \"all\"\n"),
            format!("cannot serve NTP on {ntp}: another program uses this port"),
        ),
        (
            format!(
                "[serve]\nlisten = \"127.0.0.1:{}\"\nallow = \"all\"\n[serve.nts]\nlisten = \"{exchange}\"\n{nts}",
                reserved_port()
            ),
            format!("cannot serve NTS key exchange on {exchange}: another program uses this port"),
        ),
        (
            "[serve]\nlisten = \"192.0.2.1:11123\"\nallow = \"all\"\n".to_owned(),
            "cannot serve NTP on 192.0.2.1:11123: not an address of this machine".to_owned(),
        ),
    ] {
        place.configure(&text);
        let ended = place.ntpd(&["-x"]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains(&message), "{}", ended.err);
        assert!(!place.path("control.sock").exists());
    }
}

#[test]
fn a_second_daemon_leaves_the_first_alone() {
    let (_server, address) = plain_server();
    let place = Place::new(&plain_entry(address));
    let first = place.start();
    let second = place.ntpd(&["-x"]);
    let message =
        format!("control socket {}: another ntpd is running and answers there", place.path("control.sock").display());
    assert_eq!(second.code, Some(1));
    assert!(second.err.contains(&message), "{}", second.err);
    first.synchronized();
}

/// Runs without `-x`, and therefore never with the capability: it is taken away first, and looked for.
#[test]
fn without_permission_the_clock_is_not_touched_and_a_way_out_is_offered() {
    let place = Place::new("server = \"127.0.0.1\"\n");
    let program = env!("CARGO_BIN_EXE_ntpd");
    let config = place.config().display().to_string();
    let ended = if nix::unistd::geteuid().is_root() {
        let found = ["/usr/bin/setpriv", "/bin/setpriv"].into_iter().find(|path| Path::new(path).exists());
        let Some(setpriv) = found else {
            println!("skipped: setpriv is not installed");
            return;
        };
        let without = ["--bounding-set", "-sys_time", "--inh-caps", "-sys_time"];
        let look = place.run(setpriv, &[&without[..], &["grep", "CapEff", "/proc/self/status"]].concat());
        let capabilities = look.out.split_whitespace().nth(1).and_then(|set| u64::from_str_radix(set, 16).ok());
        assert_eq!(capabilities.map(|set| set >> 25 & 1), Some(0), "{look:?}");
        place.run(setpriv, &[&without[..], &[program, "-c", &config]].concat())
    } else {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let set = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        if u64::from_str_radix(set.trim(), 16).unwrap() >> 25 & 1 == 1 {
            println!("skipped: this user may set the clock");
            return;
        }
        place.run(program, &["-c", &config])
    };
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("CAP_SYS_TIME"), "{}", ended.err);
    assert!(ended.err.contains("or use -x to leave the clock alone"), "{}", ended.err);
    assert!(!place.path("control.sock").exists());
}
