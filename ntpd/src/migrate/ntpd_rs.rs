//! ntp.toml of ntpd-rs.

use std::collections::BTreeMap;

use ipnet::IpNet;
use toml::de::{DeTable, DeValue};

use super::{
    Parts,
    access::{Rules, everybody, words},
    input::{Fault, Place, lines, printable},
    plan::{Directive, Plan, quote},
    serving::{Serving, ServingNts},
    settle::Roots,
    source::{Judges, Kind, Protection, Source, canonical, split_port},
};

/// Sources that must agree, unless the file says otherwise.
const MIN_AGREEING: i64 = 3;

/// Tables that say nothing that counts here.
const NEEDLESS: [(&str, &str, &str); 5] = [
    ("observability", "observation-path", "`ntpctl` uses control.socket"),
    ("observability", "observation-permissions", "`ntpctl` uses control.socket"),
    ("observability", "ansi-colors", "messages have no colours"),
    ("keyset", "key-storage-path", "kept in state.directory"),
    ("synchronization", "warn-on-jump", "a step is logged"),
];

type Spanned<'t> = toml::Spanned<DeValue<'t>>;

/// Reads a file.
///
/// # Errors
///
/// What is no TOML, or not what ntpd-rs would take.
pub(super) fn read(files: &[(String, String)]) -> Result<Parts, Vec<Fault>> {
    let [(name, text)] = files else {
        let place = Place::whole(files.first().map_or("-", |(name, _)| name));
        return Err(vec![Fault::new(&place, "ntpd-rs reads one file only")]);
    };
    let mut reader = Reader::new(name, text);
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            return Err(vec![Fault::new(&reader.place(at), error.message())]);
        }
    };
    reader.root(table.get_ref());
    if !reader.faults.is_empty() {
        return Err(reader.faults);
    }
    let Reader { plan, serving, protected, .. } = reader;
    Ok(Parts { plan, serving, roots: Roots::default(), keys: None, drift: None, protected })
}

struct Reader {
    name: String,
    /// Where lines begin, and the comments before them that nobody took.
    starts: Vec<usize>,
    comments: BTreeMap<usize, Vec<String>>,
    plan: Plan,
    faults: Vec<Fault>,
    serving: Serving,
    protected: Vec<String>,
}

/// What is needed of a source.
#[derive(Default)]
struct Given {
    mode: String,
    address: Option<String>,
    count: Option<i64>,
    srv: bool,
    roots: Option<String>,
    poll: (Option<i64>, Option<i64>),
    others: Vec<(String, String)>,
}

impl Reader {
    fn new(name: &str, text: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let (mut comments, mut block) = (BTreeMap::new(), Vec::new());
        for line in lines(name, text) {
            let trimmed = line.text.trim();
            if let Some(comment) = trimmed.strip_prefix('#') {
                block.push(printable(comment.trim_start_matches('#').trim()));
            } else if !block.is_empty() {
                // A block before an empty line belongs to nothing.
                comments.insert(line.place.line, std::mem::take(&mut block));
            }
        }
        comments.insert(usize::MAX, block);
        Self {
            name: name.to_owned(),
            starts,
            comments,
            plan: Plan::default(),
            faults: Vec::new(),
            serving: Serving::default(),
            protected: Vec::new(),
        }
    }

    fn place(&self, at: usize) -> Place {
        Place { file: self.name.as_str().into(), line: self.starts.partition_point(|&start| start <= at) }
    }

    /// What stands at a place, with the comment before it; comments further up go to the top.
    fn directive(&mut self, at: usize, text: &str) -> Directive {
        let place = self.place(at);
        let later = self.comments.split_off(&place.line);
        for block in std::mem::replace(&mut self.comments, later).into_values() {
            self.plan.block(block);
        }
        let comments = self.comments.remove(&place.line).unwrap_or_default();
        Directive { place, text: text.to_owned(), comments }
    }

    fn fault(&mut self, at: usize, what: &str) {
        let place = self.place(at);
        self.faults.push(Fault::new(&place, what));
    }

