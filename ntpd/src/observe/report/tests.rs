//! Reports of a small engine after a few exchanges.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use ntp_proto::{
    counters::ServerCounters,
    discipline::{CORRECTION_TIME_RATIO, LeapMode, MAX_UPDATE_SKEW, StepLimit},
    engine::{Engine, EngineConfig, KEY_AGE, Now, Output, RxInfo},
    ids::{KeyId, Leap, ReferenceId, SourceId, StampKind, Trust},
    nts::{AeadAlgorithm, AeadKey, CookieJar, SessionKeys},
    select::{AuthSelect, SelectConfig, SelectOptions},
    source::{Authentication, Bursts, NtsKeys, SampleRules, SourceConfig},
    steer::{Applied, Steer},
    time::{Monotonic, NtpDuration, NtpShort, NtpTimestamp, PollInterval, Rate, UnixTime},
    wire::{Header, MacAlgorithm, Mode, SymmetricKey},
};

use super::*;
use crate::observe::{
    ControlCounters, KeCounters, PoolInfo, SourceInfo, Unresolved,
    control::{Command, Reply, Show},
};

/// 2026-11-24.
const START: UnixTime = UnixTime { seconds: 1_795_478_400, nanos: 0 };
const SYMMETRIC_SECRET: &[u8; 16] = b"SYMMETRIC-SECRET";
const C2S_SECRET: &[u8; 32] = b"CLIENT-TO-SERVER-KEY-DO-NOT-SHOW";
const S2C_SECRET: &[u8; 32] = b"SERVER-TO-CLIENT-KEY-DO-NOT-SHOW";

/// An engine with its clock, its servers and what the daemon would know.
pub(in crate::observe) struct Bench {
    engine: Engine,
    now: Now,
    /// What a true clock reads.
    truth: NtpTimestamp,
    /// The rate at which the clock gains on it.
    rate: Rate,
    info: BTreeMap<SourceId, SourceInfo>,
    /// Offset of each server that answers, in seconds.
    servers: BTreeMap<SourceId, f64>,
    unresolved: Vec<Unresolved>,
    pools: Vec<PoolInfo>,
    /// Every request sent.
    requests: Vec<Vec<u8>>,
}

impl Bench {
    pub(in crate::observe) fn new() -> Self {
        let now = Now { monotonic: Monotonic::from_nanos(1_000_000_000), clock: NtpTimestamp::from_unix(START) };
        let config = EngineConfig {
            select: SelectConfig::default(),
            step_threshold: 1.0,
            step_limit: StepLimit::Updates(3),
            max_slew: Rate::from_ppm(1000.0),
            max_frequency: Rate::from_ppm(500.0),
            max_update_skew: MAX_UPDATE_SKEW,
            correction_time_ratio: CORRECTION_TIME_RATIO,
            change_limit: None,
            notable_offset: 1.0,
            leap_mode: LeapMode::System,
            applied: Rate::ZERO,
            saved_frequency: None,
            precision: -25,
            era: START,
            key_age: KEY_AGE,
            seed: [7; 32],
        };
        Self {
            engine: Engine::new(config, now),
            now,
            truth: now.clock,
            rate: Rate::ZERO,
            info: BTreeMap::new(),
            servers: BTreeMap::new(),
            unresolved: Vec::new(),
            pools: Vec::new(),
            requests: Vec::new(),
        }
    }

    /// Adds a source; it answers if `offset` is given.
    fn add(&mut self, name: &str, authentication: Authentication, trust: Trust, offset: Option<f64>) -> SourceId {
        self.add_with(SelectOptions::default(), name, authentication, trust, offset)
    }

    fn add_with(
        &mut self,
        options: SelectOptions,
        name: &str,
        authentication: Authentication,
        trust: Trust,
        offset: Option<f64>,
    ) -> SourceId {
        let number = u8::try_from(self.info.len() + 1).unwrap();
        let config = SourceConfig {
            reference_id: ReferenceId([192, 0, 2, number]),
            min_poll: PollInterval::new(6).unwrap(),
            max_poll: PollInterval::new(10).unwrap(),
            bursts: Bursts::AtStart,
            interleaved: false,
            version: 4,
            authentication,
            trust,
            options,
            rules: SampleRules::default(),
        };
        let id = self.engine.add_source(config, self.now.monotonic).unwrap();
        let address = SocketAddr::from(([192, 0, 2, number], 123));
        self.info.insert(id, SourceInfo::new(name.to_owned(), address));
        self.servers.extend(offset.map(|offset| (id, offset)));
        id
    }

