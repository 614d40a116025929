#![expect(clippy::wildcard_enum_match_arm, reason = "the enums of records are long")]

use std::{collections::BTreeSet, path::Path};

use hickory_proto::{
    dnssec::{Verifier as _, rdata::DNSSECRData},
    op::{Edns as HickoryEdns, Message, OpCode, Query as Question, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::opt::{ClientSubnet, EdnsCode, EdnsOption},
    },
};
use proptest::prelude::*;

use super::*;
use crate::{
    directory::{Directory, Health, parse},
    publish::{Data, Signer, Window, ZoneKey, ZoneSettings},
};

mod rules;

const NOW: u64 = 1_800_000_000;
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));

const MEMBERS: &str = r#"
[[region]]
name = "europe"
prefixes = ["192.0.2.0/24"]

[[member]]
name = "ke1.time.example"
addresses = ["192.0.2.1", "2001:db8::1"]
tlsa = ["3 1 1 abababababababababababababababababababababababababababababababab"]
[[member]]
name = "Elsewhere.example.NET"
port = 4446
weight = 30
[[member]]
name = "spare.example.org"
priority = 7
"#;

fn settings(name: &str, targets: usize) -> ZoneSettings {
    let parsed = |text: &str| ntp_proto::pool::Name::parse(text).unwrap();
    ZoneSettings {
        name: parsed(name),
        name_servers: vec![
            (parsed(&format!("ns1.{name}")), vec!["192.0.2.53".parse().unwrap(), "2001:db8::53".parse().unwrap()]),
            (parsed("ns.other.example"), Vec::new()),
        ],
        addresses: vec!["192.0.2.80".parse().unwrap()],
        contact: parsed(&format!("hostmaster.{name}")),
        targets,
        ttl: 300,
        negative_ttl: 60,
        cds: true,
        list: false,
        transfer_keys: Vec::new(),
        members: "members.toml".into(),
    }
}

fn key() -> Arc<ZoneKey> {
    let text = ZoneKey::generate().unwrap();
    Arc::new(ZoneKey::from_pem(Path::new("key"), text.as_bytes()).unwrap())
}

fn served(settings: &ZoneSettings, directory: &Arc<Directory>) -> Served {
    let key = key();
    let window = Window { inception: NOW - 86_400, expiration: NOW + 86_400 };
    let signer = Signer::new(Arc::clone(&key), settings.origin(), window);
    let zone = Zone::build(settings, directory, &[key], signer, 1).unwrap();
    Served { zone: Arc::new(zone), candidates: Arc::new(Candidates::new(directory, |_| Health::Up)) }
}

struct Server {
    responder: Responder,
    counters: Arc<Counters>,
    peer: IpAddr,
    transport: Transport,
    seconds: u64,
}

impl Server {
    fn new(settings: &ZoneSettings, members: &str) -> Self {
        Self::with(settings, members, LimitSettings { rate: 0, slip: 0 })
    }

    fn with(settings: &ZoneSettings, members: &str, limit: LimitSettings) -> Self {
        let directory = parse(Path::new("members.toml"), members).unwrap();
        let state = Arc::new(State { zones: vec![served(settings, &directory)], ..State::default() });
        let counters = Arc::new(Counters::default());
        let secret = crate::publish::CookieSecret::new([3; 16]);
        let responder = Responder::new(state, limit, 1, secret, Arc::clone(&counters));
        Self { responder, counters, peer: PEER, transport: Transport::Udp, seconds: 0 }
    }

    fn raw(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let monotonic = Monotonic::default() + core::time::Duration::from_secs(self.seconds);
        let moment = Moment { monotonic, unix: NOW + self.seconds };
        self.responder.respond(message, self.peer, self.transport, moment, &mut out).then_some(out)
    }

    fn ask(&mut self, message: &Message) -> Message {
        let answer = self.raw(&message.to_vec().unwrap()).unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!((answer.id, &answer.queries), (message.id, &message.queries));
        answer
    }

    fn signed(&mut self, name: &str, kind: RecordType) -> Message {
        let answer = self.ask(&query(name, kind, true));
        self.verify(&answer);
        answer
    }

