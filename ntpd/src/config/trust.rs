//! `[trust]`.

use ntp_proto::{bootstrap::Policy, nts::AeadAlgorithm};

use super::{
    DnssecUse, FirstBoot, MAX_RESOLVERS, TrustRoots, TrustSettings,
    check::{path, path_text},
    files,
    problem::Wrong,
    raw::Data,
    section::{Found, Section},
    values,
};
use crate::resolve;

/// Words for [`TrustRoots`].
pub(super) const ROOTS: &[(&str, TrustRoots)] =
    &[("system", TrustRoots::System), ("file", TrustRoots::File), ("both", TrustRoots::Both)];

/// Words for [`DnssecUse`].
pub(super) const DNSSEC: &[(&str, DnssecUse)] =
    &[("validate", DnssecUse::Validate), ("trust-resolver", DnssecUse::TrustResolver)];

/// Words for [`Policy`].
pub(super) const BOOTSTRAP: &[(&str, Policy)] =
    &[(Policy::Quorum.name(), Policy::Quorum), (Policy::Strict.name(), Policy::Strict)];

/// Most servers that can be asked to agree.
const MAX_AGREEING: u8 = 16;

pub(super) fn trust(section: Option<Section<'_>>) -> TrustSettings {
    let Some(mut section) = section else { return TrustSettings::default() };
    let aeads = aeads(&mut section);
    let dnssec = dnssec(&mut section);
    let first_boot = first_boot(&mut section);
    let roots = section.field("certificates", values::word(ROOTS));
    let file = path(section.field("certificate-file", path_text));
    if let Some(Found { value, place }) = &file
        && let Err(wrong) = files::certificates(value)
    {
        section.error(place, "certificate-file", wrong);
    }
    let certificates = roots.as_ref().map_or_else(
        // A file that is named is meant to be used.
        || if file.is_some() { TrustRoots::Both } else { TrustRoots::System },
        |roots| roots.value,
    );
    if let (Some(roots), None, TrustRoots::File | TrustRoots::Both) = (&roots, &file, certificates) {
        section.error(&roots.place, "certificates", Wrong::new("needs `certificate-file`"));
    }
    if let (Some(file), TrustRoots::System) = (&file, certificates) {
        let what = "not used, because `certificates` is \"system\"";
        section.warning(&file.place, "certificate-file", Wrong::new(what));
    }
    section.finish();
    TrustSettings { certificates, certificate_file: file.map(|file| file.value), aeads, first_boot, ..dnssec }
}

fn aeads(section: &mut Section<'_>) -> Vec<AeadAlgorithm> {
    const KEY: &str = "aeads";
    if section.is_empty_list(KEY) {
        let what = "without any algorithm there is no NTS";
        section.error(&section.place().clone(), KEY, Wrong::new(what).accepted(values::aeads()));
    }
    let Some(given) = section.list(KEY, AeadAlgorithm::ALL.len(), values::aead) else {
        return super::DEFAULT_AEADS.to_vec();
    };
    let mut aeads = Vec::with_capacity(given.len());
    for Found { value, place } in given {
        if aeads.contains(&value) {
            section.error(&place, KEY, Wrong::new(format!("{} was given before", value.id())));
        }
        aeads.push(value);
    }
    aeads
}

/// What to do where this machine does not know the time.
fn first_boot(section: &mut Section<'_>) -> FirstBoot {
    let policy = section.field("bootstrap", values::word(BOOTSTRAP)).map_or(Policy::Quorum, |found| found.value);
    let single = section.field("first-boot-quorum", one);
    if let (Some(single), Policy::Strict) = (&single, policy) {
        let what = "not used, because `bootstrap` is \"strict\"";
        section.warning(&single.place, "first-boot-quorum", Wrong::new(what));
    }
    let min_agreeing = section.field("min-agreeing", values::integer(1..=MAX_AGREEING));
    FirstBoot { policy, single: single.is_some(), min_agreeing: min_agreeing.map(|found| found.value.into()) }
}

/// Only whether one is enough can be chosen: more than half of the operators are needed otherwise.
fn one(data: &Data) -> Result<(), Wrong> {
    if matches!(data, Data::Integer(1)) {
        return Ok(());
    }
    let what = match data {
        Data::Integer(number) => format!("{number} is out of range"),
        Data::String(_) | Data::Float(_) | Data::Boolean(_) | Data::Datetime | Data::Array(_) | Data::Table(_) => {
            format!("expected an integer, found {}", data.kind())
        }
    };
    Err(Wrong::new(what).accepted("1, where one operator is configured and is to be believed; without it, a majority"))
}

/// Who is asked about names, and who validates what they say.
fn dnssec(section: &mut Section<'_>) -> TrustSettings {
    let dnssec = section.field("dnssec", values::word(DNSSEC)).map_or(DnssecUse::Validate, |found| found.value);
    let anchor = path(section.field("dnssec-anchor", path_text));
    if let Some(Found { value, place }) = &anchor {
        if let Err(error) = resolve::read_anchors(value) {
            section.error(place, "dnssec-anchor", Wrong::new(error.to_string()));
        } else if dnssec == DnssecUse::TrustResolver {
            let what = "not used, because `dnssec` is \"trust-resolver\"";
            section.warning(place, "dnssec-anchor", Wrong::new(what));
        }
    }
    let resolvers = section.list("resolver", MAX_RESOLVERS, values::resolver).unwrap_or_default();
    TrustSettings {
        dnssec,
        dnssec_anchor: anchor.map(|anchor| anchor.value),
        resolvers: resolvers.into_iter().map(|found| found.value).collect(),
        ..TrustSettings::default()
    }
}