    pub(in crate::observe) fn plain(&mut self, name: &str, offset: Option<f64>) -> SourceId {
        self.add(name, Authentication::None, Trust::None, offset)
    }

    /// Lets `seconds` pass, one by one.
    pub(in crate::observe) fn run(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.pass(1.0);
            self.engine.handle_timeout(self.now);
            self.drain();
        }
    }

    fn pass(&mut self, seconds: f64) {
        self.now.monotonic = self.now.monotonic + Duration::from_secs_f64(seconds);
        self.now.clock = self.now.clock + NtpDuration::from_seconds(seconds * (1.0 + self.rate.get()));
        self.truth = self.truth + NtpDuration::from_seconds(seconds);
    }

    fn drain(&mut self) {
        loop {
            match self.engine.poll_output() {
                Output::Transmit(token, datagram) => {
                    self.requests.push(datagram.clone());
                    self.engine.handle_transmitted(token, self.now.clock, StampKind::Kernel, 0.0);
                    if let Some(offset) = self.servers.get(&token.source).copied() {
                        self.answer(token.source, &datagram, offset);
                    }
                }
                Output::Steer(command) => {
                    let at = self.now.clock;
                    match command {
                        Steer::Frequency(rate) => self.rate = rate,
                        Steer::Step(by) => self.now.clock = at + by,
                        Steer::Status(_) => {}
                    }
                    self.engine.handle_steered(&Applied { command, at });
                }
                Output::NeedKeys(..) | Output::Lost(..) | Output::Notice(_) => {}
                Output::Timeout(..) => return,
            }
        }
    }

    /// A stratum 1 server, a millisecond away.
    fn answer(&mut self, id: SourceId, request: &[u8], offset: f64) {
        let request_header = Header::read(request).unwrap();
        let server = self.truth + NtpDuration::from_seconds(offset + 0.000_5);
        let header = Header {
            leap: Leap::None,
            version: 4,
            mode: Mode::Server,
            stratum: 1,
            poll: 6,
            precision: -23,
            root_delay: NtpShort::default(),
            root_dispersion: NtpShort::from_bits(10),
            reference_id: ReferenceId(*b"PPS\0"),
            reference: server - NtpDuration::from_seconds(3.0),
            origin: request_header.transmit,
            receive: server,
            transmit: server + NtpDuration::from_seconds(0.000_02),
        };
        let mut reply = [0; 128];
        reply[..Header::LEN].copy_from_slice(&header.write());
        let mut len = Header::LEN;
        if request.len() > Header::LEN {
            len = symmetric_key().append(&mut reply, len).unwrap();
        }
        self.pass(0.001_02);
        let info = RxInfo {
            received: self.now.clock,
            stamp: StampKind::Kernel,
            interface: None,
            own_reference: ReferenceId([1; 4]),
        };
        self.engine.handle_datagram(self.now, id, &info, &mut reply[..len]);
    }

    pub(in crate::observe) fn view(&self) -> View<'_> {
        View {
            engine: &self.engine,
            bootstrap: None,
            clients: None,
            local_stratum: None,
            leap_file: None,
            now: self.now,
            sources: &self.info,
            unresolved: &self.unresolved,
            pools: &self.pools,
            server: None,
            key_exchange: None,
            control: ControlCounters::default(),
        }
    }
}

fn symmetric_key() -> SymmetricKey {
    SymmetricKey::new(KeyId(42), MacAlgorithm::AesCmac128, SYMMETRIC_SECRET).unwrap()
}

fn cookie(number: u8) -> Vec<u8> {
    format!("COOKIE-NUMBER-{number}-{}", "C".repeat(84)).into_bytes()
}