    /// Each set of an answer has a signature, and it is good.
    fn verify(&self, answer: &Message) {
        let served = &self.responder.state.zones[0];
        let Data::Wire(_, data) = &served.zone.signer_key() else { panic!() };
        let rdata = RData::try_from_bytes(RecordType::DNSKEY, data);
        let RData::DNSSEC(DNSSECRData::DNSKEY(key)) = rdata else { panic!("{rdata:?}") };
        for section in [&answer.answers, &answer.authorities, &answer.additionals] {
            let sets: BTreeSet<(Name, RecordType)> = section
                .iter()
                .map(|record| (record.name.clone(), record.record_type()))
                .filter(|(_, kind)| *kind != RecordType::RRSIG)
                .collect();
            for (name, kind) in sets {
                let set: Vec<&Record> = section.iter().filter(|r| r.name == name && r.record_type() == kind).collect();
                let signature = section.iter().find_map(|record| match &record.data {
                    RData::DNSSEC(DNSSECRData::RRSIG(rrsig))
                        if record.name == name && rrsig.input().type_covered == kind =>
                    {
                        assert_eq!(record.ttl, set[0].ttl);
                        Some(rrsig)
                    }
                    _ => None,
                });
                let signature = signature.unwrap_or_else(|| panic!("{name} {kind} has no signature: {answer}"));
                assert!(signature.input().sig_inception.get() < NOW as u32);
                assert!(signature.input().sig_expiration.get() > NOW as u32);
                key.verify_rrsig(&name, hickory_proto::rr::DNSClass::IN, signature, set.into_iter())
                    .unwrap_or_else(|error| panic!("{name} {kind}: {error}"));
            }
        }
    }
}

trait FromBytes {
    fn try_from_bytes(kind: RecordType, data: &[u8]) -> RData;
}

impl FromBytes for RData {
    fn try_from_bytes(kind: RecordType, data: &[u8]) -> RData {
        // A message with one record is the simplest way to have data decoded.
        let mut message = vec![0, 0, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
        message.extend(u16::from(kind).to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 0]);
        message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        message.extend(data);
        Message::from_vec(&message).unwrap().answers.remove(0).data
    }
}

fn query(name: &str, kind: RecordType, dnssec: bool) -> Message {
    let mut message = Message::query();
    message.add_query(Question::query(Name::from_ascii(name).unwrap(), kind));
    if dnssec {
        let mut edns = HickoryEdns::new();
        edns.set_dnssec_ok(true).set_max_payload(4_096);
        message.set_edns(edns);
    }
    message
}

fn targets(answer: &Message) -> Vec<(u16, u16, u16, String)> {
    let target = |record: &Record| match &record.data {
        RData::SRV(srv) => Some((srv.priority, srv.weight, srv.port, srv.target.to_string())),
        _ => None,
    };
    answer.answers.iter().filter_map(target).collect()
}

fn pool() -> Server {
    Server::new(&settings("time.example", 6), MEMBERS)
}

const SERVICE_NAME: &str = "_ntske._tcp.time.example.";

#[test]
fn service_records_are_signed_with_priorities_weights_and_ports() {
    let mut server = pool();
    let answer = server.signed(SERVICE_NAME, RecordType::SRV);
    assert!(answer.authoritative && !answer.truncation && answer.response_code == ResponseCode::NoError);
    assert_eq!(answer.edns.as_ref().unwrap().max_payload(), 1_232);
    let mut found = targets(&answer);
    found.sort();
    let wanted = [
        (0, 10, 4_460, "ke1.time.example."),
        (0, 30, 4_446, "elsewhere.example.net."),
        (7, 10, 4_460, "spare.example.org."),
    ];
    assert_eq!(found, wanted.map(|(p, w, port, name)| (p, w, port, name.to_owned())));
    assert!(answer.answers.iter().all(|record| record.ttl == 300));
    // Without EDNS nothing is signed.
    let plain = server.ask(&query(SERVICE_NAME, RecordType::SRV, false));
    assert_eq!((plain.answers.len(), plain.edns), (3, None));
    assert_eq!(server.counters.get(Count::Srv), 2);
}

