use std::path::Path;

use hickory_resolver::proto::{
    dnssec::{
        Algorithm, DnssecSigner, PublicKeyBuf, SigningKey as _, TBS,
        crypto::EcdsaSigningKey,
        rdata::{DNSKEY, DNSSECRData, NSEC, RRSIG, SigInput},
    },
    op::{Edns, Message, OpCode, ResponseCode},
    rr::{
        self, DNSClass, RData, Record, RecordSet, RecordType,
        rdata::{A, CNAME, NS, SOA, SRV, TLSA},
    },
};
use ntp_proto::pool::Service;
use nts_ke::dane::{self, Unusable};
use tokio::{net::UdpSocket, runtime::Runtime, task::JoinHandle};

use super::*;

mod dates;
mod hints;
mod transport;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn dns(text: &str) -> rr::Name {
    rr::Name::from_ascii(text).unwrap()
}

/// At the time of this machine.
fn today() -> Judgement {
    Judgement::At(now::unix())
}

async fn services(resolver: &Resolver, owner: &Name, judgement: Judgement) -> (Answer, Option<String>) {
    let ServiceAnswer { answer, problem, .. } = resolver.services(owner, judgement).await;
    (answer, problem)
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
    /// The trust anchor, for keys alone.
    key_signer: DnssecSigner,
    signer: DnssecSigner,
    /// Claims of every answer about a name with `good` in it that it was validated, unless nobody wants it validated.
    claims: bool,
    /// Gives signatures and proofs only to those who validate themselves, as systemd-resolved does.
    withholds: bool,
    /// Validates, by a clock at which nothing is valid, for whoever does not ask it not to.
    refuses: bool,
    /// What it says of the certificate of `localhost` at a port.
    certificate: Option<(u16, TLSA)>,
    /// When signatures of keys begin and end, in Unix seconds. There may be several.
    keys_live: Vec<[u64; 2]>,
    /// The same for other records.
    lives: Vec<[u64; 2]>,
    /// The same for service records, if it is another time.
    services_live: Option<[u64; 2]>,
}

/// Signatures here last from 2024 for thirty years, unless a test has them otherwise.
const LIFE: [u64; 2] = [1_704_067_200, 1_704_067_200 + 30 * 365 * 86_400];

fn signer() -> (DnssecSigner, PublicKeyBuf) {
    let pkcs8 = EcdsaSigningKey::generate_pkcs8(Algorithm::ECDSAP256SHA256).unwrap();
    let key = EcdsaSigningKey::from_pkcs8(&pkcs8, Algorithm::ECDSAP256SHA256).unwrap();
    let public = key.to_public_key().unwrap();
    let signer = DnssecSigner::new(DNSKEY::from_key(&public), Box::new(key), rr::Name::root(), Duration::ZERO);
    (signer, public)
}

impl World {
    fn new() -> (Self, TrustAnchors) {
        let ((key_signer, anchor), (signer, _)) = (signer(), signer());
        let mut anchors = TrustAnchors::empty();
        anchors.insert(&anchor);
        let world = Self {
            key_signer,
            signer,
            claims: false,
            withholds: false,
            refuses: false,
            certificate: None,
            keys_live: vec![LIFE],
            lives: vec![LIFE],
            services_live: None,
        };
        (world, anchors)
    }

