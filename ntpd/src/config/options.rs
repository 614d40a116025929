//! How a source is asked, judged and used: the keys that `[[pool]]` and `[[server]]` share.

use std::{ops::RangeInclusive, time::Duration};

use ntp_proto::{select::SelectOptions, source::SampleRules, time::PollInterval};

use super::{
    Family, SourceOptions, SourceRoots, TrustRoots,
    check::{path, path_text},
    files,
    problem::Wrong,
    section::{Found, Section},
    trust, values,
};

/// What `select` may say.
const SELECT: &[(&str, SelectOptions)] = &[
    ("prefer", SelectOptions { prefer: true, ..NO_OPTIONS }),
    ("trust", SelectOptions { trust: true, ..NO_OPTIONS }),
    ("require", SelectOptions { require: true, ..NO_OPTIONS }),
    ("noselect", SelectOptions { noselect: true, ..NO_OPTIONS }),
];

const NO_OPTIONS: SelectOptions = SelectOptions { noselect: false, prefer: false, trust: false, require: false };

/// Poll intervals of chrony: 64 s to 1024 s.
const DEFAULT_POLL: (i8, i8) = (6, 10);

/// The shortest interval that who serves everybody permits, log2 seconds; and bursts at the start alone (support.ntp.org,
/// "Open Access Time Server"). Only an administrator knows whose the servers of a pool are.
const PUBLIC_POLL: i8 = 6;

