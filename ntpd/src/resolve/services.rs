//! Service records, validated.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use hickory_resolver::{
    NameServerPool, PoolContext, TlsConfig,
    config::{NameServerConfig, ResolverOpts},
    net::{
        DnsError, DnsHandle as _, NetError, RetryDnsHandle, dnssec::DnssecDnsHandle, runtime::TokioRuntimeProvider,
        xfer::FirstAnswer as _,
    },
    proto::{
        dnssec::{Proof, TrustAnchors},
        op::{DnsRequestOptions, DnsResponse, Query},
        rr::{self, RData, Record, RecordType, rdata::CNAME},
    },
};
use ntp_proto::pool::{Answer, Failure, Name, Service};
use tokio::time::timeout;

use super::{DEADLINE, system};
use crate::now;

/// How long one query to one name server may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a query is sent again.
const RETRIES: usize = 1;

/// Most records of one answer.
const MAX_RECORDS: usize = 256;

/// Most aliases before them.
const MAX_ALIASES: usize = 8;

/// Answers are used for this long at least and at most.
const LIFETIMES: (u32, u32) = (60, 86_400);

/// Who is asked for service records, and whose signatures count.
pub(super) struct NameServers {
    source: Source,
    anchors: Arc<TrustAnchors>,
}

impl fmt::Debug for NameServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameServers").field("source", &self.source).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Source {
    /// Read for each question: the network may have changed since the last one.
    Files {
        resolv_conf: PathBuf,
        hosts: PathBuf,
    },
    Fixed(Vec<SocketAddr>),
}

impl NameServers {
    pub(super) fn system() -> Self {
        Self::files("/etc/resolv.conf".into(), "/etc/hosts".into())
    }

    pub(super) fn files(resolv_conf: PathBuf, hosts: PathBuf) -> Self {
        Self { source: Source::Files { resolv_conf, hosts }, anchors: Arc::default() }
    }

    pub(super) fn fixed(servers: Vec<SocketAddr>, anchors: TrustAnchors) -> Self {
        Self { source: Source::Fixed(servers), anchors: Arc::new(anchors) }
    }

    pub(super) async fn services(&self, owner: &Name) -> (Answer, Option<String>) {
        let servers = match &self.source {
            Source::Fixed(servers) => servers.clone(),
            // A name that this machine defines itself has no records anywhere.
            Source::Files { hosts, .. } if host(owner).is_some_and(|host| system::hosts_have(hosts, &host)) => {
                return (Answer::NoRecord, None);
            }
            Source::Files { resolv_conf, .. } => match system::name_servers(resolv_conf) {
                Ok(servers) => servers,
                Err(error) => return failed(owner, &format!("{}: {error}", resolv_conf.display())),
            },
        };
        // Without name servers nothing but local names can be meant.
        if servers.is_empty() {
            return (Answer::NoRecord, None);
        }
        let Ok(name) = rr::Name::from_ascii(format!("{owner}.")) else { return (Answer::NoRecord, None) };
        let look = self.look(owner, &servers, name);
        timeout(DEADLINE, look)
            .await
            .unwrap_or_else(|_| failed(owner, &format!("no answer in {} s", DEADLINE.as_secs())))
    }

    async fn look(&self, owner: &Name, servers: &[SocketAddr], name: rr::Name) -> (Answer, Option<String>) {
        let answers = match self.ask(servers, name.clone()).await {
            Ok(response) => response.into_message().answers,
            // The answer lacks the proof that it is all there is. Of an absence none is asked: whoever can forge it gains
            // nothing, for the certificate must then be for the name itself, and a name that had NTS before stays with
            // NTS. Many resolvers drop such proofs.
            Err(NetError::Dns(DnsError::Nsec { response, .. })) => {
                let mut answers = response.into_message().answers;
                answers.iter_mut().for_each(|record| record.proof = Proof::Bogus);
                answers
            }
            Err(error) if error.is_no_records_found() => return (Answer::NoRecord, None),
            Err(error) => return failed(owner, &error.to_string()),
        };
        judge(owner, name, &answers)
    }

