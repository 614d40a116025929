//! The DNS side of a pool: signed answers with a few members each, for clients that ask for the service records of the
//! pool's name.

mod answer;
pub mod cli;
mod config;
mod cookie;
mod counters;
mod draws;
mod export;
mod limit;
mod loader;
mod name;
mod now;
mod published;
mod query;
mod record;
mod reply;
mod serve;
mod sign;
mod targets;
mod transfer;
mod update;
mod zone;

pub use answer::{MAX_ZONES, Moment, Responder, Rules, Served, State, Transport};
pub use config::{Config, DEFAULT_FILE, PublishSettings, TcpSettings, ZoneConfig, duration};
pub use cookie::{CookieSecret, CookieSecrets, SECRET};
pub use counters::{Count, Counters};
pub use export::{export, service_records};
pub use limit::LimitSettings;
pub use loader::{Loader, Pool, keys};
pub use name::{MAX_NAME, WireName};
pub use record::Data;
pub use serve::Server;
pub use sign::{Signer, Window, ZoneKey};
pub use targets::{Candidates, MAX_PLAIN, MAX_UDP, TARGETS};
pub use update::{Publisher, UpdateError};
pub use zone::{Record, Zone, ZoneSettings, member_records, plain_records};

/// Writes a file that is its owner's alone.
#[cfg(test)]
pub(crate) fn private(path: &std::path::Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
