//! `ntpctl lookup`: what a name offers, found out without the daemon and in the same way.

use std::{net::SocketAddr, path::Path};

use ntp_proto::{
    bootstrap::Judgement,
    pool::{Answer, Failure, KeyExchange, Name, Service},
};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    config::{self, NTP_PORT, NTS_KE_PORT, Origin, Require, TrustSettings},
    ke::connect::{Exchanged, KeyExchanger},
    now,
    resolve::{Resolver, ServiceAnswer, TlsaAnswer},
};

mod show;

/// Most targets of service records that are tried.
pub const MAX_TARGETS: usize = 16;

/// What a name offers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Lookup {
    /// The name.
    pub name: String,
    /// Where its key exchange is expected.
    pub port: u16,
    /// Service records for key exchange, `_ntske._tcp`; never used unless DNSSEC vouches for them.
    pub nts_services: Records,
    /// The servers that they name, in the order of priority and weight.
    pub targets: Vec<Target>,
    /// Key exchange with the name itself.
    pub itself: Server,
    /// Service records for plain NTP, `_ntp._udp`.
    pub plain_services: Records,
    /// The targets of these, with their ports.
    pub plain_targets: Vec<Plain>,
    /// The addresses of the name.
    pub addresses: Vec<String>,
    /// Why there are none.
    pub address_problem: Option<String>,
    /// What follows from it all.
    pub offer: Offer,
}

/// What is known of service records.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Records {
    /// What DNSSEC says.
    pub state: RecordState,
    /// How many there are.
    pub count: usize,
    /// What is wrong.
    pub problem: Option<String>,
}

/// What DNSSEC says of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordState {
    /// It vouches for them.
    Secure,
    /// There are records; nobody was asked to vouch for them.
    Present,
    /// There are none.
    None,
    /// It does not cover them.
    Insecure,
    /// They are forged or broken.
    Bogus,
    /// No answer.
    Failed,
}

/// A server that service records name.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Target {
    /// Lower is tried first.
    pub priority: u16,
    /// Share within a priority.
    pub weight: u16,
    /// The server.
    #[serde(flatten)]
    pub server: Server,
}

/// A server for plain NTP that service records name.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plain {
    /// Lower is tried first.
    pub priority: u16,
    /// Share within a priority.
    pub weight: u16,
    /// Its name.
    pub name: String,
    /// Its UDP port.
    pub port: u16,
}

/// A key-exchange server.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its TCP port.
    pub port: u16,
    /// What DNS says of its certificate.
    pub tlsa: Tlsa,
    /// What a key exchange gave.
    pub exchange: Option<Exchange>,
    /// Why it gave nothing.
    pub problem: Option<String>,
    /// Whether that is because nobody listens at its port: all that a host without NTS ever says of it.
    pub nobody_listens: bool,
}

/// What DNS says of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tlsa {
    /// `secure`, `absent`, `insecure`, `bogus` or `unknown`.
    pub state: &'static str,
    /// Usage, selector and matching type of each record that can be used.
    pub records: Vec<String>,
    /// Why the others cannot be used, or nothing is known.
    pub problems: Vec<String>,
}

/// What a key exchange gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Exchange {
    /// What vouches for the server: `dane`, `dnssec` or `pki`.
    pub trust: &'static str,
    /// The NTP server.
    pub ntp_server: String,
    /// Its addresses.
    pub ntp_addresses: Vec<String>,
    /// The AEAD algorithm.
    pub algorithm: String,
    /// First second in which all certificates are valid, as Unix time; not if their dates do not count.
    pub valid_from_unix_seconds: Option<i64>,
    /// Last second in which all of them are.
    pub valid_until_unix_seconds: Option<i64>,
}

/// What follows from what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Offer {
    /// A pool by service records.
    SrvPool,
    /// A pool by load-balanced key exchange.
    LbPool,
    /// A single NTS server.
    NtsServer,
    /// Nothing but addresses, where there may be plain NTP.
    Plain,
    /// Nothing that can be used.
    Nothing,
}

/// Reads `[trust]` of a configuration, or of the one in its usual place. If there is one there that cannot be read, the
/// second value says so: then the answers may not be those that the daemon has.
///
/// # Errors
///
/// What is wrong with the configuration named.
pub fn settings(file: Option<&Path>) -> Result<(TrustSettings, Option<String>), config::Problems> {
    match file {
        Some(file) => Ok((config::load_trust(&Origin::File(file.to_owned()))?, None)),
        None => Ok(usual(config::load_trust(&Origin::Standard), config::standard_exists())),
    }
}

