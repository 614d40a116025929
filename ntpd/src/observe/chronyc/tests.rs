use std::{cell::RefCell, net::IpAddr, sync::Arc};

use proptest::prelude::*;

use super::{
    Host,
    answer::answer,
    bodies::{
        AccessBody, ActivityData, AuthData, ClientsBody, ClientsData, LocalBody, MakeStepBody, NtpData, NumberBody,
        OldNtpData, SelectData, SelectOptionsBody, SettingBody, SourceData, SourceStatsData, Subnet, TrackingData,
    },
    codec::{Address, Field},
    packet::{Incoming, MAX_REQUEST, NULL_REPLY, Status, read_reply, read_request, write_reply, write_request},
    table::{self, OPEN},
};
use crate::{
    config::{AddFault, Added},
    observe::{
        control::{Change, ControlError, ErrorKind, Reply, Show},
        report::{Asked, Judged, SourceName, SourceRow, SourcesReport},
    },
    serve::ClientLog,
};

const SEQUENCE: u32 = 0x1234_5678;

/// A daemon with these sources, which remembers what it was told.
#[derive(Default)]
struct Told {
    sources: Vec<(&'static str, Option<&'static str>)>,
    changes: RefCell<Vec<String>>,
    clients: Option<Arc<ClientLog>>,
}

impl Host for Told {
    fn show(&mut self, show: &Show) -> Result<Reply, ControlError> {
        let row = |(name, address): &(&str, Option<&str>)| SourceRow {
            judged: Judged {
                source: SourceName {
                    name: (*name).to_owned(),
                    address: address.map(|address| format!("{address}:123").parse().unwrap()),
                    pool: None,
                    refclock: None,
                },
                state: '?',
                verdict: "no-samples".into(),
                trust: "none".into(),
                reason: String::new(),
            },
            asked: Asked::Online,
            last_refusal: None,
            stratum: None,
            poll_log2_seconds: 6,
            reach: 0,
            last_reply_age_seconds: None,
            offset_seconds: None,
            measured_offset_seconds: None,
            error_seconds: None,
        };
        match show {
            Show::Sources => Ok(Reply::Sources(SourcesReport { sources: self.sources.iter().map(row).collect() })),
            Show::Tracking
            | Show::SourceStats
            | Show::SelectData
            | Show::AuthData
            | Show::NtpData { .. }
            | Show::ServerStats
            | Show::Activity
            | Show::Clients
            | Show::Pools => Err(ControlError::new(ErrorKind::Failed, "not here")),
        }
    }

    fn change(&mut self, change: &Change) -> Result<(), ControlError> {
        self.changes.borrow_mut().push(format!("{change:?}"));
        Ok(())
    }

    fn add(&mut self, source: Added) -> Result<(), AddFault> {
        self.changes.borrow_mut().push(source.name());
        Ok(())
    }

    fn remove(&mut self, name: &str) -> bool {
        self.changes.borrow_mut().push(format!("without {name}"));
        true
    }

    fn is_served(&self, address: IpAddr) -> bool {
        address.is_loopback()
    }

    fn may_ask(&self, address: IpAddr) -> bool {
        address.is_loopback()
    }

    fn clients(&self) -> Option<&ClientLog> {
        self.clients.as_deref()
    }