#[test]
fn everything_else_the_zone_holds_is_signed_too() {
    let mut server = pool();
    for (name, kind, count) in [
        ("time.example.", RecordType::SOA, 1),
        ("time.example.", RecordType::NS, 2),
        ("time.example.", RecordType::A, 1),
        ("time.example.", RecordType::DNSKEY, 1),
        ("time.example.", RecordType::CDS, 1),
        ("time.example.", RecordType::CDNSKEY, 1),
        ("time.example.", RecordType::NSEC, 1),
        ("ns1.time.example.", RecordType::AAAA, 1),
        ("ke1.time.example.", RecordType::A, 1),
        ("_4460._tcp.ke1.time.example.", RecordType::TLSA, 1),
    ] {
        let answer = server.signed(name, kind);
        let found = answer.answers.iter().filter(|record| record.record_type() == kind).count();
        assert_eq!((found, answer.response_code), (count, ResponseCode::NoError), "{name} {kind}");
    }
    // The addresses of our own name server come along.
    let answer = server.signed("time.example.", RecordType::NS);
    assert_eq!(answer.additionals.iter().filter(|r| r.name.to_string() == "ns1.time.example.").count(), 4);
    // RFC 8482: one set stands for all.
    let any = server.signed("time.example.", RecordType::ANY);
    assert_eq!(any.answers.len(), 2);
    let any = server.signed(SERVICE_NAME, RecordType::ANY);
    assert_eq!(any.answers.len(), 4);
    let signatures = server.ask(&query(SERVICE_NAME, RecordType::RRSIG, true));
    assert_eq!(signatures.answers.len(), 1);
}

/// What the proofs of an answer say: whether one matches the name, or else covers it and its wildcard.
fn proofs(answer: &Message) -> Vec<(Name, Name, Vec<RecordType>)> {
    let proof = |record: &Record| match &record.data {
        RData::DNSSEC(DNSSECRData::NSEC(nsec)) => {
            Some((record.name.clone(), nsec.next_domain_name().clone(), nsec.type_bit_maps().collect()))
        }
        _ => None,
    };
    answer.authorities.iter().filter_map(proof).collect()
}

fn covers((owner, next, _): &(Name, Name, Vec<RecordType>), name: &Name) -> bool {
    // The last one leads back to the first.
    owner < name && (name < next || next <= owner)
}

#[test]
fn absence_of_types_is_proved() {
    let mut server = pool();
    for (name, kind) in [
        ("time.example.", RecordType::TXT),
        ("time.example.", RecordType::DS),
        (SERVICE_NAME, RecordType::A),
        ("ke1.time.example.", RecordType::TLSA),
        ("ns1.time.example.", RecordType::SRV),
    ] {
        let answer = server.signed(name, kind);
        assert_eq!((answer.response_code, answer.answers.len()), (ResponseCode::NoError, 0), "{name} {kind}");
        let proofs = proofs(&answer);
        assert_eq!(proofs.len(), 1, "{answer}");
        assert_eq!(proofs[0].0, Name::from_ascii(name).unwrap());
        assert!(!proofs[0].2.contains(&kind) && proofs[0].2.contains(&RecordType::NSEC));
        let soa = answer.authorities.iter().find(|record| record.record_type() == RecordType::SOA).unwrap();
        assert_eq!(soa.ttl, 60);
    }
    let answer = server.signed(SERVICE_NAME, RecordType::A);
    assert!(proofs(&answer)[0].2.contains(&RecordType::SRV));
}

#[test]
fn names_between_others_are_proved_empty() {
    let mut server = pool();
    for name in ["_tcp.time.example.", "_tcp.ke1.time.example."] {
        let answer = server.signed(name, RecordType::A);
        assert_eq!(answer.response_code, ResponseCode::NoError);
        let name = Name::from_ascii(name).unwrap();
        let [proof] = &proofs(&answer)[..] else { panic!("{answer}") };
        assert!(covers(proof, &name) && name.zone_of(&proof.1), "{answer}");
    }
}