fn usual(loaded: Result<TrustSettings, config::Problems>, exists: bool) -> (TrustSettings, Option<String>) {
    match loaded {
        Ok(trust) => (trust, None),
        Err(problems) => {
            let note = || format!("[trust] of the configuration is not used, but its defaults:\n{problems}");
            (TrustSettings::default(), exists.then(note))
        }
    }
}

/// Finds out what a name offers.
pub async fn lookup(exchanger: &KeyExchanger, name: &Name, port: Option<u16>, at: Judgement) -> Lookup {
    let resolver = exchanger.resolver();
    let port = port.unwrap_or(NTS_KE_PORT);
    let (nts, plain, addresses, itself) = tokio::join!(
        nts_services(resolver, name, at),
        plain_services(resolver, name, at),
        resolver.addresses(name, NTP_PORT, at),
        server(exchanger.clone(), name.clone(), port, false, at),
    );
    let (nts_services, records) = nts;
    let (plain_services, plain_targets) = plain;
    let (itself, exchanged) = itself;
    let targets = targets(exchanger, records, at).await;
    let (addresses, address_problem) = match addresses {
        (Answer::Addresses { addresses, .. }, _) => (ips(&addresses), None),
        (_, problem) => (Vec::new(), problem),
    };
    let working = targets.iter().filter(|target| target.server.exchange.is_some()).count();
    let offer = match &exchanged {
        _ if working > 0 => Offer::SrvPool,
        Some(first) if is_pool(exchanger, name, port, first, at).await => Offer::LbPool,
        Some(_) => Offer::NtsServer,
        None if addresses.is_empty() && plain_targets.is_empty() => Offer::Nothing,
        None => Offer::Plain,
    };
    Lookup {
        name: name.to_string(),
        port,
        nts_services,
        targets,
        itself,
        plain_services,
        plain_targets,
        addresses,
        address_problem,
        offer,
    }
}

async fn nts_services(resolver: &Resolver, name: &Name, at: Judgement) -> (Records, Vec<Service>) {
    // An address has no records.
    let owner = if name.address().is_none() { pool_srv::service_owner(name).ok() } else { None };
    let Some(owner) = owner else { return (Records::none(), Vec::new()) };
    let ServiceAnswer { answer, problem, .. } = resolver.services(&owner, at).await;
    records((answer, problem), RecordState::Secure)
}

async fn plain_services(resolver: &Resolver, name: &Name, at: Judgement) -> (Records, Vec<Plain>) {
    let owner = if name.address().is_none() { Name::parse(&format!("_ntp._udp.{name}")).ok() } else { None };
    let Some(owner) = owner else { return (Records::none(), Vec::new()) };
    let (found, services) = records(resolver.plain_services(&owner, at).await, RecordState::Present);
    let plain = |service: Service| Plain {
        priority: service.priority,
        weight: service.weight,
        name: service.target.to_string(),
        port: service.port,
    };
    (found, services.into_iter().map(plain).collect())
}

fn records((answer, problem): (Answer, Option<String>), found: RecordState) -> (Records, Vec<Service>) {
    let (state, mut services) = match answer {
        Answer::Services { records, .. } => (found, records),
        Answer::NoRecord => (RecordState::None, Vec::new()),
        Answer::Insecure => (RecordState::Insecure, Vec::new()),
        Answer::Bogus => (RecordState::Bogus, Vec::new()),
        Answer::Failed(_) | Answer::Addresses { .. } | Answer::KeyExchange(_) => (RecordState::Failed, Vec::new()),
    };
    services.sort_by(|a, b| (a.priority, b.weight, &a.target).cmp(&(b.priority, a.weight, &b.target)));
    (Records { state, count: services.len(), problem }, services)
}

async fn targets(exchanger: &KeyExchanger, records: Vec<Service>, at: Judgement) -> Vec<Target> {
    let mut tasks = JoinSet::new();
    for (place, record) in records.into_iter().take(MAX_TARGETS).enumerate() {
        let exchanger = exchanger.clone();
        tasks.spawn(async move {
            let (server, _) = server(exchanger, record.target, record.port, true, at).await;
            (place, Target { priority: record.priority, weight: record.weight, server })
        });
    }
    let mut done = tasks.join_all().await;
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, target)| target).collect()
}

