use std::path::Path;

use hickory_resolver::proto::{
    dnssec::{
        Algorithm, DnssecSigner, SigningKey as _,
        crypto::EcdsaSigningKey,
        rdata::{DNSKEY, DNSSECRData, NSEC, RRSIG},
    },
    op::{Edns, Message, OpCode, ResponseCode},
    rr::{
        self, DNSClass, RData, Record, RecordSet, RecordType,
        rdata::{CNAME, NS, SOA, SRV},
    },
};
use ntp_proto::pool::Service;
use tokio::{net::UdpSocket, runtime::Runtime, task::JoinHandle};

use super::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn dns(text: &str) -> rr::Name {
    rr::Name::from_ascii(text).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map(|runtime: Runtime| runtime.block_on(future))
        .unwrap()
}

/// One signed zone, the root, with everything in it.
struct World {
    signer: DnssecSigner,
}

impl World {
    fn new() -> (Self, TrustAnchors) {
        let pkcs8 = EcdsaSigningKey::generate_pkcs8(Algorithm::ECDSAP256SHA256).unwrap();
        let key = EcdsaSigningKey::from_pkcs8(&pkcs8, Algorithm::ECDSAP256SHA256).unwrap();
        let public = key.to_public_key().unwrap();
        let mut anchors = TrustAnchors::empty();
        anchors.insert(&public);
        let thirty_years = Duration::from_secs(30 * 365 * 86_400);
        let signer = DnssecSigner::new(DNSKEY::from_key(&public), Box::new(key), rr::Name::root(), thirty_years);
        (Self { signer }, anchors)
    }

    /// Records of one name and type, and the signature.
    fn signed(&self, owner: &str, ttl: u32, all: &[RData]) -> Vec<Record> {
        let mut set = RecordSet::with_ttl(dns(owner), all[0].record_type(), ttl);
        for data in all {
            set.add_rdata(data.clone());
        }
        let inception = rcgen::date_time_ymd(2024, 1, 1);
        let signature = RRSIG::from_rrset(&set, DNSClass::IN, inception, &self.signer).unwrap();
        let mut records: Vec<_> = set.records_without_rrsigs().cloned().collect();
        records.push(Record::from_rdata(dns(owner), ttl, RData::DNSSEC(DNSSECRData::RRSIG(signature))));
        records
    }

    fn soa(&self) -> Vec<Record> {
        let soa = SOA::new(dns("ns.test."), dns("admin.test."), 1, 3600, 600, 86_400, 60);
        self.signed(".", 60, &[RData::SOA(soa)])
    }

    /// Answer and authority sections.
    fn respond(&self, owner: &str, kind: RecordType) -> (ResponseCode, Vec<Record>, Vec<Record>) {
        let srv = |target: &str| RData::SRV(SRV::new(1, 2, 4460, dns(target)));
        let unsigned = |data: RData| vec![Record::from_rdata(dns(owner), 300, data)];
        let answers = match (owner, kind) {
            (".", RecordType::DNSKEY) => {
                self.signed(".", 300, &[RData::DNSSEC(DNSSECRData::DNSKEY(self.signer.to_dnskey()))])
            }
            ("_ntske._tcp.good.test.", RecordType::SRV) => self.signed(owner, 7, &[srv("a.test."), srv("b.test.")]),
            ("_ntske._tcp.dot.test.", RecordType::SRV) => self.signed(owner, 300, &[srv(".")]),
            ("_ntske._tcp.port.test.", RecordType::SRV) => {
                self.signed(owner, 300, &[RData::SRV(SRV::new(1, 2, 0, dns("a.test.")))])
            }
            ("_ntske._tcp.forged.test.", RecordType::SRV) => {
                let mut records = self.signed(owner, 300, &[srv("a.test.")]);
                records[0].data = srv("evil.test.");
                records
            }
            ("_ntske._tcp.alias.test.", RecordType::SRV) => {
                let mut records = self.signed(owner, 5, &[RData::CNAME(CNAME(dns("_ntske._tcp.good.test.")))]);
                records.extend(self.signed("_ntske._tcp.good.test.", 70, &[srv("a.test."), srv("b.test.")]));
                records
            }
            ("_ntske._tcp.astray.test.", RecordType::SRV) => {
                let mut records = unsigned(RData::CNAME(CNAME(dns("_ntske._tcp.good.test."))));
                records.extend(self.signed("_ntske._tcp.good.test.", 7, &[srv("a.test.")]));
                records
            }
            ("_ntske._tcp.wild.test.", RecordType::SRV) => {
                self.signed(owner, 5, &[RData::CNAME(CNAME(dns("www.test.")))])
            }
            // Signed, and nobody's business.
            ("_ntske._tcp.other.test.", RecordType::SRV) => self.signed("_ntske._tcp.good.test.", 7, &[srv("a.test.")]),
            ("_ntske._tcp.plain.test." | "_ntske._tcp.stripped.test.", RecordType::SRV) => unsigned(srv("a.test.")),
            ("plain.test.", RecordType::NS) => unsigned(RData::NS(NS(dns("ns.test.")))),
            ("_ntske._tcp.fail.test.", _) => return (ResponseCode::ServFail, vec![], vec![]),
            _ => vec![],
        };
        if !answers.is_empty() {
            return (ResponseCode::NoError, answers, vec![]);
        }
        let proof = match (owner, kind) {
            ("plain.test.", RecordType::DS) => NSEC::new_cover_self(dns("zz.test."), [RecordType::NS]),
            ("_ntske._tcp.proven.test.", _) => {
                NSEC::new_cover_self(rr::Name::root(), [RecordType::NS, RecordType::SOA, RecordType::DNSKEY])
            }
            // As if a resolver on the way had dropped it.
            _ => return (ResponseCode::NXDomain, vec![], unsigned_soa()),
        };
        let (at, code) =
            if kind == RecordType::DS { (owner, ResponseCode::NoError) } else { (".", ResponseCode::NXDomain) };
        let mut authorities = self.soa();
        authorities.extend(self.signed(at, 60, &[RData::DNSSEC(DNSSECRData::NSEC(proof))]));
        (code, vec![], authorities)
    }