proptest! {
    #[test]
    fn absence_of_names_is_proved(labels in prop::collection::vec("[a-z0-9_]{1,8}", 1..4), place in 0_usize..5) {
        let mut server = pool();
        let parent = ["", "ke1.", "_tcp.", "_ntske._tcp.", "zz.ns1."][place];
        let name = format!("{}.{parent}time.example.", labels.join("."));
        let answer = server.signed(&name, RecordType::TLSA);
        let exists = ["ke1.time.example.", "ns1.time.example."].contains(&name.as_str());
        prop_assume!(!exists && answer.response_code == ResponseCode::NXDomain);
        let proofs = proofs(&answer);
        let name = Name::from_ascii(&name).unwrap();
        prop_assert!(proofs.iter().any(|proof| covers(proof, &name)), "{answer}");
        // The wildcard at the closest name that is there.
        let there = |name: &Name| {
            ["time.example.", "_tcp.time.example.", "_ntske._tcp.time.example.", "ke1.time.example.",
                "_tcp.ke1.time.example.", "_4460._tcp.ke1.time.example.", "ns1.time.example."]
                .contains(&name.to_string().as_str())
        };
        let mut closest = name.base_name();
        while !there(&closest) {
            closest = closest.base_name();
        }
        let wildcard = closest.prepend_label("*").unwrap();
        prop_assert!(proofs.iter().any(|proof| covers(proof, &wildcard)), "{wildcard} {answer}");
        let plain = server.ask(&query(&name.to_string(), RecordType::TLSA, false));
        prop_assert_eq!(plain.response_code, ResponseCode::NXDomain);
        prop_assert_eq!(plain.authorities.len(), 1);
    }
}

#[test]
fn what_is_not_ours_is_refused() {
    let mut server = pool();
    let mut code = |message: &Message| server.ask(message).response_code;
    assert_eq!(code(&query("example.", RecordType::SOA, true)), ResponseCode::Refused);
    assert_eq!(code(&query("xtime.example.", RecordType::SOA, false)), ResponseCode::Refused);
    assert_eq!(code(&query("time.example.", RecordType::AXFR, false)), ResponseCode::Refused);
    assert_eq!(code(&query("time.example.", RecordType::IXFR, false)), ResponseCode::Refused);
    let mut chaos = query("version.bind.", RecordType::TXT, false);
    chaos.queries[0].set_query_class(hickory_proto::rr::DNSClass::CH);
    assert_eq!(code(&chaos), ResponseCode::Refused);
    let mut later = query("time.example.", RecordType::SOA, true);
    later.edns.as_mut().unwrap().set_version(1);
    assert_eq!(u16::from(code(&later)), 16); // BADVERS
    for (op, wanted) in [(OpCode::Update, ResponseCode::NotImp), (OpCode::Notify, ResponseCode::NotImp)] {
        let mut message = query("time.example.", RecordType::SOA, false);
        message.metadata.op_code = op;
        let answer = server.raw(&message.to_vec().unwrap()).unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!((answer.id, answer.op_code, answer.response_code), (message.id, op, wanted));
    }
    let mut message = query("time.example.", RecordType::SOA, false).to_vec().unwrap();
    message[2] |= 0x80;
    assert_eq!(server.raw(&message), None);
}

#[test]
fn names_are_found_in_any_case_and_come_back_as_they_were_sent() {
    let mut server = pool();
    let answer = server.signed("_NTSKE._tCp.TiMe.EXAMPLE.", RecordType::SRV);
    assert!(answer.answers.iter().all(|record| record.name.to_string() == "_NTSKE._tCp.TiMe.EXAMPLE."));
}

/// Many members, with names of this length.
fn many(count: usize, len: usize, more: &str) -> String {
    let name = |n: usize| {
        let mut name = format!("{n:04}");
        while name.len() + 9 < len {
            name.push_str(if name.len() % 60 == 59 { ".a" } else { "a" });
        }
        format!("[[member]]\nname = \"{name}.example\"\nweight = {}\n{more}\n", n % 97 + 1)
    };
    (0..count).map(name).collect()
}

