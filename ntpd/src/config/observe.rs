//! `[observe]`.

use std::net::SocketAddr;

use super::{check::given_addresses, problem::Wrong, section::Section};

/// Where metrics and the page are served. Without the table that is nowhere: what watches a machine is for its
/// administrator to let in.
pub(super) fn observe(section: Option<Section<'_>>) -> Vec<SocketAddr> {
    let Some(mut section) = section else { return Vec::new() };
    let listen = given_addresses(&mut section);
    if listen.is_none() {
        let wrong = Wrong::new("missing")
            .accepted("an address with a port, such as \"127.0.0.1:9975\", a list of them, or [] for none");
        section.error(&section.place().clone(), "listen", wrong);
    }
    section.finish();
    listen.unwrap_or_default()
}