    fn root(&mut self, table: &DeTable<'_>) {
        let mut poll = (None, None);
        if let Some(DeValue::Table(defaults)) = table.get("source-defaults").map(toml::Spanned::get_ref) {
            for (key, value) in in_order(defaults) {
                let directive = self.directive(key.span().start, &format!("source-defaults.{}", key.get_ref()));
                match (key.get_ref().as_ref(), limits(value)) {
                    ("poll-interval-limits", Some(limits)) => poll = limits,
                    _ => self.plan.drop(&directive, "it cannot be set"),
                }
            }
        }
        let mut has_agreement = false;
        for (key, value) in in_order(table) {
            let name = key.get_ref().as_ref();
            match (name, value.get_ref()) {
                ("source-defaults", DeValue::Table(_)) => {}
                ("source", DeValue::Array(sources)) => {
                    for source in sources.iter() {
                        self.source(source, poll);
                    }
                }
                ("server", DeValue::Array(servers)) => self.servers(servers.iter()),
                ("nts-ke-server", DeValue::Array(servers)) => self.key_servers(servers.iter()),
                ("synchronization" | "observability" | "keyset", DeValue::Table(table)) => {
                    has_agreement |= self.settings(name, table);
                }
                _ => self.fault(key.span().start, &format!("`{name}` is not a table of ntp.toml")),
            }
        }
        for block in std::mem::take(&mut self.comments).into_values() {
            self.plan.block(block);
        }
        if !has_agreement {
            let why = format!("ntpd-rs wants {MIN_AGREEING} sources to agree unless it is told otherwise.");
            self.plan.put("clock", "min-sources", MIN_AGREEING.to_string(), vec![why]);
        }
    }

    fn settings(&mut self, table: &str, keys: &DeTable<'_>) -> bool {
        let mut has_agreement = false;
        for (key, value) in in_order(keys) {
            let name = key.get_ref().as_ref();
            let directive = self.directive(key.span().start, &format!("{table}.{name}"));
            let needless = NEEDLESS.iter().find(|(of, known, _)| *of == table && *known == name);
            match (table, name, text_of(value), number_of(value)) {
                ("observability", "log-level", Some(level), _) => {
                    self.plan.set(&directive, "log", "level", quote(&level));
                }
                ("observability", "metrics-exporter-listen", Some(address), _) => {
                    self.plan.set(&directive, "observe", "listen", quote(&address));
                }
                ("synchronization", "minimum-agreeing-sources", _, Some(count)) => {
                    has_agreement = true;
                    self.plan.set(&directive, "clock", "min-sources", count.to_string());
                }
                _ => match needless {
                    Some((.., why)) => self.plan.note(&directive, why),
                    None if name.ends_with("threshold") && table == "synchronization" => {
                        let why = "no offset ends the daemon; it follows a majority only, and steps at start only";
                        self.plan.drop(&directive, why);
                    }
                    None => self.plan.drop(&directive, "it cannot be set"),
                },
            }
        }
        has_agreement
    }

    fn source(&mut self, value: &Spanned<'_>, poll: (Option<i64>, Option<i64>)) {
        let at = value.span().start;
        let DeValue::Table(table) = value.get_ref() else { return self.fault(at, "a source is a table") };
        let mut directive = self.directive(at, "[[source]]");
        let given = self.given(table, &mut directive);
        let Some(address) = given.address else {
            if ["pps", "sock", "csptp"].contains(&given.mode.as_str()) {
                directive.text = format!("source {}", given.mode);
                return self.plan.drop(&directive, "reference clocks are not supported by this version");
            }
            return self.fault(at, "a source needs an address");
        };
        directive.text = format!("{} {address}", given.mode);
        let (host, port) = split_port(&address);
        let (kind, mode) = match (given.mode.as_str(), given.srv) {
            ("server", _) => (Kind::Server, None),
            ("pool", _) => (Kind::Pool, None),
            ("nts", false) => (Kind::Server, None),
            ("nts" | "nts-pool", true) => (Kind::Pool, Some("srv")),
            ("nts-pool", false) => (Kind::Pool, Some("lb")),
            (mode, _) => return self.fault(at, &format!("unknown mode `{mode}`")),
        };
        let mut source = Source::new(&directive, kind, host);
        if given.mode.starts_with("nts") {
            source.protection = Protection::Nts;
            self.protected.push(canonical(host));
        }
        match port.map(str::parse::<u16>) {
            Some(Ok(port)) if source.protection == Protection::Nts => {
                source.set(&mut self.plan, &address, "ke-port", &port.to_string());
            }
            Some(Ok(port)) => source.port = Some(port),
            Some(Err(_)) => return self.fault(at, &format!("`{address}` has no such port")),
            None => {}
        }
        if let Some(mode) = mode {
            source.set(&mut self.plan, "mode", "mode", &quote(mode));
        }
        if given.mode == "nts" && kind == Kind::Pool {
            // Records lead to one server of several.
            source.set(&mut self.plan, "count", "count", "1");
        } else if let (Some(count), Kind::Pool) = (given.count.filter(|&count| count != 4), kind) {
            source.set(&mut self.plan, &format!("count {count}"), "count", &count.to_string());
        }
        source.roots = given.roots.map(|file| Judges::File(file, true));
        let (min, max) = given.poll;
        source.set_poll(&mut self.plan, min.or(poll.0), max.or(poll.1));
        for (key, why) in given.others {
            self.plan.drop_part(&directive, &key, why);
        }
        source.finish(&mut self.plan);
    }