async fn server(
    exchanger: KeyExchanger,
    name: Name,
    port: u16,
    validated: bool,
    at: Judgement,
) -> (Server, Option<Exchanged>) {
    let question = KeyExchange { server: name.clone(), port, addresses: None, validated, denied: Vec::new() };
    let (tlsa, outcome) = tokio::join!(
        exchanger.resolver().tlsa(&name, port, at),
        exchanger.exchange(&question, Require::default(), at),
    );
    let (exchanged, problem) = match outcome {
        Ok(exchanged) => (Some(exchanged), None),
        Err(problem) => (None, Some(problem)),
    };
    let found = Server {
        name: name.to_string(),
        port,
        tlsa: Tlsa::new(&tlsa),
        exchange: exchanged.as_ref().map(Exchange::new),
        nobody_listens: problem.as_ref().is_some_and(|problem| problem.failure() == Failure::Connect),
        problem: problem.map(|problem| problem.to_string()),
    };
    (found, exchanged)
}

/// Whether a server gives another NTP server to who does not want the first.
async fn is_pool(exchanger: &KeyExchanger, name: &Name, port: u16, first: &Exchanged, at: Judgement) -> bool {
    let denied = vec![first.negotiated.ntp_server.clone()];
    let question = KeyExchange { server: name.clone(), port, addresses: None, validated: false, denied };
    let second = exchanger.exchange(&question, Require::default(), at).await;
    second.is_ok_and(|second| {
        let (first, second) = (&first.negotiated, &second.negotiated);
        !first.ntp_server.eq_ignore_ascii_case(&second.ntp_server)
            && !first.addresses.iter().any(|address| second.addresses.contains(address))
    })
}

impl Lookup {
    /// Whether there is anything to be used. Plain NTP is only where there is no NTS, as with the daemon.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        match self.offer {
            Offer::SrvPool | Offer::LbPool | Offer::NtsServer => true,
            Offer::Plain => self.why_not_plain().is_none(),
            Offer::Nothing => false,
        }
    }

    /// Why plain NTP is not to be used. Whoever keeps back or forges what DNS says of NTS wants just that; and whose
    /// records nobody vouches for has NTS nevertheless.
    fn why_not_plain(&self) -> Option<&'static str> {
        match self.nts_services.state {
            _ if self.itself.tlsa.state == "bogus" => Some("what DNS says of its certificate is forged or missing"),
            RecordState::Bogus | RecordState::Failed => Some("what DNS says of NTS is forged or missing"),
            RecordState::Insecure => Some("its service records for NTS are not signed (DNSSEC)"),
            RecordState::Secure if self.nts_services.count > 0 => {
                Some("no server of its service records gives keys now")
            }
            RecordState::Secure | RecordState::Present | RecordState::None
                if !self.addresses.is_empty() && !self.itself.nobody_listens =>
            {
                Some("its key exchange is there and gives no keys now")
            }
            RecordState::Secure | RecordState::Present | RecordState::None => None,
        }
    }
}

impl Records {
    const fn none() -> Self {
        Self { state: RecordState::None, count: 0, problem: None }
    }
}

impl Tlsa {
    fn new(answer: &TlsaAnswer) -> Self {
        let (state, problems) = match answer {
            TlsaAnswer::Secure { unusable, .. } => ("secure", unusable.iter().map(ToString::to_string).collect()),
            TlsaAnswer::Absent => ("absent", Vec::new()),
            TlsaAnswer::Insecure => ("insecure", Vec::new()),
            TlsaAnswer::Bogus(why) => ("bogus", vec![why.clone()]),
            TlsaAnswer::Unknown(why) => ("unknown", vec![why.clone()]),
        };
        Self { state, records: answer.records().iter().map(ToString::to_string).collect(), problems }
    }
}

impl Exchange {
    fn new(exchanged: &Exchanged) -> Self {
        let Exchanged { negotiated, algorithm, certificates, .. } = exchanged;
        Self {
            trust: negotiated.trust.name(),
            ntp_server: negotiated.ntp_server.clone(),
            ntp_addresses: negotiated.addresses.iter().map(show_address).collect(),
            algorithm: algorithm.to_string(),
            valid_from_unix_seconds: certificates.map(|window| window.not_before),
            valid_until_unix_seconds: certificates.map(|window| window.not_after),
        }
    }
}

fn ips(addresses: &[SocketAddr]) -> Vec<String> {
    addresses.iter().map(|address| address.ip().to_string()).collect()
}

/// With its port if that is not the usual one.
fn show_address(address: &SocketAddr) -> String {
    if address.port() == NTP_PORT { address.ip().to_string() } else { address.to_string() }
}

