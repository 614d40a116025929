use std::sync::Arc;

use hickory_proto::rr::rdata::{A, SOA, SRV, TLSA, TXT, tlsa::CertUsage};
use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_800_000_000;

fn source() -> ZoneSource {
    let key = "key lists.example { algorithm hmac-sha256; secret AAECAwQFBgcICQoLDA0ODw==; };";
    ZoneSource {
        name: pool::Name::parse("time.example").unwrap(),
        servers: Vec::new(),
        key: TsigKey::parse(key).unwrap(),
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn start(serial: u32) -> Record {
    let soa = SOA::new(name("ns.example."), name("hostmaster.example."), serial, 3_600, 600, 86_400, 60);
    Record::from_rdata(name("time.example."), 3_600, RData::SOA(soa))
}

fn listed(owner: &str, target: &str, weight: u16) -> Record {
    Record::from_rdata(name(owner), 300, RData::SRV(SRV::new(0, weight, 4_460, name(target))))
}

fn mark(text: &str) -> Record {
    Record::from_rdata(name("_members.time.example."), 300, RData::TXT(TXT::new(vec![text.to_owned()])))
}

/// Reads a list of these records, with a mark as somebody would write it.
fn list(records: &[Record]) -> Result<Listed, String> {
    let list = name("_members.time.example.");
    let count = records
        .iter()
        .filter(|record| record.record_type() == RecordType::SRV && list.zone_of(&record.name) && record.name != list);
    marked(&format!("generation=5 members={}", count.count()), records)
}

fn marked(text: &str, records: &[Record]) -> Result<Listed, String> {
    Listed::read(&source().name, &[&[mark(text)], records].concat())
}

/// The members of a list as a file has them.
fn read_back(listed: &Listed) -> Arc<super::super::Directory> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list");
    std::fs::write(&file, &listed.text).unwrap();
    let (directory, mark) = super::super::load_list(&file).unwrap();
    assert_eq!(mark, listed.mark);
    directory
}

#[test]
fn names_below_the_list_are_members_and_nothing_else_is() {
    let records = [
        start(1),
        listed("_ntske._tcp.time.example.", "drawn.example.", 1),
        listed("_members.time.example.", "above.example.", 1),
        listed("b._members.time.example.", "B.example.", 2),
        listed("_Members.Time.Example.", "above.example.", 2),
        listed("a.x._MEMBERS.time.example.", "a.example.", 0),
        listed("a._members.example.", "elsewhere.example.", 1),
    ];
    // Labels may hold anything, and say nothing.
    let mut records = records.to_vec();
    let label = &b"x\n[[member]]\nname = \"c.example\"\n#"[..];
    let labels = [label, b"_members", b"time", b"example"];
    records[3].name = Name::from_labels(labels).unwrap();
    let listed = list(&records).unwrap();
    let directory = read_back(&listed);
    let members: Vec<_> = directory.members().iter().map(|member| (member.name.as_str(), member.drain)).collect();
    assert_eq!(members, [("a.example", true), ("b.example", false)]);
    assert_eq!(listed.look_after, Duration::from_secs(300));
}

#[test]
fn what_cannot_be_a_list_is_told_by_its_name_in_the_zone() {
    let twice =
        [listed("a._members.time.example.", "a.example.", 1), listed("b._members.time.example.", "a.example.", 1)];
    let mut strange = listed("a._members.time.example.", "a.example.", 1);
    let labels = [&b"a\"b"[..], b"example"];
    strange.data = RData::SRV(SRV::new(0, 1, 4_460, Name::from_labels(labels).unwrap()));
    for (records, wanted) in [
        (&[start(1)][..], "its list cannot be used: _members/time.example: no members"),
        (&[listed("a._members.time.example.", ".", 1)], "a._members.time.example.: target .: "),
        (&[strange], "a._members.time.example.: target a\\\"b.example.: "),
        (&twice, "member a.example is there already"),
    ] {
        let told = list(records).unwrap_err();
        assert!(told.contains(wanted), "{told}");
    }
}

#[test]
fn a_list_that_is_not_whole_is_none() {
    let members =
        ["a", "b"].map(|label| listed(&format!("{label}._members.time.example."), &format!("{label}.example."), 1));
    let whole = list(&members).unwrap();
    assert_eq!((whole.mark.generation, whole.mark.members), (5, 2));
    let hash = whole.mark.to_string();
    assert_eq!(marked(&hash, &members), Ok(whole));
    for (text, records, wanted) in [
        ("generation=5 members=3", &members[..], "its list is not whole, or is being changed"),
        (&hash, &members[..1], "its list is not whole, or is being changed"),
        (&hash, &[members[0].clone(), listed("b._members.time.example.", "b.example.", 2)], "not whole"),
        ("generation=5", &members, "_members.time.example.: \"generation=5\" is no mark of a list"),
        ("v=spf1", &members, "it has no mark of a list at _members.time.example."),
        (&hash, &[&members[..], &[mark(&hash)]].concat(), "_members.time.example. has more than one mark"),
    ] {
        let told = marked(text, records).unwrap_err();
        assert!(told.contains(wanted), "{told}");
    }
}

#[test]
fn a_file_that_is_not_whole_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list");
    let text = list(
        &["a", "b"].map(|label| listed(&format!("{label}._members.time.example."), &format!("{label}.example."), 1)),
    )
    .unwrap()
    .text;
    let told = |text: &str| {
        std::fs::write(&file, text).unwrap();
        super::super::load_list(&file).map(drop).map_err(|problem| problem.to_string())
    };
    assert_eq!(told(&text), Ok(()));
    for cut in 0..text.len() {
        assert!(told(&text[..cut]).is_err(), "{cut}");
    }
    assert!(told(&text.replace("b.example", "c.example")).unwrap_err().contains("its members are not those of"));
    assert!(told(&text.replace("[[member]]", "[member]]")).unwrap_err().contains("list:2:"));
}

