//! What is served, whatever file it comes from.

use super::plan::{Directive, Plan, judge, list, quote};
use crate::config::Host;

/// What is served, and to whom.
#[derive(Debug, Default)]
pub(super) struct Serving {
    /// Comments of the directives about who is served.
    pub(super) comments: Vec<String>,
    /// The last of these directives.
    pub(super) access: Option<Directive>,
    /// Addresses with ports; the daemon's own default if there is none.
    pub(super) listen: Vec<String>,
    /// Prefixes, or `all`.
    pub(super) allow: Vec<String>,
    /// Prefixes.
    pub(super) deny: Vec<String>,
    /// The value of `rate-limit`; the daemon's own default if there is none.
    pub(super) rate_limit: Option<String>,
    /// Comments of the directives about it.
    pub(super) rate_comments: Vec<String>,
    /// When the local clock is served: the last directive, and the value of `local`.
    pub(super) local: Option<(Directive, String)>,
    /// Leap seconds are kept from clients.
    pub(super) smear: Option<Directive>,
    /// Of how many clients note is taken.
    pub(super) client_log: Option<(Directive, String)>,
    /// A server of keys.
    pub(super) nts: Option<ServingNts>,
    /// Restrictions that cannot be carried over: without them nobody is to be served.
    pub(super) blocked: Vec<(Directive, String)>,
}

/// A server of keys.
#[derive(Debug, Default)]
pub(super) struct ServingNts {
    pub(super) comments: Vec<String>,
    pub(super) certificate: String,
    pub(super) private_key: String,
    pub(super) listen: Vec<String>,
    pub(super) ntp_server: Option<String>,
    pub(super) ntp_port: Option<u16>,
    /// Where it stands.
    pub(super) directive: Option<Directive>,
}

impl ServingNts {
    /// What can be judged of it without its files.
    fn judge(&self) -> Result<(), String> {
        if !self.listen.is_empty() {
            judge(&format!("[serve]\nallow = \"all\"\nlisten = {}\n", list(&self.listen)))?;
        }
        match &self.ntp_server {
            Some(server) if Host::parse(server).is_none() => {
                Err(format!("`{server}` is not a server's name or address"))
            }
            _ => Ok(()),
        }
    }
}

/// What is said twice is said once.
fn unique(texts: &mut Vec<String>) {
    let mut seen = Vec::new();
    texts.retain(|text| {
        !seen.contains(text) && {
            seen.push(text.clone());
            true
        }
    });
}

impl Serving {
    /// Whether somebody is served.
    pub(super) fn is_on(&self) -> bool {
        !self.allow.is_empty() && self.blocked.is_empty()
    }

    /// Hands over what is served besides the time of sources.
    fn besides(&mut self, plan: &mut Plan) {
        if let Some((directive, local)) = self.local.take() {
            match judge(&format!("[serve]\nallow = \"all\"\nlocal = {local}\n")) {
                Ok(_) => plan.put("serve", "local", local, directive.comments),
                Err(wrong) => plan.drop(&directive, wrong),
            }
        }
        if let Some((directive, clients)) = self.client_log.take() {
            plan.put("serve", "client-log", clients, directive.comments);
        }
        if let Some(directive) = self.smear.take() {
            if plan.has("clock", "leap-file") && plan.value("clock", "leap") != Some("\"ignore\"") {
                plan.put("serve", "smear", "true".to_owned(), directive.comments);
            } else {
                plan.drop(&directive, "leap seconds are spread by a list: leap-file in [clock]");
            }
        }
    }

    /// Hands it over.
    pub(super) fn finish(mut self, plan: &mut Plan) {
        if self.allow.is_empty() {
            for (directive, _) in &self.blocked {
                plan.note(directive, "nobody is served");
            }
            for directive in
                self.local.iter().chain(&self.client_log).map(|(directive, _)| directive).chain(&self.smear)
            {
                plan.note(directive, "nobody is served");
            }
            if let Some(directive) = self.nts.and_then(|nts| nts.directive) {
                plan.drop(&directive, "a server of keys alone is not possible: it needs clients of NTP too");
            }
            plan.block(self.comments);
            return;
        }
        unique(&mut self.listen);
        let mut table = format!("[serve]\nallow = {}\ndeny = {}\n", list(&self.allow), list(&self.deny));
        if !self.listen.is_empty() {
            table += &format!("listen = {}\n", list(&self.listen));
        }
        if let (Err(wrong), Some(access)) = (judge(&table), &self.access) {
            self.blocked.push((access.clone(), wrong));
        }
        if !self.blocked.is_empty() {
            plan.block(self.comments);
            for directive in
                self.local.iter().chain(&self.client_log).map(|(directive, _)| directive).chain(&self.smear)
            {
                plan.note(directive, "nobody is served");
            }
            for (directive, why) in self.blocked {
                plan.drop(&directive, format!("{why}; so that no more are served than before, nobody is"));
            }
            return;
        }
        if !self.listen.is_empty() {
            plan.put("serve", "listen", list(&self.listen), Vec::new());
        }
        plan.put("serve", "allow", list(&self.allow), std::mem::take(&mut self.comments));
        if !self.deny.is_empty() {
            plan.put("serve", "deny", list(&self.deny), Vec::new());
        }
        self.besides(plan);
        if let Some(limit) = self.rate_limit {
            plan.put("serve", "rate-limit", limit, self.rate_comments);
        }
        let Some(mut nts) = self.nts else { return };
        unique(&mut nts.listen);
        if let (Err(wrong), Some(directive)) = (nts.judge(), &nts.directive) {
            return plan.drop(directive, wrong);
        }
        if !nts.listen.is_empty() {
            plan.put("serve.nts", "listen", list(&nts.listen), Vec::new());
        }
        plan.put("serve.nts", "certificate", quote(&nts.certificate), nts.comments);
        plan.put("serve.nts", "private-key", quote(&nts.private_key), Vec::new());
        if let Some(server) = nts.ntp_server {
            plan.put("serve.nts", "ntp-server", quote(&server), Vec::new());
        }
        if let Some(port) = nts.ntp_port {
            plan.put("serve.nts", "ntp-port", port.to_string(), Vec::new());
        }
    }
}