    fn given(&mut self, table: &DeTable<'_>, directive: &mut Directive) -> Given {
        let mut given = Given::default();
        for (key, value) in in_order(table) {
            let name = key.get_ref().as_ref().to_owned();
            let inner = self.directive(key.span().start, &name);
            directive.comments.extend(inner.comments);
            let flag = matches!(value.get_ref(), DeValue::Boolean(true));
            match (name.as_str(), text_of(value), number_of(value), limits(value)) {
                ("mode", Some(mode), ..) => given.mode = mode,
                ("address", Some(address), ..) => given.address = Some(address),
                ("certificate-authority", Some(file), ..) => given.roots = Some(file),
                ("count", _, Some(count), _) => given.count = Some(count),
                ("enable-srv-resolution", ..) => given.srv = flag,
                ("poll-interval-limits", _, _, Some(limits)) => given.poll = limits,
                ("ntp-version", _, Some(4), _) => {}
                ("ntp-version", ..) => given.others.push((name, "version 4 is used".to_owned())),
                ("path", ..) => {}
                _ => given.others.push((name, "it cannot be set".to_owned())),
            }
        }
        given
    }

    fn servers<'t>(&mut self, servers: impl Iterator<Item = &'t Spanned<'t>>) {
        let mut first = None;
        for value in servers {
            let at = value.span().start;
            let DeValue::Table(table) = value.get_ref() else { return self.fault(at, "a server is a table") };
            let mut directive = self.directive(at, "[[server]]");
            let (mut allow, mut deny) = (everybody().to_vec(), Vec::new());
            let (mut listen, mut limit) = (None, None);
            for (key, value) in in_order(table) {
                let name = key.get_ref().as_ref().to_owned();
                let inner = self.directive(key.span().start, &format!("server.{name}"));
                directive.comments.extend(inner.comments.iter().cloned());
                let bare = Directive { comments: Vec::new(), ..inner };
                match (name.as_str(), text_of(value), number_of(value), filter(value)) {
                    ("listen", Some(address), ..) => listen = Some(address),
                    ("allowlist", _, _, Some(nets)) => allow = nets,
                    ("denylist", _, _, Some(nets)) => deny = nets,
                    ("allowlist" | "denylist", ..) => {
                        self.fault(key.span().start, &format!("`{name}` needs a filter of prefixes"));
                    }
                    ("rate-limiting-cutoff-ms", _, Some(cutoff), _) => limit = Some(cutoff),
                    ("rate-limiting-cache-size", _, Some(_), _) => {}
                    ("require-nts", ..) if matches!(value.get_ref(), DeValue::Boolean(false)) => {}
                    ("require-nts", ..) => {
                        let why = "clients without NTS cannot be refused".to_owned();
                        self.serving.blocked.push((bare, why));
                    }
                    _ => self.plan.drop(&bare, "it cannot be set"),
                }
            }
            let lists = lists(&allow, &deny);
            if first.as_ref().is_some_and(|known| *known != lists) {
                let why = "who is served is said once, for all addresses".to_owned();
                self.serving.blocked.push((Directive { comments: Vec::new(), ..directive.clone() }, why));
            }
            (self.serving.allow, self.serving.deny) = lists.clone();
            self.serving.listen.extend(listen);
            self.serving.comments.extend(directive.comments.iter().cloned());
            self.serving.access = Some(Directive { comments: Vec::new(), ..directive.clone() });
            self.limit(limit, &directive);
            first = Some(lists);
        }
    }

    /// The power of two that is nearest below: no client is refused that was not before.
    fn limit(&mut self, cutoff: Option<i64>, directive: &Directive) {
        self.serving.rate_limit = Some(match cutoff {
            None | Some(..=0) => "false".to_owned(),
            Some(cutoff) => {
                let length = |log2: &i32| f64::exp2(f64::from(*log2)) * 1e3;
                let interval = (-4..=17).rev().find(|log2| length(log2) <= to_f64(cutoff)).unwrap_or(-4);
                if length(&interval) < to_f64(cutoff) {
                    let why = "the nearest power of two of seconds is used";
                    self.plan.drop_part(directive, "rate-limiting-cutoff-ms", why);
                }
                format!("{{ interval = {interval}, kiss = true }}")
            }
        });
    }

    fn key_servers<'t>(&mut self, servers: impl Iterator<Item = &'t Spanned<'t>>) {
        for value in servers {
            let at = value.span().start;
            let DeValue::Table(table) = value.get_ref() else { return self.fault(at, "a server is a table") };
            let mut nts = ServingNts::default();
            let directive = self.directive(at, "[[nts-ke-server]]");
            nts.comments.clone_from(&directive.comments);
            nts.directive = Some(Directive { comments: Vec::new(), ..directive.clone() });
            for (key, value) in in_order(table) {
                let name = key.get_ref().as_ref().to_owned();
                let inner = self.directive(key.span().start, &format!("nts-ke-server.{name}"));
                nts.comments.extend(inner.comments.iter().cloned());
                let bare = Directive { comments: Vec::new(), ..inner };
                match (name.as_str(), text_of(value), number_of(value)) {
                    ("listen", Some(address), _) => nts.listen.push(address),
                    ("certificate-chain-path", Some(path), _) => nts.certificate = path,
                    ("private-key-path", Some(path), _) => nts.private_key = path,
                    ("ntp-server", Some(server), _) => nts.ntp_server = Some(server),
                    ("ntp-port", _, Some(port)) => nts.ntp_port = u16::try_from(port).ok(),
                    ("accepted-pool-authentication-tokens", ..) => {
                        self.plan.drop(&bare, "tokens stand in a file of their own: `pool-tokens` of [serve.nts]");
                    }
                    _ => self.plan.drop(&bare, "it cannot be set"),
                }
            }
            if let Some(known) = &mut self.serving.nts {
                if known.certificate == nts.certificate && known.private_key == nts.private_key {
                    known.listen.append(&mut nts.listen);
                } else {
                    self.plan.drop(&directive, "one certificate with its key is possible");
                }
            } else if nts.certificate.is_empty() || nts.private_key.is_empty() {
                self.fault(at, "a server of keys needs a certificate and its key");
            } else {
                self.serving.nts = Some(nts);
            }
        }
    }
}