    fn commands(&self) -> (u64, u64) {
        (0, 0)
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|octet| !octet.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// A datagram to a daemon, and what comes back; nothing is silence.
fn ask(datagram: &[u8], opened: Option<&[table::Access]>, host: &mut Told) -> Vec<u8> {
    match read_request(datagram, opened) {
        Incoming::Silence => Vec::new(),
        Incoming::Error(header, status) => write_reply(&header, status, NULL_REPLY, &[]),
        Incoming::Ask(header, entry, body) => {
            let answer = answer(entry, body, host);
            write_reply(&header, answer.status, answer.code, &answer.body)
        }
    }
}

fn request(entry: &table::Entry, body: &impl Field) -> Vec<u8> {
    let mut octets = Vec::new();
    body.put(&mut octets);
    write_request(entry, SEQUENCE, 0, &octets)
}

fn status(reply: &[u8]) -> u16 {
    u16::from_be_bytes([reply[8], reply[9]])
}

/// Bodies that chronyd was seen to send are read and written alike.
#[test]
fn bodies_have_the_layout_of_those_observed() {
    fn same<T: Field + std::fmt::Debug>(text: &str) -> T {
        let octets = hex(text);
        assert_eq!(octets.len(), T::LEN);
        let body = T::get(&mut &octets[..]).unwrap();
        let mut out = Vec::new();
        body.put(&mut out);
        assert_eq!(out, octets, "{body:?}");
        body
    }
    let zeros = |count: usize| "00".repeat(count);
    let tracking: TrackingData = same(
        "7f000001 7f000001 00000000 00000000 00000000 00010000 00040000 00000000 6b026686 1cb7e2ca
         dadf2578 d34fc808 dc80b947 f77bdf2b ef093a57 fab5a8a0 dcf3bd49 de8ec042 0481c0e4",
    );
    assert_eq!((tracking.reference_id, tracking.stratum, tracking.reference_time.nanos), (0x7f00_0001, 4, 0x1cb7_e2ca));
    let source: SourceData = same(
        "54535400 00000000 00000000 00000000 00010000 0004 0000 0001 0002 0000 0000 ffffffff 00000000 00000000 00000000",
    );
    assert_eq!((source.poll, source.state, source.mode), (4, 1, 2));
    let stats: SourceStatsData = same(&format!(
        "54535400 {} 00000000 00000000 00000000 08800000 00000000 18fa0000 00000000 00000000",
        zeros(20)
    ));
    assert!((stats.deviation_seconds - 4.0).abs() < 1e-9 && (stats.skew_ppm - 2000.0).abs() < 1e-6);
    let activity: ActivityData = same("00000002 00000000 00000000 00000000 00000000");
    assert_eq!(activity.online, 2);
    let auth: AuthData = same("0000 0000 00000000 0000 0000 ffffffff 0000 0000 0000 0000");
    assert_eq!(auth.key_age_seconds, u32::MAX);
    let select: SelectData =
        same(&format!("54535400 {} 4e 00 03 00 0001 0001 00000000 04800000 00000000 00000000", zeros(20)));
    assert_eq!((select.state, select.leap, select.configured), (b'N', 3, 1));
    let ntp: NtpData = same(&format!(
        "7f000001 {z} 00010000 7f000001 {z} 00010000 2b73 00 04 04 03 00 e5 00000000 00000000 7f7f0101
         00000000 6b02667b 02f20a62 d480d959 dea6a19d d095ee1b e8a91870 00f25cdc 43ff 4b 4b
         0000001e 0000001e 0000001e 0000001d 0000001e 0000001e 00000000 00000000 ffffffff ffffffff ffffffff ffffffff",
        z = zeros(12),
    ));
    assert_eq!((ntp.reply.port, ntp.reply.precision, ntp.reply.good), (11_123, -27, 29));
    // Of chronyd 4.3.
    let old: OldNtpData = same(
        "7f000001000000000000000000000000000100007f000001000000000000000000000000000100002b730004040100ecf4800000f4800000
         47505300000000006b0cf72601806cdbe2f77f5ce8ca192ddc83f27fe6c1ffc80000000003ff4b4b0000000c0000000b0000000b0000000b
         ffffffffffffffffffffffff",
    );
    assert_eq!((old.reply.sent, old.reply.good, old.reply.stratum), (12, 11, 1));
}

#[test]
fn a_request_is_answered_as_chronyd_does() {
    let mut host = Told { sources: vec![("a.example", Some("192.0.2.1")); 3], ..Told::default() };
    let asked = write_request(&table::N_SOURCES, SEQUENCE, 0, &[]);
    assert_eq!(&asked[..12], hex("06010000 000e0000 12345678"));
    assert_eq!(
        ask(&asked, Some(&OPEN), &mut host),
        hex("06020000 000e0002 00000000 00000000 12345678 00000000 00000000 00000003")
    );
    let unknown = Address::Ip("192.0.2.9".parse().unwrap());
    assert_eq!(
        ask(&request(&table::NTPDATA, &unknown), None, &mut host),
        hex("06020000 00390001 00040000 00000000 12345678 00000000 00000000")
    );
    let reply = ask(&asked, None, &mut host);
    assert_eq!(read_reply(&reply, &table::N_SOURCES, SEQUENCE), Some((Status::Success, 2, &[0, 0, 0, 3][..])));
    assert_eq!(read_reply(&reply, &table::N_SOURCES, SEQUENCE + 1), None);
    assert_eq!(read_reply(&reply, &table::TRACKING, SEQUENCE), None);
}

/// What chronyd was seen to answer to requests that make no sense.
#[test]
fn what_makes_no_sense_is_answered_as_chronyd_does() {
    let tracking = write_request(&table::TRACKING, SEQUENCE, 0, &[]);
    let with = |place: usize, octet: u8| {
        let mut datagram = tracking.clone();
        datagram[place] = octet;
        datagram
    };
    let sized = |len: usize| {
        let mut datagram = tracking.clone();
        datagram.resize(len, 0);
        datagram
    };
    let command = |number: u16| {
        let mut datagram = tracking.clone();
        datagram[4..6].copy_from_slice(&number.to_be_bytes());
        datagram
    };
    let mut host = Told::default();
    for (what, datagram, expected) in [
        ("version 5", with(0, 5), Some(Status::BadVersion)),
        ("version 7", with(0, 7), Some(Status::BadVersion)),
        ("version 4", with(0, 4), None),
        ("a reply", with(1, 2), None),
        ("reserved", with(2, 1), None),
        ("one octet less", sized(103), Some(Status::BadLength)),
        ("28 octets", sized(28), Some(Status::BadLength)),
        ("27 octets", sized(27), None),
        ("too long", sized(MAX_REQUEST + 1), None),
        ("command 200", command(200), Some(Status::Invalid)),
        ("command 10", command(10), Some(Status::Invalid)),
        ("makestep over UDP", write_request(&table::MAKESTEP, 1, 0, &[]), Some(Status::Unauthorized)),
        ("ntpdata over UDP", request(&table::NTPDATA, &Address::Unspecified), Some(Status::Unauthorized)),
        ("no such source", request(&table::SOURCE_DATA, &99_u32), Some(Status::NoSuchSource)),
    ] {
        let reply = ask(&datagram, Some(&OPEN), &mut host);
        assert_eq!((!reply.is_empty()).then(|| status(&reply)), expected.map(|status| status as u16), "{what}");
        assert!(reply.len() <= datagram.len(), "{what}");
    }
    assert!(host.changes.borrow().is_empty());
    // Sources are counted for those who may have any list of them.
    let count = write_request(&table::N_SOURCES, 1, 0, &[]);
    for (opened, expected) in [
        (&[table::Access::SelectData][..], Status::Success),
        (&[table::Access::Tracking][..], Status::Unauthorized),
        (&[][..], Status::Unauthorized),
    ] {
        assert_eq!(status(&ask(&count, Some(opened), &mut host)), expected as u16);
    }
}

#[test]
fn changes_reach_the_sources_that_are_meant() {
    let sources = vec![("a.example", Some("192.0.2.1")), ("b.example", Some("192.0.3.1")), ("c.example", None)];
    let mut host = Told { sources, ..Told::default() };
    let ip = |text: &str| Address::Ip(text.parse().unwrap());
    let net = Subnet { mask: ip("255.255.255.0"), address: ip("192.0.2.0") };
    assert_eq!(status(&ask(&request(&table::OFFLINE, &net), None, &mut host)), Status::Success as u16);
    let all = Subnet { mask: Address::Unspecified, address: Address::Unspecified };
    ask(&request(&table::ONLINE, &all), None, &mut host);
    let nobody = Subnet { mask: ip("255.255.255.255"), address: ip("192.0.2.9") };
    assert_eq!(status(&ask(&request(&table::ONLINE, &nobody), None, &mut host)), Status::NoSuchSource as u16);
    ask(&request(&table::DELETE, &ip("192.0.3.1")), None, &mut host);
    assert_eq!(
        *host.changes.borrow(),
        ["Offline { source: Some(\"192.0.2.1\") }", "Online { source: None }", "without b.example",]
    );
    let access = |address| status(&ask(&request(&table::ACCHECK, &ip(address)), None, &mut Told::default()));
    assert_eq!(access("127.0.0.1"), Status::AccessAllowed as u16);
    assert_eq!(access("192.0.2.1"), Status::AccessDenied as u16);
}

#[test]
fn settings_reach_the_daemon_and_nonsense_does_not() {
    let mut host = Told::default();
    let local = LocalBody {
        on: 1,
        stratum: 3,
        distance_seconds: 0.5,
        orphan: 1,
        activate_seconds: 0.0,
        wait_synced_seconds: 0.0,
        wait_unsynced_seconds: 300.0,
    };
    let mut tell =
        |entry: &table::Entry, body: &[u8]| status(&ask(&write_request(entry, SEQUENCE, 0, body), None, &mut host));
    let octets = |body: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        body(&mut out);
        out
    };
    for (body, expected) in [
        (LocalBody { ..local }, Status::Success),
        (LocalBody { stratum: 0, ..local }, Status::Failed),
        (LocalBody { stratum: 16, ..local }, Status::Failed),
        (LocalBody { distance_seconds: -1.0, ..local }, Status::Failed),
        (LocalBody { on: 0, stratum: 0, ..local }, Status::Success),
    ] {
        assert_eq!(tell(&table::LOCAL, &octets(&|out| body.put(out))), expected as u16);
    }
    let steps = MakeStepBody { limit: -1, threshold_seconds: 0.5 };
    assert_eq!(tell(&table::MAKESTEP_CONFIG, &octets(&|out| steps.put(out))), Status::Success as u16);
    assert_eq!(tell(&table::MAXUPDATESKEW, &octets(&|out| 100_f64.put(out))), Status::Success as u16);
    assert_eq!(tell(&table::MAXUPDATESKEW, &octets(&|out| 0_f64.put(out))), Status::Failed as u16);
    assert_eq!(tell(&table::CYCLELOGS, &[]), Status::Success as u16);
    let changes = host.changes.borrow();
    assert!(changes[0].starts_with("Local(Some(LocalConfig { stratum: 3,"), "{}", changes[0]);
    assert_eq!(changes[1..3], ["Local(None)", "Steps { threshold: 0.5, limit: Always }"]);
    assert!(changes[3].starts_with("MaxUpdateSkew(") && changes[4..] == ["CycleLogs"], "{changes:?}");
}

#[test]
fn clients_come_page_by_page() {
    let mut host = Told::default();
    let ask_from = |host: &mut Told, first, reset| {
        let body = ClientsBody { first, count: 8, min_hits: 0, reset };
        let reply = ask(&request(&table::CLIENTS, &body), None, host);
        let (status, _, body) = read_reply(&reply, &table::CLIENTS, SEQUENCE).unwrap();
        (status, ClientsData::get(&mut &*body))
    };
    assert_eq!(ask_from(&mut host, 0, 0).0, Status::Inactive);
    let log = ClientLog::new(64).unwrap().unwrap();
    for number in 0..20_u8 {
        log.note_key_exchange([192, 0, 2, number].into(), number > 4);
    }
    host.clients = Some(Arc::clone(&log));
    let (mut seen, mut first) = (Vec::new(), 0);
    while first < 64 {
        let page = ask_from(&mut host, first, 1).1.unwrap();
        assert!(page.next > first && page.table_size == 64);
        first = page.next;
        seen.extend_from_slice(&page.clients[..usize::try_from(page.count).unwrap()]);
    }
    // One group of places may have been too small for all that belong there.
    assert!((15..=20).contains(&seen.len()) && seen.iter().all(|client| client.ke_hits == 1 && client.ntp_hits == 0));
    assert!(seen.iter().filter(|client| client.ke_drops == 1).count() <= 5);
    assert!(log.rows(0..usize::MAX).all(|(_, row)| row.key_exchange.hits == 0), "they were to be counted anew");
}

proptest! {
    #[test]
    fn whatever_comes_is_answered_with_no_more(
        mut datagram in prop::collection::vec(any::<u8>(), 0..900),
        command in 0_u16..80,
        proper: bool,
    ) {
        if let (true, Some(header)) = (proper, datagram.get_mut(..6)) {
            header.copy_from_slice(&[6, 1, 0, 0, 0, 0]);
            header[4..6].copy_from_slice(&command.to_be_bytes());
        }
        let sources = vec![("a.example", Some("192.0.2.1")), ("c.example", None)];
        let mut host = Told { sources, ..Told::default() };
        for opened in [None, Some(&OPEN[..])] {
            let reply = ask(&datagram, opened, &mut host);
            prop_assert!(reply.len() <= datagram.len());
            prop_assert!(reply.is_empty() || reply.len() >= 28);
        }
        for entry in [table::N_SOURCES, table::TRACKING, table::CLIENTS] {
            let _ = read_reply(&datagram, &entry, SEQUENCE);
        }
    }
}

#[test]
fn settings_of_one_source_are_changed() {
    let mut host = Told { sources: vec![("a.example", Some("192.0.2.1")), ("b.example", None)], ..Told::default() };
    let ip = |text: &str| Address::Ip(text.parse().unwrap());
    let number = |address, value| NumberBody { address, value };
    let one = ip("192.0.2.1");
    let tune = "Tune { source: \"192.0.2.1\", tune: ";
    let setting = |value| SettingBody { address: one, value };
    for (entry, value, expected) in [
        (table::MINPOLL, 4, Ok("MinPoll(PollInterval(4)) }")),
        (table::MAXPOLL, 18, Err(Status::Invalid)),
        (table::MINSTRATUM, 15, Ok("MinStratum(15) }")),
        (table::MINSTRATUM, -1, Err(Status::Invalid)),
        (table::POLLTARGET, 64, Ok("PollTarget(64) }")),
        (table::POLLTARGET, 0, Err(Status::Invalid)),
    ] {
        let status = status(&ask(&request(&entry, &setting(value)), None, &mut host));
        let told = host.changes.borrow_mut().pop();
        assert_eq!(status, expected.map_or_else(|status| status as u16, |_| 0), "{entry:?} {value}");
        assert_eq!(told, expected.ok().map(|change| format!("{tune}{change}")), "{entry:?} {value}");
    }
    for (entry, value, expected) in [
        (table::MAXDELAY, 0.5, Ok("MaxDelay(0.5) }")),
        (table::MAXDELAY, 100.0, Ok("MaxDelay(8.0) }")),
        (table::MAXDELAY, -1.0, Err(Status::Invalid)),
        (table::MAXDELAYRATIO, 2.0, Ok("MaxDelayRatio(Some(2.0)) }")),
        (table::MAXDELAYRATIO, 0.0, Ok("MaxDelayRatio(None) }")),
        (table::MAXDELAYRATIO, 0.5, Err(Status::Invalid)),
        (table::MAXDELAYDEVRATIO, 8.0, Ok("MaxDelayDeviations(Some(8.0)) }")),
        (table::MAXDELAYDEVRATIO, 0.0, Ok("MaxDelayDeviations(None) }")),
    ] {
        let status = status(&ask(&request(&entry, &number(one, value)), None, &mut host));
        let told = host.changes.borrow_mut().pop();
        assert_eq!(status, expected.map_or_else(|status| status as u16, |_| 0), "{entry:?} {value}");
        assert_eq!(told, expected.ok().map(|change| format!("{tune}{change}")), "{entry:?} {value}");
    }
    // A mask of prefer and trust, and `trust` in the flags of a new source.
    let body = SelectOptionsBody { address: one, reference_id: 0, mask: 6, options: 0x20 };
    assert_eq!(status(&ask(&request(&table::SELECTOPTS, &body), None, &mut host)), 0);
    let told = host.changes.borrow_mut().pop().unwrap();
    let options = |prefer, trust| format!("{{ noselect: false, prefer: {prefer}, trust: {trust}, require: false }}");
    let (which, to) = (options(true, true), options(false, true));
    assert_eq!(told, format!("{tune}Select {{ which: SelectOptions {which}, to: SelectOptions {to} }} }}"));
    for address in [ip("192.0.2.2"), Address::Unspecified] {
        let reply = ask(&request(&table::MAXDELAY, &number(address, 1.0)), None, &mut host);
        assert_eq!(status(&reply), Status::NoSuchSource as u16);
    }
}

#[test]
fn who_is_answered_is_changed() {
    let mut host = Told::default();
    let ip = |text: &str| Address::Ip(text.parse().unwrap());
    for (entry, address, prefix_length, expected) in [
        (
            table::ALLOW,
            ip("192.0.2.0"),
            24,
            Ok("Access(AccessChange { allows: true, all: false, range: Some(192.0.2.0/24) })"),
        ),
        (
            table::DENY_ALL,
            Address::Unspecified,
            0,
            Ok("Access(AccessChange { allows: false, all: true, range: None })"),
        ),
        (
            table::CMDALLOW_ALL,
            ip("2001:db8::"),
            32,
            Ok("ChronycAccess(AccessChange { allows: true, all: true, range: Some(2001:db8::/32) })"),
        ),
        (
            table::CMDDENY,
            ip("192.0.2.1"),
            32,
            Ok("ChronycAccess(AccessChange { allows: false, all: false, range: Some(192.0.2.1/32) })"),
        ),
        (table::CMDDENY_ALL, ip("192.0.2.1"), 33, Err(Status::BadSubnet)),
        (table::DENY, ip("2001:db8::"), 129, Err(Status::BadSubnet)),
        (table::ALLOW, ip("192.0.2.0"), -1, Err(Status::BadSubnet)),
        (table::ALLOW_ALL, Address::Unspecified, 8, Err(Status::BadSubnet)),
    ] {
        let body = AccessBody { address, prefix_length };
        let status = status(&ask(&request(&entry, &body), None, &mut host));
        assert_eq!(status, expected.map_or_else(|status| status as u16, |_| 0), "{body:?}");
        assert_eq!(host.changes.borrow_mut().pop().as_deref(), expected.ok(), "{body:?}");
    }
}

#[test]
fn measurements_are_forgotten() {
    let mut host = Told::default();
    assert_eq!(status(&ask(&write_request(&table::RESET, SEQUENCE, 0, &[]), None, &mut host)), 0);
    assert_eq!(*host.changes.borrow(), ["ResetSources"]);
    // Over UDP nobody may.
    let reply = ask(&write_request(&table::RESET, SEQUENCE, 0, &[]), Some(&OPEN), &mut host);
    assert_eq!((status(&reply), host.changes.borrow().len()), (Status::Unauthorized as u16, 1));
}
