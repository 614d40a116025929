//! The member directory: who belongs to a pool, and what both routes of the pool have to know of them.
//!
//! One file serves the balancer and the DNS server. It is read whole or not at all: a file with a mistake changes
//! nothing, and the mistake is told with its line.

use core::fmt;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;
use ntp_proto::pool::Name;
use prefix_trie::PrefixMap;
use zeroize::Zeroizing;

mod draw;
mod fetch;
mod file;
mod health;
mod listed;
mod mark;
mod problem;
mod transfer;
mod watched;

pub use draw::{MAX_DRAW, Roster, Wish};
pub use fetch::{Check, Credential, Fetcher, InvalidUrl, check_directory, check_report, replace};
pub use file::{MAX_BYTES, MAX_MEMBERS, load, parse, parse_foreign, read_toml};
pub(crate) use file::{from_toml, read, read_secret};
pub use health::{Health, HealthReport, MAX_REPORT_AGE, MemberHealth};
pub use listed::{Listed, load_list};
pub use mark::Mark;
pub(crate) use mark::listed_weight;
pub use problem::{Place, Problem};
pub use transfer::{MAX_SERVERS, TransferError, Transferred, Wish as TransferWish, ZoneSource};
pub use watched::{Takes, Watched};

/// The port of NTS key exchange (RFC 8915 section 7.1).
pub const KE_PORT: u16 = 4460;

/// The weight of a member whose entry names none.
pub const DEFAULT_WEIGHT: u16 = 10;

/// Most regions that lie in each other.
pub const MAX_NESTING: usize = 4;

/// A secret shared with one member, for Authentication Token records (draft-ietf-ntp-nts-keyexchange-pool-01).
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Fewest characters: 22 alphanumeric ones hold the 128 bits that the draft recommends.
    pub const MIN_LENGTH: usize = 22;
    /// Most characters; the draft has members accept 64 at least.
    pub const MAX_LENGTH: usize = 128;

    /// Takes a token; `None` if it is too short or too long, or holds anything but printable ASCII. `#` begins a comment in
    /// the files of members.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = (Self::MIN_LENGTH..=Self::MAX_LENGTH).contains(&text.len());
        (fits && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#')).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The secret itself, to be sent and nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A part of the world that members and clients may be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(u16);

impl RegionId {
    /// Its place among the regions of the directory.
    pub(crate) fn number(self) -> usize {
        self.0.into()
    }
}

/// What a certificate of a member must match: the data of a TLSA record (RFC 6698 section 2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tlsa {
    /// Certificate usage, 0 to 3.
    pub usage: u8,
    /// 0 for the whole certificate, 1 for its public key.
    pub selector: u8,
    /// 0 for the data itself, 1 for its SHA-256, 2 for its SHA-512.
    pub matching: u8,
    /// What is to match.
    pub data: Vec<u8>,
}

impl Tlsa {
    /// Longest data taken; whole certificates are about 1,000 octets.
    pub const MAX_DATA: usize = 4_096;

    /// Takes the text form of a record, such as `3 1 1 0123…`; blanks may stand within the hexadecimal digits.
    ///
    /// # Errors
    ///
    /// What is wrong, and what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_ascii_whitespace();
        let mut number = |what: &str, most: u8| {
            let value = words.next().and_then(|word| word.parse().ok()).filter(|value: &u8| *value <= most);
            value.ok_or_else(|| format!("TLSA {what} must be 0 to {most}; accepted: such as \"3 1 1 0123…\""))
        };
        let (usage, selector, matching) = (number("usage", 3)?, number("selector", 1)?, number("matching type", 2)?);
        let digits: Vec<u8> = words.flat_map(str::bytes).collect();
        let digit = |octet: &u8| char::from(*octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pair = |pair: &[u8]| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        };
        let data: Vec<u8> = digits
            .chunks(2)
            .map(pair)
            .collect::<Option<_>>()
            .ok_or("TLSA data must be hexadecimal, two digits for each octet")?;
        let fits = match matching {
            0 => (1..=Self::MAX_DATA).contains(&data.len()),
            1 => data.len() == 32,
            _ => data.len() == 64,
        };
        // A hash under matching type 0 would match no certificate at all: a certificate is DER, a sequence.
        if !fits || (matching == 0 && data.first() != Some(&0x30)) {
            let wanted = ["DER", "32 octets (SHA-256)", "64 octets (SHA-512)"];
            let wanted = wanted.get(usize::from(matching)).copied().unwrap_or_default();
            return Err(format!("TLSA data of matching type {matching} must be {wanted}, not {} octets", data.len()));
        }
        Ok(Self { usage, selector, matching, data })
    }
}

