//! `[[refclock]]`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use clock_control::refclock::{Driver, Edge};
use ntp_proto::{
    ids::ReferenceId,
    refclock::{MAX_READINGS, RefclockConfig},
};

use super::{
    MAX_REFCLOCKS, Refclock,
    check::{path, path_text, socket_path_text},
    options::{self, MAX_CORRECTION},
    problem::{Report, Wrong},
    raw::{Data, Value},
    section::{Found, Section},
    sources::{entries, unique},
    values,
};

/// What `driver` may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pps,
    Phc,
    Shm,
    Sock,
}

const DRIVERS: &[(&str, Kind)] = &[("pps", Kind::Pps), ("phc", Kind::Phc), ("shm", Kind::Shm), ("sock", Kind::Sock)];

/// What `edge` may say.
const EDGES: &[(&str, Edge)] = &[("assert", Edge::Assert), ("clear", Edge::Clear)];

/// Keys that belong to one driver or another.
const DRIVER_KEYS: [&str; 5] = ["device", "unit", "edge", "cross-timestamp", "permissions"];

/// Permissions of a segment that is made, as in chrony.
const PERMISSIONS: u32 = 0o600;

/// Pulses in a second, and how many of them ago a lock may be.
const RATES: std::ops::RangeInclusive<f64> = 0.01..=1e3;
const LOCK_AGES: std::ops::RangeInclusive<f64> = 0.1..=1e4;

const SECOND: Duration = Duration::from_secs(1);
const NANOSECOND: Duration = Duration::from_nanos(1);

/// Reads `refclock`: a table, or a list of tables. Whether there `is_list` of leap seconds is for TAI.
pub(super) fn refclocks(value: Option<Value>, is_list: bool, report: &Report) -> Vec<Refclock> {
    let (mut devices, mut names) = (BTreeMap::new(), BTreeMap::new());
    let read: Vec<Found<Refclock>> = entries("refclock", "driver", value, MAX_REFCLOCKS, report)
        .into_iter()
        .enumerate()
        .filter_map(|(index, section)| {
            let found = refclock(section, index, is_list)?;
            let device = found.value.driver.to_string();
            let name = found.value.name();
            (unique(&mut devices, device, &found.place, "refclock.device", report)
                && unique(&mut names, name, &found.place, "refclock.refid", report))
            .then_some(found)
        })
        .collect();
    for Found { value, place } in &read {
        let Some(lock) = value.config.lock else { continue };
        let others = || read.iter().filter(|other| other.value.config.reference_id != value.config.reference_id);
        if !others().any(|other| other.value.config.reference_id == lock) {
            let names: Vec<_> = others().map(|other| other.value.name()).collect();
            let wrong = Wrong::new(format!("no other `refclock` has the refid `{}`", letters(lock)));
            report.error(place, "refclock.lock", wrong.accepted(names.join(", ")));
        }
    }
    read.into_iter().map(|found| found.value).collect()
}

fn refclock(mut section: Section<'_>, index: usize, is_list: bool) -> Option<Found<Refclock>> {
    let kind = section.required("driver", values::word(DRIVERS));
    let driver = match &kind {
        Some(kind) => driver(kind.value, &mut section),
        // Keys of a driver that is not known are no mistakes of their own.
        None => {
            DRIVER_KEYS.iter().for_each(|key| drop(section.raw(key)));
            None
        }
    };
    let default = RefclockConfig::default();
    let refid = section.field("refid", refid).map(|found| found.value);
    let poll = section.field("poll", values::poll).map_or(default.poll, |found| found.value);
    let dpoll = section.field("dpoll", values::poll);
    if let Some(dpoll) = dpoll.as_ref().filter(|dpoll| dpoll.value > poll) {
        let what = format!("{} is more than `poll`, which is {}", dpoll.value.log2_seconds(), poll.log2_seconds());
        section.error(&dpoll.place, "dpoll", Wrong::new(what));
    }
    let driver_poll = dpoll.map_or_else(|| default.driver_poll.min(poll), |found| found.value);
    let seconds = |section: &mut Section<'_>, key, range| {
        section.field(key, values::duration(range)).map(|found: Found<Duration>| found.value.as_secs_f64())
    };
    let stratum = section.field("stratum", values::integer(0..=15_u8)).map_or(default.stratum, |found| found.value);
    let correction = section.field("offset", values::signed_seconds(MAX_CORRECTION));
    let delay = seconds(&mut section, "delay", Duration::ZERO..=SECOND).unwrap_or(default.delay);
    let precision = seconds(&mut section, "precision", NANOSECOND..=SECOND);
    let max_dispersion = seconds(&mut section, "max-dispersion", NANOSECOND..=SECOND);
    let readings = section.field("filter", values::integer(1..=MAX_READINGS)).map(|found| found.value);
    let samples = options::samples(&mut section);
    let tai = section.field("tai", values::boolean);
    if let Some(tai) = tai.as_ref().filter(|tai| tai.value && !is_list) {
        let wrong = Wrong::new("TAI needs a list of leap seconds").accepted("beside `leap-file` in [clock]");
        section.error(&tai.place, "tai", wrong);
    }
    let options = options::select(&mut section);
    let pulses = pulses(&mut section, kind.as_ref().map(|kind| kind.value));
    let place = section.place().clone();
    section.finish();
    let (kind, driver) = (kind?, driver?);
    let reference_id = refid.unwrap_or_else(|| numbered(kind.value, index));
    let config = RefclockConfig {
        reference_id,
        poll,
        driver_poll,
        stratum,
        correction: correction.map_or(default.correction, |found| found.value),
        delay,
        precision,
        max_dispersion: max_dispersion.unwrap_or(default.max_dispersion),
        readings: readings.unwrap_or(default.readings),
        tai: tai.is_some_and(|tai| tai.value),
        options,
        samples,
        ..pulses
    };
    Some(Found { value: Refclock { driver, config }, place })
}

