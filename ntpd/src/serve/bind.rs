//! Taking the addresses to be served.

use std::{fmt, io, net::SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use crate::net::ServerSocket;

/// First port that needs no privilege (`ip_unprivileged_port_start` of ip(7)).
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

/// An address that cannot be served.
#[derive(Debug)]
pub struct ListenError {
    /// What was to be served there.
    pub service: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// What the operating system says.
    pub cause: io::Error,
    /// An address that we serve already and that overlaps with this one.
    pub own: Option<SocketAddr>,
}

impl ListenError {
    /// An address that cannot be served, while `held` are.
    pub fn new(
        service: &'static str,
        address: SocketAddr,
        cause: io::Error,
        held: impl IntoIterator<Item = SocketAddr>,
    ) -> Self {
        let overlaps = |own: &SocketAddr| {
            own.port() == address.port()
                && own.is_ipv4() == address.is_ipv4()
                && (own.ip().is_unspecified() || address.ip().is_unspecified())
        };
        Self { service, address, cause, own: held.into_iter().find(overlaps) }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, address, cause, own } = self;
        write!(f, "cannot serve {service} on {address}: ")?;
        #[expect(clippy::wildcard_enum_match_arm, reason = "the library's list is open, and its own words will do")]
        match cause.kind() {
            io::ErrorKind::AddrInUse => match own {
                // No socket can be bound over another one's address, and giving up ours first could lose both.
                Some(own) => write!(f, "we serve {own} on this port already; such a change needs a restart"),
                None => f.write_str("another program uses this port"),
            },
            io::ErrorKind::AddrNotAvailable => f.write_str("not an address of this machine"),
            io::ErrorKind::PermissionDenied if address.port() < FIRST_UNPRIVILEGED_PORT => {
                write!(f, "a port below {FIRST_UNPRIVILEGED_PORT} needs root or CAP_NET_BIND_SERVICE")
            }
            _ => cause.fmt(f),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Binds one socket for each address and thread; the outer list is by thread. Addresses in `held` are ours already.
pub(super) fn bind(
    addresses: &[SocketAddr],
    held: &[SocketAddr],
    threads: usize,
) -> Result<Vec<Vec<ServerSocket>>, ListenError> {
    let failed = |address| move |cause| ListenError::new("NTP", address, cause, held.iter().copied());
    for &address in addresses.iter().filter(|address| !held.contains(address)) {
        probe(address).map_err(failed(address))?;
    }
    let mut all: Vec<Vec<ServerSocket>> = (0..threads).map(|_| Vec::with_capacity(addresses.len())).collect();
    for &address in addresses {
        let mut bound = address;
        for sockets in &mut all {
            let socket = ServerSocket::bind(bound).map_err(failed(address))?;
            // If the system chose the port, all threads must have the same.
            bound = socket.local_addr().map_err(failed(address))?;
            sockets.push(socket);
        }
    }
    Ok(all)
}

/// Finds out whether `address` is free. Sockets that may share a port also share it with another process of the same
/// user, and then half of the requests would go there unnoticed.
fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(address: &str, kind: io::ErrorKind) -> String {
        ListenError::new("NTP", address.parse().unwrap(), kind.into(), []).to_string()
    }

    #[test]
    fn errors_name_address_and_cause() {
        for (address, kind, expected) in [
            ("[::]:123", io::ErrorKind::AddrInUse, "cannot serve NTP on [::]:123: another program uses this port"),
            (
                "192.0.2.1:123",
                io::ErrorKind::AddrNotAvailable,
                "cannot serve NTP on 192.0.2.1:123: not an address of this machine",
            ),
            (
                "0.0.0.0:123",
                io::ErrorKind::PermissionDenied,
                "cannot serve NTP on 0.0.0.0:123: a port below 1024 needs root or CAP_NET_BIND_SERVICE",
            ),
            ("0.0.0.0:1123", io::ErrorKind::PermissionDenied, "cannot serve NTP on 0.0.0.0:1123: permission denied"),
        ] {
            assert_eq!(message(address, kind), expected);
        }
    }

    #[test]
    fn a_port_shared_with_another_server_counts_as_taken() {
        let first = ServerSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = bind(&[first.local_addr().unwrap()], &[], 1).unwrap_err();
        assert_eq!(error.cause.kind(), io::ErrorKind::AddrInUse, "{error}");
        let error = bind(&["192.0.2.1:0".parse().unwrap()], &[], 1).unwrap_err();
        assert_eq!(error.cause.kind(), io::ErrorKind::AddrNotAvailable, "{error}");
    }

    #[test]
    fn every_thread_has_the_same_addresses() {
        let addresses = ["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()];
        let all = bind(&addresses, &[], 3).unwrap();
        let names = |sockets: &Vec<ServerSocket>| -> Vec<SocketAddr> {
            sockets.iter().map(|socket| socket.local_addr().unwrap()).collect()
        };
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|sockets| names(sockets) == names(&all[0])));
    }
}
