use std::{fs, os::unix::fs::PermissionsExt as _};

use tempfile::TempDir;

use super::*;

struct Directories(TempDir, SourceFiles);

impl Directories {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join("etc")).unwrap();
        fs::create_dir(directory.path().join("run")).unwrap();
        Self(directory, SourceFiles::default())
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Reads again: the names of servers and pools beside those of `config`, and what is wrong.
    fn read_beside(&mut self, config: &str) -> (Config, Vec<String>, Vec<String>) {
        let directories = ["etc", "run", "absent"].map(|name| self.0.path().join(name));
        let base = Config::parse("ntpd.toml", config).unwrap();
        let mut complaints = self.1.read(&directories);
        let (config, more) = self.1.add_to(&base, &[]);
        complaints.extend(more);
        let place = format!("{}/", self.0.path().display());
        let servers = config.servers.iter().map(|server| server.host.to_string());
        let names = servers.chain(config.pools.iter().map(|pool| pool.name.to_string())).collect();
        (config, names, complaints.iter().map(|text| text.replace(&place, "")).collect())
    }

    fn read(&mut self) -> (Vec<String>, Vec<String>) {
        let (_, names, complaints) = self.read_beside("");
        (names, complaints)
    }
}

#[test]
fn files_come_change_and_go() {
    let mut files = Directories::new();
    assert_eq!(files.read(), (vec![], vec![]), "a directory that is not there is empty");
    files.write("etc/site.toml", "pool = \"a.example\"\n[[server]]\naddress = \"b.example\"\nnts = \"require\"\n");
    files.write("run/eth0.sources", "server 192.0.2.1 iburst\npool c.example maxsources 2\n");
    files.write("run/eth0.sources.tmp", "server 192.0.2.9\n");
    files.write("run/.eth1.sources", "server 192.0.2.9\n");
    assert_eq!(files.read(), (["b.example", "192.0.2.1", "a.example", "c.example"].map(String::from).to_vec(), vec![]));
    files.write("run/eth0.sources", "server 192.0.2.2 iburst\n");
    fs::remove_file(files.0.path().join("etc/site.toml")).unwrap();
    assert_eq!(files.read(), (vec!["192.0.2.2".to_owned()], vec![]));
}

#[test]
fn of_files_of_one_name_the_first_directory_counts() {
    let mut files = Directories::new();
    files.write("run/dhcp.sources", "server 192.0.2.1\n");
    assert_eq!(files.read().0, ["192.0.2.1"]);
    files.write("etc/dhcp.sources", "");
    assert_eq!(files.read(), (vec![], vec![]), "which is how an administrator takes one out");
}

#[test]
fn lines_of_chrony_are_read_one_by_one() {
    let mut files = Directories::new();
    let lines = "# of DHCP\nserver 192.0.2.1 iburst\nserver 192.0.2.2 nonsense\nallow all\nserver 192.0.2.3\n\
                 peer 192.0.2.4\nserver 224.0.0.1\n\u{7}server 192.0.2.5\nserver 192.0.2.6";
    files.write("run/eth0.sources", lines);
    let (names, complaints) = files.read();
    assert_eq!(names, ["192.0.2.1", "192.0.2.3"]);
    assert_eq!(
        complaints,
        [
            "run/eth0.sources:3: `server 192.0.2.2 nonsense`: unknown option `nonsense`",
            "run/eth0.sources:4: `allow all`: only server, pool and peer may stand in such a file",
            "run/eth0.sources:6: `peer 192.0.2.4`: the symmetric mode is not supported; a server can be asked instead",
            "run/eth0.sources:7: `server 224.0.0.1`: `224.0.0.1` is not a server's name or address",
            "run/eth0.sources:9: `server 192.0.2.6`: the line is not ended, so the file may not be complete",
            "run/eth0.sources:8: `this line`: this is not text",
        ]
    );
}

#[test]
fn a_file_of_rubbish_is_not_told_line_by_line() {
    let mut files = Directories::new();
    files.write("run/a.sources", &"rubbish\n".repeat(10_000));
    files.write("run/b.sources", "server 192.0.2.1\n");
    let (names, complaints) = files.read();
    assert_eq!((names.len(), complaints.len()), (1, MAX_COMPLAINTS + 1));
    assert_eq!(complaints.last().unwrap(), "9936 more lines cannot be used");
}

