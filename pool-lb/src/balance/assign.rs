//! Which members a user may get, what is negotiated for it, and what of a member's answer reaches it.

use std::{collections::BTreeMap, net::IpAddr};

use ntp_proto::pool::Name;
use nts_ke::{
    message::{Accepted, Grant, NTPV4, Request},
    pool::Support,
    reach::{Reach, reach},
    record::FIXED_KEY_LENGTHS,
};
use pool_srv::directory::{Member, Roster};

/// AES-128-GCM-SIV, for which there are clients that export keys in a way of their own.
const AES_128_GCM_SIV: u16 = 30;

/// Most names beside its own under which one member is known.
const MAX_ALIASES: usize = 24;

/// Most members that one name may stand for.
const MAX_BEARERS: usize = 8;

/// The form in which names of servers are compared (RFC 1034 section 3.1). An address has many forms too, and one in IPv6
/// that stands for one in IPv4.
fn canonical(name: &str) -> String {
    if let Ok(address) = name.parse::<IpAddr>() {
        return address.to_canonical().to_string();
    }
    let mut name = name.strip_suffix('.').unwrap_or(name).to_owned();
    name.make_ascii_lowercase();
    name
}

/// The names that members put into their answers: users deny members by these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aliases {
    bearers: BTreeMap<String, Vec<Name>>,
    counts: BTreeMap<Name, usize>,
}

impl Aliases {
    /// Whether it is known that `member` may be called `alias`.
    #[must_use]
    pub fn knows(&self, member: &Name, alias: &str) -> bool {
        let alias = canonical(alias);
        alias == canonical(member.as_str()) || self.bearers.get(&alias).is_some_and(|known| known.contains(member))
    }

    /// Takes word of a name. A member has `MAX_ALIASES` at most, and a name stands for `MAX_BEARERS`.
    pub fn insert(&mut self, member: &Name, alias: &str) {
        let count = self.counts.get(member).copied().unwrap_or(0);
        if self.knows(member, alias) || count >= MAX_ALIASES {
            return;
        }
        let bearers = self.bearers.entry(canonical(alias)).or_default();
        if bearers.len() < MAX_BEARERS {
            bearers.push(member.clone());
            self.counts.insert(member.clone(), count.saturating_add(1));
        }
    }

    fn bearers(&self, alias: &str) -> &[Name] {
        self.bearers.get(alias).map_or(&[], Vec::as_slice)
    }
}

/// The members that can be drawn, and how to find them by name.
#[derive(Clone, Debug)]
pub struct Assignments {
    /// The draw.
    pub roster: Roster,
    places: BTreeMap<String, Vec<usize>>,
}

impl Assignments {
    /// Takes a roster.
    #[must_use]
    pub fn new(roster: Roster) -> Self {
        let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, member) in roster.directory().members().iter().enumerate() {
            let addresses = member.addresses.iter().map(|address| address.to_canonical().to_string());
            for called in addresses.chain([canonical(member.name.as_str())]) {
                places.entry(called).or_default().push(place);
            }
        }
        Self { roster, places }
    }

    /// The places of the members that a user does not want: a denied name is a member's own, one of its addresses, or one
    /// that it gave to users.
    #[must_use]
    pub fn excluded(&self, denied: &[String], aliases: &Aliases) -> Vec<usize> {
        let mut excluded = Vec::new();
        for name in denied {
            let name = canonical(name);
            excluded.extend(self.places.get(&name).into_iter().flatten());
            let others = aliases.bearers(&name).iter();
            excluded.extend(others.filter_map(|member| self.places.get(&canonical(member.as_str()))).flatten());
        }
        excluded.sort_unstable();
        excluded.dedup();
        excluded
    }
}

/// Whether a user denies one of these names.
#[must_use]
pub fn is_denied(names: &[String], denied: &[String]) -> bool {
    names.iter().any(|name| denied.iter().any(|denied| canonical(denied) == canonical(name)))
}

/// What is to be negotiated with a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This.
    Use(Terms),
    /// There is no common next protocol.
    NoProtocol,
    /// There is no common AEAD algorithm.
    NoAlgorithm,
}

/// What user and member agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The AEAD algorithm; the balancer need not know it.
    pub algorithm: u16,
    /// Octets of one key.
    pub key_length: usize,
    /// Whether the user is told that keys for AES-128-GCM-SIV were exported under its number.
    pub compliant_export: bool,
}

