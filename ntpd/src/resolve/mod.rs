//! Names to addresses and to service records.
//!
//! Addresses come from the system's own resolver, so that `/etc/hosts`, mDNS and whatever else `nsswitch.conf` names
//! count as for every other program; if it knows none, from the resolvers that the settings name. Service and TLSA records come from the name servers themselves, and DNSSEC is
//! validated here: nobody on the way, the local resolver included, can make a name lead elsewhere. Only where an
//! administrator says so is the word of a resolver believed.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use hickory_resolver::proto::dnssec::TrustAnchors;
use ntp_proto::{
    bootstrap::Judgement,
    pool::{Answer, Failure, Name},
};
use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{error::Elapsed, timeout},
};

use crate::{
    config::{DnssecUse, Family, TrustSettings},
    now,
};

mod addresses;
mod anchors;
mod dates;
mod name_servers;
mod services;
mod system;
#[cfg(test)]
pub(crate) mod tests;
mod tlsa;
mod transport;

pub use anchors::AnchorError;
use anchors::Anchors;
pub(crate) use anchors::read as read_anchors;
use name_servers::{NameServers, Validation};
pub use services::ServiceAnswer;
use services::Wanted;
pub use tlsa::TlsaAnswer;

/// How long a question may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long it may take to learn what DNS says of a certificate: a key exchange waits for it.
const TLSA_DEADLINE: Duration = Duration::from_secs(4);

/// How long service records for plain NTP may take: it works without them.
const PLAIN_DEADLINE: Duration = Duration::from_secs(3);

/// How long addresses are good for: the system's resolver does not tell.
const LIFETIME: Duration = Duration::from_secs(60);

/// In the place of a digest of keys: those of the root that come with the program.
const BUILT_IN: [u8; 32] = [0; 32];

/// In the place of a digest of keys: a resolver is believed.
const ELSEWHERE: [u8; 32] = [1; 32];

/// How long DNS is waited for where addresses are known without it, while nobody knows how late it is.
const HEAD_START: Duration = Duration::from_secs(1);

/// Most addresses of one name.
const MAX_ADDRESSES: usize = 32;

/// Most questions to the system's resolver at a time. Each occupies a thread for as long as the system likes, which may
/// be longer than [`DEADLINE`].
const MAX_THREADS: usize = 16;

/// Where a name can be found without DNS. Whoever is there has to prove who it is, or is believed by the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Where it was found last.
    pub saved: Vec<SocketAddr>,
    /// Where it is by the configuration.
    pub configured: Vec<SocketAddr>,
    /// Whether it was last asked there in vain: then DNS is waited for.
    pub in_vain: bool,
}

impl Hints {
    fn is_empty(&self) -> bool {
        self.saved.is_empty() && self.configured.is_empty()
    }
}

/// Answers the questions of pool modes about names.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// Names that are answered from here alone.
    hosts: Arc<BTreeMap<Name, Vec<IpAddr>>>,
    /// Whether the system is asked for addresses, and not the name servers.
    asks_system: bool,
    /// Whether the settings say who the name servers are: they may know what the system does not.
    are_named: bool,
    threads: Arc<Semaphore>,
    name_servers: Arc<NameServers>,
    trusted: [u8; 32],
    /// The name that hints are for, and they.
    hints: Option<Arc<(Name, Hints)>>,
    /// The only family of addresses that is used, if one is.
    family: Option<Family>,
}

impl Resolver {
    /// Asks the system, as it is configured at the time of each question.
    #[must_use]
    pub fn system() -> Self {
        Self::with_hosts(BTreeMap::new())
    }

    /// Answers these names itself, and asks the system about all others.
    #[must_use]
    pub fn with_hosts(hosts: BTreeMap<Name, Vec<IpAddr>>) -> Self {
        Self {
            hosts: Arc::new(hosts),
            asks_system: true,
            are_named: false,
            threads: Arc::new(Semaphore::new(MAX_THREADS)),
            name_servers: Arc::new(NameServers::system(Validation::Here(Arc::default()))),
            trusted: BUILT_IN,
            hints: None,
            family: None,
        }
    }