#[test]
fn a_file_that_makes_no_sense_stays_as_it_was() {
    let mut files = Directories::new();
    files.write("etc/a.toml", "server = \"192.0.2.1\"\n");
    files.write("etc/b.toml", "server = \"192.0.2.2\"\n");
    files.read();
    files.write("etc/a.toml", "server = \"192.0.2.3\"\n[serve]\nallow = [\"all\"]\n");
    files.write("etc/b.toml", "server = \"192.0");
    let (names, complaints) = files.read();
    assert_eq!(names, ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(complaints[0], "etc/a.toml:2:2: serve: unknown key (did you mean `server`?); accepted: pool, server");
    assert!(complaints[1].starts_with("etc/b.toml:1:"), "{complaints:?}");
    // One that may not be read is no reason to forget it either.
    files.write("etc/a.toml", "server = \"192.0.2.3\"\n");
    fs::set_permissions(files.0.path().join("etc/a.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    fs::remove_file(files.0.path().join("etc/b.toml")).unwrap();
    let (names, complaints) = files.read();
    assert_eq!(names, ["192.0.2.1"]);
    assert!(complaints[0].contains("others than its owner may write this file"), "{complaints:?}");
}

#[test]
fn the_configuration_wins_and_its_limits_hold() {
    let mut files = Directories::new();
    let mut lines =
        "server A.example\nserver b.example\npool b.example\nserver c.example\nserver k.example key 7\n".to_owned();
    let mut more = String::new();
    for number in 0..MAX_SERVERS {
        let text = if number < 58 { &mut lines } else { &mut more };
        text.push_str(&format!("server 192.0.2.{number}\n"));
    }
    files.write("run/eth0.sources", &lines);
    files.write("run/eth1.sources", &more);
    let (config, _, complaints) =
        files.read_beside("pool = \"c.example\"\n[[server]]\naddress = \"a.example:1123\"\nnts = \"require\"\n");
    assert_eq!((config.servers.len(), config.pools.len()), (MAX_SERVERS, 2));
    assert!(config.servers[0].nts == NtsUse::Require && config.servers[0].port == 1123);
    assert_eq!(complaints[0], "run/eth0.sources: k.example: no key 7 in the file of keys");
    assert_eq!(complaints[1..], ["run/eth1.sources: 192.0.2.63: more than 64 servers"]);
    (0..10).for_each(|number| lines.push_str(&format!("server 198.51.100.{number}\n")));
    files.write("run/eth0.sources", &lines);
    let (_, complaints) = files.read();
    assert!(complaints.iter().any(|text| text.ends_with("`server 198.51.100.9`: at most 64 of these are possible")));
}

#[test]
fn what_is_not_authenticated_gets_no_vote_by_a_file() {
    let mut files = Directories::new();
    files.write("run/a.sources", "server a.example trust require prefer\nserver b.example nts trust\n");
    files.write("run/b.toml", "[[server]]\naddress = \"c.example\"\nselect = [\"trust\"]\n");
    let (config, _, complaints) = files.read_beside("");
    let options = |at: usize| config.servers[at].options.select;
    assert!(!options(0).prefer && !options(0).trust && !options(0).require);
    assert!(options(1).trust && !options(2).trust);
    // A name from a network that turned out to offer NTS would have one.
    let nts: Vec<_> = config.servers.iter().map(|server| server.nts).collect();
    assert_eq!(nts, [NtsUse::Off, NtsUse::Require, NtsUse::Off]);
    let why =
        "`prefer`, `trust` and `require` of a source without authentication belong into conf.d; here they do not count";
    assert_eq!(complaints, [format!("run/a.sources: a.example: {why}"), format!("run/b.toml: c.example: {why}")]);
}

#[test]
fn a_directory_with_too_many_files_is_said_and_leaves_what_was() {
    let mut files = Directories::new();
    files.write("run/0.sources", "server a.example\n");
    assert_eq!(files.read().1, Vec::<String>::new());
    (1..=256).for_each(|number| files.write(&format!("run/{number}.sources"), "server b.example\n"));
    let (names, complaints) = files.read();
    let why = "it has more than 256 files, and no more are read; sources that came from it before stay";
    assert!(complaints.len() == 1 && complaints[0].ends_with(why), "{complaints:?}");
    assert_eq!(names, ["a.example"]);
}
