//! Scripts that hear of a network: what they write, with what networks say, and what the daemon makes of it.
#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use ntpd::{
    config::{Config, NtsUse},
    source_files::SourceFiles,
};
use tempfile::TempDir;

/// What a network says that is up to no good.
const HOSTILE: &str = "192.0.2.7 \"192.0.2.8\" $(touch pwned) `touch pwned`; * ../../etc/passwd -x trust \n\
                       192.0.2.9 nts trust\nallow all\n[serve]\nkey=1 a\u{7}b.example ntp.example # .x \u{e9}.example";

struct Network(TempDir);

impl Network {
    fn new() -> Self {
        let network = Self(TempDir::new().unwrap());
        network.program("ntpctl", "#!/bin/sh\necho \"$*\" >>\"${0%/*}/told\"\nexit 1\n");
        network
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a script of the package as the system would.
    fn run(&self, script: &str, args: &[&str], environment: &[(&str, &str)]) {
        let output = self.output(packaging(script).to_str().unwrap(), args, environment);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    }

    fn output(&self, program: &str, args: &[&str], environment: &[(&str, &str)]) -> Output {
        Command::new("/bin/sh")
            .arg(program)
            .args(args)
            .current_dir(self.0.path())
            .env_clear()
            .envs(environment.iter().copied())
            .env("NTPD_DHCP", packaging("dhcp/ntpd-dhcp"))
            .env("NTPD_DHCP_DIRECTORY", self.path("run"))
            .env("NTPCTL", self.path("ntpctl"))
            .env("NTPD_NETWORKD_LEASES", self.path("leases"))
            .env("NTPD_NETWORK_LINKS", self.path("links"))
            .output()
            .unwrap()
    }

    /// What the daemon was told since.
    fn told(&self) -> Vec<String> {
        let told = fs::read_to_string(self.path("told")).unwrap_or_default();
        let _ = fs::remove_file(self.path("told"));
        told.lines().map(ToOwned::to_owned).collect()
    }

    fn files(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("run")) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The servers that the daemon finds, every one of them plain and without a say.
    fn servers(&self) -> Vec<String> {
        let base = Config::parse("none", &format!("source-directories = [{:?}]", self.path("run"))).unwrap();
        let (config, _) = SourceFiles::of(&base, &[]);
        assert!(config.serve.is_none() && config.pools.is_empty());
        for server in &config.servers {
            assert!(server.nts == NtsUse::Off && server.key.is_none(), "{server:?}");
            let select = server.options.select;
            assert!(!select.trust && !select.require && !select.prefer, "{server:?}");
        }
        config.servers.iter().map(|server| server.host.to_string()).collect()
    }
}

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("packaging").join(name)
}

const NETWORK_MANAGER: &str = "networkmanager/dispatcher.d/20-ntpd";