#[test]
fn answers_fit_into_a_packet_however_many_members_there_are() {
    for (members, len, zone, fewest) in [
        (5_000, 27, "time.example".to_owned(), 8),
        (5_000, 60, "time.example".to_owned(), 5),
        (100, 120, "time.example".to_owned(), 4),
        (100, 250, "time.example".to_owned(), 3),
        (100, 250, format!("{0}.{0}.{0}.example", "z".repeat(60)), 1),
    ] {
        let mut server = Server::new(&settings(&zone, 8), &many(members, len, ""));
        let name = format!("_ntske._tcp.{zone}.");
        let mut names = BTreeSet::new();
        for round in 0..100 {
            server.seconds = round * 20;
            let mut message = query(&name, RecordType::SRV, true);
            let subnet = ClientSubnet::new("2001:db8::".parse().unwrap(), 128, 0);
            let edns = message.edns.as_mut().unwrap();
            edns.options_mut().insert(EdnsOption::Subnet(subnet));
            edns.options_mut().insert(EdnsOption::Unknown(10, vec![1; 8]));
            let bytes = server.raw(&message.to_vec().unwrap()).unwrap();
            assert!(bytes.len() <= 1_232, "{} octets", bytes.len());
            let answer = Message::from_vec(&bytes).unwrap();
            server.verify(&answer);
            let found = targets(&answer);
            assert!(!answer.truncation && (fewest..=8).contains(&found.len()), "{} of {len}", found.len());
            names.extend(found.into_iter().map(|target| target.3));
            let plain = server.raw(&query(&name, RecordType::SRV, false).to_vec().unwrap()).unwrap();
            assert!(plain.len() <= 512);
            let plain = Message::from_vec(&plain).unwrap();
            assert!(plain.truncation == plain.answers.is_empty());
            assert!(len > 60 || plain.answers.len() >= 4);
        }
        assert!(names.len() > 30, "draws change: {}", names.len());
    }
}

#[test]
fn long_answers_are_cut_by_udp_and_whole_by_tcp() {
    let addresses: Vec<String> = (0..32).map(|n| format!("\"2001:db8::{n:x}\"")).collect();
    let member = format!("[[member]]\nname = \"big.time.example\"\naddresses = [{}]\n", addresses.join(", "));
    let mut server = Server::new(&settings("time.example", 4), &member);
    for dnssec in [true, false] {
        server.transport = Transport::Udp;
        let message = query("big.time.example.", RecordType::AAAA, dnssec);
        let bytes = server.raw(&message.to_vec().unwrap()).unwrap();
        let request = message.to_vec().unwrap().len();
        let answer = Message::from_vec(&bytes).unwrap();
        if dnssec {
            assert!(!answer.truncation && bytes.len() <= 1_232);
        } else {
            assert!(answer.truncation && answer.answers.is_empty() && bytes.len() == request);
        }
        server.transport = Transport::Tcp;
        let answer = server.ask(&message);
        assert_eq!(answer.answers.len(), if dnssec { 33 } else { 32 });
    }
    assert_eq!(server.counters.get(Count::Truncated), 1);
}

fn with_subnet(net: &str, bits: u8) -> Message {
    let mut message = query(SERVICE_NAME, RecordType::SRV, true);
    let subnet = ClientSubnet::new(net.parse().unwrap(), bits, 0);
    message.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Subnet(subnet));
    message
}

fn scope(answer: &Message) -> Option<u8> {
    match answer.edns.as_ref()?.option(EdnsCode::Subnet)? {
        EdnsOption::Subnet(subnet) => Some(subnet.scope_prefix()),
        _ => None,
    }
}