#[test]
fn what_a_zone_says_of_names_outside_of_it_is_left_out() {
    let address = |owner: &str| Record::from_rdata(name(owner), 300, RData::A(A::new(192, 0, 2, 1)));
    let tlsa = |owner: &str, matching: u8, length: usize| {
        let tlsa = TLSA::new(CertUsage::DaneEe, 1.into(), matching.into(), vec![7; length]);
        Record::from_rdata(name(owner), 300, RData::TLSA(tlsa))
    };
    let listed = list(&[
        listed("a._members.time.example.", "a.time.example.", 1),
        listed("b._members.time.example.", "b.example.", 1),
        address("a.time.example."),
        address("b.example."),
        tlsa("_4460._tcp.a.time.example.", 1, 32),
        // One that no certificate could fit.
        tlsa("_4460._tcp.a.time.example.", 1, 31),
        tlsa("_4460._tcp.b.example.", 1, 32),
    ])
    .unwrap();
    let directory = read_back(&listed);
    let had: Vec<_> = directory.members().iter().map(|member| (member.addresses.len(), member.tlsa.len())).collect();
    assert_eq!(had, [(0, 0), (1, 1)], "b.example, a.time.example");
    let pins = [&b"_4460"[..], b"_tcp", b"a", b"time", b"example"];
    let pin = |octet: u8| {
        let tlsa = TLSA::new(CertUsage::DaneEe, 1.into(), 1.into(), vec![octet; 32]);
        Record::from_rdata(Name::from_labels(pins).unwrap(), 300, RData::TLSA(tlsa))
    };
    let member = [self::listed("a._members.time.example.", "a.time.example.", 1)];
    let many = list(&[&member[..], &[0, 1, 2, 3, 4].map(pin)].concat()).unwrap();
    assert_eq!(read_back(&many).members()[0].tlsa.len(), 4);
    assert_eq!(many.remarks, ["a.time.example has 5 TLSA records; accepted: 4, the others are left out"]);
    let [remark] = &listed.remarks[..] else { panic!("{:?}", listed.remarks) };
    assert!(remark.starts_with("_4460._tcp.a.time.example.: TLSA data of matching type 1 must be"), "{remark}");
}