    fn reply(&self, query: &[u8]) -> Vec<u8> {
        let query = Message::from_vec(query).unwrap();
        let question = query.queries[0].clone();
        let mut reply = Message::response(query.metadata.id, OpCode::Query);
        let (code, answers, authorities) =
            self.respond(&question.name().to_ascii().to_lowercase(), question.query_type());
        reply.add_query(question);
        reply.metadata.response_code = code;
        reply.metadata.recursion_available = true;
        reply.insert_answers(answers);
        reply.insert_authorities(authorities);
        let mut edns = Edns::new();
        edns.set_dnssec_ok(true).set_max_payload(4096);
        reply.set_edns(edns);
        reply.to_vec().unwrap()
    }
}

fn unsigned_soa() -> Vec<Record> {
    let soa = SOA::new(dns("ns.test."), dns("admin.test."), 1, 3600, 600, 86_400, 60);
    vec![Record::from_rdata(rr::Name::root(), 60, RData::SOA(soa))]
}

/// A resolver whose only name server is a task on loopback.
async fn world() -> (Resolver, JoinHandle<()>) {
    let (world, anchors) = World::new();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
            socket.send_to(&world.reply(&buffer[..length]), peer).await.unwrap();
        }
    });
    (Resolver::system().with_name_servers(vec![server], anchors), task)
}

#[test]
fn service_records_are_worth_what_dnssec_says_of_them() {
    block_on(async {
        let (resolver, task) = world().await;
        for (zone, expected) in [
            ("dot", Answer::NoRecord),
            ("none", Answer::NoRecord),
            ("proven", Answer::NoRecord),
            ("plain", Answer::Insecure),
            ("forged", Answer::Bogus),
            ("astray", Answer::Bogus),
            ("wild", Answer::NoRecord),
            ("other", Answer::NoRecord),
            ("stripped", Answer::Bogus),
            ("port", Answer::Failed(Failure::Resolver)),
            ("fail", Answer::Failed(Failure::Resolver)),
        ] {
            let owner = name(&format!("_ntske._tcp.{zone}.test"));
            let (answer, text) = resolver.services(&owner).await;
            assert_eq!(answer, expected, "{zone}: {text:?}");
            assert_eq!(text.is_none(), expected == Answer::NoRecord, "{zone}: {text:?}");
            assert!(text.is_none_or(|text| text.starts_with(owner.as_str())));
        }
        for zone in ["good", "alias"] {
            let before = now::monotonic();
            let (answer, text) = resolver.services(&name(&format!("_ntske._tcp.{zone}.test"))).await;
            let Answer::Services { mut records, until } = answer else { panic!("{zone}: {answer:?} {text:?}") };
            records.sort_by(|a, b| a.target.cmp(&b.target));
            let service = |target| Service { priority: 1, weight: 2, port: 4460, target: name(target) };
            assert_eq!(records, [service("a.test"), service("b.test")]);
            assert!(
                (60..70).contains(&until.since(before).as_secs()),
                "lives of 5 s and 7 s are too short to be heeded"
            );
        }
        task.abort();
    });
}

