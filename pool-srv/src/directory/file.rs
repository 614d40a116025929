//! The directory as a file.
//!
//! ```toml
//! [[region]]
//! name = "europe"
//! prefixes = ["192.0.2.0/24"]
//!
//! [[member]]
//! name = "ntp1.example"
//! weight = 20
//! regions = ["europe"]
//! token-file = "tokens/ntp1"
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::IpNet;
use ntp_proto::pool::Name;
use serde::{Deserialize, de::DeserializeOwned};
use toml::Spanned;
use zeroize::Zeroizing;

use super::{
    Builder, DEFAULT_WEIGHT, Directory, KE_PORT, MAX_NESTING, Member, Place, Problem, RegionId, Tlsa, Token, mapped,
};
use crate::files::{self, Fault};

/// Most members of one directory.
pub const MAX_MEMBERS: usize = 20_000;

/// Longest file.
pub const MAX_BYTES: u64 = 1 << 24;

/// Most TLSA records of one member: two certificates, each pinned in two ways, during a roll-over.
pub(super) const MAX_TLSA: usize = 4;

/// Most regions.
const MAX_REGIONS: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawDirectory {
    #[serde(default)]
    region: Vec<Spanned<RawRegion>>,
    #[serde(default)]
    member: Vec<Spanned<RawMember>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawRegion {
    name: Spanned<String>,
    within: Option<Spanned<String>>,
    #[serde(default)]
    prefixes: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawMember {
    name: Spanned<String>,
    port: Option<Spanned<u16>>,
    #[serde(default)]
    priority: u16,
    weight: Option<Spanned<u16>>,
    capacity: Option<Spanned<u32>>,
    #[serde(default)]
    regions: Vec<Spanned<String>>,
    #[serde(default)]
    prefixes: Vec<Spanned<String>>,
    operator: Option<String>,
    #[serde(default)]
    addresses: Vec<Spanned<String>>,
    token: Option<Spanned<String>>,
    token_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    drain: bool,
    #[serde(default)]
    tlsa: Vec<Spanned<String>>,
}

/// Reads a TOML file.
///
/// # Errors
///
/// [`Problem`] names the line and what is accepted there.
pub fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<(T, String), Problem> {
    let text = read(path).map_err(|error| Problem::unreadable(path, &error))?;
    let value = from_toml(path, &text)?;
    Ok((value, text))
}

pub(crate) fn from_toml<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, Problem> {
    toml::from_str(text).map_err(|error| match error.span() {
        Some(span) => Problem::at(path, text, span.start, error.message()),
        None => Problem::whole(path, error.message()),
    })
}

pub(crate) fn read(path: &Path) -> Result<String, Fault> {
    read_with_mode(path).map(|(text, _)| text)
}

/// Reads a secret; one that everybody may read or write is refused.
pub(crate) fn read_secret(path: &Path) -> Result<Zeroizing<String>, Problem> {
    let bytes = files::read_secret(path, MAX_BYTES).map_err(|fault| Problem::unreadable(path, &fault))?;
    text(&bytes).map(Zeroizing::new).map_err(|fault| Problem::unreadable(path, &fault))
}

/// The text of a file, and whether everybody may read or write it.
fn read_with_mode(path: &Path) -> Result<(String, bool), Fault> {
    let (bytes, exposed) = files::read(path, MAX_BYTES)?;
    Ok((text(&bytes)?, exposed))
}

fn text(bytes: &[u8]) -> Result<String, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|error| Fault::Unreadable(io::Error::other(error)))?;
    Ok(text.to_owned())
}

/// Reads a directory. Files that it names are meant relative to its own folder.
///
/// # Errors
///
/// [`Problem`] with the line of the first mistake.
pub fn load(path: &Path) -> Result<Arc<Directory>, Problem> {
    let changed = files::look(path).map_or(0, |(.., seconds, _)| u64::try_from(seconds).unwrap_or(0));
    let (text, exposed) = read_with_mode(path).map_err(|fault| Problem::unreadable(path, &fault))?;
    parse_with(path, &text, true, !exposed, changed)
}

/// Takes a directory from its text; `path` is for messages, and for the files that it names.
///
/// # Errors
///
/// [`Problem`] with the line of the first mistake.
pub fn parse(path: &Path, text: &str) -> Result<Arc<Directory>, Problem> {
    parse_with(path, text, true, true, 0)
}