/// Two servers that agree, one that lies, one that is silent, one with a key, one with NTS, and one without keys.
fn crowd() -> Bench {
    let mut bench = Bench::new();
    bench.plain("good.example", Some(0.020));
    bench.plain("also.example", Some(0.021));
    bench.plain("liar.example", Some(0.5));
    bench.plain("silent.example", None);
    bench.add("key.example", Authentication::Symmetric(symmetric_key()), Trust::Key, Some(0.020_5));
    let nts = bench.add("nts.example", Authentication::Nts, Trust::Pki, None);
    // It has no vote: of three voters, one that answers would not be enough.
    let measured = SelectOptions { noselect: true, ..SelectOptions::default() };
    let waiting = bench.add_with(measured, "waiting.example", Authentication::Nts, Trust::Pki, None);
    bench.info.get_mut(&waiting).unwrap().note = Some("key exchange failed: certificate expired".to_owned());
    let key = |secret| AeadKey::new(AeadAlgorithm::AesSivCmac256, secret).unwrap();
    let mut cookies = CookieJar::new();
    (0..8).for_each(|number| assert!(cookies.put(&cookie(number))));
    let keys = SessionKeys { c2s: key(C2S_SECRET), s2c: key(S2C_SECRET) };
    bench.engine.set_keys(bench.now.monotonic, nts, NtsKeys { keys, fallback: None, cookies }, Trust::Pki);
    bench.info.get_mut(&nts).unwrap().keys_at = Some(bench.now.monotonic);
    bench.info.get_mut(&nts).unwrap().pool = Some("pool.example".to_owned());
    bench.unresolved.push(Unresolved { name: "lost.example".to_owned(), reason: "no such name".to_owned() });
    bench.pools.push(PoolInfo {
        name: "pool.example".to_owned(),
        mode: "auto".to_owned(),
        settled: Some("lb".to_owned()),
        wanted: 4,
        nts_remembered: true,
        note: None,
    });
    bench.run(100);
    bench
}

/// Everything about [`crowd`], and what a server with NTS would have counted.
pub(crate) fn busy_status() -> StatusReport {
    let bench = crowd();
    let server = ServerCounters::from_array(std::array::from_fn(|place| place as u64 + 1));
    let key_exchange = KeCounters { accepted: 9, refused: 1, failed: 2, completed: 6, pool_requests: 3 };
    let view = View { server: Some(server), key_exchange: Some(key_exchange), ..bench.view() };
    let daemon = DaemonReport {
        version: "1.2.3".to_owned(),
        now_unix_seconds: 1_795_478_500.25,
        started_unix_seconds: 1_795_478_400,
        certificate_expires_unix_seconds: Some(1_800_000_000),
    };
    StatusReport::new(&view, daemon)
}

const ALL: [Show; 9] = [
    Show::Tracking,
    Show::Sources,
    Show::SourceStats,
    Show::SelectData,
    Show::AuthData,
    Show::NtpData { source: None },
    Show::ServerStats,
    Show::Activity,
    Show::Pools,
];

fn row<'a>(report: &'a SourcesReport, name: &str) -> &'a SourceRow {
    report.sources.iter().find(|row| row.judged.source.name == name).unwrap()
}

#[test]
fn every_report_survives_the_wire() {
    let bench = crowd();
    for show in ALL {
        let reply = Reply::show(&show, &bench.view()).unwrap();
        let text = serde_json::to_string(&reply).unwrap();
        assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), reply, "{text}");
        let word = Command::Show(show).word();
        assert!(text.starts_with(&format!("{{\"{word}\":")), "{text}");
    }
}

#[test]
fn reports_of_an_engine_that_knows_nothing_can_be_written() {
    let mut bench = Bench::new();
    bench.plain("a.example", None);
    for show in ALL {
        let reply = Reply::show(&show, &bench.view()).unwrap();
        let text = serde_json::to_string(&reply).unwrap();
        assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), reply, "{text}");
    }
}

/// Forms in which bytes could stand in a report.
fn forms(secret: &[u8]) -> Vec<String> {
    let hex = crate::hex::encode(secret);
    let mut forms = vec![hex.to_uppercase(), hex, format!("{secret:?}").replace(' ', "")];
    forms.extend(String::from_utf8(secret.to_vec()));
    if let Ok(eight) = secret.try_into() {
        forms.push(u64::from_be_bytes(eight).to_string());
    }
    forms
}

