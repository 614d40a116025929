//! ntp.conf of ntp.org and of NTPsec.
//!
//! A directive on a line; `#` begins a comment anywhere outside of quotes.

use super::{
    Parts,
    input::{Comments, Fault, Input, Line, Place, lines},
    keys::Dialect,
    plan::{Directive, Plan, quote},
    serving::{Serving, ServingNts},
    settle::{Keys, Roots},
    source::canonical,
    words::{duration, number, one},
};

mod restrict;
mod sources;
mod table;

use table::DIRECTIVES;

/// Longest line.
const MAX_LINE: usize = 4_096;

/// How deep includes may be nested.
const MAX_DEPTH: usize = 5;

/// Most faults that are told.
const MAX_FAULTS: usize = 64;

/// What is always on.
const ENABLED: &[&str] = &["auth", "kernel", "ntp"];

/// What is always off.
const DISABLED: &[&str] = &["bclient", "calibrate", "mode7", "monitor", "stats"];

/// Most keys of a range that are counted.
const MAX_RANGE: u32 = 65_535;

/// The reader of a configuration.
struct Ntp<'i> {
    input: &'i mut Input,
    plan: Plan,
    faults: Vec<Fault>,
    access: restrict::Access,
    roots: Roots,
    keys: Option<(Directive, String)>,
    trusted: Vec<u32>,
    nts: Nts,
    protected: Vec<String>,
}

/// The server of keys.
#[derive(Default)]
struct Nts {
    directive: Option<Directive>,
    enabled: bool,
    certificate: Option<String>,
    private_key: Option<String>,
}

/// Reads a file and all that it includes.
///
/// # Errors
///
/// Everything that is not understood, up to a limit.
pub(super) fn read(input: &mut Input, files: &[(String, String)]) -> Result<Parts, Vec<Fault>> {
    let mut ntp = Ntp {
        input,
        plan: Plan::default(),
        faults: Vec::new(),
        access: restrict::Access::default(),
        roots: Roots::default(),
        keys: None,
        trusted: Vec::new(),
        nts: Nts::default(),
        protected: Vec::new(),
    };
    for (name, text) in files {
        ntp.text(name, text, 0);
    }
    if !ntp.faults.is_empty() {
        return Err(ntp.faults);
    }
    let Ntp { mut plan, access, roots, keys, trusted, nts, protected, .. } = ntp;
    let mut serving = access.finish(&mut plan);
    nts.finish(&mut plan, &mut serving);
    let keys = keys.map(|(directive, file)| Keys { directive, file, dialect: Dialect::Ntp, trusted: Some(trusted) });
    Ok(Parts { plan, serving, roots, keys, drift: None, protected })
}

