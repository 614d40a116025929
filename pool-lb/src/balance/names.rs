//! Where members are.

use std::net::SocketAddr;

use tokio::net::lookup_host;

use super::{assign::is_public, trouble::Trouble};

/// Most addresses of a name that are tried.
pub(super) const MAX_ADDRESSES: usize = 3;

/// The addresses of a name.
pub(super) async fn resolve(name: &str, port: u16, allow_private: bool) -> Result<Vec<SocketAddr>, Trouble> {
    let unresolved = |error: std::io::Error| match error.raw_os_error() {
        // The resolver's own say has no such number: what has one is what this machine would not do for it.
        Some(_) => Trouble::from(error),
        None => Trouble::Member(format!("{name} is not resolved: {error}")),
    };
    let found = lookup_host((name, port)).await.map_err(unresolved)?;
    let found: Vec<_> = found.filter(|address| allow_private || is_public(address.ip())).collect();
    if found.is_empty() {
        return Err(Trouble::Member(format!("{name} leads to internal addresses only")));
    }
    Ok(found)
}
