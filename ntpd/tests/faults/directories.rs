//! Directories of sources that change while the daemon runs.

use std::{fs, net::SocketAddr};

use nix::sys::signal::Signal;

use crate::world::{
    Authority, Daemon, FAST, GOOD_YEARS, Place, eventually, plain_entry, plain_server, reserved_port, time_server,
};

/// Names of all sources, sorted.
fn names(daemon: &Daemon<'_>) -> Vec<String> {
    let report = daemon.json(&["sources"]);
    let rows = report["sources"].as_array().unwrap();
    let mut names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn reload(daemon: &Daemon<'_>, expected: &str) {
    let answer = daemon.ctl(&["reload", "sources"]);
    assert_eq!((answer.code, answer.out.as_str()), (Some(0), expected), "{answer:?}");
}

#[test]
fn sources_come_and_go_with_their_files_and_the_others_go_on() {
    let place = Place::new("source-directories = [\"more\"]\n");
    let (_first, a) = plain_server();
    let b = SocketAddr::from(([127, 0, 0, 2], reserved_port()));
    let _second = time_server(b, None);
    fs::create_dir(place.path("more")).unwrap();
    // Files of other users are read too, as those of DHCP clients are.
    let write = |name: &str, text: String| place.write(&format!("more/{name}"), text);
    write("a.toml", plain_entry(a));
    let daemon = place.start();
    daemon.synchronized();
    assert_eq!(names(&daemon), ["127.0.0.1"]);

    write(
        "dhcp.sources",
        format!("server 127.0.0.2 port {} iburst\nserver 127.0.0.3 nonsense\nserver 127.0.0.4", b.port()),
    );
    let answer = daemon.ctl(&["reload", "sources"]);
    assert!(answer.code == Some(0) && answer.out.starts_with("sources applied, but for: "), "{answer:?}");
    assert!(answer.out.contains("dhcp.sources:2: `server 127.0.0.3 nonsense`"), "{answer:?}");
    daemon.logged("dhcp.sources:3: `server 127.0.0.4`: the line is not ended");
    assert_eq!(names(&daemon), ["127.0.0.1", "127.0.0.2"]);
    eventually("the source of a file", || {
        let report = daemon.json(&["sources"]);
        let reached = |row: &&serde_json::Value| row["name"] == "127.0.0.2" && row["reach"] != 0;
        report["sources"].as_array().unwrap().iter().find(reached).map(|_| ()).ok_or_else(|| report.to_string())
    });

    // A file that makes no sense stays as it was; the whole is read again with the rest of the configuration too.
    write("a.toml", "[[server]]\naddress = 5\n".to_owned());
    write("dhcp.sources", String::new());
    daemon.signal(Signal::SIGHUP);
    daemon.logged("a.toml:2:11: server.address: expected a string");
    eventually("what is left", || {
        let names = names(&daemon);
        if names == ["127.0.0.1"] { Ok(()) } else { Err(format!("{names:?}")) }
    });
    assert_eq!(daemon.log().matches("added source").count(), 2, "the first was never started again");
    fs::remove_file(place.path("more/a.toml")).unwrap();
    reload(&daemon, "sources applied\n");
    assert_eq!(names(&daemon), Vec::<String>::new());
    daemon.stop();
}

#[test]
fn servers_that_a_network_names_do_not_set_a_clock_that_others_vouch_for() {
    // Nobody exchanges keys: the authenticated source is silent.
    let place = Place::new("");
    Authority::new(&place).issue(&place, "127.0.0.1", GOOD_YEARS);
    let (_server, address) = plain_server();
    fs::create_dir(place.path("dhcp")).unwrap();
    place.configure(&format!(
        "source-directories = [\"dhcp\"]\n[[server]]\naddress = \"127.0.0.9\"\nnts = \"require\"\nke-port = {}\n\
         certificate-file = \"ca.pem\"\n{FAST}",
        reserved_port()
    ));
    let daemon = place.start();
    let lines =
        format!("server localhost port {0} iburst trust prefer\nserver 127.0.0.1 port {0} iburst\n", address.port());
    place.write("dhcp/eth0.sources", lines);
    let answer = daemon.ctl(&["reload", "sources"]);
    assert!(answer.out.contains("here they do not count"), "{answer:?}");
    eventually("a plain source that is measured", || {
        let report = daemon.json(&["sources"]);
        let measured = |row: &&serde_json::Value| row["name"] == "127.0.0.1" && row["reach"].as_u64() > Some(7);
        report["sources"].as_array().unwrap().iter().find(measured).map(|_| ()).ok_or_else(|| report.to_string())
    });
    let tracking = daemon.json(&["tracking"]);
    assert_eq!((&tracking["synchronized"], &tracking["updates"]), (&false.into(), &0.into()), "{tracking}");
    daemon.stop();
}