/// Words for [`Family`].
pub(super) const FAMILIES: &[(&str, Family)] = &[("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)];

/// Largest correction of offsets, either way.
pub(crate) const MAX_CORRECTION: Duration = Duration::from_secs(3_600);

/// Limits of round trips; for longer ones no request waits.
pub(crate) const DELAYS: RangeInclusive<Duration> = Duration::from_micros(1)..=Duration::from_secs(8);

/// Limits of multiples of a delay, and of a spread.
pub(crate) const RATIOS: RangeInclusive<f64> = 1.0..=1e6;
pub(crate) const DEVIATIONS: RangeInclusive<f64> = 0.1..=1e6;

/// Most samples that a filter has.
const MAX_SAMPLES: u16 = 256;
/// Largest target of the poll interval.
const MAX_TARGET: u8 = 64;

/// The words that make up these options.
pub(super) fn select_words(options: SelectOptions) -> Vec<&'static str> {
    let given = [options.prefer, options.trust, options.require, options.noselect];
    SELECT.iter().zip(given).filter_map(|((word, _), given)| given.then_some(*word)).collect()
}

/// Reads all of them but the roots, which depend on the rest. Servers that are `found` may be anybody's: what these do not permit is
/// said.
pub(super) fn options(section: &mut Section<'_>, found: bool) -> SourceOptions {
    let (min_poll, max_poll) = poll_range(section, found);
    let burst = burst(section, found);
    let mut flag = |key, default| section.field(key, values::boolean).map_or(default, |flag| flag.value);
    let (iburst, interleaved, offline) = (flag("iburst", true), flag("interleaved", true), flag("offline", false));
    let family = section.field("family", values::word(FAMILIES)).map(|family| family.value);
    let version = section.field("version", values::integer(3..=4_u8)).map_or(4, |version| version.value);
    let (rules, select) = (rules(section), select(section));
    SourceOptions {
        min_poll,
        max_poll,
        iburst,
        burst,
        interleaved,
        version,
        offline,
        family,
        rules,
        roots: None,
        select,
    }
}

/// What is asked of its measurements.
fn rules(section: &mut Section<'_>) -> SampleRules {
    let default = SampleRules::default();
    let correction = section.field("offset", values::signed_seconds(MAX_CORRECTION));
    let min_stratum = section.field("min-stratum", values::integer(0..=15_u8));
    let max_delay = section.field("max-delay", values::duration(DELAYS));
    let max_delay_ratio = section.field("max-delay-ratio", values::number(RATIOS));
    let max_delay_deviations = section.field("max-delay-dev-ratio", values::number(DEVIATIONS));
    let (min_samples, max_samples) = samples(section);
    let poll_target = section.field("poll-target", values::integer(1..=MAX_TARGET));
    SampleRules {
        correction: correction.map_or(default.correction, |found| found.value),
        min_stratum: min_stratum.map_or(default.min_stratum, |found| found.value),
        max_delay: max_delay.map_or(default.max_delay, |found: Found<Duration>| found.value.as_secs_f64()),
        max_delay_ratio: max_delay_ratio.map(|found| found.value),
        max_delay_deviations: max_delay_deviations.map(|found| found.value),
        min_samples,
        max_samples,
        poll_target: poll_target.map_or(default.poll_target, |found| found.value),
    }
}

/// Fewest samples that the filter goes by, and most that are kept.
pub(super) fn samples(section: &mut Section<'_>) -> (usize, usize) {
    let default = SampleRules::default();
    let min_samples = section.field("min-samples", values::integer(1..=MAX_SAMPLES));
    let max_samples = section.field("max-samples", values::integer(1..=MAX_SAMPLES));
    if let (Some(least), Some(most)) = (&min_samples, &max_samples)
        && least.value > most.value
    {
        let what = format!("{} is less than `min-samples`, which is {}", most.value, least.value);
        section.error(&most.place, "max-samples", Wrong::new(what));
    }
    (
        min_samples.map_or(default.min_samples, |found| found.value.into()),
        max_samples.map_or(default.max_samples, |found| found.value.into()),
    )
}

/// Reads the roots that this source alone is judged by. A source that is plain has no certificate, which is said.
pub(super) fn own_roots(section: &mut Section<'_>, is_plain: Option<&str>) -> Option<SourceRoots> {
    const KEY: &str = "certificate-file";
    let which = section.field("certificates", values::word(trust::ROOTS));
    let file = path(section.field(KEY, path_text));
    if let Some(Found { value, place }) = &file
        && let Err(wrong) = files::certificates(value)
    {
        section.error(place, KEY, wrong);
    }
    let place = file.as_ref().map(|file| &file.place).or_else(|| which.as_ref().map(|which| &which.place))?.clone();
    if let Some(why) = is_plain {
        section.error(
            &place,
            if file.is_some() { KEY } else { "certificates" },
            Wrong::new(format!("{why}: no certificate is asked for")),
        );
        return None;
    }
    // Whoever names the authority of one server means no other.
    let which = which.map_or(TrustRoots::File, |which| which.value);
    match (which, &file) {
        (TrustRoots::File | TrustRoots::Both, None) => {
            section.error(&place, "certificates", Wrong::new("needs `certificate-file`"));
        }
        (TrustRoots::System, Some(_)) => {
            section.warning(&place, KEY, Wrong::new("not used, because `certificates` is \"system\""));
        }
        (TrustRoots::File | TrustRoots::Both, Some(_)) | (TrustRoots::System, None) => {}
    }
    Some(SourceRoots { which, file: file.map(|file| file.value) })
}

/// Where only one end is given and lies beyond the other's default, the other follows, as in chrony.
fn poll_range(section: &mut Section<'_>, found: bool) -> (PollInterval, PollInterval) {
    let default = |log2| PollInterval::new(log2).unwrap_or(PollInterval::MIN);
    let (min, max) = (default(DEFAULT_POLL.0), default(DEFAULT_POLL.1));
    let [least, most] = ["min-poll", "max-poll"].map(|key| {
        let given = section.field(key, values::poll);
        if let Some(given) = given.as_ref().filter(|given| found && given.value.log2_seconds() < PUBLIC_POLL) {
            let what = format!("{} is more often than public servers permit", given.value.log2_seconds());
            section.warning(
                &given.place,
                key,
                Wrong::new(what).accepted("6 (64 s) or more; less for servers of your own"),
            );
        }
        given
    });
    match (least, most) {
        (Some(least), Some(most)) if least.value > most.value => {
            let (least, most) = (least.value.log2_seconds(), most);
            let what = format!("{} is less than `min-poll`, which is {least}", most.value.log2_seconds());
            section.error(&most.place, "max-poll", Wrong::new(what));
            (min, max)
        }
        (Some(least), Some(most)) => (least.value, most.value),
        (Some(least), None) => (least.value, max.max(least.value)),
        (None, Some(most)) => (min.min(most.value), most.value),
        (None, None) => (min, max),
    }
}

/// Whether each measurement is a burst.
fn burst(section: &mut Section<'_>, found: bool) -> bool {
    let Some(Found { value, place }) = section.field("burst", values::boolean) else { return false };
    if value && found {
        let wrong = Wrong::new("public servers permit bursts at the start alone");
        section.warning(&place, "burst", wrong.accepted("false; true for servers of your own"));
    }
    value
}

pub(super) fn select(section: &mut Section<'_>) -> SelectOptions {
    let mut all = NO_OPTIONS;
    for Found { value, .. } in section.list("select", SELECT.len(), values::word(SELECT)).unwrap_or_default() {
        all = SelectOptions {
            noselect: all.noselect || value.noselect,
            prefer: all.prefer || value.prefer,
            trust: all.trust || value.trust,
            require: all.require || value.require,
        };
    }
    if all.noselect && all != (SelectOptions { noselect: true, ..NO_OPTIONS }) {
        section.error(&section.place().clone(), "select", Wrong::new("`noselect` excludes the other words"));
    }
    all
}