/// As [`parse`], for a text that another machine made: it may name no files of this one.
///
/// # Errors
///
/// [`Problem`] with the line of the first mistake.
pub fn parse_foreign(path: &Path, text: &str) -> Result<Arc<Directory>, Problem> {
    parse_with(path, text, false, true, 0)
}

fn parse_with(
    path: &Path,
    text: &str,
    may_name_files: bool,
    may_hold_tokens: bool,
    changed: u64,
) -> Result<Arc<Directory>, Problem> {
    let raw: RawDirectory = from_toml(path, text)?;
    let line_ends = text.bytes().enumerate().filter(|(_, octet)| *octet == b'\n').map(|(at, _)| at).collect();
    let reader = Reader { path, text, line_ends, may_name_files, may_hold_tokens };
    let mut builder = Builder { changed, ..Builder::default() };
    if raw.region.len() > MAX_REGIONS || raw.member.len() > MAX_MEMBERS {
        return Err(Problem::whole(path, format!("more than {MAX_REGIONS} regions or {MAX_MEMBERS} members")));
    }
    for region in raw.region {
        reader.region(&mut builder, region.into_inner())?;
    }
    let mut names = BTreeMap::new();
    for member in raw.member {
        let member = reader.member(&builder, &mut names, member.into_inner())?;
        builder.members.push(member);
    }
    if builder.members.is_empty() {
        return Err(Problem::whole(path, "no members; accepted: one [[member]] table at least"));
    }
    Ok(builder.finish())
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    /// Where each line ends: members are many, and each knows its line.
    line_ends: Vec<usize>,
    may_name_files: bool,
    /// Not if everybody may read the text.
    may_hold_tokens: bool,
}