/// What belongs to the driver alone.
fn driver(kind: Kind, section: &mut Section<'_>) -> Option<Driver> {
    let device = |section: &mut Section<'_>| {
        // A name without a slash is no file beside the configuration.
        let text = section.required("device", path_text)?;
        Some(if text.value.contains('/') { path(Some(text))?.value } else { PathBuf::from(text.value) })
    };
    match kind {
        Kind::Pps => {
            let edge = section.field("edge", values::word(EDGES)).map_or(Edge::Assert, |found| found.value);
            Some(Driver::Pps { device: device(section)?, edge })
        }
        Kind::Phc => {
            let cross = section.field("cross-timestamp", values::boolean).is_none_or(|found| found.value);
            Some(Driver::Phc { device: device(section)?, cross_timestamp: cross })
        }
        Kind::Shm => {
            let permissions = section.field("permissions", permissions).map_or(PERMISSIONS, |found| found.value);
            Some(Driver::Shm { unit: section.required("unit", values::integer(0..=u8::MAX))?.value, permissions })
        }
        Kind::Sock => Some(Driver::Sock { path: path(section.required("device", socket_path_text))?.value }),
    }
}

/// What belongs to pulses alone.
fn pulses(section: &mut Section<'_>, kind: Option<Kind>) -> RefclockConfig {
    let default = RefclockConfig::default();
    let is_pps = kind == Some(Kind::Pps);
    let given = if is_pps { None } else { section.field("pps", values::boolean) };
    let is_pulses = is_pps || given.is_some_and(|given| given.value);
    let lock = section.field("lock", refid);
    let rate = section.field("rate", values::number(RATES));
    let age = section.field("max-lock-age", values::number(LOCK_AGES));
    // Whether what comes over a socket are pulses, every datagram says itself.
    let may_pulse = is_pulses || kind == Some(Kind::Sock);
    if !may_pulse {
        let places = [("lock", lock.as_ref().map(|found| &found.place)), ("rate", rate.as_ref().map(|f| &f.place))];
        for (key, place) in places.into_iter().chain([("max-lock-age", age.as_ref().map(|found| &found.place))]) {
            if let Some(place) = place {
                let wrong = Wrong::new("only pulses need it").accepted("beside driver \"pps\", or `pps = true`");
                section.error(place, key, wrong);
            }
        }
    }
    RefclockConfig {
        pulses: is_pulses,
        lock: lock.map(|found| found.value).filter(|_| may_pulse),
        rate: rate.map_or(default.rate, |found| found.value),
        max_lock_age: age.map_or(default.max_lock_age, |found| found.value),
        ..default
    }
}

/// The name of one that has none: three letters of its driver and its number, as in chrony.
fn numbered(kind: Kind, index: usize) -> ReferenceId {
    let [a, b, c] = match kind {
        Kind::Pps => *b"PPS",
        Kind::Phc => *b"PHC",
        Kind::Shm => *b"SHM",
        Kind::Sock => *b"SOC",
    };
    let digit = u8::try_from(index % 10).unwrap_or(0) + b'0';
    ReferenceId([a, b, c, digit])
}

fn refid(data: &Data) -> Result<ReferenceId, Wrong> {
    let text = values::text(data)?;
    let mut id = [0; 4];
    if !(1..=id.len()).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Wrong::new(format!("`{text}` is no reference identifier")).accepted("1 to 4 letters or digits"));
    }
    id.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    Ok(ReferenceId(id))
}

fn permissions(data: &Data) -> Result<u32, Wrong> {
    let text = values::text(data)?;
    let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| {
        Wrong::new(format!("`{text}` are no permissions")).accepted("octal, such as \"0600\" or \"0666\"")
    })
}

/// The letters of a reference identifier.
pub(super) fn letters(id: ReferenceId) -> String {
    id.0.iter().take_while(|byte| **byte != 0).copied().map(char::from).collect()
}

/// The word for an edge.
pub(super) fn edge_word(edge: Edge) -> &'static str {
    values::word_for(EDGES, &edge)
}

impl Refclock {
    /// How it is called: the letters of its reference identifier.
    #[must_use]
    pub fn name(&self) -> String {
        letters(self.config.reference_id)
    }

    /// Whether nothing but other sources tells which second it begins.
    #[must_use]
    pub const fn needs_numbering(&self) -> bool {
        self.config.pulses && self.config.lock.is_none()
    }
}