/// Finds out what a name offers now, in a runtime of its own. The text says what keeps it from that.
///
/// # Errors
///
/// If the settings of trust cannot be used or the machine lacks something.
pub fn run(settings: &TrustSettings, name: &Name, port: Option<u16>) -> Result<Lookup, String> {
    let resolver = Resolver::new(settings).map_err(|error| error.to_string())?;
    let exchanger = KeyExchanger::new(settings, resolver).map_err(|error| error.to_string())?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let found = runtime.block_on(lookup(&exchanger, name, port, Judgement::At(now::unix())));
    // A look-up in progress may take longer than anybody wants to wait.
    runtime.shutdown_background();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ke::connect::tests::{GOOD, Pki, at, block_on, serve},
        resolve::tests::vouching,
    };

    #[test]
    fn a_name_is_what_it_turns_out_to_be() {
        block_on(async {
            let pki = Pki::new();
            let server = serve(pki.server(), "127.0.0.1:0").await;
            let client = pki.client();
            let ask = async |name: &str, port| lookup(&client, &Name::parse(name).unwrap(), Some(port), at(GOOD)).await;
            let found = ask("ke.test", server.port()).await;
            assert_eq!((found.offer, found.nts_services.state), (Offer::NtsServer, RecordState::None));
            let exchange = found.itself.exchange.unwrap();
            assert_eq!((exchange.trust, exchange.ntp_server.as_str()), ("pki", "ke.test"));
            assert_eq!(exchange.valid_until_unix_seconds, Some(1_901_232_000));
            assert_eq!(found.addresses, ["127.0.0.1"]);
            let found = ask("ke.test", 1).await;
            assert_eq!((found.offer, found.itself.exchange), (Offer::Plain, None));
            assert!(found.itself.problem.unwrap().contains("nobody listens at TCP port 1"));
            let found = ask("nowhere.test", server.port()).await;
            assert_eq!(found.offer, Offer::Nothing);
            assert!(found.address_problem.unwrap().starts_with("nowhere.test: no such host"));
        });
    }

    #[test]
    fn settings_that_cannot_be_read_are_not_left_out_silently() {
        let load = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("ntpd.toml");
            std::fs::write(&file, text).unwrap();
            config::load_trust(&Origin::File(file))
        };
        let good = "[[server]]\naddress = \"192.0.2.1\"\n[trust]\nresolver = \"192.0.2.53\"\n";
        let (settings, note) = usual(load(good), true);
        assert_eq!((settings.resolvers.len(), note), (1, None));
        let bad = || load(&good.replace("resolver", "resolvr"));
        let (settings, note) = usual(bad(), true);
        assert_eq!(settings, TrustSettings::default());
        assert!(note.unwrap().contains("trust.resolvr: unknown key"));
        assert_eq!(usual(bad(), false), (TrustSettings::default(), None), "a machine without the daemon");
        // Of the server's key nothing is to be known by those who ask.
        let server = "[serve.nts]\ncertificate = \"/nonexistent/chain\"\nprivate-key = \"/nonexistent/key\"\n";
        let (settings, note) = usual(load(&[good, server].concat()), true);
        assert_eq!((settings.resolvers.len(), note), (1, None));
    }

    #[test]
    fn service_records_lead_to_servers_that_dns_vouches_for() {
        block_on(async {
            let pki = Pki::new();
            let server = serve(pki.server(), "127.0.0.1:0").await;
            let resolver = vouching(server.port(), 3, &pki.chain[0]).await;
            let client = KeyExchanger::new(&TrustSettings::default(), resolver).unwrap();
            let found = lookup(&client, &Name::parse("pool.test").unwrap(), None, at(GOOD)).await;
            assert_eq!((found.offer, found.nts_services.state), (Offer::SrvPool, RecordState::Secure), "{found:?}");
            let [first, second] = &found.targets[..] else { panic!("{:?}", found.targets) };
            assert_eq!((first.server.name.as_str(), first.server.port), ("localhost", server.port()));
            assert_eq!(
                (first.server.tlsa.state, &first.server.tlsa.records[..]),
                ("secure", &["3 0 0".to_owned()][..])
            );
            assert_eq!(first.server.exchange.as_ref().unwrap().trust, "dane");
            assert_eq!((second.server.name.as_str(), &second.server.exchange), ("nowhere.test", &None));
            let json: serde_json::Value = serde_json::to_value(&found).unwrap();
            assert_eq!(json["offer"], "srv-pool");
            assert_eq!(json["targets"][0]["exchange"]["ntp-server"], "localhost");
            let line = format!("server localhost iburst nts ntsport {}", server.port());
            assert!(found.to_chrony().lines().any(|found| found == line), "{}", found.to_chrony());
        });
    }
}
