//! Directives about what is served, and to whom.

use std::net::IpAddr;

use crate::{
    config::{Host, NTP_PORT, NTS_KE_PORT},
    migrate::{
        access::{Rules, everybody, words},
        plan::{Directive, Plan, judge, quote},
        serving::{Serving, ServingNts},
        words::{duration, has_form, number, one, port, subnet},
    },
};

/// The directives that are read here.
pub(super) const KNOWN: [&str; 14] = [
    "allow",
    "deny",
    "bindaddress",
    "binddevice",
    "clientloglimit",
    "noclientlog",
    "local",
    "smoothtime",
    "port",
    "ratelimit",
    "ntsport",
    "ntsservercert",
    "ntsserverkey",
    "ntsntpserver",
];

/// Bytes that chronyd counts for a client, of which it has as many as of timestamps.
const CLIENT_BYTES: f64 = 128.0;

/// As many clients as can be remembered.
const MAX_CLIENTS: f64 = 16_777_216.0;

/// What the directives say.
pub(super) struct Access {
    rules: Rules,
    serving: Serving,
    bound: [Option<IpAddr>; 2],
    port: Option<u16>,
    nts_port: u16,
    certificates: Vec<(Directive, String)>,
    private_keys: Vec<(Directive, String)>,
    ntp_server: Option<(Directive, String)>,
    /// Directives that say nothing without a server.
    others: Vec<Directive>,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            rules: Rules::chrony(),
            serving: Serving::default(),
            bound: [None, None],
            port: None,
            nts_port: NTS_KE_PORT,
            certificates: Vec::new(),
            private_keys: Vec::new(),
            ntp_server: None,
            others: Vec::new(),
        }
    }
}

