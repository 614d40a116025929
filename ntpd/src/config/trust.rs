//! `[trust]`.

use ntp_proto::nts::AeadAlgorithm;

use super::{
    DnssecUse, MAX_RESOLVERS, TrustRoots, TrustSettings,
    check::{path, path_text},
    files,
    problem::Wrong,
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

pub(super) fn trust(section: Option<Section<'_>>) -> TrustSettings {
    let Some(mut section) = section else { return TrustSettings::default() };
    let aeads = aeads(&mut section);
    let dnssec = dnssec(&mut section);
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
    TrustSettings { certificates, certificate_file: file.map(|file| file.value), aeads, ..dnssec }
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