#[test]
fn no_report_tells_a_secret() {
    let bench = crowd();
    let mut secrets: Vec<Vec<u8>> = vec![SYMMETRIC_SECRET.to_vec(), C2S_SECRET.to_vec(), S2C_SECRET.to_vec()];
    secrets.extend((0..8).map(cookie));
    assert!(bench.requests.iter().any(|request| request.len() > 500), "one with NTS");
    for request in &bench.requests {
        // The transmit timestamp is the nonce; the first extension field of an NTS request is the unique identifier.
        secrets.push(request[40..48].to_vec());
        if request.len() > 100 {
            secrets.push(request[52..84].to_vec());
        }
    }
    let text: String = ALL
        .iter()
        .map(|show| serde_json::to_string(&Reply::show(show, &bench.view()).unwrap()).unwrap())
        .chain([format!("{:?}", bench.view())])
        .collect();
    for secret in secrets.iter().take(11) {
        assert!(forms(secret).iter().all(|form| !text.contains(form.as_str())), "{secret:?}");
    }
    let reports = text.split_once("View").unwrap().0;
    for secret in &secrets {
        assert!(forms(secret).iter().all(|form| !reports.contains(form.as_str())), "{secret:?}");
    }
}

#[test]
fn every_source_says_why_it_is_used_or_not() {
    let bench = crowd();
    let report = SourcesReport::new(&bench.view());
    let brief = |name: &str| {
        let row = row(&report, name);
        (row.judged.state, row.judged.trust.as_str(), row.asked, row.judged.reason.as_str())
    };
    assert_eq!(brief("key.example"), ('*', "key", Asked::Online, "best source"));
    assert_eq!(brief("silent.example"), ('?', "none", Asked::Online, "does not answer"));
    let untrusted = "not authenticated and not confirmed by authenticated sources";
    assert_eq!(brief("liar.example"), ('-', "none", Asked::Online, untrusted));
    let waits = "waits for keys; key exchange failed: certificate expired";
    assert_eq!(brief("waiting.example"), ('?', "pki", Asked::NoKeys, waits));
    assert_eq!(brief("lost.example"), ('?', "none", Asked::Unresolved, "no such name"));

    let best = row(&report, "key.example");
    assert_eq!((best.stratum, best.poll_log2_seconds, best.reach), (Some(1), 6, 0o77));
    assert!((best.measured_offset_seconds.unwrap() - 0.020_5).abs() < 0.03, "{best:?}");
    assert!(best.error_seconds.unwrap() < 0.01 && best.last_reply_age_seconds.unwrap() < 64.0);
}

#[test]
fn a_refused_reply_is_told_of() {
    let mut bench = Bench::new();
    let id = bench.plain("a.example", None);
    bench.run(3);
    let info = RxInfo {
        received: bench.now.clock,
        stamp: StampKind::Kernel,
        interface: None,
        own_reference: ReferenceId([1; 4]),
    };
    let mut forged = [0; Header::LEN];
    forged[0] = 0x24;
    bench.engine.handle_datagram(bench.now, id, &info, &mut forged);
    bench.run(60);
    let report = SourcesReport::new(&bench.view());
    let row = row(&report, "a.example");
    assert_eq!(row.last_refusal.as_deref(), Some("origin"));
    let reason = &row.judged.reason;
    assert!(reason.ends_with("last reply refused: does not answer our last request"), "{reason}");
    let data = NtpDataReport::new(&bench.view(), &[id]);
    assert_eq!(data.sources[0].refused.iter().collect::<Vec<_>>(), [(&"origin".to_owned(), &1)]);
}

#[test]
fn selectdata_shows_what_authentication_counts_for() {
    let mut bench = crowd();
    let effective = |bench: &mut Bench, auth| {
        bench.engine.set_select(bench.now, SelectConfig { auth, ..SelectConfig::default() });
        let rows = SelectDataReport::new(&bench.view()).sources;
        ["good.example", "key.example"].map(|name| {
            let row = rows.iter().find(|row| row.judged.source.name == name).unwrap();
            assert_eq!(row.configured, Options::default());
            (row.effective.noselect, row.effective.trust)
        })
    };
    let (nothing, excluded, trusted) = ((false, false), (true, false), (false, true));
    for (auth, expected) in [
        (AuthSelect::Mix, [nothing, trusted]),
        (AuthSelect::Prefer, [excluded, nothing]),
        (AuthSelect::Require, [excluded, nothing]),
        (AuthSelect::Ignore, [nothing, nothing]),
    ] {
        assert_eq!(effective(&mut bench, auth), expected, "{auth:?}");
    }
}