    async fn ask(&self, servers: &[SocketAddr], name: rr::Name) -> Result<DnsResponse, NetError> {
        let mut options = ResolverOpts::default();
        options.timeout = QUERY_TIMEOUT;
        let context = Arc::new(PoolContext::new(options, TlsConfig::new()?));
        let servers = servers.iter().map(|address| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            server.connections.iter_mut().for_each(|connection| connection.port = address.port());
            server
        });
        let pool = NameServerPool::from_config(servers, context, TokioRuntimeProvider::default());
        let handle = RetryDnsHandle::new(pool, RETRIES);
        let mut options = DnsRequestOptions::default();
        options.use_edns = true;
        options.edns_set_dnssec_ok = true;
        let query = Query::query(name, RecordType::SRV);
        DnssecDnsHandle::with_trust_anchor(handle, self.anchors.clone()).lookup(query, options).first_answer().await
    }
}

/// The host whose services an owner name lists: what follows the labels that begin with `_`.
pub(super) fn host(owner: &Name) -> Option<Name> {
    let labels: Vec<_> = owner.as_str().split('.').skip_while(|label| label.starts_with('_')).collect();
    Name::parse(&labels.join(".")).ok()
}

/// What an answer is worth: as much as the worst record on the way from the name to its services. Records of other names
/// are not on it, whoever signed them.
fn judge(owner: &Name, mut name: rr::Name, answers: &[Record]) -> (Answer, Option<String>) {
    let mut way = Vec::new();
    for _ in 0..MAX_ALIASES {
        let alias = |record: &&Record| record.name == name && record.record_type() == RecordType::CNAME;
        let Some(record) = answers.iter().find(alias) else { break };
        let RData::CNAME(CNAME(target)) = &record.data else { break };
        way.push(record);
        name = target.clone();
    }
    let service = |record: &&Record| record.name == name && record.record_type() == RecordType::SRV;
    let aliases = way.len();
    way.extend(answers.iter().filter(service).take(MAX_RECORDS));
    if way.len() == aliases {
        return (Answer::NoRecord, None);
    }
    if way.iter().any(|record| record.proof == Proof::Bogus) {
        return bogus(owner);
    }
    if way.iter().any(|record| record.proof != Proof::Secure) {
        let text = format!("{owner}: service records are not signed, so they are not used (sign the zone with DNSSEC)");
        return (Answer::Insecure, Some(text));
    }
    usable(owner, &way)
}

fn usable(owner: &Name, way: &[&Record]) -> (Answer, Option<String>) {
    let (mut records, mut unusable) = (Vec::new(), 0_usize);
    for record in way {
        let RData::SRV(srv) = &record.data else { continue };
        // RFC 2782: "A Target of "." means that the service is decidedly not available at this domain."
        if srv.target.is_root() {
            continue;
        }
        match Name::parse(&srv.target.to_ascii()) {
            Ok(target) if srv.port != 0 => {
                records.push(Service { priority: srv.priority, weight: srv.weight, port: srv.port, target });
            }
            Ok(_) | Err(_) => unusable = unusable.saturating_add(1),
        }
    }
    match (records.is_empty(), unusable) {
        (false, _) => {
            let seconds = way.iter().map(|record| record.ttl).min().unwrap_or(0).clamp(LIFETIMES.0, LIFETIMES.1);
            let until = now::monotonic() + Duration::from_secs(seconds.into());
            (Answer::Services { records, until }, None)
        }
        (true, 0) => (Answer::NoRecord, None),
        (true, _) => failed(owner, "no service record names a host and a port"),
    }
}

fn bogus(owner: &Name) -> (Answer, Option<String>) {
    let text = format!(
        "{owner}: service records are not those that DNSSEC vouches for (is the clock right, or does a resolver on the way \
         drop signatures?)"
    );
    (Answer::Bogus, Some(text))
}

fn failed(owner: &Name, why: &str) -> (Answer, Option<String>) {
    let text = format!("{owner}: no service records could be had: {why} (is there a network, and a resolver?)");
    (Answer::Failed(Failure::Resolver), Some(text))
}