/// Chooses the first of the user's algorithms that the member has too.
///
/// AES-128-GCM-SIV comes last with a user that does not say how it exports keys for it.
#[must_use]
pub fn choose(request: &Request, support: &Support) -> Choice {
    if !request.protocols.contains(&NTPV4) || !support.protocols.contains(&NTPV4) {
        return Choice::NoProtocol;
    }
    let common = || {
        request.algorithms.iter().filter_map(|wanted| {
            let (_, length) = support.algorithms.iter().find(|(known, _)| known == wanted)?;
            let key_length = usize::from(*length);
            let compliant_export = *wanted == AES_128_GCM_SIV && request.compliant_export;
            // A length that no algorithm has is a lie, or a mistake.
            FIXED_KEY_LENGTHS.contains(&key_length).then_some(Terms {
                algorithm: *wanted,
                key_length,
                compliant_export,
            })
        })
    };
    let unclear = |terms: &Terms| terms.algorithm == AES_128_GCM_SIV && !request.compliant_export;
    let chosen = common().find(|terms| !unclear(terms)).or_else(|| common().next());
    chosen.map_or(Choice::NoAlgorithm, Choice::Use)
}

/// Why a member's answer is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is for another algorithm.
    Algorithm,
    /// It has no cookie.
    NoCookies,
    /// It sends the user to a name that is none.
    Name,
    /// It sends the user to an address that is not one of the internet.
    Internal,
    /// It sends the user to port 0.
    Port,
}

impl core::fmt::Display for Unfit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Algorithm => "its answer is for an algorithm that nobody asked for",
            Self::NoCookies => "its answer has no cookies",
            Self::Name => "its answer names a server that cannot be one",
            Self::Internal => "its answer sends users to an internal address",
            Self::Port => "its answer sends users to port 0",
        })
    }
}

/// What a user may be told in place of a member's name, so that it has nothing to look up (RFC 8915 section 4.1.7 lets a
/// server be named by an address): an address of the family by which the user came, `good` before others.
#[must_use]
pub fn address_for(user: IpAddr, member: &Member, good: Option<IpAddr>, allow_private: bool) -> Option<String> {
    let fits = |address: &&IpAddr| address.is_ipv4() == user.is_ipv4() && (allow_private || is_public(**address));
    let mut fitting = member.addresses.iter().filter(fits);
    let first = fitting.clone().next();
    fitting.find(|address| Some(**address) == good).or(first).map(IpAddr::to_string)
}

/// Makes the answer to a user of that of a member: only what is listed here gets through. `called` is what users are told
/// of a member that names no server but itself.
///
/// # Errors
///
/// [`Unfit`] if the answer must not be passed on.
pub fn grant<'a>(
    terms: &Terms,
    member: &Name,
    called: &'a str,
    accepted: &'a Accepted,
    allow_private: bool,
) -> Result<Grant<'a>, Unfit> {
    if accepted.algorithm != terms.algorithm {
        return Err(Unfit::Algorithm);
    }
    if accepted.cookies.is_empty() {
        return Err(Unfit::NoCookies);
    }
    if accepted.port == Some(0) {
        return Err(Unfit::Port);
    }
    let own = canonical(member.as_str());
    let server = accepted.server.as_deref().filter(|server| canonical(server) != own).unwrap_or(called);
    check_server(server, allow_private)?;
    Ok(Grant {
        algorithm: terms.algorithm,
        cookies: &accepted.cookies,
        // The draft has a pool name a server always.
        server: Some(server),
        port: accepted.port,
        compliant_export: terms.compliant_export,
    })
}

/// Whether users may be sent to this server.
///
/// # Errors
///
/// [`Unfit::Name`] and [`Unfit::Internal`].
pub fn check_server(server: &str, allow_private: bool) -> Result<(), Unfit> {
    if let Ok(address) = server.parse::<IpAddr>() {
        return if allow_private || is_public(address) { Ok(()) } else { Err(Unfit::Internal) };
    }
    let name = Name::parse(server).map_err(|_| Unfit::Name)?;
    let text = canonical(name.as_str());
    // RFC 6761 section 6.3: these lead to the user's own machine. One label means a different host everywhere, and
    // digits in the last one are an address written in some old way.
    let last = text.rsplit('.').next().unwrap_or_default();
    let local = last == "localhost" || !text.contains('.') || last.bytes().all(|octet| octet.is_ascii_digit());
    if local && !allow_private { Err(Unfit::Internal) } else { Ok(()) }
}

/// Whether an address is one that a server on the internet may have.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    reach(address) == Reach::Internet
}

#[cfg(test)]
mod tests;