impl Access {
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
            "allow" | "deny" => return self.rule(name == "allow", words, directive, plan),
            "bindaddress" => {
                let address: IpAddr = one(words)?.parse().map_err(|_| "an address is needed")?;
                let [v4, v6] = &mut self.bound;
                *(if address.is_ipv4() { v4 } else { v6 }) = Some(address);
                self.others.push(directive.clone());
            }
            "binddevice" => {
                let device = one(words)?;
                let why = format!("what is served cannot be kept to the interface {device}");
                self.serving.blocked.push((directive.clone(), why));
            }
            "local" => self.serving.local = Some((directive.clone(), local(words)?)),
            "clientloglimit" => {
                let clients = (number(one(words)?)? / CLIENT_BYTES).clamp(1.0, MAX_CLIENTS);
                self.serving.client_log = Some((directive.clone(), format!("{clients:.0}")));
            }
            "noclientlog" => {
                has_form("", words)?;
                self.serving.client_log = None;
                plan.note(directive, "no note is taken of clients without client-log of [serve]");
            }
            "smoothtime" => self.smear(words, directive, plan)?,
            "port" => {
                self.port = Some(port(one(words)?)?);
                self.others.push(directive.clone());
            }
            "ratelimit" => self.limit(words, directive, plan)?,
            "ntsport" => {
                self.nts_port = port(one(words)?)?;
                self.others.push(directive.clone());
            }
            "ntsservercert" => self.certificates.push((directive.clone(), one(words)?.to_owned())),
            "ntsserverkey" => self.private_keys.push((directive.clone(), one(words)?.to_owned())),
            _ => self.ntp_server = Some((directive.clone(), one(words)?.to_owned())),
        }
        Ok(())
    }

    fn rule(&mut self, allow: bool, words: &[&str], directive: &Directive, plan: &mut Plan) -> Result<(), String> {
        let (all, range) = match words {
            [] => (false, None),
            ["all"] => (true, None),
            ["all", range] => (true, Some(*range)),
            [range] => (false, Some(*range)),
            _ => return Err("`all` or a range of addresses is needed, or both in this order".to_owned()),
        };
        let nets = match range.map(subnet).transpose()? {
            None => everybody().to_vec(),
            Some(Some(net)) => vec![net],
            Some(None) if allow => {
                plan.drop(directive, "clients have addresses here, not names");
                return Ok(());
            }
            Some(None) => {
                self.serving.blocked.push((directive.clone(), "clients have addresses here, not names".to_owned()));
                return Ok(());
            }
        };
        for net in nets {
            self.rules.add(net, allow, all);
        }
        self.serving.comments.extend(directive.comments.iter().cloned());
        self.serving.access = Some(Directive { comments: Vec::new(), ..directive.clone() });
        Ok(())
    }

    fn limit(&mut self, words: &[&str], directive: &Directive, plan: &mut Plan) -> Result<(), String> {
        let (mut interval, mut burst, mut leak, mut kod) = (3_i64, 8_i64, 2_i64, 0_i64);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("a number is missing after `{word}`"))?;
            number(value)?;
            let value = value.parse().map_err(|_| format!("`{value}` is not a whole number"))?;
            match word.to_ascii_lowercase().as_str() {
                "interval" => interval = value,
                "burst" => burst = value,
                "leak" => leak = value,
                "kod" => kod = value,
                _ => return Err(format!("unknown option `{word}`")),
            }
        }
        let kiss = kod > 0;
        let limit = format!("{{ interval = {interval}, burst = {burst}, leak = {leak}, kiss = {kiss} }}");
        match judge(&format!("[serve]\nallow = \"all\"\nrate-limit = {limit}\n")) {
            Ok(_) => {
                self.serving.rate_limit = Some(limit);
                self.serving.rate_comments.clone_from(&directive.comments);
            }
            Err(wrong) => {
                // The daemon's own limit holds instead.
                self.serving.rate_limit = Some("true".to_owned());
                plan.drop(directive, wrong);
            }
        }
        Ok(())
    }

    fn smear(&mut self, words: &[&str], directive: &Directive, plan: &mut Plan) -> Result<(), String> {
        let [frequency, wander, rest @ ..] = words else { return Err("two numbers are needed".to_owned()) };
        number(frequency)?;
        number(wander)?;
        match rest {
            [] => plan.drop(directive, "served time is not smoothed; leap seconds alone can be: `smear` of [serve]"),
            [word] if word.eq_ignore_ascii_case("leaponly") => {
                let mut directive = directive.clone();
                let text = format!("{}: here a leap second is spread evenly from noon to noon.", directive.text);
                directive.comments.push(text);
                self.serving.smear = Some(directive);
            }
            _ => return Err("after the numbers only `leaponly` may stand".to_owned()),
        }
        Ok(())
    }

    fn listen(&self, port: u16, default: u16) -> Vec<String> {
        let [v4, v6] = self.bound;
        if v4.is_none() && v6.is_none() && port == default {
            return Vec::new();
        }
        let v4 = v4.map_or_else(|| "0.0.0.0".to_owned(), |address| address.to_string());
        let v6 = v6.map_or_else(|| "::".to_owned(), |address| address.to_string());
        vec![format!("{v4}:{port}"), format!("[{v6}]:{port}")]
    }

    /// What is served.
    pub(super) fn finish(mut self, plan: &mut Plan) -> Serving {
        let port = self.port.unwrap_or(NTP_PORT);
        let (allow, deny) = if port == 0 { (Vec::new(), Vec::new()) } else { self.rules.lists() };
        let mut serving = std::mem::take(&mut self.serving);
        (serving.allow, serving.deny) = (words(&allow), words(&deny));
        if !serving.is_on() {
            let why = if port == 0 { "nothing is served without [serve]" } else { "nobody is served" };
            for directive in &self.others {
                plan.note(directive, why);
            }
            if let (true, Some(access)) = (serving.allow.is_empty(), serving.access.take()) {
                plan.note(&Directive { comments: std::mem::take(&mut serving.comments), ..access }, "nobody is served");
            }
            for (directive, _) in self.certificates.iter().chain(&self.private_keys).chain(&self.ntp_server) {
                plan.note(directive, why);
            }
            return serving;
        }
        for directive in &self.others {
            plan.block(directive.comments.clone());
        }
        serving.listen = self.listen(port, NTP_PORT);
        if serving.rate_limit.is_none() {
            serving.rate_limit = Some("false".to_owned());
            serving.rate_comments =
                vec!["chronyd has no limit without ratelimit. Without this line the daemon has one.".to_owned()];
        }
        serving.nts = self.nts(port, plan);
        serving
    }

    fn nts(&mut self, ntp_port: u16, plan: &mut Plan) -> Option<ServingNts> {
        let mut certificates = std::mem::take(&mut self.certificates).into_iter();
        let mut private_keys = std::mem::take(&mut self.private_keys).into_iter();
        let (first, key) = (certificates.next(), private_keys.next());
        for (directive, _) in certificates.chain(private_keys) {
            plan.drop(&directive, "one certificate with its key is possible");
        }
        let (Some((of_certificate, certificate)), Some((of_key, private_key))) = (&first, &key) else {
            for (directive, _) in first.iter().chain(&key).chain(&self.ntp_server) {
                plan.drop(directive, "a server of keys needs both a certificate and its key");
            }
            return None;
        };
        let mut nts = ServingNts {
            comments: of_certificate.comments.iter().chain(&of_key.comments).cloned().collect(),
            certificate: certificate.clone(),
            private_key: private_key.clone(),
            listen: self.listen(self.nts_port, NTS_KE_PORT),
            ntp_server: None,
            ntp_port: (ntp_port != NTP_PORT).then_some(ntp_port),
            directive: Some(Directive { comments: Vec::new(), ..of_certificate.clone() }),
        };
        if let Some((directive, server)) = &self.ntp_server {
            if Host::parse(server).is_some() {
                nts.ntp_server = Some(server.clone());
                nts.comments.extend(directive.comments.iter().cloned());
            } else {
                plan.drop(directive, "not a server's name or address");
            }
        }
        Some(nts)
    }
}

/// The value of `local`.
fn local(words: &[&str]) -> Result<String, String> {
    let mut keys = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let word = word.to_ascii_lowercase();
        let key = match word.as_str() {
            "orphan" => {
                keys.retain(|known: &String| known != "orphan = true");
                keys.push("orphan = true".to_owned());
                continue;
            }
            "stratum" | "distance" | "activate" => word.as_str(),
            "waitsynced" => "wait-synced",
            "waitunsynced" => "wait-unsynced",
            _ => return Err(format!("unknown option `{word}`")),
        };
        let value = words.next().ok_or_else(|| format!("a number is missing after `{word}`"))?;
        let seconds = number(value)?;
        let value = if key == "stratum" {
            value.parse::<i64>().map_err(|_| format!("`{value}` is not a whole number"))?.to_string()
        } else {
            quote(&duration(seconds).ok_or_else(|| format!("`{value}` is out of range"))?)
        };
        keys.retain(|known: &String| !known.starts_with(&format!("{key} =")));
        keys.push(format!("{key} = {value}"));
    }
    Ok(if keys.is_empty() { "true".to_owned() } else { format!("{{ {} }}", keys.join(", ")) })
}
