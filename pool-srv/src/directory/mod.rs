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
mod file;
mod health;
mod problem;

pub use draw::{MAX_DRAW, Roster, Wish};
pub use file::{MAX_BYTES, MAX_MEMBERS, Watched, load, parse, read_toml};
pub use health::{Health, HealthReport, MAX_REPORT_AGE, MemberHealth};
pub use problem::{Place, Problem};

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

    /// Takes a token; `None` if it is too short or too long, or holds anything but printable ASCII.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = (Self::MIN_LENGTH..=Self::MAX_LENGTH).contains(&text.len());
        (fits && text.bytes().all(|b| b.is_ascii_graphic())).then(|| Self(Zeroizing::new(text.to_owned())))
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
fn mapped(net: IpNet) -> ipnet::Ipv6Net {
    let (address, len): (Ipv6Addr, u8) = match net {
        IpNet::V4(net) => (net.network().to_ipv6_mapped(), net.prefix_len().saturating_add(96)),
        IpNet::V6(net) => (net.network(), net.prefix_len()),
    };
    ipnet::Ipv6Net::new(address, len).unwrap_or_else(|_| ipnet::Ipv6Net::from(address))
}

/// A directory in the making.
#[derive(Debug, Default)]
struct Builder {
    members: Vec<Member>,
    regions: Vec<(String, Option<RegionId>)>,
    by_name: BTreeMap<String, RegionId>,
    places: Vec<(ipnet::Ipv6Net, RegionId)>,
}

impl Builder {
    fn finish(self) -> Arc<Directory> {
        let mut places = PrefixMap::new();
        for (net, region) in self.places {
            places.insert(net, region);
        }
        Arc::new(Directory { members: self.members, regions: self.regions, places })
    }
}