#[test]
fn a_list_has_bounds() {
    let many = |count: usize| -> Vec<Record> {
        let name = |n: usize| listed(&format!("m{n}._members.time.example."), &format!("m{n}.example."), 1);
        (0..count).map(name).collect()
    };
    assert_eq!(list(&many(20_000)).unwrap().mark.members, 20_000);
    assert!(list(&many(20_001)).unwrap_err().contains("20000 members"));
}

#[test]
fn a_zone_is_looked_at_again_when_its_clients_would() {
    let with = |ttl: u32| {
        let mut mark = mark("generation=1 members=1");
        mark.ttl = ttl;
        let records = [mark, listed("a._members.time.example.", "a.example.", 1)];
        Listed::read(&source().name, &records).unwrap().look_after.as_secs()
    };
    assert_eq!([0, 30, 3_600, 86_400].map(with), [10, 30, 3_600, 3_600]);
}

#[test]
fn a_transfer_ends_with_its_second_start_of_authority() {
    let whole = |records: &[Record], kind| {
        let mut incoming = Incoming::new(&source(), kind, 7, NOW).unwrap();
        incoming.records = records.to_vec();
        incoming.is_whole(0).ok()
    };
    let member = || listed("a._members.time.example.", "a.example.", 1);
    for (records, wanted) in [
        (vec![], Some(false)),
        (vec![start(1)], Some(false)),
        (vec![start(1), member()], Some(false)),
        (vec![start(1), member(), start(1)], Some(true)),
        (vec![start(1), start(1)], Some(true)),
        (vec![member()], None),
        (vec![start(1), member(), start(2)], None),
        (vec![start(1), start(1), member()], None),
    ] {
        assert_eq!(whole(&records, RecordType::AXFR), wanted, "{records:?}");
    }
    assert_eq!(whole(&[], RecordType::TXT), Some(true));
}

proptest! {
    #[test]
    fn no_answer_is_too_strange(message in prop::collection::vec(any::<u8>(), 0..400), cut in any::<u8>()) {
        let incoming = || Incoming::new(&source(), RecordType::AXFR, 7, NOW).unwrap();
        prop_assert!(incoming().handle_message(&message).is_err());
        // One that answers us, as far as its header says, with anything behind it.
        let head = [0, 7, 0x84, 0, 0, 0, 0, cut % 8, 0, 0, 0, 0];
        prop_assert!(incoming().handle_message(&[&head[..], &message].concat()).is_err());
        // Our own request with a spoiled octet, sent back.
        let mut echo = incoming().request;
        echo[2] |= 0x80;
        let at = usize::from(cut) % echo.len();
        echo[at] ^= cut | 1;
        prop_assert!(incoming().handle_message(&echo).is_err());
    }

    #[test]
    fn no_list_is_too_strange(
        labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..4),
        text in prop::collection::vec(any::<u8>(), 0..40),
        weight in any::<u16>(),
    ) {
        let parts = |below: &[&[u8]]| {
            Name::from_labels(labels.iter().map(Vec::as_slice).chain(below.iter().copied()).chain([&b"time"[..], b"example"])).unwrap()
        };
        let mut record = listed("a._members.time.example.", "a.example.", weight);
        record.name = parts(&[b"_members"]);
        record.data = RData::SRV(SRV::new(1, weight, weight, parts(&[])));
        let mut mark = mark("generation=1 members=1");
        let listed = Listed::read(&source().name, &[mark.clone(), record.clone()]);
        // What is taken is what its file says.
        if let Ok(listed) = &listed {
            read_back(listed);
        }
        mark.data = RData::TXT(TXT::from_bytes(vec![b"generation=", &text]));
        prop_assert!(Listed::read(&source().name, &[mark, record]).is_err());
    }
}
