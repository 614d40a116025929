//! Questions to name servers, and what DNSSEC says of their answers.

use std::{fmt, net::SocketAddr, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use hickory_resolver::{
    net::{DnsError, DnsHandle, NetError, dnssec::DnssecDnsHandle},
    proto::{
        dnssec::{Proof, TrustAnchors},
        rr::{self, RData, Record, RecordType, SerialNumber, rdata::CNAME},
    },
};
use ntp_proto::{
    bootstrap::{Judgement, Signatures},
    pool::Name,
};
use tokio::time::timeout;

use super::{
    DEADLINE,
    dates::{self, Kept, Times},
    system,
    transport::{JUDGED_AT, Transport, Unchecked, handle, lookup},
};

/// After which time without a proven answer by UDP the question is asked by TCP too.
const TCP_AFTER: Duration = Duration::from_millis(1500);

/// Most records of one answer.
const MAX_RECORDS: usize = 256;

/// Most aliases before them.
const MAX_ALIASES: usize = 8;

/// Who is asked, and whose word counts.
pub(super) struct NameServers {
    source: Source,
    validation: Validation,
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

/// Who validates.
pub(super) enum Validation {
    /// This program, by these keys.
    Here(Arc<TrustAnchors>),
    /// The name servers: their AD bit is believed (RFC 4035 section 3.2.3).
    Elsewhere,
}

/// What came of a question.
#[derive(Debug)]
pub(super) enum Found {
    /// The aliases from the name to the records, and the records; at least one of these. The proof of each holds. If it was
    /// validated here, also what their signatures say of the time.
    Records(Vec<Record>, Option<Signatures>),
    /// There are none; with what that is worth: `Secure` if it is proven, `Insecure` if the zone is proven to be
    /// unsigned, `Bogus` if a proof should be there and is not.
    Absent(Proof),
    /// The name is local, or there are no name servers.
    Nowhere,
    /// They are signed, but from a later time on than that at which they were to be judged; with what the signatures say of
    /// the time. Nothing vouches for them now.
    Early(Signatures),
    /// No answer; the text says why.
    Failed(String),
}

impl NameServers {
    pub(super) fn system(validation: Validation) -> Self {
        Self::files("/etc/resolv.conf".into(), "/etc/hosts".into(), validation)
    }

    pub(super) const fn files(resolv_conf: PathBuf, hosts: PathBuf, validation: Validation) -> Self {
        Self { source: Source::Files { resolv_conf, hosts }, validation }
    }

    pub(super) const fn fixed(servers: Vec<SocketAddr>, validation: Validation) -> Self {
        Self { source: Source::Fixed(servers), validation }
    }

    /// Asks for the records of one name and type. Whoever validates elsewhere does so at a time of his own.
    pub(super) async fn ask(&self, owner: &Name, kind: RecordType, judgement: Judgement) -> Found {
        self.put(owner, kind, judgement, false).await
    }

    /// The same where nobody need vouch for the answer. While nobody knows how late it is, a name server that validates by the
    /// same clock is asked not to.
    pub(super) async fn ask_unproven(&self, owner: &Name, kind: RecordType, judgement: Judgement) -> Found {
        self.put(owner, kind, judgement, matches!(judgement, Judgement::Deferred { .. })).await
    }

    async fn put(&self, owner: &Name, kind: RecordType, judgement: Judgement, unchecked: bool) -> Found {
        let servers = match &self.source {
            Source::Fixed(servers) => servers.clone(),
            // A name that this machine defines itself has no records anywhere.
            Source::Files { hosts, .. } if host(owner).is_some_and(|host| system::hosts_have(hosts, &host)) => {
                return Found::Nowhere;
            }
            Source::Files { resolv_conf, .. } => match system::name_servers(resolv_conf) {
                Ok(servers) => servers,
                Err(error) => return Found::Failed(format!("{}: {error}", resolv_conf.display())),
            },
        };
        // Without name servers nothing but local names can be meant.
        if servers.is_empty() {
            return Found::Nowhere;
        }
        let servers = match self.believed(&servers) {
            Ok(servers) => servers,
            Err(_) if unchecked => servers,
            Err(why) => return Found::Failed(why),
        };
        let Ok(name) = rr::Name::from_ascii(format!("{owner}.")) else { return Found::Nowhere };
        timeout(DEADLINE, self.look(&servers, name, kind, judgement, unchecked))
            .await
            .unwrap_or_else(|_| Found::Failed(format!("no answer in {} s", DEADLINE.as_secs())))
    }

    /// Of the name servers that the system names, only those on this machine can be believed: anybody on the way could
    /// set the AD bit of others.
    fn believed(&self, servers: &[SocketAddr]) -> Result<Vec<SocketAddr>, String> {
        match (&self.source, &self.validation) {
            (Source::Fixed(_), _) | (Source::Files { .. }, Validation::Here(_)) => Ok(servers.to_vec()),
            (Source::Files { resolv_conf, .. }, Validation::Elsewhere) => {
                let local: Vec<_> = servers.iter().copied().filter(|server| server.ip().is_loopback()).collect();
                if local.is_empty() {
                    let file = resolv_conf.display();
                    return Err(format!(
                        "no name server of {file} is on this machine, so that its word on DNSSEC could be believed (name \
                         the one to be believed with `resolver` in `[trust]`, or set `dnssec = \"validate\"`)"
                    ));
                }
                Ok(local)
            }
        }
    }

    /// Asks by UDP, and by TCP too if that brings nothing that holds, or nothing in time: there are networks that keep UDP from
    /// name servers, drop long answers, or answer queries with EDNS with an error or without signatures.
    ///
    /// RFC 7766 section 5: "A resolver MAY elect to send either TCP or UDP queries depending on local operational reasons."
    async fn look(
        &self,
        servers: &[SocketAddr],
        name: rr::Name,
        kind: RecordType,
        judgement: Judgement,
        unchecked: bool,
    ) -> Found {
        let mut usual = pin!(self.look_by(Transport::Udp, servers, name.clone(), kind, judgement, unchecked));
        let early = timeout(TCP_AFTER, &mut usual).await.ok();
        if let Some(found) = early.as_ref()
            && self.is_settled(found)
        {
            return early.unwrap_or(Found::Nowhere);
        }
        let by_tcp = pin!(self.look_by(Transport::Tcp, servers, name, kind, judgement, unchecked));
        let (one, other) = match early {
            Some(found) => (found, by_tcp.await),
            None => match select(usual, by_tcp).await {
                Either::Left((found, _)) if self.is_settled(&found) => return found,
                // UDP has brought nothing for so long that more is not to be expected of it.
                Either::Right((found, _)) if is_answer(&found) => return found,
                Either::Left((found, by_tcp)) => (found, by_tcp.await),
                Either::Right((by_tcp, usual)) => (usual.await, by_tcp),
            },
        };
        // What TCP brings counts if it holds, or if UDP brought nothing at all.
        if self.is_settled(&other) || !is_answer(&one) && is_answer(&other) { other } else { one }
    }

    /// Whether another transport could not bring more.
    fn is_settled(&self, found: &Found) -> bool {
        match self.validation {
            Validation::Here(_) => is_answer(found) && is_proven(found),
            Validation::Elsewhere => is_answer(found),
        }
    }

    async fn look_by(
        &self,
        transport: Transport,
        servers: &[SocketAddr],
        name: rr::Name,
        kind: RecordType,
        judgement: Judgement,
        unchecked: bool,
    ) -> Found {
        let found = match handle(servers, transport) {
            Ok(handle) => match &self.validation {
                Validation::Here(anchors) => validated(handle, anchors, &name, kind, judgement).await,
                Validation::Elsewhere => {
                    believed(handle, name.clone(), kind, unchecked).await.map(|judged| found(name, kind, judged))
                }
            },
            Err(error) => Err(error),
        };
        found.unwrap_or_else(|error| Found::Failed(error.to_string()))
    }
}

/// Answers, and what their absence would be worth.
type Judged = (Vec<Record>, Proof);

fn found(name: rr::Name, kind: RecordType, (answers, absence): Judged) -> Found {
    let way = way(name, kind, answers);
    if way.last().is_some_and(|record| record.record_type() == kind) {
        Found::Records(way, None)
    } else {
        // Where an alias leads to nothing, the alias is no better founded than the rest.
        let aliases = (!way.is_empty()).then(|| worst(&way));
        Found::Absent(aliases.map_or(absence, |aliases| worse(aliases, absence)))
    }
}

/// Asks, and validates here: at one time, or at several until something is proven.
async fn validated(
    handle: impl DnsHandle,
    anchors: &Arc<TrustAnchors>,
    name: &rr::Name,
    kind: RecordType,
    judgement: Judgement,
) -> Result<Found, NetError> {
    let kept = Kept::new(Unchecked(handle));
    let found = validated_at(Times::new(judgement), &kept, anchors, name, kind).await?;
    let Some(later) = Times::after(judgement).filter(|_| !is_proven(&found)) else { return Ok(found) };
    Ok(match validated_at(later, &kept, anchors, name, kind).await {
        Ok(Found::Records(way, Some(signatures))) if worst(&way) == Proof::Secure => Found::Early(signatures),
        Ok(_) | Err(_) => found,
    })
}

async fn validated_at(
    mut times: Times,
    kept: &Kept<Unchecked<impl DnsHandle>>,
    anchors: &Arc<TrustAnchors>,
    name: &rr::Name,
    kind: RecordType,
) -> Result<Found, NetError> {
    let mut first = None;
    // Ends: there are few times.
    while let Some(at) = times.next(&kept.signatures()) {
        // What the library concludes at one time does not hold at another, so it begins anew.
        let handle = DnssecDnsHandle::with_trust_anchor(kept.clone(), anchors.clone());
        let seconds = u64::try_from(at).unwrap_or(0);
        let judged = match JUDGED_AT.scope(seconds, validated_once(handle, name.clone(), kind)).await {
            Ok(judged) => judged,
            Err(error) => return first.ok_or(error),
        };
        let own: Vec<_> = judged.0.iter().filter(|record| record.proof.is_secure()).cloned().collect();
        let found = match found(name.clone(), kind, judged) {
            Found::Records(way, _) => {
                let signatures = signatures(&own, &way);
                let said = times.said(at, signatures, &kept.signatures());
                Found::Records(way, Some(said))
            }
            other @ (Found::Absent(_) | Found::Nowhere | Found::Early(_) | Found::Failed(_)) => other,
        };
        if is_proven(&found) {
            return Ok(found);
        }
        first = first.or(Some(found));
    }
    Ok(first.unwrap_or(Found::Absent(Proof::Bogus)))
}

/// The signatures of the records on a way, of those that hold.
fn signatures<'a>(secure: &'a [Record], way: &'a [Record]) -> impl Iterator<Item = (SerialNumber, SerialNumber)> + 'a {
    let is_on_way = |record: &&Record| {
        let covered = dates::signature(record).map(|signature| signature.input().type_covered);
        way.iter().any(|on_way| on_way.name == record.name && Some(on_way.record_type()) == covered)
    };
    secure.iter().filter(is_on_way).filter_map(dates::validity)
}

const fn is_answer(found: &Found) -> bool {
    !matches!(found, Found::Failed(_))
}

/// Whether there is nothing more to be found out at another time.
fn is_proven(found: &Found) -> bool {
    let proof = match found {
        Found::Records(way, _) => worst(way),
        Found::Absent(proof) => *proof,
        Found::Nowhere | Found::Early(_) | Found::Failed(_) => return true,
    };
    matches!(proof, Proof::Secure | Proof::Insecure)
}

async fn validated_once(handle: impl DnsHandle, name: rr::Name, kind: RecordType) -> Result<Judged, NetError> {
    match lookup(handle, name, kind).await {
        Ok(response) => {
            let message = response.into_message();
            let proofs = || message.authorities.iter().map(|record| record.proof);
            // The library lets an absence pass only if it is proven, or if the zone is proven to be unsigned.
            let absence = if proofs().any(|proof| proof == Proof::Secure) { Proof::Secure } else { Proof::Insecure };
            Ok((message.answers, absence))
        }
        // The answer lacks the proof that it is all there is.
        Err(NetError::Dns(DnsError::Nsec { response, proof, .. })) => {
            let mut answers = response.into_message().answers;
            answers.iter_mut().for_each(|record| record.proof = Proof::Bogus);
            Ok((answers, if proof == Proof::Insecure { Proof::Insecure } else { Proof::Bogus }))
        }
        Err(error) if error.is_no_records_found() => Ok((Vec::new(), Proof::Bogus)),
        Err(error) => Err(error),
    }
}

/// Asks, and believes what the name server says of its answer.
async fn believed(
    handle: impl DnsHandle,
    name: rr::Name,
    kind: RecordType,
    unchecked: bool,
) -> Result<Judged, NetError> {
    let answer = if unchecked { lookup(Unchecked(handle), name, kind).await } else { lookup(handle, name, kind).await };
    match answer {
        Ok(response) => {
            let proof = if response.authentic_data { Proof::Secure } else { Proof::Insecure };
            let mut answers = response.into_message().answers;
            answers.iter_mut().for_each(|record| record.proof = proof);
            Ok((answers, proof))
        }
        // The library does not pass on the AD bit of an absence.
        Err(error) if error.is_no_records_found() => Ok((Vec::new(), Proof::Indeterminate)),
        Err(error) => Err(error),
    }
}

/// The host that an owner name belongs to: what follows the labels that begin with `_`.
pub(super) fn host(owner: &Name) -> Option<Name> {
    let labels: Vec<_> = owner.as_str().split('.').skip_while(|label| label.starts_with('_')).collect();
    Name::parse(&labels.join(".")).ok()
}

/// The records on the way from a name to its records of one type. Records of other names are not on it, whoever signed
/// them.
fn way(mut name: rr::Name, kind: RecordType, answers: Vec<Record>) -> Vec<Record> {
    let mut way = Vec::new();
    for _ in 0..MAX_ALIASES {
        let alias = |record: &&Record| record.name == name && record.record_type() == RecordType::CNAME;
        let Some(record) = answers.iter().find(alias) else { break };
        let RData::CNAME(CNAME(target)) = &record.data else { break };
        let target = target.clone();
        way.push(record.clone());
        name = target;
    }
    let wanted = |record: &Record| record.name == name && record.record_type() == kind;
    way.extend(answers.into_iter().filter(wanted).take(MAX_RECORDS));
    way
}

/// What an answer is worth: as much as the worst record on the way to it.
pub(super) fn worst(way: &[Record]) -> Proof {
    way.iter().map(|record| record.proof).fold(Proof::Secure, worse)
}

fn worse(one: Proof, other: Proof) -> Proof {
    let rank = |proof| match proof {
        Proof::Bogus => 0,
        Proof::Indeterminate => 1,
        Proof::Insecure => 2,
        Proof::Secure => 3,
    };
    if rank(one) <= rank(other) { one } else { other }
}