    /// Asks the system for addresses, and whom the settings name for everything else, and for addresses that the system
    /// does not know.
    ///
    /// # Errors
    ///
    /// [`AnchorError`] if the file of trust anchors cannot be used.
    pub fn new(settings: &TrustSettings) -> Result<Self, AnchorError> {
        let (validation, trusted) = match settings.dnssec {
            DnssecUse::TrustResolver => (Validation::Elsewhere, ELSEWHERE),
            DnssecUse::Validate => match &settings.dnssec_anchor {
                None => (Validation::Here(Arc::default()), BUILT_IN),
                Some(file) => {
                    let Anchors { keys, fingerprint } = anchors::read(file)?;
                    (Validation::Here(Arc::new(keys)), fingerprint)
                }
            },
        };
        let name_servers = match settings.resolvers.as_slice() {
            [] => NameServers::system(validation),
            servers => NameServers::fixed(servers.to_vec(), validation),
        };
        let are_named = !settings.resolvers.is_empty();
        Ok(Self { name_servers: Arc::new(name_servers), are_named, trusted, ..Self::system() })
    }

    /// The same, but it asks the name servers for addresses too, and the system for nothing.
    #[must_use]
    pub fn without_system(self) -> Self {
        Self { asks_system: false, ..self }
    }

    /// The same, but for all but addresses it asks these name servers and trusts these keys.
    #[must_use]
    pub fn with_name_servers(self, servers: Vec<SocketAddr>, anchors: TrustAnchors) -> Self {
        let validation = Validation::Here(Arc::new(anchors));
        Self { name_servers: Arc::new(NameServers::fixed(servers, validation)), ..self }
    }

    /// The same for one name that can be found without DNS.
    #[must_use]
    pub fn with_hints(self, name: Name, hints: Hints) -> Self {
        let hints = (!hints.is_empty()).then(|| Arc::new((name, hints)));
        Self { hints, ..self }
    }

    /// The same, but it finds addresses of this family alone.
    #[must_use]
    pub fn within(self, family: Option<Family>) -> Self {
        Self { family, ..self }
    }

    /// Whether an address is of a family that is used.
    #[must_use]
    pub fn takes(&self, address: IpAddr) -> bool {
        self.family.is_none_or(|family| family.has(address))
    }

    /// Tells whether what DNSSEC vouches for is judged in the same way as by another: by the same keys, or by a resolver.
    #[must_use]
    pub const fn trusted(&self) -> [u8; 32] {
        self.trusted
    }

    /// The addresses of a host, each with `port`, in the order of the answer. The text says for people what went wrong.
    ///
    /// Where the configuration says where it is, that comes after what DNS says. Where it was last counts only if DNS fails, or
    /// says nothing soon while nobody knows how late it is and the server was not asked there in vain. If the time is known and
    /// DNS says that the name has no address, it is only where the configuration says: whoever takes a server out of DNS means it.
    pub async fn addresses(&self, name: &Name, port: u16, judgement: Judgement) -> (Answer, Option<String>) {
        let (mut answer, mut why) = self.all_addresses(name, port, judgement).await;
        if let Answer::Addresses { addresses, .. } = &mut answer {
            addresses.retain(|address| self.takes(address.ip()));
            if addresses.is_empty() {
                (answer, why) =
                    (Answer::NoRecord, Some(format!("{name}: it has no address of the family that is used")));
            }
        }
        (answer, why)
    }

    async fn all_addresses(&self, name: &Name, port: u16, judgement: Judgement) -> (Answer, Option<String>) {
        let Some((_, hints)) = self.hints.as_deref().filter(|(known, _)| known == name) else {
            return self.look_up(name, port, judgement).await;
        };
        let is_deferred = matches!(judgement, Judgement::Deferred { .. });
        let Hints { saved, configured, in_vain } = hints.clone();
        let patience = if is_deferred && !in_vain { HEAD_START } else { Duration::MAX };
        match timeout(patience, self.look_up(name, port, judgement)).await {
            Ok((Answer::Addresses { addresses, .. }, _)) => answer(name, [addresses, configured].concat()),
            // With an unknown time this may be what a resolver makes of signatures that it finds out of date.
            Ok((Answer::NoRecord, _)) if !is_deferred => answer(name, configured),
            Ok((_, why)) => {
                tracing::debug!(%name, ?why, "no address by DNS; asking where it was last");
                answer(name, [saved, configured].concat())
            }
            Err(Elapsed { .. }) => answer(name, [saved, configured].concat()),
        }
    }