impl Reader<'_> {
    fn wrong<T>(&self, value: &Spanned<T>, what: String) -> Problem {
        Problem::at(self.path, self.text, value.span().start, what)
    }

    fn region(&self, builder: &mut Builder, raw: RawRegion) -> Result<(), Problem> {
        let name = raw.name.get_ref();
        if builder.by_name.contains_key(name) {
            return Err(self.wrong(&raw.name, format!("region {name:?} is there already")));
        }
        let parent = raw.within.as_ref().map(|within| self.known(builder, within)).transpose()?;
        let depth = core::iter::successors(parent, |RegionId(above)| builder.regions.get(usize::from(*above))?.1);
        if depth.count() >= MAX_NESTING {
            return Err(self.wrong(&raw.name, format!("region {name:?} lies in more than {} others", MAX_NESTING - 1)));
        }
        let id = RegionId(u16::try_from(builder.regions.len()).unwrap_or(u16::MAX));
        for prefix in &raw.prefixes {
            let net = mapped(self.prefix(prefix)?);
            let here = prefix.span().start;
            let before = builder.places.insert(net, (id, here));
            // A region within another one may have all of its prefix.
            let above = |other| {
                core::iter::successors(parent, |RegionId(above)| builder.regions.get(usize::from(*above))?.1)
                    .any(|above| above == other)
            };
            if let Some((other, there)) = before.filter(|(other, _)| *other != id && !above(*other)) {
                let line = Place::of(self.text, there).line;
                let first = builder.regions.get(usize::from(other.0)).map_or("", |(name, _)| name);
                return Err(self
                    .wrong(prefix, format!("{:?} is in region {first:?} already, in line {line}", prefix.get_ref())));
            }
        }
        builder.by_name.insert(name.clone(), id);
        builder.regions.push((name.clone(), parent));
        Ok(())
    }

    fn known(&self, builder: &Builder, name: &Spanned<String>) -> Result<RegionId, Problem> {
        builder.by_name.get(name.get_ref()).copied().ok_or_else(|| {
            let known: Vec<_> = builder.by_name.keys().take(16).map(String::as_str).collect();
            let known = if known.is_empty() { "none is defined before".to_owned() } else { known.join(", ") };
            self.wrong(name, format!("unknown region {:?}; accepted: {known}", name.get_ref()))
        })
    }

    fn prefix(&self, text: &Spanned<String>) -> Result<IpNet, Problem> {
        let given = text.get_ref();
        let address = given.parse::<IpAddr>().ok().map(IpNet::from);
        let net = address.or_else(|| given.parse().ok()).ok_or_else(|| {
            self.wrong(
                text,
                format!("{given:?} is not a prefix; accepted: such as \"192.0.2.0/24\" or \"2001:db8::/32\""),
            )
        })?;
        if net != net.trunc() {
            return Err(
                self.wrong(text, format!("{given:?} has bits beyond its length; accepted: \"{}\"", net.trunc()))
            );
        }
        Ok(net)
    }

    fn member(&self, builder: &Builder, names: &mut BTreeMap<Name, usize>, raw: RawMember) -> Result<Member, Problem> {
        let name = Name::parse(raw.name.get_ref()).map_err(|error| self.wrong(&raw.name, format!("name: {error}")))?;
        let line = self.line_ends.partition_point(|end| *end < raw.name.span().start).saturating_add(1);
        if let Some(first) = names.insert(name.clone(), line) {
            return Err(self.wrong(&raw.name, format!("member {name} is there already, in line {first}")));
        }
        let above_zero = |value: &Spanned<u32>, key: &str| match value.get_ref() {
            0 => Err(self.wrong(value, format!("{key} must not be 0; accepted: 1 and more"))),
            value => Ok(*value),
        };
        let port = match &raw.port {
            None => KE_PORT,
            Some(port) if *port.get_ref() == 0 => {
                return Err(self.wrong(port, "port must not be 0; accepted: 1 to 65535".to_owned()));
            }
            Some(port) => *port.get_ref(),
        };
        let weight = match &raw.weight {
            None => DEFAULT_WEIGHT,
            Some(weight) if *weight.get_ref() == 0 => {
                let what =
                    "weight must not be 0; accepted: 1 to 65535, or drain = true to send nobody there".to_owned();
                return Err(self.wrong(weight, what));
            }
            Some(weight) => *weight.get_ref(),
        };
        let capacity = raw.capacity.as_ref().map(|value| above_zero(value, "capacity")).transpose()?;
        let regions: BTreeSet<_> =
            raw.regions.iter().map(|region| self.known(builder, region)).collect::<Result<_, _>>()?;
        let prefixes = raw.prefixes.iter().map(|prefix| self.prefix(prefix)).collect::<Result<_, _>>()?;
        let address = |text: &Spanned<String>| {
            text.get_ref().parse().map_err(|_| self.wrong(text, format!("{:?} is not an address", text.get_ref())))
        };
        let addresses = raw.addresses.iter().map(address).collect::<Result<_, _>>()?;
        if let Some(beyond) = raw.tlsa.get(MAX_TLSA) {
            return Err(self.wrong(beyond, format!("more than {MAX_TLSA} TLSA records")));
        }
        let tlsa = |text: &Spanned<String>| Tlsa::parse(text.get_ref()).map_err(|what| self.wrong(text, what));
        let tlsa = raw.tlsa.iter().map(tlsa).collect::<Result<_, _>>()?;
        Ok(Member {
            port,
            priority: raw.priority,
            weight,
            capacity,
            regions: regions.into_iter().collect(),
            prefixes,
            operator: raw.operator.unwrap_or_else(|| name.to_string()),
            addresses,
            token: self.token(raw.token.as_ref(), raw.token_file.as_ref())?,
            drain: raw.drain,
            tlsa,
            line,
            name,
        })
    }

    fn token(
        &self,
        inline: Option<&Spanned<String>>,
        file: Option<&Spanned<PathBuf>>,
    ) -> Result<Option<Token>, Problem> {
        let rule = format!(
            "accepted: {} to {} printable ASCII characters without spaces and #",
            Token::MIN_LENGTH,
            Token::MAX_LENGTH
        );
        match (inline, file) {
            (None, None) => Ok(None),
            (Some(token), None) if !self.may_hold_tokens => {
                Err(self.wrong(token, format!("token in {}: {}, or token-file", self.path.display(), Fault::Exposed)))
            }
            (Some(token), None) => {
                let unusable = || self.wrong(token, format!("unusable token; {rule}"));
                Token::new(token.get_ref()).map(Some).ok_or_else(unusable)
            }
            (None, Some(file)) if !self.may_name_files => {
                Err(self.wrong(file, "a directory that is fetched names no files; accepted: token = \"…\"".to_owned()))
            }
            (None, Some(file)) => {
                let path = self.path.parent().unwrap_or_else(|| Path::new("")).join(file.get_ref());
                let text = read_secret(&path).map_err(|problem| Problem {
                    is_passing: problem.is_passing,
                    ..self.wrong(file, problem.to_string())
                })?;
                let unusable = || self.wrong(file, format!("{}: unusable token; {rule}", path.display()));
                Token::new(text.trim_end()).map(Some).ok_or_else(unusable)
            }
            (Some(token), Some(_)) => Err(self.wrong(token, "token and token-file exclude each other".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