impl Ntp<'_> {
    fn fault(&mut self, place: &Place, what: impl Into<String>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault::new(place, what));
        }
    }

    fn text(&mut self, name: &str, text: &str, depth: usize) {
        let mut comments = Comments::default();
        for line in lines(name, text) {
            let text = line.text.trim();
            if text.is_empty() {
                self.plan.block(comments.take());
            } else if let Some(comment) = text.strip_prefix('#') {
                comments.add(comment);
            } else {
                let (words, comment) = split(&line.text);
                if let Some(comment) = comment {
                    comments.add(&comment);
                }
                self.line(&line, &words, comments.take(), depth);
            }
        }
        self.plan.block(comments.take());
    }

    fn line(&mut self, line: &Line, words: &[String], comments: Vec<String>, depth: usize) {
        if line.text.len() > MAX_LINE {
            return self.fault(&line.place, format!("this line is longer than {MAX_LINE} bytes"));
        }
        if line.text.chars().any(|c| c == char::REPLACEMENT_CHARACTER || (c.is_control() && c != '\t')) {
            return self.fault(&line.place, "this is not text");
        }
        let directive = Directive { place: line.place.clone(), text: words.join(" "), comments };
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let Some(name) = words.first().map(|word| word.to_ascii_lowercase()) else { return };
        if let Err(wrong) = self.directive(&name, words.get(1..).unwrap_or_default(), &directive, depth) {
            self.fault(&line.place, format!("`{name}`: {wrong}"));
        }
    }

    fn directive(&mut self, name: &str, words: &[&str], directive: &Directive, depth: usize) -> Result<(), String> {
        match name {
            "server" | "pool" | "peer" => {
                let mut host = words.iter().filter(|word| !word.starts_with('-'));
                if let Some(host) = host.next()
                    && words.iter().any(|word| sources::PROTECTING.contains(&word.to_ascii_lowercase().as_str()))
                {
                    self.protected.push(canonical(host));
                    // A port may stand behind the name.
                    self.protected.extend(host.rsplit_once(':').map(|(name, _)| canonical(name)));
                }
                sources::read(&mut self.plan, self.input, directive, name, words)
            }
            "leapfile" => {
                // Behind it may stand whether its hash is checked. It is.
                let file = words.first().ok_or("the name of a file is missing")?;
                self.plan.set(directive, "clock", "leap-file", quote(file));
                Ok(())
            }
            "leapsmearinterval" => {
                let seconds = number(one(words)?)?;
                if (seconds - 86_400.0).abs() < 0.5 {
                    self.access.serving.smear = Some(directive.clone());
                } else if seconds > 0.0 {
                    self.plan.drop(directive, "leap seconds are spread from noon to noon, or not: `smear` of [serve]");
                } else {
                    self.plan.note(directive, "the default");
                }
                Ok(())
            }
            "includefile" => self.include(one(words)?, directive, depth),
            "keys" => {
                self.keys = Some((directive.clone(), one(words)?.to_owned()));
                Ok(())
            }
            "trustedkey" => self.trust(words, directive),
            "tos" => self.tos(words, directive),
            "tinker" => self.tinker(words, directive),
            "nts" => self.nts(words, directive),
            "enable" | "disable" => {
                let flags = if name == "enable" { ENABLED } else { DISABLED };
                if !words.is_empty() && words.iter().all(|word| flags.contains(word)) {
                    self.plan.note(directive, "it is so");
                } else {
                    self.plan.drop(directive, "it cannot be set");
                }
                Ok(())
            }
            "restrict" => self.access.restrict(words, directive, &mut self.plan),
            "interface" | "nic" => self.access.interface(words, directive),
            _ => self.plan.simple(DIRECTIVES, name, words, directive),
        }
    }

    fn include(&mut self, file: &str, directive: &Directive, depth: usize) -> Result<(), String> {
        if depth >= MAX_DEPTH {
            return Err(format!("includes are nested more than {MAX_DEPTH} deep"));
        }
        self.plan.block(directive.comments.clone());
        let text = self.input.text(file).map_err(|fault| format!("{}: {}", fault.place, fault.what))?;
        self.text(file, &text, depth + 1);
        Ok(())
    }

    /// Numbers, and ranges as `(1 ... 10)`.
    fn trust(&mut self, words: &[&str], directive: &Directive) -> Result<(), String> {
        self.plan.block(directive.comments.clone());
        let text = words.join(" ").replace(['(', ')'], " ").replace("...", " ... ");
        let mut words = text.split_ascii_whitespace().peekable();
        let id = |word: &str| word.parse::<u32>().map_err(|_| format!("`{word}` is not the number of a key"));
        while let Some(word) = words.next() {
            let first = id(word)?;
            let last = match words.next_if_eq(&"...") {
                Some(_) => id(words.next().ok_or("a range has no end")?)?,
                None => first,
            };
            self.trusted.extend(first..=last.min(MAX_RANGE));
        }
        Ok(())
    }

    fn tos(&mut self, words: &[&str], directive: &Directive) -> Result<(), String> {
        let mut lone = Some(directive.comments.clone());
        for pair in words.chunks(2) {
            let [key, value] = pair else { return Err("a value is missing".to_owned()) };
            let value = number(value)?;
            let part = Directive {
                place: directive.place.clone(),
                text: format!("tos {key} {value}"),
                comments: lone.take().unwrap_or_default(),
            };
            match key.to_ascii_lowercase().as_str() {
                "minsane" => self.plan.set_min_sources(&part, format!("{value:.0}")),
                "maxdist" | "maxdistance" => match duration(value) {
                    Some(text) => self.plan.set(&part, "clock", "max-distance", quote(&text)),
                    None => self.plan.drop(&part, "out of range"),
                },
                "orphan" if (1.0..=15.0).contains(&value) => {
                    let local = format!("{{ stratum = {value:.0}, orphan = true }}");
                    self.access.serving.local = Some((part, local));
                }
                "maxclock" => self.plan.drop(&part, "`count` of each pool says how many servers it has"),
                _ => self.plan.drop(&part, "it cannot be set"),
            }
        }
        Ok(())
    }

    fn tinker(&mut self, words: &[&str], directive: &Directive) -> Result<(), String> {
        let mut lone = Some(directive.comments.clone());
        for pair in words.chunks(2) {
            let [key, value] = pair else { return Err("a value is missing".to_owned()) };
            let value = number(value)?;
            let part = Directive {
                place: directive.place.clone(),
                text: format!("tinker {key} {value}"),
                comments: lone.take().unwrap_or_default(),
            };
            match key.to_ascii_lowercase().as_str() {
                "panic" if value <= 0.0 => self.plan.note(&part, "no offset ends the daemon"),
                "panic" => self.plan.drop(&part, "no offset ends the daemon; it follows a majority only"),
                "step" if value <= 0.0 => {
                    self.plan.set(&part, "clock", "step", "{ threshold = \"1s\", updates = 0 }".to_owned());
                }
                "step" => self.plan.drop(&part, "the clock is stepped at start only, from 1 s on: `step` in [clock]"),
                _ => self.plan.drop(&part, "it cannot be set"),
            }
        }
        Ok(())
    }

    fn nts(&mut self, words: &[&str], directive: &Directive) -> Result<(), String> {
        let mut words = words.iter();
        self.plan.block(directive.comments.clone());
        let bare = Directive { comments: Vec::new(), ..directive.clone() };
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .map(|value| (*value).to_owned())
                    .ok_or_else(|| format!("a value is missing after `{word}`"))
            };
            match word.to_ascii_lowercase().as_str() {
                "enable" => self.nts.enabled = true,
                "disable" => self.nts.enabled = false,
                "cert" => self.nts.certificate = Some(value()?),
                "key" => self.nts.private_key = Some(value()?),
                "ca" => {
                    let file = value()?;
                    // Even one that cannot be read stands in place of the system's.
                    self.roots.only_files = Some(bare.clone());
                    if !self.input.locate(&file).is_dir() {
                        self.roots.files = vec![(bare.clone(), file)];
                    }
                }
                "cookie" => self.plan.note(&bare, "kept in state.directory"),
                "mintls" | "maxtls" | "tlsciphersuites" | "tlsciphers" | "tlsecdhcurves" => {
                    let part = format!("{word} {}", value()?);
                    self.plan.drop_part(&bare, &part, "TLS is version 1.3 with the suites of its library");
                }
                "aead" => {
                    let part = format!("{word} {}", value()?);
                    self.plan.drop_part(&bare, &part, "`aeads` of [trust] says which algorithms are used");
                }
                _ => return Err(format!("unknown option `{word}`")),
            }
        }
        self.nts.directive = Some(bare);
        Ok(())
    }
}

impl Nts {
    fn finish(self, plan: &mut Plan, serving: &mut Serving) {
        let Some(directive) = self.directive else { return };
        match (self.certificate, self.private_key) {
            (Some(certificate), Some(private_key)) if self.enabled && serving.is_on() => {
                serving.nts =
                    Some(ServingNts { certificate, private_key, directive: Some(directive), ..ServingNts::default() });
            }
            _ if self.enabled => plan.drop(&directive, "a server of keys needs clients, a certificate and its key"),
            _ => {}
        }
    }
}

/// Words between blanks or in quotes, and the comment behind them.
fn split(line: &str) -> (Vec<String>, Option<String>) {
    let (mut words, mut word, mut is_quoted, mut is_word) = (Vec::new(), String::new(), false, false);
    let mut characters = line.chars();
    let mut comment = None;
    while let Some(c) = characters.next() {
        match c {
            '"' => (is_quoted, is_word) = (!is_quoted, true),
            '#' if !is_quoted => {
                comment = Some(characters.by_ref().collect());
                break;
            }
            c if c.is_ascii_whitespace() && !is_quoted => {
                if is_word {
                    words.push(std::mem::take(&mut word));
                }
                is_word = false;
            }
            c => {
                word.push(c);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    (words, comment)
}
