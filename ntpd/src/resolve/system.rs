//! What the system's own files say.

use std::{
    fs::File,
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
    path::Path,
};

use ntp_proto::pool::Name;

/// Most octets of a file that are looked at.
const MAX_BYTES: u64 = 1 << 20;

/// Most name servers that are asked, as in resolv.conf(5).
const MAX_NAME_SERVERS: usize = 3;

/// The port of DNS (RFC 1035).
const DNS_PORT: u16 = 53;

/// The name servers of a file like `/etc/resolv.conf`; none if there is no such file.
pub(super) fn name_servers(path: &Path) -> io::Result<Vec<SocketAddr>> {
    let text = read(path)?;
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let Some(word) = words.next() else { continue };
        match word.parse() {
            Ok(address) => servers.push(SocketAddr::new(address, DNS_PORT)),
            // An address with a zone, `fe80::1%eth0`, cannot be told to the DNS library.
            Err(_) if servers.is_empty() => {
                return Err(io::Error::other(format!("name server {word} cannot be asked")));
            }
            Err(_) => {}
        }
    }
    servers.truncate(MAX_NAME_SERVERS);
    Ok(servers)
}

/// Whether a file like `/etc/hosts` has an address for the name.
pub(super) fn hosts_have(path: &Path, name: &Name) -> bool {
    read(path).is_ok_and(|text| {
        text.lines().any(|line| {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let address = words.next().is_some_and(|word| word.parse::<IpAddr>().is_ok());
            address && words.any(|word| word.trim_end_matches('.').eq_ignore_ascii_case(name.as_str()))
        })
    })
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MAX_BYTES).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn name_servers_are_read_as_the_c_library_reads_them() {
        let servers = |text: &str| name_servers(file(text).path());
        assert_eq!(name_servers(Path::new("/nowhere/resolv.conf")).unwrap(), []);
        assert_eq!(servers("# none\nsearch example\n").unwrap(), []);
        let some =
            servers("nameserver 192.0.2.53\n;nameserver 192.0.2.54\n\tnameserver\t2001:db8::53 # here\n").unwrap();
        assert_eq!(some, ["192.0.2.53:53".parse().unwrap(), "[2001:db8::53]:53".parse().unwrap()]);
        assert_eq!(servers(&"nameserver 192.0.2.53\n".repeat(9)).unwrap().len(), MAX_NAME_SERVERS);
        assert_eq!(servers("nameserver 192.0.2.53\nnameserver fe80::1%eth0").unwrap().len(), 1);
        let error = servers("nameserver fe80::1%eth0").unwrap_err();
        assert!(error.to_string().contains("fe80::1%eth0"), "{error}");
    }

    #[test]
    fn hosts_are_found_in_any_column_and_case() {
        let file = file(
            "127.0.0.1 localhost\n192.0.2.1\tNTP1.example ntp1 # ntp9.example\n#192.0.2.2 ntp2.example\nx ntp3.example\n",
        );
        for (name, found) in [
            ("localhost", true),
            ("ntp1.example", true),
            ("ntp1", true),
            ("ntp9.example", false),
            ("ntp2.example", false),
            ("ntp3.example", false),
            ("example", false),
        ] {
            assert_eq!(hosts_have(file.path(), &Name::parse(name).unwrap()), found, "{name}");
        }
        assert!(!hosts_have(Path::new("/nowhere/hosts"), &Name::parse("localhost").unwrap()));
    }
}
