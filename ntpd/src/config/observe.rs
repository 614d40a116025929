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

#[cfg(test)]
mod tests {
    use crate::config::tests::load;

    #[test]
    fn mistakes_are_told_with_what_is_accepted() {
        for (text, expected) in [
            (
                "[observe]",
                "ntpd.toml:1:2: observe.listen: missing; accepted: an address with a port, such as \"127.0.0.1:9975\", a list of \
                 them, or [] for none",
            ),
            (
                "[observe]\nlisten = \"127.0.0.1\"",
                "ntpd.toml:2:10: observe.listen: `127.0.0.1` cannot be listened on; accepted: an address with a port, such as \
                 \"0.0.0.0:123\" or \"[::]:123\"",
            ),
            (
                "[observe]\nlisten = [\"[::1]:9975\", \"[::1]:9975\"]",
                "ntpd.toml:2:25: observe.listen: `[::1]:9975` was given before",
            ),
            ("[observe]\nlisten = []\nport = 1", "ntpd.toml:3:1: observe.port: unknown key; accepted: listen"),
        ] {
            assert_eq!(load(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn nothing_listens_unless_it_is_said() {
        assert!(load("pool = \"a\"").unwrap().observe.is_empty());
        assert!(load("pool = \"a\"\n[observe]\nlisten = []").unwrap().observe.is_empty());
        let one = load("pool = \"a\"\n[observe]\nlisten = \"127.0.0.1:9975\"").unwrap();
        assert_eq!(one.observe, ["127.0.0.1:9975".parse().unwrap()]);
    }
}
