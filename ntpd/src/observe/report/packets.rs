//! The packets exchanged with each source.

use std::{collections::BTreeMap, net::IpAddr};

use ntp_proto::{
    engine::SourceReport,
    ids::SourceId,
    nts::Cookie,
    sample::Exchange,
    source::{LastReply, Refusal},
    wire::MacAlgorithm,
};
use serde::{Deserialize, Serialize};

use super::{LeapWord, SourceName, StampWord};
use crate::observe::View;

/// How the packets of each source are authenticated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AuthDataReport {
    /// In the order in which they were added.
    pub sources: Vec<AuthDataRow>,
}

/// How packets are authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum AuthMode {
    /// Not at all.
    None,
    /// With a key shared by hand.
    SymmetricKey,
    /// With NTS.
    Nts,
}

/// How the packets of one source are authenticated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AuthDataRow {
    /// Which source.
    #[serde(flatten)]
    pub source: SourceName,
    /// How.
    pub mode: AuthMode,
    /// What vouches for it: `dane`, `dnssec`, `pki`, `key` or `none`.
    pub trust: String,
    /// Number of the symmetric key; with NTS, of the key exchange that gave the keys in use.
    pub key_id: Option<u64>,
    /// Name of the algorithm.
    pub algorithm: Option<String>,
    /// The number by which chronyc knows the algorithm; with NTS, that of the AEAD registry.
    pub algorithm_number: Option<u16>,
    /// Length of the key, in bits.
    pub key_bits: Option<usize>,
    /// Time since the last key exchange, in seconds.
    pub key_age_seconds: Option<f64>,
    /// Key exchanges tried since then.
    pub key_attempts: u32,
    /// NTS negative acknowledgments believed.
    pub naks: u64,
    /// Cookies held.
    pub cookies: usize,
    /// Length of the longest of them, in bytes.
    pub cookie_bytes: usize,
    /// What is wrong, if anything is.
    pub note: Option<String>,
}

impl AuthDataReport {
    /// Reports on all sources.
    #[must_use]
    pub fn new(view: &View<'_>) -> Self {
        Self { sources: view.engine.sources(view.now).map(|report| auth_row(view, &report)).collect() }
    }
}

fn auth_row(view: &View<'_>, report: &SourceReport<'_>) -> AuthDataRow {
    let (id, association) = (report.source.id(), report.source.association());
    let info = view.sources.get(&id);
    let mut row = AuthDataRow {
        source: view.name(id),
        mode: AuthMode::None,
        trust: report.source.config().trust.name().to_owned(),
        key_id: None,
        algorithm: None,
        algorithm_number: None,
        key_bits: None,
        key_age_seconds: None,
        key_attempts: 0,
        naks: 0,
        cookies: 0,
        cookie_bytes: 0,
        note: info.and_then(|info| info.note.clone()),
    };
    if let Some(key) = association.symmetric_key() {
        row.mode = AuthMode::SymmetricKey;
        row.key_id = Some(u64::from(key.id().0));
        row.algorithm = Some(key.algorithm().name().to_owned());
        row.algorithm_number = Some(chrony_number(key.algorithm()));
        row.key_bits = Some(key.bits());
    }
    if association.is_nts() {
        let algorithm = association.algorithm();
        row.mode = AuthMode::Nts;
        row.key_id = Some(association.key_exchanges());
        row.algorithm = algorithm.map(|algorithm| algorithm.to_string());
        row.algorithm_number = algorithm.map(ntp_proto::nts::AeadAlgorithm::id);
        row.key_bits = algorithm.map(|algorithm| algorithm.key_len() * 8);
        row.key_age_seconds = info.and_then(|info| info.keys_at).map(|at| view.age(at));
        row.key_attempts = info.map_or(0, |info| info.key_attempts);
        row.naks = association.naks();
        if let Some(keys) = association.nts_keys() {
            row.cookies = keys.cookies.len();
            row.cookie_bytes = keys.cookies.iter().map(Cookie::as_bytes).map(<[u8]>::len).max().unwrap_or(0);
        }
    }
    row
}

/// The number of an algorithm in chronyc's `authdata`.
const fn chrony_number(algorithm: MacAlgorithm) -> u16 {
    match algorithm {
        MacAlgorithm::Md5 => 1,
        MacAlgorithm::Sha1 => 2,
        MacAlgorithm::Sha256 => 3,
        MacAlgorithm::AesCmac128 => 13,
        MacAlgorithm::AesCmac256 => 14,
    }
}

/// The last reply of each source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NtpDataReport {
    /// In the order in which they were added.
    pub sources: Vec<NtpDataRow>,
}

/// The last reply of one source, and its packets counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NtpDataRow {
    /// Which source.
    #[serde(flatten)]
    pub source: SourceName,
    /// Address of this machine that it is asked from.
    pub local_address: Option<IpAddr>,
    /// NTP version.
    pub version: u8,
    /// The last good reply; none yet.
    pub reply: Option<Reply>,
    /// What that measured; none if it only completed the exchange before.
    pub measurement: Option<Measurement>,
    /// Whether packets are authenticated.
    pub authenticated: bool,
    /// The test that the last refused packet failed: the name of a [`Refusal`].
    pub last_refusal: Option<String>,
    /// Packets that failed a test, by the name of the test; tests that none failed are left out.
    pub refused: BTreeMap<String, u64>,
    /// Requests sent.
    pub sent: u64,
    /// Packets received.
    pub received: u64,
    /// Of these, replies to our requests.
    pub valid: u64,
    /// Of these, replies that gave a measurement.
    pub good: u64,
    /// Replies in interleaved mode.
    pub interleaved: u64,
    /// Requests that the kernel stamped.
    pub stamped_sent: u64,
    /// Packets that the kernel stamped.
    pub stamped_received: u64,
    /// Requests that the interface stamped.
    #[serde(default)]
    pub hardware_sent: u64,
    /// Packets that the interface stamped.
    #[serde(default)]
    pub hardware_received: u64,
}

