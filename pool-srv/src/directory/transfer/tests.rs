use hickory_proto::rr::rdata::{SOA, SRV};
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

fn list(records: &[Record]) -> Result<Listed, String> {
    Listed::read(&source().name, records)
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
    let directory = super::super::parse(std::path::Path::new("list"), &listed.text).unwrap();
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
        (&[start(1)][..], "lists no members"),
        (&[listed("a._members.time.example.", ".", 1)], "a._members.time.example.: target .: "),
        (&[strange], "a._members.time.example.: target a\\\"b.example.: "),
        (&twice, "member a.example is there already"),
    ] {
        let told = list(records).unwrap_err();
        assert!(told.contains(wanted), "{told}");
    }
}

#[test]
fn a_zone_is_looked_at_again_when_its_clients_would() {
    let with = |ttl: u32| {
        let mut record = listed("a._members.time.example.", "a.example.", 1);
        record.ttl = ttl;
        list(&[start(1), record]).unwrap().look_after.as_secs()
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
    assert_eq!(whole(&[start(1)], RecordType::SOA), Some(true));
    assert_eq!(whole(&[], RecordType::SOA), None);
}

proptest! {
    #[test]
    fn no_answer_is_too_strange(message in prop::collection::vec(any::<u8>(), 0..400), cut in any::<u8>()) {
        let mut incoming = Incoming::new(&source(), RecordType::AXFR, 7, NOW).unwrap();
        prop_assert!(incoming.handle_message(&message).is_err());
        // Our own request with a spoiled octet, sent back.
        let mut echo = incoming.request.clone();
        echo[2] |= 0x80;
        let at = usize::from(cut) % echo.len();
        echo[at] ^= cut | 1;
        prop_assert!(Incoming::new(&source(), RecordType::AXFR, 7, NOW).unwrap().handle_message(&echo).is_err());
    }
}