#[test]
fn tracking_says_why_nothing_is_selected() {
    let reason = |bench: &Bench| TrackingReport::new(&bench.view()).reason;
    let mut bench = Bench::new();
    assert_eq!(reason(&bench).unwrap(), "no source of time is configured");
    bench.unresolved.push(Unresolved { name: "a.example".to_owned(), reason: "no such name".to_owned() });
    assert_eq!(reason(&bench).unwrap(), "no server is known yet; a.example: no such name");

    let first = bench.plain("b.example", None);
    assert_eq!(
        reason(&bench).unwrap(),
        "the only source, b.example, cannot be used: no measurement yet; no server for a.example: no such name"
    );
    bench.unresolved.clear();
    bench.engine.stop_source(bench.now, first);
    assert_eq!(reason(&bench).unwrap(), "the only source, b.example, cannot be used: not asked (offline)");

    bench.plain("c.example", Some(0.0));
    bench.plain("d.example", Some(10.0));
    bench.plain("e.example", None);
    bench.run(60);
    assert_eq!(
        reason(&bench).unwrap(),
        "none of 4 sources can be used (1: not asked (offline); 2: no majority agrees on a time; 1: does not answer)"
    );
}

#[test]
fn tracking_describes_the_clock() {
    let bench = crowd();
    let report = TrackingReport::new(&bench.view());
    assert!(report.synchronized && report.reason.is_none(), "{report:?}");
    assert_eq!(report.reference.unwrap().name, "key.example");
    assert_eq!((report.reference_id.as_str(), report.stratum, report.leap), ("C0000205", 2, LeapWord::Normal));
    let since = report.reference_time_unix_seconds.unwrap() - 1_795_478_400.0;
    assert!((0.0..=101.0).contains(&since), "{since}");
    assert!(report.pending_seconds.abs() < 0.03 && report.root_delay_seconds < 0.002 && report.updates > 0);
}

#[test]
fn authentication_is_described() {
    let bench = crowd();
    let report = AuthDataReport::new(&bench.view());
    let brief = |name: &str| {
        let row = report.sources.iter().find(|row| row.source.name == name).unwrap();
        (row.mode, row.key_id, row.algorithm_number, row.key_bits, row.cookies > 0, row.cookie_bytes)
    };
    assert_eq!(brief("good.example"), (AuthMode::None, None, None, None, false, 0));
    assert_eq!(brief("key.example"), (AuthMode::SymmetricKey, Some(42), Some(13), Some(128), false, 0));
    assert_eq!(brief("waiting.example"), (AuthMode::Nts, Some(0), None, None, false, 0));
    let nts = report.sources.iter().find(|row| row.source.name == "nts.example").unwrap();
    assert_eq!((nts.key_id, nts.algorithm_number, nts.key_bits), (Some(1), Some(15), Some(256)));
    assert!(nts.key_age_seconds.unwrap() > 99.0 && nts.cookies < 8);
}

#[test]
fn sources_are_counted_and_found() {
    let bench = crowd();
    let activity = ActivityReport::new(&bench.view());
    // One waits for keys, one has used up its cookies.
    assert_eq!((activity.no_keys, activity.offline, activity.unresolved), (2, 0, 1));
    assert_eq!(activity.online + activity.burst, 5);

    let count = |source: Option<&str>| {
        let show = Show::NtpData { source: source.map(str::to_owned) };
        Reply::show(&show, &bench.view()).map(|reply| {
            let Reply::NtpData(report) = reply else { panic!("{reply:?}") };
            report.sources.len()
        })
    };
    assert_eq!(count(None), Ok(7));
    for one in ["GOOD.example", "192.0.2.1", "192.0.2.1:123", "pool.example"] {
        assert_eq!(count(Some(one)), Ok(1), "{one}");
    }
    let error = count(Some("192.0.2.99")).unwrap_err();
    assert_eq!(error.message, "no source has the name, address or pool \"192.0.2.99\"");

    let pools = PoolsReport::new(&bench.view());
    let members: Vec<&str> = pools.pools[0].members.iter().map(|member| member.source.name.as_str()).collect();
    assert_eq!((members, pools.pools[0].wanted), (vec!["nts.example"], 4));
}