/// The keys of a table in the order they stand in.
fn in_order<'a, 't>(table: &'a DeTable<'t>) -> Vec<(&'a toml::Spanned<std::borrow::Cow<'t, str>>, &'a Spanned<'t>)> {
    let mut keys: Vec<_> = table.iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    keys
}

fn text_of(value: &Spanned<'_>) -> Option<String> {
    if let DeValue::String(text) = value.get_ref() { Some(text.to_string()) } else { None }
}

fn number_of(value: &Spanned<'_>) -> Option<i64> {
    let DeValue::Integer(number) = value.get_ref() else { return None };
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds that could lose any are beyond the longest interval")]
fn to_f64(number: i64) -> f64 {
    number as f64
}

fn limits(value: &Spanned<'_>) -> Option<(Option<i64>, Option<i64>)> {
    let DeValue::Table(table) = value.get_ref() else { return None };
    Some((table.get("min").and_then(number_of), table.get("max").and_then(number_of)))
}

fn filter(value: &Spanned<'_>) -> Option<Vec<IpNet>> {
    let DeValue::Table(table) = value.get_ref() else { return None };
    let DeValue::Array(nets) = table.get("filter")?.get_ref() else { return None };
    nets.iter().map(|net| text_of(net)?.parse::<IpNet>().ok().map(|net| net.trunc())).collect()
}

/// Who is on both lists is not served, however long the prefixes are.
fn lists(allow: &[IpNet], deny: &[IpNet]) -> (Vec<String>, Vec<String>) {
    let mut rules = Rules::longest();
    for net in allow {
        rules.add(*net, true, false);
    }
    for net in deny {
        rules.add(*net, false, true);
    }
    let (allow, deny) = rules.lists();
    (words(&allow), words(&deny))
}