#[test]
fn clients_get_members_near_them() {
    let region = "[[region]]\nname = \"north\"\nprefixes = [\"192.0.2.0/24\"]\n";
    let members = format!("{region}{}{}", many(6, 16, "regions = [\"north\"]"), many(90, 24, ""));
    let mut server = Server::new(&settings("time.example", 4), &members);
    let near = |answer: &Message| targets(answer).iter().filter(|target| target.3.len() < 20).count();
    for bits in [24, 28] {
        let answer = server.ask(&with_subnet("192.0.2.0", bits));
        server.verify(&answer);
        assert_eq!((near(&answer), scope(&answer)), (4, Some(24)));
    }
    let answer = server.ask(&with_subnet("198.51.100.0", 24));
    assert_eq!(scope(&answer), Some(24));
    assert!(near(&answer) < 4);
    // A client that does not want to be told apart (RFC 7871 section 7.1.2) is where its resolver is.
    let answer = server.ask(&with_subnet("0.0.0.0", 0));
    assert_eq!(scope(&answer), Some(0));
    server.peer = "192.0.2.7".parse().unwrap();
    let answer = server.signed(SERVICE_NAME, RecordType::SRV);
    assert_eq!((near(&answer), scope(&answer)), (4, None));
}

#[test]
fn members_that_are_for_some_are_for_nobody_else() {
    let members = format!("{}{}", many(2, 16, "prefixes = [\"192.0.2.0/24\"]"), many(40, 24, ""));
    let mut server = Server::new(&settings("time.example", 8), &members);
    let reserved = |answer: &Message| targets(answer).iter().filter(|target| target.3.len() < 20).count();
    let mut inside = 0;
    for round in 0..200 {
        server.seconds = round * 20;
        inside += reserved(&server.ask(&with_subnet("192.0.2.0", 24)));
        assert_eq!(reserved(&server.ask(&with_subnet("198.51.100.0", 24))), 0);
    }
    assert!(inside > 0);
    // What is drawn for one client costs a signature: strangers do not get any number of them.
    let cut = (0..1_000).filter(|_| server.ask(&with_subnet("192.0.2.0", 24)).truncation).count();
    assert!((400..1_000).contains(&cut), "{cut}");
}

#[test]
fn shares_follow_the_weights_although_few_are_drawn() {
    let members = many(60, 24, "");
    let mut server = Server::new(&settings("time.example", 6), &members);
    let (mut heavy, mut light) = (0.0, 0.0);
    for round in 0..4_000 {
        server.seconds = round * 20;
        let found = targets(&server.ask(&query(SERVICE_NAME, RecordType::SRV, false)));
        let sum: f64 = found.iter().map(|target| f64::from(target.1)).sum();
        for (_, weight, _, name) in found {
            let number: usize = name[..4].parse().unwrap();
            *(if number >= 30 { &mut heavy } else { &mut light }) += f64::from(weight) / sum;
        }
    }
    // Weights are 1 to 60: the upper half has 1365 of 1830.
    let share = heavy / (heavy + light);
    assert!((share - 1_365.0 / 1_830.0).abs() < 0.015, "{share}");
}

#[test]
fn strangers_get_a_rate_and_cookies_free_from_it() {
    let limit = LimitSettings { rate: 10, slip: 2 };
    let mut server = Server::with(&settings("time.example", 6), MEMBERS, limit);
    let message = query(SERVICE_NAME, RecordType::SRV, true).to_vec().unwrap();
    let (mut whole, mut cut, mut none) = (0, 0, 0);
    for _ in 0..100 {
        match server.raw(&message).map(|answer| Message::from_vec(&answer).unwrap()) {
            Some(answer) if answer.truncation => {
                assert!(answer.answers.is_empty());
                cut += 1;
            }
            Some(_) => whole += 1,
            None => none += 1,
        }
    }
    assert_eq!((whole, cut, none), (20, 40, 40));
    server.transport = Transport::Tcp;
    let mut message = query(SERVICE_NAME, RecordType::SRV, true);
    let cookie = |message: &mut Message, octets: Vec<u8>| {
        message.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Unknown(10, octets));
    };
    cookie(&mut message, vec![9; 8]);
    let answer = server.ask(&message);
    let Some(EdnsOption::Unknown(10, ours)) = answer.edns.as_ref().unwrap().option(EdnsCode::Cookie).cloned() else {
        panic!("{answer}")
    };
    assert_eq!((ours.len(), &ours[..8]), (24, &[9; 8][..]));
    server.transport = Transport::Udp;
    let mut message = query(SERVICE_NAME, RecordType::SRV, true);
    cookie(&mut message, ours);
    for _ in 0..100 {
        assert_eq!(server.ask(&message).answers.len(), 4);
    }
    // Somebody else cannot use it.
    server.peer = "203.0.113.10".parse().unwrap();
    let answers = (0..10).filter_map(|_| server.raw(&message.to_vec().unwrap())).count();
    assert!(answers < 10);
}