    /// Asks the system and name servers.
    ///
    /// If the system has none, the name servers are asked where the settings name them. They are also asked if it fails
    /// while nobody knows how late it is: a resolver of the system that validates by the same clock has no answer for names
    /// that are signed.
    async fn look_up(&self, name: &Name, port: u16, judgement: Judgement) -> (Answer, Option<String>) {
        if let Some(address) = name.address() {
            return answer(name, vec![SocketAddr::new(address, port)]);
        }
        if let Some(addresses) = self.hosts.get(name) {
            return answer(name, addresses.iter().map(|address| SocketAddr::new(*address, port)).collect());
        }
        if !self.asks_system {
            return addresses::addresses(&self.name_servers, name, port, judgement).await;
        }
        let (system, failed) = match timeout(DEADLINE, self.ask_system(name, port)).await {
            Ok(Ok(addresses)) => return answer(name, addresses),
            Ok(Err(error)) if is_no_such_name(&error) => (no_address(name), false),
            Ok(Err(error)) => (unresolved(name, &error.to_string()), true),
            Err(Elapsed { .. }) => (unresolved(name, &format!("no answer in {} s", DEADLINE.as_secs())), true),
        };
        if self.are_named || failed && matches!(judgement, Judgement::Deferred { .. }) {
            let asked = addresses::addresses(&self.name_servers, name, port, judgement).await;
            if matches!(asked, (Answer::Addresses { .. }, _)) {
                return asked;
            }
        }
        system
    }

    /// Service records, if DNSSEC vouches for them.
    pub async fn services(&self, owner: &Name, judgement: Judgement) -> ServiceAnswer {
        if self.is_own(owner) {
            return (Answer::NoRecord, None).into();
        }
        services::services(&self.name_servers, owner, Wanted::Secure, judgement).await
    }

    /// Service records that lead to plain NTP, which nobody need vouch for. The text says for people what went wrong.
    pub async fn plain_services(&self, owner: &Name, judgement: Judgement) -> (Answer, Option<String>) {
        if self.is_own(owner) {
            return (Answer::NoRecord, None);
        }
        let ask = services::services(&self.name_servers, owner, Wanted::Any, judgement);
        match timeout(PLAIN_DEADLINE, ask).await {
            Ok(ServiceAnswer { answer, problem, .. }) => (answer, problem),
            Err(Elapsed { .. }) => (Answer::Failed(Failure::Resolver), None),
        }
    }

    /// What DNS says of the certificate of the server at a TCP port of a host.
    pub async fn tlsa(&self, host: &Name, port: u16, judgement: Judgement) -> TlsaAnswer {
        if host.address().is_some() || self.is_own(host) {
            return TlsaAnswer::Insecure;
        }
        tlsa::tlsa(&self.name_servers, host, port, judgement).await
    }

    fn is_own(&self, owner: &Name) -> bool {
        name_servers::host(owner).is_some_and(|host| self.hosts.contains_key(&host))
    }

    async fn ask_system(&self, name: &Name, port: u16) -> io::Result<Vec<SocketAddr>> {
        let thread = self.threads.clone().acquire_owned().await.map_err(io::Error::other)?;
        let host = name.as_str().to_owned();
        let ask = move || {
            let _until_the_system_answers = thread;
            (host.as_str(), port).to_socket_addrs().map(|addresses| addresses.take(4 * MAX_ADDRESSES).collect())
        };
        spawn_blocking(ask).await.map_err(io::Error::other)?
    }
}

fn answer(name: &Name, found: Vec<SocketAddr>) -> (Answer, Option<String>) {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) && addresses.len() < MAX_ADDRESSES {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return no_address(name);
    }
    (Answer::Addresses { addresses, until: now::monotonic() + LIFETIME }, None)
}

fn unresolved(name: &Name, why: &str) -> (Answer, Option<String>) {
    (Answer::Failed(Failure::Resolver), Some(format!("{name}: cannot be resolved: {why} (is there a network?)")))
}

fn no_address(name: &Name) -> (Answer, Option<String>) {
    (Answer::NoRecord, Some(format!("{name}: no such host, or it has no address (is the name spelled right?)")))
}

/// What the C libraries say of a name that does not exist or has no address (`EAI_NONAME`, `EAI_NODATA`): glibc, musl,
/// the BSDs. The standard library passes on their words, but not their numbers.
const NO_SUCH_NAME: [&str; 6] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
    "nodename nor servname provided",
    "no address associated with",
];

/// Any other word is a failure, from which nothing follows.
fn is_no_such_name(error: &io::Error) -> bool {
    let text = error.to_string();
    NO_SUCH_NAME.iter().any(|words| text.contains(words))
}