/// What a server's reply says of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reply {
    /// Time since it came, in seconds.
    pub age_seconds: f64,
    /// What it says of leap seconds.
    pub leap: LeapWord,
    /// Stratum.
    pub stratum: u8,
    /// Poll interval, log2 seconds.
    pub poll_log2_seconds: i8,
    /// Precision, log2 seconds.
    pub precision_log2_seconds: i8,
    /// Round trip to the server's primary source, in seconds.
    pub root_delay_seconds: f64,
    /// The server's error bound, in seconds.
    pub root_dispersion_seconds: f64,
    /// Whom the server follows: eight hexadecimal digits.
    pub reference_id: String,
    /// The letters in that, at stratum 1.
    pub reference_name: Option<String>,
    /// When the server's clock was last corrected, in seconds since 1970.
    pub reference_time_unix_seconds: f64,
    /// Whether it was in interleaved mode.
    pub interleaved: bool,
    /// Who stamped the request.
    pub sent_stamp: StampWord,
    /// Who stamped the reply.
    pub received_stamp: StampWord,
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Measurement {
    /// Offset as measured, in seconds.
    pub offset_seconds: f64,
    /// Round trip less the server's share, in seconds.
    pub delay_seconds: f64,
    /// Error of the reading of both clocks, in seconds.
    pub dispersion_seconds: f64,
    /// Time the server took, in seconds.
    pub response_seconds: f64,
}

impl NtpDataReport {
    /// Reports on the sources in `wanted`.
    #[must_use]
    pub fn new(view: &View<'_>, wanted: &[SourceId]) -> Self {
        let of = |id: &SourceId| view.engine.source(view.now, *id).map(|report| ntp_row(view, &report));
        Self { sources: wanted.iter().filter_map(of).collect() }
    }
}

fn ntp_row(view: &View<'_>, report: &SourceReport<'_>) -> NtpDataRow {
    let source = report.source;
    let counts = source.counts();
    let last = source.last_reply();
    let refused = Refusal::ALL.into_iter().map(|refusal| (refusal.name().to_owned(), source.refusals().get(refusal)));
    NtpDataRow {
        source: view.name(source.id()),
        local_address: view.sources.get(&source.id()).and_then(|info| info.local),
        version: source.config().version,
        reply: last.map(|reply| server_reply(view, reply)),
        measurement: last.and_then(|reply| reply.exchange.as_ref()).map(measurement),
        authenticated: source.config().trust > ntp_proto::ids::Trust::Local,
        last_refusal: source.last_refusal().map(|refusal| refusal.name().to_owned()),
        refused: refused.filter(|(_, count)| *count > 0).collect(),
        sent: counts.sent,
        received: counts.received,
        valid: counts.valid,
        good: counts.good,
        interleaved: counts.interleaved,
        stamped_sent: counts.stamped_sent,
        stamped_received: counts.stamped_received,
        hardware_sent: counts.hardware_sent,
        hardware_received: counts.hardware_received,
    }
}

fn server_reply(view: &View<'_>, reply: &LastReply) -> Reply {
    let unix = reply.reference_time.to_unix(view.engine.era());
    #[expect(clippy::cast_precision_loss, reason = "exact to a microsecond for thousands of years")]
    let seconds = unix.seconds as f64 + f64::from(unix.nanos) / 1e9;
    Reply {
        age_seconds: view.age(reply.at),
        leap: reply.leap.into(),
        stratum: reply.server.stratum,
        poll_log2_seconds: reply.poll,
        precision_log2_seconds: reply.server.precision,
        root_delay_seconds: reply.server.root_delay.to_seconds(),
        root_dispersion_seconds: reply.server.root_dispersion.to_seconds(),
        reference_id: reply.reference_id.to_string(),
        reference_name: letters(reply.reference_id.0).filter(|_| reply.server.stratum <= 1),
        reference_time_unix_seconds: if reply.reference_time.is_zero() { 0.0 } else { seconds },
        interleaved: reply.interleaved,
        sent_stamp: reply.sent_stamp.into(),
        received_stamp: reply.received_stamp.into(),
    }
}

/// The letters of a reference identifier, if it consists of such (RFC 5905 section 7.3: left-justified, zero-padded).
fn letters(bytes: [u8; 4]) -> Option<String> {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let is_text = !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
    is_text.then(|| text.iter().copied().map(char::from).collect())
}

fn measurement(exchange: &Exchange) -> Measurement {
    let sample = exchange.sample();
    Measurement {
        offset_seconds: sample.offset,
        delay_seconds: sample.delay,
        dispersion_seconds: sample.dispersion,
        response_seconds: exchange.server_interval().to_seconds(),
    }
}