#[test]
fn several_zones_are_told_apart() {
    let directory = parse(Path::new("members.toml"), "[[member]]\nname = \"a.example.net\"\n").unwrap();
    let zones = ["time.example", "sub.time.example"].map(|name| served(&settings(name, 4), &directory)).to_vec();
    let mut server = pool();
    server.responder.set_state(Arc::new(State { zones, ..State::default() }));
    let soa = |answer: Message| answer.answers[0].name.to_string();
    assert_eq!(soa(server.ask(&query("time.example.", RecordType::SOA, true))), "time.example.");
    assert_eq!(soa(server.ask(&query("sub.time.example.", RecordType::SOA, true))), "sub.time.example.");
    assert_eq!(server.ask(&query("_ntske._tcp.sub.time.example.", RecordType::SRV, false)).answers.len(), 1);
}

proptest! {
    #[test]
    fn no_message_is_too_strange(message in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut server = pool();
        if let Some(answer) = server.raw(&message) {
            prop_assert!(answer.len() <= 1_232);
            prop_assert!(answer[..2] == message[..2] && answer[2] & 0x80 != 0);
        }
    }

    #[test]
    fn no_spoiled_query_is_too_strange(
        at in prop::collection::vec((0_usize..120, any::<u8>()), 0..4),
        cut in 0_usize..120,
        kind in any::<u16>(),
    ) {
        let mut message = with_subnet("192.0.2.0", 24);
        message.queries[0].set_query_type(RecordType::from(kind));
        let mut bytes = message.to_vec().unwrap();
        for (at, octet) in at {
            if let Some(place) = bytes.get_mut(at) {
                *place ^= octet;
            }
        }
        bytes.truncate(bytes.len().max(cut) - cut / 2);
        let mut server = pool();
        if let Some(answer) = server.raw(&bytes) {
            prop_assert!(answer.len() <= 1_232);
            // What is sent can be read, or echoes a question that could not.
            let parsed = Message::from_vec(&answer);
            prop_assert!(parsed.is_ok(), "{:?} {bytes:?} {answer:?}", parsed.err());
        }
    }
}

#[test]
fn zones_that_cannot_be_are_refused() {
    let build = |members: &str| {
        let directory = parse(Path::new("members.toml"), members).unwrap();
        let (settings, key) = (settings("time.example", 4), key());
        let signer = Signer::new(Arc::clone(&key), settings.origin(), Window { inception: 0, expiration: 1 });
        Zone::build(&settings, &directory, &[key], signer, 1).unwrap_err().to_string()
    };
    let told = build("[[member]]\nname = \"a.example\"\n[[member]]\nname = \"b.time.example\"\n");
    assert!(told.starts_with("members.toml:4:1: member b.time.example lies in the zone"), "{told}");
    let told = build("[[member]]\nname = \"time.example\"\naddresses = [\"192.0.2.1\"]\n");
    assert!(told.starts_with("members.toml:2:1: member time.example has a name that the zone"), "{told}");
    let told = build("[[member]]\nname = \"192.0.2.1\"\n");
    assert!(told.contains("is an address; accepted for SRV records: host names"), "{told}");
    let addresses: Vec<String> = (0..2_000).map(|n| format!("\"2001:db8::{n:x}\"")).collect();
    let told = build(&format!("[[member]]\nname = \"big.time.example\"\naddresses = [{}]\n", addresses.join(",")));
    assert!(told.contains("accepted: 16384 at most"), "{told}");
}

#[test]
fn unusable_keys_are_refused() {
    let told = |text: &str| ZoneKey::from_pem(Path::new("zone.key"), text.as_bytes()).unwrap_err().to_string();
    for text in ["", "rubbish", "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"] {
        let told = told(text);
        assert!(
            told.starts_with("zone.key: unusable key: ") && told.contains("accepted: an ECDSA P-256 key"),
            "{told}"
        );
    }
}