impl fmt::Display for Tlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.usage, self.selector, self.matching)?;
        self.data.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// One server of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The host that its certificate is for.
    pub name: Name,
    /// TCP port of its key exchange.
    pub port: u16,
    /// Lower ones are used first by DNS clients (RFC 2782); the balancer gives all priorities the same chance.
    pub priority: u16,
    /// Its share, in proportion to the weights of the others.
    pub weight: u16,
    /// Most key exchanges a second that the balancer may send to it; any number if `None`.
    pub capacity: Option<u32>,
    /// Where it is. In no region, it is for clients of all.
    pub regions: Vec<RegionId>,
    /// The only clients it is for; all if empty.
    pub prefixes: Vec<IpNet>,
    /// Who runs it: one client gets one member of each operator while others remain.
    pub operator: String,
    /// Its addresses, if they are not to be looked up.
    pub addresses: Vec<IpAddr>,
    /// What a balancer shows it to be let in.
    pub token: Option<Token>,
    /// Whether it is being taken out: it gets no new clients.
    pub drain: bool,
    /// What its certificate is pinned to, for the pool's DNS to publish.
    pub tlsa: Vec<Tlsa>,
    /// The line of the file that names it.
    pub line: usize,
}

impl Member {
    /// Whether it takes clients from this address.
    #[must_use]
    pub fn takes(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| prefix.contains(&client))
    }
}

/// All members of a pool, and the regions of the world as the pool sees them.
#[derive(Clone)]
pub struct Directory {
    /// When its file was put in its place, in seconds since 1970; 0 if there is none.
    pub(crate) changed: u64,
    members: Vec<Member>,
    /// Name and parent of each region; a parent stands before its children.
    regions: Vec<(String, Option<RegionId>)>,
    /// The region of a client; IPv4 is kept as mapped IPv6.
    places: PrefixMap<ipnet::Ipv6Net, RegionId>,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("members", &self.members)
            .field("regions", &self.regions)
            .finish_non_exhaustive()
    }
}

impl Directory {
    /// What its list of members is called by in zones: all of them but those that are for some clients only.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark::of(self.changed, self.members.iter().filter(|member| member.prefixes.is_empty()))
    }

    /// The members, in the order of the file.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member of this name, and its place among [`members`](Self::members).
    #[must_use]
    pub fn find(&self, name: &Name) -> Option<(usize, &Member)> {
        self.members.iter().enumerate().find(|(_, member)| member.name == *name)
    }

    /// The regions that an address is in, the smallest first; none if the directory does not know.
    #[must_use]
    pub fn regions_of(&self, client: IpAddr) -> Vec<RegionId> {
        let net = mapped(IpNet::from(client.to_canonical()));
        let smallest = self.places.get_lpm(&net).map(|(_, region)| *region);
        self.with_parents(smallest)
    }

    /// How far around an address the answer is the same: the length of the smallest prefix of a region that holds it,
    /// if no other region's prefix lies within; in bits of the address's own family.
    #[must_use]
    pub fn scope_of(&self, client: IpAddr) -> Option<u8> {
        let client = client.to_canonical();
        let (net, _) = self.places.get_lpm(&mapped(IpNet::from(client)))?;
        let alone = self.places.children(&net).take(2).count() == 1;
        let mapping = if client.is_ipv4() { 96 } else { 0 };
        alone.then(|| net.prefix_len().saturating_sub(mapping))
    }

    /// Whether answers depend on where a client is.
    #[must_use]
    pub fn is_regional(&self) -> bool {
        !self.places.is_empty()
    }

    /// How many regions there are.
    pub(crate) fn region_count(&self) -> usize {
        self.regions.len()
    }

    /// How a region is called.
    #[must_use]
    pub fn region_name(&self, region: RegionId) -> &str {
        self.regions.get(usize::from(region.0)).map_or("", |(name, _)| name)
    }

    fn with_parents(&self, smallest: Option<RegionId>) -> Vec<RegionId> {
        let parent = |region: &RegionId| self.regions.get(usize::from(region.0))?.1;
        core::iter::successors(smallest, parent).take(MAX_NESTING).collect()
    }
}

/// A network as one of IPv6: IPv4 is mapped (RFC 4291 section 2.5.5.2).
pub(crate) fn mapped(net: IpNet) -> ipnet::Ipv6Net {
    let (address, len): (Ipv6Addr, u8) = match net {
        IpNet::V4(net) => (net.network().to_ipv6_mapped(), net.prefix_len().saturating_add(96)),
        IpNet::V6(net) => (net.network(), net.prefix_len()),
    };
    ipnet::Ipv6Net::new(address, len).unwrap_or_else(|_| ipnet::Ipv6Net::from(address))
}

/// A directory in the making.
#[derive(Debug, Default)]
struct Builder {
    changed: u64,
    members: Vec<Member>,
    regions: Vec<(String, Option<RegionId>)>,
    by_name: BTreeMap<String, RegionId>,
    /// The region of each prefix, and where in the text it has it.
    places: BTreeMap<ipnet::Ipv6Net, (RegionId, usize)>,
}

impl Builder {
    fn finish(self) -> Arc<Directory> {
        let mut places = PrefixMap::new();
        for (net, (region, _)) in self.places {
            places.insert(net, region);
        }
        Arc::new(Directory { changed: self.changed, members: self.members, regions: self.regions, places })
    }
}