#[test]
fn servers_come_and_go_with_a_connection_of_network_manager() {
    let network = Network::new();
    let lease = [("DHCP4_NTP_SERVERS", "192.0.2.1 192.0.2.2"), ("CONNECTION_ID", "Home")];
    network.run(NETWORK_MANAGER, &["eth0", "up"], &lease);
    assert_eq!(network.servers(), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(network.told(), ["reload sources", "onoffline"]);
    network.run(NETWORK_MANAGER, &["eth0", "dhcp4-change"], &lease);
    assert_eq!(network.told(), ["onoffline"], "nothing is new");
    network.run(NETWORK_MANAGER, &["eth0", "dhcp6-change"], &[("DHCP6_DHCP6_NTP_SERVERS", "2001:db8::1 ntp.example")]);
    assert_eq!(network.servers(), ["192.0.2.1", "192.0.2.2", "2001:db8::1", "ntp.example"]);
    network.told();
    network.run(NETWORK_MANAGER, &["wlan0", "up"], &[]);
    network.run(NETWORK_MANAGER, &["none", "connectivity-change"], &[("CONNECTIVITY_STATE", "FULL")]);
    network.run(NETWORK_MANAGER, &["eth0", "hostname"], &[]);
    assert_eq!(network.told(), ["onoffline"; 2]);
    network.run(NETWORK_MANAGER, &["eth0", "down"], &[]);
    assert_eq!((network.files(), network.servers()), (vec![], vec![]));
    assert_eq!(network.told(), ["reload sources", "reload sources", "onoffline"]);
}

#[test]
fn servers_come_and_go_with_a_lease_of_networkd() {
    let network = Network::new();
    fs::create_dir_all(network.path("links/eth0")).unwrap();
    fs::create_dir(network.path("leases")).unwrap();
    fs::write(network.path("links/eth0/ifindex"), "3\n").unwrap();
    fs::write(network.path("leases/3"), "ADDRESS=192.0.2.100\nNTP=192.0.2.1 192.0.2.2\nNTPD=192.0.2.3\n").unwrap();
    let state = |state| [("IFACE", "eth0"), ("OperationalState", state), ("STATE", state)];
    network.run("networkd-dispatcher/ntpd", &[], &state("routable"));
    assert_eq!((network.servers(), network.told().len()), (vec!["192.0.2.1".to_owned(), "192.0.2.2".to_owned()], 2));
    network.run("networkd-dispatcher/ntpd", &[], &[("IFACE", "../eth0"), ("OperationalState", "routable")]);
    assert_eq!((network.servers().len(), network.told().len()), (2, 0));
    network.run("networkd-dispatcher/ntpd", &[], &state("no-carrier"));
    assert_eq!((network.servers(), network.told().len()), (vec![], 2));
}

#[test]
fn servers_come_and_go_with_a_lease_of_dhclient() {
    let network = Network::new();
    // It is read into another script, which goes on with its own names and rules.
    let script = network.path("dhclient-script");
    let hook = packaging("dhclient/dhclient-exit-hooks.d/ntpd");
    let text = format!("dhcp=mine\n. {}\necho \"$dhcp ${{undefined}}*\"\n", hook.display());
    fs::write(&script, text).unwrap();
    let run = |reason: &str| {
        let environment = [("reason", reason), ("interface", "eth0"), ("new_ntp_servers", "192.0.2.1")];
        let output = network.output(script.to_str().unwrap(), &[], &environment);
        assert_eq!((output.status.code(), output.stdout), (Some(0), b"mine *\n".to_vec()));
    };
    for reason in ["PREINIT", "BOUND", "RENEW"] {
        run(reason);
    }
    assert_eq!((network.servers(), network.told()), (vec!["192.0.2.1".to_owned()], vec!["reload sources".to_owned()]));
    run("EXPIRE");
    assert_eq!((network.servers(), network.told()), (vec![], vec!["reload sources".to_owned()]));
}

#[test]
fn whatever_a_network_says_is_only_the_name_of_a_server() {
    for variable in ["DHCP4_NTP_SERVERS", "DHCP6_DHCP6_NTP_SERVERS"] {
        let network = Network::new();
        network.run(NETWORK_MANAGER, &["eth0", "up"], &[(variable, HOSTILE)]);
        let text = fs::read_to_string(network.path("run").join(&network.files()[0])).unwrap();
        let lines: Vec<_> = text.lines().skip(1).collect();
        let expected = ["192.0.2.7", "192.0.2.9", "ntp.example"].map(|name| format!("server {name} iburst"));
        assert_eq!(lines, expected);
        assert_eq!(network.servers(), ["192.0.2.7", "192.0.2.9", "ntp.example"]);
        assert!(!network.path("pwned").exists());
    }
}

#[test]
fn a_network_names_no_more_servers_than_can_be_asked() {
    let network = Network::new();
    let many: Vec<String> = (0..99).map(|last| format!("192.0.2.{last}")).collect();
    network.run(NETWORK_MANAGER, &["eth0", "up"], &[("DHCP4_NTP_SERVERS", &many.join(" "))]);
    assert_eq!(network.servers().len(), 8);
}

#[test]
fn an_interface_cannot_be_called_so_that_a_file_elsewhere_is_written() {
    for name in ["../../x", "/etc/x", ".hidden", "..", "a\nb", "eth0 eth1", "*"] {
        let network = Network::new();
        fs::create_dir(network.path("run")).unwrap();
        network.run(NETWORK_MANAGER, &[name, "up"], &[("DHCP4_NTP_SERVERS", "192.0.2.1")]);
        let files = network.files();
        assert!(files.len() == 1 && !files[0].starts_with('.') && files[0].ends_with("-dhcp4.sources"), "{files:?}");
        assert_eq!(network.servers(), ["192.0.2.1"]);
        let mut beside: Vec<_> =
            fs::read_dir(network.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        beside.sort();
        assert_eq!(beside, ["ntpctl", "run", "told"], "{name:?}");
    }
}

/// Where it can be had.
#[test]
fn a_checker_of_scripts_has_nothing_to_say() {
    let scripts =
        ["dhcp/ntpd-dhcp", NETWORK_MANAGER, "networkd-dispatcher/ntpd", "dhclient/dhclient-exit-hooks.d/ntpd"];
    let Ok(output) = Command::new("shellcheck").args(scripts.map(packaging)).output() else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