    /// Records of one name and type, and the signature.
    fn signed(&self, owner: &str, ttl: u32, all: &[RData]) -> Vec<Record> {
        let mut set = RecordSet::with_ttl(dns(owner), all[0].record_type(), ttl);
        for data in all {
            set.add_rdata(data.clone());
        }
        let signer = if set.record_type() == RecordType::DNSKEY { &self.key_signer } else { &self.signer };
        let services = self.services_live.as_slice();
        #[expect(clippy::wildcard_enum_match_arm, reason = "there are dozens of types")]
        let lives = match set.record_type() {
            RecordType::DNSKEY => &self.keys_live,
            RecordType::SRV if !services.is_empty() => services,
            _ => &self.lives,
        };
        let mut records: Vec<_> = set.records_without_rrsigs().cloned().collect();
        records.extend(lives.iter().map(|life| {
            let [begin, end] = life.map(|seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds));
            let input = SigInput::from_rrset(&set, end, begin, signer).unwrap();
            let signed = TBS::from_input(set.name(), DNSClass::IN, &input, set.records_without_rrsigs()).unwrap();
            let signature = RRSIG::from_sig(input, signer.sign(&signed).unwrap());
            Record::from_rdata(dns(owner), ttl, RData::DNSSEC(DNSSECRData::RRSIG(signature)))
        }));
        records
    }

    fn soa(&self) -> Vec<Record> {
        let soa = SOA::new(dns("ns.test."), dns("admin.test."), 1, 3600, 600, 86_400, 60);
        self.signed(".", 60, &[RData::SOA(soa)])
    }

    /// What there is about certificates and addresses; `None` if the server fails.
    fn hosts(&self, owner: &str, kind: RecordType) -> Option<Vec<Record>> {
        let tlsa = |usage: u8, data| RData::TLSA(TLSA::new(usage.into(), 1.into(), 1.into(), data));
        let address = || RData::A(A([192, 0, 2, 1].into()));
        let unsigned = |data: RData| vec![Record::from_rdata(dns(owner), 300, data)];
        if let (Some((port, tlsa)), RecordType::TLSA) = (&self.certificate, kind)
            && owner == format!("_{port}._tcp.localhost.")
        {
            return Some(self.signed(owner, 300, &[RData::TLSA(tlsa.clone())]));
        }
        if let (Some((port, _)), "_ntske._tcp.pool.test.", RecordType::SRV) = (&self.certificate, owner, kind) {
            let records = [(2, 1, "nowhere.test."), (1, 0, "localhost.")];
            let srv = |(priority, port, target): (u16, u16, &str)| RData::SRV(SRV::new(priority, 1, port, dns(target)));
            let records =
                records.map(|(priority, other, target)| (priority, if other == 0 { *port } else { other }, target));
            return Some(self.signed(owner, 300, &records.map(srv)));
        }
        Some(match (owner, kind) {
            ("_4460._tcp.good.test.", RecordType::TLSA) => {
                self.signed(owner, 300, &[tlsa(3, vec![7; 32]), tlsa(9, vec![7; 32]), tlsa(2, vec![7; 31])])
            }
            ("_4460._tcp.alias.test.", RecordType::TLSA) => {
                let mut records = self.signed(owner, 5, &[RData::CNAME(CNAME(dns("_4460._tcp.good.test.")))]);
                records.extend(self.signed("_4460._tcp.good.test.", 70, &[tlsa(3, vec![7; 32])]));
                records
            }
            ("_4460._tcp.forged.test." | "_4460._tcp.forgery.test.", RecordType::TLSA) => {
                let mut records = self.signed(owner, 300, &[tlsa(3, vec![7; 32])]);
                records[0].data = tlsa(3, vec![8; 32]);
                records
            }
            ("_4460._tcp.plain.test." | "_4460._tcp.stripped.test.", RecordType::TLSA) => {
                unsigned(tlsa(3, vec![7; 32]))
            }
            ("_4460._tcp.fail.test." | "_4460._tcp.failing.plain.test.", RecordType::TLSA) => {
                return None;
            }
            ("forged.test." | "fail.test." | "dropped.test." | "denied.test.", RecordType::A) => {
                self.signed(owner, 300, &[address()])
            }
            ("good.test." | "failing.plain.test." | "dropped.plain.test.", RecordType::A) => unsigned(address()),
            _ => vec![],
        })
    }

    /// Answer and authority sections.
    fn respond(&self, owner: &str, kind: RecordType) -> (ResponseCode, Vec<Record>, Vec<Record>) {
        let srv = |target: &str| RData::SRV(SRV::new(1, 2, 4460, dns(target)));
        let unsigned = |data: RData| vec![Record::from_rdata(dns(owner), 300, data)];
        let answers = match (owner, kind) {
            (".", RecordType::DNSKEY) => {
                let keys = [&self.key_signer, &self.signer];
                let records = keys.map(|signer| RData::DNSSEC(DNSSECRData::DNSKEY(signer.to_dnskey())));
                self.signed(".", 300, &records)
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
            _ => match self.hosts(owner, kind) {
                Some(answers) => answers,
                None => return (ResponseCode::ServFail, vec![], vec![]),
            },
        };
        if !answers.is_empty() {
            return (ResponseCode::NoError, answers, vec![]);
        }
        let proof = match (owner, kind) {
            ("plain.test.", RecordType::DS) => NSEC::new_cover_self(dns("zz.test."), [RecordType::NS]),
            ("_ntske._tcp.proven.test." | "_4460._tcp.proven.test.", _) => {
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

    /// `None` if somebody on the way drops the query.
    fn reply(&self, query: &[u8]) -> Option<Vec<u8>> {
        let query = Message::from_vec(query).unwrap();
        let question = query.queries[0].clone();
        if question.query_type() == RecordType::TLSA && question.name().to_ascii().contains("dropped") {
            return None;
        }
        let mut reply = Message::response(query.metadata.id, OpCode::Query);
        let checked = !query.metadata.checking_disabled;
        let (code, mut answers, mut authorities) = if self.refuses && checked {
            (ResponseCode::ServFail, vec![], vec![])
        } else {
            self.respond(&question.name().to_ascii().to_lowercase(), question.query_type())
        };
        if self.withholds && checked {
            for section in [&mut answers, &mut authorities] {
                section.retain(|record| !matches!(record.record_type(), RecordType::RRSIG | RecordType::NSEC));
            }
        }
        reply.add_query(question.clone());
        reply.metadata.response_code = code;
        reply.metadata.recursion_available = true;
        reply.metadata.authentic_data = self.claims && checked && question.name().to_ascii().contains("good");
        reply.insert_answers(answers);
        reply.insert_authorities(authorities);
        let mut edns = Edns::new();
        edns.set_dnssec_ok(true).set_max_payload(4096);
        reply.set_edns(edns);
        Some(reply.to_vec().unwrap())
    }
}

fn unsigned_soa() -> Vec<Record> {
    let soa = SOA::new(dns("ns.test."), dns("admin.test."), 1, 3600, 600, 86_400, 60);
    vec![Record::from_rdata(rr::Name::root(), 60, RData::SOA(soa))]
}

/// A resolver for which DNSSEC vouches for a certificate of `localhost` at a port, and for service records of `pool.test`
/// that lead there. Everything is signed from 2024 on, and the service records a day later.
pub(crate) async fn vouching(port: u16, usage: u8, certificate: &[u8]) -> Resolver {
    let (mut world, anchors) = World::new();
    world.services_live = Some([LIFE[0] + 86_400, LIFE[1]]);
    world.certificate = Some((port, TLSA::new(usage.into(), 0.into(), 0.into(), certificate.to_vec())));
    let (server, _) = serve(world).await;
    Resolver::system().with_name_servers(vec![server], anchors)
}

/// A resolver whose only name server is a task on loopback.
async fn world() -> (Resolver, JoinHandle<()>) {
    let (world, anchors) = World::new();
    let (server, task) = serve(world).await;
    (Resolver::system().with_name_servers(vec![server], anchors), task)
}

async fn serve(world: World) -> (SocketAddr, JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
            if let Some(reply) = world.reply(&buffer[..length]) {
                socket.send_to(&reply, peer).await.unwrap();
            }
        }
    });
    (server, task)
}