#[test]
fn without_name_servers_or_for_local_names_there_are_no_service_records() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let (hosts, resolv_conf) = (directory.path().join("hosts"), directory.path().join("resolv.conf"));
        let ask = |resolv_conf: &Path, owner: &str| {
            let servers = NameServers::files(resolv_conf.to_owned(), hosts.clone());
            let owner = name(owner);
            async move { servers.services(&owner).await.0 }
        };
        std::fs::write(&hosts, "192.0.2.1 time.test\n").unwrap();
        assert_eq!(ask(&resolv_conf, "_ntske._tcp.other.test").await, Answer::NoRecord);
        std::fs::write(&resolv_conf, "search test\n").unwrap();
        assert_eq!(ask(&resolv_conf, "_ntske._tcp.other.test").await, Answer::NoRecord);
        // Nobody listens at port 53 of this address.
        std::fs::write(&resolv_conf, "nameserver 127.2.3.4\n").unwrap();
        assert_eq!(ask(&resolv_conf, "_ntske._tcp.time.test").await, Answer::NoRecord);
        assert_eq!(ask(&resolv_conf, "_ntske._tcp.other.test").await, Answer::Failed(Failure::Resolver));

        let own = BTreeMap::from([(name("time.test"), vec![IpAddr::from([127, 0, 0, 1])])]);
        let resolver =
            Resolver::with_hosts(own).with_name_servers(vec!["127.2.3.4:53".parse().unwrap()], TrustAnchors::empty());
        assert_eq!(resolver.services(&name("_ntske._tcp.time.test")).await, (Answer::NoRecord, None));
    });
}

#[test]
fn addresses_come_from_literals_own_names_and_the_system() {
    block_on(async {
        let own = BTreeMap::from([
            (name("pool.demo"), vec![IpAddr::from([127, 0, 0, 2]), [127, 0, 0, 1].into(), [127, 0, 0, 2].into()]),
            (name("many.demo"), (0..99).map(|last| IpAddr::from([127, 0, 1, last])).collect()),
            (name("none.demo"), vec![]),
        ]);
        let resolver = Resolver::with_hosts(own);
        let found = async |text: &str| match resolver.addresses(&name(text), 4460).await {
            (Answer::Addresses { addresses, until }, None) => {
                assert!(until > now::monotonic());
                addresses
            }
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(found("192.0.2.1").await, ["192.0.2.1:4460".parse().unwrap()]);
        assert_eq!(found("pool.demo").await, ["127.0.0.2:4460".parse().unwrap(), "127.0.0.1:4460".parse().unwrap()]);
        assert_eq!(found("many.demo").await.len(), MAX_ADDRESSES);
        assert!(found("localhost").await.iter().all(|address| address.ip().is_loopback() && address.port() == 4460));
        let v6 = Name::from(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]));
        let (answer, _) = resolver.addresses(&v6, 4460).await;
        assert!(matches!(answer, Answer::Addresses { addresses, .. } if addresses[0].is_ipv6()));
        let (answer, text) = resolver.addresses(&name("none.demo"), 4460).await;
        assert_eq!(answer, Answer::NoRecord);
        assert!(text.unwrap().starts_with("none.demo: no such host"));
    });
}

#[test]
fn only_an_absent_name_is_told_apart_from_a_failure() {
    for (text, absent) in [
        ("failed to lookup address information: Name or service not known", true),
        ("failed to lookup address information: No address associated with hostname", true),
        ("failed to lookup address information: Name does not resolve", true),
        ("failed to lookup address information: Temporary failure in name resolution", false),
        ("failed to lookup address information: Non-recoverable failure in name resolution", false),
        ("failed to lookup address information: Try again", false),
        ("Too many open files (os error 24)", false),
    ] {
        assert_eq!(is_no_such_name(&io::Error::other(text)), absent, "{text}");
    }
}

/// This name can exist nowhere (RFC 6761); what is said of it depends on whether there is a network.
#[test]
fn a_name_that_does_not_exist_has_no_addresses() {
    let (answer, text) = block_on(Resolver::system().addresses(&name("no-such-host.invalid"), 123));
    assert!(matches!(answer, Answer::NoRecord | Answer::Failed(Failure::Resolver)), "{answer:?}");
    assert!(text.unwrap().starts_with("no-such-host.invalid: "));
}
