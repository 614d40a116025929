//! Directives about where chronyc is answered, and what.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::migrate::{
    access::{Rules, everybody, words as entries},
    plan::{Directive, Plan, list, quote},
    words::{one, port, subnet},
};

/// The directives that are read here.
pub(super) const KNOWN: [&str; 5] = ["cmdport", "bindcmdaddress", "cmdallow", "cmddeny", "opencommands"];

/// The port of chronyd's commands.
const COMMAND_PORT: u16 = 323;

/// What the directives say.
pub(super) struct Commands {
    rules: Rules,
    bound: [IpAddr; 2],
    port: u16,
    /// The last directive about addresses, and about who is answered.
    place: Option<Directive>,
    who: Option<Directive>,
    no_socket: Option<Directive>,
}

impl Default for Commands {
    fn default() -> Self {
        Self {
            rules: Rules::chrony(),
            bound: [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            port: COMMAND_PORT,
            place: None,
            who: None,
            no_socket: None,
        }
    }
}

impl Commands {
    /// Reads a directive.
    ///
    /// # Errors
    ///
    /// What chronyd would not accept either.
    pub(super) fn read(
        &mut self,
        name: &str,
        words: &[&str],
        directive: &Directive,
        plan: &mut Plan,
    ) -> Result<(), String> {
        match name {
            "cmdport" => {
                self.port = port(one(words)?)?;
                self.place = Some(directive.clone());
            }
            "bindcmdaddress" => match one(words)? {
                "/" => self.no_socket = Some(directive.clone()),
                path if path.starts_with('/') => plan.set(directive, "control", "chronyc-socket", quote(path)),
                address => {
                    let address: IpAddr = address.parse().map_err(|_| "an address or a path is needed")?;
                    let [v4, v6] = &mut self.bound;
                    *(if address.is_ipv4() { v4 } else { v6 }) = address;
                    self.place = Some(directive.clone());
                }
            },
            "opencommands" => {
                let words: Vec<String> = words.iter().map(|word| word.to_ascii_lowercase()).collect();
                plan.set(directive, "control", "chronyc-open", list(&words));
            }
            _ => {
                self.rule(name == "cmdallow", words)?;
                self.who = Some(directive.clone());
            }
        }
        Ok(())
    }

    fn rule(&mut self, is_allowed: bool, words: &[&str]) -> Result<(), String> {
        let (all, rest) = match words {
            ["all", rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        match rest {
            [] => everybody().into_iter().for_each(|net| self.rules.add(net, is_allowed, all)),
            [word] => match subnet(word)? {
                Some(net) => self.rules.add(net, is_allowed, all),
                None => return Err(format!("`{word}` is no address")),
            },
            _ => return Err("one range of addresses is needed".to_owned()),
        }
        Ok(())
    }

    /// Says what depends on the rest.
    pub(super) fn finish(self, plan: &mut Plan) {
        match (&self.no_socket, &self.place) {
            // Neither over UDP nor in the file system.
            (Some(directive), Some(_)) if self.port == 0 => {
                plan.set(directive, "control", "chronyc", "false".to_owned());
                return;
            }
            (Some(directive), _) => {
                plan.drop(directive, "chronyc is answered in the file system, or not at all (control.chronyc)");
            }
            (None, _) => {}
        }
        if let Some(directive) = &self.place {
            let addresses: Vec<String> = match self.port {
                0 => Vec::new(),
                port => self.bound.map(|address| SocketAddr::new(address, port).to_string()).into(),
            };
            plan.set(directive, "control", "chronyc-listen", list(&addresses));
        }
        let Some(directive) = &self.who else { return };
        match self.rules.lists() {
            (_, denied) if !denied.is_empty() => {
                plan.drop(directive, "exceptions from those who are answered cannot be said: nobody else is");
            }
            (allowed, _) if allowed.is_empty() => plan.note(directive, "this machine alone is answered"),
            (allowed, _) => plan.set(directive, "control", "chronyc-allow", list(&entries(&allowed))),
        }
    }
}