#[test]
fn service_records_are_worth_what_dnssec_says_of_them() {
    block_on(async {
        let (resolver, task) = world().await;
        for (zone, expected) in [
            ("dot", Answer::NoRecord),
            ("none", Answer::NoRecord),
            // Of its host there are signed addresses.
            ("denied", Answer::Bogus),
            ("failing.plain", Answer::NoRecord),
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
            let (answer, text) = services(&resolver, &owner, today()).await;
            assert_eq!(answer, expected, "{zone}: {text:?}");
            assert_eq!(text.is_none(), expected == Answer::NoRecord, "{zone}: {text:?}");
            assert!(text.is_none_or(|text| text.starts_with(owner.as_str())));
        }
        // Plain NTP needs nobody's word.
        let denied = resolver.plain_services(&name("_ntp._udp.denied.test"), today()).await;
        assert_eq!(denied, (Answer::NoRecord, None));
        for zone in ["good", "alias"] {
            let before = now::monotonic();
            let (answer, text) = services(&resolver, &name(&format!("_ntske._tcp.{zone}.test")), today()).await;
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
            let servers = NameServers::files(resolv_conf.to_owned(), hosts.clone(), Validation::Here(Arc::default()));
            let owner = name(owner);
            async move { services::services(&servers, &owner, Wanted::Secure, today()).await.answer }
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
        assert_eq!(services(&resolver, &name("_ntske._tcp.time.test"), today()).await, (Answer::NoRecord, None));
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
        let found = async |text: &str| match resolver.addresses(&name(text), 4460, today()).await {
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
        let (answer, _) = resolver.addresses(&v6, 4460, today()).await;
        assert!(matches!(answer, Answer::Addresses { addresses, .. } if addresses[0].is_ipv6()));
        let (answer, text) = resolver.addresses(&name("none.demo"), 4460, today()).await;
        assert_eq!(answer, Answer::NoRecord);
        assert!(text.unwrap().starts_with("none.demo: no such host"));
    });
}

#[test]
fn addresses_come_from_name_servers_where_the_system_is_left_out() {
    block_on(async {
        let (resolver, task) = world().await;
        let resolver = resolver.without_system();
        let at = "192.0.2.1:123".parse().unwrap();
        // The second of them is signed, the first lies in a zone that is not.
        for host in ["failing.plain.test", "forged.test", "192.0.2.1"] {
            let (answer, text) = resolver.addresses(&name(host), 123, today()).await;
            assert!(
                matches!(&answer, Answer::Addresses { addresses, .. } if addresses[..] == [at]),
                "{answer:?} {text:?}"
            );
        }
        for (host, expected, words) in [
            ("good.test", Answer::Failed(Failure::Resolver), "not those that DNSSEC vouches for"),
            ("_ntske._tcp.fail.test", Answer::Failed(Failure::Resolver), "cannot be resolved"),
            ("localhost", Answer::NoRecord, "no such host"),
        ] {
            let (answer, text) = resolver.addresses(&name(host), 123, today()).await;
            assert_eq!(answer, expected, "{host}: {text:?}");
            assert!(text.as_ref().is_some_and(|text| text.contains(words)), "{host}: {text:?}");
        }
        task.abort();
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
    let (answer, text) = block_on(Resolver::system().addresses(&name("no-such-host.invalid"), 123, today()));
    assert!(matches!(answer, Answer::NoRecord | Answer::Failed(Failure::Resolver)), "{answer:?}");
    assert!(text.unwrap().starts_with("no-such-host.invalid: "));
}

#[test]
fn tlsa_records_are_worth_what_dnssec_says_of_them() {
    block_on(async {
        let (resolver, task) = world().await;
        let record = || dane::Tlsa::new(3, 1, 1, vec![7; 32]).unwrap();
        let secure = |unusable| TlsaAnswer::Secure { records: vec![record()], unusable, signatures: None };
        let unusable = vec![Unusable::Usage(9), Unusable::Data];
        let bogus = |why: &str| TlsaAnswer::Bogus(why.to_owned());
        let broken = "they are forged or broken";
        for (host, expected) in [
            ("good.test", secure(unusable)),
            ("alias.test", secure(vec![])),
            ("proven.test", TlsaAnswer::Absent),
            ("plain.test", TlsaAnswer::Insecure),
            ("failing.plain.test", TlsaAnswer::Insecure),
            ("forged.test", bogus(broken)),
            // As far as can be told, somebody on the way drops all signatures.
            ("stripped.test", TlsaAnswer::Unknown(broken.to_owned())),
            ("192.0.2.1", TlsaAnswer::Insecure),
        ] {
            let found = resolver.tlsa(&name(host), 4460, today()).await;
            assert_eq!(sorted(found), sorted(expected), "{host}");
        }
        let failing = resolver.tlsa(&name("fail.test"), 4460, today()).await;
        assert!(matches!(&failing, TlsaAnswer::Bogus(why) if !why.is_empty()), "{failing:?}");
        task.abort();
    });
}

/// Whoever drops the question for a certificate gains nothing where the zone is known to be signed.
#[test]
fn tlsa_records_that_are_kept_back_are_missed_where_the_zone_is_signed() {
    block_on(async {
        let (resolver, task) = world().await;
        let ask = async |host| resolver.tlsa(&name(host), 4460, today()).await;
        let (signed, plain, stripped) =
            tokio::join!(ask("dropped.test"), ask("dropped.plain.test"), ask("dropped.stripped.test"));
        assert!(matches!(&signed, TlsaAnswer::Bogus(why) if !why.is_empty()), "{signed:?}");
        assert_eq!(plain, TlsaAnswer::Insecure);
        // Its addresses have no signatures either: as far as can be told, somebody drops all of them.
        assert!(matches!(&stripped, TlsaAnswer::Unknown(why) if !why.is_empty()), "{stripped:?}");
        task.abort();
    });
}

fn sorted(mut answer: TlsaAnswer) -> TlsaAnswer {
    if let TlsaAnswer::Secure { unusable, signatures, .. } = &mut answer {
        unusable.sort_by_key(ToString::to_string);
        *signatures = None;
    }
    answer
}

#[test]
fn resolvers_are_told_that_we_validate() {
    block_on(async {
        let (mut world, anchors) = World::new();
        world.withholds = true;
        let (server, task) = serve(world).await;
        let resolver = Resolver::system().with_name_servers(vec![server], anchors);
        let (answer, text) = services(&resolver, &name("_ntske._tcp.good.test"), today()).await;
        assert!(matches!(answer, Answer::Services { .. }), "{answer:?} {text:?}");
        assert_eq!(services(&resolver, &name("_ntske._tcp.proven.test"), today()).await.0, Answer::NoRecord);
        assert_eq!(resolver.tlsa(&name("good.test"), 4460, today()).await.records().len(), 1);
        task.abort();
    });
}

#[test]
fn resolvers_that_are_named_know_addresses_that_the_system_does_not() {
    block_on(async {
        let (world, _) = World::new();
        let (server, task) = serve(world).await;
        // Its keys are nobody's anchor: it is believed.
        let dnssec = DnssecUse::TrustResolver;
        let settings = TrustSettings { dnssec, resolvers: vec![server], ..TrustSettings::default() };
        let named = Resolver::new(&settings).unwrap();
        let at = "192.0.2.1:123".parse().unwrap();
        let (answer, text) = named.addresses(&name("failing.plain.test"), 123, today()).await;
        assert!(matches!(&answer, Answer::Addresses { addresses, .. } if addresses[..] == [at]), "{answer:?} {text:?}");
        // What neither knows is told in the system's words.
        let (answer, text) = named.addresses(&name("nobody.plain.test"), 123, today()).await;
        assert!(!matches!(answer, Answer::Addresses { .. }) && text.is_some(), "{answer:?} {text:?}");
        // `/etc/hosts` comes first.
        let (answer, _) = named.addresses(&name("localhost"), 123, today()).await;
        assert!(matches!(answer, Answer::Addresses { .. }), "{answer:?}");
        task.abort();
    });
}

#[test]
fn a_resolver_is_believed_only_where_that_is_wanted() {
    block_on(async {
        let (mut world, _) = World::new();
        world.claims = true;
        let (server, task) = serve(world).await;
        let settings =
            |dnssec, server: SocketAddr| TrustSettings { dnssec, resolvers: vec![server], ..TrustSettings::default() };
        let believing = Resolver::new(&settings(DnssecUse::TrustResolver, server)).unwrap();
        let owner = name("_ntske._tcp.good.test");
        assert!(matches!(services(&believing, &owner, today()).await.0, Answer::Services { .. }));
        let forged = name("_ntske._tcp.forged.test");
        assert_eq!(services(&believing, &forged, today()).await.0, Answer::Insecure, "nobody claims anything of it");
        assert!(matches!(believing.plain_services(&forged, today()).await.0, Answer::Services { .. }));
        assert_eq!(believing.tlsa(&name("good.test"), 4460, today()).await.records().len(), 1);
        assert_eq!(believing.tlsa(&name("good.test"), 4461, today()).await, TlsaAnswer::Absent);
        assert_eq!(believing.tlsa(&name("forged.test"), 4460, today()).await, TlsaAnswer::Insecure);
        let validating = Resolver::new(&settings(DnssecUse::Validate, server)).unwrap();
        assert_eq!(services(&validating, &owner, today()).await.0, Answer::Bogus, "its key is nobody's anchor");

        // A name server of the system that is elsewhere is not believed, whatever it says.
        let directory = tempfile::tempdir().unwrap();
        let (hosts, resolv_conf) = (directory.path().join("hosts"), directory.path().join("resolv.conf"));
        std::fs::write(&resolv_conf, "nameserver 192.0.2.53\n").unwrap();
        let elsewhere = NameServers::files(resolv_conf, hosts, Validation::Elsewhere);
        let ServiceAnswer { answer, problem: text, .. } =
            services::services(&elsewhere, &owner, Wanted::Secure, today()).await;
        assert_eq!(answer, Answer::Failed(Failure::Resolver));
        assert!(text.unwrap().contains("`resolver` in `[trust]`"));
        task.abort();
    });
}
